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
