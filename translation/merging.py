"""What several heads of a file show together, made one version, for somebody to write on.

That version is no edit: it holds what shows, and its number says that it is just that (crdt.merging), so two
replicas that see the same heads make the same one.  It is a commit of its own, before that of the write.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from crdt.blocks import (
    BLOCK_SIZE,
    HOLE,
    INLINE_MAX,
    BlockMap,
    Change,
    block_count,
    block_key,
    hash_of,
    trimmed,
    updated,
)
from crdt.facts import Policy, Version
from crdt.merging import Blocks, Tails, merging_number
from translation.branch import Base, BlocksMissing, Shown, read_branch

SLICE_BLOCKS = 256  # 8 MiB, written in one batch

BlockRows = dict[bytes, bytes | None]


class Made(NamedTuple):
    version: Version
    rows: BlockRows  # of blocks that it names and that may not be there


def merging_version(base: Base, shown: Shown) -> Made:
    """Return the version of what shows.

    Raises BlocksMissing where bytes are needed that are not here: of a log, those behind the first tail that
    one head has before another one's.  They are put together anew, and many are written out on the way.
    """
    assert shown.parts is not None, shown
    merged, heads = shown.parts
    first, size = heads[0], shown.size
    rows: BlockRows = {}
    if isinstance(merged.parts, Tails):
        changes = list(_of_tails(base, shown, merged.parts, rows))
    else:
        changes = list(_of_blocks(base, shown, merged.parts, rows))
    digest = updated(base.digest_key, first.digest, (first.size, size), changes)
    inline = _inline(base, shown)
    cut = size if inline is None and size < first.size else None
    version = Version(
        shown.owner,
        merging_number(merged.policy, merged.refs),
        merged.refs,
        size,
        shown.mtime_ns,
        digest,
        first.first_digest or (digest if digest != first.digest else b""),
        inline,
        cut,
        () if inline is not None else tuple(_named(first, changes, cut)),
        settles=True,
        appends=size if merged.policy == Policy.APPEND else None,
    )
    return Made(version, {} if inline is not None else rows)


def _inline(base: Base, shown: Shown) -> bytes | None:
    if shown.size > INLINE_MAX:
        return None
    try:
        return read_branch(base, shown, 0, shown.size)
    except BlocksMissing:  # small, of blocks that are not here: as its heads are
        return None


def _named(first: Shown, changes: list[Change], cut: int | None) -> Iterator[tuple[int, bytes]]:
    """The blocks that a version names which goes on from `first`.  What was inline has no block yet."""
    for index, old, new in changes:
        is_cut = cut is not None and index >= block_count(cut)
        if new != (HOLE if is_cut else old) or (first.inline is not None and not index):
            yield index, new


def _of_blocks(base: Base, shown: Shown, blocks: Blocks, rows: BlockRows) -> Iterator[Change]:
    """The blocks that another head has than the first, and those beyond the end."""
    assert shown.parts is not None
    heads = shown.parts.heads
    indices = {index for index, head in blocks.sources.items() if head}
    for start, end, head in blocks.spans:
        for branch in (heads[0], heads[head]) if head else ():
            indices.update(index for index in _indices(base, branch, start) if index < end)
    indices.update(_indices(base, heads[0], block_count(shown.size)))
    if heads[0].inline:
        indices.add(0)
    for index in sorted(indices):
        branch = heads[blocks.source(index)]
        new = _hash_in(base, branch, index) if index < block_count(shown.size) else HOLE
        if new and branch.inline is not None:
            rows[block_key(new)] = trimmed(branch.inline)
        yield index, _hash_in(base, heads[0], index), new


def _indices(base: Base, branch: Shown, start: int) -> Iterator[int]:
    """The indices from `start` on of the blocks that are no holes."""
    if branch.inline is None:
        yield from (index for index, _ in BlockMap(base, branch.map_ino, branch.map).items(start))
    elif branch.inline and not start:
        yield 0


def _hash_in(base: Base, branch: Shown, index: int) -> bytes:
    if branch.inline is None:
        return BlockMap(base, branch.map_ino, branch.map).hash_at(index)
    return HOLE if index else hash_of(trimmed(branch.inline))


def _of_tails(base: Base, shown: Shown, tails: Tails, rows: BlockRows) -> Iterator[Change]:
    """The blocks from where the first head goes on otherwise."""
    assert shown.parts is not None
    first = shown.parts.heads[0]
    for index in range(tails.kept // BLOCK_SIZE, block_count(shown.size)):
        block = trimmed(read_branch(base, shown, index * BLOCK_SIZE, BLOCK_SIZE))
        new = hash_of(block)
        if new:
            rows[block_key(new)] = block
        if len(rows) >= SLICE_BLOCKS:
            base.put_rows(rows)
            rows.clear()
        yield index, _hash_in(base, first, index), new
