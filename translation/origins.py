"""Hidden extended attributes that say where a file or directory came from: `user.elmer.*`.

They are not stored and not listed, so whoever copies all attributes (cp -a, rsync -X) does not copy them;
they answer who asks for one by name.  None can be set but `user.elmer.merge` (translation.merge_policy).

| `user.elmer.` | says |
|---|---|
| `replica` | the name of the replica that made it; of a conflict entry, that made its branch |
| `writer` | the name of the replica that wrote the content which shows |
| `conflict` | of a conflict entry: its kind, by whom, when, and what it competes with, as JSON |
| `ino` | the inode number, the same on all replicas |
"""

from __future__ import annotations

import errno
import json
import os

from crdt.causality import Dot, replica_of
from crdt.entries import Entry
from crdt.facts import ROOT, Ino, Ref
from crdt.versions import step_of
from translation import merge_policy
from translation.attributes import AttributeRequests, Target
from translation.intent import posix_error
from translation.listing import Listing

PREFIX = b"user.elmer."
REPLICA, WRITER, CONFLICT, INO = (PREFIX + name for name in (b"replica", b"writer", b"conflict", b"ino"))


def is_hidden(name: bytes) -> bool:
    return name.startswith(PREFIX) and name != merge_policy.XATTR


class Origins:
    def __init__(self, requests: AttributeRequests, listing: Listing) -> None:
        self.requests = requests
        self.listing = listing
        self.state = requests.state

    def get(self, ino: Ino, name: bytes) -> bytes:
        """Raises OSError (ENODATA) where there is nothing to say."""
        target = self.requests.target(ino)
        said: bytes | None = None
        if name == INO:
            said = b"%d" % ino
        elif name == REPLICA and ino != ROOT:
            said = self._name_of(self._made_by(target))
        elif name == WRITER and target.head is not None:
            said = self._name_of(self._written_by(target.head.here.ref))
        elif name == CONFLICT:
            said = self._conflict(target)
        if said is None:
            raise posix_error(errno.ENODATA, name)
        return said

    def _name_of(self, dot: Dot) -> bytes:
        return self.requests.replica.member_name(replica_of(dot)).encode()

    def _made_by(self, target: Target) -> Dot:
        began = target.top or target.inode.birth.claims
        return target.inode.stamp.dot if began is None else step_of(self.state, began).stamp.dot

    def _written_by(self, ref: Ref) -> Dot:
        """What made this content: not who chose it among others."""
        while (stored := self.state.version(ref)) is not None and stored.fact.settles:
            ref = stored.fact.parents[0]
        return step_of(self.state, ref).stamp.dot

    def _conflict(self, target: Target) -> bytes | None:
        found = self._conflict_entry(target)
        if found is None:
            return None
        conflict = self.listing.conflict(*found)
        said = {
            "kind": conflict.kind,
            "replica": conflict.replica,
            "wall_ns": conflict.wall_ns,
            "bare": os.fsdecode(conflict.bare),
        }
        return json.dumps(said).encode()

    def _conflict_entry(self, target: Target) -> tuple[bytes, Entry] | None:
        """Return the path of its directory, and the entry; of several names the first that is one."""
        inode, view = target.inode, self.requests.view
        if target.top is not None:
            entry = self.requests.entry_of(target)
            path = self.listing.path(view.members(entry.parent)[0])  # none, of an orphan
            return None if path is None else (path, entry)
        for place in inode.shown:
            members = view.members(place.parent)
            path = self.listing.path(members[0])
            for entry in view.group(members, place.name):
                if path is not None and entry.is_conflict and inode.ino in (entry.ino, *entry.members):
                    return path, entry
        return None
