"""What is there after the daemon was stopped and started again."""

import os

from tests.system.sites import Site
from tests.system.trees import assert_equal, look


def test_after_a_restart_everything_is_as_it_was(site: Site):
    (site / "d").mkdir(mode=0o750)
    (site / "d" / "f").write_bytes(os.urandom(100_000))
    (site / "d" / "small").write_bytes(b"inline")
    (site / "g").hardlink_to(site / "d" / "f")
    (site / "link").symlink_to("d/f")
    os.mkfifo(site / "fifo")
    os.setxattr(site / "d", "user.note", b"kept")
    os.chown(site / "g", 7, 8)
    (site / "gone").mkdir()
    (site / "gone").rmdir()
    before, digest = look(site.mountpoint), site.digest()
    site.stop()
    site.start()
    site.wait_mounted()
    assert_equal(look(site.mountpoint), before)
    assert site.digest() == digest
    (site / "new").write_bytes(b"it can be written to")
    assert (site / "new").stat().st_ino not in {entry.ino for entry in before.values()}
