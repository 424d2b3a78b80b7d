"""Rows 7, 8 and 21 to 24 of docs/conflicts.md: one file that was changed on two or three sites."""

import os

import pytest

from tests.shell import entry_of
from tests.system.rows.folder import Folder, append, make, move, remove, run, save_by_rename, write, write_at
from tests.system.sites import cut

# -- 7, 8: saved by rename -----------------------------------------------------------------------------


def test_row_7_saving_by_rename_on_both_sides_is_a_content_conflict(folder: Folder):
    folder.share(lambda here: make(here, {"t.txt": b"old"}))
    save_by_rename(folder.a / "t.txt", b"saved at a")
    save_by_rename(folder.b / "t.txt", b"saved at b")
    assert folder.apart() == [{"t.txt": b"saved at a"}, {"t.txt": b"saved at b"}, {"t.txt": b"old"}]
    shown = folder.shown()
    of_a = entry_of(shown, "t.txt", "a")
    assert shown == {"t.txt": b"saved at b", of_a: b"saved at a"}
    assert [replica for _, _, replica in folder.conflicts()] == ["a"]


def test_row_7_saving_again_by_rename_does_not_flip_the_file(folder: Folder):
    """Three sites save, and a, whose first save is the oldest, saves again: they share what was before."""
    folder.share(lambda here: make(here, {"t": b"old"}))
    for here, content in ((folder.a, b"a"), (folder.b, b"b"), (folder.c, b"c"), (folder.a, b"a again")):
        save_by_rename(here / "t", content)
    shown = folder.shown()
    of_a, of_b = entry_of(shown, "t", "a"), entry_of(shown, "t", "b")
    assert shown == {"t": b"c", of_a: b"a again", of_b: b"b"}


@pytest.mark.parametrize("first", ["saving", "writing"])
def test_row_8_saving_by_rename_and_writing_into_the_file_keep_both_contents(folder: Folder, first: str):
    folder.share(lambda here: make(here, {"t.txt": b"old"}))
    if first == "saving":
        save_by_rename(folder.a / "t.txt", b"saved at a")
        write(folder.b / "t.txt", b"written at b")
    else:
        write(folder.b / "t.txt", b"written at b")
        save_by_rename(folder.a / "t.txt", b"saved at a")
    assert folder.apart() == [{"t.txt": b"saved at a"}, {"t.txt": b"written at b"}, {"t.txt": b"old"}]
    shown = folder.shown()
    if first == "saving":
        expected = {"t.txt": b"written at b", entry_of(shown, "t.txt", "a"): b"saved at a"}
    else:
        expected = {"t.txt": b"saved at a", entry_of(shown, "t.txt", "b"): b"written at b"}
    assert shown == expected


# -- 21, 22: written twice -----------------------------------------------------------------------------


def test_row_21_of_two_writes_both_are_kept_whole_and_the_newest_is_bare(folder: Folder):
    old, ours, theirs = os.urandom(100_000), b"A" * 100_000, b"B" * 100_000
    folder.share(lambda here: make(here, {"data.bin": old}))
    write(folder.a / "data.bin", ours)
    write(folder.b / "data.bin", theirs)
    assert folder.apart() == [{"data.bin": ours}, {"data.bin": theirs}, {"data.bin": old}]
    shown = folder.shown()
    of_a = entry_of(shown, "data.bin", "a")
    assert shown == {"data.bin": theirs, of_a: ours}
    assert folder.conflicts() == [(of_a, "content", "a")]


def test_row_21_of_three_writes_all_are_kept_and_one_that_goes_on_keeps_its_place(folder: Folder):
    folder.share(lambda here: make(here, {"f": b"old"}))
    write(folder.c / "f", b"from c")
    write(folder.a / "f", b"from a")
    write(folder.b / "f", b"from b")
    write(folder.c / "f", b"from c, later")
    shown = folder.shown()
    of_a, of_c = entry_of(shown, "f", "a"), entry_of(shown, "f", "c")
    assert shown == {"f": b"from b", of_a: b"from a", of_c: b"from c, later"}
    assert folder.conflicts() == sorted([(of_a, "content", "a"), (of_c, "content", "c")])


