"""What a program has open at one site while what another site did is merged: descriptors, mappings, streams,
working directories.  Nothing of either is lost."""

import fcntl
import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.posix.calls import opened, result
from tests.system.posix.streams import streamed
from tests.system.sites import Site, meet
from tests.system.trees import assert_equal, look


class Pair:
    """One folder at two sites: `there` changes it, `here` has something open."""

    def __init__(self, sites: list[Site], name: str) -> None:
        self.sites = sites
        self.there, self.here = (site / name for site in sites)
        self.there.mkdir()

    def meet(self) -> None:
        meet(*self.sites)

    def contents(self) -> set[bytes]:
        """Return all contents that are in the folder at the end, the same at both sites."""
        self.meet()
        found = look(self.here)
        assert_equal(found, look(self.there))
        return {(self.here / os.fsdecode(name)).read_bytes() for name in found}


@pytest.fixture
def pair(shared_pair: list[Site], request: pytest.FixtureRequest) -> Iterator[Pair]:
    yield Pair(shared_pair, request.node.name)
    meet(*shared_pair)


# -- descriptors -----------------------------------------------------------------------------------


def test_what_is_appended_goes_to_the_end_that_a_merge_made(pair: Pair):
    (pair.there / "log").write_bytes(b"one\n")
    pair.meet()
    with opened(pair.here / "log", os.O_RDWR | os.O_APPEND) as file:
        for line in (b"two\n", b"three\n"):
            with opened(pair.there / "log", os.O_WRONLY | os.O_APPEND) as other:
                os.write(other, line)
            pair.meet()
            os.write(file, b"and " + line)
            os.fsync(file)
            pair.meet()
        expected = b"one\ntwo\nand two\nthree\nand three\n"
        assert os.pread(file, 1_000, 0) == expected
    assert pair.contents() == {expected}


def test_what_is_appended_after_a_peer_cut_the_file_leaves_no_hole(pair: Pair):
    (pair.there / "log").write_bytes(b"0123456789" * 1_000)
    pair.meet()
    with opened(pair.here / "log", os.O_RDWR | os.O_APPEND) as file:
        assert os.fstat(file).st_size == 10_000
        os.truncate(pair.there / "log", 3)
        pair.meet()
        os.write(file, b"end")
    assert pair.contents() == {b"012end"}


def test_a_file_that_a_peer_removed_is_read_through_its_descriptor(pair: Pair):
    (pair.there / "f").write_bytes(b"text" * 10_000)
    (pair.there / "g").write_bytes(b"replaced")
    pair.meet()
    with opened(pair.here / "f", os.O_RDONLY) as file, opened(pair.here / "g", os.O_RDONLY) as other:
        assert os.pread(file, 4, 0) == b"text"
        (pair.there / "f").unlink()
        (pair.there / "h").write_bytes(b"new")
        (pair.there / "h").rename(pair.there / "g")
        pair.meet()
        assert sorted(os.listdir(pair.here)) == ["g"]
        assert os.fstat(file).st_nlink == os.fstat(other).st_nlink == 0
        assert os.pread(file, 50_000, 0) == b"text" * 10_000
        assert os.pread(other, 100, 0) == b"replaced"
    assert pair.contents() == {b"new"}


def test_what_is_written_to_a_file_that_a_peer_removed_is_kept(pair: Pair):
    (pair.there / "f").write_bytes(b"text")
    pair.meet()
    with opened(pair.here / "f", os.O_RDWR) as file:
        (pair.there / "f").unlink()
        pair.meet()
        assert os.listdir(pair.here) == []
        os.write(file, b"TEXT and more")
    assert pair.contents() == {b"TEXT and more"}


def test_a_lock_holds_while_the_file_is_merged(pair: Pair):
    (pair.there / "f").write_bytes(b"one")
    pair.meet()
    with opened(pair.here / "f", os.O_RDONLY) as file, opened(pair.here / "f", os.O_RDONLY) as other:
        fcntl.flock(file, fcntl.LOCK_EX)
        (pair.there / "f").write_bytes(b"two")
        (pair.there / "f").rename(pair.there / "g")
        pair.meet()
        assert (pair.here / "g").read_bytes() == b"two"
        assert result(fcntl.flock, other, fcntl.LOCK_SH | fcntl.LOCK_NB) == "EAGAIN"
        with opened(pair.here / "g", os.O_RDONLY) as renamed:
            assert result(fcntl.flock, renamed, fcntl.LOCK_SH | fcntl.LOCK_NB) == "EAGAIN"


