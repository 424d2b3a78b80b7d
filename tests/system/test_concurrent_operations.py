"""Rows of the table of concurrent operations (docs/conflicts.md), through real mounts.

Each test works in a directory of its own on three sites that are cut off from each other, and then
looks at what all of them show after they met.  `later` separates two operations by the clock, so
that it is known which one is the newest.
"""

import errno
import os
import re
import shutil
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.sites import Site, cut, heal, meet
from tests.system.trees import assert_equal, look
from tests.system.waiting import until

CROCKFORD = "0-9a-hjkmnp-tv-z"
Shown = dict[str, bytes | str]


class Folder:
    """One directory as three sites see it."""

    def __init__(self, sites: list[Site], name: str) -> None:
        self.sites = sites
        self.name = name
        self.a, self.b, self.c = (site / name for site in sites)

    def share(self, prepare: Callable[[Path], object] = lambda folder: None) -> None:
        """Make the folder, with what `prepare` puts into it, everywhere; then cut all off."""
        self.a.mkdir()
        prepare(self.a)
        meet(*self.sites)
        cut(*self.sites)

    def shown(self) -> Shown:
        """Heal, and return what all sites show in the folder: path -> content or kind."""
        heal(*self.sites)
        trees = [look(site.mountpoint) for site in self.sites]
        for other in trees[1:]:
            assert_equal(trees[0], other)
        return show(self.a)

    def conflicts(self) -> list[tuple[str, str, str]]:
        """Return (path in the folder, kind, replica) of what `elmer conflicts` lists of it."""
        listed = [
            (conflict["path"].strip("/"), conflict["kind"], conflict["replica"])
            for conflict in self.sites[1].conflicts()
        ]
        start = f"{self.name}/"
        return sorted(
            (path.removeprefix(start), kind, replica)
            for path, kind, replica in listed
            if path.startswith(start)
        )


def show(root: Path) -> Shown:
    shown: Shown = {}
    for directory, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(directory, name)
            shown[str(path.relative_to(root))] = show_one(path)
    return shown


