"""Contents of files in sessions: what a merge shows of them, and what a version costs and names."""

from __future__ import annotations

import os
from random import Random

import pytest

from crdt.blocks import BLOCK_SIZE, SIZE_MAX, BlockMap, digest_of, hash_of
from tests.translation.contents import MIB, make, pattern, read_all
from tests.translation.fake_replica import SECOND_NS, THEIRS
from translation.content import BlocksMissing, Content, VersionFields

# Sessions.


def test_a_merge_shows_at_once_where_nobody_writes():
    replica, content, ino = make(b"old")
    content.open(ino, os.O_RDONLY)
    replica.merge(ino, b"new")
    assert content.read(ino, 0, 10) == b"new"
    assert content.attributes(ino) is None


def test_a_file_that_is_open_for_writing_keeps_its_branch_and_a_write_extends_that():
    replica, content, ino = make(b"old")
    base = replica.shown(ino).head
    content.open(ino, os.O_RDWR)
    replica.merge(ino, b"theirs")
    theirs = replica.shown(ino).head
    content.overtaken(ino)
    assert content.read(ino, 0, 10) == b"old"
    assert content.held(ino).head == base
    content.write(ino, 0, b"own", append=False)
    content.flush(ino)
    assert content.take_uncovered() == set()
    content.close(ino, os.O_RDWR)
    assert replica.contents[replica.shown_at(ino, base).head] == b"own"
    assert replica.shown(ino).head == theirs
    assert content.read(ino, 0, 10) == b"theirs"
    assert content.take_uncovered() == {ino}
    assert content.take_uncovered() == set()


def test_a_descriptor_that_only_appends_holds_no_branch_until_it_writes():
    replica, content, ino = make(b"old\n")
    flags = os.O_WRONLY | os.O_APPEND
    content.open(ino, flags)
    replica.merge(ino, b"old\ntheirs\n")
    content.write(ino, 4, b"ours\n", append=True)
    replica.merge(ino, b"later\n")
    assert content.read(ino, 0, 100) == b"old\ntheirs\nours\n"
    content.close(ino, flags)
    assert content.read(ino, 0, 100) == b"later\n"
    assert b"old\ntheirs\nours\n" in replica.contents.values()


def test_the_last_of_several_writers_ends_the_session():
    replica, content, ino = make(b"old")
    content.open(ino, os.O_RDWR)
    content.open(ino, os.O_WRONLY)
    replica.merge(ino, b"theirs")
    content.close(ino, os.O_RDWR)
    assert content.read(ino, 0, 10) == b"old"
    content.close(ino, os.O_WRONLY)
    assert content.read(ino, 0, 10) == b"theirs"
    assert not content.is_open(ino)
    assert content.sessions == {}


def test_a_version_extends_what_a_settling_made_of_its_base():
    replica, content, ino = make(pattern(3 * BLOCK_SIZE))
    content.open(ino, os.O_RDWR)
    base = content.held(ino).head
    content.write(ino, 0, b"own", append=False)
    replica.settle(ino, base)
    content.close(ino, os.O_RDWR)
    assert read_all(content, ino) == b"own" + pattern(3 * BLOCK_SIZE)[3:]


def test_data_whose_branch_is_gone_is_kept_and_reported():
    replica, content, ino = make(b"old")
    content.open(ino, os.O_RDWR)
    content.write(ino, 0, b"own", append=False)
    replica.clock_ns += 6 * SECOND_NS
    content.tick()
    taken = replica.branches.pop(content.held(ino).head)
    with pytest.raises(OSError, match="Stale"):
        content.flush(ino)
    assert content.read(ino, 0, 10) == b"own"
    after_crash = Content(replica)
    assert after_crash.recover().lost == (ino,)
    replica.branches[taken.head] = taken
    assert Content(replica).recover().lost == ()
    assert replica.contents[replica.shown(ino).head] == b"own"


# Versions.


def test_create_write_close_is_one_inline_version_without_other_rows():
    replica, content, ino = make()
    content.open(ino, os.O_WRONLY)
    content.write(ino, 0, pattern(4096), append=False)
    content.flush(ino)
    content.close(ino, os.O_WRONLY)
    assert [fields.inline for fields in replica.commits] == [pattern(4096)]
    assert replica.store.keys == []
    assert replica.asked == []


def test_the_attributes_in_a_session_are_those_of_its_branch_as_it_stands():
    replica, content, ino = make(pattern(2 * BLOCK_SIZE))
    content.open(ino, os.O_RDWR)
    replica.clock_ns += 5
    replica.settle(ino, content.held(ino).head)
    content.read(ino, 0, 1)
    assert content.attributes(ino) == (2 * BLOCK_SIZE, replica.clock_ns)
    content.write(ino, 0, b"x", append=False)
    written_ns = replica.clock_ns
    replica.clock_ns += 5
    replica.settle(ino, content.held(ino).head)
    content.read(ino, 0, 2 * BLOCK_SIZE)
    assert content.attributes(ino) == (2 * BLOCK_SIZE, written_ns)


