"""All programs, on the host's own file system, on a mount, and on a mount with a peer: `scripts/programs`.

Prints a table of seconds.  Leaves nothing behind, whichever way it ends; the exit status is 1 where something
failed, which is told below the table.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.report import machine, table, warn_if_busy
from benchmarks.scratch import MARK, Scratch, scratch
from benchmarks.systems import spread_directories
from tests.programs.case import Case, Place, prepared
from tests.programs.catalogue import CASES
from tests.programs.crashes import CRASHES
from tests.system.sites import Site, Sites, meet
from tests.system.trees import assert_equal, look

HEADER = ("program", "host s", "elmer s", "of the daemon s", "elmer/host", "with a peer s", "there after s")
NOT_RUN = "-"


class Run:
    """The sites, the rows of the table, and what failed."""

    def __init__(self, run: Scratch, *, full: bool) -> None:
        self.full = full
        self.directory = run.path
        self.directory.chmod(0o755)
        self.host = run.path / "host"
        self.host.mkdir()
        spread_directories(self.host)
        self.sites = Sites(run.path)
        self.lone = self.sites.found("l")
        self.a, self.b = self.sites.group("ab")
        self.rows: list[tuple[str, ...]] = []
        self.failures: list[str] = []

    def play(self, case: Case) -> None:
        material = self.directory / f"case-{len(self.rows)}"
        material.mkdir()
        seconds = [NOT_RUN] * (len(HEADER) - 1)
        with self.noting(case.name):
            first = prepared(case, self.host / material.name, material, full=self.full)
            host_s = self.work(case, first)
            seconds[0] = f"{host_s:.2f}"
            used_s = cpu_s(self.lone)
            elmer_s = self.work(case, self.at(first, self.lone))
            used_s = cpu_s(self.lone) - used_s
            seconds[1:4] = f"{elmer_s:.2f}", f"{used_s:.2f}", f"{elmer_s / host_s:.1f}"
            if case.check is not None:
                seconds[4:6] = self.with_a_peer(case, self.at(first, self.a))
        self.add(case.name, *seconds)
        for top in (self.host, self.lone.mountpoint, self.a.mountpoint):
            shutil.rmtree(top / material.name, ignore_errors=True)
        shutil.rmtree(material)

    def at(self, place: Place, site: Site) -> Place:
        root = site / place.root.name
        root.mkdir()
        return Place(root, place.material, place.full)

    def work(self, case: Case, place: Place) -> float:
        began_s = time.monotonic()
        case.work(place)
        took_s = time.monotonic() - began_s
        if case.check is not None:
            case.check(place)
        return took_s

    def with_a_peer(self, case: Case, place: Place) -> tuple[str, str]:
        """The peer gets everything meanwhile, and must show the same and find it in order."""
        began_s = time.monotonic()
        case.work(place)
        worked_s = time.monotonic()
        meet(self.a, self.b)
        there_s = time.monotonic()
        there = self.b / place.root.name
        assert_equal(look(place.root), look(there))
        assert case.check is not None
        case.check(Place(there, place.material, place.full))
        return f"{worked_s - began_s:.2f}", f"{there_s - worked_s:.2f}"

    def crash(self, name: str, survives: Callable[[Site, Place], None]) -> None:
        root = self.lone / f"case-{len(self.rows)}"
        root.mkdir()
        material = self.directory / root.name
        material.mkdir()
        material.chmod(0o777)  # pgbench writes its log as another user
        took = NOT_RUN
        with self.noting(name):
            began_s = time.monotonic()
            survives(self.lone, Place(root, material, self.full))
            took = f"{time.monotonic() - began_s:.2f}"
        self.add(name, NOT_RUN, took, *[NOT_RUN] * 4)
        if self.lone.daemon is None:
            self.sites.start(self.lone)
        shutil.rmtree(material)

    @contextmanager
    def noting(self, name: str) -> Iterator[None]:
        """Note what fails, and go on."""
        said = len(self.failures)
        try:
            yield
        except Exception:  # noqa: BLE001 - whatever a program can do
            self.failures.append(f"FAILED {name}:\n{traceback.format_exc()[-6000:]}")
        for site in self.sites.all:
            with suppress(AssertionError):
                if site.daemon is not None:
                    site.check_running()
                continue
            self.failures.append(f"FAILED {name}: {site.log_text()[-4000:]}")
        if len(self.failures) > said:
            print(self.failures[said], file=sys.stderr)

    def add(self, *row: str) -> None:
        self.rows.append(row)
        print("  ".join(row), file=sys.stderr)

    def close(self) -> None:
        with self.noting("the end of the sites"):
            self.sites.close()


def cpu_s(site: Site) -> float:
    """The processor time of its daemon, which depends little on what else the machine does."""
    assert site.daemon is not None
    return time.clock_gettime((~site.daemon.pid << 3) | 2)  # as clock_getcpuclockid(3)


def end_what_works_in(directory: Path) -> None:
    """PostgreSQL overwrites its environment, by which `Scratch` would find it, but stays in its directory."""
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            if os.readlink(f"/proc/{name}/cwd").startswith(f"{directory}/"):
                os.kill(int(name), signal.SIGKILL)


def chosen(words: Sequence[str], names: Sequence[str]) -> list[str]:
    wanted = [name for name in names if not words or any(word.lower() in name.lower() for word in words)]
    if not wanted:
        raise SystemExit(f"no program is named so: {' '.join(words)}; --list says how they are named")
    return wanted


def play_all(cases: Sequence[Case], crashes: Sequence[str], directory: str | None, *, full: bool) -> int:
    began_s = time.monotonic()
    warn_if_busy()
    with scratch(directory) as run:
        about = machine(run.path)
        os.environ[MARK] = f"{run.mark}:programs"
        played = Run(run, full=full)
        try:
            for case in cases:
                played.play(case)
            for name in crashes:
                played.crash(name, CRASHES[name])
            played.close()
        finally:
            end_what_works_in(run.path)
    print("; ".join(f"{key}: {value}" for key, value in about.items()))
    print(table(HEADER, played.rows))
    print(*played.failures, sep="\n")
    wrong = f"{len(played.failures)} failures" if played.failures else "all work"
    print(f"{len(played.rows)} programs in {(time.monotonic() - began_s) / 60:.0f} minutes, {wrong}")
    return 1 if played.failures else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="programs", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("words", nargs="*", help="parts of names; default: all")
    parser.add_argument("--quick", action="store_true", help="in the size that the tests have")
    parser.add_argument("--dir", help="where the temporary directory goes")
    parser.add_argument("--list", action="store_true", help="print the names")
    parser.add_argument("--packages", action="store_true", help="print the Debian packages that they need")
    arguments = parser.parse_args()
    names = chosen(arguments.words, [*(case.name for case in CASES), *CRASHES])
    cases = [case for case in CASES if case.name in names]
    crashes = [name for name in CRASHES if name in names]
    if arguments.list:
        print(*names, sep="\n")
        return 0
    if arguments.packages:
        needed = {package for case in cases for package in case.packages}
        needed |= {"postgresql" for name in crashes if "PostgreSQL" in name}
        print(*sorted(needed))
        return 0
    with suppress(KeyboardInterrupt):
        return play_all(cases, crashes, arguments.dir, full=not arguments.quick)
    print("interrupted", file=sys.stderr)
    return 130


if __name__ == "__main__":
    sys.exit(main())
