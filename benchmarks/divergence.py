"""Replicas that went apart: histories for `benchmarks.merge`, made by requests in stores on the disk.

No daemon and no mount: a site here is the file system of one replica as the FUSE adapter would call it, on
RocksDB.  Its clock is ours, so that what two sites did apart can be interleaved as if at the same time.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from crdt.causality import ReplicaId, VersionVector
from crdt.codec import pack, unpack
from crdt.encoding import decode_commit
from crdt.facts import ROOT, Commit, Ino, Member
from elmer.rocks import RocksStore
from replication.limits import Limits
from translation.filesystem import Caller, FileSystem
from translation.replica import Replica, Volume

VOLUME = Volume(b"v" * 16, b"s" * 32, b"k" * 32)
START_NS = 1_800_000_000_000_000_000
STEP_NS = 1000
CALLER = Caller(0, 0)
FILE_BYTES = 1000


class Clock:
    def __init__(self, now_ns: int = START_NS) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns


class Site:
    """The file system of a replica whose rows are in `path`; use it as a context."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.clock = clock
        self.store = RocksStore(path)
        self.replica = Replica(self.store, clock)
        self.fs = FileSystem(self.replica)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.fs.close()
        self.store.close()

    def tick(self, step_ns: int = STEP_NS) -> None:
        self.clock.now_ns += step_ns

    # -- directories -------------------------------------------------------------------------------

    def make_tree(self, count: int) -> list[Ino]:
        """Make this many directories, ten in each."""
        made: list[Ino] = []
        for number in range(count):
            self.tick()
            parent = ROOT if number < 10 else made[number // 10 - 1]
            made.append(Ino(self.fs.mkdir(parent, b"d%d" % number, 0o755, CALLER).ino))
        return made

    def move_at_random(self, directories: Sequence[Ino], count: int, step_ns: int, seed: int) -> None:
        """Move random directories into random ones; a move into itself is refused and does not count."""
        draw = random.Random(seed)
        done = 0
        while done < count:
            moved, into = draw.choice(directories), draw.choice(directories)
            self.tick(step_ns)
            parent, name = self.place_of(moved)
            try:
                self.fs.rename(parent, name, into, b"m%d" % done)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
            else:
                done += 1

    def place_of(self, ino: Ino) -> tuple[Ino, bytes]:
        inode = self.replica.state.inode(ino)
        assert inode is not None, ino
        return inode.shown[0].parent, inode.shown[0].name

    def depth_of(self, ino: Ino) -> int:
        depth = 0
        while ino != ROOT:
            ino, depth = self.place_of(ino)[0], depth + 1
        return depth

    # -- files -------------------------------------------------------------------------------------

    def make_files(self, parent: Ino, stem: str, count: int, size: int) -> list[Ino]:
        draw = random.Random(stem)
        made = []
        for number in range(count):
            self.tick()
            name = f"{stem}-{number}.txt".encode()
            fh, found = self.fs.create(parent, name, 0o644, os.O_WRONLY, CALLER)
            self._write(fh, size, draw)
            made.append(Ino(found.ino))
        return made

    def overwrite(self, files: Sequence[Ino], size: int) -> None:
        """Give each a new content, as a program does that opens it with O_TRUNC."""
        draw = random.Random(self.replica.name)
        for ino in files:
            self.tick()
            self.fs.setattr(ino, size=0)
            self._write(self.fs.open(ino, os.O_WRONLY), size, draw)

    def _write(self, fh: int, size: int, draw: random.Random) -> None:
        self.fs.write(fh, 0, draw.randbytes(size))
        self.fs.flush(fh)
        self.fs.release(fh)

    # -- passes ------------------------------------------------------------------------------------

    def take(self, peer: Site, *, whole: bool = False) -> None:
        """Merge all that a peer has and this site lacks."""
        for each in passes_to(self, peer, whole=whole):
            self.replica.receive(*each.for_receive())


def create(path: Path, number: int, name: str, clock: Clock, members: Sequence[Member] = ()) -> Site:
    """Make a replica in a new directory."""
    store = RocksStore(path, create=True)
    store_id = number.to_bytes(16, "big")
    Replica.create(store, VOLUME, ReplicaId(number), name, store_id, clock(), members)
    store.close()
    return Site(path, clock)


@dataclass(frozen=True, slots=True)
class Pass:
    """What one call of `Replica.receive` takes."""

    commits: list[bytes]
    vector: VersionVector
    peer: bytes
    cursor: int

    def for_receive(self) -> tuple[list[bytes], VersionVector, bytes, int]:
        return self.commits, self.vector, self.peer, self.cursor


def passes(source: Site, seen: VersionVector, cursor: int, *, whole: bool = False) -> Iterator[Pass]:
    """Yield what `source` sends to somebody who has `seen` this: in slices as a peer stages them
    (replication.limits), or as one batch."""
    source.replica.sync()
    limits = Limits()
    commits: list[bytes] = []
    size = 0
    while True:
        part = source.replica.arrivals(cursor, seen, limits.slice_bytes)
        commits += part.commits
        size += sum(map(len, part.commits))
        ended = part.next == cursor
        cursor, seen = part.next, part.vector
        full = size >= limits.stage_bytes_max or len(commits) >= limits.stage_commits_max
        if ended or (full and not whole):
            yield Pass(commits, seen, source.replica.store_id, cursor)
            commits, size = [], 0
        if ended:
            return


def passes_to(target: Site, source: Site, *, whole: bool = False) -> Iterator[Pass]:
    """Yield what `source` would send to `target`."""
    cursor = target.replica.cursor(source.replica.store_id)
    return passes(source, target.replica.seen(), cursor, whole=whole)


def save(path: Path, kept: Iterator[Pass]) -> int:
    """Write passes to a file, so that another process merges them; return how many commits they have."""
    count = 0
    with path.open("wb") as file:
        for each in kept:
            data = pack((each.commits, list(each.vector), each.peer, each.cursor))
            file.write(len(data).to_bytes(8, "big") + data)
            count += len(each.commits)
    return count


def saved(path: Path) -> Iterator[Pass]:
    """Read them back, one at a time: what is not merged yet is not in memory."""
    with path.open("rb") as file:
        while size := file.read(8):
            commits, vector, peer, cursor = unpack(file.read(int.from_bytes(size, "big")))
            yield Pass(list(commits), VersionVector(dict(vector)), peer, cursor)


def newest_commit(source: Site) -> Commit:
    source.replica.sync()
    (commit,) = source.replica.arrivals(source.replica.arrival_end - 1, VersionVector(), 1).commits
    return decode_commit(commit)


@contextmanager
def apart(place: Path, names: str) -> Iterator[list[Site]]:
    """New replicas of one volume, each with a clock of its own, that know of each other."""
    sites: list[Site] = []
    try:
        for number, name in enumerate(names, 1):
            members = sites[0].replica.members() if sites else ()
            sites.append(create(place / name, number, name, Clock(), members))
        yield sites
    finally:
        for site in sites:
            site.__exit__()
