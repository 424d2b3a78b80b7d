"""Commits that came from one peer and are not applied yet.

A pass is applied in one batch when it is whole, so that no program sees half of a catch-up; above a
stated size it is applied in slices, each of which is a state that the sender has been in.

What is staged outlives the connection: after a cut the pull goes on behind it, and only what is
missing is sent again.  It does not outlive the process.
"""

from __future__ import annotations

from collections.abc import Callable

from crdt.causality import VersionVector
from replication.limits import Limits
from replication.local import Local, PeerError
from replication.message import Commits, Pull


class Staging:
    def __init__(self, peer: bytes) -> None:
        self.peer = peer
        self.cursor: int | None = None  # None: nothing is staged
        self.vector = VersionVector()
        self.commits: list[bytes] = []
        self.byte_count = 0

    def pull(self, local: Local) -> Pull:
        """Return the request for what comes after what is applied or staged."""
        cursor = local.cursor(self.peer) if self.cursor is None else self.cursor
        return Pull(cursor, local.vector().merge(self.vector))

    def add(self, slice_: Commits) -> None:
        """Raises PeerError."""
        if self.cursor is not None and slice_.cursor < self.cursor:
            self.clear()
            raise PeerError(f"the stream of commits goes back to {slice_.cursor}")
        self.commits += slice_.commits
        self.byte_count += sum(map(len, slice_.commits))
        self.vector = slice_.vector
        self.cursor = slice_.cursor

    def is_full(self, limits: Limits) -> bool:
        return len(self.commits) >= limits.stage_commits_max or self.byte_count >= limits.stage_bytes_max

    def apply(self, receive: Callable[[list[bytes], VersionVector, bytes, int], None]) -> None:
        """Pass on what is staged.  Raises PeerError; then it is dropped, so that it can come anew."""
        assert self.cursor is not None, "nothing is staged"
        commits, vector, cursor = self.commits, self.vector, self.cursor
        self.clear()
        receive(commits, vector, self.peer, cursor)

    def clear(self) -> None:
        self.cursor = None
        self.vector = VersionVector()
        self.commits = []
        self.byte_count = 0
