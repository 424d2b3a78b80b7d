"""Two replicas of one volume on loopback, mounted, and the clients that use them."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.proxy import CountingProxy
from benchmarks.scratch import BenchmarkError, Scratch, wait_until
from benchmarks.systems import START_TIMEOUT_S, UMOUNT_TIMEOUT_S
from benchmarks.visibility import WATCH_TIMEOUT_S

SYNC_TIMEOUT_S = 300
ANSWER_TIMEOUT_S = WATCH_TIMEOUT_S + 60
QUIET_S = 1.0
QUIET_TIMEOUT_S = 20.0


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
    """Replica A, and replica B which joined it.

    With `counted`, each tells the other the address of a proxy before it, so that all they say
    passes one of the two.
    """

    def __init__(self, run: Scratch, place: Path, command: str, *, counted: bool = False) -> None:
        self.run = run
        self.command = command
        self.place = place
        self.counted = counted
        self.proxies: list[CountingProxy] = []
        self.options: dict[str, list[str]] = {}

    def start(self) -> None:
        for name in "ab":
            self.mount_of(name).mkdir(parents=True)
            self.options[name] = self.listening()
        self.elmer("init", str(self.store_of("a")), "--name", "a")
        self.mount("a")
        ticket = json.loads(self.elmer("invite", str(self.mount_of("a")), "--json"))["ticket"]
        self.elmer("join", str(self.store_of("b")), ticket, "--name", "b", *self.options["b"])
        self.mount("b")
        self.sync()

    def mount(self, name: str) -> None:
        self.elmer("mount", str(self.store_of(name)), str(self.mount_of(name)), *self.options[name])

    def unmount(self, name: str) -> None:
        self.elmer("umount", str(self.mount_of(name)), timeout_s=UMOUNT_TIMEOUT_S)

    def listening(self) -> list[str]:
        """The options that say where a replica listens and is reached."""
        port = free_port()
        options = ["--listen", f"127.0.0.1:{port}"]
        if self.counted:
            proxy = CountingProxy(0, port)
            proxy.start()
            self.proxies.append(proxy)
            options += ["--url", f"127.0.0.1:{proxy.port}"]
        return options

    def bytes_on_the_wire(self) -> int:
        return sum(proxy.bytes_in_all() for proxy in self.proxies)

    def bytes_of(self, work: Callable[[], object]) -> int:
        """What passed the proxies for `work`, from quiet to quiet.

        Raises BenchmarkError where the replicas have another way to each other.
        """
        before = self.quiet_count()
        work()
        self.sync()
        after = self.quiet_count()
        if count := sum(proxy.connections_round_it() for proxy in self.proxies):
            raise BenchmarkError(f"{count} connections go round the proxies: not all is counted")
        return after - before

    def quiet_count(self) -> int:
        """The count once it stands still for QUIET_S, or as it is after QUIET_TIMEOUT_S."""
        count = self.bytes_on_the_wire()
        since_s = time.monotonic()

        def quiet() -> bool:
            nonlocal count, since_s
            if self.bytes_on_the_wire() != count:
                count, since_s = self.bytes_on_the_wire(), time.monotonic()
            return time.monotonic() - since_s > QUIET_S

        wait_until(quiet, QUIET_TIMEOUT_S)
        return self.bytes_on_the_wire()

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
            self.unmount(name)
        self.stop_proxies()

    def stop_proxies(self) -> None:
        while self.proxies:
            self.proxies.pop().stop()

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
