"""What the kernel has cached of a mount, kept true: between the requests and what others change."""

from __future__ import annotations

from collections.abc import Sequence

from crdt.changes import Changes
from crdt.facts import DERIVED
from elmer.fuse import Operations
from elmer.invalidate import Batch, Invalidator


class Kernel:
    def __init__(self, operations: Operations, invalidator: Invalidator) -> None:
        self.operations = operations
        self.invalidator = invalidator

    def tell(self, changes: Changes) -> Batch | None:
        """Pass on what programs must see.  Returns at once; may be called with the lock held."""
        if not changes:
            return None
        self.operations.without_capability.difference_update(changes.inodes)
        return self.invalidator.tell(changes.entries, changes.inodes)

    def wait(self, told: Batch | None, timeout_s: float) -> None:
        """Wait until the kernel has heard this."""
        if told is not None:
            self.invalidator.wait(told, timeout_s)

    def write_back(self, commits: Sequence[bytes], timeout_s: float) -> None:
        """Have the kernel write what is dirty in mappings of files that these commits may change.

        What was written to the version before a merge thus extends that version.  Afterwards it
        would overwrite, in whole pages, what was merged.
        """
        handles = list(self.operations.filesystem.handles.values())
        written = {handle.ino for handle in handles if handle.writes}
        # A conflict entry's number is in no commit.
        touched: dict[int, bool] = {ino: True for ino in written if ino & DERIVED or _is_named(ino, commits)}
        if touched:
            self.invalidator.wait(self.invalidator.tell((), touched), timeout_s)

    def drain(self, timeout_s: float) -> bool:
        """Wait until the kernel has heard all that was told before; return whether it has."""
        return self.invalidator.drain(timeout_s)


def _is_named(ino: int, commits: Sequence[bytes]) -> bool:
    """Whether the commits could be about an inode: its number stands in them (msgpack, 64 bits).

    To decode them for this would double the work of a merge.  Something else may look like the
    number; then pages are dropped without need.
    """
    number = ino.to_bytes(8, "big")
    return any(number in commit for commit in commits)
