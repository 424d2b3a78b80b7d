"""For each rule of the merge that is not obvious, the shortest history that would end badly without it.

Which one-line change of the product makes which of them fail is in tests/test_breakages.py.
"""

from __future__ import annotations

import stat

from tests.shell import conflict, entry_of, exchange, shells

# -- where things are ----------------------------------------------------------------------------------


def test_a_rename_that_saw_another_wins_with_a_slow_clock():
    """B's clock is behind A's, and B moves the directory on to which A had given a new name.

    By the clock A's rename is the later one; but B had seen it, and meant to replace it.
    """
    a, b = shells(0, -100)
    a.mkdir("w")
    a.move("w", "x")
    b.hear(a)
    b.move("x", "y")
    assert exchange(a, b) == {"y": "dir"}


def test_a_rename_beats_a_later_split():
    """B renames a conflict entry away, while A removes the file beside it, which leaves the entry as a file.

    A put the entry nowhere, it only kept its name: it is where B wanted it.
    """
    a, b, entry = conflict()
    b.move(entry, "mine")
    a.remove("f")
    assert exchange(a, b) == {"mine": "from A"}


def test_a_removal_covers_what_was_never_sent():
    """A gives B's file two new names and removes it, all before B hears anything.

    The renames are never sent.  The removal must tell what the first of them replaced, or B would find the
    file where it was.
    """
    a, b = shells(0, 0)
    b.create("w")
    a.hear(b)
    a.move("w", "x")
    a.move("x", "y")
    a.remove("y")
    assert exchange(a, b) == {}


def test_a_rename_within_a_move_that_is_skipped_is_skipped():
    """B moves y into x.  A moves x into y, later, and gives it another name there.

    The move would make a cycle, and is skipped.  The renaming, by itself, says "x stands in y" as well.
    """
    a, b = shells(0, 0)
    a.mkdir("x")
    a.mkdir("y")
    b.hear(a)
    b.move("y", "x/y")
    a.move("x", "y/x")
    a.move("y/x", "y/z")
    assert exchange(a, b) == {"x": "dir", "x/y": "dir"}


def test_a_union_is_not_torn():
    """d is B's directory and A's.  B, who knows its own only, moves e into it; A moves d, both, into e.

    Only B's member would make a cycle.  If it alone stayed behind, what was one d would be two.
    """
    a, b = shells(0, 0)
    a.mkdir("d")
    b.mkdir("d")
    b.mkdir("e")
    a.hear(b)
    b.move("e", "d/e")
    a.move("d", "e/d")
    assert exchange(a, b) == {"d": "dir", "d/e": "dir"}


# -- what is alive -------------------------------------------------------------------------------------


def test_a_directory_stays_when_the_last_thing_leaves_it():
    """A removes d, which it saw empty, while B makes a file in it: d is there, for that file.

    Who removes the file then removes the file, not the directory around it.  rmdir does that.
    """
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


def test_an_edit_beats_a_removal_that_did_not_see_it():
    """A removes f while B writes into it: nobody has said that B's text should go.  A second removal does."""
    a, b = shells(0, 0)
    a.create("f")
    b.hear(a)
    b.write("f", "from B")
    a.remove("f")
    assert exchange(a, b) == {"f": "from B"}
    a.remove("f")
    assert exchange(a, b) == {}


def test_the_last_two_names_removed_at_once_leave_an_orphan():
    """A removes one name of a file and B the other: each left a name, and nobody meant the content to go."""
    a, b = shells(0, 0)
    a.write("f", "text")
    a.link("f", "g")
    b.hear(a)
    orphan = f".elmer/orphans/g.orphan-{a.stat('f').ino}"
    a.remove("f")
    b.remove("g")
    assert exchange(a, b) == {}
    assert a.read(orphan) == b.read(orphan) == b"text"
    a.move(orphan, "found")
    assert exchange(a, b) == {"found": "text"}


def test_a_choice_does_not_undo_a_removal():
    """A removes a conflict entry, which chooses the file.  B removes the entry and the file.

    A's choice is a version of the file that B has not seen, but it is no edit: all is gone.
    """
    a, b, entry = conflict()
    a.remove(entry)
    b.remove("f")
    (left,) = b.shows
    b.remove(left)
    assert exchange(a, b) == {}


# -- which content shows -------------------------------------------------------------------------------


