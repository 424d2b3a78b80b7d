"""Programs that people use save one file on two sites at once: that is one conflict, with a common past.

However a program saves, in place, by renaming a new file over the old one, or by removing it and making it
anew: two saves are two versions of one file, and neither of them strangers at its name.  Nothing is lost.
"""

import itertools
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.programs.case import run
from tests.programs.versioning import git
from tests.shell import entry_of
from tests.system.rows.folder import Folder, later, show
from tests.system.sites import Site, cut, heal

# -- the programs --------------------------------------------------------------------------------------

# How each makes the file `path` hold `text`, which is one line; `desk` is a directory of its own beside
# the mounts.
Save = Callable[[Path, str, Path], None]


def sed(path: Path, text: str, desk: Path) -> None:
    run("sed", "-i", f"s/.*/{text}/", path)


def rsync(path: Path, text: str, desk: Path) -> None:
    source = desk / path.name
    source.write_text(text + "\n")
    run("rsync", "--ignore-times", source, path)


def git_checkout(path: Path, text: str, desk: Path) -> None:
    """Check a file out of a repository elsewhere, over the one that is there."""
    repository, tree = desk / "repository", desk / "tree"
    tree.mkdir(exist_ok=True)
    at = (f"--git-dir={repository}", f"--work-tree={tree}")
    if not repository.exists():
        git("init", "--quiet", "--bare", repository, cwd=desk)
    (tree / path.name).write_text(text + "\n")
    git(*at, "add", path.name, cwd=tree)
    git(*at, "commit", "--quiet", "--allow-empty", "-m", text, cwd=tree)
    git(
        f"--git-dir={repository}",
        f"--work-tree={path.parent}",
        "checkout",
        "HEAD",
        "--",
        path.name,
        cwd=path.parent,
    )


def vim(path: Path, text: str, desk: Path) -> None:
    """Edit with vim, which renames the file to a backup, makes it anew, and removes the backup.

    Below /tmp, where the mounts of the tests are, it makes none by default.
    """
    settings = ("-N", "-u", "NONE", "-i", "NONE", "-c", "set backupskip=")
    run("vim", "-es", *settings, "-c", f"%s/.*/{text}/", "-c", "wq", path)


def nano(path: Path, text: str, desk: Path) -> None:
    """What nano does to save; the program itself wants a terminal."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.write(descriptor, text.encode() + b"\n")
    os.close(descriptor)


PROGRAMS: list[Save] = [sed, rsync, git_checkout, vim, nano]
IN_PLACE = [nano]
PAIRS = list(itertools.product(PROGRAMS, PROGRAMS))


def name_of(pair: tuple[Save, Save]) -> str:
    return "-".join(program.__name__ for program in pair) + ".txt"


@pytest.fixture
def folder(shared_pair: list[Site], request: pytest.FixtureRequest) -> Folder:
    return Folder(shared_pair, request.node.name)


@pytest.fixture
def desks(tmp_path: Path) -> tuple[Path, Path]:
    """A place for each site's user, who is not the other one's."""
    for name in "ab":
        (tmp_path / name).mkdir()
    return tmp_path / "a", tmp_path / "b"


def share(folder: Folder) -> None:
    """One file for each pair of programs, known on both sites, which then part."""
    folder.share(lambda here: [(here / name_of(pair)).write_text("old\n") for pair in PAIRS])


def test_each_program_saves_in_its_way(shared_pair: list[Site], desks: tuple[Path, Path]):
    path = shared_pair[0] / "f.txt"
    for program in PROGRAMS:
        path.write_text("old\n")
        before = path.stat().st_ino
        program(path, "new", desks[0])
        assert path.read_text() == "new\n"
        assert (path.stat().st_ino == before) == (program in IN_PLACE), program.__name__
    assert os.listdir(shared_pair[0].mountpoint) == ["f.txt"]
    path.unlink()


# -- any two of them -----------------------------------------------------------------------------------


def test_any_two_programs_make_one_conflict_and_the_first_save_decides_who_leads(
    folder: Folder, desks: tuple[Path, Path]
):
    """A saves, B saves, and A saves again.  Strangers would be as old as their last save: A's would show."""
    share(folder)
    at_a, at_b = desks
    for one, other in PAIRS:
        one(folder.a / name_of((one, other)), "first at a", at_a)
    later()
    for one, other in PAIRS:
        other(folder.b / name_of((one, other)), "at b", at_b)
    later()
    for one, other in PAIRS:
        one(folder.a / name_of((one, other)), "last at a", at_a)
    shown = folder.shown()
    expected = {}
    for pair in PAIRS:
        expected[name_of(pair)] = b"at b\n"
        expected[entry_of(shown, name_of(pair), "a")] = b"last at a\n"
    assert shown == expected
    assert len(folder.conflicts()) == len(PAIRS)
    for pair in PAIRS:
        (folder.a / entry_of(shown, name_of(pair), "a")).unlink()
    assert folder.shown() == {name_of(pair): b"at b\n" for pair in PAIRS}
    assert folder.conflicts() == []


