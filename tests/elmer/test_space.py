"""What a request is told on a disk that others fill, and for how long it waits."""

import errno
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from elmer import space
from elmer.directory import StoreDirectory, held
from elmer.exits import CommandError, ExitStatus
from elmer.rocks import RocksStore
from elmer.space import MIB, ROW_BYTES, Sizes, Space
from elmer.volume import found, opened_store

SIZES = Sizes(reserve=4 * MIB, margin=MIB, memtables=4 * MIB)


class Rows:
    """A store whose log holds nothing, and that takes commits or does not."""

    writable = True
    asked = 0

    def memory_bytes(self) -> int:
        return 0

    def log_bytes(self) -> int:
        return 0

    def write_out(self) -> None:
        raise AssertionError("there is nothing to write out")

    def is_writable(self) -> bool:
        self.asked += 1
        return self.writable


class Disk:
    def __init__(self, free: int) -> None:
        self.free = free


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk(100 * MIB)
    monkeypatch.setattr(space, "available", lambda _: made.free)
    return made


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def of_store(disk: Disk, rows: Rows, tmp_path: Path) -> Space:
    made = Space(tmp_path / "reserve", rows)
    made.sizes = SIZES
    return made


def is_refused(of_store: Space, size: int = 0) -> bool:
    try:
        of_store.take(size)
    except OSError as error:
        return error.errno == errno.ENOSPC
    return False


def test_what_others_take_is_seen_by_the_next_request_a_moment_later(disk, of_store, expect_logs):
    """It was not for a fifth of a second, in which more could be written than a small reserve holds."""
    expect_logs("is full: nothing can be written")
    assert not is_refused(of_store)
    disk.free = 0
    time.sleep(0.005)
    assert is_refused(of_store)
    disk.free = 100 * MIB
    assert not is_refused(of_store), "a disk that was full is looked at each time"


def test_what_one_look_found_is_given_once(disk, of_store, monkeypatch, expect_logs):
    expect_logs("is full: nothing can be written")
    monkeypatch.setattr(space, "LOOK_S", 1e9)
    disk.free = SIZES.reserve + SIZES.margin + 10 * (2 * MIB + ROW_BYTES)
    assert [is_refused(of_store, MIB) for _ in range(10)] == [False] * 10
    disk.free = SIZES.reserve + SIZES.margin
    assert is_refused(of_store)


@pytest.fixture
def waits(of_store: Space, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Each time that the lock was let go to wait."""
    waited: list[None] = []

    class LockReleased(AbstractContextManager[None]):
        def __enter__(self) -> None:
            waited.append(None)

        def __exit__(self, *_: object) -> None:
            pass

    of_store.lock_released = LockReleased()
    monkeypatch.setattr(space, "RECOVERY_S", 0.3)
    return waited


def test_what_must_go_on_waits_until_the_store_takes_it(disk, rows, of_store, waits):
    of_store.reserve.path.write_bytes(bytes(10))
    disk.free, rows.writable = MIB, False
    assert not of_store.make_way()
    assert len(waits) > 1
    assert not of_store.reserve.path.exists()
    rows.writable = True
    assert of_store.make_way()


def test_where_others_took_the_reserve_too_nobody_waits_for_it(disk, rows, of_store, waits):
    """Each close and each fsync took ten seconds to say that there is no space, and three made all wait."""
    disk.free, rows.writable = 0, False
    assert not of_store.make_way()
    assert (rows.asked, waits) == (1, [])


def test_who_unmounts_on_a_full_disk_hears_what_is_lost_and_not_that_the_store_was_not_closed(
    tmp_path, monkeypatch
):
    """Both fail then, one after the other; the end of the store took the place of what a person must know."""
    close = RocksStore.close

    def full(store: RocksStore) -> None:
        close(store)
        raise OSError(errno.ENOSPC, "No space left on device")

    directory = StoreDirectory(tmp_path / "store")
    found(directory, "a")
    monkeypatch.setattr(RocksStore, "close", full)
    with (
        pytest.raises(CommandError, match="not all on the disk"),
        held(directory, "mount"),
        opened_store(directory),
    ):
        raise CommandError("what was written last is not all on the disk", ExitStatus.NOT_SO)
    with (
        pytest.raises(CommandError, match="No space left"),
        held(directory, "mount"),
        opened_store(directory),
    ):
        pass
