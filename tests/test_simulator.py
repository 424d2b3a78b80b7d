"""Random histories of whole replicas, from a fixed range of seeds (see tests/simulator)."""

import errno
import os

import pytest

from crdt.facts import ROOT
from tests.simulator.cluster import Door
from tests.simulator.extension import extension
from tests.simulator.histories import WEIGHTS
from tests.simulator.laws import Broken
from tests.simulator.play import replay, report, shrink, simulate
from tests.simulator.steps import Setup, Step
from tests.simulator.world import World
from translation.mounted import Mounted

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


def test_a_head_that_an_open_file_goes_on_from_is_not_kept_a_second_time():
    """This history makes another file of a branch that shows such a head instead of its own content.  That
    head was to show itself instead, on one map, which the next version took along: zeros were written."""
    assert simulate(10228796).failure is None


def test_a_mode_that_a_commit_sets_is_not_held_by_it_too():
    """A file with a twin at one of its names gets a mode by the other name, and the two part.  What the first
    name showed was held in the same commit by a second mode: which of the two counts nobody could say."""
    assert simulate(11807331).failure is None


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EIO, errno.EEXIST, errno.ENOTDIR, errno.EINVAL])
def test_an_error_that_nothing_accounts_for_is_a_failure(monkeypatch: pytest.MonkeyPatch, number: int):
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Mounted, "unlink", fail)
    laws = {run.failure.law for run in map(simulate, range(10)) if run.failure is not None}
    assert "POSIX" in laws
    assert laws <= {"POSIX", "L7"}  # that of `rm -r`


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


A, B, C = range(3)
TEXT, OTHER, NEW = range(3)  # of a few contents


@pytest.fixture
def world() -> World:
    """Three sites that know of each other."""
    world = World(Setup((0, 0, 0), 1 << 20, 20_000, contents=3))
    world.play(Step("join", 0))
    world.play(Step("heal", 0))
    return world


def new_for(world: World, site: int, other: int) -> list[bytes]:
    """The commits of another site that this one lacks."""
    theirs = world.cluster.sites[other].replica
    theirs.sync()
    return theirs.arrivals(0, world.cluster.sites[site].replica.seen(), 1 << 20)[0]


def hear(world: World, site: int, other: int) -> None:
    theirs, new = world.cluster.sites[other], new_for(world, site, other)
    vector, end = theirs.replica.seen(), theirs.replica.durable_end()
    Door(world.cluster.sites[site]).receive(new, vector, theirs.store_id, end)


def test_a_merged_write_may_part_a_file_from_the_one_it_shows_as_at_another_name(world):
    """B's file has two names; at one of them C shows A's, which is equal.  B, who has not heard of that,
    writes to the other name: at the first one the two part."""
    world.play(Step("create", A, ((b"a",),), TEXT))
    world.play(Step("create", B, ((b"a",),), TEXT))
    world.play(Step("link", B, ((b"a",), (b"b",)), 0))
    hear(world, C, A)
    hear(world, C, B)
    world.play(Step("append", B, ((b"b",),), NEW))
    hear(world, C, B)
    world.play(Step("heal", 0))


def test_a_merged_write_may_make_an_entry_join_the_file_where_it_leaves_nothing(world):
    """B edits what A removes and makes anew, then empties it: an empty file adds nothing to any other."""
    world.play(Step("create", A, ((b"a",),), TEXT))
    hear(world, B, A)
    world.play(Step("append", B, ((b"a",),), OTHER))
    world.play(Step("save_anew", A, ((b"a",),), NEW))
    hear(world, C, A)
    hear(world, C, B)
    assert len(world.programs[C].look()) == 2
    b = world.cluster.sites[B]
    ino = b.fs.lookup(ROOT, b"a").ino
    b.fs.setattr(ino, size=0)
    hear(world, C, B)
    assert len(world.programs[C].look_again()) == 1


@pytest.mark.parametrize("path", [b"/a", b"/b"])
def test_a_merged_write_that_changes_something_else_is_noticed(world, path):
    """The check of the check, with files elsewhere that show as one."""
    world.play(Step("create", A, ((b"a",),), TEXT))
    world.play(Step("create", A, ((b"b",),), OTHER))
    world.play(Step("create", A, ((b"c",),), OTHER))
    world.play(Step("create", B, ((b"c",),), OTHER))
    hear(world, C, A)
    hear(world, C, B)
    world.play(Step("append", A, ((b"a",),), NEW))
    found = extension(world.programs[C], new_for(world, C, A))
    assert found is not None
    hear(world, C, A)
    found.check()
    found.before[path] = found.before[path]._replace(uid=7)
    with pytest.raises(Broken, match=f"(?s)L4, .*a merged write changes something else.*{path.decode()}"):
        found.check()


def test_a_failing_history_is_shrunk_to_what_fails():
    run = simulate(3)
    bad = Step("no such step", 0)
    history = [*run.history[:10], bad, *run.history[10:20]]
    failure = replay(run.setup, history)
    assert failure is not None
    assert shrink(run._replace(history=history, failure=failure)) == [bad]
