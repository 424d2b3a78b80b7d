"""Rows 1 to 3, 20, 25, 27, 29, 32 of docs/conflicts.md: what two or three sites make at one name."""

import errno
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.shell import entry_of
from tests.system.rows.folder import Folder, append, later, make, move, remove, run, write
from tests.system.sites import cut


def test_row_1_files_created_at_one_name_are_all_kept_and_the_newest_is_bare(folder: Folder):
    folder.share()
    write(folder.a / "new.txt", b"from a")
    write(folder.b / "new.txt", b"from b")
    write(folder.c / "new.txt", b"from c")
    assert folder.apart() == [{"new.txt": b"from a"}, {"new.txt": b"from b"}, {"new.txt": b"from c"}]
    shown = folder.shown()
    of_a, of_b = entry_of(shown, "new.txt", "a"), entry_of(shown, "new.txt", "b")
    assert shown == {"new.txt": b"from c", of_a: b"from a", of_b: b"from b"}
    assert folder.conflicts() == sorted([(of_a, "name", "a"), (of_b, "name", "b")])


def test_row_1_conflict_entries_can_be_read_written_renamed_and_removed(folder: Folder):
    folder.share()
    write(folder.a / "new", b"from a")
    write(folder.b / "new", b"from b")
    write(folder.c / "new", b"from c")
    shown = folder.shown()
    of_a, of_b = entry_of(shown, "new", "a"), entry_of(shown, "new", "b")
    append(folder.c / of_a, b", and more at c")
    remove(folder.c / of_b)
    assert folder.shown() == {"new": b"from c", of_a: b"from a, and more at c"}
    move(folder.b / of_a, folder.b / "kept")
    assert folder.shown() == {"new": b"from c", "kept": b"from a, and more at c"}
    assert folder.conflicts() == []


def test_row_2_directories_made_at_one_name_are_one_with_the_contents_of_all(folder: Folder):
    folder.share()
    for here, name in ((folder.a, "of-a"), (folder.b, "of-b"), (folder.c, "of-c")):
        make(here, {f"photos/{name}": name.encode()})
    assert folder.apart() == [
        {"photos": "dir", f"photos/{name}": name.encode()} for name in ("of-a", "of-b", "of-c")
    ]
    assert folder.shown() == {
        "photos": "dir",
        "photos/of-a": b"of-a",
        "photos/of-b": b"of-b",
        "photos/of-c": b"of-c",
    }
    assert folder.conflicts() == []
    assert (folder.a / "photos").stat().st_ino == (folder.c / "photos").stat().st_ino


def test_row_2_a_file_with_one_name_in_both_directories_is_a_conflict_in_the_union(folder: Folder):
    folder.share()
    for here, content in ((folder.a, b"from a"), (folder.b, b"from b")):
        make(here, {"photos/index": content})
    shown = folder.shown()
    of_a = entry_of(shown, "photos/index", "a")
    assert shown == {"photos": "dir", "photos/index": b"from b", of_a: b"from a"}


def test_row_2_trees_made_at_one_name_are_one_tree_at_every_depth(folder: Folder):
    folder.share()
    for here, name in ((folder.a, "a"), (folder.b, "b")):
        make(here, {f"2026/07/trip/{name}": name.encode(), f"2026/{name}/x": b""})
    assert folder.shown() == {
        **dict.fromkeys(("2026", "2026/07", "2026/07/trip", "2026/a", "2026/b"), "dir"),
        "2026/07/trip/a": b"a",
        "2026/07/trip/b": b"b",
        "2026/a/x": b"",
        "2026/b/x": b"",
    }
    assert folder.conflicts() == []


def test_row_2_a_directory_that_a_third_site_made_meanwhile_joins_the_union(folder: Folder):
    folder.share()
    make(folder.a, {"photos/of-a": b"a"})
    make(folder.b, {"photos/of-b": b"b"})
    make(folder.c, {"photos/of-c": b"c"})
    move(folder.c / "photos", folder.c / "pics")
    make(folder.c, {"photos/late": b"c"})
    assert folder.shown() == {
        "photos": "dir",
        "photos/of-a": b"a",
        "photos/of-b": b"b",
        "photos/late": b"c",
        "pics": "dir",
        "pics/of-c": b"c",
    }


def test_row_2_a_union_is_removed_as_one_directory(folder: Folder):
    folder.share()
    for here, name in ((folder.a, "of-a"), (folder.b, "of-b")):
        make(here, {f"photos/{name}": b"x"})
    folder.shown()
    with pytest.raises(OSError, match=os.strerror(errno.ENOTEMPTY)):
        (folder.c / "photos").rmdir()
    shutil.rmtree(folder.c / "photos")
    assert folder.shown() == {}


