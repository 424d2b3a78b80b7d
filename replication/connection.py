"""A session on a WebSocket.

Three tasks: one reads, one writes what the session has to say, one says that we are alive.  The
session itself runs in the hub's worker thread, as all that touches the replica does, so the loop
stays free to answer others.  A writer asks for the next frame when the socket has taken the last:
what a slow peer does not read is not produced.

Nothing here depends on which side dialed, and nothing imports aiohttp: both its WebSockets have this
shape.
"""

from __future__ import annotations

import asyncio
import socket as sockets
from asyncio.trsock import TransportSocket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from replication import wire
from replication.auth import Acceptor, Dialer
from replication.limits import Limits
from replication.local import PeerError
from replication.message import Bye, Identity, Message
from replication.session import Session

BINARY = 0x2  # opcode, RFC 6455 section 11.8


class ConnectionGoneError(Exception):
    """The connection ended, and nobody broke the protocol."""


class WeLeftError(ConnectionGoneError):
    """This side ends the connection, and says why."""


class PeerLeftError(PeerError):
    """The peer ended the connection, and said why."""


class Received(Protocol):
    @property
    def type(self) -> int: ...

    @property
    def data(self) -> object: ...


class WebSocket(Protocol):
    async def send_bytes(self, data: bytes) -> None: ...

    async def receive(self, timeout: float | None = None) -> Received: ...  # noqa: ASYNC109 as in aiohttp

    async def close(self) -> bool: ...

    def get_extra_info(self, name: str) -> object: ...


ENDS = (PeerError, ConnectionGoneError, OSError)  # how a connection ends in the course of things


class Frames:
    """Messages over one WebSocket."""

    def __init__(self, socket: WebSocket, limits: Limits) -> None:
        self.socket = socket
        self.limits = limits

    async def receive_frame(self, timeout_s: float) -> bytes:
        """Raises ConnectionGoneError where the connection has ended or nothing comes in time."""
        try:
            message = await self.socket.receive(timeout=timeout_s)
        except TimeoutError:
            raise ConnectionGoneError(f"nothing was heard for {timeout_s:g} s") from None
        if message.type != BINARY:
            raise ConnectionGoneError("the connection was closed")
        assert isinstance(message.data, bytes)
        return message.data

    async def receive_greeting(self) -> Message:
        """Return one message of somebody who is not known yet.  Raises PeerError, ConnectionGoneError."""
        frame = await self.receive_frame(self.limits.greeting_s)
        if len(frame) > self.limits.greeting_bytes_max:
            raise PeerError(f"a greeting of {len(frame)} bytes")
        return self.only(frame)

    def only(self, frame: bytes) -> Message:
        """Raises PeerError, PeerLeftError where the message is a Bye."""
        messages = wire.unseal(frame, self.limits)
        if len(messages) != 1:
            raise PeerError(f"{len(messages)} messages where one was due")
        if isinstance(messages[0], Bye):
            raise PeerLeftError(messages[0].reason)
        return messages[0]

    async def send(self, message: Message) -> None:
        await self.socket.send_bytes(wire.seal([message], self.limits))

    async def close(self, reason: str | None) -> None:
        """Say why (None: nothing is to be said) and close, whatever state the connection is in."""
        try:
            if reason is not None:
                with suppress(OSError):
                    async with asyncio.timeout(self.limits.close_s):
                        await self.send(Bye(reason))
            # Though it could not be told: aiohttp lets go of a dead connection only here.
            with suppress(OSError):
                async with asyncio.timeout(self.limits.close_s):
                    await self.socket.close()
        finally:
            # A transport with unsent data waits for the peer to take it, which a dead one never
            # does.  A socket that is shut down fails the next write, and the transport lets go.
            transport_socket = self.socket.get_extra_info("socket")
            if isinstance(transport_socket, TransportSocket):
                with suppress(OSError):
                    transport_socket.shutdown(sockets.SHUT_RDWR)


