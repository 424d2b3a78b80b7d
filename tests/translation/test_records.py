"""Records of what was overruled: which there are, whom they name, and what settles them.

The rows are those of docs/conflicts.md.
"""

import pytest

from crdt.facts import Ino
from crdt.records import record_key
from tests.shell import Shell, exchange, shells


def told(*peers: Shell) -> list[tuple[str, str, str]]:
    """What all list, as sentences: (path, what was overruled, what did that)."""
    exchange(*peers)
    listed = [shell.fs.records() for shell in peers]
    assert all(records == listed[0] for records in listed), listed
    return [(r.path.decode(), sentence(r.overruled), sentence(r.by)) for r in listed[0]]


def sentence(side) -> str:
    assert side.wall_ns > 0
    return f"{side.replica} {side.did} {side.path.decode()}"


# -- a rename that another beat (rows 5 and 6) ---------------------------------------------------------


def two_renames() -> tuple[Shell, Shell]:
    a, b = shells(0, 0)
    a.write("f", "text")
    b.hear(a)
    a.move("f", "g")
    b.move("f", "h")
    return a, b


def test_row_5_the_name_that_lost_is_recorded():
    a, b = two_renames()
    assert told(a, b) == [("h", "A moved to g", "B moved to h")]
    (record,) = a.fs.records()
    assert (record.kind, record.id, record.ino) == ("rename", "rename-A-4", a.stat("h").ino)


def test_row_6_the_name_of_a_directory_that_lost_is_recorded():
    a, b = shells(0, 0)
    a.mkdir("d")
    a.write("d/f", "text")
    b.hear(a)
    a.move("d", "e")
    b.move("d", "g")
    assert told(a, b) == [("g", "A moved to e", "B moved to g")]


def test_the_same_rename_on_both_sides_is_no_record():
    a, b = shells(0, 0)
    a.write("f", "text")
    b.hear(a)
    a.move("f", "g")
    b.move("f", "g")
    assert told(a, b) == []


@pytest.mark.parametrize("settle", ["move", "remove"])
def test_a_lost_name_is_settled_by_whoever_saw_both(settle):
    a, b = two_renames()
    exchange(a, b)
    if settle == "move":
        b.move("h", "i")
    else:
        b.remove("h")
    assert told(a, b) == []


def test_a_lost_name_stays_recorded_for_who_moves_it_unseen():
    a, b, c = shells(0, 0, 0)
    a.write("f", "text")
    b.hear(a)
    c.hear(a)
    a.move("f", "g")
    b.move("f", "h")
    c.hear(b)
    c.move("h", "i")
    assert told(a, b, c) == [("i", "A moved to g", "C moved to i")]


def test_of_a_union_that_was_moved_twice_one_record_is_listed():
    a, b = shells(0, 0)
    a.mkdir("d")
    b.mkdir("d")
    exchange(a, b)
    a.move("d", "e")
    b.move("d", "g")
    assert told(a, b) == [("g", "A moved to e", "B moved to g")]


def test_of_twins_the_path_is_that_of_the_one_that_shows():
    """C's file hides under B's older one, which is a conflict entry since A made a directory."""
    a, b, c = shells(0, 0, 0)
    b.write("n", "same")
    c.write("p", "same")
    a.hear(c)
    a.move("p", "x")
    a.mkdir("n")
    c.move("p", "n")
    (entry,) = exchange(a, b, c).keys() - {"n"}
    assert told(a, b, c) == [(entry, "A moved to x", f"C moved to {entry}")]


def test_a_removal_of_twins_that_two_edits_beat_is_one_record():
    a, b, c = shells(0, 0, 0)
    a.write("f", "same")
    b.write("f", "same")
    c.hear(b)
    b.hear(a)
    b.remove("f")
    a.append("f", ", by A")
    c.append("f", ", by C")
    assert told(a, b, c) == [("f.conflict-A-2", "B removed f.conflict-A-2", "A wrote f.conflict-A-2")]


