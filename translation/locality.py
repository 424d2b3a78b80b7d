"""Law L2: a request changes what it was asked to, and nothing else.

Removing a name must not make a conflict entry take it, nor may replacing a file make the entries beside
it vanish, from under a script that has just listed them.  So a request applies its facts, looks at what
they may have changed besides, and where an entry that it did not mean shows otherwise than before adds
facts to the same commit that hold it:

- a *pin* keeps the name of a file or directory whose bare name became free or was taken, and puts aside what
  came back at a name that another file has now;
- a *split* makes a content conflict entry a file of its own, at the name it has;
- a new placement brings back a file that showed only because an edit beat its removal, and a removed
  directory that showed only for what was inside;
- a version keeps a content, a mode the bits of a union.

This repeats until nothing is left to hold, or what is left cannot be: a program gets no error for that.
What is looked at: the names in whose contest the commit had a part (crdt.contest), and where other files and
directories showed that it touched and that show otherwise now.  Where there is neither it costs one look at
each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

from crdt.absorption import digest_at, hidden_on, hidden_under, shown_heads
from crdt.causality import Dot
from crdt.contest import NameKey
from crdt.entries import Entry, Twin
from crdt.facts import ROOT, Fact, Field, Ino, LinkId, Pin, Ref
from crdt.names import View
from crdt.orphans import Orphan, orphan_entries
from crdt.rights import CAPABILITY, SET_ID
from crdt.rows import Inode, Shown
from crdt.state import State, xattr_key
from crdt.versions import is_named, surviving
from crdt.versions import owner as owner_of
from crdt.view import Transaction
from crdt.visible import orphan_key
from translation.replica import Moment

if TYPE_CHECKING:
    from translation.twins import Twins


class Locality:
    """Holds what one commit does not mean to change.

    `meant`: the keys of the entries whose names it is about; `written`: the numbers under which it
    gives a new content, of files and of conflict entries.
    """

    def __init__(
        self,
        intents: Twins,
        moment: Moment,
        meant: Collection[tuple[Ino, int]],
        written: Collection[Ino],
    ) -> None:
        self.intents = intents  # reads what stood before, once `repairs` has begun
        self.live = intents  # reads what stands now
        self.moment = moment
        self.meant = meant
        self.written = written
        self.added: set[Fact] = set()

    def repairs(self, transaction: Transaction) -> list[Fact]:
        """Return what has to be added to the facts of this transaction, which is finished but not committed;
        nothing where all is as it was."""
        names = transaction.contested() | self._left(transaction)
        orphaned = self._unlisted(transaction)
        if not names and not orphaned:
            return []
        before, after = transaction.view_before(), transaction.view_after()
        self.intents = copy(self.intents)
        self.intents.state, self.intents.view = before.state, before
        for found in self._holds(after, self._stood(after, names), orphaned):
            if not self.added.issuperset(found):
                self.added.update(found)
                return found
        return []

    def _holds(
        self, after: View, stood: Sequence[Entry], orphaned: Sequence[tuple[Orphan, list[Ref]]]
    ) -> Iterator[list[Fact]]:
        """Yield what may hold what shows otherwise, the best first.  Where that was tried and did not help,
        `repairs` goes on: a request is done all the same.

        Names before contents: what shows under a name can be told once each entry is a file of its own that
        is to be one.
        """
        files = [entry for entry in stood if not entry.is_directory]
        for entry in stood:
            yield self._hold_directory(after, entry) if entry.is_directory else self._hold_file(after, entry)
        for entry in files:
            yield self._hold_content(after, entry)
        for entry in stood:
            yield self._put_aside(after, entry)
        for orphan, hidden in orphaned:
            yield self._hold_orphan(orphan, hidden)

    def _stood(self, after: View, names: Collection[NameKey]) -> list[Entry]:
        """What stood at these names and is not meant, the deepest first; also in a directory that makes one
        union with that of the name only now."""
        before = self.intents.view
        found: list[Entry] = []
        for directory, raw in sorted(names, key=lambda key: (-depth(before.state, key[0]), key)):
            beside = (directory, *after.members(directory))
            for members in sorted({before.members(each) for each in beside}):
                found += [entry for entry in before.group(members, raw) if entry.key not in self.meant]
        return found

    def _left(self, transaction: Transaction) -> set[NameKey]:
        """Where files and directories showed that the commit touched without meaning them, and that show
        there no more, or another content."""
        found: set[NameKey] = set()
        for ino in (*transaction.files, *transaction.directories):
            if ino in transaction.dots:
                continue  # it is new
            was, now = transaction.before_and_after(ino)
            if was is None:
                continue
            stays = was.shown == now.shown or set(was.shown) <= set(now.shown)
            if stays and not self._shows_otherwise(transaction, was, now):
                continue
            found.update((place.parent, place.name) for place in was.shown if self._is_beside(was, place))
        return found

    def _is_beside(self, inode: Inode, place: Shown) -> bool:
        """Is this a name that the commit does not mean?"""
        return (inode.ino, 0 if inode.is_directory else place.link) not in self.meant

    def _shows_otherwise(self, transaction: Transaction, was: Inode, now: Inode) -> bool:
        """Does a file show another content?  Or one less beside it, where who lets go of what a choice was
        made of lets go of the choice, that is of one which shows without a name."""
        if was.ino in self.written or not was.shown or not now.shown:
            return False
        if was.heads == now.heads and (len(now.heads) < 2 or is_named(now)):
            return False
        before, after = transaction.view_before().state, transaction.view_after().state
        showed, shows = shown_heads(before, was), shown_heads(after, now)
        if was.heads == now.heads:
            return showed != shows
        heads = showed[0].ref, shows[0].ref
        return heads[0] != heads[1] and digest_at(before, heads[0]) != digest_at(after, heads[1])

    # -- files -------------------------------------------------------------------------------------

    def _hold_file(self, after: View, entry: Entry) -> list[Fact]:
        if entry.twins and (found := self._hold_twins(after, entry)):
            return found
        now = after.lookup(entry.parent, entry.name)
        if now is not None and now.ino == entry.ino:
            if now.owner not in (entry.owner, entry.ino) and self._has_privileges(entry):
                return self._split(after, entry)
            return self._hold_mode(after, entry) if now.twins != entry.twins else []
        inode = after.state.inode(entry.ino)
        if inode is None:
            if entry.ino in self.written and entry.owner in self.written:
                return []  # the file shows what was written, and would not if that were another one
            return self._split(after, entry)
        link = entry.link or LinkId(entry.ino)
        if all(place.link != link for place in inode.shown):
            return self._revive(entry, link) if entry.top is None else self._hold_choice(after, entry)
        found = self._pin(inode, link, entry.name)
        for twin in entry.twins:
            found += self._pin(row_of(after.state, twin.ino), twin.link, entry.name)
        return found

    def _split(self, after: View, entry: Entry) -> list[Fact]:
        return self.intents.split(entry, self._still_heads(after, entry, self.intents.to_settle(entry)))

    def _hold_choice(self, after: View, entry: Entry) -> list[Fact]:
        """Write an entry again that was split, and shows nowhere even so: it is a choice, and all that it was
        made of is let go.  Not where this commit lets go of its content itself."""
        ref, inode = self.intents.head_of(entry), row_of(after.state, entry.ino)
        head = next((head for head in inode.heads if head.ref == ref), None)
        if head is None or head.closed or head.dropped:
            return []
        return self._version(entry.ino, ref, [], is_edit=True)

    def _has_privileges(self, entry: Entry) -> bool:
        """Would an entry lose rights that come with its content, as a branch of another file?  What becomes a
        file by a claim has seen the content of its first head alone."""
        owner = self.intents.inode(entry.owner)
        bits = self.intents.view.mode(owner, self.intents.head_of(entry))
        return bool(bits & SET_ID) or self.intents.state.get(xattr_key(owner.ino, CAPABILITY)) is not None

    def _hold_content(self, after: View, entry: Entry) -> list[Fact]:
        now = after.lookup(entry.parent, entry.name)
        if now is None or now.ino != entry.ino or entry.ino in self.written:
            return []
        inode = self.intents.inode(entry.owner)
        if not inode.is_regular or self.intents.together(inode):
            return []  # what heads show together a commit changes only where it means to
        shown = copy(self.intents)
        shown.state, shown.view = after.state, after
        is_now = shown.inode(now.owner)
        if now.top is None and shown.together(is_now):
            return self._hold_alone(after, entry) if inode.policy == is_now.policy else []
        was, head = self.intents.head_of(entry), shown.head_of(now)
        if was == head or digest_at(self.intents.state, was) == digest_at(after.state, head):
            return []
        if any(other.ref == was for other in surviving(after.state, row_of(after.state, now.owner))):
            return []  # it hides under another, and so would a version of it
        return self._version(entry.owner, was, [], is_edit=True)

    def _hold_mode(self, after: View, entry: Entry) -> list[Fact]:
        """What hides under a file takes rights from it, and may go with what it was chosen over."""
        if entry.top is not None:
            return []
        was, now = self.intents.inode(entry.ino), row_of(after.state, entry.ino)
        bits = self.intents.view.mode(was)
        is_set = any(value.dot == self.moment.dot for value in now.registers.get(Field.MODE, ()))
        return [] if is_set or after.mode(now) == bits else [self.intents.set(was, Field.MODE, bits)]

    def _hold_alone(self, after: View, entry: Entry) -> list[Fact]:
        """Settle what hides under a content, where by the merge policy the two would show together now that
        what kept them from it is let go."""
        hidden = self._still_heads(after, entry, self.intents.hidden(entry))
        if not hidden:
            return []
        return self._version(entry.owner, self.intents.head_of(entry), hidden)

    def _hold_twins(self, after: View, entry: Entry) -> list[Fact]:
        """A twin that would come to show goes, as it would with the first change of what shows: it added
        nothing to that, and what it is compared with was let go by this commit."""
        beside = after.group(after.members(entry.parent), entry.raw)
        twins = next((now.twins for now in beside if now.ino == entry.ino), entry.twins)
        out = [twin for twin in entry.twins if twin not in twins and _shows(after.state, twin)]
        head = self.intents.head_of(entry)
        heads = row_of(after.state, entry.owner).heads
        if not out or entry.ino in self.written or all(each.ref != head for each in heads):
            return []
        facts, settled = self.intents.remove_twins(replace(entry, twins=tuple(out)), dropping=False)
        settled += self.intents.hidden(entry)
        version = self._version(entry.owner, head, settled) if settled else []
        return [*facts, *version] if version or not settled else []

    def _version(self, ino: Ino, head: Ref, over: Sequence[Ref], *, is_edit: bool = False) -> list[Fact]:
        """A version that holds a content; nothing where nobody here knows it yet, in the middle of a pass."""
        if self.intents.is_bare(head):
            return []
        return [self.intents.version(self.moment, ino, head, over, is_edit=is_edit)]

    def _still_heads(self, after: View, entry: Entry, hidden: Sequence[Ref]) -> list[Ref]:
        """Of what hides, with an entry or under it, what this commit does not settle itself."""
        head = self.intents.head_of(entry)
        if not _is_head(after.state, head):
            return []
        return [ref for ref in hidden if _is_head(after.state, ref)]

    def _revive(self, entry: Entry, link: LinkId) -> list[Fact]:
        """Make a name live that showed although it was removed.  Settlements that went with it must not
        come back with the name."""
        facts = self.intents.place_again(self.intents.inode(entry.ino), link, entry.raw)
        buried = self.intents.buried(self.intents.inode(entry.ino))
        if buried:
            facts += self._version(entry.ino, self.intents.head_of(entry), buried)
        return facts

    # -- orphans -----------------------------------------------------------------------------------

    def _unlisted(self, transaction: Transaction) -> list[tuple[Orphan, list[Ref]]]:
        """Contents of files without a name that are not listed any more: this commit names or removes another
        one of the file, or what was a choice over it; each with what hides under it.

        Where an edit brings the file back its further contents are not meant to be: they stand beside it.
        """
        state = self.live.state
        gone = [ino for ino in sorted(transaction.files) if not self.live.inode(ino).shown]
        found = []
        for ino in gone + sorted(transaction.placed & transaction.orphaned):
            if state.store.get(orphan_key(ino)) is None:
                continue
            before = state.committed()
            was = before.inode(ino)
            assert was is not None, ino
            for entry in orphan_entries(before, was):
                if entry.key in self.meant or not self._is_unlisted(entry):
                    continue
                heads = {head.ref for head in self._owner_now(entry).heads}
                hidden = hidden_under(before, was, entry.heads[0])
                if entry.top is not None:
                    hidden += hidden_on(before, was, entry.top, entry.heads[0])
                found.append((entry, [ref for ref in hidden if ref in heads]))
        return found

    def _is_unlisted(self, entry: Orphan) -> bool:
        """Is this content of an orphan not listed any more, nor anything that was written to it?"""
        state, now = self.live.state, self._owner_now(entry)
        listed = {other.ino: other for other in orphan_entries(state, now)}.get(entry.ino)
        if entry.top is not None:
            return listed is None and state.inode(entry.ino) is None
        if now.shown or entry.ino in self.written:
            return False
        was = digest_at(self.intents.state, entry.heads[0])
        return listed is None or digest_at(state, listed.heads[0]) != was

    def _owner_now(self, entry: Orphan) -> Inode:
        return self.live.inode(entry.owner if entry.top is None else owner_of(self.live.state, entry.top))

    def _hold_orphan(self, orphan: Orphan, hidden: Sequence[Ref]) -> list[Fact]:
        """A further content becomes an orphan of its own; the first one is written again to its file."""
        head = orphan.heads[0]
        if orphan.top is not None:
            return self.live.split(orphan, hidden)
        if self.intents.is_bare(head):
            return []
        version = self.intents.version(self.moment, orphan.owner, head, hidden, is_edit=True)
        return [version, self.live.still_unnamed(self._owner_now(orphan), version)]

    # -- directories -------------------------------------------------------------------------------

    def _hold_directory(self, after: View, entry: Entry) -> list[Fact]:
        """Keep the number, the name and the mode.  A removed directory that showed for what was inside is
        made live, unless the others of its union show as before without it."""
        shows = row_of(after.state, entry.ino).shown
        if not shows or after.members(entry.ino)[0] != entry.ino:
            inode = self.intents.inode(entry.ino)
            return self.intents.place_again(inode, LinkId(entry.ino), entry.raw)
        now = after.lookup(entry.parent, entry.name)
        if now is None or now.ino != entry.ino:
            return self._pin_members(after, entry.members, entry.name)
        bits = mode_of(self.intents.state, entry.members)
        if mode_of(after.state, now.members) == bits:
            return []
        came = [member for member in now.members if not row_of(self.intents.state, member).shown]
        if mode_of(after.state, now.members) & bits != bits and came:  # it would take rights away
            name = after.free_conflict_name(now, placed_by(after.state, came[0]))
            return self._pin_members(after, came, name)
        return [self.intents.set(self.intents.inode(entry.ino), Field.MODE, bits)]

    def _pin_members(self, after: View, members: Collection[Ino], name: bytes) -> list[Fact]:
        found: list[Fact] = []
        for member in members:
            found += self._pin(row_of(after.state, member), LinkId(member), name)
        return found

    # -- names -------------------------------------------------------------------------------------

    def _put_aside(self, after: View, entry: Entry) -> list[Fact]:
        """What took a name, and did not stand there: an edit beats its removal, say.  It shows, and takes no
        name from what stands there."""
        now = after.lookup(entry.parent, entry.name)
        if now is None or now.ino == entry.ino or self._stood_at(now):
            return []
        name = after.free_conflict_name(now, now.tag)
        if now.is_directory:
            return self._pin_members(after, set(now.members) - set(entry.members), name)
        assert now.link is not None, now
        return self._pin(row_of(after.state, now.ino), now.link, name)

    def _stood_at(self, now: Entry) -> bool:
        before = self.intents.view
        stood = before.group(before.members(now.parent), now.raw)
        return any(now.key in (was.key, *was.twins) for was in stood)

    def _pin(self, inode: Inode, link: LinkId, name: bytes) -> list[Fact]:
        """Keep the name; nothing where it is the raw name already, and another file took it."""
        known = inode.links[link]
        placement = inode.at if inode.is_directory else known.where()
        if placement is None or known.raw_name(placement) == name:
            return []
        return [Pin(inode.ino, link, Dot(0) if placement.fact.split else placement.dot, name)]


def placed_by(state: State, directory: Ino) -> Dot:
    at = row_of(state, directory).at
    assert at is not None, directory
    return at.dot


def _is_head(state: State, ref: Ref) -> bool:
    return any(head.ref == ref for head in row_of(state, owner_of(state, ref)).heads)


def _shows(state: State, twin: Twin) -> bool:
    return any(place.link == twin.link for place in row_of(state, twin.ino).shown)


def depth(state: State, directory: Ino) -> int:
    """How many directories lead to this one."""
    found = 0
    while directory != ROOT:
        inode = state.inode(directory)
        if inode is None or not inode.shown:
            break
        directory = inode.shown[0].parent
        found += 1
    return found


def mode_of(state: State, members: tuple[Ino, ...]) -> int:
    """The bits that all members of a union leave."""
    bits = 0o7777
    for member in members:
        bits &= row_of(state, member).mode
    return bits


def row_of(state: State, ino: Ino) -> Inode:
    inode = state.inode(ino)
    assert inode is not None, ino
    return inode
