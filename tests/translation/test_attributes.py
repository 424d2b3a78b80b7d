"""Attributes and listings, as stories about two replicas."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from crdt.encoding import TIME_MAX, TIME_MIN
from crdt.facts import ROOT, Caller
from tests.shell import Shell, exchange, shells
from translation import namespace
from translation.filesystem import DOTS


def mode_of(a: Shell, path: str) -> int:
    return stat.S_IMODE(a.stat(path).mode)


def dots(a: Shell, path: str) -> list[tuple[bytes, int]]:
    fh = a.fs.opendir(a.stat(path).ino)
    found = [(name, attributes.ino) for name, attributes, _ in a.fs.readdir(fh, 0)]
    a.fs.releasedir(fh)
    return found[:2]


# -- times -----------------------------------------------------------------------------------------


def test_an_attribute_that_is_set_or_removed_moves_the_ctime_on_every_replica():
    a, b = shells(0, 0)
    a.write("f", "text")
    a.mkdir("d")
    a.fs.setxattr(a.stat("f").ino, b"user.x", b"1")
    exchange(a, b)
    for change in (
        lambda path: a.fs.setxattr(a.stat(path).ino, b"user.x", b"2"),
        lambda path: a.fs.removexattr(a.stat(path).ino, b"user.x"),
    ):
        for path in ("f", "d"):
            before = a.stat(path)
            a.world.tick()
            change(path)
            assert a.stat(path).ctime_ns > before.ctime_ns, path
            assert a.stat(path).mtime_ns == before.mtime_ns, path
        exchange(a, b)
        for path in ("f", "d"):
            assert b.stat(path).ctime_ns == a.stat(path).ctime_ns, path


def test_an_attribute_that_was_removed_is_gone_and_can_be_set_again():
    (a,) = shells(0)
    a.write("f", "text")
    ino = a.stat("f").ino
    for value in (b"1", b"", b"3"):
        a.fs.setxattr(ino, b"user.x", value, os.XATTR_CREATE)
        assert a.fs.getxattr(ino, b"user.x") == value
        a.fs.removexattr(ino, b"user.x")
        assert a.fs.listxattr(ino) == []
        with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
            a.fs.getxattr(ino, b"user.x")


@pytest.mark.parametrize("time_ns", [-(10**30), -(1 << 63) - 1, 1 << 63, 10**30])
def test_a_time_that_cannot_be_kept_becomes_the_nearest_that_can(time_ns: int):
    a, b = shells(0, 0)
    a.write("f", "text")
    nearest = TIME_MIN if time_ns < 0 else TIME_MAX
    set_to = a.fs.setattr(a.stat("f").ino, atime_ns=time_ns, mtime_ns=time_ns)
    assert (set_to.atime_ns, set_to.mtime_ns) == (nearest, nearest)
    exchange(a, b)
    assert b.stat("f").mtime_ns == nearest


def test_a_file_without_a_name_keeps_the_time_that_is_set():
    (a,) = shells(0)
    a.write("f", "text")
    fh = a.open_file("f")
    ino = a.stat("f").ino
    a.fs.write(fh, 0, b"more")
    a.remove("f")
    assert a.fs.setattr(ino, mtime_ns=5, fh=fh).mtime_ns == 5
    a.world.tick()
    a.fs.write(fh, 0, b"again")
    assert a.fs.getattr(ino).mtime_ns == a.now_ns()
    a.close(fh)


# -- modes -----------------------------------------------------------------------------------------


def test_set_group_id_where_the_group_runs_nothing_stays_with_writes_and_owners():
    """It gives nobody a right.  Linux leaves it, too."""
    a, b = shells(0, 0)
    a.write("f", "text")
    a.chmod("f", 0o6764)
    exchange(a, b)
    a.append("f", "more")
    assert f"{mode_of(a, 'f'):o}" == "2764"
    exchange(a, b)
    assert f"{mode_of(b, 'f'):o}" == "2764"
    b.world.tick()
    b.fs.setattr(b.stat("f").ino, uid=5, caller=Caller(0, 0))
    assert f"{mode_of(b, 'f'):o}" == "2764"
    b.chmod("f", 0o2774)
    b.append("f", "more")
    exchange(a, b)
    assert f"{mode_of(a, 'f'):o}" == f"{mode_of(b, 'f'):o}" == "774"


# -- listings --------------------------------------------------------------------------------------


def test_a_directory_lists_itself_and_what_it_is_in_by_the_numbers_that_show():
    a, b = shells(0, 0)
    opened = []
    for each in (a, b):
        each.mkdir("photos")
        each.mkdir(f"photos/of-{each.replica.name}")
        opened.append(each.fs.opendir(each.stat("photos").ino))
    exchange(a, b)
    for each, fh in zip((a, b), opened, strict=True):
        (itself, attributes, _), *_ = each.fs.readdir(fh, 0)
        assert (itself, attributes.ino) == (b".", each.stat("photos").ino), "as it shows now"
        assert each.stat("photos").nlink == 1, "of a union nobody counts them"
    for each in (a, b):
        union = each.stat("photos").ino
        assert dots(each, "photos") == [*zip(DOTS, (union, ROOT), strict=True)]
        for inside in ("photos/of-A", "photos/of-B"):
            assert dots(each, inside) == [*zip(DOTS, (each.stat(inside).ino, union), strict=True)]
    assert dots(a, "") == [*zip(DOTS, (ROOT, ROOT), strict=True)]


def test_a_directory_that_a_peer_removed_is_read_no_more():
    a, b = shells(0, 0)
    a.mkdir("d")
    exchange(a, b)
    fh = b.fs.opendir(b.stat("d").ino)
    a.world.tick()
    a.fs.rmdir(*a.at("d"))
    exchange(a, b)
    for offset in (0, 1, 2):
        with pytest.raises(FileNotFoundError):
            next(b.fs.readdir(fh, offset))
    b.fs.releasedir(fh)


# -- links -----------------------------------------------------------------------------------------


def test_a_file_has_so_many_links_and_no_more(monkeypatch: pytest.MonkeyPatch):
    assert namespace.LINK_MAX == 65_000, "as ext4"
    monkeypatch.setattr(namespace, "LINK_MAX", 3)
    (a,) = shells(0)
    a.write("f", "text")
    a.link("f", "g")
    a.link("g", "h")
    for name in ("f", "h"):
        with pytest.raises(OSError, match=os.strerror(errno.EMLINK)):
            a.link(name, "i")
    assert a.stat("f").nlink == 3
    a.remove("g")
    a.link("f", "i")
    assert sorted(a.shows) == ["f", "h", "i"]
