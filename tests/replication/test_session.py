"""Two or three replicas, no I/O."""

import pytest

from crdt.blocks import hash_of
from crdt.causality import VersionVector
from crdt.codec import pack
from replication.limits import Limits
from replication.local import PeerError, RestoredError
from replication.message import (
    Answer,
    Blocks,
    Commits,
    Have,
    Lack,
    Pull,
    State,
    Taken,
    Want,
)
from replication.staging import Staging
from tests.replication.fake import FakeLocal
from tests.replication.network import Network, Site, pair


def heard(network, link, end, kind):
    return [m for m in network.links[link].ends[end].heard if isinstance(m, kind)]


def commits_heard(network, link, end):
    return [c for slice_ in heard(network, link, end, Commits) for c in slice_.commits]


def opened(local=None, **limits):
    """Return the session of replica 1 with peer 2, which has said its state and pulled."""
    local = local or FakeLocal(1)
    site = Site(local, Limits(**limits))
    session = site.exchange.open(Site(FakeLocal(2), Limits()).identity)
    session.receive(State(VersionVector(), 0), 0.0)
    session.receive(Pull(0, VersionVector()), 0.0)
    return site, session


def test_both_have_what_either_had():
    network, a, b = pair()
    a.commit(b"of a")
    b.commit(b"of b")
    network.run()
    assert a.facts() == b.facts()
    assert len(a.facts()) == 2
    assert a.vector() == b.vector() == VersionVector({1: 1, 2: 1})


def test_a_commit_is_pushed_as_soon_as_it_is_durable_and_not_before():
    network, a, b = pair()
    network.run()
    a.commit(b"new")
    session = network.links[0].ends[0].session
    assert session.take(0.0) == []
    network.run()
    assert len(b.facts()) == 1


def test_what_came_from_a_peer_does_not_go_back_to_it():
    network, a, b = pair()
    for n in range(100):
        a.commit(b"%d" % n)
    network.run()
    assert commits_heard(network, 0, 0) == []
    assert len(commits_heard(network, 0, 1)) == 100
    assert len(b.facts()) == 100


def test_a_line_of_three_converges_and_sends_each_commit_once_over_each_link():
    network = Network(3, [(0, 1), (1, 2)])
    network.connect()
    a, b, c = (site.local for site in network.sites)
    for n in range(50):
        a.commit(b"a%d" % n)
        c.commit(b"c%d" % n)
        network.step()
    network.run()
    assert a.facts() == b.facts() == c.facts()
    for link in (0, 1):
        for end in (0, 1):
            assert len(commits_heard(network, link, end)) == 50
    assert a.vector() == b.vector() == c.vector()


def test_what_a_third_replica_brought_meanwhile_is_not_sent_again():
    network = Network(3, [(0, 1), (1, 2), (0, 2)])
    a, b, c = (site.local for site in network.sites)
    for n in range(100):
        a.commit(b"%d" % n)
    network.links[0].connect()
    network.run()
    network.links[2].connect()
    network.run()
    network.links[1].connect()
    network.run()
    assert a.facts() == b.facts() == c.facts()
    assert commits_heard(network, 1, 0) == commits_heard(network, 1, 1) == []


def test_a_dead_dot_moves_the_vector_though_no_commit_is_sent():
    network, a, b = pair()
    a.commit(b"temporary")
    a.commit(b"kept")
    a.kill(1)
    network.run()
    assert b.vector() == VersionVector({1: 2})
    a.commit(b"temporary")
    a.kill(3)
    network.run()
    assert b.vector() == VersionVector({1: 3})
    assert len(b.facts()) == 1


def test_a_dead_dot_is_passed_on_by_who_has_no_arrival_of_it():
    """It moved the vector of the one in the middle, and nothing of its stream: the third one never heard."""
    network = Network(3, [(0, 1), (1, 2)])
    network.connect()
    a, _, c = (site.local for site in network.sites)
    network.run()
    a.commit(b"temporary")
    a.kill(1)
    network.run()
    assert c.vector() == VersionVector({1: 1})


def test_a_pass_is_applied_in_one_batch_when_it_is_whole():
    network, a, b = pair(slice_bytes=100)
    for n in range(200):
        a.commit(b"%d" % n)
    network.run()
    assert len(heard(network, 0, 1, Commits)) > 10
    assert b.receives == [200]


