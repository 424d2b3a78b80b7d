"""A head that adds nothing to another branch is no conflict (crdt.absorption)."""

import pytest

from tests.shell import Shell, entry_of, exchange, shells

BIG = "0123456789abcdef" * 4096  # two blocks


def three_contents(*texts: str) -> list[Shell]:
    """Replicas that each replaced the content of f, the last one by the clock leading."""
    peers = shells(*(0 for _ in texts))
    peers[0].write("f", "old")
    exchange(*peers)
    for peer, text in zip(peers, texts, strict=True):
        peer.write("f", text)
    return peers


@pytest.mark.parametrize("text", ["t", BIG])
def test_what_both_wrote_is_no_conflict_also_where_one_went_on(text):
    a, b = three_contents(text, text)
    assert exchange(a, b) == {"f": text}
    a, b = three_contents(text, text)
    b.append("f", "u")
    assert exchange(a, b) == {"f": text + "u"}
    a, b = three_contents(text, text)
    a.append("f", "u")
    assert exchange(a, b) == {"f": text + "u"}


def test_what_hides_does_not_come_out_when_the_file_is_edited_removed_or_replaced():
    for act in ("edit", "remove", "replace", "move", "link and remove"):
        a, b, c = three_contents("t", "t", "t")
        exchange(a, b, c)
        if act == "edit":
            a.write("f", "new")
            assert exchange(a, b, c) == {"f": "new"}
        elif act == "remove":
            a.remove("f")
            assert exchange(a, b, c) == {}
        elif act == "replace":
            a.write("g", "new")
            a.move("g", "f")
            assert exchange(a, b, c) == {"f": "new"}
        elif act == "move":
            a.move("f", "g")
            a.write("g", "new")
            assert exchange(a, b, c) == {"g": "new"}
        else:
            a.link("f", "g")
            a.remove("f")
            a.remove("g")
            assert exchange(a, b, c) == {}


def test_writing_what_another_branch_once_was_takes_no_entry_away():
    """The entry has the content now that f began its branch with: it would hide, under a program's eyes."""
    a, b = three_contents("u", "t")
    b.write("f", "t2")
    (entry,) = exchange(a, b).keys() - {"f"}
    a.write(entry, "t")
    assert a.shows == {"f": "t2", entry: "t"}
    assert exchange(a, b) == {"f": "t2", entry: "t"}


def test_writing_what_an_entry_once_was_shows_what_was_written():
    """f has the content now that the entry began with.  It would hide, and f show the entry's content."""
    a, b = three_contents("u", "t")
    a.write("f", "u2")
    (entry,) = exchange(a, b).keys() - {"f"}
    assert b.read(entry) == b"u2"
    b.write("f", "u")
    assert b.shows == {"f": "u", entry: "u2"}
    assert exchange(a, b) == {"f": "u", entry: "u2"}


def test_of_three_the_nearest_fork_counts():
    """A and B part late, and differ.  That C, who parted earlier, once had what A has is no matter."""
    a, b, c = shells(0, 0, 0)
    a.write("f", "old")
    exchange(a, b, c)
    a.write("f", "middle")
    b.hear(a)
    a.write("f", "t")
    b.write("f", "s")
    c.write("f", "t")
    c.write("f", "u")
    assert sorted(exchange(a, b, c).values()) == ["s", "t", "u"]


def test_a_content_that_was_chosen_over_a_branch_is_news_though_that_branch_has_had_it():
    """A settles the conflict of B's w and C's t for w.  C, who has not heard, goes on from t to w and to z.

    C has had w, so B's w alone would hide under z; but A wanted w and not what came of t.
    """
    a, b, c = peers = shells(0, 0, 0)
    a.write("f", "old")
    exchange(*peers)
    c.write("f", "t")
    b.write("f", "w")
    a.hear(b, c)
    a.remove(entry_of(a.shows, "f", "C"))
    for text in "wz":
        c.write("f", text)
    shown = exchange(*peers)
    assert shown == {"f": "w", entry_of(shown, "f", "C"): "z"}


def test_branches_that_hide_each_other_in_a_circle_show_one():
    """Each began with what the next one ends with."""
    a, b, c = shells(0, 0, 0)
    a.write("f", "old")
    exchange(a, b, c)
    for peer, texts in ((a, "xy"), (b, "yz"), (c, "zx")):
        for text in texts:
            peer.write("f", text)
    assert exchange(a, b, c) == {"f": "x"}  # C leads


def test_moving_an_entry_over_its_file_on_both_replicas_raises_no_conflict():
    a, b = three_contents("from A", "from B")
    (entry,) = exchange(a, b).keys() - {"f"}
    a.move(entry, "f")
    b.move(entry, "f")
    assert exchange(a, b) == {"f": "from A"}


