"""What replicas show that changed the same tree apart: rule by rule, each with the history that needs it.

The numbers of the rows are those of docs/conflicts.md.
"""

from __future__ import annotations

import itertools
import os
import stat

import pytest

from tests.shell import CALLER, Shell, exchange, shells


def conflict(first: str = "from A", second: str = "from B") -> tuple[Shell, Shell, str]:
    """A and B wrote into f at once; return them and the name of the entry, which holds what A wrote."""
    a, b = shells(0, 0)
    a.create("f")
    b.hear(a)
    a.write("f", first)
    b.write("f", second)
    shown = exchange(a, b)
    (entry,) = (path for path in shown if path != "f")
    assert shown == {"f": second, entry: first}
    assert entry.startswith("f.conflict-A-")
    return a, b, entry


# -- where things are --------------------------------------------------------------------------------


def test_a_rename_that_saw_another_wins_with_a_slow_clock():
    a, b = shells(0, -100)
    a.mkdir("w")
    a.move("w", "x")
    b.hear(a)
    b.move("x", "y")
    assert exchange(a, b) == {"y": "dir"}


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


def test_a_removal_covers_what_was_never_sent():
    a, b = shells(0, 0)
    a.create("w")
    b.hear(a)
    a.move("w", "x")
    a.move("x", "y")
    a.remove("y")
    assert exchange(a, b) == {}


def test_row_9_two_directories_moved_into_each_other():
    """The later move is skipped, on both; Kleppmann et al. 2021, figure 1."""
    a, b = shells(0, 0)
    a.mkdir("x")
    a.mkdir("y")
    b.hear(a)
    a.move("x", "y/x")
    b.move("y", "x/y")
    assert exchange(a, b) == {"y": "dir", "y/x": "dir"}
    (skipped,) = a.fs.conflicts()
    assert (skipped.kind, skipped.replica, skipped.path) == ("move", "B", b"y")


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


def test_a_rename_within_a_move_that_is_skipped_is_skipped():
    a, b = shells(0, 0)
    a.mkdir("x")
    a.mkdir("y")
    b.hear(a)
    b.move("y", "x/y")
    a.move("x", "y/x")
    a.move("y/x", "y/z")
    assert exchange(a, b) == {"x": "dir", "x/y": "dir"}


def test_a_union_is_not_torn_by_a_cycle():
    a, b = shells(0, 0)
    a.mkdir("d")
    b.mkdir("d")
    b.mkdir("e")
    a.hear(b)
    b.move("e", "d/e")
    a.move("d", "e/d")
    assert exchange(a, b) == {"d": "dir", "d/e": "dir"}


def test_row_30_a_file_made_by_the_old_path_is_in_the_renamed_directory():
    a, b = shells(0, 0)
    a.mkdir("d")
    b.hear(a)
    a.move("d", "e")
    b.write("d/f", "text")
    assert exchange(a, b) == {"e": "dir", "e/f": "text"}


# -- what is alive -----------------------------------------------------------------------------------


def test_row_10_a_removed_directory_stays_for_what_was_put_inside():
    a, b = shells(0, 0)
    a.mkdir("d")
    b.hear(a)
    a.rmdir("d")
    b.create("d/f")
    assert exchange(a, b) == {"d": "dir", "d/f": ""}
    a.remove("d/f")
    assert exchange(a, b) == {"d": "dir"}
    a.rmdir("d")
    assert exchange(a, b) == {}


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


def test_row_13_an_edit_beats_a_removal_that_did_not_see_it():
    a, b = shells(0, 0)
    a.create("f")
    b.hear(a)
    b.write("f", "from B")
    a.remove("f")
    assert exchange(a, b) == {"f": "from B"}
    a.remove("f")
    assert exchange(a, b) == {}


def test_row_16_a_removal_beats_a_change_of_attributes():
    a, b = shells(0, 0)
    a.create("f")
    b.hear(a)
    a.remove("f")
    b.chmod("f", 0o600)
    assert exchange(a, b) == {}


def test_row_17_a_rename_beats_a_removal():
    a, b = shells(0, 0)
    a.write("f", "text")
    b.hear(a)
    a.remove("f")
    b.move("f", "g")
    assert exchange(a, b) == {"g": "text"}


