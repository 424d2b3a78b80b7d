"""Random histories of whole replicas, from a fixed range of seeds (see tests/simulator)."""

import pytest

from tests.simulator.histories import WEIGHTS
from tests.simulator.play import replay, report, shrink, simulate
from tests.simulator.steps import Step
from tests.simulator.world import World

HISTORIES = 2000
CHUNK = 100


@pytest.mark.parametrize("first", range(0, HISTORIES, CHUNK))
def test_whatever_happens_all_replicas_show_the_same_and_nothing_is_lost(first):
    for seed in range(first, first + CHUNK):
        run = simulate(seed)
        if run.failure is not None:
            pytest.fail(f"seed {seed}: {report(run)}")


def test_the_same_seed_gives_the_same_trace_twice():
    for seed in (1, 7, 9):
        once, again = simulate(seed), simulate(seed)
        assert once.trace == again.trace
        assert once.history == again.history


def test_a_history_can_be_played_again_without_its_generator():
    run = simulate(7)
    world = World(run.setup)
    for step in run.history:
        world.play(step)
    assert world.trace == run.trace


def test_histories_are_long_enough_to_bite():
    runs = [simulate(seed) for seed in range(60)]
    assert sum(run.commits for run in runs) / len(runs) > 20
    assert len({len(run.setup.skews_ns) for run in runs}) > 2
    kinds = {step.kind for run in runs for step in run.history}
    assert {*WEIGHTS, "crash", "join", "heal", "run", "sync", "connect", "disconnect"} <= kinds
    assert any(len(run.history) > 150 for run in runs)


def test_what_is_acknowledged_and_lost_is_noticed():
    """The check of the check: a program is told that a token is safe which nobody wrote."""
    world = World(simulate(3).setup)
    world.play(Step("create", 0, ((b"a",),), 5))
    world.ledger.written[-1].tokens.add(b"<999999>")
    with pytest.raises(AssertionError, match="acknowledged and lost"):
        world.play(Step("heal", 0))


def test_a_replica_that_shows_something_else_is_noticed():
    world = World(simulate(3).setup)
    world.play(Step("create", 0, ((b"a",),), 5))
    lost = next(dot for dot, made in world.cluster.library.commits.items() if len(made.facts) > 1)
    del world.cluster.library.commits[lost]
    with pytest.raises((AssertionError, KeyError)):
        world.play(Step("heal", 0))


def test_a_failing_history_is_shrunk_to_what_fails():
    run = simulate(3)
    bad = Step("no such step", 0)
    history = [*run.history[:10], bad, *run.history[10:20]]
    failure = replay(run.setup, history)
    assert failure is not None
    assert shrink(run._replace(history=history, failure=failure)) == [bad]