def test_row_21_a_conflict_entry_that_two_sites_edit_has_an_entry_of_its_own(folder: Folder):
    """A fork in a branch: what the entry shows, and beside it what the other site wrote."""
    folder.share(lambda here: make(here, {"f": b"old"}))
    write(folder.a / "f", b"from a")
    write(folder.b / "f", b"from b")
    of_a = entry_of(folder.shown(), "f", "a")
    cut(*folder.sites)
    write(folder.b / of_a, b"from a, edited at b")
    write(folder.c / of_a, b"from a, edited at c")
    shown = folder.shown()
    (further,) = shown.keys() - {"f", of_a}
    assert shown == {"f": b"from b", of_a: b"from a, edited at c", further: b"from a, edited at b"}
    assert further == entry_of(shown, "f", "b")


def test_row_21_later_edits_of_the_losing_branch_change_its_entry_only(folder: Folder):
    folder.share(lambda here: make(here, {"f": b"old"}))
    write(folder.a / "f", b"from a")
    write(folder.b / "f", b"from b")
    shown = folder.shown()
    of_a = entry_of(shown, "f", "a")
    inode = (folder.a / of_a).stat().st_ino
    cut(*folder.sites)
    write(folder.c / of_a, b"from a, edited at c")
    assert folder.shown() == {"f": b"from b", of_a: b"from a, edited at c"}
    assert (folder.b / of_a).stat().st_ino == inode


def test_row_21_removing_the_entry_settles_the_conflict_everywhere(folder: Folder):
    folder.share(lambda here: make(here, {"f": b"old"}))
    write(folder.a / "f", b"from a")
    write(folder.b / "f", b"from b")
    of_a = entry_of(folder.shown(), "f", "a")
    cut(*folder.sites)
    remove(folder.b / of_a)
    remove(folder.c / of_a)  # chosen alike on two sites: no new conflict
    assert folder.shown() == {"f": b"from b"}
    assert folder.conflicts() == []


def test_row_21_renaming_the_entry_over_the_file_chooses_the_entry(folder: Folder):
    folder.share(lambda here: make(here, {"f": b"old"}))
    write(folder.a / "f", b"from a")
    write(folder.b / "f", b"from b")
    of_a = entry_of(folder.shown(), "f", "a")
    move(folder.c / of_a, folder.c / "f")
    assert folder.shown() == {"f": b"from a"}
    assert folder.conflicts() == []


def test_row_22_writes_into_different_blocks_are_not_mixed(folder: Folder):
    old = bytes(300_000)
    folder.share(lambda here: make(here, {"f": old}))
    write_at(folder.a / "f", 0, b"A" * 10)
    write_at(folder.b / "f", 200_000, b"B" * 10)
    shown = folder.shown()
    of_a = entry_of(shown, "f", "a")
    assert shown == {
        "f": old[:200_000] + b"B" * 10 + old[200_010:],
        of_a: b"A" * 10 + old[10:],
    }


# -- 23, 24: sizes -------------------------------------------------------------------------------------


def test_row_23_a_truncation_and_a_write_never_make_a_size_that_no_writer_made(folder: Folder):
    old = os.urandom(70_000)
    folder.share(lambda here: make(here, {"f": old}))
    run(os.truncate, folder.a / "f", 10_000)
    write_at(folder.b / "f", 69_000, b"b" * 500)
    of_b = old[:69_000] + b"b" * 500 + old[69_500:]
    assert folder.apart() == [{"f": old[:10_000]}, {"f": of_b}, {"f": old}]
    shown = folder.shown()
    assert shown == {"f": of_b, entry_of(shown, "f", "a"): old[:10_000]}


def test_row_23_of_two_truncations_and_a_write_beyond_the_end_each_size_is_one_that_was_made(folder: Folder):
    old = os.urandom(70_000)
    folder.share(lambda here: make(here, {"f": old}))
    run(os.truncate, folder.a / "f", 200_000)
    run(os.truncate, folder.b / "f", 0)
    write_at(folder.c / "f", 100_000, b"c")
    shown = folder.shown()
    assert shown == {
        "f": old + bytes(30_000) + b"c",
        entry_of(shown, "f", "a"): old + bytes(130_000),
        entry_of(shown, "f", "b"): b"",
    }


def test_row_24_what_two_sites_appended_is_kept_whole_on_each(folder: Folder):
    folder.share(lambda here: make(here, {"log": b"old\n"}))
    append(folder.a / "log", b"a\n")
    append(folder.b / "log", b"b\n")
    shown = folder.shown()
    assert shown == {"log": b"old\nb\n", entry_of(shown, "log", "a"): b"old\na\n"}
