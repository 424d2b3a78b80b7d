"""What a file shows: the content of one head or, by its merge policy, what several show together.

Only what can be read: a head whose blocks are not all here has no part in it yet, and a file goes on
showing what it had.
"""

from __future__ import annotations

from collections.abc import Sequence

from crdt.absorption import shown_heads, together
from crdt.merging import Merged, merged
from crdt.rows import Head, Inode
from crdt.state import State
from crdt.waiting import is_here


def showing(state: State, inode: Inode, shown: Sequence[Head] = ()) -> Head | Merged:
    """Return what shows as the file, as far as it is here.  `shown`: its heads that show, where known."""
    heads = together(state, inode)
    if not heads:
        return (shown or shown_heads(state, inode))[0]
    readable = _readable(state, inode, heads)
    if len(readable) == 1:
        return readable[0]
    known = state.merged.get(inode.ino)
    if known is not None and known[0] is inode and known[1] == readable:
        return known[2] or readable[0]
    found = merged(state, inode.policy, [head.here for head in readable])
    if isinstance(found, Head):  # of those that show it, the one that leads
        found = next(head for head in readable if head.here.ref == found.ref)
    state.remember_merged(inode, readable, found)
    return found or readable[0]


def _readable(state: State, inode: Inode, heads: Sequence[Head]) -> list[Head]:
    """The heads without those that wait for blocks, or whose content is on its way with what superseded it,
    and that have nothing to show meanwhile; one of these where all are so."""
    return [head for head in heads if is_here(state, inode, head)] or [heads[0]]


def key_of_content(state: State, inode: Inode, shown: Sequence[Head] = ()) -> tuple[object, ...]:
    """Return what the content that shows as the file is made of: it is another one if this is."""
    if not inode.heads:
        return ()
    found = showing(state, inode, shown)
    return (found.policy, *found.refs) if isinstance(found, Merged) else (found.here.ref,)
