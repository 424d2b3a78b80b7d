"""A program in one mount sees what was changed through another as soon as it is merged.

The kernel keeps what it was told for ever, names that are not there too, so each of these fails
unless exactly the right thing is invalidated.  Every test looks through b first, so that b's
kernel has cached what is then changed through a.
"""

import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.sites import Site, meet
from tests.system.waiting import until, until_equal


class Both:
    """One folder through two mounts."""

    def __init__(self, sites: list[Site], name: str) -> None:
        self.sites = sites
        self.a, self.b = (site / name for site in sites)
        self.a.mkdir()
        until(self.b.is_dir, "the folder is seen through b")

    def put(self, name: str, content: bytes) -> tuple[Path, Path]:
        """Write a file through a and wait until b has it, and has it cached."""
        (self.a / name).write_bytes(content)
        until_equal((self.b / name).read_bytes, content, f"{name} through b")
        (self.b / name).stat()
        return self.a / name, self.b / name


@pytest.fixture
def both(shared_pair: list[Site], request: pytest.FixtureRequest) -> Iterator[Both]:
    yield Both(shared_pair, request.node.name)
    meet(*shared_pair)


def is_missing(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    return False


def test_content_of_equal_size_is_seen(both: Both):
    here, there = both.put("f", b"one")
    here.write_bytes(b"two")
    until_equal(there.read_bytes, b"two", "the new content")


def test_content_of_equal_size_is_seen_through_a_descriptor_that_was_open(both: Both):
    here, there = both.put("f", b"A" * 10_000)
    descriptor = os.open(there, os.O_RDONLY)
    try:
        assert os.pread(descriptor, 10_000, 0) == b"A" * 10_000
        here.write_bytes(b"B" * 10_000)
        until_equal(lambda: os.pread(descriptor, 10_000, 0), b"B" * 10_000, "the new content")
    finally:
        os.close(descriptor)


def test_content_of_equal_size_is_seen_through_a_mapping(both: Both):
    here, there = both.put("f", b"A" * 10_000)
    with there.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[:] == b"A" * 10_000
        descriptor = os.open(here, os.O_WRONLY)
        os.pwrite(descriptor, b"B" * 5_000, 4_000)
        os.close(descriptor)
        expected = b"A" * 4_000 + b"B" * 5_000 + b"A" * 1_000
        until_equal(lambda: mapped[:], expected, "the new content in the mapping")


def test_content_that_grew_and_shrank_is_seen_with_its_size(both: Both):
    here, there = both.put("f", b"short")
    here.write_bytes(b"longer than before" * 5_000)
    until_equal(there.read_bytes, b"longer than before" * 5_000, "the longer content")
    assert there.stat().st_size == 90_000
    here.write_bytes(b"s")
    until_equal(there.read_bytes, b"s", "the shorter content")
    assert there.stat().st_size == 1


def test_a_removed_file_is_gone(both: Both):
    here, there = both.put("f", b"text")
    here.unlink()
    until(lambda: is_missing(there), "f is gone through b")
    assert os.listdir(both.b) == []


def test_a_removed_directory_is_gone(both: Both):
    (both.a / "d").mkdir()
    until((both.b / "d").is_dir, "d through b")
    (both.a / "d").rmdir()
    until(lambda: is_missing(both.b / "d"), "d is gone through b")


def test_a_renamed_file_has_its_new_name_only(both: Both):
    here, there = both.put("old", b"text")
    assert is_missing(both.b / "new")
    here.rename(both.a / "new")
    until_equal((both.b / "new").read_bytes, b"text", "new through b")
    until(lambda: is_missing(there), "old is gone through b")


def test_a_file_that_was_replaced_by_rename_has_the_new_content_and_number(both: Both):
    here, there = both.put("f", b"old")
    (both.a / "g").write_bytes(b"new")
    (both.a / "g").rename(here)
    until_equal(there.read_bytes, b"new", "the content of g under the name f")
    until_equal(lambda: there.stat().st_ino, here.stat().st_ino, "the inode number of g")
    assert is_missing(both.b / "g")


def test_what_is_below_a_renamed_directory_is_found_by_its_new_path_only(both: Both):
    (both.a / "d" / "sub").mkdir(parents=True)
    both.put("d/sub/f", b"text")
    (both.a / "d").rename(both.a / "e")
    until_equal((both.b / "e" / "sub" / "f").read_bytes, b"text", "the new path through b")
    until(lambda: is_missing(both.b / "d"), "the old path is gone through b")


def test_a_name_that_was_looked_for_in_vain_appears(both: Both):
    for name, make in (
        ("file", lambda path: path.write_bytes(b"text")),
        ("directory", lambda path: path.mkdir()),
        ("symlink", lambda path: path.symlink_to("anywhere")),
        ("fifo", os.mkfifo),
    ):
        for _ in range(3):
            assert is_missing(both.b / name)
        make(both.a / name)
        until(lambda name=name: not is_missing(both.b / name), f"{name} through b")


def test_a_name_that_was_removed_appears_again(both: Both):
    here, there = both.put("f", b"first")
    for round_number in range(3):
        here.unlink()
        until(lambda: is_missing(there), "f is gone through b")
        content = b"again %d" % round_number
        here.write_bytes(content)
        until_equal(there.read_bytes, content, "f is back through b")


def test_chmod_chown_and_times_are_seen(both: Both):
    here, there = both.put("f", b"text")
    here.chmod(0o604)
    until_equal(lambda: stat.S_IMODE(there.stat().st_mode), 0o604, "the mode through b")
    os.chown(here, 1234, 5678)
    until_equal(lambda: (there.stat().st_uid, there.stat().st_gid), (1234, 5678), "the owner through b")
    os.utime(here, ns=(1_111_111_111, 2_222_222_222))
    until_equal(lambda: there.stat().st_mtime_ns, 2_222_222_222, "the time through b")


def test_a_further_link_is_counted_and_both_names_show_what_is_written(both: Both):
    here, there = both.put("f", b"text")
    (both.a / "g").hardlink_to(here)
    until_equal(lambda: there.stat().st_nlink, 2, "two links through b")
    assert (both.b / "g").stat().st_ino == there.stat().st_ino
    (both.a / "g").write_bytes(b"TEXT")
    until_equal(there.read_bytes, b"TEXT", "what was written to the other name")
    (both.a / "g").unlink()
    until_equal(lambda: there.stat().st_nlink, 1, "one link through b")


def test_xattrs_are_seen(both: Both):
    here, there = both.put("f", b"text")
    assert os.listxattr(there) == []
    os.setxattr(here, "user.colour", b"red")
    until_equal(lambda: os.listxattr(there), ["user.colour"], "the name of the xattr through b")
    assert os.getxattr(there, "user.colour") == b"red"
    os.setxattr(here, "user.colour", b"blue")
    until_equal(lambda: os.getxattr(there, "user.colour"), b"blue", "the value through b")
    os.removexattr(here, "user.colour")
    until_equal(lambda: os.listxattr(there), [], "no xattr through b")


def test_the_times_of_a_directory_and_its_listing_change_with_its_entries(both: Both):
    both.put("first", b"1")
    before = both.b.stat().st_mtime_ns
    both.put("second", b"2")
    until(lambda: both.b.stat().st_mtime_ns > before, "a newer mtime of the directory through b")
    until_equal(lambda: both.b.stat().st_mtime_ns, both.a.stat().st_mtime_ns, "one mtime on both")
    assert sorted(os.listdir(both.b)) == ["first", "second"]


def test_the_links_of_a_directory_are_counted_with_its_subdirectories(both: Both):
    before = both.b.stat().st_nlink
    (both.a / "sub").mkdir()
    until_equal(lambda: both.b.stat().st_nlink, before + 1, "one more link through b")
    assert both.a.stat().st_nlink == both.b.stat().st_nlink


def test_a_program_that_works_in_a_directory_goes_on_when_it_is_renamed(both: Both):
    (both.a / "d").mkdir()
    both.put("d/f", b"text")
    descriptor = os.open(both.b / "d", os.O_RDONLY | os.O_DIRECTORY)
    try:
        (both.a / "d").rename(both.a / "e")
        until((both.b / "e").is_dir, "the new name through b")
        with open(os.open("f", os.O_RDONLY, dir_fd=descriptor), "rb") as file:
            assert file.read() == b"text"
        made = os.open("g", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=descriptor)
        os.close(made)
    finally:
        os.close(descriptor)
    until((both.a / "e" / "g").exists, "what it made, under the new name, through a")


def test_a_thousand_changes_in_one_directory_are_all_seen(both: Both):
    names = [f"f{number}" for number in range(500)]
    for name in names:
        (both.a / name).write_bytes(b"old " + name.encode())
    until(lambda: len(os.listdir(both.b)) == 500, "all names through b")
    read = {name: (both.b / name).read_bytes() for name in names}
    assert read == {name: b"old " + name.encode() for name in names}
    for number, name in enumerate(names):
        if number % 2:
            (both.a / name).write_bytes(b"new " + name.encode())
        else:
            (both.a / name).unlink()
    meet(*both.sites)
    expected = {name: b"new " + name.encode() for name in names[1::2]}
    until_equal(
        lambda: {name: (both.b / name).read_bytes() for name in sorted(os.listdir(both.b))},
        dict(sorted(expected.items())),
        "all changes through b",
    )
    assert all(is_missing(both.b / name) for name in names[::2])


def test_what_b_reads_while_a_writes_never_runs_backwards(both: Both):
    here, there = both.put("f", b"%08d" % 0)
    seen = [0]
    for number in range(1, 200):
        here.write_bytes(b"%08d" % number)
        content = there.read_bytes()
        assert len(content) in (0, 8), content  # it is cut to nothing, then written
        if content:
            seen.append(int(content))
    assert seen == sorted(seen)
    until_equal(there.read_bytes, b"%08d" % 199, "the last content through b")
