"""The logs of RocksDB, read without it: damage that makes it hang, and how much a start reads back.

RocksDB 9.4 to 11 read for ever, without an error, where the type of a record says that the log was
recycled and the log was not (github.com/facebook/rocksdb/issues/13333).  We recycle none, so such a
type is damage: a flipped bit, or the garbage of blocks that a power cut kept from the disk.

Format (rocksdb/db/log_format.h): blocks of 32 KiB of records, none across a border; a record is its
checksum (4 bytes), length (2, little-endian), type (1) and payload.  RocksDB follows the lengths and
leaves a block at the first record that is not right.  This follows them without a look at checksums,
so it comes by every record that RocksDB comes by.  In a write-ahead log a batch is one record, or one that
begins it and others; it begins with its sequence number (8 bytes, little-endian).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from elmer.store_errors import damaged

BLOCK = 32 * 1024
HEADER = 7
RECYCLED_TYPES = frozenset({5, 6, 7, 8, 11, 131})
FIRST_TYPES = frozenset({1, 2})  # a whole batch, the first part of one
UNKNOWN_TYPE = 12


def guard(path: Path) -> None:
    """Change the types that hang RocksDB to one that it finds wrong.  That ends the log where it was
    damaged, as any other damage does.

    Raises StoreError where such damage is in a MANIFEST, which cannot end early.
    """
    for manifest in path.glob("MANIFEST-*"):
        if next(_recycled_records(manifest), None) is not None:
            raise damaged(path, f"its file {manifest.name} has a record that cannot be")
    for log in path.glob("*.log"):
        for position in list(_recycled_records(log)):
            with log.open("r+b") as file:
                file.seek(position + HEADER - 1)
                file.write(bytes([UNKNOWN_TYPE]))


def count_batches(path: Path, newest: int) -> int:
    """Return how many batches up to this sequence number are in the logs, for a start to read back."""
    count = 0
    for log in path.glob("*.log"):
        for block in _blocks(log):
            for position in _positions(block):
                if block[position + 6] in FIRST_TYPES:
                    sequence = block[position + HEADER : position + HEADER + 8]
                    count += int.from_bytes(sequence, "little") <= newest
    return count


def _recycled_records(path: Path) -> Iterator[int]:
    """Yield the positions of records that say they are of a recycled log."""
    for number, block in enumerate(_blocks(path)):
        for position in _positions(block):
            if block[position + 6] in RECYCLED_TYPES:
                yield number * BLOCK + position
                break


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def _positions(block: bytes) -> Iterator[int]:
    """Yield where records begin."""
    position, last = 0, len(block) - HEADER
    while position <= last:
        yield position
        position += HEADER + (block[position + 4] | block[position + 5] << 8)
