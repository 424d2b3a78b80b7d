"""Law L1: a replica that made nothing hears of all commits in another order, in other groups, and twice."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from crdt.causality import Dot, ReplicaId, VersionVector
from crdt.encoding import encode_commit
from crdt.facts import Commit
from crdt.store import MemoryStore
from tests.simulator.cluster import START_NS, VOLUME, Library
from translation.replica import Replica

NUMBER = ReplicaId(77)


def any_order(library: Library, random: Random) -> list[Commit]:
    """Draw an order in which each commit comes after those that its author had seen."""
    order, arrived = [], VersionVector()
    left = dict(library.commits)
    while left:
        ready = sorted(dot for dot in left if library.seen[dot] <= arrived)
        dot = random.choice(ready)
        order.append(left.pop(dot))
        arrived = arrived.with_dot(Dot(dot))
    return order


def observer(order: Sequence[Commit], library: Library, random: Random) -> Replica:
    """A replica that received these, with what superseded facts were when they were made."""
    store = MemoryStore()
    Replica.create(store, VOLUME, NUMBER, "observer", b"o" * 16, START_NS)
    replica = Replica(store, lambda: START_NS)
    vector, start = replica.seen(), 0
    while start < len(order):
        end = start + random.choice([1, 1, 2, 5, 50])
        again = max(0, start - random.choice([0, 0, 3]))  # some of it was heard before
        for commit in order[again:end]:
            vector = vector.with_dot(commit.dot)
        replica.receive([encode_commit(commit) for commit in order[again:end]], vector, b"p" * 16, end)
        start = end
        if random.random() < 0.5:
            replica.add_blocks([library.blocks[h] for h in replica.wanted(1000) if h in library.blocks])
        if random.random() < 0.2:
            replica = Replica(store, lambda: START_NS)
    replica.add_blocks([library.blocks[h] for h in replica.wanted(1000)])
    return replica
