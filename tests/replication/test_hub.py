"""Hubs on loopback: real sockets, real time, and no assertion that depends on it."""

import asyncio
import gc
import os
import socket
import stat
import threading
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import aiohttp
import pytest

from crdt.blocks import hash_of
from crdt.causality import VersionVector
from replication import wire
from replication.client import request_join
from replication.connection import ConnectionGoneError
from replication.hub import BlocksUnavailableError, Hub
from replication.limits import Limits
from replication.local import PeerError
from replication.message import (
    PROTOCOL_VERSION,
    Alive,
    Bye,
    Commits,
    Hello,
    Join,
    State,
    pack_messages,
)
from tests.replication.fake import SECRET, VOLUME, FakeLocal

LONG_S = 60.0
# Without ticks: whoever forgets to wake somebody is not saved by the next one.
LIMITS = Limits(backoff_min_s=0.01, backoff_max_s=0.05, tick_s=1000.0, heartbeat_s=0.2)
HOST = "127.0.0.1"


def sockets_open() -> set[str]:
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISSOCK(os.fstat(int(fd)).st_mode):
                found.add(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue  # the directory that is being listed
    return found


def run(story):
    """Run a story, and see that it leaves no socket, task or thread."""
    sockets, threads = sockets_open(), set(threading.enumerate())

    async def told():
        await story()
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})

    asyncio.run(told())
    gc.collect()
    assert sockets_open() <= sockets
    assert set(threading.enumerate()) <= threads


async def until(condition) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def hubs(*locals_, limits=LIMITS, **options):
    """Yield a listening hub for each replica; none dials yet."""
    running = []
    async with AsyncExitStack() as stack:
        for local in locals_:
            hub = Hub(local, limits=limits, **options)
            running.append(hub)
            stack.push_async_callback(hub.stop)
            hub.url = f"http://{HOST}:{await hub.start(HOST)}"
        yield running


def commit(hub, payload=b"x", blocks=()):
    hub.local.commit(payload, blocks)
    hub.notify()


def is_equal(*some) -> bool:
    return len({frozenset(hub.local.facts()) for hub in some}) == 1


def is_connected(*some) -> bool:
    return all(hub.reception.connections for hub in some)


def test_a_commit_arrives_without_anybody_polling():
    async def story():
        # With heartbeats and ticks out of the way only the push itself can carry it.
        limits = Limits(heartbeat_s=1000.0, silence_s=1000.0, tick_s=1000.0)
        async with hubs(FakeLocal(1), FakeLocal(2), limits=limits) as (a, b):
            a.add_peer(b.url)
            assert (await a.wait_equal(LONG_S)).peer_count == 1
            for n in range(20):
                commit(a, b"a%d" % n)
                await until(lambda: is_equal(a, b))
                commit(b, b"b%d" % n)
                await until(lambda: is_equal(a, b))
            assert len(a.local.facts()) == 40

    run(story)


def test_both_dialing_each_other_end_with_one_connection():
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            a.add_peer(b.url)
            b.add_peer(a.url)
            await until(lambda: is_connected(a, b))
            for n in range(20):
                commit(a, b"%d" % n)
                commit(b, b"%d" % n)
            await until(lambda: is_equal(a, b) and len(a.local.facts()) == 40)
            await until(
                lambda: (
                    is_connected(a, b)
                    and [c.is_ours for c in a.reception.connections.values()] == [True]
                    and [c.is_ours for c in b.reception.connections.values()] == [False]
                )
            )
            assert (await a.wait_equal(LONG_S)).is_equal
            assert (await b.wait_equal(LONG_S)).is_equal

    run(story)


def test_the_connection_that_the_smaller_store_id_dialed_stays():
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            a.add_peer(b.url)
            await until(lambda: is_connected(a, b))
            before = list(a.reception) + list(b.reception)
            b.add_peer(a.url)
            await until(lambda: b.dialing.targets[a.url].attempt_count)
            assert list(a.reception) + list(b.reception) == before
            assert "connected already" in b.dialing.targets[a.url].error

    run(story)


