"""A TCP proxy on loopback that counts the bytes that pass: what replicas say on the wire.

It sees the payload of TCP, so TLS is in the count and the headers of packets are not.  It runs in a
thread of its own and carries bytes one chunk at a time: exact, and not for measuring speed.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path

CHUNK = 256 * 1024
ESTABLISHED = "01"


class CountingProxy:
    """Everything sent to `port` goes to `target_port` and back, and is counted."""

    def __init__(self, port: int, target_port: int) -> None:
        self.port = port
        self.target_port = target_port
        self.bytes_to_target = 0
        self.bytes_from_target = 0
        self.own_ports: set[int] = set()
        self.loop = asyncio.new_event_loop()
        self.tasks: set[asyncio.Task[None]] = set()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def start(self) -> None:
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self.loop).result()

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def bytes_in_all(self) -> int:
        return self.bytes_to_target + self.bytes_from_target

    def connections_round_it(self) -> int:
        """How many connections to the target do not come from here: their bytes are not counted."""
        peers = set()
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, state = line.split()[:4]
            if state == ESTABLISHED and int(local.partition(":")[2], 16) == self.target_port:
                peers.add(int(remote.partition(":")[2], 16))
        return len(peers - self.own_ports)

    async def _listen(self) -> None:
        self.server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self.server.close()
        for task in tuple(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self._carry_both(reader, writer)
        except asyncio.CancelledError:
            pass  # `stop` ends a connection so, and the server's callback must not raise
        finally:
            await _closed(writer)
            self.tasks.discard(task)

    async def _carry_both(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            return  # closing is what the other side then sees: it is down
        own_port = back.get_extra_info("sockname")[1]
        self.own_ports.add(own_port)
        try:
            await asyncio.gather(
                self._carry(reader, back, "bytes_to_target"),
                self._carry(there, writer, "bytes_from_target"),
            )
        finally:
            self.own_ports.discard(own_port)
            await _closed(back)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counter: str) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK):
                setattr(self, counter, getattr(self, counter) + len(chunk))
                writer.write(chunk)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):  # the other side broke it off
        await writer.wait_closed()
