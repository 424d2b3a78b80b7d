"""How editors and git save a file.  Each is several system calls, and one change for its user."""

from __future__ import annotations

from crdt.facts import Ino
from tests.simulator.programs import Programs, SymbolicPath, check_regular
from translation.filesystem import Attributes


def save_by_rename(programs: Programs, path: SymbolicPath, data: bytes, salt: int) -> None:
    """Write a new file beside it and rename that over it: sed -i, rsync, many editors."""
    parent, name, _ = _regular(programs, path)
    beside = _free(programs, parent, name)
    programs.write((*path[:-1], beside), "put", data, salt)
    programs.rename((*path[:-1], beside), (*path[:-1], name))


def save_anew(programs: Programs, path: SymbolicPath, data: bytes, salt: int) -> None:
    """Remove it and make a new one: git checkout."""
    parent, name, known = _regular(programs, path)
    programs.remove_name(parent, name, known)
    programs.write((*path[:-1], name), "put", data, salt)


def save_beside_backup(programs: Programs, path: SymbolicPath, data: bytes, salt: int) -> None:
    """Rename it away, make a new one, and remove the old one: vim."""
    parent, name, _ = _regular(programs, path)
    backup = _free(programs, parent, name)
    programs.rename((*path[:-1], name), (*path[:-1], backup))
    programs.write((*path[:-1], name), "put", data, salt)
    programs.remove_name(parent, backup, programs.stat(parent, backup))


def _regular(programs: Programs, path: SymbolicPath) -> tuple[Ino, bytes, Attributes]:
    """Where it is, and what it is, if it can be read.  Raises OSError where it is no regular file."""
    parent, name = programs.resolve(path)
    known = programs.stat(parent, name)
    check_regular(known)
    programs.read_all(known)
    return parent, name, known


def _free(programs: Programs, parent: Ino, name: bytes) -> bytes:
    beside = name[:200] + b"~"
    if programs.stat_or_none(parent, beside) is not None:
        raise FileExistsError(beside)
    return beside
