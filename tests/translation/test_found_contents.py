"""Contents that were lost, or waited for without end, each with the shortest history that shows it."""

from __future__ import annotations

from crdt.facts import Ino
from tests.shell import entry_of, exchange, shells
from translation import merge_policy


def test_what_a_save_left_to_another_name_of_the_file_is_not_lost_with_that_name():
    """B links f and saves over the link, so f keeps what it holds; A removes f, having seen nothing of that.

    C's truncation of the empty f, which nobody saw, brings f back at the name that was removed last: the
    link's, where what B saved had hidden it, since that had replaced the same content there.
    """
    a, b, c = peers = shells(0, 0, 0)
    a.create("f")
    exchange(*peers)
    c.fs.setattr(Ino(c.stat("f").ino), size=0)
    a.write("f", "from A")
    a.remove("f")
    b.write("f", "kept")
    b.link("f", "linked")
    b.write("linked~", "saved")
    b.move("linked~", "linked")
    assert b.shows == {"f": "kept", "linked": "saved"}
    assert sorted(exchange(*peers).values()) == ["kept", "saved"]


def test_what_a_save_left_to_another_name_is_shown_where_that_name_comes_to_stand_beside_it():
    """As before, with a rename of f to the other name in place of the removal."""
    a, b = peers = shells(0, 0)
    a.create("f")
    exchange(*peers)
    b.write("f", "kept")
    b.link("f", "linked")
    b.write("linked~", "saved")
    b.move("linked~", "linked")
    a.move("f", "linked")
    assert sorted(exchange(*peers).values()) == ["kept", "saved"]


def test_what_a_branch_waits_for_is_forgotten_where_it_was_replaced_in_a_file_of_its_own():
    """C hears of A's large entry without its blocks, then that the entry is a file, then that it is small.

    The entry's file took over its blocks, but who waited for them was the old one, for ever.
    """
    a, b, c = peers = shells(0, 0, 0)
    a.create("f")
    exchange(*peers)
    a.write("f", "A" * 40_000)
    b.write("f", "B")
    a.hear(b)
    c.hear(b)
    c.hear(a, blocks=False)
    (entry,) = a.shows.keys() - {"f"}
    a.move(entry, "mine")
    c.hear(a, blocks=False)
    assert len(c.replica.wanted(9)) == 2
    a.write("mine", "small")
    c.hear(a, blocks=False)
    assert c.replica.wanted(9) == []
    assert exchange(*peers) == {"f": "B", "mine": "small"}


def test_a_settled_content_that_is_an_alternative_again_is_asked_for():
    """B settles A's large content, which is not here, and removes the file: nobody waits for that any more.

    C's edit brings the file back; then what B had chosen is another file, and A's is an alternative again.
    """
    a, b, c, d = peers = shells(0, 0, 0, 0)
    a.create("f")
    exchange(*peers)
    a.write("f", "A" * 40_000)
    d.write("f", "D")
    c.write("f", "C")
    b.hear(a, d, blocks=False)
    (entry,) = (name.decode() for name, _ in b.list() if name != b"f")
    b.remove(entry)
    b.remove("f")
    assert b.replica.wanted(9) == []
    b.hear(c, blocks=False)
    assert b.shows == {"f": "C"}
    c.hear(a, d)
    c.chmod(next(path for path, text in c.shows.items() if text == "D"), 0o600)
    b.hear(c, blocks=False)
    assert b.findings() == []
    exchange(*peers)


def test_a_file_that_was_split_off_shows_its_newest_content_though_all_of_it_was_settled():
    """B settles A's entry, D what A has made of it since, and C has made it a file, knowing the first of it.

    B, whose clock is ahead, went on showing the older content there: it had been settled later.
    """
    a, b, c, d = peers = shells(0, 1000, 0, 0)
    a.create("f")
    exchange(*peers)
    b.write("f", "B")
    a.write("f", "A")
    b.hear(a)
    c.hear(a, b)
    d.hear(a, b)
    (entry,) = b.shows.keys() - {"f"}
    a.write("f", "A, later")
    d.hear(a)
    d.remove(entry)
    b.remove(entry)
    c.move(entry, "mine")
    b.hear(d)
    b.hear(c)
    assert b.shows["mine"] == "A, later"
    exchange(*peers)


