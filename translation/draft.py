"""Drafts: written data that lies in the store and is not yet a version.

A draft is durable and has no dot: it is in nobody's view but ours.  Rows, by the number of the
inode that was written to:

- `F` ino8, the head of the draft: where it branches off, size, times, who wrote, and all its bytes
  if it is small;
- `F` ino8 part4: what one batch wrote out, first what it cut, then hashes by index.  Later parts
  replace what earlier ones say;
- `T` ino8 index8: a block of a file that is open and has no name any more.

A batch has its part, its blocks and the head of the draft, so each prefix of the batches is a
draft.  The version that a draft becomes deletes its rows in its own batch.  `T` rows go with the
last close, and at the next start.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from crdt.blocks import HOLE, Rows, block_count, block_key
from crdt.codec import CodecError, CorruptStore, pack, unpack
from crdt.facts import Caller, Ino, Ref, VersionId
from translation.branch import Author

_PART_COUNT_MAX = (1 << 32) - 1


@dataclass(slots=True)
class Draft:
    """What the rows of one draft say."""

    ino: Ino
    head: Ref  # the version it extends
    size: int
    mtime_ns: int
    cut: int | None
    inline: bytes | None
    detached: bool  # the file had no name any more: this is no version, whatever happens
    author: Author = field(default_factory=Author)
    parts: int = 0
    places: dict[int, bytes] = field(default_factory=dict)  # index -> key of the block's row

    def hashes(self) -> Iterator[bytes]:
        """The blocks that this draft keeps in the store."""
        return (key[1:] for key in self.places.values() if key)


def head_key(ino: Ino) -> bytes:
    return b"F" + ino.to_bytes(8, "big")


def part_key(ino: Ino, part: int) -> bytes:
    assert part <= _PART_COUNT_MAX, part
    return head_key(ino) + part.to_bytes(4, "big")


def nameless_key(ino: Ino, index: int) -> bytes:
    """The key of a block of a file without a name."""
    return b"T" + ino.to_bytes(8, "big") + index.to_bytes(8, "big")


def head_row(draft: Draft) -> bytes:
    return pack(
        (
            draft.head.ino,
            draft.head.version,
            draft.size,
            draft.mtime_ns,
            draft.cut,
            draft.inline,
            draft.detached,
            draft.author,
        )
    )


def part_row(cut: int | None, places: Iterable[tuple[int, bytes]]) -> bytes:
    return pack((cut, [(index, key[1:]) for index, key in places]))


def rows_of(ino: Ino, parts: int) -> list[bytes]:
    """Return the keys of all rows of a draft."""
    return [head_key(ino), *(part_key(ino, part) for part in range(parts))]


def drafts(rows: Rows) -> Iterator[Draft]:
    """Yield the drafts in the store.  Raises CorruptStore."""
    draft: Draft | None = None
    for key, row in rows.scan(b"F", b"G"):
        try:
            if len(key) == len(head_key(Ino(0))):
                if draft is not None:
                    yield draft
                draft = _decoded_head(key, row)
            elif draft is not None and key == part_key(draft.ino, draft.parts):
                _apply_part(draft, row)
            else:
                raise CorruptStore(key, "a part of no draft")
        except (CodecError, ValueError, TypeError) as error:
            raise CorruptStore(key, f"not of a draft: {error}") from error
    if draft is not None:
        yield draft


def _decoded_head(key: bytes, row: bytes) -> Draft:
    # Whatever has the wrong type fails here or where it is used first, both below `drafts`.
    ino, version, size, mtime_ns, cut, inline, detached, (writer, under) = cast(Any, unpack(row))
    head = Ref(Ino(ino), VersionId(version))
    author = Author(None if writer is None else Caller(*writer), under)
    return Draft(Ino(int.from_bytes(key[1:], "big")), head, size, mtime_ns, cut, inline, detached, author)


def _apply_part(draft: Draft, row: bytes) -> None:
    cut, changed = cast(Any, unpack(row))
    if cut is not None:
        first = block_count(cut)
        draft.places = {index: key for index, key in draft.places.items() if index < first}
    draft.places.update((index, block_key(h) if h else HOLE) for index, h in changed)
    draft.parts += 1
