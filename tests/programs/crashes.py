"""Databases under which a program, or the daemon of the mount, is killed: what was committed is there.

A power cut is what a kill of the daemon is to the programs on its mount, with what was not synced half there.
Each writer says through a pipe what is committed, after the database said so; what was read from the pipe is
therefore a lower bound of what must be found.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.programs import databases
from tests.programs.case import Place
from tests.programs.databases import Postgres, rocksdb_command, rocksdb_count, sqlite_command, sqlite_numbers
from tests.system.sites import Site
from tests.system.waiting import until

ENDLESS = 10**9


def read_and_kill(command: list[str], lines: int, kill: Callable[[subprocess.Popen[str]], None]) -> int:
    """Run a writer that tells numbers, kill after so many, and return the last that it told."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    ) as writer:
        assert writer.stdout
        try:
            told = [writer.stdout.readline() for _ in range(lines)]
            assert all(told), writer.communicate()[1]
            kill(writer)
            rest, _ = writer.communicate(timeout=300)
        finally:
            writer.kill()
    assert writer.returncode != 0, "the writer noticed nothing"
    told += [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    return int(told[-1])


def kill_program(writer: subprocess.Popen[str]) -> None:
    writer.send_signal(signal.SIGKILL)


def killer_of(site: Site) -> Callable[[subprocess.Popen[str]], None]:
    return lambda _writer: site.kill()


def restart(site: Site) -> None:
    if site.daemon is None:
        site.start()
        site.wait_mounted()


def sqlite_survives(site: Site, place: Place, journal: str, *, daemon: bool) -> None:
    """Each row is a transaction with synchronous=FULL: all that were told are there, none is torn."""
    path = place.root / f"{journal}-{daemon}.db"
    first = 0
    for lines in (1, place.size(15, 60), place.size(15, 200)):
        kill = killer_of(site) if daemon else kill_program
        last = read_and_kill(sqlite_command(path, journal, first, ENDLESS), lines, kill)
        restart(site)
        numbers = sqlite_numbers(path)
        assert numbers == list(range(len(numbers)))
        # The commit that was under way may have been done.
        assert last <= numbers[-1] <= last + 1, f"{last} was committed, there are {len(numbers)} rows"
        first = len(numbers)


def rocksdb_survives(site: Site, place: Place, *, daemon: bool) -> None:
    """What a synced write had before it is there, and what is there is a prefix."""
    path = place.root / f"rocks-{daemon}"
    first = 0
    for lines in (1, place.size(20, 300), place.size(50, 1_000)):
        kill = killer_of(site) if daemon else kill_program
        last = read_and_kill(rocksdb_command(path, first, ENDLESS), lines, kill)
        restart(site)
        count = rocksdb_count(path)
        assert count > last, f"{last} was synced, there are {count} rows"
        first = count


def postgres_survives(site: Site, place: Place, *, daemon: bool) -> None:
    """What pgbench logged is in the history, and the accounts are what the history makes them."""
    server = Postgres(place.root / f"pg-{daemon}")
    server.initdb()
    with server.running():
        server.run("pgbench", "--initialize", "--quiet", "--scale", "1", "postgres")
    for turn in range(place.size(1, 3)):
        log = place.material / f"log-{daemon}-{turn}"
        before = postgres_history(server)
        server.start()
        processes = server.processes()
        try:
            with server.benchmark(log) as bench:
                try:
                    wait_for_transactions(log, place.size(50, 500), bench)
                    if daemon:
                        site.kill()
                finally:
                    end(processes)
                said, _ = bench.communicate(timeout=300)
        finally:
            restart(site)
        assert committed(log) >= place.size(50, 500), said
        after = postgres_history(server)
        assert after >= before + committed(log), (
            f"{committed(log)} were committed, {after - before} are there"
        )


def wait_for_transactions(log: Path, count: int, bench: subprocess.Popen[str]) -> None:
    until(lambda: committed(log) >= count or bench.poll() is not None, f"{count} transactions")


def postgres_history(server: Postgres) -> int:
    """Return how many transactions there are, after the server recovered and was checked."""
    with server.running():
        server.check()
        return int(server.query("select count(*) from pgbench_history"))


def committed(log: Path) -> int:
    """Return how many transactions pgbench has logged; each of its threads has a file."""
    return sum(path.read_text().count("\n") for path in log.parent.glob(f"{log.name}.*"))


def end(processes: list[int]) -> None:
    """Kill these, which are no children of ours, and wait until they are gone."""
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    # Not before somebody noticed their ends: PostgreSQL asks whether there is a process of that number.
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in processes), f"{processes} are gone")


Crash = Callable[[Site, Place], None]
# What is killed, what survives it: quick ones first.
CRASHES: dict[str, Crash] = {}
for _daemon, _killed in ((False, "the program"), (True, "the daemon")):
    for _journal in databases.JOURNALS:
        CRASHES[f"SQLite, {_journal}: kill -9 of {_killed}"] = partial(
            sqlite_survives, journal=_journal, daemon=_daemon
        )
    CRASHES[f"RocksDB: kill -9 of {_killed}"] = partial(rocksdb_survives, daemon=_daemon)
    CRASHES[f"PostgreSQL: kill -9 of {_killed}"] = partial(postgres_survives, daemon=_daemon)
