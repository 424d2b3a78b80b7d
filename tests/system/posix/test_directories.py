"""Directories: what they list, in which order of calls, and how many links they have."""

import errno
import os
import shutil
import stat
import subprocess
import threading
from pathlib import Path

from tests.system.posix.calls import fails_with, opened
from tests.system.posix.streams import streamed


def make(folder: Path, count: int, prefix: str = "file") -> list[str]:
    names = [f"{prefix}-{number:05}" for number in range(count)]
    for name in names:
        os.mknod(folder / name)
    return names


# -- what is listed --------------------------------------------------------------------------------


def test_a_directory_lists_itself_and_what_it_is_in(folder: Path):
    (folder / "d/sub").mkdir(parents=True)
    (folder / "d/f").touch()
    with streamed(folder / "d") as stream:
        found = {entry.name: (entry.ino, entry.type) for entry in iter(stream.read, None)}
    directory, regular = stat.S_IFDIR >> 12, stat.S_IFREG >> 12
    assert found == {
        b".": ((folder / "d").stat().st_ino, directory),
        b"..": (folder.stat().st_ino, directory),
        b"sub": ((folder / "d/sub").stat().st_ino, directory),
        b"f": ((folder / "d/f").stat().st_ino, regular),
    }
    os.rename(folder / "d/sub", folder / "sub")
    with streamed(folder / "sub") as stream:
        numbers = {entry.name: entry.ino for entry in iter(stream.read, None)}
    assert numbers == {b".": (folder / "sub").stat().st_ino, b"..": folder.stat().st_ino}


def test_a_listing_tells_the_kind_of_each_entry(folder: Path):
    (folder / "d").mkdir()
    (folder / "link").symlink_to("d")
    os.mkfifo(folder / "fifo")
    os.mknod(folder / "socket", stat.S_IFSOCK | 0o600)
    os.mknod(folder / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(folder / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 300))
    with streamed(folder) as stream:
        entries = [entry for entry in iter(stream.read, None) if not entry.name.startswith(b".")]
    for entry in entries:
        assert entry.type == (folder / entry.name.decode()).lstat().st_mode >> 12, entry.name
    assert len(entries) == 6


def test_a_stream_can_go_to_each_place_it_told_of(folder: Path):
    make(folder, 300)
    with streamed(folder) as stream:
        places = [stream.tell()]
        names = []
        while (entry := stream.read()) is not None:
            names.append(entry.name)
            places.append(stream.tell())
        assert len(set(places)) == len(places) == 303
        for at in (0, 1, 2, 3, 150, 301, 302):
            stream.seek(places[at])
            assert stream.rest() == names[at:]
        stream.rewind()
        assert stream.rest() == names


def test_a_place_in_a_stream_holds_while_names_come_and_go(folder: Path):
    names = {name.encode() for name in make(folder, 200)}
    with streamed(folder) as stream:
        before = [stream.read().name for _ in range(100)]
        place = stream.tell()
        for name in [name for name in before if not name.startswith(b".")][:90]:
            os.unlink(os.fsencode(folder) + b"/" + name)
        make(folder, 100, "new")
        stream.seek(place)
        after = stream.rest()
    staying = names - set(before)
    assert staying <= set(after)
    assert not set(before) & set(after)
    assert len(set(after)) == len(after)


def test_a_listing_that_is_begun_again_shows_what_came_meanwhile(folder: Path):
    (folder / "old").touch()
    with streamed(folder) as stream:
        assert sorted(stream.rest()) == [b".", b"..", b"old"]
        (folder / "new").touch()
        (folder / "old").unlink()
        stream.rewind()
        assert sorted(stream.rest()) == [b".", b"..", b"new"]


def test_a_listing_that_goes_on_while_names_come_and_go_misses_none_that_stays(folder: Path):
    staying = {f"stay-{number:04}" for number in range(1_500)}
    for name in staying:
        (folder / name).touch()
    seen: list[str] = []
    with os.scandir(folder) as entries:
        for index, entry in enumerate(entries):
            seen.append(entry.name)
            if index % 10 == 0:
                (folder / f"come-{index:04}").touch()
            if index % 20 == 0 and index:
                (folder / f"come-{index - 10:04}").unlink()
    assert staying <= set(seen)
    assert len(seen) == len(set(seen)), "a name was listed twice"


