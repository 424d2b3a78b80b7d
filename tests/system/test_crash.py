"""P5, fsync means durable: kill -9 at any moment, with a manifest of what was acknowledged.

The writer is a process of its own.  It tells each acknowledgement through a pipe after the system
call returned, so what was read from the pipe is a lower bound of what must be there.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.sites import Site, Sites, assert_same_trees, meet
from tests.system.trees import assert_equal, look

Pieces = list[tuple[int, int]]  # a content: what which steps wrote, and how many bytes each
State = dict[str, Pieces]


def content_of(pieces: Pieces) -> bytes:
    return b"".join(random.Random(step).randbytes(size) for step, size in pieces)


# Makes, overwrites, appends to, renames and removes files, and makes each step durable.  Tells, as
# JSON lines, ["doing", what will be] before a step and ["done", what is durable] after it, where
# both are {name: pieces, or null for a name that is gone}.
WRITER = """
import json, os, random, sys

root, seed = sys.argv[1:]
chance = random.Random(seed)
state = {}
directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
left_open = []

def tell(phase, change):
    print(json.dumps([phase, change]), flush=True)

def save(name, content, flags):
    file = os.open(name, os.O_CREAT | os.O_WRONLY | flags, 0o644, dir_fd=directory)
    left = memoryview(content)
    while left:
        left = left[os.write(file, left):]
    if chance.random() < 0.5:
        os.fsync(file)
        left_open.append(file)  # what is told as durable has not been closed then
    else:
        os.close(file)
        os.fsync(directory)

