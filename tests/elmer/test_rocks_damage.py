"""The store on RocksDB when things go wrong: crashes, lost and damaged bytes, a failing or full disk.

What is read is right, or it is an error: nothing is lost or wrong in silence.
"""

import errno
import os
import signal
import subprocess
import sys
from bisect import bisect_right
from collections import Counter
from random import Random

import pytest

from elmer.rocks import Refusal, RocksStore, StoreError
from tests.elmer.committer import batch, numbers_in
from tests.elmer.stores import ROOT, copied, open_and_close, refused


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rows"


# -- crashes ---------------------------------------------------------------------------------------


def test_kill_at_any_moment_leaves_whole_batches_and_all_that_was_synced(path, tmp_path):
    random = Random(8)
    open_and_close(path, create=True)
    count = 0
    for _ in range(12):
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.elmer.committer", path, str(count)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        with child:
            lines = [child.stdout.readline() for _ in range(random.choice([1, 2, 20, 60]))]
            child.kill()
            lines += child.stdout.readlines()
        assert child.returncode == -signal.SIGKILL
        synced = int([line for line in lines if line.endswith(b"\n")][-1])
        # A copy, so that the next process starts from a store that was never closed.
        store = RocksStore(copied(path, tmp_path / "image"))
        count = numbers_in(store)
        assert count > synced
        store.close()


SYNCED, COMMITTED = 12, 20


class Crash:
    """An image of a store with SYNCED synced batches and some more, and where in its log they end."""

    def __init__(self, directory):
        self.image = directory / "image"
        store = RocksStore(directory / "rows", create=True)
        [self.log] = (log.name for log in store.path.glob("*.log"))
        self.ends = [0]
        for number in range(COMMITTED):
            store.commit(batch(number))
            self.ends.append((store.path / self.log).stat().st_size)
            if number + 1 == SYNCED:
                store.sync()
        self.crashed = copied(store.path, directory / "crashed")
        store.close()

    def whole(self, size):
        """Return how many batches are whole in this many bytes of the log."""
        return bisect_right(self.ends, size) - 1

    def damaged(self, change):
        """Return a new image in which `change` was done to the log."""
        copied(self.crashed, self.image)
        with (self.image / self.log).open("r+b") as log:
            change(log)
        return self.image


@pytest.fixture(scope="module")
def crash(tmp_path_factory):
    return Crash(tmp_path_factory.mktemp("crash"))


def positions(ends, low, high):
    """Return where to cut: around the ends of some batches, at once, and somewhere."""
    random = Random(3)
    near = {end + step for end in random.sample(ends, 8) for step in (-1, 0, 1)}
    somewhere = [random.randrange(low, high) for _ in range(4)]
    return sorted(position for position in {low, *near, *somewhere} if low <= position < high)


def check_opens_with(image, count):
    store = RocksStore(image)
    assert numbers_in(store) == count
    store.commit(batch(count), sync=True)
    store.close()
    store = RocksStore(image)
    assert numbers_in(store) == count + 1
    store.close()


def test_a_cut_tail_of_the_log_that_was_not_synced_is_left_out(crash):
    for size in positions(crash.ends, crash.ends[SYNCED], crash.ends[COMMITTED] + 1):
        check_opens_with(crash.damaged(lambda log, size=size: log.truncate(size)), crash.whole(size))


@pytest.mark.parametrize("rest", ["zeros", "garbage"])
def test_blocks_that_did_not_reach_the_disk_are_left_out(crash, rest):
    for start in positions(crash.ends, crash.ends[SYNCED], crash.ends[COMMITTED]):
        length = crash.ends[COMMITTED] - start
        other = bytes(length) if rest == "zeros" else Random(start).randbytes(length)

        def overwrite(log, start=start, other=other):
            log.seek(start)
            log.write(other)

        check_opens_with(crash.damaged(overwrite), crash.whole(start))


@pytest.mark.parametrize("record", [0, SYNCED - 1, SYNCED, COMMITTED - 1])
@pytest.mark.parametrize("kind", [5, 6, 7, 8, 11, 131])
def test_a_record_that_claims_to_be_of_a_recycled_log_does_not_hang(crash, record, kind):
    """RocksDB reads it for ever: github.com/facebook/rocksdb/issues/13333."""
    position = crash.ends[record] + 6

    def claim(log):
        log.seek(position)
        log.write(bytes([kind]))

    image = crash.damaged(claim)
    if record < SYNCED:
        assert refused(image) is Refusal.LOST_TAIL
        open_and_close(image, accept_loss=True)
    check_opens_with(image, record)


def test_a_manifest_with_such_a_record_is_refused(path):
    open_and_close(path, create=True)
    [manifest] = path.glob("MANIFEST-*")
    with manifest.open("r+b") as file:
        first_length = int.from_bytes(file.read(6)[4:], "little")
        flip(file, 7 + first_length + 6, bit=2)
    assert refused(path) is Refusal.DAMAGED


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def check_lost(image, count):
    """The store is refused and left as it was; whoever accepts the loss gets what is left."""
    before = contents(image)
    for _ in range(2):
        with pytest.raises(StoreError, match="the disk lost the newest") as info:
            RocksStore(image)
        assert info.value.refusal is Refusal.LOST_TAIL
        assert contents(image) == before
    store = RocksStore(image, accept_loss=True)
    assert numbers_in(store) == count
    store.close()
    check_opens_with(image, count)


def test_a_lost_tail_that_had_been_synced_is_told(crash):
    for size in positions(crash.ends, 0, crash.ends[SYNCED]):
        check_lost(crash.damaged(lambda log, size=size: log.truncate(size)), crash.whole(size))


