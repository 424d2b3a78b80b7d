"""Which heads of a file show, and which hide under one of these because they add nothing.

Both sites applied one patch, then one of them went on: there is no conflict.  A head *adds nothing* to
another if its content stands in the history of that one since their fork, and it was not chosen over that
history.  Such heads form a *group* with the one that shows: what is done through an entry is done to all of
its group, so that none comes out later.

Contents are compared by their digests, which stay when a version is superseded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from crdt.blocks import EMPTY_DIGEST
from crdt.causality import BEFORE_ALL
from crdt.facts import Policy, Ref
from crdt.merging import is_any_merging, merges, origin
from crdt.rows import Head, Inode
from crdt.state import State, remember, version_key
from crdt.versions import (
    Forks,
    Step,
    branch,
    by_lead,
    is_named,
    is_on_branch,
    line_refs,
    lineage_of,
    settled_by,
    step_of,
    surviving,
    top_of,
    was_dropped,
)

MORE = b"more than one head"  # no digest
Group = list[Head]  # the head that shows, then those that hide under it


class Grouping(NamedTuple):
    """What shows of the heads of a file, as they are now."""

    heads: tuple[Head, ...]
    groups: list[Group]  # first what shows as the file
    is_one: bool  # the only group shows as one content, by the merge policy
    forks: Forks


class End(NamedTuple):
    """A head and, where its line leads through a file that it replaced, the version that says so."""

    head: Ref
    via: Ref | None = None


def shown_groups(state: State, inode: Inode) -> list[Group]:
    """Return the heads that show, each with those under it; first what shows as the file.

    Heads that the merge policy of the file shows as one (crdt.merging) are one group.  Nobody may change it.
    """
    if len(inode.heads) == 1:
        return [inode.heads]
    return _grouping(state, inode).groups


def _grouping(state: State, inode: Inode) -> Grouping:
    """Found once, while the facts that decide it do not change."""
    known = state.groupings()
    if known is None:
        return _new_grouping(state, inode)
    found = known.get(inode.ino)
    if found is None or found.heads != tuple(inode.heads):
        found = _new_grouping(state, inode)
        remember(known, inode.ino, found)
    return found


def _new_grouping(state: State, inode: Inode) -> Grouping:
    forks = Forks(state)
    groups, is_one = _find_groups(forks, inode)
    return Grouping(tuple(inode.heads), groups, is_one, forks)


def _find_groups(forks: Forks, inode: Inode) -> tuple[list[Group], bool]:
    state, heads = forks.state, inode.heads
    if is_named(inode):
        use = [head for head in heads if not head.closed and not head.dropped]
    else:
        use = surviving(state, inode)
    if not use:
        return [[_let_go_last(forks, inode)]], False
    heads = by_lead(forks, use)
    if len(heads) > 1 and merges(state, inode.policy, heads):
        return [heads], True
    return _grouped(forks, heads), False


def together(state: State, inode: Inode) -> Group:
    """Return the heads that show as one content by the merge policy of the file; none where one shows."""
    if len(inode.heads) == 1 or inode.policy in (Policy.UNSET, Policy.KEEP):
        return []
    found = _grouping(state, inode)
    return found.groups[0] if found.is_one else []


def shown_heads(state: State, inode: Inode) -> list[Head]:
    """Return the heads that show, the one that shows as the file first."""
    if len(inode.heads) == 1:
        return inode.heads
    return [group[0] for group in shown_groups(state, inode)]


def branches(state: State, inode: Inode) -> list[tuple[Head, Step]]:
    """The heads of a file that show beside it, each with the first version of its branch.

    One whose content is not here yet has nothing to show: not what the file was before they parted.
    """
    if len(inode.heads) < 2:
        return []
    found: list[tuple[Head, Step]] = []
    grouping = _grouping(state, inode)
    shown = [group[0] for group in grouping.groups]
    for position, head in enumerate(shown[1:], 1):
        top = top_of(grouping.forks, head.ref, [other.ref for other in shown[:position]])
        parted = head.before is not None and not is_on_branch(state, top.ref, head.before.ref)
        found.append((head._replace(before=None) if parted else head, top))
    return found


def hidden_under(state: State, inode: Inode, shown: Ref) -> list[Ref]:
    """Return the heads that hide under this one; none where it does not show, or is shown with others."""
    if len(inode.heads) == 1 or together(state, inode):
        return []
    for first, *hidden in shown_groups(state, inode):
        if first.ref == shown:
            return [head.ref for head in hidden]
    return []


def hidden_on(state: State, inode: Inode, top: Ref, shown: Ref) -> list[Ref]:
    """Return the heads of the branch from `top` on that hide under another than the one that it shows."""
    found: list[Ref] = []
    for first, *hidden in shown_groups(state, inode):
        if first.ref != shown:
            found += [head.ref for head in hidden if is_on_branch(state, top, head.ref)]
    return found


def _let_go_last(forks: Forks, inode: Inode) -> Head:
    """What a file shows whose name lives on although each of its heads was settled or dropped.

    It is the one that was let go last, of several at one time the first by lead; but none that hid until
    then, under another or under the branch that settled it: that is not what the name stood for.
    """
    by_time: dict[int, list[Head]] = {}
    for head in by_lead(forks, inode.heads):
        by_time.setdefault(_let_go(head), []).append(head)
    last_first = sorted(by_time, reverse=True)
    then: list[Head] = []
    for time in last_first:
        then += by_time[time]
        closed = {head.ref for head in by_time[time] if head.closed == time}
        then += settled_by(forks.state, inode, closed, time) if closed else []
        showed = {group[0].ref for group in _grouped(forks, by_lead(forks, then))}
        found = next((head for head in by_time[time] if head.ref in showed), None)
        if found is not None:
            return found
    return by_time[last_first[0]][0]


def _let_go(head: Head) -> int:
    return min((time for time in (head.closed, head.dropped) if time), default=0)


def _grouped(forks: Forks, heads: list[Head]) -> list[Group]:
    """Group heads, given best lead first."""
    if len(heads) == 1:
        return [heads]
    under = [_nearest_that_hides(forks, heads, at) for at in range(len(heads))]
    over = [last_over(at, under.__getitem__) for at in range(len(heads))]
    groups = {at: [heads[at]] for at in range(len(heads)) if over[at] == at}
    for at, head in enumerate(heads):
        if over[at] != at:
            groups[over[at]].append(head)
    return list(groups.values())


def last_over(at: int, under: Callable[[int], int | None]) -> int:
    """Follow what hides what to the one that shows.

    Three branches can hide each other in a circle (each began with what the next one ends with): then the
    first of these shows.
    """
    way = [at]
    while (above := under(way[-1])) is not None:
        if above in way:
            return min(way[way.index(above) :])
        way.append(above)
    return way[-1]


def _nearest_that_hides(forks: Forks, heads: list[Head], at: int) -> int | None:
    """Return which head this one hides under, of those that it forked from last.

    t, u, t on one branch does not hide a t that was written on a third one, which forked before.
    """
    state, mine = forks.state, heads[at].ref
    common = {other: forks.of(mine, head.ref).common for other, head in enumerate(heads) if other != at}
    if len(common) > 1:
        stamps = {o: BEFORE_ALL if c is None else step_of(state, c).stamp for o, c in common.items()}
        nearest = max(stamps.values())
        common = {other: common[other] for other, stamp in stamps.items() if stamp == nearest}
    for other, parted in common.items():
        if hides(state, End(heads[other].ref), End(mine), parted, head_first=at < other):
            return other
    return None


def hides(state: State, shown: End, end: End, common: Ref | None, *, head_first: bool) -> bool:
    """Does `end` not show because of `shown`, their lines having parted after `common`?

    Of equal contents the first one shows: `head_first` says that this is `end`.
    """
    if not adds_nothing(state, end, shown, common):
        return False
    if compared_at(state, end.head) == compared_at(state, shown.head):
        return not head_first
    return not adds_nothing(state, shown, end, common)


def adds_nothing(state: State, end: End, other: End, common: Ref | None, *, shows_more: bool = False) -> bool:
    """Is the content at the end of one line in the history of the other since they parted?

    A content that was chosen over that history is news.  Strangers, which never parted, are compared by what
    stays known of a branch for ever: its first content and its last.  So are a file and what it replaced
    under one of several names: what happened to that is its history only once somebody lets it go, and by
    that nothing may come to show again.

    `shows_more`: the head of the other line is the first of several that show together.
    """
    mine, theirs = compared_at(state, end.head), compared_at(state, other.head)
    if shows_more:
        theirs = MORE
    if mine != theirs and _was_chosen_over(state, end.head, other):
        return False
    since, is_own = ([], False) if common is None else _since(state, other, common)
    in_history = any(compared_at(state, ref) == mine for ref in since)
    if is_own or in_history:
        return in_history
    began = first_digest_at(state, end.head)
    return mine in (theirs, first_digest_at(state, other.head)) or not began


def _since(state: State, other: End, common: Ref) -> tuple[list[Ref], bool]:
    """The versions back to the common one, none where what is between lives on as another file; and whether
    they are surely of this file: it settled what it replaced."""
    found: list[Ref] = []
    is_own = True
    for ref in line_refs(state, *other):
        if found and lineage_of(state, found[-1]) == ref and not _settles(state, found[-1], ref):
            is_own = False
            inode = state.inode(ref.ino)
            if inode is None or not was_dropped(state, inode, ref):
                return [], False
        found.append(ref)
        if ref == common:
            return found, is_own
    return [], False


def _settles(state: State, ref: Ref, other: Ref) -> bool:
    """Does this version, or one that it extends, settle the other one, or one that came of that?"""
    for step in branch(state, ref):
        stored = state.version(step.ref)
        parents = () if stored is None else stored.fact.parents[1:]
        if any(is_on_branch(state, other, parent) for parent in parents):
            return True
    return False


def _was_chosen_over(state: State, ref: Ref, other: End) -> bool:
    """Does it settle a version of the other line that has another content?

    Not what a file replaced where it stands: that is no choice, no more than what an edit began with.
    """
    stored = state.version(ref)
    if stored is None:
        return False
    digest = compared_at(state, ref)
    for parent in stored.fact.parents[1:]:
        if parent == stored.fact.lineage or compared_at(state, parent) == digest:
            continue
        if is_on_branch(state, parent, other.head):
            return True
        if other.via is not None and parent in line_refs(state, *other):
            return True
    return False


def digest_at(state: State, ref: Ref) -> bytes:
    stored = state.version(ref)
    return EMPTY_DIGEST if stored is None else stored.fact.digest


def compared_at(state: State, ref: Ref) -> bytes:
    """Return what tells whether two contents are one.

    What several heads showed together is like no other, before it is made a version and then, also where that
    was chosen or renamed since.
    """
    stored = state.version(ref)
    if stored is None:
        return EMPTY_DIGEST
    if not stored.fact.settles and stored.fact.lineage is None:
        return stored.fact.digest
    first = origin(state, ref)
    made = state.version(first)
    return MORE + version_key(first) if made is not None and is_any_merging(made.fact) else stored.fact.digest


def first_digest_at(state: State, ref: Ref) -> bytes:
    """The first content of a branch that differs from what it began with; empty where there is none yet."""
    stored = state.version(ref)
    return b"" if stored is None else stored.fact.first_digest
