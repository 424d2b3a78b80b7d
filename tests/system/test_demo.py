"""`elmer demo` does the main job, says how each case ended, and leaves nothing, however it ends."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from elmer.mounts import all_mounts
from tests.system.sites import ELMER, environment
from tests.system.waiting import until

DEMO_LIMIT_S = 300
# The files that its cases are about, where what is tested comes after they are copied.
WITH_FEW_FILES = """
from elmer import cli, demo_tree
choose, needed = demo_tree.choose_files, ("asyncio", "email", "json")
demo_tree.choose_files = lambda source: [name for name in choose(source) if name.split("/")[0] in needed]
cli.main()
"""


@pytest.fixture
def place(scratch: Path) -> Iterator[Path]:
    """Return where the demo makes its directory; whatever it leaves there fails the test."""
    yield scratch
    assert processes_of(scratch) == []
    assert [mount.mountpoint for mount in all_mounts() if scratch in mount.mountpoint.parents] == []
    assert os.listdir(scratch) == []


def processes_of(place: Path) -> list[str]:
    """Return the command lines of processes that the demo in this place started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(place) in command:
            found.append(command)
    return found


def start(place: Path, program: Sequence[str] = ELMER, **streams: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*program, "demo"],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env={**environment(), "TMPDIR": str(place), "COLUMNS": "160"},
        **streams,
    )


@pytest.mark.slow
def test_the_demo_ends_with_all_as_documented(place: Path):
    process = start(place, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = (stream.decode() for stream in process.communicate(timeout=DEMO_LIMIT_S))
    assert process.returncode == 0, out + err
    assert err == ""
    copied = re.search(r"goes in through a: ([\d,]+) files", out)
    assert copied
    assert int(copied[1].replace(",", "")) >= 1_000
    for name in "bc":
        assert re.search(rf"SHA-256 through {name}: ([\d,]+) of \1 files", out), out
    assert len(set(re.findall(r"one digest on all three: (\w+)", out))) == 2
    assert "the three mounts are equal" in out
    assert "All as documented" in out
    assert "WRONG" not in out
    assert out.count(" ok ") == 7
    # The conflict entries, with who and when; and what was overruled.
    for pattern in (
        r"json/decoder\.conflict-a-\w+\.py +content +a +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
        r"NEWS\.conflict-a-\w+\.txt +name +a +\d{4}",
        r"NEWS\.conflict-b-\w+\.txt +name +b +\d{4}",
        r"move-b-\w+ +.* b moved to ",
        r"unlink-a-\w+ +.* a removed ",
    ):
        assert re.search(pattern, out), (pattern, out)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("Three replicas", signal.SIGINT),
        ("b: joined", signal.SIGTERM),
        ("copied into a", signal.SIGHUP),
        ("Heal", signal.SIGINT),
    ],
    ids=["set-up", "half-set-up", "copying", "healing"],
)
def test_a_demo_that_is_interrupted_leaves_nothing(place: Path, moment: str, number: signal.Signals):
    program = [sys.executable, "-P", "-c", WITH_FEW_FILES] if moment == "Heal" else ELMER
    process = start(place, program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    said = ""
    while moment not in said:
        line = process.stdout.readline().decode()
        assert line, said
        said += line
    process.send_signal(number)
    rest, _ = process.communicate(timeout=DEMO_LIMIT_S)
    assert process.returncode == 128 + number, said + rest.decode()
    assert f"stopped by {number.name}" in rest.decode()


def test_a_demo_interrupted_before_it_said_anything_leaves_nothing(place: Path):
    """While it starts, Python itself may be what the signal ends."""
    for delay_polls in (1, 5, 10):
        process = start(place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        polls = iter(range(delay_polls * 10))
        until(lambda polls=polls: next(polls, None) is None, "a moment has passed", poll_s=0.01)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEMO_LIMIT_S)
        assert process.returncode in (128 + signal.SIGTERM, -signal.SIGTERM)


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_stops_the_demo_and_all_it_started(place: Path):
    """Pressed twice: also while it tidies up."""
    child, terminal = pty.fork()
    if child == 0:
        settings = {**environment(), "TMPDIR": str(place), "TERM": "xterm"}
        os.execve(ELMER[0], [*ELMER, "demo"], settings)
    said = b""
    try:
        while b"copied into a" not in said:
            said += read_some(terminal)
        os.write(terminal, b"\x03")
        os.write(terminal, b"\x03")
        with suppress(OSError):  # EIO: the last process has closed the terminal
            while True:
                said += read_some(terminal)
        _, status = os.waitpid(child, 0)
        child = 0
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 130, said.decode()
    assert b"stopped by SIGINT" in said


def read_some(terminal: int) -> bytes:
    ready, _, _ = select.select([terminal], [], [], DEMO_LIMIT_S)
    assert ready, "the demo says nothing"
    return os.read(terminal, 4_096)


@pytest.mark.slow
def test_a_demo_whose_daemon_is_killed_says_so_and_leaves_nothing(place: Path):
    process = start(place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    said = ""
    while "b: joined" not in said:
        line = process.stdout.readline().decode()
        assert line, said
        said += line
    daemons = [
        int(path.name)
        for path in Path("/proc").glob("[0-9]*")
        if re.search(rb"\0mount\0.*store-a\0", command_of(path)) and str(place).encode() in command_of(path)
    ]
    assert len(daemons) == 1
    os.kill(daemons[0], signal.SIGKILL)
    rest, _ = process.communicate(timeout=DEMO_LIMIT_S)
    assert process.returncode == 1, said + rest.decode()
    assert "failed" in rest.decode()


def command_of(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
