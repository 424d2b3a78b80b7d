"""Blocks that a batch of commits made missing, or that it brought: which files wait for what from now on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from crdt.blocks import BlockMap, block_key
from crdt.codec import pack, unpack
from crdt.facts import Ino, Version
from crdt.rows import Head, Row
from crdt.state import State
from crdt.waiting import Place, waiting, waiting_for, waiting_key, wanted_key


class Wanted:
    """Keeps the rows of what is waited for.  Which heads of a file need to be here, `crdt.heads` says."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._written: set[bytes] = set()  # blocks that versions made here name, where some are missing
        # Blocks that may be missing: owner -> (map_ino, map) -> index -> hash.
        self.doubtful: dict[Ino, dict[tuple[Ino, int], dict[int, bytes]]] = {}

    def any_missing(self, version: Version) -> bool:
        return any(h and self.state.get(block_key(h)) is None for _, h in version.changed)

    def doubt(self, ino: Ino, map_ino: Ino, map_id: int, blocks: dict[int, bytes]) -> None:
        self.doubtful.setdefault(ino, {}).setdefault((map_ino, map_id), {}).update(blocks)

    def doubt_all(self, ino: Ino, head: Head) -> None:
        if head.map:
            blocks = dict(BlockMap(self.state, head.map_ino, head.map).items())
            self.doubt(ino, Ino(head.map_ino), head.map, blocks)

    def is_doubtful(self, ino: Ino, at: tuple[Ino, int]) -> bool:
        return at in self.doubtful.get(ino, {})

    def want(self, ino: Ino, maps: set[tuple[Ino, int]]) -> None:
        """Wait for the doubtful blocks of these maps of a file that are not here."""
        for at in self.doubtful.get(ino, {}).keys() & maps:
            self._want(ino, BlockMap(self.state, *at), self.doubtful[ino][at])

    def forget(self, ino: Ino, maps: set[tuple[Ino, int]]) -> None:
        """Blocks that were replaced before they came, or whose content was settled, may be nowhere any more:
        nobody waits for them."""
        for block_hash, places in waiting(self.state, ino):
            left = [p for p in places if (p.map_ino, p.map) in maps and self._is_at(p, block_hash)]
            if not left:
                self._set(block_hash, ino, None)
            self.state.put(waiting_key(ino, block_hash), pack(left) if left else None)

    def move(self, holder: Ino, claimant: Ino, heads: list[Head]) -> None:
        """These heads are another file's now, and so is what they wait for."""
        maps = maps_of(holder, heads)
        doubtful = self.doubtful.get(holder, {})
        for map_ino, map_id in maps & doubtful.keys():
            self.doubt(claimant, map_ino, map_id, doubtful.pop((map_ino, map_id)))
        for block_hash, places in waiting(self.state, holder) if maps else ():
            moved = [place for place in places if (place.map_ino, place.map) in maps]
            left = [place for place in places if place not in moved]
            if moved:
                self._wait(claimant, block_hash, moved)
                self.state.put(waiting_key(holder, block_hash), pack(left) if left else None)
                if not left:
                    self._set(block_hash, holder, None)

    def _wait(self, ino: Ino, block_hash: bytes, places: Iterable[Place]) -> None:
        key = waiting_key(ino, block_hash)
        row = self.state.get(key)
        known = [] if row is None else list(cast(Row, unpack(row)))
        new = [place for place in places if place not in known]
        if new:
            self.state.put(key, pack([*known, *new]))
        self._set(block_hash, ino, b"")
        self.state.waits = True

    def _set(self, block_hash: bytes, ino: Ino, row: bytes | None) -> None:
        self.state.put(wanted_key(block_hash, ino), row)
        self.state.changes_wanted = True

    def _is_at(self, place: Place, block_hash: bytes) -> bool:
        return BlockMap(self.state, place.map_ino, place.map).hash_at(place.block) == block_hash

    def _want(self, ino: Ino, blocks: BlockMap, doubtful: dict[int, bytes]) -> None:
        for index, block_hash in doubtful.items():
            if not block_hash or blocks.hash_at(index) != block_hash:
                continue
            if self.state.get(block_key(block_hash)) is not None:
                continue
            self._wait(ino, block_hash, [Place(Ino(blocks.ino), blocks.map_id, index)])

    def wrote(self, version: Version) -> None:
        """A program here wrote this version, and its blocks are here."""
        self._written.update(h for _, h in version.changed if h)

    def written(self) -> dict[bytes, list[Ino]]:
        """Return the blocks that a program here wrote and for which files wait, with these files."""
        found = {block_hash: waiting_for(self.state, block_hash) for block_hash in self._written}
        return {h: files for h, files in found.items() if files and self.state.get(block_key(h)) is not None}

    def is_here_now(self, block_hash: bytes) -> set[Ino]:
        """Nobody waits for this block any more.  Returns the files that did."""
        files = waiting_for(self.state, block_hash)
        for ino in files:
            self._set(block_hash, ino, None)
            self.state.put(waiting_key(ino, block_hash), None)
        return set(files)


def maps_of(ino: Ino, heads: list[Head]) -> set[tuple[Ino, int]]:
    """The block maps of some heads of a file, and of what shows instead of them."""
    heads = [*heads, *(head.before for head in heads if head.before is not None)]
    return {(Ino(head.map_ino or ino), head.map) for head in heads if head.map}