def test_row_18_a_new_link_survives_the_removal_of_the_old_name():
    a, b = shells(0, 0)
    a.write("f", "text")
    b.hear(a)
    a.remove("f")
    b.link("f", "g")
    assert exchange(a, b) == {"g": "text"}
    assert b.stat("g").nlink == 1


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


def test_a_choice_does_not_undo_a_removal():
    a, b, entry = conflict()
    a.remove(entry)
    b.remove("f")
    b.remove(next(iter(b.shows)))
    assert exchange(a, b) == {}


# -- which content shows -----------------------------------------------------------------------------


def test_row_21_two_writes_are_both_kept_whole():
    conflict()


def test_an_edit_leaves_the_name_and_the_number_of_a_conflict_entry():
    a, b = shells(0, 0)
    a.create("f")
    b.hear(a)
    a.write("f", "from A")
    b.write("f", "from B")
    b.hear(a)
    (entry,) = (path for path in b.shows if path != "f")
    number = b.stat(entry).ino
    a.write("f", "more from A")
    assert exchange(a, b) == {"f": "from B", entry: "more from A"}
    assert b.stat(entry).ino == a.stat(entry).ino == number


def test_a_losing_branch_that_grows_does_not_flip_the_file():
    a, b, entry = conflict()
    a.write(entry, "much later")
    assert exchange(a, b) == {"f": "from B", entry: "much later"}


def test_a_write_to_a_conflict_entry_extends_its_branch_on_both():
    a, b, entry = conflict()
    b.write(entry, "edited by B")
    assert exchange(a, b) == {"f": "from B", entry: "edited by B"}


def test_removing_a_conflict_entry_settles_it():
    a, b, entry = conflict()
    a.remove(entry)
    assert exchange(a, b) == {"f": "from B"}
    b.write("f", "later")
    assert exchange(a, b) == {"f": "later"}


def test_renaming_the_entry_over_the_file_chooses_the_entry():
    a, b, entry = conflict()
    a.move(entry, "f")
    assert exchange(a, b) == {"f": "from A"}


def test_renaming_the_entry_away_makes_it_a_file_of_its_own():
    a, b, entry = conflict()
    number = b.stat(entry).ino
    b.move(entry, "mine")
    assert exchange(a, b) == {"f": "from B", "mine": "from A"}
    assert a.stat("mine").ino == number
    a.write("mine", "edited")
    assert exchange(a, b) == {"f": "from B", "mine": "edited"}


def test_a_chmod_of_the_entry_makes_it_a_file_of_its_own_at_its_name():
    a, b, entry = conflict()
    b.chmod(entry, 0o600)
    assert exchange(a, b) == {"f": "from B", entry: "from A"}
    assert stat.S_IMODE(a.stat(entry).mode) == 0o600
    assert stat.S_IMODE(a.stat("f").mode) == 0o644


def test_opposite_choices_lose_nothing():
    a, b = shells(0, 0)
    a.write("f", "from A")
    b.write("f", "from B")
    (entry,) = (path for path in exchange(a, b) if path != "f")
    a.remove(entry)
    b.remove("f")
    assert sorted(exchange(a, b).values()) == ["from A", "from B"]


def test_a_removed_entry_does_not_stay_for_a_link_to_it():
    a, b, entry = conflict()
    a.link(entry, "keep")
    b.remove(entry)
    assert exchange(a, b) == {"f": "from B", "keep": "from A"}


def test_both_make_the_entry_a_file_and_it_is_one():
    a, b, entry = conflict()
    a.chmod(entry, 0o640)
    b.chmod(entry, 0o604)
    assert exchange(a, b) == {"f": "from B", entry: "from A"}
    assert stat.S_IMODE(a.stat(entry).mode) == 0o600


def test_row_23_a_truncate_and_a_write_never_give_a_size_that_nobody_made():
    a, b = shells(0, 0)
    a.write("f", "0123456789")
    b.hear(a)
    a.fs.setattr(a.stat("f").ino, size=3)
    a.fs.close()
    b.append("f", "ab")
    assert sorted(exchange(a, b).values()) == ["012", "0123456789ab"]


