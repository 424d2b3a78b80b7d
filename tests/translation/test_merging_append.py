"""Files whose heads show as one content: the merge policy `append` (row 24)."""

from __future__ import annotations

import os

import pytest

from crdt.blocks import BLOCK_SIZE
from crdt.facts import Policy
from tests.shell import entry_of, exchange, shells
from tests.translation.merged import choose, head_count, meet, shared, told, truncate, word, write_at


def test_row_24_tails_that_two_appended_at_once_are_kept_in_one_order():
    a, b = shared(b"append", "log:")
    a.append("f", "a1 ")
    b.append("f", "b1 ")
    a.append("f", "a2 ")
    meet(a, b)
    assert a.read("f") == b.read("f") == b"log:a1 b1 a2 "
    assert a.stat("f").size == len("log:a1 b1 a2 ")


def test_equal_tails_are_two():
    a, b = shared(b"append", "")
    for shell in (a, b):
        shell.append("f", "the same\n")
    meet(a, b)
    assert a.read("f") == b"the same\nthe same\n"


def test_long_logs_are_put_together_from_the_first_byte_that_differs():
    a, b = shared(b"append", b"0" * (BLOCK_SIZE + 7))
    a.append("f", "A" * 50_000)
    b.append("f", "B" * 3)
    meet(a, b)
    expected = b"0" * (BLOCK_SIZE + 7) + b"A" * 50_000 + b"B" * 3
    assert a.read("f") == b.read("f") == expected
    b.append("f", "b")
    meet(a, b)
    assert a.read("f") == expected + b"b"
    assert head_count(a) == 1


def test_a_log_that_stays_open_goes_on_behind_what_was_merged():
    """With O_APPEND, whatever offset the kernel gives, which knows of its own alone."""
    a, b = shared(b"append", "")
    fh = a.open_file("f", os.O_WRONLY | os.O_APPEND)
    for number in range(3):
        a.world.tick()
        a.fs.write(fh, 0, b"a%d " % number)
        a.fs.fsync(fh)
        b.append("f", f"b{number} ")
        meet(a, b)
    a.close(fh)
    assert a.read("f") == b"a0 b0 a1 b1 a2 b2 "


@pytest.mark.parametrize("gap", [0, 5])
def test_what_is_written_at_the_end_without_o_append_is_appended(gap):
    a, b = shared(b"append", "log:")
    write_at(a, "f", 4 + gap, b"a1")
    b.append("f", "b1")
    meet(a, b)
    assert a.read("f") == b"log:" + bytes(gap) + b"a1b1"


def test_a_log_that_was_written_anew_as_it_was_and_longer_was_appended_to():
    """As a program does that reads a file, adds a line and writes all."""
    a, b = shared(b"append", "log:")
    write_at(a, "f", 0, b"log:a1")
    b.append("f", "b1")
    meet(a, b)
    assert a.read("f") == b"log:a1b1"


def test_an_edit_and_an_append_are_both_kept_whole():
    a, b = shared(b"append", "log:")
    write_at(a, "f", 0, b"LOG")
    b.append("f", "b1")
    shown = exchange(a, b)
    entry = next(path for path in shown if path != "f")
    assert shown == {"f": "log:b1", entry: "LOG:"}
    b.append("f", "b2")
    assert exchange(a, b) == {"f": "log:b1b2", entry: "LOG:"}
    b.remove(entry)
    meet(a, b)
    a.append("f", "a1")
    b.append("f", "b3")
    meet(a, b)
    assert a.read("f") == b"log:b1b2a1b3"


def test_to_write_what_is_there_adds_nothing():
    a, b = shared(b"append", "log:")
    write_at(a, "f", 0, b"log:")
    b.append("f", "b1")
    meet(a, b)
    assert a.read("f") == b"log:b1"


def test_a_log_that_replaced_another_file_is_still_one():
    a, b = shared(b"append", "log:")
    a.write("old", "old")
    a.move("f", "old")
    b.append("f", "b1")
    a.append("old", "a1")
    meet(a, b)
    assert a.shows == {"old": "log:b1a1"}


def test_a_choice_between_files_chooses_all_tails():
    a, b, c = shells(0, 0, 0)
    a.create("f")
    choose(a, "f", b"append")
    b.hear(a)
    a.append("f", "a")
    b.append("f", "b")
    c.write("f", "another")
    entry = next(path for path in exchange(a, b, c) if path != "f")
    c.remove("f")
    meet(a, b, c)
    assert a.shows == {entry: "ab"}


@pytest.mark.parametrize("size", [BLOCK_SIZE, BLOCK_SIZE + 5])
def test_a_long_log_that_is_cut_is_no_log_for_that_while(size):
    a, b = shared(b"append", b"0" * 2 * BLOCK_SIZE)
    truncate(a, "f", size)
    b.append("f", " b1")
    assert len(exchange(a, b)) == 2
    truncate(a, "f", 2 * BLOCK_SIZE)
    assert len(exchange(a, b)) == 2


