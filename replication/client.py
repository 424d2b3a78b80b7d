"""Peers that we dial."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import aiohttp

from replication.auth import Credentials, Dialer
from replication.backoff import Backoff
from replication.connection import ENDS, Connection, ConnectionGoneError, Frames, closing, greet
from replication.limits import Limits
from replication.local import PeerError
from replication.message import Join, Joined
from replication.server import PATH


def address(url: str) -> str:
    """Return the WebSocket URL of `host:port`, `http://host:port` and the like."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "ws", url
    scheme = {"http": "ws", "https": "wss"}.get(scheme, scheme)
    host, _, _ = rest.partition("/")
    if scheme not in {"ws", "wss"} or not host:
        raise ValueError(f"{url}: a peer's URL is http://HOST:PORT")
    return f"{scheme}://{host}{PATH}"


def open_client() -> aiohttp.ClientSession:
    """Return what dials.  To be called in the loop, and closed."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True))


@asynccontextmanager
async def dialed(client: aiohttp.ClientSession, url: str, limits: Limits) -> AsyncIterator[Frames]:
    """Yield the connection to `url`, not yet greeted.  Raises ConnectionGoneError where there is none."""
    try:
        async with asyncio.timeout(limits.connect_s):
            socket = await client.ws_connect(
                address(url),
                max_msg_size=limits.frame_bytes_max,
                timeout=aiohttp.ClientWSTimeout(ws_close=limits.close_s),
            )
    except TimeoutError:
        raise ConnectionGoneError(f"{url} did not answer within {limits.connect_s:g} s") from None
    except aiohttp.WSServerHandshakeError as error:
        why = "it takes no connections at the moment" if error.status == 503 else error.message
        raise ConnectionGoneError(f"{url} answered {error.status}: {why}") from None
    except (aiohttp.ClientError, OSError) as error:
        raise ConnectionGoneError(f"{url}: {error}") from None
    async with closing(socket, limits) as frames:
        yield frames


async def request_join(
    url: str,
    volume_id: bytes,
    secret: bytes,
    request: bytes,
    nonce: bytes,
    limits: Limits | None = None,
) -> bytes:
    """Return the answer of the member at `url` to a newcomer's request.

    Raises PeerError where it refuses or is no member of this volume, ConnectionGoneError where it cannot
    be reached.
    """
    limits = limits or Limits()
    dialer = Dialer(Credentials(volume_id, secret, None), nonce)
    async with open_client() as client, dialed(client, url, limits) as frames:
        await greet(frames, dialer)
        await frames.send(Join(request))
        message = frames.only(await frames.receive_frame(limits.join_s))
        if not isinstance(message, Joined):
            raise PeerError(
                f"{type(message).__name__} where the answer to a request to join was due"
            )
        return message.answer


class Caller(Protocol):
    """What dialing needs of the hub."""

    limits: Limits

    async def call(self, target: Target) -> None:
        """Dial, greet, and run the connection until it ends.  Raises one of ENDS."""

    def connection_to(self, store_id: bytes | None) -> Connection | None: ...

    def attempted(self) -> None:
        """An attempt has ended, or led to a connection."""


class Target:
    """A peer that is to be dialed whenever it is not connected."""

    def __init__(self, url: str, backoff: Backoff) -> None:
        self.url = url
        self.backoff = backoff
        self.store_id: bytes | None = None  # of who answered there last
        self.error = ""
        self.attempt_count = 0  # attempts that ended, or led to a connection
        self.hurry = asyncio.Event()  # do not wait: dial now

    def reached(self, store_id: bytes) -> None:
        self.store_id = store_id
        self.error = ""
        self.backoff.succeeded()

    async def run(self, caller: Caller) -> None:
        while True:
            connection = caller.connection_to(self.store_id)
            if connection is not None:
                # It dialed us, or the same peer has two URLs.
                await connection.gone.wait()
                continue
            try:
                await caller.call(self)
            except ENDS as error:
                self.error = str(error) or type(error).__name__
            self.attempt_count += 1
            caller.attempted()
            await self._pause()

    async def _pause(self) -> None:
        self.hurry.clear()
        try:
            async with asyncio.timeout(self.backoff.failed()):
                await self.hurry.wait()
        except TimeoutError:
            pass
