"""What there is to see of an orphan (crdt.visible): its content, or several where it has a conflict.

An orphan has no name.  It is listed as `stem.orphan-INO.ext`, made of the name that was removed last and of
its inode number, so the same on every replica.  Each further branch is listed beside it, with the number that
it would have as a conflict entry.  So everybody who removes one has seen it, and it alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from crdt.absorption import branches, shown_heads
from crdt.causality import Dot
from crdt.entries import Entry, branch_ino, with_mark
from crdt.facts import Ino
from crdt.rows import Inode, Shown
from crdt.state import State
from crdt.visible import is_orphan, removed_last

ORPHANS = Ino(4)  # the directory in which they are listed: a number of replica 0, which there is not
MARK = re.compile(rb"\.orphan-(\d{1,20})")


@dataclass(slots=True)
class Orphan(Entry):
    """What is listed of a file without a name; `last` is where its name stood that was removed last."""

    last: Shown | None = None


def orphan_name(raw: bytes, ino: int) -> bytes:
    return with_mark(raw, b".orphan-%d" % ino)


def possible_inos(name: bytes) -> Iterator[Ino]:
    """Yield the numbers of orphans that may have this name."""
    for number in MARK.findall(name):
        if int(number) < 1 << 64:
            yield Ino(int(number))


def orphan_entries(state: State, inode: Inode) -> list[Orphan]:
    """Return an orphan as entries: what would show as the file, then each further branch.

    Nothing for a file that is none.
    """
    if not is_orphan(state, inode):
        return []
    last = removed_last(inode)
    heads = shown_heads(state, inode)

    def entry(ino: Ino) -> Orphan:
        name = orphan_name(last.name, ino)
        return Orphan(int(inode.birth.kind), ino, name, name, ORPHANS, Dot(0), owner=inode.ino, last=last)

    main = entry(inode.ino)
    main.link, main.heads = last.link, (heads[0].ref,)
    found = [main]
    for head, top in branches(state, inode):
        beside = entry(branch_ino(top.ref))
        beside.heads, beside.top, beside.tag = (head.ref,), top.ref, top.stamp.dot
        found.append(beside)
    return found
