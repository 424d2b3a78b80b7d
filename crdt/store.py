"""What a replica needs of its disk, and a version in memory.

Keys and values are bytes.  The first byte of a key says what the row is (docs/formats.md); a store may
keep kinds of rows apart by it.  `commit` is atomic: after a crash all of a batch is there or none of it,
and the batches that are there are a prefix of those committed.  Only what was committed before a `sync`
that returned is sure to be there.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from typing import Protocol


class Reader(Protocol):
    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows with start <= key < end, in order of their keys.

        Both bounds are of one kind of rows: `end` may be the first byte of the next kind.  What is
        committed while the scan runs may or may not show in it.
        """


class Store(Reader, Protocol):
    """A block (docs/formats.md, rows `K`) that is not what its hash says, or cannot be read, is as one
    that is not here: `get` returns None, and its key is in `damaged` until it is put again."""

    damaged: set[bytes]

    def commit(self, batch: Mapping[bytes, bytes | None], *, sync: bool = False) -> None:
        """Put these rows, and delete those whose value is None, as one."""

    def sync(self) -> None:
        """Return when all that was committed before the call is durable.  May be called in any thread."""

    def snapshot(self) -> Reader:
        """Return a reader of the state as it is now, whatever is committed later."""

    def close(self) -> None: ...


class MemoryStore:
    """A store as a dict with its keys in order, beside the image that a crash would leave."""

    def __init__(self, rows: Mapping[bytes, bytes] | None = None) -> None:
        self.rows: dict[bytes, bytes] = dict(rows or {})
        self.keys = sorted(self.rows)
        self.durable: dict[bytes, bytes] = dict(self.rows)
        self.unsynced: list[Mapping[bytes, bytes | None]] = []
        self.damaged: set[bytes] = set()  # a memory has none, but for what a test puts there

    def get(self, key: bytes) -> bytes | None:
        return None if key in self.damaged else self.rows.get(key)

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        found = self.keys[bisect_left(self.keys, start) : bisect_left(self.keys, end)]
        for key in reversed(found) if reverse else found:
            value = self.rows.get(key)
            if value is not None:
                yield key, value

    def commit(self, batch: Mapping[bytes, bytes | None], *, sync: bool = False) -> None:
        for key, value in batch.items():
            if value is not None:
                if key not in self.rows:
                    insort(self.keys, key)
                self.rows[key] = value
            elif self.rows.pop(key, None) is not None:
                del self.keys[bisect_left(self.keys, key)]
        self.damaged.difference_update(batch)
        self.unsynced.append(dict(batch))
        if sync:
            self.sync()

    def sync(self) -> None:
        batches, self.unsynced = self.unsynced, []  # first: another thread may commit meanwhile
        for batch in batches:
            _apply(self.durable, batch)

    def snapshot(self) -> Reader:
        return MemoryStore(self.rows)

    def close(self) -> None:
        self.sync()

    def crashed(self, kept: int = 0) -> MemoryStore:
        """Return the store that a power cut leaves now: what was synced, and `kept` batches after it."""
        rows = dict(self.durable)
        for batch in self.unsynced[:kept]:
            _apply(rows, batch)
        return MemoryStore(rows)


def _apply(rows: dict[bytes, bytes], batch: Mapping[bytes, bytes | None]) -> None:
    for key, value in batch.items():
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value
