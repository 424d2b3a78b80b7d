"""`rm -r` and `mv d/* e/`: many system calls, of names that were listed before (law L7)."""

from __future__ import annotations

import errno
import stat

from crdt.facts import ROOT, Ino
from tests.simulator.laws import Broken
from tests.simulator.programs import Programs, SymbolicPath
from tests.walk import listing
from translation.filesystem import Attributes


def remove_tree(programs: Programs, path: SymbolicPath) -> None:
    parent, name = programs.resolve(path)
    known = _directory(programs, path)
    todo = [(parent, name, known)]
    listed = []
    while todo:
        listed.append(todo.pop())
        directory = Ino(listed[-1][2].ino)
        if stat.S_ISDIR(listed[-1][2].mode):
            names = listing(programs.fs, directory)
            todo += [(directory, each, programs.stat(directory, each)) for each in names]
    for directory, each, attributes in reversed(listed):
        _remove(programs, directory, each, is_directory=stat.S_ISDIR(attributes.mode))


def _remove(programs: Programs, directory: Ino, name: bytes, *, is_directory: bool) -> None:
    try:
        if is_directory:
            programs.remove_directory(directory, name)
        else:
            programs.remove_name(directory, name, programs.stat(directory, name))
    except OSError as error:
        _fail(programs, name, error)


def move_all(programs: Programs, source: SymbolicPath, target: SymbolicPath) -> None:
    """Move what is in one directory to another; what rename(2) refuses stays."""
    into = _directory(programs, target)
    directory = Ino(_directory(programs, source).ino)
    for name in sorted(listing(programs.fs, directory)):
        refusals: set[int] = set()
        try:
            moved, there = programs.stat(directory, name), programs.stat_or_none(Ino(into.ino), name)
            refusals = _refusals(moved, there)
            programs.move(directory, name, Ino(into.ino), name)
        except OSError as error:
            if error.errno not in refusals:
                _fail(programs, name, error)


def _refusals(moved: Attributes, there: Attributes | None) -> set[int]:
    """The errors that rename(2) may have here; law L2 sees whether they were right."""
    if there is None:
        return {errno.EINVAL} if stat.S_ISDIR(moved.mode) else set()
    if stat.S_ISDIR(moved.mode):
        return {errno.EINVAL, errno.ENOTEMPTY} if stat.S_ISDIR(there.mode) else {errno.ENOTDIR}
    return {errno.EISDIR} if stat.S_ISDIR(there.mode) else set()


def _directory(programs: Programs, path: SymbolicPath) -> Attributes:
    known = programs.stat(*programs.resolve(path)) if path else programs.fs.getattr(ROOT)
    if not stat.S_ISDIR(known.mode):
        raise NotADirectoryError(path)
    return known


def _fail(programs: Programs, name: bytes, error: OSError) -> None:
    """No name goes, comes or is refused under the hands of who listed it."""
    # What was merged and is not shown here yet keeps its file, and so the directory.
    if error.errno != errno.EIO and not programs.unsettled():
        raise Broken("L7", f"it fails at {name!r}: {error}") from error
    raise error
