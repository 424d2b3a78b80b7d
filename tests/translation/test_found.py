"""Contents: bugs that random histories and reading found, each with the shortest history that shows it."""

from __future__ import annotations

import stat

import pytest

from tests.shell import CALLER, Shell, conflict, exchange, shells

BIG = "b" * 40_000  # several blocks, where a short content lies in its version


def patch(shell: Shell, path: str, offset: int, text: str) -> str:
    """Write into the middle of a file; return what is in it then."""
    old = shell.read(path).decode()
    fh = shell.open_file(path)
    shell.world.tick()
    shell.fs.write(fh, offset, text.encode())
    shell.close(fh)
    return old[:offset] + text + old[offset + len(text) :]


def late(*others: Shell) -> Shell:
    """A further replica, that has heard of the others."""
    world = others[0].world
    shell = Shell(world, len(others) + 1, 0, others[0].replica.members())
    shell.hear(*others)
    return shell


# -- what was removed had been seen --------------------------------------------------------------------


def test_who_removes_a_file_has_not_seen_the_content_whose_blocks_are_not_here():
    """B shows the old content while the blocks of A's version are on their way, and removes the file.

    The removal named the version that nobody at B could see: it was gone instead of beating the removal.
    """
    a, b = shells(0, 0)
    a.write("f", "old")
    b.hear(a)
    a.write("f", BIG)
    b.hear(a, blocks=False)
    assert b.read("f") == b"old"
    b.remove("f")
    assert exchange(a, b) == {"f": BIG}


def test_who_removes_an_entry_has_not_seen_the_content_whose_blocks_are_not_here():
    """As above, of a conflict entry: removing it chooses the file over what the entry showed."""
    a, b, entry = conflict()
    a.write(entry, BIG)
    b.hear(a, blocks=False)
    assert b.read(entry) == b"from A"
    b.remove(entry)
    assert exchange(a, b) == {"f": "from B", entry: BIG}


def test_a_file_that_replaces_one_with_an_entry_beside_it_leaves_the_entry():
    """A fifo is renamed over a file that has a content conflict entry.

    The removal dropped all heads of the file, and the entry, which nobody meant, was gone.
    """
    a, b, entry = conflict()
    a.fs.mknod(1, b"pipe", stat.S_IFIFO | 0o600, 0, CALLER)
    a.move("pipe", "f")
    assert exchange(a, b) == {"f": "special", entry: "from A"}


def test_a_symlink_that_replaces_an_entry_settles_it():
    """The branch of the entry was not settled by it, and came back under a further name."""
    a, b, entry = conflict()
    a.symlink("s", "there")
    a.move("s", entry)
    assert a.shows == {"f": "from B", entry: "-> there"}
    assert exchange(a, b) == {"f": "from B", entry: "-> there"}


def test_a_link_to_a_file_that_an_edit_brought_back_leaves_its_old_name():
    """B's edit beats A's removal, so the file shows at a name that is dead; then it gets a second one.

    A live name was enough for the file, and the dead one vanished.
    """
    a, b = shells(0, 0)
    a.create("f")
    b.hear(a)
    b.write("f", "from B")
    a.remove("f")
    assert exchange(a, b) == {"f": "from B"}
    a.link("f", "g")
    assert exchange(a, b) == {"f": "from B", "g": "from B"}


def test_a_choice_of_what_was_removed_together_with_what_came_of_it_does_not_bring_it_back():
    """C removes the entry, which is a choice of f; A saves over the entry, removes that, and f as well.

    A's removals name what A saw last.  What that replaced counted as never removed: the choice as an edit.
    """
    a, b, c = peers = shells(0, 0, 0)
    b.write("f", "from B")
    a.write("f", "from A")
    (entry,) = exchange(*peers).keys() - {"f"}
    a.write("f~", "saved")
    a.move("f~", entry)
    a.remove(entry)
    a.remove("f")
    c.remove(entry)
    assert exchange(*peers) == {}


