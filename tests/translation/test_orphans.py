"""Row 19: files whose names were removed one by one on different replicas, by nobody who meant the last."""

from __future__ import annotations

import stat

from crdt.facts import Ino
from crdt.orphans import orphan_name, possible_inos
from crdt.visible import orphan_key
from tests.shell import Shell, exchange, shells
from tests.walk import orphans

BLOCKS = b"".join(b"%07d\n" % number for number in range(20_000))  # no two blocks are equal


def shown_orphans(*peers: Shell) -> dict[str, str]:
    """Return the contents of the orphans by name, which must be the same on all replicas."""
    found = [{n.decode(): f.content.decode() for n, f in orphans(peer.fs).items()} for peer in peers]
    assert all(one == found[0] for one in found), found
    return found[0]


def without_names(a: Shell, b: Shell, content: str | bytes = "text") -> int:
    """Have a file that A removed under one name and B under the other, last; return its number."""
    a.write("f.txt", content)
    a.link("f.txt", "g.txt")
    b.hear(a)
    ino = a.stat("f.txt").ino
    a.remove("f.txt")
    b.remove("g.txt")
    assert exchange(a, b) == {}
    return ino


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