def test_the_connection_that_the_greater_store_id_dialed_gives_way():
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            b.add_peer(a.url)
            await until(lambda: is_connected(a, b))
            a.add_peer(b.url)
            await until(
                lambda: (
                    [c.is_ours for c in a.reception] == [True] and [c.is_ours for c in b.reception] == [False]
                )
            )
            commit(a)
            await until(lambda: is_equal(a, b))

    run(story)


def test_a_peer_with_two_urls_has_one_connection_and_keeps_it():
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            a.add_peer(b.url)
            a.add_peer(b.url.removeprefix("http://"))
            await until(lambda: all(target.store_id for target in a.dialing))
            await until(lambda: is_connected(a, b))
            assert (await a.wait_equal(LONG_S)).is_equal
            (connection,) = a.reception
            heard = set()
            await until(
                lambda: heard.add(a.exchange.standing(connection.peer).last_contact_s) or len(heard) > 5
            )
            assert list(a.reception) == [connection]

    run(story)


def test_a_hub_with_nothing_to_say_rests():
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            a.add_peer(b.url)
            assert (await a.wait_equal(LONG_S)).is_equal
            asked = []
            ask = a.exchange.next_frame
            a.exchange.next_frame = lambda *args: asked.append(args) or ask(*args)
            (connection,) = a.reception
            heard = set()
            await until(
                lambda: heard.add(a.exchange.standing(connection.peer).last_contact_s) or len(heard) > 5
            )
            assert len(asked) < 10

    run(story)


def test_a_line_of_three_converges_with_its_blocks():
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2), FakeLocal(3)) as (a, b, c):
            a.add_peer(b.url)
            c.add_peer(b.url)
            for n in range(200):
                commit(a, b"%d" % n, [b"block %d" % n * 100])
            await until(lambda: len(c.local.store) == 200)
            await until(lambda: is_equal(a, b, c))
            for hub in (a, b, c):
                assert (await hub.wait_equal(LONG_S)).is_equal

    run(story)


def test_after_a_cut_they_find_each_other_again():
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            a.add_peer(b.url)
            for n in range(5):
                commit(b, b"%d" % n)
                await until(lambda: is_connected(a, b) and is_equal(a, b))
                for connection in list(b.reception.connections.values()):
                    connection.frames.socket.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
                    await connection.gone.wait()
            commit(a, b"at last")
            await until(lambda: is_equal(a, b))

    run(story)