def test_a_removal_is_heard_of_by_the_files_that_were_chosen_over_what_it_drops():
    """C chooses B's file over A's; B has removed its own, and hears of that choice before of A's removal.

    The choice was looked at again for removals of its own file only: B showed a file that nobody else did.
    """
    a, b, c = peers = shells(0, 0, 0)
    a.write("f", "from A")
    b.write("f", "from B")
    c.hear(b, a)
    (entry,) = c.shows.keys() - {"f"}
    c.remove(entry)
    a.remove("f")
    b.remove("f")
    b.hear(c)
    assert exchange(*peers) == {}


# -- heads that a split takes along ----------------------------------------------------------------------


def test_what_only_a_split_branch_had_settled_is_a_head_again():
    """C removes the file beside a conflict entry, which makes the entry a file; A renames the file.

    The removal is a version of the branch that the entry takes along, and the file was left without any head.
    """
    a, c = shells(0, 0)
    a.create("f")
    c.hear(a)
    a.write("f", "from A")
    c.write("f", "from C")
    c.hear(a)
    c.remove("f")
    a.move("f", "z")
    shown = exchange(a, c)
    assert shown.pop("z") == "from C"
    assert list(shown.values()) == ["from A"]


@pytest.mark.parametrize("first_heard", [0, 1])
def test_an_entry_that_one_removes_and_another_renames_is_there_with_its_content(first_heard):
    """At who heard of the removal first, the branch was settled already, and its new file got no head."""
    a, b, entry = conflict()
    c = late(a, b)
    a.remove(entry)
    b.move(entry, "mine")
    c.hear(*(a, b) if first_heard == 0 else (b, a))
    assert exchange(a, b, c) == {"f": "from B", "mine": "from A"}


def test_an_entry_that_is_renamed_before_its_blocks_are_here_shows_them_when_they_come():
    """The blocks were waited for in the name of the file, and came after the entry had become one itself.

    It showed for ever what the file had been before the branches parted.
    """
    a, b = shells(0, 0)
    a.write("f", "old")
    b.hear(a)
    a.write("f", BIG)
    b.hear(a, blocks=False)
    b.write("f", "from B")
    (entry,) = (name.decode() for name, _ in b.list() if name != b"f")
    b.move(entry, "kept")
    with pytest.raises(OSError, match="Input/output"):
        b.read("kept")
    b.fetch(a)
    assert b.read("kept").decode() == BIG
    assert exchange(a, b) == {"f": "from B", "kept": BIG}


# -- content that is not here ----------------------------------------------------------------------------


def test_a_new_file_whose_first_content_was_replaced_before_it_was_sent_waits_for_the_second():
    """Of the first eight bytes only their place in the history is sent; the blocks of the second come later.

    The file showed a size of eight, and nothing in it.
    """
    a, b = shells(0, 0)
    a.write("f", "8 bytes.")
    a.write("f", BIG)
    b.hear(a, blocks=False)
    assert b.stat("f").size == len(BIG)
    with pytest.raises(OSError, match="Input/output"):
        b.read("f")
    b.fetch(a)
    assert b.shows == {"f": BIG}


def test_in_the_middle_of_a_pass_a_file_shows_what_it_showed_before():
    """The pass is cut between a version that comes without its content and the one that replaced it.

    The file had the size of the first one, and nothing in it.
    """
    a, b = shells(0, 0)
    a.write("f", "old")
    b.hear(a)
    a.write("f", "in between")
    a.write("f", "new")
    seen = [b.read("f") for _ in b.hear_one_by_one(a)]
    assert seen == [b"old", b"new"]


def test_in_the_middle_of_a_pass_a_branch_that_has_no_content_yet_cannot_be_read():
    """As above, where it parted from what is here, so that nothing was before: it read as empty."""
    a, b = shells(0, 0)
    a.write("f", "old")
    b.hear(a)
    a.write("f", "in between")
    a.write("f", "from A")
    b.write("f", "from B")
    next(b.hear_one_by_one(a))
    (entry,) = (name.decode() for name, _ in b.list() if name != b"f")
    assert b.read("f") == b"from B"
    assert b.stat(entry).size == len("in between")
    with pytest.raises(OSError, match="Input/output"):
        b.read(entry)
    assert exchange(a, b) == {"f": "from B", entry: "from A"}


