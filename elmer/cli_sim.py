"""elmer sim: random histories on simulated replicas.

The simulator is a part of elmer's source tree (tests/simulator) and is imported from there only when it is
asked for; an installation without its source has none, and says so.
"""

from __future__ import annotations

import importlib
import sys
import time
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from elmer.cli import json_option, say
from elmer.exits import CommandError, ExitStatus

ROOT = Path(__file__).parent.parent
PROGRESS_FIRST_S, PROGRESS_EVERY_S = 1.0, 10.0


class Range(click.ParamType):
    name = "FROM..TO"

    def convert(self, value: object, _param: click.Parameter | None, _context: click.Context | None) -> range:
        first, dots, last = str(value).partition("..")
        if not (dots and first.isdecimal() and last.isdecimal() and int(first) < int(last)):
            self.fail(f"{value!r} is no FROM..TO, two numbers of which the second is greater")
        return range(int(first), int(last))


@click.command()
@click.option("--seed", type=click.IntRange(min=0), help="Play this one history.")
@click.option("--seeds", type=Range(), help="Play these, without TO; 0..200 unless one is given.")
@click.option("--replicas", type=click.IntRange(2, 8), help="How many; else 2 to 5, by the seed.")
@click.option("--steps", type=click.IntRange(min=1), help="How long a history is; else 15 to 200.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="In how many processes.")
@click.option("--keep-going", is_flag=True, help="Do not end with the first failure.")
@json_option
def sim(
    seed: int | None,
    seeds: range | None,
    replicas: int | None,
    steps: int | None,
    jobs: int,
    *,
    keep_going: bool,
    as_json: bool,
) -> ExitStatus:
    """Play random histories on simulated replicas, and check the merge.

    The replicas run what elmer runs, in one thread, with clocks that are wrong, a network that
    loses, repeats and delays, and power cuts.  The laws of the merge are checked after each step,
    and when all have met.  The same seed gives the same history.  Of one that breaks a law the
    shortest form is printed, with the law; the exit status is 1.

    Needs elmer's source tree; without it the exit status is 6.

    \b
    Examples:
      elmer sim --seeds 0..2000 --jobs 2
      elmer sim --seed 17 --replicas 3 --steps 40
    """
    if seed is not None and seeds is not None:
        raise click.UsageError("give --seed or --seeds, not both")
    if seed is not None:
        seeds = range(seed, seed + 1)
    simulator = _Simulator()
    played = _Played(simulator, simulator.histories.Wish(replicas, steps), keep_going=keep_going)
    played.play(seeds or range(200), jobs)
    say(played.said(), "\n".join(played.lines()), as_json=as_json)
    return ExitStatus.NOT_SO if played.failures else ExitStatus.DONE


class _Simulator:
    """The modules of the simulator.  Raises CommandError where there is no source tree."""

    def __init__(self) -> None:
        if not (ROOT / "tests" / "simulator").is_dir():
            raise CommandError(
                f"the simulator is not installed: there is no tests/simulator in {ROOT}; run this command"
                " in elmer's source tree",
                ExitStatus.SOURCE,
            )
        if str(ROOT) not in sys.path:
            sys.path.insert(0, str(ROOT))
        self.histories, self.play, self.ranges = map(self._module, ("histories", "play", "ranges"))

    @staticmethod
    def _module(name: str) -> ModuleType:
        return importlib.import_module(f"tests.simulator.{name}")


class _Played:
    """What came of the histories so far."""

    def __init__(self, simulator: _Simulator, wish: object, *, keep_going: bool) -> None:
        self.simulator, self.wish, self.keep_going = simulator, wish, keep_going
        self.count = self.commits = self.steps = 0
        self.failures: list[dict[str, Any]] = []
        self.began_s = time.monotonic()
        self.seconds = 0.0

    def play(self, seeds: range, jobs: int) -> None:
        due_s = self.began_s + PROGRESS_FIRST_S
        with closing(self.simulator.ranges.outcomes(seeds, self.wish, jobs)) as found:
            for outcome in found:
                self.count += 1
                self.commits += outcome.commits
                self.steps += outcome.steps
                self.seconds = time.monotonic() - self.began_s
                if outcome.law is not None:
                    self.failures.append({"seed": outcome.seed, "law": outcome.law, "report": ""})
                    click.echo(f"seed {outcome.seed}: law {outcome.law} is broken", err=True)
                    if not self.keep_going:
                        break
                if time.monotonic() >= due_s:
                    due_s = time.monotonic() + PROGRESS_EVERY_S
                    click.echo(f"{self._rate()}; {len(seeds) - self.count} to go", err=True)
        self.failures.sort(key=lambda failure: failure["seed"])
        for failure in self.failures:
            if all(failure["law"] != other["law"] or not other["report"] for other in self.failures):
                run = self.simulator.play.simulate(failure["seed"], self.wish)
                failure["report"] = self.simulator.play.report(run)

    def _rate(self) -> str:
        mean = self.commits / self.count
        return (
            f"{self.count} histories, {self.steps} steps, {self.commits} commits ({mean:.1f} a history),"
            f" {self.seconds:.1f} s, {self.count / self.seconds:.1f} histories/s"
        )

    def lines(self) -> list[str]:
        again = "".join(
            f" --{name} {value}" for name, value in self.wish._asdict().items() if value is not None
        )
        told = []
        for failure in self.failures:
            if failure["report"]:
                told += [f"seed {failure['seed']}: {failure['report']}"]
                told += [f"to play it again: elmer sim --seed {failure['seed']}{again}", ""]
            else:
                told += [f"seed {failure['seed']}: law {failure['law']} is broken, too"]
        return [*told, f"{self._rate()}; {len(self.failures) or 'no'} failures"]

    def said(self) -> dict[str, Any]:
        return {
            "histories": self.count,
            "steps": self.steps,
            "commits": self.commits,
            "commits_per_history": self.commits / self.count,
            "seconds": self.seconds,
            "histories_per_second": self.count / self.seconds,
            "failures": self.failures,
        }


COMMANDS = (sim,)
