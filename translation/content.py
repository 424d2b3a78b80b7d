"""The contents of regular files: open, read, write, truncate; when written data is a version.

Written data is gathered per inode, all descriptors here see it at once, and it becomes a version
with the next flush.  On the way there it is written out as a *draft* every DRAFT_BYTES or DRAFT_NS:
durable, in nobody's view but ours.  A file that stays open becomes a version after VERSION_NS (a
log has to get out), the drafts of the last run at the next start.

A *session* lasts while a descriptor here is open for writing, other than for appending, or while
data is gathered: the file shows its own branch, from the head that was shown first on, and what is
written extends that.  So a peer's version that comes meanwhile is not overwritten: it becomes a
conflict (design section 5, Sessions).  Without a session a file shows what the replica shows.

A file that was unlinked here while open is *detached*: its data becomes no version, lies under rows
of its own when it is too big for memory, and goes with the last close.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

from crdt.blocks import INLINE_MAX
from crdt.facts import DERIVED, Caller, Ino, Ref
from translation.branch import Base, BlocksMissing, Shown, VersionFields, read_branch
from translation.draft import Draft, drafts, head_key, head_row, nameless_key, part_key, part_row, rows_of
from translation.gathered import NOTHING, SLICE_BYTES, Gathered, Slice

__all__ = ["Base", "BlocksMissing", "Content", "Recovered", "Shown", "VersionFields"]

DRAFT_BYTES = 64 << 20  # of one file, in memory
MEMORY_BYTES = 128 << 20  # of all files
DRAFT_NS = 5_000_000_000
VERSION_NS = 30_000_000_000
_SWEEP_ROWS = 1000  # deleted in one batch


def _writes(flags: int) -> bool:
    return flags & os.O_ACCMODE != os.O_RDONLY


def _holds(flags: int) -> bool:
    """Does a descriptor of this kind keep the file on its own branch?"""
    return _writes(flags) and not flags & os.O_APPEND


class Recovered(NamedTuple):
    """What a start made of what the last run had written out and not finished."""

    made: tuple[Ino, ...] = ()  # the draft is a version now
    waiting: tuple[Ino, ...] = ()  # the draft shows, and does not fit onto the disk as a version yet
    lost: tuple[Ino, ...] = ()  # the draft extends a branch that is gone, and stays
    freed: int = 0  # of files that had no name any more


class _Open:
    """The descriptors of one inode."""

    __slots__ = ("count", "holding")

    def __init__(self) -> None:
        self.count = 0
        self.holding = 0  # those that hold a session


class Content:
    def __init__(self, base: Base) -> None:
        self.base = base
        self.opens: dict[Ino, _Open] = {}
        self.sessions: dict[Ino, Gathered] = {}
        self.weight = 0  # bytes in memory, of all sessions
        self.uncovered: set[Ino] = set()
        self.on_uncovered: Callable[[], None] = lambda: None
        self.entries: set[Ino] = set()  # those in `sessions` that are, or were, conflict entries

    # Descriptors.

    def open(self, ino: Ino, flags: int) -> None:
        if _holds(flags):
            self._session(ino)
        opened = self.opens.get(ino)
        if opened is None:
            opened = self.opens[ino] = _Open()
        opened.count += 1
        opened.holding += _holds(flags)

    def close(self, ino: Ino, flags: int) -> None:
        """The descriptor is gone whatever is raised; `tick` tries again what did not commit."""
        opened = self.opens[ino]
        opened.count -= 1
        opened.holding -= _holds(flags)
        if not opened.count:
            del self.opens[ino]
        session = self.sessions.get(ino)
        if session is None:
            return
        if session.detached and not opened.count:
            self._drop(session)
        elif _writes(flags) and session.changed:
            self.flush(ino)
        else:
            self._end_if_idle(session)

    def is_open(self, ino: Ino) -> bool:
        return ino in self.opens

    def held(self, ino: Ino) -> Shown | None:
        """Return the branch that a session shows to the programs here, None where there is none."""
        session = self.sessions.get(ino)
        return None if session is None else session.base

    def is_changed(self, ino: Ino) -> bool:
        """Was something written that is not yet a version?"""
        session = self.sessions.get(ino)
        return session is not None and session.changed

    def is_unseen(self, ino: Ino) -> bool:
        """Is what shows to become a version?  Then nobody who set an attribute has seen it."""
        session = self.sessions.get(ino)
        return session is not None and self._is_kept(session)

    # Requests.

    def attributes(self, ino: Ino) -> tuple[int, int] | None:
        """Return size and mtime in a session, None where there is none.

        Where nothing is gathered (`is_changed`), the mtime is that of the head of the session.
        """
        session = self.sessions.get(ino)
        return None if session is None else (session.size, session.mtime_ns)

    def read(self, ino: Ino, offset: int, size: int) -> bytes:
        """Return up to `size` bytes, fewer at the end of the file.  Raises BlocksMissing."""
        session = self.sessions.get(ino)
        if session is None:
            return read_branch(self.base, self.base.shown(ino), offset, size)
        return session.read(self.base, offset, size)

    def write(self, ino: Ino, offset: int, data: bytes, append: bool) -> int:  # noqa: FBT001 - O_APPEND
        """Gather `data` and return its length; `append` puts it at the end, whatever the offset.

        Raises BlocksMissing where part of a block is overwritten that is not here, and OSError
        (EFBIG) beyond what a file can be.  Nothing is changed then.
        """
        if not data:
            return 0
        session = self._session(ino)
        self._change(
            session,
            lambda: session.write(self.base, session.size if append else offset, data, self.base.now_ns()),
        )
        return len(data)

    def truncate(self, ino: Ino, size: int) -> None:
        """Raises BlocksMissing where the cut goes through a block that is not here."""
        session = self._session(ino)
        self._change(session, lambda: session.truncate(self.base, size, self.base.now_ns()))

    def date(self, ino: Ino, mtime_ns: int) -> None:
        """What was written to a file without a name, which becomes no version, has this time."""
        session = self.sessions.get(ino)
        if session is not None and session.detached:
            session.mtime_ns = mtime_ns

    def sign(self, ino: Ino, writer: Caller) -> None:
        """Note who has just written to this file."""
        session = self.sessions.get(ino)
        if session is not None and session.changed:
            session.sign(self.base, writer)

    def _change(self, session: Gathered, change: Callable[[], None]) -> None:
        """Make room, so that an error of the disk comes before any change; then change."""
        if not session.changed:
            self._take_turn(session)
        if session.weight >= DRAFT_BYTES:
            self._free_memory(session)
        while self.weight >= MEMORY_BYTES:
            self._free_memory(max(self.sessions.values(), key=lambda other: other.weight))
        before = session.weight
        try:
            change()
        finally:
            self.weight += session.weight - before
            self._end_if_idle(session)

    def _session(self, ino: Ino) -> Gathered:
        session = self.sessions.get(ino)
        if session is None:
            session = self.sessions[ino] = Gathered(ino, self.base.shown_to_write(ino))
            if ino & DERIVED:
                self.entries.add(ino)
        return session

    def _take_turn(self, session: Gathered) -> None:
        """Of two names of one branch one is written to at a time: what was written through the other
        becomes a version first, and this one goes on from it.

        A branch has two names where a merge made another one lead: the file, which an open descriptor
        keeps on its branch, and the conflict entry that the branch shows as.
        """
        if not self.entries or session.detached:
            return
        for other in list(self.sessions.values()):
            if other.changed and other is not session and self._share_branch(other, session.base.head):
                self.flush(other.ino)

    def _share_branch(self, session: Gathered, head: Ref) -> bool:
        return session.base.head == head and not session.detached

    def keep(self, files: Iterable[Ino]) -> None:
        """What these files show was let go under another name: it is written anew with the next flush."""
        for ino in files:
            session = self.sessions.get(ino)
            if session is not None and not session.detached:
                session.keep(self.base.now_ns())

    # Versions and drafts.

    def flush(self, ino: Ino) -> None:
        """Make what was gathered a version, if anything was.  A session that ends shows what it hid before
        the request goes on, whichever it is."""
        session = self.sessions.get(ino)
        if session is None or not self._is_kept(session):
            return
        if session.weight > SLICE_BYTES:
            self._draft(session)
        self._commit(session)
        self._end_if_idle(session)
        if self.uncovered:
            self.on_uncovered()

    def flush_all(self) -> None:
        """Make all that was gathered versions.  Raises the first error when all were tried."""
        self._each(lambda session: self.flush(session.ino))

    def draft_all(self) -> None:
        """Write out all that was gathered, as drafts.  Raises as `flush_all` does."""
        self._each(lambda session: self._draft(session) if self._is_kept(session) else None)

    def _is_kept(self, session: Gathered) -> bool:
        return session.changed and not session.detached

    def tick(self) -> None:
        """Write out what has waited for DRAFT_NS; about once a second.  Raises as `flush_all` does."""
        now_ns = self.base.now_ns()
        self._each(lambda session: self._on_time(session, now_ns))

    def _on_time(self, session: Gathered, now_ns: int) -> None:
        if not self._is_kept(session):
            return
        if session.ino not in self.opens or _is_past(session.drafted_ns, VERSION_NS, now_ns):
            self.flush(session.ino)
        elif _is_past(session.since_ns, DRAFT_NS, now_ns):
            self._draft(session)

    def _each(self, act: Callable[[Gathered], None]) -> None:
        # One file that cannot be written must not keep the others from the disk.
        errors = []
        for session in list(self.sessions.values()):
            try:
                act(session)
            except OSError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _commit(self, session: Gathered) -> None:
        session.refresh(self.base)
        before, head = session.weight, session.base.head
        try:
            session.complete(self.base)
            rows: dict[bytes, bytes | None] = {}
            places = session.places
            if session.size > INLINE_MAX:
                for part in session.slices(self.base):
                    places = places | part.places
                    rows |= part.rows
            fields = session.fields(self.base, places)
            if self.base.is_log(session.ino):
                fields = fields._replace(appends=session.appended_to(self.base, fields))
            if session.drafted_ns:
                rows |= dict.fromkeys(rows_of(session.ino, session.parts))
            session.rebase(self.base.commit_version(session.base, fields, rows))
        finally:
            self.weight += session.weight - before
        for other in self.sessions.values() if self.entries else ():
            if not other.changed and self._share_branch(other, head):
                other.rebase(session.base)
                self.uncovered.add(other.ino)  # the kernel has what it was

    def _draft(self, session: Gathered) -> None:
        """Write out what is in memory.  What is small stays there too: it is the next version."""
        if session.size > INLINE_MAX:
            self._draft_blocks(session)
            return
        whole = session.small(self.base)
        session.drafted_ns = session.drafted_ns or self.base.now_ns()
        head = head_row(session.draft(session.size, whole))
        self.base.put_rows({head_key(session.ino): head})
        session.since_ns = 0

    def _draft_blocks(self, session: Gathered) -> None:
        """Write out what is in memory, to have the memory.  After each batch it is a draft."""
        session.drafted_ns = session.drafted_ns or self.base.now_ns()
        before = session.weight
        try:
            for part in session.slices(self.base):
                self._put_part(session, part, max(session.drafted_size, part.end))
            self._put_part(session, NOTHING, session.size)
        finally:
            self.weight += session.weight - before
        session.since_ns = 0

    def _put_part(self, session: Gathered, part: Slice, size: int) -> None:
        rows = dict(part.rows)
        rows[head_key(session.ino)] = head_row(session.draft(size, None))
        if part.places or session.part_cut is not None:
            key = part_key(session.ino, session.parts)
            rows[key] = part_row(session.part_cut, part.places.items())
        self.base.put_rows(rows)
        session.wrote(part)
        session.drafted_size = size
        if part.places or session.part_cut is not None:
            session.parts += 1
            session.part_cut = None

    def _free_memory(self, session: Gathered) -> None:
        if not session.detached:
            self._draft_blocks(session)
            return
        before = session.weight
        try:
            for part in session.slices(self.base):
                self.base.put_rows(part.rows)
                session.wrote(part)
        finally:
            self.weight += session.weight - before

    def recover(self) -> Recovered:
        """Make the drafts of the last run versions; call it before anything is opened.

        On a disk that is full they are what sessions hold, and `tick` tries again.
        """
        freed = self._sweep_nameless()
        made: list[Ino] = []
        waiting: list[Ino] = []
        lost: list[Ino] = []
        for draft in list(drafts(self.base)):
            branch = self.base.shown_at(draft.ino, draft.head)
            if draft.detached:
                self.base.put_rows(dict.fromkeys(rows_of(draft.ino, draft.parts)))
            elif branch is None:
                lost.append(draft.ino)
            else:
                outcome = made if self._recover_one(draft, branch) else waiting
                outcome.append(draft.ino)
        return Recovered(tuple(made), tuple(waiting), tuple(lost), freed)

    def _recover_one(self, draft: Draft, branch: Shown) -> bool:
        session = self.sessions[draft.ino] = Gathered(draft.ino, branch)
        if draft.ino & DERIVED:
            self.entries.add(draft.ino)
        session.continue_draft(draft)
        self.weight += session.weight
        try:
            self._commit(session)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False
        self._end_if_idle(session)
        return True

    def _sweep_nameless(self) -> int:
        batch: dict[bytes, bytes | None] = {}
        swept = 0
        for key, _ in self.base.scan(b"T", b"U"):
            batch[key] = None
            swept += 1
            if len(batch) == _SWEEP_ROWS:
                self.base.put_rows(batch)
                batch = {}
        if batch:
            self.base.put_rows(batch)
        return swept

    # Names and merges.

    def detach(self, ino: Ino) -> None:
        """The last name of the file is gone from here: what is written to it is no version.

        Comes while `shown` still answers for the inode.
        """
        if ino not in self.opens:
            session = self.sessions.get(ino)
            if session is not None:
                self._drop(session)
            return
        session = self._session(ino)
        session.detached = True
        if session.drafted_ns:
            head = session.draft(session.drafted_size, None)
            self.base.put_rows({head_key(ino): head_row(head)})

    def discard(self, ino: Ino) -> None:
        """Forget what was gathered of a file that nobody has open."""
        session = self.sessions.get(ino)
        if session is not None and ino not in self.opens:
            self._drop(session)

    def attach(self, ino: Ino) -> None:
        """A merge gave the file a name again: what is written to it is a fact."""
        session = self.sessions.get(ino)
        if session is None or not session.detached:
            return
        session.detached = False
        for index in sorted(session.nameless & session.places.keys()):
            if session.places[index] == nameless_key(ino, index):
                self._gather_again(session, index)
        if session.drafted_ns:
            self._draft_blocks(session)
        self.base.put_rows(dict.fromkeys(nameless_key(ino, index) for index in session.nameless))
        session.nameless.clear()
        self._end_if_idle(session)

    def named_again(self, ino: Ino) -> None:
        """A program here wrote to another name of the branch, and that brought this one back, which went
        while it was open.  Who has it open goes on from there; what was written to it since it went is
        nobody's."""
        self._drop(self.sessions[ino])
        opened = self.opens.get(ino)
        if opened is not None and opened.holding:
            self._session(ino)

    def _gather_again(self, session: Gathered, index: int) -> None:
        before = session.weight
        session.gather_again(self.base, index)
        self.weight += session.weight - before
        if session.weight > SLICE_BYTES:
            self._draft_blocks(session)

    def goes_on(self, ino: Ino) -> None:
        """A merge may have brought what a file shows whose content nobody here could know."""
        session = self.sessions[ino]
        if not session.detached:
            session.rebase(self.base.shown(ino))
            self.uncovered.add(ino)

    def overtaken(self, ino: Ino) -> None:
        """A merge changed what the file shows where no session hides it."""
        session = self.sessions.get(ino)
        if session is not None:
            session.overtaken = True

    def take_uncovered(self) -> set[Ino]:
        """Return the inodes of which a merged content has come to show because a session ended."""
        uncovered, self.uncovered = self.uncovered, set()
        return uncovered

    def _end_if_idle(self, session: Gathered) -> None:
        opened = self.opens.get(session.ino)
        if session.changed or session.detached or (opened is not None and opened.holding):
            return
        self.entries.discard(session.ino)
        ended = self.sessions.pop(session.ino, None)
        if ended is not None and (ended.overtaken or self.base.keeps_for_open(ended.base.owner)):
            self.uncovered.add(session.ino)

    def _drop(self, session: Gathered) -> None:
        """Forget all that was gathered.  The next start sweeps rows that a failing disk keeps."""
        del self.sessions[session.ino]
        self.entries.discard(session.ino)
        self.uncovered.add(session.ino)
        self.weight -= session.weight
        rows = [nameless_key(session.ino, index) for index in session.nameless]
        if session.drafted_ns:
            rows += rows_of(session.ino, session.parts)
        if rows:
            self.base.put_rows(dict.fromkeys(rows))


def _is_past(since_ns: int, limit_ns: int, now_ns: int) -> bool:
    """Has it been `limit_ns`, or longer by a clock that was set back?  `since_ns` 0 is never."""
    return bool(since_ns) and not 0 <= now_ns - since_ns < limit_ns
