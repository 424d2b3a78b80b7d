"""The HTTP side of peers that dial us, over sockets."""

import asyncio

from replication.connection import WebSocket
from replication.limits import Limits
from replication.server import PATH, Server

UPGRADE = (
    f"GET {PATH} HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def test_who_hangs_up_before_the_answer_leaves_no_traceback():
    """Seen with a peer that went offline and online as fast as it could."""
    served: list[WebSocket] = []

    async def serve(socket: WebSocket) -> None:
        served.append(socket)

    def hang_up() -> str:
        assert server.runner is not None
        assert server.runner.server is not None
        for connection in server.runner.server.connections:
            assert connection.transport is not None
            connection.transport.close()
        return ""

    async def dial() -> bytes:
        port = await server.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(UPGRADE.encode())
        said = await reader.read()
        writer.close()
        await writer.wait_closed()
        await server.stop()
        return said

    server = Server(serve, hang_up, Limits())
    assert asyncio.run(dial()) == b""
    assert served == []