def test_a_pass_above_the_stated_size_is_applied_in_slices():
    network, a, b = pair(slice_bytes=100, stage_commits_max=50)
    for n in range(200):
        a.commit(b"%d" % n)
    network.run()
    assert len(b.receives) > 1
    assert max(b.receives) < 60
    assert a.facts() == b.facts()


def test_bytes_bound_a_staged_pass_too():
    network, a, b = pair(slice_bytes=1000, stage_bytes_max=5000)
    for _ in range(20):
        a.commit(bytes(900))
    network.run()
    assert len(b.receives) >= 3
    assert a.facts() == b.facts()


def test_nothing_of_a_pass_shows_while_it_is_not_whole():
    network, a, b = pair(slice_bytes=100)
    for n in range(200):
        a.commit(b"%d" % n)
    while len(heard(network, 0, 1, Commits)) < 5:
        network.step()
        assert b.facts() == set()
    network.links[0].cut()
    assert b.facts() == set()
    assert b.vector() == VersionVector()


def test_after_a_cut_only_what_is_missing_comes():
    network, a, b = pair(slice_bytes=1000)
    for _ in range(100):
        a.commit(bytes(1000))
    while len(heard(network, 0, 1, Commits)) < 60:
        network.step()
    network.links[0].cut()
    first = sum(map(len, commits_heard(network, 0, 1)))
    network.links[0].ends[1].heard.clear()
    network.connect()
    network.run()
    rest = sum(map(len, commits_heard(network, 0, 1)))
    assert first > 50_000
    assert first + rest <= sum(map(len, a.log))
    assert a.facts() == b.facts()
    assert b.receives == [100]


def test_a_pull_goes_on_behind_what_is_staged():
    local = FakeLocal(1)
    local.commit(b"own")
    local.sync()
    staging = Staging(b"peer")
    assert staging.pull(local) == Pull(0, VersionVector({1: 1}))
    staging.add(Commits((b"x",), 5, VersionVector({2: 3}), last=False))
    assert staging.pull(local) == Pull(5, VersionVector({1: 1, 2: 3}))


def test_a_receiver_that_started_anew_goes_on_from_its_durable_cursor():
    network, a, b = pair(slice_bytes=1000, stage_commits_max=10)
    for _ in range(100):
        a.commit(bytes(1000))
    while len(b.facts()) < 60:
        network.step()
    network.links[0].cut()
    b.crash()
    had = len(b.facts())
    network.sites[1].exchange = type(network.sites[1].exchange)(b, network.limits)
    network.links[0].ends[1].heard.clear()
    network.connect()
    network.run()
    assert len(commits_heard(network, 0, 1)) == 100 - had
    assert a.facts() == b.facts()


def test_what_is_sent_and_not_taken_is_bounded():
    local = FakeLocal(1)
    for _ in range(100):
        local.commit(bytes(1000))
    site, session = opened(local, slice_bytes=1000, window_bytes=10_000)
    site.cycle(0.0)
    sent = []
    while messages := session.take(0.0):
        sent += [c for m in messages if isinstance(m, Commits) for c in m.commits]
    assert 9000 < sum(map(len, sent)) < 12_000
    session.receive(Taken(sum(map(len, sent))), 0.0)
    assert any(isinstance(m, Commits) for m in session.take(0.0))


def test_credit_for_bytes_that_were_never_sent_is_refused():
    _, session = opened()
    with pytest.raises(PeerError, match="taken"):
        session.receive(Taken(1), 0.0)


def test_a_slow_reader_is_sent_more_only_as_it_takes():
    network, a, b = pair(slice_bytes=1000, window_bytes=8000)
    for _ in range(100):
        a.commit(bytes(1000))
    network.run()
    assert len(heard(network, 0, 0, Taken)) >= 10
    assert a.facts() == b.facts()


def test_blocks_follow_their_commits():
    network, a, b = pair()
    blocks = [b"block %d" % n for n in range(500)]
    a.commit(b"file", blocks)
    network.run()
    assert all(b.store[hash_of(block)] == block for block in blocks)
    told = heard(network, 0, 0, State)
    assert told[-1].missing == 0
    assert max(state.missing for state in told) > 0


def test_only_blocks_that_are_not_here_are_asked_for():
    network, a, b = pair()
    b.commit(b"same", [b"shared"])
    a.commit(b"file", [b"shared", b"own"])
    network.run()
    asked = [h for want in heard(network, 0, 0, Want) for h in want.hashes]
    assert asked == [hash_of(b"own")]


