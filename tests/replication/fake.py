"""A replica as dicts, for tests of replication: commits are a dot, a payload and block hashes.

What `sync` has not covered is lost by `crash`.  Dots that `kill` erased are dead: no arrival holds
them, and the vector passes over them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from crdt.blocks import HASH_SIZE, hash_of
from crdt.causality import ReplicaId, VersionVector, make_dot
from crdt.codec import CodecError, pack, unpack
from replication.local import Arrivals, PeerError

VOLUME = b"v" * 16
SECRET = b"s" * 32


class FakeLocal:
    def __init__(self, replica: int, *, volume: bytes = VOLUME, secret: bytes = SECRET) -> None:
        self.replica = ReplicaId(replica)
        self.name = f"r{replica}"
        self.store_id = b"store%011d" % replica
        self.volume_id = volume
        self.secret = secret
        self.log: list[bytes | None] = []
        self.now = VersionVector()
        self.durable = VersionVector()
        self.end = 0
        self.have: set[bytes] = set()
        self.cursors: dict[bytes, int] = {}
        self.store: dict[bytes, bytes] = {}
        self.needed: dict[bytes, None] = {}
        self.image = self.snapshot()
        self.receives: list[int] = []  # how many commits each batch had
        self.refused: dict[bytes, str] = {}  # store ids that may not come in
        self.is_full = False  # the disk
        self.lock = threading.RLock()  # `sync` runs beside the rest

    def commit(self, payload: bytes, blocks: Sequence[bytes] = ()) -> int:
        with self.lock:
            counter = self.now.of(self.replica) + 1
            for block in blocks:
                self.store[hash_of(block)] = block
            data = pack((self.replica, counter, payload, tuple(map(hash_of, blocks))))
            self.add(data)
            return counter

    def kill(self, counter: int) -> None:
        """Erase a commit that was never sent: its dot is dead."""
        with self.lock:
            for index, data in enumerate(self.log):
                if data is not None and unpack(data)[:2] == (self.replica, counter):
                    self.log[index] = None
                    self.have.discard(data)

    def add(self, data: bytes) -> None:
        replica, counter, _, hashes = unpack(data)
        self.log.append(data)
        self.have.add(data)
        self.now = self.now.with_dot(make_dot(replica, counter))
        for block_hash in hashes:
            if block_hash not in self.store:
                self.needed[block_hash] = None

    def snapshot(self):
        return (
            list(self.log), self.now, set(self.have), dict(self.cursors), dict(self.store),
            dict(self.needed),
        )  # fmt: skip

    def crash(self) -> None:
        """Go back to what the last sync covered."""
        log, self.now, have, cursors, store, needed = self.image
        self.log, self.have, self.cursors = list(log), set(have), dict(cursors)
        self.store, self.needed = dict(store), dict(needed)

    # The protocol

    def vector(self) -> VersionVector:
        return self.durable

    def durable_end(self) -> int:
        return self.end

    def arrivals(self, start: int, seen: VersionVector, bytes_max: int) -> Arrivals:
        with self.lock:
            assert 0 <= start <= self.end
            commits: list[bytes] = []
            size, index, vector = 0, start, seen
            while index < self.end and (size < bytes_max):
                data = self.log[index]
                index += 1
                if data is None:
                    continue
                replica, counter, _, _ = unpack(data)
                dot = make_dot(replica, counter)
                if dot not in seen:
                    commits.append(data)
                    size += len(data)
                vector = vector.with_dot(dot)
            if index == self.end:
                vector = vector.merge(self.durable)
            return Arrivals(commits, index, vector)

    def receive(self, commits, vector, peer, cursor) -> None:
        with self.lock:
            for data in commits:
                check_commit(data)
            self.receives.append(len(commits))
            for data in commits:
                if data not in self.have:
                    self.add(data)
            self.now = self.now.merge(vector)
            self.cursors[peer] = cursor

    def cursor(self, peer: bytes) -> int:
        return self.cursors.get(peer, 0)

    def wanted(self, limit: int, first: Sequence[bytes] = ()) -> list[bytes]:
        urgent = [h for h in first if h in self.needed]
        return (urgent + [h for h in self.needed if h not in set(urgent)])[:limit]

    def wanted_changes(self) -> int:
        return hash(frozenset(self.needed))

    def blocks(self, hashes: Sequence[bytes]) -> list[bytes | None]:
        return [self.store.get(h) for h in hashes]

    def takes_blocks(self) -> bool:
        return not self.is_full

    def add_blocks(self, blocks: Sequence[bytes]) -> None:
        with self.lock:
            for block in blocks:
                if self.needed.pop(hash_of(block), self) is None:
                    self.store[hash_of(block)] = block

    def check_peer(self, replica, name, store_id) -> None:
        if store_id in self.refused:
            raise PeerError(self.refused[store_id])

    def sync(self) -> None:
        with self.lock:
            self.image = self.snapshot()
            self.durable = self.now
            self.end = len(self.log)

    # For assertions

    def facts(self) -> set[bytes]:
        return set(self.have)


def check_commit(data: bytes) -> None:
    try:
        match unpack(data):
            case (int(), int(), bytes(), tuple(hashes)) if all(
                type(h) is bytes and len(h) == HASH_SIZE for h in hashes
            ):
                return
    except CodecError:
        pass
    raise PeerError("a commit that is not well-formed")
