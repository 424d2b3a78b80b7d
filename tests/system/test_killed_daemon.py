"""A daemon that is killed leaves nothing that hangs, whatever it was doing."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from elmer import mounts
from tests.system.sites import ELMER, Site
from tests.system.waiting import until

STUCK = [sys.executable, "-P", "-m", "tests.elmer.stuck_daemon"]
MAKE_FILE = "import sys; open(sys.argv[1], 'x').close()"


@contextmanager
def maker(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A program that makes a file, in a mount that answers nothing for as long as its connection lasts."""
    with subprocess.Popen(
        [sys.executable, "-c", MAKE_FILE, path], stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            yield program
        finally:
            with suppress(OSError):
                mounts.abort(path.parent)


def waits_in_the_kernel(pid: int) -> bool:
    """Is a thread of it in a wait that no signal ends?"""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return "D" in [stat.rpartition(")")[2].split()[0] for stat in stats]


def guards_of(pid: int) -> list[int]:
    command = ["pgrep", "--parent", str(pid), "--full", "elmer.guard"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def test_a_daemon_that_is_killed_while_it_tells_the_kernel_of_a_change_lets_go(site: Site):
    """The notification of an entry waits for the lock of its directory, which a program has that waits for
    the daemon.  A kill ends neither, and the killed daemon keeps its store."""
    site.stop()
    site.program = STUCK
    site.start()
    site.wait_mounted()
    assert site.daemon is not None
    pid = site.daemon.pid
    with maker(site / "f") as program:
        until(lambda: waits_in_the_kernel(pid), "the notification waits")
        (guard,) = guards_of(pid)
        os.kill(pid, signal.SIGKILL)
        until(lambda: program.poll() is not None, "the program has an answer", 30)
        _, said = program.communicate()
        assert "ConnectionAbortedError" in said
    assert site.daemon.wait(30) == -signal.SIGKILL
    site.daemon = None
    until(lambda: not Path(f"/proc/{guard}").exists(), "its guard has ended")
    assert site.is_mounted(), "nobody writes into the directory below"
    assert mounts.is_stale(site.mountpoint)
    site.program = ELMER
    site.start()  # which takes away what is left of that mount
    site.wait_mounted()
    (site / "f").write_bytes(b"content")


def test_a_daemon_that_ends_in_order_takes_its_guard_along(site: Site):
    assert site.daemon is not None
    (guard,) = guards_of(site.daemon.pid)
    site.stop()
    assert not Path(f"/proc/{guard}").exists()


def test_the_mount_of_a_daemon_that_was_killed_stays_and_its_guard_goes(site: Site):
    """So nobody writes into the directory below it."""
    assert site.daemon is not None
    (guard,) = guards_of(site.daemon.pid)
    site.daemon.kill()
    site.daemon.wait()
    site.daemon = None
    until(lambda: not Path(f"/proc/{guard}").exists(), "its guard has ended")
    assert site.is_mounted()
    assert mounts.is_stale(site.mountpoint)
    site.detach()
