"""Blocks, block maps, and the digest of a content.

A content is a sequence of *blocks* of BLOCK_SIZE.  A block is kept *trimmed*: its zeros at the end
are cut off.  So a file grows without touching a block, and equal contents have equal hashes
whatever was written and cut to get there.  The hash of a block is the BLAKE3 of its trimmed bytes.
A block of zeros is a *hole*: its hash is empty, and it is stored nowhere.  A content of at most
INLINE_MAX bytes has no blocks: it is kept *inline*, in its version.

The *digest* is a sum, modulo 2^256, of one term for each block that is not a hole and one for the
size.  A term is a BLAKE3 keyed with a secret of the volume, since sums of hashes without a key can
be forged (Wagner, "A Generalized Birthday Problem", CRYPTO 2002).  A sum is kept up to date by
taking old terms away and adding new ones: the cost is what changed, not the size.  Inline bytes
count as block 0.

A *block map* says which block stands at which index: rows of MAP_CHUNK hashes each, under an inode
and a number.  The map of a head that shows is kept whole (`advance`), with what it takes to go back
to its parent (`WritableMap.restore`), so a read is one look-up however many versions there were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from blake3 import blake3

from crdt.codec import CodecError, CorruptStore
from crdt.facts import Ino, Version

BLOCK_SIZE = 32 * 1024
INLINE_MAX = 4096
MAP_CHUNK = 64  # hashes in a row: 2 KiB of row for 2 MiB of file
HASH_SIZE = 32
CHUNK_COUNT_MAX = 1 << 32  # a chunk's number has four bytes in its key
SIZE_MAX = BLOCK_SIZE * MAP_CHUNK * CHUNK_COUNT_MAX  # bytes
EMPTY_DIGEST = bytes(HASH_SIZE)

HOLE = b""
NO_MAP = 0  # the number of no map: the content is inline, or nothing

# Rows of a map that are looked at, at most, to say how much of a file is holes.
FULL_MAX = 64
ROWS_MAX = 2048

_MODULUS = 1 << 256
_ALL = (1 << MAP_CHUNK) - 1
_MASK_SIZE = 8

Change = tuple[int, bytes, bytes]  # index, the hash it had, the hash it has now


class Rows(Protocol):
    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, start: bytes, end: bytes) -> Iterable[tuple[bytes, bytes]]: ...


class WritableRows(Rows, Protocol):
    def put(self, key: bytes, value: bytes | None) -> None:
        """Put a row, or delete it (None); `get` and `scan` see it at once."""


def trimmed(block: bytes | bytearray) -> bytes:
    return bytes(block.rstrip(b"\0"))


def hash_of(block: bytes) -> bytes:
    """Return the hash of a trimmed block."""
    return blake3(block).digest() if block else HOLE


def block_key(block_hash: bytes) -> bytes:
    return b"K" + block_hash


def block_count(size: int) -> int:
    """Return how many blocks `size` bytes reach into."""
    return -(-size // BLOCK_SIZE)


# The digest of a content.


def term(key: bytes, index: int, block_hash: bytes) -> int:
    if not block_hash:
        return 0
    return int.from_bytes(blake3(index.to_bytes(8, "big") + block_hash, key=key).digest(), "big")


def size_term(key: bytes, size: int) -> int:
    """SUBTLE: its message is shorter than that of any block's term, so the two never meet."""
    return int.from_bytes(blake3(size.to_bytes(8, "big"), key=key).digest(), "big") if size else 0


def block_term(key: bytes, digest: bytes, size: int) -> int:
    """Return the term of the block of a content that has one, from its digest."""
    return (int.from_bytes(digest, "big") - size_term(key, size)) % _MODULUS


def updated(key: bytes, digest: bytes, sizes: tuple[int, int], changes: Iterable[Change]) -> bytes:
    """Return the digest after these changes; `sizes` are the sizes before and after."""
    total = int.from_bytes(digest, "big")
    if sizes[0] != sizes[1]:
        total += size_term(key, sizes[1]) - size_term(key, sizes[0])
    for index, old, new in changes:
        if old != new:
            total += term(key, index, new) - term(key, index, old)
    return (total % _MODULUS).to_bytes(HASH_SIZE, "big")


def digest_of(key: bytes, size: int, blocks: Iterable[tuple[int, bytes]]) -> bytes:
    """Return the digest of a whole content, from (index, hash)."""
    return updated(key, EMPTY_DIGEST, (0, size), ((index, HOLE, new) for index, new in blocks))


def digest_of_inline(key: bytes, content: bytes) -> bytes:
    return digest_of(key, len(content), ((0, hash_of(trimmed(content))),))


# Block maps.


def map_key(ino: int, map_id: int, chunk: int) -> bytes:
    return _map_prefix(ino, map_id) + chunk.to_bytes(4, "big")


def _map_prefix(ino: int, map_id: int) -> bytes:
    return b"B" + ino.to_bytes(8, "big") + map_id.to_bytes(8, "big")