def test_the_same_content_written_twice_is_no_conflict():
    """Both write the same, and B goes on from there: what B shows has all of it."""
    a, b = shells(0, 0)
    a.create("f")
    b.hear(a)
    a.write("f", "t")
    b.write("f", "t")
    b.write("f", "u")
    assert exchange(a, b) == {"f": "u"}


def test_superseded_versions_still_tell_what_a_branch_contained():
    """Both correct old to new, and A goes on to newer.  When they meet the heads are newer and B's new.

    That A's line had been through new is known only from a version that nothing shows any more.
    """
    a, b = shells(0, 0)
    a.write("f", "old")
    b.hear(a)
    a.write("f", "new")
    a.write("f", "newer")
    b.write("f", "new")
    assert exchange(a, b) == {"f": "newer"}


def test_opposite_choices_lose_nothing():
    """Of two files at one name A removes the one and B the other.  Each meant the other one to stay."""
    a, b = shells(0, 0)
    a.write("f", "from A")
    b.write("f", "from B")
    shown = exchange(a, b)
    entry = entry_of(shown, "f", "A")
    assert shown == {"f": "from B", entry: "from A"}
    a.remove(entry)
    b.remove("f")
    assert sorted(exchange(a, b).values()) == ["from A", "from B"]


def test_the_same_choice_made_twice_is_one():
    """Of three files at one name A removes the first; B removes that, and then the second.

    Both chose the second over the first.  If these were two choices, A's would be one that B's removal
    of the second had not seen, and would bring it back.
    """
    a, b, _ = peers = shells(0, 0, 0)
    for shell in peers:
        shell.write("f", f"from {shell.replica.name}")
    shown = exchange(*peers)
    of_a, of_b = entry_of(shown, "f", "A"), entry_of(shown, "f", "B")
    assert shown == {"f": "from C", of_a: "from A", of_b: "from B"}
    a.remove(of_a)
    b.remove(of_a)
    b.remove("f")
    assert exchange(*peers) == {of_b: "from B"}


def test_each_leaves_one_of_three():
    """Three wrote into f.  A removes the file and its own entry, which leaves B's; B leaves A's likewise.

    The entry that a choice gave a name of its own is still one of the three: what each of them left is there.
    """
    a, b, c = peers = shells(0, 0, 0)
    a.create("f")
    b.hear(a)
    c.hear(a)
    for shell in peers:
        shell.write("f", f"from {shell.replica.name}")
    shown = exchange(*peers)
    of_a, of_b = entry_of(shown, "f", "A"), entry_of(shown, "f", "B")
    assert shown == {"f": "from C", of_a: "from A", of_b: "from B"}
    a.remove("f")
    a.remove(of_a)
    b.remove("f")
    b.remove(of_b)
    assert sorted(exchange(*peers).values()) == ["from A", "from B"]


def test_a_removed_entry_does_not_stay_for_a_link_to_it():
    """A links a conflict entry to keep, which makes it a file of its own; B removes the entry.

    It is as with any file (row 18): keep is left.  That the entry became a file for it counts for nothing.
    """
    a, b, entry = conflict()
    a.link(entry, "keep")
    b.remove(entry)
    assert exchange(a, b) == {"f": "from B", "keep": "from A"}


def test_a_log_keeps_all_records_in_one_order():
    """A and B append to a log, round after round; in the last one A has seen what B wrote, and B not A's.

    The branches then fork where one of them had seen more than the other.  Each record is there once, and
    the order is one for all.
    """
    a, b = shells(0, 0)
    a.create("log")
    a.fs.setxattr(a.stat("log").ino, b"user.elmer.merge", b"append")
    b.hear(a)
    for number in "12":
        a.append("log", f"a{number} ")
        b.append("log", f"b{number} ")
        exchange(a, b)
    b.append("log", "b3 ")
    a.hear(b)
    a.append("log", "a3 ")
    b.append("log", "b4 ")
    assert exchange(a, b) == {"log": "a1 b1 a2 b2 b3 a3 b4 "}
    a.remove("log")
    b.append("log", "b5 ")
    assert exchange(a, b) == {"log": "a1 b1 a2 b2 b3 a3 b4 b5 "}


# -- names ---------------------------------------------------------------------------------------------


