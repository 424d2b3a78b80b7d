"""Permissions: which settings of owner, group and mode know of which contents.

Whoever makes a setting has seen some contents, and whoever writes has heard of some settings.  Two that know
nothing of each other are *concurrent*.  Who has seen a content has seen all before it on its branch; and what
a later writer there had heard of, earlier ones need not have.

- Set-user-id, and set-group-id where the group may run the file, show with a content that somebody who set
  them had seen, if they had also seen the last change of owner and group.
- A write has lost its right where, by what holds now, its writer has not the right to write, and something
  that holds now is concurrent with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from crdt.causality import covers
from crdt.facts import DERIVED, Caller, Field, Kind, Ref, Register, Version
from tests.reference.contents import Contents
from tests.reference.gathered import Gathered, Inode, Made

SET_ID, SET_USER_ID, GROUP_RUNS = 0o6000, 0o4000, 0o010
PERMISSIONS = (Field.MODE, Field.UID, Field.GID)


class LostRight(NamedTuple):
    written: Made[Version]
    setting: Made[Register]


class Rights:
    def __init__(self, facts: Gathered, contents: Contents) -> None:
        self.facts, self.contents = facts, contents

    def mode(self, inode: Inode, heads: Sequence[Ref]) -> int:
        """The permission bits that show with what these heads hold."""
        bits = inode.value(Field.MODE, inode.mode)
        lent = bits & (SET_ID if bits & GROUP_RUNS else SET_USER_ID)
        if not lent or inode.is_directory:
            return bits
        modes = list(inode.current(Field.MODE))
        knows_owner = all(
            owner.stamp == inode.stamp or any(saw(mode, owner) for mode in modes)
            for field in (Field.UID, Field.GID)
            for owner in inode.current(field)
        )
        is_regular = inode.birth.kind == Kind.REGULAR
        knows_content = not is_regular or all(self._saw_writing(modes, head) for head in heads)
        return bits if knows_owner and knows_content else bits & ~lent

    def _saw_writing(self, modes: list[Made[Register]], ref: Ref) -> bool:
        """Had the author of one of these seen the last writing up to this version, or what came of it?"""
        fact = self.facts.versions[ref].fact
        if not fact.parents or any(self.saw_version(mode, ref) for mode in modes):
            return True
        if self.is_written(ref):
            return False
        parents = fact.parents if self.contents.merging.is_any_merging(ref) else fact.parents[:1]
        return all(self._saw_writing(modes, parent) for parent in parents)

    def lost(self, inode: Inode, head: Ref) -> LostRight | None:
        """The newest write on this branch whose writer has lost the right to it."""
        for ref, concurrent in self._writes(inode, head):
            made = self.facts.versions[ref]
            if concurrent and made.fact.writer is not None and not may_write(inode, made.fact.writer):
                return LostRight(made, max(concurrent, key=lambda s: (s.stamp, -s.fact.field)))
        return None

    def _writes(self, inode: Inode, head: Ref) -> Iterator[tuple[Ref, list[Made[Register]]]]:
        """The writes on a branch, the newest first, each with the settings that are concurrent with it."""
        concurrent = [setting for field in PERMISSIONS for setting in inode.current(field)]
        for ref in reversed(self.contents.path[head]):
            concurrent = [setting for setting in concurrent if not self.saw_version(setting, ref)]
            if self.is_written(ref):
                under = self.facts.versions[ref].fact.under
                concurrent = [setting for setting in concurrent if not covers(under, setting.stamp.dot)]
                yield ref, concurrent

    def is_written(self, ref: Ref) -> bool:
        """Not the empty content of a new file, nor one that was there before and was chosen or renamed."""
        fact = self.facts.versions[ref].fact
        return bool(fact.parents) and fact.lineage is None and not fact.version & DERIVED

    def saw_version(self, setting: Made[Register], ref: Ref) -> bool:
        dots = [made.dot for made in self.facts.makers[ref]]
        return any(dot == setting.stamp.dot or covers(setting.fact.context, dot) for dot in dots)


def saw(setting: Made[Register], other: Made[Register]) -> bool:
    return setting.stamp == other.stamp or covers(setting.fact.context, other.stamp.dot)


def may_write(inode: Inode, writer: Caller) -> bool:
    bits = inode.value(Field.MODE, inode.mode)
    if writer.uid == inode.value(Field.UID, inode.birth.uid):
        return bool(bits & 0o200)
    return bool(bits & (0o020 if writer.gid == inode.value(Field.GID, inode.birth.gid) else 0o002))
