"""Which replica has seen which commits.

A *dot* names one commit: the replica that made it and the count of its commits so far, packed into
one integer (23 bits and 40 bits) that doubles as the number of the inode which the commit creates.
A *version vector* says, for each replica, that every commit up to a counter was received or is dead
for ever.  A *context* is the version vector of one key: what a fact that replaces others covers.

Why a vector is enough for a context: the facts that one replica makes at one key form a chain, since
each is made by somebody who saw the one before.  So "up to counter n" never covers an unseen one.

A *stamp* orders commits totally: hybrid logical time, then replica.  It breaks ties and never decides
causality (design section 3).

Source: Parker et al., "Detection of Mutual Inconsistency in Distributed Systems", IEEE TSE 9(3), 1983;
the word "dot" from Preguiça et al., "Dotted Version Vectors", 2010.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, NewType

ReplicaId = NewType("ReplicaId", int)  # 1 to REPLICA_MAX; 0 is reserved
Dot = NewType("Dot", int)

COUNTER_BITS = 40
COUNTER_MAX = (1 << COUNTER_BITS) - 1
REPLICA_MAX = (1 << 23) - 1

Context = tuple[Dot, ...]  # of each replica the greatest dot that is covered, ascending


class Stamp(NamedTuple):
    """`hlc` is a hybrid logical time (see crdt.hlc); the dot makes it unique."""

    hlc: int
    dot: Dot


BEFORE_ALL = Stamp(0, Dot(0))


def make_dot(replica: ReplicaId, counter: int) -> Dot:
    assert 0 < replica <= REPLICA_MAX, replica
    assert 0 < counter <= COUNTER_MAX, counter
    return Dot(replica << COUNTER_BITS | counter)


def replica_of(dot: int) -> ReplicaId:
    return ReplicaId(dot >> COUNTER_BITS)


def counter_of(dot: int) -> int:
    return dot & COUNTER_MAX


def covers(context: Context, dot: Dot) -> bool:
    for mine in context:  # noqa: SIM110 - this is asked several times for each fact
        if dot <= mine and mine >> COUNTER_BITS == dot >> COUNTER_BITS:
            return True
    return False


def join(contexts: Iterable[Iterable[Dot]]) -> Context:
    """Return the context that covers what any of these covers."""
    greatest: dict[int, Dot] = {}
    for context in contexts:
        for dot in context:
            replica = dot >> COUNTER_BITS
            if dot > greatest.get(replica, 0):
                greatest[replica] = dot
    return tuple(sorted(greatest.values()))


@dataclass(frozen=True, slots=True)
class VersionVector:
    """How many commits of each replica have been seen.

    A replica that is absent counts 0, and no 0 is stored, so equal vectors have equal `counters` and
    one encoding.  `<=` is a partial order: never write `not a <= b` for `b < a`.
    """

    counters: Mapping[ReplicaId, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert all(counter > 0 for counter in self.counters.values()), self.counters

    def __contains__(self, dot: Dot) -> bool:
        return dot & COUNTER_MAX <= self.counters.get(ReplicaId(dot >> COUNTER_BITS), 0)

    def __le__(self, other: VersionVector) -> bool:
        return all(counter <= other.counters.get(r, 0) for r, counter in self.counters.items())

    def __iter__(self) -> Iterator[tuple[ReplicaId, int]]:
        return iter(sorted(self.counters.items()))

    def of(self, replica: ReplicaId) -> int:
        return self.counters.get(replica, 0)

    def with_dot(self, dot: Dot) -> VersionVector:
        """Return this vector raised to `dot`.  The dots it passes over are dead (design section 4)."""
        replica, counter = replica_of(dot), counter_of(dot)
        return self if dot in self else VersionVector({**self.counters, replica: counter})

    def merge(self, other: VersionVector) -> VersionVector:
        """Return the least upper bound: the commits that either side has seen."""
        merged = dict(self.counters)
        for replica, counter in other.counters.items():
            merged[replica] = max(counter, merged.get(replica, 0))
        return VersionVector(merged)
