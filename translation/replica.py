"""One replica: its state, its clock, and the two ways in.

`commit` takes the facts of a local request, `receive` those of other replicas; both go through
crdt.view.Transaction into one atomic batch.  A dot is used when its batch is committed, so a request that
fails uses none.  Nothing is told to others before it is durable (`sync`), or a power cut would make this
replica use a dot twice.

All is called with the one lock held, but for `sync`, and for `vector` and `durable_end`, which read one
attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, cast

from crdt.absorption import branches, together
from crdt.blocks import block_key, hash_of
from crdt.causality import Dot, ReplicaId, Stamp, VersionVector, counter_of, make_dot, replica_of
from crdt.changes import Changes, changes_of
from crdt.codec import CodecError, CorruptStore, pack, unpack
from crdt.encoding import decode_commit, encode_commit
from crdt.entries import branch_ino
from crdt.facts import (
    ROOT,
    Birth,
    Commit,
    Fact,
    Field,
    Ino,
    Kind,
    Member,
    Pin,
    Policy,
    Ref,
    Register,
    Setting,
    VersionId,
)
from crdt.heads import FOR_OPEN, Heads, Held
from crdt.hlc import next_time
from crdt.moves import decode_logged
from crdt.names import View
from crdt.policy import Patterns, pattern_setting
from crdt.rows import Inode, Row, Stamped, StoredVersion, stamped_list
from crdt.state import VOLUME_KEY, State
from crdt.store import Store
from crdt.versions import owner
from crdt.view import Transaction
from crdt.waiting import waiting_files
from translation.in_step import InStep

FORMAT = 1
CLOCK_EVERY = 256  # local commits after which the clock is written
SLICE_ROWS = 16_384  # arrivals that one call looks at: it holds the lock
ACTIVE = 1

FORMAT_KEY, REPLICA_KEY, CLOCK_KEY = b"Zformat", b"Zreplica", b"Zvector"


class Volume(NamedTuple):
    volume_id: bytes  # 16 bytes
    secret: bytes  # 32 bytes that all members know
    digest_key: bytes  # 32 bytes, for the digests of contents; never changes


class Moment(NamedTuple):
    """The dot and time that the next commit of this replica will have."""

    dot: Dot
    hlc: int
    wall_ns: int

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.hlc, self.dot)


class Slice(NamedTuple):
    """Commits for a peer: encoded, the cursor after them, and what the peer has seen with them."""

    commits: list[bytes]
    next: int
    vector: VersionVector


class NewerFormat(Exception):
    """The store was written by a newer release."""


class UnknownPeer(Exception):
    """A peer that may not come in, with the reason."""


class Replica:
    def __init__(self, store: Store, wall_ns: Callable[[], int]) -> None:
        self.store = store
        self.wall_ns = wall_ns
        self.state = State(store)
        self.state.waits = self._lacks_blocks()
        self.in_step = InStep(self.state, self._abandon)
        self._check_format()
        self.volume = Volume(*cast(tuple[bytes, bytes, bytes], self._row(VOLUME_KEY)))
        replica, name, store_id = cast(tuple[int, str, bytes], self._row(REPLICA_KEY))
        self.replica, self.name, self.store_id = ReplicaId(replica), name, store_id
        self.latest_hlc, end, vector = self._read_clock()
        # Arrivals and vector are one attribute: `sync` reads it without the lock, and a vector that is
        # ahead of the arrivals would tell a peer that it has seen what it was never sent.
        self._committed_to = (end, vector)
        self._durable = self._committed_to
        self._told_end = end  # arrivals before it may have been told to somebody; after a start, all
        self._members = {member.replica: member for member in self._read_members()}
        self.patterns = Patterns(self._read_settings())
        self.view = View(self.state, self.member_name)
        self.view.count_marks()
        self._changes = Changes()
        self.on_commit: Callable[[], None] | None = None
        self.on_merge: Callable[[], None] = lambda: None  # called when what peers made was merged
        self.held: Held = frozenset
        self.latest_commit: Commit | None = None  # of those made here since the start

    @staticmethod
    def create(
        store: Store,
        volume: Volume,
        replica_id: ReplicaId,
        name: str,
        store_id: bytes,
        wall_ns: int,
        members: Sequence[Member] = (),
        owner_ids: tuple[int, int] | None = None,
    ) -> None:
        """Write the first rows of a store: of a new volume, or of a further replica.

        `members` are those that the newcomer was told of when it joined.  The first commit says that this
        replica is one; that of a new volume also gives the root to `owner_ids` (uid, gid).
        """
        root = Inode(ROOT, [Stamped(Dot(0), 0, 0, Birth(ROOT, Kind.DIRECTORY, 0o755, 0, 0, 0))])
        state = State(store)
        state.add_inode(root)
        state.put(FORMAT_KEY, pack(FORMAT))
        state.put(VOLUME_KEY, pack(volume))
        state.put(REPLICA_KEY, pack((replica_id, name, store_id)))
        state.put(CLOCK_KEY, pack((0, 0, ())))
        state.commit()
        replica = Replica(store, lambda: wall_ns)
        replica._members |= {member.replica: member for member in members}
        facts: list[Fact] = [Member(replica_id, name, store_id, ACTIVE)]
        if owner_ids is not None:
            facts.append(Register(ROOT, Field.UID, owner_ids[0], ()))
            facts.append(Register(ROOT, Field.GID, owner_ids[1], ()))
        replica.commit(replica.begin(), facts)
        store.sync()

    def _check_format(self) -> None:
        found = self.store.get(FORMAT_KEY)
        if found is None:
            raise CorruptStore(FORMAT_KEY, "the row that says the format is missing: this is no elmer store")
        version = unpack(found)
        if version != FORMAT:
            raise NewerFormat(f"the store has format {version}, this release reads format {FORMAT}")

    def _row(self, key: bytes) -> object:
        data = self.store.get(key)
        if data is None:
            raise CorruptStore(key, "it is missing")
        try:
            return unpack(data)
        except CodecError as error:
            raise CorruptStore(key, str(error)) from error

    def _read_clock(self) -> tuple[int, int, VersionVector]:
        """Return the latest time, the count of arrivals and the vector.

        They are written with each merge; what was committed here since is read off its arrivals, of which
        there are less than CLOCK_EVERY.
        """
        hlc, end, counters = cast(tuple[int, int, Row], self._row(CLOCK_KEY))
        vector = VersionVector({ReplicaId(r): n for r, n in counters})
        for _, data in self.store.scan(b"A" + end.to_bytes(8, "big"), b"B"):
            dot, at, _, _ = cast(Row, unpack(data))
            hlc, end, vector = max(hlc, at), end + 1, vector.with_dot(dot)
        return hlc, end, vector

    # -- members -----------------------------------------------------------------------------------

    def _read_members(self) -> Iterable[Member]:
        for _, data in self.store.scan(b"M", b"N"):
            yield stamped_list((cast(Row, unpack(data)),))[0].fact

    def _read_settings(self) -> Iterable[Setting]:
        for _, data in self.store.scan(b"S", b"T"):
            yield stamped_list((cast(Row, unpack(data)),))[0].fact

    def set_pattern(self, pattern: str, policy: Policy) -> None:
        """Choose the merge policy of new files whose names match; UNSET: choose none any more.

        Raises ValueError where this is no pattern.
        """
        self.commit(self.begin(), [pattern_setting(pattern, policy)])
        self.patterns = Patterns(self._read_settings())

    def members(self) -> list[Member]:
        return [member for _, member in sorted(self._members.items())]

    def member_name(self, replica: int) -> str:
        member = self._members.get(ReplicaId(replica))
        return member.name if member else str(replica)

    def check_peer(self, replica: ReplicaId, name: str, store_id: bytes) -> None:
        """Raises UnknownPeer where somebody must not come in under this number."""
        known = self._members.get(replica)
        if replica == self.replica or (known is not None and known.store_id != store_id):
            raise UnknownPeer(
                f"{name} has the replica number {replica} of {self.member_name(replica)}, but another store:"
                " it was copied or restored; let it join again under a new name"
            )
        if known is not None and known.state != ACTIVE:
            raise UnknownPeer(f"{known.name} is no active member of this volume any more")

    # -- local commits -----------------------------------------------------------------------------

    def begin(self) -> Moment:
        """Return dot and time of the next commit: after every time that was heard of.

        Raises OSError (EROFS) where there may be none (translation.in_step).
        """
        self.in_step.check()
        wall_ns = self.wall_ns()
        dot = make_dot(self.replica, self.seen().of(self.replica) + 1)
        return Moment(dot, next_time(self.latest_hlc, wall_ns), wall_ns)

    def commit(
        self,
        moment: Moment,
        facts: Sequence[Fact],
        rows: Mapping[bytes, bytes | None] | None = None,
        repairs: Callable[[Transaction], Sequence[Fact]] = lambda _: (),
    ) -> None:
        """Commit facts of this replica, with rows that are no facts in the same batch.

        `repairs` is asked, of what would be committed, which facts are to be added (translation.locality).
        """
        commit = Commit(moment.dot, moment.hlc, moment.wall_ns, said_once(facts))
        with self.in_step.committing():
            transaction, keys = self._try(commit, rows)
            while added := repairs(transaction):
                commit = commit._replace(facts=with_repairs(commit.facts, added))
                self.state.rollback()
                transaction, keys = self._try(commit, rows)
            changes = changes_of(transaction)
            vector = self.seen().with_dot(moment.dot)
            self._put_arrival(self.arrival_end, commit, keys)
            if self.arrival_end % CLOCK_EVERY == 0:
                self._put_clock(moment.hlc, self.arrival_end + 1, vector)
            self.state.commit()
            self._committed(transaction, changes, moment.hlc, 1, vector)
        self.latest_commit = commit
        if self.on_commit is not None:
            self.on_commit()

    def _try(
        self, commit: Commit, rows: Mapping[bytes, bytes | None] | None
    ) -> tuple[Transaction, list[bytes]]:
        for key, value in (rows or {}).items():
            self.state.put(key, value)
        transaction = Transaction(self.state, self.view, here=True, held=self.held)
        keys = transaction.apply(commit)
        transaction.finish()
        return transaction, keys

    def put_rows(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Commit rows that are no facts."""
        self.store.commit(rows)

    def _put_arrival(self, at: int, commit: Commit, keys: list[bytes]) -> None:
        row = (commit.dot, commit.hlc, commit.wall_ns, keys)
        self.state.put(b"A" + at.to_bytes(8, "big"), pack(row))

    def _put_clock(self, hlc: int, arrival_end: int, vector: VersionVector) -> None:
        self.state.put(CLOCK_KEY, pack((hlc, arrival_end, list(vector))))

    def _committed(
        self, transaction: Transaction, changes: Changes, hlc: int, count: int, vector: VersionVector
    ) -> None:
        transaction.done()
        self.latest_hlc = max(self.latest_hlc, hlc)
        self._committed_to = (self.arrival_end + count, vector)
        if changes:
            self._changes.merge(changes)

    def take_changes(self) -> Changes:
        """Return what the kernel has to be told since the last call."""
        changes, self._changes = self._changes, Changes()
        return changes

    # -- what replication needs --------------------------------------------------------------------

    def sync(self) -> None:
        """Make durable what was committed before the call.  In any thread, without the lock."""
        end, vector = self._committed_to
        self.store.sync()
        # Another thread may have been later, and faster.  A merge of dead dots brings no arrival.
        if end >= self._durable[0] and self._durable[1] <= vector:
            self._durable = end, vector

    def vector(self) -> VersionVector:
        """What is durable here, and may be told."""
        return self._durable[1]

    def seen(self) -> VersionVector:
        """What was committed here, durable or not."""
        return self._committed_to[1]

    @property
    def arrival_end(self) -> int:
        return self._committed_to[0]

    def durable_end(self) -> int:
        return self._durable[0]

    def facts_count(self) -> int:
        return self.arrival_end

    def arrivals(self, start: int, seen: VersionVector, bytes_max: int) -> Slice:
        """Return durable commits from the arrival `start` on that `seen` lacks, as far as they fit.

        Of each commit the facts that nothing superseded; one without any is left out, its dot is dead.
        """
        durable_end, durable = self._durable  # once: `sync` replaces it without the lock
        commits: list[bytes] = []
        size, at, vector = 0, start, seen
        end = min(durable_end, start + SLICE_ROWS)
        first, last = b"A" + start.to_bytes(8, "big"), b"A" + end.to_bytes(8, "big")
        for key, data in self.store.scan(first, last):
            dot, hlc, wall_ns, keys = cast(Row, unpack(data))
            if dot not in seen:
                if size >= bytes_max:
                    self._told_end = max(self._told_end, at)
                    return Slice(commits, at, vector)
                facts = self._facts_of(dot, keys, is_told=at < self._told_end)
                if facts:
                    commits.append(encode_commit(Commit(dot, hlc, wall_ns, facts)))
                    size += len(commits[-1])
                vector = vector.with_dot(dot)
            at = int.from_bytes(key[1:], "big") + 1
        if end == durable_end:
            # Dots that are dead have no arrival, here or anywhere, and are in the vector all the same.
            vector = vector.merge(durable)
        self._told_end = max(self._told_end, end)
        return Slice(commits, max(at, end), vector)

    def _facts_of(self, dot: Dot, keys: Iterable[bytes], *, is_told: bool) -> tuple[Fact, ...]:
        found: list[Fact] = []
        for key in keys:
            found += self._row_facts(key, dot, is_told=is_told)
        return tuple(found)

    def _row_facts(self, key: bytes, dot: Dot, *, is_told: bool) -> Sequence[Fact]:
        """The facts of a commit in one row that holds some of them."""
        kind = key[:1]
        if kind == b"I":
            inode = self.state.inode(Ino(int.from_bytes(key[1:], "big")))
            return [] if inode is None else inode.facts_of(dot)
        if kind == b"V":
            ref = Ref(Ino(int.from_bytes(key[1:9], "big")), VersionId(int.from_bytes(key[9:], "big")))
            stored = self.state.version(ref)
            if stored is None:
                return []
            return [stored.fact if is_told else self._without_old_content(ref, stored)]
        data = self.state.get(key)
        if data is None:
            return []
        if kind == b"G":
            return [decode_logged(data).move.fact]
        rows = cast(Row, unpack(data)) if kind == b"X" else (cast(Row, unpack(data)),)
        return [stamped.fact for stamped in stamped_list(rows) if stamped.dot == dot]

    def _without_old_content(self, ref: Ref, stored: StoredVersion) -> Fact:
        """A version that was superseded before anybody was told of it needs its place in the history, but
        not its inline bytes.

        SUBTLE: only one of ours that nobody knows.  Somebody who knows it may have forked from it, and then
        it may have to show again.
        """
        if not stored.fact.inline or replica_of(stored.dot) != self.replica:
            return stored.fact
        holder = self.state.inode(owner(self.state, ref))
        heads = (*holder.heads, *(head for head, _ in holder.settled)) if holder else ()
        if any(ref in (head.ref, head.here.ref) for head in heads):
            return stored.fact
        return stored.fact._replace(inline=None, bare=True)

    def receive(self, commits: Sequence[bytes], vector: VersionVector, peer: bytes, cursor: int) -> None:
        """Merge the commits of a peer as one batch, and note how far it was read.

        Raises CodecError on bytes that are no commits of this volume; nothing is changed then.
        """
        new = [commit for commit in map(decode_commit, commits) if commit.dot not in self.seen()]
        hlc, counters = self.latest_hlc, dict(self.seen().counters)
        with self.in_step.committing():
            try:
                transaction = Transaction(self.state, self.view, here=False, held=self.held)
                for at, commit in enumerate(new, self.arrival_end):
                    self._check_commit(commit, counters, vector)
                    self._put_arrival(at, commit, transaction.apply(commit))
                    hlc = max(hlc, commit.hlc)
                    counters[replica_of(commit.dot)] = counter_of(commit.dot)
                transaction.finish()
                changes = changes_of(transaction)
                seen = VersionVector(counters).merge(vector)
                self.state.put(b"Zcursor" + peer, pack(cursor))
                self._put_clock(hlc, self.arrival_end + len(new), seen)
                self.state.commit()
            except (LookupError, AssertionError, ValueError, AttributeError, OverflowError) as error:
                # Well-formed, and yet nothing that a replica makes: the peer is at fault, or its release is.
                raise CodecError(f"a commit does not fit what is here: {error!r}") from error
            self._committed(transaction, changes, hlc, len(new), seen)
            self._note_volume(new)
        self.on_merge()

    def _abandon(self) -> None:
        self.state.rollback()
        self.view.forget_unions()

    def _check_commit(self, commit: Commit, seen: Mapping[ReplicaId, int], vector: VersionVector) -> None:
        replica, counter = replica_of(commit.dot), counter_of(commit.dot)
        if counter <= seen.get(replica, 0) or commit.dot not in vector:
            raise CodecError(f"the commit {commit.dot} is out of order")
        if replica == self.replica:
            raise CodecError(
                f"the peer has commit {counter} of this replica, which is not here: this store"
                " is an old copy; let it join again"
            )

    def _note_volume(self, commits: Iterable[Commit]) -> None:
        kinds = {type(fact) for commit in commits for fact in commit.facts}
        if Member in kinds:
            self._members = {member.replica: member for member in self._read_members()}
        if Setting in kinds:
            self.patterns = Patterns(self._read_settings())

    def cursor(self, peer: bytes) -> int:
        data = self.store.get(b"Zcursor" + peer)
        return 0 if data is None else cast(int, unpack(data))

    # -- blocks ------------------------------------------------------------------------------------

    def wanted(self, limit: int, first: Sequence[bytes] = ()) -> list[bytes]:
        """Return hashes of blocks that are not here, those of `first` that are wanted first."""
        found = {h: None for h in first if self.store.get(block_key(h)) is None}
        for key, _ in self.store.scan(b"W", b"X"):
            if len(found) >= limit:
                break
            found[key[1:33]] = None
        return list(found)[:limit]

    def wanted_changes(self) -> int:
        """How often `wanted` may have changed: who reads this first, and then that, misses nothing."""
        return self.state.wanted_changes

    def _lacks_blocks(self) -> bool:
        return any(True for _ in self.store.scan(b"W", b"X"))

    def blocks(self, hashes: Sequence[bytes]) -> list[bytes | None]:
        return [self.store.get(block_key(h)) for h in hashes]

    def add_blocks(self, blocks: Sequence[bytes]) -> None:
        """Store blocks that were asked for; files that waited for the last of them show their content.

        A block that was damaged here is whole again.
        """
        heads = Heads(self.state, self.held)
        with self.in_step.committing():
            for block in blocks:
                heads.arrived(hash_of(block), block)
            complete = [ino for ino in sorted(heads.touched) if heads.complete(ino) or self._merges(ino)]
            self.state.commit()
        self.state.waits = self._lacks_blocks()
        for ino in complete:
            self._changes.inode(ino, content=True)
            self._note_branches(ino)
        self.on_merge()

    def _merges(self, ino: Ino) -> bool:
        """Does a file show what several heads hold?  Then each that becomes readable changes what shows."""
        inode = self.state.inode(ino)
        return inode is not None and bool(together(self.state, inode))

    def hiding(self) -> list[Ino]:
        """Return the files that show something older than their newest content."""
        return [ino for ino, _ in self._hiding()]

    def _hiding(self) -> list[tuple[Ino, bytes]]:
        """These, each with what it does so for."""
        return [(Ino(int.from_bytes(key[1:], "big")), mark) for key, mark in self.store.scan(b"L", b"M")]

    def show_newest(self) -> None:
        """Where nothing here goes on from what a file showed any more, show what came meanwhile, and wait for
        no block of the old.

        Not of a file that only waits for blocks: the last of these lets its newest content show.
        """
        waiting = waiting_files(self.state)
        waits = next(waiting, None)
        ready = []
        for ino, mark in self._hiding():
            while waits is not None and waits < ino:
                waits = next(waiting, None)
            if ino != waits or mark == FOR_OPEN:
                ready.append(ino)
        for ino in ready:
            self._show_newest(ino)
        if ready:
            self.state.waits = self._lacks_blocks()

    def _show_newest(self, ino: Ino) -> None:
        heads = Heads(self.state, self.held)
        with self.in_step.committing():
            changed = heads.complete(ino)
            if not self.state.is_committed():
                self.state.commit()
        if changed:
            self._changes.inode(ino, content=True)
            self._note_branches(ino)

    def note_content(self, ino: Ino) -> None:
        """What the kernel has of this content is not what the file shows now."""
        self._changes.inode(ino, content=True)

    def note_attributes(self, ino: Ino) -> None:
        """A request changes attributes of a file that it does not name: its time of change."""
        self._changes.inode(ino)

    def _note_branches(self, ino: int) -> None:
        inode = self.state.inode(Ino(ino))
        if inode is not None and inode.branches:
            for _, top in branches(self.state, inode):
                self._changes.inode(branch_ino(top.ref), content=True)


def with_repairs(facts: Sequence[Fact], added: Sequence[Fact]) -> tuple[Fact, ...]:
    """Add facts; of a placement there is one pin, the newest.  Births come first, others may name them."""
    pinned = {(fact.link, fact.placement) for fact in added if isinstance(fact, Pin)}
    kept = [f for f in facts if not (isinstance(f, Pin) and (f.link, f.placement) in pinned)]
    return said_once(sorted([*kept, *added], key=lambda fact: not isinstance(fact, Birth)))


def said_once(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """What goes for two parts of a request, or for one and for what holds the rest, is one fact."""
    return tuple(dict.fromkeys(facts)) if len(facts) > 1 else tuple(facts)
