import asyncio
import errno
from pathlib import Path

import pytest

from elmer.ask import ask
from elmer.control import Control
from elmer.directory import StoreDirectory, held
from elmer.exits import CommandError, ExitStatus
from elmer.loop import LoopThread


async def echo(arguments):
    return {"heard": arguments}


async def refuse(_arguments):
    raise CommandError("the disk of /srv/photos is full", ExitStatus.STORE)


async def fail(_arguments):
    raise KeyError("a bug")


async def fill(_arguments):
    raise OSError(errno.ENOSPC, "No space left on device", "/srv/photos/rows")


async def hang(_arguments):
    await asyncio.sleep(3600)


@pytest.fixture
def directory(scratch: Path) -> StoreDirectory:
    path = scratch / ("long" * 40)
    path.mkdir()
    return StoreDirectory(path)


@pytest.fixture
def control(directory):
    commands = {"echo": echo, "refuse": refuse, "fail": fail, "fill": fill, "hang": hang}
    control = Control(directory.socket, commands)
    with LoopThread() as loop:
        loop.run(control.start())
        yield control
        loop.run(control.stop())
    assert not directory.socket.exists()


def test_a_command_is_heard_and_answered(directory, control):
    assert ask(directory, "echo", {"path": "\udcff", "n": 1}) == {"heard": {"path": "\udcff", "n": 1}}


def test_a_refusal_keeps_its_words_and_its_status(directory, control):
    with pytest.raises(CommandError, match=r"^the disk of /srv/photos is full$") as refused:
        ask(directory, "refuse")
    assert refused.value.status == ExitStatus.STORE


def test_a_disk_that_is_full_is_told_and_is_no_bug(directory, control):
    """`elmer sync` said that the daemon had failed."""
    with pytest.raises(CommandError, match=r"^/srv/photos/rows: No space left on device; ") as refused:
        ask(directory, "fill")
    assert refused.value.status == ExitStatus.NOT_SO


def test_a_bug_in_a_command_names_the_log(directory, control, expect_logs):
    expect_logs("Error handling request")
    with pytest.raises(CommandError, match=r"failed \(500\); see .*elmer.log") as refused:
        ask(directory, "fail")
    assert refused.value.status == ExitStatus.UNREACHABLE
    assert ask(directory, "echo") == {"heard": {}}


def test_an_unknown_command_is_no_success(directory, control):
    with pytest.raises(CommandError, match=r"failed \(404\)"):
        ask(directory, "no-such-command")


def test_only_the_owner_may_command(directory, control):
    assert directory.socket.stat().st_mode & 0o777 == 0o600


def test_a_daemon_that_does_not_answer_is_given_up(directory, control):
    with (
        held(directory, "mount", "/mnt/photos"),
        pytest.raises(CommandError, match=r"`elmer mount` at /mnt/photos.*does not answer") as refused,
    ):
        ask(directory, "hang", timeout_s=0.2)
    assert refused.value.status == ExitStatus.UNREACHABLE


def test_without_a_daemon_it_says_how_to_start_one(directory):
    with pytest.raises(CommandError, match=r"no daemon is running for .*`elmer mount`") as refused:
        ask(directory, "echo")
    assert refused.value.status == ExitStatus.UNREACHABLE


def test_the_socket_of_a_killed_daemon_is_replaced(directory):
    directory.socket.touch()
    with LoopThread() as loop:
        control = Control(directory.socket, {"echo": echo})
        loop.run(control.start())
        assert ask(directory, "echo") == {"heard": {}}
        loop.run(control.stop())
