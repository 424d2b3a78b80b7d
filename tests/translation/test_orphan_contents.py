"""The contents of an orphan, where several sites wrote to it: each is left alone (law L2)."""

from __future__ import annotations

import stat

import pytest

from tests.shell import Shell, entry_of, exchange, shells
from tests.translation.orphaned import at, shown_orphans, with_two_contents

HOUR_NS = 3600 * 10**9


def test_the_other_content_stays_as_it_is_listed_when_one_is_removed():
    for first in (0, 1):
        a, b = shells(0, 0)
        names = with_two_contents(a, b)
        contents = shown_orphans(a)
        inos = [a.stat(at(name)).ino for name in names]
        a.remove(at(names[first]))
        assert exchange(a, b) == {}
        left = names[1 - first]
        assert shown_orphans(a, b) == {left: contents[left]}
        of_a = a.replica.state.inode(inos[1])
        assert (of_a is None) == bool(first), "only what stays is made a file of its own"
        a.remove(at(left))
        assert exchange(a, b) == {}
        assert shown_orphans(a, b) == {}


def test_the_other_content_stays_as_it_is_listed_when_one_gets_a_name():
    for first in (0, 1):
        for give in ("move", "link"):
            a, b = shells(0, 0)
            names = with_two_contents(a, b)
            contents = shown_orphans(a)
            inos = [a.stat(at(name)).ino for name in names]
            getattr(a, give)(at(names[first]), "one")
            assert exchange(a, b) == {"one": contents[names[first]]}
            left = names[1 - first]
            assert shown_orphans(a, b) == {left: contents[left]}
            getattr(b, give)(at(left), "other")
            assert exchange(a, b) == {"one": contents[names[first]], "other": contents[left]}
            assert [a.stat(path).ino for path in ("one", "other")] == [inos[first], inos[1 - first]]
            assert a.fs.conflicts() == []


def test_two_that_remove_one_content_each_leave_nothing():
    a, b = shells(0, 0)
    one, other = with_two_contents(a, b)
    a.remove(at(one))
    b.remove(at(other))
    assert exchange(a, b) == {}
    assert shown_orphans(a, b) == {}


def test_two_that_remove_the_same_content_leave_the_other():
    a, b = shells(0, 0)
    one, other = with_two_contents(a, b)
    a.remove(at(one))
    b.remove(at(one))
    assert exchange(a, b) == {}
    assert shown_orphans(a, b) == {other: "from A"}


def test_the_number_of_a_third_content_stays_when_the_second_goes():
    """Of three branches two have a beginning in common, which gives the number of the first of them."""
    a, b, c = shells(0, 0, 0)
    a.write("f", "old")
    for name in ("g", "h"):
        a.link("f", name)
    b.hear(a)
    c.hear(a)
    a.write("f", "from A")
    b.hear(a)
    a.write("f", "from A, later")
    b.write("g", "from A and B")
    c.write("h", "from C")
    for shell, name in ((a, "f"), (b, "g"), (c, "h")):
        for other in "fgh":
            if other != name:
                shell.remove(other)
    exchange(a, b, c)
    shown = shown_orphans(a, b, c)
    assert sorted(shown.values()) == ["from A and B", "from A, later", "from C"]
    for name in sorted(shown):
        a.remove(at(name))
        del shown[name]
        exchange(a, b, c)
        assert shown_orphans(a, b, c) == shown


@pytest.mark.parametrize("first", ["alike", "other"])
def test_a_content_that_two_wrote_alike_is_one_and_stays_one(first: str):
    a, b, c = shells(0, 0, 0)
    a.write("f", "old")
    for name in ("g", "h"):
        a.link("f", name)
    b.hear(a)
    c.hear(a)
    for shell, content in ((a, "alike"), (b, "alike"), (c, "other")):
        shell.write("f", content)
    for shell, kept in ((a, "f"), (b, "g"), (c, "h")):
        for name in "fgh":
            if name != kept:
                shell.remove(name)
    exchange(a, b, c)
    shown = shown_orphans(a, b, c)
    assert sorted(shown.values()) == ["alike", "other"]
    (name,) = (name for name in shown if shown[name] == first)
    a.remove(at(name))
    del shown[name]
    exchange(a, b, c)
    assert shown_orphans(a, b, c) == shown
    b.remove(at(next(iter(shown))))
    exchange(a, b, c)
    assert shown_orphans(a, b, c) == {}


def test_a_content_that_gets_attributes_of_its_own_stays_where_it_is():
    a, b = shells(0, 0)
    of_b, of_a = with_two_contents(a, b)
    ino = a.stat(at(of_a)).ino
    a.chmod(at(of_a), 0o400)
    b.fs.setxattr(b.stat(at(of_b)).ino, b"user.k", b"v")
    assert exchange(a, b) == {}
    assert shown_orphans(a, b) == {of_b: "from B", of_a: "from A"}
    assert (b.stat(at(of_a)).ino, stat.S_IMODE(b.stat(at(of_a)).mode)) == (ino, 0o400)
    assert stat.S_IMODE(b.stat(at(of_b)).mode) == 0o600
    assert a.fs.listxattr(a.stat(at(of_b)).ino) == [b"user.k"]


def chosen_over_what_is_named(a: Shell, b: Shell, c: Shell | None = None, of_c: str = "") -> dict[str, str]:
    """A file and a conflict entry of its name.  A moves the entry over the file, and removes the other name
    that this has; B removes the entry, which is a choice, and replaces the other name.  So nobody means what
    B chose to be gone, and the file is an orphan.  Return what is listed; of C a further content, too."""
    others = [b] if c is None else [b, c]
    b.write("f", "2")
    a.hear(b)
    if c is not None:
        c.hear(b)
        c.write("f", of_c)
        c.link("f", "h")
        c.remove("h")
    a.append("f", "7")
    a.write("f", "24")
    b.save("f", "6")
    b.hear(a)
    b.link("f", "g")
    a.hear(b)
    entry = entry_of(a.shows, "f", "B")
    ino = a.stat("g").ino
    a.move(entry, "f")
    b.remove(entry)
    b.write("x", "8")
    b.move("x", "g")
    a.remove("g")
    a.hear(*others)
    assert a.shows == {"f": "6", "g": "8"}
    listed = shown_orphans(a)
    assert listed[f"f.orphan-{ino}"] == "24"
    return listed


def test_an_orphan_stays_listed_when_what_it_was_chosen_over_is_removed():
    """All that B chose among is gone then, and its choice was one of nothing any more."""
    a, b = shells(0, -HOUR_NS)
    listed = chosen_over_what_is_named(a, b)
    a.remove("f")
    assert shown_orphans(a) == listed
    assert exchange(a, b) == {"g": "8"}
    assert shown_orphans(a, b) == listed


@pytest.mark.parametrize(
    ("of_c", "contents"), [("of C", ["24", "of C"]), ("27", ["24"])], ids=["beside", "under"]
)
def test_no_other_content_of_an_orphan_takes_its_place_then(of_c: str, contents: list[str]):
    """What C wrote is listed beside it, or hides under it, which had it too."""
    a, b, c = shells(0, -HOUR_NS, -HOUR_NS // 2)
    listed = chosen_over_what_is_named(a, b, c, of_c)
    assert sorted(listed.values()) == contents
    a.remove("f")
    assert shown_orphans(a) == listed
    assert exchange(a, b, c) == {"g": "8"}
    assert shown_orphans(a, b, c) == listed
