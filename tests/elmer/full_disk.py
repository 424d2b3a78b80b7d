"""A process with a small disk of its own: unshare --mount python -m tests.elmer.full_disk DIRECTORY.

The disk is a tmpfs over the directory that nobody else sees, and that goes with the process.
"""

import errno
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from elmer.rocks import Refusal, RocksStore, StoreError
from tests.elmer.committer import batch, numbers_in

T = TypeVar("T")

MIB = 1 << 20
MEMORY_BYTES_MAX = 3 << 30  # of address space, so that a mistake in here ends here
DEADLINE_S = 60


def check_no_space(error: OSError) -> None:
    assert error.errno == errno.ENOSPC, error


def fill(store: RocksStore, first: int) -> int:
    """Commit until the disk is full, and return how many batches there are."""
    number = first
    while True:
        try:
            store.commit(batch(number))
        except OSError as error:
            check_no_space(error)
            return number
        number += 1


def check_full(store: RocksStore, count: int) -> None:
    """Nothing of the batch that failed is there, all before it is, and to ask for more breaks nothing."""
    assert numbers_in(store) == count
    for _ in range(3):
        try:
            store.sync()
        except OSError as error:
            check_no_space(error)
    assert numbers_in(store) == count


def once_there_is_room(call: Callable[[], T]) -> T:
    """RocksDB looks every five seconds whether it can write out what it has in memory."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return call()
        except OSError as error:
            check_no_space(error)
            assert time.monotonic() < deadline, "not recovered in time"
            time.sleep(0.1)


def take_the_rest(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            check_no_space(error)


def check_opening_a_full_disk(path: Path, synced: int) -> None:
    """Whether it needs more than the few pages that its old info logs give back is RocksDB's affair."""
    try:
        store = RocksStore(path)
    except StoreError as error:
        refusal = error.refusal
    else:
        assert numbers_in(store) > synced
        store.close()
        return
    assert refusal is Refusal.DISK_FULL


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    disk = Path(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "none", disk], check=True)
    ballast, rest, path = disk / "ballast", disk / "rest", disk / "rows"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 130 * MIB)

    store = RocksStore(path, create=True)
    count = fill(store, 0)
    check_full(store, count)
    os.truncate(ballast, 80 * MIB)
    once_there_is_room(lambda: store.commit(batch(count)))
    store.sync()
    assert numbers_in(store) == count + 1
    sys.stdout.write("goes on with a commit\n")

    count = fill(store, count + 1)
    check_full(store, count)
    ballast.unlink()
    once_there_is_room(store.sync)
    store.commit(batch(count), sync=True)
    assert numbers_in(store) == count + 1
    store.close()
    sys.stdout.write("goes on with a sync\n")

    committer = [sys.executable, "-m", "tests.elmer.committer", path, str(count + 1)]
    ended = subprocess.run(committer, check=False, capture_output=True, text=True)
    assert "No space left on device" in ended.stderr, ended.stderr
    synced = max(map(int, ended.stdout.split()), default=count)
    take_the_rest(rest)
    check_opening_a_full_disk(path, synced)
    sys.stdout.write("opens or is refused\n")

    rest.unlink()
    subprocess.run(["mount", "-o", "remount,size=320m", disk], check=True)
    store = RocksStore(path)
    assert numbers_in(store) > synced
    store.close()
    sys.stdout.write("opens\n")


if __name__ == "__main__":
    main()
