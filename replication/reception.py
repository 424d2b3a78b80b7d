"""Letting peers in, by either direction, and carrying their connections until they end.

Two replicas may dial each other at once.  Of two connections with one peer, the one that was dialed
by the replica with the smaller store id stays, on both sides; of two that were dialed by the same
side, the newer, since the older one is dead or will be.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from replication.auth import Acceptor, Dialer, credentials_of
from replication.client import Client
from replication.connection import (
    ENDS,
    Connection,
    ConnectionGoneError,
    Frames,
    PeerLeftError,
    WebSocket,
    WeLeftError,
    be_greeted,
    closing,
    greet,
)
from replication.dialing import Target
from replication.exchange import Exchange
from replication.limits import Limits
from replication.local import Local, PeerError, RestoredError
from replication.message import Identity, Join, Joined
from replication.session import Session
from replication.standing import Standing
from replication.worker import Worker

logger = logging.getLogger(__name__)


class Surroundings(Protocol):
    """What connections need of their hub."""

    local: Local
    limits: Limits
    worker: Worker
    exchange: Exchange
    admit: Callable[[bytes], bytes] | None
    on_restored: Callable[[str], None] | None

    def refusal(self) -> str:
        """Return why nobody is let in at the moment, "" where somebody may be."""

    def announce(self) -> None:
        """Something changed that somebody may wait for."""

    def begin_cycle(self) -> None:
        """Something changed that peers are to be told, once it is durable."""


class Reception:
    """The connections, by store id of the peer."""

    def __init__(self, hub: Surroundings) -> None:
        self.hub = hub
        self.connections: dict[bytes, Connection] = {}
        self.client: Client | None = None  # there is one once there is a loop

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self.connections.values()))

    def sessions(self) -> list[Session]:
        return [c.session for c in self if c.session is not None]

    def directions(self) -> dict[bytes, str]:
        return {c.peer.store_id: "out" if c.is_ours else "in" for c in self}

    def announce(self) -> None:
        self.hub.announce()

    async def end_all(self, why: WeLeftError) -> None:
        """Return when all sessions are closed, or soon."""
        waits = []
        for connection in self:
            connection.end(why)
            waits.append(asyncio.create_task(connection.gone.wait()))
        if waits:
            _, late = await asyncio.wait(waits, timeout=self.hub.limits.close_s)
            for wait in late:
                wait.cancel()

    async def call(self, target: Target) -> None:
        """Dial, greet, and run the connection until it ends.  Raises one of ENDS."""
        assert self.client is not None, "the hub has not been started"
        async with self.client.dialed(target.url) as frames:
            dialer = Dialer(credentials_of(self.hub.local), os.urandom(32))
            async with asyncio.timeout(self.hub.limits.greeting_s):
                peer = await greet(frames, dialer)
            await self.hub.worker.run(self.hub.local.check_peer, *peer)
            target.reached(peer.store_id)
            self.hub.exchange.standing(peer).url = target.url
            await self._serve(frames, peer, is_ours=True)

    async def serve_incoming(self, socket: WebSocket) -> None:
        try:
            async with closing(socket, self.hub.limits) as frames:
                acceptor = Acceptor(credentials_of(self.hub.local), os.urandom(32))
                async with asyncio.timeout(self.hub.limits.greeting_s):
                    peer = await be_greeted(frames, acceptor)
                if peer is None:
                    await frames.send(acceptor.welcome(None))
                    await self._admit_newcomer(frames)
                else:
                    await self.hub.worker.run(self.hub.local.check_peer, *peer)
                    await frames.send(acceptor.welcome(peer))
                    await self._serve(frames, peer, is_ours=False)
        except ENDS as error:
            logger.info("a connection from a peer ended: %s", error)

    async def _admit_newcomer(self, frames: Frames) -> None:
        message = frames.only(await frames.receive_frame(self.hub.limits.greeting_s))
        if not isinstance(message, Join) or len(message.request) > self.hub.limits.join_bytes_max:
            raise PeerError("no request to join, or too large a one")
        if self.hub.admit is None:
            raise PeerError("this replica lets nobody in")
        await frames.send(Joined(await self.hub.worker.run(self.hub.admit, message.request)))

    async def _serve(self, frames: Frames, peer: Identity, *, is_ours: bool) -> None:
        """Carry a session with a peer that may come in.  Raises one of ENDS."""
        connection = Connection(frames, peer, is_ours=is_ours)
        await self._take_place(connection)
        standing = self.hub.exchange.standing(peer)
        try:
            session = await self.hub.worker.run(self._open, connection)
            self.announce()
            self.hub.begin_cycle()  # which lets it speak
            await connection.run(session, self)
        except ENDS as error:
            self._note_end(standing, error)
            raise
        except Exception as error:
            # A fault of ours ends this connection, and not the hub.
            logger.exception("the connection to %s failed", peer.name)
            standing.error = f"this replica failed: {error!r}"
            raise ConnectionGoneError("this replica failed, see its log") from None
        finally:
            del self.connections[peer.store_id]
            self.hub.worker.post(self._close, connection)
            connection.gone.set()
            self.hub.announce()
            self.wake_all()  # what was asked of this peer is to be asked of others

    async def _take_place(self, new: Connection) -> None:
        """Become the connection with this peer.  Raises WeLeftError where another one stays."""
        store_id = new.peer.store_id
        while (old := self.connections.get(store_id)) is not None:
            keeps_ours = self.hub.local.store_id < store_id
            if old.is_ours != new.is_ours and old.is_ours == keeps_ours:
                raise WeLeftError("connected already: the other side dialed too")
            old.end(WeLeftError("replaced by another connection"))
            await old.gone.wait()
        if self.hub.refusal():
            raise WeLeftError(self.hub.refusal())
        self.connections[store_id] = new

    def _open(self, connection: Connection) -> Session:
        # Assigned in the worker: whoever waits for this may be cancelled, and `_close` comes later.
        connection.session = self.hub.exchange.open(connection.peer)
        return connection.session

    def _close(self, connection: Connection) -> None:
        if connection.session is not None:
            self.hub.exchange.close(connection.session)

    def _note_end(self, standing: Standing, error: Exception) -> None:
        if isinstance(error, WeLeftError):
            return
        says = "the peer says: " if isinstance(error, PeerLeftError) else ""
        standing.error = says + (str(error) or type(error).__name__)
        logger.info("the connection to %s ended: %s", standing.identity.name, standing.error)
        if isinstance(error, RestoredError) and self.hub.on_restored is not None:
            self.hub.worker.post(self.hub.on_restored, str(error))

    def heard(self, connection: Connection) -> None:
        self.hub.exchange.standing(connection.peer).last_contact_s = time.time()

    async def accept(self, session: Session, frame: bytes) -> None:
        await self.hub.worker.run(self.hub.exchange.receive, session, frame, time.monotonic())
        if session.has_changed:
            session.has_changed = False
            self.hub.begin_cycle()
        self._spread()
        self.hub.announce()

    async def next_frame(self, session: Session) -> bytes | None:
        frame = await self.hub.worker.run(self.hub.exchange.next_frame, session, time.monotonic())
        self._spread()
        return frame

    def connection_to(self, store_id: bytes | None) -> Connection | None:
        return None if store_id is None else self.connections.get(store_id)

    def _spread(self) -> None:
        """Let the other sessions speak, where what one has heard concerns them."""
        if self.hub.exchange.fetch.has_stirred:
            self.hub.exchange.fetch.has_stirred = False
            self.wake_all()

    def wake_all(self) -> None:
        for connection in self:
            connection.wake.set()
