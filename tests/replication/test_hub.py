"""Hubs on loopback: how they find each other, stay together and catch up."""

import asyncio
import socket

import aiohttp
import pytest

from crdt.blocks import hash_of
from replication.limits import Limits
from tests.replication.fake import FakeLocal
from tests.replication.hubs import HOST, LONG_S, commit, hubs, is_connected, is_equal, run, until


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


def answer_of_offline():
    return "this replica is offline: its owner stopped all talk to peers"


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
