"""The contents of files: what is written is read, by whatever call and at whatever offset."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.posix.calls import fails_with, open_and_close, opened, result
from tests.system.sites import Site

GIB, TIB = 1 << 30, 1 << 40


def test_what_one_descriptor_writes_another_reads_at_once(folder: Path):
    (folder / "f").write_bytes(b"0" * 10_000)
    with opened(folder / "f", os.O_RDWR) as one, opened(folder / "f", os.O_RDONLY) as other:
        os.pwrite(one, b"new", 5_000)
        assert os.pread(other, 3, 5_000) == b"new"
        assert os.pread(other, 3, 4_999) == b"0ne"


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


def test_reading_ends_at_the_end(folder: Path):
    (folder / "f").write_bytes(b"text")
    with opened(folder / "f", os.O_RDONLY) as file:
        assert os.read(file, 100) == b"text"
        assert os.read(file, 100) == b""
        assert os.pread(file, 100, 2) == b"xt"
        assert os.pread(file, 100, 4) == os.pread(file, 100, TIB) == b""
        assert os.lseek(file, 0, os.SEEK_END) == 4
        with fails_with(errno.EINVAL):
            os.lseek(file, -5, os.SEEK_END)
        assert os.lseek(file, 0, os.SEEK_CUR) == 4


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
        os.lseek(source, 0, os.SEEK_SET)
        os.lseek(target, 0, os.SEEK_SET)
        left = len(content)
        while left:
            left -= os.sendfile(target, source, None, left)
    assert (folder / "to").read_bytes() == content


# -- how it is opened ------------------------------------------------------------------------------


def test_a_descriptor_does_what_it_was_opened_for(folder: Path):
    (folder / "f").write_bytes(b"text")
    with opened(folder / "f", os.O_RDONLY) as file:
        assert result(os.write, file, b"x") == "EBADF"
        assert result(os.ftruncate, file, 1) == "EINVAL"
    with opened(folder / "f", os.O_WRONLY) as file:
        assert result(os.read, file, 1) == "EBADF"
    with opened(folder / "f", os.O_PATH) as file:
        assert result(os.read, file, 1) == "EBADF"
        assert os.fstat(file).st_size == 4


def test_the_flags_of_open_hold(folder: Path):
    (folder / "f").write_bytes(b"text")
    (folder / "d").mkdir()
    (folder / "link").symlink_to("f")
    (folder / "to-d").symlink_to("d")
    os.mkfifo(folder / "fifo")
    for path, flags, expected in (
        ("f", os.O_CREAT | os.O_EXCL, "EEXIST"),
        ("link", os.O_CREAT | os.O_EXCL, "EEXIST"),
        ("f", os.O_DIRECTORY, "ENOTDIR"),
        ("link", os.O_DIRECTORY, "ENOTDIR"),
        ("to-d", os.O_DIRECTORY, "done"),
        ("to-d", os.O_DIRECTORY | os.O_NOFOLLOW, "ENOTDIR"),
        ("link", os.O_NOFOLLOW, "ELOOP"),
        ("link", os.O_NOFOLLOW | os.O_PATH, "done"),
        ("d", os.O_RDONLY, "done"),
        ("d", os.O_WRONLY, "EISDIR"),
        ("d", os.O_RDWR, "EISDIR"),
        ("d", os.O_RDONLY | os.O_TRUNC, "EISDIR"),
        ("d", os.O_RDONLY | os.O_CREAT, "EISDIR"),
        ("fifo", os.O_WRONLY | os.O_NONBLOCK, "ENXIO"),
        ("fifo", os.O_RDONLY | os.O_NONBLOCK, "done"),
        ("f", os.O_RDONLY | os.O_TMPFILE, "EINVAL"),
    ):
        assert result(open_and_close, folder / path, flags) == expected, (path, flags)
    assert (folder / "f").read_bytes() == b"text"


def test_opening_to_truncate_empties_a_file(folder: Path):
    (folder / "f").write_bytes(b"text")
    with opened(folder / "f", os.O_WRONLY | os.O_TRUNC):
        assert (folder / "f").stat().st_size == 0
    assert (folder / "f").read_bytes() == b""
    (folder / "f").write_bytes(b"text")
    with opened(folder / "f", os.O_RDONLY | os.O_CREAT | os.O_TRUNC):
        assert (folder / "f").stat().st_size == 0


def test_what_is_written_to_append_goes_to_the_end(folder: Path):
    (folder / "f").write_bytes(b"one ")
    with opened(folder / "f", os.O_RDWR | os.O_APPEND) as file:
        os.lseek(file, 0, os.SEEK_SET)
        os.write(file, b"two ")
        assert os.lseek(file, 0, os.SEEK_CUR) == 8
        os.pwrite(file, b"three", 0)  # as on Linux, though POSIX says otherwise
        os.ftruncate(file, 4)
        os.write(file, b"four")
        assert os.pread(file, 100, 0) == b"one four"
        assert os.lseek(file, 0, os.SEEK_CUR) == 8


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


# -- size ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4_095, 4_096, 4_097, 32_768, 100_000])
def test_what_was_cut_off_comes_back_as_zeros(folder: Path, size: int):
    content = os.urandom(100_000)
    (folder / "f").write_bytes(content)
    os.truncate(folder / "f", size)
    assert (folder / "f").read_bytes() == content[:size]
    os.truncate(folder / "f", 120_000)
    assert (folder / "f").read_bytes() == content[:size] + bytes(120_000 - size)


def test_what_cannot_be_truncated_is_refused(folder: Path):
    (folder / "f").write_bytes(b"text")
    (folder / "d").mkdir()
    os.mkfifo(folder / "fifo")
    assert result(os.truncate, folder / "f", -1) == "EINVAL"
    assert result(os.truncate, folder / "d", 0) == "EISDIR"
    assert result(os.truncate, folder / "fifo", 0) == "EINVAL"
    assert (folder / "f").read_bytes() == b"text"


@pytest.mark.parametrize("size", [4 * GIB - 1, 4 * GIB + 5, TIB + 5])
def test_a_large_file_with_holes_is_as_good_as_a_small_one(folder: Path, size: int):
    path = folder / "f"
    with opened(path, os.O_CREAT | os.O_RDWR) as file:
        os.pwrite(file, b"start", 0)
        os.pwrite(file, b"middle", size // 2)
        os.pwrite(file, b"end", size - 3)
        os.fsync(file)
        assert os.fstat(file).st_size == size
        assert os.pread(file, 10, size // 3) == bytes(10)
        assert os.pread(file, 20, size // 2 - 2) == b"\0\0middle" + bytes(12)
        assert os.pread(file, 100, size - 6) == b"\0\0\0end"
        os.ftruncate(file, size // 2 + 3)
        os.ftruncate(file, size)
        assert os.pread(file, 20, size // 2 - 2) == b"\0\0mid" + bytes(15)
        assert os.pread(file, 100, size - 6) == bytes(6)
        assert os.lseek(file, 0, os.SEEK_END) == size


def test_a_hole_takes_no_space(folder: Path, shared_site: Site):
    before = shared_site.status()["disk"]["store_bytes"]
    with opened(folder / "f", os.O_CREAT | os.O_RDWR) as file:
        os.ftruncate(file, TIB)
        os.pwrite(file, b"end", TIB - 3)
        os.fsync(file)
    assert shared_site.status()["disk"]["store_bytes"] - before < 64 << 20


def test_a_sparse_copy_has_the_same_bytes(folder: Path):
    with opened(folder / "f", os.O_CREAT | os.O_RDWR) as file:
        os.pwrite(file, b"start", 0)
        os.pwrite(file, b"middle", 5_000_000)
        os.ftruncate(file, 10_000_000)
    for how in ("always", "auto", "never"):
        subprocess.run(["cp", f"--sparse={how}", "f", how], cwd=folder, check=True)
        assert (folder / how).read_bytes() == (folder / "f").read_bytes()
    assert taken(folder / "auto") < 1 << 20
    subprocess.run(["tar", "--create", "--sparse", "--file=tar", "f"], cwd=folder, check=True)
    assert (folder / "tar").stat().st_size < 1 << 20
    subprocess.run(["tar", "--extract", "--file=tar", "--transform=s/f/g/"], cwd=folder, check=True)
    assert (folder / "g").read_bytes() == (folder / "f").read_bytes()


def taken(path: Path) -> int:
    """Return what du(1) says: the bytes that are no holes."""
    return path.stat().st_blocks * 512


def test_du_counts_no_holes(folder: Path):
    path = folder / "f"
    with opened(path, os.O_CREAT | os.O_RDWR) as file:
        os.ftruncate(file, TIB)
        os.fsync(file)
        assert taken(path) < 1 << 20
        os.pwrite(file, b"x" * 3_000_000, TIB // 2)
        os.fsync(file)
        assert 3_000_000 <= taken(path) < 4_000_000
        os.ftruncate(file, TIB // 2 + 1_000_000)
        os.fsync(file)
        assert 1_000_000 <= taken(path) < 2_000_000
    path.write_bytes(os.urandom(500_000))
    with opened(path, os.O_RDONLY) as file:
        os.fsync(file)
    assert 500_000 <= taken(path) < 600_000


def test_the_end_of_a_file_is_found_where_holes_are_looked_for(folder: Path):
    with opened(folder / "f", os.O_CREAT | os.O_RDWR) as file:
        os.pwrite(file, b"data" * 10_000, 0)
        assert os.lseek(file, 0, os.SEEK_DATA) == 0
        assert os.lseek(file, 0, os.SEEK_HOLE) == 40_000
        with fails_with(errno.ENXIO):
            os.lseek(file, 40_000, os.SEEK_DATA)
        with fails_with(errno.ENXIO):
            os.lseek(file, 40_001, os.SEEK_HOLE)


def test_beyond_the_greatest_size_nothing_is_written(folder: Path):
    """8 PiB here, 16 TiB on ext4: in between may lie what either has."""
    with opened(folder / "f", os.O_CREAT | os.O_RDWR) as file:
        os.write(file, b"text")
        for size in (1 << 54, (1 << 62) + 1, (1 << 63) - 1):
            assert result(os.ftruncate, file, size) == "EFBIG", size
            assert result(os.pwrite, file, b"x", size - 1) == "EFBIG", size
        assert result(os.pwrite, file, b"xy", (1 << 63) - 1) in ("EFBIG", "EINVAL")
        assert os.fstat(file).st_size == 4
        assert os.pread(file, 10, (1 << 63) - 20) == b""
    assert result(os.truncate, folder / "f", (1 << 63) - 1) == "EFBIG"
    assert (folder / "f").read_bytes() == b"text"


LIMITED = """
import os, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
assert os.write(file, b"x" * 2_000) == 1_000
for call in (lambda: os.write(file, b"x"), lambda: os.ftruncate(file, 1_001)):
    try:
        call()
    except OSError as error:
        print(error.errno)
