"""Files at one name: which has the best claim to it, and which are twins of another and do not show.

The claim is the *rank*; among equal ranks (both replaced the same file) the branch that leads, where the
lines of the two parted.

*Twins* are files of one kind and owner that add nothing to each other: both sites unpacked the same archive.
They show once, under the oldest inode number, so that hard links stay together; what is done through that
name is done to all of them.
"""

from __future__ import annotations

from functools import cmp_to_key

from crdt.absorption import End, adds_nothing, hides, last_over, shown_heads, together
from crdt.causality import Dot, Stamp
from crdt.facts import Ino
from crdt.rows import Head, Inode, Item
from crdt.state import State
from crdt.versions import (
    Fork,
    falls,
    first_version,
    fork,
    fork_of_any,
    is_on_branch,
    line,
    order,
    step_of,
)


class Claim:
    """A file's claim to a name.  `rank` is the greatest of its own and those of its twins."""

    def __init__(self, state: State, directory: Ino, item: Item) -> None:
        inode = state.inode(item.ino)
        assert inode is not None, item
        self.state = state
        self.directory = directory
        self.inode = inode
        self.link = item.link
        self.placed = inode.links[item.link].where()
        self.rank = self.placed.fact.rank or self.placed.stamp
        self.heads: list[Head] = shown_heads(state, inode) if inode.heads else []
        self.twins: list[Claim] = []

    @property
    def end(self) -> End:
        head = self.heads[0].ref if self.heads else first_version(self.inode.ino)
        return End(head, self.placed.fact.via)

    @property
    def is_merged(self) -> bool:
        """Does it show more than its head holds?  Then no other file holds the same."""
        return bool(self.inode.heads and together(self.state, self.inode))

    @property
    def age(self) -> Stamp:
        """When the file came to be; of one split off a conflict entry, when that branch began."""
        claims = self.inode.birth.claims
        return self.inode.stamp if claims is None else step_of(self.state, claims).stamp

    def fork_from(self, other: Claim) -> Fork:
        mine, theirs = self.end, other.end
        lines = line(self.state, *mine), line(self.state, *theirs)
        if falls(self.state, *mine) and falls(self.state, *theirs):
            return fork(*lines)
        return fork_of_any(*(list(one) for one in lines))

    def made_beside(self, best: Claim) -> tuple[Dot, int]:
        """What made it the loser of its name, and when: its placement or, where it shares a past with the
        file of the best claim, the first version of its branch.

        A writes into f while B saves f by rename: the entry is A's, whoever created f.
        """
        if self.inode.birth.kind == best.inode.birth.kind:
            found = self.fork_from(best)
            if found.common is not None and found.left is not None and not self.stands_unedited(found):
                return found.left.stamp.dot, found.left.wall_ns
        return self.placed.dot, self.placed.wall_ns

    def stands_unedited(self, found: Fork) -> bool:
        """Does it stand here whether it was edited since the two parted or not?  So where the other one
        replaced it while somebody named it so: then its first edit must not rename it, nor let it take the
        bare name.

        Not where it shows for an edit alone, nor by a name that it was given again for that, with its rank.
        """
        fact, link = self.placed.fact, self.inode.links[self.link]
        if found.common is None or found.left is None:
            return False
        if fact.split or fact.over_split or self.placed not in link.live():
            return False
        if fact.rank is not None and found.left.stamp < self.placed.stamp:
            return False
        return is_on_branch(self.state, found.common, self.end.head)

    def hides(self, other: Claim) -> bool:
        """Does the other file not show because of this one?"""
        if self.inode.ino == other.inode.ino:
            return compare_claims(self, other) > 0
        if not _are_alike(self.inode, other.inode) or other.is_merged:
            return False
        if self.is_merged:
            common = other.fork_from(self).common
            return adds_nothing(self.state, other.end, self.end, common, shows_more=True)
        other_first = (other.age, other.link) < (self.age, self.link)
        if not self.inode.is_regular:
            return not other_first
        common = other.fork_from(self).common
        return hides(self.state, self.end, other.end, common, head_first=other_first)


def _are_alike(a: Inode, b: Inode) -> bool:
    kind = a.birth.kind, a.birth.target, a.birth.rdev, a.uid, a.gid
    return kind == (b.birth.kind, b.birth.target, b.birth.rdev, b.uid, b.gid)


def compare_claims(a: Claim, b: Claim) -> int:
    if a.rank != b.rank:
        return 1 if a.rank > b.rank else -1
    found = a.fork_from(b)
    by_branch = b.stands_unedited(found.seen_from_right()) - a.stands_unedited(found) or order(found)
    if by_branch:
        return by_branch
    return 1 if (a.link, a.inode.ino) > (b.link, b.inode.ino) else -1


def shown_claims(claims: list[Claim]) -> list[Claim]:
    """Return the claims that show, the best one first, each with its twins."""
    if len(claims) < 2:
        return claims
    claims = sorted(claims, key=lambda claim: (claim.link, claim.inode.ino))
    hiding = [[at for at, by in enumerate(claims) if by is not claim and by.hides(claim)] for claim in claims]

    def under(at: int) -> int | None:
        above = [over for over in hiding[at] if not hiding[over]] or hiding[at]
        return above[0] if above else None

    over = [last_over(at, under) for at in range(len(claims))]
    for at, claim in enumerate(claims):
        if over[at] != at:
            claims[over[at]].twins.append(claim)
    shown = [claim for at, claim in enumerate(claims) if over[at] == at]
    for claim in shown:
        claim.rank = max([claim.rank, *(twin.rank for twin in claim.twins)])
    return sorted(shown, key=cmp_to_key(compare_claims), reverse=True)