# -- many ------------------------------------------------------------------------------------------


def test_a_directory_holds_thousands_of_files(folder: Path):
    names = make(folder, 5_000)
    assert sorted(os.listdir(folder)) == names
    removed = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if int(entry.name[-1]) % 2:
                os.unlink(entry.path)
                removed += 1
    assert removed == 2_500
    assert sorted(os.listdir(folder)) == names[::2]
    shutil.rmtree(folder)
    assert not folder.exists()
    folder.mkdir()


def test_a_tree_of_thousands_is_removed_by_rm(folder: Path):
    for number in range(100):
        directory = folder / "tree" / f"d{number % 10}" / f"e{number}"
        directory.mkdir(parents=True)
        for file in range(20):
            (directory / f"f{file}").write_bytes(b"x")
    assert sum(len(files) for _, _, files in os.walk(folder)) == 2_000
    subprocess.run(["rm", "-r", "tree"], cwd=folder, check=True)
    assert os.listdir(folder) == []
    assert folder.stat().st_nlink == 2


def test_threads_that_work_in_one_directory_do_not_disturb_each_other(folder: Path):
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(100):
                path = folder / f"{name}-{number}"
                path.write_bytes(f"{name} {number}".encode() * 100)
                path.rename(folder / f"{name}-{number}-moved")
                assert (folder / f"{name}-{number}-moved").read_bytes()
                if number % 3:
                    (folder / f"{name}-{number}-moved").unlink()
        except BaseException as error:  # noqa: BLE001  raised below, in the thread of the test
            failures.append(error)

    workers = [threading.Thread(target=work, args=(name,)) for name in "pqrs"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures, failures
    expected = {f"{name}-{number}-moved" for name in "pqrs" for number in range(0, 100, 3)}
    assert set(os.listdir(folder)) == expected


# -- links -----------------------------------------------------------------------------------------


def test_a_directory_has_two_links_and_one_for_each_directory_inside(folder: Path):
    def links() -> int:
        return folder.stat().st_nlink

    assert links() == 2
    for number in range(5):
        (folder / f"d{number}").mkdir()
        (folder / f"f{number}").touch()
    (folder / "link").symlink_to("d0")
    assert links() == 7
    os.rename(folder / "d0", folder / "d1")
    assert links() == 6
    os.rename(folder / "d2", folder / "d3/in")
    assert (links(), (folder / "d3").stat().st_nlink) == (5, 3)
    os.rmdir(folder / "d4")
    assert links() == 4
    shutil.rmtree(folder / "d3")
    assert links() == 3


# -- removed ---------------------------------------------------------------------------------------


def test_a_directory_that_was_removed_is_empty_and_takes_nothing(folder: Path):
    before = os.getcwd()
    (folder / "d").mkdir()
    with opened(folder / "d", os.O_RDONLY | os.O_DIRECTORY) as directory:
        os.chdir(folder / "d")
        try:
            os.rmdir(folder / "d")
            with fails_with(errno.ENOENT):
                os.getcwd()
            for make_one in (
                lambda: os.mkdir("new"),
                lambda: os.mknod("new"),
                lambda: os.symlink("x", "new"),
            ):
                with fails_with(errno.ENOENT):
                    make_one()
            with fails_with(errno.ENOENT):
                os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=directory)
            with fails_with(errno.ENOENT):
                os.stat("new")
            assert os.listdir(directory) == os.listdir(".") == []
            assert os.stat(".").st_ino == os.fstat(directory).st_ino
            assert os.fstat(directory).st_nlink == 0
        finally:
            os.chdir(before)


def test_a_working_directory_that_is_renamed_stays_the_same(folder: Path):
    before = os.getcwd()
    (folder / "d/sub").mkdir(parents=True)
    (folder / "e").mkdir()
    try:
        os.chdir(folder / "d/sub")
        os.rename(folder / "d", folder / "e/moved")
        assert os.getcwd() == os.path.realpath(folder / "e/moved/sub")
        Path("f").write_bytes(b"text")
        os.chdir("../..")
        assert os.getcwd() == os.path.realpath(folder / "e")
    finally:
        os.chdir(before)
    assert (folder / "e/moved/sub/f").read_bytes() == b"text"
