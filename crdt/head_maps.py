"""The block maps of the heads of files: each head has one of its own (docs/decisions/0003).

A version that extends a head takes its map along, and keeps what takes that back; one that forks from an
older version gets a copy of the map of a head that came of it, taken back version by version.
"""

from __future__ import annotations

from hashlib import blake2b

from crdt.blocks import NO_MAP, WritableMap
from crdt.facts import Ino, Ref, Version
from crdt.rows import Head, Inode
from crdt.state import State
from crdt.versions import branch, is_on_branch, kin
from crdt.waiting import waiting
from crdt.wanted import Wanted


def history_key(ref: Ref) -> bytes:
    return b"H" + ref[0].to_bytes(8, "big") + ref[1].to_bytes(8, "big")


def spare_map(ref: Ref) -> int:
    """The number of a map that is nobody's: less than that of any version."""
    digest = blake2b(ref.ino.to_bytes(8, "big") + ref.version.to_bytes(8, "big"), digest_size=5).digest()
    return int.from_bytes(digest, "big") | 1


class HeadMaps:
    """Makes, takes back and forgets maps.  `wanted` is told which of their blocks may be missing."""

    def __init__(self, state: State, wanted: Wanted) -> None:
        self.state = state
        self.wanted = wanted

    def head_at(self, descendant: Head, ref: Ref, map_id: int, *, closed: int = 0) -> Head:
        """Make a head of an older version on the branch of `descendant`, with a map of this number.

        SUBTLE: a map goes along with the branch, so the number of a version may be that of a newer one's.
        """
        stored = self.state.version(ref)
        if stored is None:
            birth = self.state.known(ref.ino).births[0]
            return Head(ref, birth.dot, birth.hlc, birth.wall_ns, 0, birth.wall_ns, closed=closed)
        map_id = self.map_at(descendant, ref, map_id) if stored.fact.inline is None else NO_MAP
        return stored.head(ref)._replace(map=map_id, map_ino=descendant.map_ino, closed=closed)

    def copy_of(self, ino: Ino, old: Head, map_ino: Ino, version: Version) -> int:
        """A map for the new version, where the old head keeps its own."""
        if not old.map:
            return NO_MAP
        WritableMap(self.state, map_ino, old.map).copy_to(version.version)
        missing = {
            place.block: block_hash
            for block_hash, places in waiting(self.state, ino)
            for place in places
            if (place.map_ino, place.map) == (map_ino, old.map)
        }
        known = self.wanted.doubtful.get(ino, {}).get((map_ino, old.map), {})
        if missing or known:
            self.wanted.doubt(ino, map_ino, version.version, missing | known)
        return int(version.version)

    def keep_undo(self, ref: Ref, undo: bytes) -> None:
        """Keep what takes the map back to the parent's; nothing where the parent has none."""
        if int.from_bytes(undo[:8], "big"):
            self.state.put(history_key(ref), undo)

    def base_of(self, inode: Inode, version: Version) -> tuple[int, Ino]:
        """Make a copy of the map that the first parent of a version has, under the version's number."""
        parent = version.parents[0]
        stored = self.state.version(parent)
        if stored is None or stored.fact.bare or stored.fact.inline is not None:
            return NO_MAP, inode.ino
        source = self._descendant(inode, parent)
        map_ino = Ino(source.map_ino or inode.ino)
        return self.map_at(source, parent, version.version), map_ino

    def _descendant(self, inode: Inode, ref: Ref) -> Head:
        """Return a head, shown or settled, that extends this version."""
        todo, seen = [inode.ino, ref.ino], set()
        while todo:
            ino = todo.pop(0)
            other = self.state.inode(ino)
            if other is None or ino in seen:
                continue
            seen.add(ino)
            for head in (*other.heads, *(settled for settled, _ in other.settled)):
                if is_on_branch(self.state, ref, head.ref):
                    return head
            todo += kin(self.state, other)
        raise LookupError(f"no version that is known extends {ref}")

    def map_at(self, head: Head, ref: Ref, map_id: int) -> int:
        """Make the map that an older version on the branch of `head` had, under the number `map_id`."""
        map_ino = Ino(head.map_ino)
        assert map_id != head.map, f"{head.ref} would lose its map"
        copy = WritableMap(self.state, map_ino, map_id)
        if head.map:
            WritableMap(self.state, map_ino, head.map).copy_to(map_id)
        empty = not head.map
        for step in branch(self.state, head.ref):
            if step.ref == ref:
                break
            undo = self.state.get(history_key(step.ref))
            empty = undo is None
            if undo is None:
                copy.drop()
            else:
                copy.restore(undo[8:])
        return NO_MAP if empty else map_id

    def drop(self, inode: Inode, before: Head, by: Head) -> None:
        """Forget the map of what showed before, if neither `by` nor another head has it."""
        others = [*(head for head in inode.heads if head.ref != by.ref), by]
        others += [head for head, _ in inode.settled]
        others += [head.before for head in others if head.before is not None]
        if before.map and all((other.map, other.map_ino) != (before.map, before.map_ino) for other in others):
            WritableMap(self.state, before.map_ino, before.map).drop()
