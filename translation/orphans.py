"""Requests about files without a name (crdt.orphans): to find one, to give it a name, to remove it for good.

An orphan is one until somebody names it or means its content to be gone.  To move it is a placement of the
link that was removed last, to link it one of a new link, to remove it a removal that drops its content.
Where it has several contents each is an entry, and what is done to one leaves the others where they are (law
L2, translation.locality).

To write to it is an edit that nobody who removed a name has seen, and would bring it back under the name that
was removed last.  That is right for a program that opened it by a name, before a merge took that away (row
28).  Who opened it as an orphan means the orphan: then the commit says that the edit was seen, too.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from crdt.facts import Ino
from crdt.orphans import Orphan, orphan_entries, possible_inos
from crdt.visible import orphans, removed_last
from translation.attributes import AttributeRequests
from translation.intent import posix_error
from translation.namespace import Namespace


class Orphans:
    def __init__(self, names: Namespace, requests: AttributeRequests) -> None:
        self.state = names.state
        self.names = names
        self.requests = requests

    def all(self) -> Iterator[Ino]:
        """Yield the numbers of all orphans."""
        return orphans(self.state)

    def entries(self, ino: Ino) -> list[Orphan]:
        """Return an orphan, given by its number or that of one of its branches; nothing where it is none."""
        try:
            return orphan_entries(self.state, self.requests.target(ino).inode)
        except FileNotFoundError:
            return []

    def find(self, name: bytes) -> Orphan:
        """Raises FileNotFoundError (ENOENT)."""
        for ino in possible_inos(name):
            for entry in self.entries(ino):
                if entry.name == name:
                    return entry
        raise posix_error(errno.ENOENT, name)

    def remove(self, entry: Orphan) -> None:
        """Remove what an entry shows for good."""
        inode = self.names.inode(entry.owner)
        link = removed_last(inode).link
        removal = self.names.remove(inode, link, self.names.meant_by(entry))
        self.names.commit(self.names.replica.begin(), [removal], entry)
