"""The two threads of a hub.

One does all that touches the replica or a session, one call at a time, so that none of these needs
a lock.  The other syncs, so that an fsync holds up nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Worker:
    def __init__(self) -> None:
        self._calls = ThreadPoolExecutor(1, thread_name_prefix="replication")
        self._syncs = ThreadPoolExecutor(1, thread_name_prefix="replication-sync")

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the call returns.

        Where the waiting task is cancelled, a call that has begun runs to its end all the same, and
        one that has not does not begin.
        """
        assert not kwargs, "run_in_executor takes none"
        return await asyncio.get_running_loop().run_in_executor(self._calls, call, *args)

    def post(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Have the call run after those before it; nobody waits."""
        self._calls.submit(call, *args, **kwargs)

    async def sync(self, call: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._syncs, call)

    def shutdown(self) -> None:
        """Return when all calls have ended."""
        self._calls.shutdown()
        self._syncs.shutdown()
