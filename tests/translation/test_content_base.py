"""What the contents of files are told of a replica: `ContentBase` on real rows."""

from __future__ import annotations

import pytest

from crdt.facts import Ino
from tests.shell import Shell, entry_of, exchange, shells
from translation.branch import BlocksMissing, read_branch


@pytest.mark.parametrize("size", [100, 100_000], ids=["in the version", "in blocks"])
def test_a_version_that_nobody_kept_is_what_it_was_and_leaves_the_newer_one_alone(size):
    """As for who wrote on it, and finds that the branch went on: in blocks its map is taken back."""
    (a,) = shells(0)
    old = b"0123456789" * (size // 10)
    a.write("f", old)
    ino = Ino(a.stat("f").ino)
    before = a.fs.base.shown(ino)
    for offset, text in ((0, b"new"), (size - 3, b"end"), (size, b"more")):
        fh = a.open_file("f")
        a.world.tick()
        a.fs.write(fh, offset, text)
        a.close(fh)
    new = a.read("f")
    assert (new[:3], new[size - 3 :]) == (b"new", b"endmore")
    for _ in range(2):
        taken_back = a.fs.base.shown_at(ino, before.head)
        assert taken_back is not None
        assert (taken_back.head, taken_back.size) == (before.head, size)
        assert read_branch(a.fs.base, taken_back, 0, size + 9) == old
        assert a.read("f") == new
    assert a.findings() == []


def settled_while_it_waits() -> list[Shell]:
    """C waits for B's large content, and shows at both what C wrote; B removes its entry, A makes that a
    file, of which C has not heard yet."""
    a, b, c = peers = shells(0, 0, 0)
    a.write("f", "x" * 40_000)
    exchange(*peers)
    b.append("f", "from B")
    c.hear(b, blocks=False)
    c.append("f", "from C")
    a.hear(b, c)
    b.hear(c)
    entry = entry_of(a.shows, "f", "B")
    a.move(entry, "mine")
    b.remove(entry)
    c.hear(b, blocks=False)
    return peers


def test_what_showed_for_a_content_that_was_settled_keeps_its_blocks_when_that_is_a_file_of_its_own():
    """At C f lost its block map when what B had written came there as A's file, and read as zeros."""
    a, _, c = peers = settled_while_it_waits()
    c.hear(a, blocks=False)
    c.fetch(a)
    assert c.findings() == []
    assert c.read("f")[-6:] == b"from C"
    assert exchange(*peers) == {"f": "x" * 40_000 + "from C", "mine": "x" * 40_000 + "from B"}


def test_what_showed_for_a_content_that_was_settled_is_not_what_was_made_of_it_since():
    """C goes on from what shows before it hears of A's file, so that this showed that, with another size."""
    a, _, c = peers = settled_while_it_waits()
    c.append("f", ", later")
    c.hear(a, blocks=False)
    assert c.findings() == []
    c.fetch(a)
    assert c.findings() == []
    assert exchange(*peers) == {"f": "x" * 40_000 + "from C, later", "mine": "x" * 40_000 + "from B"}


def test_a_settled_content_that_is_a_file_of_its_own_shows_nothing_of_the_file_it_was_in():
    """C waits for B's large content; D removes the entry with that, and A makes a file of it."""
    a, b, c, d = peers = shells(0, 0, 0, 0)
    a.write("f", "x" * 40_000)
    exchange(*peers)
    b.append("f", "from B")
    d.append("f", "from D")
    c.hear(b, blocks=False)
    assert c.read("f") == b"x" * 40_000
    a.hear(b, d)
    d.hear(b)
    entry = entry_of(a.shows, "f", "B")
    a.move(entry, "mine")
    d.remove(entry)
    c.hear(d, a, blocks=False)
    with pytest.raises(BlocksMissing):
        c.read("mine")
    c.fetch(a)
    assert c.findings() == []
    assert exchange(*peers) == {"f": "x" * 40_000 + "from D", "mine": "x" * 40_000 + "from B"}


def test_what_is_written_to_a_file_shows_there_though_it_adds_nothing_to_a_content_that_is_on_its_way():
    """B shows its own records while A's come, cuts them short, and writes what A's file once was.

    That was made a file of its own, where B's conflict entry was, and f showed nothing any more."""
    a, b = shells(1000, 0)
    a.create("f")
    a.fs.setxattr(a.stat("f").ino, b"user.elmer.merge", b"append")
    exchange(a, b)
    a.append("f", "A" * 5000)
    a.append("f", "more" * 2000)
    b.append("f", "from B")
    b.hear(a, blocks=False)
    b.fs.setattr(b.stat("f").ino, size=3)
    b.write("f", "A" * 5000)
    assert b.shows == {"f": "A" * 5000}
    assert exchange(a, b) == {"f": "A" * 5000 + "more" * 2000}


def blocks_of(shell: Shell, wanted: list[bytes]) -> list[bytes]:
    return [block for block in shell.replica.blocks(wanted) if block is not None]


def test_what_showed_for_another_content_is_not_shown_for_it_once_it_is_a_file_of_its_own():
    """C waits for B's content, shows what C wrote for it, and waits for what B made of that; D makes a file
    of that, A lets B's content go.  When that comes, D's file still shows at C what C wrote."""
    a, b, c, d = peers = shells(0, 0, 0, 1000)
    a.write("f", "x" * 40_000)
    exchange(*peers)
    b.append("f", "from B")
    c.hear(b, blocks=False)
    first = c.replica.wanted(9)
    c.append("f", "from C")
    d.write("f", "D")
    a.hear(b, c, d)
    b.hear(c, d)
    ours, theirs = (entry_of(a.shows, "f", name) for name in "CB")
    b.append(ours, ", and B")
    a.hear(b)
    d.hear(c, b)
    a.move(ours, theirs)
    d.move(ours, "mine")
    c.hear(b, a, d, blocks=False)
    c.replica.add_blocks(blocks_of(b, first))
    assert c.findings() == []
    assert c.read("mine")[-6:] == b"from C"
    assert exchange(*peers) == {"f": "D", "mine": "x" * 40_000 + "from C, and B"}


def test_what_showed_for_a_settled_content_is_not_shown_for_it_once_it_is_a_file_of_its_own():
    """As before; A removes the entry with B's content, which chooses D's, and E makes a file of D's: so B's
    is a content of f again."""
    a, b, c, d, e = peers = shells(0, 0, 0, 1000, 1000)
    a.write("f", "x" * 40_000)
    exchange(*peers)
    b.append("f", "from B")
    c.hear(b, blocks=False)
    first = c.replica.wanted(9)
    c.append("f", "from C")
    d.write("f", "D")
    e.write("f", "E")
    e.hear(d)
    e.move(entry_of(e.shows, "f", "D"), "other")
    a.hear(b, c, d)
    b.hear(c, d)
    ours, theirs = (entry_of(a.shows, "f", name) for name in "CB")
    b.append(ours, ", and B")
    d.hear(c, b)
    a.remove(theirs)
    d.move(ours, "mine")
    c.hear(b, a, d, e, blocks=False)
    c.replica.add_blocks(blocks_of(b, first))
    assert c.findings() == []
    assert c.read("mine")[-6:] == b"from C"
    assert exchange(*peers) == {"f": "E", "mine": "x" * 40_000 + "from C, and B", "other": "D"}


def replace(shell: Shell) -> None:
    shell.save("there", "new")


def remove(shell: Shell) -> None:
    shell.remove("there")


@pytest.mark.parametrize(("act", "left"), [(replace, {"there": "new"}), (remove, {})])
def test_who_has_a_file_open_is_shown_the_choice_that_left_its_content(act, left):
    """C has f open when B renames it over another file, which is a choice.  What C removed or replaced then
    was only what was there before that: the old content stayed as a conflict entry."""
    _, b, c = peers = shells(0, 0, 0)
    c.write("f", "old")
    exchange(*peers)
    fh = c.open_file("f")
    b.write("there", "B")
    b.move("f", "there")
    c.hear(b)
    act(c)
    assert c.shows == left
    c.close(fh)
    assert exchange(*peers) == left
    assert c.fs.records() == []