def test_an_entry_whose_blocks_are_not_here_does_not_show_what_was_before_it():
    """B wrote many blocks; A, who has not got them yet, writes into what was there before.

    B's entry showed the old content at A, and what was written into it there became a third branch.
    """
    a, b = shells(0, 0)
    a.write("f", "old")
    b.hear(a)
    b.write("f", BIG)
    a.hear(b, blocks=False)
    a.write("f", "from A")
    (entry,) = (name.decode() for name, _ in a.list() if name != b"f")
    assert a.stat(entry).size == len(BIG)
    with pytest.raises(OSError, match="Input/output"):
        a.read(entry)
    a.write(entry, "into the entry")
    assert exchange(a, b) == {"f": "from A", entry: "into the entry"}


def test_blocks_that_were_replaced_before_they_came_are_not_wanted_any_more():
    """C hears of two versions, one after the other, and of B, who heard of both at once, gets the blocks.

    Those of the first one are nowhere any more, and C waited for them for ever and showed the old content.
    """
    a, b, c = shells(0, 0, 0)
    a.write("f", "old")
    c.hear(a)
    a.write("f", "1" * 40_000)
    c.hear(a, blocks=False)
    a.write("f", "2" * 40_000)
    b.hear(a)
    c.hear(b)
    assert c.replica.wanted(100) == []
    assert c.read("f") == b"2" * 40_000
    exchange(b, c)


def test_a_fork_from_blocks_has_them_where_a_version_since_came_without_its_content():
    """A replaces blocks by a short content, and that by another before it is sent; B writes into the blocks.

    Who heard of that late had no way back through the one without content to where B began: all zeros.
    """
    a, b, c = shells(0, 0, 0)
    a.write("f", BIG)
    b.hear(a)
    a.write("f", "short")
    a.write("f", "shorter")
    of_b = patch(b, "f", 30_000, "B")
    c.hear(a, b)
    assert sorted(exchange(a, b, c).values()) == sorted([of_b, "shorter"])


def test_a_fork_from_blocks_has_them_where_an_open_file_shows_them_still():
    """B has the file open while A replaces its blocks by a short content; then comes what C wrote into them.

    From the short content, beside a map that was kept, was no way back to the blocks: all zeros at B.
    """
    a, b, c = shells(0, 0, 0)
    a.write("f", BIG)
    b.hear(a)
    c.hear(a)
    fh = b.open_file("f")
    a.write("f", "short")
    b.hear(a)
    of_c = patch(c, "f", 30_000, "C")
    b.hear(c)
    b.close(fh)
    assert sorted(b.shows.values()) == sorted([of_c, "short"])
    assert exchange(a, b, c) == b.shows


# -- attributes -----------------------------------------------------------------------------------------


def test_an_entry_that_becomes_a_file_keeps_its_extended_attributes():
    """chmod makes the entry a file of its own, and the attributes that it showed stayed with the old one."""
    a, b, entry = conflict()
    a.fs.setxattr(a.stat("f").ino, b"user.k", b"v")
    a.chmod(entry, 0o600)
    exchange(a, b)
    assert a.fs.getxattr(a.stat(entry).ino, b"user.k") == b"v"
    assert b.fs.getxattr(b.stat(entry).ino, b"user.k") == b"v"


def test_an_entry_that_becomes_a_file_keeps_a_time_that_was_set_by_hand():
    """It had its file's time as long as it was an entry, and that of its own last version afterwards."""
    a, b, entry = conflict()
    a.world.tick()
    a.fs.setattr(a.stat("f").ino, mtime_ns=5)
    shown = a.stat(entry).mtime_ns
    a.chmod(entry, 0o600)
    exchange(a, b)
    assert a.stat(entry).mtime_ns == b.stat(entry).mtime_ns == shown


def test_a_truncate_without_a_descriptor_is_there_for_peers_when_it_returns():
    """It was gathered like a write until the next tick, though no close would come: peers met without it."""
    a, b = shells(0, 0)
    a.write("f", "0123456789")
    b.hear(a)
    a.fs.setattr(a.stat("f").ino, size=3)
    assert exchange(a, b) == {"f": "012"}
