"""The tree as a whole: its digest, and its conflicts.

Both walk what shows, so they take time in proportion to it; neither is on the path of a request.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

from crdt.absorption import shown_heads, together
from crdt.causality import replica_of
from crdt.codec import pack
from crdt.entries import Entry
from crdt.facts import ROOT, Ino
from crdt.merging import Merged, merged
from crdt.orphans import orphan_entries
from crdt.rows import Inode, policy_of
from crdt.visible import orphans
from translation.attributes import AttributeRequests
from translation.contested import contested_names
from translation.paths import Paths
from translation.records import Record, Records
from translation.replica import Replica


class Conflict(NamedTuple):
    path: bytes  # of the conflict entry
    kind: str  # "content": a branch of a file; "name": another file at its name
    replica: str  # the name of the replica that made it
    wall_ns: int  # when, by that replica's clock
    bare: bytes  # the path it competes with
    ino: int


class Listing(Paths):
    def __init__(self, replica: Replica, requests: AttributeRequests) -> None:
        super().__init__(replica)
        self.requests = requests

    # -- digest ------------------------------------------------------------------------------------

    def digest(self) -> str:
        """Return 64 hex digits that are equal on replicas which show the same tree: names, kinds, inode
        numbers, permissions, owners, contents, targets of links, devices, extended attributes and merge
        policies; and the same orphans."""
        total = blake2b(digest_size=32)
        for path, entry in self.walk():
            total.update(pack((path, *self._shown(entry))))
        for entry in self.orphans():
            total.update(pack((b"/" + entry.name, *self._shown(entry))))
        return total.hexdigest()

    def orphans(self) -> Iterator[Entry]:
        """Yield what is to be seen of files without a name (crdt.orphans), by inode."""
        for ino in orphans(self.state):
            yield from orphan_entries(self.state, self.inode(ino))

    def orphan_count(self) -> int:
        """How many files have no name; each may have several contents."""
        return sum(1 for _ in orphans(self.state))

    def walk(self) -> Iterator[tuple[bytes, Entry]]:
        """Yield all that shows with its path, a directory's entries in the order of their names."""
        todo: list[tuple[bytes, Ino]] = [(b"", ROOT)]
        while todo:
            path, directory = todo.pop()
            below = []
            for entry in sorted((e for e, _ in self.view.entries(directory)), key=lambda e: e.name):
                yield path + entry.name, entry
                if entry.is_directory:
                    below.append((path + entry.name + b"/", entry.ino))
            todo += reversed(below)

    def _shown(self, entry: Entry) -> tuple[object, ...]:
        if entry.is_directory:
            rows = [self.inode(member) for member in entry.members]
            bits = 0o7777
            for row in rows:
                bits &= row.mode
            xattrs = self._xattrs(rows[0])
            return (entry.kind, entry.ino, bits, rows[0].uid, rows[0].gid, xattrs, int(policy_of(rows)))
        inode = self.inode(entry.owner)
        birth = inode.birth
        return (
            int(birth.kind),
            entry.ino,
            self.view.mode(inode, entry.heads[0] if entry.top else None),
            inode.uid,
            inode.gid,
            self._xattrs(inode),
            int(inode.policy),
            birth.target,
            birth.rdev,
            self.view.link_count(inode) if entry.top is None else 1,
            self._content(entry, inode),
        )

    def _content(self, entry: Entry, inode: Inode) -> tuple[bytes, int]:
        if not inode.is_regular:
            return b"", 0
        heads = together(self.state, inode) if entry.top is None else []
        found = merged(self.state, inode.policy, heads) if heads else None
        if isinstance(found, Merged):
            return pack((int(inode.policy), sorted(found.refs))), found.size
        ref = entry.heads[0] if entry.heads else shown_heads(self.state, inode)[0].ref
        stored = self.state.version(ref)
        return (b"", 0) if stored is None else (stored.fact.digest, stored.fact.size)

    def _xattrs(self, inode: Inode) -> list[tuple[bytes, bytes]]:
        names = self.requests.listxattr(inode.ino)
        return [(name, self.requests.getxattr(inode.ino, name)) for name in names]

    # -- conflicts ---------------------------------------------------------------------------------

    def conflicts(self) -> list[Conflict]:
        """Return the conflict entries that show, by path."""
        found: list[Conflict] = []
        for directory, raw in sorted(contested_names(self.view)):
            path = self.path(directory)
            if path is None:
                continue
            beside = self.view.group(self.view.members(directory), raw)[1:]
            found += [self.conflict(path, entry) for entry in beside]
        return sorted(set(found))

    def conflict(self, path: bytes, entry: Entry) -> Conflict:
        return Conflict(
            path + entry.name,
            "content" if entry.top is not None else "name",
            self.replica.member_name(replica_of(entry.tag)),
            entry.wall_ns,
            path + entry.raw,
            entry.ino,
        )

    def conflict_count(self) -> int:
        return len(self.conflicts())

    def records(self) -> list[Record]:
        """Return what was overruled, by path."""
        return Records(self.replica).records()

    def record_count(self) -> int:
        return len(Records(self.replica).acknowledgements())
