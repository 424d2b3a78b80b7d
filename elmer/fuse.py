"""llfuse requests to calls on `translation`, and OSError to FUSEError.  Nothing more.

What a request means is decided in `translation`, so no handler here has an `if` on file system
state.  What is decided here concerns the kernel: what it may cache, and for how long (for ever: it
is told of every change, elmer.invalidate), and which options it is mounted with.

Threads: llfuse calls every handler with its global lock held, and the daemon's other threads take
the same lock (`llfuse.lock`) around each call into `translation`.  That is the only lock; nothing
below this module locks.  It is released in a handler for two things that take long: an fsync, and
the wait for blocks that are not here.  See docs/concurrency.md.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import llfuse

from crdt.facts import Ino
from crdt.rights import CAPABILITY
from elmer.recovery import name_of
from replication.hub import BlocksUnavailableError
from translation.filesystem import Attributes, BlocksMissing, Caller
from translation.mounted import Mounted
from translation.virtual import is_virtual

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

WORKERS = 4
# How many requests may wait for blocks at a time: one worker is left for all the others.
WAITING_MAX = WORKERS - 1
# How long a request stands in line to be one of them, and keeps that last worker.
TURN_S = 2.0
BLOCKS_S = 30.0

FOR_EVER_S = 1e6
OF_ROOT = ("dev", "suid")
# What a person chooses of mount(8), in pairs that contradict each other.
CHOICES = (("dev", "nodev"), ("suid", "nosuid"), ("exec", "noexec"), ("rw", "ro"), ("relatime", "noatime"))
NAME_BYTES_MAX = 255
# What programs take as the size of their buffers: as much as one request carries.
IO_SIZE_BYTES = 128 << 10
# Of these the first argument is a file handle, of all others an inode.
BY_HANDLE = {"read", "write", "flush", "fsync", "release", "readdir", "fsyncdir", "releasedir"}
ACL_PREFIX = b"system.posix_acl_"
CAPABILITY_ANSWERS_MAX = 10_000


class Fetch(Protocol):
    def __call__(self, hashes: Sequence[bytes]) -> Future[Any]:
        """Ask the peers for blocks; the future ends when they are here, or fails."""


class Space(Protocol):
    """The disk of the store (elmer.space)."""

    def take(self, size: int) -> None:
        """So many bytes are to be written.  Raises OSError (ENOSPC)."""

    def make_way(self) -> bool:
        """The disk is full for what must go on.  Return whether it is not any more."""

    def statvfs(self) -> os.statvfs_result: ...


def mount_options(source: str, chosen: Collection[str], *, for_all_users: bool) -> set[str]:
    """Return what the kernel mounts with.  `chosen` are options of mount(8) that a person gave.

    What root mounts is like any other file system that root mounts: devices can be opened, and set-user-id
    works, unless it is chosen otherwise (libfuse has both off).  fusermount lets nobody else have either.
    """
    options = {
        f"fsname={source}",
        "subtype=elmer",
        "default_permissions",
        "big_writes",
        "max_background=64",
    }
    options |= set(chosen) - {"relatime"}  # which is what reading does unless it is chosen otherwise
    if not for_all_users:
        return options
    of_root = {default for default in OF_ROOT if f"no{default}" not in chosen}
    return options | {"allow_other"} | of_root


def request(
    handler: Callable[Concatenate[Operations, P], R],
) -> Callable[Concatenate[Operations, P], R]:
    """Turn a handler's OSError into the errno that the kernel wants.

    Where blocks are missing the handler is called again once they are here: until then it has
    changed nothing.  Any other exception is a bug of ours: logged with its traceback and answered
    with EIO.  Left to llfuse it would end the main loop, and the mount with it.
    """

    @functools.wraps(handler)
    def answered(self: Operations, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            while True:
                try:
                    return handler(self, *args, **kwargs)
                except BlocksMissing as missing:
                    hashes = missing.hashes
                self.wait_for_blocks(hashes, handler.__name__, args)
        except OSError as error:
            if error.errno in (None, errno.EIO):
                log.error("%s: %s", self.subject(handler.__name__, args), error)  # noqa: TRY400  (the disk)
            raise llfuse.FUSEError(error.errno or errno.EIO) from error
        except llfuse.FUSEError:
            raise
        except Exception as error:
            log.exception("%s failed", handler.__name__)
            raise llfuse.FUSEError(errno.EIO) from error

    return answered


def saving(
    handler: Callable[Concatenate[Operations, P], R],
) -> Callable[Concatenate[Operations, P], R]:
    """A request that goes on where the disk is full: by what is kept in reserve for it.

    Whoever the store refused something (ENOSPC) has changed nothing, and is called again.
    """

    @functools.wraps(handler)
    def answered(self: Operations, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return handler(self, *args, **kwargs)
        except OSError as error:
            if error.errno != errno.ENOSPC or not self.make_way():
                raise
        return handler(self, *args, **kwargs)

    return request(answered)


def unless_frozen(
    handler: Callable[Concatenate[Operations, P], R],
) -> Callable[Concatenate[Operations, P], R]:
    """EROFS where this replica must change nothing."""

    @functools.wraps(handler)
    def answered(self: Operations, *args: P.args, **kwargs: P.kwargs) -> R:
        if self.is_frozen:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return handler(self, *args, **kwargs)

    return answered


def change(
    handler: Callable[Concatenate[Operations, P], R],
) -> Callable[Concatenate[Operations, P], R]:
    """A request that changes something."""
    return saving(unless_frozen(handler))


def growth(
    handler: Callable[Concatenate[Operations, P], R],
) -> Callable[Concatenate[Operations, P], R]:
    """A change that makes something: ENOSPC before it is begun where it does not fit."""

    @functools.wraps(handler)
    def answered(self: Operations, *args: P.args, **kwargs: P.kwargs) -> R:
        self.space.take(sum(len(argument) for argument in args if isinstance(argument, bytes)))
        return handler(self, *args, **kwargs)

    return request(unless_frozen(answered))


class Operations(llfuse.Operations):
    """`sync` makes durable what was committed, `fetch` asks the peers for blocks."""

    def __init__(
        self,
        filesystem: Mounted,
        space: Space,
        sync: Callable[[], None],
        fetch: Fetch,
    ) -> None:
        super().__init__()
        self.filesystem = filesystem
        self.space = space
        self.sync = sync
        self.fetch = fetch
        self.waiting = threading.BoundedSemaphore(WAITING_MAX)
        self.without_capability: set[int] = set()  # inodes
        self.is_frozen = False

    def freeze(self) -> None:
        """Refuse all changes from now on (EROFS); what was written before stays."""
        self.is_frozen = True

    def make_way(self) -> bool:
        """Space.make_way, for as many requests as may wait."""
        if not self.waiting.acquire(blocking=False):
            return False
        try:
            return self.space.make_way()
        finally:
            self.waiting.release()

    def subject(self, request: str, arguments: Sequence[object]) -> str:
        """Return what a request is and which file it is about, for the log."""
        number = arguments[0] if arguments and isinstance(arguments[0], int) else 0
        handle = self.filesystem.handles.get(number) if request in BY_HANDLE else None
        ino = Ino(number if handle is None else handle.ino)
        below = os.fsdecode(arguments[1]) if len(arguments) > 1 and isinstance(arguments[1], bytes) else ""
        name = "?"
        with contextlib.suppress(Exception):  # what is damaged may be what has the name
            name = name_of(self.filesystem, ino)
        return f"{request} of {name or '/'}{below and f' at {below!r}'} (inode {ino:#x})"

    def wait_for_blocks(self, hashes: Sequence[bytes], request: str, arguments: Sequence[object]) -> None:
        """Return when these blocks are here.  Raises FUSEError (EIO) where no peer gives them."""
        with llfuse.lock_released:
            if not self.waiting.acquire(timeout=TURN_S):
                raise llfuse.FUSEError(errno.EIO)
            try:
                self.fetch(hashes).result(BLOCKS_S)
            except (BlocksUnavailableError, TimeoutError) as error:
                subject = self.subject(request, arguments)
                log.warning("%s: no peer gives %d blocks that it needs: %s", subject, len(hashes), error)
                raise llfuse.FUSEError(errno.EIO) from error
            finally:
                self.waiting.release()

    @request
    def lookup(self, parent: int, name: bytes, ctx: llfuse.RequestContext) -> llfuse.EntryAttributes:
        try:
            entry = _entry(self.filesystem.lookup(parent, name))
        except FileNotFoundError:
            if is_virtual(parent):
                raise
            return _absent()
        if is_virtual(parent):
            entry.entry_timeout = 0
        return entry

    def forget(self, lookups: Sequence[tuple[int, int]]) -> None:
        # SUBTLE: nobody waits for an answer, so even a FUSEError would end the main loop.
        for ino, count in lookups:
            try:
                self.filesystem.forget(ino, count)
            except Exception:
                log.exception("forget failed")

    @request
    def getattr(self, ino: int, ctx: llfuse.RequestContext) -> llfuse.EntryAttributes:
        return _entry(self.filesystem.getattr(ino))

    @change
    def setattr(
        self,
        ino: int,
        attr: llfuse.EntryAttributes,
        fields: llfuse.SetattrFields,
        fh: int | None,
        ctx: llfuse.RequestContext,
    ) -> llfuse.EntryAttributes:
        changed = self.filesystem.setattr(
            ino,
            mode=attr.st_mode & 0o7777 if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
            fh=fh,
            caller=_caller(ctx),
        )
        return _entry(changed)

    @request
    def readlink(self, ino: int, ctx: llfuse.RequestContext) -> bytes:
        return self.filesystem.readlink(ino)

    @growth
    def mknod(
        self, parent: int, name: bytes, mode: int, rdev: int, ctx: llfuse.RequestContext
    ) -> llfuse.EntryAttributes:
        return _entry(self.filesystem.mknod(parent, name, mode, rdev, _caller(ctx)))

    @growth
    def mkdir(
        self, parent: int, name: bytes, mode: int, ctx: llfuse.RequestContext
    ) -> llfuse.EntryAttributes:
        return _entry(self.filesystem.mkdir(parent, name, mode, _caller(ctx)))

    @growth
    def symlink(
        self, parent: int, name: bytes, target: bytes, ctx: llfuse.RequestContext
    ) -> llfuse.EntryAttributes:
        return _entry(self.filesystem.symlink(parent, name, target, _caller(ctx)))

    @growth
    def link(self, ino: int, parent: int, name: bytes, ctx: llfuse.RequestContext) -> llfuse.EntryAttributes:
        return _entry(self.filesystem.link(ino, parent, name))

    @change
    def unlink(self, parent: int, name: bytes, ctx: llfuse.RequestContext) -> None:
        self.filesystem.unlink(parent, name)

    @change
    def rmdir(self, parent: int, name: bytes, ctx: llfuse.RequestContext) -> None:
        self.filesystem.rmdir(parent, name)

    @change
    def rename(
        self,
        parent: int,
        name: bytes,
        new_parent: int,
        new_name: bytes,
        ctx: llfuse.RequestContext,
    ) -> None:
        self.filesystem.rename(parent, name, new_parent, new_name)

    @growth
    def create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: llfuse.RequestContext
    ) -> tuple[int, llfuse.EntryAttributes]:
        # SUBTLE: without O_EXCL this comes for names that exist too, where the kernel has them as
        # absent in its cache; it is then an open, and O_TRUNC is in the flags.
        fh, attributes = self.filesystem.create(parent, name, mode, flags, _caller(ctx))
        return fh, _entry(attributes)

    @request
    def open(self, ino: int, flags: int, ctx: llfuse.RequestContext) -> int:
        return self.filesystem.open(ino, flags, _caller(ctx))

    @request
    def read(self, fh: int, offset: int, size: int) -> bytes:
        return self.filesystem.read(fh, offset, size)

    @growth
    def write(self, fh: int, offset: int, data: bytes) -> int:
        return self.filesystem.write(fh, offset, data)

    @saving
    def flush(self, fh: int) -> None:
        self.filesystem.flush(fh)

    @saving
    def fsync(self, fh: int, datasync: bool) -> None:  # noqa: FBT001  (llfuse passes it by position)
        self.filesystem.fsync(fh)
        with llfuse.lock_released:
            self.sync()

    @request
    def release(self, fh: int) -> None:
        self.filesystem.release(fh)

    @request
    def opendir(self, ino: int, ctx: llfuse.RequestContext) -> int:
        return self.filesystem.opendir(ino)

    def readdir(self, fh: int, offset: int) -> Iterator[tuple[bytes, llfuse.EntryAttributes, int]]:
        entries = self._entries_from(fh, offset)
        while (entry := self._next_entry(entries)) is not None:
            yield entry

    @request
    def releasedir(self, fh: int) -> None:
        self.filesystem.releasedir(fh)

    @saving
    def fsyncdir(self, fh: int, datasync: bool) -> None:  # noqa: FBT001  (as fsync)
        with llfuse.lock_released:
            self.sync()

    @request
    def statfs(self, ctx: llfuse.RequestContext) -> llfuse.StatvfsData:
        return _statfs(self.space.statvfs())

    @request
    def getxattr(
        self,
        ino: int,
        name: bytes,
        ctx: llfuse.RequestContext | None = None,  # setxattr of llfuse calls this without
    ) -> bytes:
        if name == CAPABILITY:
            return self._capability(ino)
        _refuse_acl(name)
        return self.filesystem.getxattr(ino, name)

    @growth
    def setxattr(self, ino: int, name: bytes, value: bytes, ctx: llfuse.RequestContext | None = None) -> None:
        _refuse_acl(name)
        self.without_capability.discard(ino)
        self.filesystem.setxattr(ino, name, value)

    @request
    def listxattr(self, ino: int, ctx: llfuse.RequestContext) -> list[bytes]:
        return self.filesystem.listxattr(ino, _caller(ctx))

    @change
    def removexattr(self, ino: int, name: bytes, ctx: llfuse.RequestContext) -> None:
        _refuse_acl(name)
        self.filesystem.removexattr(ino, name)

    def stacktrace(self) -> None:
        """Not for whoever may write an attribute of the root."""

    @request
    def _entries_from(self, fh: int, offset: int) -> Iterator[tuple[bytes, Attributes, int]]:
        return self.filesystem.readdir(fh, offset)

    @request
    def _next_entry(
        self, entries: Iterator[tuple[bytes, Attributes, int]]
    ) -> tuple[bytes, llfuse.EntryAttributes, int] | None:
        found = next(entries, None)
        if found is None:
            return None
        name, attributes, next_offset = found
        entry = llfuse.EntryAttributes()
        entry.st_ino, entry.st_mode = attributes.ino, attributes.mode
        return name, entry, next_offset

    def _capability(self, ino: int) -> bytes:
        """Answer what the kernel asks before every write(2): seldom is there one."""
        if ino in self.without_capability:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        try:
            return self.filesystem.getxattr(ino, CAPABILITY)
        except OSError as error:
            if error.errno == errno.ENODATA:
                if len(self.without_capability) >= CAPABILITY_ANSWERS_MAX:
                    self.without_capability.clear()
                self.without_capability.add(ino)
            raise


def _caller(ctx: llfuse.RequestContext) -> Caller:
    return Caller(ctx.uid, ctx.gid)


def _entry(attributes: Attributes) -> llfuse.EntryAttributes:
    entry = llfuse.EntryAttributes()
    entry.st_ino = attributes.ino
    entry.st_mode = attributes.mode
    entry.st_nlink = attributes.nlink
    entry.st_uid = attributes.uid
    entry.st_gid = attributes.gid
    entry.st_rdev = attributes.rdev
    entry.st_size = attributes.size
    filled = attributes.size if attributes.filled is None else attributes.filled
    entry.st_blocks = (filled + 511) // 512
    entry.st_blksize = IO_SIZE_BYTES
    entry.st_atime_ns = attributes.atime_ns
    entry.st_mtime_ns = attributes.mtime_ns
    entry.st_ctime_ns = attributes.ctime_ns
    entry.entry_timeout = FOR_EVER_S
    # What is virtual changes without being told.
    entry.attr_timeout = 0 if is_virtual(attributes.ino) else FOR_EVER_S
    return entry


def _absent() -> llfuse.EntryAttributes:
    """Return what the kernel keeps as "there is no such name" (fuse_lowlevel.h: ino 0)."""
    entry = llfuse.EntryAttributes()
    entry.st_ino = 0
    entry.entry_timeout = FOR_EVER_S
    return entry


def _statfs(disk: os.statvfs_result) -> llfuse.StatvfsData:
    data = llfuse.StatvfsData()
    data.f_bsize, data.f_frsize = disk.f_bsize, disk.f_frsize
    data.f_blocks, data.f_bfree, data.f_bavail = disk.f_blocks, disk.f_bfree, disk.f_bavail
    data.f_files, data.f_ffree, data.f_favail = disk.f_files, disk.f_ffree, disk.f_favail
    data.f_namemax = NAME_BYTES_MAX
    return data


def _refuse_acl(name: bytes) -> None:
    """Access control lists could be stored, but protocol 7.19 would not enforce them."""
    if name.startswith(ACL_PREFIX):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
