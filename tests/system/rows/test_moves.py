"""Rows 4 to 6, 9 and 30 of docs/conflicts.md: what is renamed and moved on two or three sites."""

import errno
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from tests.shell import entry_of
from tests.system.rows.folder import Folder, make, move, write
from tests.system.sites import heal


def test_row_4_two_directories_moved_to_one_name_are_both_kept(folder: Folder):
    folder.share(lambda here: make(here, {"x/f": b"1", "y/g": b"2"}))
    move(folder.a / "x", folder.a / "z")
    move(folder.b / "y", folder.b / "z")
    shown = folder.shown()
    of_a = entry_of(shown, "z", "a")
    assert shown == {"z": "dir", "z/g": b"2", of_a: "dir", f"{of_a}/f": b"1"}
    assert folder.conflicts() == [(of_a, "name", "a")]


def test_row_5_a_file_renamed_twice_has_the_newest_name_and_one_link(folder: Folder):
    folder.share(lambda here: make(here, {"f": b"text"}))
    move(folder.a / "f", folder.a / "g")
    move(folder.b / "f", folder.b / "h")
    assert folder.apart() == [{"g": b"text"}, {"h": b"text"}, {"f": b"text"}]
    assert folder.shown() == {"h": b"text"}
    assert (folder.a / "h").stat().st_nlink == 1
    assert folder.records() == [("h", "rename", "a", "b")]


def test_row_5_the_newest_name_wins_on_the_other_side_too(folder: Folder):
    folder.share(lambda here: make(here, {"f": b"text"}))
    move(folder.b / "f", folder.b / "h")
    move(folder.a / "f", folder.a / "g")
    assert folder.shown() == {"g": b"text"}


def test_row_5_of_three_names_one_is_left_and_an_edit_by_another_is_in_it(folder: Folder):
    folder.share(lambda here: make(here, {"f": b"text", "elsewhere": None}))
    move(folder.a / "f", folder.a / "g")
    write(folder.a / "g", b"edited at a")
    move(folder.b / "f", folder.b / "h")
    move(folder.c / "f", folder.c / "elsewhere" / "f")
    assert folder.shown() == {"elsewhere": "dir", "elsewhere/f": b"edited at a"}


def test_row_6_a_directory_renamed_twice_is_there_once_with_all_its_content(folder: Folder):
    folder.share(lambda here: make(here, {"d/deep/f": b"text"}))
    move(folder.a / "d", folder.a / "e")
    write(folder.a / "e" / "added-at-a", b"1")
    move(folder.b / "d", folder.b / "g")
    write(folder.b / "g" / "added-at-b", b"2")
    assert folder.apart() == [
        {"e": "dir", "e/deep": "dir", "e/deep/f": b"text", "e/added-at-a": b"1"},
        {"g": "dir", "g/deep": "dir", "g/deep/f": b"text", "g/added-at-b": b"2"},
        {"d": "dir", "d/deep": "dir", "d/deep/f": b"text"},
    ]
    assert folder.shown() == {
        "g": "dir",
        "g/deep": "dir",
        "g/deep/f": b"text",
        "g/added-at-a": b"1",
        "g/added-at-b": b"2",
    }


# -- 9: moves that would make a cycle ------------------------------------------------------------------


def test_row_9_of_two_moves_into_each_other_the_first_takes_effect(folder: Folder):
    folder.share(lambda here: make(here, {"left/f": b"left", "right/f": b"right"}))
    move(folder.a / "left", folder.a / "right" / "left")
    move(folder.b / "right", folder.b / "left" / "right")
    right = {"right": "dir", "right/f": b"right"}
    left = {"left": "dir", "left/f": b"left"}
    assert folder.apart() == [
        {**right, "right/left": "dir", "right/left/f": b"left"},
        {**left, "left/right": "dir", "left/right/f": b"right"},
        {**left, **right},
    ]
    assert folder.shown() == {**right, "right/left": "dir", "right/left/f": b"left"}
    assert folder.records() == [("right", "move", "b", "a")]
    move(folder.c / "right" / "left", folder.c / "left")
    move(folder.c / "right", folder.c / "left" / "right")  # as b wanted it
    assert folder.shown() == {**left, "left/right": "dir", "left/right/f": b"right"}
    assert folder.records() == []


