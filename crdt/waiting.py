"""Blocks that are not here yet, and which files wait for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, cast

from crdt.codec import unpack
from crdt.facts import Ino
from crdt.rows import Head, Inode, Row
from crdt.state import State, prefix_end


def wanted_key(block_hash: bytes, ino: Ino) -> bytes:
    return b"W" + block_hash + ino.to_bytes(8, "big")


def waiting_key(ino: Ino, block_hash: bytes) -> bytes:
    return b"P" + ino.to_bytes(8, "big") + block_hash


class Place(NamedTuple):
    """Where a block stands in a block map."""

    map_ino: Ino
    map: int
    block: int  # its index


def maps_waited_for(state: State, ino: Ino) -> set[tuple[int, int]]:
    """Return the block maps of a file, by inode and number, that name blocks which are not here."""
    return {(place.map_ino, place.map) for _, places in waiting(state, ino) for place in places}


def waiting(state: State, ino: Ino) -> list[tuple[bytes, list[Place]]]:
    """Return the blocks that a file waits for, and where in its maps they stand."""
    if not state.waits:
        return []
    prefix = b"P" + ino.to_bytes(8, "big")
    rows = state.scan(prefix, prefix_end(prefix))
    return [(key[9:], [Place(*place) for place in cast(Row, unpack(row))]) for key, row in rows]


ROWS_PASSED = 16  # of one file, before it is cheaper to look for the next one


def waiting_files(state: State) -> Iterator[Ino]:
    """Yield the files that wait for blocks, in order, at a cost that grows with their number alone."""
    ino = -1
    while True:
        passed = 0
        for key, _ in state.scan(b"P" + (ino + 1).to_bytes(8, "big"), b"Q"):
            found = int.from_bytes(key[1:9], "big")
            passed = passed + 1 if found == ino else 0
            if passed == ROWS_PASSED:
                break
            if found != ino:
                ino = found
                yield Ino(found)
        else:
            return


def is_here(state: State, inode: Inode, head: Head) -> bool:
    """Can the content of this head be read, be it not its newest?  Not where blocks are missing, nor where it
    comes with what superseded it, unless it shows what was before."""
    if head.before is not None:
        return True
    stored = state.version(head.ref)
    is_bare = stored is not None and stored.fact.bare
    return not is_bare and (head.map_ino, head.map) not in maps_waited_for(state, inode.ino)
