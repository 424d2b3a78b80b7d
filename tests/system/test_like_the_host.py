"""Whatever a program does at one site has the results and the errors that it has on the host's own
file system: random system calls, made in a mount and in a plain directory side by side.

A failure prints the calls that led to it; the seed is in the name of the test.
"""

import errno
import os
import random
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.sites import Site
from tests.system.trees import Entry, look

STEPS = 1_500
NAMES = ("a", "b", "c")
FILES_OPEN_MAX = 5
SIZE_MAX = 150_000


class Side:
    """One of the two directories, with the files that are open in it."""

    def __init__(self, root: Path) -> None:
        self.root = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        self.path = root
        self.files: dict[int, int] = {}

    def close(self) -> None:
        for descriptor in self.files.values():
            os.close(descriptor)
        os.close(self.root)


Call = Callable[[Side], object]


def result_of(call: Call, side: Side) -> object:
    try:
        return call(side)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


class Twins:
    """The same calls on both sides.  Each method draws its arguments and returns what to call."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.open_numbers: list[int] = []
        self.opened = 0

    def path(self) -> str:
        depth = self.chance.choice([1, 1, 2, 2, 3])
        return "/".join(self.chance.choice(NAMES) for _ in range(depth))

    def data(self) -> bytes:
        size = self.chance.choice([0, 1, 100, 4_096, 5_000, 40_000])
        return self.chance.randbytes(size)

    def offset(self) -> int:
        return self.chance.choice([0, 1, 4_095, 32_768, self.chance.randrange(SIZE_MAX)])

    def draw(self) -> tuple[str, Call]:
        kinds = [self.mkdir, self.create, self.open, self.rename, self.unlink, self.rmdir]
        kinds += [self.link, self.symlink, self.chmod, self.truncate, self.stat, self.list]
        kinds += [self.readlink, self.mknod, self.utime, self.open_directory]
        if self.open_numbers:
            kinds += [self.pread, self.pwrite, self.write, self.ftruncate, self.fstat] * 2
            kinds += [self.close, self.seek, self.fsync]
        return self.chance.choice(kinds)()

    def mkdir(self) -> tuple[str, Call]:
        path, mode = self.path(), self.chance.choice([0o755, 0o700])
        return f"mkdir {path}", lambda side: os.mkdir(path, mode, dir_fd=side.root)

    def create(self) -> tuple[str, Call]:
        path, data = self.path(), self.data()
        # O_NONBLOCK: a fifo must not wait for somebody to read it.
        flags = os.O_CREAT | os.O_WRONLY | os.O_NONBLOCK
        flags |= self.chance.choice([0, os.O_EXCL, os.O_TRUNC, os.O_APPEND])

        def call(side: Side) -> int:
            descriptor = os.open(path, flags, 0o644, dir_fd=side.root)
            try:
                return os.write(descriptor, data)
            finally:
                os.close(descriptor)

        return f"create {path} {flags:o} {len(data)}", call

    def open(self) -> tuple[str, Call]:
        path = self.path()
        flags = self.chance.choice([os.O_RDWR, os.O_RDWR | os.O_APPEND, os.O_RDWR | os.O_CREAT])
        if len(self.open_numbers) >= FILES_OPEN_MAX:
            return self.close()
        self.opened += 1
        number = self.opened

        def call(side: Side) -> str:
            descriptor = os.open(path, flags, 0o600, dir_fd=side.root)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                return "not a regular file"
            side.files[number] = descriptor
            return "open"

        self.open_numbers.append(number)
        return f"open {path} {flags:o} as {number}", call

    def open_directory(self) -> tuple[str, Call]:
        path = self.path()

        def call(side: Side) -> None:
            os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=side.root))

        return f"opendir {path}", call

    def number(self) -> int:
        return self.chance.choice(self.open_numbers)

    def close(self) -> tuple[str, Call]:
        number = self.number()
        self.open_numbers.remove(number)
        return f"close {number}", lambda side: os.close(side.files.pop(number))

    def pread(self) -> tuple[str, Call]:
        number, offset = self.number(), self.offset()
        size = self.chance.choice([1, 1_000, 70_000])
        return (
            f"pread {number} {size} at {offset}",
            lambda side: os.pread(side.files[number], size, offset),
        )

    def pwrite(self) -> tuple[str, Call]:
        number, offset, data = self.number(), self.offset(), self.data()
        return (
            f"pwrite {number} {len(data)} at {offset}",
            lambda side: os.pwrite(side.files[number], data, offset),
        )

    def write(self) -> tuple[str, Call]:
        number, data = self.number(), self.data()
        return f"write {number} {len(data)}", lambda side: os.write(side.files[number], data)

    def seek(self) -> tuple[str, Call]:
        number, offset = self.number(), self.offset()
        whence = self.chance.choice([os.SEEK_SET, os.SEEK_END, os.SEEK_CUR])
        return (
            f"seek {number} {offset} from {whence}",
            lambda side: os.lseek(side.files[number], offset, whence),
        )

    def ftruncate(self) -> tuple[str, Call]:
        number, size = self.number(), self.offset()
        return f"ftruncate {number} {size}", lambda side: os.ftruncate(side.files[number], size)

    def fsync(self) -> tuple[str, Call]:
        number = self.number()
        return f"fsync {number}", lambda side: os.fsync(side.files[number])

    def fstat(self) -> tuple[str, Call]:
        number = self.number()
        return f"fstat {number}", lambda side: shown(os.fstat(side.files[number]))

    def stat(self) -> tuple[str, Call]:
        path = self.path()
        follow = self.chance.random() < 0.5

        def call(side: Side) -> object:
            return shown(os.stat(path, dir_fd=side.root, follow_symlinks=follow))

        return f"stat {path} {follow}", call

    def list(self) -> tuple[str, Call]:
        path = self.path()

        def call(side: Side) -> list[str]:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=side.root)
            try:
                return sorted(os.listdir(descriptor))
            finally:
                os.close(descriptor)

        return f"list {path}", call

    def rename(self) -> tuple[str, Call]:
        path, to = self.path(), self.path()
        return (
            f"rename {path} {to}",
            lambda side: os.rename(path, to, src_dir_fd=side.root, dst_dir_fd=side.root),
        )

    def unlink(self) -> tuple[str, Call]:
        path = self.path()
        return f"unlink {path}", lambda side: os.unlink(path, dir_fd=side.root)

    def rmdir(self) -> tuple[str, Call]:
        path = self.path()
        return f"rmdir {path}", lambda side: os.rmdir(path, dir_fd=side.root)

    def link(self) -> tuple[str, Call]:
        path, to = self.path(), self.path()

        def call(side: Side) -> None:
            os.link(path, to, src_dir_fd=side.root, dst_dir_fd=side.root, follow_symlinks=False)

        return f"link {path} {to}", call

    def symlink(self) -> tuple[str, Call]:
        path, target = self.path(), self.chance.choice(["a", "../b", "c/a", "none"])
        return f"symlink {target} {path}", lambda side: os.symlink(target, path, dir_fd=side.root)

    def readlink(self) -> tuple[str, Call]:
        path = self.path()
        return f"readlink {path}", lambda side: os.readlink(path, dir_fd=side.root)

    def mknod(self) -> tuple[str, Call]:
        path = self.path()
        kind = self.chance.choice([stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG])
        return f"mknod {path} {kind:o}", lambda side: os.mknod(path, kind | 0o640, dir_fd=side.root)

    def chmod(self) -> tuple[str, Call]:
        path, mode = self.path(), self.chance.choice([0o755, 0o700, 0o644, 0o4711, 0o2755, 0o1777])
        return f"chmod {path} {mode:o}", lambda side: os.chmod(path, mode, dir_fd=side.root)

    def utime(self) -> tuple[str, Call]:
        path, stamp = self.path(), self.chance.randrange(1, 2 * 10**18)

        def call(side: Side) -> object:
            os.utime(path, ns=(stamp, stamp), dir_fd=side.root)
            return os.stat(path, dir_fd=side.root).st_mtime_ns

        return f"utime {path} {stamp}", call

    def truncate(self) -> tuple[str, Call]:
        path, size = self.path(), self.offset()

        def call(side: Side) -> None:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK, dir_fd=side.root)
            try:
                os.ftruncate(descriptor, size)
            finally:
                os.close(descriptor)

        return f"truncate {path} {size}", call


def comparable(mode: int) -> int:
    """Leave out what POSIX leaves open: whether writing as root takes set-id bits away."""
    return mode & ~(stat.S_ISUID | stat.S_ISGID) if stat.S_ISREG(mode) else mode


def shown(status: os.stat_result) -> tuple[int, int, int, int, int]:
    """Return what two file systems have in common of a status."""
    is_directory = stat.S_ISDIR(status.st_mode)
    return (
        comparable(status.st_mode),
        0 if is_directory else status.st_nlink,
        0 if is_directory else status.st_size,
        status.st_uid,
        status.st_gid,
    )


@contextmanager
def sides(*roots: Path) -> Iterator[list[Side]]:
    made = [Side(root) for root in roots]
    try:
        yield made
    finally:
        for side in made:
            side.close()


def without_times(root: Path) -> dict[bytes, Entry]:
    return {
        path: entry._replace(
            ino=0,
            mtime_ns=0,
            mode=comparable(entry.kind | entry.mode),
            nlink=0 if entry.kind == stat.S_IFDIR else entry.nlink,
        )
        for path, entry in look(root).items()
    }


@pytest.mark.parametrize("seed", range(4))
def test_random_calls_have_the_results_that_they_have_on_the_host(
    shared_site: Site, tmp_path: Path, seed: int
):
    # A level deeper than needed: symlinks lead out of the directory.
    here, there = tmp_path / "host" / "in", shared_site / f"seed-{seed}" / "in"
    here.mkdir(parents=True)
    there.mkdir(parents=True)
    twins = Twins(seed)
    calls: list[str] = []
    with sides(here, there) as (host, mount):
        for _ in range(STEPS):
            words, call = twins.draw()
            expected, found = result_of(call, host), result_of(call, mount)
            calls.append(f"{words}: {brief(expected)}")
            assert found == expected, told(calls, found)
            if words.startswith("open ") and expected != "open":
                twins.open_numbers.pop()
        assert without_times(there) == without_times(here), told(calls, "another tree")
    # What was open is closed now.
    assert without_times(there) == without_times(here), told(calls, "another tree")


def brief(result: object) -> str:
    return f"{len(result)} bytes" if isinstance(result, bytes) else repr(result)


def told(calls: list[str], found: object) -> str:
    return "\n".join(["the last calls on the host:", *calls[-40:], f"on the mount: {brief(found)}"])
