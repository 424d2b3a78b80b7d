"""What is measured: a plain directory, the floor, and elmer, each on its own path in a scratch.

All three have the same life: `start`, then loads in `path`, `remount` where a load asks for it,
`stop`.  Which cores a daemon gets is decided by who starts it: it keeps the affinity of its parent
(`on_cores`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

from benchmarks.scratch import BenchmarkError, Scratch, unmount, wait_until

START_TIMEOUT_S = 60.0
UMOUNT_TIMEOUT_S = 120.0
QUIET_TIMEOUT_S = 30.0
QUIET_INTERVAL_S = 0.05
QUIET_SHARE = 0.02

# include/uapi/linux/fs.h, as on x86-64 and arm64
FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
FS_TOPDIR_FL = 0x00020000


class Plain:
    """A directory of the file system that the scratch is on.

    ext4 does not give out an inode number again for a minute, or five, after its removal, and
    creating a file looks at each of those in the directory's block group anew: where many files
    were just removed, by whomever, it creates 400 files a second instead of 20,000.  So each load's
    directory goes to a block group of its own.
    """

    name = "plain"

    def __init__(self, run: Scratch, place: Path) -> None:
        self.path = place / self.name

    def start(self) -> None:
        self.path.mkdir(parents=True)
        spread_directories(self.path)

    def remount(self) -> None:
        """It is not ours to unmount; that its caches are dropped must do."""

    def stop(self) -> None:
        """Nothing runs."""


class Floor:
    name = "floor"

    def __init__(self, run: Scratch, place: Path, *, workers: int, profile: str = "") -> None:
        self.run = run
        self.path = place / self.name
        self.command = [sys.executable, "-m", "benchmarks.floor", str(self.path)]
        self.command += ["--workers", str(workers), *(["--profile", profile] if profile else [])]

    def start(self) -> None:
        self.path.mkdir(parents=True)
        self.daemon, output = self.run.start(self.command, owner=self.name)

        def answered() -> bool:
            return self.daemon.poll() is not None or b"mounted\n" in output.read_bytes()

        if not wait_until(answered, START_TIMEOUT_S) or self.daemon.poll() is not None:
            raise BenchmarkError(f"the floor did not mount: {output.read_text(errors='replace')}")

    def remount(self) -> None:
        """It would forget all it has; that the kernel's caches are dropped must do."""

    def stop(self) -> None:
        unmount(str(self.path))
        if not wait_until(lambda: self.daemon.poll() is not None, UMOUNT_TIMEOUT_S):
            raise BenchmarkError("the floor did not end when it was unmounted")


class Elmer:
    name = "elmer"

    def __init__(self, run: Scratch, place: Path, *, command: str, profile: str = "") -> None:
        self.run = run
        self.command = command
        self.place = place
        self.store = place / "store"
        self.path = place / self.name
        self.environment = {"ELMER_PROFILE": profile} if profile else {}

    def start(self) -> None:
        self.path.mkdir(parents=True)
        self._elmer("init", str(self.store), "--name", "bench")
        self._mount()

    def remount(self) -> None:
        self.stop()
        self._mount()

    def stop(self) -> None:
        self._elmer("umount", str(self.path), timeout_s=UMOUNT_TIMEOUT_S)

    def _mount(self) -> None:
        self._elmer("mount", str(self.store), str(self.path))
        if str(self.path) not in self.run.mounts():
            raise BenchmarkError(f"elmer mount said it was done, but {self.path} is no mount")

    def _elmer(self, *arguments: str, timeout_s: float = START_TIMEOUT_S) -> str:
        return self.run.run(
            [self.command, *arguments],
            timeout_s,
            owner=self.name,
            environment=self.environment,
        )


System = Plain | Floor | Elmer


def spread_directories(path: Path) -> None:
    """Have ext4 place the directories made in `path` far from each other, as in / (chattr +T)."""
    directory = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # other file systems have no such flag
            flags = int.from_bytes(fcntl.ioctl(directory, FS_IOC_GETFLAGS, bytes(8)), sys.byteorder)
            changed = (flags | FS_TOPDIR_FL).to_bytes(8, sys.byteorder)
            fcntl.ioctl(directory, FS_IOC_SETFLAGS, changed)
    finally:
        os.close(directory)


@contextlib.contextmanager
def on_cores(cores: AbstractSet[int]) -> Iterator[None]:
    """Whatever is started inside runs on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def drop_caches(what: str) -> None:
    """Empty the kernel's caches: "entries" (names and inodes) or "pages" besides.

    Raises BenchmarkError where that is not allowed: it takes root, and /proc/sys to be writable.
    """
    os.sync()  # what is dirty cannot be dropped
    try:
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("2" if what == "entries" else "3")
    except OSError as error:
        raise BenchmarkError(f"the kernel's caches cannot be dropped: {error}") from error


def settle(run: Scratch, system: System) -> float:
    """Wait until the disk is written and the daemon does nothing, and return the processor time it
    has used so far in seconds.

    Work that a daemon puts off would else be paid by whoever is measured next.
    """
    os.sync()
    used_s = run.cpu_s(system.name)

    def quiet() -> bool:
        nonlocal used_s
        time.sleep(QUIET_INTERVAL_S)
        before_s, used_s = used_s, run.cpu_s(system.name)
        return used_s - before_s < QUIET_INTERVAL_S * QUIET_SHARE

    if not isinstance(system, Plain):
        wait_until(quiet, QUIET_TIMEOUT_S, poll_s=0)
    return used_s
