"""Times that stat(2) tells are those of what a program did, not of when it was committed."""

from __future__ import annotations

import os

from tests.shell import CALLER, exchange, shells


def test_a_close_changes_no_time():
    a, b = shells(0, 0)
    fh, _ = a.fs.create(1, b"f", 0o644, os.O_RDWR, CALLER)
    a.world.tick()
    a.fs.write(fh, 0, b"text")
    written_ns = a.now_ns()
    assert a.stat("f").ctime_ns == a.stat("f").mtime_ns == written_ns
    a.world.tick()
    a.close(fh)
    assert a.stat("f").ctime_ns == a.stat("f").mtime_ns == written_ns
    exchange(a, b)
    assert b.stat("f") == a.stat("f")


def test_a_time_that_is_set_by_hand_changes_the_ctime():
    (a,) = shells(0)
    a.write("f", "text")
    a.world.tick()
    a.fs.setattr(a.stat("f").ino, mtime_ns=5)
    assert (a.stat("f").mtime_ns, a.stat("f").ctime_ns) == (5, a.now_ns())


def test_an_entry_that_becomes_a_file_where_it_stands_changes_no_directory():
    """A moves an entry within d; B, which has not heard of that, makes it a file by a chmod, and then does.

    Nobody tells A where the entry stood meanwhile, since A's move replaced that.  At B it had changed d, at
    A it had not: their times of d differed for ever.
    """
    a, b = shells(0, 0)
    a.mkdir("d")
    a.create("d/f")
    exchange(a, b)
    a.write("d/f", "A")
    b.write("d/f", "B")
    exchange(a, b)
    (entry,) = (path for path in a.shows if ".conflict-" in path)
    a.move(entry, "d/mine")
    before = b.stat("d")
    b.chmod(entry, 0o600)
    assert (b.stat("d").mtime_ns, b.stat("d").ctime_ns) == (before.mtime_ns, before.ctime_ns)
    b.hear(a)
    exchange(a, b)
    assert a.stat("d").mtime_ns == b.stat("d").mtime_ns
    assert a.stat("d").ctime_ns == b.stat("d").ctime_ns
