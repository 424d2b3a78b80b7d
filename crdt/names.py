"""What stands at one name: unions, ranks, conflict entries.

The names of a directory are rows of links (crdt.rows.Names); whatever is not one link of one content is
worked out when it is read, from these rows alone, the same on every replica:

1. Directories that were made at one name by one maker, or moved there together, are one *union*: the
   oldest that is live leads and gives the number.  Other directories at that name are strangers.
2. A directory keeps the bare name before a file, a newer union before an older one, and of files the one
   of the greatest rank; of equal ranks (both replaced the same file) the one whose branch leads.
3. All else, and each further branch of a file, is a *conflict entry*: `stem.conflict-REPLICA-ID.ext`,
   where REPLICA made what lost the name and ID counts its commits, so that later edits leave the name.

In a union the names of all its members meet.  Nothing is stored for that: one move can form or tear a
union of millions, so it is resolved by whoever looks (`View.members`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import merge
from itertools import groupby
from operator import itemgetter

from crdt.absorption import branches, shown_heads, together
from crdt.causality import Dot, Stamp, counter_of, replica_of
from crdt.claims import Claim, shown_claims
from crdt.entries import MARK, NAME_MAX, Entry, Twin, branch_ino, conflict_name, possible_raws
from crdt.facts import ROOT, Ino, Kind, Ref
from crdt.rights import permission_bits
from crdt.rows import Inode, Item, Names, Shown, decode_pinned, privileges
from crdt.state import HASH_STEP, State, hash_of_name, names_key, pinned_key, prefix_end, remember

MARKS_START, MARKS_END = b"Q", b"R"  # of the rows that say which rows of names need the rules below

NameOf = Callable[[int], str]  # replica id -> its name


class View:
    """What the rows show.  `name_of` gives the name of a replica."""

    def __init__(self, state: State, name_of: NameOf, *, is_fixed: bool = False) -> None:
        self.state = state
        self.name_of = name_of
        self.is_fixed = is_fixed  # nothing is edited while this view is used
        # Kept by crdt.view: rows of names that need the rules of conflicts, and (directory, name) pairs with
        # more than one directory.  Most of the time there is none, and nobody looks whether this is one.
        self.marked_rows = self.shared_names = 0
        self._members: dict[Ino, tuple[Ino, ...]] = {}
        self._groups: dict[tuple[tuple[Ino, ...], bytes], list[Entry]] = {}
        self._groups_after = 0  # so many commits they were found

    def count_marks(self) -> None:
        self.marked_rows = self.shared_names = 0
        for _, value in self.state.scan(MARKS_START, MARKS_END):
            self.marked_rows += 1
            self.shared_names += value == b"u"

    def forget_unions(self) -> None:
        self._members.clear()

    # -- unions ------------------------------------------------------------------------------------

    def members(self, directory: Ino) -> tuple[Ino, ...]:
        """Return the union that a directory is in, the lead first; itself alone where it is in none."""
        if not self.shared_names:
            return (directory,)
        found = self._members.get(directory)
        if found is None:
            for below in reversed(self._way_up(directory)):
                found = self._members[below] = self._find_members(below)
        assert found is not None
        return found

    def _way_up(self, directory: Ino) -> list[Ino]:
        """The directory and those above it whose unions are not known yet, from below."""
        way = [directory]
        while directory != ROOT and len(way) < 1 << 20:
            inode = self.state.inode(directory)
            if inode is None or not inode.shown:
                break
            directory = inode.shown[0].parent
            if directory in self._members:
                break
            way.append(directory)
        return way

    def _find_members(self, directory: Ino) -> tuple[Ino, ...]:
        inode = self.state.inode(directory)
        if directory == ROOT or inode is None or not inode.shown:
            return (directory,)
        parent, raw = inode.shown[0].parent, inode.shown[0].name
        beside = [item for _, item in self.items(self._members[parent], raw) if item.kind == Kind.DIRECTORY]
        if len(beside) > 1:
            for union in self.unions([item.ino for item in beside]):
                if directory in union:
                    return tuple(union)
        return (directory,)

    def unions(self, directories: list[Ino]) -> list[list[Ino]]:
        """Group directories at one name, the newest union first, in each the lead first."""
        rows = {ino: self._directory(ino) for ino in directories}
        found: list[list[Ino]] = []
        for ino in sorted(directories):
            joined = [union for union in found if any(is_mate(rows[ino], rows[other]) for other in union)]
            found = [union for union in found if union not in joined]
            found.append([member for union in joined for member in union] + [ino])
        for union in found:
            union.sort(key=lambda ino: (not rows[ino].is_live(), rows[ino].stamp))

        def newest(union: list[Ino]) -> tuple[Stamp, Ino]:
            return max((_placed(rows[ino]), ino) for ino in union)

        return sorted(found, key=newest, reverse=True)

    def _directory(self, ino: Ino) -> Inode:
        inode = self.state.inode(ino)
        assert inode is not None, ino
        return inode

    # -- one name ----------------------------------------------------------------------------------

    def items(self, members: tuple[Ino, ...], raw: bytes) -> list[tuple[Ino, Item]]:
        name_hash = hash_of_name(raw)
        if len(members) == 1:
            return [(members[0], item) for item in self.state.names(members[0], name_hash).get(raw, ())]
        return [
            (directory, item)
            for directory in members
            for item in self.state.names(directory, name_hash).get(raw, ())
        ]

    def lookup(self, directory: Ino, name: bytes) -> Entry | None:
        members = self.members(directory)
        items = self.items(members, name)
        if items:
            if len(items) == 1:
                return self.single(*items[0], name)
            return self.group(members, name)[0]
        if MARK in name:
            return self._lookup_conflict(members, name)
        return None

    def _lookup_conflict(self, members: tuple[Ino, ...], name: bytes) -> Entry | None:
        for raw in self.raws_of(members, name):
            for entry in self.group(members, raw)[1:]:
                if entry.name == name:
                    return entry
        return None

    def raws_of(self, members: tuple[Ino, ...], name: bytes) -> list[bytes]:
        """The names whose conflict entries may have this name."""
        raws = list(possible_raws(name))
        if len(name) >= NAME_MAX - 16:  # its stem may have been cut
            raws += [raw for raw in self.contested(members) if len(raw) > NAME_MAX // 2]
        return raws

    def contested(self, members: tuple[Ino, ...]) -> Iterator[bytes]:
        """Yield the names in these directories that have conflict entries, or may have."""
        for directory in members:
            prefix = MARKS_START + directory.to_bytes(8, "big")
            for key, _ in self.state.scan(prefix, prefix_end(prefix)):
                yield from self.state.names(directory, int.from_bytes(key[9:], "big"))
        if len(members) > 1:
            seen: set[bytes] = set()
            for directory in members:
                for _, names in self.state.names_from(directory, 0):
                    yield from (name for name in names if name in seen)
                    seen.update(names)

    def single(self, directory: Ino, item: Item, raw: bytes) -> Entry:
        """The entry of a link that is alone at its name, or leads there."""
        if item.kind == Kind.DIRECTORY:
            members = self.members(item.ino)
            return Entry(item.kind, members[0], raw, raw, directory, Dot(0), None, members)
        return Entry(item.kind, item.ino, raw, raw, directory, Dot(0), item.link, (), item.ino)

    def group(self, members: tuple[Ino, ...], raw: bytes) -> list[Entry]:
        """Return all that stands at one name: the entry with the bare name, then the conflict entries.

        Found once between two commits, and in a fixed view; nobody may change it.
        """
        items = self.items(members, raw)
        if not items:
            return []
        if len(items) == 1 and not items[0][1].branches:
            return [self.single(*items[0], raw)]
        if not self.is_fixed and not self.state.is_committed():
            return self._group(members, items, raw)
        if self._groups_after != self.state.commit_count:
            self._groups.clear()
            self._groups_after = self.state.commit_count
        found = self._groups.get((members, raw))
        if found is None:
            found = self._group(members, items, raw)
            remember(self._groups, (members, raw), found)
        return found

    def _group(self, members: tuple[Ino, ...], items: list[tuple[Ino, Item]], raw: bytes) -> list[Entry]:
        entries = self._directories(items, raw)
        files = [(directory, item) for directory, item in items if item.kind != Kind.DIRECTORY]
        entries += self._files(files, raw)
        rest = entries[1:]
        for directory, item in files:
            if item.branches:
                rest += self._branches(directory, item, raw)
        self._give_names(members, raw, rest)
        return [entries[0], *rest]

    def _directories(self, items: list[tuple[Ino, Item]], raw: bytes) -> list[Entry]:
        where = {item.ino: directory for directory, item in items if item.kind == Kind.DIRECTORY}
        if not where:
            return []
        found = []
        for union in self.unions(list(where)):
            lead = self._directory(union[0])
            assert lead.at is not None
            found.append(
                Entry(
                    Kind.DIRECTORY,
                    union[0],
                    raw,
                    raw,
                    where[union[0]],
                    lead.at.dot,
                    members=tuple(union),
                    wall_ns=lead.at.wall_ns,
                )
            )
        return found

    def _files(self, items: list[tuple[Ino, Item]], raw: bytes) -> list[Entry]:
        """The files at one name, the best claim first."""
        claims = shown_claims([Claim(self.state, directory, item) for directory, item in items])
        found = []
        for claim in claims:
            made = claim.placed.dot, claim.placed.wall_ns
            if claim is not claims[0]:
                made = claim.made_beside(claims[0])
            found.append(
                Entry(
                    claim.inode.birth.kind,
                    claim.inode.ino,
                    raw,
                    raw,
                    claim.directory,
                    made[0],
                    claim.link,
                    owner=claim.inode.ino,
                    heads=tuple(head.ref for head in claim.heads[:1]),
                    twins=tuple(Twin(twin.inode.ino, twin.link) for twin in claim.twins),
                    rank=claim.rank,
                    wall_ns=made[1],
                )
            )
        return found

    def _branches(self, directory: Ino, item: Item, raw: bytes) -> list[Entry]:
        """The content conflict entries of a file."""
        inode = self._directory(item.ino)
        placed = inode.links[item.link].where()
        return [
            Entry(
                Kind.REGULAR,
                branch_ino(top.ref),
                raw,
                raw,
                directory,
                top.stamp.dot,
                owner=inode.ino,
                heads=(head.ref,),
                top=top.ref,
                rank=placed.fact.rank or placed.stamp,
                wall_ns=top.wall_ns,
            )
            for head, top in branches(self.state, inode)
        ]

    def _give_names(self, members: tuple[Ino, ...], raw: bytes, entries: list[Entry]) -> None:
        """Conflict entries take free names, in a common order."""
        taken: set[bytes] = set()
        if len(raw) > NAME_MAX - 64:
            taken = self._taken_by_earlier(members, raw)
        for entry in sorted(entries, key=lambda e: e.sort_key):
            replica = self.name_of(replica_of(entry.tag)).encode()
            attempt = 1
            while True:
                name = conflict_name(raw, replica, counter_of(entry.tag), attempt)
                if name not in taken and not self._is_taken(members, raw, name):
                    break
                attempt += 1
            entry.name = name
            taken.add(name)

    def free_conflict_name(self, entry: Entry, tag: Dot) -> bytes:
        """Return a name that nothing has, for what `tag` made and is to leave the name of this entry."""
        replica, attempt = self.name_of(replica_of(tag)).encode(), 1
        while True:
            name = conflict_name(entry.raw, replica, counter_of(tag), attempt)
            if self.lookup(entry.parent, name) is None:
                return name
            attempt += 1

    def _is_taken(self, members: tuple[Ino, ...], raw: bytes, name: bytes) -> bool:
        """Has a file this name, or a conflict entry of a lesser name before conflicts?"""
        if self.items(members, name):
            return True
        lesser = [other for other in possible_raws(name) if other < raw]
        return any(entry.name == name for other in lesser for entry in self.group(members, other)[1:])

    def _taken_by_earlier(self, members: tuple[Ino, ...], raw: bytes) -> set[bytes]:
        """Conflict names of lesser raw names, which may be the same once both are cut."""
        start = raw[: NAME_MAX - 128]
        near = {other for other in self.contested(members) if other < raw and other.startswith(start)}
        return {entry.name for other in near for entry in self.group(members, other)[1:]}

    # -- a directory -------------------------------------------------------------------------------

    def pinned(self, members: tuple[Ino, ...], origin: bytes) -> list[Entry]:
        """Return the entries that were placed at this name and are pinned to another."""
        found = []
        for directory in members:
            data = self.state.get(pinned_key(directory, origin))
            for _, ino in () if data is None else decode_pinned(data).get(origin, ()):
                inode = self._directory(ino)
                for place in inode.shown:
                    if (place.parent, place.origin) == (directory, origin) != (place.parent, place.name):
                        entries = self.group(members, place.name)
                        found += [entry for entry in entries if entry.ino == ino]
        return found

    def entries(self, directory: Ino, offset: int = 0) -> Iterator[tuple[Entry, int]]:
        """Yield the entries of a directory after `offset`, each with the offset that follows it.

        Offsets stay valid while the directory changes: they are hashes of names, with a count of the
        entries that share one below them.
        """
        members = self.members(directory)
        at, skip = offset // HASH_STEP * HASH_STEP, offset % HASH_STEP
        for name_hash, raws in self._rows(members, at):
            position = 0
            for raw, item in raws:
                for entry in [self.single(*item, raw)] if item else self.group(members, raw):
                    position += 1
                    if name_hash != at or position > skip:
                        yield entry, name_hash + min(position, HASH_STEP - 1)

    def _rows(
        self, members: tuple[Ino, ...], start: int
    ) -> Iterator[tuple[int, list[tuple[bytes, tuple[Ino, Item] | None]]]]:
        """Yield by hash the raw names, each with its link where that is all there is.

        Rows are read as they are wanted: a listing comes in parts, and each begins in the middle.
        """
        if len(members) == 1:
            for name_hash, names in self.state.names_from(members[0], start):
                yield (
                    name_hash,
                    [
                        (raw, (members[0], items[0]) if len(items) == 1 and not items[0].branches else None)
                        for raw, items in names.items()
                    ],
                )
            return
        by_hash = itemgetter(0)
        merged = merge(*(self._rows_of(member, start) for member in members), key=by_hash)
        for name_hash, rows in groupby(merged, by_hash):
            found: dict[bytes, list[tuple[Ino, Item]]] = {}
            for _, member, names in rows:
                for raw, items in names.items():
                    found.setdefault(raw, []).extend((member, item) for item in items)
            alone = {raw: one for raw, (one, *more) in found.items() if not more and not one[1].branches}
            yield name_hash, [(raw, alone.get(raw)) for raw in sorted(found)]

    def _rows_of(self, member: Ino, start: int) -> Iterator[tuple[int, Ino, Names]]:
        for name_hash, names in self.state.names_from(member, start):
            yield name_hash, member, names

    # -- twins -------------------------------------------------------------------------------------

    def entry_at(self, ino: Ino, place: Shown) -> Entry:
        """Return the entry that a link of a file shows as, be it as a twin of another."""
        members = self.members(place.parent)
        items = self.items(members, place.name)
        if len(items) == 1:
            return self.single(*items[0], place.name)
        me = Twin(ino, place.link)
        found = (e for e in self.group(members, place.name) if (e.ino, e.link) == me or me in e.twins)
        return next(found)

    def twins(self, ino: Ino) -> set[Ino]:
        """Return the files that show as one with this one under some name, with itself and theirs."""
        found: set[Ino] = set()
        todo = [ino]
        while todo:
            each = todo.pop()
            if each in found:
                continue
            found.add(each)
            inode = self.state.inode(each)
            for place in () if inode is None else inode.shown:
                if self._is_contested(place):
                    entry = self.entry_at(each, place)
                    todo += [entry.ino, *(twin.ino for twin in entry.twins)]
        return found

    def mode(self, inode: Inode, head: Ref | None = None) -> int:
        """The permission bits of a file with this content, else with the one that shows: those that all its
        twins leave."""
        bits = self._bits(inode, head)
        if any(map(self._is_contested, inode.shown)):
            for twin in self.twins(inode.ino) - {inode.ino}:
                bits &= self._bits(self._directory(twin), None)
        return bits

    def _bits(self, inode: Inode, head: Ref | None) -> int:
        if not privileges(inode.mode) or not inode.is_regular:
            return inode.mode
        shown = together(self.state, inode) or shown_heads(self.state, inode)[:1]
        return permission_bits(self.state, inode, [head] if head else [each.ref for each in shown])

    def link_count(self, inode: Inode) -> int:
        """How many names show a file; all it has where none does, because all show a twin of it."""
        if not any(map(self._is_contested, inode.shown)):
            return len(inode.shown)
        entries = ((place.link, self.entry_at(inode.ino, place)) for place in inode.shown)
        shown = [link for link, entry in entries if (entry.ino, entry.link) == (inode.ino, link)]
        return len(shown) or len(inode.shown)

    def _is_contested(self, place: Shown) -> bool:
        """May something else stand at the name of a link, too?"""
        return self.marked_rows > 0 and len(self.items(self.members(place.parent), place.name)) > 1

    # -- a directory as a whole ------------------------------------------------------------------------

    def is_empty(self, directory: Ino) -> bool:
        return not any(self.state.counts(member).items for member in self.members(directory))


def is_mate(left: Inode, right: Inode) -> bool:
    a, b = left.at, right.at
    assert a is not None
    assert b is not None
    if left.birth.maker != right.birth.maker:
        return False
    if a.fact.native and b.fact.native:
        return True
    return right.ino in a.fact.mates or left.ino in b.fact.mates


def _placed(inode: Inode) -> Stamp:
    assert inode.at is not None
    return inode.at.stamp


def names_row_key(directory: Ino, name_hash: int) -> bytes:
    """The key of the mark that a row of names needs the rules above."""
    return MARKS_START + names_key(directory, name_hash)[1:]
