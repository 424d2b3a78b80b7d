"""Hidden extended attributes: who made a file, who wrote it, what it is in conflict with."""

from __future__ import annotations

import errno
import json
import os

import pytest

from tests.shell import Shell, exchange, shells
from translation.virtual import ELMER


def said(shell: Shell, path: str, what: str) -> str | None:
    """Return a hidden attribute, None where there is none."""
    try:
        return shell.fs.getxattr(shell.stat(path).ino, b"user.elmer." + what.encode()).decode()
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        return None


def in_conflict() -> tuple[Shell, Shell, str]:
    a, b = shells(0, 0)
    a.mkdir("d")
    b.hear(a)
    b.create("d/f")
    a.hear(b)
    a.write("d/f", "from A")
    b.write("d/f", "from B")
    (entry,) = (path for path in exchange(a, b) if ".conflict-" in path)
    return a, b, entry


def test_a_file_says_who_made_it_and_who_wrote_it():
    a, b, entry = in_conflict()
    a.symlink("s", "target")
    b.hear(a)
    for shell in (a, b):
        assert (said(shell, "d", "replica"), said(shell, "d", "writer")) == ("A", None)
        assert (said(shell, "s", "replica"), said(shell, "s", "writer")) == ("A", None)
        assert (said(shell, "d/f", "replica"), said(shell, "d/f", "writer")) == ("B", "B")
        assert (said(shell, entry, "replica"), said(shell, entry, "writer")) == ("A", "A")
    a.remove(entry)
    assert said(a, "d/f", "writer") == "B", "who chose it has not written it"


def test_a_conflict_entry_that_became_a_file_was_made_by_who_began_it():
    a, b, entry = in_conflict()
    b.move(entry, "kept")
    b.append("kept", ", more")
    exchange(a, b)
    assert (said(a, "kept", "replica"), said(a, "kept", "writer")) == ("A", "B")
    assert said(a, "kept", "conflict") is None


def test_a_conflict_entry_says_what_it_competes_with():
    a, b, entry = in_conflict()
    for shell in (a, b):
        (conflict,) = shell.fs.conflicts()
        told = json.loads(said(shell, entry, "conflict"))
        assert told == {"kind": "content", "replica": "A", "wall_ns": conflict.wall_ns, "bare": "d/f"}
        assert said(shell, "d/f", "conflict") is None


def test_other_files_and_directories_at_a_name_say_so_too():
    a, b = shells(0, 0)
    for shell in (a, b):
        shell.write("f", f"of {shell.replica.name}")
        shell.mkdir(shell.replica.name)
    exchange(a, b)
    a.move("A", "d")
    b.move("B", "d")
    shown = exchange(a, b)
    for entry in (path for path in shown if ".conflict-" in path):
        told = json.loads(said(b, entry, "conflict"))
        assert (told["kind"], told["replica"]) == ("name", "A")
        assert told["bare"] == entry.partition(".conflict-")[0]
    assert len([path for path in shown if ".conflict-" in path]) == 2


def test_an_inode_number_is_said_and_the_root_says_who_is_mounted():
    a, b, entry = in_conflict()
    for path in ("d", "d/f", entry):
        assert said(b, path, "ino") == str(a.stat(path).ino)
    for shell in (a, b):
        assert said(shell, "", "replica") == shell.replica.name
        assert shell.fs.getxattr(ELMER, b"user.elmer.replica").decode() == shell.replica.name
    assert said(a, ".elmer", "writer") is None
    assert said(a, "d/f", "nothing") is None


def test_they_are_not_listed_and_cannot_be_set():
    a, _, entry = in_conflict()
    for path in ("d", "d/f", entry):
        ino = a.stat(path).ino
        for what in ("replica", "writer", "conflict", "ino", "of-a-later-release"):
            name = b"user.elmer." + what.encode()
            for act in (lambda: a.fs.setxattr(ino, name, b"v"), lambda: a.fs.removexattr(ino, name)):  # noqa: B023
                with pytest.raises(PermissionError):
                    act()
        assert a.fs.listxattr(ino) == []
    a.fs.setxattr(a.stat("d/f").ino, b"user.elmer.merge", b"append")
    a.fs.setxattr(a.stat("d/f").ino, b"user.elmerald", b"v")
    assert set(a.fs.listxattr(a.stat("d/f").ino)) == {b"user.elmer.merge", b"user.elmerald"}


def test_what_an_older_release_stored_under_their_names_is_not_listed():
    a, b, _ = in_conflict()
    a.fs.attributes.setxattr(a.stat("d/f").ino, b"user.elmer.replica", b"stored")
    exchange(a, b)
    assert b.fs.listxattr(b.stat("d/f").ino) == []
    assert said(b, "d/f", "replica") == "B"


def test_an_orphan_says_who_made_it():
    a, b = shells(0, 0)
    a.write("f", "text")
    a.link("f", "g")
    b.hear(a)
    a.write("f", "from A")
    b.write("g", "from B")
    a.remove("f")
    b.remove("g")
    exchange(a, b)
    listed = [os.fsdecode(name) for name, _ in b.list(b.stat(".elmer/orphans").ino)]
    for path in (f".elmer/orphans/{name}" for name in listed):
        assert (said(b, path, "replica"), said(b, path, "conflict")) == ("A", None)
        assert said(b, path, "writer") == b.read(path).decode()[-1]
    assert len(listed) == 2