# -- mappings --------------------------------------------------------------------------------------

SIZE = 5 * mmap.PAGESIZE


def overwrite(path: Path) -> None:
    with opened(path, os.O_WRONLY) as file:
        os.pwrite(file, b"peer", SIZE - 100)


def replace(path: Path) -> None:
    path.with_name("new").write_bytes(b"saved by rename")
    path.with_name("new").rename(path)


def append(path: Path) -> None:
    with opened(path, os.O_WRONLY | os.O_APPEND) as file:
        os.write(file, b"appended")


# What the peer does, and what it makes of the file; None: there is no such content any more.
PEERS: dict[str, tuple[Callable[[Path], object], bytes | None]] = {
    "writes elsewhere": (overwrite, b"o" * (SIZE - 100) + b"peer" + b"o" * 96),
    "writes all anew": (lambda path: path.write_bytes(b"n" * SIZE), b"n" * SIZE),
    "cuts": (lambda path: os.truncate(path, 10), b"o" * 10),
    "appends": (append, b"o" * SIZE + b"appended"),
    "replaces": (replace, b"saved by rename"),
    "removes": (os.unlink, None),
}


@pytest.mark.parametrize("peer", PEERS)
def test_what_is_dirty_in_a_mapping_and_what_is_merged_are_both_kept_whole(pair: Pair, peer: str):
    act, made = PEERS[peer]
    (pair.there / "f").write_bytes(b"o" * SIZE)
    pair.meet()
    with opened(pair.here / "f", os.O_RDWR) as file, mmap.mmap(file, SIZE) as mapping:
        mapping[5_000:5_004] = b"here"
        act(pair.there / "f")
        pair.meet()
        assert mapping[0:1] in (b"o", b"n", b"s")
        assert mapping[5_000:5_004] == b"here"
        mapping[6_000:6_004] = b"more"
        mapping.flush()
    written = b"o" * 5_000 + b"here" + b"o" * 996 + b"more" + b"o" * (SIZE - 6_004)
    assert pair.contents() == {written} | ({made} if made is not None else set())


LEFT = """
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
file = os.open(sys.argv[1], os.O_RDWR)
mapped = libc.mmap(None, 4096, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, file, 0)
os.close(file)
for line in sys.stdin:
    data = line.strip().encode()
    ctypes.memmove(mapped, data, len(data))
    print(ctypes.string_at(mapped, len(data)).decode(), flush=True)
"""


