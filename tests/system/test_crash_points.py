"""P5 at every crash point: before each change that a daemon makes to its store.

What a kill -9 or a power cut leaves of the store is made from a recording (tests/crashes); some of the kills
are real.  scripts/crash does more of both, for long.
"""

import itertools
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from elmer import config as configuration
from elmer.config import Config
from tests.crashes.checking import Point, Run, below, check_points, play_all, shown
from tests.crashes.cutting import cut_beside
from tests.crashes.killing import kill_at_each
from tests.crashes.recorded import WRITES_OUT_EARLY, Recorded, memory_directory
from tests.crashes.recording import Disk, Loss, Recorder, build_recorder, states
from tests.crashes.sequences import Place, Tree, look, operations, play, prepare
from tests.system.sites import (
    COMMAND_TIMEOUT_S,
    ELMER,
    CommandFailedError,
    Site,
    Sites,
    elmer,
    environment,
    meet,
)
from tests.system.waiting import until

# Of the 4,000 pairs some that have each kind of operation; scripts/crash draws others.
SEQUENCES = [
    ("create 300, close", "rename over, fsync of the directory"),
    ("save anew 100000, fsync", "link, nothing"),
    ("append to a large file, stay open", "rename into a directory, nothing"),
    ("mapping of a large file, msync", "truncate of a large file, fsync"),
    ("write, O_SYNC", "unlink of a large file, nothing"),
    ("setxattr, nothing", "overwrite in the middle, fdatasync"),
    ("rename of a directory over, nothing", "symlink, fsync of the directory"),
    ("mkdir, nothing", "chmod, nothing"),
]
POINTS = 100


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_recorder(tmp_path_factory.mktemp("recorder"))


@pytest.fixture
def memory() -> Iterator[Path]:
    with memory_directory() as directory:
        yield directory