def show_one(path: Path) -> bytes | str:
    mode = path.lstat().st_mode
    if stat.S_ISREG(mode):
        return path.read_bytes()
    if stat.S_ISLNK(mode):
        return f"-> {path.readlink()}"
    kinds = {stat.S_IFDIR: "dir", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket"}
    return kinds[stat.S_IFMT(mode)]


def entry_of(shown: Shown, name: str, replica: str) -> str:
    """Return the one conflict entry of `name` by `replica`: `stem.conflict-REPLICA-ID.ext`."""
    stem, extension = os.path.splitext(name)
    pattern = rf"{re.escape(stem)}\.conflict-{replica}-[{CROCKFORD}]+{re.escape(extension)}"
    found = [path for path in shown if re.fullmatch(pattern, path)]
    assert len(found) == 1, f"conflict entries of {name} by {replica} in {sorted(shown)}: {found}"
    return found[0]


def later() -> None:
    """Return when what is done next has a later stamp, which counts in milliseconds."""
    now_ns = time.time_ns()
    until(lambda: time.time_ns() > now_ns + 2_000_000, "the clock goes on", poll_s=0.001)


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    later()


def save_by_rename(path: Path, content: bytes) -> None:
    """Save as editors do: a new file takes the place of the old one."""
    new = path.with_name(f".{path.name}.new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    later()


def run(operation: Callable[..., object], *arguments: object) -> None:
    operation(*arguments)
    later()


@pytest.fixture
def folder(shared_triple: list[Site], request: pytest.FixtureRequest) -> Iterator[Folder]:
    yield Folder(shared_triple, request.node.name)
    heal(*shared_triple)


# -- 1, 2, 3: one new name -----------------------------------------------------------------------


def test_row_1_files_created_at_one_name_are_all_kept_and_the_newest_is_bare(folder: Folder):
    folder.share()
    write(folder.a / "new.txt", b"from a")
    write(folder.b / "new.txt", b"from b")
    write(folder.c / "new.txt", b"from c")
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
    with (folder.c / of_a).open("ab") as file:
        file.write(b", and more at c")
    (folder.c / of_b).unlink()
    assert folder.shown() == {"new": b"from c", of_a: b"from a, and more at c"}
    (folder.b / of_a).rename(folder.b / "kept")
    assert folder.shown() == {"new": b"from c", "kept": b"from a, and more at c"}
    assert folder.conflicts() == []


def test_row_2_directories_made_at_one_name_are_one_with_the_contents_of_all(folder: Folder):
    folder.share()
    for here, name in ((folder.a, "of-a"), (folder.b, "of-b"), (folder.c, "of-c")):
        (here / "photos").mkdir()
        write(here / "photos" / name, name.encode())
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
        (here / "photos").mkdir()
        write(here / "photos" / "index", content)
    shown = folder.shown()
    of_a = entry_of(shown, "photos/index", "a")
    assert shown == {"photos": "dir", "photos/index": b"from b", of_a: b"from a"}


def test_row_2_a_union_is_removed_as_one_directory(folder: Folder):
    folder.share()
    for here, name in ((folder.a, "of-a"), (folder.b, "of-b")):
        (here / "photos").mkdir()
        write(here / "photos" / name, b"x")
    folder.shown()
    with pytest.raises(OSError, match=os.strerror(errno.ENOTEMPTY)):
        (folder.c / "photos").rmdir()
    shutil.rmtree(folder.c / "photos")
    assert folder.shown() == {}


def test_row_3_of_a_file_and_a_directory_the_directory_keeps_the_name(folder: Folder):
    folder.share()
    (folder.b / "thing").mkdir()
    write(folder.b / "thing" / "inside", b"in the directory")
    write(folder.a / "thing", b"the file, newer")
    shown = folder.shown()
    of_a = entry_of(shown, "thing", "a")
    assert shown == {"thing": "dir", "thing/inside": b"in the directory", of_a: b"the file, newer"}
    assert folder.conflicts() == [(of_a, "name", "a")]


# -- 5, 6: one thing renamed twice ---------------------------------------------------------------


def test_row_5_a_file_renamed_twice_has_the_newest_name_and_one_link(folder: Folder):
    folder.share(lambda here: write(here / "f", b"text"))
    run(os.rename, folder.a / "f", folder.a / "g")
    run(os.rename, folder.b / "f", folder.b / "h")
    assert folder.shown() == {"h": b"text"}
    assert (folder.a / "h").stat().st_nlink == 1


def test_row_5_the_newest_name_wins_on_the_other_side_too(folder: Folder):
    folder.share(lambda here: write(here / "f", b"text"))
    run(os.rename, folder.b / "f", folder.b / "h")
    run(os.rename, folder.a / "f", folder.a / "g")
    assert folder.shown() == {"g": b"text"}


def test_row_6_a_directory_renamed_twice_is_there_once_with_all_its_content(folder: Folder):
    def prepare(here: Path) -> None:
        (here / "d" / "deep").mkdir(parents=True)
        write(here / "d" / "deep" / "f", b"text")

    folder.share(prepare)
    run(os.rename, folder.a / "d", folder.a / "e")
    write(folder.a / "e" / "added-at-a", b"1")
    run(os.rename, folder.b / "d", folder.b / "g")
    write(folder.b / "g" / "added-at-b", b"2")
    assert folder.shown() == {
        "g": "dir",
        "g/deep": "dir",
        "g/deep/f": b"text",
        "g/added-at-a": b"1",
        "g/added-at-b": b"2",
    }


# -- 7, 8: saved by rename -----------------------------------------------------------------------


def test_row_7_saving_by_rename_on_both_sides_is_a_content_conflict(folder: Folder):
    folder.share(lambda here: write(here / "t.txt", b"old"))
    save_by_rename(folder.a / "t.txt", b"saved at a")
    save_by_rename(folder.b / "t.txt", b"saved at b")
    shown = folder.shown()
    of_a = entry_of(shown, "t.txt", "a")
    assert shown == {"t.txt": b"saved at b", of_a: b"saved at a"}
    assert [replica for _, _, replica in folder.conflicts()] == ["a"]


def test_row_8_saving_by_rename_and_writing_into_the_file_keep_both_contents(folder: Folder):
    folder.share(lambda here: write(here / "t.txt", b"old"))
    save_by_rename(folder.a / "t.txt", b"saved at a")
    write(folder.b / "t.txt", b"written at b")
    shown = folder.shown()
    assert sorted(shown.values()) == [b"saved at a", b"written at b"]
    of_other = entry_of(shown, "t.txt", "a" if shown["t.txt"] == b"written at b" else "b")
    assert set(shown) == {"t.txt", of_other}


# -- 9: moves that would make a cycle ------------------------------------------------------------


def test_row_9_of_two_moves_into_each_other_the_first_takes_effect(folder: Folder):
    def prepare(here: Path) -> None:
        for name in ("left", "right"):
            (here / name).mkdir()
            write(here / name / "f", name.encode())

    folder.share(prepare)
    run(os.rename, folder.a / "left", folder.a / "right" / "left")
    run(os.rename, folder.b / "right", folder.b / "left" / "right")
    assert folder.shown() == {
        "right": "dir",
        "right/f": b"right",
        "right/left": "dir",
        "right/left/f": b"left",
    }
    assert [(kind, replica) for _, kind, replica in folder.conflicts()] == [("move", "b")]


def test_row_9_a_cycle_of_three_is_broken_at_the_last_move(folder: Folder):
    folder.share(lambda here: [(here / name).mkdir() for name in "xyz"])
    run(os.rename, folder.a / "x", folder.a / "y" / "x")
    run(os.rename, folder.b / "y", folder.b / "z" / "y")
    run(os.rename, folder.c / "z", folder.c / "x" / "z")
    assert folder.shown() == {"z": "dir", "z/y": "dir", "z/y/x": "dir"}
    assert [(kind, replica) for _, kind, replica in folder.conflicts()] == [("move", "c")]


# -- 10 to 13, 16 to 18: removed here, used there -------------------------------------------------


def test_row_10_a_removed_directory_stays_if_something_was_created_in_it(folder: Folder):
    folder.share(lambda here: (here / "d").mkdir())
    run(os.rmdir, folder.a / "d")
    write(folder.b / "d" / "f", b"text")
    assert folder.shown() == {"d": "dir", "d/f": b"text"}


def test_row_10_a_removed_directory_stays_if_something_was_moved_into_it(folder: Folder):
    def prepare(here: Path) -> None:
        (here / "d").mkdir()
        write(here / "f", b"text")

    folder.share(prepare)
    run(os.rename, folder.b / "f", folder.b / "d" / "f")
    run(os.rmdir, folder.a / "d")
    assert folder.shown() == {"d": "dir", "d/f": b"text"}


def test_row_11_a_tree_that_was_moved_survives_its_removal_without_what_was_removed(
    folder: Folder,
):
    def prepare(here: Path) -> None:
        (here / "d").mkdir()
        write(here / "d" / "f", b"text")
        write(here / "d" / "edited", b"old")

    folder.share(prepare)
    run(shutil.rmtree, folder.a / "d")
    run(os.rename, folder.b / "d", folder.b / "e")
    write(folder.b / "e" / "edited", b"new")
    assert folder.shown() == {"e": "dir", "e/edited": b"new"}


def test_row_12_what_was_moved_out_of_a_removed_tree_survives_where_it_went(folder: Folder):
    def prepare(here: Path) -> None:
        (here / "d" / "sub").mkdir(parents=True)
        write(here / "d" / "x", b"text")
        write(here / "d" / "sub" / "y", b"removed")

    folder.share(prepare)
    run(os.rename, folder.b / "d" / "x", folder.b / "out")
    run(shutil.rmtree, folder.a / "d")
    assert folder.shown() == {"out": b"text"}


@pytest.mark.parametrize("first", ["removal", "edit"])
def test_row_13_an_edit_beats_a_removal_that_has_not_seen_it(folder: Folder, first: str):
    folder.share(lambda here: write(here / "f", b"old"))
    if first == "removal":
        run(os.unlink, folder.a / "f")
        write(folder.b / "f", b"edited")
    else:
        write(folder.b / "f", b"edited")
        run(os.unlink, folder.a / "f")
    assert folder.shown() == {"f": b"edited"}
    run(os.unlink, folder.a / "f")  # which has seen it
    assert folder.shown() == {}


@pytest.mark.parametrize("change", ["chmod", "utime"])
def test_row_16_a_removal_beats_a_change_of_attributes(folder: Folder, change: str):
    folder.share(lambda here: write(here / "f", b"text"))
    run(os.unlink, folder.a / "f")
    if change == "chmod":
        run(os.chmod, folder.b / "f", 0o600)
    else:
        run(os.utime, folder.b / "f", (1, 1))
    assert folder.shown() == {}


@pytest.mark.parametrize("first", ["removal", "rename"])
def test_row_17_a_renamed_file_survives_its_removal(folder: Folder, first: str):
    folder.share(lambda here: write(here / "f", b"text"))
    if first == "removal":
        run(os.unlink, folder.a / "f")
        run(os.rename, folder.b / "f", folder.b / "g")
    else:
        run(os.rename, folder.b / "f", folder.b / "g")
        run(os.unlink, folder.a / "f")
    assert folder.shown() == {"g": b"text"}


def test_row_18_a_linked_file_survives_under_its_new_name_with_one_link(folder: Folder):
    folder.share(lambda here: write(here / "f", b"text"))
    run(os.link, folder.b / "f", folder.b / "g")
    run(os.unlink, folder.a / "f")
    assert folder.shown() == {"g": b"text"}
    assert (folder.c / "g").stat().st_nlink == 1


# -- 14: attributes ------------------------------------------------------------------------------


def test_row_14_concurrent_chmods_show_the_bits_that_all_of_them_leave(folder: Folder):
    def prepare(here: Path) -> None:
        write(here / "f", b"text")
        (here / "f").chmod(0o666)

    folder.share(prepare)
    run(os.chmod, folder.a / "f", 0o640)
    run(os.chmod, folder.b / "f", 0o606)
    folder.shown()
    assert stat.S_IMODE((folder.c / "f").stat().st_mode) == 0o600


def test_row_14_of_concurrent_chowns_the_last_one_holds_and_setuid_is_cleared(folder: Folder):
    def prepare(here: Path) -> None:
        write(here / "f", b"text")
        (here / "f").chmod(0o755)

    folder.share(prepare)
    run(os.chmod, folder.a / "f", 0o4755)
    run(os.chown, folder.b / "f", 1001, 1002)
    run(os.chown, folder.c / "f", 2001, 2002)
    folder.shown()
    status = (folder.a / "f").stat()
    assert (status.st_uid, status.st_gid) == (2001, 2002)
    assert stat.S_IMODE(status.st_mode) == 0o755


# -- 21, 23: written twice -----------------------------------------------------------------------


def test_row_21_of_two_writes_both_are_kept_whole_and_the_newest_is_bare(folder: Folder):
    old = os.urandom(100_000)
    folder.share(lambda here: write(here / "data.bin", old))
    ours, theirs = b"A" * 100_000, b"B" * 100_000
    write(folder.a / "data.bin", ours)
    write(folder.b / "data.bin", theirs)
    shown = folder.shown()
    of_a = entry_of(shown, "data.bin", "a")
    assert shown == {"data.bin": theirs, of_a: ours}
    assert folder.conflicts() == [(of_a, "content", "a")]


def test_row_21_later_edits_of_the_losing_branch_change_its_entry_only(folder: Folder):
    folder.share(lambda here: write(here / "f", b"old"))
    write(folder.a / "f", b"from a")
    write(folder.b / "f", b"from b")
    shown = folder.shown()
    of_a = entry_of(shown, "f", "a")
    inode = (folder.a / of_a).stat().st_ino
    cut(*folder.sites)
    write(folder.c / of_a, b"from a, edited at c")
    assert folder.shown() == {"f": b"from b", of_a: b"from a, edited at c"}
    assert (folder.b / of_a).stat().st_ino == inode


def test_row_21_removing_the_entry_settles_the_conflict_everywhere(folder: Folder):
    folder.share(lambda here: write(here / "f", b"old"))
    write(folder.a / "f", b"from a")
    write(folder.b / "f", b"from b")
    of_a = entry_of(folder.shown(), "f", "a")
    cut(*folder.sites)
    run(os.unlink, folder.b / of_a)
    run(os.unlink, folder.c / of_a)  # chosen alike on two sites: no new conflict
    assert folder.shown() == {"f": b"from b"}
    assert folder.conflicts() == []


def test_row_21_renaming_the_entry_over_the_file_chooses_the_entry(folder: Folder):
    folder.share(lambda here: write(here / "f", b"old"))
    write(folder.a / "f", b"from a")
    write(folder.b / "f", b"from b")
    of_a = entry_of(folder.shown(), "f", "a")
    run(os.rename, folder.c / of_a, folder.c / "f")
    assert folder.shown() == {"f": b"from a"}
    assert folder.conflicts() == []


def test_row_23_a_truncation_and_a_write_never_make_a_size_that_no_writer_made(folder: Folder):
    old = os.urandom(70_000)
    folder.share(lambda here: write(here / "f", old))
    run(os.truncate, folder.a / "f", 10_000)
    with (folder.b / "f").open("r+b") as file:
        file.seek(69_000)
        file.write(b"b" * 500)
    later()
    shown = folder.shown()
    of_a = entry_of(shown, "f", "a")
    assert shown == {"f": old[:69_000] + b"b" * 500 + old[69_500:], of_a: old[:10_000]}


# -- 27, 28, 29, 30 ------------------------------------------------------------------------------


def test_row_27_special_files_made_at_one_name_are_all_kept(folder: Folder):
    folder.share()
    run(os.mkfifo, folder.a / "special")
    with socket.socket(socket.AF_UNIX) as bound:
        # A socket's address is short; the folder's is reached through its descriptor.
        descriptor = os.open(folder.b, os.O_PATH | os.O_DIRECTORY)
        bound.bind(f"/proc/self/fd/{descriptor}/special")
        os.close(descriptor)
    later()
    shown = folder.shown()
    of_a = entry_of(shown, "special", "a")
    assert shown == {"special": "socket", of_a: "fifo"}


def test_row_28_a_file_that_a_peer_removed_is_read_through_the_open_descriptor(folder: Folder):
    folder.share(lambda here: write(here / "f", b"text"))
    heal(*folder.sites)
    with (folder.a / "f").open("rb") as file:
        (folder.b / "f").unlink()
        until(lambda: not (folder.a / "f").exists(), "the removal is seen")
        assert file.read() == b"text"
        assert os.fstat(file.fileno()).st_nlink == 0
    assert folder.shown() == {}


def test_row_28_what_is_written_to_a_file_that_a_peer_removed_brings_it_back(folder: Folder):
    folder.share(lambda here: write(here / "f", b"text"))
    heal(*folder.sites)
    with (folder.a / "f").open("r+b") as file:
        (folder.b / "f").unlink()
        until(lambda: not (folder.a / "f").exists(), "the removal is seen")
        file.write(b"TEXT, edited")
    assert folder.shown() == {"f": b"TEXT, edited"}


def test_row_28_a_file_removed_here_while_open_stays_here_and_is_nobodys(folder: Folder):
    folder.share(lambda here: write(here / "f", b"text"))
    heal(*folder.sites)
    with (folder.a / "f").open("r+b") as file:
        (folder.a / "f").unlink()
        file.write(b"more")
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        assert file.read() == b"more"
        assert folder.shown() == {}
    assert folder.shown() == {}


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
    with pytest.raises(FileExistsError):
        os.open(folder.c / "lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY)


def test_row_30_writing_by_the_old_path_of_a_renamed_directory_is_no_conflict(folder: Folder):
    def prepare(here: Path) -> None:
        (here / "d" / "sub").mkdir(parents=True)
        write(here / "d" / "f", b"old")

    folder.share(prepare)
    run(os.rename, folder.a / "d", folder.a / "e")
    write(folder.b / "d" / "f", b"new")
    write(folder.b / "d" / "sub" / "g", b"added")
    assert folder.shown() == {"e": "dir", "e/f": b"new", "e/sub": "dir", "e/sub/g": b"added"}
    assert folder.conflicts() == []


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
