"""What the contents of files are told of a replica: `ContentBase` on real rows."""

from __future__ import annotations

import pytest

from crdt.facts import Ino
from tests.shell import shells
from translation.branch import read_branch


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
