"""Contents of files against a plain bytearray, in sessions, with merges and crashes between."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from crdt.blocks import BLOCK_SIZE, INLINE_MAX
from tests.translation.contents import pattern
from tests.translation.fake_replica import SECOND_NS, FakeReplica
from translation.content import Content

KINDS = (os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND)

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