def test_row_9_a_cycle_of_three_is_broken_at_the_last_move(folder: Folder):
    folder.share(lambda here: make(here, dict.fromkeys("xyz")))
    move(folder.a / "x", folder.a / "y" / "x")
    move(folder.b / "y", folder.b / "z" / "y")
    move(folder.c / "z", folder.c / "x" / "z")
    assert folder.apart() == [
        {"y": "dir", "y/x": "dir", "z": "dir"},
        {"x": "dir", "z": "dir", "z/y": "dir"},
        {"x": "dir", "x/z": "dir", "y": "dir"},
    ]
    assert folder.shown() == {"z": "dir", "z/y": "dir", "z/y/x": "dir"}
    assert folder.records() == [("z", "move", "c", "b")]


def test_row_9_a_cycle_of_five_through_deep_directories_is_broken_at_the_last_move(folder: Folder):
    """Each goes below the next, two levels deep; sites take turns."""
    names = "vwxyz"
    folder.share(lambda here: make(here, {f"{name}/in/f": name.encode() for name in names}))
    sites = [folder.a, folder.b, folder.c, folder.a, folder.b]
    for here, name, below in zip(sites, names, "wxyzv", strict=True):
        move(here / name, here / below / "in" / name)
    path, expected = "", {}
    for name in reversed(names):
        path += name
        expected |= {path: "dir", f"{path}/in": "dir", f"{path}/in/f": name.encode()}
        path += "/in/"
    assert folder.shown() == expected
    assert folder.records() == [("z", "move", "b", "a")]


def test_row_9_two_cycles_at_once_with_one_directory_in_both(folder: Folder):
    """x goes into y, and z below it.  y goes into x, and into z: two ways round, both of them skipped."""
    folder.share(lambda here: make(here, dict.fromkeys("xyz")))
    move(folder.a / "x", folder.a / "y" / "x")
    move(folder.b / "y", folder.b / "x" / "y")
    move(folder.a / "z", folder.a / "y" / "x" / "z")
    move(folder.c / "y", folder.c / "z" / "y")
    assert folder.shown() == {"y": "dir", "y/x": "dir", "y/x/z": "dir"}
    assert folder.records() == [("y", "move", "b", "a"), ("y", "move", "c", "a")]


def test_row_9_what_is_put_into_a_directory_whose_move_is_skipped_stays_with_it(folder: Folder):
    folder.share(lambda here: make(here, {"x": None, "y": None}))
    move(folder.a / "x", folder.a / "y" / "x")
    move(folder.b / "y", folder.b / "x" / "y")
    write(folder.b / "x" / "y" / "f", b"through the new path")
    assert folder.shown() == {"y": "dir", "y/f": b"through the new path", "y/x": "dir"}


# -- 30 ------------------------------------------------------------------------------------------------


def test_row_30_writing_by_the_old_path_of_a_renamed_directory_is_no_conflict(folder: Folder):
    folder.share(lambda here: make(here, {"d/sub": None, "d/f": b"old"}))
    move(folder.a / "d", folder.a / "e")
    write(folder.b / "d" / "f", b"new")
    write(folder.b / "d" / "sub" / "g", b"added")
    assert folder.shown() == {"e": "dir", "e/f": b"new", "e/sub": "dir", "e/sub/g": b"added"}
    assert folder.conflicts() == []


# -- all of it, connected ------------------------------------------------------------------------------


def test_three_sites_do_everything_at_once_to_one_small_tree_and_converge(folder: Folder):
    """No row of the table: the sites run at the same time, not one after the other, connected."""
    folder.share()
    heal(*folder.sites)
    failures: list[BaseException] = []

    def work(here: Path, seed: int) -> None:
        try:
            for step in range(60):
                name = "xyz"[(step * 7 + seed) % 3]
                match (step + seed) % 4:
                    case 0:
                        attempt((here / name).mkdir)
                    case 1:
                        attempt(lambda name=name: (here / name / "f").write_bytes(b"%d" % seed))
                    case 2:
                        target = here / "yzx"[seed] / name
                        attempt(lambda name=name, to=target: (here / name).rename(to))
                    case _:
                        # What goes on meanwhile may be in its way, too.
                        subprocess.run(["rm", "-rf", here / name], check=False, capture_output=True)
        except BaseException as error:  # noqa: BLE001  raised below, in the thread of the test
            failures.append(error)

    workers = [
        threading.Thread(target=work, args=(here, seed))
        for seed, here in enumerate((folder.a, folder.b, folder.c))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures, failures
    folder.shown()


# What the other two sites did meanwhile may be in the way of anything, but only like this.
IN_THE_WAY = {
    errno.ENOENT,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EINVAL,
    errno.ESTALE,
}


def attempt(operation: Callable[[], object]) -> None:
    try:
        operation()
    except OSError as error:
        if error.errno not in IN_THE_WAY:
            raise
