"""Contents that were lost, or waited for without end, each with the shortest history that shows it."""

from __future__ import annotations

import os

import pytest

from crdt.facts import Ino
from tests.shell import entry_of, exchange, shells
from translation import merge_policy
from translation.branch import BlocksMissing


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


def test_what_replaces_a_log_goes_where_the_log_was_shown_though_the_lead_shows_what_it_was_before():
    """C hears of A's records without having them, then of B's, shows B's, and writes the log anew.

    A's content led by the truncation, as before, and went on showing what the log was before both.  C's
    program wrote next over that: it found old bytes behind its own.
    """
    a, b, c = peers = shells(1000, 0, 0)
    a.write("log", "old records")
    a.fs.setxattr(a.stat("log").ino, merge_policy.XATTR, b"append")
    exchange(*peers)
    b.append("log", ", B")
    a.append("log", "A" * 40_000)
    c.hear(a, blocks=False)
    assert c.shows == {"log": "old records"}
    c.hear(b)
    assert c.shows == {"log": "old records, B"}
    c.write_at("log", "anew")
    assert c.read("log") == b"anew"
    c.append("log", ", and more")
    assert c.read("log") == b"anew, and more"
    shown = exchange(*peers)
    assert shown == {"log": "old records" + "A" * 40_000, entry_of(shown, "log", "B"): "anew, and more"}


def test_a_choice_of_a_log_leaves_what_it_shows_though_newer_ends_of_it_are_on_their_way():
    """C shows B's first records of a log, as it has neither A's nor B's next ones, and D's file of that name
    as an entry beside it.  C removes the entry.

    By that C chose the log, which is no append: A's content led, and showed what the log was before both.
    """
    a, b, c, d = peers = shells(1000, 0, 0, 0)
    a.write("log", "old records")
    a.fs.setxattr(a.stat("log").ino, merge_policy.XATTR, b"append")
    for peer in (b, c):
        peer.hear(a)
    b.append("log", ", B")
    a.append("log", "A" * 40_000)
    c.hear(a, blocks=False)
    c.hear(b)
    b.append("log", "B" * 40_000)
    c.hear(b, blocks=False)
    d.write("log", "D")
    c.hear(d)
    entry = entry_of({name.decode(): "" for name, _ in c.list()}, "log", "D")
    assert c.shows == {"log": "old records, B", entry: "D"}
    c.remove(entry)
    assert c.read("log") == b"old records, B"
    shown = exchange(*peers)
    left = "old records, B" + "B" * 40_000
    assert shown == {"log": "old records" + "A" * 40_000, entry_of(shown, "log", "B"): left}


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


# -- what an open file goes on from, and is not here ------------------------------------------------------

OLD, NEW = "old" * 20_000, "new" * 20_000


def test_nobody_waits_for_the_blocks_of_what_an_open_file_went_on_from():
    """C opens f for writing before its blocks are there, and hears of the next content meanwhile.

    That came, and C went on waiting for the blocks of the old one, for ever: B, its only peer, had heard of
    both at once and never asked for them.
    """
    a, b, c = shells(0, 0, 0)
    a.write("f", OLD)
    c.hear(a, blocks=False)
    fh = c.open_file("f")
    a.write("f", NEW)
    b.hear(a)
    c.hear(b)
    c.close(fh)
    assert c.replica.wanted(9) == []
    assert c.read("f") == NEW.encode()


def test_after_a_kill_nobody_waits_for_the_blocks_of_what_was_open():
    a, b, c = shells(0, 0, 0)
    a.write("f", OLD)
    c.hear(a, blocks=False)
    c.open_file("f")
    a.write("f", NEW)
    b.hear(a)
    c.hear(b)
    c.open()
    assert c.replica.wanted(9) == []
    assert c.read("f") == NEW.encode()


