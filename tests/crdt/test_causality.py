import pytest
from hypothesis import given

from crdt.causality import (
    COUNTER_MAX,
    REPLICA_MAX,
    ReplicaId,
    Stamp,
    VersionVector,
    counter_of,
    covers,
    join,
    make_dot,
    replica_of,
)
from tests.laws import check_semilattice
from tests.strategies import contexts, counters, dots, replicas, stamps, vectors


def test_vectors_form_a_semilattice():
    check_semilattice(vectors, VersionVector.merge)


def test_contexts_form_a_semilattice():
    def at_most(a, b):
        return all(covers(b, dot) for dot in a)

    check_semilattice(contexts, lambda a, b: join([a, b]), at_most)


@given(contexts, contexts, dots)
def test_a_join_covers_what_either_covers_and_nothing_else(a, b, dot):
    assert covers(join([a, b]), dot) == (covers(a, dot) or covers(b, dot))


@given(replicas, counters)
def test_a_dot_holds_its_replica_and_its_counter(replica, counter):
    dot = make_dot(replica, counter)
    assert (replica_of(dot), counter_of(dot)) == (replica, counter)


def test_the_greatest_dot_is_no_derived_number():
    dot = make_dot(ReplicaId(REPLICA_MAX), COUNTER_MAX)
    assert dot < 1 << 63
    assert (replica_of(dot), counter_of(dot)) == (REPLICA_MAX, COUNTER_MAX)


@given(dots, dots)
def test_dots_of_one_replica_are_in_the_order_of_its_commits(a, b):
    if replica_of(a) == replica_of(b):
        assert (a < b) == (counter_of(a) < counter_of(b))


@given(vectors, dots)
def test_a_vector_with_a_dot_contains_it_and_what_it_contained(vector, dot):
    raised = vector.with_dot(dot)
    assert dot in raised
    assert vector <= raised
    assert (dot in vector) == (raised == vector)


@given(vectors, dots)
def test_a_vector_contains_a_dot_if_it_has_seen_that_many(vector, dot):
    assert (dot in vector) == (vector.of(replica_of(dot)) >= counter_of(dot))


@given(vectors)
def test_equal_vectors_list_the_same(vector):
    assert VersionVector(dict(reversed(list(vector)))) == vector
    assert list(vector) == sorted(vector.counters.items())


def test_neither_of_two_concurrent_vectors_is_below_the_other():
    a, b = VersionVector({ReplicaId(1): 1}), VersionVector({ReplicaId(2): 1})
    assert not a <= b
    assert not b <= a


def test_a_vector_stores_no_zero():
    with pytest.raises(AssertionError):
        VersionVector({ReplicaId(1): 0})


@given(stamps, stamps)
def test_stamps_order_by_time_and_then_by_dot(a, b):
    assert (a < b) == ((a.hlc, a.dot) < (b.hlc, b.dot))
    assert isinstance(max(a, b), Stamp)
