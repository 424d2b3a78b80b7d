"""Peers that we dial."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from replication.auth import Credentials, Dialer
from replication.connection import ConnectionGoneError, Frames, closing, greet
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


class Client:
    """What dials.  To be made in the loop, and closed."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self.http = aiohttp.ClientSession(connector=connector)

    async def close(self) -> None:
        await self.http.close()

    @asynccontextmanager
    async def dialed(self, url: str) -> AsyncIterator[Frames]:
        """Yield a connection, not yet greeted.  Raises ConnectionGoneError where there is none."""
        async with closing(await self._connected(url), self.limits) as frames:
            yield frames

    async def _connected(self, url: str) -> aiohttp.ClientWebSocketResponse:
        try:
            async with asyncio.timeout(self.limits.connect_s):
                return await self.http.ws_connect(
                    address(url),
                    max_msg_size=self.limits.frame_bytes_max,
                    timeout=aiohttp.ClientWSTimeout(ws_close=self.limits.close_s),
                )
        except TimeoutError:
            raise ConnectionGoneError(f"{url} did not answer within {self.limits.connect_s:g} s") from None
        except aiohttp.WSServerHandshakeError as error:
            why = "it takes no connections at the moment" if error.status == 503 else error.message
            raise ConnectionGoneError(f"{url} answered {error.status}: {why}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionGoneError(f"{url}: {error}") from None


async def request_join(
    url: str,
    volume_id: bytes,
    secret: bytes,
    request: bytes,
    nonce: bytes,
    limits: Limits | None = None,
) -> bytes:
    """Return the answer of the member at `url` to a newcomer's request.

    `nonce`: 32 random bytes.  Raises PeerError where the member refuses or is none of this volume,
    ConnectionGoneError where it cannot be reached.
    """
    limits = limits or Limits()
    dialer = Dialer(Credentials(volume_id, secret, None), nonce)
    client = Client(limits)
    try:
        async with client.dialed(url) as frames:
            await greet(frames, dialer)
            await frames.send(Join(request))
            message = frames.only(await frames.receive_frame(limits.join_s))
            if not isinstance(message, Joined):
                raise PeerError(f"{type(message).__name__} where an answer was due")
            return message.answer
    finally:
        await client.close()
