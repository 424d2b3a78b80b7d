"""What a start recovered after a crash, in words for a person."""

from __future__ import annotations

import os
from dataclasses import dataclass

from crdt.facts import Ino
from elmer.rocks import RocksStore
from translation.content import Recovered
from translation.filesystem import FileSystem
from translation.paths import Paths

NAMED_MAX = 5  # files that are named


@dataclass(frozen=True, slots=True)
class Recovery:
    """`changes` were read back from the log of the store, RocksStore.read_back."""

    changes: int
    files: tuple[str, ...] = ()  # as they were being written, the last seconds may be missing
    waiting: tuple[str, ...] = ()  # the same, and the disk is full
    lost: tuple[str, ...] = ()
    freed: int = 0

    def __bool__(self) -> bool:
        return bool(self.changes or self.files or self.waiting or self.lost or self.freed)

    def __str__(self) -> str:
        said = []
        if self.changes:
            said.append(f"{_counted(self.changes, 'change')} read back from the log")
        if self.files:
            said.append(
                f"{_counted(len(self.files), 'file')} kept that had not been closed, without at most the"
                f" last 5 s of what was written: {_listed(self.files)}"
            )
        if self.waiting:
            said.append(f"to be stored once the disk has room: {_listed(self.waiting)}")
        if self.lost:
            said.append(f"what was written does not fit what the file is now: {_listed(self.lost)}")
        if self.freed:
            said.append(f"{_counted(self.freed, 'block')} freed of files without a name")
        return f"recovered, it had not been closed in order: {'; '.join(said)}"


def recovery(store: RocksStore, filesystem: FileSystem) -> Recovery:
    """Return what was recovered when these two were made."""
    found: Recovered = filesystem.recovered
    files, waiting, lost = (
        tuple(name_of(filesystem, ino) for ino in inos) for inos in (found.made, found.waiting, found.lost)
    )
    return Recovery(store.read_back, files, waiting, lost, found.freed)


def name_of(filesystem: FileSystem, ino: Ino) -> str:
    """Return the path of a file; of a conflict entry that of its file."""
    inode = filesystem.attributes.target(ino).inode
    if not inode.shown:
        return f"(a file without a name, {inode.ino})"
    path = os.fsdecode(Paths(filesystem.replica).path_of_link(inode, inode.shown[0].link))
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in path)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - NAMED_MAX:,} more" if len(names) > NAMED_MAX else ""
    return ", ".join(names[:NAMED_MAX]) + more
