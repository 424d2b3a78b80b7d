"""Names: bugs that random histories and reading found, each with the shortest history that shows it."""

from __future__ import annotations

import itertools
import stat

import pytest

from tests.shell import CALLER, Shell, World, conflict, entry_of, exchange, shells

# -- who has the name ----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_three_that_replaced_one_file_stand_in_one_order_whoever_made_which(order):
    """Two saves by rename and a symlink over the same file: all three inherited its claim to the name.

    Files were compared by their branches and any other pair by numbers, so each was before another.
    """
    peers = shells(0, 0, 0)
    peers[0].write("f", "old")
    exchange(*peers)
    first, second, third = (peers[i] for i in order)
    first.write("f~", "first")
    first.move("f~", "f")
    second.write("f~", "second")
    second.move("f~", "f")
    third.symlink("f~", "third")
    third.move("f~", "f")
    shown = exchange(*peers)
    assert shown["f"] == "-> third"
    assert sorted(shown.values()) == ["-> third", "first", "second"]


def test_conflict_names_of_two_names_that_would_be_the_same_are_not():
    """`x.conflict-berlin-2` lost by B, and `x.conflict-B-2` lost by berlin: the one has an extension.

    Both would have been `x.conflict-berlin-2.conflict-B-2`, and one of them was not to be reached.
    """
    world = World()
    b = Shell(world, 2, 0, [])
    berlin = Shell(world, 5, 0, b.replica.members(), name="berlin")
    exchange(b, berlin)
    for text, (peer, name) in enumerate(
        [
            (b, "x.conflict-berlin-2"),
            (berlin, "x.conflict-B-2"),
            (berlin, "x.conflict-berlin-2"),
            (b, "x.conflict-B-2"),
        ]
    ):
        peer.write(name, str(text))
    both = "x.conflict-berlin-2.conflict-B-2"
    assert set(exchange(b, berlin)) == {"x.conflict-berlin-2", "x.conflict-B-2", both, both + "-2"}


def test_an_edit_beside_a_rename_names_its_entry_where_another_save_follows():
    """A renames g over f, while B, whose clock is behind, edits g; then A saves f again.

    The versions by which g came to that name are newer than B's edit of what was before them, so the walk
    to where the two parted missed that, and the entry with B's edit was named after A.
    """
    a, b = shells(50, 0)
    a.write("f", "from A")
    a.write("g", "text")
    b.write("f", "from B")
    (entry,) = exchange(a, b).keys() - {"f", "g"}
    a.move("g", "f")
    b.write("g", "edited by B")
    a.write("f~", "saved")
    a.move("f~", "f")
    shown = exchange(a, b)
    (edited,) = shown.keys() - {"f", entry}
    assert shown == {"f": "saved", entry: "from B", edited: "edited by B"}
    assert edited.startswith("f.conflict-B-")


def test_who_gets_its_name_again_while_it_is_replaced_is_not_renamed_by_an_edit():
    """A and B give a file a second name, the same one, and B saves there: A's stands beside B's new file.

    It was named after A's link while the file was what B had replaced, and after its first edit since from
    then on: a write that was merged renamed it.
    """
    a, b, c = shells(0, 0, 0)
    a.write("f", "old")
    exchange(a, b, c)
    a.link("f", "g")
    b.link("f", "g")
    b.save("g", "saved")
    c.hear(a, b)
    (entry,) = c.shows.keys() - {"f", "g"}
    assert c.shows == {"f": "old", "g": "saved", entry: "old"}
    a.append("f", " and more")
    c.hear(a)
    assert c.shows == {"f": "old and more", "g": "saved", entry: "old and more"}
    assert exchange(a, b, c) == c.shows


def test_an_edit_of_what_was_replaced_stays_a_conflict_of_that_name_when_it_gets_a_link():
    """A's edit beats that B's save removed the file; with a link to it its old name is made live.

    It is named after the edit as before: so that name need not be pinned, and it is still an entry.
    """
    a, b = shells(0, 0)
    a.write("f", "old")
    exchange(a, b)
    a.append("f", " and more")
    b.save("f", "saved")
    exchange(a, b)
    (conflict,) = a.fs.conflicts()
    a.link(conflict.path.decode(), "g")
    assert exchange(a, b) == {"f": "saved", conflict.path.decode(): "old and more", "g": "old and more"}
    assert a.fs.conflicts() == b.fs.conflicts() == [conflict]