def test_several_requests_are_in_flight_and_no_more_than_the_limit():
    local = FakeLocal(1)
    site, session = opened(local, blocks_in_flight_max=20)
    other = FakeLocal(2)
    other.commit(b"file", [b"block %d" % n for n in range(100)])
    session.receive(Commits(tuple(other.log), 1, VersionVector({2: 1}), last=True), 0.0)
    site.cycle(0.0)
    wants = [m for m in session.take(0.0) if isinstance(m, Want)]
    assert sum(len(w.hashes) for w in wants) == 20
    first = wants[0].hashes[0]
    session.receive(Blocks((other.store[first],)), 0.0)
    wants = [m for m in session.take(0.0) if isinstance(m, Want)]
    assert sum(len(w.hashes) for w in wants) == 1


def test_requests_are_spread_over_the_peers():
    network = Network(3, [(0, 2), (1, 2)], limits=Limits(blocks_in_flight_max=10))
    a, b, c = (site.local for site in network.sites)
    blocks = [b"block %d" % n for n in range(200)]
    a.commit(b"file", blocks)
    for block in blocks:
        b.store[hash_of(block)] = block
    network.connect()
    network.run()
    assert len(c.store) == 200
    sent = [sum(len(m.blocks) for m in heard(network, link, 1, Blocks)) for link in (0, 1)]
    assert sum(sent) == 200
    assert min(sent) >= 50


def test_a_block_is_asked_of_another_peer_where_one_lacks_it():
    network = Network(3, [(0, 1), (1, 2), (0, 2)])
    a, b, c = (site.local for site in network.sites)
    a.commit(b"file", [b"x"])
    network.links[0].connect()
    network.run()
    # b forgot the block, and does not want it: c can have it from a alone.
    del b.store[hash_of(b"x")]
    network.links[1].connect()
    network.run()
    assert len(c.facts()) == 1
    assert hash_of(b"x") not in c.store
    network.links[2].connect()
    network.run()
    assert c.store[hash_of(b"x")] == b"x"


def test_a_block_is_asked_of_another_peer_where_one_goes_away():
    network = Network(3, [(0, 2), (1, 2)])
    a, b, _c = (site.local for site in network.sites)
    a.commit(b"file", [b"x"])
    a.sync()
    b.store[hash_of(b"x")] = b"x"
    network.connect()
    site, session = network.sites[2], network.links[1].ends[1].session
    network.links[0].ends[1].session.receive(State(VersionVector({1: 1}), 0), 0.0)
    session.receive(State(VersionVector(), 0), 0.0)
    network.links[0].ends[1].session.receive(Commits(tuple(a.log), 1, VersionVector({1: 1}), last=True), 0.0)
    site.cycle(0.0)
    assert any(isinstance(m, Want) for m in network.links[0].ends[1].session.take(0.0))
    assert not any(isinstance(m, Want) for m in session.take(0.0))
    network.links[0].cut()
    assert any(isinstance(m, Want) for m in session.take(0.0))


def test_blocks_pass_through_a_third_replica_by_announcement():
    network = Network(3, [(0, 1), (1, 2)], limits=Limits(blocks_in_flight_max=2))
    network.connect()
    a, _, c = (site.local for site in network.sites)
    blocks = [b"block %d" % n for n in range(50)]
    a.commit(b"file", blocks)
    network.run()
    assert len(c.store) == 50
    assert heard(network, 1, 1, Lack)
    assert heard(network, 1, 1, Have)
    assert sum(len(m.blocks) for m in heard(network, 1, 1, Blocks)) == 50


def test_urgent_blocks_come_first():
    local = FakeLocal(1)
    for n in range(50):
        local.commit(b"file", [b"block %d" % n])
    local.commit(bytes(5000))
    site, session = opened(local, blocks_per_message=4, slice_bytes=100)
    site.cycle(0.0)
    hashes = [hash_of(b"block %d" % n) for n in range(50)]
    session.receive(Want(tuple(hashes[:40]), urgent=False), 0.0)
    session.receive(Want(tuple(hashes[40:44]), urgent=True), 0.0)
    first, second = session.take(0.0), session.take(0.0)
    assert [b"block %d" % n for n in range(40, 44)] == list(first[-1].blocks)
    assert isinstance(second[-1], Commits)  # names come before blocks that nobody waits for


