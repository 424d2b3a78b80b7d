"""The options of RocksDB: one column family for each use, and their tuning.

The figures are in docs/decisions/0001-one-store-with-column-families.md.
"""

from __future__ import annotations

from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    DataBlockIndexType,
    DBCompressionType,
    DBRecoveryMode,
    Options,
)

# RocksDB wants a family of the name `default`; what nearly every request reads is in it.
POINTS, LOGS, MAPS, BLOCKS = "default", "logs", "maps", "blocks"

# To move a kind of rows to another family is a change of format.
FAMILY_OF = dict.fromkeys(range(256), POINTS)
FAMILY_OF |= dict.fromkeys(b"AGHV", LOGS) | dict.fromkeys(b"B", MAPS) | dict.fromkeys(b"KT", BLOCKS)

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

CACHE_BYTES = 64 * MIB  # shared by the families; indexes and filters are in it too
BLOB_BYTES_MIN = 4 * KIB  # smaller blocks stay in the tree


def database(memtables: int) -> Options:
    """Return the options of the whole: two cores, little memory, no work for its own sake.

    `memtables` bytes are in memory at most, of all families, before the fullest is written out.
    """
    options = Options(raw_mode=True)
    options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
    options.set_max_total_wal_size(memtables * 3 // 2)  # what a start after a crash replays at most
    options.set_db_write_buffer_size(memtables)
    options.set_max_background_jobs(2)
    options.set_max_subcompactions(1)
    options.set_max_open_files(512)
    options.set_bytes_per_sync(MIB)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(MIB)
    options.set_max_manifest_file_size(16 * MIB)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    return options


def _points(cache: Cache, memtables: int) -> Options:
    options = _family(cache, write_buffer=memtables // 4, block=4 * KIB, hashed=True)
    options.set_compression_type(DBCompressionType.lz4())
    return options


def _logs(cache: Cache, memtables: int) -> Options:
    options = _family(cache, write_buffer=memtables // 8, block=16 * KIB, hashed=False)
    options.set_compression_type(DBCompressionType.lz4())
    return options


def _maps(cache: Cache, memtables: int) -> Options:
    return _family(cache, write_buffer=memtables // 8, block=4 * KIB, hashed=True)


def _blocks(cache: Cache, memtables: int) -> Options:
    options = _family(cache, write_buffer=memtables // 4, block=4 * KIB, hashed=True)
    options.set_enable_blob_files(val=True)
    options.set_min_blob_size(BLOB_BYTES_MIN)
    options.set_blob_compression_type(DBCompressionType.lz4())
    # Blocks have no order in their keys, so each compaction meets all of them, and would copy all
    # that lives below the cutoff.  So nothing is copied but by `reclaim`.
    options.set_enable_blob_gc(val=True)
    options.set_blob_gc_age_cutoff(0.0)
    return options


FAMILIES = {POINTS: _points, LOGS: _logs, MAPS: _maps, BLOCKS: _blocks}


def _family(cache: Cache, *, write_buffer: int, block: int, hashed: bool) -> Options:
    table = BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_block_size(block)
    table.set_bloom_filter(10, block_based=False)  # most look-ups of a name or a hash find nothing
    # In partitions: whole, that of a large file does not fit into a shard of the cache.
    table.set_index_type(BlockBasedIndexType.two_level_index_search())
    table.set_partition_filters(size=True)
    table.set_cache_index_and_filter_blocks(v=True)
    table.set_pin_top_level_index_and_filter(v=True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(v=True)
    if hashed:
        table.set_data_block_index_type(DataBlockIndexType.binary_and_hash())
    options = Options(raw_mode=True)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_size(write_buffer)
    options.set_max_write_buffer_number(4)
    options.set_compression_type(DBCompressionType.none())
    options.set_level_compaction_dynamic_level_bytes(v=True)
    # Deletions by the thousand are compacted soon: scans pass them slowly, and they keep blobs.
    options.add_compact_on_deletion_collector_factory(128, 64, 0.5)
    return options