# -- directories ---------------------------------------------------------------------------------------


def test_a_directory_that_was_removed_is_not_shown_for_what_came_and_went_in_it():
    """C hears that a directory was made and removed, then of what another did inside, one commit at a time.

    What had shown it was looked up in the row that had been changed already: it showed for ever, empty.
    """
    a, b, c = shells(0, 0, 0)
    b.mkdir("d")
    a.hear(b)
    a.mkdir("d/e")
    a.rmdir("d/e")
    b.rmdir("d")
    c.hear(b)
    for _ in c.hear_one_by_one(a):
        pass
    assert exchange(a, b, c) == {}


def test_the_last_thing_in_a_dead_member_of_a_union_is_removed_and_the_number_stays():
    """The member was removed and shows for one file; another, newer and live, leads the union.

    To stay when the file goes it was made live again, and being older took the lead.
    """
    a, b, c = peers = shells(0, 0, 0)
    a.mkdir("d")
    c.hear(a)
    a.rmdir("d")
    c.create("d/f")
    b.mkdir("d")
    number = b.stat("d").ino
    exchange(*peers)
    a.remove("d/f")
    assert a.stat("d").ino == number
    assert exchange(*peers) == {"d": "dir"}
    assert c.stat("d").ino == number
    b.rmdir("d")
    assert exchange(*peers) == {}


# -- a request changes no other name -------------------------------------------------------------------


def test_an_entry_keeps_the_number_in_its_name_when_that_name_becomes_free():
    """A directory stands at the name that a conflict entry would have, which has a number for that; it goes.

    Only what stood at the name of the directory was held, not the entry that now got its proper name.
    """
    _, _, entry = conflict()
    a, b = shells(0, 0)
    a.create("f")
    b.hear(a)
    b.mkdir(entry)
    a.write("f", "from A")
    b.write("f", "from B")
    numbered = entry + "-2"
    assert exchange(a, b) == {"f": "from B", entry: "dir", numbered: "from A"}
    b.rmdir(entry)
    assert exchange(a, b) == {"f": "from B", numbered: "from A"}


def test_a_file_that_an_edit_brought_back_keeps_its_conflict_name_when_it_gets_a_link():
    """Its name is pinned, since the bare one was freed; A removes it, B's edit beats that, and A links it.

    A pin holds for one placement: the new one, which makes the name live, was at the bare name.
    """
    a, b = shells(0, 0)
    a.write("f", "from A")
    b.write("f", "from B")
    (entry,) = (path for path in exchange(a, b) if path != "f")
    a.remove("f")
    assert exchange(a, b) == {entry: "from A"}
    b.write(entry, "edited")
    a.remove(entry)
    assert exchange(a, b) == {entry: "edited"}
    a.link(entry, "g")
    assert exchange(a, b) == {entry: "edited", "g": "edited"}


def test_a_removed_directory_keeps_its_conflict_name_when_the_last_thing_in_it_goes():
    """As above: its name is pinned, A removes it, and B's new file inside keeps it; then that goes."""
    a, b = shells(0, 0)
    a.mkdir("x")
    a.mkdir("y")
    b.hear(a)
    a.move("x", "z")
    b.move("y", "z")
    (entry,) = (path for path in exchange(a, b) if path != "z")
    a.rmdir("z")
    assert exchange(a, b) == {entry: "dir"}
    b.create(entry + "/f")
    a.rmdir(entry)
    assert exchange(a, b) == {entry: "dir", entry + "/f": ""}
    a.remove(entry + "/f")
    assert exchange(a, b) == {entry: "dir"}


def test_a_choice_takes_no_name_elsewhere_away():
    """f shows for a choice that B, who removed f, had not seen.  B removes a link of the file chosen from.

    With that the choice is one among nothing but removed contents, and f was gone as well.
    """
    b, c, d = peers = shells(0, 0, 0)
    c.write("f", "from C")
    d.write("f", "from D")
    (entry,) = exchange(*peers).keys() - {"f"}
    c.link(entry, "g")
    b.remove("f")
    b.write(entry, "from B")
    d.remove(entry)
    b.hear(c, d)
    before = b.shows
    b.remove("g")
    assert b.shows == {path: text for path, text in before.items() if path != "g"}
    exchange(*peers)


