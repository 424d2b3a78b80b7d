"""Files whose heads show as one content: the merge policy `blocks` (rows 21 to 23)."""

from __future__ import annotations

import os

import pytest

from crdt.blocks import BLOCK_SIZE
from crdt.causality import VersionVector
from crdt.encoding import decode_commit
from crdt.facts import Version
from tests.shell import exchange, shells
from tests.translation.merged import (
    HALF,
    blocks,
    choose,
    head_count,
    meet,
    put,
    shared,
    told,
    truncate,
    word,
    write_at,
)


def test_row_22_blocks_that_two_wrote_at_once_are_one_file():
    a, b = blocks("0000")
    put(a, "f", b0="A")
    put(b, "f", b3="B")
    meet(a, b)
    for shell in (a, b):
        assert shell.shows.keys() == {"f"}
        assert word(shell) == "A00B"
        assert shell.stat("f").size == 4 * BLOCK_SIZE


def test_row_21_of_one_block_that_two_wrote_the_newest_shows():
    a, b = blocks("000")
    put(a, "f", b0="A", b1="A")
    put(b, "f", b1="B")
    meet(a, b)
    assert word(a) == word(b) == "AB0"


def test_row_23_a_truncation_and_a_write_at_once():
    """Whichever is newer: what is written before the cut leaves the size, and what is added beyond stays."""
    for first_cuts in (True, False):
        a, b = blocks("0000")
        cutter, writer = (a, b) if first_cuts else (b, a)
        if first_cuts:
            truncate(cutter, "f", BLOCK_SIZE)
        put(writer, "f", b0="W")
        if not first_cuts:
            truncate(cutter, "f", BLOCK_SIZE)
        meet(a, b)
        assert word(a) == word(b) == "W"
        truncate(cutter, "f", 0)
        put(writer, "f", b1="W")
        meet(a, b)
        assert word(a) == word(b) == ".W"


def test_row_23_what_was_written_where_it_was_cut_shows_if_it_is_newer():
    a, b = blocks("0000")
    truncate(a, "f", HALF)
    write_at(b, "f", 2 * BLOCK_SIZE, b"B" * 10)
    meet(a, b)
    assert word(a) == word(b) == "0.B."
    assert a.stat("f").size == 4 * BLOCK_SIZE
    write_at(a, "f", 2 * BLOCK_SIZE, b"A" * 10)
    truncate(b, "f", HALF)
    meet(a, b)
    assert word(a) == word(b) == "0"
    assert a.stat("f").size == HALF


def test_a_small_file_is_one_block_and_the_newest_shows_whole():
    a, b = shared(b"blocks", "zero")
    a.write("f", "a longer text")
    b.write("f", "short")
    meet(a, b)
    assert a.read("f") == b.read("f") == b"short"


def test_a_small_file_and_one_that_has_grown_are_merged():
    a, b = shared(b"blocks", "small")
    write_at(a, "f", BLOCK_SIZE, b"A" * BLOCK_SIZE)
    write_at(b, "f", 0, b"B")
    meet(a, b)
    assert a.read("f") == b"Bmall".ljust(BLOCK_SIZE, b"\0") + b"A" * BLOCK_SIZE
    write_at(b, "f", 1, b"B")
    meet(a, b)
    assert a.read("f")[:6] == b"BBall\0"


def test_what_is_written_on_what_two_wrote_makes_it_one_version():
    a, b = blocks("000")
    put(a, "f", b0="A")
    put(b, "f", b1="B")
    meet(a, b)
    assert head_count(a) == 2
    put(a, "f", b2="a")
    meet(a, b)
    assert head_count(a) == head_count(b) == 1
    assert word(a) == word(b) == "ABa"