def test_row_2_a_union_is_renamed_as_one_directory(folder: Folder):
    folder.share()
    for here, name in ((folder.a, "of-a"), (folder.b, "of-b")):
        make(here, {f"photos/{name}": b"x"})
    folder.shown()
    cut(*folder.sites)
    move(folder.c / "photos", folder.c / "pics")
    write(folder.a / "photos" / "new", b"by the old name")
    assert folder.shown() == {
        "pics": "dir",
        "pics/of-a": b"x",
        "pics/of-b": b"x",
        "pics/new": b"by the old name",
    }


def test_row_2_directories_of_different_users_are_both_kept(folder: Folder):
    folder.share(lambda here: here.chmod(0o777))
    for here, user in ((folder.a, 1001), (folder.b, 1002)):
        run(as_user, user, "mkdir", here / "d")
        write(here / "d" / "f", b"%d" % user)
    shown = folder.shown()
    of_a = entry_of(shown, "d", "a")
    assert shown == {"d": "dir", "d/f": b"1002", of_a: "dir", f"{of_a}/f": b"1001"}


def test_row_3_of_a_file_and_a_directory_the_directory_keeps_the_name(folder: Folder):
    folder.share()
    make(folder.b, {"thing/inside": b"in the directory"})
    write(folder.a / "thing", b"the file, newer")
    shown = folder.shown()
    of_a = entry_of(shown, "thing", "a")
    assert shown == {"thing": "dir", "thing/inside": b"in the directory", of_a: b"the file, newer"}
    assert folder.conflicts() == [(of_a, "name", "a")]


def test_row_20_a_link_and_a_file_made_at_one_name_are_both_kept(folder: Folder):
    folder.share(lambda here: make(here, {"x": b"old"}))
    run(os.link, folder.a / "x", folder.a / "g")
    write(folder.b / "g", b"from b")
    shown = folder.shown()
    of_a = entry_of(shown, "g", "a")
    assert shown == {"x": b"old", "g": b"from b", of_a: b"old"}
    assert (folder.c / of_a).samefile(folder.c / "x")
    assert (folder.c / "x").stat().st_nlink == 2


def test_row_25_symlinks_made_at_one_name_are_both_kept(folder: Folder):
    folder.share()
    run(os.symlink, "a", folder.a / "s")
    run(os.symlink, "b", folder.b / "s")
    shown = folder.shown()
    assert shown == {"s": "-> b", entry_of(shown, "s", "a"): "-> a"}


def test_row_27_special_files_made_at_one_name_are_all_kept(folder: Folder):
    folder.share()
    run(os.mkfifo, folder.a / "special")
    run(bind, folder.b, "special")
    shown = folder.shown()
    of_a = entry_of(shown, "special", "a")
    assert shown == {"special": "socket", of_a: "fifo"}


def test_row_29_both_get_an_exclusive_lock_file_and_it_is_a_conflict_afterwards(folder: Folder):
    folder.share()
    for here, owner in ((folder.a, b"held by a"), (folder.b, b"held by b")):
        descriptor = os.open(here / "lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        os.write(descriptor, owner)
        os.close(descriptor)
        later()
    shown = folder.shown()
    of_a = entry_of(shown, "lock", "a")
    assert shown == {"lock": b"held by b", of_a: b"held by a"}
    assert folder.records() == [(of_a, "excl", "a", "b")]
    with pytest.raises(FileExistsError):
        os.open(folder.c / "lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY)


def test_row_32_names_that_differ_in_case_or_in_unicode_form_are_two_files(folder: Folder):
    folder.share()
    write(folder.a / "Name", b"a")
    write(folder.b / "name", b"b")
    write(folder.a / "\u00e9", b"composed")
    write(folder.b / "e\u0301", b"decomposed")
    assert folder.shown() == {"Name": b"a", "name": b"b", "\u00e9": b"composed", "e\u0301": b"decomposed"}
    assert folder.conflicts() == []


def as_user(user: int, *command: str | Path) -> None:
    subprocess.run(command, user=user, group=user, check=True, timeout=60)


def bind(directory: Path, name: str) -> None:
    """Make a socket.  Its address is short: the directory is reached through a descriptor."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"/proc/self/fd/{descriptor}/{name}")
    os.close(descriptor)
