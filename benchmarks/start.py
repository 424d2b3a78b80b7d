"""What a start takes, of stores of several sizes: after an end in order, and after kill -9.

    python -m benchmarks.start [--quick] [--files 10000,100000,1000000] [--changes N] [--rounds N] [--json]

A store is filled by a process that does nothing else (benchmarks.filling) and mounted.  Then such a process
changes files in it until it is killed, so that RocksDB has its log to read back, and it is mounted again: the
newest content must be there, or the figure is FAILED, and the exit status is 1.  The processor time is the
daemon's, without the imports of the command that starts it.  A million files take ten minutes and 2 GB.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cases import Case, run_cases
from benchmarks.filling import NEWEST
from benchmarks.report import Figure
from benchmarks.scratch import BenchmarkError, Scratch, ends
from benchmarks.systems import START_TIMEOUT_S, UMOUNT_TIMEOUT_S
from elmer.directory import StoreDirectory

FILL_TIMEOUT_S = 3600.0
MIB = 1 << 20


class Started:
    """A store, and how long it takes to have it mounted."""

    def __init__(self, run: Scratch, place: Path, elmer: str) -> None:
        self.run = run
        self.elmer = elmer
        self.store, self.mount = place / "store", place / "mount"
        self.newest = b""  # what the file NEWEST had when it was mounted last
        self.mount.mkdir(parents=True)
        self.command("init", str(self.store), "--name", "a")

    def command(self, *words: str, timeout_s: float = START_TIMEOUT_S) -> str:
        return self.run.run([self.elmer, *words], timeout_s, owner="elmer")

    def fill(self, count: int) -> None:
        command = [sys.executable, "-m", "benchmarks.filling", "fill", str(self.rows), str(count)]
        self.run.run(command, FILL_TIMEOUT_S)

    def change_and_be_killed(self, count: int) -> bytes:
        """Return the content of the file that was written last.  Raises BenchmarkError."""
        command = [sys.executable, "-m", "benchmarks.filling", "change", str(self.rows), str(count)]
        child, output = self.run.start(command)
        if not ends(child, FILL_TIMEOUT_S) or child.wait() != -signal.SIGKILL:
            said = output.read_text(errors="replace")
            raise BenchmarkError(f"what changes the store was not killed: {said}")
        return output.read_bytes().strip()

    @property
    def rows(self) -> Path:
        return StoreDirectory(self.store).rows

    def log_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.rows.glob("*.log"))

    def mounted(self) -> tuple[float, float]:
        """Mount it and unmount it; return the seconds until it was mounted, and those of processor time."""
        since_s = time.perf_counter()
        self.command("mount", str(self.store), str(self.mount), timeout_s=FILL_TIMEOUT_S)
        taken = time.perf_counter() - since_s, self.run.cpu_s("elmer")
        newest = self.mount / NEWEST.decode()
        self.newest = newest.read_bytes() if newest.exists() else b""
        self.command("umount", str(self.mount), timeout_s=UMOUNT_TIMEOUT_S)
        return taken


def measure(count: int, run: Scratch, arguments: argparse.Namespace) -> list[Figure]:
    started = Started(run, run.path / f"files-{count}", arguments.elmer)
    started.fill(count)
    in_order = [started.mounted() for _ in range(arguments.rounds)]
    killed, logs = [], []
    for _ in range(arguments.rounds):
        newest = started.change_and_be_killed(arguments.changes)
        logs.append(started.log_bytes() / MIB)
        killed.append(started.mounted())
        if started.newest != newest:
            raise BenchmarkError("the newest content is not there after a kill")
    what = f"{count:,} files"
    return [
        Figure(f"{what}: a start after an end in order", [each for each, _ in in_order], "s"),
        Figure(f"{what}: its processor time", [each for _, each in in_order], "s"),
        Figure(f"{what}: the log after a kill", logs, "MiB"),
        Figure(f"{what}: a start after a kill", [each for each, _ in killed], "s"),
        Figure(f"{what}: its processor time", [each for _, each in killed], "s"),
    ]


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.start", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="100 files, 10 changes, one round")
    parser.add_argument("--files", help="sizes of the stores (default: 10000,100000,1000000)")
    parser.add_argument("--changes", type=int, help="before each kill (default: 100,000)")
    parser.add_argument("--rounds", type=int, help="default: 3")
    parser.add_argument("--elmer", default=str(Path(sys.executable).with_name("elmer")))
    parser.add_argument("--dir", help="where the temporary directory goes")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    arguments.only = (arguments.files or ("100" if arguments.quick else "10000,100000,1000000")).split(",")
    if not all(size.isdecimal() and int(size) > 0 for size in arguments.only):
        parser.error(f"--files: {arguments.files!r} is not a list of numbers with commas between")
    arguments.changes = arguments.changes or (10 if arguments.quick else 100_000)
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 3)
    return arguments


def case_of(count: int) -> Case:
    return lambda run, arguments: measure(count, run, arguments)


def main(words: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(words)
    cases = {size: case_of(int(size)) for size in arguments.only}
    return run_cases("what is started", cases, arguments)


if __name__ == "__main__":
    sys.exit(main())
