"""The store on RocksDB: the contract, opening, syncing, and the space it takes."""

import errno
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from crdt.blocks import block_key, hash_of
from crdt.store import MemoryStore
from elmer import rocks
from elmer.rocks import BLOCKS, Refusal, RocksStore, StoreError
from elmer.rocks_options import POINTS
from elmer.store_errors import as_store_error
from tests.conformance import check_store
from tests.elmer.committer import batch, numbers_in
from tests.elmer.stores import DEADLINE_S, ROOT, open_and_close, refused, wait_until


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rows"


@pytest.fixture
def store(path):
    store = RocksStore(path, create=True)
    yield store
    store.close()


# -- the contract ----------------------------------------------------------------------------------


def test_rocks_is_a_store(tmp_path):
    numbers = itertools.count()
    check_store(lambda: RocksStore(tmp_path / str(next(numbers)), create=True))


KINDS = st.sampled_from([b"D", b"A", b"B", b"K"])
KEYS = st.builds(
    bytes.__add__, KINDS, st.binary(max_size=2).map(lambda b: bytes(b"\0a\xff"[x % 3] for x in b))
)
VALUES = st.sampled_from([b"", b"v", b"w" * 300, b"x" * 5000])


class AgainstMemory(RuleBasedStateMachine):
    """The same calls to both stores have the same results, across restarts too."""

    def __init__(self):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="elmer-"))
        self.rocks = RocksStore(self.directory / "rows", create=True)
        self.memory = MemoryStore()
        self.snapshots = []

    def teardown(self):
        self.snapshots.clear()
        self.rocks.close()
        shutil.rmtree(self.directory)

    @rule(rows=st.dictionaries(KEYS, st.none() | VALUES, max_size=6), sync=st.booleans())
    def commit(self, rows, sync):
        self.rocks.commit(rows, sync=sync)
        self.memory.commit(rows, sync=sync)

    @rule()
    def take_a_snapshot(self):
        self.snapshots.append((self.rocks.snapshot(), self.memory.snapshot()))

    @rule()
    def write_out(self):
        for family in self.rocks._families.values():
            family.flush()

    @rule()
    def restart(self):
        self.snapshots.clear()
        self.rocks.close()
        self.rocks = RocksStore(self.directory / "rows")

    @rule(key=KEYS, end=KEYS, reverse=st.booleans(), newest=st.booleans())
    def read(self, key, end, reverse, newest):
        ours, theirs = (self.rocks, self.memory) if newest or not self.snapshots else self.snapshots[0]
        assert ours.get(key) == theirs.get(key)
        end = key[:1] + end[1:] if end[1:] else bytes([key[0] + 1])
        assert list(ours.scan(key, end, reverse=reverse)) == list(theirs.scan(key, end, reverse=reverse))

    @invariant()
    def all_rows_are_equal(self):
        for kind in (b"D", b"A", b"B", b"K"):
            end = bytes([kind[0] + 1])
            assert list(self.rocks.scan(kind, end)) == list(self.memory.scan(kind, end))


TestAgainstMemory = AgainstMemory.TestCase
TestAgainstMemory.settings = settings(max_examples=15, stateful_step_count=30)


def test_a_scan_takes_no_memory_for_rows_to_come(store):
    for hundred in range(300):
        store.commit({b"D%08d" % n: b"x" * 100 for n in range(hundred * 100, hundred * 100 + 100)})
    tracemalloc.start()
    try:
        for reader in (store, store.snapshot()):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            assert sum(1 for _ in reader.scan(b"D", b"E")) == 30_000
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < 200_000
    finally:
        tracemalloc.stop()


def test_a_snapshot_has_no_batch_in_part(store):
    """Also where it is taken while another thread commits."""
    done = threading.Event()

    def commit_on():
        for number in itertools.count():
            store.commit({kind + b"n": b"%d" % number for kind in (b"D", b"A", b"B", b"K")})
            if done.is_set():
                return

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=commit_on)
    thread.start()
    try:
        seen = set()
        while len(seen) < 300:
            snapshot = store.snapshot()
            found = {snapshot.get(kind + b"n") for kind in (b"D", b"A", b"B", b"K")}
            assert len(found) == 1
            seen |= found
    finally:
        done.set()
        thread.join(DEADLINE_S)
        sys.setswitchinterval(interval)


