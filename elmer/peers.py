"""Whom this replica talks to: what a person set, in the hub and in config.json alike.

Runs in the loop of the hub, but for `admit` and `stop_as_restored`: they are called in its worker
thread, and never wait for the loop, since a hub that stops has the loop wait for the worker.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from elmer import config as configuration
from elmer.address import peer_url
from elmer.config import Config
from elmer.directory import StoreDirectory
from elmer.exits import CommandError, ExitStatus
from elmer.joining import decode_request, encode_members, encode_refusal
from replication.hub import Hub
from replication.local import PeerError
from translation.replica import Replica

log = logging.getLogger(__name__)


class Peers:
    def __init__(
        self,
        directory: StoreDirectory,
        config: Config,
        replica: Replica,
        lock: AbstractContextManager[Any],
    ) -> None:
        self.directory = directory
        self.config = config
        self.replica = replica
        self.lock = lock
        self.hub: Hub
        self.loop: asyncio.AbstractEventLoop

    def set(self, config: Config) -> None:
        if config != self.config:
            configuration.save(self.directory.config, config)
            self.config = config

    def add(self, url: str) -> None:
        self.set(self.config.with_peer(url))
        self.hub.add_peer(url)

    async def remove(self, named: str) -> list[str]:
        """Forget the peer of this name or URL; return the URLs it had.

        Raises CommandError (USAGE) where there is none.
        """
        status = await self.hub.status()
        urls = [peer.url for peer in status if peer.name == named and peer.url is not None]
        urls += [url for url in self.config.peers if url == named]
        if not urls:
            raise unknown_peer(named)
        for url in urls:
            self.set(self.config.without_peer(url))
            await self.hub.remove_peer(url)
        return urls

    async def go_offline(self) -> None:
        self.set(replace(self.config, offline=True))
        await self.hub.pause()

    def go_online(self) -> None:
        """Raises CommandError (STORE) where this replica must not meet others again."""
        self.config.check_may_go_on()
        self.set(replace(self.config, offline=False))
        self.hub.resume()

    def admit(self, request: bytes) -> bytes:
        """Answer a newcomer's request to join.  In the worker thread of the hub.

        Raises PeerError where it is malformed.
        """
        newcomer = decode_request(request)
        try:
            urls = [peer_url(url) for url in newcomer.urls]
        except CommandError as error:
            raise PeerError(f"malformed request to join: {error}") from error
        with self.lock:
            members = self.replica.members()
        if any(member.name == newcomer.name for member in members):
            return encode_refusal(f"the name '{newcomer.name}' is taken in this volume")
        for url in urls:
            self.loop.call_soon_threadsafe(self.add, url)
        log.info("%s joins the volume", newcomer.name)
        return encode_members(members)

    def stop_as_restored(self, reason: str) -> None:
        """Peers know commits of this replica that are not here: never meet anybody again.

        Its next commit would use a number that stands for something else elsewhere.
        """
        log.error("%s", reason)

        async def stop() -> None:
            self.set(replace(self.config, must_rejoin=reason, offline=True))
            await self.hub.pause()

        asyncio.run_coroutine_threadsafe(stop(), self.loop)


def unknown_peer(named: str) -> CommandError:
    return CommandError(
        f"there is no peer of the name or URL '{named}'; see `elmer peers list`", ExitStatus.USAGE
    )