def test_two_that_write_on_what_they_both_see_part_there():
    a, b, c = blocks("00000", 3)
    put(a, "f", b0="A")
    put(b, "f", b1="B")
    meet(a, b, c)
    for shell, where in ((a, "b2"), (b, "b3"), (c, "b4")):
        put(shell, "f", **{where: shell.replica.name})
    meet(a, b, c)
    assert word(a) == "ABABC"
    put(c, "f", b0="c")
    meet(a, b, c)
    assert word(a) == word(b) == "cBABC"
    assert head_count(b) == 1


def test_to_open_it_for_writing_on_both_makes_one_version_and_changes_nothing():
    a, b = blocks("00")
    put(a, "f", b0="a")
    put(b, "f", b1="B")
    a.hear(b, blocks=False)
    put(a, "f", b0="A")  # the newest, on a head that does not lead
    b.hear(a)
    newest = a.stat("f").mtime_ns
    for shell in (a, b):
        shell.close(shell.open_file("f", os.O_RDWR))
    meet(a, b)
    assert head_count(a) == 1
    assert word(a) == "AB"
    assert a.stat("f").mtime_ns == newest


def test_a_third_who_overwrites_what_one_of_them_wrote_wins_over_who_only_merged_it():
    a, b, c = blocks("0000", 3)
    put(a, "f", b0="A")
    put(b, "f", b1="B")
    c.hear(b)
    a.hear(b)
    put(c, "f", b1="C")
    a.world.tick()
    put(a, "f", b3="a")  # on its own and B's
    meet(a, b, c)
    assert word(b) == "AC0a"


def test_it_has_the_newest_writers_time():
    a, b = blocks("00")
    put(a, "f", b0="A")
    put(b, "f", b1="B")
    newest = b.stat("f").mtime_ns
    meet(a, b)
    assert a.stat("f").mtime_ns == b.stat("f").mtime_ns == newest
    a.world.tick()
    a.fs.setattr(a.stat("f").ino, mtime_ns=5)
    meet(a, b)
    assert b.stat("f").mtime_ns == 5


@pytest.mark.parametrize("leads", [True, False])
def test_the_kernel_is_told_that_the_content_is_another(leads):
    a, b = blocks("00")
    if leads:
        put(b, "f", b1="B")
    put(a, "f", b0="A")
    if not leads:
        put(b, "f", b1="B")
    told(a)
    before = a.fs.digest()
    a.hear(b)
    assert told(a)[a.stat("f").ino]
    assert a.fs.digest() != before


def test_it_shows_what_it_had_until_the_blocks_of_another_are_here():
    a, b = blocks("000")
    put(a, "f", b0="A")
    put(b, "f", b1="B")
    a.hear(b, blocks=False)
    assert word(a) == "A00"
    put(a, "f", b2="a")
    told(a)
    a.fetch(b)
    assert told(a)[a.stat("f").ino]
    assert word(a) == "ABa"
    meet(a, b)


@pytest.mark.parametrize("leads", [True, False])
def test_who_writes_meanwhile_settles_nothing_that_did_not_show(leads):
    a, b = blocks("000")
    first, second = (b, a) if leads else (a, b)
    put(first, "f", **{"b0" if first is a else "b1": first.replica.name})
    put(second, "f", **{"b0" if second is a else "b1": second.replica.name})
    a.hear(b, blocks=False)
    put(a, "f", b2="a")
    meet(a, b)
    assert word(a) == word(b) == "ABa"


def test_what_replaces_it_meanwhile_has_the_name():
    """What came of B is an edit that who replaced the file had not seen: it is kept beside it."""
    a, b = blocks("00")
    put(a, "f", b0="A")
    put(b, "f", b1="B")
    a.hear(b, blocks=False)
    a.write("new", "new")
    a.move("new", "f")
    assert a.read("f") == b"new"
    shown = exchange(a, b)
    entry = next(path for path in shown if path != "f")
    assert shown["f"] == "new"
    assert word(a, entry) == "0B"


