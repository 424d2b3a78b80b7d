"""How much may still be written: what is kept free on the disk of a store, and for what.

A write that does not fit must fail before it is taken, and removals must go on.  RocksDB stops as a whole
when the disk is full, and to go on it must write out what it has in memory.  So there are two stores of
space that programs do not get:

- the *margin* is never given to anybody; it is what RocksDB needs at any moment;
- the *reserve* is a file beside the store.  Where others fill the disk it is removed, and what does not
  grow the store goes on: removals, renames, attributes, the facts of a merge.  It is made again when there
  is space.

What was gathered and is not written yet counts as written: close and fsync find the space that write was
promised.  Each byte is counted twice, once for the log and once for the tables.

What others take is seen by the next look, LOOK_S later at most.  A request that an older look lets through
is refused by the store, or is in it when it is answered; what it gathers in that time fits the reserve.  No
look can promise more: others may take what it found before it is used, and close and fsync say so.

Growth is asked for by requests with the one lock held; `look` is called once a second, without it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

log = logging.getLogger(__name__)

KIB, MIB = 1 << 10, 1 << 20

ROW_BYTES = 4 * KIB  # what any request writes at most besides content, about
LOOK_S = 0.002  # programs write less than the reserve in it; a look takes some 10 us
RECOVERY_S = 10.0  # RocksDB looks every five seconds whether it can go on
POLL_S = 0.05
INODES_MIN = 16  # RocksDB makes new files


class Sizes(NamedTuple):
    """Bytes, by the size of the disk: a thirty-second of it, and not more than is of use."""

    reserve: int
    margin: int
    memtables: int  # what RocksDB has in memory at most; it fits into the reserve

    @classmethod
    def of(cls, path: Path) -> Sizes:
        disk = os.statvfs(path)
        reserve = min(max(disk.f_blocks * disk.f_frsize // 32, 4 * MIB), 128 * MIB)
        return cls(reserve, reserve // 4, reserve)


class Rows(Protocol):
    """What is asked of the store (elmer.rocks)."""

    def memory_bytes(self) -> int:
        """Return how much is in memory, and yet to be written out."""

    def log_bytes(self) -> int:
        """Return the size of the write-ahead log, which goes when all is written out."""

    def write_out(self) -> None:
        """Write out what is in memory.  Raises OSError."""

    def is_writable(self) -> bool:
        """Return whether commits are taken, as far as is known: not while a full disk stops RocksDB."""


class Reserve:
    """The file whose space is given back when the disk is full."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def size(self) -> int:
        try:
            return self.path.stat().st_blocks * 512
        except FileNotFoundError:
            return 0

    def take(self, size: int) -> None:
        """Raises OSError (ENOSPC) where there is not enough; nothing is taken then."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError:
            self.release()
            raise
        finally:
            os.close(descriptor)

    def release(self) -> None:
        self.path.unlink(missing_ok=True)


def available(path: Path) -> int:
    """Return how much may be written to the disk of `path`, bytes; 0 where it has no inodes left."""
    disk = os.statvfs(path)
    if disk.f_files and disk.f_favail < INODES_MIN:
        return 0
    return disk.f_bavail * disk.f_frsize


def release_if_full(reserve: Path) -> None:
    """Before a store is opened: that takes space, if only for a file."""
    if available(reserve.parent) < Sizes.of(reserve.parent).margin:
        Reserve(reserve).release()


class Space:
    """`gathered` tells how much programs have written that is in no store yet."""

    def __init__(
        self,
        reserve: Path,
        rows: Rows,
        lock_released: AbstractContextManager[Any] | None = None,
    ) -> None:
        self.directory = reserve.parent
        self.reserve = Reserve(reserve)
        self.rows = rows
        self.gathered: Callable[[], int] = lambda: 0
        self.lock_released = lock_released or contextlib.nullcontext()
        self.sizes = Sizes.of(self.directory)
        self.problem = ""
        self._left = 0  # bytes that may be taken until the next look
        self._look_due_s = 0.0

    # -- requests, with the lock held --------------------------------------------------------------

    def take(self, size: int) -> None:
        """Something is to be made or written that grows the store.  Raises OSError (ENOSPC)."""
        cost = 2 * size + ROW_BYTES
        self._left -= cost
        if self._left >= 0 and time.monotonic() < self._look_due_s:
            return
        self._left = self.for_growth() - cost
        if self._left < 0 and self.rows.log_bytes() > self.sizes.margin:
            self._write_out()
            self._left = self.for_growth() - cost
        self._look_due_s = time.monotonic() + LOOK_S
        if self._left < 0:
            self._note(is_full=True)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _write_out(self) -> None:
        """Have the log go: what it holds lies in the tables twice."""
        with self.lock_released, contextlib.suppress(OSError):
            self.rows.write_out()

    def make_way(self) -> bool:
        """The store was full for what must go on.  Return whether it takes that now.

        Where others took the reserve too there is nothing to wait for: it is for somebody to make room.
        """
        self.reserve.release()
        deadline_s = time.monotonic() + RECOVERY_S
        while not self.rows.is_writable():
            if time.monotonic() > deadline_s or available(self.directory) < ROW_BYTES:
                return False
            with self.lock_released:
                time.sleep(POLL_S)
        return True

    # -- anybody -----------------------------------------------------------------------------------

    def for_growth(self) -> int:
        """Return how many bytes are left for what grows the store; below 0: none."""
        return self._left_of_all() - self.sizes.reserve - self.sizes.margin

    def check_merge(self, size: int) -> None:
        """The facts of a merge may use half of the reserve.  Raises OSError (ENOSPC)."""
        if self._left_of_all() - self.sizes.reserve // 2 < 2 * size:
            raise OSError(errno.ENOSPC, "no space is left on the disk for what a peer sends")

    def takes_blocks(self) -> bool:
        return self.for_growth() > 0

    def statvfs(self) -> os.statvfs_result:
        """Return what the disk is to programs here: without what is kept free."""
        disk = os.statvfs(self.directory)
        ours = max(self.for_growth(), 0) // disk.f_frsize
        free = disk.f_bfree - disk.f_bavail + min(ours, disk.f_bavail)
        return os.statvfs_result(
            (
                *(disk.f_bsize, disk.f_frsize, disk.f_blocks, free, min(ours, disk.f_bavail)),
                *(disk.f_files, disk.f_ffree, disk.f_favail, disk.f_flag, disk.f_namemax),
            )
        )

    def _left_of_all(self) -> int:
        used_up = self.rows.memory_bytes() + 2 * self.gathered()
        return available(self.directory) + self.reserve.size - used_up

    # -- once a second -----------------------------------------------------------------------------

    def look(self) -> None:
        """Give the reserve back where the disk is full, take it again where there is space."""
        free, held = available(self.directory), self.reserve.size
        if held and free < self.sizes.margin:
            self.reserve.release()
            log.warning("%s: the disk is full: the reserve is given back", self.directory)
            with contextlib.suppress(OSError):
                self.rows.write_out()
        elif not held and free > self.sizes.reserve + 2 * self.sizes.margin:
            with contextlib.suppress(OSError):
                self.reserve.take(self.sizes.reserve)
                log.info("%s: %d MiB are kept in reserve", self.directory, self.sizes.reserve // MIB)
        self._note(is_full=self.for_growth() <= 0)

    def _note(self, *, is_full: bool) -> None:
        if is_full and not self.problem:
            self.problem = (
                f"the disk of {self.directory} is full: nothing can be written or made, only removed"
            )
            free, inodes = available(self.directory) // MIB, os.statvfs(self.directory).f_favail
            log.warning("%s (%d MiB, %d inodes are free)", self.problem, free, inodes)
        elif not is_full and self.problem:
            log.info("there is space on the disk of %s again", self.directory)
            self.problem = ""
