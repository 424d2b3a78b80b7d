"""Files that show as one: what is done through their name is done to all of them (crdt.claims).

Two sites unpacked the same archive, and each file shows once.  The first change of its content, mode or owner
*parts* the twins: the others are removed, or have left that name and live on under those they have elsewhere,
and a version settles their contents.  So they do not come back as conflicts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from crdt.absorption import compared_at, hidden_under
from crdt.entries import Entry, Twin, branch_ino
from crdt.facts import Fact, Field, Ino, LinkId, Ref, Version
from crdt.rows import Inode
from crdt.versions import owner as owner_of
from translation.intent import Intents
from translation.locality import Locality
from translation.replica import Moment


class Parting(NamedTuple):
    """What else a change of one of several twins takes."""

    facts: Sequence[Fact]
    settled: Sequence[Ref]  # contents that a version of that file has to settle
    meant: Sequence[Entry]  # entries that go with that


NOTHING_PARTS = Parting((), (), ())


class Twins(Intents):
    """Facts about the twins of what a request is about; the commit of a request."""

    def commit(
        self,
        moment: Moment,
        facts: Sequence[Fact],
        *entries: Entry | None,
        rows: Mapping[bytes, bytes | None] | None = None,
    ) -> None:
        """Commit facts that are about these entries, and hold all else (law L2)."""
        meant = {entry.key for entry in entries if entry is not None}
        edits = [fact for fact in facts if isinstance(fact, Version) and not fact.settles]
        written = {ino for version in edits for ino in self._written(version)}
        self.replica.commit(moment, facts, rows, Locality(self, moment, meant, written).repairs)

    def _written(self, version: Version) -> set[Ino]:
        """The numbers under which programs here see what this version extends: of a conflict entry, and of
        the file as well, where that shows the same until its own content is here."""
        extended = version.parents[0]
        inode = self.state.inode(owner_of(self.state, extended))
        if inode is None:
            return {version.ino}
        found = {
            branch_ino(top)
            for head, top in self.content_branches(inode)
            if extended in (head.ref, head.here.ref)
        }
        if not found or self.main_head(inode).here.ref == extended:
            found.add(version.ino)
        return found

    def remove_twins(self, entry: Entry, *, dropping: bool) -> tuple[list[Fact], list[Ref]]:
        """Remove the links that hide under an entry.

        Returns the removals, and the contents that a version has to settle: those that show nowhere else.
        `dropping`: they are meant to be gone, instead.
        """
        if not entry.twins:
            return [], []
        return self._remove(entry.ino, entry.twins, dropping=dropping)

    def part(self, inode: Inode) -> Parting:
        """What the change of one file takes, so that it changes under all its names and nothing comes out.

        Where it hides itself under another file, it leaves that name.  But if it shows nowhere (a program has
        it open since before the merge), it is the others that go, as far as they hold what it holds.
        """
        if self.view.twins(inode.ino) == {inode.ino}:
            return NOTHING_PARTS
        entries = [(place.link, self.view.entry_at(inode.ino, place)) for place in inode.shown]
        shows = any(entry.ino == inode.ino for _, entry in entries)
        facts: list[Fact] = []
        others: list[Twin] = []
        meant: list[Entry] = []
        for link, entry in entries:
            if entry.ino == inode.ino:
                others += [twin for twin in entry.twins if twin.ino != inode.ino]
            elif shows:
                facts.append(self.remove(inode, link))
            elif self._has_content_of(inode, entry.ino):
                assert entry.link is not None
                beside = [Twin(entry.ino, entry.link), *entry.twins]
                others += [twin for twin in beside if twin.ino != inode.ino]
                meant.append(entry)
        removals, settled = self._remove(inode.ino, others, dropping=False)
        return Parting([*facts, *removals], settled, meant)

    def _has_content_of(self, inode: Inode, other: Ino) -> bool:
        mine, theirs = (self.main_head(i).ref for i in (inode, self.inode(other)))
        return compared_at(self.state, mine) == compared_at(self.state, theirs)

    def _remove(self, ino: Ino, twins: Iterable[Twin], *, dropping: bool) -> tuple[list[Fact], list[Ref]]:
        facts: list[Fact] = []
        settled: list[Ref] = []
        links: dict[Ino, set[LinkId]] = {}
        for twin in twins:
            links.setdefault(twin.ino, set()).add(twin.link)
        gone = set()
        for other, leaving in links.items():
            inode = self.inode(other)
            heads: list[Ref] = []
            if other != ino and all(place.link in leaving for place in inode.shown):
                gone.add(other)
                heads = self._compared_of(inode)
            drops = heads if dropping or not inode.is_regular else []
            facts += [self.remove(inode, link, drops) for link in sorted(leaving)]
            settled += [] if drops else heads
        return [*facts, *self.keep_mode(ino, gone)], settled

    def keep_mode(self, ino: Ino, gone: set[Ino]) -> list[Fact]:
        """Apart they show the mode that they showed together."""
        bits = self.view.mode(self.inode(ino))
        rows = [self.inode(twin) for twin in sorted(self.view.twins(ino) - gone)]
        return [self.set(row, Field.MODE, bits) for row in rows if row.mode != bits]

    def _compared_of(self, inode: Inode) -> list[Ref]:
        """What a twin holds that adds nothing to what shows, and what hides under it.

        Not what a session of it shows: the name does not, and a conflict entry beside it may.
        """
        seen = self.main_head(inode).here.ref
        return self.not_beside(inode, [seen, *hidden_under(self.state, inode, seen)])

    def shown_of(self, inode: Inode) -> list[Ref]:
        """The version that programs here are shown as this file, and what hides under it."""
        main = self.main_head(inode)
        seen = self.held(inode.ino) or main.here.ref
        return [seen, *(hidden_under(self.state, inode, seen))]
