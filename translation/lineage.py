"""Names that this replica took from files of late, so that what is made there goes on from those files.

Many programs save by putting a new file in the place of the old one.  Where two replicas do so at once their
files are two inodes, and yet two edits of one file: the new file has the old one's *lineage*, and its rank
at the name (design section 5).  A rename over the old file says so by itself (translation.namespace).  Other
programs say it in several requests; what the first one took from the name is kept here until the last one:

- the file is removed, then one is made or renamed there: that one continues it;
- the file is renamed to a backup, one is made or renamed there, then the backup is removed: with that, not
  before, the new one has replaced it.  The same where the backup is a further link.

In memory, and bounded.  It decides what a save is taken for, never whether anything is lost: where it was
forgotten, the new file is a stranger to the one that was removed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from crdt.causality import BEFORE_ALL, Dot, Stamp, replica_of
from crdt.entries import Entry
from crdt.facts import Fact, Ino, LinkId, Ref
from crdt.orphans import Orphan
from crdt.rows import Inode, context_with
from crdt.versions import step_of
from translation.intent import Intents
from translation.replica import Moment, Replica

KNOWN_MAX = 1000
AGE_MAX_NS = 600_000_000_000  # ten minutes: a program that saves needs far less

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """What was noted of late, the newest `KNOWN_MAX` of it."""

    def __init__(self) -> None:
        self.noted: OrderedDict[K, tuple[int, V]] = OrderedDict()

    def note(self, key: K, value: V, now_ns: int) -> None:
        self.noted.pop(key, None)
        self.noted[key] = now_ns, value
        if len(self.noted) > KNOWN_MAX:
            self.noted.popitem(last=False)

    def find(self, key: K, now_ns: int) -> V | None:
        at_ns, value = self.noted.get(key, (now_ns, None))
        return value if 0 <= now_ns - at_ns <= AGE_MAX_NS else None

    def forget(self, key: K) -> None:
        self.noted.pop(key, None)


class Gone(NamedTuple):
    """A file as it stood at a name: what it showed to programs here, and its claim to the name."""

    home: Ino
    name: bytes
    ino: Ino
    link: LinkId
    version: Ref
    rank: Stamp | None
    via: Ref | None


class Backup(NamedTuple):
    """A name that the commit `dot` gave to a file which stood, or stands, at another one."""

    stood: Gone
    dot: Dot


class Lineage(Intents):
    def __init__(self, replica: Replica) -> None:
        super().__init__(replica)
        self.removed: Recent[tuple[Ino, bytes], Gone] = Recent()  # by directory and name
        self.backups: Recent[LinkId, Backup] = Recent()

    def standing(self, entry: Entry) -> Gone | None:
        """A regular file as it stands at its name; None for all else, for conflict entries and orphans."""
        if entry.link is None or entry.is_conflict or isinstance(entry, Orphan):
            return None
        inode = self.inode(entry.ino)
        if not inode.is_regular:
            return None
        seen, via = self.seen_of(entry), inode.links[entry.link].where().fact.via
        rank = self.rank_of(entry, seen)
        return Gone(entry.parent, entry.name, entry.ino, entry.link, seen, rank, via)

    def standing_first(self, inode: Inode) -> Gone | None:
        """A file as it stands at the oldest of its names."""
        place = inode.shown[0]
        entry = self.view.entry_at(inode.ino, place)
        return self.standing(entry) if entry.link == place.link else None

    def rank_of(self, entry: Entry, seen: Ref) -> Stamp | None:
        """The rank that what replaces this entry inherits; None where another would keep the name.

        That is beside a conflict entry the file, and beside what a session holds the branch that leads.
        """
        if entry.is_conflict or seen != self.head_of(entry) or not self.has_shown_all(entry):
            return None
        if entry.twins:
            return entry.rank
        assert entry.link is not None
        placed = self.inode(entry.ino).links[entry.link].where()
        return placed.fact.rank or placed.stamp

    # -- removed, then made anew -------------------------------------------------------------------

    def gone_from(self, home: Ino, name: bytes, moment: Moment) -> Gone | None:
        """The file that was removed at this name of late, if that name of it is still gone."""
        gone = self.removed.find((home, name), moment.wall_ns)
        if gone is None:
            return None
        shows = any(place.link == gone.link for place in self.inode(gone.ino).shown)
        return None if shows else gone

    # -- a backup, removed in the end --------------------------------------------------------------

    def note_backup(self, moment: Moment, stood: Gone, link: LinkId) -> None:
        """The commit of this moment gave the name `link` to a file that stood at another one."""
        self.backups.note(link, Backup(stood, moment.dot), moment.wall_ns)

    def replace_late(self, moment: Moment, entry: Entry) -> list[Fact]:
        """The facts that remove a backup, where another file was made at its old name since; else none.

        It goes as if it had been replaced there: it is put back at its old name, dead.  So an edit of it
        that was not shown here competes with the new file, and brings no backup back.
        """
        assert entry.link is not None
        backup = self.backups.find(entry.link, moment.wall_ns)
        placed = self.inode(entry.ino).links[entry.link].where()
        if backup is None or placed.dot != backup.dot or entry.twins:
            return []
        new = self.view.lookup(backup.stood.home, backup.stood.name)
        if new is None or not self._was_made_late(new, moment):
            return []
        meant = self._meant_by_removal(backup, entry)
        stood = backup.stood
        facts = self._continue_late(moment, new, stood, meant)
        if not self.has_shown_all(entry):
            stood = stood._replace(rank=BEFORE_ALL)  # what was not shown comes back there, and claims nothing
        return [*facts, *self._put_back(moment, stood, entry, () if facts else meant)]

    def _was_made_late(self, new: Entry, moment: Moment) -> bool:
        """Was this file made here of late, and given its name here?"""
        if new.link is None or new.is_conflict or new.twins:
            return False
        inode, here = self.inode(new.ino), self.replica.replica
        if not inode.is_regular:
            return False
        if replica_of(new.ino) != here or replica_of(inode.links[new.link].where().dot) != here:
            return False
        return 0 <= moment.wall_ns - inode.births[0].wall_ns <= AGE_MAX_NS

    def _meant_by_removal(self, backup: Backup, entry: Entry) -> list[Ref]:
        """The versions of a backup that go with it: not what was merged since it became one.

        That came to the file which is replaced, and the program that saves has not looked at it.  It was
        shown all the same, so nothing appears where the backup goes: it is left as an orphan.
        """
        shown, known = self.seen_of(entry), backup.stood.version
        made_here = replica_of(step_of(self.state, shown).stamp.dot) == self.replica.replica
        if made_here or shown == known:
            return self.meant_by(entry)
        return self.not_beside(self.inode(entry.ino), [known])

    def _continue_late(self, moment: Moment, new: Entry, stood: Gone, settled: list[Ref]) -> list[Fact]:
        """The version of the new file that has the old one as its lineage, and its name by that.

        Nothing where it goes on from another file already, or its content is not here, in the middle of a
        pass.
        """
        assert new.link is not None
        inode, head = self.inode(new.ino), self.head_of(new)
        if inode.links[new.link].where().fact.via is not None or self.is_bare(head):
            return []
        over = [*self.hidden(new), *settled]
        version = self.version(moment, new.ino, head, over, lineage=stood.version)
        via = Ref(new.ino, version.version)
        self.replica.note_attributes(new.ino)
        return [version, self.place(inode, new.link, new.parent, new.name, rank=stood.rank, via=via)]

    def _put_back(self, moment: Moment, stood: Gone, entry: Entry, drops: Sequence[Ref]) -> list[Fact]:
        """A placement of the backup at its old name, and the removal of it there."""
        inode, link = self.inode(entry.ino), entry.link
        assert link is not None
        placed = self.place(inode, link, stood.home, stood.name, rank=stood.rank, via=stood.via)
        removal = self.remove(inode, link, drops)
        context = context_with(removal.context, moment.dot)
        return [placed._replace(left=()), removal._replace(context=context)]
