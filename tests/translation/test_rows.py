"""The rows of docs/conflicts.md, each in a short history of replicas in one thread.

Rows 8, 10, 13 and 19 are stories (tests/translation/test_stories.py) too, and told there.
"""

from __future__ import annotations

import os
import stat

import pytest

from tests.shell import CALLER, entry_of, exchange, shells


def test_row_1_of_two_new_files_the_newest_keeps_the_name():
    a, b = shells(0, 0)
    a.write("f.txt", "from A")
    b.write("f.txt", "from B")
    shown = exchange(a, b)
    assert shown["f.txt"] == "from B"
    (entry,) = (path for path in shown if path != "f.txt")
    assert entry.startswith("f.conflict-A-")
    assert entry.endswith(".txt")


def test_row_1_on_three_sites():
    a, b, c = peers = shells(0, 0, 0)
    for shell in peers:
        shell.write("new", f"from {shell.replica.name}")
    shown = exchange(*peers)
    assert shown["new"] == "from C"
    assert sorted(shown.values()) == ["from A", "from B", "from C"]
    found = {(c_.kind, c_.replica, c_.bare) for c_ in a.fs.conflicts()}
    assert found == {("name", "A", b"new"), ("name", "B", b"new")}
    assert b.fs.conflicts() == a.fs.conflicts() == c.fs.conflicts()


def test_row_2_two_directories_of_one_name_are_one():
    a, b = shells(0, 0)
    a.mkdir("photos")
    a.write("photos/a", "from A")
    b.mkdir("photos")
    b.write("photos/b", "from B")
    assert exchange(a, b) == {"photos": "dir", "photos/a": "from A", "photos/b": "from B"}
    assert a.stat("photos").nlink == 1
    assert a.stat("").nlink == 3
    b.move("photos", "pics")
    assert exchange(a, b) == {"pics": "dir", "pics/a": "from A", "pics/b": "from B"}
    a.remove("pics/a")
    with pytest.raises(OSError, match="not empty"):
        a.rmdir("pics")
    a.remove("pics/b")
    a.rmdir("pics")
    assert exchange(a, b) == {}


def test_row_2_of_different_makers_are_strangers():
    a, b = shells(0, 0)
    a.mkdir("d", uid=1)
    b.mkdir("d", uid=2)
    shown = exchange(a, b)
    assert sorted(shown.values()) == ["dir", "dir"]


def test_unions_meet_inside_unions():
    a, b = shells(0, 0)
    for shell in (a, b):
        shell.mkdir("d")
        shell.mkdir("d/e")
        shell.write(f"d/e/{shell.replica.name}", "text")
        shell.write("d/same", f"from {shell.replica.name}")
    shown = exchange(a, b)
    assert {path for path in shown if path.startswith("d/e/")} == {"d/e/A", "d/e/B"}
    assert shown["d/same"] == "from B"
    (found,) = a.fs.conflicts()
    assert found.bare == b"d/same"


def test_row_3_a_directory_keeps_the_name_before_a_file():
    a, b = shells(0, 0)
    b.mkdir("x")
    a.write("x", "file")
    shown = exchange(a, b)
    assert shown["x"] == "dir"
    assert sorted(shown.values()) == ["dir", "file"]


def test_row_4_both_directories_keep_their_content():
    a, b = shells(0, 0)
    for name in "xy":
        a.mkdir(name)
        a.write(f"{name}/of-{name}", name)
    b.hear(a)
    a.move("x", "z")
    b.move("y", "z")
    shown = exchange(a, b)
    entry = entry_of(shown, "z", "A")
    assert shown == {"z": "dir", "z/of-y": "y", entry: "dir", f"{entry}/of-x": "x"}
    (found,) = b.fs.conflicts()
    assert (found.kind, found.replica, found.bare) == ("name", "A", b"z")


def test_row_5_two_renames_of_a_file_leave_one_name():
    a, b = shells(0, 0)
    a.write("f", "text")
    b.hear(a)
    a.move("f", "g")
    b.move("f", "h")
    assert exchange(a, b) == {"h": "text"}
    assert a.stat("h").nlink == 1


