"""What the daemon does for people: the commands of the control socket, by name.

They run in the loop.  What takes the one lock, or asks the kernel, goes to a thread.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar, cast

from crdt.facts import Policy
from crdt.store import Store
from elmer import status
from elmer.address import peer_url
from elmer.control import Command
from elmer.exits import CommandError, ExitStatus
from elmer.mounts import below, unmount, users_of
from elmer.site import Site
from elmer.ticket import Ticket, encode
from translation.listing import Listing
from translation.records import acknowledge
from translation.replica import Replica

T = TypeVar("T")

# To tell the kernel of a change is a matter of milliseconds, unless a read waits for its content.
KERNEL_S = 5.0


class Commands:
    def __init__(self, site: Site, command: str, mountpoint: Path | None) -> None:
        self.site = site
        self.command = command
        self.mountpoint = mountpoint

    def table(self) -> dict[str, Command]:
        return {
            "status": self.status,
            "digest": self.digest,
            "conflicts": self.conflicts,
            "acknowledge": self.acknowledge,
            "patterns": self.patterns,
            "set_pattern": self.set_pattern,
            "sync": self.sync,
            "invite": self.invite,
            "add_peer": self.add_peer,
            "remove_peer": self.remove_peer,
            "offline": self.offline,
            "online": self.online,
            "unmount": self.unmount,
        }

    async def status(self, _arguments: dict[str, Any]) -> dict[str, Any]:
        peers = await self.site.hub.status()
        said = await self.of_tree(status.replica_status)
        config = self.site.peers.config
        return {
            **said,
            **await asyncio.to_thread(status.config_status, self.site.directory, config),
            "daemon": {
                "pid": os.getpid(),
                "command": self.command,
                "mountpoint": None if self.mountpoint is None else str(self.mountpoint),
                "listen": str(self.site.listening),
                "error": self.site.trouble(),
            },
            "peers": [status.peer_status(peer) for peer in peers],
            "lag": status.lag(peers),
        }

    async def digest(self, _arguments: dict[str, Any]) -> dict[str, Any]:
        return {"digest": await self.of_tree(Listing.digest)}

    async def conflicts(self, _arguments: dict[str, Any]) -> dict[str, Any]:
        return await self.of_tree(status.conflicts)

    async def acknowledge(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Raises CommandError (NOT_SO) where there is no such record."""
        self.site.peers.config.check_may_go_on()
        found = await self.of_tree(lambda listing: status.acknowledgements(listing, arguments["records"]))

        def commit() -> None:
            with self.site.lock:
                acknowledge(self.site.replica, found)
            self.site.replica.sync()

        await asyncio.to_thread(commit)
        return {"acknowledged": sorted(found)}

    async def patterns(self, _arguments: dict[str, Any]) -> dict[str, Any]:
        return status.patterns(self.site.replica)

    async def set_pattern(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self.site.peers.config.check_may_go_on()
        policy = Policy[arguments["policy"].upper()]

        def set_it() -> None:
            with self.site.lock:
                self.site.replica.set_pattern(arguments["pattern"], policy)
            self.site.replica.sync()

        await asyncio.to_thread(set_it)
        return {}

    async def sync(self, arguments: dict[str, Any]) -> dict[str, Any]:
        equality = await self.site.hub.wait_equal(float(arguments["timeout_s"]))
        kernel = self.site.local.kernel
        if kernel is not None:
            await asyncio.to_thread(kernel.drain, KERNEL_S)
        return {
            "equal": equality.is_equal,
            "peers": equality.peer_count,
            "reason": equality.reason,
        }

    async def invite(self, arguments: dict[str, Any]) -> dict[str, Any]:
        url = arguments.get("url")
        urls = (peer_url(url),) if url is not None else self.site.peers.config.advertised()
        if not urls:
            raise CommandError(
                f"this replica listens on {self.site.listening}, which is no address that others"
                " can use; say by --url HOST:PORT where they reach it",
                ExitStatus.USAGE,
            )
        volume = self.site.replica.volume
        ticket = Ticket(volume.volume_id, volume.secret, volume.digest_key, urls)
        return {"ticket": encode(ticket), "urls": list(urls)}

    async def add_peer(self, arguments: dict[str, Any]) -> dict[str, Any]:
        url = peer_url(arguments["url"])
        self.site.peers.add(url)
        return {"url": url}

    async def remove_peer(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"urls": await self.site.peers.remove(arguments["named"])}

    async def offline(self, _arguments: dict[str, Any]) -> dict[str, Any]:
        await self.site.peers.go_offline()
        return {"offline": True}

    async def online(self, _arguments: dict[str, Any]) -> dict[str, Any]:
        self.site.peers.go_online()
        return {"offline": False}

    async def unmount(self, _arguments: dict[str, Any]) -> dict[str, Any]:
        """Unmount, which ends the daemon.  Raises CommandError (NOT_SO) where the mount is in use."""
        if self.mountpoint is None:
            raise CommandError(
                f"{self.site.directory.path} is not mounted: `elmer serve`, process"
                f" {os.getpid()}, runs without a mount",
                ExitStatus.USAGE,
            )
        await asyncio.to_thread(_unmount, self.mountpoint)
        return {"mountpoint": str(self.mountpoint)}

    async def of_tree(self, call: Callable[[Listing], T]) -> T:
        """Call something that may walk the whole tree: in a thread, on a snapshot, without the lock."""

        def called() -> T:
            replica = self.site.replica
            with closing(cast(Store, replica.store.snapshot())) as snapshot:
                return call(status.listing_of(Replica(snapshot, replica.wall_ns)))

        return await asyncio.to_thread(called)


def _unmount(mountpoint: Path) -> None:
    try:
        unmount(mountpoint)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise CommandError(f"{mountpoint}: {error.strerror}", ExitStatus.MOUNT) from error
        users = [f"process {user}" for user in users_of(mountpoint)]
        users += [f"what is mounted on {path}" for path in below(mountpoint)]
        by = ", ".join(users) or "a process that may not be looked into"
        raise CommandError(
            f"{mountpoint} is in use by {by}; end that, or end the daemon all the same (kill {os.getpid()}):"
            " all is stored, and open files fail from then on",
            ExitStatus.NOT_SO,
        ) from error
