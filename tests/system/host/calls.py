"""The system calls of a history, as one side makes them.

A path is relative to the root of the history, or to the directory that is open as `at`. What is open has a
label, the same on both sides.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Callable
from typing import NamedTuple

NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2  # utimensat(2)
AT_FDCWD, AT_EACCESS, AT_SYMLINK_NOFOLLOW = -100, 0x200, 0x100
SET_ID = stat.S_ISUID | stat.S_ISGID
ROOT = 0  # the label of the root of the history
OPEN_FLAGS = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_EXCL", "O_TRUNC", "O_APPEND", "O_DIRECTORY", "O_NOFOLLOW"]
COARSE = 5  # CLOCK_REALTIME_COARSE, which the kernel takes the times of its own files from

IN_TURN = 48  # bytes of entries that are read from a directory at once: two with short names
ONE_ENTRY = 300
LISTED_MAX = 10_000  # no history has so many names
ENTRY = struct.Struct("=QqHB")  # see getdents64(2)

libc = ctypes.CDLL(None, use_errno=True)


class Mode(int):
    def __repr__(self) -> str:
        return f"0o{self:o}"


class Flags(int):
    """Flags of open(2)."""

    def __repr__(self) -> str:
        return " | ".join(name for name in OPEN_FLAGS if self & getattr(os, name)) or "O_RDONLY"


class Status(NamedTuple):
    """What two file systems have in common of a status, but for times."""

    mode: Mode  # with the bits of the type
    nlink: int
    uid: int
    gid: int
    size: int  # 0 of a directory
    rdev: int


class Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))

    @classmethod
    def of(cls, when: int) -> Timespec:
        if when in (NOW, OMIT):
            return cls(0, when)
        return cls(*divmod(when, 10**9))


def checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class Calls:
    """The files that are open, and one method for each call.

    Two things POSIX leaves open, and the host is made to do them as the mount does: a write by root takes
    set-user-id away too (who writes with CAP_FSETID a FUSE file system is not told), and a truncation to the
    size that a file has is one (so it is on ext4, not on tmpfs).
    """

    def __init__(self, *, is_mount: bool) -> None:
        self.is_mount = is_mount
        self.files: dict[int, int] = {}
        self.listings: dict[int, Listing] = {}

    # -- names -----------------------------------------------------------------------------------

    def mkdir(self, path: str, mode: int, at: int = ROOT) -> None:
        os.mkdir(path, mode, dir_fd=self.files[at])

    def mknod(self, path: str, mode: int, device: int = 0, at: int = ROOT) -> None:
        os.mknod(path, mode, device, dir_fd=self.files[at])

    def symlink(self, target: str, path: str, at: int = ROOT) -> None:
        os.symlink(target, path, dir_fd=self.files[at])

    def readlink(self, path: str, at: int = ROOT) -> str:
        return os.readlink(path, dir_fd=self.files[at])

    def link(self, path: str, to: str, follow: bool = False, at: int = ROOT) -> None:
        directory = self.files[at]
        os.link(path, to, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=follow)

    def unlink(self, path: str, at: int = ROOT) -> None:
        os.unlink(path, dir_fd=self.files[at])

    def rmdir(self, path: str, at: int = ROOT) -> None:
        os.rmdir(path, dir_fd=self.files[at])

    def rename(self, path: str, to: str, at: int = ROOT, to_at: int = ROOT) -> None:
        os.rename(path, to, src_dir_fd=self.files[at], dst_dir_fd=self.files[to_at])

    def list(self, path: str, at: int = ROOT) -> list[tuple[str, int, bool]]:
        """The names, their types, and whether stat(2) gives the number that stands there."""
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.files[at])
        try:
            return told(directory)
        finally:
            os.close(directory)

    # -- attributes ------------------------------------------------------------------------------

    def stat(self, path: str, follow: bool = True, at: int = ROOT) -> Status:
        return shown(os.stat(path, dir_fd=self.files[at], follow_symlinks=follow))

    def access(self, path: str, mode: int, at: int = ROOT) -> None:
        checked(libc.faccessat(self.files[at], os.fsencode(path), mode, AT_EACCESS))

    def chmod(self, path: str, mode: int, at: int = ROOT) -> None:
        os.chmod(path, mode, dir_fd=self.files[at])

    def chown(self, path: str, uid: int, gid: int, follow: bool = True, at: int = ROOT) -> None:
        os.chown(path, uid, gid, dir_fd=self.files[at], follow_symlinks=follow)

    def utimens(self, path: str, atime: int, mtime: int, follow: bool = True, at: int = ROOT) -> object:
        times = (Timespec * 2)(Timespec.of(atime), Timespec.of(mtime))
        flags = 0 if follow else AT_SYMLINK_NOFOLLOW
        checked(libc.utimensat(self.files[at], os.fsencode(path), times, flags))
        status = os.stat(path, dir_fd=self.files[at], follow_symlinks=follow)
        return times_set(status, atime, mtime)

    def truncate(self, path: str, size: int) -> None:
        before = None if self.is_mount else size_of(path)
        os.truncate(path, size)
        self.truncated(path, before)

    def truncated(self, file: str | int, before: int | None) -> None:
        self.wrote(file)
        if not self.is_mount and before == size_of(file):
            as_root(lambda: os.utime(file))

    def wrote(self, file: str | int) -> None:
        """Take away what a write by anybody takes away."""
        if self.is_mount or os.geteuid():
            return
        mode = os.stat(file).st_mode
        kept = mode & ~stat.S_ISUID
        if mode & stat.S_IXGRP:
            kept &= ~stat.S_ISGID
        if stat.S_ISREG(mode) and kept != mode:
            os.chmod(file, stat.S_IMODE(kept))

    # -- extended attributes ---------------------------------------------------------------------

    def setxattr(self, path: str, name: str, value: bytes, flags: int = 0, follow: bool = True) -> None:
        os.setxattr(path, name, value, flags, follow_symlinks=follow)

    def getxattr(self, path: str, name: str, follow: bool = True) -> bytes:
        return os.getxattr(path, name, follow_symlinks=follow)

    def listxattr(self, path: str, follow: bool = True) -> list[str]:
        return sorted(os.listxattr(path, follow_symlinks=follow))

    def removexattr(self, path: str, name: str, follow: bool = True) -> None:
        os.removexattr(path, name, follow_symlinks=follow)

    # -- what is open ----------------------------------------------------------------------------

    def open(self, path: str, flags: int, mode: int, label: int, at: int = ROOT) -> str:
        """O_NONBLOCK: a fifo must not wait for somebody to read it. What is no file is not kept open."""
        before = self.kind(path, at) if flags & os.O_TRUNC else ""
        file = os.open(path, flags | os.O_NONBLOCK, mode, dir_fd=self.files[at])
        kind = os.fstat(file).st_mode
        if before == "file":
            self.wrote(file)
        if stat.S_ISREG(kind) or stat.S_ISDIR(kind):
            self.files[label] = file
            return "directory" if stat.S_ISDIR(kind) else "file"
        os.close(file)
        return "neither"

    def kind(self, path: str, at: int) -> str:
        try:
            mode = os.stat(path, dir_fd=self.files[at]).st_mode
        except OSError:
            return ""
        return "file" if stat.S_ISREG(mode) else "other"

    def close(self, label: int) -> None:
        self.listings.pop(label, None)
        os.close(self.files.pop(label))

    def read(self, label: int, size: int) -> bytes:
        return os.read(self.files[label], size)

    def pread(self, label: int, size: int, offset: int) -> bytes:
        return os.pread(self.files[label], size, offset)

    def write(self, label: int, data: bytes) -> int:
        written = os.write(self.files[label], data)
        if written:
            self.wrote(self.files[label])
        return written

    def pwrite(self, label: int, data: bytes, offset: int) -> int:
        written = os.pwrite(self.files[label], data, offset)
        if written:
            self.wrote(self.files[label])
        return written

    def lseek(self, label: int, offset: int, whence: int) -> int:
        return os.lseek(self.files[label], offset, whence)

    def ftruncate(self, label: int, size: int) -> None:
        before = size_of(self.files[label])
        os.ftruncate(self.files[label], size)
        self.truncated(self.files[label], before)

    def copy(self, label: int, to: int, size: int, offset: int, to_offset: int) -> int:
        copied = os.copy_file_range(self.files[label], self.files[to], size, offset, to_offset)
        if copied:
            self.wrote(self.files[to])
        return copied

    def fsync(self, label: int) -> None:
        os.fsync(self.files[label])

    def fstat(self, label: int) -> Status:
        return shown(os.fstat(self.files[label]))

    def fchmod(self, label: int, mode: int) -> None:
        os.fchmod(self.files[label], mode)

    def fchown(self, label: int, uid: int, gid: int) -> None:
        os.fchown(self.files[label], uid, gid)

    def futimens(self, label: int, atime: int, mtime: int) -> object:
        times = (Timespec * 2)(Timespec.of(atime), Timespec.of(mtime))
        checked(libc.futimens(self.files[label], times))
        return times_set(os.fstat(self.files[label]), atime, mtime)

    def fsetxattr(self, label: int, name: str, value: bytes, flags: int = 0) -> None:
        os.setxattr(self.files[label], name, value, flags)

    def flock(self, label: int, operation: int) -> None:
        fcntl.flock(self.files[label], operation | fcntl.LOCK_NB)

    # -- a directory that is read while it changes -----------------------------------------------

    def flist(self, label: int) -> list[tuple[str, int, bool]]:
        self.listings.pop(label, None)
        os.lseek(self.files[label], 0, os.SEEK_SET)
        return told(self.files[label])

    def read_some(self, label: int) -> None:
        """Read some names of a directory, which `read_rest` tells."""
        if label not in self.listings:
            self.listings[label] = Listing(self.files[label])
        self.listings[label].read()

    def read_rest(self, label: int) -> list[str]:
        """Of the names that were there all the time: those that were read, as often as they were."""
        self.read_some(label)
        listing = self.listings.pop(label)
        while listing.read():
            pass
        return sorted(entry.name for entry in listing.seen if entry in listing.there_all_along)

    def changed(self) -> None:
        """Something was changed."""
        for listing in self.listings.values():
            listing.there_all_along &= listing.there()


class Listing:
    """A directory that is read from its beginning, a few names at a time."""

    def __init__(self, file: int) -> None:
        self.file = file
        self.seen: list[Listed] = []
        os.lseek(file, 0, os.SEEK_SET)
        self.there_all_along = self.there()

    def there(self) -> set[Listed]:
        """What is there now. A file that took a name from another is not what was there."""
        try:
            directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.file)
        except FileNotFoundError:
            return set()
        try:
            return set(all_listed(directory))
        finally:
            os.close(directory)

    def read(self) -> bool:
        """Return whether there were any left."""
        found = some_listed(self.file, IN_TURN)
        self.seen += found
        assert len(self.seen) < LISTED_MAX, "a listing has no end"
        return bool(found)


class Listed(NamedTuple):
    """An entry as getdents64(2) tells it."""

    ino: int
    name: str
    kind: int


def some_listed(directory: int, size: int) -> list[Listed]:
    buffer = ctypes.create_string_buffer(size)
    try:
        length = checked(libc.getdents64(directory, buffer, size))
    except OSError as error:
        if error.errno != errno.EINVAL or size >= ONE_ENTRY:
            raise
        return some_listed(directory, ONE_ENTRY)  # a long name
    found, at = [], 0
    while at < length:
        ino, _, size, kind = ENTRY.unpack_from(buffer, at)
        name = ctypes.string_at(ctypes.addressof(buffer) + at + ENTRY.size)
        found.append(Listed(ino, os.fsdecode(name), kind))
        at += size
    return found


def all_listed(directory: int) -> list[Listed]:
    found: list[Listed] = []
    while some := some_listed(directory, 32_768):
        found += some
        assert len(found) < LISTED_MAX, "a listing has no end"
    return found


def told(directory: int) -> list[tuple[str, int, bool]]:
    """The names, their types, and whether stat(2) gives the number that is listed, where it may be asked."""
    return sorted(
        (entry.name, entry.kind, has_its_number(directory, entry)) for entry in all_listed(directory)
    )


def has_its_number(directory: int, entry: Listed) -> bool:
    if entry.name == "..":
        return True  # above the root of the history is something else
    try:
        return os.stat(entry.name, dir_fd=directory, follow_symlinks=False).st_ino == entry.ino
    except PermissionError:
        return True


def shown(status: os.stat_result) -> Status:
    is_directory = stat.S_ISDIR(status.st_mode)
    return Status(
        Mode(told_mode(status.st_mode)),
        status.st_nlink,
        status.st_uid,
        status.st_gid,
        0 if is_directory else status.st_size,
        status.st_rdev,
    )


def size_of(file: str | int) -> int | None:
    try:
        return os.stat(file).st_size
    except OSError:
        return None


def as_root(call: Callable[[], None]) -> None:
    user = os.geteuid()
    os.seteuid(0)
    try:
        call()
    finally:
        os.seteuid(user)


def told_mode(mode: int) -> int:
    """Set-group-id where the group may not execute a file means nothing.  Whether a write takes it away
    depends on all groups of the writer, which FUSE does not tell."""
    means_nothing = stat.S_ISREG(mode) and not mode & stat.S_IXGRP
    return mode & ~stat.S_ISGID if means_nothing else mode


def times_set(status: os.stat_result, atime: int, mtime: int) -> tuple[int | None, int | None]:
    """The times that were given, as they are told now; None for one that was not given."""
    return (
        None if atime in (NOW, OMIT) else status.st_atime_ns,
        None if mtime in (NOW, OMIT) else status.st_mtime_ns,
    )
