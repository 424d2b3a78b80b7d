"""The store on disk: crdt.store.Store on RocksDB, and with rocks_options the home of rocksdict.

The first byte of a key selects a *column family*, which has its own files and its own tuning; a
batch is one atomic write over all of them.

A commit goes to the write-ahead log (WAL) unsynced; `sync` makes durable what was committed so far,
one fsync for all who wait.  After a crash RocksDB replays the log up to the first record that is not
whole, so the state is a prefix of the commits; whether it is long enough, `elmer.store_files` tells.
Opening looks before it touches: a store that is refused is left as it was.

A write that fails stops RocksDB, and nothing of it is visible.  Once there is space again on a disk
that was full, RocksDB goes on by itself within some seconds.  A failed fsync is final, since the
kernel may have dropped the pages: all can be read, and nothing written until the store is opened
again.

Threads: commits come from one thread at a time, all else from any thread (docs/concurrency.md).
rocksdict keeps the GIL in get, write and iterators, and frees it in flush_wal, flush and
compact_range.

The choices, their figures and the traps of rocksdict that this module steps around are in
docs/decisions/0001-one-store-with-column-families.md.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from rocksdict import (
    AccessType,
    BottommostLevelCompaction,
    Cache,
    CompactOptions,
    Rdict,
    RdictIter,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from crdt.blocks import HASH_SIZE, hash_of
from elmer.log_files import count_batches, guard
from elmer.rocks_options import BLOCKS, CACHE_BYTES, FAMILIES, FAMILY_OF, GIB, POINTS, database
from elmer.space import Sizes
from elmer.store_errors import Refusal, StoreError, as_os_error, as_store_error
from elmer.store_files import Mark, check_format, check_tail, make_directory, seal

log = logging.getLogger(__name__)

__all__ = ["Refusal", "RocksStore", "Rows", "Snapshot", "StoreError", "remains"]

CHUNK_ROWS_MAX = 256  # of a snapshot's scan: of blocks of 32 KiB 8 MiB

GARBAGE_MAX = 0.25  # of the bytes in blob files, before it is worth copying what lives
COPIED_SHARE_MIN, COPIED_BYTES = 1 / 16, GIB  # in one step: what it needs in space and in time

# What a file waits for (crdt.waiting) comes and goes with each block; a scan passes what went, in 2 us each.
WAITED_FOR, GONE_MAX = b"PW", 4096

MEMTABLES = "rocksdb.cur-size-all-mem-tables"
IMMUTABLE, LEVEL_0 = "rocksdb.num-immutable-mem-table", "rocksdb.num-files-at-level0"
LEVEL_0_MAX = 4  # files, from which on RocksDB compacts them
BLOCK_KIND, BLOCK_KEY_SIZE = ord("K"), 1 + HASH_SIZE
STALLED = "Result incomplete: Write stall"
PAUSE_S = 0.001


class Rows:
    """The rows of an open RocksDB, to read: see crdt.store.Reader for the contract."""

    def __init__(self, path: Path, db: Rdict) -> None:
        self.path = path
        self.damaged: set[bytes] = set()
        self._families = {name: db.get_column_family(name) for name in FAMILIES}
        self._get = {kind: self._families[name].get for kind, name in FAMILY_OF.items()}
        self._get_block = self._get[BLOCK_KIND]
        self._get[BLOCK_KIND] = self._intact_block

    def get(self, key: bytes) -> bytes | None:
        """Return the value of this row.  Raises OSError (EIO) where it is damaged on the disk."""
        try:
            return self._get[key[0]](key)
        except Exception as error:
            raise as_os_error(error, self.path, key) from error

    def _intact_block(self, key: bytes) -> bytes | None:
        """Return a block, None where there is none or another one than its hash says (Store.damaged).

        RocksDB looks at checksums of 32 bits of what it reads from the disk; this is of what is read.
        """
        try:
            block: bytes | None = self._get_block(key)
        except Exception as error:
            if len(key) != BLOCK_KEY_SIZE:
                raise
            self._note_damage(key, str(as_os_error(error, self.path).strerror))
            return None
        if block is not None and len(key) == BLOCK_KEY_SIZE and hash_of(block) != key[1:]:
            self._note_damage(key, f"in {self.path} it is not what its hash says")
            return None
        return block

    def _note_damage(self, key: bytes, why: str) -> None:
        if key not in self.damaged:
            self.damaged.add(key)
            log.error("block %s is damaged, and read as if it were not here: %s", key[1:].hex(), why)

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """See Store.scan.  Raises OSError (EIO) at a damaged row."""
        # SUBTLE: RocksDB keeps a pointer into the bound, and the iterator no reference to it.  It lives
        # as long as the iterator because both are locals of this generator.
        bound = ReadOptions()
        bound.set_iterate_upper_bound(end)
        # Not Rdict.items, which ends at a damaged row as if there were no more.
        rows = self._families[FAMILY_OF[start[0]]].iter(bound)
        key, value, step = rows.key, rows.value, rows.prev if reverse else rows.next
        try:
            if reverse:
                rows.seek_to_last()
            else:
                rows.seek(start)
            while (found := key()) is not None and found >= start:
                yield found, value()
                step()
            rows.status()
        except Exception as error:
            raise as_os_error(error, self.path, start) from error


class RocksStore(Rows):
    """A store in a directory: see crdt.store.Store for the contract.

    `create` makes a new one; the directory may be missing or empty, its parent must be there.
    `accept_loss` opens one whose newest synced commits are gone, for its replica to be joined again
    under a new id.  Raises StoreError, or OSError (EACCES and the like) as the system gave it.

    A scan or snapshot that somebody keeps holds RocksDB open, whatever `close` does.
    """

    def __init__(self, path: Path, *, create: bool = False, accept_loss: bool = False) -> None:
        self.path = path
        self.read_back = 0  # batches that were in the log: 0 after a close in order
        if create:
            make_directory(path)
        else:
            check_format(path)
        with contextlib.ExitStack() as undo:
            self._mark = undo.enter_context(contextlib.closing(Mark(path, create=create)))
            if not create:
                guard(path)
                self.read_back = _look(path, 0 if accept_loss else self._mark.read())
            self._db = undo.enter_context(_open(path, AccessType.read_write(), create=create))
            if create:
                seal(path)
            undo.pop_all()
        self._newest = self._db.latest_sequence_number  # each row has a number, in order of commits
        self._durable = self._newest()  # opening wrote what was in the log to synced files
        self._mark.write(self._durable)
        super().__init__(path, self._db)
        handles = {name: self._db.get_column_family_handle(name) for name in FAMILIES}
        self._handles = {kind: handles[name] for kind, name in FAMILY_OF.items()}
        impatient = WriteOptions()
        impatient.no_slowdown = True  # a write that waits would wait with the GIL
        self._db.set_write_options(impatient)
        self._write = self._db.write
        self._stopped = False  # the last write failed; RocksDB takes none until it has recovered
        self._gone_count = 0  # rows of what was waited for, since they were written out last
        self._turn = threading.Condition()
        self._rounds_begun = self._rounds_ended = 0
        self._failure: OSError | None = None  # of the last round of syncs

    def commit(self, batch: Mapping[bytes, bytes | None], *, sync: bool = False) -> None:
        """Put and delete these rows as one.  Raises OSError (ENOSPC, EIO): then none is visible."""
        while not self._try(batch):
            time.sleep(PAUSE_S)
        if sync:
            self.sync()

    def _try(self, batch: Mapping[bytes, bytes | None]) -> bool:
        """Commit, or return False where RocksDB must write out more before it takes the batch."""
        rows = WriteBatch(raw_mode=True)
        put, delete, handles = rows.put, rows.delete, self._handles
        for key, value in batch.items():
            if value is None:
                delete(key, handles[key[0]])
            else:
                put(key, value, handles[key[0]])
        try:
            self._write(rows)
        except Exception as error:
            if str(error) == STALLED:
                return False
            self._stopped = True
            raise as_os_error(error, self.path) from error
        self._stopped = False
        if self.damaged:
            self.damaged.difference_update(batch)
        self._gone_count += sum(value is None and key[0] in WAITED_FOR for key, value in batch.items())
        if self._gone_count >= GONE_MAX:
            self._write_out_points(self._families[POINTS])
        return True

    def _write_out_points(self, points: Rdict) -> None:
        """In memory a row and its deletion stay until the memtable is full; what is written out is rid of it.

        RocksDB syncs the log first, so that no family has more than the others after a power cut.  Not
        where it is behind with what it has to write out: then it would wait before it begins, with the GIL.
        """
        if points.property_int_value(IMMUTABLE) or int(points.property_value(LEVEL_0) or 0) >= LEVEL_0_MAX:
            return
        self._gone_count = 0
        with contextlib.suppress(Exception):  # a disk that is full, and says so to who writes next
            points.flush(wait=False)

    def sync(self) -> None:
        """Return when all that was committed before the call is durable.

        Who comes while a round of syncing is under way waits for the next one, since this one may
        have begun before his commit.  One of those who wait does that round for all of them.

        Raises OSError: ENOSPC as long as a full disk stops RocksDB, else EIO, and then for ever.
        """
        with self._turn:
            if self._newest() == self._durable:
                return
            mine = self._rounds_begun + 1
            while self._rounds_ended < min(mine, self._rounds_begun):
                self._turn.wait()
            if self._rounds_ended >= mine:
                if self._failure is not None:
                    raise self._failure
                return
            self._rounds_begun += 1
        self._do_round()

    def _do_round(self) -> None:
        failure: OSError | None = OSError(errno.EIO, "the sync was interrupted", str(self.path))
        try:
            self._sync_log()
            failure = None
        except OSError as error:
            failure = error
            raise
        finally:
            with self._turn:
                self._rounds_ended += 1
                self._failure = failure
                self._turn.notify_all()

    def _sync_log(self) -> None:
        newest = self._newest()
        if self._stopped:
            # To sync a log that could not be written makes RocksDB give up for good.  An empty batch
            # asks whether it has recovered.
            self._try({})
        try:
            self._db.flush_wal(sync=True)
        except Exception as error:
            raise as_os_error(error, self.path) from error
        self._durable = newest
        self._mark.write(newest)

    # Of elmer.space: what a full disk needs to know.

    def memory_bytes(self) -> int:
        """Return how much is in memory, and yet to be written out."""
        sizes = (rows.property_int_value(MEMTABLES) or 0 for rows in self._families.values())
        return sum(sizes)

    def log_bytes(self) -> int:
        """Return the size of the write-ahead log, which goes when all is written out."""
        return sum(log.stat().st_size for log in self.path.glob("*.log"))

    def write_out(self) -> None:
        """Write out what is in memory, so that the log goes.  In any thread.  Raises OSError."""
        try:
            for rows in self._families.values():
                rows.flush()
        except Exception as error:
            raise as_os_error(error, self.path) from error

    def is_writable(self) -> bool:
        """Return whether commits are taken: not while RocksDB has stopped, and not recovered."""
        try:
            return self._try({})  # it says so only when it is asked to write
        except OSError:
            return False

    def snapshot(self) -> Snapshot:
        while True:
            before = self._newest()
            rows = {name: family.iter() for name, family in self._families.items()}
            if self._newest() == before:  # else a commit came in between two families
                return Snapshot(rows, self.path)

    def reclaim(self) -> bool:
        """Give back space of deleted blocks, and return whether there is more worth another call.

        A blob file goes when nothing in it lives.  Where too much is dead in files that live, the
        oldest are copied: a sixteenth of all, or 1 GiB, a call.  Takes seconds; any thread may call.
        """
        blocks = self._families[BLOCKS]
        try:
            blocks.compact_range(None, None)  # deletions meet what they delete
            share = _garbage_share(blocks)
            if share > GARBAGE_MAX:
                _copy_oldest(blocks)
        except Exception as error:
            raise as_os_error(error, self.path) from error
        return GARBAGE_MAX < _garbage_share(blocks) < share

    def close(self) -> None:
        """Make all durable and let go of the directory.  Raises OSError where it cannot be synced."""
        try:
            self.sync()
        finally:
            self._handles.clear()
            for family in (*self._families.values(), self._db):
                # Writes out what is in memory, which saves the next start the replay.  If it fails,
                # the next start replays.
                with contextlib.suppress(Exception):
                    family.close()
            self._mark.close()


@contextlib.contextmanager
def remains(path: Path) -> Iterator[Rows]:
    """Yield what can be read of a store that is not opened because it is damaged; nothing is changed.

    What cannot be read raises OSError (EIO).  Raises StoreError where nothing can.
    """
    with _open(path, AccessType.read_only(error_if_log_file_exist=False), paranoid=False) as db:
        yield Rows(path, db)


class Snapshot:
    """The store as it was at one moment, held by one iterator a family.

    Not by rocksdict's Snapshot, whose iterators show the present.  An iterator has one position, so
    a scan takes its rows by the chunk, and can then be put aside for another.
    """

    def __init__(self, rows: dict[str, RdictIter], path: Path) -> None:
        self._rows = rows
        self._path = path
        self._turn = threading.Lock()

    def close(self) -> None:
        """Let go of it: it keeps files that were replaced since, and RocksDB itself, open."""
        self._rows.clear()

    def get(self, key: bytes) -> bytes | None:
        rows = self._rows[FAMILY_OF[key[0]]]
        try:
            with self._turn:
                rows.seek(key)
                if rows.key() == key:
                    value: bytes = rows.value()
                    return value
                rows.status()
        except Exception as error:
            raise as_os_error(error, self._path, key) from error
        return None

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        count = 8
        while chunk := self._chunk(start, end, count, reverse=reverse):
            yield from chunk
            last, _ = chunk[-1]
            if reverse:
                end = last
            else:
                start = last + b"\0"  # the least key after it
            count = min(2 * count, CHUNK_ROWS_MAX)

    def _chunk(self, start: bytes, end: bytes, count: int, *, reverse: bool) -> list[tuple[bytes, bytes]]:
        rows = self._rows[FAMILY_OF[start[0]]]
        step = rows.prev if reverse else rows.next
        chunk: list[tuple[bytes, bytes]] = []
        try:
            with self._turn:
                if reverse:
                    rows.seek_for_prev(end)
                    if rows.key() == end:
                        rows.prev()
                else:
                    rows.seek(start)
                while len(chunk) < count and (key := rows.key()) is not None:
                    if not start <= key < end:
                        break
                    chunk.append((key, rows.value()))
                    step()
                rows.status()
        except Exception as error:
            raise as_os_error(error, self._path, start) from error
        return chunk


def _look(path: Path, claimed: int) -> int:
    """Raise StoreError where the store is damaged or ends too early, and change nothing.

    Returns how many batches opening will read back from the log.

    Opening for good drops what is behind the first damage in a log, and files that a shortened
    MANIFEST does not name.
    """
    with _open(path, AccessType.read_only(error_if_log_file_exist=False)) as db:
        newest = db.latest_sequence_number()
    check_tail(path, newest, claimed)
    return count_batches(path, newest)


def _open(path: Path, access: AccessType, *, create: bool = False, paranoid: bool = True) -> Rdict:
    cache = Cache.new_hyper_clock_cache(CACHE_BYTES, estimated_entry_charge=0)
    memtables = Sizes.of(path).memtables
    families = {name: make(cache, memtables) for name, make in FAMILIES.items()}
    options = database(memtables)
    options.set_paranoid_checks(enabled=paranoid)
    options.create_if_missing(create)
    options.create_missing_column_families(create)
    try:
        return Rdict(str(path), options, families, access)
    except Exception as error:
        raise as_store_error(error, path) from error


def _garbage_share(blocks: Rdict) -> float:
    garbage = blocks.property_int_value("rocksdb.live-blob-file-garbage-size") or 0
    total = blocks.property_int_value("rocksdb.live-blob-file-size") or 0
    return garbage / total if total else 0.0


def _copy_oldest(blocks: Rdict) -> None:
    """Copy what lives in the oldest blob files, so that these go."""
    total = blocks.property_int_value("rocksdb.live-blob-file-size") or 0
    count = blocks.property_int_value("rocksdb.num-blob-files") or 0
    share = min(1.0, max(COPIED_SHARE_MIN, COPIED_BYTES / max(total, 1), 1.001 / max(count, 1)))
    every = CompactOptions()
    every.set_bottommost_level_compaction(BottommostLevelCompaction.force())
    blocks.set_options({"blob_garbage_collection_age_cutoff": f"{share:.6f}"})
    try:
        blocks.compact_range(None, None, every)
    finally:
        blocks.set_options({"blob_garbage_collection_age_cutoff": "0"})
