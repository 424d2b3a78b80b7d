"""Law L2: a request changes what it was asked to, and nothing else.

Removing a name must not make a conflict entry take it, nor may replacing a file make the entries beside
it vanish, from under a script that has just listed them.  So a request applies its facts, looks at the
names in whose contest they had a part, and where an entry that it did not mean shows otherwise than before
adds facts to the same commit that hold it:

- a *pin* keeps the name of a file or directory whose bare name became free or was taken;
- a *split* makes a content conflict entry a file of its own, at the name it has;
- a new placement brings back a file that showed only because an edit beat its removal.

This repeats until nothing is left to hold.  Without a conflict at the names that were touched it costs
one look at a mark.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from crdt.causality import Dot
from crdt.facts import Fact, Ino, LinkId, Pin, Ref
from crdt.names import Entry, View
from crdt.view import Transaction

if TYPE_CHECKING:
    from translation.intent import Intents

ROUNDS_MAX = 50


class Locality:
    """Holds what one commit does not mean to change.  `meant`: the keys of entries it is about."""

    def __init__(self, intents: Intents, dot: Dot, meant: Collection[tuple[Ino, int]]) -> None:
        self.intents = intents
        self.dot = dot
        self.meant = meant
        self.rounds = 0

    def repairs(self, transaction: Transaction) -> list[Fact]:
        """Return what has to be added to the facts of this transaction, which is finished but not committed;
        nothing where all is as it was."""
        contested = transaction.contested()
        if not contested:
            return []
        self.rounds += 1
        assert self.rounds < ROUNDS_MAX, f"{self.dot}: what a request must hold has no end"
        before = View(self.intents.state.committed(), self.intents.view.name_of)
        before.shared_names = self.intents.view.shared_names
        after = transaction.view_after()
        for directory, raw in sorted(contested):
            for entry in before.group(before.members(directory), raw):
                if entry.key in self.meant or self._shows(after, entry):
                    continue
                found = self._hold(after, entry)
                if found:
                    return found
        return []

    def _shows(self, after: View, entry: Entry) -> bool:
        now = after.lookup(entry.parent, entry.name)
        return now is not None and (now.ino == entry.ino or bool({*now.members} & {*entry.members}))

    def _hold(self, after: View, entry: Entry) -> list[Fact]:
        state = self.intents.state
        if entry.is_directory:
            return self._pin_members(entry)
        inode = state.inode(entry.ino)
        if entry.top is not None and inode is None:
            return self.intents.split(entry, self._still_hidden(after, entry))
        link = entry.link or LinkId(entry.ino)
        assert inode is not None, entry
        if all(place.link != link for place in inode.shown):
            return self.intents.place_again(inode, link, entry.name)
        found = self._pin(inode.ino, link, entry.name)
        for twin in entry.twins:
            found += self._pin(twin.ino, twin.link, entry.name)
        return found

    def _still_hidden(self, after: View, entry: Entry) -> list[Ref]:
        """What hides under a conflict entry, but for what this commit settles itself."""
        owner = after.state.inode(entry.owner)
        assert owner is not None, entry
        heads = {head.ref for head in owner.heads}
        if self.intents.head_of(entry) not in heads:
            return []
        return [ref for ref in self.intents.hidden(entry) if ref in heads]

    def _pin_members(self, entry: Entry) -> list[Fact]:
        found: list[Fact] = []
        for member in entry.members:
            found += self._pin(member, LinkId(member), entry.name)
        return found

    def _pin(self, ino: Ino, link: LinkId, name: bytes) -> list[Fact]:
        """Keep the name; nothing where it is the raw name already, and another file took it."""
        inode = self.intents.state.inode(ino)
        assert inode is not None, ino
        known = inode.links[link]
        placement = inode.at if inode.is_directory else known.where()
        if placement is None or known.raw_name(placement) == name:
            return []
        return [Pin(ino, link, Dot(0) if placement.fact.split else placement.dot, name)]
