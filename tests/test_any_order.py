"""Law L1: the same facts show the same, in whatever order they came, however grouped, and whether what was
superseded was sent or not."""

from random import Random

import pytest

from crdt.causality import replica_of
from tests.simulator.healed import check_observer, expected_of
from tests.simulator.play import simulate

SEEDS = range(10_000, 10_060)


@pytest.mark.parametrize("seed", SEEDS)
def test_facts_show_the_same_in_any_order_and_grouping(seed):
    run = simulate(seed)
    assert run.failure is None, run.failure.text
    assert len({replica_of(dot) for dot in run.library.commits}) > 1
    random, expected = Random(seed), expected_of(run.library)
    for _ in range(3):
        assert check_observer(run.library, expected, random).digest == run.digest
