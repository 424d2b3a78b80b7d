"""Who may write to a file, and whose right a concurrent change took.

The owner, the group and the mode of a file are registers, its contents are versions; a replica can change the
ones while another one writes the others.  Which had heard of which is in both: the context of a register
covers the versions that its author was shown, and a version names the registers that its writer was under.
So of two it is known whether one came after the other or neither did.

A write that was allowed where it happened stays (design section 5, Permissions).  It is recorded where its
writer, by what holds now, has not the right to write, and what holds has to do with a setting that is
concurrent with it.  Set-user-id and set-group-id show only with a content that whoever set them had seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from crdt.causality import Context, Dot, covers
from crdt.facts import DERIVED, Caller, Field, Ref, Register, Xattr
from crdt.merging import is_any_merging
from crdt.rows import Inode, Stamped, StoredVersion, context_with, privileges
from crdt.state import State
from crdt.versions import branch

PERMISSIONS = (Field.MODE, Field.UID, Field.GID)
SET_ID = 0o6000

CAPABILITY = b"security.capability"

Setting = Stamped[Register] | Stamped[Xattr]


def settings(inode: Inode) -> list[Stamped[Register]]:
    """Return the settings of owner, group and mode that nothing has replaced."""
    return [value for field in PERMISSIONS for value in inode.registers.get(field, ())]


def under(inode: Inode) -> Context:
    """Return the settings that whoever writes here now has heard of."""
    context: Context = ()
    for value in settings(inode):
        context = context_with(context, value.dot)
    return context


def may_write(bits: int, inode: Inode, writer: Caller) -> bool:
    """Do these bits let somebody other than root write to a file of this owner and group?

    By other groups they are in they may, too: which those are is not known.
    """
    if writer.uid == inode.uid:
        return bool(bits & 0o200)
    return bool(bits & (0o020 if writer.gid == inode.gid else 0o002))


class Overridden(NamedTuple):
    """A write by somebody who had the right, and the newest concurrent setting by which they have not."""

    version: StoredVersion
    setting: Stamped[Register]


def write_without_right(state: State, inode: Inode, head: Ref) -> Overridden | None:
    """Return the newest write on the branch of `head` that somebody made who has lost the right to it.

    The walk ends where every setting that holds is known to be seen by the writer, or to have seen the
    writing: what is older was written over by somebody who knew.
    """
    unheard = settings(inode)
    for step in branch(state, head) if unheard else ():
        stored = state.version(step.ref)
        if stored is None:
            return None
        unheard = [value for value in unheard if not has_seen(value, stored)]
        if is_written(stored):
            unheard = [value for value in unheard if not covers(stored.fact.under, value.dot)]
        if not unheard:
            return None
        writer = stored.fact.writer
        if writer is not None and not may_write(inode.mode, inode, writer):
            return Overridden(stored, max(unheard, key=lambda value: (value.stamp, -value.fact.field)))
    return None


def is_written(stored: StoredVersion) -> bool:
    """Or does it choose, rename or merge contents that are there already?"""
    return stored.fact.lineage is None and not stored.fact.version & DERIVED


def has_seen(value: Setting, stored: StoredVersion) -> bool:
    """Had the author of a setting seen this version, or made it in the same commit?"""
    return any(dot == value.dot or covers(value.fact.context, dot) for dot in makers(stored))


def makers(stored: StoredVersion) -> list[Dot]:
    return [stored.dot, *(dot for dot, _, _ in stored.also)]


def permission_bits(state: State, inode: Inode, heads: Sequence[Ref]) -> int:
    """Return the mode that shows with what these heads of a file hold; `Inode.mode` says what settings leave
    of it."""
    bits = inode.mode
    lent = privileges(bits)
    if lent and not is_vouched_for(state, inode.registers.get(Field.MODE, ()), heads):
        return bits & ~lent
    return bits


def shows_capability(state: State, inode: Inode, values: Sequence[Setting], heads: Sequence[Ref]) -> bool:
    """Does this attribute, which gives rights to a program, show with this content and the owner as it is?"""
    owners = [owner for field in (Field.UID, Field.GID) for owner in inode.registers.get(field, ())]
    knows_owner = all(any(covers(v.fact.context, owner.dot) for v in values) for owner in owners)
    return knows_owner and is_vouched_for(state, values, heads)


def is_vouched_for(state: State, values: Sequence[Setting], heads: Sequence[Ref]) -> bool:
    """Had somebody who made a setting seen each content?  The empty one of a new file needs nobody."""
    todo, known = list(heads), set()
    while todo:
        ref = todo.pop()
        stored = state.version(ref)
        if ref in known or stored is None or any(has_seen(value, stored) for value in values):
            continue
        known.add(ref)
        if is_written(stored):
            return False
        todo += stored.fact.parents if is_any_merging(stored.fact) else stored.fact.parents[:1]
    return True
