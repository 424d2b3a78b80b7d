"""`elmer resolve`: what is listed is settled by one command, on all sites."""

import pytest

from elmer.exits import ExitStatus
from tests.shell import entry_of
from tests.system.rows.folder import Folder, make, move, remove, run, write
from tests.system.sites import CommandFailedError, Site, elmer, heal


def record_of(site: Site, folder: Folder, kind: str) -> str:
    (record,) = [
        each for each in site.records() if each["kind"] == kind and each["path"].startswith(f"{folder.name}/")
    ]
    return record["id"]


def test_row_9_a_skipped_move_is_made_again_by_one_command(folder: Folder):
    folder.share(lambda here: make(here, {"x/f": b"1", "y/deep/g": b"2"}))
    move(folder.a / "x", folder.a / "y" / "deep" / "x")
    move(folder.b / "y", folder.b / "x" / "y")
    assert folder.shown() == {
        "y": "dir", "y/deep": "dir", "y/deep/g": b"2", "y/deep/x": "dir", "y/deep/x/f": b"1",
    }  # fmt: skip
    c, at = folder.sites[2], folder.name
    said = c.elmer("resolve", record_of(c, folder, "move"), "--redo")
    assert said == f"moved {at}/y/deep/x to {at}/x\nmoved {at}/y to {at}/x/y\n"
    assert folder.shown() == {
        "x": "dir", "x/f": b"1", "x/y": "dir", "x/y/deep": "dir", "x/y/deep/g": b"2",
    }  # fmt: skip
    assert folder.records() == []


def test_a_skipped_move_is_not_made_again_over_what_has_its_place_now(folder: Folder):
    folder.share(lambda here: make(here, {"x/f": b"1", "y/g": b"2"}))
    move(folder.a / "x", folder.a / "y" / "x")
    move(folder.b / "y", folder.b / "x" / "y")
    heal(*folder.sites)
    write(folder.a / "x", b"new")
    before = folder.shown()
    a, at = folder.sites[0], folder.name
    with pytest.raises(CommandFailedError, match=f"{at}/x is taken: rename it, or move {at}/y/x") as failed:
        a.elmer("resolve", record_of(a, folder, "move"), "--redo")
    assert failed.value.status == ExitStatus.NOT_SO
    assert folder.shown() == before


def test_row_5_the_name_that_was_beaten_is_given_again_by_one_command(folder: Folder):
    folder.share(lambda here: make(here, {"f": b"text", "d": None, "gone": b""}))
    move(folder.a / "f", folder.a / "d" / "of-a")
    move(folder.b / "f", folder.b / "of-b")
    remove(folder.a / "gone")
    write(folder.b / "gone", b"edited")
    heal(*folder.sites)
    b, at = folder.sites[1], folder.name
    with pytest.raises(CommandFailedError, match=f"is of no move: remove or change {at}/gone in the mount"):
        b.elmer("resolve", record_of(b, folder, "unlink"), "--redo")
    said = b.elmer("resolve", record_of(b, folder, "rename"), "--redo")
    assert said == f"moved {at}/of-b to {at}/d/of-a\n"
    assert folder.shown() == {"d": "dir", "d/of-a": b"text", "gone": b"edited"}


def competing(folder: Folder) -> list[str]:
    """Three contents of one file, the newest being that of c; return the entries of a and b."""
    folder.share(lambda here: make(here, {"f.txt": b"old"}))
    for here, name in zip(folder.on, "abc", strict=True):
        write(here / "f.txt", b"of %s" % name.encode())
    shown = folder.shown()
    return [entry_of(shown, "f.txt", name) for name in "ab"]


def test_a_conflict_entry_is_kept_and_the_others_are_gone(folder: Folder):
    of_a, of_b = competing(folder)
    at = folder.name
    assert elmer("resolve", folder.a / of_a, "--keep") == (
        f"{at}/f.txt is what was {at}/{of_a}\nremoved {at}/{of_b}\n"
    )
    assert folder.shown() == {"f.txt": b"of a"}
    assert folder.conflicts() == []


def test_what_a_file_shows_is_kept_and_the_entries_are_gone(folder: Folder):
    competing(folder)
    elmer("resolve", folder.b / "f.txt", "--keep")
    assert folder.shown() == {"f.txt": b"of c"}
    with pytest.raises(CommandFailedError, match=f"{folder.name}/f.txt is in no conflict"):
        elmer("resolve", folder.b / "f.txt", "--keep")


def test_a_symlink_that_is_a_conflict_entry_is_itself_kept(folder: Folder):
    folder.share(lambda here: make(here, {"elsewhere": b""}))
    run((folder.a / "s").symlink_to, "elsewhere")
    write(folder.b / "s", b"a file")
    shown = folder.shown()
    elmer("resolve", folder.c / entry_of(shown, "s", "a"), "--keep")
    assert folder.shown() == {"elsewhere": b"", "s": "-> elsewhere"}


def test_row_4_two_directories_of_one_name_are_merged_by_one_command(folder: Folder):
    both = {"same": b"same", "deep/same": b"same"}
    of_x = {**both, "differs": b"1", "deep/only-x": b"x", "tree/below/f": b"x"}
    of_y = {**both, "differs": b"2", "deep/only-y": b"y", "empty": None}
    folder.share(
        lambda here: make(
            here, {f"x/{k}": v for k, v in of_x.items()} | {f"y/{k}": v for k, v in of_y.items()}
        )
    )
    move(folder.a / "x", folder.a / "z")
    move(folder.b / "y", folder.b / "z")
    entry = entry_of(folder.shown(), "z", "a")
    at = folder.name
    with pytest.raises(CommandFailedError, match="is a directory, and is not removed for another"):
        elmer("resolve", folder.c / entry, "--keep")
    with pytest.raises(CommandFailedError) as failed:
        elmer("resolve", folder.c / entry, "--merge")
    assert failed.value.status == ExitStatus.NOT_SO
    merged = {
        "z": "dir", "z/same": b"same", "z/deep": "dir", "z/deep/same": b"same", "z/deep/only-x": b"x",
        "z/deep/only-y": b"y", "z/differs": b"2", "z/tree": "dir", "z/tree/below": "dir",
        "z/tree/below/f": b"x", "z/empty": "dir",
    }  # fmt: skip
    assert folder.shown() == merged | {entry: "dir", f"{entry}/differs": b"1"}
    move(folder.c / entry / "differs", folder.c / "z" / "differs-of-a")
    said = elmer("resolve", folder.c / entry, "--merge")
    assert said == f"moved 0 entries into {at}/z\n"
    assert folder.shown() == merged | {"z/differs-of-a": b"1"}
