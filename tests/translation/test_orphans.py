"""Row 19: files whose names were removed one by one on different replicas, by nobody who meant the last."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from crdt.facts import Ino
from crdt.orphans import ORPHANS, orphan_name, possible_inos
from crdt.visible import orphan_key
from tests.shell import Shell, exchange, shells
from tests.translation.orphaned import at, orphan_of, shown_orphans, without_names
from tests.walk import orphans

BLOCKS = b"".join(b"%07d\n" % number for number in range(20_000))  # no two blocks are equal


def test_a_file_whose_names_were_removed_one_by_one_is_an_orphan_on_all_replicas():
    a, b = shells(0, 0)
    ino = without_names(a, b)
    assert shown_orphans(a, b) == {f"g.orphan-{ino}.txt": "text"}


def test_a_file_whose_last_name_was_removed_by_somebody_who_knew_is_no_orphan():
    a, b = shells(0, 0)
    a.write("f", "text")
    a.link("f", "g")
    b.hear(a)
    a.remove("f")
    b.hear(a)
    b.remove("g")
    assert exchange(a, b) == {}
    assert shown_orphans(a, b) == {}


def test_each_content_of_an_orphan_is_listed():
    a, b = shells(0, 0)
    a.write("f", "old")
    a.link("f", "g")
    b.hear(a)
    a.write("f", "from A")
    b.write("g", "from B")
    a.remove("f")
    b.remove("g")
    assert exchange(a, b) == {}
    ino = orphans(a.fs)[next(iter(orphans(a.fs)))].attributes.ino
    shown = shown_orphans(a, b)
    assert shown.pop(f"g.orphan-{ino}") == "from B"
    ((name, content),) = shown.items()
    assert content == "from A"
    assert int(name.removeprefix("g.orphan-")) >= 1 << 63, "it has the number of a conflict entry"


def test_an_orphan_is_of_any_kind_that_can_have_two_names():
    a, b = shells(0, 0)
    a.symlink("s", "target")
    a.link("s", "t")
    b.hear(a)
    a.remove("s")
    b.remove("t")
    assert exchange(a, b) == {}
    ((name, found),) = orphans(b.fs).items()
    assert (stat.S_ISLNK(found.attributes.mode), found.content) == (True, b"target")
    assert shown_orphans(a, b) == {name.decode(): "target"}


def test_an_orphan_is_no_more_when_an_edit_comes_that_nobody_saw():
    a, b, c = shells(0, 0, 0)
    a.write("f", "text")
    a.link("f", "g")
    b.hear(a)
    c.hear(a)
    a.remove("f")
    b.remove("g")
    exchange(a, b)
    assert len(shown_orphans(a, b)) == 1
    c.write("f", "edited")
    assert exchange(a, b, c) == {"g": "edited"}
    assert shown_orphans(a, b, c) == {}


def test_an_orphan_is_its_owners_alone():
    a, b = shells(0, 0)
    a.mkdir("private")
    a.write("private/f", "secret")
    a.chmod("private/f", 0o4644)
    a.chmod("private", 0o700)
    a.link("private/f", "private/g")
    b.hear(a)
    a.remove("private/f")
    b.remove("private/g")
    exchange(a, b)
    (found,) = orphans(b.fs).values()
    assert stat.S_IMODE(found.attributes.mode) == 0o4600
    assert found.attributes.nlink == 1


def test_the_blocks_of_an_orphan_come_to_a_replica_that_hears_of_it_late():
    a, b, c = shells(0, 0, 0)
    ino = without_names(a, b, BLOCKS)
    assert c.replica.wanted(100) == []
    c.hear(a, blocks=False)
    assert c.replica.wanted(100), "somebody may read it"
    c.fetch(b)
    assert c.findings() == []
    assert shown_orphans(a, c) == {f"g.orphan-{ino}.txt": BLOCKS.decode()}


def test_blocks_are_still_wanted_when_a_file_becomes_an_orphan_before_they_came():
    a, b, c = shells(0, 0, 0)
    a.write("f", BLOCKS)
    a.link("f", "g")
    b.hear(a)
    c.hear(a, blocks=False)
    a.remove("f")
    b.remove("g")
    c.hear(a, b, blocks=False)
    assert c.replica.wanted(100)
    c.fetch(b)
    assert [found.content for found in orphans(c.fs).values()] == [BLOCKS]


def test_all_blocks_of_a_file_that_was_gone_are_wanted_when_it_becomes_an_orphan():
    a, b, c, d = shells(0, 0, 0, 0)
    a.write("f", BLOCKS)
    b.hear(a)
    d.hear(a)
    a.remove("f")
    c.hear(a, blocks=False)
    assert c.replica.wanted(100) == []
    d.append("f", "more")
    d.link("f", "g")
    b.hear(d)
    d.remove("f")
    b.remove("g")
    b.hear(d)
    c.hear(b, blocks=False)
    c.fetch(b)
    assert [found.content for found in orphans(c.fs).values()] == [BLOCKS + b"more"]


def test_replicas_with_other_orphans_have_other_digests():
    a, b = shells(0, 0)
    ino = without_names(a, b)
    with_it = a.fs.digest()
    a.store.commit({orphan_key(Ino(ino)): None})
    assert a.fs.digest() != with_it


def test_fsck_finds_an_orphan_that_is_not_listed_and_one_that_is_none():
    a, b = shells(0, 0)
    orphan = without_names(a, b)
    a.write("h", "has a name")
    assert a.findings() == []
    a.store.commit({orphan_key(Ino(orphan)): None})
    assert [finding.problem for finding in a.findings()] == ["it is not listed as an orphan"]
    a.store.commit({orphan_key(Ino(orphan)): b"", orphan_key(Ino(a.stat("h").ino)): b""})
    assert [finding.problem for finding in a.findings()] == ["what is listed as an orphan is none"]


def test_an_orphans_name_has_its_number_whatever_the_name_was():
    long = [b"x" * 255, b"y" * 250 + b".txt"]
    names = [b"f", b"f.tar.gz", b".f", *long, b"f.orphan-7", b"f.orphan-7.orphan-8.c"]
    for raw in names:
        name = orphan_name(raw, (1 << 64) - 1)
        assert len(name) <= 255
        assert (1 << 64) - 1 in possible_inos(name), name
    assert list(possible_inos(b"f.orphan-99999999999999999999")) == []


# -- a name again ------------------------------------------------------------------------------------------


def test_an_orphan_is_moved_to_a_name():
    a, b = shells(0, 0)
    name = orphan_of(a, b)
    ino = a.stat(at(name)).ino
    a.mkdir("d")
    a.chmod(at(name), 0o640)
    a.move(at(name), "d/found")
    assert exchange(a, b) == {"d": "dir", "d/found": "text"}
    for shell in (a, b):
        found = shell.stat("d/found")
        assert (found.ino, found.nlink, stat.S_IMODE(found.mode)) == (ino, 1, 0o640)
    assert shown_orphans(a, b) == {}


def test_an_orphan_is_linked_to_a_name():
    a, b = shells(0, 0)
    name = orphan_of(a, b)
    ino = a.stat(at(name)).ino
    a.link(at(name), "found")
    assert exchange(a, b) == {"found": "text"}
    assert (b.stat("found").ino, b.stat("found").nlink) == (ino, 1)
    assert shown_orphans(a, b) == {}
    b.link("found", "again")
    assert exchange(a, b) == {"again": "text", "found": "text"}
    assert a.stat("found").nlink == 2


def test_an_orphan_replaces_the_file_that_it_is_moved_over():
    a, b = shells(0, 0)
    name = orphan_of(a, b)
    a.write("f", "replaced")
    b.hear(a)
    a.move(at(name), "f")
    assert exchange(a, b) == {"f": "text"}
    assert a.fs.conflicts() == []
    assert shown_orphans(a, b) == {}


REFUSED = {"d": errno.EISDIR, "x" * 256: errno.ENAMETOOLONG, "f/g": errno.ENOTDIR, "gone/g": errno.ENOENT}


@pytest.mark.parametrize("target", REFUSED)
def test_an_orphan_is_moved_as_any_file_is(target: str):
    a, b = shells(0, 0)
    name = orphan_of(a, b)
    a.write("f", "")
    a.mkdir("d")
    a.mkdir("gone")
    parent = a.fs.lookup(*a.at(os.path.dirname(target))).ino if "/" in target else 1
    a.rmdir("gone")
    with pytest.raises(OSError) as refused:  # noqa: PT011 - the number is looked at
        a.fs.rename(ORPHANS, name.encode(), parent, os.path.basename(target).encode())
    assert refused.value.errno == REFUSED[target]
    assert exchange(a, b) == {"d": "dir", "f": ""}
    assert list(shown_orphans(a, b)) == [name]


def test_of_two_that_move_an_orphan_the_newest_name_wins():
    a, b = shells(0, 0)
    name = orphan_of(a, b)
    a.move(at(name), "found-by-a")
    b.move(at(name), "found-by-b")
    assert exchange(a, b) == {"found-by-b": "text"}


def test_an_orphan_that_two_link_has_both_names():
    a, b = shells(0, 0)
    name = orphan_of(a, b)
    a.link(at(name), "found-by-a")
    b.link(at(name), "found-by-b")
    assert exchange(a, b) == {"found-by-a": "text", "found-by-b": "text"}
    assert a.stat("found-by-a").nlink == 2


def buried(*peers: Shell) -> str:
    """A chose between two contents, and B, which has not seen that, removed both; C edited one of them.

    Return the name of the entry that C edited: its file shows that alone.
    """
    a, b, c = peers
    a.write("f", "old")
    b.hear(a)
    a.write("f", "from A")
    b.write("f", "from B")
    exchange(a, b, c)
    (entry,) = (path for path in a.shows if path != "f")
    a.remove(entry)
    b.write("f", "from B, again")
    b.remove(entry)
    b.remove("f")
    c.write(entry, "edited by C")
    return entry


@pytest.mark.parametrize("give", ["move", "link"])
def test_what_a_removal_buried_does_not_come_back_with_the_name_of_an_orphan(give: str):
    a, b, c = shells(0, 0, 0)
    buried(a, b, c)
    c.link("f", "g")
    c.remove("g")
    assert exchange(a, b, c) == {}
    (name,) = shown_orphans(a, b, c)
    getattr(a, give)(at(name), "found")
    assert exchange(a, b, c) == {"found": "edited by C"}


def test_what_a_removal_buried_does_not_come_back_with_a_link():
    a, b, c = shells(0, 0, 0)
    buried(a, b, c)
    assert exchange(a, b, c) == {"f": "edited by C"}
    a.link("f", "g")
    assert exchange(a, b, c) == {"f": "edited by C", "g": "edited by C"}


# -- gone for good -----------------------------------------------------------------------------------------


def test_a_removed_orphan_is_gone_for_good():
    a, b = shells(0, 0)
    name = orphan_of(a, b)
    b.remove(at(name))
    assert exchange(a, b) == {}
    assert shown_orphans(a, b) == {}
    with pytest.raises(FileNotFoundError):
        a.stat(at(name))


def test_a_name_beats_the_removal_of_an_orphan():
    for give in ("move", "link"):
        a, b = shells(0, 0)
        name = orphan_of(a, b)
        getattr(a, give)(at(name), "found")
        b.remove(at(name))
        assert exchange(a, b) == {"found": "text"}
        assert shown_orphans(a, b) == {}


def test_an_edit_that_was_not_seen_survives_the_removal_of_an_orphan():
    a, b = shells(0, 0)
    name = orphan_of(a, b)
    a.remove(at(name))
    b.write_at(at(name), "edited")
    assert exchange(a, b) == {}
    assert shown_orphans(a, b) == {name: "edited"}


def test_an_orphan_of_another_kind_is_moved_and_removed():
    a, b = shells(0, 0)
    for name in ("s", "t"):
        a.symlink(name, "target")
        a.link(name, f"{name}-2")
    b.hear(a)
    for name in ("s", "t"):
        a.remove(name)
        b.remove(f"{name}-2")
    exchange(a, b)
    one, other = sorted(shown_orphans(a, b))
    a.move(at(one), "found")
    b.remove(at(other))
    assert exchange(a, b) == {"found": "-> target"}
    assert shown_orphans(a, b) == {}


# -- what the kernel is told ---------------------------------------------------------------------------------


def test_the_kernel_is_told_that_a_file_has_another_mode_once_it_is_named_again():
    a, b = shells(0, 0)
    name = orphan_of(a, b)
    ino = a.stat(at(name)).ino
    a.replica.take_changes()
    a.move(at(name), "found")
    assert ino in a.replica.take_changes().inodes