def test_a_write_that_has_to_wait_lets_other_threads_work(store):
    """RocksDB would let it wait with the GIL, and the whole process with it."""
    blocks = store._families[BLOCKS]
    store.commit({b"K1": b"x" * 5000})
    blocks.set_options({"level0_stop_writes_trigger": "1", "level0_slowdown_writes_trigger": "1"})
    blocks.flush()
    thread = threading.Thread(target=store.commit, args=({b"Dn": b"late"},))
    thread.start()
    try:
        for _ in range(20):
            time.sleep(rocks.PAUSE_S)
            assert store.get(b"Dn") is None
            assert thread.is_alive()
    finally:
        blocks.set_options({"level0_stop_writes_trigger": "36", "level0_slowdown_writes_trigger": "20"})
        thread.join(DEADLINE_S)
    assert store.get(b"Dn") == b"late"


# -- opening ---------------------------------------------------------------------------------------


def test_what_was_committed_is_there_after_a_restart(path):
    store = RocksStore(path, create=True)
    for number in range(20):
        store.commit(batch(number))
    store.close()
    store = RocksStore(path)
    assert numbers_in(store) == 20
    store.close()


def test_a_store_is_made_in_a_missing_or_an_empty_directory_only(tmp_path):
    (tmp_path / "empty").mkdir()
    open_and_close(tmp_path / "empty", create=True)
    open_and_close(tmp_path / "missing", create=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    assert refused(tmp_path / "photos", create=True) is Refusal.NOT_EMPTY
    assert refused(tmp_path / "missing", create=True) is Refusal.NOT_EMPTY
    assert os.listdir(tmp_path / "photos") == ["cat.jpg"]
    with pytest.raises(FileNotFoundError):
        RocksStore(tmp_path / "no" / "parent", create=True)


def test_what_is_no_store_is_refused_and_left_alone(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for name in ("photos", "file", "missing"):
        assert refused(tmp_path / name) is Refusal.NOT_A_STORE
    assert sorted(os.listdir(tmp_path)) == ["file", "photos"]
    assert os.listdir(tmp_path / "photos") == []


def test_a_store_that_was_not_made_to_the_end_is_not_taken_for_none(path):
    """Who lost that file only must not be told to make a new store."""
    open_and_close(path, create=True)
    (path / "FORMAT").unlink()
    assert refused(path) is Refusal.DAMAGED


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (b"elmer store 2\n", Refusal.NEWER),
        (b"elmer store \n", Refusal.DAMAGED),
        (b"1\n", Refusal.DAMAGED),
        (b"", Refusal.DAMAGED),
    ],
)
def test_the_format_is_checked(path, text, refusal):
    open_and_close(path, create=True)
    (path / "FORMAT").write_bytes(text)
    assert refused(path) is refusal
    (path / "FORMAT").write_bytes(b"elmer store 1\n")
    open_and_close(path)


def test_a_store_is_opened_once(store, path):
    with pytest.raises(StoreError, match=f"process {os.getpid()} has it open") as info:
        RocksStore(path)
    assert info.value.refusal is Refusal.IN_USE
    script = (
        "import sys, pathlib; from elmer.rocks import *\n"
        "try: RocksStore(pathlib.Path(sys.argv[1]))\n"
        "except StoreError as error: print(error.refusal.name, error)"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, path], cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True
    ).stdout
    assert told.startswith(f"IN_USE {path}: process {os.getpid()} has it open")
    store.commit({b"Da": b"still"}, sync=True)
    assert store.get(b"Da") == b"still"