def test_forks_of_large_files_share_what_they_share():
    """Each branch has its own block map: the later fork is taken back from the map of the other."""
    a, b, c = peers = shells(0, 0, 0)
    size = 300_000
    original = bytes(range(256)) * (size // 256)
    a.write("f", original)
    b.hear(a)
    c.hear(a)
    for shell, at in zip(peers, (0, 100_000, 200_000), strict=True):
        for step in range(3):
            fh = shell.open_file("f")
            shell.world.tick()
            shell.fs.write(fh, at + step * 40_000, shell.replica.name.encode() * 10)
            shell.close(fh)
    for shell, other in itertools.permutations(peers, 2):
        shell.hear(other)
    for shell in peers:
        shell.hear(*(other for other in peers if other is not shell))
    expected = set()
    for name, at in zip(b"ABC", (0, 100_000, 200_000), strict=True):
        content = bytearray(original)
        for step in range(3):
            start = at + step * 40_000
            content[start : start + 10] = bytes([name]) * 10
        expected.add(bytes(content))
    for shell in peers:
        assert {shell.read(os.fsdecode(name)) for name, _ in shell.list()} == expected
        assert shell.findings() == []


# -- saving by rename --------------------------------------------------------------------------------


def save(shell: Shell, path: str, text: str) -> None:
    """As many editors do: write a new file, then rename it over the old one."""
    shell.write(path + "~", text)
    shell.move(path + "~", path)


def test_row_7_two_saves_by_rename_are_a_content_conflict():
    a, b = shells(0, 0)
    a.write("t", "old")
    b.hear(a)
    save(a, "t", "from A")
    save(b, "t", "from B")
    shown = exchange(a, b)
    assert shown["t"] == "from B"
    assert sorted(shown.values()) == ["from A", "from B"]


def test_row_8_a_save_by_rename_and_a_write_name_who_made_the_entry():
    """A made the file; B writes into it while A saves it: the entry is B's work, and says so."""
    a, b = shells(0, 0)
    a.create("f")
    b.hear(a)
    b.write("f", "from B")
    save(a, "f", "from A")
    shown = exchange(a, b)
    assert shown["f"] == "from A"
    (entry,) = (path for path in shown if path != "f")
    assert entry.startswith("f.conflict-B-")
    assert shown[entry] == "from B"


def test_saving_by_rename_takes_no_name_from_another_file():
    a, b = shells(0, 0)
    a.create("f")
    b.write("f", "from B")
    save(a, "f", "from A")
    shown = exchange(a, b)
    assert shown["f"] == "from B"
    assert sorted(shown.values()) == ["from A", "from B"]


# -- names -------------------------------------------------------------------------------------------


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


def test_what_was_put_into_a_directory_stays_with_it():
    a, b = shells(0, 0)
    b.mkdir("photos")
    b.create("photos/b1")
    a.mkdir("photos")
    a.hear(b)
    a.create("photos/a1")
    b.move("photos", "pics")
    assert exchange(a, b) == {"photos": "dir", "photos/a1": "", "pics": "dir", "pics/b1": ""}


def test_a_union_shows_the_bits_that_all_members_leave():
    a, b = shells(0, 0)
    a.mkdir("photos")
    b.mkdir("photos")
    b.chmod("photos", 0o755)
    a.chmod("photos", 0o711)
    assert exchange(a, b) == {"photos": "dir"}
    assert stat.S_IMODE(a.stat("photos").mode) == 0o711


def test_a_dead_member_does_not_lead_a_union():
    a, b, c = peers = shells(0, 0, 0)
    a.mkdir("d")
    c.hear(a)
    a.rmdir("d")
    c.create("d/f")
    b.mkdir("d")
    number = b.stat("d").ino
    assert exchange(*peers) == {"d": "dir", "d/f": ""}
    assert a.stat("d").ino == number


def test_row_3_a_directory_keeps_the_name_before_a_file():
    a, b = shells(0, 0)
    b.mkdir("x")
    a.write("x", "file")
    shown = exchange(a, b)
    assert shown["x"] == "dir"
    assert sorted(shown.values()) == ["dir", "file"]


def test_row_4_two_directories_moved_to_one_name_are_both_kept():
    a, b = shells(0, 0)
    a.mkdir("x")
    a.mkdir("y")
    b.hear(a)
    a.move("x", "z")
    b.move("y", "z")
    shown = exchange(a, b)
    assert "z" in shown
    assert len(shown) == 2


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


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK])
def test_row_27_special_files_of_one_name_are_both_kept(kind):
    a, b = shells(0, 0)
    for shell in (a, b):
        shell.world.tick()
        shell.fs.mknod(1, b"s", kind | 0o600, 0, CALLER)
    assert len(exchange(a, b)) == 2


