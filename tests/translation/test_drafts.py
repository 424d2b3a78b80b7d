"""Drafts: what was written for long and is no version yet outlives a crash, and memory is bounded."""

from __future__ import annotations

import os
from random import Random

import pytest

from crdt.blocks import BLOCK_SIZE
from crdt.codec import CorruptStore, pack
from tests.translation.contents import MIB, make, pattern, read_all
from tests.translation.fake_replica import SECOND_NS
from translation import content as content_module
from translation import draft as draft_module
from translation import gathered as gathered_module
from translation.content import Content, Recovered

# Drafts.


def test_after_five_seconds_a_crash_takes_nothing():
    replica, content, ino = make(b"old")
    content.open(ino, os.O_RDWR)
    content.write(ino, 0, pattern(2 * BLOCK_SIZE + 5), append=False)
    replica.clock_ns += 4 * SECOND_NS
    content.tick()
    assert replica.rows(b"F") == []
    replica.clock_ns += 1 * SECOND_NS
    content.tick()
    assert replica.commits == []
    assert content.weight == 0
    assert read_all(Content(replica), ino) == b"old"  # it is in nobody's view
    after_crash = Content(replica)
    assert after_crash.recover().lost == ()
    assert read_all(after_crash, ino) == pattern(2 * BLOCK_SIZE + 5)
    assert replica.rows(b"F") == []


def test_a_draft_is_what_was_written_and_cut_in_its_order():
    replica, content, ino = make()
    content.open(ino, os.O_RDWR)

    def draft():
        replica.clock_ns += 6 * SECOND_NS
        content.tick()

    content.write(ino, 0, pattern(3 * BLOCK_SIZE), append=False)
    draft()
    content.truncate(ino, 2 * BLOCK_SIZE)
    content.truncate(ino, BLOCK_SIZE)
    content.truncate(ino, 4 * BLOCK_SIZE)
    draft()
    written_ns = replica.clock_ns
    content.write(ino, 2 * BLOCK_SIZE, b"x", append=False)
    draft()
    assert replica.commits == []
    after_crash = Content(replica)
    assert after_crash.recover().lost == ()
    expected = pattern(BLOCK_SIZE) + bytes(BLOCK_SIZE) + b"x" + bytes(2 * BLOCK_SIZE - 1)
    assert read_all(after_crash, ino) == expected
    assert replica.shown(ino).mtime_ns == written_ns
    assert [key[:1] for key in replica.store.keys if key[:1] in b"FT"] == []


def test_a_draft_cuts_what_it_is_based_on():
    replica, content, ino = make(pattern(4 * BLOCK_SIZE))
    content.open(ino, os.O_RDWR)
    content.truncate(ino, BLOCK_SIZE)
    content.truncate(ino, 2 * BLOCK_SIZE)
    content.truncate(ino, 4 * BLOCK_SIZE)
    replica.clock_ns += 6 * SECOND_NS
    content.tick()
    after_crash = Content(replica)
    assert after_crash.recover().lost == ()
    assert read_all(after_crash, ino) == pattern(BLOCK_SIZE) + bytes(3 * BLOCK_SIZE)


@pytest.mark.parametrize("size", [10, 3 * BLOCK_SIZE])
def test_a_draft_for_which_the_disk_has_no_room_at_the_start_shows_and_is_a_version_later(size):
    replica, content, ino = make(b"old")
    content.open(ino, os.O_RDWR)
    content.write(ino, 0, pattern(size), append=False)
    replica.clock_ns += 6 * SECOND_NS
    content.tick()
    replica.fails_after = 0
    after_crash = Content(replica)
    assert after_crash.recover().waiting == (ino,)
    assert read_all(after_crash, ino) == pattern(size)
    with pytest.raises(OSError, match="No space"):
        after_crash.tick()
    replica.fails_after = None
    after_crash.tick()
    assert replica.contents[replica.shown(ino).head] == pattern(size)
    assert Content(replica).recover() == Recovered()
    assert after_crash.weight == 0
    assert not after_crash.sessions


