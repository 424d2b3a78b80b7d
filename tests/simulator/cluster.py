"""Sites of one volume in one thread: production replicas, file systems and sessions, our own clock,
disk and network.

Each site has a `MemoryStore`, whose crash images are what a power cut leaves; a wall clock that may be
wrong by an hour; and connections that deliver in order what they deliver, late, and may be cut at any
moment.  Nothing here draws a random number but from the `Random` that is passed in.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from crdt.absorption import together
from crdt.causality import ReplicaId, VersionVector, counter_of, replica_of
from crdt.codec import CodecError
from crdt.encoding import decode_commit
from crdt.facts import Commit, Fact, Ino, Ref, Register, Version
from crdt.store import MemoryStore
from crdt.waiting import is_here
from replication.fetch import Fetch
from replication.limits import Limits
from replication.local import Arrivals, PeerError
from replication.message import Identity, State, pack_messages, unpack_messages
from replication.session import Session
from replication.staging import Staging
from tests.simulator.laws import require
from translation.mounted import Mounted
from translation.replica import Replica, Volume

START_NS = 1_800_000_000_000_000_000
VOLUME = Volume(b"v" * 16, b"s" * 32, b"k" * 32)
MISSING_MAX = 1000
LATENCY_MAX_S = 0.5


# Called with the commits that a replica is about to merge; returns what is called when it has.
Watch = Callable[["Site", Sequence[bytes]], Callable[[], None]]


def subject(fact: Fact) -> object:
    """What a commit may say once: of a field or a version anything, of all else the same."""
    match fact:
        case Register():
            return fact.ino, fact.field
        case Version():
            return Ref(fact.ino, fact.version)
    return fact


class Library:
    """All commits as they were made, and all blocks: what the oracle is told."""

    def __init__(self) -> None:
        self.commits: dict[int, Commit] = {}
        self.seen: dict[int, VersionVector] = {}  # what the author of each had seen
        self.blocks: dict[bytes, bytes] = {}
        self.digests: Counter[bytes] = Counter()  # of all contents: how often each was written

    def add(self, commit: Commit, seen: VersionVector) -> None:
        said = [subject(fact) for fact in commit.facts]
        require(len(said) == len(set(said)), "once", str(commit))
        self.commits[commit.dot] = commit
        self.seen[commit.dot] = seen
        self.digests.update(fact.digest for fact in commit.facts if isinstance(fact, Version))

    def forget(self, replica: ReplicaId, kept: int) -> None:
        """A crash took the commits of this replica after `kept`; nobody has heard of them."""
        lost = [d for d in self.commits if replica_of(d) == replica and counter_of(d) > kept]
        for dot in lost:
            del self.commits[dot], self.seen[dot]


class RecordingStore(MemoryStore):
    """A store that shows its blocks to the library, and counts what was committed."""

    def __init__(self, library: Library, rows: Mapping[bytes, bytes] | None = None) -> None:
        super().__init__(rows)
        self.library = library
        self.batch_count = 0

    def commit(self, batch: Mapping[bytes, bytes | None], *, sync: bool = False) -> None:
        for key, value in batch.items():
            if key[:1] == b"K" and value is not None:
                self.library.blocks[key[1:]] = value
        self.batch_count += 1
        super().commit(batch, sync=sync)


class RecordingReplica(Replica):
    """A replica that shows its commits to the library, as they are when they are made."""

    library: Library

    def _put_arrival(self, at: int, commit: Commit, keys: list[bytes]) -> None:
        if replica_of(commit.dot) == self.replica:
            assert commit.dot not in self.library.commits, f"the dot {commit.dot} is used twice"
            self.library.add(commit, self.seen())
        super()._put_arrival(at, commit, keys)


class Site:
    """One replica with its disk, its clock and what is open there."""

    def __init__(self, cluster: Cluster, number: int, name: str, skew_ns: int) -> None:
        self.cluster, self.number, self.name, self.skew_ns = cluster, number, name, skew_ns
        self.store_id = number.to_bytes(16, "big")
        self.store = RecordingStore(cluster.library)
        members = cluster.sites[0].replica.members() if cluster.sites else ()
        Replica.create(self.store, VOLUME, ReplicaId(number), name, self.store_id, self.wall_ns(), members)
        self.start()
        first = self.replica.arrivals(0, VersionVector(), 1 << 20).commits
        assert len(first) == 1, "a replica begins with one commit"
        cluster.note_first(first[0])

    def wall_ns(self) -> int:
        return START_NS + self.cluster.now_ns + self.skew_ns

    def start(self) -> None:
        self.replica = RecordingReplica(self.store, self.wall_ns)
        self.replica.library = self.cluster.library
        self.fs = Mounted(self.replica)
        self.fetch = Fetch(self.cluster.limits)
        self.staging: dict[bytes, Staging] = {}

    def identity(self) -> Identity:
        return Identity(self.replica.replica, self.name, self.store_id)

    def crash(self, kept: int) -> None:
        """Lose power: of the batches after the last sync only the first `kept` are on the disk."""
        self.cluster.disconnect(self)
        image = self.store.crashed(kept)
        self.store = RecordingStore(self.cluster.library, image.rows)
        self.kept_commits = Replica(self.store, self.wall_ns).seen().of(self.replica.replica)
        for site in self.cluster.sites:
            heard = site.replica.seen().of(self.replica.replica)
            assert site is self or heard <= self.kept_commits, "told before it was durable"
        self.cluster.library.forget(self.replica.replica, self.kept_commits)
        self.start()

    def kill(self) -> None:
        """End the process: what it wrote is in the system's memory, on the disk or not."""
        self.cluster.disconnect(self)
        self.start()

    def waiting(self) -> set[Ino]:
        """The files that show something older than their newest content, or less than all of it, or lack
        blocks of it."""
        lacking = (Ino(int.from_bytes(key[33:41], "big")) for key, _ in self.store.scan(b"W", b"X"))
        return {*self.replica.hiding(), *lacking, *self._shown_in_part()}

    def _shown_in_part(self) -> Iterator[Ino]:
        """The files that by their merge policy show heads together, one of them not yet: it lacks blocks, or
        its content comes with what superseded it."""
        state = self.replica.state
        for key, _ in self.store.scan(b"I", b"J"):
            inode = state.inode(Ino(int.from_bytes(key[1:9], "big")))
            if inode is None or not inode.is_regular:
                continue
            if not all(is_here(state, inode, head) for head in together(state, inode)):
                yield inode.ino

    def tell(self) -> None:
        """Make durable what is here and let the peers know, as the daemon does after each commit."""
        sessions = self.cluster.sessions_of(self)
        probes = [session.probes_heard for session in sessions]
        self.replica.sync()
        state = State(self.replica.vector(), len(self.replica.wanted(MISSING_MAX)))
        for session, probe in zip(sessions, probes, strict=True):
            session.has_changed = False
            session.advance(state, self.replica.durable_end(), probe)