@pytest.fixture(scope="module")
def one_recorded(shared_sites: Sites, library: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    made = Recorded(shared_sites, library, tmp_path_factory.mktemp("events"))
    shared_sites.start(made.site)
    return made


@pytest.fixture
def recorded(sites: Sites, library: Path, scratch: Path) -> Recorded:
    made = Recorded(sites, library, scratch)
    made.site.program = WRITES_OUT_EARLY
    sites.start(made.site)
    return made


def test_a_crash_before_any_change_of_the_store_leaves_whole_commits(
    recorded: Recorded, scratch: Path, memory: Path
):
    host = memory / "host"
    host.mkdir()
    played = play_all(recorded.recorder, recorded.site.mountpoint, host, SEQUENCES)
    recorded.site.kill()
    run = Run(recorded.base, recorded.recorder.events(), played)
    first = played[0].begun
    every = [Point(event, loss) for event in range(first, len(run.events) + 1) for loss in Loss]
    kills = [point for point in every if point.loss is Loss.NOTHING]
    cuts = [point for point in every if point.loss is not Loss.NOTHING]
    chance = random.Random(1)
    points = chance.sample(kills, POINTS // 2) + chance.sample(cuts, POINTS // 2)
    assert len(list(check_points(run, points, memory))) == POINTS


def rows(store: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in (store / "rows").iterdir() if not path.name.startswith("LOG")
    }


def test_a_recording_is_what_a_killed_daemon_leaves(recorded: Recorded, memory: Path):
    """Else the crash points would be of another program."""
    place = Place(str(recorded.site / "d"))
    os.mkdir(place.path)
    for _ in itertools.chain(prepare(place), play(SEQUENCES[0], place), play(SEQUENCES[1], place)):
        pass
    recorded.recorder.kill_before(3)
    with suppress(OSError):
        for number in range(10):
            (recorded.site / f"d{number}").mkdir()
    assert recorded.site.daemon is not None
    assert recorded.site.daemon.wait(COMMAND_TIMEOUT_S) == -signal.SIGKILL
    recorded.site.kill()
    image = recorded.disk_now().image(memory / "image", Loss.NOTHING, Random(0))
    assert rows(image) == rows(recorded.site.store)


def test_a_store_that_was_made_is_there_after_a_power_cut(library: Path, scratch: Path, memory: Path):
    above = scratch / "above"
    above.mkdir()
    recorder = Recorder(library, above, scratch)
    disk = Disk(above)
    command = [*ELMER, "init", above / "store", "--name", "a"]
    subprocess.run(command, check=True, capture_output=True, env=environment() | recorder.environment)
    for _ in states(disk, recorder.events()):
        pass
    image = disk.image(memory / "image", Loss.ALL, Random(0))
    assert configuration.load(image / "store" / "config.json") == Config()
    assert shown(image / "store") == {}


@pytest.mark.parametrize(
    "name",
    [
        "create 300, fsync",
        "create 300, fdatasync",
        "create 100000, fsync",
        "overwrite in the middle, fdatasync",
        "append, fsync",
        "truncate, fsync",
        "write, O_SYNC",
        "write, O_DSYNC",
        "write to a large file, O_SYNC",
        "write to a large file, O_DSYNC",
        "mapping, msync",
        "mapping of a large file, msync",
        "mkdir, fsync of the directory",
        "rename over, fsync of the directory",
        "unlink, fsync of the directory",
    ],
)
def test_what_is_made_durable_is_in_a_synced_file_when_the_call_returns(
    one_recorded: Recorded, memory: Path, name: str
):
    """A power cut at that moment, that takes all that it may, leaves it."""
    directory = name.replace(" ", "-").replace(",", "")
    place = Place(str(one_recorded.site / directory))
    os.mkdir(place.path)
    for _ in prepare(place):
        pass
    for step in operations()[name](place):
        last = step
    assert last.durable
    disk = one_recorded.disk_now()
    shows = look(place.path)
    place.close()
    assert below(shown(disk.image(memory / "image", Loss.ALL, Random(0))), directory) == shows


def test_a_daemon_that_is_killed_before_each_change_is_mounted_again(
    recorded: Recorded, scratch: Path, memory: Path
):
    names = ("save anew 300, fsync", "rename over, nothing")
    site = recorded.site
    found = list(kill_at_each(site, recorded.recorder, names, "s", memory))
    assert len(found) > 4
    for number, tree in enumerate(found, 1):
        assert look(str(site / f"s-{number}")) == tree, "a later crash changed it"


def test_a_crash_while_a_crash_is_recovered_from_takes_nothing(recorded: Recorded, memory: Path):
    """Also where a power cut takes what the recovery had not synced, and a draft becomes a version."""
    site, recorder = recorded.site, recorded.recorder
    site.stop()
    with_draft = draft_in(site)
    site.variables = recorder.environment
    recorded.begin()
    site.start()
    site.wait_mounted()
    assert look(str(site.mountpoint)) == with_draft
    site.kill()
    assert re.search(
        r"recovered, it had not been closed in order: \d+ changes read back from the log;"
        r" 1 file kept that had not been closed, without at most the last 5 s of what was written: open\n",
        site.log_text(),
    )
    events = recorder.events()
    points = [Point(event, loss) for event in range(len(events) + 1) for loss in (Loss.ALL, Loss.SOME)]
    wanted = set(Random(2).sample(points, 20))
    for event, disk in enumerate(states(recorded.base, events)):
        for point in [Point(event, loss) for loss in Loss if Point(event, loss) in wanted]:
            assert shown(disk.image(memory / "image", point.loss, Random(event))) == with_draft, point
            wanted.remove(point)
    assert not wanted


def draft_in(site: Site) -> Tree:
    """Leave a store that was killed, with a file that is open in it, and return what is to be found."""
    site.variables = {}
    site.start()
    site.wait_mounted()
    (site / "closed").write_bytes(b"closed" * 100)
    file = os.open(site / "open", os.O_CREAT | os.O_WRONLY)
    os.write(file, b"written" * 10_000)
    until(lambda: has_draft(site, os.fstat(file).st_ino), "a draft is written out")
    expected = look(str(site.mountpoint))
    site.kill()
    with suppress(OSError):
        os.close(file)
    return expected


def has_draft(site: Site, ino: int) -> bool:
    head = b"F" + ino.to_bytes(8, "big")
    return any(head in log.read_bytes() for log in (site.store / "rows").glob("*.log"))


# -- peers -----------------------------------------------------------------------------------------


def test_what_left_a_replica_is_there_after_a_power_cut(sites: Sites, recorded: Recorded, scratch: Path):
    """Before each change of its store: so it was synced before it was told, and no dot is used twice."""
    peer = sites.join(recorded.site, "b")
    for nth in range(3, 7):
        cut_beside(recorded, peer, nth, str(nth), [b"%d" % number for number in range(10)], scratch)


# Writes files until its directory is there no more.
SENDER = """
import itertools, os, sys
for number in itertools.count():
    try:
        with open(os.path.join(sys.argv[1], f"{number:06}"), "wb") as file:
            file.write(os.urandom(20_000))
    except OSError:
        break
    print(number, flush=True)
"""


def test_umount_returns_when_all_is_on_disk_while_a_peer_sends(
    sites: Sites, recorded: Recorded, memory: Path
):
    a, b = recorded.site, sites.join(recorded.site, "b")
    (b / "sent").mkdir()
    (a / "own").mkdir()
    meet(a, b)
    command = [sys.executable, "-c", SENDER, b / "sent"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sender:
        try:
            assert sender.stdout is not None
            until((a / "sent" / "000010").exists, "the peer sends")
            for number in range(50):
                (a / "own" / f"f{number}").write_bytes(b"%d" % number * 10_000)
            shows = look(str(a / "own"))
            until(lambda: is_unmounted(a), "nobody looks into the mount just now, as df does")
        finally:
            sender.kill()
    disk = recorded.disk_now()
    assert a.daemon is not None
    assert a.daemon.wait(COMMAND_TIMEOUT_S) == 0
    a.daemon = None
    found = shown(disk.image(memory / "image", Loss.ALL, Random(0)))
    assert below(found, "own") == shows
    assert found == shown(Path(shutil.copytree(a.store, memory / "copy", ignore=ignore_sockets)))


def is_unmounted(site: Site) -> bool:
    try:
        elmer("umount", site.mountpoint)
    except CommandFailedError as error:
        if "in use" not in error.said:
            raise
        return False
    return True


def ignore_sockets(directory: str, names: list[str]) -> list[str]:
    return [name for name in names if stat.S_ISSOCK(os.lstat(os.path.join(directory, name)).st_mode)]