def test_a_reader_that_closes_makes_no_version_of_what_another_is_writing():
    replica, content, ino = make()
    content.open(ino, os.O_RDWR)
    content.open(ino, os.O_RDONLY)
    content.write(ino, 0, b"half", append=False)
    content.close(ino, os.O_RDONLY)
    assert replica.commits == []


def test_the_end_of_a_session_that_no_merge_overtook_uncovers_nothing():
    _, content, ino = make()
    content.open(ino, os.O_RDWR)
    content.write(ino, 0, b"own", append=False)
    content.close(ino, os.O_RDWR)
    content.overtaken(ino)  # no session is there
    assert content.take_uncovered() == set()


def test_a_version_does_not_change_with_what_is_written_after_it():
    """The inline bytes of a version were a bytearray where the file ended in zeros.

    The next write changed it in place, and with it what the replica had committed.
    """
    replica, content, ino = make(b"ten bytes.")
    content.write(ino, 0, b"x", append=False)
    content.truncate(ino, 100)
    content.flush(ino)
    committed = replica.commits[-1].inline
    content.write(ino, 100, b"y", append=False)
    assert committed == b"xen bytes." + bytes(90)
    assert type(committed) is bytes
    assert type(content.read(ino, 0, 200)) is bytes


def test_nothing_written_is_no_version_and_the_same_bytes_again_are_one():
    replica, content, ino = make(b"same")
    content.open(ino, os.O_RDWR)
    content.flush(ino)
    content.write(ino, 0, b"", append=False)
    content.flush(ino)
    assert replica.commits == []
    replica.clock_ns += 1
    content.write(ino, 0, b"same", append=False)
    content.flush(ino)
    content.flush(ino)
    (fields,) = replica.commits
    assert fields.mtime_ns == replica.clock_ns


def test_a_version_names_only_the_blocks_that_changed():
    replica, content, ino = make(pattern(5 * BLOCK_SIZE))
    content.open(ino, os.O_RDWR)
    content.write(ino, BLOCK_SIZE, pattern(5 * BLOCK_SIZE)[BLOCK_SIZE : 2 * BLOCK_SIZE], append=False)
    content.write(ino, 3 * BLOCK_SIZE + 7, b"x", append=False)
    content.flush(ino)
    content.truncate(ino, 2 * BLOCK_SIZE)
    content.flush(ino)
    content.truncate(ino, BLOCK_SIZE + 1)
    content.flush(ino)
    changed = [[index for index, _ in fields.changed] for fields in replica.commits]
    assert changed == [[3], [], [1]]
    assert [fields.cut_bytes for fields in replica.commits] == [
        None,
        2 * BLOCK_SIZE,
        BLOCK_SIZE + 1,
    ]


def test_blocks_that_are_there_are_not_written_again():
    replica, content, _ = make(pattern(3 * BLOCK_SIZE))
    other = replica.create()
    replica.store.sync()
    content.open(other, os.O_RDWR)
    content.write(other, 0, pattern(3 * BLOCK_SIZE), append=False)
    content.close(other, os.O_RDWR)
    written = [key for batch in replica.store.unsynced for key in batch]
    assert [key for key in written if key[:1] == b"K"] == []
    assert read_all(content, other) == pattern(3 * BLOCK_SIZE)


def test_zeros_are_holes():
    replica, content, ino = make()
    content.open(ino, os.O_RDWR)
    content.write(ino, 0, bytes(10 * BLOCK_SIZE), append=False)
    content.flush(ino)
    assert replica.store.keys == []
    assert read_all(content, ino) == bytes(10 * BLOCK_SIZE)


