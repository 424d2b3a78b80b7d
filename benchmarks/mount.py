"""The same loads on elmer, on a plain directory and on the floor, side by side in one run.

    python -m benchmarks.mount [--quick] [--rounds N] [--loads NAME,...] [--systems NAME,...]

Every load runs on all systems one after the other, in several rounds, with the order of the systems
turned from round to round; the figure is the median of the rounds.  All of it is done twice:
*free*, and with client and daemon on *one core* (where they sit on different virtual cores, waking
the sleeping one costs more than most requests).  Compare only within one run.

Where the rounds of a load differ by more than a factor of UNSTEADY, that is said below the table:
something else was at work, and the median may be as wrong as any of them.

A load that fails, or answers wrongly, shows as FAILED with the reason below the table, and the exit
status is 1; 130 after Ctrl-C, with everything cleaned up.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import shutil
import statistics
import sys
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field
from os import sched_getaffinity
from pathlib import Path

from benchmarks.loads import LOADS, Load, Measured, Scale
from benchmarks.report import machine, number, table, warn_if_busy
from benchmarks.scratch import BenchmarkError, Scratch, scratch, unmount
from benchmarks.systems import Elmer, Floor, Plain, System, drop_caches, on_cores, settle

SYSTEMS = ("plain", "floor", "elmer")
PLACEMENTS = ("free", "one core")
QUICK = Scale(files=300, mib=16, overwrites=500, transactions=50, fsyncs=50, passes=3)
LOAD_TIMEOUT_S = 900.0
UNSTEADY = 2.0

MakeSystem = Callable[[Path], System]


@dataclass
class Cell:
    """One load on one system in one placement: what each round gave."""

    rounds: list[Measured] = field(default_factory=list)
    daemon_us: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def figure(self) -> float | None:
        """The median, or None where any round failed: half a measurement is none."""
        if self.errors or not self.rounds:
            return None
        return statistics.median(measured.figure for measured in self.rounds)

    def daemon_us_median(self) -> float | None:
        """Processor time of the daemon per operation in microseconds."""
        return statistics.median(self.daemon_us) if self.daemon_us and not self.errors else None


Cells = dict[tuple[str, str, str], Cell]  # by placement, load, system


class Seat:
    """One system through one round in one placement; after a failure it starts anew."""

    def __init__(self, run: Scratch, name: str, place: Path, make: MakeSystem) -> None:
        self.run = run
        self.name = name
        self.place = place / name
        self.make = make
        self.starts = 0
        self.broken = ""
        self.system: System | None = None
        self.start()

    def start(self) -> None:
        self.starts += 1
        self.system = system = self.make(self.place / str(self.starts))
        try:
            system.start()
        except BenchmarkError as error:
            self.broken = f"does not start: {error}"
            self.end()

    def end(self) -> None:
        """Make an end of a system that failed; what it still has does not matter."""
        self.run.end_processes(self.name)
        path = str(self.system.path)
        if path in self.run.mounts():
            unmount(path, force=True)

    def stop(self) -> str:
        """Return what went wrong, or nothing."""
        if self.broken:
            return ""
        try:
            self.system.stop()
        except BenchmarkError as error:
            self.end()
            return f"does not stop: {error}"
        if str(self.system.path) in self.run.mounts():
            self.end()
            return "said that it had stopped, but is mounted"
        if not isinstance(self.system, Plain):
            shutil.rmtree(self.place)  # few files, and they may be large
        return ""

    def measure(self, name: str, scale: Scale, cell: Cell) -> None:
        if self.broken:
            cell.errors.append(self.broken)
            return
        try:
            measured, daemon_s = measure_once(self.run, self.system, name, scale)
        except BenchmarkError as error:
            cell.errors.append(str(error))
            self.end()
            self.start()
        else:
            cell.rounds.append(measured)
            if not isinstance(self.system, Plain):
                cell.daemon_us.append(daemon_s / measured.operations * 1e6)


def measure_once(run: Scratch, system: System, name: str, scale: Scale) -> tuple[Measured, float]:
    """Prepare, drop caches as the load asks, measure, clean up.

    Returns the measurement and the processor time that the daemon spent on it, what it put off
    included.
    """
    # ext4 spreads directories by their names, so the name is another one each time.
    directory = str(system.path / f"{name}-{secrets.token_hex(4)}")
    scale_json = json.dumps(asdict(scale))

    def phase(which: str) -> str:
        command = [sys.executable, "-m", "benchmarks.loads", which, name, directory, scale_json]
        return run.run(command, LOAD_TIMEOUT_S)

    phase("prepare")
    drop = LOADS[name].drop
    if drop == "mount":
        system.remount()
        drop_caches("pages")
    elif drop:
        drop_caches(drop)
    before_s = settle(run, system)
    measured = Measured(**json.loads(phase("measure").splitlines()[-1]))
    daemon_s = settle(run, system) - before_s
    if LOADS[name].bulky:
        phase("clean")
    return measured, daemon_s


def measure_round(
    run: Scratch,
    place: Path,
    makers: dict[str, MakeSystem],
    loads: Sequence[str],
    scale: Scale,
    cell_of: Callable[[str, str], Cell],
) -> None:
    seats = {name: Seat(run, name, place, make) for name, make in makers.items()}
    for load in loads:
        for name, seat in seats.items():
            seat.measure(load, scale, cell_of(load, name))
    for name, seat in seats.items():
        if problem := seat.stop():
            cell_of(loads[-1], name).errors.append(problem)


def measure_all(
    run: Scratch,
    makers: dict[str, MakeSystem],
    loads: Sequence[str],
    scale: Scale,
    rounds: int,
    cores: dict[str, AbstractSet[int]],
) -> Cells:
    cells: Cells = {
        (placement, load, name): Cell() for placement in cores for load in loads for name in makers
    }
    names = list(makers)
    for index in range(rounds):
        turned = names[index % len(names) :] + names[: index % len(names)]
        for placement, allowed in cores.items():
            print(f"round {index + 1} of {rounds}, {placement}", file=sys.stderr)
            place = run.path / f"{index}-{placement.replace(' ', '-')}"
            with on_cores(allowed):
                measure_round(
                    run,
                    place,
                    {name: makers[name] for name in turned},
                    loads,
                    scale,
                    lambda load, name, placement=placement: cells[placement, load, name],
                )
    return cells


def speed_ratio(load: Load, ours: float | None, other: float | None) -> str:
    """How many times as fast as the other: above 1 is faster, for times as for rates."""
    if not ours or not other:
        return "-"
    return f"{other / ours if load.lower_is_better else ours / other:.2f}"


def placement_table(cells: Cells, placement: str, loads: Sequence[str], names: list[str]) -> str:
    ours, others = names[-1], names[:-1][::-1]
    daemons = [name for name in names if name != "plain"]
    header = [placement, "unit", *names]
    header += [f"{ours}/{other}" for other in others]
    header += [f"{name} us/op" for name in daemons]
    rows = []
    for load in loads:
        of = {name: cells[placement, load, name] for name in names}
        figures = {name: cell.figure() for name, cell in of.items()}
        row = [LOADS[load].title, LOADS[load].unit]
        row += ["FAILED" if figures[name] is None else number(figures[name]) for name in names]
        row += [speed_ratio(LOADS[load], figures[ours], figures[other]) for other in others]
        spent = [of[name].daemon_us_median() for name in daemons]
        row += ["-" if one is None else number(one) for one in spent]
        rows.append(row)
    return table(header, rows)


def failures(cells: Cells) -> list[str]:
    return [
        f"FAILED {name}, {placement}, {load}: {error}"
        for (placement, load, name), cell in cells.items()
        for error in dict.fromkeys(cell.errors)
    ]


def unsteady(cells: Cells) -> list[str]:
    found = []
    for (placement, load, name), cell in cells.items():
        figures = [measured.figure for measured in cell.rounds]
        if figures and max(figures) > UNSTEADY * min(figures):
            spread = f"{number(min(figures))} to {number(max(figures))} {LOADS[load].unit}"
            found.append(f"unsteady: {name}, {placement}, {load}: {spread}")
    return found


def as_json(cells: Cells) -> list[dict[str, object]]:
    return [
        {
            "placement": placement,
            "load": load,
            "system": name,
            "unit": LOADS[load].unit,
            "median": cell.figure(),
            "daemon_us_per_operation": cell.daemon_us_median(),
            "rounds": [asdict(measured) for measured in cell.rounds],
            "errors": cell.errors,
        }
        for (placement, load, name), cell in cells.items()
    ]


def names_among(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        wanted = text.split(",")
        if unknown := sorted(set(wanted) - set(known)):
            choice = ", ".join(known)
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {choice}")
        return [name for name in known if name in wanted]

    return parse


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.mount", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, help="default: 3, or 1 with --quick")
    parser.add_argument("--files", type=int, help=f"default: {Scale().files}")
    parser.add_argument("--mib", type=int, help=f"size of the large file, default: {Scale().mib}")
    parser.add_argument("--loads", type=names_among(list(LOADS)), default=list(LOADS))
    parser.add_argument("--systems", type=names_among(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--placements", type=names_among(PLACEMENTS), default=list(PLACEMENTS))
    parser.add_argument("--workers", type=int, default=4, help="of the floor: as many as elmer's")
    parser.add_argument("--elmer", default=str(Path(sys.executable).with_name("elmer")))
    parser.add_argument("--dir", help="where the temporary directory goes: on the disk to measure")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(words)


def run_benchmark(arguments: argparse.Namespace) -> int:
    scale_of = asdict(QUICK if arguments.quick else Scale())
    given = {"files": arguments.files, "mib": arguments.mib}
    scale = Scale(**{**scale_of, **{key: value for key, value in given.items() if value}})
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    allowed = sched_getaffinity(0)
    cores = {"free": allowed, "one core": {min(allowed)}}
    warn_if_busy()
    with scratch(arguments.dir) as run:
        makers: dict[str, MakeSystem] = {
            "plain": lambda place: Plain(run, place),
            "floor": lambda place: Floor(run, place, workers=arguments.workers),
            "elmer": lambda place: Elmer(run, place, command=arguments.elmer),
        }
        about = machine(run.path)
        cells = measure_all(
            run,
            {name: makers[name] for name in arguments.systems},
            arguments.loads,
            scale,
            rounds,
            {placement: cores[placement] for placement in arguments.placements},
        )
    settings = {**asdict(scale), "rounds": rounds, "floor workers": arguments.workers}
    if arguments.json:
        print(json.dumps({"machine": about, "settings": settings, "results": as_json(cells)}))
    else:
        print("; ".join(f"{key}: {value}" for key, value in {**about, **settings}.items()))
        print("Ratios are of speed, above 1 is faster; us/op is the daemon's processor time.")
        for placement in arguments.placements:
            print(f"\n{placement_table(cells, placement, arguments.loads, arguments.systems)}")
    problems = failures(cells)
    if notes := [*unsteady(cells), *problems]:
        print("", *notes, sep="\n", file=sys.stderr if arguments.json else sys.stdout)
    return 1 if problems else 0


def main(words: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(words)
    with contextlib.suppress(KeyboardInterrupt):
        return run_benchmark(arguments)
    print("interrupted", file=sys.stderr)
    return 130


if __name__ == "__main__":
    sys.exit(main())
