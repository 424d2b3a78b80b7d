"""What is stored of an inode, and of the names of a directory: facts merged into rows.

A fact is stored once, in the row of what it is about: births, registers, links, removals and pins in the
row of their inode; versions, moves of directories, xattrs, members and settings in rows of their own.
Beside its facts the row of an inode holds what the view derives from them and needs at hand (`heads`,
`at`, `shown`): kept up to date by crdt.view, never replicated.

Merging a fact into a row is commutative and idempotent: what the context of another fact covers is
dropped whether it comes before or after.

A row that others may see is never changed: crdt.state gives a copy to change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar, cast

from crdt.causality import BEFORE_ALL, Context, Dot, Stamp, covers
from crdt.codec import pack, unpack
from crdt.encoding import fact_of, fact_tuple
from crdt.facts import (
    Birth,
    Fact,
    Field,
    Ino,
    Kind,
    LinkId,
    Pin,
    Placement,
    Policy,
    Ref,
    Register,
    Removal,
    Version,
)

F = TypeVar("F", bound=Fact)

REGULAR, DIRECTORY = int(Kind.REGULAR), int(Kind.DIRECTORY)  # a member of an Enum costs more to look up


class Stamped(NamedTuple, Generic[F]):
    """A fact with what its commit says of it."""

    dot: Dot
    hlc: int
    wall_ns: int
    fact: F

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.hlc, self.dot)


class Head(NamedTuple):
    """A version of an inode that none of the same inode extends or settles.

    Its blocks are those of the map (`map_ino`, `map`); map 0: its bytes are inline, in its version.
    `closed` and `dropped` are the times (hlc, 0 for never) when a version of another inode settled it, and
    when somebody removed it.  `before` is the head that still shows because blocks of this one are not
    here yet.
    """

    ref: Ref
    dot: Dot
    hlc: int
    wall_ns: int
    size: int
    mtime_ns: int
    map: int = 0
    map_ino: int = 0
    settles: bool = False
    closed: int = 0
    dropped: int = 0
    before: Head | None = None

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.hlc, self.dot)

    @property
    def here(self) -> Head:
        """What can be read now."""
        return self.before or self


class Shown(NamedTuple):
    """Where the view shows a link: in this directory, under this name before conflicts are resolved.

    `origin` is the name that it was placed at, before it was pinned: of equal origin are alternatives.
    """

    link: LinkId
    parent: Ino
    name: bytes
    origin: bytes


@dataclass(slots=True)
class Link:
    """One name of an inode.  Of a file only the placements that no other replaces are kept; of a
    directory too, since the log of moves holds all (crdt.moves)."""

    placements: list[Stamped[Placement]] = field(default_factory=list)
    removals: list[Stamped[Removal]] = field(default_factory=list)
    pins: list[Stamped[Pin]] = field(default_factory=list)

    def copy(self) -> Link:
        return Link(self.placements[:], self.removals[:], self.pins[:])

    def place(self, new: Stamped[Placement]) -> None:
        kept = []
        for old in self.placements:
            if is_replaced(new, old.fact) or old == new:
                return
            if not is_replaced(old, new.fact):
                kept.append(old)
        self.placements = [*kept, new]

    def remove(self, new: Stamped[Removal]) -> None:
        if all(old.dot != new.dot for old in self.removals):
            self.removals.append(new)

    def pin(self, new: Stamped[Pin]) -> None:
        if all((old.dot, old.fact.placement) != (new.dot, new.fact.placement) for old in self.pins):
            self.pins.append(new)

    def removed_at(self, placement: Stamped[Placement]) -> Stamp:
        """Return the stamp of the first removal that saw it, BEFORE_ALL where none did."""
        found = [removal.stamp for removal in self.removals if is_replaced(placement, removal.fact)]
        return min(found, default=BEFORE_ALL)

    def live(self) -> list[Stamped[Placement]]:
        if not self.removals:
            return self.placements
        return [placement for placement in self.placements if self.removed_at(placement) == BEFORE_ALL]

    def where(self) -> Stamped[Placement]:
        """Where a link of a file stands, or stood when it was removed last (design section 5)."""
        live = self.live()
        if len(live) == 1:
            return live[0]
        if live:
            return max(live, key=lambda p: (p.stamp, p.fact.name))
        return max(self.placements, key=lambda p: (self.removed_at(p), p.stamp, p.fact.name))

    def raw_name(self, placement: Stamped[Placement]) -> bytes:
        """The name of this placement, before conflicts: as it is pinned, or as it was placed."""
        if self.pins:
            key = 0 if placement.fact.split else placement.dot
            pins = [pin for pin in self.pins if pin.fact.placement == key]
            if pins:
                return max(pins, key=lambda p: (p.stamp, p.fact.name)).fact.name
        return placement.fact.name

    def context(self) -> Context:
        """What a fact that replaces or removes all placements of the link must carry."""
        if len(self.placements) == 1:
            placement = self.placements[0]
            return context_with(placement.fact.context, None if placement.fact.split else placement.dot)
        greatest: Context = ()
        for placement in self.placements:
            greatest = context_with(greatest, None if placement.fact.split else placement.dot)
            for dot in placement.fact.context:
                greatest = context_with(greatest, dot)
        return greatest

    def has_split(self) -> bool:
        return any(p.fact.split or p.fact.over_split for p in self.placements)


def is_replaced(placement: Stamped[Placement], by: Placement | Removal) -> bool:
    if placement.fact.split:
        return by.over_split
    return covers(by.context, placement.dot)


def context_with(context: Context, dot: Dot | None) -> Context:
    if dot is None or covers(context, dot):
        return context
    replica = dot >> 40
    return tuple(sorted([*(mine for mine in context if mine >> 40 != replica), dot]))


@dataclass(slots=True)
class Inode:
    ino: Ino
    births: list[Stamped[Birth]]  # more than one where replicas split the same entry
    registers: dict[int, list[Stamped[Register]]] = field(default_factory=dict)
    links: dict[LinkId, Link] = field(default_factory=dict)
    heads: list[Head] = field(default_factory=list)
    settled: list[tuple[Head, Ref]] = field(default_factory=list)  # what was a head, and who settled it
    splits: list[tuple[Ref, Ino]] = field(default_factory=list)  # branches of ours that others claim
    related: tuple[Ino, ...] = ()  # inodes whose versions name ours as parents or lineage, or the other way
    xattr_count: int = 0  # names that were ever set: of what was removed there is a row too
    created: Stamped[Placement] | None = None  # of a directory: where its moves start from
    at: Stamped[Placement] | None = None  # of a directory: what the replay of moves gives
    shown: tuple[Shown, ...] = ()
    branches: int = 0  # conflict entries beside it
    has_records: bool = False  # of what was overruled (crdt.records); so it has a row `R`

    def copy(self) -> Inode:
        return Inode(
            self.ino,
            self.births[:],
            {key: values[:] for key, values in self.registers.items()},
            {key: link.copy() for key, link in self.links.items()},
            self.heads[:],
            self.settled[:],
            self.splits[:],
            self.related,
            self.xattr_count,
            self.created,
            self.at,
            self.shown,
            self.branches,
            self.has_records,
        )

    # -- what its facts say ----------------------------------------------------------------------

    @property
    def birth(self) -> Birth:
        return self.births[0].fact

    @property
    def stamp(self) -> Stamp:
        return self.births[0].stamp

    @property
    def is_directory(self) -> bool:
        return self.births[0].fact.kind == DIRECTORY

    @property
    def is_regular(self) -> bool:
        return self.births[0].fact.kind == REGULAR

    @property
    def mode(self) -> int:
        """The permission bits that all concurrent settings leave.

        What lets others act as its owner shows only where no change of owner is newer than, or concurrent
        with, its setting: chown clears it, and a merge must not bring it back.
        """
        values = self.registers.get(Field.MODE)
        if values:
            bits = values[0].fact.value
            for other in values[1:]:
                bits &= other.fact.value
            set_by = {value.dot for value in values}
        else:
            bits = self.births[0].fact.mode
            for birth in self.births[1:]:
                bits &= birth.fact.mode
            set_by = {birth.dot for birth in self.births}
        lent = 0 if self.is_directory else privileges(bits)
        if lent:
            owners = self.registers.get(Field.UID, []) + self.registers.get(Field.GID, [])
            contexts = [value.fact.context for value in values or ()]
            for owner in owners:
                seen = any(covers(context, owner.dot) for context in contexts)
                if not seen and owner.dot not in set_by:
                    return bits & ~lent
        return bits

    def last_set(self, name: Field) -> Stamped[Register] | None:
        """The newest setting of a register whose last writer wins."""
        values = self.registers.get(name)
        if not values:
            return None
        return values[0] if len(values) == 1 else max(values, key=lambda value: value.stamp)

    @property
    def uid(self) -> int:
        value = self.last_set(Field.UID)
        return self.births[0].fact.uid if value is None else value.fact.value

    @property
    def gid(self) -> int:
        value = self.last_set(Field.GID)
        return self.births[0].fact.gid if value is None else value.fact.value

    @property
    def policy(self) -> Policy:
        return policy_of([self])

    @property
    def changed_ns(self) -> int:
        """When it was changed last: its ctime.

        A version counts with the time of its last write, which is its mtime, not with that of its commit: the
        close of a file changes nothing, nor does a choice among contents that are there.
        """
        newest = self.births[0].wall_ns
        for values in self.registers.values():
            for value in values:
                newest = max(newest, value.wall_ns)
        for link in self.links.values():
            for placement in link.placements:
                newest = max(newest, placement.wall_ns)
            for removal in link.removals:
                newest = max(newest, removal.wall_ns)
        for head in self.heads:
            newest = max(newest, head.mtime_ns)
        return newest

    def is_live(self) -> bool:
        return any(link.live() for link in self.links.values())

    # -- merging -----------------------------------------------------------------------------------

    def add_birth(self, new: Stamped[Birth]) -> None:
        if all(old.dot != new.dot for old in self.births):
            self.births.append(new)
            self.births.sort(key=lambda birth: birth.stamp)

    def set_register(self, new: Stamped[Register]) -> None:
        values = self.registers.get(new.fact.field, [])
        if any(old.dot == new.dot or covers(old.fact.context, new.dot) for old in values):
            return
        kept = [old for old in values if not covers(new.fact.context, old.dot)]
        self.registers[new.fact.field] = [*kept, new]

    def register_context(self, name: Field) -> Context:
        context: Context = ()
        for value in self.registers.get(name, ()):
            context = context_with(context, value.dot)
            for dot in value.fact.context:
                context = context_with(context, dot)
        return context

    def link(self, link: LinkId) -> Link:
        found = self.links.get(link)
        if found is None:
            found = self.links[link] = Link()
        return found

    def facts_of(self, dot: Dot) -> list[Fact]:
        """The facts of this commit that the row holds and nothing superseded.

        A directory's moves are in the log; only its creation is here.
        """
        found: list[Fact] = [birth.fact for birth in self.births if birth.dot == dot]
        for values in self.registers.values():
            found += [value.fact for value in values if value.dot == dot]
        for link in self.links.values():
            if not self.is_directory:
                found += [placement.fact for placement in link.placements if placement.dot == dot]
            found += [removal.fact for removal in link.removals if removal.dot == dot]
            found += [pin.fact for pin in link.pins if pin.dot == dot]
        if self.created is not None and self.created.dot == dot:
            found.append(self.created.fact)
        return found


def privileges(bits: int) -> int:
    """Return the bits by which who runs a file acts as its owner or group: set-user-id, and set-group-id
    where the group may run it (where it may not, that bit means nothing, and Linux leaves it)."""
    return bits & (0o6000 if bits & 0o010 else 0o4000)


def policy_of(members: Sequence[Inode]) -> Policy:
    """Return the merge policy of an inode, or of the members of a union: what was set by hand last, else what
    the first of them that got one was born with."""
    chosen = [value for member in members if (value := member.last_set(Field.POLICY)) is not None]
    by_hand = max(chosen, key=lambda value: value.stamp).fact.value if chosen else Policy.UNSET
    born = next((member.birth.policy for member in members if member.birth.policy), Policy.UNSET)
    return Policy(by_hand or born)


# -- bytes ---------------------------------------------------------------------------------------------

Row = tuple[Any, ...]


CREATED, AT = 8, 9  # where the row of an inode has them
REGISTER_FIELD = 5  # where a stamped register has its field: dot, hlc, wall, tag, ino, field


def stamped_row(stamped: Stamped[F]) -> Row:
    return (stamped[0], stamped[1], stamped[2], *fact_tuple(stamped[3]))


def stamped_of(row: Row) -> Stamped[Any]:
    return Stamped(row[0], row[1], row[2], fact_of(row[3], row[4:]))


def stamped_list(rows: Row) -> list[Stamped[Any]]:
    return [stamped_of(row) for row in rows] if rows else []


def head_of(row: Row) -> Head:
    ref, *fields, before = row
    return Head._make((Ref._make(ref), *fields, None if before is None else head_of(before)))


def encode_inode(inode: Inode) -> bytes:
    return pack(
        (
            [stamped_row(birth) for birth in inode.births],
            [[stamped_row(value) for value in values] for values in inode.registers.values()],
            [
                (
                    key,
                    [stamped_row(placement) for placement in link.placements],
                    [stamped_row(removal) for removal in link.removals],
                    [stamped_row(pin) for pin in link.pins],
                )
                for key, link in inode.links.items()
            ],
            inode.heads,
            inode.settled,
            inode.splits,
            inode.related,
            inode.xattr_count,
            None if inode.created is None else stamped_row(inode.created),
            None if inode.at is None else stamped_row(inode.at),
            inode.shown,
            inode.branches,
            inode.has_records,
        )
    )


Places = tuple[Row | None, Row | None]  # of a directory: where it was created and where it stands, as rows


def places_of(inode: Inode) -> Places:
    created, at = inode.created, inode.at
    return None if created is None else stamped_row(created), None if at is None else stamped_row(at)


def decode_places(data: bytes) -> Places:
    """As `places_of`, without decoding the rest of the row: a replay of moves looks at many directories."""
    row = cast(Row, unpack(data))
    return row[CREATED], row[AT]


def decode_inode(ino: Ino, data: bytes) -> Inode:
    row = cast(Row, unpack(data))
    births, registers, links, heads, settled, splits, related, xattr_count, created, at, shown, *rest = row
    branches, has_records = rest
    stands = None if at is None else stamped_of(at)
    return Inode(
        ino,
        stamped_list(births),
        {values[0][REGISTER_FIELD]: stamped_list(values) for values in registers},
        {
            link[0]: Link(stamped_list(link[1]), stamped_list(link[2]), stamped_list(link[3]))
            for link in links
        },
        [head_of(head) for head in heads],
        [(head_of(head), Ref._make(by)) for head, by in settled] if settled else [],
        [(Ref._make(top), claimant) for top, claimant in splits] if splits else [],
        related,
        xattr_count,
        stands if created == at else stamped_of(created),  # most directories stay where they were made
        stands,
        tuple(map(Shown._make, shown)),
        branches,
        has_records,
    )


class Item(NamedTuple):
    """A link that shows at a name of a directory; `branches` conflict entries stand beside it."""

    link: LinkId
    ino: Ino
    kind: int
    branches: int = 0


Names = dict[bytes, tuple[Item, ...]]  # names of one directory and one hash


Pinned = dict[bytes, tuple[tuple[LinkId, Ino], ...]]  # origin -> links that are pinned to another name


class Counts(NamedTuple):
    """Of a directory: links that show in it, those of directories, and its newest change."""

    items: int = 0
    directories: int = 0
    changed_ns: int = 0
    changed_hlc: int = 0


class StoredVersion(NamedTuple):
    """A version; `also` are the (dot, hlc, wall_ns) of replicas that made the same settling one later."""

    dot: Dot
    hlc: int
    wall_ns: int
    fact: Version
    also: tuple[tuple[Dot, int, int], ...] = ()

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.hlc, self.dot)

    def head(self, ref: Ref) -> Head:
        """Return it, of this reference, as a head without a block map."""
        fact = self.fact
        return Head(ref, self.dot, self.hlc, self.wall_ns, fact.size, fact.mtime_ns, settles=fact.settles)


def encode_version(stored: StoredVersion) -> bytes:
    return pack((stored.dot, stored.hlc, stored.wall_ns, fact_tuple(stored.fact), stored.also))


def decode_version(data: bytes) -> StoredVersion:
    dot, hlc, wall_ns, fact, also = cast(Row, unpack(data))
    return StoredVersion(dot, hlc, wall_ns, cast(Version, fact_of(fact[0], fact[1:])), also)


def encode_names(names: Names) -> bytes:
    return pack(list(names.items()))


def decode_names(data: bytes) -> Names:
    rows = cast(Row, unpack(data))
    return {name: tuple(map(Item._make, items)) for name, items in rows}


def encode_pinned(pinned: Pinned) -> bytes:
    return pack(list(pinned.items()))


def decode_pinned(data: bytes) -> Pinned:
    return dict(cast(Row, unpack(data)))
