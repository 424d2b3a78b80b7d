"""What programs may rely on at one site: each test is something POSIX or Linux promises."""

import errno
import fcntl
import mmap
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.sites import Site
from tests.system.trees import assert_equal, look


@pytest.fixture
def folder(shared_site: Site, request: pytest.FixtureRequest) -> Path:
    path = shared_site / request.node.name
    path.mkdir()
    return path


@contextmanager
def opened(path: Path | bytes, flags: int, mode: int = 0o644) -> Iterator[int]:
    descriptor = os.open(path, flags, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def fails_with(number: int) -> Iterator[None]:
    with pytest.raises(OSError, match=re.escape(os.strerror(number))):
        yield


# -- names ---------------------------------------------------------------------------------------


def test_names_are_bytes(folder: Path):
    inside = os.fsencode(folder) + b"/"
    names = [b"\xff\xfe\x80", b"line\nbreak", b" ", b"-rf", b"...", b"a\\b", b"*", b"\x01\x7f"]
    names += ["é".encode(), "e\u0301".encode(), b"Case", b"case", b"x" * 255]
    for name in names:
        with opened(inside + name, os.O_CREAT | os.O_WRONLY) as file:
            os.write(file, name)
    assert sorted(os.listdir(inside)) == sorted(names)
    for name in names:
        with open(inside + name, "rb") as file:
            assert file.read() == name
        os.rename(inside + name, inside + b"moved")
        os.unlink(inside + b"moved")
    assert os.listdir(inside) == []


def test_a_name_of_256_bytes_is_too_long(folder: Path):
    with fails_with(errno.ENAMETOOLONG):
        (folder / ("x" * 256)).mkdir()


def test_a_path_may_be_deeper_than_path_max(folder: Path):
    before = os.getcwd()
    try:
        os.chdir(folder)
        for _ in range(60):
            os.mkdir("d" * 100)
            os.chdir("d" * 100)
        with opened(Path("bottom"), os.O_CREAT | os.O_WRONLY) as file:
            os.write(file, b"deep")
        assert Path("bottom").read_bytes() == b"deep"
    finally:
        os.chdir(before)
    subprocess.run(["rm", "-rf", "--", folder], check=True)
    assert not folder.exists()


# -- content -------------------------------------------------------------------------------------


def test_a_file_that_was_unlinked_lives_until_it_is_closed(folder: Path):
    with opened(folder / "f", os.O_CREAT | os.O_RDWR) as file:
        os.write(file, b"before")
        os.unlink(folder / "f")
        assert os.listdir(folder) == []
        os.write(file, b" and after")
        os.fsync(file)
        assert os.pread(file, 100, 0) == b"before and after"
        os.ftruncate(file, 3)
        os.fchmod(file, 0o600)
        status = os.fstat(file)
        assert (status.st_nlink, status.st_size, status.st_mode) == (0, 3, stat.S_IFREG | 0o600)
    (folder / "f").write_bytes(b"another")
    assert (folder / "f").read_bytes() == b"another"


def test_what_one_descriptor_writes_another_reads_at_once(folder: Path):
    (folder / "f").write_bytes(b"0" * 10_000)
    with opened(folder / "f", os.O_RDWR) as one, opened(folder / "f", os.O_RDONLY) as other:
        os.pwrite(one, b"new", 5_000)
        assert os.pread(other, 3, 5_000) == b"new"
        assert os.pread(other, 3, 4_999) == b"0ne"


def test_a_hole_reads_as_zeros_and_takes_no_space(folder: Path, shared_site: Site):
    size = 1 << 32
    before = shared_site.status()["disk"]["store_bytes"]
    with opened(folder / "f", os.O_CREAT | os.O_RDWR) as file:
        os.pwrite(file, b"start", 0)
        os.pwrite(file, b"end", size - 3)
        assert os.pread(file, 10, size // 2) == bytes(10)
        assert os.pread(file, 10, size - 6) == b"\0\0\0end"
        os.fsync(file)
    assert (folder / "f").stat().st_size == size
    assert shared_site.status()["disk"]["store_bytes"] - before < 64 << 20


@pytest.mark.parametrize("size", [1, 4_095, 4_096, 4_097, 32_768, 100_000])
def test_what_was_cut_off_comes_back_as_zeros(folder: Path, size: int):
    content = os.urandom(100_000)
    (folder / "f").write_bytes(content)
    os.truncate(folder / "f", size)
    assert (folder / "f").read_bytes() == content[:size]
    os.truncate(folder / "f", 120_000)
    assert (folder / "f").read_bytes() == content[:size] + bytes(120_000 - size)


def test_opening_to_truncate_empties_a_file(folder: Path):
    (folder / "f").write_bytes(b"text")
    with opened(folder / "f", os.O_WRONLY | os.O_TRUNC):
        assert (folder / "f").stat().st_size == 0
    assert (folder / "f").read_bytes() == b""


def test_writes_at_any_offset_and_size_are_read_back(folder: Path):
    content = bytearray(200_000)
    with opened(folder / "f", os.O_CREAT | os.O_RDWR) as file:
        os.ftruncate(file, len(content))
        for step in range(200):
            start, size = step * 7_919 % 190_000, 1 + step * 131 % 9_999
            data = bytes([step % 255 + 1]) * size
            content[start : start + size] = data
            os.pwrite(file, data, start)
        assert os.pread(file, 300_000, 0) == bytes(content)
    assert (folder / "f").read_bytes() == bytes(content)


APPENDER = """
import os, sys
file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for number in range(200):
    os.write(file, f"{sys.argv[2]} {number:06} {'.' * 50}\\n".encode())
"""


def test_lines_appended_by_several_processes_are_all_there_and_whole(folder: Path):
    writers = [subprocess.Popen([sys.executable, "-c", APPENDER, folder / "log", name]) for name in "xyz"]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    lines = (folder / "log").read_text().splitlines()
    for name in "xyz":
        assert [line for line in lines if line.startswith(name)] == [
            f"{name} {number:06} {'.' * 50}" for number in range(200)
        ]
    assert len(lines) == 600


def test_a_shared_mapping_and_the_file_are_one(folder: Path):
    (folder / "f").write_bytes(b"A" * 20_000)
    with opened(folder / "f", os.O_RDWR) as file:
        with mmap.mmap(file, 20_000) as mapped:
            mapped[5_000:5_005] = b"BBBBB"
            assert os.pread(file, 7, 4_999) == b"ABBBBBA"
            mapped.flush()
            os.pwrite(file, b"C", 0)
            assert mapped[0:2] == b"CA"
            mapped[19_999:20_000] = b"Z"
        os.fsync(file)
    content = (folder / "f").read_bytes()
    expected = b"C" + b"A" * 4_999 + b"BBBBB" + b"A" * 14_994 + b"Z"
    assert content == expected


def test_a_private_mapping_changes_nothing(folder: Path):
    (folder / "f").write_bytes(b"A" * 5_000)
    with (
        opened(folder / "f", os.O_RDWR) as file,
        mmap.mmap(file, 5_000, flags=mmap.MAP_PRIVATE) as mapped,
    ):
        mapped[0:3] = b"BBB"
    assert (folder / "f").read_bytes() == b"A" * 5_000


def test_direct_io_and_vectors_read_and_write(folder: Path):
    with opened(folder / "f", os.O_CREAT | os.O_RDWR) as file:
        assert os.writev(file, [b"one ", b"two ", b"three"]) == 13
        parts = [bytearray(4), bytearray(9)]
        assert os.preadv(file, parts, 0) == 13
        assert parts == [b"one ", b"two three"]
        os.posix_fallocate(file, 0, 5_000)
        assert os.fstat(file).st_size == 5_000
        assert os.pread(file, 13, 0) == b"one two three"


def test_copying_in_the_kernel_copies_the_bytes(folder: Path):
    content = os.urandom(300_000)
    (folder / "from").write_bytes(content)
    with (
        opened(folder / "from", os.O_RDONLY) as source,
        opened(folder / "to", os.O_CREAT | os.O_WRONLY) as target,
    ):
        left = len(content)
        while left:
            left -= os.copy_file_range(source, target, left)
    assert (folder / "to").read_bytes() == content


# -- links and renames ---------------------------------------------------------------------------


def test_hard_links_are_names_of_one_file(folder: Path):
    (folder / "f").write_bytes(b"text")
    (folder / "sub").mkdir()
    (folder / "g").hardlink_to(folder / "f")
    (folder / "sub" / "h").hardlink_to(folder / "g")
    assert len({(folder / name).stat().st_ino for name in ("f", "g", "sub/h")}) == 1
    assert (folder / "f").stat().st_nlink == 3
    (folder / "g").write_bytes(b"changed")
    (folder / "f").unlink()
    assert (folder / "sub" / "h").read_bytes() == b"changed"
    assert (folder / "g").stat().st_nlink == 2
    with fails_with(errno.EEXIST):
        (folder / "g").hardlink_to(folder / "sub" / "h")
    with fails_with(errno.EPERM):
        (folder / "dirlink").hardlink_to(folder / "sub")


def test_symlinks_hold_their_target_as_it_is(folder: Path):
    inside = os.fsencode(folder) + b"/"
    for target in (b"f", b"../x/./y", b"\xff\n", b"/", b"t" * 4_095):
        os.symlink(target, inside + b"link")
        assert os.readlink(inside + b"link") == target
        assert os.lstat(inside + b"link").st_size == len(target)
        os.unlink(inside + b"link")
    os.symlink(b"loop", inside + b"loop")
    with fails_with(errno.ELOOP):
        os.stat(inside + b"loop")


def test_a_rename_replaces_and_open_descriptors_keep_the_old_file(folder: Path):
    (folder / "old").write_bytes(b"old")
    (folder / "new").write_bytes(b"new")
    number = (folder / "new").stat().st_ino
    with opened(folder / "old", os.O_RDONLY) as file:
        (folder / "new").rename(folder / "old")
        assert os.read(file, 10) == b"old"
        assert os.fstat(file).st_nlink == 0
    assert os.listdir(folder) == ["old"]
    assert (folder / "old").read_bytes() == b"new"
    assert (folder / "old").stat().st_ino == number


def test_renames_that_make_no_sense_are_refused_and_change_nothing(folder: Path):
    (folder / "file").write_bytes(b"f")
    (folder / "full" / "sub").mkdir(parents=True)
    (folder / "empty").mkdir()
    before = look(folder)
    for source, target, number in (
        ("file", "empty", errno.EISDIR),
        ("full", "file", errno.ENOTDIR),
        ("empty", "full", errno.ENOTEMPTY),
        ("full", "full/sub/in", errno.EINVAL),
        ("none", "file", errno.ENOENT),
        ("file", "none/file", errno.ENOENT),
        ("file", "file/f", errno.ENOTDIR),
    ):
        with fails_with(number):
            os.rename(folder / source, folder / target)
    assert_equal(look(folder), before)


def test_a_directory_replaces_an_empty_one(folder: Path):
    (folder / "full" / "sub").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "full").rename(folder / "empty")
    assert os.listdir(folder) == ["empty"]
    assert os.listdir(folder / "empty") == ["sub"]


def test_a_rename_between_two_names_of_one_file_does_nothing(folder: Path):
    (folder / "f").write_bytes(b"text")
    (folder / "g").hardlink_to(folder / "f")
    os.rename(folder / "f", folder / "g")
    assert sorted(os.listdir(folder)) == ["f", "g"]


# -- attributes ----------------------------------------------------------------------------------


def test_times_are_kept_to_the_nanosecond(folder: Path):
    (folder / "f").write_bytes(b"text")
    os.utime(folder / "f", ns=(1_234_567_890_123_456_789, 987_654_321_012_345_678))
    assert (folder / "f").stat().st_mtime_ns == 987_654_321_012_345_678
    assert (folder / "f").stat().st_atime_ns == 1_234_567_890_123_456_789
    os.utime(folder, ns=(1, 1))
    assert folder.stat().st_mtime_ns == 1
    (folder / "g").touch()
    assert folder.stat().st_mtime_ns > 1


def test_modes_and_owners_are_kept(folder: Path):
    (folder / "f").write_bytes(b"text")
    for mode in (0o000, 0o7777, 0o4755, 0o640):
        (folder / "f").chmod(mode)
        assert stat.S_IMODE((folder / "f").stat().st_mode) == mode
    os.chown(folder / "f", 4_000_000_000, 3_000_000_000)
    status = (folder / "f").stat()
    assert (status.st_uid, status.st_gid) == (4_000_000_000, 3_000_000_000)
    os.symlink("f", folder / "link")
    os.chown(folder / "link", 1, 2, follow_symlinks=False)
    assert (folder / "link").lstat().st_uid == 1
    assert (folder / "f").stat().st_uid == 4_000_000_000


def test_xattrs_of_files_directories_and_symlinks_are_kept(folder: Path):
    (folder / "f").touch()
    (folder / "d").mkdir()
    (folder / "link").symlink_to("f")
    for name in ("f", "d"):
        path = folder / name
        os.setxattr(path, "user.binary", bytes(range(256)))
        os.setxattr(path, "user.empty", b"")
        os.setxattr(path, "user.big", b"v" * 60_000)
        assert sorted(os.listxattr(path)) == ["user.big", "user.binary", "user.empty"]
        assert os.getxattr(path, "user.binary") == bytes(range(256))
        assert os.getxattr(path, "user.empty") == b""
        assert os.getxattr(path, "user.big") == b"v" * 60_000
    os.setxattr(folder / "link", "trusted.note", b"of the link", follow_symlinks=False)
    assert os.getxattr(folder / "link", "trusted.note", follow_symlinks=False) == b"of the link"
    path = folder / "f"
    with fails_with(errno.ENODATA):
        os.getxattr(path, "user.none")
    with fails_with(errno.EEXIST):
        os.setxattr(path, "user.empty", b"x", os.XATTR_CREATE)
    with fails_with(errno.ENODATA):
        os.setxattr(path, "user.none", b"x", os.XATTR_REPLACE)
    os.removexattr(path, "user.empty")
    with fails_with(errno.ENODATA):
        os.removexattr(path, "user.empty")
    assert sorted(os.listxattr(path)) == ["user.big", "user.binary"]


# -- special files -------------------------------------------------------------------------------


def test_a_fifo_carries_bytes_between_processes(folder: Path):
    os.mkfifo(folder / "fifo", 0o600)
    assert stat.S_ISFIFO((folder / "fifo").stat().st_mode)
    writer = subprocess.Popen(["sh", "-c", "echo through the fifo > fifo"], cwd=folder)
    assert (folder / "fifo").read_bytes() == b"through the fifo\n"
    assert writer.wait(60) == 0


def test_a_socket_can_be_bound_and_connected_to(folder: Path):
    with (
        opened(folder, os.O_PATH | os.O_DIRECTORY) as directory,
        socket.socket(socket.AF_UNIX) as server,
        socket.socket(socket.AF_UNIX) as client,
    ):
        address = f"/proc/self/fd/{directory}/socket"
        server.bind(address)
        server.listen()
        assert stat.S_ISSOCK((folder / "socket").stat().st_mode)
        client.connect(address)
        connected, _ = server.accept()
        with connected:
            client.sendall(b"hello")
            assert connected.recv(5) == b"hello"


def test_locks_hold_between_processes(folder: Path):
    take = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    (folder / "f").touch()
    command = [sys.executable, "-c", take, folder / "f"]
    with (folder / "f").open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        refused = subprocess.run(command, capture_output=True, check=False)
        assert b"BlockingIOError" in refused.stderr
    assert subprocess.run(command, check=False).returncode == 0


# -- many ----------------------------------------------------------------------------------------


def test_a_directory_holds_thousands_of_files(folder: Path):
    names = [f"file-{number:05}" for number in range(4_000)]
    for name in names:
        (folder / name).touch()
    assert sorted(os.listdir(folder)) == names
    removed = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if int(entry.name[-1]) % 2:
                os.unlink(entry.path)
                removed += 1
    assert removed == 2_000
    assert sorted(os.listdir(folder)) == names[::2]
    shutil.rmtree(folder)
    assert not folder.exists()


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


def test_the_file_system_tells_its_size(folder: Path):
    usage = os.statvfs(folder)
    assert 0 < usage.f_bavail <= usage.f_blocks
    assert usage.f_namemax == 255


# -- restart -------------------------------------------------------------------------------------


def test_after_a_restart_everything_is_as_it_was(site: Site):
    (site / "d").mkdir(mode=0o750)
    (site / "d" / "f").write_bytes(os.urandom(100_000))
    (site / "d" / "small").write_bytes(b"inline")
    (site / "g").hardlink_to(site / "d" / "f")
    (site / "link").symlink_to("d/f")
    os.mkfifo(site / "fifo")
    os.setxattr(site / "d", "user.note", b"kept")
    os.chown(site / "g", 7, 8)
    (site / "gone").mkdir()
    (site / "gone").rmdir()
    before, digest = look(site.mountpoint), site.digest()
    site.stop()
    site.start()
    site.wait_mounted()
    assert_equal(look(site.mountpoint), before)
    assert site.digest() == digest
    (site / "new").write_bytes(b"it can be written to")
    assert (site / "new").stat().st_ino not in {entry.ino for entry in before.values()}