def test_a_sparse_file_of_a_tebibyte_costs_its_blocks():
    replica, content, ino = make(b"start")
    end = 1 << 40
    content.open(ino, os.O_RDWR)
    content.write(ino, end, b"end", append=False)
    content.flush(ino)
    assert content.attributes(ino)[0] == end + 3
    assert content.read(ino, end - 5, 100) == bytes(5) + b"end"
    assert content.read(ino, 0, 10) == b"start" + bytes(5)
    assert content.read(ino, end // 2, 1000) == bytes(1000)
    assert [index for index, _ in replica.commits[-1].changed] == [0, end // BLOCK_SIZE]
    content.truncate(ino, 3)
    content.flush(ino)
    content.truncate(ino, end)
    content.flush(ino)
    assert content.read(ino, 0, 10) == b"sta" + bytes(7)
    assert content.read(ino, end - 1, 10) == bytes(1)
    assert len(replica.asked) < 100


def test_a_file_has_a_greatest_size():
    _, content, ino = make(b"x")
    for act in (
        lambda: content.write(ino, SIZE_MAX, b"x", append=False),
        lambda: content.truncate(ino, SIZE_MAX + 1),
    ):
        with pytest.raises(OSError, match="too large"):
            act()
    assert content.sessions == {}
    content.truncate(ino, SIZE_MAX)
    content.write(ino, SIZE_MAX - 1, b"y", append=False)
    content.flush(ino)
    assert content.read(ino, SIZE_MAX - 3, 10) == b"\0\0y"


def test_a_truncate_without_a_descriptor_is_a_version_at_the_next_tick():
    replica, content, ino = make(b"content")
    content.truncate(ino, 3)
    content.tick()
    assert replica.contents[replica.shown(ino).head] == b"con"
    assert content.sessions == {}


# Blocks that are not here.


def hashes_of(replica, branch):
    return [h for _, h in BlockMap(replica, branch.map_ino, branch.map).items()]


def test_missing_blocks_are_named_before_anything_is_changed():
    whole = pattern(5 * BLOCK_SIZE)
    replica, content, ino = make(whole)
    branch = replica.shown(ino)
    here = hashes_of(replica, branch)
    replica.hidden = set(here[:4])
    content.open(ino, os.O_RDWR)
    attempts = {
        lambda: content.read(ino, 10, 2 * BLOCK_SIZE): [0, 1, 2],
        lambda: content.write(ino, 10, b"x", append=False): [0],
        lambda: content.write(ino, 10, bytes(3 * BLOCK_SIZE), append=False): [0, 3],
        lambda: content.truncate(ino, BLOCK_SIZE + 1): [1],
        lambda: content.truncate(ino, 100): [0],
    }
    for attempt, missing in attempts.items():
        with pytest.raises(BlocksMissing) as caught:
            attempt()
        assert list(caught.value.hashes) == [here[index] for index in missing]
        assert not content.is_changed(ino)
        assert content.attributes(ino) == (len(whole), branch.mtime_ns)
    replica.hidden = set()
    assert read_all(content, ino) == whole


def test_whole_blocks_and_the_end_are_overwritten_without_the_old_ones():
    replica, content, ino = make(pattern(3 * BLOCK_SIZE + 10))
    replica.hidden = set(hashes_of(replica, replica.shown(ino)))
    content.open(ino, os.O_RDWR)
    content.write(ino, 0, bytes(BLOCK_SIZE), append=False)
    content.write(ino, BLOCK_SIZE, pattern(2 * BLOCK_SIZE + 10, 9), append=False)
    content.flush(ino)
    assert read_all(content, ino) == bytes(BLOCK_SIZE) + pattern(2 * BLOCK_SIZE + 10, 9)
    content.truncate(ino, 0)
    content.truncate(ino, 2 * BLOCK_SIZE)
    assert read_all(content, ino) == bytes(2 * BLOCK_SIZE)


def test_the_last_block_is_overwritten_up_to_the_end_without_the_old_one():
    replica, content, ino = make(pattern(BLOCK_SIZE + 10))
    replica.hidden = set(hashes_of(replica, replica.shown(ino))[1:])
    content.write(ino, BLOCK_SIZE, b"0123456789", append=False)
    assert read_all(content, ino) == pattern(BLOCK_SIZE) + b"0123456789"


def test_a_version_costs_what_changed_in_it():
    replica, content, ino = make(Random(1).randbytes(20 * MIB))
    content.open(ino, os.O_RDWR)
    replica.asked.clear()
    content.write(ino, 10 * MIB, b"x", append=False)
    content.flush(ino)
    asked = [key[:1] for key in replica.asked]
    assert asked.count(b"K") == 2  # the block before, and whether the new one is there


def test_a_small_file_of_blocks_stays_one_while_its_block_is_not_here():
    replica, content, ino = make(pattern(2 * BLOCK_SIZE))
    base = replica.shown(ino)
    # A peer may well have made such a version: small, and not inline.
    piece = pattern(1000)
    block = (0, hash_of(piece))
    replica.put(b"K" + block[1], piece)
    digest = digest_of(replica.digest_key, 1000, [block])
    small = VersionFields(1000, 5, digest, base.first_digest, None, 0, (block,))
    replica.head[ino] = replica.extend(base, THEIRS, small).head
    replica.hidden = {block[1]}
    content.truncate(ino, 2000)
    content.flush(ino)
    assert replica.commits[-1].inline is None
    assert replica.commits[-1].changed == ()
    assert replica.shown(ino).size == 2000
