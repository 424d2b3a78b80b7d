"""Rows 10 to 13, 16 to 19, 28 and 31 of docs/conflicts.md: removed on one site, used on another."""

import os
from pathlib import Path

import pytest

from tests.system.rows.folder import Folder, append, make, move, remove, run, write
from tests.system.sites import heal
from tests.system.waiting import until


def test_row_10_a_removed_directory_stays_if_something_was_created_in_it(folder: Folder):
    folder.share(lambda here: make(here, {"d": None}))
    remove(folder.a / "d")
    write(folder.b / "d" / "f", b"text")
    assert folder.apart() == [{}, {"d": "dir", "d/f": b"text"}, {"d": "dir"}]
    assert folder.shown() == {"d": "dir", "d/f": b"text"}
    assert folder.records() == [("d", "rmdir", "a", "b")]
    remove(folder.c / "d" / "f")
    assert folder.shown() == {"d": "dir"}
    assert folder.records() == []
    run(os.rmdir, folder.b / "d")
    assert folder.shown() == {}


def test_row_10_a_removed_directory_stays_if_something_was_moved_into_it(folder: Folder):
    folder.share(lambda here: make(here, {"d": None, "f": b"text"}))
    move(folder.b / "f", folder.b / "d" / "f")
    remove(folder.a / "d")
    assert folder.shown() == {"d": "dir", "d/f": b"text"}


def test_row_10_all_directories_above_what_was_put_there_stay(folder: Folder):
    folder.share(lambda here: make(here, {"d/e/f/g": b"old"}))
    remove(folder.a / "d")
    make(folder.b, {"d/e/new/deep/file": b"text"})
    move(folder.c / "d" / "e", folder.c / "e")  # and one of them went elsewhere
    assert folder.shown() == {"e": "dir", "e/new": "dir", "e/new/deep": "dir", "e/new/deep/file": b"text"}


def test_row_11_a_tree_that_was_moved_survives_its_removal_without_what_was_removed(folder: Folder):
    folder.share(lambda here: make(here, {"d/f": b"text", "d/edited": b"old", "d/sub/g": b"text"}))
    remove(folder.a / "d")
    move(folder.b / "d", folder.b / "e")
    write(folder.b / "e" / "edited", b"new")
    assert folder.apart() == [
        {},
        {"e": "dir", "e/f": b"text", "e/edited": b"new", "e/sub": "dir", "e/sub/g": b"text"},
        {"d": "dir", "d/f": b"text", "d/edited": b"old", "d/sub": "dir", "d/sub/g": b"text"},
    ]
    assert folder.shown() == {"e": "dir", "e/edited": b"new"}


def test_row_12_what_was_moved_out_of_a_removed_tree_survives_where_it_went(folder: Folder):
    folder.share(lambda here: make(here, {"d/x": b"text", "d/sub/y": b"removed"}))
    move(folder.b / "d" / "x", folder.b / "out")
    remove(folder.a / "d")
    assert folder.apart() == [
        {},
        {"d": "dir", "d/sub": "dir", "d/sub/y": b"removed", "out": b"text"},
        {"d": "dir", "d/x": b"text", "d/sub": "dir", "d/sub/y": b"removed"},
    ]
    assert folder.shown() == {"out": b"text"}


def test_row_12_out_of_the_depth_of_a_removed_tree_a_file_and_a_directory_survive(folder: Folder):
    """The file is what it was.  The directory is; what was in it had been removed one by one."""
    folder.share(lambda here: make(here, {"d/1/2/3/file": b"deep", "d/1/dir/f": b"old", "d/1/dir/g": b"old"}))
    remove(folder.a / "d")
    move(folder.b / "d" / "1" / "2" / "3" / "file", folder.b / "file")
    move(folder.c / "d" / "1" / "dir", folder.c / "dir")
    write(folder.c / "dir" / "g", b"edited")
    assert folder.shown() == {"file": b"deep", "dir": "dir", "dir/g": b"edited"}


@pytest.mark.parametrize("first", ["removal", "edit"])
def test_row_13_an_edit_beats_a_removal_that_has_not_seen_it(folder: Folder, first: str):
    folder.share(lambda here: make(here, {"f": b"old"}))
    if first == "removal":
        remove(folder.a / "f")
        write(folder.b / "f", b"edited")
    else:
        write(folder.b / "f", b"edited")
        remove(folder.a / "f")
    assert folder.apart() == [{}, {"f": b"edited"}, {"f": b"old"}]
    assert folder.shown() == {"f": b"edited"}
    assert folder.records() == [("f", "unlink", "a", "b")]
    remove(folder.a / "f")  # which has seen it
    assert folder.shown() == {}
    assert folder.records() == []


def test_row_13_removed_on_two_sites_and_edited_on_the_third_it_is_there(folder: Folder):
    folder.share(lambda here: make(here, {"d/f": b"old"}))
    remove(folder.a / "d")
    append(folder.b / "d" / "f", b", and more")
    remove(folder.c / "d" / "f")
    assert folder.apart() == [{}, {"d": "dir", "d/f": b"old, and more"}, {"d": "dir"}]
    assert folder.shown() == {"d": "dir", "d/f": b"old, and more"}


