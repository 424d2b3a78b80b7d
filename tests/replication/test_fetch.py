"""Which absent block is asked of whom: peers 2 and 3 of a replica that wants some."""

from crdt.blocks import hash_of
from crdt.causality import VersionVector
from replication.limits import Limits
from replication.message import Commits, Lack, State, Want
from tests.replication.fake import FakeLocal
from tests.replication.network import Site


def replica_with_two_peers(*blocks: bytes, **limits: object):
    """Return the sessions with 2 and 3; 2 has sent a commit with these blocks."""
    local = FakeLocal(1)
    site = Site(local, Limits(**limits))
    sessions = [site.exchange.open(Site(FakeLocal(n), Limits()).identity) for n in (2, 3)]
    maker = FakeLocal(2)
    maker.commit(b"file", blocks)
    for session in sessions:
        session.receive(State(VersionVector(), 0), 0.0)
    sessions[0].receive(Commits(tuple(maker.log), 1, VersionVector({2: 1}), last=True), 0.0)
    site.cycle(0.0)
    return site, *sessions


def said(session, kind):
    return [message for message in session.take(0.0) if isinstance(message, kind)]


X, Y = hash_of(b"x"), hash_of(b"y")


def test_a_block_that_may_still_come_from_somebody_else_is_expected():
    _, two, three = replica_with_two_peers(b"x")
    assert said(two, Want) == [Want((X,), urgent=False)]
    three.receive(Want((X, Y), urgent=False), 0.0)
    assert said(three, Lack) == [Lack((Y,), (X,))]


def test_a_block_that_only_the_asker_may_have_is_not_expected():
    _, two, three = replica_with_two_peers(b"x")
    said(two, Want)
    two.receive(Lack((X,), ()), 0.0)
    three.receive(Want((X,), urgent=False), 0.0)
    assert Lack((X,), ()) in said(three, Lack)


def test_what_a_program_at_a_peer_waits_for_is_passed_on_as_urgent():
    _, two, three = replica_with_two_peers(b"a", b"b", b"x", blocks_in_flight_max=1)
    assert said(two, Want) == [Want((hash_of(b"a"),), urgent=False)]
    three.receive(Want((X,), urgent=True), 0.0)
    said(three, Lack)
    assert said(two, Want) == [Want((X,), urgent=True)]


def test_a_peer_that_has_all_its_blocks_now_is_asked_again():
    _, two, three = replica_with_two_peers(b"x")
    three.receive(State(VersionVector(), 3), 0.0)
    said(two, Want)
    two.receive(Lack((X,), ()), 0.0)
    assert said(three, Want) == [Want((X,), urgent=False)]
    three.receive(Lack((X,), ()), 0.0)
    three.receive(State(VersionVector(), 2), 0.0)
    assert said(three, Want) == []
    three.receive(State(VersionVector(), 0), 0.0)
    assert said(three, Want) == [Want((X,), urgent=False)]


def test_a_peer_that_lacks_a_block_is_not_asked_again_for_having_been_queued_twice():
    _, two, three = replica_with_two_peers(b"x", blocks_in_flight_max=1)
    assert said(two, Want)
    two.receive(Lack((X,), ()), 0.0)  # which queues it at 3 a second time
    assert said(three, Want) == [Want((X,), urgent=False)]
    three.receive(Lack((X,), ()), 0.0)
    assert said(three, Want) == []


def test_a_block_is_asked_of_one_peer_at_a_time():
    _, two, three = replica_with_two_peers(b"x")
    assert said(two, Want)
    assert said(three, Want) == []
    two.receive(Lack((X,), ()), 0.0)
    assert said(three, Want)


def test_what_is_wanted_no_more_is_forgotten():
    """A program here removed the file that named it, or closed one that went on from it: no peer says so, and
    a sync waited for it, for as long as no peer sent a commit."""
    site, two, three = replica_with_two_peers(b"x")
    said(two, Want)
    two.receive(Lack((X,), ()), 0.0)
    site.local.needed.clear()
    site.cycle(0.0)
    assert site.exchange.own_state(0.0)[1] == 0
    assert said(three, Want) == []


def test_what_was_asked_for_and_is_wanted_no_more_is_forgotten_with_the_answer():
    site, two, three = replica_with_two_peers(b"x")
    said(two, Want)
    site.local.needed.clear()
    site.cycle(0.0)
    two.receive(Lack((X,), ()), 0.0)
    assert said(three, Want) == []
    assert site.exchange.own_state(0.0)[1] == 0
