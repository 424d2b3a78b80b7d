"""Attributes: what stat(2) tells, and the requests that change it; extended attributes."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, cast

from crdt.causality import Context, join
from crdt.codec import unpack
from crdt.encoding import TIME_MAX, TIME_MIN
from crdt.entries import Entry, branch_ino
from crdt.facts import SUPERUSER, Caller, Fact, Field, Ino, Kind, Ref, Register, Removal, Xattr
from crdt.merging import Merged
from crdt.orphans import orphan_entries
from crdt.rights import CAPABILITY, shows_capability
from crdt.rows import Head, Inode, Row, Stamped, context_with, privileges, stamped_list
from crdt.showing import showing
from crdt.state import prefix_end, xattr_key
from crdt.versions import is_on_branch, kin, own_heads, owner
from crdt.view import shown_xattr
from crdt.visible import is_orphan
from translation.content import Content
from translation.holes import Holes
from translation.intent import owners_seen, posix_error
from translation.replica import Moment, Replica
from translation.twins import Twins

TYPE_BITS = {
    Kind.REGULAR: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHARACTER: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
}

OF_OWNER = 0o7700  # the bits of a mode that give nothing to others
XATTR_NAME_MAX = 255
XATTR_SIZE_MAX = 65_536
XATTR_LIST_MAX = 65_536
XATTR_KINDS = (b"user.", b"trusted.", b"security.")
OF_ROOT = b"trusted."  # nobody else may see these, see xattr(7)
PARTING = {Field.MODE, Field.UID, Field.GID}  # what twins have in common
ATIMES_MAX = 65_536  # access times are local, and remembered for so many inodes
DAY_NS = 86_400_000_000_000


class Attributes(NamedTuple):
    ino: int
    mode: int  # with the bits of the type
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int  # bytes
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    filled: int | None = None  # bytes that are no holes, of a regular file


class Access(NamedTuple):
    """When something was read last, or what a program set instead (`set_ns`: when it did, 0 for never)."""

    atime_ns: int
    set_ns: int = 0
    until: tuple[object, ...] = ()  # as long as this is so there is nothing new to read


class Target(NamedTuple):
    """What an inode number stands for: an inode, or one branch of it (a content conflict entry)."""

    inode: Inode
    head: Head | None  # of a regular file
    top: Ref | None  # of a branch: its first version
    merged: Merged | None = None  # what shows, where that is more than the head
    shows: bool = True  # False: of a branch that was settled; who has it open still reads it


class AttributeRequests(Twins):
    def __init__(self, replica: Replica, content: Content) -> None:
        super().__init__(replica)
        self.content = content
        self.holes = Holes(self.state, content)
        self.accesses: dict[Ino, Access] = {}
        self.notes_reading = True  # False: mounted with noatime

    def target(self, ino: Ino) -> Target:
        """Raises FileNotFoundError (ENOENT) where there is no such inode."""
        inode = self.state.inode(ino)
        if inode is None:
            return self._target_of_branch(ino)
        if not inode.is_regular or not inode.heads:
            return Target(inode, None, None)
        shown = showing(self.state, inode)
        if isinstance(shown, Merged):
            return Target(inode, shown.heads[0], None, shown)
        return Target(inode, shown, None)

    def _target_of_branch(self, ino: Ino) -> Target:
        row = self.state.get(b"E" + ino.to_bytes(8, "big"))
        if row is None:
            raise posix_error(errno.ENOENT)
        top = Ref(*cast(tuple[Ino, int], unpack(row)))  # type: ignore[arg-type]
        holders = self._holders(top)
        for inode in holders:
            for head, first in self.content_branches(inode):
                if first == top:
                    return Target(inode, head, top)
        for inode in holders:
            for head in own_heads(inode):
                if is_on_branch(self.state, top, head.ref):
                    return Target(inode, head, top, shows=False)
        raise posix_error(errno.ENOENT)

    def _holders(self, top: Ref) -> list[Inode]:
        """The inodes that may hold the branch which begins with this version: whoever claims it first."""
        written_to = self.state.inode(top.ino)
        inos = {owner(self.state, top): None, top.ino: None}
        if written_to is not None:
            inos |= dict.fromkeys(kin(self.state, written_to))
        found = [self.state.inode(ino) for ino in inos]
        return [inode for inode in found if inode is not None]

    def entry_of(self, target: Target) -> Entry:
        assert target.top is not None
        return self.entry_of_branch(target.inode, target.top)

    def split_of(self, target: Target) -> list[Fact]:
        entry = self.entry_of(target)
        return self.split(entry, self.to_settle(entry))

    # -- stat --------------------------------------------------------------------------------------

    def getattr(self, ino: Ino) -> Attributes:
        """Raises FileNotFoundError (ENOENT)."""
        target = self.target(ino)
        inode = target.inode
        if inode.is_directory:
            return self._directory_attributes(inode)
        birth = inode.births[0].fact
        filled = None
        if target.head is not None:
            size, mtime_ns = self._size_and_mtime(ino, target, target.head)
            if target.merged is None:
                filled = self.holes.filled(ino, inode.ino, target.head.here, size)
        else:
            size, mtime_ns = len(birth.target), inode.births[0].wall_ns
            by_hand = inode.last_set(Field.MTIME)
            if by_hand is not None:
                mtime_ns = by_hand.fact.value
        access = self._access(ino, inode)
        nlink = self.view.link_count(inode) if target.top is None else int(target.shows)
        bits = self.view.mode(inode, target.head.ref if target.top and target.head else None)
        if self.content.is_unseen(ino):
            bits &= ~privileges(bits)
        if is_orphan(self.state, inode):  # its name is in `.elmer`, outside of all that protected it
            nlink, bits = 1, bits & OF_OWNER
        return Attributes(
            ino,
            TYPE_BITS[Kind(birth.kind)] | bits,
            nlink,
            inode.uid,
            inode.gid,
            birth.rdev,
            size,
            access.atime_ns,
            mtime_ns,
            max(self._changed_ns(inode), access.set_ns, mtime_ns if self.content.is_changed(ino) else 0),
            filled,
        )

    def _access(self, ino: Ino, inode: Inode) -> Access:
        return self.accesses.get(ino) or Access(inode.births[0].wall_ns)

    def _changed_ns(self, inode: Inode) -> int:
        """When one of the facts about an inode was made last."""
        newest = inode.changed_ns
        for _, row in self._xattr_rows(inode.ino) if inode.xattr_count else ():
            newest = max(newest, *(value.wall_ns for value in stamped_list(cast(Row, unpack(row)))))
        return newest

    def _size_and_mtime(self, ino: Ino, target: Target, head: Head) -> tuple[int, int]:
        """Of what programs here see: what is gathered, else what the session or the view shows."""
        gathered = self.content.attributes(ino)
        by_hand = target.inode.last_set(Field.MTIME)
        if gathered is not None:
            size, mtime_ns = gathered
            if self.content.is_changed(ino):
                return size, mtime_ns
        elif target.merged is not None:
            size, mtime_ns = target.merged.size, target.merged.mtime_ns
            head = target.merged.newest
        else:
            size, mtime_ns = head.here.size, head.here.mtime_ns
            head = head.here
        if by_hand is not None and by_hand.stamp >= head.stamp:
            mtime_ns = by_hand.fact.value
        return size, mtime_ns

    def _directory_attributes(self, inode: Inode) -> Attributes:
        members = self.view.members(inode.ino)
        rows = [self.inode(member) for member in members]
        bits = 0o7777
        for row in rows:
            bits &= row.mode
        lead = rows[0]
        mtime_ns = max(self._directory_mtime(row) for row in rows)
        access = self._access(lead.ino, lead)
        return Attributes(
            lead.ino if inode.shown else inode.ino,
            stat.S_IFDIR | bits,
            self._directory_nlink(inode, len(rows)),
            lead.uid,
            lead.gid,
            0,
            4096,
            access.atime_ns,
            mtime_ns,
            max(
                access.set_ns,
                *(max(self._changed_ns(row), self.state.counts(row.ino).changed_ns) for row in rows),
            ),
        )

    def _directory_nlink(self, inode: Inode, member_count: int) -> int:
        """2 and one for each directory inside; 1 for a union, as for a directory whose links nobody
        counts (find(1) knows); 0 for one that was removed."""
        if inode.ino != 1 and not inode.shown:
            return 0
        if member_count > 1:
            return 1
        count = self.state.counts(inode.ino).directories
        if self.view.shared_names:
            count -= self._merged_directories(inode.ino)
        return 2 + count

    def _merged_directories(self, directory: Ino) -> int:
        """How many directories inside show as part of another."""
        merged = 0
        prefix = b"Q" + directory.to_bytes(8, "big")
        for key, value in self.state.scan(prefix, prefix_end(prefix)):
            if value != b"u":
                continue
            names = self.state.names(directory, int.from_bytes(key[9:], "big"))
            for items in names.values():
                inside = [item.ino for item in items if item.kind == Kind.DIRECTORY]
                if len(inside) > 1:
                    merged += len(inside) - len(self.view.unions(inside))
        return merged

    def _directory_mtime(self, inode: Inode) -> int:
        """When its newest change of an entry was made, or what was set by hand since."""
        counts = self.state.counts(inode.ino)
        by_hand = inode.last_set(Field.MTIME)
        if by_hand is not None and by_hand.hlc >= counts.changed_hlc:
            return by_hand.fact.value
        return max(counts.changed_ns, inode.births[0].wall_ns)

    # -- changes -----------------------------------------------------------------------------------

    def setattr(
        self,
        ino: Ino,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        caller: Caller = SUPERUSER,
    ) -> None:
        """Change attributes, see chmod(2), chown(2), truncate(2), utimensat(2).

        Permission was checked by the kernel.  Raises FileNotFoundError (ENOENT), and what `truncate` of
        the content raises.
        """
        target = self.target(ino)
        if size is not None:
            self._truncate(ino, target, size, caller)
        if atime_ns is not None:
            self._note_access(ino, Access(_storable(atime_ns), self.replica.wall_ns()))
        fields: dict[Field, int] = {}
        if mode is not None:
            fields[Field.MODE] = mode & 0o7777
        if uid is not None:
            fields[Field.UID] = uid
        if gid is not None:
            fields[Field.GID] = gid
        if mtime_ns is not None:
            fields[Field.MTIME] = _storable(mtime_ns)
        if fields:
            self.content.flush(ino)
            if Field.MTIME in fields:
                self.content.date(ino, fields[Field.MTIME])
            self.set_registers(ino, fields)

    def read(self, ino: Ino) -> None:
        """Note that somebody reads this: by the rules of `relatime`, or not at all, see mount(8)."""
        if not self.notes_reading:
            return
        known, now_ns = self.accesses.get(ino), self.replica.wall_ns()
        until = (self.replica.latest_hlc, self.content.attributes(ino))
        if known is not None and known.until == until and now_ns - known.atime_ns < DAY_NS:
            return
        shown, atime_ns = self.getattr(ino), now_ns
        if shown.atime_ns > max(shown.mtime_ns, shown.ctime_ns, now_ns - DAY_NS):
            atime_ns = shown.atime_ns
        self._note_access(Ino(shown.ino), Access(atime_ns, 0 if known is None else known.set_ns, until))

    def _note_access(self, ino: Ino, access: Access) -> None:
        if len(self.accesses) >= ATIMES_MAX:
            self.accesses.clear()
        self.accesses[ino] = access

    def _truncate(self, ino: Ino, target: Target, size: int, caller: Caller) -> None:
        if target.inode.is_directory:
            raise posix_error(errno.EISDIR)
        was_changed = self.content.is_changed(ino)
        self.content.truncate(ino, size)
        self.content.sign(ino, caller)
        if not self.content.is_open(ino):
            try:
                self.content.flush(ino)  # truncate(2): no close will come
            except OSError:
                if not was_changed:
                    self.content.discard(ino)  # what failed must not happen later
                raise
        self._clear_privileges(ino)

    def set_registers(self, ino: Ino, fields: dict[Field, int]) -> None:
        """Set registers of an inode, of all members of a union; a conflict entry gets its own."""
        target = self.target(ino)
        if fields.keys() & PARTING and target.merged is not None and self.view.twins(ino) != {ino}:
            self.make_one(target.inode)  # to settle what hides under that
            target = self.target(ino)
        moment = self.replica.begin()
        facts: list[Fact] = []
        meant: list[Entry] = []
        seen: list[Ref] | None = None
        if target.top is not None:  # it gets attributes of its own
            facts = [f for f in self.split_of(target) if not (isinstance(f, Register) and f.field in fields)]
            rows = [Inode(ino, [])]
            seen = [self.seen_of(self.entry_of(target))]
        elif target.inode.is_directory:
            rows = [self.inode(member) for member in self.view.members(ino)]
        else:
            rows = [target.inode]
            if fields.keys() & PARTING:
                more, meant = self._part(moment, target.inode, fields)
                facts += more
                rows += self._twins_left(target.inode, facts)
            if Field.POLICY in fields:
                meant = [*meant, *self._beside(target.inode)]
        for row in rows:
            facts += [self.set(row, field, value, seen) for field, value in fields.items()]
        self.commit(moment, facts, *meant)

    def _beside(self, inode: Inode) -> list[Entry]:
        """The further branches of a file, as they are listed: by another merge policy they may be none."""
        if not inode.shown:
            return [*orphan_entries(self.state, inode)[1:]] if is_orphan(self.state, inode) else []
        return [self.entry_of_branch(inode, top) for _, top in self.content_branches(inode)]

    def _part(
        self, moment: Moment, inode: Inode, fields: Collection[Field]
    ) -> tuple[list[Fact], list[Entry]]:
        """Twins have one mode and owner: what gets another is no twin any more."""
        parting = self.part(inode)
        facts = list(parting.facts)
        if Field.MODE in fields:
            facts = [f for f in facts if not (isinstance(f, Register) and f.ino == inode.ino)]
        if parting.settled:
            seen, *hidden = self.shown_of(inode)
            facts.append(self.version(moment, inode.ino, seen, [*hidden, *parting.settled]))
        return facts, list(parting.meant)

    def _twins_left(self, inode: Inode, facts: Sequence[Fact]) -> list[Inode]:
        """The twins that still show after the facts that remove them, since not all that they hold was shown
        here: while they are twins, they have the same mode and owner."""
        removed = {fact.link for fact in facts if isinstance(fact, Removal)}
        found: list[Inode] = []
        for twin in sorted(self.view.twins(inode.ino) - {inode.ino}):
            row = self.inode(twin)
            seen = self.seen_heads(row)
            is_unseen = any(head.ref not in seen for head in row.heads)
            if is_unseen and all(place.link in removed for place in row.shown):
                found.append(row)
        return found

    def _clear_privileges(self, ino: Ino) -> None:
        """Writing takes set-user-id away, and set-group-id of what is executable by the group.

        From what shows: of twins that is less than what was set on this one.
        """
        inode = self.state.inode(ino)
        if inode is None or not privileges(inode.mode) or inode.is_directory:
            return
        mode = self.view.mode(inode)
        mode &= ~privileges(mode)
        if mode != inode.mode:
            self.set_registers(ino, {Field.MODE: mode})

    def written(self, ino: Ino) -> None:
        """Something was written to this file."""
        self._clear_privileges(ino)

    # -- extended attributes -----------------------------------------------------------------------

    def _xattr_rows(self, ino: Ino) -> Iterable[tuple[bytes, bytes]]:
        prefix = xattr_key(ino, b"")
        return self.state.scan(prefix, prefix_end(prefix))

    def _xattr_values(self, ino: Ino, name: bytes) -> list[Stamped[Xattr]]:
        data = self.state.get(xattr_key(ino, name))
        return [] if data is None else stamped_list(cast(Row, unpack(data)))

    def getxattr(self, ino: Ino, name: bytes) -> bytes:
        """Raises OSError (ENODATA), see getxattr(2)."""
        target = self.target(ino)
        if target.inode.xattr_count:
            value = self._shown_xattr(target, name)
            if value is not None:
                return value
        raise posix_error(_lacking(name), name)

    def _shown_xattr(self, target: Target, name: bytes) -> bytes | None:
        inode, values = target.inode, self._xattr_values(target.inode.ino, name)
        value = shown_xattr(values)
        if name == CAPABILITY and target.head is not None and value is not None:
            if self.content.is_unseen(branch_ino(target.top) if target.top else inode.ino):
                return None
            heads = [target.head.ref] if target.merged is None else target.merged.refs
            return value if shows_capability(self.state, inode, values, heads) else None
        return value

    def setxattr(self, ino: Ino, name: bytes, value: bytes, flags: int = 0) -> None:
        """Raises OSError (EEXIST, ENODATA by the flags; ERANGE, E2BIG, EINVAL; EOPNOTSUPP), see setxattr(2).

        POSIX ACLs cannot be enforced under this FUSE protocol: refused, rather than accepted and not kept.
        """
        if len(name) > XATTR_NAME_MAX:
            raise posix_error(errno.ERANGE, name)
        if len(value) > XATTR_SIZE_MAX:
            raise posix_error(errno.E2BIG, name)
        if not name.startswith(XATTR_KINDS):
            raise posix_error(errno.EOPNOTSUPP, name)
        if name in XATTR_KINDS:
            raise posix_error(errno.EINVAL, name)
        there = self._has_xattr(ino, name)
        if flags & os.XATTR_CREATE and there:
            raise posix_error(errno.EEXIST, name)
        if flags & os.XATTR_REPLACE and not there:
            raise posix_error(errno.ENODATA, name)
        self._put_xattr(ino, name, value)

    def removexattr(self, ino: Ino, name: bytes) -> None:
        """Raises OSError (ENODATA, EINVAL, EOPNOTSUPP)."""
        if not self._has_xattr(ino, name):
            raise posix_error(_lacking(name), name)
        self._put_xattr(ino, name, None)

    def _has_xattr(self, ino: Ino, name: bytes) -> bool:
        return self._shown_xattr(self.target(ino), name) is not None

    def _put_xattr(self, ino: Ino, name: bytes, value: bytes | None) -> None:
        if name == CAPABILITY:
            self.content.flush(ino)  # it shows only with what it was set on
        target = self.target(ino)
        facts: list[Fact] = []
        if target.top is not None:
            facts = [f for f in self.split_of(target) if not (isinstance(f, Xattr) and f.name == name)]
            inos: tuple[Ino, ...] = (ino,)
        elif target.inode.is_directory:
            inos = self.view.members(ino)
        else:
            inos = (target.inode.ino,)
        for each in inos:
            context = self._seen_by_capability(target) if name == CAPABILITY else ()
            for old in self._xattr_values(each, name):
                context = context_with(context, old.dot)
                for dot in old.fact.context:
                    context = context_with(context, dot)
            facts.append(Xattr(each, name, value, context))
        self.commit(self.replica.begin(), facts)

    def _seen_by_capability(self, target: Target) -> Context:
        """It has seen owner and content, and shows with no other."""
        seen = None if target.top is None else [self.seen_of(self.entry_of(target))]
        return join((owners_seen(target.inode), self.contents_seen(target.inode, seen)))

    def listxattr(self, ino: Ino, caller: Caller = SUPERUSER) -> list[bytes]:
        """Raises OSError (E2BIG) where the names together exceed what the system call can return."""
        target = self.target(ino)
        if not target.inode.xattr_count:
            return []
        keys = [key for key, _ in self._xattr_rows(target.inode.ino)]
        names = [key[9:] for key in keys if self._shown_xattr(target, key[9:]) is not None]
        if caller.uid != SUPERUSER.uid:
            names = [name for name in names if not name.startswith(OF_ROOT)]
        if sum(len(name) + 1 for name in names) > XATTR_LIST_MAX:
            raise posix_error(errno.E2BIG)
        return names


def _lacking(name: bytes) -> int:
    """Return why there is no such extended attribute."""
    if not name.startswith(XATTR_KINDS):
        return errno.EOPNOTSUPP
    return errno.EINVAL if name in XATTR_KINDS else errno.ENODATA


def _storable(time_ns: int) -> int:
    """Return the time that is nearest to this one among those that are kept: from 1677 to 2262.

    So do all file systems of Linux with times that are beyond theirs.
    """
    return min(max(time_ns, TIME_MIN), TIME_MAX)
