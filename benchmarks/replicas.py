"""Two replicas of one volume on loopback, mounted, and the clients that use them."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import sys
from pathlib import Path

from benchmarks.proxy import CountingProxy
from benchmarks.scratch import BenchmarkError, Scratch
from benchmarks.systems import START_TIMEOUT_S, UMOUNT_TIMEOUT_S
from benchmarks.visibility import WATCH_TIMEOUT_S

SYNC_TIMEOUT_S = 300
ANSWER_TIMEOUT_S = WATCH_TIMEOUT_S + 60


class Client:
    """A `benchmarks.visibility` in the root of one mount."""

    def __init__(self, run: Scratch, root: Path, poll_us: int) -> None:
        command = [sys.executable, "-m", "benchmarks.visibility", str(root), str(poll_us)]
        self.process, self.errors = run.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, do: str, **request: object) -> None:
        line = json.dumps({"do": do, **request})
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def answer(self) -> dict:
        """The next line it says.  Raises BenchmarkError where that is an error, or none comes."""
        ready, _, _ = select.select([self.process.stdout], [], [], ANSWER_TIMEOUT_S)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            said = self.errors.read_text(errors="replace").strip()[-500:]
            raise BenchmarkError(f"a client gave no answer: {said or 'it hangs'}")
        answer = json.loads(line)
        if "error" in answer:
            raise BenchmarkError(answer["error"])
        return answer

    def end(self) -> None:
        """What it is at does not matter any more."""
        self.process.kill()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        # A process in a request that is never answered outlives even that; the scratch forces it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(START_TIMEOUT_S)


class Pair:
    """Replica A, which listens, and replica B, which joined it.

    With `counted`, all that B says to A goes through a proxy: A gives its ticket while it listens
    where the proxy will be, and moves to another port before B joins.
    """

    def __init__(self, run: Scratch, place: Path, command: str, *, counted: bool = False) -> None:
        self.run = run
        self.command = command
        self.place = place
        self.counted = counted
        self.proxy: CountingProxy | None = None

    def start(self) -> None:
        port = free_port()
        for name in "ab":
            self.mount_of(name).mkdir(parents=True)
        self.elmer("init", str(self.store_of("a")), "--name", "a")
        self.mount("a", port)
        ticket = json.loads(self.elmer("invite", str(self.mount_of("a")), "--json"))["ticket"]
        if self.counted:
            self.umount("a")
            behind = free_port()
            self.mount("a", behind)
            self.proxy = CountingProxy(port, behind)
            self.proxy.start()
        self.elmer("join", str(self.store_of("b")), ticket, "--name", "b")
        self.mount("b")
        self.sync()

    def sync(self) -> None:
        for name in "ab":
            self.elmer(
                "sync",
                str(self.mount_of(name)),
                "--timeout",
                str(SYNC_TIMEOUT_S),
                timeout_s=SYNC_TIMEOUT_S + START_TIMEOUT_S,
            )

    def stop(self) -> None:
        for name in "ba":
            self.umount(name)
        self.stop_proxy()

    def stop_proxy(self) -> None:
        if self.proxy is not None:
            self.proxy.stop()
            self.proxy = None

    def mount(self, name: str, port: int = 0) -> None:
        listen = ["--listen", f"127.0.0.1:{port}"] if port else []
        self.elmer("mount", str(self.store_of(name)), str(self.mount_of(name)), *listen)

    def umount(self, name: str) -> None:
        self.elmer("umount", str(self.mount_of(name)), timeout_s=UMOUNT_TIMEOUT_S)

    def store_of(self, name: str) -> Path:
        return self.place / f"store-{name}"

    def mount_of(self, name: str) -> Path:
        return self.place / f"mount-{name}"

    def elmer(self, *arguments: str, timeout_s: float = START_TIMEOUT_S) -> str:
        return self.run.run([self.command, *arguments], timeout_s, owner="elmer")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