def test_a_lost_name_in_a_directory_that_is_gone_has_its_path_all_the_same():
    a, b = shells(0, 0)
    a.write("f", "text")
    a.mkdir("d")
    a.mkdir("d/e")
    b.hear(a)
    a.move("f", "d/e/g")
    b.move("f", "h")
    exchange(a, b)
    a.rmdir("d/e")
    a.rmdir("d")
    assert told(a, b) == [("h", "A moved to d/e/g", "B moved to h")]


def test_placing_a_directory_anew_where_it_stands_is_no_rename():
    """A removes the last thing in a removed directory, which is placed anew for that; B moves it."""
    a, b = overruled_rmdir()
    exchange(a, b)
    a.remove("d/f")
    b.move("d", "e")
    assert told(a, b) == []


def test_a_rename_that_placing_the_directory_anew_beat_is_recorded():
    a, b = overruled_rmdir()
    exchange(a, b)
    b.move("d", "e")
    a.remove("d/f")
    assert told(a, b) == [("d", "B moved to e", "A made d")]
    b.move("d", "e")
    assert told(a, b) == []


# -- a move that was skipped (row 9) -------------------------------------------------------------------


def test_row_9_a_skipped_move_names_both_moves():
    a, b = shells(0, 0)
    a.mkdir("x")
    a.mkdir("y")
    b.hear(a)
    a.move("x", "y/x")
    b.move("y", "x/y")
    assert told(a, b) == [("y", "B moved to y/x/y", "A moved to y/x")]
    assert a.fs.records()[0].id == "move-B-2"


def test_a_move_that_is_skipped_and_beaten_is_recorded_as_beaten():
    """C moves y elsewhere, later than B's skipped move: B's would have lost in any case."""
    a, b, c = shells(0, 0, 0)
    a.mkdir("x")
    a.mkdir("y")
    b.hear(a)
    c.hear(a)
    a.move("x", "y/x")
    b.move("y", "x/y")
    c.move("y", "z")
    assert told(a, b, c) == [("z", "B moved to z/x/y", "C moved to z")]
    assert a.fs.records()[0].kind == "rename"


def test_a_skipped_move_stays_recorded_when_the_way_is_free():
    a, b = shells(0, 0)
    a.mkdir("x")
    a.mkdir("y")
    b.hear(a)
    a.move("x", "y/x")
    b.move("y", "x/y")
    exchange(a, b)
    a.move("y/x", "x")
    assert told(a, b) == [("y", "B moved to x/y", "A made y")]
    b.move("y", "x/y")
    assert told(a, b) == []


def test_of_a_union_a_skipped_move_names_what_is_in_any_of_its_members():
    a, b = shells(0, 0)
    a.mkdir("x")
    b.mkdir("x")
    a.mkdir("y")
    exchange(a, b)
    b.move("y", "x/y")
    a.move("x", "y/x")
    assert told(a, b) == [("x", "A moved to x/y/x", "B moved to x/y")]


# -- a removed directory that shows (row 10) -----------------------------------------------------------


def overruled_rmdir() -> tuple[Shell, Shell]:
    a, b = shells(0, 0)
    a.mkdir("d")
    b.hear(a)
    a.rmdir("d")
    b.write("d/f", "text")
    return a, b


def test_row_10_a_removal_of_a_directory_that_shows_is_recorded():
    a, b = overruled_rmdir()
    assert told(a, b) == [("d", "A removed d", "B made d/f")]
    assert [r.id for r in b.fs.records()] == ["rmdir-A-3"]


def test_row_10_what_was_moved_in_is_named():
    a, b = shells(0, 0)
    a.mkdir("d")
    a.write("f", "text")
    b.hear(a)
    a.rmdir("d")
    b.move("f", "d/f")
    assert told(a, b) == [("d", "A removed d", "B moved to d/f")]


