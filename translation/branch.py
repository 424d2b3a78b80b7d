"""A branch of a file's content as it stands: what the replica tells, and how it is read.

A file shows one branch; each of its conflict entries shows another.  `Base` is what the content of
files needs of a replica.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from crdt.blocks import BLOCK_SIZE, HOLE, BlockMap, Rows, block_key
from crdt.causality import Context
from crdt.facts import Caller, Ino, Ref
from crdt.merging import Merged


class BlocksMissing(OSError):
    """Blocks of a content are not here yet: fetch them and try the request again.

    An OSError, so that a request which does not wait fails with EIO.
    """

    def __init__(self, hashes: Iterable[bytes]) -> None:
        super().__init__(errno.EIO, os.strerror(errno.EIO))
        self.hashes = tuple(hashes)


class Shown(NamedTuple):
    """What an inode number shows.

    Small content is `inline`; else its block map is `map`, in the rows of `map_ino`.  One that is `bare` was
    superseded before it was sent, and what did that is on its way: it can be written anew, but not be read.
    """

    owner: Ino  # whose rows hold the branch: the inode itself, or of a conflict entry its file
    head: Ref
    size: int  # bytes
    mtime_ns: int
    map: int
    map_ino: Ino
    inline: bytes | None
    digest: bytes
    first_digest: bytes
    settled: tuple[Ref, ...]  # further heads that a new version must name as parents
    bare: bool = False
    parts: Parts | None = None  # it is put together of several heads: to read, and not to write on

    def require_content(self) -> None:
        """Raises OSError (EIO) where nobody here knows what it is."""
        if self.bare and self.size:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


class Parts(NamedTuple):
    """What several heads show together (crdt.merging), and each of them."""

    merged: Merged
    heads: tuple[Shown, ...]


class Author(NamedTuple):
    """Who wrote, and what they had heard of, in the words of `crdt.facts.Version`."""

    writer: Caller | None = None
    under: Context = ()


class VersionFields(NamedTuple):
    """What a new version holds, in the words of `crdt.facts.Version`."""

    size: int  # bytes
    mtime_ns: int
    digest: bytes
    first_digest: bytes
    inline: bytes | None
    cut_bytes: int | None
    changed: tuple[tuple[int, bytes], ...]
    author: Author = Author()
    appends: int | None = None  # the size that was added to, where nothing else was done


class Base(Rows, Protocol):
    """What a replica is to the contents of its files."""

    @property
    def digest_key(self) -> bytes: ...

    def shown(self, ino: Ino) -> Shown:
        """Raises FileNotFoundError (ENOENT) where there is no such inode."""

    def shown_to_write(self, ino: Ino) -> Shown:
        """As `shown`; what several heads show together is made one version first.  Raises BlocksMissing."""

    def is_log(self, ino: Ino) -> bool:
        """Is what is added at the end of this file noted as that (the merge policy `append`)?"""

    def author(self, ino: Ino, writer: Caller) -> Author:
        """Return what is to be noted of somebody who writes to this inode now."""

    def shown_at(self, ino: Ino, head: Ref) -> Shown | None:
        """Return the branch that `head` was the head of, as it stands after merges and splits.

        It may have gone on by choices, which leave its content.  None where it is gone.
        """

    def keeps_for_open(self, owner: Ino) -> bool:
        """Is something of this file kept here only because some file is open?"""

    def commit_version(self, base: Shown, fields: VersionFields, rows: Mapping[bytes, bytes | None]) -> Shown:
        """Commit a version that extends `base`, with these rows in the same batch."""

    def put_rows(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Commit rows that are no facts."""

    def now_ns(self) -> int: ...


def blocks_of(rows: Rows, branch: Shown, indices: Sequence[int]) -> list[bytes]:
    """Return the blocks at these indices, which ascend.  Raises BlocksMissing, OSError (EIO)."""
    branch.require_content()
    if branch.inline is not None:
        return [HOLE if index else branch.inline for index in indices]
    block_map = BlockMap(rows, branch.map_ino, branch.map)
    if indices[-1] - indices[0] == len(indices) - 1:
        hashes = block_map.hashes(indices[0], indices[-1])
    else:
        hashes = [block_map.hash_at(index) for index in indices]
    blocks = [rows.get(block_key(block_hash)) if block_hash else HOLE for block_hash in hashes]
    if None in blocks:
        raise BlocksMissing(h for h, block in zip(hashes, blocks, strict=True) if block is None)
    return [block for block in blocks if block is not None]


def read_branch(rows: Rows, branch: Shown, offset: int, size: int) -> bytes:
    """Return the bytes from `offset` on, fewer at the end of the content.  Raises as `blocks_of` does."""
    if branch.parts is not None:
        return _read_parts(rows, branch.parts, offset, min(offset + size, branch.size))
    branch.require_content()
    if branch.inline is not None:
        return branch.inline[offset : offset + size]
    end = min(offset + size, branch.size)
    if end <= offset:
        return b""
    return cut_out(blocks_of(rows, branch, spanned(offset, end)), offset, end)


def _read_parts(rows: Rows, parts: Parts, offset: int, end: int) -> bytes:
    found: list[bytes] = []
    missing: list[bytes] = []
    for piece in parts.merged.parts.pieces(offset, end):
        try:
            data = read_branch(rows, parts.heads[piece.head], piece.offset, piece.size)
        except BlocksMissing as error:
            missing += error.hashes
        else:
            found.append(_padded(data, piece.size))
    if missing:
        raise BlocksMissing(missing)
    return b"".join(found)


def spanned(offset: int, end: int) -> range:
    """Return the indices of the blocks that these bytes lie in."""
    return range(offset // BLOCK_SIZE, (end - 1) // BLOCK_SIZE + 1)


def cut_out(blocks: Sequence[bytes | bytearray], offset: int, end: int) -> bytes:
    """Return the bytes from `offset` to `end` out of the blocks that they lie in."""
    start = offset % BLOCK_SIZE
    if len(blocks) == 1:
        return _padded(blocks[0][start : start + end - offset], end - offset)
    last_size = (end - 1) % BLOCK_SIZE + 1
    pieces = [_padded(blocks[0][start:], BLOCK_SIZE - start)]
    pieces += [_padded(block, BLOCK_SIZE) for block in blocks[1:-1]]
    pieces.append(_padded(blocks[-1][:last_size], last_size))
    return b"".join(pieces)


def _padded(piece: bytes | bytearray, size: int) -> bytes:
    # SUBTLE: bytes, also of a bytearray: what is returned goes into versions, and must not change.
    return bytes(piece).ljust(size, b"\0")