def test_each_head_shows_with_the_last_of_its_blocks():
    a, b, c = blocks("000", 3)
    put(a, "f", b0="A")
    put(b, "f", b1="B")
    put(c, "f", b2="C")
    a.hear(b, c, blocks=False)
    a.fetch(c)
    assert word(a) == "A0C"
    a.fetch(b)
    assert word(a) == "ABC"


def test_a_program_that_has_it_open_goes_on_with_its_own_until_the_close():
    a, b = blocks("000")
    fh = a.open_file("f", os.O_RDWR)
    put(b, "f", b1="B")
    a.hear(b)
    assert a.fs.read(fh, BLOCK_SIZE, 1) == b"0"
    a.world.tick()
    a.fs.write(fh, 0, b"A")
    told(a)
    a.close(fh)
    assert told(a)[a.stat("f").ino]
    assert word(a) == "AB0"
    meet(a, b)


def test_a_close_without_a_write_shows_what_came_meanwhile():
    a, b = blocks("00")
    put(b, "f", b1="B")
    put(a, "f", b0="A")
    fh = a.open_file("f", os.O_RDWR)
    a.hear(b)
    told(a)
    a.close(fh)
    assert told(a)[a.stat("f").ino]
    assert word(a) == "AB"


@pytest.mark.parametrize("older", ["A", "C"])
def test_another_file_that_holds_what_one_head_does_is_no_twin(older):
    """Twins show once, under the older number.  But A's file shows more, and what C's holds shows nowhere."""
    a, b, c = shells(0, 0, 0)
    for shell in (a, c) if older == "A" else (c, a):
        shell.create("f")
        choose(shell, "f", b"blocks")
    put(a, "f", b0="0")
    b.hear(a)
    put(b, "f", b1="B")
    put(a, "f", b0="A")
    put(c, "f", b0="A")
    shown = exchange(a, b, c)
    assert sorted(word(a, path) for path in shown) == ["A", "AB"]


def test_to_open_it_for_writing_makes_no_twin_of_it():
    a, b, c = shells(0, 0, 0)
    a.create("f")
    choose(a, "f", b"blocks")
    b.hear(a)
    put(a, "f", b0="A")
    put(b, "f", b1="B")
    c.create("f")
    put(c, "f", b0="A", b1="B")
    shown = exchange(a, b, c)
    assert [word(a, path) for path in shown] == ["AB", "AB"]
    for path in shown:
        a.close(a.open_file(path, os.O_RDWR))
    a.replica.sync()
    commits = a.replica.arrivals(0, VersionVector(), 1 << 30).commits
    assert [type(fact) for fact in decode_commit(commits[-1]).facts] == [Version]
    assert exchange(a, b, c) == shown


def test_a_removal_means_all_that_showed():
    a, b = blocks("00")
    put(a, "f", b0="A")
    put(b, "f", b1="B")
    meet(a, b)
    a.remove("f")
    assert exchange(a, b) == {}


def test_a_removal_and_a_write_at_once():
    a, b = blocks("000")
    put(a, "f", b0="A")
    put(b, "f", b1="B")
    meet(a, b)
    a.remove("f")
    put(b, "f", b2="b")
    meet(a, b)
    assert word(a) == "ABb"


def test_a_removal_and_an_open_for_writing_at_once():
    """Which makes a version, and is no edit that would bring the file back."""
    a, b = blocks("00")
    put(a, "f", b0="A")
    put(b, "f", b1="B")
    meet(a, b)
    a.remove("f")
    b.close(b.open_file("f", os.O_RDWR))
    assert exchange(a, b) == {}


@pytest.mark.parametrize("act", ["move", "move over", "link", "chmod"])
def test_names_and_attributes_of_it_change_as_of_any_file(act):
    a, b = blocks("00")
    a.write("old", "old")
    put(a, "f", b0="A")
    put(b, "f", b1="B")
    meet(a, b)
    number = a.stat("f").ino
    match act:
        case "move":
            a.move("f", "g")
        case "move over":
            a.move("f", "old")
        case "link":
            a.link("f", "g")
        case "chmod":
            a.chmod("f", 0o600)
    name = {"move": "g", "move over": "old", "link": "g", "chmod": "f"}[act]
    meet(a, b)
    assert b.stat(name).ino == number
    assert word(b, name) == "AB"


