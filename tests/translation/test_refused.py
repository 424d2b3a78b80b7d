"""A refusal changes nothing: what a full disk or a check refused does not happen later, or in part."""

from __future__ import annotations

import pytest

from crdt.causality import Dot, ReplicaId, VersionVector, make_dot
from crdt.codec import CodecError
from crdt.encoding import encode_commit
from crdt.facts import (
    DERIVED,
    ROOT,
    Acknowledgement,
    Birth,
    Commit,
    Field,
    Ino,
    Kind,
    LinkId,
    Placement,
    RecordKind,
    Ref,
    Register,
    Version,
)
from crdt.hlc import next_time
from tests.shell import exchange, shells


@pytest.mark.parametrize("text", ["keep me", "keep me " * 5_000])
def test_a_truncate_that_a_full_disk_refuses_leaves_the_content(text):
    """No close comes after it.  `echo new > f` failed, and a moment later the old content was gone."""
    a, b = shells(0, 0)
    a.write("f", text)
    a.store.is_full = True
    with pytest.raises(OSError, match="No space left"):
        a.fs.setattr(a.stat("f").ino, size=0)
    assert a.shows == {"f": text}
    a.store.is_full = False
    a.fs.tick()
    assert exchange(a, b) == {"f": text}


def test_a_removal_is_heard_of_by_all_files_that_have_to_do_with_what_it_drops():
    """Saves and choices tie several files together; what is dropped in one ends what another shows.

    Only the nearest ones were looked at again, and a file showed that is not there by the facts.
    """
    a, b, c, d = peers = shells(50, 50, 0, 0)
    c.write("f", "from C")
    c.write("g", "replaced")
    b.write("f", "from B")
    (entry,) = exchange(*peers).keys() - {"f", "g"}
    b.move(entry, "f")
    b.append("f", ", more")
    d.remove(entry)
    a.remove("f")
    a.append(entry, ", other")
    shown = exchange(*peers)
    (other,) = (path for path in shown if path.startswith("f.conflict-B-"))
    b.move(other, "g")
    exchange(*peers)
    c.remove("g")
    assert sorted(exchange(*peers).values()) == ["from B", "from C, other"]


DOT = make_dot(ReplicaId(7), 1)
NEW = Ino(DOT)


def impossible(file: Ino, directory: Ino) -> dict[str, object]:
    """Facts that are well-formed, and that no replica makes."""
    first = Ref(file, file)
    content = (2, 1, bytes(32), b"", b"xy")
    return {
        "a file inside a file": Placement(directory, LinkId(directory), file, b"n"),
        "the root somewhere": Placement(ROOT, LinkId(ROOT), directory, b"n"),
        "a directory with two links": Placement(directory, LinkId(DOT), ROOT, b"n"),
        "a number that is not the commit's": Birth(Ino(DOT + 1), Kind.REGULAR, 0, 0, 0, 0),
        "a split with another number": Birth(Ino(DERIVED | 5), Kind.REGULAR, 0, 0, 0, 0, claims=first),
        "a split directory": Birth(Ino(DERIVED | 5), Kind.DIRECTORY, 0, 0, 0, 0, claims=first),
        "a directory that goes on from a file": Birth(NEW, Kind.DIRECTORY, 0, 0, 0, 0, lineage=first),
        "a file that goes on from a directory": Birth(
            NEW, Kind.REGULAR, 0, 0, 0, 0, lineage=Ref(directory, directory)
        ),
        "a file that goes on from what is unknown": Birth(
            NEW, Kind.REGULAR, 0, 0, 0, 0, lineage=Ref(file, DOT + 3)
        ),
        "a directory that is created with O_EXCL": Birth(NEW, Kind.DIRECTORY, 0, 0, 0, 0, exclusive=True),
        "a file that goes on from itself": Birth(NEW, Kind.REGULAR, 0, 0, 0, 0, lineage=Ref(NEW, NEW)),
        "a directory's content": Version(directory, DOT, (Ref(directory, directory),), *content),
        "a version of nothing": Version(file, DOT, (), *content),
        "an unknown parent": Version(file, DOT, (Ref(file, DOT + 3),), *content),
        "a version with a file's number": Version(file, file, (first,), *content),
        "too many permission bits": Register(file, Field.MODE, 0o10000, ()),
        "a negative owner": Register(file, Field.UID, -1, ()),
        "an unknown inode": Register(NEW, Field.UID, 1, ()),
        "a record of an unknown inode": Acknowledgement(NEW, RecordKind.MOVE, Dot(file)),
        "a record of a stranger's commit": Acknowledgement(file, RecordKind.MOVE, DOT),
    }


@pytest.mark.parametrize("what", impossible(Ino(3), Ino(4)))
def test_what_no_replica_makes_is_refused_and_changes_nothing(what):
    a, b = shells(0, 0)
    a.write("f", "text")
    a.mkdir("d")
    before = exchange(a, b)
    fact = impossible(Ino(a.stat("f").ino), Ino(a.stat("d").ino))[what]
    commit = Commit(DOT, next_time(b.replica.latest_hlc, b.now_ns()), b.now_ns(), (fact,))
    rows = dict(b.store.rows)
    with pytest.raises(CodecError, match="does not fit"):
        b.replica.receive([encode_commit(commit)], VersionVector({ReplicaId(7): 1}), b"p" * 16, 1)
    assert b.store.rows == rows
    assert exchange(a, b) == before
