"""Where the time of one load goes in the daemon: its functions, per request.

    python -m benchmarks.hotspots --load create-write [--system floor] [--method py-spy] [--top N]

Two methods, as each tells what the other cannot:
- `cprofile`: the daemon runs one worker under cProfile (elmer: environment ELMER_PROFILE=FILE, the
  statistics written there when it is unmounted).  Exact counts of calls, so that "few calls, no
  scans" can be read off; but small functions look dearer than they are, and what the load prepares
  is in the figures (requests are told apart, so a handler's own line is right all the same).
- `py-spy` (`pip install py-spy`, no dependency of elmer's): samples from outside, on another core,
  while the load runs, of whatever thread holds the GIL.  So it sees what keeps the other requests
  from being answered, and neither what waits nor what C code does with the GIL released.

Client and daemon are on one core: else what is seen is the waking of the other one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pstats
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict
from pathlib import Path

import llfuse

from benchmarks.loads import LOADS, Measured, Scale
from benchmarks.mount import LOAD_TIMEOUT_S
from benchmarks.report import number, table
from benchmarks.scratch import BenchmarkError, Scratch, scratch, wait_until
from benchmarks.systems import START_TIMEOUT_S, Elmer, Floor, drop_caches, on_cores, settle

SAMPLES_PER_S = 500
HANDLER_FILES = ("fuse.py", "floor.py")
NO_FRAME = "no Python frame: llfuse itself, between requests and handlers"


class Profiled:
    """One system that runs one load, and the load's phases."""

    def __init__(self, run: Scratch, system: Elmer | Floor, load: str, scale: Scale) -> None:
        self.run = run
        self.system = system
        self.load = load
        self.scale_json = json.dumps(asdict(scale))

    def phase(self, which: str) -> str:
        words = [which, self.load, str(self.system.path / self.load), self.scale_json]
        command = [sys.executable, "-m", "benchmarks.loads", *words]
        return self.run.run(command, LOAD_TIMEOUT_S)

    def prepare(self) -> float:
        """Return the processor time used so far."""
        self.phase("prepare")
        if drop := LOADS[self.load].drop:
            drop_caches("entries" if drop == "entries" else "pages")
        return settle(self.run, self.system)

    def measure(self) -> Measured:
        return Measured(**json.loads(self.phase("measure").splitlines()[-1]))


def with_cprofile(profiled: Profiled, profile: Path, top: int) -> str:
    before_s = profiled.prepare()
    measured = profiled.measure()
    used_s = settle(profiled.run, profiled.system) - before_s
    profiled.system.stop()
    if not wait_until(profile.exists, START_TIMEOUT_S):
        raise BenchmarkError(f"{profiled.system.name} wrote no profile: see ELMER_PROFILE")
    return "\n\n".join(
        (
            summary(measured, used_s),
            *profile_tables(pstats.Stats(str(profile)).stats, measured.operations, top),
        )
    )


def profile_tables(stats: dict, operations: int, top: int) -> tuple[str, str]:
    """The handlers of llfuse's requests, then all functions by their own time."""
    requests = []
    functions = []
    for (file, line, name), (_, calls, own_s, in_all_s, _) in stats.items():
        where = name if file == "~" else f"{Path(file).parent.name}/{Path(file).name}:{line} {name}"
        if Path(file).name in HANDLER_FILES and hasattr(llfuse.Operations, name):
            requests.append((in_all_s, where, calls, in_all_s / calls * 1e6))
        functions.append((own_s, where, calls, own_s / calls * 1e6, in_all_s / calls * 1e6))
    requests.sort(reverse=True)
    functions.sort(reverse=True)
    return (
        table(
            ("request", "calls", "per operation", "us a call"),
            [
                (where, f"{calls:,}", number(calls / operations), number(each_us))
                for _, where, calls, each_us in requests[:top]
            ],
        ),
        table(
            ("function", "calls per operation", "own us per operation", "own us", "us in all"),
            [
                (
                    where,
                    number(calls / operations),
                    number(own_s / operations * 1e6),
                    number(own_us),
                    number(in_all_us),
                )
                for own_s, where, calls, own_us, in_all_us in functions[:top]
            ],
        ),
    )


