"""What was overruled: operations that a concurrent one undid, of which a person should hear.

A *record* is a pure function of the facts, like all of the view: the same on all replicas that have seen the
same.  It is known by its kind and by the dot of the commit that was overruled.  What each kind asks for is of
one inode that shows:

- MOVE: a placement of a directory that would have put it inside itself, and is newer than where it stands;
- RENAME: a placement that is neither replaced nor removed, at another name than a newer one that holds;
- RMDIR: a removal of a directory that shows all the same, since something visible is inside;
- UNLINK: a removal of a name that shows all the same, since it had not seen a content.  Of one replica's
  removals the last counts;
- RIGHTS: a write by somebody who, by a concurrent change of owner, group or mode, has no right to it
  (crdt.rights);
- EXCL: the creation of a file with O_EXCL at a name where another such file stands: this one is found at the
  contested names (translation.records), and its inode has no row `R` for it.

So a record goes as soon as somebody who has seen both sides moves, removes or empties the thing: his facts
replace what it was made of.  What L2 places anew where it stands is no move (`left` tells them apart).

Or somebody acknowledges it: that is a fact of its own, in a row `Y`.

An inode that has a record which nobody acknowledged has a row `R`, so that they can be listed without a look
at the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from crdt.absorption import shown_heads, together
from crdt.causality import Dot, ReplicaId, replica_of
from crdt.facts import Ino, LinkId, Placement, RecordKind, Ref, Register, Removal
from crdt.rights import write_without_right
from crdt.rows import Inode, Link, Stamped, is_replaced
from crdt.state import State

RECORDS_START, RECORDS_END = b"R", b"S"


class Overruled(NamedTuple):
    kind: RecordKind
    dot: Dot  # of the commit that was overruled
    wall_ns: int
    ino: Ino
    link: LinkId
    goal: Stamped[Placement] | None = None  # of a move or rename: the placement that does not hold
    by: Stamped[Register] | None = None  # of a write: the setting that took the right
    head: Ref | None = None  # of a write: the head that it is in


def record_key(ino: Ino) -> bytes:
    return b"R" + ino.to_bytes(8, "big")


def acknowledged_key(ino: Ino, kind: RecordKind, dot: Dot) -> bytes:
    return b"Y" + ino.to_bytes(8, "big") + bytes([kind]) + dot.to_bytes(8, "big")


def recorded(state: State) -> Iterator[Inode]:
    """Yield the inodes that have records which nobody acknowledged."""
    for key, _ in state.scan(RECORDS_START, RECORDS_END):
        inode = state.inode(Ino(int.from_bytes(key[1:], "big")))
        assert inode is not None, key
        yield inode


def records_of(state: State, inode: Inode) -> list[Overruled]:
    """Return the records of an inode that nobody acknowledged."""
    found = _overruled(inode)
    if inode.is_regular and inode.shown and inode.registers:
        found += _writes(state, inode)
    return [each for each in found if not is_acknowledged(state, each)]


def is_acknowledged(state: State, record: Overruled) -> bool:
    return state.get(acknowledged_key(record.ino, record.kind, record.dot)) is not None


def _overruled(inode: Inode) -> list[Overruled]:
    found: list[Overruled] = []
    for place in inode.shown:
        key, link = place.link, inode.links[place.link]
        live = link.live()
        if not live:
            found += _removals(inode, key, link)
        elif inode.is_directory:
            assert inode.at is not None, inode.ino
            if live != [inode.at]:
                found += _moves(inode, key, live, inode.at)
        elif len(live) > 1:
            found += _moves(inode, key, live, link.where())
    return sorted(found)


def _moves(
    inode: Inode, key: LinkId, live: list[Stamped[Placement]], holds: Stamped[Placement]
) -> Iterator[Overruled]:
    """Of a directory the newest placement holds unless it was skipped."""
    for placement in live:
        fact = placement.fact
        if not fact.left or (fact.parent, fact.name) == (holds.fact.parent, holds.fact.name):
            continue
        kind = RecordKind.MOVE if placement.stamp > holds.stamp else RecordKind.RENAME
        yield Overruled(kind, placement.dot, placement.wall_ns, inode.ino, key, placement)


def _removals(inode: Inode, key: LinkId, link: Link) -> Iterator[Overruled]:
    """The removals of a name that is dead, and shows; of one replica the last, which had seen the others.

    A dead member of a union moves along dead: that removal is of the commit that placed it, and nobody's.
    """
    kind = RecordKind.RMDIR if inode.is_directory else RecordKind.UNLINK
    last: dict[ReplicaId, Stamped[Removal]] = {}
    for removal in sorted(link.removals):
        if any(
            is_replaced(placement, removal.fact) and placement.dot != removal.dot
            for placement in link.placements
        ):
            last[replica_of(removal.dot)] = removal
    for removal in last.values():
        yield Overruled(kind, removal.dot, removal.wall_ns, inode.ino, key)


def _writes(state: State, inode: Inode) -> Iterator[Overruled]:
    """The writes without right in what shows, each once."""
    found: dict[Dot, Overruled] = {}
    for head in together(state, inode) or shown_heads(state, inode):
        write = write_without_right(state, inode, head.ref)
        if write is not None:
            dot, _, wall_ns = write.version[:3]
            link = min(place.link for place in inode.shown)
            overruled = Overruled(RecordKind.RIGHTS, dot, wall_ns, inode.ino, link)
            found.setdefault(dot, overruled._replace(by=write.setting, head=head.ref))
    yield from found.values()