def test_a_flipped_bit_in_the_synced_log_is_told(crash):
    for position in positions(crash.ends, 0, crash.ends[SYNCED]):

        def flip_there(log, position=position):
            flip(log, position, bit=position % 8)

        check_lost(crash.damaged(flip_there), crash.whole(position))


def test_the_loss_of_one_row_is_told(path, tmp_path):
    store = RocksStore(path, create=True)
    [log] = path.glob("*.log")
    store.commit({b"Da": b"1"}, sync=True)
    size = log.stat().st_size
    store.commit({b"Db": b"1"}, sync=True)
    image = copied(path, tmp_path / "image")
    store.close()
    os.truncate(image / log.name, size)
    assert refused(image) is Refusal.LOST_TAIL
    os.truncate(image / log.name, 0)
    assert refused(image) is Refusal.LOST_TAIL


def test_a_missing_log_is_told(crash):
    image = copied(crash.crashed, crash.image)
    (image / crash.log).unlink()
    check_lost(image, 0)


def test_a_mark_that_did_not_reach_the_disk_claims_less(crash):
    image = copied(crash.crashed, crash.image)
    (image / "SYNCED").write_bytes(b"%020d %010d\n" % (0, 1))
    check_opens_with(image, COMMITTED)


# -- damage ----------------------------------------------------------------------------------------


def flip(file, position, bit=0):
    file.seek(position)
    [byte] = file.read(1)
    file.seek(position)
    file.write(bytes([byte ^ 1 << bit]))


@pytest.mark.parametrize(("key", "pattern"), [(b"Kdamaged", "*.blob"), (b"Bdamaged", "*.sst")])
def test_a_flipped_bit_in_a_row_is_an_error_that_names_it(path, key, pattern):
    value = Random(5).randbytes(20_000)
    store = RocksStore(path, create=True)
    store.commit({key: value, key[:1] + b"good": b"good"})
    store.close()
    [(file, position)] = (
        (file, found) for file in path.glob(pattern) if (found := file.read_bytes().find(value[:16])) >= 0
    )
    with file.open("r+b") as damaged:
        flip(damaged, position + 10_000)
    store = RocksStore(path)
    snapshot = store.snapshot()
    for reader in (store, snapshot):
        for read in (
            lambda reader=reader: reader.get(key),
            lambda reader=reader: list(reader.scan(key[:1], bytes([key[0] + 1]))),
            lambda reader=reader: list(reader.scan(key[:1], bytes([key[0] + 1]), reverse=True)),
        ):
            with pytest.raises(OSError, match="Corruption") as info:
                read()
            assert (info.value.errno, info.value.filename) == (errno.EIO, str(path))
    with pytest.raises(OSError, match=f"at row {key[:1].decode()} {b'damaged'.hex()}"):
        store.get(key)
    assert store.get(key[:1] + b"good") == b"good"
    del snapshot
    store.close()


def test_no_damage_gives_wrong_data(path, tmp_path):
    """A flipped bit in any file, a file cut short or gone: right data, or an error that says which store."""
    store = RocksStore(path, create=True)
    for number in range(COMMITTED):
        store.commit(batch(number))
    store.close()
    store = RocksStore(path)
    for number in range(COMMITTED, COMMITTED + 5):
        store.commit(batch(number), sync=True)
    crashed = copied(path, tmp_path / "crashed")
    store.close()

    random = Random(7)
    outcomes = Counter()
    for file in sorted(crashed.iterdir()):
        size = file.stat().st_size
        flips = [("flip", random.randrange(8 * size)) for _ in range(8)] if size else []
        for change in [*flips, ("cut", size // 2), ("remove", 0)]:
            image = copied(crashed, tmp_path / "image")
            apply(change, image / file.name)
            outcomes[outcome_of(image)] += 1
    assert outcomes.keys() == {"right", "EIO", "DAMAGED", "NEWER", "LOST_TAIL"}


def apply(change, path):
    match change:
        case ("flip", position):
            with path.open("r+b") as file:
                flip(file, *divmod(position, 8))
        case ("cut", size):
            os.truncate(path, size)
        case ("remove", _):
            path.unlink()


def outcome_of(image):
    try:
        store = RocksStore(image)
    except StoreError as error:
        return error.refusal.name if str(image) in str(error) else "unnamed"
    try:
        count = numbers_in(store)
    except OSError as error:
        return errno.errorcode[error.errno] if error.filename == str(image) else "unnamed"
    else:
        return "right" if count == COMMITTED + 5 else "wrong"
    finally:
        store.close()


# -- the disk --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_full_disk_loses_nothing_and_writing_goes_on_when_there_is_room(tmp_path):
    # In a process namespace, so that all of it ends with the first process, whatever happens.
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child"] + (
        [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    )
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("may not mount a disk of its own")
    ended = subprocess.run(
        [*unshare, sys.executable, "-m", "tests.elmer.full_disk", tmp_path],
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "goes on with a commit",
        "goes on with a sync",
        "opens or is refused",
        "opens",
    ]


def test_a_failed_fsync_ends_writing_and_nothing_else(path):
    """The kernel may have dropped the pages, so a later fsync that succeeds would say nothing."""
    open_and_close(path, create=True)
    told = subprocess.run(
        [sys.executable, "-m", "tests.elmer.failing_disk", path],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    assert told.split() == ["synced", *["sync:EIO", "commit:EIO", "read"] * 3]
    store = RocksStore(path)
    assert store.get(b"Da") == b"synced"
    assert store.get(b"Db") in (None, b"not synced")
    assert store.get(b"Dc") is None
    store.commit({b"Dc": b"1"}, sync=True)
    store.close()