def test_row_31_each_directory_of_a_removed_tree_that_shows_is_recorded():
    a, b = shells(0, 0)
    a.mkdir("d")
    a.mkdir("d/e")
    a.write("d/e/f", "old")
    b.hear(a)
    a.remove("d/e/f")
    a.rmdir("d/e")
    a.rmdir("d")
    b.write("d/e/f", "new")
    by = "B wrote d/e/f"
    assert told(a, b) == [
        ("d", "A removed d", by),
        ("d/e", "A removed d/e", by),
        ("d/e/f", "A removed d/e/f", by),
    ]


@pytest.mark.parametrize("settle", ["empty it", "remove it", "move it"])
def test_a_removed_directory_is_settled_by_whoever_saw_what_is_inside(settle):
    a, b = overruled_rmdir()
    exchange(a, b)
    if settle == "move it":
        a.move("d", "e")
    else:
        a.remove("d/f")
    if settle == "remove it":
        a.rmdir("d")
    assert told(a, b) == []


def test_what_is_put_into_a_removed_directory_settles_nothing():
    a, b = overruled_rmdir()
    exchange(a, b)
    b.write("d/g", "more")
    b.remove("d/f")
    assert told(a, b) == [("d", "A removed d", "B made d/g")]


def test_each_removal_that_was_overruled_is_recorded():
    a, b, c = shells(0, 0, 0)
    a.mkdir("d")
    b.hear(a)
    c.hear(a)
    a.rmdir("d")
    c.rmdir("d")
    b.write("d/f", "text")
    assert told(a, b, c) == [("d", "A removed d", "B made d/f"), ("d", "C removed d", "B made d/f")]


def test_moving_a_union_with_a_removed_member_is_no_removal():
    """The member that A removed moves along, dead; that is no removal by who moved it."""
    a, b = shells(0, 0)
    a.mkdir("d")
    b.hear(a)
    b.write("d/f", "text")
    a.rmdir("d")
    a.mkdir("d")
    exchange(a, b)
    assert [record.path for record in a.fs.records()] == [b"d"]
    b.move("d", "e")
    assert told(a, b) == []
    assert exchange(a, b) == {"e": "dir", "e/f": "text"}


# -- an edit that beat a removal (row 13) --------------------------------------------------------------


def overruled_unlink() -> tuple[Shell, Shell]:
    a, b = shells(0, 0)
    a.write("f", "old")
    b.hear(a)
    a.remove("f")
    b.write("f", "new")
    return a, b


def test_row_13_a_removal_that_an_edit_beat_is_recorded():
    a, b = overruled_unlink()
    assert told(a, b) == [("f", "A removed f", "B wrote f")]
    assert [r.id for r in b.fs.records()] == ["unlink-A-4"]


def test_row_13_of_a_new_name_the_removal_is_recorded_where_it_shows():
    a, b = shells(0, 0)
    a.write("f", "old")
    b.hear(a)
    a.move("f", "g")
    a.remove("g")
    b.write("f", "new")
    assert told(a, b) == [("g", "A removed g", "B wrote g")]


@pytest.mark.parametrize("settle", ["remove it", "move it", "link it"])
def test_a_removal_that_an_edit_beat_is_settled_by_whoever_saw_both(settle):
    a, b = overruled_unlink()
    exchange(a, b)
    if settle == "remove it":
        a.remove("f")
    elif settle == "move it":
        b.move("f", "g")
    else:
        b.link("f", "g")
    assert told(a, b) == []


def test_writing_on_settles_no_removal():
    """Nobody knows whether the program that writes has heard of the removal: a log goes on being written."""
    a, b = overruled_unlink()
    exchange(a, b)
    b.append("f", " and more")
    assert told(a, b) == [("f", "A removed f", "B wrote f")]


def test_a_removal_that_an_edit_beat_is_settled_on_one_side_and_edited_again_on_the_other():
    a, b = overruled_unlink()
    exchange(a, b)
    a.remove("f")
    b.append("f", " and more")
    assert told(a, b) == [("f", "A removed f", "B wrote f")]
    assert [r.id for r in b.fs.records()] == ["unlink-A-5"]
    assert exchange(a, b) == {"f": "new and more"}