def encode_chunk(slots: dict[int, bytes]) -> bytes | None:
    """Return the row of these hashes by slot, None for none: a mask of the slots, the hashes."""
    mask = 0
    hashes = []
    for slot in sorted(slots):
        if slots[slot]:
            mask |= 1 << slot
            hashes.append(slots[slot])
    return mask.to_bytes(_MASK_SIZE, "big") + b"".join(hashes) if mask else None


def decode_chunk(row: bytes | None) -> dict[int, bytes]:
    """Raises CodecError where the row cannot come from `encode_chunk`."""
    if row is None:
        return {}
    mask = _mask_of(row)
    slots = (slot for slot in range(MAP_CHUNK) if mask >> slot & 1)
    starts = range(_MASK_SIZE, len(row), HASH_SIZE)
    return {slot: row[start : start + HASH_SIZE] for slot, start in zip(slots, starts, strict=True)}


def _mask_of(row: bytes) -> int:
    mask = int.from_bytes(row[:_MASK_SIZE], "big")
    if not mask or len(row) != _MASK_SIZE + HASH_SIZE * mask.bit_count():
        raise CodecError(f"a chunk of a block map has {len(row)} bytes and the mask {mask:#x}")
    return mask


class BlockMap:
    """The blocks of one content, to read."""

    def __init__(self, rows: Rows, ino: int, map_id: int) -> None:
        self.rows = rows
        self.ino = ino
        self.map_id = map_id

    def hash_at(self, index: int) -> bytes:
        return self.hashes(index, index)[0]

    def hashes(self, first: int, last: int) -> list[bytes]:
        """Return the hashes from `first` to `last`, both included."""
        found: list[bytes] = []
        for chunk in range(first // MAP_CHUNK, last // MAP_CHUNK + 1):
            start = chunk * MAP_CHUNK
            slots = range(max(first - start, 0), min(last - start + 1, MAP_CHUNK))
            row = self.rows.get(map_key(self.ino, self.map_id, chunk))
            found.extend(self.pick(chunk, row, slots) if row is not None else [HOLE] * len(slots))
        return found

    def pick(self, chunk: int, row: bytes, slots: range) -> list[bytes]:
        """Return the hashes of neighbouring slots, without decoding the others."""
        mask = self.checked_mask(chunk, row)
        at = _MASK_SIZE + HASH_SIZE * (mask & (1 << slots.start) - 1).bit_count()
        found = []
        for slot in slots:
            if mask >> slot & 1:
                found.append(row[at : at + HASH_SIZE])
                at += HASH_SIZE
            else:
                found.append(HOLE)
        return found

    def slots(self, chunk: int) -> dict[int, bytes]:
        return self.decode(chunk, self.rows.get(map_key(self.ino, self.map_id, chunk)))

    def decode(self, chunk: int, row: bytes | None) -> dict[int, bytes]:
        if row is not None:
            self.checked_mask(chunk, row)
        return decode_chunk(row)

    def checked_mask(self, chunk: int, row: bytes) -> int:
        try:
            return _mask_of(row)
        except CodecError as error:
            key = map_key(self.ino, self.map_id, chunk)
            raise CorruptStore(key, str(error)) from error

    def items(self, first: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield index and hash of the blocks that are not holes, in order, from `first` on."""
        for chunk, row in self.chunks(first // MAP_CHUNK):
            for slot, block_hash in self.decode(chunk, row).items():
                if chunk * MAP_CHUNK + slot >= first:
                    yield chunk * MAP_CHUNK + slot, block_hash

    def filled(self, count: int) -> int:
        """Return how many of the first `count` blocks are no holes.

        Of a map whose first FULL_MAX rows are full, or that has more than ROWS_MAX, the rest counts as full.
        """
        last, rest = divmod(count, MAP_CHUNK)
        tail = (self._mask(last) & (1 << rest) - 1).bit_count() if rest else 0
        filled = 0
        for seen, (chunk, row) in enumerate(self.chunks() if last else ()):
            if chunk >= last:
                break
            if seen == ROWS_MAX or (seen == FULL_MAX and filled == chunk * MAP_CHUNK):
                return filled + (last - chunk) * MAP_CHUNK + tail
            filled += self.checked_mask(chunk, row).bit_count()
        return filled + tail

    def filled_of(self, indices: Iterable[int]) -> set[int]:
        """Return those of these indices that are no holes."""
        slots: dict[int, int] = {}
        for index in indices:
            chunk, slot = divmod(index, MAP_CHUNK)
            slots[chunk] = slots.get(chunk, 0) | 1 << slot
        found = set()
        for chunk, wanted in slots.items():
            mask = self._mask(chunk) & wanted
            found |= {chunk * MAP_CHUNK + slot for slot in range(MAP_CHUNK) if mask >> slot & 1}
        return found

    def _mask(self, chunk: int) -> int:
        row = self.rows.get(map_key(self.ino, self.map_id, chunk))
        return 0 if row is None else self.checked_mask(chunk, row)

    def chunks(self, first: int = 0) -> Iterator[tuple[int, bytes]]:
        if first >= CHUNK_COUNT_MAX:  # a cut at the very end
            return
        start = map_key(self.ino, self.map_id, first)
        end = _map_prefix(self.ino, self.map_id) + b"\xff" * 5
        for key, row in self.rows.scan(start, end):
            yield int.from_bytes(key[-4:], "big"), row


class WritableMap(BlockMap):
    """A block map that can be changed."""

    def __init__(self, rows: WritableRows, ino: int, map_id: int) -> None:
        super().__init__(rows, ino, map_id)
        self.writable = rows

    def set(self, index: int, block_hash: bytes) -> bytes:
        """Put a block at an index and return the hash of the one that was there."""
        chunk, slot = divmod(index, MAP_CHUNK)
        slots = self.slots(chunk)
        old = slots.get(slot, HOLE)
        slots[slot] = block_hash
        self.put_chunk(chunk, slots)
        return old

    def put_chunk(self, chunk: int, slots: dict[int, bytes]) -> None:
        self.writable.put(map_key(self.ino, self.map_id, chunk), encode_chunk(slots))

    def replace(self, cut: int | None, changed: Iterable[tuple[int, bytes]]) -> bytes:
        """Drop the blocks from index `cut` on, then set those of `changed`.

        Returns what `restore` needs to go back.
        """
        new_by_chunk: dict[int, dict[int, bytes]] = {}
        for index, block_hash in changed:
            new_by_chunk.setdefault(index // MAP_CHUNK, {})[index % MAP_CHUNK] = block_hash
        touched = set(new_by_chunk)
        if cut is not None:
            touched.update(chunk for chunk, _ in self.chunks(cut // MAP_CHUNK))
        saved = []
        for chunk in sorted(touched):
            slots = self.slots(chunk)
            new = new_by_chunk.get(chunk, {})
            if cut is not None:
                kept = max(cut - chunk * MAP_CHUNK, 0)
                new = {slot: HOLE for slot in slots if slot >= kept} | new
            saved.append(_saved_chunk(chunk, slots, new))
            self.put_chunk(chunk, slots | new)
        return b"".join(saved)

    def restore(self, saved: bytes) -> None:
        at = 0
        while at < len(saved):
            chunk = int.from_bytes(saved[at : at + 4], "big")
            touched = int.from_bytes(saved[at + 4 : at + 12], "big")
            mask = int.from_bytes(saved[at + 12 : at + 20], "big")
            end = at + 20 + HASH_SIZE * mask.bit_count()
            old = decode_chunk(saved[at + 12 : end]) if mask else {}
            slots = self.slots(chunk)
            kept = {slot: value for slot, value in slots.items() if not touched >> slot & 1}
            self.put_chunk(chunk, kept | old)
            at = end

    def copy_to(self, map_id: int) -> None:
        """Make a second map with the same blocks (of a branch that leaves this one)."""
        for chunk, row in list(self.chunks()):
            self.writable.put(map_key(self.ino, map_id, chunk), row)

    def drop(self) -> bytes:
        """Delete the map; return what `restore` needs to bring it back."""
        saved = []
        for chunk, row in list(self.chunks()):
            saved.append(chunk.to_bytes(4, "big") + _ALL.to_bytes(_MASK_SIZE, "big") + row)
            self.writable.put(map_key(self.ino, self.map_id, chunk), None)
        return b"".join(saved)


def _saved_chunk(chunk: int, slots: dict[int, bytes], new: dict[int, bytes]) -> bytes:
    """Return chunk number, mask of the slots that `new` touches, and the row of what they held."""
    touched = sum(1 << slot for slot in new)
    old = encode_chunk({slot: slots.get(slot, HOLE) for slot in new}) or bytes(_MASK_SIZE)
    return chunk.to_bytes(4, "big") + touched.to_bytes(_MASK_SIZE, "big") + old


def advance(rows: WritableRows, ino: Ino, map_id: int, version: Version) -> tuple[int, bytes]:
    """Turn the map of a head into that of a version that extends it.

    `map_id` is NO_MAP where the head is inline or empty; a version that is inline leaves no map.
    Returns the number of the map, and the way back: the number before (8 bytes), and what
    `WritableMap.restore` needs.
    """
    assert not version.bare, version
    before = map_id.to_bytes(8, "big")
    if version.inline is not None:
        return NO_MAP, before + (WritableMap(rows, ino, map_id).drop() if map_id else b"")
    cut = None if version.cut_bytes is None else block_count(version.cut_bytes)
    after = map_id or version.version
    saved = WritableMap(rows, ino, after).replace(cut, version.changed)
    return after, before + (saved if map_id else b"")