def test_nobody_waits_for_the_blocks_of_what_was_settled():
    """C removes the entry with what A wrote, before its blocks are there.  B hears of both at once and
    does not ask for them, so C, which went on asking, could wait for ever with B as its only peer."""
    a, b, c = peers = shells(0, 0, 0)
    a.create("f")
    exchange(*peers)
    a.write("f", "A" * 40_000)
    c.write("f", "C")
    c.hear(a, blocks=False)
    assert c.replica.wanted(1)
    c.remove(entry_of({name.decode(): "" for name, _ in c.list()}, "f", "A"))
    assert not c.replica.wanted(1)
    b.hear(a, blocks=False)
    b.hear(c, blocks=False)
    assert not b.replica.wanted(1)
    assert exchange(*peers) == {"f": "C"}


def test_what_replaces_a_log_goes_where_the_log_was_shown_though_a_newer_end_of_it_is_on_its_way():
    """A and B append to a log; B has heard of A's records, but does not have them, and writes the log anew.

    That begins with a truncation, which is no append: so each content is for itself, and A's leads.  B's
    program was not shown that, and what it wrote next went into it.
    """
    a, b = peers = shells(1000, 0)
    a.write("log", "0")
    a.fs.setxattr(a.stat("log").ino, merge_policy.XATTR, b"append")
    exchange(*peers)
    b.append("log", "B")
    a.append("log", "A" * 40_000)
    b.hear(a, blocks=False)
    assert b.shows == {"log": "0B"}
    b.write_at("log", "anew")
    assert b.read("log") == b"anew"
    b.append("log", ", and more")
    assert b.read("log") == b"anew, and more"
    shown = exchange(*peers)
    assert shown == {"log": "0" + "A" * 40_000, entry_of(shown, "log", "B"): "anew, and more"}


def test_a_rename_of_a_file_that_an_edit_keeps_overwrites_no_block_of_it():
    """A and B remove f, each with what it wrote to it; it shows for C's edit.  B appends, and A renames it.

    With its live name A settled what was removed: a choice, which under `blocks` writes the whole content.
    What B had appended was gone.
    """
    a, b, c = peers = shells(0, 0, 0)
    a.write("f", "old")
    a.fs.setxattr(a.stat("f").ino, merge_policy.XATTR, b"blocks")
    exchange(*peers)
    c.write("f", "edited")
    for shell in (a, b):
        shell.write("f", "written here")
        shell.remove("f")
    assert exchange(*peers) == {"f": "edited"}
    b.append("f", ", and more")
    a.move("f", "g")
    assert exchange(*peers) == {"g": "edited, and more"}


def test_a_content_was_let_go_when_the_first_of_two_settled_it():
    """A and B remove one entry, A's clock is ahead; which content shows where all are let go is told by when.

    Who had heard of A's choice first kept A's time.
    """
    a, b, c = peers = shells(1000, 0, 0)
    a.write("f", "from A")
    b.write("f", "from B")
    entry = entry_of(exchange(*peers), "f", "B")
    ino = Ino(b.stat(entry).ino)
    b.remove(entry)
    a.remove(entry)
    c.hear(a)
    exchange(*peers)
    heads = [head for shell in peers for head in shell.replica.state.known(ino).heads]
    assert len({head.closed for head in heads}) == 1


def test_what_was_written_here_shows_with_what_came_though_a_third_content_is_on_its_way():
    """B shows, and goes on from, what A's large content replaced, which is not here; then C's write comes.

    B showed its own content twice, for A's as well: it counted as one that adds nothing to itself.
    """
    a, b, c = peers = shells(0, 0, 0)
    a.write("f", "0" * 100_000)
    a.fs.setxattr(a.stat("f").ino, merge_policy.XATTR, b"blocks")
    exchange(*peers)
    for shell, offset in ((a, 0), (b, 40_000), (c, 80_000)):
        fh = shell.open_file("f")
        if shell is b:
            b.hear(a, blocks=False)
        shell.world.tick()
        shell.fs.write(fh, offset, shell.replica.name.encode())
        shell.close(fh)
    b.hear(c)
    assert [b.read("f")[at : at + 1] for at in (0, 40_000, 80_000)] == [b"0", b"B", b"C"]
    shown = exchange(*peers)["f"]
    assert [shown[at] for at in (0, 40_000, 80_000)] == ["A", "B", "C"]