def test_row_6_two_renames_of_a_directory_leave_one_with_all_inside():
    a, b = shells(0, 0)
    a.mkdir("d")
    a.write("d/f", "text")
    b.hear(a)
    b.move("d", "from-b")
    a.move("d", "from-a")
    assert exchange(a, b) == {"from-a": "dir", "from-a/f": "text"}


def test_row_7_two_saves_by_rename_are_a_content_conflict():
    a, b = shells(0, 0)
    a.write("t", "old")
    b.hear(a)
    a.save("t", "from A")
    b.save("t", "from B")
    shown = exchange(a, b)
    assert shown["t"] == "from B"
    assert sorted(shown.values()) == ["from A", "from B"]


def test_row_9_two_directories_moved_into_each_other():
    """The later move is skipped, on both; Kleppmann et al. 2021, figure 1."""
    a, b = shells(0, 0)
    a.mkdir("x")
    a.mkdir("y")
    b.hear(a)
    a.move("x", "y/x")
    b.move("y", "x/y")
    assert exchange(a, b) == {"y": "dir", "y/x": "dir"}
    (skipped,) = a.fs.records()
    assert (skipped.kind, skipped.overruled.replica, skipped.path) == ("move", "B", b"y")


def test_row_9_a_cycle_of_three():
    a, b, c = peers = shells(0, 0, 0)
    for name in "xyz":
        a.mkdir(name)
    b.hear(a)
    c.hear(a)
    a.move("x", "y/x")
    b.move("y", "z/y")
    c.move("z", "x/z")
    assert exchange(*peers) == {"z": "dir", "z/y": "dir", "z/y/x": "dir"}


def test_row_9_a_skipped_move_is_settled_by_the_next_one():
    a, b = shells(0, 0)
    a.mkdir("x")
    a.mkdir("y")
    b.hear(a)
    a.move("x", "y/x")
    b.move("y", "x/y")
    exchange(a, b)
    assert [found.kind for found in a.fs.records()] == ["move"]
    a.move("y", "z")
    assert exchange(a, b) == {"z": "dir", "z/x": "dir"}
    assert a.fs.records() == b.fs.records() == []


def test_row_11_rm_r_and_a_rename_of_the_directory():
    a, b = shells(0, 0)
    a.mkdir("d")
    a.write("d/f", "f")
    a.write("d/g", "g")
    b.hear(a)
    a.remove("d/f")
    a.remove("d/g")
    a.rmdir("d")
    b.move("d", "e")
    b.write("e/g", "edited")
    assert exchange(a, b) == {"e": "dir", "e/g": "edited"}


def test_row_12_rm_r_and_a_rename_out_of_the_directory():
    a, b = shells(0, 0)
    a.mkdir("d")
    a.write("d/x", "text")
    b.hear(a)
    a.remove("d/x")
    a.rmdir("d")
    b.move("d/x", "out")
    assert exchange(a, b) == {"out": "text"}


def test_row_14_concurrent_modes_show_what_both_leave():
    a, b = shells(0, 0)
    a.create("f", 0o666)
    b.hear(a)
    a.chmod("f", 0o640)
    b.chmod("f", 0o604)
    exchange(a, b)
    assert stat.S_IMODE(a.stat("f").mode) == 0o600


def test_row_14_a_concurrent_change_of_owner_hides_set_user_id():
    a, b = shells(0, 0)
    a.create("f", 0o755)
    b.hear(a)
    a.chmod("f", 0o4755)
    b.fs.setattr(b.stat("f").ino, uid=7)
    exchange(a, b)
    assert stat.S_IMODE(a.stat("f").mode) == 0o755
    a.chmod("f", 0o4755)
    exchange(a, b)
    assert stat.S_IMODE(b.stat("f").mode) == 0o4755


def test_row_15_a_write_that_was_allowed_stays_when_the_right_goes():
    a, b = shells(0, 0)
    a.create("f", 0o666)
    b.hear(a)
    a.chmod("f", 0o600)
    b.write("f", "from B")
    assert exchange(a, b) == {"f": "from B"}
    assert stat.S_IMODE(b.stat("f").mode) == 0o600


