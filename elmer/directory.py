"""The store directory of a replica: what lies where, and which process has it.

    rows/          the store itself (elmer.rocks)
    config.json    what a person set (elmer.config); `init` writes it last, so it marks a whole store
    daemon.lock    locked by the process that works with the store; says which that is
    control.sock   where the daemon takes commands (elmer.control)
    reserve        space that is given back when the disk is full (elmer.space)
    elmer.log      what a daemon in the background says, elmer.log.1 ... before that

The lock (an open file description lock, fcntl(2): it can be asked for without being taken) goes
with its process, however that ends.  Its text is for people: it is written after the lock was
taken, so for an instant it can be that of the holder before.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elmer.exits import CommandError, ExitStatus

HOLDER_BYTES = 8192


def mode_at(path: Path) -> int:
    """Return the mode (stat(2)) of what is there, 0 where nothing is.

    Raises OSError, as PermissionError where a directory on the way may not be searched: Path.exists() and the
    like take that for nothing, from Python 3.14 on.
    """
    try:
        return path.stat().st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return 0
        raise


@dataclass(frozen=True, slots=True)
class StoreDirectory:
    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def rows(self) -> Path:
        return self.path / "rows"

    @property
    def reserve(self) -> Path:
        return self.path / "reserve"

    @property
    def lock(self) -> Path:
        return self.path / "daemon.lock"

    @property
    def socket(self) -> Path:
        return self.path / "control.sock"

    @property
    def log(self) -> Path:
        return self.path / "elmer.log"

    def is_store(self) -> bool:
        return stat.S_ISREG(mode_at(self.config))

    def check_is_store(self) -> None:
        """Raises CommandError (USAGE) where there is no store, or half of one."""
        if self.is_store():
            if not stat.S_ISDIR(mode_at(self.rows)):
                raise CommandError(
                    f"{self.path}: its directory rows is missing; restore it from a backup, or join this"
                    " replica again",
                    ExitStatus.STORE,
                )
            return
        if mode_at(self.rows):
            raise CommandError(
                f"{self.path}: its file config.json is missing. If an init or join was cut short here,"
                " remove the directory and do it again; else put a file with {} in its place, and tell it its"
                " peers by `elmer peers add`",
                ExitStatus.USAGE,
            )
        if mode_at(self.path):
            raise CommandError(f"{self.path} is not a store (see `elmer init`)", ExitStatus.USAGE)
        raise CommandError(f"{self.path} does not exist", ExitStatus.USAGE)


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that has a store: for which command, mounted where."""

    pid: int
    command: str
    mountpoint: str | None = None

    def __str__(self) -> str:
        where = f" at {self.mountpoint}" if self.mountpoint else ""
        stuck = f", which was killed and hangs: `umount -f {self.mountpoint}` as root ends it"
        return f"`elmer {self.command}`{where}, process {self.pid}{stuck if self.is_stuck else ''}"

    @property
    def is_stuck(self) -> bool:
        return self.mountpoint is not None and hangs(self.pid)


def hangs(pid: int) -> bool:
    """Was this process killed, and a thread of it waits in the kernel and keeps all that it has open?

    Its first thread is dead then, and not the only one (proc_pid_stat(5)); see elmer.guard.
    """
    process = Path(f"/proc/{pid}")
    try:
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        return state == "Z" and len(list((process / "task").iterdir())) > 1
    except OSError:
        return False


@contextmanager
def held(directory: StoreDirectory, command: str, mountpoint: str | None = None) -> Iterator[None]:
    """Have the store for oneself.

    Raises CommandError (STORE) where another process has it.
    """
    descriptor = os.open(directory.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK))
        except BlockingIOError as error:
            raise _in_use(directory, _read_holder(descriptor)) from error
        _say(descriptor, {"pid": os.getpid(), "command": command, "mountpoint": mountpoint})
        try:
            yield
        except CommandError as error:
            _say(descriptor, {"pid": 0, "command": command, "failure": str(error)})
            raise
        _say(descriptor, {"pid": 0, "command": command})
    finally:
        os.close(descriptor)


def _say(descriptor: int, said: dict[str, Any]) -> None:
    """Write who has the store, or how its last holder ended.

    Always as long, so that a full disk has nothing to refuse; but for the first time, when nothing is said.
    """
    with suppress(OSError):
        os.pwrite(descriptor, json.dumps(said).encode().ljust(HOLDER_BYTES), 0)


def failure_of_last(directory: StoreDirectory) -> str:
    """Return what the last process that had the store could not do, "" where it ended well."""
    try:
        said = json.loads(directory.lock.read_bytes())
    except (OSError, ValueError):
        return ""
    return str(said.get("failure", ""))


def find_holder(directory: StoreDirectory) -> Holder | None:
    """Return which process has the store, or None if nobody has."""
    try:
        descriptor = os.open(directory.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK))
        return None if found == _flock(fcntl.F_UNLCK) else _read_holder(descriptor)
    finally:
        os.close(descriptor)


def _flock(kind: int) -> bytes:
    """Return a struct flock (fcntl(2)) for the whole file, as 64-bit Linux lays it out."""
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0)


def _read_holder(descriptor: int) -> Holder:
    try:
        return Holder(**json.loads(os.pread(descriptor, HOLDER_BYTES, 0)))
    except (ValueError, TypeError):  # it has not written it yet
        return Holder(0, "?")


def _in_use(directory: StoreDirectory, holder: Holder) -> CommandError:
    return CommandError(f"{directory.path} is in use by {holder}", ExitStatus.STORE)


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """Yield a name of `path` that fits into a socket address, which holds 107 bytes (unix(7))."""
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
