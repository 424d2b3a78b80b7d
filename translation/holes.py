"""How much of a file is no hole: what stat(2) tells in st_blocks, and du, cp and tar go by.

It is counted from the block map of what the file shows, once for each version.  Of a large file that is full
as far as one looks the rest is taken to be full: to look at all of its map would take long.
"""

from __future__ import annotations

from crdt.blocks import BLOCK_SIZE, BlockMap, block_count
from crdt.facts import Ino, Ref
from crdt.rows import Head
from crdt.state import State
from translation.content import Content
from translation.gathered import Gathered

KNOWN_MAX = 65_536
# So many gathered blocks are looked at, to tell which of them had been holes.
GATHERED_MAX = 4096


class Holes:
    def __init__(self, state: State, content: Content) -> None:
        self.state = state
        self.content = content
        self.known: dict[tuple[Ref, int], int] = {}  # by version and how many of its blocks

    def filled(self, ino: Ino, owner: Ino, head: Head, size: int) -> int:
        """Return how many bytes of a file of this size, which shows a head of `owner`, are no holes."""
        if size <= BLOCK_SIZE:
            return size
        session = self.content.sessions.get(ino)
        if session is None:
            block_map = BlockMap(self.state, Ino(head.map_ino or owner), head.map)
            blocks = self._count(head.ref, block_map, block_count(size))
        else:
            blocks = self._of_session(session)
        return min(size, blocks * BLOCK_SIZE)

    def _of_session(self, session: Gathered) -> int:
        base = session.base
        kept = block_count(base.size if session.cut is None else min(session.cut, base.size))
        block_map = BlockMap(self.state, base.map_ino, base.map)
        blocks = self._count(base.head, block_map, kept)
        written = session.filled()
        if not base.map or len(written) > GATHERED_MAX:
            return blocks + len(written)
        was = block_map.filled_of(index for index in session.places.keys() | written if index < kept)
        return blocks - len(was) + len(written)

    def _count(self, ref: Ref, block_map: BlockMap, count: int) -> int:
        if not block_map.map_id:
            return count
        found = self.known.get((ref, count))
        if found is None:
            if len(self.known) >= KNOWN_MAX:
                self.known.clear()
            found = self.known[ref, count] = block_map.filled(count)
        return found
