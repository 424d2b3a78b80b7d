"""The DAG of contents: branches, forks, and which branch leads.

First parents make branches.  Where two branches part, the one whose next version has the greater stamp
leads; so it is the fork that decides, and later edits on a losing branch do not flip the file.  A *line*
is a branch that continues through the files which a file replaced by rename: two sites that save with an
editor have files of their own, and a common ancestor.

Everything walks from a version back, newest first.  Along a branch and along a line stamps only fall, so
two walks meet at their last common version by always stepping the newer one back; the cost is what lies
between the heads and the fork.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cmp_to_key
from typing import NamedTuple

from crdt.causality import BEFORE_ALL, Stamp
from crdt.facts import Ino, Ref, VersionId
from crdt.rows import Head, Inode
from crdt.state import State


class Step(NamedTuple):
    """A version on a walk, and what made it, when."""

    stamp: Stamp
    ref: Ref
    wall_ns: int  # by the clock of who made it


class Fork(NamedTuple):
    """Where two walks part: the first step of each after what they have in common, None where one ends
    in the other; `common` is None for strangers."""

    left: Step | None
    right: Step | None
    common: Ref | None

    def seen_from_right(self) -> Fork:
        return Fork(self.right, self.left, self.common)


def first_version(ino: Ino) -> Ref:
    """The empty version that a file is born with."""
    return Ref(ino, VersionId(ino))


def step_of(state: State, ref: Ref) -> Step:
    stored = state.version(ref)
    if stored is not None:
        return Step(stored.stamp, ref, stored.wall_ns)
    inode = state.inode(ref.ino)
    if inode is None:
        return Step(BEFORE_ALL, ref, 0)
    return Step(inode.stamp, ref, inode.births[0].wall_ns)


def previous(state: State, ref: Ref, *, through_renames: bool = False) -> Ref | None:
    """Return the version before this one on its branch, or on its line."""
    lineage = lineage_of(state, ref) if through_renames else None
    if lineage is not None:
        return lineage
    stored = state.version(ref)
    return None if stored is None or not stored.fact.parents else stored.fact.parents[0]


def lineage_of(state: State, ref: Ref) -> Ref | None:
    """Return the version of another file that this one goes on from."""
    stored = state.version(ref)
    if stored is not None:
        return stored.fact.lineage
    inode = state.inode(ref.ino)
    return None if inode is None else inode.birth.lineage


def branch(state: State, head: Ref) -> Iterator[Step]:
    """Walk along first parents, newest first."""
    ref = head
    while (stored := state.version(ref)) is not None:
        yield Step(Stamp(stored.hlc, stored.dot), ref, stored.wall_ns)
        if not stored.fact.parents:
            return
        ref = stored.fact.parents[0]
    yield step_of(state, ref)


def branch_refs(state: State, head: Ref) -> Iterator[Ref]:
    """As `branch`, where it does not matter when the versions were made."""
    ref: Ref | None = head
    while ref is not None:
        yield ref
        ref = previous(state, ref)


def line(state: State, head: Ref, via: Ref | None) -> Iterator[Step]:
    """Walk along the branch to where the file came to its name, and on through what it replaced there.

    `via` is the version by which it replaced another.  Where the branch does not contain it (somebody
    settled it away) it stands in for the version that it extends.
    """
    return (step_of(state, ref) for ref in line_refs(state, head, via))


def line_refs(state: State, head: Ref, via: Ref | None) -> Iterator[Ref]:
    """As `line`, where it does not matter when the versions were made."""
    if via is None:
        yield from branch_refs(state, head)
        return
    moved_from = previous(state, via)
    for ref in branch_refs(state, head):
        if ref in (via, moved_from):
            break
        yield ref
    else:
        return
    at: Ref | None = via
    while at is not None:
        yield at
        at = previous(state, at, through_renames=True)


def fork(left: Iterator[Step], right: Iterator[Step]) -> Fork:
    """Find where two walks part, from their ends."""
    a, b = next(left, None), next(right, None)
    after_a: Step | None = None
    after_b: Step | None = None
    while a is not None and b is not None:
        if a.ref == b.ref:
            return Fork(after_a, after_b, a.ref)
        if a > b:
            after_a, a = a, next(left, None)
        else:
            after_b, b = b, next(right, None)
    while a is not None:
        after_a, a = a, next(left, None)
    while b is not None:
        after_b, b = b, next(right, None)
    return Fork(after_a, after_b, None)


def falls(state: State, head: Ref, via: Ref | None) -> bool:
    """Do the stamps along the line fall?  Not sure where it leaves its branch for a version beside it."""
    return via is None or is_on_branch(state, via, head)


def fork_of_any(left: list[Step], right: list[Step]) -> Fork:
    """As `fork`, for lines whose stamps need not fall."""
    seen = {step.ref for step in right}
    at = next((i for i, step in enumerate(left) if step.ref in seen), len(left))
    common = left[at].ref if at < len(left) else None
    other = next((i for i, step in enumerate(right) if step.ref == common), len(right))
    return Fork(left[at - 1] if at else None, right[other - 1] if other else None, common)


def order(found: Fork) -> int:
    """Compare two walks from their beginning on: 1 where the left one leads, -1 where the right does."""
    if found.left is None or found.right is None:
        return (found.left is not None) - (found.right is not None)
    return 1 if found.left > found.right else -1


class Forks:
    """Where the branches of some heads part, each pair looked at once."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._known: dict[tuple[Ref, Ref], Fork] = {}

    def of(self, left: Ref, right: Ref) -> Fork:
        found = self._known.get((left, right))
        if found is None:
            found = fork(branch(self.state, left), branch(self.state, right))
            self._known[left, right] = found
            self._known[right, left] = found.seen_from_right()
        return found