@pytest.mark.parametrize("change", ["chmod", "utime"])
def test_row_16_a_removal_beats_a_change_of_attributes(folder: Folder, change: str):
    folder.share(lambda here: make(here, {"f": b"text"}))
    remove(folder.a / "f")
    if change == "chmod":
        run(os.chmod, folder.b / "f", 0o600)
    else:
        run(os.utime, folder.b / "f", (1, 1))
    assert folder.shown() == {}


@pytest.mark.parametrize("first", ["removal", "rename"])
def test_row_17_a_renamed_file_survives_its_removal(folder: Folder, first: str):
    folder.share(lambda here: make(here, {"f": b"text"}))
    if first == "removal":
        remove(folder.a / "f")
        move(folder.b / "f", folder.b / "g")
    else:
        move(folder.b / "f", folder.b / "g")
        remove(folder.a / "f")
    assert folder.apart() == [{}, {"g": b"text"}, {"f": b"text"}]
    assert folder.shown() == {"g": b"text"}


@pytest.mark.parametrize("first", ["removal", "link"])
def test_row_18_a_linked_file_survives_under_its_new_name_with_one_link(folder: Folder, first: str):
    folder.share(lambda here: make(here, {"f": b"text", "d": None}))
    if first == "removal":
        remove(folder.a / "f")
        run(os.link, folder.b / "f", folder.b / "d" / "g")
    else:
        run(os.link, folder.b / "f", folder.b / "d" / "g")
        remove(folder.a / "f")
    assert (folder.b / "f").stat().st_nlink == 2
    assert folder.apart() == [
        {"d": "dir"},
        {"d": "dir", "f": b"text", "d/g": b"text"},
        {"d": "dir", "f": b"text"},
    ]
    assert folder.shown() == {"d": "dir", "d/g": b"text"}
    assert (folder.c / "d" / "g").stat().st_nlink == 1


def test_row_18_of_three_names_those_are_left_that_nobody_removed(folder: Folder):
    """a removes the one name it knows, c renames it, b gives the file two more."""
    folder.share(lambda here: make(here, {"f": b"text"}))
    remove(folder.a / "f")
    run(os.link, folder.b / "f", folder.b / "g")
    run(os.link, folder.b / "f", folder.b / "h")
    append(folder.b / "h", b", edited")
    move(folder.c / "f", folder.c / "moved")
    assert folder.shown() == dict.fromkeys(("g", "h", "moved"), b"text, edited")
    assert {(folder.a / name).stat().st_nlink for name in ("g", "h", "moved")} == {3}


def test_row_19_of_a_file_with_two_names_that_are_removed_at_once_the_content_is_an_orphan(folder: Folder):
    def prepare(here: Path) -> None:
        make(here, {"f.txt": b"text", "d": None})
        run(os.link, here / "f.txt", here / "d" / "g.txt")

    folder.share(prepare)
    number = (folder.c / "f.txt").stat().st_ino
    remove(folder.a / "f.txt")
    remove(folder.b / "d")
    assert folder.apart() == [
        {"d": "dir", "d/g.txt": b"text"},
        {"f.txt": b"text"},
        {"f.txt": b"text", "d": "dir", "d/g.txt": b"text"},
    ]
    assert folder.shown() == {}
    for site in folder.sites:
        orphan = site / ".elmer" / "orphans" / f"g.orphan-{number}.txt"
        assert orphan.read_bytes() == b"text"
        assert orphan.stat().st_ino == number


def test_row_28_a_file_that_a_peer_removed_is_read_through_the_open_descriptor(folder: Folder):
    folder.share(lambda here: make(here, {"f": b"text"}))
    heal(*folder.sites)
    with (folder.a / "f").open("rb") as file:
        (folder.b / "f").unlink()
        until(lambda: not (folder.a / "f").exists(), "the removal is seen")
        assert file.read() == b"text"
        assert os.fstat(file.fileno()).st_nlink == 0
    assert folder.shown() == {}


def test_row_28_what_is_written_to_a_file_that_a_peer_removed_brings_it_back(folder: Folder):
    folder.share(lambda here: make(here, {"f": b"text"}))
    heal(*folder.sites)
    with (folder.a / "f").open("r+b") as file:
        (folder.b / "f").unlink()
        until(lambda: not (folder.a / "f").exists(), "the removal is seen")
        file.write(b"TEXT, edited")
    assert folder.shown() == {"f": b"TEXT, edited"}


def test_row_28_a_file_removed_here_while_open_stays_here_and_is_nobodys(folder: Folder):
    folder.share(lambda here: make(here, {"f": b"text"}))
    heal(*folder.sites)
    with (folder.a / "f").open("r+b") as file:
        (folder.a / "f").unlink()
        file.write(b"more")
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        assert file.read() == b"more"
        assert folder.shown() == {}
    assert folder.shown() == {}


def test_row_31_edits_inside_what_was_removed_long_ago_are_there_with_their_directories(folder: Folder):
    folder.share(lambda here: make(here, {"d/e/f": b"old", "d/g": b"old"}))
    remove(folder.a / "d")
    for number in range(100):  # work at a, as of months
        (folder.a / f"later-{number % 3}").write_bytes(b"%d" % number)
    write(folder.b / "d" / "e" / "f", b"edited at b")
    assert folder.shown() == {
        **{f"later-{number % 3}": b"%d" % number for number in (97, 98, 99)},
        "d": "dir",
        "d/e": "dir",
        "d/e/f": b"edited at b",
    }