def test_a_member_that_somebody_removed_leads_the_union_no_longer():
    """It still shows, for what is inside of it.  Who leads was remembered, and stat(2) gave its number."""
    a, b, c = shells(0, 0, 0)
    b.mkdir("d")
    c.hear(b)
    c.write("d/f", "text")
    a.mkdir("d")
    mine = a.stat("d").ino
    a.hear(b, c)
    led = b.stat("d").ino
    assert a.stat("d").ino == led
    b.rmdir("d")
    a.hear(b)
    assert [attributes.ino for _, attributes in a.list()] == [mine]
    assert a.stat("d").ino == a.fs.getattr(led).ino == mine
    assert exchange(a, b, c) == {"d": "dir", "d/f": "text"}


def test_of_a_symlink_and_a_file_beside_it_who_removes_a_file_has_chosen_the_other_file():
    """A removes the bare file and B, at once, the entry that is a file.

    A's removal was no choice, since the first of what stood beside was a symlink: the entry was gone, which A
    had kept, and where it had been removed once before, the file as well, which B had chosen.
    """
    a, b, c = shells(0, 1, 2)
    a.symlink("f", "there")
    b.write("f", "from B")
    c.write("f", "from C")
    shown = exchange(a, b, c)
    entry = next(name for name, content in shown.items() if content == "from B")
    assert shown["f"] == "from C"
    a.remove("f")
    b.remove(entry)
    assert exchange(a, b, c) == shown


def test_a_union_keeps_its_mode_when_the_last_thing_goes_from_a_member_that_was_removed():
    """A removes `d` and makes it anew; B takes rights away from the old one and makes `d/sub`: they show as
    one directory, with the rights that both leave.  Then B removes `d/sub`.

    The old member went with it, and the rights that B had taken away were back.
    """
    a, b = shells(0, 0)
    a.mkdir("d")
    b.hear(a)
    a.rmdir("d")
    a.mkdir("d")
    b.chmod("d", 0o600)
    b.mkdir("d/sub")
    assert exchange(a, b) == {"d": "dir", "d/sub": "dir"}
    before = b.stat("d")
    assert stat.S_IMODE(before.mode) == 0o600
    b.rmdir("d/sub")
    assert exchange(a, b) == {"d": "dir"}
    for shell in (a, b):
        now = shell.stat("d")
        assert (now.mode, now.ino) == (before.mode, before.ino)


def test_a_directory_has_one_time_where_two_changed_it_in_one_millisecond():
    """A and B make something in `d` in the same millisecond, A some microseconds before B.

    The stamps differ by the replica alone, which was not compared: at each the time of its own change stayed.
    """
    a, b = shells(0, 0)
    a.mkdir("d")
    b.hear(a)
    a.world.now_ns += 147
    a.fs.mkdir(*a.at("d/of-a"), 0o755, CALLER)
    b.world.now_ns += 779
    b.fs.mkdir(*b.at("d/of-b"), 0o755, CALLER)
    exchange(a, b)
    assert a.stat("d").mtime_ns == b.stat("d").mtime_ns == b.world.now_ns
    assert a.stat("d").ctime_ns == b.stat("d").ctime_ns == b.world.now_ns


def test_a_file_has_one_time_of_change_where_two_made_one_choice():
    """A and B remove one conflict entry, each at its time: the version that says so is one, and as
    old as the older.

    B, which heard of A's later, took over its stamp, and not its time.
    """
    a, b = shells(0, 0)
    a.write("f", "from A")
    b.write("f", "from B")
    entry = entry_of(exchange(a, b), "f", "A")
    a.remove(entry)
    b.remove(entry)
    assert exchange(a, b) == {"f": "from B"}
    assert a.stat("f").ctime_ns == b.stat("f").ctime_ns


def test_a_choice_that_is_a_head_again_is_as_old_as_the_older_of_who_made_it():
    """C settles the choice that A made, hears that B had made it before, and then that D's branch, on which
    it was settled, is a file of its own: so A's and B's choice is a head of f again.

    That head had kept the stamp and the time of A, whose clock is ahead.
    """
    a, b, c, d, e = peers = shells(1000, 0, 0, 0, 0)
    a.write("f", "from A")
    b.write("f", "from B")
    entry = entry_of(exchange(*peers), "f", "B")
    b.remove(entry)
    a.remove(entry)
    d.write("f", "D")
    e.write("f", "E")
    c.hear(a, d)
    c.append("f", ", and C")
    c.hear(b)
    e.hear(d)
    e.chmod(entry_of(e.shows, "f", "D"), 0o600)
    shown = exchange(*peers)
    assert shown == {"f": "E", entry_of(shown, "f", "D"): "D, and C"}
    assert len({shell.stat("f").ctime_ns for shell in peers}) == 1


