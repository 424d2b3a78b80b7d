"""git, Mercurial, Subversion."""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.programs.case import Case, Place, run

GIT_PERSON = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


def git(*arguments: str | os.PathLike, cwd: Path, **settings: str) -> str:
    return run("git", *arguments, cwd=cwd, **GIT_PERSON, **settings)


def make_sources(root: Path, files: int, seed: int = 1) -> None:
    """Make text files in a few directories, of a few lines to a few thousand."""
    chance = random.Random(seed)
    for number in range(files):
        path = root / f"p{number % 20}" / f"m{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = chance.choice([3, 30, 100, 100, 2_000])
        path.write_text("".join(f"value_{line} = {chance.random()}\n" for line in range(lines)))


def make_repository(place: Place) -> None:
    """Make a history: a first commit of many files, changes to them, and a branch that forks early."""
    source = place.material / "source"
    source.mkdir()
    git("init", "--quiet", "--initial-branch=main", cwd=source)
    files, changes = place.size(60, 3_000), place.size(8, 40)
    make_sources(source, files)
    git("add", ".", cwd=source)
    git("commit", "--quiet", "-m", "first", cwd=source)
    git("branch", "work", cwd=source)
    for branch in ("main", "work"):
        git("checkout", "--quiet", branch, cwd=source)
        for number in range(changes):
            name = f"{branch}-{number}.txt"
            (source / name).write_text(f"{branch} {number}\n" * 30)
            if branch == "main":
                (source / "p0" / "m0.py").write_text(f"value = {number}\n" * 40)
            git("add", ".", cwd=source)
            git("commit", "--quiet", "-m", f"{branch} {number}", cwd=source)
    git("checkout", "--quiet", "main", cwd=source)


def assert_whole(place: Place) -> None:
    """Each repository is whole, and its work tree is what was committed."""
    found = [Path(path).parent for path in run("find", place.root, "-name", ".git").splitlines()]
    assert found
    for repository in found:
        said = git("fsck", "--full", "--strict", "--no-progress", "--no-dangling", cwd=repository)
        assert said == "", said
        changed = git("--no-optional-locks", "status", "--porcelain", cwd=repository)
        assert changed == "", f"{repository}:\n{changed}"


def clone_and_gc(place: Place) -> None:
    clone, second = place.root / "clone", place.root / "second"
    git("clone", "--quiet", "--no-hardlinks", place.material / "source", clone, cwd=place.root)
    git("gc", "--quiet", "--aggressive", "--prune=now", cwd=clone)
    git("clone", "--quiet", "--local", clone, second, cwd=place.root)
    assert git("rev-parse", "main", cwd=second) == git("rev-parse", "main", cwd=place.material / "source")
    packs = list((clone / ".git/objects/pack").glob("*.pack"))
    assert all(pack.stat().st_nlink == 2 for pack in packs), "a local clone takes hard links"
    git("gc", "--quiet", cwd=second)
    assert_whole(place)


def rebase(place: Place) -> None:
    clone = place.root / "clone"
    git("clone", "--quiet", "--no-hardlinks", place.material / "source", clone, cwd=place.root)
    git("checkout", "--quiet", "work", cwd=clone)
    commits = int(git("rev-list", "--count", "origin/main..work", cwd=clone))
    (clone / "p1" / "m1.py").write_text("not committed\n")
    git("stash", "--quiet", cwd=clone)
    git(
        "rebase",
        "--quiet",
        "--interactive",
        "--autosquash",
        "origin/main",
        cwd=clone,
        GIT_SEQUENCE_EDITOR="true",
    )
    assert int(git("rev-list", "--count", "origin/main..work", cwd=clone)) == commits
    git("stash", "pop", "--quiet", cwd=clone)
    assert (clone / "p1" / "m1.py").read_text() == "not committed\n"
    git("commit", "--quiet", "--all", "-m", "last", cwd=clone)
    git("reset", "--quiet", "--hard", "HEAD~3", cwd=clone)
    git("cherry-pick", "work@{1}", cwd=clone)
    git("clean", "--quiet", "-fdx", cwd=clone)
    assert_whole(place)


