"""Files that are mapped into memory."""

import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.posix.calls import let_time_pass, opened, result

PAGE = mmap.PAGESIZE


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
        os.pwrite(file, b"CCC", PAGE + 10)
        assert mapped[PAGE + 10 : PAGE + 13] == b"CCC"
    assert (folder / "f").read_bytes()[:3] == b"AAA"


def test_a_mapping_outlives_descriptor_and_name(folder: Path):
    with opened(folder / "f", os.O_CREAT | os.O_RDWR) as file:
        os.write(file, b"A" * PAGE)
        os.link(folder / "f", folder / "g")
        mapped = mmap.mmap(file, PAGE)
    with mapped:
        os.unlink(folder / "f")
        mapped[0:4] = b"text"
        mapped.flush()
        assert (folder / "g").read_bytes()[:5] == b"textA"
        os.unlink(folder / "g")
        mapped[0:4] = b"more"
        mapped.flush()
        assert mapped[0:4] == b"more"


def test_writing_through_a_mapping_moves_the_times_once_it_is_synced(folder: Path):
    (folder / "f").write_bytes(bytes(PAGE))
    with opened(folder / "f", os.O_RDWR) as file, mmap.mmap(file, PAGE) as mapped:
        let_time_pass(folder)
        before = os.fstat(file)
        mapped[0:4] = b"text"
        mapped.flush()
        after = os.fstat(file)
        assert after.st_mtime_ns > before.st_mtime_ns
        assert after.st_ctime_ns > before.st_ctime_ns


def test_two_processes_share_a_mapping(folder: Path):
    (folder / "f").write_bytes(bytes(PAGE))
    other = (
        "import mmap, sys; file = open(sys.argv[1], 'r+b'); mapped = mmap.mmap(file.fileno(), 0);"
        " mapped[1:2] = bytes([mapped[0] + 1])"
    )
    with opened(folder / "f", os.O_RDWR) as file, mmap.mmap(file, PAGE) as mapped:
        mapped[0:1] = b"\x05"
        subprocess.run([sys.executable, "-c", other, folder / "f"], check=True)
        assert mapped[0:2] == b"\x05\x06"


def test_a_mapping_grows_with_the_file(folder: Path):
    with opened(folder / "f", os.O_CREAT | os.O_RDWR) as file:
        os.write(file, b"one")
        with mmap.mmap(file, 3) as mapped:
            os.ftruncate(file, 2 * PAGE)
            mapped.resize(2 * PAGE)
            assert mapped[:] == b"one" + bytes(2 * PAGE - 3)
            mapped[PAGE : PAGE + 3] = b"two"
    assert (folder / "f").read_bytes() == b"one" + bytes(PAGE - 3) + b"two" + bytes(PAGE - 3)


BEYOND = """
import mmap, os, sys
file = os.open(sys.argv[1], os.O_RDWR)
mapped = mmap.mmap(file, 2 * mmap.PAGESIZE)
os.ftruncate(file, 10)
assert mapped[:20] == b"A" * 10 + bytes(10)
print("so far", flush=True)
mapped[mmap.PAGESIZE]
"""


def test_what_was_cut_off_is_gone_from_a_mapping(folder: Path):
    """Zeros up to the end of the page, and SIGBUS after it."""
    (folder / "f").write_bytes(b"A" * 2 * PAGE)
    ran = subprocess.run([sys.executable, "-c", BEYOND, folder / "f"], capture_output=True, check=False)
    assert (ran.returncode, ran.stdout) == (-signal.SIGBUS, b"so far\n")


def test_what_is_beyond_the_end_in_a_page_is_not_written(folder: Path):
    (folder / "f").write_bytes(b"A" * 100)
    with opened(folder / "f", os.O_RDWR) as file, mmap.mmap(file, 100) as mapped:
        mapped[0:3] = b"BBB"
        mapped.flush()
    assert (folder / "f").stat().st_size == 100
    assert (folder / "f").read_bytes() == b"BBB" + b"A" * 97


@pytest.mark.parametrize(
    ("flags", "access", "expected"),
    [
        (os.O_RDONLY, mmap.PROT_READ, "done"),
        (os.O_RDONLY, mmap.PROT_WRITE, "EACCES"),
        (os.O_WRONLY, mmap.PROT_READ, "EACCES"),
        (os.O_RDWR, mmap.PROT_READ | mmap.PROT_WRITE, "done"),
    ],
)
def test_a_file_is_mapped_as_it_was_opened(folder: Path, flags: int, access: int, expected: str):
    (folder / "f").write_bytes(b"text")
    with opened(folder / "f", flags) as file:
        assert result(mmap.mmap, file, 4, flags=mmap.MAP_SHARED, prot=access) == expected


def test_a_mapping_through_a_descriptor_that_appends_changes_the_file_where_it_is_written(folder: Path):
    (folder / "f").write_bytes(b"A" * (2 * PAGE + 10))
    with opened(folder / "f", os.O_RDWR | os.O_APPEND) as file:
        with mmap.mmap(file, 2 * PAGE) as mapped:
            mapped[PAGE : PAGE + 3] = b"BBB"
            mapped.flush()
            os.write(file, b"C" * PAGE)
            mapped[0:1] = b"D"
        os.fsync(file)
    expected = b"D" + b"A" * (PAGE - 1) + b"BBB" + b"A" * (PAGE + 7) + b"C" * PAGE
    assert (folder / "f").read_bytes() == expected


def test_a_program_runs_from_the_mount(folder: Path):
    (folder / "script").write_text("#!/bin/sh\necho it runs\n")
    (folder / "script").chmod(0o755)
    assert subprocess.run([folder / "script"], capture_output=True, check=True).stdout == b"it runs\n"
    subprocess.run(["cp", "/bin/echo", folder / "echo"], check=True)
    assert subprocess.run([folder / "echo", "so"], capture_output=True, check=True).stdout == b"so\n"
