"""Contents of files that have no name left, and are open or come back."""

from __future__ import annotations

import os

import pytest

from crdt.blocks import BLOCK_SIZE
from tests.translation.contents import make, pattern, read_all
from tests.translation.fake_replica import SECOND_NS
from translation import content as content_module
from translation import draft as draft_module
from translation.content import Content

# Files without a name.


@pytest.mark.usefixtures("small_memory")
def test_an_unlinked_file_lives_until_its_last_close_and_is_no_version():
    replica, content, ino = make(pattern(2 * BLOCK_SIZE))
    content.open(ino, os.O_RDWR)
    content.open(ino, os.O_RDONLY)
    content.write(ino, BLOCK_SIZE, b"before", append=False)
    content.detach(ino)
    del replica.head[ino]
    expected = pattern(20 * BLOCK_SIZE)
    for at in range(0, len(expected), BLOCK_SIZE):
        content.write(ino, at, expected[at : at + BLOCK_SIZE], append=False)
        assert content.weight <= content_module.DRAFT_BYTES + BLOCK_SIZE
    content.write(ino, 0, bytes(6 * BLOCK_SIZE), append=False)
    content.write(ino, 17 * BLOCK_SIZE, bytes(BLOCK_SIZE), append=False)  # writes those before out
    expected = bytes(6 * BLOCK_SIZE) + expected[6 * BLOCK_SIZE : 17 * BLOCK_SIZE]
    expected += bytes(BLOCK_SIZE) + pattern(20 * BLOCK_SIZE)[18 * BLOCK_SIZE :]
    assert [key for key in replica.rows(b"T") if not replica.store.get(key)] == []
    content.truncate(ino, 18 * BLOCK_SIZE + 5)
    content.flush(ino)
    content.flush_all()
    content.close(ino, os.O_RDWR)
    replica.clock_ns += 60 * SECOND_NS
    content.tick()
    assert read_all(content, ino) == expected[: 18 * BLOCK_SIZE + 5]
    assert replica.rows(b"T") != []
    content.close(ino, os.O_RDONLY)
    assert replica.rows(b"T") == []
    assert replica.commits == []
    assert (content.sessions, content.opens, content.weight) == ({}, {}, 0)


@pytest.mark.usefixtures("small_memory")
def test_what_an_unlinked_file_left_in_the_store_goes_at_the_next_start():
    replica, content, ino = make()
    content.open(ino, os.O_RDWR)
    content.write(ino, 0, pattern(5 * BLOCK_SIZE), append=False)
    replica.clock_ns += 6 * SECOND_NS
    content.tick()
    content.detach(ino)
    assert [draft.detached for draft in draft_module.drafts(replica)] == [True]
    content.write(ino, 0, pattern(5 * BLOCK_SIZE, 3), append=False)
    content.write(ino, 0, b"x", append=False)
    assert replica.rows(b"T")
    assert replica.rows(b"F")
    assert Content(replica).recover().lost == ()
    assert replica.rows(b"T") + replica.rows(b"F") == []
    assert replica.commits == []


@pytest.mark.parametrize("size", [10, 3 * BLOCK_SIZE])
def test_a_draft_of_a_file_that_got_a_name_again_outlives_a_crash(size):
    replica, content, ino = make()
    content.open(ino, os.O_RDWR)
    content.write(ino, 0, pattern(size), append=False)
    replica.clock_ns += 6 * SECOND_NS
    content.tick()
    content.detach(ino)
    content.attach(ino)
    after_crash = Content(replica)
    assert after_crash.recover().lost == ()
    assert read_all(after_crash, ino) == pattern(size)


def test_a_draft_of_an_unlinked_file_goes_with_the_last_close():
    replica, content, ino = make()
    content.open(ino, os.O_RDWR)
    content.write(ino, 0, pattern(5 * BLOCK_SIZE), append=False)
    replica.clock_ns += 6 * SECOND_NS
    content.tick()
    content.detach(ino)
    content.close(ino, os.O_RDWR)
    assert replica.rows(b"F") == []
    assert replica.commits == []


def test_what_is_gathered_of_an_unlinked_file_that_nobody_has_open_is_dropped():
    replica, content, ino = make(b"content")
    content.truncate(ino, 3)
    content.detach(ino)
    content.tick()
    assert (replica.commits, content.sessions, content.weight) == ([], {}, 0)


def test_an_unlinked_file_is_read_as_it_was_whatever_is_merged():
    replica, content, ino = make(pattern(2 * BLOCK_SIZE))
    content.open(ino, os.O_RDWR)
    content.open(ino, os.O_RDONLY)
    content.detach(ino)
    content.close(ino, os.O_RDWR)
    replica.merge(ino, b"theirs")
    assert read_all(content, ino) == pattern(2 * BLOCK_SIZE)


@pytest.mark.usefixtures("small_memory")
def test_a_file_that_a_merge_gave_a_name_again_is_a_version_again():
    replica, content, ino = make()
    content.open(ino, os.O_RDWR)
    content.detach(ino)
    content.write(ino, 0, pattern(5 * BLOCK_SIZE), append=False)
    content.write(ino, 0, b"x", append=False)
    assert replica.rows(b"T")
    content.detach(ino)  # of a second name
    replica.clock_ns += 6 * SECOND_NS
    content.attach(ino)
    assert replica.rows(b"T") == []
    assert content.weight <= content_module.SLICE_BYTES + BLOCK_SIZE
    content.close(ino, os.O_RDWR)
    assert replica.contents[replica.shown(ino).head] == b"x" + pattern(5 * BLOCK_SIZE)[1:]