def test_a_log_that_is_cut_is_no_log_for_that_while():
    a, b = shared(b"append", "log:old")
    truncate(a, "f", 4)
    b.append("f", " b1")
    assert len(exchange(a, b)) == 2


def test_a_draft_of_a_log_is_appended_after_a_crash():
    a, b = shared(b"append", b"0" * 40_000)
    fh = a.open_file("f", os.O_WRONLY | os.O_APPEND)
    a.fs.write(fh, 0, b"A" * 10)
    a.fs.content._draft(a.fs.content.sessions[a.stat("f").ino])
    a.open()
    b.append("f", "B" * 10)
    meet(a, b)
    assert a.read("f")[40_000:] == b"A" * 10 + b"B" * 10


def test_an_append_waits_for_no_block_of_another():
    """P1: what came of a peer without its blocks is put between as soon as they are here."""
    a, b = shared(b"append", b"0" * 40_000)
    b.append("f", "B" * 40_000)
    a.hear(b, blocks=False)
    a.append("f", "A" * 10)
    assert a.read("f")[40_000:] == b"A" * 10
    meet(a, b)
    assert a.read("f")[40_000:] == b"B" * 40_000 + b"A" * 10


def test_who_writes_the_block_that_another_append_waits_for_shows_that_too():
    """Both appended blocks that end alike.  The program reads more than it wrote, as after a merge, and the
    kernel is told; so a file shows what was not there when it was opened (seed 11454437)."""
    a, b = shared(b"append", b"0" * BLOCK_SIZE)
    end = "-" * BLOCK_SIZE
    b.append("f", "B" * BLOCK_SIZE + end)
    a.hear(b, blocks=False)
    wanted = a.replica.wanted(9)
    a.replica.add_blocks([block for block in b.replica.blocks(wanted) if block and block[:1] == b"B"])
    assert word(a) == "0"
    told(a)
    a.append("f", "A" * BLOCK_SIZE + end)
    assert a.replica.wanted(9) == []
    assert word(a) == "0B-A-"
    assert told(a) == {a.stat("f").ino: True}
    meet(a, b)
    assert word(a) == word(b) == "0B-A-"


def test_who_puts_together_what_another_did_before_its_blocks_came_goes_on_from_that():
    """C shows what A and B appended; A appended to that, too, and its blocks are not here.  What C appends to
    is a version that is known, whose block was superseded: C's append was EIO (seed 11658089)."""
    a, b, c = shared(b"append", b"0" * 40_000, 3)
    b.append("f", "B1")
    a.append("f", "A1")
    c.hear(a, b)
    a.hear(b)
    a.write("copy", a.read("f"))
    a.append("f", "A2")
    b.append("f", "B2")
    c.hear(b, a, blocks=False)
    assert c.read("f")[40_000:] == b"B1A1"
    assert len(c.replica.wanted(9)) == 3  # of the copy, A2, B2
    c.append("f", "C1")
    assert c.read("f")[40_000:] == b"B1A1C1"
    assert c.read("copy")[40_000:] == b"B1A1"
    assert len(c.replica.wanted(9)) == 2
    c.open()
    assert c.read("f")[40_000:] == b"B1A1C1"
    meet(a, b, c)
    assert c.read("f")[40_000:] == b"B1A1A2B2C1"
    assert [peer.findings() for peer in (a, b, c)] == [[], [], []]


def test_what_was_removed_is_that_also_where_it_had_been_put_together_with_another():
    """A removes what it wrote to a log, C appends to that and its own.  Then A makes C's a file of its own.
    What is left shows what was removed or replaced last, for its name at C; C, which heard of the removal
    when A's was no head any more, took that for not removed, and showed it (seed 11675557)."""
    a, b, c = shells(0, 0, 0)
    a.create("f")
    choose(a, "f", b"append")
    a.write("f", "0" * 40_000)
    c.symlink("f", "beside it")
    exchange(a, b, c)
    log = entry_of(a.shows, "f", "A")
    for peer, text in ((a, "of A"), (c, "of C"), (b, "of B")):
        peer.append(log, text)
    c.hear(a)
    a.hear(b, blocks=False)
    a.hear(c, blocks=False)
    a.remove(log)
    choose(a, log, b"keep")
    b.move(log, "g")
    b.save("g", "new")
    c.move(log, "g")
    c.append("g", ", more")
    a.remove("f")
    shown = exchange(a, b, c)
    assert {name: content.lstrip("0") for name, content in shown.items()} == {
        "f.conflict-C-3": "of Aof C, more",
        "g": "new",
    }


def test_a_renamed_log_is_still_one():
    """logrotate renames a log and makes a new one; who has it open goes on in the old one."""
    a, b = shared(b"append", "log:")
    a.replica.set_pattern("f", Policy.APPEND)
    fh = b.open_file("f", os.O_WRONLY | os.O_APPEND)
    a.append("f", "a1 ")
    a.move("f", "f.1")
    a.create("f")
    a.append("f", "a2 ")
    b.fs.write(fh, 0, b"b1 ")
    b.close(fh)
    meet(a, b)
    assert a.shows == {"f": "a2 ", "f.1": "log:a1 b1 "}