@pytest.mark.usefixtures("small_memory")
def test_half_a_draft_over_a_file_that_was_cut_does_not_reach_beyond_what_it_holds():
    whole = pattern(4 * BLOCK_SIZE)
    replica, content, ino = make(pattern(4 * BLOCK_SIZE, 7))
    content.open(ino, os.O_RDWR)
    content.truncate(ino, 0)
    content.write(ino, 0, whole, append=False)
    replica.clock_ns += 6 * SECOND_NS
    replica.fails_after = 1
    with pytest.raises(OSError, match="No space"):
        content.tick()
    replica.fails_after = None
    after_crash = Content(replica)
    assert after_crash.recover().lost == ()
    assert read_all(after_crash, ino) == whole[: 2 * BLOCK_SIZE]


@pytest.mark.usefixtures("small_memory")
def test_half_a_draft_keeps_the_end_of_the_file_it_is_over():
    replica, content, ino = make(pattern(9 * BLOCK_SIZE))
    content.open(ino, os.O_RDWR)
    content.write(ino, 0, pattern(4 * BLOCK_SIZE, 7), append=False)
    replica.clock_ns += 6 * SECOND_NS
    replica.fails_after = 1
    with pytest.raises(OSError, match="No space"):
        content.tick()
    replica.fails_after = None
    after_crash = Content(replica)
    assert after_crash.recover().lost == ()
    expected = pattern(4 * BLOCK_SIZE, 7)[: 2 * BLOCK_SIZE]
    assert read_all(after_crash, ino) == expected + pattern(9 * BLOCK_SIZE)[2 * BLOCK_SIZE :]


def test_a_clock_that_was_set_back_puts_nothing_off():
    replica, content, ino = make()
    content.open(ino, os.O_RDWR)
    content.write(ino, 0, b"data", append=False)
    replica.clock_ns -= 3600 * SECOND_NS
    content.tick()
    assert [draft.inline for draft in draft_module.drafts(replica)] == [b"data"]
    replica.clock_ns -= 3600 * SECOND_NS
    content.tick()
    assert replica.contents[replica.shown(ino).head] == b"data"


def test_a_small_draft_is_a_version_at_the_next_start():
    replica, content, ino = make(b"old")
    content.open(ino, os.O_RDWR)
    content.write(ino, 0, b"new data", append=False)
    replica.clock_ns += 6 * SECOND_NS
    content.tick()
    after_crash = Content(replica)
    assert after_crash.recover().lost == ()
    assert read_all(after_crash, ino) == b"new data"
    assert (after_crash.weight, after_crash.sessions) == (0, {})


def test_a_draft_far_into_a_small_file_keeps_its_beginning():
    replica, content, ino = make(b"start")
    content.open(ino, os.O_RDWR)
    content.write(ino, 2 * BLOCK_SIZE, b"end", append=False)
    replica.clock_ns += 6 * SECOND_NS
    content.tick()
    assert content.read(ino, 0, 8) == b"start" + bytes(3)
    after_crash = Content(replica)
    assert after_crash.recover().lost == ()
    assert read_all(after_crash, ino) == b"start".ljust(2 * BLOCK_SIZE, b"\0") + b"end"


def test_a_quiet_file_is_drafted_once():
    replica, content, ino = make()
    content.open(ino, os.O_RDWR)
    content.write(ino, 0, b"data", append=False)
    for _ in range(20):
        replica.clock_ns += SECOND_NS
        content.tick()
    assert len(replica.store.unsynced) == 1


def test_after_thirty_seconds_as_a_draft_it_is_a_version():
    replica, content, ino = make()
    flags = os.O_WRONLY | os.O_APPEND
    content.open(ino, flags)
    for _ in range(36):
        content.write(ino, 0, b"line\n", append=True)
        replica.clock_ns += SECOND_NS
        content.tick()
    (fields,) = replica.commits
    assert fields.inline == b"line\n" * 35
    assert content.attributes(ino)[0] == 36 * 5


def test_a_big_file_is_written_once_and_the_memory_is_bounded():
    replica, content, ino = make()
    content.open(ino, os.O_WRONLY)
    whole = Random(1).randbytes(160 * MIB)
    weights = set()
    for at in range(0, len(whole), 128 << 10):
        content.write(ino, at, whole[at : at + (128 << 10)], append=False)
        weights.add(content.weight)
    assert max(weights) == content_module.DRAFT_BYTES
    assert replica.commits == []
    content.close(ino, os.O_WRONLY)
    (fields,) = replica.commits
    assert [index for index, _ in fields.changed] == list(range(160 * 32))
    assert read_all(content, ino) == whole
    batches = replica.store.unsynced
    assert sum(key[:1] == b"K" for batch in batches for key in batch) == 160 * 32
    sizes = [sum(len(value or b"") for value in batch.values()) for batch in batches]
    assert max(sizes) < gathered_module.SLICE_BYTES + MIB
    assert replica.rows(b"F") == []


