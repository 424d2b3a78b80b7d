"""The file system as the FUSE adapter calls it: one method a request.

Names are bytes, errors are OSError with the errno of the man page.  Every method is called with the one
lock held.  A file descriptor of the kernel is a handle here; inodes that the kernel knows have a lookup
count.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from crdt.entries import Entry
from crdt.facts import ROOT, SUPERUSER, Birth, Caller, Fact, Ino, Kind, Ref, Version
from crdt.rows import Inode
from crdt.state import HASH_STEP
from crdt.visible import is_orphan
from translation import merge_policy
from translation.attributes import TYPE_BITS, AttributeRequests, Attributes
from translation.branch import BlocksMissing
from translation.content import Content
from translation.content_base import ContentBase
from translation.ends import Ends
from translation.intent import posix_error
from translation.listing import Conflict, Listing
from translation.merge_policy import MergePolicies
from translation.namespace import Namespace
from translation.orphans import Orphans
from translation.records import Record, Records, acknowledge
from translation.replica import Replica

__all__ = ["Attributes", "BlocksMissing", "Caller", "FileSystem"]

DOTS = (b".", b"..")  # what each directory lists first


@dataclass(slots=True)
class Handle:
    ino: Ino
    flags: int
    caller: Caller = SUPERUSER  # who opened it
    is_unnamed: bool = False  # of a file that was found as an orphan

    @property
    def writes(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_RDONLY

    @property
    def reads_and_appends(self) -> bool:
        return self.flags & os.O_ACCMODE == os.O_RDWR and bool(self.flags & os.O_APPEND)


class FileSystem:
    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.base = ContentBase(replica)
        self.content = Content(self.base)
        self.names = Namespace(replica)
        self.attributes = AttributeRequests(replica, self.content)
        self.base.requests = self.attributes
        self.policies = MergePolicies(self.attributes)
        for intents in (self.names, self.attributes):
            intents.held = self._held
            intents.make_version = self.base.shown_to_write
        self.orphans = Orphans(self.names, self.attributes)
        self.base.keeps = self._keeps_unnamed
        self.base.on_version = self._named_again
        self.content.on_uncovered = self._show_uncovered
        replica.held = self._held_heads
        replica.on_merge = self._merged
        self.listing = Listing(replica, self.attributes)
        self.ends = Ends()
        self.handles: dict[int, Handle] = {}
        self.next_handle = 1
        self.known: dict[int, int] = {}  # inode -> lookup count
        replica.store.sync()  # what a killed process wrote may not be on the disk yet, and will be told
        self.recovered = self.content.recover()
        replica.show_newest()

    def _held(self, ino: Ino) -> Ref | None:
        """What programs here were shown of a file that is open: the newest version with that content."""
        shown = self.content.held(ino)
        return None if shown is None else self.base.with_choices(shown.head)

    def _keeps_unnamed(self, owner: Inode, version: Version) -> list[Fact]:
        """What keeps a file an orphan where nobody writes to it who opened it by a name."""
        if not is_orphan(self.replica.state, owner) or self._is_open_by_name(owner):
            return []
        return [self.names.still_unnamed(owner, version)]

    def _named_again(self) -> None:
        """What was written to one name of a branch brings another one back that was removed here while it was
        open: an entry, or what was one."""
        for ino, session in list(self.content.sessions.items()) if self.content.entries else ():
            if session.detached and self._has_name(ino):
                self.content.named_again(ino)

    def _has_name(self, ino: Ino) -> bool:
        inode = self.replica.state.inode(ino)
        if inode is not None:
            return bool(inode.shown)
        target = self.attributes.target(ino)  # of a content conflict entry
        return target.shows and bool(target.inode.shown)

    def _is_open_by_name(self, owner: Inode) -> bool:
        """By its own name, or by that of a file which goes on from its branch while it is open."""
        by_name = {h.ino for h in self.handles.values() if h.writes and not h.is_unnamed}
        held = [self.content.held(ino) for ino in by_name]
        owners = {self.attributes.target(ino).inode.ino for ino in by_name}
        return owner.ino in owners | {shown.owner for shown in held if shown is not None}

    def _held_heads(self) -> frozenset[Ref]:
        sessions = self.content.sessions
        return frozenset([session.base.head for session in sessions.values()]) if sessions else frozenset()

    # -- look-ups ----------------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes) -> Attributes:
        """Raises FileNotFoundError (ENOENT), NotADirectoryError (ENOTDIR)."""
        if name == b".":
            return self._known(Ino(parent))
        if name == b"..":
            return self._known(self._parent_of(Ino(parent)))
        return self._known(self.names.find(Ino(parent), name).ino)

    def _parent_of(self, ino: Ino) -> Ino:
        inode = self.names.directory(ino)
        if ino == ROOT or not inode.shown:
            return ROOT
        return self.replica.view.members(inode.shown[0].parent)[0]

    def _known(self, ino: Ino) -> Attributes:
        attributes = self.getattr(ino)
        self.known[attributes.ino] = self.known.get(attributes.ino, 0) + 1
        return attributes

    def forget(self, ino: int, count: int) -> None:
        left = self.known.get(ino, 0) - count
        if left > 0:
            self.known[ino] = left
        else:
            self.known.pop(ino, None)

    # -- attributes --------------------------------------------------------------------------------

    def getattr(self, ino: int, fh: int | None = None) -> Attributes:
        attributes = self.attributes.getattr(Ino(ino))
        self.ends.told(Ino(ino), attributes.size)
        return attributes

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
        """`fh`: by this descriptor, as who opened it."""
        if size is not None and fh is None:
            self._reached(Ino(ino))
        self.attributes.setattr(
            Ino(ino),
            mode=mode,
            uid=uid,
            gid=gid,
            size=size,
            atime_ns=atime_ns,
            mtime_ns=mtime_ns,
            caller=caller if fh is None else self.handles[fh].caller,
        )
        return self.getattr(ino)

    def readlink(self, ino: int) -> bytes:
        inode = self.attributes.target(Ino(ino)).inode
        if inode.birth.kind != Kind.SYMLINK:
            raise posix_error(errno.EINVAL)
        self.attributes.read(Ino(ino))
        return inode.birth.target

    # -- names -------------------------------------------------------------------------------------

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> Attributes:
        if not stat.S_IFMT(mode):
            mode |= stat.S_IFREG
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
            raise posix_error(errno.EINVAL, name)
        return self._known(self.names.make(Ino(parent), name, mode, caller, rdev=rdev))

    def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Attributes:
        bits = stat.S_IFDIR | mode & 0o7777
        return self._known(self.names.make(Ino(parent), name, bits, caller))

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Attributes:
        bits = stat.S_IFLNK | 0o777
        return self._known(self.names.make(Ino(parent), name, bits, caller, target=target))

    def link(self, ino: int, parent: int, name: bytes) -> Attributes:
        target = self.attributes.target(Ino(ino))
        split = None if target.top is None else self.attributes.entry_of(target)
        self.content.flush(Ino(ino))
        self.names.link(Ino(ino), Ino(parent), name, split)
        return self._known(Ino(ino))

    def unlink(self, parent: int, name: bytes) -> None:
        entry = self.names.find(Ino(parent), name)
        if not entry.is_directory:
            self._flush_before_removal(entry)
        shown_on = self._shown_on(entry)
        entry = self.names.unlink(Ino(parent), name)
        self._removed(entry)
        self._follow_choices()
        self.content.keep(shown_on)

    def rmdir(self, parent: int, name: bytes) -> None:
        self.names.rmdir(Ino(parent), name)

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes) -> None:
        entry = self.names.find(Ino(parent), name)
        if not entry.is_directory:
            self.content.flush(entry.ino)
        goes = self.replica.view.lookup(Ino(new_parent), new_name) if self.content.sessions else None
        shown_on = [] if goes is None else self._shown_on(goes)
        replaced = self.names.rename(Ino(parent), name, Ino(new_parent), new_name)
        if replaced is not None:
            self._removed(replaced)
        self._follow_choices()
        self.content.keep(shown_on)

    def _follow_choices(self) -> None:
        """A choice or a rename made a version of the content that an open file goes on from, or gave its
        branch to another file: go on from that one, which a merge may extend."""
        latest = self.replica.latest_commit
        if latest is None or not any(isinstance(fact, (Birth, Version)) for fact in latest.facts):
            return
        for session in self.content.sessions.values():
            if not session.detached and self.base.shown_at(session.ino, session.base.head) is not None:
                session.refresh(self.base)

    def _flush_before_removal(self, entry: Entry) -> None:
        """What other names keep, or alternatives might bring back, is a version before its name goes."""
        if self.content.is_changed(entry.ino) and self.names.has_other_names(entry):
            self.content.flush(entry.ino)

    def _shown_on(self, entry: Entry) -> list[Ino]:
        """The files that show, as they are open, what goes with this entry.  Who removes it may take it for a
        second copy: it is one as long as they are open, and was not shown what the file holds else."""
        sessions = self.content.sessions
        if not sessions or entry.is_directory or (entry.top is None and self.names.has_other_names(entry)):
            return []
        own = {entry.ino, *(twin.ino for twin in entry.twins)}
        others = [session for session in sessions.values() if session.ino not in own and not session.detached]
        meant = set(self.names.meant_by(entry)) if others else set()
        return [session.ino for session in others if session.base.head in meant]

    def _removed(self, entry: Entry) -> None:
        """What is written from now on to a file that has no name left here stays here.

        A conflict entry may show on: its branch went on by what an open file hid from whoever removed it.
        """
        if entry.is_directory:
            return
        for ino in {entry.ino, *(twin.ino for twin in entry.twins)}:
            if not self._has_name(ino):
                self.content.detach(ino)
        self._show_uncovered()

    # -- files -------------------------------------------------------------------------------------

    def create(
        self, parent: int, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[int, Attributes]:
        """Make a file and open it; one that is there already (the kernel may not know) is opened.

        Raises FileExistsError (EEXIST) where O_EXCL is among the flags.
        """
        entry = None
        try:
            bits = stat.S_IFREG | mode & 0o7777
            exclusive = bool(flags & os.O_EXCL)
            ino = self.names.make(Ino(parent), name, bits, caller, exclusive=exclusive)
        except FileExistsError:
            entry = self.names.find(Ino(parent), name)
            if flags & os.O_EXCL:
                raise
            ino = entry.ino
        fh = self.open(ino, flags, caller)
        try:
            if entry is not None and flags & os.O_TRUNC:
                self.attributes.setattr(ino, size=0, caller=caller)
            return fh, self._known(ino)
        except OSError:
            self.release(fh)
            raise

    def open(self, ino: int, flags: int, caller: Caller = SUPERUSER) -> int:
        """Raises IsADirectoryError (EISDIR), FileNotFoundError (ENOENT)."""
        target = self.attributes.target(Ino(ino))
        if target.inode.is_directory:
            raise posix_error(errno.EISDIR)
        unnamed = self._reached(Ino(ino))
        self.content.open(Ino(ino), flags)
        handle = Handle(Ino(ino), flags, caller, unnamed)
        if handle.reads_and_appends:
            self.ends.open(handle.ino, self.attributes.getattr(handle.ino).size)
        return self._handle(handle)

    def _reached(self, ino: Ino) -> bool:
        """A program comes to a file by a name, or as to an orphan.  Is it one?  Then who had it open when its
        last name went here may still have it, and what both write is a fact."""
        unnamed = is_orphan(self.replica.state, self.attributes.target(ino).inode)
        if unnamed:
            self.content.attach(ino)
        return unnamed

    def _handle(self, handle: Handle) -> int:
        fh = self.next_handle
        self.next_handle += 1
        self.handles[fh] = handle
        return fh

    def read(self, fh: int, offset: int, size: int) -> bytes:
        handle = self.handles[fh]
        data = self.content.read(handle.ino, offset, size)
        if not handle.flags & os.O_NOATIME:
            self.attributes.read(handle.ino)
        return data

    def write(self, fh: int, offset: int, data: bytes) -> int:
        handle = self.handles[fh]
        appends = bool(handle.flags & os.O_APPEND) and not self.ends.is_page(handle.ino, offset)
        written = self.content.write(handle.ino, offset, data, appends)
        self.ends.wrote(handle.ino, offset + written)
        self.attributes.written(handle.ino)
        self.content.sign(handle.ino, handle.caller)
        if self.content.uncovered:
            self._show_uncovered()
        return written

    def flush(self, fh: int) -> None:
        handle = self.handles[fh]
        if handle.writes:
            self.content.flush(handle.ino)

    def fsync(self, fh: int) -> None:
        """Commit what was gathered; the caller makes the store durable after that."""
        self.content.flush(self.handles[fh].ino)

    def release(self, fh: int) -> None:
        handle = self.handles[fh]
        if handle.reads_and_appends:
            self.ends.close(handle.ino)
        try:
            self.content.close(handle.ino, handle.flags)
        finally:
            del self.handles[fh]  # not before: what it wrote is committed as written through it
        self._show_uncovered()

    # -- merges ------------------------------------------------------------------------------------

    def _merged(self) -> None:
        """A merge may have moved on from what open files show, or brought one back that was removed."""
        for ino, session in list(self.content.sessions.items()):
            target = self.attributes.target(ino)
            is_older = target.head is not None and target.head.ref != session.base.head
            # What is open here may lead, and stand for a head beside it, too, until it is closed.
            hides = any(head.before is not None for head in target.inode.heads)
            if session.base.bare and not session.changed:
                self.content.goes_on(ino)
            elif is_older or hides or target.merged is not None:
                self.content.overtaken(ino)
            is_listed = target.inode.shown or is_orphan(self.replica.state, target.inode)
            if session.detached and target.shows and is_listed:
                self.content.attach(ino)
        self._note_uncovered()  # whoever merges takes all changes at once

    def _show_uncovered(self) -> None:
        """Where a session ended that hid what was merged, the file shows that now."""
        if self._note_uncovered() and self.replica.on_commit is not None:
            self.replica.on_commit()  # the kernel is to be told now, not with the next commit

    def _note_uncovered(self) -> bool:
        uncovered = self.content.take_uncovered()
        if uncovered:
            self.replica.show_newest()
        for ino in uncovered:
            self.replica.note_content(ino)
        return bool(uncovered)

    # -- directories -------------------------------------------------------------------------------

    def opendir(self, ino: int) -> int:
        """Raises NotADirectoryError (ENOTDIR).  One that was removed opens, as `.` of who is in it."""
        if not self.names.inode(Ino(ino)).is_directory:
            raise posix_error(errno.ENOTDIR)
        return self._handle(Handle(Ino(ino), os.O_RDONLY))

    def readdir(self, fh: int, offset: int) -> Iterator[tuple[bytes, Attributes, int]]:
        """Yield names after `offset`, each with the offset after it; only inode and type are filled in.

        Raises FileNotFoundError (ENOENT) where the directory was removed.
        """
        ino = self.handles[fh].ino
        self.names.directory(ino)
        if offset == 0:
            self.attributes.read(ino)
        if offset < len(DOTS):
            listed = self.replica.view.members(ino)[0]
            for at, (name, leads_to) in enumerate(zip(DOTS, (listed, self._parent_of(ino)), strict=True), 1):
                if at > offset:
                    yield name, _listed(leads_to, Kind.DIRECTORY), at
        # SUBTLE: the names of hash 0, if ever there are any, come after these two.
        after = offset if offset >= HASH_STEP else max(0, offset - len(DOTS))
        for entry, at in self.replica.view.entries(ino, after):
            following = at if at >= HASH_STEP else at + len(DOTS)
            yield entry.name, _listed(entry.ino, entry.kind), following

    def releasedir(self, fh: int) -> None:
        del self.handles[fh]

    # -- extended attributes -----------------------------------------------------------------------

    def getxattr(self, ino: int, name: bytes) -> bytes:
        if name == merge_policy.XATTR:
            return self.policies.get(Ino(ino))
        return self.attributes.getxattr(Ino(ino), name)

    def setxattr(self, ino: int, name: bytes, value: bytes, flags: int = 0) -> None:
        if name == merge_policy.XATTR:
            self.policies.set(Ino(ino), value, flags)
            return
        self.attributes.setxattr(Ino(ino), name, value, flags)

    def listxattr(self, ino: int, caller: Caller = SUPERUSER) -> list[bytes]:
        names = self.attributes.listxattr(Ino(ino), caller)
        return [*names, merge_policy.XATTR] if self.policies.is_listed(Ino(ino)) else names

    def removexattr(self, ino: int, name: bytes) -> None:
        if name == merge_policy.XATTR:
            self.policies.remove(Ino(ino))
            return
        self.attributes.removexattr(Ino(ino), name)

    # -- the whole ---------------------------------------------------------------------------------

    def digest(self) -> str:
        return self.listing.digest()

    def conflicts(self) -> list[Conflict]:
        return self.listing.conflicts()

    def conflict_count(self) -> int:
        return self.listing.conflict_count()

    def records(self) -> list[Record]:
        return self.listing.records()

    def acknowledge(self, ids: Sequence[str] | None = None) -> None:
        """Take these records of what was overruled, or all, off the list.  Raises LookupError."""
        acknowledge(self.replica, Records(self.replica).acknowledgements(ids))

    # -- time --------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Write out what has been gathered for long; about once a second."""
        self.content.tick()
        self._show_uncovered()

    def close(self) -> None:
        """Make all that was gathered versions; what cannot be one is left as a draft, for the next start.

        Raises the first error.
        """
        try:
            self.content.flush_all()
        except OSError:
            self.content.draft_all()
            raise


def _listed(ino: Ino, kind: int) -> Attributes:
    return Attributes(ino, TYPE_BITS[Kind(kind)], 1, 0, 0, 0, 0, 0, 0, 0)
