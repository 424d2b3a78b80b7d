"""From replica A to replica B on loopback: how soon, and in how many bytes.

    python -m benchmarks.replication [--quick] [--mib N] [--files N] [--json]

A first pair of replicas gives the times: from the close of a 4 KiB file on A until its name, and
its content, are there on B; many files; one large file; a renamed folder.  A second pair, with all
its traffic through counting proxies, gives the bytes, so that these slow no figure down.

Whatever fails shows as FAILED with its reason, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.loads import BLOCK, MIB
from benchmarks.replicas import Client, Pair
from benchmarks.report import machine, number, percentile, table, warn_if_busy
from benchmarks.scratch import BenchmarkError, Scratch, scratch

IDLE_S = 5.0

Figures = dict[str, tuple[float, str]]  # what -> (value, unit)


class Replication:
    """One pair with a writer on A and a watcher on B."""

    def __init__(self, run: Scratch, pair: Pair, poll_us: int) -> None:
        self.run = run
        self.pair = pair
        self.poll_us = poll_us
        self.start()

    def start(self) -> None:
        self.writer = Client(self.run, self.pair.mount_of("a"), self.poll_us)
        self.watcher = Client(self.run, self.pair.mount_of("b"), self.poll_us)

    def end(self) -> None:
        self.writer.end()
        self.watcher.end()

    def both(self, what: str, write: dict, watch: dict) -> tuple[dict, dict]:
        """Do `what` on A while it is watched for on B."""
        try:
            self.watcher.ask(f"watch {what}", **watch)
            self.watcher.answer()  # it is watching
            self.writer.ask(f"write {what}", **write)
            written = self.writer.answer()
            return written, self.watcher.answer()
        except BenchmarkError:
            # One of them may still be at it, and would answer the next question with this one's.
            self.end()
            self.start()
            raise

    def one_by_one(self, count: int) -> Figures:
        """The pauses are random so that no timer of a daemon falls into step with the writer."""
        pause = random.Random(11)
        visible_ms, readable_ms = [], []
        for index in range(count):
            file = {"path": f"single-{index}", "index": index}
            written, seen = self.both("file", file, file)
            visible_ms.append((seen["visible_s"] - written["closed_s"]) * 1e3)
            readable_ms.append((seen["readable_s"] - written["closed_s"]) * 1e3)
            time.sleep(pause.uniform(0, 0.02))
        return {
            f"{what}, {name}": (percentile(times, share), "ms")
            for what, times in (
                ("close to name visible", visible_ms),
                ("close to content read", readable_ms),
            )
            for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
        }

    def many(self, count: int) -> Figures:
        files = {"directory": "folder", "count": count}
        written, seen = self.both("files", files, files)
        what = f"{count:,} files of 4 KiB"
        return {
            f"{what}: written on A in": (written["closed_s"] - written["started_s"], "s"),
            f"{what}: last close to all visible": (seen["visible_s"] - written["closed_s"], "s"),
            f"{what}: last close to all read": (seen["readable_s"] - written["closed_s"], "s"),
        }

    def renamed(self, count: int) -> Figures:
        """Wants `many` before it."""
        names = {"old": "folder", "new": "folder-renamed"}
        written, seen = self.both("rename", names, {**names, "count": count})
        return {
            "rename of their folder: rename(2) itself": (
                (written["closed_s"] - written["started_s"]) * 1e3,
                "ms",
            ),
            "rename of their folder: to visible": (
                (seen["visible_s"] - written["closed_s"]) * 1e3,
                "ms",
            ),
        }

    def large(self, mib: int) -> Figures:
        write, watch = {"path": "large", "mib": mib}, {"path": "large", "size": mib * MIB}
        written, seen = self.both("large", write, watch)
        if written["digest"] != seen["digest"]:
            raise BenchmarkError("the large file on B is not what was written on A")
        what = f"{mib:,} MiB in one file"
        return {
            f"{what}: written on A in": (written["closed_s"] - written["started_s"], "s"),
            f"{what}: close to visible": (seen["visible_s"] - written["closed_s"], "s"),
            f"{what}: close to all read": (seen["readable_s"] - written["closed_s"], "s"),
        }

    def idle_bytes(self) -> float:
        before = self.pair.quiet_count()
        time.sleep(IDLE_S)
        return (self.pair.bytes_on_the_wire() - before) / IDLE_S


class Results:
    def __init__(self) -> None:
        self.figures: Figures = {}
        self.problems: list[str] = []

    def collect(self, what: str, measure: Callable[[], Figures]) -> bool:
        """Return whether it could be measured."""
        print(what, file=sys.stderr)
        try:
            self.figures.update(measure())
        except BenchmarkError as error:
            self.problems.append(f"FAILED {what}: {error}")
            return False
        return True


def measure_times(run: Scratch, arguments: argparse.Namespace, results: Results) -> None:
    pair = Pair(run, run.path / "timed", arguments.elmer)

    def start() -> Figures:
        pair.start()
        return {}

    if not results.collect("two replicas", start):
        return
    replication = Replication(run, pair, arguments.poll_us)
    results.collect("one file at a time", lambda: replication.one_by_one(arguments.singles))
    if results.collect("many files", lambda: replication.many(arguments.files)):
        results.collect("a renamed folder", lambda: replication.renamed(arguments.files))
    results.collect("a large file", lambda: replication.large(arguments.mib))
    replication.end()

    def stop() -> Figures:
        pair.stop()
        return {}

    results.collect("unmounting", stop)


def measure_bytes(run: Scratch, arguments: argparse.Namespace, results: Results) -> None:
    pair = Pair(run, run.path / "counted", arguments.elmer, counted=True)
    files = arguments.files

    def count() -> Figures:
        pair.start()
        replication = Replication(run, pair, arguments.poll_us)
        idle = replication.idle_bytes()
        many = pair.bytes_of(lambda: replication.many(files))
        if many < files * BLOCK:
            raise BenchmarkError(
                f"{files} files of random bytes passed the proxies as {many} bytes: they have another way"
            )
        renamed = pair.bytes_of(lambda: replication.renamed(files))
        replication.end()
        pair.stop()
        return {
            "idle, on the wire": (idle, "bytes/s"),
            f"{files:,} files of 4 KiB, on the wire": (many, "bytes"),
            "their content": (files * BLOCK, "bytes"),
            "rename of their folder, on the wire": (renamed, "bytes"),
        }

    try:
        results.collect("bytes on the wire", count)
    finally:
        pair.stop_proxies()


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.replication", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--singles", type=int, help="files that go one by one (default: 300)")
    parser.add_argument("--files", type=int, help="files in the folder (default: 10,000)")
    parser.add_argument("--mib", type=int, help="size of the large file (default: 1024)")
    parser.add_argument(
        "--poll-us", type=int, default=100, help="pause of the watcher on B (default: 100; 0: none)"
    )
    parser.add_argument("--elmer", default=str(Path(sys.executable).with_name("elmer")))
    parser.add_argument("--dir", help="where the temporary directory goes")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    quick = {"singles": 20, "files": 200, "mib": 16}
    full = {"singles": 300, "files": 10_000, "mib": 1024}
    for name, value in (quick if arguments.quick else full).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    return arguments


def run_benchmark(arguments: argparse.Namespace) -> int:
    warn_if_busy()
    results = Results()
    with scratch(arguments.dir) as run:
        about = machine(run.path)
        measure_times(run, arguments, results)
        measure_bytes(run, arguments, results)
    if arguments.json:
        figures = {what: {"value": v, "unit": unit} for what, (v, unit) in results.figures.items()}
        print(json.dumps({"machine": about, "figures": figures, "problems": results.problems}))
    else:
        print("; ".join(f"{key}: {value}" for key, value in about.items()))
        rows = [(what, number(value), unit) for what, (value, unit) in results.figures.items()]
        print(table(("A to B on loopback", "figure", "unit"), rows))
        if results.problems:
            print("", *results.problems, sep="\n")
    return 1 if results.problems else 0


def main(words: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(words)
    with contextlib.suppress(KeyboardInterrupt):
        return run_benchmark(arguments)
    print("interrupted", file=sys.stderr)
    return 130


if __name__ == "__main__":
    sys.exit(main())
