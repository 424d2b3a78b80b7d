"""A replica as replication sees it: errors of the kind it expects, short holds, the kernel told first."""

import gc
import os
import threading
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest

from crdt.causality import ReplicaId, VersionVector
from crdt.changes import Changes
from crdt.facts import DERIVED
from crdt.store import MemoryStore
from elmer.kernel import Kernel
from elmer.local import FREE_S, LONG_HOLD_S, LockedReplica
from replication.local import Arrivals, PeerError
from translation.filesystem import Caller, FileSystem
from translation.replica import Replica, Volume

VOLUME = Volume(b"v" * 16, b"s" * 32, b"d" * 32)
ROOT = 1
ME = Caller(0, 0)


class Roomy:
    """The space of a disk that is never full."""

    def check_merge(self, size: int) -> None:
        assert size >= 0

    def takes_blocks(self) -> bool:
        return True


class Site:
    def __init__(self, number: int, name: str) -> None:
        store = MemoryStore()
        Replica.create(store, VOLUME, ReplicaId(number), name, bytes([number]) * 16, time.time_ns())
        self.replica = Replica(store, time.time_ns)
        self.filesystem = FileSystem(self.replica)
        self.lock = threading.Lock()
        self.local = LockedReplica(self.replica, self.lock, Roomy())

    def write(self, name: bytes, content: bytes) -> int:
        fh, attributes = self.filesystem.create(ROOT, name, 0o644, 1, ME)
        self.filesystem.write(fh, 0, content)
        self.filesystem.flush(fh)
        self.filesystem.release(fh)
        return attributes.ino

    def everything(self) -> tuple[Sequence[bytes], VersionVector, int]:
        arrivals = self.arrivals(0)
        return arrivals.commits, arrivals.vector, arrivals.next

    def arrivals(self, start: int) -> Arrivals:
        self.local.sync()
        return self.local.arrivals(start, VersionVector(), 1 << 30)


@pytest.fixture
def a() -> Site:
    return Site(1, "a")


@pytest.fixture
def b() -> Site:
    return Site(2, "b")