def test_the_edit_that_beat_a_removal_is_one_that_no_removal_has_seen():
    """A and C each remove one of two names, and have both seen what C wrote; what B wrote nobody has."""
    a, b, c = shells(0, 0, 0)
    a.write("f", "old")
    a.link("f", "g")
    b.hear(a)
    c.hear(a)
    b.write("f", "from B")
    c.write("f", "from C")
    a.hear(c)
    a.remove("f")
    c.remove("g")
    exchange(a, b, c)
    assert [sentence(record.by) for record in a.fs.records()] == ["B wrote g"]


# -- lock files that both sites got (row 29) -----------------------------------------------------------


def lock(shell: Shell, text: str = "", path: str = "lock") -> None:
    shell.create(path)  # with O_EXCL
    if text:
        shell.append(path, text)


def test_row_29_of_two_lock_files_the_one_that_lost_the_name_is_recorded():
    a, b = shells(0, 0)
    lock(a, "A")
    lock(b, "B")
    assert told(a, b) == [("lock.conflict-A-2", "A made lock.conflict-A-2", "B made lock")]
    assert [record.id for record in a.fs.records()] == ["excl-A-2"]


def test_row_29_empty_lock_files_show_as_one_and_are_recorded():
    a, b = shells(0, 0)
    lock(a)
    lock(b)
    assert told(a, b) == [("lock", "B made lock", "A made lock")]
    assert a.fs.conflicts() == []


def test_equal_files_that_are_not_empty_are_no_locks():
    """Both sites unpacked an archive: tar and cp create with O_EXCL, too."""
    a, b = shells(0, 0)
    lock(a, "same")
    lock(b, "same")
    assert told(a, b) == []


@pytest.mark.parametrize("plain", ["A", "B"])
def test_a_file_that_was_not_created_with_o_excl_is_no_lock(plain):
    a, b = shells(0, 0)
    for shell in (a, b):
        if shell.replica.name == plain:
            shell.write("lock", "not a lock")
        else:
            lock(shell, "a lock")
    assert told(a, b) == []


def test_a_file_that_was_moved_to_a_name_was_not_created_there():
    a, b = shells(0, 0)
    lock(a, "A", "temporary")
    a.move("temporary", "lock")
    lock(b, "B")
    assert told(a, b) == []


def test_of_three_lock_files_two_are_recorded():
    a, b, c = shells(0, 0, 0)
    lock(a, "A")
    lock(b, "B")
    lock(c, "C")
    assert told(a, b, c) == [
        ("lock.conflict-A-2", "A made lock.conflict-A-2", "C made lock"),
        ("lock.conflict-B-2", "B made lock.conflict-B-2", "C made lock"),
    ]


def test_empty_lock_files_that_hide_under_one_with_a_content_are_recorded():
    a, b, c = shells(0, 0, 0)
    lock(a, "A")
    lock(b)
    lock(c)
    assert told(a, b, c) == [("lock", "B made lock", "A made lock"), ("lock", "C made lock", "A made lock")]


def test_lock_files_that_meet_in_a_union_are_recorded():
    a, b = shells(0, 0)
    for shell in (a, b):
        shell.mkdir("d")
        lock(shell, shell.replica.name, "d/lock")
    ((path, *_),) = told(a, b)
    assert path.startswith("d/lock.conflict-A-")


@pytest.mark.parametrize("settle", ["remove one", "remove the other", "rename one", "acknowledge"])
def test_lock_files_are_settled_when_one_is_left_at_the_name(settle):
    a, b = shells(0, 0)
    lock(a, "A")
    lock(b, "B")
    exchange(a, b)
    if settle == "acknowledge":
        a.fs.acknowledge(["excl-A-2"])
    elif settle == "rename one":
        a.move("lock.conflict-A-2", "mine")
    else:
        a.remove("lock" if settle == "remove one" else "lock.conflict-A-2")
    assert told(a, b) == []


# -- acknowledging -------------------------------------------------------------------------------------