def test_of_two_contents_that_are_not_here_the_one_that_an_open_file_left_is_not_waited_for():
    """As before, but for the new content, which is not here either when the file is closed."""
    a, b = shells(0, 0)
    a.write("f", OLD)
    b.hear(a, blocks=False)
    fh = b.open_file("f")
    a.write("f", NEW)
    b.hear(a, blocks=False)
    assert len(b.replica.wanted(9)) == 4
    b.close(fh)
    assert len(b.replica.wanted(9)) == 2
    assert b.stat("f").size == len(NEW)
    assert exchange(a, b) == {"f": NEW}


def test_what_several_heads_show_is_one_version_though_one_was_hidden_for_an_open_file():
    """A and B write to f; C opens it before A's block is there, and hears that A has made it small, and of B.

    After the close C went on showing what it had no block of, though A's newer content was there.  Who
    opened the file then made one version of the old content and B's; with it A's came to show, so that there
    were several heads again: the open failed, and committed a version each time.
    """
    a, b, c = shells(0, 0, 0)
    a.write("f", "older" * 20_000)
    a.fs.setxattr(a.stat("f").ino, merge_policy.XATTR, b"blocks")
    b.hear(a)
    b.write("f", "from B")
    a.write("f", "old" * 2_000)
    c.hear(a, blocks=False)
    fh = c.open_file("f")
    a.write("f", "small")
    c.hear(a, blocks=False)
    b.write("f", "from B, later")
    c.hear(b)
    c.close(fh)
    c.close(c.open_file("f"))
    commits = c.replica.facts_count()
    c.close(c.open_file("f"))
    assert c.replica.facts_count() == commits
    assert c.read("f") == b"from B, later"
    assert exchange(a, b, c) == {"f": "from B, later"}


def test_a_content_shows_until_the_next_one_is_here_though_another_branch_waits_too():
    """C waits for A's large content; then B goes on from what C shows of its branch, with a large one.

    As the file waited for a block, what B had written before did not go on showing: to read it had to wait.
    """
    a, b, c = peers = shells(0, 0, 0)
    a.write("f", "0")
    exchange(*peers)
    b.write("f", "B")
    a.write("f", OLD)
    c.hear(b)
    c.hear(a, blocks=False)
    b.write("f", NEW)
    c.hear(b, blocks=False)
    assert c.read(entry_of({name.decode(): "" for name, _ in c.list()}, "f", "B")) == b"B"
    assert sorted(exchange(*peers).values()) == [NEW, OLD]


def test_a_file_is_marked_as_showing_something_older_only_while_it_does():
    """C shows what A's large content replaced; then it hears that A has made the file small."""
    a, c = shells(0, 0)
    a.write("f", "0")
    c.hear(a)
    a.write("f", OLD)
    c.hear(a, blocks=False)
    assert c.replica.hiding() == [c.stat("f").ino]
    a.write("f", "small")
    c.hear(a)
    assert c.read("f") == b"small"
    assert c.replica.hiding() == []


def test_what_a_program_wrote_beyond_blocks_that_are_not_here_waits_for_these():
    """B opens f before its blocks are there, and adds to it when A has gone on from it.

    What B's version has of A's first content was asked for by nobody: it was missing at B for ever.
    """
    a, b = shells(0, 0)
    a.write("f", OLD)
    b.hear(a, blocks=False)
    fh = b.open_file("f")
    a.write("f", NEW)
    b.hear(a, blocks=False)
    b.world.tick()
    b.fs.write(fh, 80_000, b"B")
    b.close(fh)
    assert b.findings() == []
    b.fetch(a)
    assert sorted(exchange(b, a).values()) == [NEW, OLD.ljust(80_000, "\0") + "B"]


def test_nobody_waits_for_what_was_settled_once_no_open_file_goes_on_from_it():
    """C has A's entry open, of which it has no block, when it hears that B removed that; then C closes it."""
    a, b, c = peers = shells(0, 0, 0)
    a.create("f")
    exchange(*peers)
    a.write("f", OLD)
    b.write("f", "B")
    b.hear(a, blocks=False)
    c.hear(a, b, blocks=False)
    entry = entry_of({name.decode(): "" for name, _ in c.list()}, "f", "A")
    fh = c.open_file(entry)
    b.remove(entry)
    c.hear(b, blocks=False)
    assert len(c.replica.wanted(9)) == 2
    c.close(fh)
    assert c.replica.wanted(9) == []
    assert exchange(b, c) == {"f": "B"}


