"""Sites for tests: each a daemon in a process of its own, with a store and a mount.

A daemon runs in the foreground as our child, so it can be killed by its process id and its exit
is seen.  Stores are made and checked in this process, by what the commands call: to start one takes
longer than what it does.  `Sites.close` ends all of them, whatever state they are in, and then looks
at what they leave: each store must pass fsck, and no log may have a traceback.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from elmer.ask import ask
from elmer.config import Config
from elmer.directory import StoreDirectory, held
from elmer.exits import CommandError, ExitStatus
from elmer.mounts import all_mounts, unmount
from elmer.ticket import decode
from elmer.volume import found, join, opened_to_check
from tests.system.trees import assert_equal, look
from tests.system.waiting import DEADLINE_S, until
from translation.fsck import check

REPOSITORY = Path(__file__).resolve().parents[2]
ELMER = [sys.executable, "-P", "-m", "elmer"]
COMMAND_TIMEOUT_S = 120.0
# What a log may never have: exceptions nobody expected, and objects that were forgotten.
SUSPICIOUS = re.compile(r"Traceback \(most recent|never awaited|never retrieved|ResourceWarning")


class CommandFailedError(Exception):
    def __init__(self, arguments: Sequence[str], status: int, said: str) -> None:
        super().__init__(f"`elmer {' '.join(arguments)}` ended with {status}: {said}")
        self.status = status
        self.said = said


def elmer(*arguments: str | os.PathLike, inside: Sequence[str] = ()) -> str:
    """Run one command and return what it printed.  Raises CommandFailedError for other than 0."""
    words = [os.fspath(argument) for argument in arguments]
    done = subprocess.run(
        [*inside, *ELMER, *words],
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        env=environment(),
        check=False,
    )
    if done.returncode != 0:
        raise CommandFailedError(words, done.returncode, done.stderr + done.stdout)
    return done.stdout


def environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONDEVMODE": ""}


def check_store(path: Path) -> None:
    """As `elmer fsck`."""
    directory = StoreDirectory(path)
    with held(directory, "fsck"), opened_to_check(directory) as (rows, refusal):
        findings = [] if rows is None else [*check(rows)]
    assert not refusal, refusal
    assert not findings, f"{path}: {findings}"


def join_store(path: Path, name: str, ticket: str) -> None:
    """As `elmer join`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]  # known before it listens, so that it can tell the inviter
    join(StoreDirectory(path), name, decode(ticket), Config(listen=f"127.0.0.1:{port}"))