def with_py_spy(profiled: Profiled, cores: AbstractSet[int], top: int) -> str:
    run, system = profiled.run, profiled.system
    program = shutil.which("py-spy") or str(Path(sys.executable).with_name("py-spy"))
    stacks = run.path / "stacks"
    before_s = profiled.prepare()
    command = [program, "record", "--pid", str(fuse_process(run, system.name)), "--gil"]
    # Stopping the daemon for each sample would find it at the end of system calls, mostly.
    command += ["--rate", str(SAMPLES_PER_S), "--function", "--nonblocking", "--format", "raw"]
    try:
        with on_cores(cores):
            sampler, said = run.start([*command, "--output", str(stacks)])
    except FileNotFoundError as error:
        raise BenchmarkError("py-spy is not installed: pip install py-spy") from error

    def sampling() -> bool:
        return sampler.poll() is not None or b"Sampling process" in said.read_bytes()

    wait_until(sampling, START_TIMEOUT_S)
    if sampler.poll() is not None:
        raise BenchmarkError(f"py-spy: {said.read_text(errors='replace').strip()}")
    measured = profiled.measure()
    sampler.send_signal(signal.SIGINT)
    sampler.wait(START_TIMEOUT_S)
    used_s = settle(run, system) - before_s
    system.stop()
    text = stacks.read_text(errors="replace") if stacks.exists() else ""
    return f"{summary(measured, used_s)}\n\n{sample_table(text, measured.operations, top)}"


def sample_table(stacks: str, operations: int, top: int) -> str:
    """Functions by how often they were innermost, from lines "outermost;...;innermost count"."""
    own: Counter[str] = Counter()
    in_all: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame or NO_FRAME for frame in stack.split(";")]
        own[frames[-1]] += int(count)
        in_all.update(dict.fromkeys(frames, int(count)))  # once, though it recurses
    samples = own.total()
    if not samples:
        raise BenchmarkError("py-spy saw nobody hold the GIL: make the load longer (--files)")
    us_a_sample = 1e6 / SAMPLES_PER_S / operations
    return table(
        (f"function ({samples:,} samples)", "own %", "own us/op", "in all %", "in all us/op"),
        [
            (
                frame,
                number(count / samples * 100),
                number(count * us_a_sample),
                number(in_all[frame] / samples * 100),
                number(in_all[frame] * us_a_sample),
            )
            for frame, count in own.most_common(top)
        ],
    )


def summary(measured: Measured, used_s: float) -> str:
    return (
        f"{measured.operations:,} operations in {measured.seconds:.2f} s;"
        f" the daemon used {used_s / measured.operations * 1e6:.1f} us of processor time for each"
    )


def fuse_process(run: Scratch, owner: str) -> int:
    """The process of `owner` that answers the kernel."""
    for pid in run.processes(owner):
        with contextlib.suppress(OSError):
            for link in os.scandir(f"/proc/{pid}/fd"):
                if os.readlink(link.path) == "/dev/fuse":
                    return pid
    raise BenchmarkError(f"no process of {owner} has /dev/fuse open")


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.hotspots", description=__doc__.split("\n")[0])
    parser.add_argument("--load", choices=list(LOADS), required=True)
    parser.add_argument("--system", choices=("elmer", "floor"), default="elmer")
    parser.add_argument("--method", choices=("cprofile", "py-spy"), default="cprofile")
    parser.add_argument("--top", type=int, default=30)
    parser.add_argument("--files", type=int, default=Scale().files)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--workers", type=int, default=4, help="of the floor")
    parser.add_argument("--elmer", default=str(Path(sys.executable).with_name("elmer")))
    parser.add_argument("--dir", help="where the temporary directory goes")
    return parser.parse_args(words)


def run_profile(arguments: argparse.Namespace) -> int:
    scale = Scale(files=arguments.files, mib=arguments.mib)
    cores = os.sched_getaffinity(0)
    with scratch(arguments.dir) as run, on_cores({min(cores)}):
        profile = run.path / "profile"
        wanted = str(profile) if arguments.method == "cprofile" else ""
        system = (
            Elmer(run, run.path / "place", command=arguments.elmer, profile=wanted)
            if arguments.system == "elmer"
            else Floor(run, run.path / "place", workers=arguments.workers, profile=wanted)
        )
        measure: dict[str, Callable[[Profiled], str]] = {
            "cprofile": lambda profiled: with_cprofile(profiled, profile, arguments.top),
            "py-spy": lambda profiled: with_py_spy(profiled, cores, arguments.top),
        }
        try:
            system.start()
            print(measure[arguments.method](Profiled(run, system, arguments.load, scale)))
        except BenchmarkError as error:
            print(f"FAILED {arguments.system}, {arguments.load}: {error}", file=sys.stderr)
            return 1
    return 0


def main(words: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(words)
    with contextlib.suppress(KeyboardInterrupt):
        return run_profile(arguments)
    print("interrupted", file=sys.stderr)
    return 130


if __name__ == "__main__":
    sys.exit(main())
