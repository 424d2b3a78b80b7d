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


def waiting(state: State, ino: Ino) -> list[tuple[bytes, list[Place]]]:
    """Return the blocks that a file waits for, and where in its maps they stand."""
    return list(_rows_of(state, ino))


def _rows_of(state: State, ino: Ino) -> Iterator[tuple[bytes, list[Place]]]:
    if not state.waits:
        return
    prefix = b"P" + ino.to_bytes(8, "big")
    for key, row in state.scan(prefix, prefix_end(prefix)):
        yield key[9:], [Place(*place) for place in cast(Row, unpack(row))]


def waiting_for(state: State, block_hash: bytes) -> list[Ino]:
    """Return the files that wait for a block."""
    prefix = b"W" + block_hash
    return [Ino(int.from_bytes(key[33:], "big")) for key, _ in state.scan(prefix, prefix + b"\xff" * 9)]


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


def is_readable(state: State, ino: Ino, head: Head) -> bool:
    """Is the content of this head of a file here, whole?  Not where blocks are missing, nor where it comes
    with what superseded it.

    Of a file that waits for many blocks a few rows are looked at, but for a head that waits for none.
    """
    stored = state.version(head.ref)
    if stored is not None and stored.fact.bare:
        return False
    if not head.map:
        return True
    at = (head.map_ino, head.map)
    return not any((place.map_ino, place.map) == at for _, places in _rows_of(state, ino) for place in places)


def is_here(state: State, inode: Inode, head: Head) -> bool:
    """Can the content of this head be read, be it not its newest?"""
    return is_readable(state, inode.ino, head.here)
