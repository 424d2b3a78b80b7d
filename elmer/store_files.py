"""What makes a directory a store on disk, beside the rows of RocksDB: the files FORMAT and SYNCED.

- `FORMAT`: which layout this is.  Written last at creation: a directory without it is no store.
- `SYNCED`: the *mark*, the number of the newest row that is known to be durable, and the process
  that wrote it.  It is locked (flock) while the store is open.

After a crash RocksDB replays its log up to the first record that is not whole, and cannot tell
whether that was far enough: a log that a lying disk cut short looks like one that nobody had synced.
To go on from there would use dots twice.  So the mark is written after each sync, and opening
compares.  The mark needs no fsync of its own: what it claims is durable before it is written, so one
that did not reach the disk only claims less.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from elmer.store_errors import Refusal, StoreError, damaged, in_use

FORMAT = 1
FORMAT_PREFIX = b"elmer store "


class Mark:
    """The file SYNCED: how far the store is known to be durable, and the lock on the directory."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self._path = path
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        try:
            self._descriptor = os.open(path / "SYNCED", flags, 0o600)
        except FileNotFoundError as error:
            raise damaged(path, "its file SYNCED is missing") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            _, _, process = os.pread(self._descriptor, 64, 0).partition(b" ")
            os.close(self._descriptor)
            raise in_use(path, f"process {int(process)} has it open") from error
        if create:
            self.write(0)
            os.fsync(self._descriptor)

    def read(self) -> int:
        number, _, _ = os.pread(self._descriptor, 64, 0).partition(b" ")
        if not number.isdigit():
            raise damaged(self._path, "its file SYNCED is not readable")
        return int(number)

    def write(self, newest: int) -> None:
        # In place and within a sector, so never half of it.  Where it cannot be written, the mark
        # claims less than it might.
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, b"%020d %010d\n" % (newest, os.getpid()), 0)

    def close(self) -> None:
        os.close(self._descriptor)


def check_tail(path: Path, found: int, claimed: int) -> None:
    """Raise StoreError where the store ends before what was synced to it."""
    if found < claimed:
        what = f"the disk lost the newest {claimed - found} rows that had been synced to it"
        advice = "check the disk, then join this replica again under a new id"
        raise StoreError(Refusal.LOST_TAIL, path, what, advice)


def make_directory(path: Path) -> None:
    """Make the directory of a new store.  Raises StoreError where there is anything in it."""
    path.mkdir(exist_ok=True)
    if any(path.iterdir()):
        advice = "choose a new directory, or remove this one"
        raise StoreError(Refusal.NOT_EMPTY, path, "is not empty", advice)


def seal(path: Path) -> None:
    """Make the new directory a store, durably."""
    new = path / "FORMAT.new"
    with new.open("wb") as file:
        file.write(b"%s%d\n" % (FORMAT_PREFIX, FORMAT))
        file.flush()
        os.fsync(file.fileno())
    new.rename(path / "FORMAT")
    for directory in (path, path.absolute().parent):
        sync_directory(directory)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_format(path: Path) -> None:
    """Raise StoreError where this is no store, or one of a layout that this program does not know."""
    try:
        text = (path / "FORMAT").read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        if (path / "SYNCED").exists() and (path / "CURRENT").exists():
            raise damaged(path, "its file FORMAT is missing: not made to the end, or lost") from error
        what = "is not a store" if path.exists() else "does not exist"
        raise StoreError(Refusal.NOT_A_STORE, path, what, "see `elmer init`") from error
    number = text.removeprefix(FORMAT_PREFIX).rstrip()
    if not text.startswith(FORMAT_PREFIX) or not number.isdigit():
        raise damaged(path, "its file FORMAT is not readable")
    if int(number) > FORMAT:
        what = f"has format {int(number)}, and this program knows {FORMAT}"
        raise StoreError(Refusal.NEWER, path, what, "use a newer elmer")
