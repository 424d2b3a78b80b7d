"""All peers of one replica.

Everything here runs in one asyncio loop, but for what touches the replica or a session: that is the
worker's (`replication.worker`).  `notify` and `request_blocks` may be called in any thread.

A *cycle* makes what happened known: sync, then see what is durable, then have every session say it.
While one runs, the next gathers.  What is told of blocks, and the answers to probes, are about what
was there before the sync began.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from random import Random
from typing import Any

from replication.backoff import Backoff
from replication.client import Client, address
from replication.connection import WeLeftError
from replication.dialing import Dialing, Target
from replication.exchange import Exchange
from replication.limits import Limits
from replication.local import Local, PeerError
from replication.reception import Reception
from replication.server import Server
from replication.standing import Equality, PeerStatus, unreached
from replication.worker import Worker

logger = logging.getLogger(__name__)

OFFLINE = "this replica is offline: its owner stopped all talk to peers"
STOPPED = "replication has stopped"
REPAIR_S = 1.0  # between attempts of a step that failed for reasons of our own


class BlocksUnavailableError(Exception):
    """No peer that can be reached has the blocks."""


class Hub:
    """The peers of `local`.

    `admit` answers requests of newcomers to join (it may raise PeerError); without it nobody is
    let in.  `on_restored` is called when a peer has seen commits of this replica that are not here,
    with what to tell people: nothing may be written from then on.  Both run in the worker.
    """

    def __init__(
        self,
        local: Local,
        *,
        limits: Limits | None = None,
        admit: Callable[[bytes], bytes] | None = None,
        on_restored: Callable[[str], None] | None = None,
        random: Random | None = None,
    ) -> None:
        self.local = local
        self.limits = limits or Limits()
        self.admit = admit
        self.on_restored = on_restored
        self.random = random or Random()  # noqa: S311 jitter is no secret
        self.is_paused = False
        self.error = ""  # what is wrong with this replica itself: a sync that failed
        self.exchange = Exchange(local, self.limits)
        self.worker = Worker()
        self.reception = Reception(self)
        self.dialing = Dialing(self.reception)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._requests: set[Future[None]] = set()
        self._server = Server(self.reception.serve_incoming, self.refusal, self.limits)
        self._exit = AsyncExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._dirty = asyncio.Event()
        self._is_notified = False
        self._pulse = asyncio.Event()  # replaced at each change that somebody may wait for
        self._probe_number = 0
        self._synced_blocks = 0

    # Starting and stopping

    async def start(self, listen_host: str | None, port: int = 0) -> int | None:
        """Begin to talk; listen, if there is a host to listen on.  Return the port.

        Raises OSError where it cannot listen there; the hub is stopped then.
        """
        assert self._loop is None, "a hub is started once"
        self._loop = asyncio.get_running_loop()
        try:
            self.reception.client = Client(self.limits)
            self._exit.push_async_callback(self.reception.client.close)
            self._exit.push_async_callback(self._server.stop)
            self._spawn(self._repeat(self._cycle))
            self._spawn(self._repeat(self._tick))
            bound = None if listen_host is None else await self._server.start(listen_host, port)
        except BaseException:
            await self.stop()
            raise
        if not self.is_paused:
            self.dialing.go_online()
        return bound

    async def stop(self) -> None:
        """End everything; what is under way in the worker is finished first.  May be repeated."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
        # Who waits may be cancelled; the end comes all the same.
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        self._is_stopping = True
        self.announce()
        async with AsyncExitStack() as steps:  # each is done, whatever became of those before
            steps.callback(self._fail_requests)
            steps.callback(self.worker.shutdown)
            steps.push_async_callback(self._exit.aclose)
            steps.push_async_callback(self._end_tasks)
            steps.push_async_callback(self.dialing.go_offline)
            steps.push_async_callback(self.reception.end_all, WeLeftError("this replica stops"))

    async def _end_tasks(self) -> None:
        tasks = self._tasks | self._server.tasks
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _fail_requests(self) -> None:
        for request in self._requests:
            if not request.done():
                request.set_exception(BlocksUnavailableError(STOPPED))
        self._requests.clear()

    # Whom to talk to

    def add_peer(self, url: str) -> None:
        """Keep up a connection to the peer at `url`.  Raises ValueError where this is no URL."""
        address(url)
        if url not in self.dialing.targets:
            backoff = Backoff(self.limits.backoff_min_s, self.limits.backoff_max_s, self.random)
            self.dialing.add(Target(url, backoff))

    async def remove_peer(self, url: str) -> None:
        """Dial `url` no more, and end the connection that was dialed there, if there is one."""
        target = await self.dialing.remove(url)
        if target is not None and target.store_id in self.exchange.standings:
            self.exchange.standings[target.store_id].url = None

    async def pause(self) -> None:
        """Go offline: end all connections, refuse new ones."""
        self.is_paused = True
        await self.reception.end_all(WeLeftError(OFFLINE))
        await self.dialing.go_offline()
        self.announce()

    def resume(self) -> None:
        """Go online again."""
        self.is_paused = False
        if self._loop is not None and not self._is_stopping:
            self.dialing.go_online()

    def refusal(self) -> str:
        return OFFLINE if self.is_paused else STOPPED if self._is_stopping else ""

    # What people and programs wait for

    def notify(self) -> None:
        """Something was committed: sync and tell it.  In any thread, and cheap."""
        if self._is_notified or self._loop is None:
            return
        self._is_notified = True
        try:
            self._loop.call_soon_threadsafe(self.begin_cycle)
        except RuntimeError:
            assert self._is_stopping, "the loop is closed"

    def request_blocks(self, hashes: Sequence[bytes]) -> Future[None]:
        """Have these blocks asked for before all others: a program waits.  In any thread.

        The result comes when all are here; BlocksUnavailableError where no reachable peer has one.
        """
        done: Future[None] = Future()
        wanted = tuple(hashes)
        self._requests.add(done)
        if self._loop is not None and not self._is_stopping:
            try:
                self._loop.call_soon_threadsafe(lambda: self._spawn(self._answer(wanted, done)))
            except RuntimeError:
                assert self._is_stopping, "the loop is closed"
            else:
                return done
        self._requests.discard(done)
        if not done.done():
            done.set_exception(BlocksUnavailableError(STOPPED))
        return done

    async def obtain_blocks(self, hashes: Sequence[bytes]) -> None:
        """As `request_blocks`, within the loop.  Raises BlocksUnavailableError."""
        if self.is_paused:
            raise BlocksUnavailableError(OFFLINE)
        deadline_s = time.monotonic() + self.limits.request_s
        goals = self.dialing.hurry()
        await self.worker.run(self.exchange.begin_request, hashes)
        self.reception.wake_all()
        while True:
            pulse = self._pulse  # before looking: what changes meanwhile is not missed
            absent, hopeless = await self.worker.run(self.exchange.look_for, hashes)
            if not absent:
                return
            if hopeless and not self.dialing.pending(goals):
                raise BlocksUnavailableError(f"no reachable peer has block {hopeless[0].hex()}")
            if not await _happens(pulse, deadline_s):
                raise BlocksUnavailableError(
                    f"block {absent[0].hex()} did not come within {self.limits.request_s:g} s"
                )

    async def wait_equal(self, timeout_s: float) -> Equality:
        """Wait until this replica and every peer that can be reached have the same.

        Each peer is asked to sync and say what it has after this call began; peers that are not
        connected are dialed once.  Not equal in time, offline or stopped: the reason says what is missing.
        """
        if self._is_stopping:
            return Equality(is_equal=False, peer_count=0, reason=STOPPED)
        deadline_s = time.monotonic() + timeout_s
        goals = self.dialing.hurry()
        self._probe_number += 1
        number = self._probe_number
        await self.worker.sync(self.local.sync)
        self.begin_cycle()
        while not self.refusal():
            pulse = self._pulse
            # In the order in which a peer goes through them, so that none slips through.
            reasons = [f"{target.url} is being dialed" for target in self.dialing.pending(goals)]
            names = [c.peer.name for c in self.reception if c.session is None]
            reasons += [f"{name} is being greeted" for name in names]
            reasons += await self.worker.run(self.exchange.differences, number, time.monotonic())
            count = len(self.reception.connections)
            if not reasons:
                return Equality(is_equal=True, peer_count=count, reason="")
            self.reception.wake_all()
            if not await _happens(pulse, deadline_s):
                return Equality(is_equal=False, peer_count=count, reason="; ".join(reasons))
        return Equality(is_equal=False, peer_count=0, reason=self.refusal())

    async def status(self) -> list[PeerStatus]:
        """Return what is known of each peer, those that were never reached last.

        What is to be sent is counted from what is durable, and without a connection nobody made it so.
        Nothing is known once the hub stops.
        """
        if not self.reception.connections and not self._is_stopping:
            with suppress(OSError):  # a full disk: it is asked what is wrong, above all then
                await self.worker.sync(self.local.sync)
        if self._is_stopping:
            return []
        directions = self.reception.directions()
        known = await self.worker.run(self.exchange.status, directions, time.monotonic())
        urls = {peer.url for peer in known}
        return known + [unreached(t.url, t.error) for t in self.dialing if t.url not in urls]

    async def _answer(self, hashes: tuple[bytes, ...], done: Future[None]) -> None:
        if done.set_running_or_notify_cancel():
            try:
                await self.obtain_blocks(hashes)
            except BlocksUnavailableError as error:
                done.set_exception(error)
            except Exception as error:
                logger.exception("a request for blocks failed")
                done.set_exception(BlocksUnavailableError(f"this replica failed: {error!r}"))
            else:
                done.set_result(None)
        self._requests.discard(done)

    # The tasks of the loop

    async def _cycle(self) -> None:
        await self._dirty.wait()
        self._dirty.clear()
        if not self.reception.connections:
            # Nobody to tell: no fsync for nothing, and no waking for each commit.  Whoever connects begins
            # a cycle.
            return
        self._is_notified = False  # before the sync: who commits after this notifies again
        started_s = time.monotonic()
        mark = self.exchange.mark(self.reception.sessions())
        await self.worker.sync(self.local.sync)
        await self.worker.run(self.exchange.advance, mark, time.monotonic())
        self._synced_blocks = mark.arrived_count
        self.reception.wake_all()
        self.announce()
        # A lone commit goes out at once; many in a row share their syncs.
        await asyncio.sleep(started_s + self.limits.cycle_gap_s - time.monotonic())

    async def _tick(self) -> None:
        await asyncio.sleep(self.limits.tick_s)
        for connection in self.reception:
            if connection.session is not None:
                try:
                    await self.worker.run(self.exchange.tick, connection.session, time.monotonic())
                except PeerError as error:
                    connection.end(error)
        if self.exchange.fetch.arrived_count != self._synced_blocks:
            self.begin_cycle()
        self.reception.wake_all()

    async def _repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except Exception as error:
                # A disk that fails now may not fail later; until then nothing is told.
                if isinstance(error, OSError):
                    logger.error("replication is held up: %s", error)  # noqa: TRY400  (the disk)
                else:
                    logger.exception("replication is held up")
                self.error = f"replication is held up: {error!r}"
                await asyncio.sleep(REPAIR_S)
                self._dirty.set()
            else:
                self.error = ""

    def begin_cycle(self) -> None:
        self._dirty.set()

    def announce(self) -> None:
        """Wake all who wait for a change: they look again."""
        self._pulse.set()
        self._pulse = asyncio.Event()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _happens(pulse: asyncio.Event, deadline_s: float) -> bool:
    """Wait for the pulse; return whether it came before the deadline (monotonic clock)."""
    try:
        async with asyncio.timeout(deadline_s - time.monotonic()):
            await pulse.wait()
    except TimeoutError:
        return False
    return True
