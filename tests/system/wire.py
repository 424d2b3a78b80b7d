"""A piece of network between two sites that counts what passes and can be cut, on loopback."""

import selectors
import socket
import threading
from contextlib import suppress


class Wire:
    """Forwards connections to `target`, both ways.

    `cut` drops what is connected and refuses what comes, `heal` lets it in again.  `forwarded` and
    `returned` count bytes in the direction of the caller's request and of the answer.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.forwarded = 0
        self.returned = 0
        self.is_cut = False
        self.lock = threading.Lock()
        self.pairs: set[tuple[socket.socket, socket.socket]] = set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def total(self) -> int:
        return self.forwarded + self.returned

    def cut(self) -> None:
        with self.lock:
            self.is_cut = True
            for pair in self.pairs:
                _shut(*pair)

    def heal(self) -> None:
        with self.lock:
            self.is_cut = False

    def close(self) -> None:
        self.cut()
        _shut(self.listener)  # wakes accept
        for thread in self.threads:
            thread.join()
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            self._connect(near)

    def _connect(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self.target, timeout=30)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        with self.lock:
            if self.is_cut:
                near.close()
                far.close()
                return
            self.pairs.add((near, far))
        thread = threading.Thread(target=self._carry, args=(near, far), daemon=True)
        self.threads.append(thread)
        thread.start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        """Carry bytes both ways until either side ends."""
        with selectors.DefaultSelector() as ready:
            ready.register(near, selectors.EVENT_READ)
            ready.register(far, selectors.EVENT_READ)
            try:
                while all(self._pass_on(near, far, key.fileobj) for key, _ in ready.select()):
                    pass
            except OSError:
                pass  # one of them was cut
        with self.lock:
            self.pairs.discard((near, far))
        near.close()
        far.close()

    def _pass_on(self, near: socket.socket, far: socket.socket, source: object) -> bool:
        came_from_near = source is near
        data = (near if came_from_near else far).recv(1 << 16)
        if came_from_near:
            self.forwarded += len(data)
            far.sendall(data)
        else:
            self.returned += len(data)
            near.sendall(data)
        return bool(data)


def _shut(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):  # the other end was faster
            one.shutdown(socket.SHUT_RDWR)