@asynccontextmanager
async def closing(socket: WebSocket, limits: Limits) -> AsyncIterator[Frames]:
    """Close the socket at the end; where that is this side's doing, the peer is told why."""
    frames = Frames(socket, limits)
    reason: str | None = "this replica ends all its connections"  # where we are cancelled
    try:
        yield frames
        reason = None
    except PeerLeftError:
        reason = None
        raise
    except (PeerError, WeLeftError) as error:
        reason = str(error)
        raise
    except (ConnectionGoneError, OSError):
        reason = None
        raise
    finally:
        await frames.close(reason)


async def greet(frames: Frames, dialer: Dialer) -> Identity:
    """Return who was dialed.  Raises PeerError, ConnectionGoneError."""
    await frames.send(dialer.hello())
    await frames.send(dialer.prove(await frames.receive_greeting()))
    return dialer.accept(await frames.receive_greeting())


async def be_greeted(frames: Frames, acceptor: Acceptor) -> Identity | None:
    """Return who dialed, to be welcomed or not; None for a newcomer."""
    await frames.send(acceptor.challenge(await frames.receive_greeting()))
    return acceptor.identify(await frames.receive_greeting())


class Host(Protocol):
    """What a connection needs of its hub."""

    def heard(self, connection: Connection) -> None:
        """Something came from the peer."""

    async def accept(self, session: Session, frame: bytes) -> None:
        """Give the session what came.  Raises PeerError."""

    async def next_frame(self, session: Session) -> bytes | None:
        """Return what the session has to say, None for nothing."""


class Connection:
    """A peer that has been let in.  `is_ours`: it was dialed from here."""

    def __init__(self, frames: Frames, peer: Identity, *, is_ours: bool) -> None:
        self.frames = frames
        self.peer = peer
        self.is_ours = is_ours
        self.session: Session | None = None
        self.wake = asyncio.Event()  # the session may have something to say
        self.gone = asyncio.Event()  # the session is closed; another one with the peer may begin
        self.ending: asyncio.Future[WeLeftError | PeerError] = asyncio.get_running_loop().create_future()

    def end(self, why: WeLeftError | PeerError) -> None:
        """Have the connection end soon; the peer is told why."""
        if not self.ending.done():
            self.ending.set_result(why)

    async def run(self, session: Session, host: Host) -> None:
        """Carry the session until the connection ends, and raise why: one of ENDS."""
        # No TaskGroup: in Python 3.11 it leaves the task that waits for it marked as cancelled, so that
        # a later timeout ends that task, and it drops a cancellation where a child fails as well.
        tasks = [
            asyncio.create_task(work)
            for work in (
                self._read(session, host), self._write(session, host), self._beat(), self._watch()
            )
        ]  # fmt: skip
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended = [task for task in tasks if task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            late = [task for task in tasks if task not in ended and not task.cancelled()]
            errors = [task.exception() for task in ended + late]
        # The reader comes first and knows best why: what others say of a connection that is gone
        # follows from it.
        raise next(error for error in errors if error is not None)

    async def _read(self, session: Session, host: Host) -> None:
        while True:
            frame = await self.frames.receive_frame(self.frames.limits.silence_s)
            host.heard(self)
            if frame != wire.ALIVE:
                await host.accept(session, frame)
                self.wake.set()

    async def _write(self, session: Session, host: Host) -> None:
        while True:
            self.wake.clear()  # before asking: what changes from here on is asked for again
            frame = await host.next_frame(session)
            if frame is None:
                await self.wake.wait()
            else:
                await self.frames.socket.send_bytes(frame)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.frames.limits.heartbeat_s)
            await self.frames.socket.send_bytes(wire.ALIVE)

    async def _watch(self) -> None:
        # Shielded: a cancelled task must not cancel what `end` is about to set.
        raise await asyncio.shield(self.ending)