def test_who_has_a_removed_file_open_gets_its_blocks():
    """B has f open before its blocks are there, and hears that A removed it: they come for who reads on."""
    a, b = shells(0, 0)
    a.write("f", OLD)
    b.hear(a, blocks=False)
    fh = b.open_file("f")
    a.remove("f")
    b.hear(a, blocks=False)
    assert b.shows == {}
    b.fetch(a)
    assert b.fs.read(fh, 0, len(OLD)) == OLD.encode()
    b.close(fh)
    assert exchange(a, b) == {}


def test_who_reads_on_in_a_removed_file_gets_its_blocks():
    """As before, where B only reads: what was fetched for it was thrown away, and the read failed."""
    a, b = shells(0, 0)
    a.write("f", OLD)
    b.hear(a, blocks=False)
    fh = b.open_file("f", os.O_RDONLY)
    a.remove("f")
    b.hear(a, blocks=False)
    with pytest.raises(BlocksMissing) as missing:
        b.fs.read(fh, 0, len(OLD))
    b.replica.add_blocks([block for block in a.replica.blocks(missing.value.hashes) if block is not None])
    assert b.fs.read(fh, 0, len(OLD)) == OLD.encode()
    b.close(fh)
    assert exchange(a, b) == {}


def test_nobody_waits_for_the_blocks_of_a_removed_file_once_it_is_closed():
    a, b = shells(0, 0)
    a.write("f", OLD)
    b.hear(a, blocks=False)
    fh = b.open_file("f")
    a.remove("f")
    b.hear(a, blocks=False)
    b.close(fh)
    assert b.replica.wanted(9) == []
    assert exchange(a, b) == {}


def test_a_block_that_a_program_writes_is_not_waited_for():
    """A program at C writes what A wrote, whose blocks are not here.  They were asked for until a peer gave
    them, and A's file went on showing what it had."""
    a, b, c = peers = shells(0, 0, 0)
    a.write("f", "0")
    exchange(*peers)
    a.write("f", NEW)
    c.hear(a, blocks=False)
    assert c.read("f") == b"0"
    c.replica.take_changes()
    c.write("g", NEW)
    assert c.replica.wanted(9) == []
    assert c.read("f") == NEW.encode()
    assert c.replica.take_changes().inodes[c.stat("f").ino], "the kernel keeps what it has read"
    assert exchange(b, c) == {"f": NEW, "g": NEW}


def test_what_several_heads_show_is_one_version_though_making_it_brings_a_block_that_another_waits_for():
    """A and B write to f, and C what A wrote, in a block that is not here.  What A and B wrote is made one
    version at D, with that block: so C's content shows with it, and there are several heads again."""
    a, b, c, d = peers = shells(0, 0, 0, 0)
    a.write("f", "0")
    a.fs.setxattr(a.stat("f").ino, merge_policy.XATTR, b"blocks")
    exchange(*peers)
    fh = b.open_file("f")
    b.fs.write(fh, 40_000, b"B")
    b.close(fh)
    a.write_at("f", "same")
    c.write_at("f", "same")
    c.fs.setattr(c.stat("f").ino, size=5_000)
    d.hear(a, b)
    d.hear(c, blocks=False)
    assert len(d.replica.wanted(9)) == 1
    d.close(d.open_file("f"))
    assert d.replica.wanted(9) == []
    commits = d.replica.facts_count()
    d.close(d.open_file("f"))
    assert d.replica.facts_count() == commits
    exchange(*peers)