def test_a_record_that_one_acknowledges_is_gone_everywhere():
    a, b = overruled_unlink()
    exchange(a, b)
    b.fs.acknowledge([record.id for record in b.fs.records()])
    assert b.fs.records() == []
    assert told(a, b) == []
    assert exchange(a, b) == {"f": "new"}  # nothing else has changed
    assert not [key for key in a.store.rows if key[:1] == b"R"]


def test_only_the_records_that_are_named_are_acknowledged():
    a, b = shells(0, 0)
    for path in ("f", "g"):
        a.write(path, "old")
    b.hear(a)
    for path in ("f", "g"):
        a.remove(path)
        b.write(path, "new")
    exchange(a, b)
    first, second = a.fs.records()
    a.fs.acknowledge([first.id])
    assert told(a, b) == [("g", "A removed g", "B wrote g")]
    a.fs.acknowledge()
    assert told(a, b) == []
    with pytest.raises(LookupError, match=second.id):
        a.fs.acknowledge([second.id])


def test_what_is_overruled_after_an_acknowledgement_is_recorded():
    a, b = overruled_unlink()
    exchange(a, b)
    b.fs.acknowledge()
    a.remove("f")
    b.append("f", " and more")
    assert told(a, b) == [("f", "A removed f", "B wrote f")]


def test_what_was_overruled_unheard_of_is_not_acknowledged():
    """A acknowledges C's removal; B's, of which A has not heard, is overruled by the same edit."""
    a, b, c, d = shells(0, 0, 0, 0)
    a.write("f", "old")
    for other in (b, c, d):
        other.hear(a)
    b.remove("f")
    c.remove("f")
    d.write("f", "new")
    a.hear(c, d)
    a.fs.acknowledge()
    assert told(a, b, c, d) == [("f", "B removed f", "D wrote f")]


def test_two_may_acknowledge_one_record():
    a, b, c = shells(0, 0, 0)
    a.write("f", "old")
    b.hear(a)
    a.remove("f")
    b.write("f", "new")
    exchange(a, b)
    a.fs.acknowledge()
    b.fs.acknowledge()
    c.hear(b)
    assert told(a, b, c) == []


def test_all_members_of_a_union_are_acknowledged_as_one():
    a, b = shells(0, 0)
    a.mkdir("d")
    b.mkdir("d")
    exchange(a, b)
    a.move("d", "e")
    b.move("d", "g")
    exchange(a, b)
    (record,) = a.fs.records()
    a.fs.acknowledge([record.id])
    assert told(a, b) == []


def test_an_acknowledgement_may_come_before_what_was_overruled_shows():
    """C hears of the removal and of the acknowledgement in one pass, and of all else before."""
    a, b, c = shells(0, 0, 0)
    a.write("f", "old")
    b.hear(a)
    a.remove("f")
    b.write("f", "new")
    c.hear(b)
    a.hear(b)
    a.fs.acknowledge()
    for _ in c.hear_one_by_one(a):
        pass
    assert c.fs.records() == []
    assert c.findings() == []


# -- all of them ---------------------------------------------------------------------------------------


def test_what_is_not_concurrent_leaves_no_record():
    a, b = shells(0, 0)
    a.mkdir("d")
    a.write("d/f", "1")
    b.hear(a)
    b.move("d/f", "g")
    b.rmdir("d")
    a.hear(b)
    a.write("g", "2")
    a.move("g", "h")
    b.hear(a)
    b.remove("h")
    assert told(a, b) == []
    assert not [key for key in a.store.rows if key[:1] == b"R"]


def test_records_are_there_after_a_start():
    a, b = overruled_unlink()
    before = told(a, b)
    a.open()
    assert told(a, b) == before


def test_fsck_finds_records_that_are_not_marked_and_marks_without_records():
    a, b = overruled_unlink()
    a.write("g", "no conflict")
    exchange(a, b)
    marks = [record_key(Ino(a.stat(path).ino)) for path in ("f", "g")]
    a.store.commit({marks[0]: None, marks[1]: b"", record_key(Ino(77)): b""})
    assert [finding.problem for finding in a.findings()] == [
        "it is there without records, or missing",
        "it is there without records, or missing",
        "records of an inode that is not known",
    ]