def test_an_entry_becomes_a_file_of_its_own_with_what_hides_under_it():
    """Two replicas wrote the same beside a third one: one entry.  Renamed away, it is one file."""
    for act in ("move", "link", "chmod", "move over", "move over the file", "remove the file"):
        a, b, c = three_contents("same", "same", "other")
        (entry,) = exchange(a, b, c).keys() - {"f"}
        if act == "move":
            a.move(entry, "mine")
            assert a.shows == {"f": "other", "mine": "same"}
            a.write("mine", "new")
            assert exchange(a, b, c) == {"f": "other", "mine": "new"}
        elif act == "link":
            a.link(entry, "mine")
            assert exchange(a, b, c) == {"f": "other", entry: "same", "mine": "same"}
        elif act == "chmod":
            a.chmod(entry, 0o600)
            assert exchange(a, b, c) == {"f": "other", entry: "same"}
        elif act == "move over":
            a.create("g")
            a.move(entry, "g")
            assert exchange(a, b, c) == {"f": "other", "g": "same"}
        elif act == "move over the file":
            a.move(entry, "f")
            assert exchange(a, b, c) == {"f": "same"}
        else:
            a.remove("f")
            a.write(entry, "new")
            assert exchange(a, b, c) == {entry: "new"}


def test_what_hides_goes_with_what_it_hides_under():
    for act in ("remove", "move over"):
        a, b, c = three_contents("same", "same", "other")
        (entry,) = exchange(a, b, c).keys() - {"f"}
        if act == "remove":
            a.remove(entry)
            assert exchange(a, b, c) == {"f": "other"}
        else:
            a.write("g", "new")
            a.move("g", entry)
            assert exchange(a, b, c) == {"f": "other", entry: "new"}
        a, b, c = three_contents("other", "same", "same")
        (entry,) = exchange(a, b, c).keys() - {"f"}
        a.remove("f")
        assert exchange(a, b, c) == {entry: "other"}


def make_one_that_leads_and_hides(peers: list[Shell], by: Shell) -> None:
    """It truncates f, which C does too and goes on, from a newer content of A's: the one leads, and hides
    under C's.  A writes f again, and that shows."""
    a, c = peers[0], peers[2]
    a.write("f", "old")
    exchange(*peers)
    a.write("f", "older than what it writes, and newer than what it saw")
    c.hear(a)
    by.write("f", "")
    c.write_at("f", "from C")
    a.write("f", "from A")


@pytest.mark.parametrize("act", ["remove it", "move the entry over it"])
def test_a_file_that_was_renamed_and_let_go_shows_what_it_showed_and_not_what_hid(act):
    """B truncated f, which C did too and went on: that hides under C's entry, though it leads.

    B lets go of all but the entry while A renames f away: of what was let go at one time the first by
    lead showed, the empty one, and nothing had A's content any more.
    """
    a, b, _ = peers = shells(0, 0, 0)
    make_one_that_leads_and_hides(peers, by=b)
    entry = entry_of(exchange(*peers), "f", "C")
    assert a.shows == {"f": "from A", entry: "from C"}
    if act == "remove it":
        b.remove("f")
    else:
        b.move(entry, "f")
    a.move("f", "g")
    left = entry if act == "remove it" else "f"
    assert exchange(*peers) == {left: "from C", "g": "from A"}


@pytest.mark.parametrize("first", ["the rename", "the removal"])
def test_what_hid_is_not_shown_either_where_only_one_of_two_had_heard_of_it(first):
    """As before, with a truncation by D that B has not heard of: A lets go of that, when it renames f."""
    a, b, c, d = peers = shells(0, 0, 0, 0)
    make_one_that_leads_and_hides(peers, by=d)
    exchange(a, b, c)
    entry = entry_of(exchange(a, c, d), "f", "C")
    if first == "the rename":
        a.move("f", "g")
    b.remove("f")
    if first == "the removal":
        a.move("f", "g")
    assert exchange(*peers) == {entry: "from C", "g": "from A"}


def test_a_program_reads_what_it_wrote_until_what_hides_that_is_here():
    """A wrote the same and went on; C has heard of that, has not its blocks, and shows what was before."""
    a, _, c = peers = shells(0, 0, 0)
    a.write("f", "old")
    exchange(*peers)
    a.write("f", "same")
    a.write("f", BIG)
    c.hear(a, blocks=False)
    assert c.shows == {"f": "old"}
    c.write("f", "same")
    assert c.shows == {"f": "same"}
    c.open()
    assert c.shows == {"f": "same"}
    c.fetch(a)
    assert c.shows == {"f": BIG}
    assert exchange(*peers) == {"f": BIG}