def by_lead(forks: Forks, heads: list[Head]) -> list[Head]:
    """Return heads of one file, the one that leads first."""
    if len(heads) < 2:
        return heads

    def compare(a: Head, b: Head) -> int:
        return order(forks.of(a.ref, b.ref))

    return sorted(heads, key=cmp_to_key(compare), reverse=True)


def top_of(forks: Forks, head: Ref, others: list[Ref]) -> Step:
    """Return the first version of a branch that none of the other heads shares."""
    tops = (forks.of(head, other).left for other in others)
    newest = max((step for step in tops if step is not None), default=None)
    assert newest is not None, f"{head} adds nothing to {others}"
    return newest


def is_on_branch(state: State, ref: Ref, head: Ref) -> bool:
    """Is `ref` the head, or one that it extends?"""
    goal = step_of(state, ref)
    for step in branch(state, head):
        if step.ref == ref:
            return True
        if step.stamp < goal.stamp:
            return False
    return False


def owner(state: State, ref: Ref) -> Ino:
    """Return the inode that claims the branch of a version, else the one that the branch began in.

    So an edit of a conflict entry follows it when another replica makes that entry a file of its own.
    """
    inode = state.inode(ref.ino)
    if inode is None or (not inode.splits and inode.birth.claims is None):
        return ref.ino
    root = ref
    for step in branch(state, ref):
        root = step.ref
        inode = state.inode(root.ino)
        for top, claimant in () if inode is None else inode.splits:
            if top == root:
                return claimant
    return root.ino


def kin(state: State, inode: Inode) -> list[Ino]:
    """Inodes whose versions have to do with those of this one: named as parents, or of one file once."""
    found = [*inode.related, *(claimant for _, claimant in inode.splits)]
    claims = inode.birth.claims
    origin = None if claims is None else state.inode(claims.ino)
    if origin is not None:
        found += [origin.ino, *(claimant for _, claimant in origin.splits)]
    return found


def own_heads(inode: Inode) -> list[Head]:
    """The versions of a file that none of it extends, settled or not."""
    return [*inode.heads, *(head for head, _ in inode.settled)]


# -- what shows ----------------------------------------------------------------------------------------


def is_named(inode: Inode) -> bool:
    """Has it a live link, other than the one that a split made?  That one keeps nothing alive."""
    return any(not p.fact.split for link in inode.links.values() for p in link.live())


def surviving(state: State, inode: Inode) -> list[Head]:
    return [head for head in inode.heads if not head.closed and not is_covered(state, inode, head)]


def is_covered(state: State, inode: Inode, head: Head) -> bool:
    """Dropped, or a settlement of nothing but dropped versions, which is no edit that brings them back."""
    if head.dropped:
        return True
    return head.settles and _is_settlement_of_dropped(state, inode, head.ref)


def _is_settlement_of_dropped(state: State, inode: Inode, ref: Ref) -> bool:
    stored = state.version(ref)
    if stored is None or not stored.fact.settles:
        return False
    return are_dropped(state, inode, stored.fact.parents)


def are_dropped(state: State, inode: Inode, refs: Iterable[Ref]) -> bool:
    """Were all of these meant to be gone, or are they settlements of what was?  So would one of them be."""
    return all(was_dropped(state, inode, r) or _is_settlement_of_dropped(state, inode, r) for r in refs)


def was_dropped(state: State, inode: Inode, ref: Ref) -> bool:
    """Did a removal mean this version, or one that came of it, to be gone?"""
    return bool(dropped_at(state, inode, ref))


def dropped_at(state: State, inode: Inode, ref: Ref) -> int:
    """When that was first: an hlc, 0 for never."""
    goal = step_of(state, ref)
    found = (
        removal.hlc
        for relative in relatives(state, inode.ino, ref.ino, owner(state, ref))
        for link in relative.links.values()
        for removal in link.removals
        if any(is_ancestor(state, goal, drop) for drop in removal.fact.drops)
    )
    return min(found, default=0)


def settled_by(state: State, inode: Inode, refs: set[Ref], hlc: int) -> list[Head]:
    """The versions of other files that settled one of these at that time, or went on from it."""
    found: list[Head] = []
    todo = [head.ref for relative in relatives(state, inode.ino) for head in own_heads(relative)]
    seen: set[Ref] = set()
    while todo:
        ref = todo.pop()
        stored = None if ref in seen else state.version(ref)
        seen.add(ref)
        if stored is None or stored.hlc < hlc:
            continue
        todo += stored.fact.parents
        if stored.hlc == hlc and not refs.isdisjoint(stored.fact.parents):
            found.append(stored.head(ref))
    return found


def relatives(state: State, *inos: Ino) -> list[Inode]:
    """These inodes, their kin, theirs and so on."""
    found: dict[Ino, Inode] = {}
    todo = list(inos)
    while todo:
        ino = todo.pop()
        other = state.inode(ino)
        if other is not None and ino not in found:
            found[ino] = other
            todo += kin(state, other)
    return list(found.values())


def is_ancestor(state: State, goal: Step, descendant: Ref) -> bool:
    """Is it the descendant, or one that it extends or settles, through any parents?"""
    todo, seen = [descendant], set()
    while todo:
        ref = todo.pop()
        if ref == goal.ref:
            return True
        if ref in seen or step_of(state, ref).stamp < goal.stamp:
            continue
        seen.add(ref)
        stored = state.version(ref)
        if stored is not None:
            todo += stored.fact.parents
    return False


def has_seen(state: State, inode: Inode, heads: list[Head]) -> bool:
    """Did those who removed names of the file see all of these heads?"""
    seen = {ref for link in inode.links.values() for removal in link.removals for ref in removal.fact.seen}
    return all(any(is_ancestor(state, step_of(state, head.ref), ref) for ref in seen) for head in heads)
