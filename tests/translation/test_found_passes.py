"""In the middle of a pass that is cut into slices: it is durable so far, and the peer may be away for weeks.

Of a version that was superseded before it was sent only its place in the history comes: it is bare.
"""

from __future__ import annotations

import errno

import pytest

from crdt.facts import Ino
from tests.shell import Shell, exchange, shells


def half_a_pass(text: str = "newer") -> list[Shell]:
    """B has written to f, and then heard of A's first version and not of the one that superseded it."""
    a, b = peers = shells(0, 0)
    a.create("f")
    exchange(*peers)
    b.write("f", "B")
    a.write("f", "older")
    a.write("f", text)
    next(b.hear_one_by_one(a))
    assert b.stat("f").size == len("older")
    return peers


def test_a_bare_file_is_written_anew():
    """Nobody can read it, or add to it, but `echo > f` waits for no peer."""
    a, b = half_a_pass()
    for act in (lambda: b.read("f"), lambda: b.append("f", "+")):
        with pytest.raises(OSError, match="Input/output") as refused:
            act()
        assert refused.value.errno == errno.EIO
    b.write("f", "mine")
    assert b.shows["f"] == "mine"
    assert sorted(exchange(a, b).values()) == ["B", "mine", "newer"]


@pytest.mark.parametrize("text", ["newer", "newer" * 10_000])
def test_a_bare_file_that_is_open_shows_what_comes(text: str):
    a, b = half_a_pass(text)
    fh = b.open_file("f")
    b.hear(a)
    assert b.fs.getattr(b.stat("f").ino, fh).size == len(text)
    assert b.fs.read(fh, 0, 100_000).decode() == text
    b.fs.write(fh, 0, b"N")
    b.close(fh)
    assert sorted(exchange(a, b).values()) == ["B", "N" + text[1:]]


def test_a_bare_file_that_is_written_while_the_rest_comes_is_a_branch():
    a, b = half_a_pass()
    fh = b.open_file("f")
    b.fs.setattr(Ino(b.stat("f").ino), size=0)
    b.fs.write(fh, 0, b"mine")
    b.hear(a)
    assert b.fs.read(fh, 0, 100) == b"mine"
    b.close(fh)
    assert sorted(exchange(a, b).values()) == ["B", "mine", "newer"]


def test_the_removal_of_a_file_leaves_what_was_to_show_with_it_and_is_not_here_yet():
    """By its merge policy `f` will show what A wrote with what B wrote.  Nobody at B was shown anything of
    A's, so that shows where `f` was, as what beats the removal (row 13)."""
    a, b = peers = shells(0, 0)
    a.create("f")
    a.fs.setxattr(a.stat("f").ino, b"user.elmer.merge", b"blocks")
    exchange(*peers)
    b.write("f", "B")
    a.write("f", "older")
    a.write("f", "newer")
    next(b.hear_one_by_one(a))
    assert b.shows == {"f": "B"}
    b.remove("f")
    assert b.stat("f").size == len("older")
    assert exchange(*peers) == {"f": "newer"}


@pytest.mark.parametrize("count", range(1, 6))
def test_a_close_in_the_middle_of_a_pass_is_no_error(count: int):
    """B saved over f, and wrote to that: what it saved was superseded before it was sent.  At A, where f is
    open, the new file comes, without content yet, and A's hides under it.  What A wrote makes that show, and
    to hold what hid was tried with the content that nobody here knows: the close failed (EIO)."""
    a, b = shells(0, 0)
    a.write("f", "1")
    b.hear(a)
    b.move("f", "f~")
    b.write("f", "3")
    b.remove("f~")
    for shell in (a, b):
        fh = shell.open_file("f")
        shell.world.tick()
        shell.fs.write(fh, 0, b"1")
        shell.close(fh)
    fh = a.open_file("f")
    a.world.tick()
    a.fs.write(fh, 1, b"4")
    for _, _ in zip(range(count), a.hear_one_by_one(b), strict=False):
        pass
    a.close(fh)
    assert "14" in exchange(a, b).values()
