"""Where directories and links stand.

*Directories* (Kleppmann et al., "A highly-available move operation for replicated trees", 2021): all
their placements but the creations are moves, those of dead directories and renames in place too.  They
are done in stamp order, each unless it would put a directory inside itself.  What one commit moves to
one name goes together or not at all, or a union would be torn where one member makes a cycle.

*Links*: a placement counts unless another one replaced it, whatever their stamps.  A link stands at the
newest that no removal saw.  One that has none is dead and stands where it was removed last.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import groupby

from crdt.causality import BEFORE_ALL, Stamp, covers
from crdt.facts import ROOT, Ino, LinkId, Placement, Removal
from tests.reference.gathered import Gathered, Link, Made


class Places:
    def __init__(self, facts: Gathered) -> None:
        self.facts = facts
        self.position: dict[Ino, Made[Placement]] = {}
        self.skipped: list[Made[Placement]] = []
        self._replay()
        self.where: dict[LinkId, Made[Placement]] = {}
        self.live: dict[LinkId, list[Made[Placement]]] = {}
        self.removed_at: dict[LinkId, Stamp] = {}
        for number, link in facts.links.items():
            if link.placements:
                self._place(number, link)

    # -- directories ---------------------------------------------------------------------------

    def _replay(self) -> None:
        moves = []
        for number, link in self.facts.links.items():
            if self.facts.is_directory(number):
                for made in link.placements:
                    if made.stamp == self.facts.inodes[link.ino].stamp:
                        self.position[link.ino] = made
                    else:
                        moves.append(made)
        moves.sort(key=lambda move: (_commit_and_goal(move), move.fact.ino))
        for (_, parent, _), group in groupby(moves, _commit_and_goal):
            together = list(group)
            if self._is_within(parent, {move.fact.ino for move in together}):
                self.skipped += together
            else:
                self.position.update((move.fact.ino, move) for move in together)

    def _is_within(self, directory: Ino, ancestors: Collection[Ino]) -> bool:
        for _ in range(len(self.position) + 1):
            if directory in ancestors:
                return True
            if directory == ROOT or directory not in self.position:
                return False
            directory = self.position[directory].fact.parent
        raise AssertionError("a cycle of directories")

    # -- links -----------------------------------------------------------------------------------

    def _place(self, number: LinkId, link: Link) -> None:
        placements = link.placements
        current = [made for made in placements if not any(replaces(o.fact, made) for o in placements)]
        removed = {made.stamp: _first_removal(link, made) for made in current}
        live = [made for made in current if removed[made.stamp] == BEFORE_ALL]
        self.live[number] = live
        self.removed_at[number] = max(removed.values())
        if self.facts.is_directory(number):
            self.where[number] = self.position[link.ino]
        elif live:
            self.where[number] = max(live, key=lambda made: made.stamp)
        else:
            self.where[number] = max(current, key=lambda made: (removed[made.stamp], made.stamp))


def replaces(fact: Placement | Removal, made: Made[Placement]) -> bool:
    """Had the author of `fact` seen this placement, or what replaced it?"""
    if made.fact.split:
        return fact.over_split
    return covers(fact.context, made.stamp.dot)


def _first_removal(link: Link, made: Made[Placement]) -> Stamp:
    return min((r.stamp for r in link.removals if replaces(r.fact, made)), default=BEFORE_ALL)


def _commit_and_goal(move: Made[Placement]) -> tuple[Stamp, Ino, bytes]:
    return move.stamp, move.fact.parent, move.fact.name
