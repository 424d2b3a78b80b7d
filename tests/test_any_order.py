"""Law L1: the same facts show the same, in whatever order they came, however grouped, and whether what was
superseded was sent or not."""

from random import Random

import pytest

from crdt.causality import Dot, ReplicaId, VersionVector, replica_of
from crdt.encoding import encode_commit
from crdt.store import MemoryStore
from tests.simulator.cluster import START_NS, VOLUME
from tests.simulator.healed import check_shown, expected_of
from tests.simulator.play import simulate
from translation.filesystem import FileSystem
from translation.fsck import check as fsck
from translation.replica import Replica

OBSERVER = ReplicaId(77)
SEEDS = range(10_000, 10_060)


def any_order(commits, seen, random):
    """Draw an order in which each commit comes after those that its author had seen."""
    order, arrived = [], VersionVector()
    left = dict(commits)
    while left:
        ready = sorted(dot for dot in left if seen[dot] <= arrived)
        dot = random.choice(ready)
        order.append(left.pop(dot))
        arrived = arrived.with_dot(Dot(dot))
    return order


def observer(order, blocks, random):
    """A replica that made nothing itself and receives these commits in groups."""
    store = MemoryStore()
    Replica.create(store, VOLUME, OBSERVER, "observer", b"o" * 16, START_NS)
    replica = Replica(store, lambda: START_NS)
    vector, start = replica.seen(), 0
    while start < len(order):
        group = order[start : start + random.choice([1, 1, 2, 5, 50])]
        start += len(group)
        for commit in group:
            vector = vector.with_dot(commit.dot)
        replica.receive([encode_commit(commit) for commit in group], vector, b"p" * 16, start)
        if random.random() < 0.5:
            replica.add_blocks([blocks[h] for h in replica.wanted(1000) if h in blocks])
        if random.random() < 0.2:
            replica = Replica(store, lambda: START_NS)
    replica.add_blocks([blocks[h] for h in replica.wanted(1000)])
    return replica


@pytest.mark.parametrize("seed", SEEDS)
def test_facts_show_the_same_in_any_order_and_grouping(seed):
    run = simulate(seed)
    assert run.failure is None, run.failure.text
    library, random = run.library, Random(seed)
    assert len({replica_of(dot) for dot in library.commits}) > 1
    expected = expected_of(library)
    for _ in range(3):
        order = any_order(library.commits, library.seen, random)
        replica = observer(order, library.blocks, random)
        fs = FileSystem(replica)
        check_shown("the observer", fs, expected)
        assert fs.digest() == run.digest
        assert not list(fsck(replica.store))
