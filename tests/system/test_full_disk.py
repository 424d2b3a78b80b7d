"""A disk that is full gives ENOSPC on what does not fit, and nothing else breaks (docs/trouble.md)."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from elmer.directory import StoreDirectory
from elmer.space import Sizes
from elmer.volume import found
from tests.system.sites import ELMER, CommandFailedError, Site, Sites, elmer, meet
from tests.system.waiting import until

MIB = 1 << 20
DISK_BYTES = 64 * MIB


# An elmer that looks at the disk once, and goes by that for ever.
LOOKS_ONCE = [
    *(sys.executable, "-P", "-c"),
    "from elmer import space; space.LOOK_S = 1e9; from elmer.cli import main; main()",
]


def errno_of(call, *arguments) -> int:
    """Return the error that this ends with, 0 for none."""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno or 0
    return 0


class Disk:
    """A small disk, and what others have put on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ballast = path / "ballast"

    @property
    def free(self) -> int:
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize

    def fill(self) -> None:
        """Leave not a byte."""
        with self.ballast.open("ab", buffering=0) as file:
            while not (error := errno_of(file.write, bytes(min(MIB, max(4096, self.free))))):
                pass
        assert error == errno.ENOSPC

    def empty(self) -> None:
        self.ballast.unlink()


@pytest.fixture
def disk(scratch: Path) -> Iterator[Disk]:
    path = scratch / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", path], check=True)
    yield Disk(path)
    subprocess.run(["umount", path], check=True)


@pytest.fixture
def program() -> Sequence[str]:
    return ELMER


@pytest.fixture
def site(disk: Disk, sites: Sites, program: Sequence[str]) -> Iterator[Site]:
    made = sites.add("a")
    made.store = disk.path / "store"
    made.program = program
    found(StoreDirectory(made.store), "a")
    sites.start(made)
    until((made.store / "reserve").exists, "a reserve is made")
    yield made
    disk.ballast.unlink(missing_ok=True)
    sites.close()


def content_of(name: str) -> bytes:
    return Random(name).randbytes(MIB)  # neither compressed nor had twice


