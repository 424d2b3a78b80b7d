"""What a person or a program does with a conflict, what names do meanwhile, and how it all travels."""

from __future__ import annotations

import itertools
import os
import stat

import pytest

from tests.shell import conflict, exchange, shells

# -- settling -----------------------------------------------------------------------------------------


def test_a_losing_branch_that_grows_does_not_flip_the_file():
    a, b, entry = conflict()
    a.write(entry, "much later")
    assert exchange(a, b) == {"f": "from B", entry: "much later"}


def test_a_write_to_a_conflict_entry_extends_its_branch_on_both():
    a, b, entry = conflict()
    b.write(entry, "edited by B")
    assert exchange(a, b) == {"f": "from B", entry: "edited by B"}


def test_removing_a_conflict_entry_settles_it():
    a, b, entry = conflict()
    a.remove(entry)
    assert exchange(a, b) == {"f": "from B"}
    b.write("f", "later")
    assert exchange(a, b) == {"f": "later"}


def test_renaming_the_entry_over_the_file_chooses_the_entry():
    a, b, entry = conflict()
    a.move(entry, "f")
    assert exchange(a, b) == {"f": "from A"}


def test_renaming_the_entry_away_makes_it_a_file_of_its_own():
    a, b, entry = conflict()
    number = b.stat(entry).ino
    b.move(entry, "mine")
    assert exchange(a, b) == {"f": "from B", "mine": "from A"}
    assert a.stat("mine").ino == number
    a.write("mine", "edited")
    assert exchange(a, b) == {"f": "from B", "mine": "edited"}


def test_a_chmod_of_the_entry_makes_it_a_file_of_its_own_at_its_name():
    a, b, entry = conflict()
    b.chmod(entry, 0o600)
    assert exchange(a, b) == {"f": "from B", entry: "from A"}
    assert stat.S_IMODE(a.stat(entry).mode) == 0o600
    assert stat.S_IMODE(a.stat("f").mode) == 0o644


def test_both_make_the_entry_a_file_and_it_is_one():
    a, b, entry = conflict()
    a.chmod(entry, 0o640)
    b.chmod(entry, 0o604)
    assert exchange(a, b) == {"f": "from B", entry: "from A"}
    assert stat.S_IMODE(a.stat(entry).mode) == 0o600


