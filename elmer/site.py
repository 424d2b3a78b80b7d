"""A replica that runs: its store, the one lock, its peers; what `mount` and `serve` share."""

from __future__ import annotations

import errno
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

from elmer import config as configuration
from elmer.address import Address, parse_address
from elmer.config import Config
from elmer.directory import StoreDirectory
from elmer.exits import CommandError, ExitStatus
from elmer.local import LockedReplica
from elmer.loop import LoopThread
from elmer.peers import Peers
from elmer.space import Space
from replication.hub import Hub
from translation.in_step import LOST
from translation.mounted import Mounted
from translation.replica import Replica

log = logging.getLogger(__name__)

TICK_S = 1.0


class Site:
    """`lock` is llfuse's where there is a mount: then requests hold it, too."""

    def __init__(
        self,
        directory: StoreDirectory,
        replica: Replica,
        loop: LoopThread,
        lock: AbstractContextManager[Any],
        space: Space,
    ) -> None:
        self.directory = directory
        self.replica = replica
        self.loop = loop
        self.lock = lock
        self.filesystem = Mounted(replica)
        space.gathered = lambda: self.filesystem.content.weight
        self.space = space
        self.local = LockedReplica(replica, lock, space)
        self.peers = Peers(directory, configuration.load(directory.config), replica, lock)
        self.hub = Hub(self.local, admit=self.peers.admit, on_restored=self._restored)
        self.freeze: Callable[[], None] = lambda: None  # lets programs change nothing more
        self.peers.hub, self.peers.loop = self.hub, loop.loop
        self.listening = self.peers.config.address
        self._failure = ""  # of the last tick
        self.problem = ""  # why nothing may be changed here
        replica.on_commit = self._committed
        replica.in_step.on_lost = self._lost_step

    def trouble(self) -> str:
        """Return what is wrong with this replica itself, "" where nothing is."""
        return self.problem or self.space.problem or self._failure or self.hub.error

    def _restored(self, reason: str) -> None:
        self.freeze()
        self.peers.stop_as_restored(reason)

    def _lost_step(self) -> None:
        """With the lock held; the traceback is logged by whoever made the commit."""
        self.problem = f"{LOST}; unmount and mount again, and report the log"
        log.critical("%s", self.problem)
        self.freeze()

    def _committed(self) -> None:
        """After each local commit, with the lock held."""
        self.hub.notify()
        changes = self.replica.take_changes()
        if self.local.kernel is not None:
            self.local.kernel.tell(changes)

    @contextmanager
    def talking(self, listen: str | None, url: str | None) -> Iterator[None]:
        """Talk to peers meanwhile, unless this replica is offline, and look after drafts.

        Raises CommandError (USAGE) where it cannot listen.
        """
        stopped = threading.Event()
        ticking = threading.Thread(target=self._tick_until, args=(stopped,), name="ticks")
        try:
            self.loop.run(self._start(listen, url))
            ticking.start()
            yield
        finally:
            stopped.set()
            if ticking.ident is not None:
                ticking.join()
            self.stop_talking()

    def stop_talking(self) -> None:
        """Merge nothing more.  May be repeated."""
        self.loop.run(self.hub.stop())

    def finish(self) -> None:
        """Make what was gathered versions, and everything durable.

        Raises CommandError (NOT_SO) where that is not so at the end.
        """
        try:
            try:
                with self.lock:
                    self.filesystem.close()
            finally:
                self.replica.sync()
        except OSError as error:
            raise CommandError(
                f"{self.directory.path}: what was written last is not all on the disk: {error}",
                ExitStatus.NOT_SO,
            ) from error

    async def _start(self, listen: str | None, url: str | None) -> None:
        config = self.peers.config
        for peer in config.peers:
            self.hub.add_peer(peer)
        if config.offline:
            await self.hub.pause()
        self.listening = await self._listen(config, listen)
        changed = replace(config, listen=str(self.listening))
        self.peers.set(changed if url is None else replace(changed, url=url))
        if config.must_rejoin:
            log.error("%s", config.must_rejoin)

    async def _listen(self, config: Config, listen: str | None) -> Address:
        """Start the hub where it listened before, or where it was told to."""
        wanted = config.address if listen is None else parse_address(listen)
        known = config.address
        if wanted.port == 0 and wanted.host == known.host:
            wanted = known
        may_move = listen is None or parse_address(listen).port == 0
        if may_move and wanted.port != 0 and _is_taken(wanted):
            log.warning("port %d is taken: others reach this replica by a new one", wanted.port)
            wanted = Address(wanted.host, 0)
        try:
            port = await self.hub.start(wanted.host, wanted.port)
        except OSError as error:
            raise CommandError(
                f"cannot listen on {wanted}: {error.strerror or error}", ExitStatus.USAGE
            ) from error
        assert port is not None
        return Address(wanted.host, port)

    def _tick_until(self, stopped: threading.Event) -> None:
        while not stopped.wait(TICK_S):
            try:
                self.space.look()
                with self.lock:
                    self.filesystem.tick()
            except OSError as error:
                self._note_failure(str(error))
            except Exception:
                log.exception("what was written of late could not be written out")
            else:
                self._failure = ""

    def _note_failure(self, failure: str) -> None:
        """Say it once, and not each second for as long as a disk is full."""
        if failure != self._failure:
            log.error("what was written of late could not be written out: %s", failure)
        self._failure = failure


def _is_taken(address: Address) -> bool:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False