def fill_by_programs(site: Site) -> list[Path]:
    """Write files, ever smaller ones, until nothing fits; return those of a mebibyte, which are whole."""
    (site / "rest").mkdir()
    whole: list[Path] = []
    while not errno_of((path := site / f"file-{len(whole)}").write_bytes, content_of(path.name)):
        whole.append(path)
    for size in (MIB // 8, 4096, 0):
        count = 0
        while not (error := errno_of((site / "rest" / f"{size}-{count}").write_bytes, os.urandom(size))):
            count += 1
    assert error == errno.ENOSPC, error
    return whole


def check_whole(*paths: Path) -> None:
    for path in paths:
        assert path.read_bytes() == content_of(path.name), path


def test_what_programs_fill_refuses_what_does_not_fit_and_nothing_else(disk, site):
    (site / "d").mkdir()
    first, second, third, *others = fill_by_programs(site)
    assert disk.free >= Sizes.of(disk.path).margin, "what RocksDB needs at any moment is free"
    assert sum(path.stat().st_size for path in others) > DISK_BYTES // 2, "most of it is for programs"
    assert errno_of(os.mkdir, site / "new") == errno.ENOSPC
    assert errno_of(os.symlink, "x", site / "new") == errno.ENOSPC
    assert errno_of(os.link, first, site / "new") == errno.ENOSPC
    assert errno_of((site / "new").touch) == errno.ENOSPC
    assert errno_of(os.setxattr, first, "user.a", b"x") == errno.ENOSPC
    assert os.statvfs(site.mountpoint).f_bavail == 0
    until(lambda: "is full" in site.status()["daemon"]["error"], "the status says so")

    check_whole(first, second, third, *others)
    first.unlink()
    second.rename(site / "d" / second.name)
    third.chmod(0o600)
    os.truncate(third, 5)
    os.utime(third)
    check_whole(site / "d" / second.name)
    assert third.read_bytes() == content_of(third.name)[:5]

    subprocess.run(["mount", "-o", f"remount,size={2 * DISK_BYTES}", disk.path], check=True)
    first.write_bytes(content_of(first.name))
    check_whole(first, *others)
    until(lambda: site.status()["daemon"]["error"] == "", "the status says that it is over")


def test_what_others_fill_is_made_good_for_removals_and_for_what_was_written(disk, site):
    """The reserve goes, and with it what a program has written comes to the disk at its close."""
    kept = fill_by_programs(site)[:2]
    subprocess.run(["mount", "-o", f"remount,size={2 * DISK_BYTES}", disk.path], check=True)
    with (site / "open").open("wb", buffering=0) as file:
        file.write(content_of("open"))
        disk.fill()
        assert errno_of((site / "new").touch) == errno.ENOSPC
        os.fsync(file.fileno())
    until(lambda: not (site.store / "reserve").exists(), "the reserve is given back")
    for path in kept:
        path.unlink()
    (site / "open").rename(site / "renamed")
    assert (site / "renamed").read_bytes() == content_of("open")

    disk.empty()
    until(lambda: not errno_of((site / "new").touch), "it goes on by itself")
    until((site.store / "reserve").exists, "the reserve is taken again")


@pytest.mark.parametrize("program", [LOOKS_ONCE], ids=["looks once"])
def test_what_was_made_while_others_filled_the_disk_is_there_after_a_crash(disk, site):
    """A look that is old lets a request through, and the store refuses it: nothing is answered that fails."""
    made: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        filling = pool.submit(disk.fill)
        while not (refused := errno_of((site / f"f{len(made)}").touch)):
            made.append(f"f{len(made)}")
        filling.result()
    assert refused == errno.ENOSPC
    site.kill()
    site.start()
    site.wait_mounted()
    assert sorted(os.listdir(site.mountpoint)) == sorted(made)


def test_written_data_that_finds_no_space_is_told_to_its_program_and_kept(disk, site):
    content = os.urandom(4 * MIB)
    file = os.open(site / "f", os.O_WRONLY | os.O_CREAT)

    def is_refused(save: Callable[[], object]) -> bool:
        """Write where there is space, save where there is none; what the log gives back may do for that."""
        disk.ballast.unlink(missing_ok=True)
        os.pwrite(file, content, 0)
        disk.fill()
        until(lambda: not (site.store / "reserve").exists(), "the reserve is given back")
        disk.fill()
        return errno_of(save) == errno.ENOSPC

    until(lambda: is_refused(lambda: os.fsync(file)), "fsync tells that there is no space")
    assert errno_of(os.close, os.dup(file)) in (0, errno.ENOSPC)
    assert (site / "f").read_bytes() == content, "it shows what was written"
    disk.empty()
    until(lambda: not errno_of(os.fsync, file), "fsync goes on where there is space")
    until(lambda: is_refused(lambda: os.close(os.dup(file))), "close tells that there is no space")
    errno_of(os.close, file)
    status, said = 0, ""
    try:
        elmer("umount", site.mountpoint)
    except CommandFailedError as told:
        status, said = told.status, told.said
    # Unless the log gave back what it takes.
    assert (status, "what was written last is not all on the disk" in said) in ((1, True), (0, False))
    assert site.daemon.wait(60) == status
    site.daemon = None
    disk.empty()
    site.start()
    site.wait_mounted()
    assert (site / "f").read_bytes() == content, "what fsync had said is there"


def test_merges_go_on_with_what_fits_on_a_full_disk(disk, site, sites):
    other = sites.join(site, "b")
    meet(site, other)
    fill_by_programs(site)
    (other / "small").write_bytes(b"small")
    (other / "d").mkdir()
    large = os.urandom(8 * MIB)
    (other / "large").write_bytes(large)
    until(lambda: (site / "small").read_bytes() == b"small", "what is small is merged")
    assert (site / "d").is_dir()
    until(lambda: site.status()["lag"]["to_receive"]["blocks"], "the rest is said to be missing")
    (site / "small").unlink()
    until(lambda: not (other / "small").exists(), "removals are told")
    subprocess.run(["mount", "-o", f"remount,size={2 * DISK_BYTES}", disk.path], check=True)
    meet(site, other)
    assert (site / "large").read_bytes() == large


def test_a_store_whose_disk_is_full_is_mounted_and_read(disk, site):
    whole = fill_by_programs(site)
    os.sync()
    site.kill()
    disk.fill()
    site.start()
    site.wait_mounted()
    check_whole(*whole[:-1])
    assert errno_of((site / "new").touch) == errno.ENOSPC
    whole[0].unlink()
    disk.empty()
    until(lambda: not errno_of((site / "new").touch), "it goes on by itself")