def test_to_replace_it_is_to_replace_all_that_showed():
    a, b = blocks("00")
    put(a, "f", b0="A")
    put(b, "f", b1="B")
    meet(a, b)
    a.write("new", "new")
    a.move("new", "f")
    assert exchange(a, b) == {"f": "new"}


def test_a_choice_between_files_chooses_all_that_shows():
    """Of two files at one name one has two heads; the removal of the other chooses it."""
    a, b, c = blocks("00", 3)
    a.remove("f")
    for shell in (b, c):
        shell.hear(a)
    a.create("f")
    choose(a, "f", b"blocks")
    put(a, "f", b0="0", b1="0")
    b.hear(a)
    put(a, "f", b0="A")
    put(b, "f", b1="B")
    c.write("f", "another")
    entry = next(path for path in exchange(a, b, c) if path != "f")
    a.remove("f")
    meet(a, b, c)
    assert list(a.shows) == [entry]
    assert word(c, entry) == "AB"


def test_by_another_policy_heads_come_apart_and_together_again():
    a, b = shared(b"keep", b"0" * 2 * BLOCK_SIZE)
    put(a, "f", b0="A")
    put(b, "f", b1="B")
    entry = next(path for path in exchange(a, b) if path != "f")
    told(a)
    choose(a, "f", b"blocks")
    assert told(a)[a.stat("f").ino]
    meet(a, b)
    assert word(a) == word(b) == "AB"
    assert entry not in a.shows
    choose(b, "f", b"keep")
    exchange(a, b)
    assert word(a) == "0B"
    assert word(a, entry) == "A0"
    choose(b, "f", b"blocks")
    meet(a, b)
    assert word(a) == "AB"


def test_one_policy_after_another():
    a, b = shared(b"append", "log:")
    a.append("f", "a1")
    b.append("f", "b1")
    for policy, content in ((b"append", b"log:a1b1"), (b"blocks", b"log:b1"), (b"append", b"log:a1b1")):
        choose(a, "f", policy)
        meet(a, b)
        assert a.read("f") == b.read("f") == content


def test_nothing_but_facts_decides_what_shows_after_a_restart():
    a, b = blocks("00")
    put(a, "f", b0="A")
    put(b, "f", b1="B")
    meet(a, b)
    before = a.fs.digest()
    a.open()
    assert (word(a), a.fs.digest()) == ("AB", before)


def test_a_draft_goes_on_from_what_two_wrote_after_a_crash():
    a, b = blocks("000")
    put(a, "f", b0="A")
    put(b, "f", b1="B")
    meet(a, b)
    fh = a.open_file("f", os.O_RDWR)
    a.fs.write(fh, 2 * BLOCK_SIZE, b"a")
    a.fs.content._draft(a.fs.content.sessions[a.stat("f").ino])
    a.open()
    assert word(a) == "ABa"
    meet(a, b)


def test_set_user_id_shows_only_if_all_that_shows_was_seen_by_who_set_it():
    a, b = blocks("00")
    a.chmod("f", 0o755)
    b.hear(a)
    put(b, "f", b1="B")
    put(a, "f", b0="A")
    a.chmod("f", 0o4755)
    meet(a, b)
    assert b.stat("f").mode & 0o7777 == 0o755
    b.close(b.open_file("f", os.O_RDWR))
    meet(a, b)
    assert a.stat("f").mode & 0o7777 == 0o755
    a.chmod("f", 0o4755)
    meet(a, b)
    assert b.stat("f").mode & 0o7777 == 0o4755