def test_an_edit_leaves_the_name_of_a_conflict_entry():
    """A writes on in its f, which is a conflict entry at B: that keeps its name and number."""
    a, b = shells(0, 0)
    a.create("f")
    b.hear(a)
    a.write("f", "from A")
    b.write("f", "from B")
    b.hear(a)
    entry = entry_of(b.shows, "f", "A")
    number = b.stat(entry).ino
    a.write("f", "more from A")
    assert exchange(a, b) == {"f": "from B", entry: "more from A"}
    assert b.stat(entry).ino == a.stat(entry).ino == number


def test_a_conflict_entry_does_not_take_a_name_that_becomes_free():
    """A directory and a file have one name.  rmdir removes the directory, and renames no file."""
    a, b = shells(0, 0)
    a.write("x", "from A")
    b.mkdir("x")
    shown = exchange(a, b)
    entry = entry_of(shown, "x", "A")
    assert shown == {"x": "dir", entry: "from A"}
    b.rmdir("x")
    assert exchange(a, b) == {entry: "from A"}


def test_saving_by_rename_takes_no_name_from_another_file():
    """B's new f is newer than A's.  A, who has not heard, saves its own with an editor that renames.

    Had it written into its file, B's would keep the name.  How an editor saves must make no difference.
    """
    a, b = shells(0, 0)
    a.create("f")
    b.write("f", "from B")
    a.save("f", "from A")
    shown = exchange(a, b)
    assert shown["f"] == "from B"
    assert sorted(shown.values()) == ["from A", "from B"]


def test_a_file_continues_the_one_removed_at_its_name():
    """Both save f by removing it and making it anew, as git checkout does.

    A corrects old to new.  B does the same and goes on to newer: no conflict, as if both had written into f.
    """
    a, b = shells(0, 0)
    a.write("f", "old")
    b.hear(a)
    for shell, contents in ((a, ["new"]), (b, ["new", "newer"])):
        for content in contents:
            shell.remove("f")
            shell.write("f", content)
    assert exchange(a, b) == {"f": "newer"}


def test_a_conflict_entry_names_who_made_it():
    """A made f.  B writes into it while A saves it by rename: the entry is B's work, and says so."""
    a, b = shells(0, 0)
    a.create("f")
    b.hear(a)
    b.write("f", "from B")
    a.save("f", "from A")
    shown = exchange(a, b)
    assert shown == {"f": "from A", entry_of(shown, "f", "B"): "from B"}


def test_twins_keep_their_hard_links_together():
    """Both unpack an archive in which x and y are one file.  They are one file still, and B edits it.

    At x B's file is the newer one, at y A's: were the newest to show, x and y would be two files.
    """
    a, b = shells(0, 0)
    a.write("x", "text")
    b.write("x", "text")
    b.link("x", "y")
    a.link("x", "y")
    assert exchange(a, b) == {"x": "text", "y": "text"}
    assert a.stat("x").ino == a.stat("y").ino == b.stat("x").ino
    assert a.stat("x").nlink == 2
    b.write("y", "edited")
    assert exchange(a, b) == {"x": "edited", "y": "edited"}


def test_a_dead_member_does_not_lead_a_union():
    """A removed its d, which shows for what C has put into it.  B made a d of its own, and that one is d."""
    a, b, c = peers = shells(0, 0, 0)
    a.mkdir("d")
    c.hear(a)
    a.rmdir("d")
    c.create("d/f")
    b.mkdir("d")
    number = b.stat("d").ino
    assert exchange(*peers) == {"d": "dir", "d/f": ""}
    assert a.stat("d").ino == number


def test_what_was_put_into_a_directory_stays_with_it():
    """photos is A's directory and B's.  B, who knows its own only, renames it.

    B's is the older and gives the union its number, but what A put into photos is in A's, and stays there.
    """
    a, b = shells(0, 0)
    b.mkdir("photos")
    b.create("photos/b1")
    a.mkdir("photos")
    a.hear(b)
    a.create("photos/a1")
    b.move("photos", "pics")
    assert exchange(a, b) == {"photos": "dir", "photos/a1": "", "pics": "dir", "pics/b1": ""}


def test_a_union_shows_the_bits_that_all_members_leave():
    """B closes its photos to its group, A its own to others.  What one of them hid, no other path shows."""
    a, b = shells(0, 0)
    a.mkdir("photos")
    b.mkdir("photos")
    b.chmod("photos", 0o705)
    a.chmod("photos", 0o750)
    assert exchange(a, b) == {"photos": "dir"}
    assert stat.S_IMODE(a.stat("photos").mode) == stat.S_IMODE(b.stat("photos").mode) == 0o700