def test_what_a_program_waits_for_is_asked_before_the_rest_and_does_not_queue_behind_it():
    local = FakeLocal(1)
    site, session = opened(local, blocks_in_flight_max=5)
    other = FakeLocal(2)
    other.commit(b"file", [b"block %d" % n for n in range(100)])
    session.receive(Commits(tuple(other.log), 1, VersionVector({2: 1}), last=True), 0.0)
    site.cycle(0.0)
    session.take(0.0)
    urgent = hash_of(b"block 99")
    site.exchange.begin_request([urgent])
    assert site.exchange.look_for([urgent]) == ([urgent], [])
    wants = [m for m in session.take(0.0) if isinstance(m, Want)]
    assert wants == [Want((urgent,), urgent=True)]


def test_a_peer_that_was_asked_and_gives_no_block_is_left():
    local = FakeLocal(1)
    site, session = opened(local, block_silence_s=30.0)
    other = FakeLocal(2)
    other.commit(b"file", [b"x"])
    session.receive(Commits(tuple(other.log), 1, VersionVector({2: 1}), last=True), 0.0)
    site.cycle(0.0)
    session.take(0.0)
    session.tick(29.0)
    with pytest.raises(PeerError, match="none for 30"):
        session.tick(31.0)


def test_a_lacking_peer_is_asked_again_after_a_while():
    local = FakeLocal(1)
    site, session = opened(local, retry_min_s=5.0)
    other = FakeLocal(2)
    other.commit(b"file", [b"x"])
    session.receive(Commits(tuple(other.log), 1, VersionVector({2: 1}), last=True), 0.0)
    site.cycle(0.0)
    session.take(0.0)
    session.receive(Lack((hash_of(b"x"),), ()), 0.0)
    assert site.exchange.look_for([hash_of(b"x")]) == ([hash_of(b"x")],) * 2
    session.tick(4.0)
    assert session.take(4.0) == []
    session.tick(6.0)
    assert session.take(6.0) == [Want((hash_of(b"x"),), urgent=False)]


def test_a_lacking_peer_is_asked_again_at_once_where_a_program_waits():
    local = FakeLocal(1)
    site, session = opened(local)
    other = FakeLocal(2)
    other.commit(b"file", [b"x"])
    session.receive(Commits(tuple(other.log), 1, VersionVector({2: 1}), last=True), 0.0)
    site.cycle(0.0)
    session.take(0.0)
    session.receive(Lack((hash_of(b"x"),), ()), 0.0)
    site.exchange.begin_request([hash_of(b"x")])
    assert site.exchange.look_for([hash_of(b"x")]) == ([hash_of(b"x")], [])
    assert session.take(0.0) == [Want((hash_of(b"x"),), urgent=True)]


def test_a_block_that_a_peer_expects_is_not_hopeless():
    local = FakeLocal(1)
    site, session = opened(local)
    other = FakeLocal(2)
    other.commit(b"file", [b"x"])
    session.receive(Commits(tuple(other.log), 1, VersionVector({2: 1}), last=True), 0.0)
    site.cycle(0.0)
    session.take(0.0)
    session.receive(Lack((), (hash_of(b"x"),)), 0.0)
    assert site.exchange.look_for([hash_of(b"x")]) == ([hash_of(b"x")], [])


def test_a_block_that_was_not_asked_for_is_refused():
    _, session = opened()
    with pytest.raises(PeerError, match="not asked for"):
        session.receive(Blocks((b"anything",)), 0.0)


def test_other_bytes_than_those_asked_for_are_refused_and_not_kept():
    local = FakeLocal(1)
    site, session = opened(local)
    other = FakeLocal(2)
    other.commit(b"file", [b"x"])
    session.receive(Commits(tuple(other.log), 1, VersionVector({2: 1}), last=True), 0.0)
    site.cycle(0.0)
    session.take(0.0)
    with pytest.raises(PeerError, match="not asked for"):
        session.receive(Blocks((b"y",)), 0.0)
    assert local.store == {}


def test_too_many_blocks_asked_for_at_once_are_refused():
    _, session = opened(blocks_asked_max=10)
    with pytest.raises(PeerError, match="at once"):
        session.receive(Want(tuple(bytes([n]) * 32 for n in range(11)), urgent=False), 0.0)


def test_a_replica_restored_from_an_old_copy_is_told_so():
    network, a, b = pair()
    a.commit(b"one")
    network.run()
    network.links[0].cut()
    old = FakeLocal(1)
    network.sites[0].local = old
    network.sites[0].exchange = type(network.sites[0].exchange)(old, network.limits)
    network.connect()
    network.run()
    assert isinstance(network.links[0].error, RestoredError)
    assert "join the volume anew" in str(network.links[0].error)
    assert old.facts() == set()
    assert len(b.facts()) == 1


