"""Law L5: what two replicas choose at once holds (see tests/simulator/settling.py)."""

from random import Random

import pytest

from tests.simulator import settling
from tests.simulator.laws import Broken
from tests.simulator.play import simulate
from tests.simulator.settling import WAYS, Copy, choose, settle
from tests.simulator.steps import Setup, Step
from tests.simulator.world import World


@pytest.fixture
def world() -> World:
    """Two sites that have made a file at one name, and heard of it."""
    world = World(Setup((0, 0), 1 << 20, 20_000))
    world.play(Step("create", 0, ((b"a",),), 5))
    world.play(Step("create", 1, ((b"a",),), 6))
    world.play(Step("heal", 0))
    return world


def choices(world: World, ways: tuple[str, str]) -> list[settling.Choice]:
    (conflict,) = world.cluster.sites[0].fs.conflicts()
    made = [choose(Copy(site), conflict, way) for site, way in zip(world.cluster.sites, ways, strict=True)]
    return [choice for choice in made if choice is not None]


@pytest.mark.parametrize("mine", WAYS)
@pytest.mark.parametrize("theirs", WAYS)
def test_every_pair_of_choices_holds(world, mine, theirs):
    (conflict,) = world.cluster.sites[0].fs.conflicts()
    one, other = choices(world, (mine, theirs))
    assert one.chosen
    settling.check(conflict, one, other)


def test_a_choice_that_is_lost_is_noticed(world):
    (conflict,) = world.cluster.sites[0].fs.conflicts()
    one, other = choices(world, ("remove", "rename away"))
    with pytest.raises(Broken, match=r"L5, .*<999998>' is lost"):
        settling.check(conflict, one, other._replace(chosen=b"<999998>"))


def test_one_choice_that_becomes_two_is_noticed(world):
    (conflict,) = world.cluster.sites[0].fs.conflicts()
    one, other = choices(world, ("remove", "remove the bare one"))
    with pytest.raises(Broken, match=r"L5, .* that is not one choice"):
        settling.check(conflict, one, other._replace(way="remove"))


@pytest.mark.parametrize("seed", range(20_000, 20_040))
def test_every_pair_of_choices_holds_for_every_conflict_that_a_history_leaves(seed, monkeypatch):
    monkeypatch.setattr(settling, "EVERY_PAIR", 1)
    run = simulate(seed)
    assert run.failure is None, run.failure.text


def test_the_sites_themselves_are_left_as_they_were(world, monkeypatch):
    monkeypatch.setattr(settling, "EVERY_PAIR", 1)
    before = [site.fs.digest() for site in world.cluster.sites]
    counts = [site.replica.facts_count() for site in world.cluster.sites]
    checked = []
    monkeypatch.setattr(settling, "check", lambda *about: checked.append(about))
    settle(world.cluster.sites, Random(1))
    assert len(checked) == len(WAYS) ** 2
    assert [site.fs.digest() for site in world.cluster.sites] == before
    assert [site.replica.facts_count() for site in world.cluster.sites] == counts
