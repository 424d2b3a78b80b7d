"""Replicas in one thread, used as a person at a prompt would: paths and results as strings.

A replica here is the production file system over a store in memory; `hear` is a pull without a network,
with the blocks that it lacks.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import stat
from collections.abc import Iterator, Mapping

from crdt.causality import ReplicaId
from crdt.store import MemoryStore
from translation.filesystem import Attributes, Caller
from translation.fsck import check
from translation.mounted import Mounted
from translation.replica import Replica, Volume

VOLUME = Volume(b"v" * 16, b"s" * 32, b"k" * 32)
START_NS = 1_800_000_000_000_000_000
STEP_NS = 1_000_000
CALLER = Caller(0, 0)
CROCKFORD = "0-9a-hjkmnp-tv-z"


class World:
    """The time that all clocks tell, each with its skew."""

    def __init__(self) -> None:
        self.ticks = itertools.count(1)
        self.now_ns = START_NS

    def tick(self) -> None:
        self.now_ns = START_NS + next(self.ticks) * STEP_NS


class Disk(MemoryStore):
    """A store in memory that may be full."""

    is_full = False

    def commit(self, batch: Mapping[bytes, bytes | None], *, sync: bool = False) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().commit(batch, sync=sync)


class Shell:
    def __init__(
        self, world: World, number: int, skew: int, members: list[object], name: str | None = None
    ) -> None:
        self.world, self.skew = world, skew
        self.store: MemoryStore = Disk()
        name = name or "ABCDEFGH"[number - 1]
        Replica.create(
            self.store, VOLUME, ReplicaId(number), name, bytes([number]) * 16, self.now_ns(), members
        )
        self.open()

    def open(self) -> None:
        """Start the replica from its store."""
        self.fs = Mounted(Replica(self.store, self.now_ns))

    def now_ns(self) -> int:
        return self.world.now_ns + self.skew * STEP_NS

    @property
    def replica(self) -> Replica:
        return self.fs.replica

    # -- what a person does ------------------------------------------------------------------------

    def at(self, path: str) -> tuple[int, bytes]:
        *above, name = os.fsencode(path).split(b"/")
        ino = 1
        for part in above:
            ino = self.fs.lookup(ino, part).ino
        return ino, name

    def stat(self, path: str) -> Attributes:
        return self.fs.lookup(*self.at(path)) if path else self.fs.getattr(1)

    def _act(self) -> None:
        self.world.tick()

    def mkdir(self, path: str, uid: int = 0) -> None:
        self._act()
        self.fs.mkdir(*self.at(path), 0o755, Caller(uid, uid))

    def create(self, path: str, mode: int = 0o644) -> None:
        self._act()
        fh, _ = self.fs.create(*self.at(path), mode, os.O_WRONLY | os.O_EXCL, CALLER)
        self.fs.release(fh)

    def open_file(self, path: str, flags: int = os.O_RDWR) -> int:
        return self.fs.open(self.stat(path).ino, flags)

    def close(self, fh: int) -> None:
        self._act()
        self.fs.flush(fh)
        self.fs.release(fh)

    def write(self, path: str, text: str | bytes) -> None:
        """Replace the content, making the file where there is none."""
        data = text.encode() if isinstance(text, str) else text
        self._act()
        fh, attributes = self.fs.create(*self.at(path), 0o644, os.O_WRONLY | os.O_TRUNC, CALLER)
        if attributes.size:
            self.fs.setattr(attributes.ino, size=0)
        self.fs.write(fh, 0, data)
        self.close(fh)

    def write_at(self, path: str, text: str) -> None:
        """Replace the content of a file that is there, as `echo > path` does."""
        self._act()
        self.fs.setattr(self.stat(path).ino, size=0)
        fh = self.open_file(path, os.O_WRONLY)
        self.fs.write(fh, 0, text.encode())
        self.close(fh)

    def append(self, path: str, text: str) -> None:
        fh = self.open_file(path, os.O_WRONLY | os.O_APPEND)
        self._act()
        self.fs.write(fh, 0, text.encode())
        self.close(fh)

    def move(self, source: str, target: str) -> None:
        self._act()
        self.fs.rename(*self.at(source), *self.at(target))

    def save(self, path: str, text: str) -> None:
        """Save as many editors do: write a new file, then rename it over the old one."""
        self.write(path + "~", text)
        self.move(path + "~", path)

    def link(self, source: str, target: str) -> None:
        self._act()
        self.fs.link(self.stat(source).ino, *self.at(target))

    def symlink(self, path: str, target: str) -> None:
        self._act()
        self.fs.symlink(*self.at(path), target.encode(), CALLER)

    def remove(self, path: str) -> None:
        self._act()
        self.fs.unlink(*self.at(path))

    def rmdir(self, path: str) -> None:
        self._act()
        self.fs.rmdir(*self.at(path))

    def chmod(self, path: str, mode: int) -> None:
        self._act()
        self.fs.setattr(self.stat(path).ino, mode=mode)

    def read(self, path: str) -> bytes:
        attributes = self.stat(path)
        fh = self.fs.open(attributes.ino, os.O_RDONLY)
        data = self.fs.read(fh, 0, attributes.size + 1)
        self.fs.release(fh)
        return data

    def list(self, ino: int = 1) -> list[tuple[bytes, Attributes]]:
        """Return what a directory has inside, without `.` and `..`."""
        fh = self.fs.opendir(ino)
        found = [(name, attributes) for name, attributes, _ in self.fs.readdir(fh, 0)]
        self.fs.releasedir(fh)
        return found[2:]

    # -- what is seen ------------------------------------------------------------------------------

    @property
    def shows(self) -> dict[str, str]:
        """path -> content; of a directory 'dir', of a symlink '-> target'."""
        found: dict[str, str] = {}
        todo = [("", 1)]
        while todo:
            above, directory = todo.pop()
            for name, listed in self.list(directory):
                path = above + os.fsdecode(name)
                attributes = self.fs.lookup(directory, name)
                assert attributes.ino == listed.ino, path
                if stat.S_ISDIR(attributes.mode):
                    found[path] = "dir"
                    todo.append((path + "/", attributes.ino))
                elif stat.S_ISLNK(attributes.mode):
                    found[path] = "-> " + self.fs.readlink(attributes.ino).decode()
                else:
                    found[path] = self.read(path).decode() if stat.S_ISREG(attributes.mode) else "special"
        return dict(sorted(found.items()))

    # -- peers -------------------------------------------------------------------------------------

    def hear(self, *others: Shell, blocks: bool = True) -> None:
        for other in others:
            theirs = other.replica
            theirs.sync()
            new = theirs.arrivals(self.replica.cursor(theirs.store_id), self.replica.seen(), 1 << 30)
            self.replica.receive(new.commits, new.vector, theirs.store_id, new.next)
            if blocks:
                self.fetch(other)

    def hear_one_by_one(self, other: Shell) -> Iterator[None]:
        """Pull one commit at a time, and no blocks."""
        theirs = other.replica
        theirs.sync()
        while True:
            new = theirs.arrivals(self.replica.cursor(theirs.store_id), self.replica.seen(), 1)
            self.replica.receive(new.commits, new.vector, theirs.store_id, new.next)
            if not new.commits:
                return
            yield

    def fetch(self, other: Shell) -> None:
        """Get the blocks that are not here, as far as the other one has them."""
        found = other.replica.blocks(self.replica.wanted(1 << 20))
        self.replica.add_blocks([block for block in found if block is not None])

    def findings(self) -> list[object]:
        return list(check(self.store))


def shells(*skews: int) -> list[Shell]:
    """One replica for each clock, A, B, C ...; a skew is how many steps a clock is ahead."""
    world, made = World(), []
    for number, skew in enumerate(skews, 1):
        members = made[0].replica.members() if made else []
        made.append(Shell(world, number, skew, members))
    exchange(*made)
    return made


def exchange(*peers: Shell) -> dict[str, str]:
    """All hear of all; return what they show, which must be one thing, and sound."""
    for shell in peers * 2:
        shell.hear(*(other for other in peers if other is not shell))
    shown = [shell.shows for shell in peers]
    assert all(one == shown[0] for one in shown), shown
    assert len({shell.fs.digest() for shell in peers}) == 1
    for shell in peers:
        assert shell.findings() == []
    return shown[0]


def entry_of(shown: Mapping[str, object], path: str, replica: str) -> str:
    """Return the path of the one conflict entry of `path` that this replica made."""
    stem, extension = os.path.splitext(path)
    pattern = rf"{re.escape(stem)}\.conflict-{replica}-[{CROCKFORD}]+{re.escape(extension)}"
    found = [other for other in shown if re.fullmatch(pattern, other)]
    assert len(found) == 1, f"conflict entries of {path} by {replica} in {sorted(shown)}: {found}"
    return found[0]


def conflict(path: str = "f") -> tuple[Shell, Shell, str]:
    """A and B wrote into one file at once; return them and the path of the entry, which has what A wrote."""
    a, b = shells(0, 0)
    *above, _ = path.split("/")
    for directory in above:
        a.mkdir(directory)
    a.create(path)
    b.hear(a)
    a.write(path, "from A")
    b.write(path, "from B")
    shown = exchange(a, b)
    entry = entry_of(shown, path, "A")
    assert shown == {**dict.fromkeys(above, "dir"), path: "from B", entry: "from A"}
    return a, b, entry
