"""What a start after a crash says."""

import os
import time

from crdt.causality import ReplicaId
from crdt.facts import Caller
from crdt.store import MemoryStore
from elmer.log_files import BLOCK, count_batches
from elmer.recovery import Recovery, recovery
from elmer.rocks import RocksStore
from tests.elmer.stores import copied
from translation.content import Recovered
from translation.filesystem import FileSystem
from translation.replica import Replica, Volume


def test_a_start_counts_what_it_reads_back_from_the_log(tmp_path):
    store = RocksStore(tmp_path / "rows", create=True)
    assert store.read_back == 0
    for number in range(300):  # across blocks of the log, and some of them larger than one
        store.commit({b"D%d" % number: b"x", b"K%d" % number: bytes([number % 250]) * (number % 7 * 10_000)})
    image = copied(store.path, tmp_path / "image")
    store.close()
    assert sum(log.stat().st_size for log in image.glob("*.log")) > 10 * BLOCK
    killed = RocksStore(image)
    assert killed.read_back == 300
    killed.close()
    in_order = RocksStore(image)
    assert in_order.read_back == 0
    in_order.close()


def test_what_did_not_reach_the_disk_is_not_counted(tmp_path):
    store = RocksStore(tmp_path / "rows", create=True)
    store.commit({b"Da": b"1"})
    newest = store._newest()
    store.commit({b"Db": b"1", b"Dc": b"1"})
    assert count_batches(store.path, newest) == 1
    assert count_batches(store.path, store._newest()) == 2
    store.close()


def test_recovered_files_are_named():
    store = MemoryStore()
    Replica.create(
        store, Volume(b"v" * 16, b"s" * 32, b"d" * 32), ReplicaId(7), "a", b"i" * 16, time.time_ns()
    )
    filesystem = FileSystem(Replica(store, time.time_ns))
    store.read_back = 1_204
    assert str(recovery(store, filesystem)) == (
        "recovered, it had not been closed in order: 1,204 changes read back from the log"
    )
    root = Caller(0, 0)
    directory = filesystem.mkdir(1, b"d", 0o755, root).ino
    inos = []
    for name in (b"a", b"caf\xc3\xa9", b"line\nbreak", b"\xff"):
        fh, attributes = filesystem.create(directory, name, 0o644, os.O_WRONLY, root)
        filesystem.release(fh)
        inos.append(attributes.ino)
    filesystem.unlink(directory, b"a")
    filesystem.recovered = Recovered(tuple(inos), (inos[1],), (inos[2],), 1)
    said = str(recovery(store, filesystem))
    assert f"(a file without a name, {inos[0]}), d/café, d/line\\nbreak, d/\\udcff" in said
    assert said.endswith("1 block freed of files without a name")


def test_of_many_files_some_are_named():
    said = str(Recovery(0, tuple(map(str, range(1_000)))))
    assert "read back" not in said
    assert "1,000 files kept" in said
    assert said.endswith(": 0, 1, 2, 3, 4 and 995 more")


def test_an_end_in_order_needs_no_word():
    assert not Recovery(0)
    assert Recovery(1)