@pytest.mark.usefixtures("small_memory")
def test_many_files_share_the_memory():
    replica, content, _ = make()
    files = [replica.create() for _ in range(20)]
    for number, ino in enumerate(files):
        content.open(ino, os.O_RDWR)
        content.write(ino, 0, pattern(2 * BLOCK_SIZE - 5, number), append=False)
        assert content.weight <= content_module.MEMORY_BYTES + 2 * BLOCK_SIZE
    for number, ino in enumerate(files):
        assert read_all(content, ino) == pattern(2 * BLOCK_SIZE - 5, number)
    content.flush_all()
    assert [fields.size for fields in replica.commits] == [2 * BLOCK_SIZE - 5] * 20


@pytest.mark.usefixtures("small_memory")
def test_a_full_disk_refuses_a_write_before_it_is_taken_and_loses_nothing():
    replica, content, ino = make()
    content.open(ino, os.O_RDWR)
    replica.fails_after = 1
    expected = pattern(4 * BLOCK_SIZE)
    content.write(ino, 0, expected, append=False)
    with pytest.raises(OSError, match="No space"):
        content.write(ino, len(expected), b"more", append=False)
    assert content.attributes(ino)[0] == len(expected)
    assert read_all(content, ino) == expected
    with pytest.raises(OSError, match="No space"):
        content.close(ino, os.O_RDWR)
    assert not content.is_open(ino)
    replica.fails_after = None
    content.tick()
    assert replica.contents[replica.shown(ino).head] == expected
    assert content.weight == 0


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize("batches", range(5))
def test_a_crash_between_two_batches_of_a_draft_leaves_the_start_of_the_file(batches):
    replica, content, ino = make()
    content.open(ino, os.O_RDWR)
    whole = pattern(4 * BLOCK_SIZE + 1000)
    content.write(ino, 0, whole, append=False)
    replica.clock_ns += 6 * SECOND_NS
    replica.fails_after = batches
    if batches < 4:  # three slices, and the head
        with pytest.raises(OSError, match="No space"):
            content.tick()
    else:
        content.tick()
    replica.fails_after = None
    after_crash = Content(replica)
    assert after_crash.recover().lost == ()
    left = read_all(after_crash, ino)
    assert left == whole[: len(left)]
    assert len(left) == min(2 * batches * BLOCK_SIZE, len(whole))


def test_one_file_that_cannot_be_written_does_not_keep_the_others_from_the_disk():
    replica, content, broken = make()
    fine = replica.create()
    for ino in (broken, fine):
        content.open(ino, os.O_RDWR)
        content.write(ino, 0, b"data", append=False)
    del replica.branches[content.held(broken).head]
    with pytest.raises(OSError, match="Stale"):
        content.flush_all()
    assert replica.contents[replica.shown(fine).head] == b"data"


def test_drafts_name_the_blocks_that_they_keep():
    replica, content, ino = make()
    content.open(ino, os.O_RDWR)
    content.write(ino, 0, pattern(3 * BLOCK_SIZE), append=False)
    replica.clock_ns += 6 * SECOND_NS
    content.tick()
    (draft,) = draft_module.drafts(replica)
    assert {b"K" + block_hash for block_hash in draft.hashes()} == set(replica.rows(b"K"))


@pytest.mark.parametrize("row", [b"", b"\xc1", pack(()), pack((1, 2)), pack("text")])
def test_a_damaged_draft_is_noticed(row):
    replica, content, ino = make()
    content.open(ino, os.O_RDWR)
    content.write(ino, 0, pattern(3 * BLOCK_SIZE), append=False)
    replica.clock_ns += 6 * SECOND_NS
    content.tick()
    for key in replica.rows(b"F"):
        replica_rows = dict(replica.store.rows)
        replica.put_rows({key: row})
        with pytest.raises(CorruptStore):
            Content(replica).recover()
        replica.put_rows(replica_rows)
