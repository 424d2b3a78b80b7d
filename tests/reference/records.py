"""Records of what was overruled: operations that a concurrent one undid, of which a person should hear.

- *move*: a placement of a directory that was skipped, and is newer than where the directory stands.
- *rename*: a placement that no other replaced and nobody removed, at another name than the newer one that
  holds.
- *rmdir*, *unlink*: a removal of a name that shows all the same: of a directory since something is inside, of
  a file since it had not seen a content.  Of one replica's removals only the last, which had seen the others.
- *rights*: a write whose writer has lost the right to it (tests.reference.rights), in what shows.
- *excl*: a file that was created with O_EXCL and stands where another such file has the better claim to the
  name.  Not of equal ones, which show as one, unless they are empty: a lock file is.

Each says on which path it is, what was overruled, and what did that.  One that somebody acknowledged is gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from crdt.causality import Dot, counter_of, replica_of
from crdt.facts import ROOT, Acknowledgement, Field, Ino, LinkId, Placement, RecordKind, Ref, Removal
from crdt.state import hash_of_name
from tests.reference.gathered import SPLIT, Link, Made
from tests.reference.names import Entry, View, crockford
from tests.reference.places import replaces

CHANGED = {
    Field.MODE: "changed the mode of",
    Field.UID: "changed the owner of",
    Field.GID: "changed the group of",
}


class Side(NamedTuple):
    replica: str
    did: str
    path: bytes
    wall_ns: int


class Record(NamedTuple):
    id: str
    path: bytes
    overruled: Side
    by: Side


def records(view: View) -> list[Record]:
    """Return all that `view` shows, by path.

    What one commit did to several inodes (a union, twins) is one; it is told of the least number.
    """
    found: dict[str, Record] = {}
    for record in Records(view).found():
        found.setdefault(record.id, record)
    return sorted(found.values(), key=lambda record: (record.path, record.id))


class Records:
    def __init__(self, view: View) -> None:
        self.view, self.facts, self.places = view, view.facts, view.places
        self.path_of: dict[LinkId, bytes] = {}
        self.path_of_branch: dict[Ref, bytes] = {}
        self._go_down(ROOT, b"")

    def _go_down(self, directory: Ino, above: bytes) -> None:
        for name, entry in self.view.tree[directory].items():
            self.path_of.update(dict.fromkeys(links_of(entry), above + name))
            if entry.top is not None:
                self.path_of_branch[entry.heads[0]] = above + name
            if entry.members:
                self._go_down(entry.ino, above + name + b"/")

    def found(self) -> Iterator[Record]:
        for number in sorted(self.path_of, key=lambda n: (self.facts.links[n].ino, n)):
            link = self.facts.links[number]
            if self.places.live[number]:
                yield from self._lost_names(number)
            else:
                yield from self._removals(number, link)
        links: dict[Ino, LinkId] = {}
        for number in sorted(self.path_of):
            links.setdefault(self.facts.links[number].ino, number)
        for ino, number in links.items():
            if ino in self.view.contents.shown:
                yield from self._lost_rights(ino, number)
        for names in self.view.at_name.values():
            for entries in names.values():
                yield from self._exclusive(entries)

    def _lost_rights(self, ino: Ino, number: LinkId) -> Iterator[Record]:
        """Of several branches with one such write, the one that leads."""
        known: set[Dot] = set()
        contents = self.view.contents
        heads = [head for group in contents.shown[ino] for head in contents.holding(ino, group)]
        for head in heads:
            lost = self.view.rights.lost(self.facts.inodes[ino], head)
            if lost is None or lost.written.stamp.dot in known:
                continue
            known.add(lost.written.stamp.dot)
            path = self.path_of_branch.get(head, self.path_of[number])
            overruled = self._side(lost.written, "wrote", path)
            by = self._side(lost.setting, CHANGED[lost.setting.fact.field], path)
            yield from self._record(RecordKind.RIGHTS, number, lost.written, overruled, by)

    def _exclusive(self, entries: list[Entry]) -> Iterator[Record]:
        made = [
            (entry, link)
            for entry in entries
            for link in sorted(set(links_of(entry)), key=lambda link: self.places.where[link].stamp)
            if self._is_made_here(link, entry.raw)
        ]
        for entry, link in made[1:]:
            holder_entry, holder = made[0]
            if entry is not holder_entry or self._is_empty(link):
                created = self.places.where[link]
                overruled = self._side(created, "made", self.path_of[link])
                yield from self._record(RecordKind.EXCL, link, created, overruled, self._placed(holder))

    def _is_empty(self, link: LinkId) -> bool:
        contents = self.view.contents
        return not contents.content(contents.shown[self.facts.links[link].ino][0][0])

    def _is_made_here(self, link: LinkId, raw: bytes) -> bool:
        inode = self.facts.inodes[self.facts.links[link].ino]
        made = self.places.where[link]
        return inode.birth.exclusive and made.stamp == inode.stamp and made.fact.name == raw

    def _lost_names(self, number: LinkId) -> Iterator[Record]:
        holds = self.places.where[number]
        for made in self.places.live[number]:
            if not is_move(made) or place_of(made) == place_of(holds):
                continue
            goal = self._former_path(made.fact.parent) + self._name_of(number, made)
            overruled = self._side(made, "moved to", goal)
            if made.stamp < holds.stamp:
                yield from self._record(RecordKind.RENAME, number, made, overruled, self._placed(number))
            else:
                assert made in self.places.skipped, made
                by = self._in_the_way(number, made.fact) or self._placed(number)
                yield from self._record(RecordKind.MOVE, number, made, overruled, by)

    def _removals(self, number: LinkId, link: Link) -> Iterator[Record]:
        is_directory = self.facts.is_directory(number)
        kind = RecordKind.RMDIR if is_directory else RecordKind.UNLINK
        for made in self._last_of_each(link):
            overruled = self._side(made, "removed", self.path_of[number])
            by = self._inside(number) if is_directory else self._written(number)
            yield from self._record(kind, number, made, overruled, by)

    def _last_of_each(self, link: Link) -> list[Made[Removal]]:
        """The last removal by each replica of what still is a placement.

        A dead member of a union that is moved is placed and removed by one commit: that removes nothing.
        """
        replaced = [old for old in link.placements if any(replaces(new.fact, old) for new in link.placements)]
        current = [made for made in link.placements if made not in replaced]
        last: dict[int, Made[Removal]] = {}
        for removal in sorted(link.removals, key=lambda made: made.stamp):
            if any(replaces(removal.fact, p) and p.stamp != removal.stamp for p in current):
                last[replica_of(removal.stamp.dot)] = removal
        return list(last.values())

    # -- the other side --------------------------------------------------------------------------

    def _placed(self, number: LinkId) -> Side:
        made = self.places.where[number]
        did = "moved to" if is_move(made) else "made"
        return self._side(made, did, self.path_of[number])

    def _in_the_way(self, number: LinkId, goal: Placement) -> Side | None:
        """The newest move of a directory between the one that moves and its goal, which is inside it."""
        moving = {Ino(number), *goal.mates}
        directory, between = goal.parent, []
        while directory not in moving:
            if directory == ROOT:
                return None
            made = self.places.position[directory]
            if made.stamp != self.facts.inodes[directory].stamp:
                between.append((made.stamp, directory, made))
            directory = made.fact.parent
        if not between:
            return None
        _, moved, made = max(between)
        return self._side(made, "moved to", self._former_path(moved)[:-1])

    def _inside(self, number: LinkId) -> Side:
        """The first thing in a removed directory, by the hash of its name; of a removed one, in that."""
        inside = [link for link in self.path_of if self.places.where[link].fact.parent == int(number)]
        names = {link: self._name_of(link, self.places.where[link]) for link in inside}
        first = min(inside, key=lambda link: (hash_of_name(names[link]), names[link], link))
        if self.places.live[first]:
            return self._placed(first)
        return self._inside(first) if self.facts.is_directory(first) else self._written(first)

    def _written(self, number: LinkId) -> Side:
        """The newest content that no removal of the file has seen."""
        contents = self.view.contents
        ino = self.facts.links[number].ino
        links = [link for n, link in self.facts.links.items() if link.ino == ino and n in self.places.where]
        seen = contents.ancestry(ref for link in links for made in link.removals for ref in made.fact.seen)
        unseen = [contents.versions[ref] for ref in contents.surviving[ino] if ref not in seen]
        newest = max(unseen, key=lambda made: (made.stamp, made.fact.ino))
        return self._side(newest, "wrote" if newest.fact.parents else "made", self.path_of[number])

    # -- how it is written -----------------------------------------------------------------------

    def _record(
        self, kind: RecordKind, number: LinkId, made: Made[Any], overruled: Side, by: Side
    ) -> Iterator[Record]:
        dot = made.stamp.dot
        if Acknowledgement(self.facts.links[number].ino, kind, dot) not in self.facts.acknowledged:
            name = f"{kind.name.lower()}-{overruled.replica}-{crockford(counter_of(dot))}"
            is_move = kind in (RecordKind.MOVE, RecordKind.RENAME)
            yield Record(name, self.path_of[number] if is_move else overruled.path, overruled, by)

    def _side(self, made: Made[Any], did: str, path: bytes) -> Side:
        dot = made.stamp.dot
        return Side(self.facts.names[replica_of(dot)], did, path, self.facts.wall_ns[dot])

    def _name_of(self, number: LinkId, made: Made[Placement]) -> bytes:
        """The name that it was placed at, or that it was pinned to."""
        pins = self.facts.links[number].pins.get(SPLIT if made.fact.split else made.stamp.dot)
        return max(pins, key=lambda pin: (pin.stamp, pin.fact.name)).fact.name if pins else made.fact.name

    def _former_path(self, directory: Ino) -> bytes:
        """Of a directory that was removed, where it would be if it and those above showed."""
        if directory == ROOT:
            return b""
        if LinkId(directory) in self.path_of:
            return self.path_of[LinkId(directory)] + b"/"
        made = self.places.position[directory]
        return self._former_path(made.fact.parent) + self._name_of(LinkId(directory), made) + b"/"


def links_of(entry: Entry) -> list[LinkId]:
    files = [entry.link, *entry.hidden] if entry.link else []
    return [LinkId(member) for member in entry.members] + [link for link in files if link]


def is_move(made: Made[Placement]) -> bool:
    """Or was it made, or placed anew where it stands?"""
    return bool(made.fact.left)


def place_of(made: Made[Placement]) -> tuple[Ino, bytes]:
    return made.fact.parent, made.fact.name
