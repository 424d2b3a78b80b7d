"""The file system as a mount shows it: with the virtual directory `.elmer` at its root.

It answers what is about the virtual directory; all else goes to FileSystem.  Nothing can be made in there,
and what is there cannot be changed, but for the orphans: EPERM, as in /proc.  Nothing of its name can be made
in the root: EEXIST, as of what is there.  What came there all the same, by facts of a peer, shows as
`.elmer/beneath`, and can be moved away or removed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator

from crdt.facts import ROOT, SUPERUSER, Caller, Ino
from crdt.orphans import ORPHANS
from crdt.visible import is_orphan
from translation import origins
from translation.attributes import Attributes
from translation.filesystem import FileSystem, Handle
from translation.intent import posix_error
from translation.origins import Origins, is_hidden
from translation.replica import Replica
from translation.virtual import BENEATH, ELMER, MODES, NAME, Named, VirtualDirectory, is_virtual

STEP = 1 << 16  # offsets of a virtual directory between two of its parts


class Mounted(FileSystem):
    def __init__(self, replica: Replica) -> None:
        super().__init__(replica)
        self.virtual = VirtualDirectory(self.attributes, self.orphans, self.listing)
        self.origins = Origins(self.attributes, self.listing)
        self.lists: dict[int, list[Callable[[], list[Named]]]] = {}  # by handle

    # -- look-ups ----------------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes) -> Attributes:
        if parent == ROOT and name == NAME:
            return self._known(ELMER)
        if is_virtual(parent):
            return self._known(self.virtual.find(Ino(parent), name))
        return super().lookup(parent, name)

    def forget(self, ino: int, count: int) -> None:
        super().forget(ino, count)
        if is_virtual(ino) and ino not in self.known:
            self.virtual.forget(ino)

    # -- attributes --------------------------------------------------------------------------------

    def getattr(self, ino: int, fh: int | None = None) -> Attributes:
        if is_virtual(ino):
            return self.virtual.getattr(Ino(ino))
        found = super().getattr(ino, fh)
        if ino == ROOT:
            beneath = self.virtual.beneath()
            if beneath is not None and beneath.is_directory:
                return found._replace(nlink=found.nlink - 1)  # it is not listed here
        return found

    def setattr(
        self,
        ino: int,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        fh: int | None = None,
        caller: Caller = SUPERUSER,
    ) -> Attributes:
        _check_real(ino)
        return super().setattr(
            ino,
            mode=mode,
            uid=uid,
            gid=gid,
            size=size,
            atime_ns=atime_ns,
            mtime_ns=mtime_ns,
            fh=fh,
            caller=caller,
        )

    def readlink(self, ino: int) -> bytes:
        return self.virtual.readlink(Ino(ino)) if is_virtual(ino) else super().readlink(ino)

    # -- names -------------------------------------------------------------------------------------

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> Attributes:
        _check_new(parent, name)
        return super().mknod(parent, name, mode, rdev, caller)

    def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Attributes:
        _check_new(parent, name)
        return super().mkdir(parent, name, mode, caller)

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Attributes:
        _check_new(parent, name)
        return super().symlink(parent, name, target, caller)

    def create(
        self, parent: int, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[int, Attributes]:
        _check_new(parent, name)
        return super().create(parent, name, mode, flags, caller)

    def link(self, ino: int, parent: int, name: bytes) -> Attributes:
        _check_real(ino)
        _check_new(parent, name)
        self._mark_unnamed(Ino(ino))
        return super().link(ino, parent, name)

    def unlink(self, parent: int, name: bytes) -> None:
        if parent != ORPHANS:
            super().unlink(*_real(parent, name))
            return
        entry = self.orphans.find(name)
        self.orphans.remove(entry)
        self._removed(entry)
        self._follow_choices()

    def rmdir(self, parent: int, name: bytes) -> None:
        super().rmdir(*_real(parent, name))

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes) -> None:
        _check_new(new_parent, new_name)
        if parent != ORPHANS:
            super().rename(*_real(parent, name), new_parent, new_name)
            return
        entry = self.orphans.find(name)
        self._mark_unnamed(entry.ino)
        self.content.flush(entry.ino)
        replaced = self.names.move(self.orphans.find(name), Ino(new_parent), new_name)
        if replaced is not None:
            self._removed(replaced)
        self._follow_choices()

    def _mark_unnamed(self, ino: Ino) -> None:
        """Who names an orphan means all that was written to it, also by who opened it by a name before."""
        owner = self.attributes.target(ino).inode
        for handle in self.handles.values() if is_orphan(self.replica.state, owner) else ():
            if not is_virtual(handle.ino) and self.attributes.target(handle.ino).inode.ino == owner.ino:
                handle.is_unnamed = True

    # -- files -------------------------------------------------------------------------------------

    def open(self, ino: int, flags: int, caller: Caller = SUPERUSER) -> int:
        if not is_virtual(ino):
            return super().open(ino, flags, caller)
        if flags & (os.O_ACCMODE | os.O_TRUNC):
            raise posix_error(errno.EPERM)
        self.virtual.open(Ino(ino))
        return self._handle(Handle(Ino(ino), flags))

    def read(self, fh: int, offset: int, size: int) -> bytes:
        ino = self.handles[fh].ino
        return self.virtual.read(ino, offset, size) if is_virtual(ino) else super().read(fh, offset, size)

    def fsync(self, fh: int) -> None:
        if not is_virtual(self.handles[fh].ino):
            super().fsync(fh)

    def release(self, fh: int) -> None:
        if is_virtual(self.handles[fh].ino):
            del self.handles[fh]
        else:
            super().release(fh)

    # -- directories -------------------------------------------------------------------------------

    def opendir(self, ino: int) -> int:
        if not is_virtual(ino):
            return super().opendir(ino)
        if ino not in MODES:
            raise posix_error(errno.ENOTDIR)
        return self._handle(Handle(Ino(ino), os.O_RDONLY))

    def readdir(self, fh: int, offset: int) -> Iterator[tuple[bytes, Attributes, int]]:
        ino = self.handles[fh].ino
        if is_virtual(ino):
            yield from self._read_virtual(fh, offset)
            return
        for name, attributes, following in super().readdir(fh, offset):
            if ino != ROOT or name != NAME:
                yield name, attributes, following

    def _read_virtual(self, fh: int, offset: int) -> Iterator[tuple[bytes, Attributes, int]]:
        """As it was when it was read from its beginning last: so offsets hold, see readdir(3)."""
        if offset == 0:
            self.lists[fh] = self.virtual.parts(self.handles[fh].ino)
        parts = self.lists[fh]
        first, skip = divmod(offset, STEP)
        for at in range(first, len(parts)):
            for count, (name, ino, mode) in enumerate(parts[at](), 1):
                if at > first or count > skip:
                    yield name, Attributes(ino, mode, 1, 0, 0, 0, 0, 0, 0, 0), at * STEP + count

    def releasedir(self, fh: int) -> None:
        self.lists.pop(fh, None)
        super().releasedir(fh)

    # -- extended attributes -----------------------------------------------------------------------

    def getxattr(self, ino: int, name: bytes) -> bytes:
        if ino in (ROOT, ELMER) and name == origins.REPLICA:
            return self.replica.name.encode()
        if is_virtual(ino):
            raise posix_error(errno.ENODATA, name)
        return self.origins.get(Ino(ino), name) if is_hidden(name) else super().getxattr(ino, name)

    def setxattr(self, ino: int, name: bytes, value: bytes, flags: int = 0) -> None:
        _check_real(ino)
        _check_not_hidden(name)
        super().setxattr(ino, name, value, flags)

    def listxattr(self, ino: int, caller: Caller = SUPERUSER) -> list[bytes]:
        if is_virtual(ino):
            return []
        return [name for name in super().listxattr(ino, caller) if not is_hidden(name)]

    def removexattr(self, ino: int, name: bytes) -> None:
        _check_real(ino)
        _check_not_hidden(name)
        super().removexattr(ino, name)


def _check_real(ino: int) -> None:
    if is_virtual(ino):
        raise posix_error(errno.EPERM)


def _check_not_hidden(name: bytes) -> None:
    if is_hidden(name):
        raise posix_error(errno.EPERM, name)


def _check_new(parent: int, name: bytes) -> None:
    """Raises PermissionError (EPERM), and FileExistsError (EEXIST) for the name of the virtual directory."""
    if is_virtual(parent):
        raise posix_error(errno.EPERM, name)
    if parent == ROOT and name == NAME:
        raise posix_error(errno.EEXIST, name)


def _real(parent: int, name: bytes) -> tuple[int, bytes]:
    """Return where a name stands in the tree.  Raises PermissionError (EPERM) where it does not."""
    if (parent, name) == (ELMER, BENEATH):
        return ROOT, NAME
    if is_virtual(parent) or (parent, name) == (ROOT, NAME):
        raise posix_error(errno.EPERM, name)
    return parent, name