def test_a_file_that_comes_back_does_not_show_what_is_not_here():
    """B removes f before its blocks are here, and goes on from it with a further descriptor; C cuts it short.

    It came back at B as what it had been, of which nobody waits for the blocks: it had been removed.
    """
    a, b, c = peers = shells(0, 0, 0)
    a.create("f")
    exchange(*peers)
    a.write("f", OLD)
    c.hear(a)
    b.hear(a, blocks=False)
    fh = b.open_file("f")
    b.remove("f")
    c.fs.setattr(c.stat("f").ino, size=50_000)
    b.hear(c, blocks=False)
    b.close(fh)
    assert b.stat("f").size == 50_000
    assert b.findings() == []
    assert exchange(b, c) == {"f": OLD[:50_000]}


def test_a_content_that_never_came_does_not_show_before_another_one():
    """A and B write to f; what B wrote first is superseded before A hears of it, of the last it has no block.

    A showed the first one, of which it knew the size alone: to read it failed, and did not wait.
    """
    a, b = shells(0, 0)
    a.write("f", "0")
    b.hear(a)
    a.append("f", "A")
    for token in ("1", "2", "3"):
        b.append("f", token)
    b.write("f", NEW)
    a.hear(b, blocks=False)
    assert a.stat("f").size == len(NEW)
    with pytest.raises(BlocksMissing):
        a.read("f")
    assert sorted(exchange(a, b).values()) == ["0A", NEW]


def test_a_replica_says_when_other_blocks_are_wanted_and_only_then():
    """Whoever asks peers for them reads the list anew by that.  Each sync did before."""
    a, b = shells(0, 0)
    b.hear(a)
    changes = b.fs.replica.wanted_changes

    before = changes()
    a.write("large", "x" * 40_000)
    b.hear(a, blocks=False)
    assert b.fs.replica.wanted(9)
    assert changes() > before, "they came to be wanted"
    before = changes()
    b.write("other", "y" * 40_000)
    b.mkdir("d")
    assert changes() == before, "nothing of them was changed"
    b.remove("large")
    assert not b.fs.replica.wanted(9)
    assert changes() > before, "they are not wanted any more"


def test_what_heads_show_together_is_written_to_where_a_peer_made_it_a_version_before():
    """B wrote to what two contents show together, so B made that a version, which nobody was sent: the next
    one superseded it.  At A neither what B wrote is here nor what C did, and f shows the two contents still.
    A program at A made the same version of them, as is done before a write: A knew it, without its content,
    and went on showing the two (AssertionError)."""
    a, b, c = peers = shells(0, 0, 0)
    big = "0123456789" * 1_000
    a.create("f")
    a.fs.setxattr(a.stat("f").ino, b"user.elmer.merge", b"blocks")
    a.write("f", "x")
    exchange(*peers)
    c.append("f", "c")
    b.append("f", "b")
    b.hear(c)
    a.hear(b, c)
    showed = a.shows["f"]
    b.write("f", big)
    c.append("f", big)
    a.hear(c, b, blocks=False)
    assert a.shows == {"f": showed}
    a.append("f", "!")
    assert a.shows == {"f": showed + "!"}
    exchange(*peers)


def test_a_content_that_stood_in_for_another_keeps_its_blocks_when_it_is_a_file_of_its_own():
    """A log was written to at A where it is no record, so that f shows this until what B added comes; A
    renames f over the entry that has the same content.  B made that entry a file of its own: at A it lost its
    block map when what B had added came, and read as zeros."""
    a, b = shells(0, 0)
    a.create("f")
    a.fs.setxattr(a.stat("f").ino, b"user.elmer.merge", b"append")
    a.write("f", "x" * 5000)
    b.hear(a)
    a.append("f", "a" * 5000)
    b.append("f", "b" * 5000)
    a.hear(b, blocks=False)
    b.hear(a, blocks=False)
    fh = a.open_file("f")
    a.fs.write(fh, 0, b"A")
    a.close(fh)
    (entry,) = a.shows.keys() - {"f"}
    a.move("f", entry)
    b.write("f", "new")
    b.move(entry, "g")
    b.hear(a)
    a.hear(b)
    assert b.read("g")[:2] == a.read("g")[:2] == b"Ax"
    assert exchange(a, b).keys() == {entry, "g"}