class Door:
    """What a session sees of a site: `replication.local.Local`."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.replica, self.name, self.store_id = site.identity()
        self.volume_id, self.secret, _ = VOLUME

    def vector(self) -> VersionVector:
        return self.site.replica.vector()

    def durable_end(self) -> int:
        return self.site.replica.durable_end()

    def arrivals(self, start: int, seen: VersionVector, bytes_max: int) -> Arrivals:
        return Arrivals(*self.site.replica.arrivals(start, seen, bytes_max))

    def receive(self, commits: Sequence[bytes], vector: VersionVector, peer: bytes, cursor: int) -> None:
        merged = self.site.cluster.on_merge(self.site, commits)
        try:
            self.site.replica.receive(commits, vector, peer, cursor)
        except CodecError as error:
            raise PeerError(str(error)) from error
        merged()

    def cursor(self, peer: bytes) -> int:
        return self.site.replica.cursor(peer)

    def wanted(self, limit: int, first: Sequence[bytes] = ()) -> list[bytes]:
        return self.site.replica.wanted(limit, first)

    def wanted_changes(self) -> int:
        return self.site.replica.wanted_changes()

    def blocks(self, hashes: Sequence[bytes]) -> list[bytes | None]:
        return self.site.replica.blocks(hashes)

    def takes_blocks(self) -> bool:
        return True

    def add_blocks(self, blocks: Sequence[bytes]) -> None:
        self.site.replica.add_blocks(blocks)

    def check_peer(self, replica: ReplicaId, name: str, store_id: bytes) -> None:
        self.site.replica.check_peer(replica, name, store_id)

    def sync(self) -> None:
        self.site.replica.sync()


@dataclass
class End:
    """One side of a connection: its session, and the frames on their way to it."""

    site: Site
    session: Session
    inbox: deque[tuple[int, bytes]] = field(default_factory=deque)  # due, frame


class Connection:
    def __init__(self, key: int, one: Site, other: Site) -> None:
        self.ends = tuple(self._end(key, *pair) for pair in ((one, other), (other, one)))

    def _end(self, key: int, site: Site, peer: Site) -> End:
        site.replica.check_peer(*peer.identity())
        staging = site.staging.setdefault(peer.store_id, Staging(peer.store_id))
        door = Door(site)
        session = Session(door, peer.identity(), key, site.fetch, staging, site.cluster.limits)
        return End(site, session)

    def send(self, cluster: Cluster, random: Random) -> None:
        """Raises PeerError where a peer was silent for too long, by a clock that runs faster than ours."""
        for end, peer in (self.ends, self.ends[::-1]):
            end.session.tick(cluster.now_s)
            messages = end.session.take(cluster.now_s)
            if messages:
                latest = peer.inbox[-1][0] if peer.inbox else 0
                due = cluster.now_ns + int(random.random() * LATENCY_MAX_S * 1e9)
                peer.inbox.append((max(latest, due), pack_messages(messages)))

    def deliver(self, cluster: Cluster) -> None:
        for end in self.ends:
            while end.inbox and end.inbox[0][0] <= cluster.now_ns:
                _, frame = end.inbox.popleft()
                for message in unpack_messages(frame):
                    end.session.receive(message, cluster.now_s)

    def is_quiet(self) -> bool:
        return not any(end.inbox or end.session.has_changed for end in self.ends)


class Cluster:
    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.now_ns = 0
        self.library = Library()
        self.sites: list[Site] = []
        self.connections: dict[tuple[int, int], Connection] = {}
        self.connection_count = 0
        self.on_merge: Watch = lambda _site, _commits: lambda: None

    @property
    def now_s(self) -> float:
        return self.now_ns / 1e9

    def add(self, name: str, skew_ns: int, number: int | None = None) -> Site:
        site = Site(self, number or len(self.sites) + 1, name, skew_ns)
        self.sites.append(site)
        return site

    def note_first(self, data: bytes) -> None:
        """The first commit of a replica is made before it can be watched."""
        commit = decode_commit(data)
        self.library.add(commit, VersionVector())

    # -- network ---------------------------------------------------------------------------------

    def connect(self, one: int, other: int) -> None:
        key = min(one, other), max(one, other)
        if key not in self.connections:
            self.connection_count += 1
            one_site, other_site = self.sites[key[0]], self.sites[key[1]]
            self.connections[key] = Connection(self.connection_count, one_site, other_site)

    def cut(self, one: int, other: int) -> None:
        """What is on its way is lost."""
        connection = self.connections.pop((min(one, other), max(one, other)), None)
        for end in connection.ends if connection else ():
            end.session.fetch.leave(end.session.key)

    def disconnect(self, site: Site) -> None:
        for one, other in list(self.connections):
            if site in (self.sites[one], self.sites[other]):
                self.cut(one, other)

    def sessions_of(self, site: Site) -> list[Session]:
        ends = [end for connection in self.connections.values() for end in connection.ends]
        return [end.session for end in ends if end.site is site]

    def run(self, rounds: int, random: Random) -> None:
        """Let the network do its work for a while; each site syncs and tells now and then."""
        for _ in range(rounds):
            self.now_ns += random.randrange(10**8)
            for site in self.sites:
                if random.random() < 0.7:
                    site.tell()
            keys = list(self.connections)
            random.shuffle(keys)
            for key in keys:
                if self._is_alive(key, random):
                    self.connections[key].deliver(self)

    def _is_alive(self, key: tuple[int, int], random: Random) -> bool:
        """Let a connection send; one that gives up is cut."""
        try:
            self.connections[key].send(self, random)
        except PeerError:
            self.cut(*key)
            return False
        return True

    def settle(self, random: Random, rounds_max: int = 2000) -> None:
        """Run until all is said.  Asserts that this ends."""
        quiet = 0
        for _ in range(rounds_max):
            self.now_ns += 10**9
            for site in self.sites:
                site.tell()
            for key in list(self.connections):
                if not self._is_alive(key, random):
                    self.connect(*key)
            self.now_ns += 10**9
            for connection in list(self.connections.values()):
                connection.deliver(self)
            quiet = quiet + 1 if self._is_settled() else 0
            if quiet == 2:
                return
        vectors = [dict(site.replica.vector()) for site in self.sites]
        wanted = [len(site.replica.wanted(MISSING_MAX)) for site in self.sites]
        raise AssertionError(f"the cluster does not settle: {vectors}, blocks missing {wanted}")

    def _is_settled(self) -> bool:
        vectors = {tuple(site.replica.seen()) for site in self.sites}
        wanted = any(site.replica.wanted(1) for site in self.sites)
        quiet = all(connection.is_quiet() for connection in self.connections.values())
        return len(vectors) == 1 and not wanted and quiet
