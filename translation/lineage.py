"""Names that this replica took from files of late, so that what is made there goes on from those files.

Many programs save by putting a new file in the place of the old one.  Where two replicas do so at once their
files are two inodes, and yet two edits of one file: the new file has the old one's *lineage*, and its rank
at the name (design section 5).  A rename over the old file says so by itself (translation.namespace).  A
program that first removes the name and then makes a file there says it in two requests; what the first one
took away is kept here until the second one comes.

In memory, and bounded.  It decides what a save is taken for, never whether anything is lost: where it was
forgotten, the new file is a stranger to the one that was removed.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from crdt.causality import Stamp
from crdt.facts import Ino, LinkId, Ref
from crdt.names import Entry
from translation.intent import Intents
from translation.replica import Moment, Replica

KNOWN_MAX = 1000
AGE_MAX_NS = 600_000_000_000  # ten minutes: a program that saves needs far less

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """What was noted of late, the newest `KNOWN_MAX` of it."""

    def __init__(self) -> None:
        self.noted: dict[K, tuple[int, V]] = {}

    def note(self, key: K, value: V, now_ns: int) -> None:
        self.noted.pop(key, None)
        self.noted[key] = now_ns, value
        if len(self.noted) > KNOWN_MAX:
            del self.noted[next(iter(self.noted))]

    def find(self, key: K, now_ns: int) -> V | None:
        at_ns, value = self.noted.get(key, (now_ns, None))
        return value if 0 <= now_ns - at_ns <= AGE_MAX_NS else None

    def forget(self, key: K) -> None:
        self.noted.pop(key, None)


class Gone(NamedTuple):
    """A file as it stood at a name: what it showed to programs here, and its rank."""

    ino: Ino
    link: LinkId
    version: Ref
    rank: Stamp | None


class Lineage(Intents):
    def __init__(self, replica: Replica) -> None:
        super().__init__(replica)
        self.removed: Recent[tuple[Ino, bytes], Gone] = Recent()  # by directory and name

    def standing(self, entry: Entry) -> Gone | None:
        """A regular file as it stands at its name; None for all else, and for conflict entries."""
        if entry.link is None or entry.is_conflict or not self.inode(entry.ino).is_regular:
            return None
        return Gone(entry.ino, entry.link, self.seen_of(entry), self.rank_of(entry))

    def rank_of(self, entry: Entry) -> Stamp | None:
        """The rank that what replaces this entry inherits; None where another would keep the name.

        That is beside a conflict entry the file, and beside what a session holds the branch that leads.
        """
        if entry.is_conflict or self.seen_of(entry) != self.head_of(entry):
            return None
        if entry.twins:
            return entry.rank
        assert entry.link is not None
        placed = self.inode(entry.ino).links[entry.link].where()
        return placed.fact.rank or placed.stamp

    def gone_from(self, home: Ino, name: bytes, moment: Moment) -> Gone | None:
        """The file that was removed at this name of late, if that name of it is still gone."""
        gone = self.removed.find((home, name), moment.wall_ns)
        if gone is None:
            return None
        shows = any(place.link == gone.link for place in self.inode(gone.ino).shown)
        return None if shows else gone