class FakeKernel:
    """Notes in which order it is asked, and that it is told with the lock held and waited for without."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.asked: list[str] = []
        self.heard: list[Changes] = []  # what somebody waited for

    def note(self, what: str, *, locked: bool = False) -> None:
        assert self.site.lock.locked() == locked
        self.asked.append(what)

    def write_back(self, _commits: Sequence[bytes], _timeout_s: float) -> None:
        self.note("write back" if self.site.replica.facts_count() == 1 else "too late")

    def tell(self, changes: Changes) -> object:
        self.note("tell" if changes.entries else "nothing to tell", locked=True)
        return changes

    def wait(self, told: Changes, _timeout_s: float) -> None:
        self.note("wait")
        self.heard.append(told)


def test_a_merge_is_written_back_before_and_told_after_and_waited_for_without_the_lock(a, b):
    a.write(b"f", b"content")
    commits, vector, cursor = a.everything()
    b.local.kernel = FakeKernel(b)
    b.local.receive(commits, vector, a.local.store_id, cursor)
    assert b.local.kernel.asked == ["write back", "tell", "wait"]
    assert b.filesystem.lookup(ROOT, b"f").size == 7
    assert b.local.cursor(a.local.store_id) == cursor


def test_what_a_session_hid_that_a_merge_ends_is_waited_for_too(a, b):
    """B removed f while it was open there; an edit of A brings it back, and what B showed of it ends.

    All was told when that session ended, in a batch of its own, and nobody waited for it: the peer could hear
    that B has it before the programs there saw it.
    """
    ino = a.write(b"f", b"old")
    commits, vector, cursor = a.everything()
    b.local.receive(commits, vector, a.local.store_id, cursor)
    b.filesystem.open(ino, os.O_RDONLY)
    b.filesystem.unlink(ROOT, b"f")
    a.write(b"f", b"new content")
    arrivals = a.arrivals(cursor)
    kernel = b.local.kernel = FakeKernel(b)
    b.replica.take_changes()
    b.replica.on_commit = lambda: kernel.tell(b.replica.take_changes())
    b.local.receive(arrivals.commits, arrivals.vector, a.local.store_id, arrivals.next)
    (heard,) = kernel.heard
    assert heard.entries == {(ROOT, b"f")}
    assert heard.inodes[ino], "the content that was hidden"


@pytest.mark.parametrize("commits", [[b""], [b"\xc1"], [b"\x93\x01\x02\x03"], [b"x" * 1000]])
def test_bytes_that_are_no_commits_are_the_peers_fault(b, commits):
    before = b.replica.facts_count()
    with pytest.raises(PeerError):
        b.local.receive(commits, VersionVector({ReplicaId(1): 1}), b"p" * 16, 1)
    assert b.replica.facts_count() == before
    assert not b.lock.locked()


def test_the_collector_rests_while_commits_are_merged_and_goes_on_afterwards(a, b, monkeypatch):
    a.write(b"f", b"content")
    commits, vector, cursor = a.everything()
    merged, enabled = b.replica.receive, []

    def receive(*arguments: object) -> None:
        enabled.append(gc.isenabled())
        merged(*arguments)

    monkeypatch.setattr(b.replica, "receive", receive)
    with pytest.raises(PeerError):
        b.local.receive([b"no commit"], vector, a.local.store_id, cursor)
    assert gc.isenabled()
    b.local.receive(commits, vector, a.local.store_id, cursor)
    assert gc.isenabled()
    assert enabled == [False, False]


def test_a_copied_replica_may_not_come_in(a):
    a.local.check_peer(ReplicaId(2), "b", b"b" * 16)
    with pytest.raises(PeerError, match="copied or restored"):
        a.local.check_peer(a.local.replica, "a", b"x" * 16)


def test_arrivals_are_the_same_in_many_holds_as_in_one(a):
    for number in range(300):
        a.write(b"f%d" % number, b"content" * 100)
    a.local.sync()
    at_once = a.replica.arrivals(0, VersionVector(), 1 << 30)
    assert sum(map(len, at_once.commits)) > 100_000
    assert tuple(a.local.arrivals(0, VersionVector(), 1 << 30)) == tuple(at_once)


def test_arrivals_stop_at_the_size_they_are_told_and_go_on_from_there(a):
    for number in range(300):
        a.write(b"f%d" % number, b"content" * 100)
    a.local.sync()
    commits, start, seen = [], 0, VersionVector()
    while True:
        part = a.local.arrivals(start, seen, 20_000)
        if part.next == start:
            break
        assert sum(map(len, part.commits[:-1])) < 20_000
        commits += part.commits
        start, seen = part.next, part.vector
    assert commits == a.replica.arrivals(0, VersionVector(), 1 << 30).commits
    assert start == a.local.durable_end()
    assert seen == a.local.vector()


class TimedLock:
    """Notes when it was taken and left."""

    def __init__(self) -> None:
        self.holds: list[tuple[float, float]] = []

    def __enter__(self) -> None:
        self.taken_s = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.holds.append((self.taken_s, time.monotonic()))


class SlowReplica:
    def check_peer(self, *_: object) -> None:
        time.sleep(2 * LONG_HOLD_S)


def test_the_lock_is_left_free_after_a_long_hold():
    """It is not fair: whoever waits gets it only if it is free for a while."""
    lock = TimedLock()
    local = LockedReplica(SlowReplica(), lock, Roomy())
    for _ in range(5):
        local.check_peer(ReplicaId(1), "a", b"a" * 16)
    gaps_s = [again_s - left_s for (_, left_s), (again_s, _) in pairwise(lock.holds)]
    assert len(gaps_s) == 4
    assert min(gaps_s) >= 0.9 * FREE_S


class NotedInvalidator:
    def __init__(self) -> None:
        self.inodes: list[dict[int, bool]] = []

    def tell(self, entries: object, inodes: dict[int, bool]) -> str:
        assert entries == ()
        self.inodes.append(inodes)
        return "batch"

    def wait(self, batch: str, _timeout_s: float) -> bool:
        assert batch == "batch"
        return True


class OnlyFilesystem:
    """As much of the handlers as the kernel's cache needs."""

    def __init__(self, filesystem: FileSystem) -> None:
        self.filesystem = filesystem
        self.without_capability = set()


def test_only_files_that_are_open_for_writing_and_touched_are_written_back(a):
    ino = a.write(b"f", b"content")
    other = a.write(b"g", b"content")
    commits, _, _ = a.everything()
    about_f = [commit for commit in commits if ino.to_bytes(8, "big") in commit]
    about_g = [commit for commit in commits if other.to_bytes(8, "big") in commit]
    assert about_f
    assert about_g
    kernel = Kernel(OnlyFilesystem(a.filesystem), NotedInvalidator())
    told = kernel.invalidator.inodes

    kernel.write_back(about_f, 1)
    reading = a.filesystem.open(ino, 0)
    kernel.write_back(about_f, 1)
    assert told == []

    writing = a.filesystem.open(ino, 2)
    kernel.write_back(about_g, 1)
    assert told == []
    kernel.write_back(about_g + about_f, 1)
    assert told == [{ino: True}]
    a.filesystem.release(writing)
    kernel.write_back(about_f, 1)
    assert told == [{ino: True}]
    a.filesystem.release(reading)


def test_a_conflict_entry_that_is_written_is_always_written_back(a):
    """Its number stands in no commit."""

    class Handle:
        ino = DERIVED | 5
        writes = True

    a.filesystem.handles[99] = Handle()
    kernel = Kernel(OnlyFilesystem(a.filesystem), NotedInvalidator())
    kernel.write_back([b"whatever"], 1)
    assert kernel.invalidator.inodes == [{DERIVED | 5: True}]
