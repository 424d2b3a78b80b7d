"""Directories: whatever order moves arrive in, and in whatever batches, the tree is that of a plain
replay in stamp order."""

from hypothesis import given
from hypothesis import strategies as st

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

DIRECTORIES = [Ino(make_dot(ReplicaId(1), counter)) for counter in range(1, 6)]
CREATIONS = [
    Commit(
        Dot(ino),
        1 + number,
        1,
        (
            Birth(ino, Kind.DIRECTORY, 0o755, 0, 0, 0),
            Placement(ino, LinkId(ino), ROOT, b"d%d" % number, native=True),
        ),
    )
    for number, ino in enumerate(DIRECTORIES)
]


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