class Site:
    """One replica.  `inside` goes before each command: another network, for example."""

    def __init__(
        self,
        name: str,
        directory: Path,
        inside: Sequence[str] = (),
        listen: str = "127.0.0.1:0",
    ) -> None:
        self.name = name
        self.store = directory / f"store-{name}"
        self.mountpoint = directory / name
        self.log = directory / f"{name}.log"
        self.inside = inside
        self.listen = listen
        self.log_checked = 0  # characters
        self.daemon: subprocess.Popen[bytes] | None = None
        self.program: Sequence[str] = ELMER
        self.variables: dict[str, str] = {}  # of its daemon's environment
        self.mountpoint.mkdir()

    def __truediv__(self, name: str) -> Path:
        return self.mountpoint / name

    def elmer(self, command: str, *options: str | os.PathLike) -> str:
        return elmer(command, self.store, *options, inside=self.inside)

    def report(self, command: str, *options: str) -> dict[str, Any]:
        return json.loads(self.elmer(command, *options, "--json"))

    def start(self, command: str = "mount") -> None:
        """Start the daemon; `wait_mounted` follows, where it mounts."""
        assert self.daemon is None, f"{self.name} is running"
        where = [self.mountpoint, "--foreground"] if command == "mount" else []
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(
                [
                    *self.inside,
                    *self.program,
                    *(command, self.store, *where, "--listen", self.listen),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=environment() | self.variables,
            )

    def wait_mounted(self) -> None:
        until(lambda: self.is_mounted() and self.answers(), f"{self.name} is mounted")

    def answers(self) -> bool:
        """Whether the daemon takes commands yet.  Raises RuntimeError where it has ended."""
        assert self.daemon is not None
        if self.daemon.poll() is not None:
            raise RuntimeError(f"{self.name} ended: {self.log_text()[-2000:]}")
        try:
            return bool(self.status())
        except CommandError as error:
            if error.status != ExitStatus.UNREACHABLE:
                raise
            return False

    def is_mounted(self) -> bool:
        return any(mount.mountpoint == self.mountpoint for mount in all_mounts())

    def stop(self) -> None:
        """End the daemon in order, and see that it ended well."""
        assert self.daemon is not None
        self.daemon.send_signal(signal.SIGTERM)
        status = self.daemon.wait(COMMAND_TIMEOUT_S)
        self.daemon = None
        assert status == 0, f"{self.name} ended with {status}: {self.log_text()[-2000:]}"
        assert not self.is_mounted(), f"{self.name} ended and left its mount"

    def kill(self) -> None:
        """Take the process away as a power cut would take its memory."""
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait(COMMAND_TIMEOUT_S)
        self.daemon = None
        self.detach()

    def detach(self) -> None:
        """Take away the mount of a daemon that is gone."""
        if self.is_mounted():
            with suppress(OSError):
                unmount(self.mountpoint, lazily=True)

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Have the daemon answer as it answers the command line, which takes longer to start."""
        directory = StoreDirectory(self.store)
        return ask(directory, command, arguments, timeout_s=COMMAND_TIMEOUT_S)

    def status(self) -> dict[str, Any]:
        return self.ask("status")

    @property
    def address(self) -> tuple[str, int]:
        """Where its daemon listens."""
        parts = urlsplit(f"//{json.loads((self.store / 'config.json').read_text())['listen']}")
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    @property
    def url(self) -> str:
        host, port = self.address
        return f"http://{host}:{port}"

    def offline(self) -> None:
        self.ask("offline")

    def online(self) -> None:
        self.ask("online")

    def sync(self) -> None:
        """Wait until all peers that are connected have seen the same."""
        answer = self.ask("sync", timeout_s=DEADLINE_S)
        assert answer["equal"], f"{self.name}: {answer['reason']}"

    def digest(self) -> str:
        return self.ask("digest")["digest"]

    def conflicts(self) -> list[dict[str, Any]]:
        return self.ask("conflicts")["conflicts"]

    def records(self) -> list[dict[str, Any]]:
        return self.ask("conflicts")["records"]

    def add_peer(self, url: str) -> None:
        self.ask("add_peer", url=url)

    def log_text(self) -> str:
        logs = [self.log, *self.store.glob("elmer.log*")]
        return "".join(log.read_text(errors="replace") for log in logs if log.exists())

    def check_log(self) -> None:
        """Look at what was logged since the last look."""
        whole = self.log_text()
        text, self.log_checked = whole[self.log_checked :], len(whole)
        assert not SUSPICIOUS.search(text), f"log of {self.name}:\n{text[-5000:]}"

    def check_running(self) -> None:
        assert self.daemon is not None
        assert self.daemon.poll() is None, f"{self.name} ended: {self.log_text()[-5000:]}"
        assert self.is_mounted(), f"{self.name} lost its mount"
        self.check_log()

    def fsck(self) -> None:
        """Check the store, at rest."""
        check_store(self.store)

    def end(self) -> None:
        """End whatever runs and is mounted, without questions."""
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.terminate()
            try:
                self.daemon.wait(30)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait(30)
        self.daemon = None
        self.detach()


class Sites:
    """The sites of one test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.all: list[Site] = []

    def add(self, name: str, **where: Any) -> Site:
        site = Site(name, self.directory, **where)
        self.all.append(site)
        return site

    def start(self, *sites: Site) -> None:
        for site in sites:
            site.start()
        at_once(Site.wait_mounted, sites)

    def found(self, name: str, **where: Any) -> Site:
        """Return the first site of a new volume, mounted."""
        site = self.add(name, **where)
        found(StoreDirectory(site.store), name)
        self.start(site)
        return site

    def join(self, inviter: Site, name: str, url: str | None = None, **where: Any) -> Site:
        """Return a further site, mounted, that dials its inviter.

        Where a `url` is given that is the only way they have to each other: else the inviter, told
        on joining where the newcomer listens, dials it too.
        """
        site = self.add(name, **where)
        ticket = inviter.ask("invite", url=url)["ticket"]
        if site.inside:
            elmer("join", site.store, ticket, "--name", name, inside=site.inside)
        else:
            join_store(site.store, name, ticket)
        if url is not None:
            for peer in inviter.status()["peers"]:
                if peer["url"] == site.url:
                    inviter.ask("remove_peer", named=site.url)
        self.start(site)
        return site

    def group(self, names: str) -> list[Site]:
        """Return sites of one volume that all know each other, connected."""
        first = self.found(names[0])
        made = [first]
        for name in names[1:]:
            site = self.join(first, name)
            for other in made[1:]:
                site.add_peer(other.url)
            made.append(site)
        meet(*made)
        return made

    def close(self) -> None:
        """End all in order, then check what they leave."""
        running = [site for site in self.all if site.daemon is not None]
        try:
            at_once(Site.stop, running)
        finally:
            self.end()
        at_once(Site.fsck, [site for site in self.all if site.store.exists()])
        for site in self.all:
            site.check_log()

    def end(self) -> None:
        """End all, whatever their state."""
        at_once(Site.end, self.all)


def at_once(call: Callable[[Site], object], sites: Iterable[Site]) -> list[Any]:
    """Call for all sites at the same time, and return the results in their order."""
    listed = list(sites)
    if not listed:
        return []
    with ThreadPoolExecutor(len(listed)) as pool:
        futures = [pool.submit(call, site) for site in listed]
    return [future.result() for future in futures]


def cut(*sites: Site) -> None:
    at_once(Site.offline, sites)


def heal(*sites: Site) -> str:
    """Go online, meet, and return the digest that all then share."""
    at_once(Site.online, sites)
    return meet(*sites)


def meet(*sites: Site) -> str:
    """Wait until all sites have seen the same, show it, and have their kernels show it."""

    def agreed() -> str | None:
        at_once(Site.sync, sites)
        digests = at_once(Site.digest, sites)
        assert len(set(digests)) == 1, digests
        return digests[0]

    digest = until(agreed, "one digest on " + ", ".join(site.name for site in sites))
    # A sync before this may have returned when no peer was connected yet.  It waits for blocks and
    # for what the kernel is to be told, too.
    at_once(Site.sync, sites)
    return digest


def assert_same_trees(*sites: Site) -> None:
    """Compare by what programs see: names, attributes, inode numbers and every byte."""
    first, *others = at_once(lambda site: look(site.mountpoint), sites)
    for other in others:
        assert_equal(first, other)
