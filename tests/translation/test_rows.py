"""Rows of docs/conflicts.md that need only one short history each, beside those of test_merge.py."""

from __future__ import annotations

import os
import stat

from tests.shell import Shell, exchange, shells


def sound(*peers: Shell) -> dict[str, str]:
    """Return what all show after they have met; their stores are in order."""
    shown = exchange(*peers)
    assert [shell.findings() for shell in peers] == [[]] * len(peers)
    return shown


def entry_of(shown: dict[str, str], name: str, replica: str) -> str:
    (entry,) = (path for path in shown if path.startswith(f"{name}.conflict-{replica}-") and "/" not in path)
    return entry


def test_row_4_both_directories_keep_their_content():
    a, b = shells(0, 0)
    for name in "xy":
        a.mkdir(name)
        a.write(f"{name}/of-{name}", name)
    b.hear(a)
    a.move("x", "z")
    b.move("y", "z")
    shown = sound(a, b)
    entry = entry_of(shown, "z", "A")
    assert shown == {"z": "dir", "z/of-y": "y", entry: "dir", f"{entry}/of-x": "x"}
    (found,) = b.fs.conflicts()
    assert (found.kind, found.replica, found.bare) == ("name", "A", b"z")


def test_row_9_a_skipped_move_is_settled_by_the_next_one():
    a, b = shells(0, 0)
    a.mkdir("x")
    a.mkdir("y")
    b.hear(a)
    a.move("x", "y/x")
    b.move("y", "x/y")
    sound(a, b)
    assert [found.kind for found in a.fs.conflicts()] == ["move"]
    a.move("y", "z")
    assert sound(a, b) == {"z": "dir", "z/x": "dir"}
    assert a.fs.conflicts() == b.fs.conflicts() == []


def test_row_15_a_write_that_was_allowed_stays_when_the_right_goes():
    a, b = shells(0, 0)
    a.create("f", 0o666)
    b.hear(a)
    a.chmod("f", 0o600)
    b.write("f", "from B")
    assert sound(a, b) == {"f": "from B"}
    assert stat.S_IMODE(b.stat("f").mode) == 0o600


def test_row_19_the_last_two_names_removed_at_once_are_both_gone_and_the_content_is_kept():
    a, b = shells(0, 0)
    a.write("f", "kept in the store")
    a.link("f", "g")
    b.hear(a)
    a.remove("f")
    b.remove("g")
    assert sound(a, b) == {}
    for shell in (a, b):
        assert any(b"kept in the store" in value for value in shell.store.rows.values())


def test_row_20_a_link_and_a_new_file_at_one_name_are_both_kept():
    a, b = shells(0, 0)
    a.write("x", "from A")
    b.hear(a)
    a.link("x", "g")
    b.write("g", "from B")
    shown = sound(a, b)
    entry = entry_of(shown, "g", "A")
    assert shown == {"x": "from A", "g": "from B", entry: "from A"}
    assert b.stat(entry).ino == b.stat("x").ino
    assert b.stat("x").nlink == 2


def test_row_22_writes_to_different_blocks_are_not_mixed():
    a, b = shells(0, 0)
    a.write("f", b"0" * 100_000)
    b.hear(a)
    for shell, offset in ((a, 0), (b, 90_000)):
        fh = shell.open_file("f", os.O_WRONLY)
        shell.world.tick()
        shell.fs.write(fh, offset, shell.replica.name.encode() * 10)
        shell.close(fh)
    shown = sound(a, b)
    of_a, of_b = "A" * 10 + "0" * 99_990, "0" * 90_000 + "B" * 10 + "0" * 9_990
    assert shown == {"f": of_b, entry_of(shown, "f", "A"): of_a}


def test_row_24_two_appends_are_both_kept_whole():
    a, b = shells(0, 0)
    a.write("log", "1\n")
    b.hear(a)
    a.append("log", "A\n")
    b.append("log", "B\n")
    shown = sound(a, b)
    assert shown == {"log": "1\nB\n", entry_of(shown, "log", "A"): "1\nA\n"}


def test_row_31_edits_inside_what_was_removed_long_ago_come_back_with_their_directories():
    a, b = shells(0, 0)
    a.mkdir("d")
    a.mkdir("d/e")
    a.write("d/e/f", "old")
    a.write("d/g", "old")
    b.hear(a)
    b.write("d/e/f", "edited")
    for path in ("d/e/f", "d/g"):
        a.remove(path)
    for path in ("d/e", "d"):
        a.rmdir(path)
    for number in range(300):
        a.write(f"later-{number % 3}", str(number))
    shown = sound(a, b)
    assert {path: shown[path] for path in shown if path.startswith("d")} == {
        "d": "dir",
        "d/e": "dir",
        "d/e/f": "edited",
    }


# -- names stay: what a program does changes no other name ---------------------------------------------


def conflict(path: str) -> tuple[Shell, Shell, str]:
    """A and B wrote to one file at once; return the name of the entry, which has A's content."""
    a, b = shells(0, 0)
    *above, _ = path.split("/")
    for directory in above:
        a.mkdir(directory)
    a.create(path)
    b.hear(a)
    a.write(path, "from A")
    b.write(path, "from B")
    (entry,) = (name for name in exchange(a, b) if name.startswith(f"{path}.conflict-"))
    return a, b, entry


def test_a_conflict_entry_keeps_its_name_when_the_file_is_removed():
    a, b, entry = conflict("f")
    a.remove("f")
    assert sound(a, b) == {entry: "from A"}
    b.write("f", "new")
    assert sound(a, b) == {"f": "new", entry: "from A"}


def test_a_conflict_entry_keeps_its_name_when_the_file_is_renamed_away():
    a, b, entry = conflict("f")
    a.move("f", "g")
    assert sound(a, b) == {"g": "from B", entry: "from A"}


def test_a_conflict_entry_stays_when_an_editor_saves_the_file():
    a, b, entry = conflict("f")
    number = b.stat(entry).ino
    a.write("f~", "saved")
    a.move("f~", "f")
    assert sound(a, b) == {"f": "saved", entry: "from A"}
    assert b.stat(entry).ino == number
    assert a.fs.conflicts() == []  # both are files of their own now


def test_a_file_keeps_its_conflict_name_when_the_directory_at_the_bare_name_goes():
    a, b = shells(0, 0)
    a.write("x", "from A")
    b.mkdir("x")
    entry = entry_of(sound(a, b), "x", "A")
    b.rmdir("x")
    assert sound(a, b) == {entry: "from A"}


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
            assert sound(a, b) == {"e": "dir", **kept}
