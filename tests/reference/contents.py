"""The versions of files: whose they are, the branches they form, and the heads that show.

Versions form a DAG.  First parents make it a forest of *paths*; where two paths part is a *fork*, and
there the branch with the newer first version leads, however late the other is edited.  A *head* is a
version that no version of the same file extends or settles.  It *survives* unless a later version
settles it, a removal dropped it, or it is a mere settlement of what was dropped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

from crdt.blocks import BLOCK_SIZE
from crdt.causality import Stamp
from crdt.facts import Ino, Kind, LinkId, Ref, Version
from tests.reference.gathered import Gathered
from tests.reference.merging import Merging
from tests.reference.places import Places

Path = tuple[Ref, ...]  # each version extends the one before it
T = TypeVar("T")
Heads = tuple[Ref, ...]  # one that shows, and those that hide under it


class Contents:
    def __init__(self, facts: Gathered, places: Places, blocks: Mapping[bytes, bytes]) -> None:
        self.facts, self.places, self.blocks = facts, places, blocks
        self.versions = facts.versions
        self.known_contents: dict[Ref, bytes] = {}
        self._follow_parents()
        self.merging = Merging(self.versions, self.content, self.owner)
        self._find_dropped()
        self.named = {
            facts.links[link].ino
            for link, live in places.live.items()
            if any(not made.fact.split for made in live)
        }
        self.heads: dict[Ino, list[Ref]] = {}
        self.surviving: dict[Ino, list[Ref]] = {}
        self.shown: dict[Ino, list[Heads]] = {}
        self.merged: dict[Ino, bytes] = {}  # of files whose heads show as one content
        for ino, inode in facts.inodes.items():
            if not inode.is_directory:
                self._find_heads(ino)

    # -- branches --------------------------------------------------------------------------------

    def _follow_parents(self) -> None:
        """An edit of a conflict entry follows it when another replica makes that a file of its own:
        the owner of a version is the inode that claims its branch, else the one it was written to."""
        self.children: dict[Ref, list[Ref]] = defaultdict(list)
        self.owned: dict[Ino, list[Ref]] = defaultdict(list)
        self.written: dict[Ino, list[Ref]] = defaultdict(list)
        self.owner: dict[Ref, Ino] = {}
        self.path: dict[Ref, Path] = {}
        oldest_first = sorted(self.versions, key=lambda ref: (self.versions[ref].stamp, ref))
        for ref in sorted(oldest_first, key=lambda ref: len(self.versions[ref].fact.parents) > 0):
            self._follow(ref)
        for ref in oldest_first:
            self.owned[self.owner[ref]].append(ref)
            self.written[ref.ino].append(ref)
            for parent in self.versions[ref].fact.parents:
                self.children[parent].append(ref)

    def _follow(self, ref: Ref) -> None:
        parents = self.versions[ref].fact.parents
        up = parents[0] if parents else None
        assert up is None or up in self.path, f"{ref} is older than its parent {up}"
        inherited = self.owner[up] if up else ref.ino
        self.owner[ref] = self.facts.claims.get(ref, inherited)
        self.path[ref] = (*(self.path[up] if up else ()), ref)

    def in_time(self, path: Sequence[Ref]) -> list[tuple[Stamp, Ref]]:
        """What branches of one file are compared by: the fork decides, not the newest edit."""
        return [(self.versions[ref].stamp, ref) for ref in path]

    def lead(self, left: Path, right: Path) -> int:
        """Compare two lines where they part: 1 where the left one leads, -1 where the right one does."""
        after = [self.in_time(left[parting(left, right) :]), self.in_time(right[parting(right, left) :])]
        if not after[0] or not after[1]:
            return bool(after[0]) - bool(after[1])
        return 1 if after[0][0] > after[1][0] else -1

    def line(self, link: LinkId, head: Ref) -> Path:
        """The path of what a link shows, through the files that it replaced at this name.

        Two replicas save with an editor that writes a new file and renames it over the old one: their
        files are compared from the version that both replaced on, as if both had written into it.
        """
        via, own = self.places.where[link].fact.via, self.path[head]
        if via not in self.versions:
            return own
        moved_here = via if via in own else self.versions[via].fact.parents[0]
        if moved_here not in own:
            return own
        return self._path_through_renames(via) + own[own.index(moved_here) + 1 :]

    def _path_through_renames(self, ref: Ref) -> Path:
        found: list[Ref] = []
        todo: Ref | None = ref
        while todo in self.versions:
            found.append(todo)
            fact = self.versions[todo].fact
            extended = fact.parents[0] if fact.parents else None
            todo = fact.lineage if fact.lineage in self.versions else extended
        return tuple(reversed(found))

    # -- heads -----------------------------------------------------------------------------------

    def _find_dropped(self) -> None:
        self.dropping = [
            (made.stamp.hlc, self.ancestry(made.fact.drops))
            for link in self.facts.links.values()
            for made in link.removals
            if made.fact.drops
        ]
        self.dropped = {ref for _, refs in self.dropping for ref in refs}

    def ancestry(self, refs: Iterable[Ref]) -> set[Ref]:
        """Return these versions and all that they extend or settle."""
        found: set[Ref] = set()
        todo = list(refs)
        while todo:
            ref = todo.pop()
            if ref not in found:
                found.add(ref)
                todo += self.versions[ref].fact.parents if ref in self.versions else ()
        return found

    def is_covered(self, ref: Ref) -> bool:
        """Was it dropped, or is it a choice among nothing but dropped heads, which is no edit?"""
        todo = [ref]
        while todo:
            each = todo.pop()
            if each in self.dropped:
                continue
            made = self.versions.get(each)
            if made is None or not made.fact.settles:
                return False
            todo += made.fact.parents
        return True

    def _find_heads(self, ino: Ino) -> None:
        """A name keeps a file alive, but for the name that a split gave: somebody made the entry a
        file in passing, while another removed it, and it goes."""
        own = set(self.owned[ino] or self.written[ino])
        heads = [ref for ref in own if own.isdisjoint(self.children[ref])]
        heads.sort(key=lambda ref: self.in_time(self.path[ref]), reverse=True)
        unsettled = [ref for ref in heads if not self.children[ref]]
        self.heads[ino] = heads
        self.surviving[ino] = [ref for ref in unsettled if not self.is_covered(ref)]
        use = self.surviving[ino]
        if ino in self.named:
            use = [ref for ref in unsettled if ref not in self.dropped]
        use = use or self._let_go_last(heads)
        merged = self._merged(ino, use)
        if merged is None:
            self.shown[ino] = self.group(use)
        else:
            self.shown[ino], self.merged[ino] = [tuple(use)], merged

    def _merged(self, ino: Ino, heads: list[Ref]) -> bytes | None:
        """Return what heads show as one content, by the merge policy of the file; None where one shows."""
        if len(heads) == 1 or self.facts.inodes[ino].birth.kind != Kind.REGULAR:
            return None
        return self.merging.shown(self.facts.inodes[ino].policy, heads)

    def holding(self, ino: Ino, heads: Heads) -> Heads:
        """Of heads that show under one name, those whose contents do: all, or the first alone."""
        return heads if ino in self.merged else heads[:1]

    def _let_go_last(self, heads: list[Ref]) -> list[Ref]:
        """What a file shows whose name lives on although each of its heads was dropped or settled: of two
        at one time the newer, but none that hid, under another or under what settled it."""

        def settlers(ref: Ref) -> list[tuple[int, Ref]]:
            return [(self.versions[child].stamp.hlc, child) for child in self.children[ref]]

        def let_go(ref: Ref) -> int:
            dropped = [hlc for hlc, refs in self.dropping if ref in refs]
            return min([hlc for hlc, _ in settlers(ref)] + dropped, default=0)

        last_first = sorted(heads, key=let_go, reverse=True)
        for ref in last_first:
            then = [other for other in heads if let_go(other) >= let_go(ref)]
            beside = {child for other in then for hlc, child in settlers(other) if hlc == let_go(other)}
            then = sorted([*then, *beside], key=lambda one: self.in_time(self.path[one]), reverse=True)
            if ref in [group[0] for group in self.group(then)]:
                return [ref]
        return last_first[:1]

    # -- absorption ------------------------------------------------------------------------------

    def group(self, use: list[Ref]) -> list[Heads]:
        """Heads that show, each with those that hide under it.

        A head is measured only against those that it forked from last: t -> u -> t on one branch does
        not hide a t that was written on a third branch, which forked before.
        """
        under = {head: self._nearest_that_hides(head, use) for head in use}
        over = {head: last_over(head, under, use) for head in use}
        groups = {head: [head] for head in use if over[head] == head}
        for head in use:
            if over[head] != head:
                groups[over[head]].append(head)
        return [tuple(group) for group in groups.values()]

    def _nearest_that_hides(self, head: Ref, use: list[Ref]) -> Ref | None:
        parting = {o: fork(self.path[head], self.path[o]) for o in use if o != head}
        for other, at in parting.items():
            if at == max(parting.values()):
                is_first = use.index(head) < use.index(other)
                if self.hides(self.path[other], self.path[head], path_first=is_first):
                    return other
        return None

    def hides(self, shown: Path, path: Path, *, path_first: bool) -> bool:
        """Is the end of `path` not shown because of the end of `shown`?  Of equal ones, the first."""
        if not self.adds_nothing(path, shown):
            return False
        if self.compared(path[-1]) == self.compared(shown[-1]):
            return not path_first
        return not self.adds_nothing(shown, path)

    def compared(self, ref: Ref) -> object:
        """What several heads showed together is like no other content, also where it was chosen or renamed
        since."""
        first = self.merging.origin(ref)
        return first if first in self.versions and self.merging.is_any_merging(first) else self.content(ref)

    def adds_nothing(self, path: Path, other: Path, *, shows_more: bool = False) -> bool:
        """Is the content at the end of `path` in the history of `other` since their fork?

        A content that was chosen over that history is news.  Strangers, which have no fork, are
        compared by what stays known of a branch when it is folded: its first content and its last.
        `shows_more`: the end of `other` is the first of several heads that show together.
        """
        mine = self.compared(path[-1])
        theirs = other if shows_more else self.compared(other[-1])
        if mine != theirs and self._was_chosen_over(path[-1], {*other, *self.path[other[-1]]}):
            return False
        since, is_own = self._since(other, parting(other, path))
        in_history = any(self.compared(ref) == mine for ref in since)
        if is_own or in_history:
            return in_history
        first = self.first_content(path[-1])
        return mine in (theirs, self.first_content(other[-1])) or first is None

    def _since(self, line: Path, at: int) -> tuple[Path, bool]:
        """The versions of a line back to where it parted from another; none where they are strangers.

        What a file replaced under one of several names is not its past, if nobody let it go; nor surely, if
        the file itself did not settle it.
        """
        since = line[at - 1 :] if at else ()
        replaced = [
            older
            for older, newer in pairwise(since)
            if older == self.versions[newer].fact.lineage and not self._settles(newer, older)
        ]
        if not self.dropped.issuperset(replaced):
            return (), False
        return since, bool(since) and not replaced

    def _settles(self, ref: Ref, other: Ref) -> bool:
        parents = [parent for each in self.path[ref] for parent in self.versions[each].fact.parents[1:]]
        return any(other in self.path[parent] for parent in parents)

    def _was_chosen_over(self, ref: Ref, branch: set[Ref]) -> bool:
        """Does it settle a version of that branch which has another content?  What a file replaced where it
        stands is no choice."""
        fact = self.versions[ref].fact
        return any(
            parent in branch and parent != fact.lineage and self.compared(parent) != self.compared(ref)
            for parent in fact.parents[1:]
            if parent in self.versions
        )

    def first_content(self, ref: Ref) -> bytes | None:
        """The first content on the branch that differs from what it began with."""
        path = self.path[ref]
        began = b""
        contents = [self.content(each) for each in path]
        return next((content for content in contents if content != began), None)

    # -- bytes -----------------------------------------------------------------------------------

    def content(self, ref: Ref) -> bytes:
        """The bytes of a version; of a symlink its target."""
        known = self.known_contents.get(ref)
        if known is not None:
            return known
        birth = self.facts.inodes[ref.ino].birth
        content = birth.target
        if birth.kind == Kind.REGULAR:
            content = b""
            for each in self.path[ref]:
                if each in self.known_contents:
                    content = self.known_contents[each]
                    continue
                content = self._apply(content, self.versions[each].fact)
                self.known_contents[each] = content
        self.known_contents[ref] = content
        return content

    def _apply(self, before: bytes, version: Version) -> bytes:
        assert not version.bare, f"{version} has lost its content"
        if version.inline is not None:
            assert len(version.inline) == version.size, version
            return version.inline
        cut = len(before) if version.cut_bytes is None else version.cut_bytes
        content = bytearray(before[:cut].ljust(version.size, b"\0"))
        for index, name in version.changed:
            block = self.blocks[name] if name else b""
            start = index * BLOCK_SIZE
            content[start : start + BLOCK_SIZE] = block.ljust(BLOCK_SIZE, b"\0")
        return bytes(content[: version.size])


def last_over(one: T, under: Mapping[T, T | None], order: Sequence[T]) -> T:
    """Follow what hides what to the one that shows.

    Three branches can hide each other in a circle: then the first of these shows.
    """
    way = [one]
    while (above := under[way[-1]]) is not None:
        if above in way:
            return min(way[way.index(above) :], key=order.index)
        way.append(above)
    return way[-1]


def parting(line: Path, other: Path) -> int:
    """Return the index in `line` after the last version that is in both; 0 for strangers.

    Two lines may begin apart and have a version in common all the same: where a file that replaced
    another was itself replaced, one of them goes on through the first.
    """
    both = set(line).intersection(other)
    return max((index + 1 for index, ref in enumerate(line) if ref in both), default=0)


def fork(left: Sequence[Ref], right: Sequence[Ref]) -> int:
    """Return how many versions two paths have in common before they part."""
    return next(
        (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b),
        min(len(left), len(right)),
    )