"""


def test_a_process_writes_no_more_than_its_limit(folder: Path):
    ran = subprocess.run([sys.executable, "-c", LIMITED, folder / "f"], capture_output=True, check=True)
    assert ran.stdout.split() == [b"%d" % errno.EFBIG] * 2
    assert (folder / "f").stat().st_size == 1_000


# -- without a name --------------------------------------------------------------------------------


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
        os.fchown(file, 5, 6)
        os.utime(file, ns=(7, 8))
        status = os.fstat(file)
        assert (status.st_nlink, status.st_size, status.st_mode & 0o7777) == (0, 3, 0o600)
        assert (status.st_uid, status.st_gid, status.st_mtime_ns) == (5, 6, 8)
        with opened(f"/proc/self/fd/{file}", os.O_RDWR) as again:
            os.write(again, b"again")
        assert os.pread(file, 100, 0) == b"again"
    (folder / "f").write_bytes(b"another")
    assert (folder / "f").read_bytes() == b"another"


# -- the disk --------------------------------------------------------------------------------------


def test_the_file_system_tells_its_size(folder: Path):
    usage = os.statvfs(folder)
    assert 0 < usage.f_bavail <= usage.f_bfree <= usage.f_blocks
    assert usage.f_frsize >= 512
    assert usage.f_namemax == 255
    told = subprocess.run(
        ["df", "--block-size=1", "--output=size,avail,target", folder],
        capture_output=True,
        text=True,
        check=True,
    )
    size, free, target = told.stdout.splitlines()[1].split(maxsplit=2)
    assert int(size) > int(free) > 0
    assert os.path.ismount(target)
