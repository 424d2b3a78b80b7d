"""A program that mounts a file system which does at certain names what ours must never do, or late.

    python -m tests.elmer.faulty_mount MOUNTPOINT GATE

Prints a line when the mount answers; ends when it is unmounted, with what it logged on standard
error.  GATE is a path: blocks of files named "late" are there once it exists.  Whatever is called
meanwhile has a bug if a file of its name is in GATE.bugs.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import llfuse

from crdt.causality import ReplicaId
from crdt.changes import Changes
from crdt.store import MemoryStore
from elmer.daemon import mounted
from elmer.fuse import WORKERS, Operations
from elmer.kernel import Kernel
from replication.hub import BlocksUnavailableError
from translation.filesystem import Attributes, BlocksMissing, Caller, FileSystem
from translation.replica import Replica, Volume

log = logging.getLogger(__name__)

GONE, LATE = b"g" * 32, b"l" * 32
NOT_REQUESTS = {"close", "tick", "fetch"}


class Faulty(FileSystem):
    kernel: Kernel

    def __init__(self, replica: Replica, gate: Path) -> None:
        super().__init__(replica)
        self.gate = gate
        self.names_of: dict[int, bytes] = {}

    def lookup(self, parent: int, name: bytes) -> Attributes:
        if name == b"bug":
            raise ZeroDivisionError("a bug in a look-up")
        if name == b"without-errno":
            raise OSError("an error without a number")
        found = super().lookup(parent, name)
        self.names_of[found.ino] = name
        if name == b"raced":
            self._merge_meanwhile(found.ino)
        return found

    def _merge_meanwhile(self, ino: int) -> None:
        """As if a change were merged, and told to the kernel, while the answer is on its way."""
        self.setattr(ino, mode=0o600)
        changes = Changes()
        changes.inode(ino)
        told = threading.Event()
        tell = self.kernel.invalidator.channel.inode

        def tell_and_note(ino: int, content: bool) -> bool:
            try:
                return tell(ino, content)
            finally:
                told.set()

        self.kernel.invalidator.channel.inode = tell_and_note
        self.kernel.tell(changes)
        told.wait(60)

    def create(self, parent: int, name: bytes, *rest) -> tuple[int, Attributes]:
        fh, attributes = super().create(parent, name, *rest)
        self.names_of[attributes.ino] = name
        return fh, attributes

    def mkdir(self, parent: int, name: bytes, *rest) -> Attributes:
        if name == b"lost":
            self.replica._committed = None  # what is called when the store has it
        attributes = super().mkdir(parent, name, *rest)
        self.names_of[attributes.ino] = name
        return attributes

    def forget(self, ino: int, count: int) -> None:
        super().forget(ino, count)
        if self.names_of.get(ino) == b"unforgettable":
            raise KeyError("a bug in forget")

    def readdir(self, fh: int, offset: int) -> Iterator[tuple[bytes, Attributes, int]]:
        for number, entry in enumerate(super().readdir(fh, offset)):
            if number == 1 and self.names_of.get(self.handles[fh].ino) == b"broken-directory":
                raise KeyError("a bug in readdir")
            yield entry

    def read(self, fh: int, offset: int, size: int) -> bytes:
        name = self.names_of[self.handles[fh].ino]
        if name == b"gone":
            raise BlocksMissing([GONE])
        if name.startswith(b"late") and not self.gate.exists():
            raise BlocksMissing([LATE])
        return super().read(fh, offset, size)

    def fetch(self, hashes: tuple[bytes, ...]) -> Future[None]:
        done: Future[None] = Future()
        if GONE in hashes:
            done.set_exception(BlocksUnavailableError("nobody has it"))
        else:
            log.info("a read waits for blocks")
            threading.Thread(target=self._wait_for_gate, args=(done,), daemon=True).start()
        return done

    def _wait_for_gate(self, done: Future[None]) -> None:
        while not self.gate.exists():
            time.sleep(0.01)
        done.set_result(None)


class Disk:
    """What elmer.space.Space is, of a disk without bounds."""

    def take(self, size: int) -> None:
        pass

    def make_way(self) -> bool:
        return False

    def statvfs(self) -> os.statvfs_result:
        return os.statvfs("/")


def with_bug(name: str, call: Callable, bugs: Path) -> Callable:
    def called(*args, **kwargs):
        if (bugs / name).exists():
            raise ZeroDivisionError(f"a bug in {name}")
        return call(*args, **kwargs)

    return called


def main() -> None:
    mountpoint, gate = Path(sys.argv[1]), Path(sys.argv[2])
    logging.basicConfig(level=logging.INFO)
    store = MemoryStore()
    volume = Volume(b"v" * 16, b"s" * 32, b"d" * 32)
    Replica.create(store, volume, ReplicaId(7), "faulty", b"i" * 16, time.time_ns())
    replica = Replica(store, time.time_ns)
    filesystem = Faulty(replica, gate)
    fh, raced = filesystem.create(1, b"raced", 0o644, os.O_WRONLY, Caller(0, 0))
    filesystem.release(fh)
    filesystem.forget(raced.ino, 1)
    bugs = Path(f"{gate}.bugs")
    for name in dir(FileSystem):
        if name[0] != "_" and name not in NOT_REQUESTS and callable(getattr(filesystem, name)):
            setattr(filesystem, name, with_bug(name, getattr(filesystem, name), bugs))
    operations = Operations(
        filesystem, Disk(), with_bug("sync", replica.sync, bugs), with_bug("fetch", filesystem.fetch, bugs)
    )

    def announce() -> None:
        mountpoint.stat()
        print("mounted", flush=True)  # noqa: T201  (what the test waits for)

    with mounted(operations, Path("/nowhere/of, spaces"), mountpoint) as kernel:
        filesystem.kernel = kernel
        replica.on_commit = lambda: kernel.tell(replica.take_changes())
        threading.Thread(target=announce, daemon=True).start()
        llfuse.main(workers=WORKERS)


if __name__ == "__main__":
    main()
