"""Histories: grown from a seed by being played, played again without the generator, and shortened.

A history is a list of steps.  It grows by being played, since what a program can do depends on what is
there.  A step keeps its meaning when steps before it are left out, so one that fails can be shortened for
as long as it breaks the same law.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tests.simulator.cluster import Library
from tests.simulator.histories import SWARM, Generator, Wish
from tests.simulator.laws import Broken
from tests.simulator.steps import Setup, Step
from tests.simulator.world import World

# In names that are as long as they may be, and contents that are, and their zeros.
LONG_RUN = re.compile(r"(\\x[0-9a-f]{2}|.)\1{30,}")


class Failure(NamedTuple):
    law: str  # that broke; of what the product raised, what and where
    text: str


def failure_of(act: Callable[[], None]) -> Failure | None:
    """Run this; return how it fails.  Whatever the product raises here is its failure."""
    try:
        act()
    except Broken as error:
        return Failure(error.law, "".join(traceback.format_exception(error)))
    except Exception as error:  # noqa: BLE001
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{type(error).__name__} in {frames[-1].name}"
        return Failure(place, "".join(traceback.format_exception(error)))
    return None


class Run(NamedTuple):
    setup: Setup
    history: list[Step]
    trace: list[str]
    library: Library
    digest: str  # in the end
    failure: Failure | None

    @property
    def commits(self) -> int:
        return len(self.library.commits)


def simulate(seed: int, wish: Wish = SWARM) -> Run:
    """Grow a history from a seed, by playing it."""
    generator = Generator(seed, wish)
    world = World(generator.setup)
    history: list[Step] = []

    def grow() -> None:
        while len(history) < generator.length:
            step = generator.step(world)
            if step is not None:
                history.append(step)
                world.play(step)
        history.append(Step("settle", 0, (), generator.random.getrandbits(30)))
        world.play(history[-1])

    failure = failure_of(grow)
    digest = "" if failure else world.cluster.sites[0].fs.digest()
    return Run(generator.setup, history, world.trace, world.cluster.library, digest, failure)


def replay(setup: Setup, history: Iterable[Step]) -> Failure | None:
    world = World(setup)

    def play() -> None:
        for step in history:
            if step.site < len(world.programs):
                world.play(step)
        if not history or history[-1].kind not in ("heal", "settle"):
            world.play(Step("heal", 0))

    history = list(history)
    return failure_of(play)


def shrink(run: Run) -> list[Step]:
    """Leave out halves, quarters, ... single steps, for as long as the same law breaks."""
    assert run.failure is not None
    history, size = run.history, max(1, len(run.history) // 2)
    while True:
        length, start = len(history), 0
        while start < len(history):
            shorter = history[:start] + history[start + size :]
            failure = replay(run.setup, shorter)
            if failure is not None and failure.law == run.failure.law:
                history = shorter
            else:
                start += size
        if size == 1 and len(history) == length:
            return history
        size = max(1, size // 2)


def report(run: Run) -> str:
    """Return the law that broke, the shortest history that breaks it, and how it was noticed."""
    assert run.failure is not None
    failure = replay(run.setup, run.history)
    if failure is None or failure.law != run.failure.law:
        history, failure = run.history, run.failure
        note = "it does not break when it is played again: something is drawn that is not in the seed"
    else:
        history = shrink(run)
        failure = replay(run.setup, history) or failure
        note = f"the shortest history that breaks it has {len(history)} of {len(run.history)} steps"
    lines = [f"law {failure.law} is broken; {note}", f"    {run.setup}"]
    lines += [f"    {step}" for step in history]
    return LONG_RUN.sub(r"\1\1\1...", "\n".join([*lines, failure.text.rstrip()]))