class Relay:
    """Carries bytes between a hub and a peer, and can fall silent as a cut cable does."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.is_silent = False
        self.writers: list[asyncio.StreamWriter] = []
        self.tasks: set[asyncio.Task] = set()

    async def start(self) -> str:
        self.server = await asyncio.start_server(self.carry, HOST, 0)
        return "http://{}:{}".format(*self.server.sockets[0].getsockname())

    async def carry(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        self.writers.append(writer)
        if self.is_silent:
            return
        far_reader, far_writer = await asyncio.open_connection(HOST, self.port)
        self.writers.append(far_writer)
        self.tasks.add(asyncio.create_task(self.pump(reader, far_writer)))
        self.tasks.add(asyncio.create_task(self.pump(far_reader, writer)))

    async def pump(self, reader, writer):
        try:
            while data := await reader.read(65536):
                if not self.is_silent:
                    writer.write(data)
                    await writer.drain()
            writer.close()
        except OSError:
            writer.close()

    async def stop(self):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for writer in self.writers:
            writer.transport.abort()
        await self.server.wait_closed()


def test_a_peer_that_falls_silent_is_noticed_and_found_again():
    async def story():
        limits = Limits(
            heartbeat_s=0.05, silence_s=0.5, connect_s=0.3, greeting_s=0.3, backoff_max_s=0.2,
            close_s=0.2,
        )  # fmt: skip
        async with hubs(FakeLocal(1), FakeLocal(2), limits=limits) as (a, b):
            relay = Relay(int(b.url.rpartition(":")[2]))
            a.add_peer(await relay.start())
            try:
                commit(a, b"before")
                await until(lambda: is_connected(a, b) and is_equal(a, b))
                relay.is_silent = True
                commit(a, b"meanwhile")
                await until(lambda: not a.reception.connections and not b.reception.connections)
                (peer,) = await a.status()
                assert "nothing was heard for 0.5 s" in peer.error
                assert not peer.is_connected
                relay.is_silent = False
                await until(lambda: is_equal(a, b))
            finally:
                await relay.stop()

    run(story)


def test_one_that_is_dialed_and_never_answers_is_given_up():
    async def story():
        async with hubs(FakeLocal(1), limits=Limits(connect_s=0.1)) as (a,):
            relay = Relay(0)
            relay.is_silent = True
            url = await relay.start()
            a.add_peer(url)
            try:
                await until(lambda: a.dialing.targets[url].attempt_count)
                assert "did not answer within 0.1 s" in a.dialing.targets[url].error
            finally:
                await relay.stop()

    run(story)


def test_a_connection_that_only_heartbeats_keeps_is_kept():
    async def story():
        limits = Limits(heartbeat_s=0.05, silence_s=0.5, tick_s=1000.0)
        async with hubs(FakeLocal(1), FakeLocal(2), limits=limits) as (a, b):
            a.add_peer(b.url)
            await until(lambda: is_connected(a, b))
            (connection,) = a.reception.connections.values()
            heard = set()
            await until(
                lambda: heard.add(a.exchange.standing(connection.peer).last_contact_s) or len(heard) > 20
            )
            assert list(a.reception.connections.values()) == [connection]

    run(story)


def test_offline_refuses_and_online_catches_up():
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            a.add_peer(b.url)
            await until(lambda: is_connected(a, b))
            await b.pause()
            assert not b.reception.connections
            commit(a, b"while b is offline")
            commit(b, b"while offline")
            await until(lambda: not a.reception.connections)
            answer = await a.wait_equal(LONG_S)
            assert answer == (True, 0, "")  # nobody can be reached
            (peer,) = await a.status()
            assert "offline" in peer.error
            assert (await b.wait_equal(LONG_S)) == (False, 0, answer_of_offline())
            async with aiohttp.ClientSession() as client, client.get(b.url + "/elmer/v1") as reply:
                assert reply.status == 503
                assert "offline" in await reply.text()
            assert len(b.local.facts()) == 1
            b.resume()
            assert (await b.wait_equal(LONG_S)).is_equal
            await until(lambda: is_equal(a, b))
            await a.pause()
            a.resume()
            await until(lambda: is_connected(a, b))

    run(story)


def answer_of_offline():
    return "this replica is offline: its owner stopped all talk to peers"


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


def test_a_block_that_a_program_waits_for_comes():
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            a.local.commit(b"file", [b"content"])
            a.add_peer(b.url)
            await until(b.local.facts)
            done = await asyncio.to_thread(b.request_blocks, [hash_of(b"content")])
            await asyncio.wait_for(asyncio.wrap_future(done), LONG_S)
            assert b.local.store[hash_of(b"content")] == b"content"

    run(story)


def test_a_replica_whose_disk_is_full_asks_only_for_what_a_program_waits_for():
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            b.local.is_full = True
            blocks = [b"one", b"two"]
            commit(a, b"file", blocks)
            b.add_peer(a.url)
            await until(lambda: b.local.facts() == a.local.facts())
            await asyncio.wrap_future(b.request_blocks([hash_of(b"two")]))
            assert b.local.blocks(map(hash_of, blocks)) == [None, b"two"]
            assert not (await b.wait_equal(0)).is_equal
            b.local.is_full = False
            b.reception.wake_all()  # as each tick does
            await until(lambda: b.local.blocks(map(hash_of, blocks)) == blocks)

    run(story)


def test_a_block_that_is_lost_everywhere_fails_at_the_end_of_a_line_too():
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2), FakeLocal(3)) as (a, b, c):
            commit(a, b"file", [b"content"])
            del a.local.store[hash_of(b"content")]
            a.add_peer(b.url)
            b.add_peer(c.url)
            await until(lambda: is_equal(a, b, c))
            done = c.request_blocks([hash_of(b"content")])
            with pytest.raises(BlocksUnavailableError, match="no reachable peer has"):
                await asyncio.wait_for(asyncio.wrap_future(done), LONG_S)

    run(story)


def test_a_peer_says_by_itself_when_its_blocks_are_there():
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            a.add_peer(b.url)
            await until(lambda: is_connected(a, b))
            states = []

            def told():
                (standing,) = a.exchange.standings.values()
                states.append(standing.state)
                return standing.state is not None and standing.state.vector.of(1) == 1

            commit(a, b"file", [b"content"])
            await until(lambda: told() and states[-1].missing == 0)
            assert b.local.store

    run(story)


@asynccontextmanager
async def asked_in_vain():
    """Yield c, and a, which was asked for a block by it and does not answer; b has the block."""
    async with hubs(FakeLocal(1), FakeLocal(2), FakeLocal(3)) as (a, b, c):
        answer, asked = threading.Event(), threading.Event()

        def blocks(hashes):
            asked.set()
            answer.wait(LONG_S)
            return [None] * len(hashes)

        a.local.blocks = blocks
        b.local.store[hash_of(b"content")] = b"content"
        c.add_peer(a.url)
        c.add_peer(b.url)
        try:
            await until(lambda: len(c.reception.connections) == 2)
            assert (await c.wait_equal(LONG_S)).is_equal
            commit(a, b"file", [b"content"])
            await until(lambda: asked.is_set() and is_equal(a, b, c))
            # What the commit set going at c has come to rest when b has heard of it and c knows.
            b_at_c = c.exchange.standing(next(x.peer for x in c.reception if x.peer.name == "r2"))
            await until(lambda: b_at_c.state.vector.of(1) == 1)
            yield a, c, answer
            await until(lambda: hash_of(b"content") in c.local.store)
        finally:
            answer.set()


def test_a_peer_is_asked_as_soon_as_another_one_lacks_a_block():
    async def story():
        async with asked_in_vain() as (_, _, answer):
            answer.set()

    run(story)


def test_a_peer_is_asked_as_soon_as_another_one_goes_away():
    async def story():
        async with asked_in_vain() as (a, c, _):
            await c.remove_peer(a.url)

    run(story)


def test_a_block_that_nobody_can_give_fails():
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            commit(a, b"file", [b"content"])
            del a.local.store[hash_of(b"content")]
            b.add_peer(a.url)
            await until(lambda: is_connected(a, b) and b.local.facts())
            done = b.request_blocks([hash_of(b"content")])
            with pytest.raises(BlocksUnavailableError, match="no reachable peer has"):
                await asyncio.wait_for(asyncio.wrap_future(done), LONG_S)
            await b.pause()
            done = b.request_blocks([hash_of(b"content")])
            with pytest.raises(BlocksUnavailableError, match="offline"):
                await asyncio.wait_for(asyncio.wrap_future(done), LONG_S)
        with pytest.raises(BlocksUnavailableError, match="stopped"):
            b.request_blocks([hash_of(b"content")]).result(LONG_S)

    run(story)


def test_a_block_is_waited_for_while_its_peer_is_being_dialed():
    async def story():
        async with hubs(
            FakeLocal(1), FakeLocal(2), limits=Limits(backoff_min_s=1000.0, backoff_max_s=1000.0)
        ) as (a, b):
            commit(a, b"file", [b"content"])
            b.add_peer(a.url)
            await until(lambda: len(b.local.store) == 1)
            await a.pause()
            await until(lambda: not b.reception.connections)
            a.local.commit(b"more", [b"other"])
            b.local.needed[hash_of(b"other")] = None
            a.resume()
            await asyncio.wait_for(b.obtain_blocks([hash_of(b"other")]), LONG_S)

    run(story)


def test_waiting_for_equality_says_what_is_missing():
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            commit(a, b"file", [b"content"])
            del a.local.store[hash_of(b"content")]
            b.add_peer(a.url)
            await until(lambda: is_connected(a, b) and b.local.facts())
            answer = await b.wait_equal(0.3)
            assert not answer.is_equal
            assert "1 blocks or more are to come" in answer.reason
            answer = await a.wait_equal(0.3)
            assert "r2 lacks 1 blocks" in answer.reason

    run(story)


def test_equality_is_of_what_the_peer_has_now():
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            a.add_peer(b.url)
            assert (await a.wait_equal(LONG_S)).is_equal
            for n in range(50):
                b.local.commit(b"%d" % n)  # and nobody is notified
                assert (await a.wait_equal(LONG_S)).is_equal
                assert is_equal(a, b)
                a.local.commit(b"%d" % n)
                assert (await a.wait_equal(LONG_S)).is_equal
                assert is_equal(a, b)

    run(story)


def test_status_says_how_far_apart_they_are():
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            a.add_peer(b.url)
            a.add_peer(f"{HOST}:1")
            assert (await a.wait_equal(LONG_S)).is_equal
            await b.pause()
            await until(lambda: not a.reception.connections)
            for _ in range(3):
                a.local.commit(b"x")
            a.local.sync()
            peer, unknown = await a.status()
            assert (peer.name, peer.replica, peer.url) == ("r2", 2, b.url)
            assert (peer.commits_to_send, peer.commits_to_receive) == (3, 0)
            assert peer.seconds_since_equal is not None
            assert peer.last_contact_s is not None
            assert (unknown.name, unknown.url, unknown.is_connected) == (None, f"{HOST}:1", False)
            assert unknown.error

    run(story)


def test_a_removed_peer_is_dialed_no_more():
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            a.add_peer(b.url)
            await until(lambda: is_connected(a, b))
            await a.remove_peer(b.url)
            await until(lambda: not a.reception.connections and not b.reception.connections)
            commit(a, b"x")
            assert (await a.wait_equal(LONG_S)).peer_count == 0
            assert b.local.facts() == set()
            with pytest.raises(ValueError, match="a peer's URL"):
                a.add_peer("ftp://x")

    run(story)


def test_a_fault_of_ours_ends_the_connection_and_not_the_hub(expect_logs):
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            commit(a, b"x")
            good, b.local.receive = b.local.receive, None
            a.add_peer(b.url)
            await until(lambda: any("this replica failed" in s.error for s in b.exchange.standings.values()))
            b.local.receive = good
            await until(lambda: is_equal(a, b))

    expect_logs("the connection to r1 failed")
    run(story)


def test_a_fault_of_ours_while_a_peer_is_let_in_ends_the_connection_and_not_the_dialing(expect_logs):
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            commit(a, b"x")
            good, b.local.check_peer = b.local.check_peer, None
            b.add_peer(a.url)
            await until(lambda: any("this replica failed" in target.error for target in b.dialing))
            b.local.check_peer = good
            await until(lambda: is_equal(a, b))

    expect_logs("the connection to http.* failed")
    run(story)


def test_a_fault_of_ours_while_a_block_is_waited_for_is_told_to_who_waits(expect_logs):
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (_, b):
            good, b.local.blocks = b.local.blocks, None
            waiting = asyncio.wrap_future(b.request_blocks([b"h" * 32]))
            with pytest.raises(BlocksUnavailableError, match="this replica failed"):
                await asyncio.wait_for(waiting, LONG_S)
            b.local.blocks = good

    expect_logs("a request for blocks failed")
    run(story)


def test_a_sync_that_fails_tells_nothing_and_is_tried_again(expect_logs):
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            a.add_peer(b.url)
            assert (await a.wait_equal(LONG_S)).is_equal

            def fail():
                raise OSError(5, "Input/output error")

            good, a.local.sync = a.local.sync, fail
            commit(a, b"x")
            await until(lambda: "Input/output error" in a.error)
            assert b.local.facts() == set()
            a.local.sync = good
            await until(lambda: is_equal(a, b))
            await until(lambda: a.error == "")

    expect_logs("replication is held up")
    run(story)


def test_no_delay_is_set_on_both_sides():
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            a.add_peer(b.url)
            await until(lambda: is_connected(a, b))
            for hub in (a, b):
                (connection,) = hub.reception.connections.values()
                sock = connection.frames.socket.get_extra_info("socket")
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(story)


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing():
    async def story():
        async with hubs(FakeLocal(1)) as (a,):
            other = Hub(FakeLocal(2), limits=LIMITS)
            with pytest.raises(OSError, match="in use"):
                await other.start(HOST, int(a.url.rpartition(":")[2]))

    run(story)


def test_a_hub_that_is_stopped_in_the_middle_of_a_catch_up_leaves_nothing():
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            for n in range(3000):
                a.local.commit(b"%d" % n, [b"block %d" % n * 50])
            a.notify()
            a.add_peer(b.url)
            await until(lambda: len(b.local.store) > 100)
            done = b.request_blocks([bytes(32)])
            await b.stop()
            assert isinstance(done, Future)
            with pytest.raises(BlocksUnavailableError):
                done.result(LONG_S)

    run(story)


@pytest.mark.parametrize("turn", range(12))
def test_one_that_dials_while_the_hub_stops_leaves_nothing(turn):
    async def story():
        async with hubs(FakeLocal(1)) as (a,):
            with socket.create_connection((HOST, int(a.url.rpartition(":")[2]))):
                stopping = asyncio.create_task(a.stop())
                await turns(turn)
                # Refused where nobody listens any more.
                with (
                    suppress(ConnectionRefusedError),
                    socket.create_connection((HOST, int(a.url.rpartition(":")[2]))),
                ):
                    await stopping
                await stopping

    run(story)


async def a_day():
    async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
        a.add_peer(b.url)
        b.add_peer(a.url)
        commit(a, b"x", [b"block"])
        await a.wait_equal(LONG_S)
        await b.pause()
        b.resume()
        await b.wait_equal(LONG_S)
        await a.obtain_blocks([hash_of(b"block")])


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("turn", [*range(60), *range(60, 600, 20)])
def test_cancelled_at_any_turn_of_the_loop_it_leaves_nothing(turn):
    async def story():
        task = asyncio.create_task(a_day())
        await turns(turn)
        task.cancel()
        await asyncio.wait([task])

    run(story)


@pytest.mark.parametrize("turn", range(40))
def test_cancelled_again_while_it_stops_it_leaves_nothing(turn):
    async def story():
        task = asyncio.create_task(a_day())
        await turns(200)
        task.cancel()
        await turns(turn)
        task.cancel()
        await asyncio.wait([task])

    run(story)


def test_a_hub_that_stops_knows_of_no_peer():
    """Whoever reads `.elmer/status.json` while a mount in use is ended asks for it."""

    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            a.add_peer(b.url)
            assert (await a.wait_equal(LONG_S)).is_equal
            await a.stop()
            assert await a.status() == []
            b.add_peer("http://127.0.0.1:1")
            asking = asyncio.create_task(b.status())
            await b.stop()
            assert len(await asking) <= 2

    run(story)
