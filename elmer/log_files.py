"""Guards RocksDB against damage in its logs that makes it hang.

RocksDB 9.4 to 11 read for ever, without an error, where the type of a record says that the log was
recycled and the log was not (github.com/facebook/rocksdb/issues/13333).  We recycle none, so such a
type is damage: a flipped bit, or the garbage of blocks that a power cut kept from the disk.

Format (rocksdb/db/log_format.h): blocks of 32 KiB of records, none across a border; a record is its
checksum (4 bytes), length (2, little-endian), type (1) and payload.  RocksDB follows the lengths and
leaves a block at the first record that is not right.  This follows them without a look at checksums,
so it comes by every record that RocksDB comes by.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from elmer.store_errors import damaged

BLOCK = 32 * 1024
HEADER = 7
RECYCLED_TYPES = frozenset({5, 6, 7, 8, 11, 131})
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


def _recycled_records(path: Path) -> Iterator[int]:
    """Yield the positions of records that say they are of a recycled log."""
    with path.open("rb") as file:
        start = 0
        while block := file.read(BLOCK):
            position = _find_recycled(block)
            if position is not None:
                yield start + position
            start += BLOCK


def _find_recycled(block: bytes) -> int | None:
    position, last = 0, len(block) - HEADER
    while position <= last:
        if block[position + 6] in RECYCLED_TYPES:
            return position
        position += HEADER + (block[position + 4] | block[position + 5] << 8)
    return None