def test_a_scan_that_is_kept_keeps_the_store_in_use(path):
    store = RocksStore(path, create=True)
    store.commit({b"Da": b"1", b"Db": b"1"})
    scan = store.scan(b"D", b"E")
    next(scan)
    store.close()
    assert refused(path) is Refusal.IN_USE
    assert next(scan) == (b"Db", b"1")
    del scan
    open_and_close(path)


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (
            "IO error: No space left on device: While appending to file: x: No space left on device",
            "DISK_FULL",
        ),
        ("IO error: While appending to file: x: Disk quota exceeded", "DISK_FULL"),
        ("No space left on device (os error 28)", "DISK_FULL"),
        ("IO error: While lock file: x/LOCK: Resource temporarily unavailable", "IN_USE"),
        ("IO error: while stat a file for size: x/000011.blob: No such file or directory", "DAMAGED"),
        ("Corruption: block checksum mismatch: stored = 1, computed = 2 in x offset 988 size 899", "DAMAGED"),
        ("Invalid argument: Column families not opened: blocks", "DAMAGED"),
    ],
)
def test_what_rocksdb_says_at_opening_is_understood(text, refusal):
    error = as_store_error(Exception(text), Path("/store"))
    assert error.refusal.name == refusal
    assert str(error).startswith("/store: ")
    assert text in str(error)


def test_a_store_that_may_not_be_read_is_not_damaged():
    error = as_store_error(Exception("IO error: While open a file: x: Permission denied"), Path("/store"))
    assert (type(error), error.errno, error.filename) == (PermissionError, errno.EACCES, "/store")


def test_an_exception_that_rocksdict_does_not_raise_stays_what_it_is(store):
    with pytest.raises(IndexError):
        store.get(b"")
    with pytest.raises(KeyError):
        store.get("Da")
    with pytest.raises(ValueError, match="bytes"):
        store.commit({b"Da": b"1", b"Db": "text"})
    assert store.get(b"Da") is None


# -- syncing ---------------------------------------------------------------------------------------


class Gate:
    """A database whose fsync takes until it is let through, and fails if it is told to."""

    def __init__(self, database):
        self.database = database
        self.begun = 0
        self.through = threading.Semaphore(0)
        self.error = None

    def flush_wal(self, *, sync):
        self.begun += 1
        assert self.through.acquire(timeout=DEADLINE_S)
        if self.error:
            raise self.error
        self.database.flush_wal(sync)

    def close(self):
        self.database.close()


@pytest.fixture
def gate(store):
    store._db = gate = Gate(store._db)
    yield gate
    gate.through.release(1000)


