"""Peers that are to be dialed whenever they are not connected."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol

from replication.backoff import Backoff
from replication.connection import ENDS, Connection

logger = logging.getLogger(__name__)

Goals = dict["Target", int]  # targets that were told to hurry, and which attempt of theirs counts


class Caller(Protocol):
    """What dialing needs of the hub."""

    async def call(self, target: Target) -> None:
        """Dial, greet, and run the connection until it ends.  Raises one of ENDS."""

    def connection_to(self, store_id: bytes | None) -> Connection | None: ...

    def announce(self) -> None:
        """Something changed that somebody may wait for."""


class Target:
    def __init__(self, url: str, backoff: Backoff) -> None:
        self.url = url
        self.backoff = backoff
        self.store_id: bytes | None = None  # of who answered there last
        self.error = ""
        self.attempt_count = 0  # attempts that ended
        self.hurry = asyncio.Event()  # do not wait: dial now

    def reached(self, store_id: bytes) -> None:
        self.store_id = store_id
        self.error = ""
        self.backoff.succeeded()

    async def run(self, caller: Caller) -> None:
        while True:
            connection = caller.connection_to(self.store_id)
            if connection is not None:
                # It dialed us, or has two URLs.
                await connection.gone.wait()
                continue
            try:
                await caller.call(self)
            except ENDS as error:
                self.error = str(error) or type(error).__name__
            except Exception as error:
                # A fault of ours ends this attempt, and not the dialing.
                logger.exception("the connection to %s failed", self.url)
                self.error = f"this replica failed: {error!r}"
            self.attempt_count += 1
            caller.announce()
            self.hurry.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.backoff.failed()):
                    await self.hurry.wait()


class Dialing:
    """The targets, each with its task while this replica is online."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.is_online = False
        self.targets: dict[str, Target] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def __iter__(self) -> Iterator[Target]:
        return iter(self.targets.values())

    def add(self, target: Target) -> None:
        assert target.url not in self.targets, target.url
        self.targets[target.url] = target
        if self.is_online:
            self._dial(target)

    async def remove(self, url: str) -> Target | None:
        target = self.targets.pop(url, None)
        task = self.tasks.pop(url, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        return target

    def go_online(self) -> None:
        if not self.is_online:
            self.is_online = True
            for target in self.targets.values():
                self._dial(target)

    async def go_offline(self) -> None:
        self.is_online = False
        tasks = list(self.tasks.values())
        self.tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def hurry(self) -> Goals:
        """Have all peers that are not connected dialed now."""
        goals: Goals = {}
        for target in self.targets.values():
            if self.caller.connection_to(target.store_id) is None:
                goals[target] = target.attempt_count + 1
                target.hurry.set()
        return goals

    def pending(self, goals: Goals) -> list[Target]:
        """Return the targets whose dialing has led to nothing yet, neither connection nor error."""
        return [
            target
            for target, goal in goals.items()
            if target.url in self.tasks
            and target.attempt_count < goal
            and self.caller.connection_to(target.store_id) is None
        ]

    def _dial(self, target: Target) -> None:
        self.tasks[target.url] = asyncio.create_task(target.run(self.caller))
