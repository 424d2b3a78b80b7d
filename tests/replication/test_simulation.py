"""Production sessions under cuts, delays, crashes and late syncs, from a seed."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdt.blocks import hash_of
from crdt.causality import make_dot
from crdt.codec import unpack
from replication.exchange import Exchange
from replication.limits import Limits
from tests.replication.network import Network

SHAPES = {
    "pair": (2, [(0, 1)]),
    "line": (3, [(0, 1), (1, 2)]),
    "triangle": (3, [(0, 1), (1, 2), (0, 2)]),
    "ring": (4, [(0, 1), (1, 2), (2, 3), (3, 0)]),
}


class Run:
    """`steps` random events, then healing.  `trace` is what happened, for replays."""

    def __init__(self, shape: str, seed: int, steps: int) -> None:
        random = self.random = Random(seed)
        limits = Limits(
            slice_bytes=random.choice([50, 1000, 100_000]),
            window_bytes=random.choice([200, 100_000]),
            stage_commits_max=random.choice([3, 10_000]),
            blocks_in_flight_max=random.choice([1, 4, 128]),
            blocks_per_message=random.choice([1, 32]),
            blocks_refill=random.choice([2, 4096]),
        )
        self.network = Network(*SHAPES[shape], seed=seed, limits=limits)
        self.network.delay_max_s = random.choice([0.0, 0.5])
        self.acknowledged: set[tuple[int, int, bytes]] = set()  # synced where they were made
        self.trace: list[object] = []
        for _ in range(steps):
            self.event()
        self.heal()

    def event(self) -> None:
        network, random = self.network, self.random
        site = random.choice(network.sites)
        link = random.choice(network.links)
        kind = random.choice(["write"] * 4 + ["step"] * 6 + ["cut", "connect", "crash", "kill", "tick"])
        match kind:
            case "write":
                blocks = [b"%d" % random.randrange(10**6) for _ in range(random.randrange(3))]
                for _ in range(random.choice([1, 1, 20])):
                    site.local.commit(b"%d" % random.randrange(10**9), blocks)
            case "step":
                network.step()
            case "cut":
                link.cut()
            case "connect" if not link.is_up:
                link.connect()
            case "kill":
                # What no peer was sent may be erased: here, what was made since the last sync.
                made = site.local.now.of(site.local.replica)
                if made > site.local.durable.of(site.local.replica):
                    site.local.kill(made)
            case "crash":
                for other in network.links:
                    if any(end.site is site for end in other.ends):
                        other.cut()
                site.local.crash()
                site.exchange = Exchange(site.local, network.limits)
            case "tick":
                network.now_s += 6
                network.tick()
        for every in network.links:
            assert every.error is None, every.error
        for one in network.sites:
            check_site(one.local)
            self.acknowledged |= own_durable(one.local)
        self.trace.append((kind, [sorted(s.local.facts()) for s in network.sites]))

    def heal(self) -> None:
        for _ in range(3):  # blocks that were asked for in vain are asked for again after a while
            self.network.connect()
            self.network.run()
            self.network.now_s += 400
            self.network.tick()
        self.network.run()


def own_durable(local) -> set[tuple[int, int, bytes]]:
    return {
        unpack(data)[:3]
        for data in local.log[: local.end]
        if data is not None and unpack(data)[0] == local.replica
    }


def check_site(local) -> None:
    """The vector covers each commit that is here, and no counter has two commits."""
    dots = [unpack(data)[:2] for data in local.log if data is not None]
    assert len(dots) == len(set(dots))
    assert all(make_dot(*dot) in local.now for dot in dots)


def check(run: Run) -> None:
    locals_ = [site.local for site in run.network.sites]
    first = locals_[0]
    assert all(link.error is None for link in run.network.links)
    for local in locals_:
        assert local.facts() == first.facts()
        assert local.vector() == first.vector()
        assert local.needed == {}
        for data in local.facts():
            assert all(hash_of(local.store[h]) == h for h in unpack(data)[3])
    here = {unpack(data)[:3] for data in first.facts()}
    assert run.acknowledged <= here


@pytest.mark.parametrize("shape", SHAPES)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_all_converge_once_the_network_heals(shape, seed):
    check(Run(shape, seed, steps=60))


def test_the_same_seed_gives_the_same_run():
    assert Run("triangle", 7, 80).trace == Run("triangle", 7, 80).trace