class Syncing:
    """Calls of `sync` in threads of their own, and what became of them."""

    def __init__(self, store, count):
        self.store = store
        self.errors = []
        self.done = 0
        self.threads = [threading.Thread(target=self.sync) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def sync(self):
        try:
            self.store.sync()
        except OSError as error:
            self.errors.append(error)
        else:
            self.done += 1

    def join(self):
        for thread in self.threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive()


def waiting(store):
    return len(store._turn._waiters)


def test_who_comes_during_a_sync_shares_the_next_one(store, gate):
    store.commit({b"Da": b"1"})
    first = Syncing(store, 1)
    wait_until(lambda: gate.begun == 1)
    store.commit({b"Da": b"2"})  # commits go on meanwhile
    assert store.get(b"Da") == b"2"
    others = Syncing(store, 8)
    wait_until(lambda: waiting(store) == 8)
    gate.through.release()
    first.join()
    wait_until(lambda: gate.begun == 2)
    assert (first.done, others.done) == (1, 0)  # the first one began before the second commit
    gate.through.release()
    others.join()
    assert (others.done, gate.begun) == (8, 2)


def test_a_sync_of_nothing_new_is_none(store, gate):
    store.sync()
    store.commit({b"Da": b"1"})
    gate.through.release(10)
    store.sync()
    store.sync()
    assert gate.begun == 1
    store.commit({b"Da": b"1"}, sync=True)
    assert gate.begun == 2


def test_all_who_wait_hear_that_a_sync_failed(store, gate):
    store.commit({b"Da": b"1"})
    first = Syncing(store, 1)
    wait_until(lambda: gate.begun == 1)
    store.commit({b"Da": b"2"})
    others = Syncing(store, 8)
    wait_until(lambda: waiting(store) == 8)
    gate.error = Exception("IO error: While fdatasync: x: Input/output error")
    gate.through.release(2)
    first.join()
    others.join()
    assert [error.errno for error in first.errors + others.errors] == [errno.EIO] * 9
    gate.error = None
    gate.through.release()
    store.sync()


def test_the_mark_tells_what_was_synced(store, path):
    def mark():
        return int((path / "SYNCED").read_bytes().split()[0])

    store.commit({b"Da": b"1", b"Ka": b"1"})
    assert mark() == 0
    store.sync()
    assert mark() == 2
    store.commit({b"Da": None})
    assert mark() == 2
    store.commit({b"Db": b"1"}, sync=True)
    assert mark() == 4


# -- what comes and goes ---------------------------------------------------------------------------


def test_what_was_waited_for_by_the_thousand_is_not_in_the_way_of_a_scan(store, monkeypatch):
    """A replica that was behind on a file that a peer wrote all the time passed it with each commit."""
    monkeypatch.setattr(rocks, "GONE_MAX", 100)
    points = store._families[POINTS]
    store.commit({b"Pb": b"stays"})
    for number in range(1050):
        come_and_go(store, number)
    numbers = itertools.count(1050)

    def is_out_of_the_way():
        come_and_go(store, next(numbers))
        return points.property_int_value("rocksdb.num-deletes-active-mem-table") < 100

    wait_until(is_out_of_the_way)
    assert list(store.scan(b"P", b"Q")) == [(b"Pb", b"stays")]


def come_and_go(store, number):
    key = b"Pa%d" % number
    store.commit({key: b"waited for"})
    store.commit({key: None})


@pytest.mark.parametrize("behind", [{rocks.IMMUTABLE: 1}, {rocks.LEVEL_0: rocks.LEVEL_0_MAX}])
def test_a_commit_does_not_wait_until_rocksdb_has_written_out_what_it_is_behind_with(
    store, monkeypatch, behind
):
    """A flush waits for that before it begins, and all threads of the process with it."""
    monkeypatch.setattr(rocks, "GONE_MAX", 1)
    points = Points(behind)
    monkeypatch.setitem(store._families, POINTS, points)
    come_and_go(store, 1)
    assert points.flushes == 0
    behind.clear()
    store.commit({b"D": b"any"})
    assert points.flushes == 1


class Points:
    """A family of RocksDB that is behind with its work."""

    def __init__(self, behind):
        self.behind = behind
        self.flushes = 0

    def property_int_value(self, name):
        return self.behind.get(name, 0)

    def property_value(self, name):
        return str(self.behind.get(name, 0))

    def flush(self, *, wait):
        assert not wait
        self.flushes += 1


# -- space -----------------------------------------------------------------------------------------


def blob_bytes(path):
    return sum(file.stat().st_size for file in path.glob("*.blob"))


def block(number):
    value = Random(number).randbytes(1 << 15)
    return block_key(hash_of(value)), value


def test_space_of_deleted_blocks_comes_back(store, path, monkeypatch):
    monkeypatch.setattr(rocks, "COPIED_BYTES", 1 << 20)  # of about 24 MiB, so that it takes several steps
    for start in range(0, 800, 100):
        store.commit(dict(block(number) for number in range(start, start + 100)))
        store._families[BLOCKS].flush()
    full = blob_bytes(path)
    store.commit(dict.fromkeys(block(number)[0] for number in range(800) if number % 2))
    store._families[BLOCKS].compact_range(None, None)
    assert blob_bytes(path) == full  # compactions alone copy nothing
    steps = 1
    while store.reclaim():
        steps += 1
    assert steps > 1
    wait_until(lambda: blob_bytes(path) < 0.7 * full)
    for number in range(800):
        key, value = block(number)
        assert store.get(key) == (None if number % 2 else value)
    store.commit(dict.fromkeys(block(number)[0] for number in range(800)))
    assert not store.reclaim()
    wait_until(lambda: blob_bytes(path) == 0)
    assert list(store.scan(b"K", b"L")) == []
