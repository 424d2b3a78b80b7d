"""Facts, sorted by the inode, link or version that they are about.

Commits are read in stamp order.  Facts have an identity that does not come from their dot where a
conflict entry becomes a file of its own and where a conflict is settled.  Where several replicas made
the same birth or the same version, it is one, with the least of their stamps (and of a birth, the mode
bits that all of them leave); the same placement is removed and replaced as one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from crdt.causality import Dot, ReplicaId, Stamp, covers
from crdt.facts import (
    Acknowledgement,
    Birth,
    Commit,
    Fact,
    Field,
    Ino,
    Kind,
    LinkId,
    Member,
    Pin,
    Placement,
    Policy,
    Ref,
    Register,
    Removal,
    Version,
)

SPLIT = Dot(0)  # how the one placement of a link that a split made is named
F = TypeVar("F")


class Made(NamedTuple, Generic[F]):
    """A fact with the stamp of its commit, which holds its dot."""

    stamp: Stamp
    fact: F


@dataclass
class Inode:
    birth: Birth
    stamp: Stamp
    mode: int
    registers: dict[Field, list[Made[Register]]] = field(default_factory=lambda: defaultdict(list))

    @property
    def is_directory(self) -> bool:
        return self.birth.kind == Kind.DIRECTORY

    def value(self, register: Field, at_birth: int) -> int:
        """Return what the last writer set; of permission bits, what all concurrent settings leave."""
        current = list(self.current(register))
        if register == Field.MODE:
            bits = self.mode if not current else 0o7777
            for made in current:
                bits &= made.fact.value
            return bits
        return max(current).fact.value if current else at_birth

    @property
    def policy(self) -> Policy:
        """What was set by hand, else what it was born with."""
        return Policy(self.value(Field.POLICY, Policy.UNSET) or self.birth.policy)

    def current(self, register: Field) -> Iterator[Made[Register]]:
        settings = self.registers[register]
        for made in settings:
            if not any(covers(other.fact.context, made.stamp.dot) for other in settings):
                yield made


@dataclass
class Link:
    ino: Ino
    placements: list[Made[Placement]] = field(default_factory=list)
    removals: list[Made[Removal]] = field(default_factory=list)
    pins: dict[Dot, list[Made[Pin]]] = field(default_factory=lambda: defaultdict(list))


class Gathered:
    def __init__(self, commits: Iterable[Commit]) -> None:
        self.inodes: dict[Ino, Inode] = {}
        self.links: dict[LinkId, Link] = {}
        self.versions: dict[Ref, Made[Version]] = {}
        self.makers: dict[Ref, list[Stamp]] = defaultdict(list)  # of each, all who made it
        self.names: dict[ReplicaId, str] = {}
        self.acknowledged: set[Acknowledgement] = set()
        self.wall_ns: dict[Dot, int] = {}
        registers: list[Made[Register]] = []
        for commit in sorted(commits, key=lambda c: c.stamp):
            self.wall_ns[commit.dot] = commit.wall_ns
            for fact in commit.facts:
                if isinstance(fact, Register):
                    registers.append(Made(commit.stamp, fact))
                else:
                    self._add(commit.stamp, fact)
        for made in registers:
            self.inodes[made.fact.ino].registers[made.fact.field].append(made)
        self.claims = {i.birth.claims: i.birth.ino for i in self.inodes.values() if i.birth.claims}

    def _add(self, stamp: Stamp, fact: Fact) -> None:
        match fact:
            case Birth():
                self._add_birth(stamp, fact)
            case Placement():
                # The link of a conflict entry may have been removed before it was anybody's.
                self._link(fact).ino = fact.ino
                self._link(fact).placements.append(Made(stamp, fact))
            case Removal():
                self._link(fact).removals.append(Made(stamp, fact))
            case Pin():
                self._link(fact).pins[fact.placement].append(Made(stamp, fact))
            case Version():
                self.versions.setdefault(Ref(fact.ino, fact.version), Made(stamp, fact))
                self.makers[Ref(fact.ino, fact.version)].append(stamp)
            case Member():
                self.names[fact.replica] = fact.name
            case Acknowledgement():
                self.acknowledged.add(fact)

    def _link(self, fact: Placement | Removal | Pin) -> Link:
        return self.links.setdefault(fact.link, Link(fact.ino))

    def _add_birth(self, stamp: Stamp, birth: Birth) -> None:
        known = self.inodes.get(birth.ino)
        if known is not None:
            assert birth.claims is not None, f"inode {birth.ino} was born twice"
            known.mode &= birth.mode
            return
        self.inodes[birth.ino] = Inode(birth, stamp, birth.mode)
        if birth.kind != Kind.DIRECTORY and birth.claims is None:
            first = Ref(birth.ino, first_version(birth))
            self.versions[first] = Made(stamp, empty_version(birth))

    def is_directory(self, link: LinkId) -> bool:
        return self.inodes[self.links[link].ino].is_directory


def first_version(birth: Birth) -> int:
    return birth.ino


def empty_version(birth: Birth) -> Version:
    """The version that a file is born with, as if it were a fact of its own."""
    return Version(birth.ino, first_version(birth), (), 0, 0, b"", inline=b"", lineage=birth.lineage)
