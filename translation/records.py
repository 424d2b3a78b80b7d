"""Records of what was overruled, as people read them: which path, who did what, and when.

`crdt.records` says which there are; here they get paths, and the other side is found: what it was that
overruled.  That walks a few rows a record, so it is not on the path of a request.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from crdt.causality import Stamp, counter_of, replica_of
from crdt.entries import Entry, crockford
from crdt.facts import ROOT, Acknowledgement, Field, Ino, LinkId, Placement, RecordKind
from crdt.records import Overruled, is_acknowledged, recorded, records_of
from crdt.rows import Inode, Stamped
from crdt.versions import has_seen, surviving
from translation.contested import contested_names
from translation.paths import Paths
from translation.replica import Replica

DID = {
    RecordKind.MOVE: "moved to",
    RecordKind.RENAME: "moved to",
    RecordKind.RMDIR: "removed",
    RecordKind.UNLINK: "removed",
    RecordKind.EXCL: "made",
    RecordKind.RIGHTS: "wrote",
}
CHANGED = {
    Field.MODE: "changed the mode of",
    Field.UID: "changed the owner of",
    Field.GID: "changed the group of",
}


class Side(NamedTuple):
    """What was done on one side: "office moved to b/c"."""

    replica: str  # its name
    did: str  # see DID and CHANGED
    path: bytes  # as it is now, or would be
    wall_ns: int  # when, by that replica's clock


class Record(NamedTuple):
    id: str  # KIND-REPLICA-COUNT of the commit that was overruled; the same on all replicas
    kind: str
    path: bytes  # of what it is about
    overruled: Side
    by: Side
    ino: int


class Found(NamedTuple):
    """A record; `holder`: of kind EXCL, the file that has the better claim to the name."""

    inode: Inode
    overruled: Overruled
    holder: Inode | None = None


Acknowledgements = dict[str, list[Acknowledgement]]  # by the id of the record


def acknowledge(replica: Replica, found: Acknowledgements) -> None:
    if found:
        replica.commit(replica.begin(), [fact for facts in found.values() for fact in facts])


class Records(Paths):
    def records(self) -> list[Record]:
        """Return the records by path.

        What one commit did to several inodes (a union, twins) is one; it is told of the least number.
        """
        found: dict[str, Record] = {}
        for each in self._found():
            record = self._record(each)
            found.setdefault(record.id, record)
        return sorted(found.values(), key=lambda record: (record.path, record.id))

    def acknowledgements(self, ids: Sequence[str] | None = None) -> Acknowledgements:
        """Return what is to be committed to take these records, or all, off the list.

        Raises LookupError where there is no such record: its argument is the id.
        """
        known: Acknowledgements = {}
        for _, each, _ in self._found():
            known.setdefault(self.id_of(each), []).append(Acknowledgement(each.ino, each.kind, each.dot))
        if ids is None:
            return known
        for asked in ids:
            if asked not in known:
                raise LookupError(asked)
        return {asked: known[asked] for asked in ids}

    def _found(self) -> Iterator[Found]:
        for inode in recorded(self.state):
            for overruled in records_of(self.state, inode):
                yield Found(inode, overruled)
        for directory, raw in sorted(contested_names(self.view)):
            for found in self._exclusive(directory, raw):
                if not is_acknowledged(self.state, found.overruled):
                    yield found

    def _exclusive(self, directory: Ino, raw: bytes) -> Iterator[Found]:
        """The files at one name that were created there with O_EXCL, but for the one with the best claim.

        Equal ones, which show as one, took nothing from each other, unless they are empty: a lock file is.
        """
        made: list[tuple[Entry, Inode]] = []
        for entry in self.view.group(self.view.members(directory), raw):
            if entry.is_directory or entry.top is not None:
                continue
            links = [(entry.ino, entry.link), *entry.twins]
            shown = [self.inode(ino) for ino, link in links if int(ino) == link]
            made += [(entry, inode) for inode in sorted(shown, key=_age) if _is_made_at(inode, raw)]
        for entry, inode in made[1:]:
            if entry is made[0][0] and self.main_head(inode).size:
                continue
            birth = inode.births[0]
            link = LinkId(inode.ino)
            overruled = Overruled(RecordKind.EXCL, birth.dot, birth.wall_ns, inode.ino, link)
            yield Found(inode, overruled, made[0][1])

    def _record(self, found: Found) -> Record:
        inode, overruled, _ = found
        path = self._path_of(inode, overruled)
        did, of = DID[overruled.kind], path
        if overruled.goal is not None:
            of = self._goal(inode, overruled.link, overruled.goal)
        return Record(
            self.id_of(overruled),
            overruled.kind.name.lower(),
            path,
            self._side(overruled.dot, did, of, overruled.wall_ns),
            self._other_side(found, path),
            inode.ino,
        )

    def _path_of(self, inode: Inode, overruled: Overruled) -> bytes:
        for head, top in self.content_branches(inode) if overruled.head is not None else ():
            if head.ref == overruled.head:
                entry = self.entry_of_branch(inode, top)
                return self.path_or_former(entry.parent) + entry.name
        return self.path_of_link(inode, overruled.link)

    def id_of(self, overruled: Overruled) -> str:
        replica = self.replica.member_name(replica_of(overruled.dot))
        return f"{overruled.kind.name.lower()}-{replica}-{crockford(counter_of(overruled.dot)).decode()}"

    def _side(self, dot: int, did: str, path: bytes, wall_ns: int) -> Side:
        return Side(self.replica.member_name(replica_of(dot)), did, path, wall_ns)

    def _goal(self, inode: Inode, link: LinkId, placement: Stamped[Placement]) -> bytes:
        return self.path_or_former(placement.fact.parent) + inode.links[link].raw_name(placement)

    def _other_side(self, found: Found, path: bytes) -> Side:
        inode, overruled, holder = found
        match overruled.kind:
            case RecordKind.MOVE:
                return self._what_stood_in_the_way(inode, overruled) or self._placed(inode, overruled.link)
            case RecordKind.RENAME:
                return self._placed(inode, overruled.link)
            case RecordKind.RMDIR:
                return self._first_inside(inode)
            case RecordKind.UNLINK:
                return self._written(inode, path)
            case RecordKind.RIGHTS:
                assert overruled.by is not None, path
                did = CHANGED[overruled.by.fact.field]
                return self._side(overruled.by.dot, did, path, overruled.by.wall_ns)
            case RecordKind.EXCL:
                assert holder is not None, path
                return self._placed(holder, LinkId(holder.ino))

    def _placed(self, inode: Inode, link: LinkId) -> Side:
        """Who put it where it stands."""
        placement = inode.at if inode.is_directory else inode.links[link].where()
        assert placement is not None, inode.ino
        did = "moved to" if placement.fact.left else "made"
        return self._side(placement.dot, did, self.path_of_link(inode, link), placement.wall_ns)

    def _what_stood_in_the_way(self, inode: Inode, overruled: Overruled) -> Side | None:
        """Of a skipped move: the newest move between the directory and where it was to go, inside of it;
        None where that is not inside any more."""
        assert overruled.goal is not None
        moving = {inode.ino, *overruled.goal.fact.mates}
        directory = overruled.goal.fact.parent
        between: list[tuple[Stamped[Placement], Inode]] = []
        while directory not in moving:
            if directory == ROOT:
                return None
            above = self.inode(directory)
            assert above.at is not None, directory
            if above.at != above.created:
                between.append((above.at, above))
            directory = above.at.fact.parent
        if not between:
            return None
        moved, goal = max(between, key=lambda pair: (pair[0].stamp, pair[1].ino))
        return self._side(moved.dot, "moved to", self.path_or_former(goal.ino).rstrip(b"/"), moved.wall_ns)

    def _first_inside(self, directory: Inode) -> Side:
        """What keeps a removed directory: the first thing in it, in the order of its rows, or in the first
        removed directory in it, and so on down."""
        while True:
            _, names = next(iter(self.state.names_from(directory.ino, 0)))
            item = names[min(names)][0]
            inside = self.inode(item.ino)
            if not inside.is_directory or inside.is_live():
                break
            directory = inside
        if inside.links[item.link].live():
            return self._placed(inside, item.link)
        return self._written(inside, self.path_of_link(inside, item.link))

    def _written(self, inode: Inode, path: bytes) -> Side:
        """The newest content that nobody's removal has seen."""
        unseen = [h for h in surviving(self.state, inode) if not has_seen(self.state, inode, [h])]
        ref = max(unseen, key=lambda head: (head.stamp, head.ref)).ref
        stored = self.state.version(ref)
        if stored is None:  # the empty content that a file is born with
            birth = self.inode(ref.ino).births[0]
            return self._side(birth.dot, "made", path, birth.wall_ns)
        return self._side(stored.dot, "wrote", path, stored.wall_ns)


def _age(inode: Inode) -> Stamp:
    return inode.stamp


def _is_made_at(inode: Inode, raw: bytes) -> bool:
    """Was it created with O_EXCL at this name, where it stands?"""
    if not inode.birth.exclusive:
        return False
    placed = inode.links[LinkId(inode.ino)].where()
    return placed.dot == inode.births[0].dot and placed.fact.name == raw
