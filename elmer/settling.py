"""Settling what is listed by `elmer conflicts`, with the requests that a person would make on the mount.

So the mount's permissions hold, programs hear of it, and there is no second way to rename or remove.  Paths
in what is listed are relative to the mount point.
"""

from __future__ import annotations

import filecmp
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from elmer.exits import CommandError, ExitStatus

Listed = dict[str, Any]  # a conflict or a record, as `elmer conflicts --json` prints it
MOVES = ("move", "rename")


@contextmanager
def _refusals(did: str) -> Iterator[None]:
    """Say of an error of the mount what was tried."""
    try:
        yield
    except OSError as error:
        raise CommandError(f"cannot {did}: {error.strerror}", ExitStatus.NOT_SO) from error


# -- records -----------------------------------------------------------------------------------------


def redo(mountpoint: Path, record: Listed) -> list[str]:
    """Make a move that was overruled again, as the newest; return the moves that were made, in words.

    A directory whose move was skipped cannot go inside itself: what stood in its way takes its place first.
    Raises CommandError (NOT_SO) where the record is of no move, the new name is taken, or the mount refuses.
    """
    if record["kind"] not in MOVES:
        raise CommandError(
            f"{record['id']} is of no move: remove or change {record['path']} in the mount",
            ExitStatus.NOT_SO,
        )
    path = Path(record["path"])
    goal = Path(record["overruled"]["path"])
    moves = []
    if path in goal.parents:
        in_the_way = Path(record["by"]["path"])
        if path not in in_the_way.parents or in_the_way not in [goal, *goal.parents]:
            in_the_way = path / goal.relative_to(path).parts[0]
        beside = path.with_name(in_the_way.name)
        moves.append((in_the_way, beside))
        goal = beside / goal.relative_to(in_the_way)
    moves.append((path, goal))
    for source, target in moves:
        if _is_there(mountpoint / target):
            raise CommandError(f"{target} is taken: rename it, or move {source} yourself", ExitStatus.NOT_SO)
    for source, target in moves:
        with _refusals(f"move {source} to {target}"):
            (mountpoint / source).rename(mountpoint / target)
    return [f"moved {source} to {target}" for source, target in moves]


# -- conflict entries --------------------------------------------------------------------------------


def keep(mountpoint: Path, path: Path, conflicts: Sequence[Listed]) -> list[str]:
    """Let `path` be the one that stays under the bare name, and remove what competes with it.

    `path` is a conflict entry, or the name that entries compete for.  Raises CommandError (NOT_SO) where it
    is neither, a directory is among them, or the mount refuses.
    """
    bare = _bare_of(path, conflicts)
    entries = [Path(each["path"]) for each in conflicts if Path(each["bare"]) == bare]
    for each in (bare, *entries):
        if (mountpoint / each).is_dir() and not (mountpoint / each).is_symlink():
            raise CommandError(
                f"{each} is a directory, and is not removed for another: rename one of the two, or put"
                f" the content of an entry into it by --merge",
                ExitStatus.NOT_SO,
            )
    did = []
    if path != bare:
        with _refusals(f"rename {path} to {bare}"):
            (mountpoint / path).rename(mountpoint / bare)
        did.append(f"{bare} is what was {path}")
    for entry in entries:
        if entry != path:
            with _refusals(f"remove {entry}"):
                (mountpoint / entry).unlink()
            did.append(f"removed {entry}")
    return did


def merge(mountpoint: Path, path: Path, conflicts: Sequence[Listed]) -> tuple[list[str], list[str]]:
    """Move what is in a directory that is a conflict entry into the one that has the bare name.

    What is equal in both is there once; what differs stays where it is.  Return what was done, in words, and
    the paths that stayed.  Raises CommandError (NOT_SO) where there are not two directories, or the mount
    refuses.
    """
    bare = _bare_of(path, conflicts)
    for each in (path, bare):
        if path == bare or (mountpoint / each).is_symlink() or not (mountpoint / each).is_dir():
            raise CommandError(
                f"{each} is no directory beside another of its name: there is nothing to merge",
                ExitStatus.NOT_SO,
            )
    merged = _Merged(mountpoint)
    merged.merge(path, bare)
    did = [f"moved {merged.moved} entries into {bare}"]
    if merged.equal:
        did.append(f"removed {merged.equal} that are equal there")
    return did, merged.stayed


class _Merged:
    def __init__(self, mountpoint: Path) -> None:
        self.mountpoint = mountpoint
        self.moved = 0
        self.equal = 0
        self.stayed: list[str] = []

    def merge(self, source: Path, target: Path) -> None:
        """Directories wait in a list, not on the stack: they may be as deep as one likes."""
        waiting, entered = [(source, target)], []
        while waiting:
            source, target = waiting.pop()
            entered.append(source)
            with _refusals(f"list {source}"):
                names = sorted(os.listdir(self.mountpoint / source))  # noqa: PTH208 only names are asked for
            for name in names:
                both = source / name, target / name
                if not _is_there(self.mountpoint / both[1]):
                    self._move(*both)
                elif self._are_directories(*both):
                    waiting.append(both)
                elif self._are_equal(*both):
                    self._remove(both[0])
                else:
                    self.stayed.append(str(both[0]))
        for source in reversed(entered):
            if not os.listdir(self.mountpoint / source):  # noqa: PTH208
                with _refusals(f"remove {source}"):
                    (self.mountpoint / source).rmdir()

    def _move(self, source: Path, target: Path) -> None:
        with _refusals(f"move {source} to {target}"):
            (self.mountpoint / source).rename(self.mountpoint / target)
        self.moved += 1

    def _remove(self, source: Path) -> None:
        with _refusals(f"remove {source}"):
            (self.mountpoint / source).unlink()
        self.equal += 1

    def _are_directories(self, *paths: Path) -> bool:
        return all(stat.S_ISDIR((self.mountpoint / path).lstat().st_mode) for path in paths)

    def _are_equal(self, first: Path, second: Path) -> bool:
        """Files with the same attributes and bytes, or symlinks with one target."""
        one, other = ((self.mountpoint / path).lstat() for path in (first, second))
        if (one.st_mode, one.st_uid, one.st_gid) != (other.st_mode, other.st_uid, other.st_gid):
            return False
        if stat.S_ISLNK(one.st_mode):
            return (self.mountpoint / first).readlink() == (self.mountpoint / second).readlink()
        if not stat.S_ISREG(one.st_mode) or _xattrs(self.mountpoint / first) != _xattrs(
            self.mountpoint / second
        ):
            return False
        with _refusals(f"compare {first} and {second}"):
            return filecmp.cmp(self.mountpoint / first, self.mountpoint / second, shallow=False)


def _xattrs(path: Path) -> dict[str, bytes]:
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


def _bare_of(path: Path, conflicts: Sequence[Listed]) -> Path:
    for each in conflicts:
        if path in (Path(each["path"]), Path(each["bare"])):
            return Path(each["bare"])
    raise CommandError(f"{path} is in no conflict; `elmer conflicts` lists those that are", ExitStatus.NOT_SO)


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)
