"""The end of a hub, at any moment, and faults of ours: nothing is left behind, and the others go on."""

import asyncio
import socket
from concurrent.futures import Future
from contextlib import suppress

import pytest

from crdt.blocks import hash_of
from replication.hub import BlocksUnavailableError, Hub
from tests.replication.fake import FakeLocal
from tests.replication.hubs import HOST, LIMITS, LONG_S, commit, hubs, is_equal, run, until


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
def test_who_waits_for_equality_while_the_hub_stops_is_told(turn):
    async def story():
        async with hubs(FakeLocal(1), FakeLocal(2)) as (a, b):
            a.add_peer(b.url)
            assert (await a.wait_equal(LONG_S)).is_equal
            a.local.needed[hash_of(b"nobody has it")] = None
            waiting = asyncio.create_task(a.wait_equal(LONG_S))
            await turns(turn)
            await a.stop()
            assert await asyncio.wait_for(waiting, LONG_S) == (False, 0, "replication has stopped")
            assert await a.wait_equal(LONG_S) == (False, 0, "replication has stopped")

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
