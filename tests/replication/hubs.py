"""Hubs on loopback for stories: real sockets, real time, and no assertion that depends on it."""

import asyncio
import gc
import os
import stat
import threading
from contextlib import AsyncExitStack, asynccontextmanager

from replication.hub import Hub
from replication.limits import Limits

LONG_S = 60.0
# Without ticks: whoever forgets to wake somebody is not saved by the next one.
LIMITS = Limits(backoff_min_s=0.01, backoff_max_s=0.05, tick_s=1000.0, heartbeat_s=0.2)
HOST = "127.0.0.1"


def sockets_open() -> set[str]:
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISSOCK(os.fstat(int(fd)).st_mode):
                found.add(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue  # the directory that is being listed
    return found


def run(story):
    """Run a story, and see that it leaves no socket, task or thread."""
    sockets, threads = sockets_open(), set(threading.enumerate())

    async def told():
        await story()
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})

    asyncio.run(told())
    gc.collect()
    assert sockets_open() <= sockets
    assert set(threading.enumerate()) <= threads


async def until(condition) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def hubs(*locals_, limits=LIMITS, **options):
    """Yield a listening hub for each replica; none dials yet."""
    running = []
    async with AsyncExitStack() as stack:
        for local in locals_:
            hub = Hub(local, limits=limits, **options)
            running.append(hub)
            stack.push_async_callback(hub.stop)
            hub.url = f"http://{HOST}:{await hub.start(HOST)}"
        yield running


def commit(hub, payload=b"x", blocks=()):
    hub.local.commit(payload, blocks)
    hub.notify()


def is_equal(*some) -> bool:
    return len({frozenset(hub.local.facts()) for hub in some}) == 1


def is_connected(*some) -> bool:
    return all(hub.reception.connections for hub in some)
