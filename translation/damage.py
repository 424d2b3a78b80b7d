"""What can still be read of a store that is damaged, and whose it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from crdt.codec import CodecError
from crdt.facts import ROOT, Ino
from crdt.rows import decode_names
from crdt.store import Reader

KEY_BYTES = 41  # of the longest key that has a fixed size
PATHS_MAX = 5
DEPTH_MAX = 10_000
INODE_KINDS = b"IVXBHPFTULRY"  # keys that go on with the number of an inode
DIRECTORY_KINDS = b"DCOQ"


def readable_rows(
    store: Reader, kind: bytes, on_damage: Callable[[bytes, OSError], None]
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the rows of a kind that can be read; say from which key on some cannot, and why."""
    start, end = kind, bytes([kind[0] + 1])
    while start < end:
        try:
            for key, value in store.scan(start, end):
                start = key + b"\0"
                yield key, value
        except OSError as error:
            on_damage(start, error)
            start = _first_readable(store, start, end)
        else:
            return


def _first_readable(store: Reader, start: bytes, end: bytes) -> bytes:
    """Return the first key from which on something can be read, where that is not so from `start` on.

    In steps that double, and then by halves: so what can be read between one damage and the next is not
    passed over, but for a few rows where damage is dense.
    """
    width = max(KEY_BYTES, len(start))
    first, last = (int.from_bytes(key.ljust(width, b"\0"), "big") for key in (start, end))
    low, high, step = first, first + 1, 1
    while high < last and not _can_read(store, high.to_bytes(width, "big"), end):
        low, step = high, 2 * step
        high = min(first + step, last)
    while high - low > 1:
        middle = (low + high) // 2
        if _can_read(store, middle.to_bytes(width, "big"), end):
            high = middle
        else:
            low = middle
    return high.to_bytes(width, "big")


def _can_read(store: Reader, start: bytes, end: bytes) -> bool:
    try:
        next(store.scan(start, end), None)
    except OSError:
        return False
    return True


class Whose:
    """Paths by the rows of names alone: those of inodes may be what is damaged."""

    def __init__(self, store: Reader) -> None:
        self.store = store
        self._places: dict[Ino, list[tuple[Ino, bytes]]] | None = None

    def paths(self, key: bytes) -> tuple[str, ...]:
        """Return where what a row is about stands, as far as that can be read."""
        ino = _about(key)
        if ino is None:
            return ()
        places = self.places.get(ino, [])[:PATHS_MAX]
        if not places:
            return (".",) if ino == ROOT else ()
        return tuple(self.path(parent, name) for parent, name in places)

    def path(self, parent: Ino, name: bytes) -> str:
        parts = [name]
        while parent != ROOT and len(parts) < DEPTH_MAX:
            if parent not in self.places:
                parts.append(b"...")
                break
            parent, above = self.places[parent][0]
            parts.append(above)
        return os.fsdecode(b"/".join(reversed(parts)))

    @property
    def places(self) -> dict[Ino, list[tuple[Ino, bytes]]]:
        """inode -> the directories and names at which it stands"""
        if self._places is None:
            self._places = {}
            for key, value in readable_rows(self.store, b"D", lambda _, __: None):
                directory = Ino(int.from_bytes(key[1:9], "big"))
                for ino, name in _listed(value):
                    self._places.setdefault(ino, []).append((directory, name))
        return self._places


def _listed(row: bytes) -> list[tuple[Ino, bytes]]:
    try:
        return [(item.ino, name) for name, items in decode_names(row).items() for item in items]
    except (CodecError, ValueError, TypeError, IndexError):
        return []


def _about(key: bytes) -> Ino | None:
    if key[:1] == b"W":
        return Ino(int.from_bytes(key[33:], "big"))
    if len(key) >= 9 and key[0] in INODE_KINDS + DIRECTORY_KINDS:
        return Ino(int.from_bytes(key[1:9], "big"))
    return None
