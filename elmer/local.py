"""This replica as replication sees it: `Local` on a `Replica`, under the one lock.

Every hold is short, and after one that was not, the lock stays free for a while: it is not fair,
and a thread that takes it again at once starves the requests of programs.

A merge is told to the kernel before `receive` returns, so a peer that hears how far this replica is
can rely on what programs here see.  Only for a bounded time, though: to drop a file's pages may
have to wait for a read that waits for a block, which arrives by this very thread.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from crdt.causality import ReplicaId, VersionVector
from crdt.codec import CodecError
from elmer.invalidate import Batch
from elmer.kernel import Kernel
from elmer.space import Space
from replication.local import Arrivals, PeerError
from translation.replica import Replica, UnknownPeer

LONG_HOLD_S = 0.0002
FREE_S = 0.001
KERNEL_S = 0.2
# Of arrivals that are put together in one hold: a hundred commits or so, some milliseconds.
ARRIVALS_BYTES = 16 << 10


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep the collector of cycles from looking, again and again, through what a merge makes: hundreds of
    thousands of objects that are in no cycle, while programs wait.  It was a tenth of a merge and more."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class LockedReplica:
    def __init__(self, replica: Replica, lock: AbstractContextManager[Any], space: Space) -> None:
        self._replica = replica
        self._lock = lock
        self._space = space
        self.kernel: Kernel | None = None  # while something is mounted
        self._free_until_s = 0.0

    @property
    def replica(self) -> ReplicaId:
        return self._replica.replica

    @property
    def name(self) -> str:
        return self._replica.name

    @property
    def store_id(self) -> bytes:
        return self._replica.store_id

    @property
    def volume_id(self) -> bytes:
        return self._replica.volume.volume_id

    @property
    def secret(self) -> bytes:
        return self._replica.volume.secret

    def vector(self) -> VersionVector:
        return self._replica.vector()

    def durable_end(self) -> int:
        return self._replica.durable_end()

    def arrivals(self, start: int, seen: VersionVector, bytes_max: int) -> Arrivals:
        commits: list[bytes] = []
        size = 0
        while True:
            part_bytes = min(ARRIVALS_BYTES, bytes_max - size)
            with self._held():
                part = self._replica.arrivals(start, seen, part_bytes)
            commits += part.commits
            size += sum(map(len, part.commits))
            if part.next == start or size >= bytes_max:
                return Arrivals(commits, part.next, part.vector)
            start, seen = part.next, part.vector

    def receive(self, commits: Sequence[bytes], vector: VersionVector, peer: bytes, cursor: int) -> None:
        self._space.check_merge(sum(map(len, commits)))
        if self.kernel is not None:
            self.kernel.write_back(commits, KERNEL_S)
        with self._held():
            try:
                with collector_paused():
                    self._replica.receive(commits, vector, peer, cursor)
            except CodecError as error:
                raise PeerError(str(error)) from error
            told = self._tell()
        self._wait(told)

    # These read committed rows only, and so need no lock.

    def cursor(self, peer: bytes) -> int:
        return self._replica.cursor(peer)

    def wanted(self, limit: int, first: Sequence[bytes] = ()) -> list[bytes]:
        return self._replica.wanted(limit, first)

    def wanted_changes(self) -> int:
        return self._replica.wanted_changes()

    def blocks(self, hashes: Sequence[bytes]) -> list[bytes | None]:
        return self._replica.blocks(hashes)

    def takes_blocks(self) -> bool:
        return self._space.takes_blocks()

    def add_blocks(self, blocks: Sequence[bytes]) -> None:
        self._space.check_merge(sum(map(len, blocks)))
        with self._held():
            self._replica.add_blocks(blocks)
            told = self._tell()
        self._wait(told)

    def check_peer(self, replica: ReplicaId, name: str, store_id: bytes) -> None:
        with self._held():
            try:
                self._replica.check_peer(replica, name, store_id)
            except UnknownPeer as error:
                raise PeerError(str(error)) from error

    def sync(self) -> None:
        self._replica.sync()

    @contextmanager
    def _held(self) -> Iterator[None]:
        wait_s = self._free_until_s - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        with self._lock:
            taken_s = time.monotonic()
            yield
        freed_s = time.monotonic()
        if freed_s - taken_s > LONG_HOLD_S:
            self._free_until_s = freed_s + FREE_S

    def _tell(self) -> Batch | None:
        """With the lock held: no program sees the change before it is among what the kernel is told."""
        changes = self._replica.take_changes()
        return None if self.kernel is None else self.kernel.tell(changes)

    def _wait(self, told: Batch | None) -> None:
        """Without the lock."""
        if self.kernel is not None:
            self.kernel.wait(told, KERNEL_S)
