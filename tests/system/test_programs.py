"""Programs that people use work on a mount as they do on the host's own file system."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.system.sites import Site, meet
from tests.system.trees import assert_equal, look, look_without_numbers

PROGRAM_TIMEOUT_S = 120


def run(*command: str | os.PathLike, cwd: Path | None = None, **settings: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C", **settings},
        capture_output=True,
        text=True,
        timeout=PROGRAM_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stderr}"
    return done.stdout


GIT_PERSON = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


def git(*arguments: str | os.PathLike, cwd: Path) -> str:
    return run("git", *arguments, cwd=cwd, **GIT_PERSON)


def make_tree(root: Path, seed: int) -> None:
    """Make a tree with all that programs copy: modes, times, links of both kinds, holes, xattrs."""
    chance = random.Random(seed)
    root.mkdir()
    for number in range(12):
        directory = root / f"d{number % 4}" / f"e{number}"
        directory.mkdir(parents=True)
        for file in range(6):
            path = directory / f"f{file}.txt"
            path.write_bytes(chance.randbytes(chance.choice([0, 1, 100, 4_096, 70_000])))
            path.chmod(chance.choice([0o644, 0o600, 0o755, 0o444]))
        (directory / "link").symlink_to("f0.txt")
        (directory / "dangling").symlink_to("no/such/file")
    (root / "hard1").hardlink_to(root / "d0" / "e0" / "f1.txt")
    (root / "hard2").hardlink_to(root / "d0" / "e0" / "f1.txt")
    (root / "empty").mkdir(mode=0o700)
    (root / "name with blanks, ünïcode").write_bytes(b"x")
    with (root / "sparse").open("wb") as file:
        file.seek(3_000_000)
        file.write(b"end")
    os.mkfifo(root / "fifo", 0o640)
    os.chown(root / "d1", 1001, 1002)
    os.setxattr(root / "hard1", "user.note", b"kept \x00 whole")
    os.setxattr(root / "d2", "user.note", b"of a directory")
    # Old ones, of directories and symlinks too: rsync takes two times in one second for equal.
    for directory, names, files in os.walk(root, topdown=False):
        for name in [*names, *files]:
            stamp = chance.randrange(1_000_000_000, 1_600_000_000) * 10**9 + 123_456_789
            os.utime(Path(directory, name), ns=(stamp, stamp), follow_symlinks=False)


def hard_link_groups(root: Path) -> list[list[bytes]]:
    """Return which names are names of one file."""
    groups: dict[int, list[bytes]] = {}
    for path, entry in look(root).items():
        if entry.nlink > 1 and entry.rdev == 0 and not os.path.isdir(os.fsencode(root) + b"/" + path):
            groups.setdefault(entry.ino, []).append(path)
    return sorted(sorted(paths) for paths in groups.values())


@pytest.fixture
def original(tmp_path: Path) -> Path:
    make_tree(tmp_path / "original", seed=1)
    return tmp_path / "original"


def test_git_clones_commits_and_finds_nothing_wrong(shared_site: Site, tmp_path: Path):
    source = tmp_path / "source"
    source.mkdir()
    git("init", "--quiet", "--initial-branch=main", cwd=source)
    for number in range(60):
        file = source / f"p{number % 5}" / f"m{number}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"value = {number}\n" * 50)
    git("add", ".", cwd=source)
    git("commit", "--quiet", "-m", "first", cwd=source)

    clone = shared_site / "clone"
    git("clone", "--quiet", "--no-hardlinks", source, clone, cwd=shared_site.mountpoint)
    git("checkout", "--quiet", "-b", "work", cwd=clone)
    (clone / "p0" / "m0.py").write_text("value = 'changed'\n")
    (clone / "p1" / "m1.py").unlink()
    git("mv", "p2", "moved", cwd=clone)
    git("commit", "--quiet", "--all", "-m", "second", cwd=clone)
    assert git("status", "--porcelain", cwd=clone) == ""
    git("checkout", "--quiet", "main", cwd=clone)
    git("merge", "--quiet", "--no-ff", "-m", "merged", "work", cwd=clone)
    git("gc", "--quiet", cwd=clone)
    git("fsck", "--full", "--strict", cwd=clone)
    assert git("status", "--porcelain", cwd=clone) == ""

    back = tmp_path / "back"
    git("clone", "--quiet", "--no-hardlinks", clone, back, cwd=tmp_path)
    assert git("rev-parse", "HEAD", cwd=back) == git("rev-parse", "HEAD", cwd=clone)
    git("fsck", "--full", "--strict", cwd=back)


def test_tar_gives_back_what_it_was_given(shared_site: Site, original: Path, tmp_path: Path):
    options = ["--numeric-owner", "--xattrs", "--sparse", "-p"]
    archive = tmp_path / "there.tar"
    run("tar", *options, "-C", original, "-cf", archive, ".")
    copied = shared_site / "untarred"
    copied.mkdir()
    run("tar", *options, "-C", copied, "-xf", archive)
    assert_equal(look_without_numbers(original), look_without_numbers(copied))
    assert hard_link_groups(original) == hard_link_groups(copied)

    run("tar", *options, "-C", copied, "-cf", shared_site / "back.tar", ".")
    back = tmp_path / "back"
    back.mkdir()
    run("tar", *options, "-C", back, "-xf", shared_site / "back.tar")
    assert_equal(look_without_numbers(original), look_without_numbers(back))
    assert hard_link_groups(original) == hard_link_groups(back)


def test_rsync_with_all_attributes_goes_there_and_back(shared_site: Site, original: Path, tmp_path: Path):
    copied, back = shared_site / "rsynced", tmp_path / "back"
    run("rsync", "-aHAX", "--numeric-ids", f"{original}/", f"{copied}/")
    assert_equal(look_without_numbers(original), look_without_numbers(copied))
    assert hard_link_groups(original) == hard_link_groups(copied)
    again = run("rsync", "-aHAX", "--numeric-ids", "--itemize-changes", f"{original}/", f"{copied}/")
    assert again == "", "the second run found something to do"

    run("rsync", "-aHAX", "--numeric-ids", f"{copied}/", f"{back}/")
    assert_equal(look_without_numbers(original), look_without_numbers(back))
    assert hard_link_groups(original) == hard_link_groups(back)


def test_rsync_deletes_and_updates_in_place(shared_site: Site, original: Path):
    copied = shared_site / "updated"
    run("rsync", "-aHAX", f"{original}/", f"{copied}/")
    shutil.rmtree(original / "d3")
    (original / "hard1").write_bytes(b"new content for all three names")
    (original / "d0" / "e0" / "f2.txt").unlink()
    # A window of -1 makes it look at nanoseconds.
    options = ["--delete", "--inplace", "--checksum", "--modify-window=-1"]
    run("rsync", "-aHAX", *options, f"{original}/", f"{copied}/")
    assert_equal(look_without_numbers(original), look_without_numbers(copied))


def test_python_compiles_and_runs_a_package(shared_site: Site):
    package = shared_site / "lib" / "json"
    shutil.copytree(
        Path(sysconfig.get_path("stdlib")) / "json",
        package,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    run(sys.executable, "-m", "compileall", "-q", shared_site / "lib")
    compiled = sorted(path.name.split(".")[0] for path in package.glob("__pycache__/*.pyc"))
    assert compiled == sorted(path.stem for path in package.glob("*.py"))
    program = "import json; print(json.__file__, json.dumps({'a': [1, 2]}))"
    said = run(sys.executable, "-c", program, PYTHONPATH=os.fspath(shared_site / "lib"))
    assert said.split(maxsplit=1) == [f"{package}/__init__.py", '{"a": [1, 2]}\n']


def test_gcc_builds_a_program_that_runs_from_the_mount(shared_site: Site):
    source = shared_site / "src"
    source.mkdir()
    (source / "sum.h").write_text("int sum(int a, int b);\n")
    (source / "sum.c").write_text('#include "sum.h"\nint sum(int a, int b) { return a + b; }\n')
    (source / "main.c").write_text(
        '#include <stdio.h>\n#include "sum.h"\nint main(void) { printf("%d\\n", sum(40, 2)); return 0; }\n'
    )
    run("gcc", "-O1", "-c", "sum.c", "-o", "sum.o", cwd=source)
    run("gcc", "-O1", "-c", "main.c", "-o", "main.o", cwd=source)
    run("ar", "rcs", "libsum.a", "sum.o", cwd=source)
    run("gcc", "main.o", "-L.", "-lsum", "-o", "program", cwd=source)
    assert run(source / "program") == "42\n"
    run("strip", "program", cwd=source)
    assert run(source / "program") == "42\n"


@pytest.mark.parametrize("journal", ["delete", "truncate", "persist", "wal"])
def test_sqlite_keeps_its_database_whole(shared_site: Site, journal: str):
    path = shared_site / f"{journal}.db"
    database = sqlite3.connect(path, timeout=60)
    try:
        assert database.execute(f"pragma journal_mode={journal}").fetchone() == (journal,)
        database.execute("pragma synchronous=full")
        database.execute("create table t (id integer primary key, text text)")
        database.commit()
        for batch in range(10):
            with database:
                database.executemany("insert into t (text) values (?)", [(f"{batch} " * 100,)] * 50)
        database.execute("delete from t")
        database.rollback()
        other = sqlite3.connect(path, timeout=60)
        with other:
            other.execute("update t set text = 'short' where id % 2")
        assert other.execute("select count(*) from t").fetchone() == (500,)
        other.close()
        database.execute("vacuum")
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        halves = database.execute("select count(*) from t where text = 'short'").fetchone()
        assert halves == (250,)
    finally:
        database.close()
    said = run("sqlite3", path, "pragma integrity_check; select count(*) from t;")
    assert said.split() == ["ok", "500"]


def test_what_programs_left_is_the_same_tree_on_the_other_site(pair: list[Site], original: Path):
    a, b = pair
    run("rsync", "-aHAX", "--numeric-ids", f"{original}/", f"{a / 'copied'}/")
    git("init", "--quiet", a / "repository", cwd=a.mountpoint)
    (a / "repository" / "f").write_text("text\n")
    git("add", ".", cwd=a / "repository")
    git("commit", "--quiet", "-m", "first", cwd=a / "repository")
    meet(a, b)
    assert_equal(look(a.mountpoint), look(b.mountpoint))
    git("fsck", "--full", "--strict", cwd=b / "repository")
    (b / "repository" / "f").write_text("changed at b\n")
    git("commit", "--quiet", "--all", "-m", "second", cwd=b / "repository")
    meet(a, b)
    assert git("status", "--porcelain", cwd=a / "repository") == ""
    git("fsck", "--full", "--strict", cwd=a / "repository")