def test_row_16_a_removal_beats_a_change_of_attributes():
    a, b = shells(0, 0)
    a.create("f")
    b.hear(a)
    a.remove("f")
    b.chmod("f", 0o600)
    assert exchange(a, b) == {}


def test_row_16_a_removal_beats_a_chmod_of_what_is_a_conflict_entry_elsewhere():
    """At A, what B wrote is a conflict entry, which chmod makes a file of its own.  B, who has not heard,
    removes its file: a chmod keeps nothing, whatever it is done to."""
    a, b = shells(0, 0)
    a.create("f")
    b.hear(a)
    b.write("f", "from B")
    a.write("f", "from A")
    a.hear(b)
    b.remove("f")
    a.chmod(entry_of(a.shows, "f", "B"), 0o600)
    assert exchange(a, b) == {"f": "from A"}


def test_row_17_a_rename_beats_a_removal():
    a, b = shells(0, 0)
    a.write("f", "text")
    b.hear(a)
    a.remove("f")
    b.move("f", "g")
    assert exchange(a, b) == {"g": "text"}


def test_row_17_a_removal_covers_what_concurrent_renames_had_replaced():
    """A and B rename C's file; A, who has heard of both, renames it once more, and removes it.

    C hears of the last name and of the removal.  The renames before were superseded, and that they had
    replaced the name which C shows is told by what came after.
    """
    a, b, c = peers = shells(0, 0, 0)
    c.create("f")
    a.hear(c)
    b.hear(c)
    a.move("f", "g")
    b.move("f", "h")
    a.hear(b)
    a.move("h", "i")
    a.remove("i")
    c.hear(a)
    assert c.shows == {}
    assert exchange(*peers) == {}


def test_row_18_a_new_link_survives_the_removal_of_the_old_name():
    a, b = shells(0, 0)
    a.write("f", "text")
    b.hear(a)
    a.remove("f")
    b.link("f", "g")
    assert exchange(a, b) == {"g": "text"}
    assert b.stat("g").nlink == 1


def test_row_20_a_link_and_a_new_file_at_one_name_are_both_kept():
    a, b = shells(0, 0)
    a.write("x", "from A")
    b.hear(a)
    a.link("x", "g")
    b.write("g", "from B")
    shown = exchange(a, b)
    entry = entry_of(shown, "g", "A")
    assert shown == {"x": "from A", "g": "from B", entry: "from A"}
    assert b.stat(entry).ino == b.stat("x").ino
    assert b.stat("x").nlink == 2


def test_row_21_two_writes_are_both_kept_whole():
    a, b = shells(0, 0)
    a.write("f", "old")
    b.hear(a)
    a.write("f", "from A")
    b.write("f", "from B")
    assert a.shows == {"f": "from A"}
    assert b.shows == {"f": "from B"}
    shown = exchange(a, b)
    assert shown == {"f": "from B", entry_of(shown, "f", "A"): "from A"}
    (found,) = a.fs.conflicts()
    assert (found.kind, found.replica, found.bare) == ("content", "A", b"f")


def test_row_22_writes_to_different_blocks_are_not_mixed():
    a, b = shells(0, 0)
    a.write("f", b"0" * 100_000)
    b.hear(a)
    for shell, offset in ((a, 0), (b, 90_000)):
        fh = shell.open_file("f", os.O_WRONLY)
        shell.world.tick()
        shell.fs.write(fh, offset, shell.replica.name.encode() * 10)
        shell.close(fh)
    shown = exchange(a, b)
    of_a, of_b = "A" * 10 + "0" * 99_990, "0" * 90_000 + "B" * 10 + "0" * 9_990
    assert shown == {"f": of_b, entry_of(shown, "f", "A"): of_a}


def test_row_23_a_truncate_and_a_write_never_give_a_size_that_nobody_made():
    a, b = shells(0, 0)
    a.write("f", "0123456789")
    b.hear(a)
    a.fs.setattr(a.stat("f").ino, size=3)
    a.fs.close()
    b.append("f", "ab")
    assert sorted(exchange(a, b).values()) == ["012", "0123456789ab"]


