"""Two replicas share many files and change them apart: what it costs to merge that, and a rename of them all.

First by processes that do nothing else, one after the other (benchmarks.merging); then by two mounted
daemons, over counting proxies, each in its own time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.divergence import CALLER, FILE_BYTES, Clock, Site, newest_commit, passes_to, save
from benchmarks.merging import MERGE_TIMEOUT_S, Merges, forget_peak, memory_bytes, rows_of, total
from benchmarks.replicas import Pair
from benchmarks.report import Figure
from benchmarks.scratch import BenchmarkError, Scratch
from crdt.facts import ROOT, Ino
from elmer.directory import StoreDirectory, find_holder

MIB = 1 << 20


class Files:
    """Two replicas that share one directory of files, with the stores of real sites."""

    def __init__(self, run: Scratch, arguments: argparse.Namespace) -> None:
        self.run = run
        self.count = arguments.files
        self.pair = Pair(run, run.path / "files", arguments.elmer, counted=True)
        self.merges = Merges(run, run.path / "files")
        self.files: list[Ino] = []

    def prepare(self) -> None:
        self.pair.start()
        self.pair.elmer("offline", str(self.pair.mount_of("b")))
        for name in "ba":
            self.pair.unmount(name)
        with self.both() as (a, b):
            shared = Ino(a.fs.mkdir(ROOT, b"shared", 0o755, CALLER).ino)
            self.files = a.make_files(shared, "file", self.count, FILE_BYTES)
            b.take(a)
        for name in "ab":
            shutil.copytree(self.pair.store_of(name), self.kept(name))

    def kept(self, name: str) -> Path:
        return self.pair.place / f"kept-{name}"

    def rows(self, name: str) -> Path:
        return StoreDirectory(self.pair.store_of(name)).rows

    @contextlib.contextmanager
    def both(self) -> Iterator[tuple[Site, Site]]:
        now_ns = time.time_ns()
        with Site(self.rows("a"), Clock(now_ns)) as a, Site(self.rows("b"), Clock(now_ns)) as b:
            yield a, b

    def diverge(self, of_a: Sequence[Ino], of_b: Sequence[Ino]) -> dict[str, Path]:
        """Each site changes its files, the stores being as `prepare` left them; return the passes."""
        for name in "ab":
            shutil.rmtree(self.pair.store_of(name))
            shutil.copytree(self.kept(name), self.pair.store_of(name))
        passes = {name: self.pair.place / f"to-{name}" for name in "ab"}
        with self.both() as (a, b):
            a.overwrite(of_a, FILE_BYTES)
            b.overwrite(of_b, FILE_BYTES)
            save(passes["a"], passes_to(a, b))
            save(passes["b"], passes_to(b, a))
        return passes

    def merged_by_children(self, variant: str, passes: dict[str, Path]) -> list[Figure]:
        found = self.merges.both({name: self.rows(name) for name in "ab"}, passes)
        merged = [each for name in "ab" for each in found[name]]
        commits = total(merged, "commits")
        return [
            Figure(f"{variant}: one after the other", [total(merged, "seconds")], "s", "30 s"),
            Figure(f"{variant}: processor time", [total(merged, "cpu_s") / commits * 1e6], "us a version"),
            Figure(f"{variant}: rows written", [rows_of(merged) / commits], "a version"),
            Figure(f"{variant}: memory grown in the first pass", [grown(found, 0) / MIB], "MiB"),
            Figure(f"{variant}: memory grown in all passes", [grown(found, -1) / MIB], "MiB"),
        ]

    def merged_by_daemons(self, variant: str, conflicts: int) -> list[Figure]:
        """From the moment when they can talk until each has what the other has."""
        for name in "ab":
            self.pair.mount(name)
        pids = [self.pid_of(name) for name in "ab"]
        before = [memory_bytes(pid)[0] for pid in pids]
        for pid in pids:
            forget_peak(pid)
        started_s = time.monotonic()
        self.pair.elmer("online", str(self.pair.mount_of("b")))
        self.pair.sync()
        taken_s = time.monotonic() - started_s
        peaks = [memory_bytes(pid)[1] for pid in pids]
        self.check(conflicts)
        most = max(peak - rss for peak, rss in zip(peaks, before, strict=True))
        return [
            Figure(f"{variant}: two mounted daemons at once", [taken_s], "s", "30 s"),
            Figure(f"{variant}: memory grown in a daemon", [most / MIB], "MiB"),
        ]

    def check(self, conflicts: int) -> None:
        mounts = [str(self.pair.mount_of(name)) for name in "ab"]
        digests = {self.pair.elmer("digest", mount, timeout_s=MERGE_TIMEOUT_S) for mount in mounts}
        if len(digests) != 1:
            raise BenchmarkError("the mounts show different trees after the merge")
        status = json.loads(self.pair.elmer("status", mounts[0], "--json"))
        if status["conflicts"] != conflicts:
            raise BenchmarkError(f"{status['conflicts']} conflicts instead of {conflicts}")

    def pid_of(self, name: str) -> int:
        holder = find_holder(StoreDirectory(self.pair.store_of(name)))
        if holder is None:
            raise BenchmarkError(f"no daemon has the store of {name}")
        return holder.pid

    def renamed(self) -> list[Figure]:
        """A directory with all the files gets another name, on A; count what B hears of it."""
        a, b = self.pair.mount_of("a"), self.pair.mount_of("b")
        on_the_wire = self.pair.bytes_of(lambda: (a / "shared").rename(a / "renamed"))
        if (b / "shared").exists() or not (b / "renamed" / "file-0.txt").exists():
            raise BenchmarkError("B does not show the renamed directory")
        for name in "ba":
            self.pair.unmount(name)
        with Site(self.rows("a"), Clock(time.time_ns())) as site:
            commit = newest_commit(site)
        what = f"rename of a directory with {self.count:,} files"
        return [
            Figure(f"{what}: facts", [len(commit.facts)], "", "1"),
            Figure(f"{what}: on the wire", [on_the_wire], "bytes", "1 KB"),
        ]


def grown(found: dict[str, list[dict]], which: int) -> float:
    return max(passes[which]["grown_bytes"] for passes in found.values())


def measure_files(run: Scratch, arguments: argparse.Namespace) -> list[Figure]:
    files = Files(run, arguments)
    try:
        files.prepare()
        half = files.count // 2
        figures = []
        first, second = files.files[:half], files.files[half:]
        for what, of_a, of_b, conflicts in (
            ("each site changed its half", first, second, 0),
            ("both changed the same half", first, first, half),
        ):
            variant = f"{files.count:,} files, {what}"
            passes = files.diverge(of_a, of_b)
            figures += files.merged_by_children(variant, passes)
            figures += files.merged_by_daemons(variant, conflicts)
            if conflicts:
                figures += files.renamed()
            else:
                for name in "ba":
                    files.pair.unmount(name)
        return figures
    finally:
        files.pair.stop_proxies()
