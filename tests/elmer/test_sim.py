"""`elmer sim`: what it prints, and how it ends."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.simulator.histories import Wish
from tests.simulator.play import simulate
from tests.simulator.ranges import outcomes
from tests.system.waiting import until
from translation.locality import Locality

ROOT = Path(__file__).parent.parent.parent


def test_a_range_of_seeds_is_counted(run):
    said = run("sim", "--seeds", "0..12", "--json")
    assert said.status == 0
    told = json.loads(said.out)
    runs = [simulate(seed) for seed in range(12)]
    assert (told["histories"], told["failures"]) == (12, [])
    assert told["commits"] == sum(run.commits for run in runs)
    assert told["steps"] == sum(len(run.history) for run in runs)
    assert told["commits_per_history"] == told["commits"] / 12
    assert told["histories_per_second"] > 0


def test_what_a_person_reads(run):
    said = run("sim", "--seed", "3")
    assert said.status == 0
    assert re.fullmatch(
        r"1 histories, \d+ steps, \d+ commits \(\d+\.\d a history\), \d+\.\d s, \d+\.\d histories/s;"
        r" no failures\n",
        said.out,
    )


def test_replicas_and_steps_are_what_was_asked_for(run):
    history = simulate(5, Wish(replicas=4, steps=33))
    assert len(history.setup.skews_ns) == 4
    assert len(history.history) == 33 + 1  # the heal at the end
    told = json.loads(run("sim", "--seed", "5", "--replicas", "4", "--steps", "33", "--json").out)
    assert (told["steps"], told["commits"]) == (34, history.commits)


def test_what_is_not_asked_for_is_as_the_seed_has_it():
    drawn = simulate(5)
    same = Wish(replicas=len(drawn.setup.skews_ns), steps=len(drawn.history) - 1)
    assert simulate(5, same).trace == drawn.trace


def test_two_processes_find_what_one_finds():
    seeds = range(20, 40)
    assert sorted(outcomes(seeds, Wish(), 2)) == sorted(outcomes(seeds, Wish(), 1))


def test_a_history_that_breaks_a_law_is_printed_in_its_shortest_form(run, monkeypatch):
    monkeypatch.setattr(Locality, "repairs", lambda *_: [])
    said = run("sim", "--seeds", "0..200")
    assert said.status == 1
    seed = re.search(r"^seed (\d+): law L2 is broken; the shortest history that breaks it", said.out)
    assert seed is not None, said.out
    steps = said.out.count("    Step(")
    assert 0 < steps < 25
    assert f"to play it again: elmer sim --seed {seed[1]}\n" in said.out
    assert said.out.endswith("1 failures\n")
    assert f"seed {seed[1]}: law L2 is broken\n" in said.err
    assert run("sim", "--seed", seed[1]).status == 1


def test_all_failures_are_told_where_it_keeps_going(run, monkeypatch):
    monkeypatch.setattr(Locality, "repairs", lambda *_: [])
    said = run("sim", "--seeds", "0..30", "--steps", "60", "--keep-going", "--json")
    assert said.status == 1
    told = json.loads(said.out)
    assert told["histories"] == 30
    assert len(told["failures"]) > 1
    assert all("--steps" not in failure["report"] for failure in told["failures"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seed", "1", "--seeds", "0..2"],
        ["--seeds", "5..5"],
        ["--seeds", "5"],
        ["--seeds", "a..b"],
        ["--seed", "-1"],
        ["--replicas", "1"],
        ["--steps", "0"],
        ["--jobs", "0"],
    ],
)
def test_bad_usage_is_2(run, arguments):
    said = run("sim", *arguments)
    assert said.status == 2
    assert not said.out


def test_without_the_source_tree_it_says_what_is_missing(run, scratch, monkeypatch):
    monkeypatch.setattr("elmer.cli_sim.ROOT", scratch)
    said = run("sim", "--seed", "1")
    assert said.status == 6
    assert said.err.startswith("elmer: the simulator is not installed: there is no tests/simulator in /")
    assert not said.out


def test_who_stops_listening_leaves_no_process():
    with closing(outcomes(range(100_000), Wish(), 2)) as found:
        next(found)
        assert len(multiprocessing.active_children()) == 2
    assert not multiprocessing.active_children()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_it_ends_no_process_is_left(ending):
    command = [sys.executable, "-m", "elmer", "sim", "--seeds", "0..100000", "--jobs", "2"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert b"histories/s; " in process.stderr.readline()
        started = children(process.pid)
        assert len(started) >= 2
        process.send_signal(ending)
        _, err = process.communicate(timeout=90)
    assert process.returncode in (1, -ending)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started), "its processes have ended")
    assert b"Traceback" not in err


def test_the_same_seed_gives_the_same_trace_in_another_process():
    """The order of what is in a set of bytes differs from process to process."""
    script = "from tests.simulator.play import simulate; print(*(simulate(s).trace for s in (3, 17)))"
    told = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for hash_seed in ("1", "2", "3")
    }
    assert len(told) == 1
