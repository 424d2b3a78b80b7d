"""What the kernel must be told of a batch of commits: the names and inodes that show otherwise since."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crdt.absorption import branches, shown_heads
from crdt.contest import NameKey
from crdt.entries import branch_ino
from crdt.facts import DERIVED, Ino
from crdt.names import View
from crdt.showing import key_of_content

if TYPE_CHECKING:
    from crdt.view import Transaction


@dataclass(slots=True)
class Changes:
    """What the kernel must be told: names by (directory, name), and inodes (True: content too)."""

    entries: set[tuple[int, bytes]] = field(default_factory=set)
    inodes: dict[int, bool] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.entries or self.inodes)

    def inode(self, ino: int, *, content: bool = False) -> None:
        self.inodes[ino] = content or self.inodes.get(ino, False)

    def merge(self, other: Changes) -> None:
        self.entries |= other.entries
        for ino, content in other.inodes.items():
            self.inode(ino, content=content)


def changes_of(batch: Transaction) -> Changes:
    """Return what the kernel does not know yet of a batch that is finished.

    What was made here it is told in the reply, but for what changed besides.
    """
    changes = Changes()
    names = batch.contested()
    if batch.here and not names and not batch.view.shared_names and not batch.shared_names:
        _add_besides(changes, batch)
        return changes
    views = batch.view_before(), batch.view_after()
    for key in batch.names | names:
        _add_names(changes, key, views, contested=key in names)
    for ino in batch.attributes | batch.files | batch.directories:
        _add_inode(changes, batch, ino, views)
    return changes


def _add_besides(changes: Changes, batch: Transaction) -> None:
    """An edit brought a name back, or an orphan has one again, and with it its mode; or by another merge
    policy a file shows something else."""
    for ino in batch.appeared:
        for place in batch.state.known(ino).shown:
            changes.entries.add((place.parent, place.name))
            changes.inode(place.parent)
        changes.inode(ino)
    for ino, content in batch.contents.items():
        changes.inode(ino, content=content != key_of_content(batch.state, batch.state.known(ino)))


def _add_names(changes: Changes, key: NameKey, views: tuple[View, View], *, contested: bool) -> None:
    directory, raw = key
    for view in views:
        members = view.members(directory)
        names = [raw]
        if contested or len(members) > 1:
            entries = view.group(members, raw)
            names += [entry.name for entry in entries]
            for entry in entries:
                changes.inode(entry.ino)
        for member in members:
            changes.entries.update((member, name) for name in names)
            changes.inode(member)


def _add_inode(changes: Changes, batch: Transaction, ino: Ino, views: tuple[View, View]) -> None:
    inode = batch.state.inode(ino)
    if inode is None:
        return
    if inode.is_directory:
        for view in views:
            for member in view.members(ino):
                changes.inode(member)
        return
    for view in views:
        for twin in view.twins(ino):
            changes.inode(twin)
    heads = shown_heads(batch.state, inode) if inode.heads else []
    # A conflict entry that became a file has been known by its number, with whatever it showed then.
    changed = bool(ino & DERIVED)
    if ino in batch.contents:
        changed = batch.contents[ino] != key_of_content(batch.state, inode, heads)
    changes.inode(ino, content=changed)
    if inode.branches:
        for _, top in branches(batch.state, inode):
            changes.inode(branch_ino(top.ref), content=True)
