"""What a merge costs: late moves of directories, divergent files, a renamed directory, a union.

    python -m benchmarks.merge [--quick] [--only moves,files,union] [--rounds N] [--json]

Sites are prepared in stores on the disk (benchmarks.divergence); a process of its own merges what the
other sent (benchmarks.merging).  Then two daemons with mounts merge the same files, over counting proxies.
After each merge both sites must show the same, or the figure is FAILED, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cases import run_cases
from benchmarks.divergence import CALLER, FILE_BYTES, Clock, Site, apart, passes_to, save
from benchmarks.merge_files import measure_files
from benchmarks.merging import AFTER_ALL_NS, Merges, rows_of
from benchmarks.report import Figure
from benchmarks.scratch import BenchmarkError, Scratch
from crdt.facts import ROOT, Ino
from translation.filesystem import DOTS


def measure_moves(run: Scratch, arguments: argparse.Namespace) -> list[Figure]:
    """Two sites move the same directories: one `--log` times, the other `--late` times meanwhile."""
    place = run.path / "moves"
    place.mkdir()
    stores, passes = {name: place / name for name in "ab"}, {name: place / f"to-{name}" for name in "ab"}
    log, late = arguments.log, arguments.late
    with apart(place, "ab") as (a, b):
        directories = a.make_tree(arguments.directories)
        b.take(a, whole=True)
        a.clock.now_ns = b.clock.now_ns = a.clock.now_ns + 10**9
        a.move_at_random(directories, log, 10**6, 1)
        b.move_at_random(directories, late, 10**6 * log // late, 2)
        depth = statistics.mean(map(a.depth_of, directories))
        save(passes["a"], passes_to(a, b, whole=True))
        save(passes["b"], passes_to(b, a, whole=True))
    merges = Merges(run, place)
    few, many, replays = [], [], []
    for _ in range(arguments.rounds):
        found = merges.both(stores, passes)
        few.append(found["a"][0])
        many.append(found["b"][0])
        replays.append(merges.child("replay", stores["b"], passes["b"])[0])
    shutil.rmtree(place)
    into = f"{late:,} late moves into a log of {log:,}"
    all_late = f"{log:,} late moves as one batch"
    return [
        Figure("directories", [len(directories)], ""),
        Figure("names in the path of one, on average", [depth], ""),
        Figure(f"{into}: the merge", [each["seconds"] for each in few], "s", "1 s"),
        Figure(f"{into}: processor time of the merge", [each["cpu_s"] for each in few], "s"),
        Figure(f"{into}: rows of the log written", [each["rows"]["G"] for each in few], "rows"),
        Figure(f"{all_late}: the move operation", list(map(speed, replays)), "/s", "50,000/s"),
        Figure(f"{all_late}: the merge", list(map(speed, many)), "/s"),
        Figure(f"{all_late}: processor time of the merge", list(map(us_each, many)), "us a move"),
    ]


def speed(merged: dict) -> float:
    return merged["commits"] / merged["seconds"]


def us_each(merged: dict) -> float:
    return merged["cpu_s"] / merged["commits"] * 1e6


def measure_union(run: Scratch, arguments: argparse.Namespace) -> list[Figure]:
    """Two directories of one name and all that is in them are one, and are torn by the late move of somebody
    who knew one of them, and one again by the move of somebody who saw the union."""
    figures = []
    for entries in (1, arguments.entries):
        torn, formed = union_rows(run, entries)
        what = f"a union of two directories with {entries:,} entries each"
        figures += [
            Figure(f"{what}: rows written to tear it", [rows_of([torn])], "rows"),
            Figure(f"{what}: time to tear it", [torn["seconds"] * 1e3], "ms"),
            Figure(f"{what}: rows written to form it", [rows_of([formed])], "rows"),
            Figure(f"{what}: time to form it", [formed["seconds"] * 1e3], "ms"),
        ]
    return figures


def union_rows(run: Scratch, entries: int) -> tuple[dict, dict]:
    place = run.path / f"union-{entries}"
    place.mkdir()
    with apart(place, "abc") as (a, b, c):
        for site in (a, b):
            site.take(c)  # that there is a c; of the rest it hears, and tells, later
        first = Ino(a.fs.mkdir(ROOT, b"photos", 0o755, CALLER).ino)
        c.take(a)
        second = Ino(b.fs.mkdir(ROOT, b"photos", 0o755, CALLER).ino)
        a.make_files(first, "of-a", entries, FILE_BYTES)
        b.make_files(second, "of-b", entries, FILE_BYTES)
        b.take(a)
        a.take(b)
        c.clock.now_ns = a.clock.now_ns + 10**9
        c.fs.rename(ROOT, b"photos", ROOT, b"away")
        b.clock.now_ns = a.clock.now_ns + 2 * 10**9
        b.fs.rename(ROOT, b"photos", ROOT, b"pictures")
        save(place / "tears", passes_to(a, c))
        save(place / "forms", passes_to(a, b))
    merges = Merges(run, place)
    (torn,) = merges.child("merge", place / "a", place / "tears", into=place / "torn")
    (formed,) = merges.child("merge", place / "torn", place / "forms", into=place / "formed")
    for path, name, count in (("a", b"photos", 2), ("torn", b"photos", 1), ("formed", b"pictures", 2)):
        with Site(place / path, Clock(AFTER_ALL_NS)) as site:
            listed = site.fs.readdir(site.fs.opendir(site.fs.lookup(ROOT, name).ino), 0)
            shown = sum(1 for _ in listed) - len(DOTS)
        if shown != count * entries:
            raise BenchmarkError(f"{name!r} shows {shown} entries instead of {count * entries}")
    shutil.rmtree(place)
    return torn, formed


CASES = {"moves": measure_moves, "files": measure_files, "union": measure_union}


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.merge", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default=",".join(CASES), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, help="of the moves (default: 5)")
    parser.add_argument("--directories", type=int, help="that are moved (default: 10,000)")
    parser.add_argument("--log", type=int, help="moves at the one site (default: 100,000)")
    parser.add_argument("--late", type=int, help="moves at the other site (default: 1,000)")
    parser.add_argument("--files", type=int, help="that both sites share (default: 100,000)")
    parser.add_argument("--entries", type=int, help="of each member of the union (default: 100,000)")
    parser.add_argument("--elmer", default=str(Path(sys.executable).with_name("elmer")))
    parser.add_argument("--dir", help="where the temporary directory goes")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    arguments.only = arguments.only.split(",")
    if unknown := set(arguments.only) - CASES.keys():
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    quick = {"rounds": 1, "directories": 100, "log": 1000, "late": 100, "files": 500, "entries": 200}
    full = {
        "rounds": 5,
        "directories": 10_000,
        "log": 100_000,
        "late": 1000,
        "files": 100_000,
        "entries": 100_000,
    }
    for name, value in (quick if arguments.quick else full).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    return arguments


def main(words: Sequence[str] | None = None) -> int:
    return run_cases("what is merged", CASES, parse_arguments(words))


if __name__ == "__main__":
    sys.exit(main())
