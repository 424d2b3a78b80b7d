"""Fixtures for all tests, Hypothesis profiles, and the rule that unexpected log records fail.

ELMER_HYPOTHESIS=deep makes Hypothesis search at random and long; without it the examples are the
same in each run, so that the suite is green or red for a reason.
"""

import faulthandler
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("ci", derandomize=True, deadline=None, database=None)
settings.register_profile(
    "deep", max_examples=5_000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("ELMER_HYPOTHESIS", "ci"))

# A shell starts what it runs in the background with SIGINT ignored, and so would be all that tests start and
# interrupt, as a person does with Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# An exception that reaches asyncio or aiohttp is one that we forgot to handle.
WATCHED = {
    "elmer": logging.WARNING,
    "crdt": logging.WARNING,
    "translation": logging.WARNING,
    "replication": logging.WARNING,
    "asyncio": logging.ERROR,
    "aiohttp": logging.ERROR,
}


class Gather(logging.Handler):
    def __init__(self, records: list[logging.LogRecord], level: int) -> None:
        super().__init__(level)
        self.records = records

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture(autouse=True)
def expect_logs() -> Iterator[Callable[[str], None]]:
    """Fail the test if a warning or error is logged that it did not announce.

    `expect_logs("evicted")` announces records whose message matches that regular expression; one
    that then is not logged fails the test too.
    """
    records: list[logging.LogRecord] = []
    announced: list[str] = []
    handlers = {name: Gather(records, level) for name, level in WATCHED.items()}
    for name, handler in handlers.items():
        logging.getLogger(name).addHandler(handler)
    yield announced.append
    for name, handler in handlers.items():
        logging.getLogger(name).removeHandler(handler)

    logged = [record.getMessage() for record in records]
    unexpected = [
        f"{record.levelname} {record.name}: {logging.Formatter().format(record)}"
        for record, message in zip(records, logged, strict=True)
        if not any(re.search(pattern, message) for pattern in announced)
    ]
    missing = [p for p in announced if not any(re.search(p, message) for message in logged)]
    assert not unexpected, "logged, but not announced: " + "\n".join(unexpected)
    assert not missing, f"announced, but not logged: {missing}"


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Return a new folder with a short path, since that of a Unix socket has at most 107 bytes.

    It may be entered by any user.  A mount that is left in it fails the test.
    """
    path = Path(tempfile.mkdtemp(prefix="elmer-"))
    path.chmod(0o755)
    yield path
    mounted = mounts_below(path)
    for mountpoint in mounted:
        # Else rmtree would remove what is in the replica, or hang.
        subprocess.run(["umount", "--lazy", mountpoint], check=False, timeout=10)
    shutil.rmtree(path)
    assert not mounted, f"left mounted: {mounted}"


def mounts_below(path: Path) -> list[str]:
    """Return the mount points at or below this path, the innermost first."""
    mountpoints = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            escaped = line.split(" ")[4]
            mountpoint = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), escaped)
            if Path(mountpoint).is_relative_to(path):
                mountpoints.append(mountpoint)
    return sorted(mountpoints, key=len, reverse=True)


# pytest-timeout ends a test by a signal, which is of no use where the kernel waits for a mount that
# does not answer.  There the whole run ends a little later, and says where it stood.
GRACE_S = 30
STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[STDERR] = os.dup(sys.stderr.fileno())  # before it is captured


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[STDERR])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    timeout_s = float(item.config.getoption("timeout") or item.config.getini("timeout"))
    if marker := item.get_closest_marker("timeout"):
        timeout_s = marker.args[0]
    stderr = item.config.stash[STDERR]
    faulthandler.dump_traceback_later(timeout_s + GRACE_S, exit=True, file=stderr)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def pytest_enter_pdb() -> None:
    faulthandler.cancel_dump_traceback_later()
