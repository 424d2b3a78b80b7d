"""An asyncio loop in a thread of its own: replication and the control socket run in it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Self, TypeVar

T = TypeVar("T")


class LoopThread:
    """At the end what still runs in the loop is cancelled, as asyncio.run does."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop
        self.ended: asyncio.Event
        self.thread = threading.Thread(target=lambda: asyncio.run(self._live()), name="loop")
        self.started: Future[None] = Future()

    async def _live(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        self.started.set_result(None)
        await self.ended.wait()

    def __enter__(self) -> Self:
        self.thread.start()
        self.started.result()
        return self

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`; to be called in another thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.ended.set)
        self.thread.join()
