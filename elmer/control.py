"""The control socket: commands of people to the daemon, as JSON over HTTP on a unix socket.

    POST /COMMAND   {"argument": value, ...}
    200             {"result": value, ...}
    409             {"error": "one line for a person", "status": exit status}

The socket lies in the store directory, which only its owner may enter; that is its only protection.
The other end is elmer.ask.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from elmer.ask import REFUSED
from elmer.directory import reachable
from elmer.exits import CommandError, ExitStatus

Command = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

SOCKET_MODE = 0o600
SHUTDOWN_S = 1.0


class Control:
    def __init__(self, path: Path, commands: Mapping[str, Command]) -> None:
        self.path = path
        self.commands = commands
        application = web.Application()
        application.router.add_post("/{command}", self._answer)
        self.runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_S)

    async def start(self) -> None:
        await self.runner.setup()
        await web.SockSite(self.runner, self._listen()).start()

    async def stop(self) -> None:
        """Take no more commands; those that are being answered have a second left."""
        await self.runner.cleanup()
        self._remove()

    def _listen(self) -> socket.socket:
        # A killed daemon leaves its socket.  Nobody else uses it: we have the store for ourselves.
        self._remove()
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with reachable(self.path) as address:
            listening.bind(address)
        self.path.chmod(SOCKET_MODE)
        return listening

    def _remove(self) -> None:
        self.path.unlink(missing_ok=True)

    async def _answer(self, request: web.Request) -> web.Response:
        command = self.commands.get(request.match_info["command"])
        if command is None:
            raise web.HTTPNotFound
        try:
            return web.json_response(await command(await request.json()))
        except CommandError as error:
            said = {"error": str(error), "status": int(error.status)}
        except OSError as error:
            said = {"error": _told(error), "status": int(ExitStatus.NOT_SO)}
        return web.json_response(said, status=REFUSED)


def _told(error: OSError) -> str:
    """What the disk says, for a person: it may be full, and is no bug of ours."""
    where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    return f"{where}{error.strerror or error}; `elmer status` says how the store stands"
