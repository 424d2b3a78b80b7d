"""What replication needs of the replica it serves.

Commits are opaque bytes here.  The calls come from one worker thread, but for `sync`, which may run
beside them in another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from crdt.causality import ReplicaId, VersionVector


class PeerError(Exception):
    """The peer broke the protocol, or may not come in.  What is here is intact."""


class RestoredError(PeerError):
    """A peer has seen commits of this replica that are not here: it came back from an old copy.

    Its next commit would use a dot twice, so it must stop writing.
    """


class Arrivals(NamedTuple):
    commits: list[bytes]  # encoded, in the order in which they arrived
    next: int  # cursor after the last arrival that was looked at
    vector: VersionVector  # what a peer that had seen `seen` has seen once it applied these


class Local(Protocol):
    @property
    def replica(self) -> ReplicaId: ...

    @property
    def name(self) -> str: ...

    @property
    def store_id(self) -> bytes:
        """16 random bytes of this store: they tell a copied replica from the original."""

    @property
    def volume_id(self) -> bytes:
        """16 bytes."""

    @property
    def secret(self) -> bytes:
        """32 bytes that all members know."""

    def vector(self) -> VersionVector:
        """Return what is durable here, and so may be told."""

    def durable_end(self) -> int:
        """Return the arrival index after the last durable commit."""

    def arrivals(self, start: int, seen: VersionVector, bytes_max: int) -> Arrivals:
        """Return the durable commits from `start` on that `seen` lacks, in order of arrival.

        Stops after `bytes_max` bytes (but not before the first commit), and at `durable_end` at the
        latest.  `next` is greater than `start` unless there is nothing more.
        """

    def receive(self, commits: Sequence[bytes], vector: VersionVector, peer: bytes, cursor: int) -> None:
        """Apply `commits`, raise the vector to include `vector`, and set the cursor of `peer`, as one.

        What was received before is skipped.  Without commits no arrival is made.  Raises PeerError
        where these are no well-formed commits of this volume; nothing has changed then.
        """

    def cursor(self, peer: bytes) -> int:
        """Return where receiving from the peer's store goes on; 0 if nothing came from it."""

    def wanted(self, limit: int, first: Sequence[bytes] = ()) -> list[bytes]:
        """Return hashes of blocks that are not here but needed, those of `first` first."""

    def wanted_changes(self) -> int:
        """Return a number that is another one when other blocks are wanted than when it was read before."""

    def blocks(self, hashes: Sequence[bytes]) -> list[bytes | None]:
        """Return the bytes of these blocks, None for each that is not here."""

    def takes_blocks(self) -> bool:
        """Return whether there is space for blocks that no program waits for."""

    def add_blocks(self, blocks: Sequence[bytes]) -> None:
        """Keep those of these blocks that are wanted."""

    def check_peer(self, replica: ReplicaId, name: str, store_id: bytes) -> None:
        """Raises PeerError where this peer may not come in: evicted, or an id under another store."""

    def sync(self) -> None:
        """Return when all that was committed before the call is durable."""