def worktree(place: Place) -> None:
    clone, beside = place.root / "clone", place.root / "beside"
    git("clone", "--quiet", "--no-hardlinks", place.material / "source", clone, cwd=place.root)
    git("worktree", "add", "--quiet", beside, "work", cwd=clone)
    (beside / "p0" / "m0.py").write_text("in the other tree\n")
    git("mv", "p2", "moved", cwd=beside)
    git("commit", "--quiet", "--all", "-m", "beside", cwd=beside)
    git("merge", "--quiet", "--no-edit", "-X", "ours", "work", cwd=clone)
    git("worktree", "add", "--quiet", "--detach", place.root / "third", cwd=clone)
    git("worktree", "remove", place.root / "third", cwd=clone)
    git("worktree", "prune", cwd=clone)
    assert not (place.root / "third").exists()
    assert_whole(place)


def make_wide_repository(place: Place) -> None:
    """Make two branches that have no file in common."""
    source = place.material / "source"
    source.mkdir()
    git("init", "--quiet", "--initial-branch=one", cwd=source)
    files = place.size(150, 5_000)
    for branch in ("one", "two"):
        if branch == "two":
            git("checkout", "--quiet", "--orphan", "two", cwd=source)
            git("rm", "-rfq", ".", cwd=source)
        make_sources(source / branch, files, seed=len(branch))
        git("add", ".", cwd=source)
        git("commit", "--quiet", "-m", branch, cwd=source)


def checkout_of_many(place: Place) -> None:
    clone = place.root / "clone"
    git("clone", "--quiet", "--no-hardlinks", place.material / "source", clone, cwd=place.root)
    for branch in ("one", "two", "one"):
        git("checkout", "--quiet", branch, cwd=clone)
        assert sorted(os.listdir(clone)) == [".git", branch]
    assert_whole(place)


def mercurial(place: Place) -> None:
    source = place.root / "hg"
    settings = {"HGRCPATH": "/dev/null", "HGUSER": "a"}
    run("hg", "init", source, **settings)
    make_sources(source, place.size(50, 500))
    run("hg", "commit", "--addremove", "--quiet", "-m", "first", cwd=source, **settings)
    make_sources(source, 20, seed=2)
    run("hg", "commit", "--quiet", "-m", "second", cwd=source, **settings)
    run("hg", "clone", "--quiet", source, place.root / "clone", cwd=place.root, **settings)
    run("hg", "update", "--quiet", "0", cwd=place.root / "clone", **settings)
    for repository in (source, place.root / "clone"):
        assert "checked 2 changesets" in run("hg", "verify", cwd=repository, **settings)
        assert run("hg", "status", cwd=repository, **settings) == ""


def subversion(place: Place) -> None:
    repository, checked_out = place.root / "repository", place.root / "checked-out"
    settings = {"HOME": os.fspath(place.material)}
    run("svnadmin", "create", repository, **settings)
    url = f"file://{repository}"
    run("svn", "checkout", "--quiet", url, checked_out, **settings)
    make_sources(checked_out, place.size(50, 500))
    run("svn", "add", "--quiet", *sorted(checked_out.glob("p*")), **settings)
    run("svn", "commit", "--quiet", "-m", "first", checked_out, **settings)
    make_sources(checked_out, 20, seed=2)
    run("svn", "commit", "--quiet", "-m", "second", checked_out, **settings)
    run("svn", "update", "--quiet", "-r", "1", checked_out, **settings)
    assert run("svn", "status", checked_out, **settings) == ""
    run("svnadmin", "verify", "--quiet", repository, **settings)


CASES = [
    Case("git clone, gc, fsck", clone_and_gc, make_repository, assert_whole),
    Case("git rebase, stash, reset", rebase, make_repository, assert_whole),
    Case("git worktree, merge", worktree, make_repository),
    Case("git checkout of thousands", checkout_of_many, make_wide_repository, assert_whole),
    Case("Mercurial", mercurial, packages=("mercurial",), quick=False),
    Case("Subversion", subversion, packages=("subversion",), quick=False),
]