for step in range(1_000_000):
    if len(left_open) > 3:
        os.close(left_open.pop(0))
    name, to = (f"f{number}" for number in chance.sample(range(20), 2))
    size = chance.choice([10, 5_000, 200_000])
    content = random.Random(step).randbytes(size)
    kind = chance.choice(["save", "save", "append", "rename", "unlink"])
    if kind == "rename" and name in state:
        change = {name: None, to: state[name]}
        tell("doing", change)
        os.rename(name, to, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
    elif kind == "unlink" and name in state:
        change = {name: None}
        tell("doing", change)
        os.unlink(name, dir_fd=directory)
        os.fsync(directory)
    else:
        kept = state.get(name, []) if kind == "append" else []
        change = {name: [*kept, [step, size]]}
        tell("doing", change)
        save(name, content, os.O_APPEND if kind == "append" else os.O_TRUNC)
    tell("done", change)
    state.update(change)
    state = {name: pieces for name, pieces in state.items() if pieces is not None}
"""


@contextmanager
def writer(program: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_until_killed(process: subprocess.Popen[str], site: Site, lines: int) -> list[str]:
    """Kill the site's daemon after so many lines; return all lines that were told.

    Popen.communicate would not do: what `readline` has read beyond its line is not in what that returns.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    told = [process.stdout.readline() for _ in range(lines)]
    assert all(told), process.stderr.read()
    site.kill()
    rest, complaint = process.stdout.read(), process.stderr.read()
    assert process.wait() != 0, "the writer noticed nothing"
    assert re.search(r"OSError: \[Errno (107|103|5)\]|Connection", complaint), complaint
    # The last line may have been cut.
    return told + [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]


def changed(state: State, change: dict[str, Pieces | None]) -> State:
    after = {**state, **change}
    return {name: pieces for name, pieces in after.items() if pieces is not None}


def states_told(told: list[str]) -> tuple[State, State]:
    """Return what was durable at the end, and what would be after the step that was under way."""
    durable: State = {}
    under_way: State = {}
    for line in told:
        phase, change = json.loads(line)
        under_way = changed(durable, change)
        if phase == "done":
            durable = under_way
    return durable, under_way


@pytest.mark.parametrize("seed", range(3))
def test_what_was_fsynced_is_there_after_kill_9(site: Site, seed: int):
    root = site / "work"
    root.mkdir()
    with writer(WRITER, root, str(seed)) as process:
        told = read_until_killed(process, site, random.Random(seed).randrange(5, 200))
    site.start()
    site.wait_mounted()
    found = {path.name: path.read_bytes() for path in root.iterdir()}
    durable, under_way = (
        {name: content_of(pieces) for name, pieces in state.items()} for state in states_told(told)
    )
    if found in (durable, under_way):
        return
    # Then a save was under way and half of it is there: of that one file, no other.
    partly = {name for name in found | durable if found.get(name) != durable.get(name)}
    assert len(partly) == 1, f"{partly} differ from what was fsynced"
    (name,) = partly
    assert name in under_way, f"{name} was neither removed nor renamed"
    assert under_way[name].startswith(found[name]), f"{name} has bytes that were never written"
    was_appended_to = name in durable and under_way[name].startswith(durable[name])
    assert not was_appended_to or found[name].startswith(durable[name]), f"{name} lost bytes"


# Numbered files, none of them synced: P5 promises a prefix.
UNSYNCED = """
import itertools, os, sys
for number in itertools.count():
    with open(os.path.join(sys.argv[1], f"{number:06}"), "wb") as file:
        file.write(b"%d" % number * 300)
    os.mkdir(os.path.join(sys.argv[1], f"{number:06}.d"))
    print(number, flush=True)
"""


def test_what_was_never_synced_is_a_prefix_of_what_was_done(site: Site):
    root = site / "work"
    root.mkdir()
    with writer(UNSYNCED, root) as process:
        read_until_killed(process, site, 200)
    site.start()
    site.wait_mounted()
    if not root.exists():  # the empty prefix
        return
    names = sorted(os.listdir(root))
    whole = [f"{number // 2:06}" + (".d" if number % 2 else "") for number in range(len(names))]
    assert names == sorted(whole)
    for name in names:
        if not name.endswith(".d") and (root / name).read_bytes() != b"%d" % int(name) * 300:
            # The create is a commit of its own, the content comes with the close.
            assert name == names[-1]
            assert (root / name).read_bytes() == b""


def test_a_store_that_was_killed_again_and_again_stays_whole(site: Site):
    (site / "kept").write_bytes(os.urandom(100_000))
    (site / "d").mkdir()
    for round_number in range(3):
        with (site / "d" / f"f{round_number}").open("wb") as file:
            file.write(b"%d" % round_number * 1_000)
            os.fsync(file.fileno())
        before = look(site.mountpoint)
        site.kill()
        site.fsck()
        site.start()
        site.wait_mounted()
        assert_equal(look(site.mountpoint), before)


def test_a_killed_site_takes_no_number_twice_and_converges(pair: list[Site]):
    """What left a replica was on its disk before: so its next commits are new to everybody."""
    a, b = pair
    for round_number in range(3):
        for number in range(50):
            (a / f"f{round_number}-{number}").write_bytes(b"%d" % number)
        a.kill()
        a.start()
        a.wait_mounted()
        (a / f"after-{round_number}").write_bytes(b"after the crash")
        (b / f"at-b-{round_number}").write_bytes(b"from b")
        meet(a, b)
        assert_same_trees(a, b)
        assert (b / f"after-{round_number}").read_bytes() == b"after the crash"


# Saves by rename, again and again, each time with other bytes of another length.  Tells before and after.
SAVER = """
import itertools, os, sys
name, new = (os.path.join(sys.argv[1], name) for name in ("f", "f.new"))
for number in itertools.count(1):
    with open(new, "wb") as file:
        file.write(b"%d." % number * (number * 1_000 % 50_000 + 1))
    print("doing", number, flush=True)
    os.rename(new, name)
    print("done", number, flush=True)
"""


def test_a_name_that_is_renamed_over_is_one_whole_file_to_readers_and_after_a_crash(site: Site):
    root = site / "work"
    root.mkdir()
    (root / "f").write_bytes(b"0." * 1)

    def read_whole() -> int:
        content = (root / "f").read_bytes()
        number = int(content.partition(b".")[0])
        assert content == b"%d." % number * (number * 1_000 % 50_000 + 1), "a file that nobody wrote"
        return number

    with writer(SAVER, root) as process:
        seen = [read_whole()]
        while len(set(seen)) < 30:
            seen.append(read_whole())
        assert seen == sorted(seen), "what was replaced came back"
        told = read_until_killed(process, site, 100)
    done = max(int(line.split()[1]) for line in told if line.startswith("done"))
    site.start()
    site.wait_mounted()
    assert read_whole() in (done, done + 1)


def test_a_copied_tree_survives_a_crash_in_the_middle_and_is_finished(site: Site, tmp_path: Path):
    source = tmp_path / "source"
    for number in range(200):
        path = source / f"d{number % 10}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(5_000))
    command = ["rsync", "-a", f"{source}/", f"{site / 'copy'}/"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as copying:
        while not (site / "copy").exists() and copying.poll() is None:
            pass
        site.kill()
        copying.wait(120)
    site.start()
    site.wait_mounted()
    subprocess.run(command, check=True)
    copied = {path: entry.content for path, entry in look(site / "copy").items()}
    assert copied == {path: entry.content for path, entry in look(source).items()}


def test_a_mount_is_made_again_where_a_killed_one_still_stands(sites: Sites, scratch: Path):
    site = sites.found("a")
    (site / "f").write_bytes(b"text")
    assert site.daemon is not None
    site.daemon.kill()
    site.daemon.wait()
    site.daemon = None
    assert site.is_mounted(), "the kernel keeps the mount of a killed daemon"
    site.start()
    site.wait_mounted()
    assert (site / "f").read_bytes() == b"text"
    site.stop()
    shutil.rmtree(scratch / "a")