def test_any_two_programs_that_make_the_same_correction_make_no_conflict(
    folder: Folder, desks: tuple[Path, Path]
):
    """What A saves B has saved too, in between.  Of a stranger only its first content and its last count."""
    share(folder)
    at_a, at_b = desks
    for one, other in PAIRS:
        one(folder.a / name_of((one, other)), "new", at_a)
    for text in ("on the way", "new", "newer"):
        for one, other in PAIRS:
            other(folder.b / name_of((one, other)), text, at_b)
    assert folder.shown() == {name_of(pair): b"newer\n" for pair in PAIRS}
    assert folder.conflicts() == []


# -- a file that is open -------------------------------------------------------------------------------


@pytest.mark.parametrize("program", [sed, rsync, vim, nano])
def test_each_program_saves_over_a_file_that_another_one_has_open(
    program: Save, folder: Folder, desks: tuple[Path, Path]
):
    """A program at b has f open from before the merge, and shows on what it wrote, as an entry does: who then
    saved by rename got ENOENT."""
    folder.share(lambda here: (here / "f").write_text("old\n"))
    with (folder.b / "f").open("r+b", buffering=0) as held:
        held.write(b"at b\n")
        os.fsync(held)
        later()
        nano(folder.a / "f", "at a", desks[0])
        heal(*folder.sites)
        entry = entry_of(show(folder.b), "f", "b")
        assert show(folder.b) == {"f": b"at b\n", entry: b"at b\n"}
        program(folder.b / "f", "saved", desks[1])
        assert (folder.b / "f").read_bytes() == b"saved\n"
        in_place = program in IN_PLACE
        assert (folder.b / entry).read_bytes() == (b"saved\n" if in_place else b"at b\n")
    contents = [b"at a\n", b"saved\n", *([] if in_place else [b"at b\n"])]
    assert sorted(folder.shown().values()) == sorted(contents)


# -- a database ----------------------------------------------------------------------------------------


def insert(path: Path, row: str) -> None:
    with sqlite3.connect(path) as database:
        database.execute("insert into notes values (?)", (row,))
    database.close()


def notes(path: Path) -> list[str]:
    """Return the rows of a database, which must be in order."""
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
    found = [row for (row,) in database.execute("select * from notes order by rowid")]
    database.close()
    return found


def make_database(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("create table notes (text)")
        database.executemany("insert into notes values (?)", [(f"{number} " * 100,) for number in range(500)])
        database.execute("delete from notes")
        database.execute("insert into notes values ('old')")
    database.close()


def test_a_database_that_both_sites_change_is_two_whole_databases(folder: Folder):
    folder.share(lambda here: make_database(here / "notes.db"))
    insert(folder.a / "notes.db", "from a")
    insert(folder.b / "notes.db", "from b")
    insert(folder.a / "notes.db", "more from a")
    shown = folder.shown()
    entry = entry_of(shown, "notes.db", "a")
    assert set(shown) == {"notes.db", entry}
    assert notes(folder.a / "notes.db") == ["old", "from b"]
    assert notes(folder.b / entry) == ["old", "from a", "more from a"]
    assert folder.conflicts() == [(entry, "content", "a")]


def test_a_database_that_one_site_changes_while_the_other_restores_a_copy_is_both(
    folder: Folder, desks: tuple[Path, Path]
):
    folder.share(lambda here: make_database(here / "notes.db"))
    copy = desks[1] / "notes.db"
    shutil.copy(folder.b / "notes.db", copy)
    insert(copy, "restored at b")
    insert(folder.a / "notes.db", "from a")
    run("rsync", "--ignore-times", copy, folder.b / "notes.db")
    later()
    insert(folder.a / "notes.db", "more from a")
    shown = folder.shown()
    entry = entry_of(shown, "notes.db", "a")
    assert set(shown) == {"notes.db", entry}
    assert notes(folder.a / "notes.db") == ["old", "restored at b"]
    assert notes(folder.b / entry) == ["old", "from a", "more from a"]


# -- a repository --------------------------------------------------------------------------------------


def test_a_repository_that_both_sites_commit_to_has_both_commits(folder: Folder):
    """Of the branch, a file that git saves by rename, the other side's is an entry: that is a branch, too."""

    def prepare(here: Path) -> None:
        git("init", "--quiet", "--initial-branch=main", cwd=here)
        (here / "f").write_text("old\n")
        git("add", "f", cwd=here)
        git("commit", "--quiet", "-m", "first", cwd=here)

    folder.share(prepare)
    for here, name in ((folder.a, "a"), (folder.b, "b")):
        (here / f"of-{name}").write_text(f"{name}\n")
        git("add", f"of-{name}", cwd=here)
        git("commit", "--quiet", "-m", f"at {name}", cwd=here)
        later()
    folder.shown()
    cut(*folder.sites)
    git("fsck", "--full", "--strict", cwd=folder.a)
    branches = git("for-each-ref", "--format=%(refname:short) %(contents:subject)", cwd=folder.a).splitlines()
    main, other = sorted(branches)
    assert main == "main at b"
    assert other.startswith("main.conflict-a-")
    assert other.endswith(" at a")
    git("reset", "--quiet", "--hard", cwd=folder.a)
    git("clean", "--quiet", "--force", cwd=folder.a)  # what the other commit has is here, untracked
    git("merge", "--quiet", "-m", "both", other.partition(" ")[0], cwd=folder.a)
    assert {path.name for path in folder.a.iterdir()} >= {"f", "of-a", "of-b"}
    assert git("status", "--porcelain", cwd=folder.a) == ""
