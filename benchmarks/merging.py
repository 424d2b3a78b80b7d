"""A process that merges what a peer sent into a store, and says what it took; and who starts it.

    python -m benchmarks.merging merge STORE PASSES
    python -m benchmarks.merging replay STORE PASSES

It is a process of its own so that its memory is the merge's, and set up as the daemon is.  The answer is a
line of JSON.  `merge`: for each pass the commits, the seconds, the seconds of processor time, the rows that
were written by kind, and by how many bytes the memory of the process has grown at most.  `replay`: of the
first pass only the log of moves (crdt.moves); nothing is written.
"""

from __future__ import annotations

import gc
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.divergence import Clock, Pass, Site, saved
from benchmarks.scratch import BenchmarkError, Scratch
from crdt.encoding import decode_commit
from crdt.facts import Placement
from crdt.moves import Replay
from crdt.rows import Stamped
from elmer.daemon import GC_THRESHOLDS
from elmer.local import collector_paused

MERGE_TIMEOUT_S = 1800
AFTER_ALL_NS = 1_900_000_000_000_000_000


def memory_bytes(pid: int | str = "self") -> tuple[int, int]:
    """The memory of a process that is in core, now and at most (proc_pid_status(5))."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return tuple(int(lines[key].split()[0]) << 10 for key in ("VmRSS", "VmHWM"))


def forget_peak(pid: int | str = "self") -> None:
    """Let the most memory so far be what it is now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


class Watched:
    """Time, rows and memory of merges into a site."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.rows: Counter[str] = Counter()
        commit = site.store.commit

        def counted(batch: Mapping[bytes, bytes | None], *, sync: bool = False) -> None:
            self.rows.update(chr(key[0]) for key in batch)
            commit(batch, sync=sync)

        site.store.commit = counted
        gc.collect()
        forget_peak()
        self.before_bytes, _ = memory_bytes()

    def measured(self, work: Callable[[], object]) -> dict[str, object]:
        self.rows.clear()
        started_s, used_s = time.perf_counter(), time.process_time()
        work()
        taken_s, cpu_s = time.perf_counter() - started_s, time.process_time() - used_s
        grown = memory_bytes()[1] - self.before_bytes
        return {"seconds": taken_s, "cpu_s": cpu_s, "rows": dict(self.rows), "grown_bytes": grown}


def merge(site: Site, path: Path) -> list[dict[str, object]]:
    watched = Watched(site)
    found = []
    for each in saved(path):
        commits = len(each.commits)
        found.append({"commits": commits, **watched.measured(lambda: _receive(site, each))})  # noqa: B023
    return found


def _receive(site: Site, each: Pass) -> None:
    with collector_paused():
        site.replica.receive(*each.for_receive())
    each.commits.clear()  # as a peer's session lets go of them


def replay(site: Site, path: Path) -> list[dict[str, object]]:
    commits = [decode_commit(data) for data in next(saved(path)).commits]
    moves = [
        Stamped(commit.dot, commit.hlc, commit.wall_ns, fact)
        for commit in commits
        for fact in commit.facts
        if isinstance(fact, Placement)
    ]
    watched = Watched(site)
    found = {"commits": len(moves), **watched.measured(lambda: Replay(site.replica.state).run(moves))}
    site.replica.state.rollback()
    return [found]


class Merges:
    """Merges of prepared passes into copies of prepared stores."""

    def __init__(self, run: Scratch, place: Path) -> None:
        self.run = run
        self.place = place
        self.copies = 0

    def child(self, what: str, store: Path, passes: Path, *, into: Path | None = None) -> list[dict]:
        """Do it on a copy of `store` that is removed, or stays as `into`."""
        self.copies += 1
        copy = self.place / f"copy-{self.copies}" if into is None else into
        shutil.copytree(store, copy)
        command = [sys.executable, "-m", "benchmarks.merging", what, str(copy), str(passes)]
        said = self.run.run(command, MERGE_TIMEOUT_S)
        if into is None:
            shutil.rmtree(copy)
        return json.loads(said.splitlines()[-1])

    def both(self, stores: dict[str, Path], passes: dict[str, Path]) -> dict[str, list[dict]]:
        """Merge what `a` made into `b` and the other way round; both must show the same then.

        Raises BenchmarkError.
        """
        merged = {name: self.place / f"merged-{name}" for name in stores}
        found = {
            name: self.child("merge", store, passes[name], into=merged[name])
            for name, store in stores.items()
        }
        digests = set()
        for path in merged.values():
            with Site(path, Clock(AFTER_ALL_NS)) as site:
                digests.add(site.fs.digest())
            shutil.rmtree(path)
        if len(digests) != 1:
            raise BenchmarkError("the sites show different trees after the merge")
        return found


def total(passes: list[dict], key: str) -> float:
    return sum(each[key] for each in passes)


def rows_of(passes: list[dict]) -> int:
    return sum(sum(each["rows"].values()) for each in passes)


def main(what: str, store: str, passes: str) -> None:
    gc.set_threshold(*GC_THRESHOLDS)
    with Site(Path(store), Clock(AFTER_ALL_NS)) as site:
        measure = {"merge": merge, "replay": replay}[what]
        print(json.dumps(measure(site, Path(passes))))


if __name__ == "__main__":
    main(*sys.argv[1:])
