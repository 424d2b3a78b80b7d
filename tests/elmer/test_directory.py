import json
import os
import stat
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from elmer import config
from elmer.ask import ask
from elmer.config import Config
from elmer.directory import StoreDirectory, failure_of_last, find_holder, hangs, held, mode_at, reachable
from elmer.exits import CommandError, ExitStatus
from tests.elmer.stores import wait_until


@pytest.fixture
def directory(scratch: Path) -> StoreDirectory:
    return StoreDirectory(scratch)


def test_nobody_holds_a_store_at_first(directory):
    assert find_holder(directory) is None


def test_a_holder_is_found_with_what_it_does(directory):
    with held(directory, "mount", "/mnt/photos"):
        holder = find_holder(directory)
        assert (holder.pid, holder.command, holder.mountpoint) == (os.getpid(), "mount", "/mnt/photos")
    assert find_holder(directory) is None


def test_a_store_is_held_once(directory):
    with (
        held(directory, "mount", "/mnt/photos"),
        pytest.raises(
            CommandError, match=f"in use by `elmer mount` at /mnt/photos.*{os.getpid()}"
        ) as refused,
        held(directory, "fsck"),
    ):
        pytest.fail("it was held twice")
    assert refused.value.status == ExitStatus.STORE


# Programs that get the directory as their argument.
ASKING = """
import sys
from pathlib import Path
from elmer.directory import failure_of_last, StoreDirectory, find_holder

print("asking", flush=True)
while True:
    find_holder(StoreDirectory(Path(sys.argv[1])))
"""
HOLDING = """
import sys, time
from pathlib import Path
from elmer.directory import failure_of_last, StoreDirectory, held

with held(StoreDirectory(Path(sys.argv[1])), "serve"):
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def running(program: str, directory: StoreDirectory):
    """Yield the process once it has said something; it is killed at the end."""
    command = [sys.executable, "-c", program, str(directory.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()


def test_asking_who_holds_a_store_never_keeps_another_from_holding_it(directory):
    with running(ASKING, directory):
        for _ in range(500):
            with held(directory, "status"):
                pass


def test_a_store_is_free_when_its_process_was_killed(directory):
    with running(HOLDING, directory) as process:
        assert find_holder(directory).pid == process.pid
    assert find_holder(directory) is None


# The first thread of this process ends, and another one does not: as of one that was killed in the kernel.
HANGING = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_of_a_holder_that_was_killed_and_hangs_in_the_kernel_it_is_said_how_to_end_it(directory):
    with subprocess.Popen([sys.executable, "-c", HANGING]) as killed, held(directory, "mount", "/mnt/photos"):
        try:
            wait_until(lambda: hangs(killed.pid))
            holder = replace(find_holder(directory), pid=killed.pid)
            directory.lock.write_text(json.dumps(asdict(holder)))
            with pytest.raises(CommandError, match="`umount -f /mnt/photos` as root") as info:
                ask(directory, "status")
            assert info.value.status == ExitStatus.UNREACHABLE
        finally:
            killed.kill()


def test_neither_a_process_that_lives_nor_one_that_is_gone_hangs():
    with subprocess.Popen([sys.executable, "-c", HANGING.replace("pthread_exit(None)", "pause()")]) as lives:
        try:
            wait_until(lambda: len(list(Path(f"/proc/{lives.pid}/task").iterdir())) > 1)
            assert not hangs(lives.pid)
        finally:
            lives.kill()
        os.waitid(os.P_PID, lives.pid, os.WEXITED | os.WNOWAIT)
        assert not hangs(lives.pid), "nobody has waited for it yet, but it has nothing any more"
    assert not hangs(lives.pid)


def test_what_the_last_holder_could_not_do_is_told_until_the_next_one(directory):
    with pytest.raises(CommandError), held(directory, "mount", "/mnt/a"):
        raise CommandError("not all of it is on the disk", ExitStatus.NOT_SO)
    assert find_holder(directory) is None
    assert failure_of_last(directory) == "not all of it is on the disk"
    with held(directory, "mount"):
        assert failure_of_last(directory) == ""
    assert failure_of_last(directory) == ""


def test_half_a_store_is_told_from_none(directory):
    with pytest.raises(CommandError, match="is not a store"):
        directory.check_is_store()
    directory.rows.mkdir()
    with pytest.raises(CommandError, match="cut short here"):
        directory.check_is_store()
    config.save(directory.config, Config())
    directory.check_is_store()


def test_a_long_path_fits_into_a_socket_address(directory):
    deep = directory.path / ("d" * 200)
    deep.mkdir()
    with reachable(deep / "control.sock") as name:
        assert len(name) < 108
        Path(name).touch()
    assert (deep / "control.sock").exists()


def test_a_config_is_read_as_it_was_saved(directory):
    saved = Config("0.0.0.0:1", "http://a:1", ("http://b:2", "http://c:3"), True, "why")
    config.save(directory.config, saved)
    assert config.load(directory.config) == saved
    assert [path.name for path in directory.path.iterdir()] == ["config.json"]


def test_what_is_advertised():
    assert Config().advertised() == ()  # port 0 is nowhere yet
    assert Config(listen="0.0.0.0:7400").advertised() == ()
    assert Config(listen="127.0.0.1:7400").advertised() == ("http://127.0.0.1:7400",)
    assert Config(listen="0.0.0.0:7400", url="http://a:1").advertised() == ("http://a:1",)


def test_peers_are_kept_once_and_in_order():
    peers = Config().with_peer("http://a:1").with_peer("http://b:1").with_peer("http://a:1")
    assert peers.peers == ("http://a:1", "http://b:1")
    assert peers.without_peer("http://a:1") == replace(peers, peers=("http://b:1",))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 1, "peers": 3}'])
def test_a_damaged_config_is_refused(directory, text):
    directory.config.write_text(text)
    with pytest.raises(CommandError, match="is damaged") as refused:
        config.load(directory.config)
    assert refused.value.status == ExitStatus.STORE


def test_a_config_of_a_newer_format_is_refused(directory):
    directory.config.write_text(json.dumps({"format": 2, "anything": 1}))
    with pytest.raises(CommandError, match="of format 2, this elmer knows 1: use a newer elmer"):
        config.load(directory.config)


def test_nothing_is_there_where_the_way_ends(tmp_path):
    """As for Path.exists(); an error of another kind is told (see test_daemon.py for a plain user)."""
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "loop").symlink_to("loop")
    assert mode_at(tmp_path / "file") == stat.S_IFREG | 0o640
    assert [mode_at(tmp_path / name) for name in ("none", "none/f", "file/f", "loop")] == [0, 0, 0, 0]
    with pytest.raises(OSError, match="too long"):
        mode_at(tmp_path / ("n" * 256))