def test_row_25_symlinks_of_one_name_are_both_kept():
    a, b = shells(0, 0)
    a.symlink("s", "a")
    b.symlink("s", "b")
    assert sorted(exchange(a, b).values()) == ["-> a", "-> b"]


def test_row_32_names_are_bytes():
    a, b = shells(0, 0)
    a.write("Name", "a")
    b.write("name", "b")
    a.write("\udcff\udcfe", "not UTF-8")
    assert exchange(a, b) == {"Name": "a", "name": "b", "\udcff\udcfe": "not UTF-8"}


def test_a_conflict_name_stays_within_255_bytes():
    a, b = shells(0, 0)
    long = "n" * 251 + ".txt"
    a.write(long, "from A")
    b.write(long, "from B")
    shown = exchange(a, b)
    (entry,) = (path for path in shown if path != long)
    assert len(entry) == 255
    assert entry.endswith(".txt")
    assert a.read(entry) == b"from A"


def test_a_conflict_name_that_is_taken_gets_a_number():
    a, b = shells(0, 0)
    a.write("f", "from A")
    b.write("f", "from B")
    (entry,) = (path for path in exchange(a, b) if path != "f")
    c, d = shells(0, 0)
    c.write("f", "from A")
    d.write("f", "from B")
    d.write(entry, "a file of that name")
    shown = exchange(c, d)
    assert shown == {"f": "from B", entry: "a file of that name", entry + "-2": "from A"}


# -- delivery ----------------------------------------------------------------------------------------


def test_what_went_through_a_third_replica_is_whole():
    a, b, c = shells(0, 0, 0)
    a.mkdir("d")
    a.write("d/f", "text" * 20_000)
    b.hear(a)
    b.write("d/g", "from B")
    c.hear(b)
    assert c.shows == b.shows
    a.move("d", "e")
    b.hear(a)
    c.hear(b)
    assert set(c.shows) == {"e", "e/f", "e/g"}


def test_a_file_shows_what_it_had_until_its_new_content_is_here():
    a, b = shells(0, 0)
    old, new = b"o" * 100_000, b"n" * 90_000
    a.write("f", old)
    b.hear(a)
    a.write("f", new)
    b.hear(a, blocks=False)
    assert b.read("f") == old
    assert b.stat("f").size == len(old)
    b.replica.take_changes()
    b.fetch(a)
    assert b.read("f") == new
    assert b.replica.take_changes().inodes[b.stat("f").ino]


def test_a_new_file_shows_its_size_and_reading_waits():
    a, b = shells(0, 0)
    a.write("f", b"x" * 100_000)
    b.hear(a, blocks=False)
    assert b.stat("f").size == 100_000
    with pytest.raises(OSError, match="Input/output"):
        b.read("f")
    b.fetch(a)
    assert b.read("f") == b"x" * 100_000


def test_what_a_program_wrote_over_unseen_content_is_a_branch():
    """B writes into what it sees, while the blocks of A's version are on their way: both are kept."""
    a, b = shells(0, 0)
    a.write("f", b"o" * 100_000)
    b.hear(a)
    a.write("f", b"n" * 90_000)
    b.hear(a, blocks=False)
    fh = b.open_file("f")
    b.fs.write(fh, 0, b"B")
    b.close(fh)
    exchange(a, b)
    contents = {a.read(os.fsdecode(name)) for name, _ in a.list()}
    assert contents == {b"n" * 90_000, b"B" + b"o" * 99_999}


def test_a_merge_while_a_file_is_open_for_writing_makes_a_fork():
    a, b = shells(0, 0)
    a.write("f", "old")
    b.hear(a)
    fh = b.open_file("f")
    a.write("f", "from A")
    b.hear(a)
    assert b.fs.read(fh, 0, 10) == b"old"
    b.fs.write(fh, 0, b"NEW")
    b.close(fh)
    assert sorted(exchange(a, b).values()) == ["NEW", "from A"]


def test_a_crash_leaves_what_was_synced():
    a, b = shells(0, 0)
    a.write("f", "synced")
    a.replica.sync()
    a.write("f", "lost")
    a.store = a.store.crashed()
    a.open()
    assert a.shows == {"f": "synced"}
    a.write("g", "after")
    assert exchange(a, b) == {"f": "synced", "g": "after"}
