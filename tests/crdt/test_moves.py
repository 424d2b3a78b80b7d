"""Directories: whatever order moves arrive in, and in whatever batches, the tree is that of a plain
replay in stamp order."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import crdt.moves
from crdt.causality import Dot, ReplicaId, make_dot
from crdt.facts import ROOT, Birth, Commit, Ino, Kind, LinkId, Placement
from crdt.moves import LOG_END, LOG_START, decode_logged, is_inside
from crdt.names import View
from crdt.rows import Inode, Stamped
from crdt.state import State
from crdt.store import MemoryStore
from crdt.view import Transaction
from tests.reference.gathered import Gathered
from tests.reference.places import Places


def created(count):
    """This many directories in the root, and the commits that make them."""
    directories = [Ino(make_dot(ReplicaId(1), counter)) for counter in range(1, count + 1)]
    commits = [
        Commit(
            Dot(ino),
            1 + number,
            1,
            (
                Birth(ino, Kind.DIRECTORY, 0o755, 0, 0, 0),
                Placement(ino, LinkId(ino), ROOT, b"d%d" % number, native=True),
            ),
        )
        for number, ino in enumerate(directories)
    ]
    return directories, commits


DIRECTORIES, CREATIONS = created(5)


@st.composite
def moves(draw):
    """Commits of one or two moves each, to one name: a union of two goes together."""
    commits = []
    for number in range(draw(st.integers(0, 8))):
        replica = ReplicaId(draw(st.integers(2, 4)))
        dot = make_dot(replica, number + 1)
        members = draw(st.lists(st.sampled_from(DIRECTORIES), min_size=1, max_size=2, unique=True))
        parent = draw(st.sampled_from([ROOT, *DIRECTORIES]))
        mates = tuple(members) if len(members) > 1 else ()
        facts = tuple(Placement(ino, LinkId(ino), parent, b"m%d" % number, mates=mates) for ino in members)
        commits.append(Commit(dot, draw(st.integers(10, 20)), 1, facts))
    return commits


def merge(batches):
    store = MemoryStore()
    state = State(store)
    root = Birth(ROOT, Kind.DIRECTORY, 0o755, 0, 0, 0)
    state.add_inode(Inode(ROOT, [Stamped(Dot(0), 0, 0, root)]))
    state.commit()
    view = View(state, str)
    for batch in batches:
        transaction = Transaction(state, view, here=False)
        for commit in batch:
            transaction.apply(commit)
        transaction.finish()
        state.commit()
        transaction.done()
    return state


def positions(state):
    at = {ino: state.inode(ino).at for ino in DIRECTORIES}
    return {ino: (made.dot, made.fact.parent, made.fact.name) for ino, made in at.items()}


def replayed(commits):
    places = Places(Gathered([*CREATIONS, *commits]))
    where = {ino: (made.stamp.dot, made.fact.parent, made.fact.name) for ino, made in places.position.items()}
    return where, {(made.stamp.dot, made.fact.ino) for made in places.skipped}


def skipped(state):
    """The moves that the log says took no effect."""
    log = log_of(state).values()
    return {(logged.move.dot, logged.move.fact.ino) for logged in log if not logged.took}


def cut(commits, sizes):
    """The commits in batches of these sizes, the rest one by one."""
    batches, start = [], 0
    for size in sizes:
        batches.append(commits[start : start + size])
        start += size
    return [*batches, *([commit] for commit in commits[start:])]


@given(st.data(), moves(), st.lists(st.integers(1, 4), max_size=4))
def test_the_tree_is_that_of_a_replay_in_stamp_order(data, commits, sizes):
    arrived = data.draw(st.permutations(commits))
    state = merge([CREATIONS, *cut(arrived, sizes)])
    where, not_done = replayed(commits)
    assert positions(state) == where
    assert skipped(state) == not_done


@given(st.data(), moves(), st.lists(st.integers(1, 4), max_size=4))
def test_the_log_says_of_each_move_what_it_does_in_stamp_order(data, commits, sizes):
    """Whether it took effect, and what was in effect before it: of that the next replay begins."""
    arrived = data.draw(st.permutations(commits))
    in_order = sorted(commits, key=lambda commit: commit.stamp)
    assert log_of(merge([CREATIONS, *cut(arrived, sizes)])) == log_of(merge([CREATIONS, *cut(in_order, [])]))


@pytest.mark.parametrize("kept", [0, 1, 3])
@given(st.data(), moves(), st.lists(st.integers(1, 4), max_size=4))
def test_a_log_of_which_not_all_is_kept_in_memory_is_replayed_alike(kept, data, commits, sizes):
    arrived = data.draw(st.permutations(commits))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crdt.moves, "KEPT_ROWS_MAX", kept)
        state = merge([CREATIONS, *cut(arrived, sizes)])
    where, not_done = replayed(commits)
    assert positions(state) == where
    assert skipped(state) == not_done


@pytest.mark.parametrize("depth", range(1, 34))
def test_a_cycle_is_seen_however_long_it_is(depth):
    """Directories one in another, and somebody who did not know that moves the first one into the last."""
    chain, made = created(depth + 1)
    nested = [
        Commit(make_dot(ReplicaId(2), number), 100 + number, 1, (Placement(ino, LinkId(ino), into, b"n"),))
        for number, (into, ino) in enumerate(pairwise(chain), 1)
    ]
    last_into_root = Placement(chain[-1], LinkId(chain[-1]), ROOT, b"z")
    late = [
        Commit(make_dot(ReplicaId(3), 1), 500, 1, (Placement(chain[0], LinkId(chain[0]), chain[-1], b"l"),)),
        Commit(make_dot(ReplicaId(3), 2), 501, 1, (last_into_root,)),
        Commit(make_dot(ReplicaId(3), 3), 502, 1, (Placement(chain[0], LinkId(chain[0]), chain[-1], b"l"),)),
    ]
    for batches in ([made, nested, late], [made, late, nested], [made, [*nested, *late]]):
        state = merge(batches)
        assert skipped(state) == {(late[0].dot, chain[0])}
        assert state.inode(chain[0]).at.dot == late[2].dot
        assert state.inode(chain[-1]).at.dot == late[1].dot


def log_of(state):
    return {key: decode_logged(row) for key, row in state.scan(LOG_START, LOG_END)}


@given(st.data(), moves())
def test_no_directory_is_ever_inside_itself(data, commits):
    state = merge([CREATIONS, *cut(data.draw(st.permutations(commits)), [])])
    for ino in DIRECTORIES:
        assert not is_inside(state, state.inode(ino).at.fact.parent, {ino})


def test_of_two_moves_that_make_a_cycle_the_later_is_skipped():
    x, y = DIRECTORIES[:2]
    into_y = Commit(make_dot(ReplicaId(2), 1), 10, 1, (Placement(x, LinkId(x), y, b"x"),))
    into_x = Commit(make_dot(ReplicaId(3), 1), 11, 1, (Placement(y, LinkId(y), x, b"y"),))
    for order in ([into_y], [into_x]), ([into_x], [into_y]), ([into_x, into_y],):
        state = merge([CREATIONS, *order])
        assert state.inode(x).at.fact.parent == y
        assert state.inode(y).at.fact.parent == ROOT


def test_ten_thousand_late_moves_are_one_batch():
    """One undo, one merge and one redo: the cost of a batch is not that of its moves one by one."""
    x, y = DIRECTORIES[:2]

    def seen(replica, number):
        return (make_dot(ReplicaId(replica), number),) if number else ()

    def moves_of(replica, ino, hlcs):
        return [
            Commit(
                make_dot(ReplicaId(replica), number + 1),
                hlc,
                1,
                (Placement(ino, LinkId(ino), ROOT, b"%d" % number, context=seen(replica, number)),),
            )
            for number, hlc in enumerate(hlcs)
        ]

    log = moves_of(2, x, range(10_000, 30_000, 2))
    late = moves_of(3, y, range(9_001, 29_001, 2))
    state = merge([CREATIONS, log, late])
    assert state.inode(x).at.dot == log[-1].dot
    assert state.inode(y).at.dot == late[-1].dot
