"""What was written to one file and is not a version yet.

The content is that of a branch (`base`), cut at the least size it was cut to, with the blocks over
it that were written: in memory, or at their *places* in the store, once written out.  Invariants:
no block reaches beyond `size`; a block that is cut in the middle is among the written ones.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from crdt import blocks as contents
from crdt.blocks import BLOCK_SIZE, EMPTY_DIGEST, HOLE, INLINE_MAX, SIZE_MAX, BlockMap, Change
from crdt.codec import CorruptStore
from crdt.facts import Caller, Ino
from translation.branch import (
    Author,
    Base,
    BlocksMissing,
    Shown,
    VersionFields,
    blocks_of,
    cut_out,
    spanned,
)
from translation.draft import Draft, nameless_key

SLICE_BYTES = 8 << 20  # written out in one batch


class Slice(NamedTuple):
    """Some of the gathered blocks, ready to be written out."""

    places: dict[int, bytes]  # index -> key of the row, HOLE for a block of zeros
    rows: dict[bytes, bytes | None]
    end: int  # where in the file it ends, bytes


NOTHING = Slice({}, {}, 0)


class Gathered:
    """The content of one file, as all descriptors here see it while it is held or written to."""

    __slots__ = (
        "author",
        "base",
        "blocks",
        "changed",
        "cut",
        "detached",
        "drafted_ns",
        "drafted_size",
        "ino",
        "mtime_ns",
        "nameless",
        "overtaken",
        "part_cut",
        "parts",
        "places",
        "since_ns",
        "size",
        "weight",
        "writer",
    )

    def __init__(self, ino: Ino, base: Shown) -> None:
        self.ino = ino
        self.nameless: set[int] = set()  # blocks that have a row under `nameless_key`
        self.detached = False  # the file has no name any more
        self.overtaken = False  # a merge changed what the file would show
        self.rebase(base)

    def rebase(self, base: Shown) -> None:
        """All that was gathered is in `base` now."""
        self.base = base
        self.size = base.size
        self.mtime_ns = base.mtime_ns
        self.changed = False  # something was written, if only the same bytes again
        self.writer: Caller | None = None  # who wrote last; None: nobody yet
        self.author = Author()
        self.cut: int | None = None
        self.blocks: dict[int, bytes | bytearray] = {}
        self.places: dict[int, bytes] = {}
        self.weight = 0  # bytes in `blocks`
        self.since_ns = 0  # of the oldest change that is in memory only
        # The draft in the store: when it began, how many parts it has, where its content ends, and
        # the least size cut to since the last part.
        self.drafted_ns = 0
        self.parts = 0
        self.drafted_size = base.size
        self.part_cut: int | None = None

    def continue_draft(self, draft: Draft) -> None:
        """Take up what lies in the store since the last run."""
        self.size, self.mtime_ns, self.cut = draft.size, draft.mtime_ns, draft.cut
        self.changed = True
        if draft.inline is not None:
            self._keep(0, draft.inline)
        else:
            self.places = dict(draft.places)
        self.drafted_ns, self.parts = 1, draft.parts
        self.author = draft.author

    # Reading.

    def read(self, rows: Base, offset: int, size: int) -> bytes:
        end = min(offset + size, self.size)
        if end <= offset:
            return b""
        return cut_out(self.load(rows, spanned(offset, end)), offset, end)

    def load(self, rows: Base, indices: Sequence[int]) -> list[bytes | bytearray]:
        """Return the blocks at these indices, which ascend.  Raises BlocksMissing."""
        found: dict[int, bytes | bytearray] = {}
        kept = self.base.size if self.cut is None else min(self.cut, self.base.size)
        limit = contents.block_count(kept)
        wanted = []
        for index in indices:
            block = self.blocks.get(index)
            if block is not None:
                found[index] = block
            elif index in self.places:
                found[index] = self._written_out(rows, index)
            elif index < limit:
                wanted.append(index)
        if wanted:
            if self.base.inline is None:
                self.refresh(rows)
            found.update(zip(wanted, blocks_of(rows, self.base, wanted), strict=True))
        return [found.get(index, HOLE) for index in indices]

    def gather_again(self, rows: Base, index: int) -> None:
        """Take a block that was written out into memory."""
        if index not in self.blocks:  # else it was written anew since
            self._keep(index, self._written_out(rows, index))
        del self.places[index]

    def _written_out(self, rows: Base, index: int) -> bytes:
        key = self.places[index]
        block = rows.get(key) if key else HOLE
        if block is None:
            raise CorruptStore(key, f"block {index} of the draft of inode {self.ino} is gone")
        return block

    def refresh(self, rows: Base) -> None:
        """Find the branch again: a merge may have moved its block map, a rename settled over it."""
        branch = rows.shown_at(self.ino, self.base.head)
        if branch is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        self.base = branch
        if not self.changed:
            self.size, self.mtime_ns, self.drafted_size = branch.size, branch.mtime_ns, branch.size

    # Writing.

    def write(self, rows: Base, offset: int, data: bytes, now_ns: int) -> None:
        """Raises BlocksMissing where a block is overwritten in part that is not here."""
        end = offset + len(data)
        if end > SIZE_MAX:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        self._keep_content()
        first, start = divmod(offset, BLOCK_SIZE)
        last = (end - 1) // BLOCK_SIZE
        head, tail = self._to_overwrite(rows, first, last, start, end)
        if first == last:
            self._overwrite(first, head, start, data)
        else:
            at = BLOCK_SIZE - start
            self._overwrite(first, head, start, data[:at])
            for index in range(first + 1, last):
                self._keep(index, data[at : at + BLOCK_SIZE])
                at += BLOCK_SIZE
            self._overwrite(last, tail, 0, data[at:])
        self.size = max(self.size, end)
        self._touch(now_ns)

    def _keep_content(self) -> None:
        """Some of the content of `base` is kept, unless all was cut away."""
        if self.cut != 0:
            self.base.require_content()

    def _to_overwrite(
        self, rows: Base, first: int, last: int, start: int, end: int
    ) -> tuple[bytes | bytearray | None, bytes | bytearray | None]:
        """Return the old first and last block of a write, None where nothing of one is left."""
        end_first, end_last = (first + 1) * BLOCK_SIZE, (last + 1) * BLOCK_SIZE
        head_kept = start > 0 or end < min(self.size, end_first)
        tail_kept = first < last and end < min(self.size, end_last)
        wanted = [index for index, kept in ((first, head_kept), (last, tail_kept)) if kept]
        loaded = self.load(rows, wanted) if wanted else []
        return loaded[0] if head_kept else None, loaded[-1] if tail_kept else None

    def _overwrite(self, index: int, old: bytes | bytearray | None, start: int, data: bytes) -> None:
        if old is None:
            self._keep(index, data)
            return
        gathered = self.blocks.get(index)
        before = len(gathered) if gathered is not None else 0
        block = old if isinstance(old, bytearray) else bytearray(old)
        if start > len(block):
            block.extend(bytes(start - len(block)))
        block[start : start + len(data)] = data
        self.blocks[index] = block
        self.weight += len(block) - before

    def filled(self) -> set[int]:
        """Return the blocks that were written and are no holes."""
        return self.blocks.keys() | {index for index, key in self.places.items() if key != HOLE}

    def _keep(self, index: int, block: bytes | bytearray) -> None:
        old = self.blocks.get(index)
        self.weight += len(block) - (len(old) if old is not None else 0)
        self.blocks[index] = block

    def sign(self, rows: Base, writer: Caller) -> None:
        """Note who has just written.

        Of several it is the last whose right is one of owner, group or mode.  What the first one had heard of
        is what counts: some of what was gathered was written before the rest was known.
        """
        if writer == self.writer:
            return
        author = rows.author(self.ino, writer)
        if self.writer is not None:
            author = Author(author.writer or self.author.writer, self.author.under)
        self.writer, self.author = writer, author

    def truncate(self, rows: Base, size: int, now_ns: int) -> None:
        """Raises BlocksMissing where the cut goes through a block that is not here."""
        if size > SIZE_MAX:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        if size:
            self._keep_content()
        if size < self.size:
            self._cut(rows, size)
        self.size = size
        self._touch(now_ns)

    def _cut(self, rows: Base, size: int) -> None:
        index, rest = divmod(size, BLOCK_SIZE)
        edge = self.load(rows, [index])[0] if rest else HOLE
        first_gone = contents.block_count(size)
        for gone in [known for known in self.blocks if known >= first_gone]:
            self.weight -= len(self.blocks.pop(gone))
        for gone in [known for known in self.places if known >= first_gone]:
            del self.places[gone]
        if len(edge) > rest:
            self._keep(index, edge[:rest])
        self.part_cut = size if self.part_cut is None else min(self.part_cut, size)
        self.drafted_size = min(self.drafted_size, size)
        if size < self.base.size:
            self.cut = size if self.cut is None else min(self.cut, size)

    def _touch(self, now_ns: int) -> None:
        self.mtime_ns = now_ns
        self.keep(now_ns)

    def keep(self, now_ns: int) -> None:
        """Be a version with the next flush, as it is."""
        self.changed = True
        self.since_ns = self.since_ns or now_ns

    # Becoming rows.

    def complete(self, rows: Base) -> None:
        """Write an inline base again: it has no block that a version could refer to."""
        if self.size > INLINE_MAX and self.base.inline and 0 not in self.places:
            block = self.load(rows, [0])[0]
            if block:
                self._keep(0, block)

    def slices(self, rows: Base) -> Iterator[Slice]:
        """Yield the blocks in memory, hashed, in slices; the caller says `wrote` when one is put.

        A block whose row is there already is not put again: to look costs less than to write.
        """
        order = sorted(self.blocks)
        at = 0
        while at < len(order):
            part = Slice({}, {}, 0)
            weight = 0
            while at < len(order) and weight < SLICE_BYTES:
                index = order[at]
                weight += self._prepare(rows, index, part)
                at += 1
            yield part._replace(end=min(self.size, (order[at - 1] + 1) * BLOCK_SIZE))

    def _prepare(self, rows: Base, index: int, part: Slice) -> int:
        block = contents.trimmed(self.blocks[index])
        if self.detached:
            key = nameless_key(self.ino, index)
            part.rows[key] = block or None
            part.places[index] = key if block else HOLE
            return len(block)
        block_hash = contents.hash_of(block)
        key = contents.block_key(block_hash) if block_hash else HOLE
        part.places[index] = key
        if key and key not in part.rows and rows.get(key) is None:
            part.rows[key] = block
        return len(block)

    def wrote(self, part: Slice) -> None:
        """These blocks are in the store now."""
        for index in part.places:
            self.weight -= len(self.blocks.pop(index))
        self.places.update(part.places)
        if self.detached:
            self.nameless.update(index for index, key in part.places.items() if key)

    # Becoming a version.

    def small(self, rows: Base) -> bytes | None:
        """Return all bytes of a content that belongs inline, None where they are not all here.

        Then it is a content of blocks of which only the size changed.
        """
        try:
            return self.read(rows, 0, self.size)
        except BlocksMissing:
            return None

    def fields(self, rows: Base, places: dict[int, bytes]) -> VersionFields:
        """Return what a version of this content on `base` holds, its blocks being at `places`."""
        base = self.base
        inline = self.small(rows) if self.size <= INLINE_MAX else None
        cut: int | None = None
        changed: tuple[tuple[int, bytes], ...] = ()
        if inline is not None:
            digest = contents.digest_of_inline(rows.digest_key, inline) if inline else EMPTY_DIGEST
        elif base.inline is not None:
            # All is named, also what was there before: block 0 has a row from now on, or is a hole.
            cut = self.cut
            changed = tuple((index, key[1:]) for index, key in sorted(places.items()) if key or not index)
            digest = contents.digest_of(rows.digest_key, self.size, changed)
        else:
            cut = self.cut
            changes = self._changes(rows, places, cut)
            first_cut = None if cut is None else contents.block_count(cut)
            changed = tuple(
                (index, new)
                for index, old, new in changes
                if new != (HOLE if first_cut is not None and index >= first_cut else old)
            )
            sizes = (base.size, self.size)
            digest = contents.updated(rows.digest_key, base.digest, sizes, changes)
        first = base.first_digest or (digest if digest != base.digest else b"")
        return VersionFields(self.size, self.mtime_ns, digest, first, inline, cut, changed, self.author)

    def appended_to(self, rows: Base, fields: VersionFields) -> int | None:
        """Return the size of `base` where all that was done was to add at its end, None else."""
        size = self.base.size
        if self.size < size or self.cut is not None:
            return None
        full, rest = divmod(size, BLOCK_SIZE)
        touched = {0} if fields.inline is not None else {index for index, _ in fields.changed}
        if any(index < full for index in touched):
            return None
        if rest and full in touched:
            try:
                (old,) = blocks_of(rows, self.base, [full])
            except BlocksMissing:  # it was written over whole
                return None
            (new,) = self.load(rows, [full])
            if cut_out([new], size - rest, size) != cut_out([old], size - rest, size):
                return None
        return size

    def _changes(self, rows: Base, places: dict[int, bytes], cut: int | None) -> list[Change]:
        """Return the blocks that differ from those of `base`, ascending."""
        block_map = BlockMap(rows, self.base.map_ino, self.base.map)
        old: dict[int, bytes] = {}
        for chunk in {index // contents.MAP_CHUNK for index in places}:
            start = chunk * contents.MAP_CHUNK
            for slot, block_hash in block_map.slots(chunk).items():
                old[start + slot] = block_hash
        changes = [(index, old.get(index, HOLE), places[index][1:]) for index in sorted(places)]
        if cut is not None:
            cut_away = block_map.items(contents.block_count(cut))
            changes += [(index, gone, HOLE) for index, gone in cut_away if index not in places]
        return changes

    def draft(self, size: int, inline: bytes | None) -> Draft:
        """Return what the head of the draft says."""
        head, mtime_ns = self.base.head, self.mtime_ns
        return Draft(self.ino, head, size, mtime_ns, self.cut, inline, self.detached, self.author)
