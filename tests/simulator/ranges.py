"""Many seeds, in one process or several.

Each process plays every n-th seed and sends what came of it; it ends by itself when nobody listens any
more, so a run that is killed leaves none behind.
"""

from __future__ import annotations

import signal
from collections.abc import Generator, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import NamedTuple

from tests.simulator.histories import Wish
from tests.simulator.play import simulate


class Outcome(NamedTuple):
    seed: int
    commits: int
    steps: int
    law: str | None  # that broke


def outcome(seed: int, wish: Wish) -> Outcome:
    run = simulate(seed, wish)
    return Outcome(seed, run.commits, len(run.history), run.failure.law if run.failure else None)


def outcomes(seeds: Sequence[int], wish: Wish, jobs: int) -> Generator[Outcome, None, None]:
    """Yield what comes of each seed, as it comes.  Ends its processes when it is closed."""
    if jobs == 1 or len(seeds) == 1:
        for seed in seeds:
            yield outcome(seed, wish)
        return
    context = get_context("spawn")  # a fork would hold the ends of the others' pipes open
    pipes: list[Connection] = []
    processes = []
    try:
        for number in range(min(jobs, len(seeds))):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_play, args=(seeds[number::jobs], wish, sender))
            process.start()
            sender.close()
            pipes.append(receiver)
            processes.append(process)
        yield from _received(pipes)
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.terminate()
            process.join()


def _received(pipes: Sequence[Connection]) -> Generator[Outcome, None, None]:
    """Raises EOFError where a process died before it was done."""
    left = list(pipes)
    while left:
        for pipe in wait(left):
            assert isinstance(pipe, Connection)
            found: Outcome | None = pipe.recv()
            if found is None:
                left.remove(pipe)
            else:
                yield found


def _play(seeds: Sequence[int], wish: Wish, results: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started this
    with suppress(BrokenPipeError):
        for seed in seeds:
            results.send(outcome(seed, wish))
        results.send(None)
