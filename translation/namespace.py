"""Names: the requests that change which name leads to which inode.

The checks here are made against what this replica shows, as POSIX asks.  They bind only the caller: a
concurrent request elsewhere may still win, and the view then resolves the two (docs/conflicts.md).
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Sequence

from crdt.absorption import hidden_under
from crdt.causality import Stamp
from crdt.entries import Entry
from crdt.facts import Birth, Caller, Fact, Ino, Kind, Left, LinkId, Placement, Policy, Ref, Removal, Version
from crdt.moves import is_inside
from crdt.orphans import Orphan
from crdt.rows import Inode, policy_of
from crdt.versions import first_version, is_on_branch
from crdt.visible import is_orphan
from translation.intent import check_name, posix_error
from translation.lineage import Lineage
from translation.replica import Moment
from translation.twins import Twins

LINK_MAX = 65_000  # as ext4
TARGET_MAX = 4095

KINDS = {
    stat.S_IFREG: Kind.REGULAR,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
}


class Namespace(Lineage, Twins):
    # -- making ------------------------------------------------------------------------------------

    def make(
        self,
        parent: Ino,
        name: bytes,
        mode: int,
        caller: Caller,
        *,
        rdev: int = 0,
        target: bytes = b"",
        exclusive: bool = False,
    ) -> Ino:
        """Make an inode of the kind that is in `mode`, at a free name; `exclusive`: by O_EXCL.

        Raises FileExistsError (EEXIST), FileNotFoundError (ENOENT) where the directory is gone, and
        OSError (ENAMETOOLONG).  The group and, for a directory, the set-group-id bit come from a
        directory that has it, see inode(7).
        """
        check_name(name)
        directory = self.directory(parent)
        if self.view.lookup(parent, name) is not None:
            raise posix_error(errno.EEXIST, name)
        if len(target) > TARGET_MAX:
            raise posix_error(errno.ENAMETOOLONG, name)
        kind, bits, gid = KINDS[stat.S_IFMT(mode)], mode & 0o7777, caller.gid
        if directory.mode & stat.S_ISGID:
            gid = directory.gid
            if kind == Kind.DIRECTORY:
                bits |= stat.S_ISGID
        moment, home = self.replica.begin(), self.home_for_new(parent)
        gone = self.gone_from(home, name, moment) if kind == Kind.REGULAR else None
        ino = Ino(moment.dot)
        birth = Birth(
            ino,
            kind,
            bits,
            caller.uid,
            gid,
            caller.uid,
            self._policy_for_new(parent, name, kind),
            rdev,
            target,
            lineage=None if gone is None else gone.version,
            exclusive=exclusive,
        )
        placement = Placement(
            ino,
            LinkId(ino),
            home,
            name,
            native=kind == Kind.DIRECTORY,
            rank=None if gone is None else gone.rank,
            via=None if gone is None else first_version(ino),
        )
        self.commit(moment, (birth, placement))
        self.removed.forget((home, name))
        return ino

    def _policy_for_new(self, parent: Ino, name: bytes, kind: Kind) -> Policy:
        """Return the merge policy that is in a birth: the directory's, else of a file what the patterns say.

        Decided once: a rename of the file or of the directory changes nothing.
        """
        if kind not in (Kind.REGULAR, Kind.DIRECTORY):
            return Policy.UNSET
        of_directory = policy_of([self.inode(member) for member in self.view.members(parent)])
        if of_directory or kind == Kind.DIRECTORY:
            return of_directory
        return self.replica.patterns.policy_of(name)

    def link(self, ino: Ino, parent: Ino, name: bytes, split: Entry | None) -> None:
        """Give a file a further name; `split` where it is a content conflict entry, see link(2).

        Raises PermissionError (EPERM) for a directory, FileExistsError (EEXIST), OSError (EMLINK).
        """
        check_name(name)
        self.directory(parent)
        if self.view.lookup(parent, name) is not None:
            raise posix_error(errno.EEXIST, name)
        facts: list[Fact] = []
        stood = None
        if split is not None:
            facts += self.split(split, self.to_settle(split))
        else:
            inode = self.inode(ino)
            if inode.is_directory:
                raise posix_error(errno.EPERM, name)
            if not inode.shown and not is_orphan(self.state, inode):
                raise posix_error(errno.ENOENT, name)
            if len(inode.shown) >= LINK_MAX:
                raise posix_error(errno.EMLINK, name)
            if not inode.shown:
                self.make_one(inode)
                facts += self._leave_buried(inode)
            stood = self.standing_first(inode) if inode.shown else None
        moment = self.replica.begin()
        placement = Placement(ino, LinkId(moment.dot), self.home_for_new(parent), name)
        self.commit(moment, (*facts, placement))
        if stood is not None:
            self.note_backup(moment, stood, placement.link)

    def _leave_buried(self, inode: Inode) -> list[Fact]:
        """Of a file that gets a live name: settle what must not come back with it."""
        buried = self.buried(inode)
        if not buried:
            return []
        return [self.version(self.replica.begin(), inode.ino, self.main_head(inode).ref, buried)]

    # -- removing ----------------------------------------------------------------------------------

    def unlink(self, parent: Ino, name: bytes) -> Entry:
        """Remove a name; return what it was.  A file that is made there of late continues it.

        The content goes with the last name.  Where alternatives of it show, removing one is a choice of
        the others: it must not come back when the chosen one is edited elsewhere, and if somebody else
        chose it the other way both stay.  Raises IsADirectoryError (EISDIR).
        """
        entry = self.find(parent, name)
        if entry.is_directory:
            raise posix_error(errno.EISDIR, name)
        chosen = self._chosen_instead(entry)
        if chosen is not None:
            self.make_one(self.inode(chosen.owner))
        moment, home, gone = self.replica.begin(), self.home_for_new(parent), self.standing(entry)
        if entry.top is not None:
            facts = self._settle_branch(moment, entry)
        else:
            facts = self._remove_name(moment, entry, chosen)
        self.commit(moment, facts, entry)
        if gone is not None:
            self.removed.note((home, name), gone, moment.wall_ns)
        return entry

    def _chosen_instead(self, entry: Entry) -> Entry | None:
        """What the removal of the last name of a file chooses over it: no content that nobody here knows."""
        if entry.top is not None or not self.inode(entry.ino).is_regular or self.has_other_names(entry):
            return None
        files = (beside for beside in self.alternatives(entry) if self.inode(beside.owner).is_regular)
        return next((beside for beside in files if not self.is_bare(self.head_of(beside))), None)

    def _remove_name(self, moment: Moment, entry: Entry, chosen: Entry | None) -> list[Fact]:
        assert entry.link is not None
        inode = self.inode(entry.ino)
        if self.has_other_names(entry):
            twins, _ = self.remove_twins(entry, dropping=True)
            return [self.remove(inode, entry.link), *twins]
        if chosen is not None:
            twins, settled = self.remove_twins(entry, dropping=False)
            version = self.choice(moment, chosen, [*self.meant_by(entry), *settled])
            return [version, *self._remove_file(entry), *twins]
        replaced_late = self.replace_late(moment, entry)
        if replaced_late:
            return [*replaced_late]
        twins, _ = self.remove_twins(entry, dropping=True)
        return [*self._remove_file(entry, self.meant_by(entry)), *twins]

    def _remove_file(self, entry: Entry, drops: Sequence[Ref] = ()) -> list[Fact]:
        """Remove the last name that shows of a file, and its links that do not show."""
        assert entry.link is not None
        inode = self.inode(entry.ino)
        hidden = [self.remove(inode, place.link)._replace(left=()) for place in self.names_left(entry)]
        over = {self.view.entry_at(entry.ino, place).ino for place in self.names_left(entry)}
        modes = [fact for ino in sorted(over) for fact in self.keep_mode(ino, {entry.ino})]
        return [self.remove(inode, entry.link, drops), *hidden, *modes]

    def _settle_branch(self, moment: Moment, entry: Entry) -> list[Fact]:
        """Unlink of a content conflict entry: what the file shows is chosen over this branch.

        The name goes too that another replica may be giving it by a split.  Where nobody here knows the
        content of the file there is nothing to choose, and the branch is removed alone.
        """
        assert entry.top is not None
        owner = self.inode(entry.owner)
        main = self.main_head(owner).ref
        if self.is_bare(main):
            gone = self.gone(entry)
            return [gone._replace(drops=gone.seen)]
        beside = hidden_under(self.state, owner, main)
        chosen = self.version(moment, owner.ino, main, [*beside, *self.meant_by(entry)])
        return [chosen, self.gone(entry)]

    def choice(self, moment: Moment, chosen: Entry, over: Sequence[Ref]) -> Version:
        """The version that chooses what an entry shows over these."""
        return self.version(moment, chosen.owner, self.head_of(chosen), [*self.hidden(chosen), *over])

    def gone(self, entry: Entry) -> Removal:
        """The removal of the name that a split gives this conflict entry.

        It stands in the row of the inode that its branch was written to, since the file that a split
        makes may not be known here.
        """
        assert entry.top is not None
        return Removal(
            entry.top.ino,
            LinkId(entry.ino),
            (),
            over_split=True,
            seen=tuple(self.meant_by(entry)),
            left=(Left(entry.parent),),
        )

    def rmdir(self, parent: Ino, name: bytes) -> Entry:
        """Remove an empty directory, all members of a union; return what it was.

        Raises NotADirectoryError (ENOTDIR), OSError (ENOTEMPTY).
        """
        entry = self.find(parent, name)
        if not entry.is_directory:
            raise posix_error(errno.ENOTDIR, name)
        if not self.view.is_empty(entry.ino):
            raise posix_error(errno.ENOTEMPTY, name)
        facts: list[Fact] = [self.remove(self.inode(member), LinkId(member)) for member in entry.members]
        self.commit(self.replica.begin(), facts, entry)
        return entry

    # -- moving ------------------------------------------------------------------------------------

    def rename(self, parent: Ino, name: bytes, new_parent: Ino, new_name: bytes) -> Entry | None:
        """Rename, replacing what stands at the new name, see rename(2); return what was replaced.

        Raises FileNotFoundError (ENOENT), and as `move`.
        """
        return self.move(self.find(parent, name), new_parent, new_name)

    def move(self, entry: Entry, new_parent: Ino, new_name: bytes) -> Entry | None:
        """Raises IsADirectoryError (EISDIR), NotADirectoryError (ENOTDIR), OSError (ENOTEMPTY, EINVAL where a
        directory would go into itself)."""
        check_name(new_name)
        self.directory(new_parent)
        replaced = self.view.lookup(new_parent, new_name)
        if replaced is not None and replaced.ino == entry.ino:
            return None  # two names of one file: rename(2) does nothing
        if not entry.is_directory:
            if replaced is not None and replaced.is_directory:
                raise posix_error(errno.EISDIR, new_name)
            self.make_one(self.inode(entry.owner))
        moment, home, stood = self.replica.begin(), self.home_for_new(new_parent), self.standing(entry)
        if entry.is_directory:
            facts = self._move_directory(entry, new_parent, new_name, replaced)
        else:
            facts = self._move_file(moment, entry, new_parent, new_name, replaced)
        self.commit(moment, facts, entry, replaced)
        self.removed.forget((home, new_name))
        if stood is not None:
            self.note_backup(moment, stood, stood.link)
        return replaced

    def _move_directory(self, entry: Entry, parent: Ino, name: bytes, replaced: Entry | None) -> list[Fact]:
        """All members of a union move, as mates, so that they are one directory where they arrive.

        A dead member moves along dead, or it might become the lead there.
        """
        if replaced is not None and not replaced.is_directory:
            raise posix_error(errno.ENOTDIR, name)
        members = set(entry.members)
        if any(is_inside(self.state, above, members) for above in self.view.members(parent)):
            raise posix_error(errno.EINVAL, name)
        if replaced is not None and not self.view.is_empty(replaced.ino):
            raise posix_error(errno.ENOTEMPTY, name)
        mates = entry.members if len(entry.members) > 1 else ()
        home, dot = self.home_for_new(parent), self.replica.begin().dot
        facts: list[Fact] = []
        for member in entry.members:
            inode = self.inode(member)
            moved = self.place(inode, LinkId(member), home, name, mates=mates)
            facts.append(moved)
            if member != entry.members[0] and not inode.is_live():
                context = (*moved.context, dot)
                facts.append(Removal(member, LinkId(member), tuple(sorted(context))))
        if replaced is not None:
            facts += [self.remove(self.inode(m), LinkId(m)) for m in replaced.members]
        return facts

    def _move_file(
        self, moment: Moment, entry: Entry, parent: Ino, name: bytes, replaced: Entry | None
    ) -> list[Fact]:
        """What it replaces is settled by a version of it.

        That version names the one it replaced as its lineage, and its placement inherits the rank: saving
        by rename is treated as writing into the file that was there.  A content that nobody here knows cannot
        be made a version: then what is replaced, and its twins, are removed instead.
        """
        facts: list[Fact] = []
        head = self.head_of(entry)
        is_known = not self.is_bare(head)
        goes_on = is_known and self.inode(entry.owner).is_regular
        twins, settled = self.remove_twins(entry, dropping=not is_known)
        facts += twins
        hidden = self.hidden(entry) if entry.top is None else self.to_settle(entry)
        if entry.top is not None and not is_known:
            facts += self.removals_of(hidden)
        else:
            settled += hidden
        if entry.link is not None:
            settled += self.buried(self.inode(entry.ino))
        link = entry.link
        if entry.top is not None:
            facts += self.claim(entry)
            link = LinkId(entry.ino)
        assert link is not None
        lineage: Ref | None = None
        rank = None
        home = self.home_for_new(parent)
        if replaced is not None:
            removals, heads, lineage, rank = self._replace(moment, replaced, goes_on=goes_on)
            facts += removals
            settled += heads
        else:
            gone = self.gone_from(home, name, moment)
            if gone is not None and gone.ino != entry.ino and goes_on:
                lineage, rank = gone.version, gone.rank
        via = None
        others = self._without_what_shows(entry, settled)
        if len(others) < len(settled):
            settled, lineage = others, None
        if (settled or lineage is not None) and is_known:
            version = self.version(moment, entry.ino, head, settled, lineage=lineage)
            facts.append(version)
            via = Ref(entry.ino, version.version) if lineage is not None else None
        if entry.top is not None:
            left = () if isinstance(entry, Orphan) else (Left(entry.parent),)
            moved = Placement(entry.ino, link, home, name, over_split=True, rank=rank, via=via, left=left)
        else:
            moved = self.place(self.inode(entry.ino), link, home, name, rank=rank, via=via)
        return [*facts, moved]

    def _without_what_shows(self, entry: Entry, settled: list[Ref]) -> list[Ref]:
        """Leave out of what is to be settled what the entry shows itself, here and now.

        Only where an open file goes on from a branch which is a conflict entry since a merge, and that entry
        is replaced by the file; or where the content that leads is not here.  That was not shown, and must
        not be chosen over what was.
        """
        shown = self.seen_of(entry)
        if shown == self.head_of(entry):
            return settled
        return [
            ref
            for ref in settled
            if not is_on_branch(self.state, ref, shown) and not is_on_branch(self.state, shown, ref)
        ]

    def _replace(
        self, moment: Moment, replaced: Entry, *, goes_on: bool
    ) -> tuple[list[Fact], list[Ref], Ref | None, Stamp | None]:
        """What it takes to replace a file: removals, the heads to settle, the lineage, the rank.

        `goes_on`: by a file that may get a version which goes on from it.
        """
        facts: list[Fact] = []
        settled: list[Ref] = []
        lineage = None
        old = self.inode(replaced.owner)
        both_regular = old.is_regular and goes_on
        seen = self.seen_of(replaced)
        rank = self.rank_of(replaced, seen)
        goes = replaced.top is not None or not self.has_other_names(replaced)
        twins, of_twins = self.remove_twins(replaced, dropping=not both_regular)
        facts += twins
        settled += of_twins
        if both_regular:
            lineage = seen
            settled += self.meant_by(replaced) if goes else []
        if replaced.top is not None and not both_regular:
            facts += self._settle_branch(moment, replaced)
        elif replaced.top is not None:
            facts.append(self.gone(replaced))
        elif replaced.link is not None:
            drops = self.meant_by(replaced) if goes and not both_regular else ()
            facts += self._remove_file(replaced, drops) if goes else [self.remove(old, replaced.link, drops)]
        return facts, settled, lineage, rank
