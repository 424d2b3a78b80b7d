"""Contents of files against a plain bytearray, in sessions, with merges and crashes between."""

from __future__ import annotations

import os
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from crdt.blocks import BLOCK_SIZE, INLINE_MAX, SIZE_MAX, BlockMap, digest_of, hash_of
from crdt.codec import CorruptStore, pack
from tests.translation.fake_replica import SECOND_NS, THEIRS, FakeReplica
from translation import content as content_module
from translation import draft as draft_module
from translation import gathered as gathered_module
from translation.content import BlocksMissing, Content, Recovered, VersionFields

KINDS = (os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND)
MIB = 1 << 20


def pattern(size, seed=1):
    """Bytes of which no two blocks are equal, and none ends in zeros."""
    unit = b"".join((2 * n + 1).to_bytes(4, "big") for n in range(seed, seed + size // 4 + 1))
    return unit[:size]


def make(content=b""):
    replica = FakeReplica()
    ino = replica.create(content)
    return replica, Content(replica), ino


def read_all(content, ino):
    pieces = []
    while piece := content.read(ino, sum(map(len, pieces)), MIB):
        pieces.append(piece)
    return b"".join(pieces)


@pytest.fixture
def small_memory(monkeypatch):
    monkeypatch.setattr(content_module, "DRAFT_BYTES", 4 * BLOCK_SIZE)
    monkeypatch.setattr(content_module, "MEMORY_BYTES", 6 * BLOCK_SIZE)
    monkeypatch.setattr(content_module, "SLICE_BYTES", 2 * BLOCK_SIZE)
    monkeypatch.setattr(gathered_module, "SLICE_BYTES", 2 * BLOCK_SIZE)


# Offsets and lengths on both sides of what matters: inline, and the ends of blocks.
edges = [0, 1, 100, INLINE_MAX - 1, INLINE_MAX, INLINE_MAX + 1]
edges += [n * BLOCK_SIZE + d for n in (1, 2, 5) for d in (-1, 0, 1)]
offsets = st.sampled_from(edges)
lengths = st.sampled_from([1, 3, 1000, INLINE_MAX, BLOCK_SIZE, BLOCK_SIZE + 1, 3 * BLOCK_SIZE])
fills = st.sampled_from([0, 1, 2])  # 0: zeros, holes


def filled(fill, size):
    return pattern(size, fill * 1000) if fill else bytes(size)


class Contents(RuleBasedStateMachine):
    """One file, until it is unlinked and closed; then the next one."""

    @initialize(kinds=st.lists(st.sampled_from(KINDS), max_size=2))
    def begin(self, kinds):
        self.replica = FakeReplica()
        self.content = Content(self.replica)
        self.new_file()
        for flags in kinds:
            self.open(flags)

    def new_file(self):
        self.ino = self.replica.create()
        self.opened = []  # flags
        self.own = None  # bytes of the session, None: what the replica shows
        self.dirty = False
        self.detached = False
        self.extends = None  # the head that the session extends
        self.states = []  # since the last version or draft: one of them a crash leaves
        self.drafted = False  # for sure; it may be because of memory

    @property
    def holding(self):
        return any(flags == os.O_RDWR for flags in self.opened)

    def shows(self):
        if self.own is not None:
            return bytes(self.own)
        return self.replica.contents[self.replica.head[self.ino]]

    def take_base(self):
        if self.own is None:
            self.own = bytearray(self.shows())
            self.extends = self.replica.head[self.ino]
            self.states = [bytes(self.own)]

    def change(self, act):
        self.take_base()
        act(self.own)
        self.dirty = True
        self.states.append(bytes(self.own))

    def is_version_now(self):
        """What was gathered is a version, on the branch it belongs to."""
        if self.dirty and not self.detached:
            branch = self.replica.shown_at(self.ino, self.extends)
            assert branch.head != self.extends
            assert self.replica.contents[branch.head] == bytes(self.own)
            self.extends = branch.head
            self.dirty = False
            self.drafted = False
            self.states = [bytes(self.own)]
        self.end_if_idle()

    def end_if_idle(self):
        if not self.dirty and not self.holding and not self.detached:
            self.own = None

    # Rules.

    @rule(flags=st.sampled_from(KINDS))
    def open(self, flags):
        if len(self.opened) < 3:
            self.content.open(self.ino, flags)
            if flags == os.O_RDWR:
                self.take_base()
            self.opened.append(flags)

    @precondition(lambda self: self.opened)
    @rule(which=st.integers(0, 2))
    def close(self, which):
        flags = self.opened.pop(which % len(self.opened))
        self.content.close(self.ino, flags)
        if self.detached and not self.opened:
            assert not self.replica.rows(b"T")
            assert not self.replica.rows(b"F")
            self.new_file()
        elif flags != os.O_RDONLY:
            self.is_version_now()
        else:
            self.end_if_idle()

    # A mapping writes after the last close, too.
    @rule(offset=offsets, size=lengths, fill=fills, append=st.booleans())
    def write(self, offset, size, fill, append):
        data = filled(fill, size)
        self.take_base()
        if append:
            offset = len(self.own)

        def write_own(own):
            own.extend(bytes(max(0, offset - len(own))))
            own[offset : offset + size] = data

        assert self.content.write(self.ino, 7 if append else offset, data, append) == size
        self.change(write_own)

    @rule(size=offsets)
    def truncate(self, size):
        self.content.truncate(self.ino, size)

        def truncate_own(own):
            own.extend(bytes(max(0, size - len(own))))
            del own[size:]

        self.change(truncate_own)

    @rule(offset=offsets, size=lengths)
    def read(self, offset, size):
        assert self.content.read(self.ino, offset, size) == self.shows()[offset : offset + size]

    @rule()
    def flush(self):
        self.content.flush(self.ino)
        self.is_version_now()

    @rule(seconds=st.sampled_from([1, 5, 5, 30]))
    def tick(self, seconds):
        self.replica.clock_ns += seconds * SECOND_NS
        commits = len(self.replica.commits)
        self.content.tick()
        if len(self.replica.commits) > commits:
            self.is_version_now()
        elif self.dirty and not self.detached:
            assert self.opened
            assert not (self.drafted and seconds == 30)
            if seconds >= 5:
                self.states = [bytes(self.own)]  # it is a draft: a crash leaves this
                self.drafted = True

    @precondition(lambda self: not self.detached)
    @rule(fill=fills, size=st.sampled_from([10, BLOCK_SIZE + 5, 4 * BLOCK_SIZE]))
    def merge(self, fill, size):
        self.replica.merge(self.ino, filled(fill, size))
        self.content.overtaken(self.ino)

    @precondition(lambda self: self.own is not None and not self.detached)
    @rule()
    def settle(self):
        self.replica.settle(self.ino, self.extends)

    @precondition(lambda self: self.opened and not self.detached)
    @rule(really=st.integers(0, 3))
    def detach(self, really):
        if really:
            return
        self.take_base()
        self.content.detach(self.ino)
        self.detached = True

    @precondition(lambda self: self.detached)
    @rule()
    def attach(self):
        self.content.attach(self.ino)
        self.detached = False
        self.states = [bytes(self.own)]
        self.states.insert(0, self.replica.contents[self.extends])
        self.end_if_idle()

    @rule(really=st.integers(0, 3))
    def crash(self, really):
        if really:
            return
        self.content = Content(self.replica)
        assert self.content.recover().lost == ()
        assert not self.replica.rows(b"F")
        assert not self.replica.rows(b"T")
        if self.own is not None and not self.detached:
            branch = self.replica.shown_at(self.ino, self.extends)
            assert self.replica.contents[branch.head] in self.states
        self.opened, self.own, self.dirty, self.drafted = [], None, False, False
        if self.detached:
            self.new_file()

    @invariant()
    def shows_the_model(self):
        shown = self.shows()
        size = self.content.attributes(self.ino)
        assert (size[0] if size else self.replica.shown(self.ino).size) == len(shown)
        assert self.content.read(self.ino, 0, len(shown) + 1) == shown
        assert self.content.is_changed(self.ino) == self.dirty

    @invariant()
    def counts_its_memory(self):
        sessions = self.content.sessions.values()
        assert self.content.weight == sum(session.weight for session in sessions)
        for session in sessions:
            assert session.weight == sum(map(len, session.blocks.values()))
            assert session.weight <= 4 * BLOCK_SIZE + 4 * BLOCK_SIZE


@pytest.mark.usefixtures("small_memory")
class TestContents(Contents.TestCase):
    settings = settings(max_examples=300, stateful_step_count=40)


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


def hashes_of(replica, branch):
    return [h for _, h in BlockMap(replica, branch.map_ino, branch.map).items()]


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