def test_the_first_edit_of_a_file_that_was_replaced_takes_no_bare_name():
    """B makes a link of a file that shows for A's edit alone, and so gives it its name again; A removes that
    file, and makes a new one there.  Both have one rank, and the new one leads: the old one is as it was.

    Its first edit made the old one lead: it took the name from the new file.
    """
    a, b = shells(0, 0)
    a.write("f", "one")
    b.hear(a)
    b.remove("f")
    a.write("f", "two")
    assert exchange(a, b) == {"f": "two"}
    b.link("f", "g")
    a.remove("f")
    a.write("f", "new")
    a.fs.setattr(a.stat("f").ino, uid=7)  # else the old one adds nothing to it, and hides
    a.hear(b)
    entry = entry_of(a.shows, "f", "B")
    assert a.shows == {"f": "new", entry: "two", "g": "two"}
    b.append("g", "!")
    assert exchange(a, b) == {"f": "new", entry: "two!", "g": "two!"}


def test_the_last_name_that_shows_is_the_last_one():
    """f shows for B's edit alone, until A makes a link of it, which gives f its name again.  B removes f and
    makes another one, under which the first hides there; and a g, beside which it shows.  Then A removes that
    entry, and B the g: each has chosen the other one's.  At A that was no choice, since there was f still: so
    both were gone."""
    a, b = shells(0, 0)
    a.write("f", "one")
    b.hear(a)
    a.remove("f")
    b.write("f", "two")
    assert exchange(a, b) == {"f": "two"}
    a.link("f", "g")
    b.remove("f")
    b.write("g", "other")
    b.write("f", "three")
    b.chmod("f", 0o777)
    shown = exchange(a, b)
    entry = entry_of(shown, "g", "A")
    assert shown == {"f": "three", "g": "other", entry: "two"}
    mode = a.stat("f").mode  # twins show what both leave
    fh = a.open_file(entry)
    a.remove(entry)
    a.fs.write(fh, 0, b"nobody's")
    a.close(fh)
    assert a.shows == {"f": "three", "g": "other"}
    assert a.stat("f").mode == mode
    b.remove("g")
    assert b.shows == {"f": "three", entry: "two"}
    assert sorted(exchange(a, b).values()) == ["other", "three", "two"]


def test_what_two_settled_was_let_go_by_the_first_of_them():
    """A and B wrote the same into f, and C something else: so of the two one hides under an entry.  A and B
    write to that, which settles what hides, and at C it becomes a file of its own: so what hid is a head of f
    again, and was let go.  At B that was when B had done so, and not A, which had done it first; and of
    several the time decides what shows."""
    a, b, c = peers = shells(0, 0, 0)
    a.create("f")
    exchange(*peers)
    a.write("f", "same")
    b.write("f", "same")
    c.write("f", "C")
    entry = entry_of(exchange(*peers), "f", "B")
    ino = a.stat("f").ino
    a.append(entry, "1")
    b.append(entry, "2")
    b.hear(a)
    c.chmod(entry, 0o600)
    exchange(*peers)
    heads = [peer.replica.state.inode(ino).heads for peer in peers]
    assert len({head.closed for found in heads for head in found if head.closed}) == 1


def test_opposite_choices_lose_nothing_where_one_content_had_replaced_the_other():
    """A saves over f and removes that, while B renames what was there to g, and C what A saved.  The two
    stand at g in conflict.  A meant both to be gone: what it saved had settled the other.  So a choice of
    either was one of what was removed, and no edit: B and C removed each the other's, and both were gone."""
    a, b, c = peers = shells(0, 0, 0)
    a.write("f", "old")
    exchange(*peers)
    b.move("f", "g")
    a.save("f", "saved")
    c.hear(a)
    c.move("f", "g")
    a.remove("f")
    shown = exchange(*peers)
    (entry,) = shown.keys() - {"g"}
    assert sorted(shown.values()) == ["old", "saved"]
    b.remove(entry)
    c.remove("g")
    assert sorted(exchange(*peers).values()) == ["old", "saved"]