def test_a_store_whose_arrivals_went_back_is_an_old_copy_too():
    local = FakeLocal(1)
    site = Site(local, Limits())
    session = site.exchange.open(Site(FakeLocal(2), Limits()).identity)
    session.receive(State(VersionVector(), 0), 0.0)
    with pytest.raises(RestoredError, match="old copy"):
        session.receive(Pull(1, VersionVector()), 0.0)


@pytest.mark.parametrize(
    "message",
    [
        State(VersionVector({1: 2}), 0),
        Pull(0, VersionVector({1: 2})),
        Commits((), 1, VersionVector({1: 2}), last=True),
    ],
)
def test_a_peer_that_heard_of_own_commits_from_others_shows_an_old_copy_too(message):
    local = FakeLocal(1)
    local.commit(b"one")
    local.sync()
    session = Site(local, Limits()).exchange.open(Site(FakeLocal(2), Limits()).identity)
    session.receive(State(VersionVector({1: 1}), 0), 0.0)
    with pytest.raises(RestoredError, match="seen 2 commits of this replica, which has 1"):
        session.receive(message, 0.0)
    assert local.receives == []


@pytest.mark.parametrize("message", [Pull(0, VersionVector()), Want((), urgent=False), Answer(1)])
def test_a_state_comes_first(message):
    session = Site(FakeLocal(1), Limits()).exchange.open(Site(FakeLocal(2), Limits()).identity)
    with pytest.raises(PeerError, match="where a state was due"):
        session.receive(message, 0.0)


def test_bad_commits_change_nothing_and_come_again_after_the_next_connection():
    network, a, b = pair()
    a.log.append(pack((1, 1, b"a commit with half a hash", (b"short",))))
    a.now = VersionVector({1: 1})
    network.run()
    assert "not well-formed" in str(network.links[0].error)
    assert b.facts() == set()
    assert b.vector() == VersionVector()
    assert b.cursors == {}
    a.log.clear()
    a.now = a.durable = VersionVector()
    a.end = 0
    a.commit(b"good")
    network.links[0].error = None
    network.connect()
    network.run()
    assert network.links[0].error is None
    assert a.facts() == b.facts()


def test_a_stream_that_goes_back_is_refused():
    site, session = opened()
    session.receive(Commits((), 5, VersionVector(), last=False), 0.0)
    with pytest.raises(PeerError, match="goes back"):
        session.receive(Commits((), 4, VersionVector(), last=True), 0.0)
    assert site.local.receives == []


def test_an_answer_to_a_probe_is_about_what_was_synced_after_it_came():
    site, session = opened()
    site.cycle(0.0)
    session.take(0.0)
    mark = site.exchange.mark([session])
    session.probe(1)
    probe = session.take(0.0)
    session.receive(probe[0], 0.0)
    site.local.commit(b"unsynced")
    site.exchange.advance(mark, 0.0)  # of a sync that began before the probe came
    assert session.take(0.0) == []
    site.cycle(0.0)
    state, answer = session.take(0.0)[:2]
    assert state.vector == VersionVector({1: 1})
    assert answer == Answer(1)


def test_blocks_that_are_not_durable_count_as_missing():
    local = FakeLocal(1)
    site, session = opened(local)
    other = FakeLocal(2)
    other.commit(b"file", [b"x"])
    session.receive(Commits(tuple(other.log), 1, VersionVector({2: 1}), last=True), 0.0)
    site.cycle(0.0)
    session.take(0.0)
    mark = site.exchange.mark([session])
    local.sync()
    session.receive(Blocks((b"x",)), 0.0)  # while the sync runs
    site.exchange.advance(mark, 0.0)
    assert session.state.missing == 1
    site.cycle(0.0)
    assert session.state.missing == 0


def test_a_cursor_that_moved_over_nothing_new_is_told_late_and_makes_no_noise():
    network, a, b = pair(cursor_tell_s=10.0)
    a.commit(b"x")
    network.run()
    assert a.cursors == {}
    network.tick()
    network.now_s += 11
    network.tick()
    network.run()
    assert a.cursors == {b.store_id: 1}
    assert a.receives == [0]
    network.tick()
    network.now_s += 11
    network.tick()
    network.run()
    assert a.receives == [0]
    assert b.receives == [1]
