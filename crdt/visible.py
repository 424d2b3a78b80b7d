"""Which links of a file show, and which files are orphans (design section 5, "Visible").

A file shows under its live links.  Without one it shows under the name that was removed last, if one of its
heads survives that nobody who removed a name has seen: an edit beats an unlink.  If heads survive and all of
them were seen, nobody who removed a name meant it to be the last: the file is an *orphan*.  It has a row `U`,
so that orphans are found without a look at the other files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from crdt.causality import Dot
from crdt.facts import Ino, LinkId
from crdt.rows import Inode, Shown
from crdt.state import State
from crdt.versions import has_seen, is_named, surviving

ORPHANS_START, ORPHANS_END = b"U", b"V"


class Visible(NamedTuple):
    links: tuple[Shown, ...]
    is_orphan: bool = False


def visible(state: State, inode: Inode) -> Visible:
    """Return where a file shows, by its facts."""
    live = [key for key, link in inode.links.items() if link.live()]
    if live:
        if not is_named(inode) and not surviving(state, inode):
            return Visible(())
        return Visible(tuple(sorted(_shown(inode, key) for key in live)))
    if not any(link.placements for link in inode.links.values()):
        return Visible(())
    left = surviving(state, inode)
    if left and not has_seen(state, inode, left):
        return Visible((removed_last(inode),))
    return Visible((), bool(left))


def removed_last(inode: Inode) -> Shown:
    """Return the link of a file without a live one that was removed last, and where it stood."""
    placed = [key for key, link in inode.links.items() if link.placements]
    return _shown(inode, max(placed, key=lambda key: (_removed_at(inode, key), key)))


def _removed_at(inode: Inode, key: LinkId) -> tuple[int, Dot]:
    link = inode.links[key]
    return max(link.removed_at(placement) for placement in link.placements)


def _shown(inode: Inode, key: LinkId) -> Shown:
    link = inode.links[key]
    placement = link.where()
    return Shown(key, placement.fact.parent, link.raw_name(placement), placement.fact.name)


def orphan_key(ino: Ino) -> bytes:
    return b"U" + ino.to_bytes(8, "big")


def is_orphan(state: State, inode: Inode) -> bool:
    return not inode.shown and state.get(orphan_key(inode.ino)) is not None


def orphans(state: State) -> Iterator[Ino]:
    """Yield the numbers of the files that are orphans, in their order."""
    for key, _ in state.scan(ORPHANS_START, ORPHANS_END):
        yield Ino(int.from_bytes(key[1:], "big"))