def test_what_is_written_through_a_mapping_whose_descriptor_was_closed_is_kept(pair: Pair):
    (pair.there / "f").write_bytes(b"o" * 4096)
    pair.meet()
    command = [sys.executable, "-c", LEFT, pair.here / "f"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        for written in ("here", "and more"):
            program.stdin.write(written + "\n")
            program.stdin.flush()
            assert program.stdout.readline() == written + "\n"
            (pair.there / "f").write_bytes(b"n" * 4096)
            pair.meet()
        program.stdin.close()
    assert pair.contents() == {b"and more" + b"o" * 4088, b"n" * 4096}


def test_a_private_mapping_keeps_its_changes_and_gives_none_away(pair: Pair):
    (pair.there / "f").write_bytes(b"o" * SIZE)
    pair.meet()
    with (
        opened(pair.here / "f", os.O_RDONLY) as file,
        mmap.mmap(file, SIZE, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as mapping,
    ):
        mapping[5_000:5_004] = b"here"
        (pair.there / "f").write_bytes(b"n" * SIZE)
        pair.meet()
        assert mapping[5_000:5_004] == b"here"
        assert mapping[0:10] == b"n" * 10
    assert pair.contents() == {b"n" * SIZE}


# -- directories -----------------------------------------------------------------------------------


def test_a_stream_goes_on_over_what_is_merged(pair: Pair):
    names = {f"file-{number:04}".encode() for number in range(400)}
    for name in names:
        os.mknod(os.fsencode(pair.there) + b"/" + name)
    pair.meet()
    with streamed(pair.here) as stream:
        before = [stream.read().name for _ in range(150)]
        place = stream.tell()
        removed = sorted(names)[::3]
        for name in removed:
            os.unlink(os.fsencode(pair.there) + b"/" + name)
        for number in range(100):
            os.mknod(pair.there / f"new-{number:04}")
        pair.meet()
        stream.seek(place)
        after = stream.rest()
        stream.rewind()
        assert sorted(stream.rest()) == sorted([b".", b"..", *map(os.fsencode, os.listdir(pair.there))])
    assert names - set(before) - set(removed) <= set(after)
    assert not (set(before) - set(removed)) & set(after)
    assert len(set(after)) == len(after)


def test_a_working_directory_that_a_peer_removed_takes_nothing(pair: Pair):
    before = os.getcwd()
    (pair.there / "d").mkdir()
    pair.meet()
    with opened(pair.here / "d", os.O_RDONLY | os.O_DIRECTORY) as directory:
        os.chdir(pair.here / "d")
        try:
            (pair.there / "d").rmdir()
            pair.meet()
            assert result(os.getcwd) == "ENOENT"
            assert result(os.mkdir, "new") == result(os.mknod, "new") == "ENOENT"
            assert result(os.symlink, "x", "new") == result(os.stat, "new") == "ENOENT"
            assert os.listdir(directory) == os.listdir(".") == []
            assert os.fstat(directory).st_nlink == 0
            assert os.stat("..").st_ino in (pair.here.stat().st_ino, os.fstat(directory).st_ino)
        finally:
            os.chdir(before)
    assert os.listdir(pair.here) == []


def test_what_is_in_a_directory_that_a_peer_moved_is_reached_through_its_descriptor(pair: Pair):
    (pair.there / "d/sub").mkdir(parents=True)
    (pair.there / "e").mkdir()
    pair.meet()
    with opened(pair.here / "d/sub", os.O_RDONLY | os.O_DIRECTORY) as directory:
        (pair.there / "d").rename(pair.there / "e/moved")
        pair.meet()
        os.mkdir("made", dir_fd=directory)
        with streamed(pair.here / "e/moved/sub") as stream:
            numbers = {entry.name: entry.ino for entry in iter(stream.read, None)}
        assert numbers[b".."] == (pair.here / "e/moved").stat().st_ino
        assert numbers[b"."] == os.fstat(directory).st_ino
    pair.meet()
    assert (pair.there / "e/moved/sub/made").is_dir()


# -- times -----------------------------------------------------------------------------------------


def test_the_times_of_each_change_are_the_same_at_both_sites(pair: Pair):
    (pair.there / "d").mkdir()
    changed = ["written", "cut", "chmod", "chown", "xattr", "removed-xattr", "linked", "renamed", "touched"]
    for name in changed:
        (pair.there / name).write_bytes(b"text")
        os.setxattr(pair.there / name, "user.x", b"1")
    pair.meet()
    (pair.here / "written").write_bytes(b"more")
    os.truncate(pair.here / "cut", 1)
    os.chmod(pair.here / "chmod", 0o600)
    os.chown(pair.here / "chown", 1, 2)
    os.setxattr(pair.here / "xattr", "user.y", b"2")
    os.removexattr(pair.here / "removed-xattr", "user.x")
    os.link(pair.here / "linked", pair.here / "link")
    os.rename(pair.here / "renamed", pair.here / "d/renamed")
    os.utime(pair.here / "touched", ns=(5, 5))
    os.setxattr(pair.here / "d", "user.y", b"2")
    pair.meet()
    for directory, _, files in os.walk(pair.here):
        for path in (Path(directory), *(Path(directory, name) for name in files)):
            here, there = path.stat(), (pair.there / path.relative_to(pair.here)).stat()
            assert (here.st_mtime_ns, here.st_ctime_ns) == (there.st_mtime_ns, there.st_ctime_ns), path
