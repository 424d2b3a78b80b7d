"""Blocks between hubs: who is asked for what, and what happens where nobody has it."""

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest

from crdt.blocks import hash_of
from replication.hub import BlocksUnavailableError
from replication.limits import Limits
from tests.replication.fake import FakeLocal
from tests.replication.hubs import LONG_S, commit, hubs, is_connected, is_equal, run, until


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
