"""The model of what several heads show together: the cases that decide it, and laws on random histories."""

from __future__ import annotations

import re

import pytest

from crdt.facts import Policy
from tests.dags import File, histories, spelled, word_of

TOKEN = re.compile(rb"<\d+>")

# -- blocks --------------------------------------------------------------------------------------------


def both_ways(before: str, one: str, other: str, **cuts: int) -> tuple[str, str]:
    """What shows where the writer of `one` was first, and where the writer of `other` was."""
    found = []
    for first, second in ((one, other), (other, one)):
        file = File(Policy.BLOCKS, spelled(before))
        heads = [file.write(file.base, spelled(word), cuts.get(word)) for word in (first, second)]
        found.append(word_of(file.shown(*heads)))
    return found[0], found[1]


@pytest.mark.parametrize(
    ("before", "one", "other", "one_first", "other_first"),
    [
        ("ABCD", "XBCD", "ABCY", "XBCY", "XBCY"),  # different blocks
        ("ABCD", "XBCD", "YBCD", "YBCD", "XBCD"),  # the same block: the newest
        ("ABCD", "XYCD", "AZCD", "XZCD", "XYCD"),  # each block for itself
        ("AB", "ABX", "ABYZ", "ABYZ", "ABXZ"),  # both grow: as long as the longer
        ("AB", "ABX", "YB", "YBX", "YBX"),  # one grows
        ("AB", "AB..", "YB", "YB..", "YB.."),  # by a hole: nobody else said how long it is
        ("AB", "AB..", "ABY", "ABY", "ABY."),  # by a hole, against one that writes there
        ("ABCD", "A", "XBCD", "X", "X"),  # one cuts, the other overwrites what stays
        ("ABCD", "A", "ABCX", "A..X", "A"),  # what was cut, and written since, shows: and all up to there
        ("ABCD", "A", "ABCDE", "A...E", "A...E"),  # what is beyond what the cutter saw was not cut
        ("ABCD", "A", "AB", "A.", "A"),  # both cut: as long as the newest says, without what either cut
        ("ABCD", "", "ABCDE", "....E", "....E"),
        ("AB", "Ab", "AX", "AX", "Ab"),  # cut in the middle of what the other writes
        ("....", "..", "X...", "X.", "X."),  # to cut a hole is to cut
        ("..", ".", ".X", ".X", "."),
        ("AB", "AX", "A", "A", "AX"),
    ],
)  # fmt: skip
def test_two_writers_of_one_file(before, one, other, one_first, other_first):
    # In the last letters of some words only half a block is written: "Ab" has the first half of its B.
    shown = both_ways(before, one, other)
    assert shown == (one_first, other_first)


def test_a_file_that_is_cut_and_written_anew_was_written_whole():
    """Also where it is what it was, block by block."""
    assert both_ways("ABCD", "ABCD", "XBCY", ABCD=0) == ("XBCY", "ABCD")


def test_the_size_is_one_that_a_writer_made():
    """What B wrote was cut off by A, who had not seen it: the file is as long as B's, not as the block."""
    assert both_ways("ABCDe", "A", "ABXDe") == ("A.X.,", "A")


def test_a_choice_of_one_content_is_a_write_of_all_of_it():
    file = File(Policy.BLOCKS, spelled("AB"))
    one, other = file.write(file.base, spelled("XB")), file.write(file.base, spelled("AY"))
    chosen = file.write(one, spelled("XB"), settled=(other,))
    later = file.write(other, spelled("AYZ"))
    assert word_of(file.shown(chosen, later)) == "XBZ"


def test_who_chooses_a_content_chooses_its_size():
    file = File(Policy.BLOCKS, spelled("AB"))
    longer = file.write(file.base, spelled("ABX"))
    chosen = file.write(file.base, spelled("AB"), settled=(longer,))
    later = file.write(longer, spelled("YBX"))
    assert word_of(file.shown(chosen, later)) == "YB"


def test_a_content_that_became_small_was_cut():
    """It is inline, and does not say where it was cut."""
    file = File(Policy.BLOCKS, spelled("..."))
    of_b = file.write(file.base, spelled("..X"))
    assert file.shown(file.write(file.base, b"small"), of_b) == b"small"


def test_what_somebody_wrote_after_a_merge_wins_over_nothing_else():
    """C writes on what A and B wrote.  D, who saw B's block, writes it again: that is newer than B's."""
    file = File(Policy.BLOCKS, spelled("ABC"))
    of_a = file.write(file.base, spelled("XBC"))
    of_b = file.write(file.base, spelled("AYC"))
    of_d = file.write(of_b, spelled("AZC"))
    of_c = file.write(file.merge(of_a, of_b), spelled("XYT"))
    assert word_of(file.shown(of_c, of_d)) == "XZT"


# -- append --------------------------------------------------------------------------------------------


def test_tails_show_in_the_order_in_which_they_were_made():
    file = File(Policy.APPEND, b"log:")
    a = file.write(file.base, b"log:a1")
    b = file.write(file.base, b"log:b1")
    a = file.write(a, b"log:a1a2")
    assert file.shown(a, b) == b"log:a1b1a2"
    merged = file.merge(a, b)
    c = file.write(merged, b"log:a1b1a2c1")
    b = file.write(b, b"log:b1b2")
    assert file.shown(c, b) == b"log:a1b1a2c1b2"


def test_where_something_else_than_an_append_was_done_each_is_for_itself():
    file = File(Policy.APPEND, b"log:")
    a = file.write(file.base, b"log:a1")
    edited = file.write(file.base, b"LOG:b1")
    assert file.shown(a, edited) is None
    b = file.write(file.base, b"log:b1")
    assert file.shown(file.write(edited, b"LOG:b1b2"), a) is None
    assert file.shown(a, b) == b"log:a1b1"


# -- laws ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [Policy.BLOCKS, Policy.APPEND])
def test_merges_may_be_made_by_and_by(policy):
    """What three heads show is what two of them show as one version, with the third."""
    count = 0
    for file, heads in histories(policy):
        if len(heads) == 3:
            count += 1
            whole = file.shown(*heads)
            for last in range(3):
                two = [head for head in heads if head != heads[last]]
                assert file.shown(file.merge(*two), heads[last]) == whole
    assert count > 10


def test_what_is_merged_has_a_size_that_a_writer_made():
    for file, heads in histories(Policy.BLOCKS):
        assert len(file.shown(*heads) or b"") in {len(content) for content in file.contents.values()}


def test_one_head_shows_what_its_writer_wrote():
    """The registers say of one head what it is: what they say of several rests on that."""
    for file, heads in histories(Policy.BLOCKS):
        for head in heads:
            assert file.shown(head) == file.contents[head]


def test_no_tail_is_lost_and_none_is_there_twice():
    for file, heads in histories(Policy.APPEND):
        shown = file.shown(*heads)
        written = {token for content in file.contents.values() for token in TOKEN.findall(content)}
        assert written
        assert sorted(TOKEN.findall(shown or b"")) == sorted(written)
