"""Peers that dial us: the HTTP side.  GET /elmer/v1 becomes a WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import ClientConnectionResetError, web

from replication.connection import WebSocket
from replication.limits import Limits

PATH = "/elmer/v1"


class Server:
    """`refusal` returns why nobody is let in at the moment, "" otherwise; `serve` runs a connection."""

    def __init__(
        self,
        serve: Callable[[WebSocket], Awaitable[None]],
        refusal: Callable[[], str],
        limits: Limits,
    ) -> None:
        self.serve = serve
        self.refusal = refusal
        self.limits = limits
        self.runner: web.AppRunner | None = None
        self.starting: asyncio.Task[int] | None = None
        self.listening: asyncio.Server | None = None
        self.tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Return the port that is listened on, which is another one if `port` is 0."""
        # Shielded: where asyncio is cancelled in `create_server`, the socket is nobody's any more.
        self.starting = asyncio.create_task(self._start(host, port))
        return await asyncio.shield(self.starting)

    async def _start(self, host: str, port: int) -> int:
        app = web.Application()
        app.router.add_get(PATH, self._handle)
        # A stopped server has ended its connections itself, so the shutdown is short.
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=self.limits.close_s)
        await self.runner.setup()
        loop = asyncio.get_running_loop()
        # Not a TCPSite: `stop` needs the sockets.
        assert self.runner.server is not None, "set up above"
        self.listening = await loop.create_server(self.runner.server, host, port)
        return int(self.listening.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self.starting is not None:
            await asyncio.wait([self.starting])
        if self.listening is not None:
            await self._stop_listening(self.listening)
        if self.runner is not None:
            await self.runner.cleanup()

    async def _stop_listening(self, listening: asyncio.Server) -> None:
        # A connection that was accepted in the turn in which the server closes is lost in Python
        # 3.11: its transport fails an assertion that nobody sees.  So accept no more first, and let
        # those that were accepted get their transport and their protocol.
        for sock in listening.sockets:
            asyncio.get_running_loop().remove_reader(sock.fileno())
        try:
            for _ in range(3):
                await asyncio.sleep(0)
        finally:
            listening.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        reason = self.refusal()
        if not reason and len(self.tasks) >= self.limits.connections_max:
            reason = "this replica has as many connections as it takes"
        if reason:
            # Closed: a client that keeps the connection alive would hold up `stop`.
            return web.Response(status=503, text=reason, headers={"Connection": "close"})
        socket = web.WebSocketResponse(
            max_msg_size=self.limits.frame_bytes_max, compress=False, timeout=self.limits.close_s
        )
        if not socket.can_prepare(request):
            return web.Response(status=426, text="a WebSocket is spoken here")
        try:
            await socket.prepare(request)
        except ClientConnectionResetError:
            return web.Response()  # to nobody: who dialed has hung up
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self.serve(socket)
        finally:
            self.tasks.discard(task)
        return socket