def test_forks_of_large_files_share_what_they_share():
    """Each branch has its own block map: the later fork is taken back from the map of the other."""
    a, b, c = peers = shells(0, 0, 0)
    size = 300_000
    original = bytes(range(256)) * (size // 256)
    a.write("f", original)
    b.hear(a)
    c.hear(a)
    for shell, at in zip(peers, (0, 100_000, 200_000), strict=True):
        for step in range(3):
            fh = shell.open_file("f")
            shell.world.tick()
            shell.fs.write(fh, at + step * 40_000, shell.replica.name.encode() * 10)
            shell.close(fh)
    for shell, other in itertools.permutations(peers, 2):
        shell.hear(other)
    for shell in peers:
        shell.hear(*(other for other in peers if other is not shell))
    expected = set()
    for name, at in zip(b"ABC", (0, 100_000, 200_000), strict=True):
        content = bytearray(original)
        for step in range(3):
            start = at + step * 40_000
            content[start : start + 10] = bytes([name]) * 10
        expected.add(bytes(content))
    for shell in peers:
        assert {shell.read(os.fsdecode(name)) for name, _ in shell.list()} == expected
        assert shell.findings() == []


# -- names stay: what a program does changes no other name --------------------------------------------


def test_a_conflict_entry_keeps_its_name_when_the_file_is_removed():
    a, b, entry = conflict()
    a.remove("f")
    assert exchange(a, b) == {entry: "from A"}
    b.write("f", "new")
    assert exchange(a, b) == {"f": "new", entry: "from A"}


def test_a_conflict_entry_keeps_its_name_when_the_file_is_renamed_away():
    a, b, entry = conflict()
    a.move("f", "g")
    assert exchange(a, b) == {"g": "from B", entry: "from A"}


def test_a_conflict_entry_stays_when_an_editor_saves_the_file():
    a, b, entry = conflict()
    number = b.stat(entry).ino
    a.write("f~", "saved")
    a.move("f~", "f")
    assert exchange(a, b) == {"f": "saved", entry: "from A"}
    assert b.stat(entry).ino == number
    assert a.fs.conflicts() == []  # both are files of their own now


def test_all_names_that_were_listed_can_be_removed_or_moved_in_any_order():
    """As `rm -r d` and `mv d/* e/` do."""
    for order in (False, True):
        for act in ("rm", "mv"):
            a, b, entry = conflict("d/f")
            a.mkdir("e")
            for path in sorted(["d/f", entry], reverse=order):
                if act == "rm":
                    a.remove(path)
                else:
                    a.move(path, path.replace("d/", "e/"))
            a.rmdir("d")
            kept = {} if act == "rm" else {"e/f": "from B", entry.replace("d/", "e/"): "from A"}
            assert exchange(a, b) == {"e": "dir", **kept}


def test_a_conflict_name_stays_within_255_bytes():
    a, b = shells(0, 0)
    long = "n" * 251 + ".txt"
    a.write(long, "from A")
    b.write(long, "from B")
    shown = exchange(a, b)
    (entry,) = (path for path in shown if path != long)
    assert len(entry) == 255
    assert entry.endswith(".txt")
    assert a.read(entry) == b"from A"


def test_a_conflict_name_that_is_taken_gets_a_number():
    a, b = shells(0, 0)
    a.write("f", "from A")
    b.write("f", "from B")
    (entry,) = (path for path in exchange(a, b) if path != "f")
    c, d = shells(0, 0)
    c.write("f", "from A")
    d.write("f", "from B")
    d.write(entry, "a file of that name")
    shown = exchange(c, d)
    assert shown == {"f": "from B", entry: "a file of that name", entry + "-2": "from A"}


# -- delivery -----------------------------------------------------------------------------------------


def test_what_went_through_a_third_replica_is_whole():
    a, b, c = shells(0, 0, 0)
    a.mkdir("d")
    a.write("d/f", "text" * 20_000)
    b.hear(a)
    b.write("d/g", "from B")
    c.hear(b)
    assert c.shows == b.shows
    a.move("d", "e")
    b.hear(a)
    c.hear(b)
    assert set(c.shows) == {"e", "e/f", "e/g"}


def test_a_file_shows_what_it_had_until_its_new_content_is_here():
    a, b = shells(0, 0)
    old, new = b"o" * 100_000, b"n" * 90_000
    a.write("f", old)
    b.hear(a)
    a.write("f", new)
    b.hear(a, blocks=False)
    assert b.read("f") == old
    assert b.stat("f").size == len(old)
    b.replica.take_changes()
    b.fetch(a)
    assert b.read("f") == new
    assert b.replica.take_changes().inodes[b.stat("f").ino]


def test_a_new_file_shows_its_size_and_reading_waits():
    a, b = shells(0, 0)
    a.write("f", b"x" * 100_000)
    b.hear(a, blocks=False)
    assert b.stat("f").size == 100_000
    with pytest.raises(OSError, match="Input/output"):
        b.read("f")
    b.fetch(a)
    assert b.read("f") == b"x" * 100_000


def test_what_a_program_wrote_over_unseen_content_is_a_branch():
    """B writes into what it sees, while the blocks of A's version are on their way: both are kept."""
    a, b = shells(0, 0)
    a.write("f", b"o" * 100_000)
    b.hear(a)
    a.write("f", b"n" * 90_000)
    b.hear(a, blocks=False)
    fh = b.open_file("f")
    b.fs.write(fh, 0, b"B")
    b.close(fh)
    exchange(a, b)
    contents = {a.read(os.fsdecode(name)) for name, _ in a.list()}
    assert contents == {b"n" * 90_000, b"B" + b"o" * 99_999}


def test_a_merge_while_a_file_is_open_for_writing_makes_a_fork():
    a, b = shells(0, 0)
    a.write("f", "old")
    b.hear(a)
    fh = b.open_file("f")
    a.write("f", "from A")
    b.hear(a)
    assert b.fs.read(fh, 0, 10) == b"old"
    b.fs.write(fh, 0, b"NEW")
    b.close(fh)
    assert sorted(exchange(a, b).values()) == ["NEW", "from A"]


def test_a_crash_leaves_what_was_synced():
    a, b = shells(0, 0)
    a.write("f", "synced")
    a.replica.sync()
    a.write("f", "lost")
    a.store = a.store.crashed()
    a.open()
    assert a.shows == {"f": "synced"}
    a.write("g", "after")
    assert exchange(a, b) == {"f": "synced", "g": "after"}


def test_fsck_finds_facts_whose_commit_never_came():
    """As a batch that was torn leaves them: the next commit would have the same number."""
    a, _ = shells(0, 0)
    a.create("f")
    a.write("f", "text")
    a.chmod("f", 0o600)
    (key, _), *_ = a.store.scan(b"A", b"B", reverse=True)
    a.store.commit({key: None})
    (finding,) = a.findings()
    assert finding.problem.startswith("it has facts of commits that never came")
