"""Who a hub talks to: members of its volume, newcomers with a ticket, and nobody else."""

import os

import aiohttp
import pytest

from crdt.causality import VersionVector
from replication import wire
from replication.client import request_join
from replication.connection import ConnectionGoneError
from replication.hub import Hub
from replication.limits import Limits
from replication.local import PeerError
from replication.message import PROTOCOL_VERSION, Alive, Bye, Commits, Hello, Join, State, pack_messages
from tests.replication.fake import SECRET, VOLUME, FakeLocal
from tests.replication.hubs import LIMITS, commit, hubs, run, until


@pytest.mark.parametrize("wrong", [{"secret": b"t" * 32}, {"volume": b"w" * 16}])
@pytest.mark.parametrize("member_dials", [True, False])
def test_one_that_is_no_member_learns_nothing_and_changes_nothing(wrong, member_dials):
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2, **wrong)) as (a, stranger):
            commit(a, b"private")
            commit(stranger, b"unwanted")
            dialing, dialed = (a, stranger) if member_dials else (stranger, a)
            dialing.add_peer(dialed.url)
            target = dialing.dialing.targets[dialed.url]
            await until(lambda: target.attempt_count >= 2)
            assert "not a member" in target.error
            (peer,) = await dialing.status()
            assert peer.name is None
            assert await dialed.status() == []
            assert not a.reception.connections
            assert not stranger.reception.connections
            assert a.local.facts().isdisjoint(stranger.local.facts())

    run(story)


@pytest.mark.parametrize("member_dials", [True, False])
def test_an_evicted_peer_is_refused_and_told_why(member_dials):
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, evicted):
            a.local.refused[evicted.local.store_id] = "r2 was evicted"
            commit(a, b"private")
            dialing, dialed = (a, evicted) if member_dials else (evicted, a)
            dialing.add_peer(dialed.url)
            target = dialing.dialing.targets[dialed.url]
            await until(lambda: target.attempt_count >= 2)
            if member_dials:
                assert target.error == "r2 was evicted"
                await until(lambda: "r2 was evicted" in said_of(evicted, a))
            else:
                assert "r2 was evicted" in target.error
            assert evicted.local.facts() == set()

    run(story)


def said_of(hub, peer):
    standing = hub.exchange.standings.get(peer.local.store_id)
    return standing.error if standing else ""


def test_one_that_is_greeted_while_the_replica_goes_offline_is_refused():
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            b.local.check_peer = lambda *_: setattr(b, "is_paused", True)
            a.add_peer(b.url)
            target = a.dialing.targets[b.url]
            await until(lambda: target.attempt_count >= 2)
            assert not b.reception.connections
            assert b.local.receives == []

    run(story)


def test_dialing_oneself_is_refused():
    async def story():
        async with hubs(FakeLocal(1)) as (a,):
            a.add_peer(a.url)
            await until(lambda: a.dialing.targets[a.url].attempt_count >= 1)
            assert "this replica itself" in a.dialing.targets[a.url].error
            assert not a.reception.connections

    run(story)


async def exchanged(url, *frames):
    """Send frames as they are, and return all that is answered until the end."""
    async with aiohttp.ClientSession() as client, client.ws_connect(url + "/elmer/v1") as ws:
        for frame in frames:
            await ws.send_bytes(frame)
        return [m.data async for m in ws if m.type is aiohttp.WSMsgType.BINARY]


def test_another_version_is_refused_in_words():
    async def story():
        async with hubs(FakeLocal(1)) as (a,):
            hello = Hello(PROTOCOL_VERSION + 1, bytes(32))
            (frame,) = await exchanged(a.url, wire.PLAIN + pack_messages([hello]))
            (bye,) = wire.unseal(frame, LIMITS)
            assert isinstance(bye, Bye)
            assert "version 2" in bye.reason

    run(story)


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (b"", "unknown form"),
        (b"\xff\xff", "unknown form"),
        (wire.PLAIN + pack_messages([State(VersionVector(), 0)]), "where a hello was due"),
        (
            wire.PLAIN + pack_messages([Commits((b"x",), 1, VersionVector(), True)]),
            "where a hello was due",
        ),
        (wire.PLAIN + pack_messages([Join(bytes(5000))]), "a greeting of"),
        (wire.PLAIN + pack_messages([Alive(), Alive()]), "2 messages where one was due"),
    ],
)
def test_one_that_greets_wrongly_hears_a_reason_and_nothing_else(frame, why):
    async def story():
        async with hubs(FakeLocal(1)) as (a,):
            commit(a, b"private")
            answers = [
                message for answer in await exchanged(a.url, frame) for message in wire.unseal(answer, LIMITS)
            ]
            assert [type(message) for message in answers] == [Bye]
            assert why in answers[0].reason
            assert a.local.receives == []

    run(story)


def test_one_that_dials_and_says_nothing_is_let_go():
    async def story():
        async with hubs(FakeLocal(1), limits=Limits(greeting_s=0.1)) as (a,):
            assert await exchanged(a.url) == []
            await until(lambda: not a._server.tasks)

    run(story)


def test_a_newcomer_joins_where_it_is_admitted():
    async def story():
        async with hubs(FakeLocal(1), admit=lambda request: b"welcome, " + request) as (a,):
            answer = await request_join(a.url, VOLUME, SECRET, b"r9", os.urandom(32))
            assert answer == b"welcome, r9"
            with pytest.raises(PeerError, match="not a member"):
                await request_join(a.url, VOLUME, b"t" * 32, b"r9", os.urandom(32))
            assert await a.status() == []

    run(story)


def test_a_newcomer_hears_why_it_is_not_admitted():
    def refuse(_):
        raise PeerError("the ticket has expired")

    async def story():
        async with hubs(FakeLocal(1), admit=refuse) as (a,):
            with pytest.raises(PeerError, match="expired"):
                await request_join(a.url, VOLUME, SECRET, b"r9", os.urandom(32))
        with pytest.raises(ConnectionGoneError):
            await request_join(a.url, VOLUME, SECRET, b"r9", os.urandom(32))

    run(story)


def test_a_restored_replica_is_reported_to_its_shell():
    async def story():
        told = []
        old = FakeLocal(1)
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            commit(a, b"x")
            a.add_peer(b.url)
            await until(b.local.facts)
            await a.stop()
            restored = Hub(old, limits=LIMITS, on_restored=told.append)
            await restored.start(None)
            restored.add_peer(b.url)
            await until(lambda: told)
            await restored.stop()
        assert "join the volume anew" in told[0]

    run(story)