def test_row_24_two_appends_are_both_kept_whole():
    a, b = shells(0, 0)
    a.write("log", "1\n")
    b.hear(a)
    a.append("log", "A\n")
    b.append("log", "B\n")
    shown = exchange(a, b)
    assert shown == {"log": "1\nB\n", entry_of(shown, "log", "A"): "1\nA\n"}


def test_row_25_symlinks_of_one_name_are_both_kept():
    a, b = shells(0, 0)
    a.symlink("s", "a")
    b.symlink("s", "b")
    assert sorted(exchange(a, b).values()) == ["-> a", "-> b"]


def test_row_26_set_beats_remove_and_the_last_set_wins():
    a, b = shells(0, 0)
    a.create("f")
    ino = a.stat("f").ino
    a.fs.setxattr(ino, b"user.k", b"old")
    b.hear(a)
    a.world.tick()
    a.fs.setxattr(ino, b"user.k", b"new")
    b.world.tick()
    b.fs.removexattr(ino, b"user.k")
    exchange(a, b)
    assert b.fs.getxattr(ino, b"user.k") == b"new"
    a.fs.setxattr(ino, b"user.k", b"A")
    b.world.tick()
    b.fs.setxattr(ino, b"user.k", b"B")
    exchange(a, b)
    assert a.fs.getxattr(ino, b"user.k") == b"B"


def test_row_27_special_files_of_one_name_are_both_kept():
    a, b = shells(0, 0)
    for shell, kind in ((a, stat.S_IFIFO), (b, stat.S_IFSOCK)):
        shell.world.tick()
        shell.fs.mknod(1, b"s", kind | 0o600, 0, CALLER)
    assert len(exchange(a, b)) == 2


def test_row_28_a_file_that_a_merge_removes_stays_readable_through_a_handle():
    a, b = shells(0, 0)
    a.write("f", "text")
    b.hear(a)
    fh = b.open_file("f", os.O_RDONLY)
    a.remove("f")
    assert exchange(a, b) == {}
    assert b.fs.read(fh, 0, 100) == b"text"
    b.close(fh)


def test_what_is_written_to_a_file_that_a_merge_removed_brings_it_back():
    a, b = shells(0, 0)
    a.write("f", "text")
    b.hear(a)
    fh = b.open_file("f")
    a.remove("f")
    exchange(a, b)
    b.fs.write(fh, 0, b"more")
    b.close(fh)
    assert exchange(a, b) == {"f": "more"}


def test_what_is_written_to_a_file_that_was_removed_here_stays_here():
    a, b = shells(0, 0)
    a.write("f", "text")
    fh = a.open_file("f")
    a.remove("f")
    a.fs.write(fh, 0, b"more")
    assert a.fs.read(fh, 0, 10) == b"more"
    a.close(fh)
    assert exchange(a, b) == {}


def test_row_30_a_file_made_by_the_old_path_is_in_the_renamed_directory():
    a, b = shells(0, 0)
    a.mkdir("d")
    b.hear(a)
    a.move("d", "e")
    b.write("d/f", "text")
    assert exchange(a, b) == {"e": "dir", "e/f": "text"}


def test_row_31_edits_inside_what_was_removed_long_ago_come_back_with_their_directories():
    a, b = shells(0, 0)
    a.mkdir("d")
    a.mkdir("d/e")
    a.write("d/e/f", "old")
    a.write("d/g", "old")
    b.hear(a)
    b.write("d/e/f", "edited")
    for path in ("d/e/f", "d/g"):
        a.remove(path)
    for path in ("d/e", "d"):
        a.rmdir(path)
    for number in range(300):
        a.write(f"later-{number % 3}", str(number))
    shown = exchange(a, b)
    assert {path: shown[path] for path in shown if path.startswith("d")} == {
        "d": "dir",
        "d/e": "dir",
        "d/e/f": "edited",
    }


def test_row_32_names_are_bytes():
    a, b = shells(0, 0)
    a.write("Name", "a")
    b.write("name", "b")
    a.write("\udcff\udcfe", "not UTF-8")
    assert exchange(a, b) == {"Name": "a", "name": "b", "\udcff\udcfe": "not UTF-8"}
