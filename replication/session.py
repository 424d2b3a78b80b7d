"""One peer's half of anti-entropy, without any I/O.

The caller passes messages to `receive`, says with `advance` what has become durable, and sends on
whatever `take` returns, whenever the connection can carry more.  So what waits to be sent is not
kept in a queue: it is read from the replica when its turn comes.

    A                                          B
      |---- State {vector, missing}, Pull ------>|
      |<--- State {vector, missing}, Pull -------|
      |<--- Commits {.., cursor, vector} --------|   what A lacks, in B's order of arrival
      |---- Taken ------------------------------>|   credit for more
      |---- Want {hashes} ---------------------->|
      |<--- Blocks, Lack ------------------------|
      |---- State ------------------------------>|   it is durable at A

The transport delivers in order what it delivers, and may be cut at any moment; a new session then
goes on from the cursors.  *Pull* and *push* are one stream: a cursor that is at the sender's end
moves when there is something new.

- Nothing is told that is not durable: commits come from `Local.arrivals`, the state from `advance`.
- A stream follows the sender's order of arrival, so whoever passes on what it got passes it on in
  an order that respects causality, and any connected graph of peers converges.
- Each side counts as seen what the other said it has and what was sent to it: a peer's commits do
  not come back to it.
- Names first: blocks are sent when no commits can be, but for those that a program waits for.
"""

from __future__ import annotations

from collections import deque

from crdt.blocks import hash_of
from crdt.causality import VersionVector
from replication.fetch import Fetch, PeerKey
from replication.limits import Limits
from replication.local import Local, PeerError, RestoredError
from replication.message import (
    COMMITS_MAX,
    HASHES_MAX,
    Alive,
    Answer,
    Blocks,
    Commits,
    Have,
    Identity,
    Lack,
    Message,
    Probe,
    Pull,
    State,
    Taken,
    Want,
)
from replication.staging import Staging


class Session:
    def __init__(
        self,
        local: Local,
        peer: Identity,
        key: PeerKey,
        fetch: Fetch,
        staging: Staging,
        limits: Limits,
    ) -> None:
        self.local = local
        self.peer = peer
        self.key = key
        self.fetch = fetch
        self.limits = limits
        self.inward = Inward(local, staging, limits)
        self.outward = Outward(local, limits)
        self.state: State | None = None  # what is durable here
        self.told: State | None = None
        self.peer_state: State | None = None
        self.asked: deque[bytes] = deque()  # blocks the peer wants, and urgently
        self.asked_urgently: deque[bytes] = deque()
        self.probes_heard = 0  # greatest number the peer sent; answered; to be answered
        self.probes_answered = 0
        self.answer_due = 0
        self.probe_due = 0  # greatest number to send; sent; answered by the peer
        self.probe_sent = 0
        self.probe_answer = 0
        self.has_changed = False  # the replica has: what it has now can be synced and told
        fetch.join(key)

    def advance(self, state: State, end: int, probe: int) -> None:
        """Say what is durable, up to which arrival, and which probe came before it was synced."""
        self.state = state
        self.outward.end, self.outward.vector = end, state.vector
        self.answer_due = max(self.answer_due, probe)

    def probe(self, number: int) -> None:
        """Have the peer sync and tell its state; `probe_answer` is at least `number` then."""
        self.probe_due = max(self.probe_due, number)

    def tick(self, now_s: float) -> None:
        """Raises PeerError where the peer owes us blocks and gives none."""
        self.fetch.retry(now_s)
        self.outward.tick(now_s)
        if self.fetch.is_silent(self.key, now_s):
            raise PeerError(
                f"the peer was asked for blocks and gave none for {self.limits.block_silence_s} s"
            )

    def receive(self, message: Message, now_s: float) -> None:
        """Raises PeerError.  What is here is intact then."""
        if self.peer_state is None and not isinstance(message, State):
            raise PeerError(f"{type(message).__name__} where a state was due")
        match message:
            case State():
                self._receive_state(message)
            case Pull(cursor, seen):
                self._check_own(seen)
                self.outward.start(cursor, seen)
            case Commits():
                self._receive_commits(message)
            case Taken(byte_count):
                self.outward.credit(byte_count)
            case Want() | Blocks() | Lack() | Have():
                self._receive_about_blocks(message, now_s)
            case Probe(number):
                self.probes_heard = max(self.probes_heard, number)
                self.has_changed = True
            case Answer(number):
                self.probe_answer = max(self.probe_answer, number)
            case Alive():
                pass
            case _:
                raise PeerError(f"{type(message).__name__} is out of place here")

    def _receive_about_blocks(self, message: Want | Blocks | Lack | Have, now_s: float) -> None:
        match message:
            case Want(hashes, urgent):
                self._receive_want(hashes, urgent=urgent)
            case Blocks(blocks):
                self.fetch.arrived(self.key, [hash_of(block) for block in blocks], now_s)
                self.local.add_blocks(blocks)
                # An fsync for each message of a long stream would slow it: the last one counts.
                self.has_changed = self.has_changed or not self.fetch.known
            case Lack(hashes, expected):
                self.fetch.lacks(self.key, hashes, expected, now_s)
            case Have(hashes):
                self.fetch.has(self.key, hashes)

    def _receive_commits(self, slice_: Commits) -> None:
        self._check_own(slice_.vector)
        self.inward.add(slice_)
        if self.inward.apply_if_due(is_last=slice_.last):
            self.has_changed = True

    def take(self, now_s: float) -> list[Message]:
        """Return what to send next, about a slice at most; nothing where there is nothing to say."""
        if self.state is None:
            return []
        messages = self._news() + self._wants(now_s)
        if self.asked_urgently:
            return messages + self._blocks(self.asked_urgently)
        commits = self.outward.take()
        if commits is not None:
            return [*messages, commits]
        return messages + self._blocks(self.asked)

    def _news(self) -> list[Message]:
        messages: list[Message] = []
        if self.told != self.state:
            # Before the commits it covers: else the peer would send them back.
            assert self.state is not None
            messages.append(self.state)
            if self.told is None:
                messages.append(self.inward.staging.pull(self.local))
            self.told = self.state
        if self.answer_due > self.probes_answered:
            self.probes_answered = self.answer_due
            messages.append(Answer(self.probes_answered))
        if self.probe_due > self.probe_sent:
            self.probe_sent = self.probe_due
            messages.append(Probe(self.probe_sent))
        if self.inward.owes_credit():
            messages.append(Taken(self.inward.acknowledge()))
        if self.fetch.has_news(self.key):
            messages.append(Have(tuple(self.fetch.take_news(self.key, HASHES_MAX))))
        return messages

    def _wants(self, now_s: float) -> list[Message]:
        self.fetch.refill(self.local, now_s)
        urgent, others = self.fetch.ask(self.key, now_s, only_urgent=not self.local.takes_blocks())
        wants: list[Message] = []
        if urgent:
            wants.append(Want(tuple(urgent), urgent=True))
        if others:
            wants.append(Want(tuple(others), urgent=False))
        return wants

    def _blocks(self, asked: deque[bytes]) -> list[Message]:
        hashes = [asked.popleft() for _ in range(min(len(asked), self.limits.blocks_per_message))]
        if not hashes:
            return []
        found: list[bytes] = []
        absent: list[bytes] = []
        for block_hash, block in zip(hashes, self.local.blocks(hashes), strict=True):
            if block is None:
                absent.append(block_hash)
            else:
                found.append(block)
        messages: list[Message] = [Blocks(tuple(found))] if found else []
        if absent:
            if asked is self.asked_urgently:
                self.fetch.urge(h for h in absent if h in self.fetch.known)
            self.fetch.note_interest(self.key, absent)
            expected = [h for h in absent if self.fetch.expects(h, self.key)]
            hopeless = tuple(h for h in absent if h not in expected)
            messages.append(Lack(hopeless, tuple(expected)))
        return messages

    def _receive_state(self, state: State) -> None:
        self._check_own(state.vector)
        if self.peer_state is not None and self.peer_state.missing and not state.missing:
            self.fetch.has_all(self.key)
        self.peer_state = state
        self.outward.learn(state.vector)

    def _receive_want(self, hashes: tuple[bytes, ...], *, urgent: bool) -> None:
        (self.asked_urgently if urgent else self.asked).extend(hashes)
        waiting = len(self.asked) + len(self.asked_urgently)
        if waiting > self.limits.blocks_asked_max:
            raise PeerError(f"{waiting} blocks asked for at once")

    def _check_own(self, vector: VersionVector) -> None:
        theirs = vector.of(self.local.replica)
        ours = self.local.vector().of(self.local.replica)
        if theirs > ours:
            raise restored(f"it has seen {theirs} commits of this replica, which has {ours}")


def restored(what: str) -> RestoredError:
    return RestoredError(
        f"{what}: this store is an old copy of itself (restored from a backup?)."
        " Do not write here: join the volume anew with a fresh store, and copy over what is missing"
    )


class Inward:
    """The stream of the peer's commits to here."""

    def __init__(self, local: Local, staging: Staging, limits: Limits) -> None:
        self.local = local
        self.staging = staging
        self.limits = limits
        self.taken_bytes = 0
        self.acknowledged_bytes = 0

    def add(self, slice_: Commits) -> None:
        self.staging.add(slice_)
        self.taken_bytes += sum(map(len, slice_.commits))

    def apply_if_due(self, *, is_last: bool) -> bool:
        if not is_last and not self.staging.is_full(self.limits):
            return False
        self.staging.apply(self.local.receive)
        return True

    def owes_credit(self) -> bool:
        # Rarely enough to cost nothing, often enough that the sender does not run dry.
        return self.taken_bytes - self.acknowledged_bytes >= self.limits.window_bytes // 4

    def acknowledge(self) -> int:
        self.acknowledged_bytes = self.taken_bytes
        return self.taken_bytes


class Outward:
    """The stream of this replica's arrivals to the peer."""

    def __init__(self, local: Local, limits: Limits) -> None:
        self.local = local
        self.limits = limits
        self.end = 0  # arrivals before this index may be told
        self.vector = VersionVector()  # what they say has been seen, with dots that are dead and have none
        self.is_started = False
        self.position = 0
        self.told_position = 0
        self.tell_due_s: float | None = None  # when a position moved over nothing new is told
        self.must_tell = False
        self.pass_end: int | None = None  # None: not within a pass
        self.seen = VersionVector()  # what the peer has, and what it has been sent
        self.sent_bytes = 0
        self.taken_bytes = 0

    def start(self, cursor: int, seen: VersionVector) -> None:
        """Raises PeerError."""
        if self.is_started:
            raise PeerError("a second pull in one session")
        end = self.local.durable_end()
        if cursor > end:
            raise restored(f"it has read {cursor} arrivals of this replica, which has {end}")
        self.is_started = True
        self.position = self.told_position = cursor
        self.learn(seen)

    def learn(self, vector: VersionVector) -> None:
        if not vector <= self.seen:
            self.seen = self.seen.merge(vector)

    def credit(self, byte_count: int) -> None:
        if not self.taken_bytes <= byte_count <= self.sent_bytes:
            raise PeerError(f"{byte_count} bytes taken of {self.sent_bytes} sent")
        self.taken_bytes = byte_count

    def tick(self, now_s: float) -> None:
        if self.position == self.told_position:
            self.tell_due_s = None
        elif self.tell_due_s is None:
            self.tell_due_s = now_s + self.limits.cursor_tell_s
        elif now_s >= self.tell_due_s:
            self.must_tell = True

    def take(self) -> Commits | None:
        """Return the next slice, None where there is none or no credit."""
        if not self.is_started or self.sent_bytes - self.taken_bytes >= self.limits.window_bytes:
            return None
        is_first = self.pass_end is None  # slice of its pass
        is_told = self.position >= self.end and self.vector <= self.seen
        if is_first and is_told and not self.must_tell:
            return None
        if self.pass_end is None:
            self.pass_end = max(self.end, self.position)
        found = self.local.arrivals(self.position, self.seen, self.limits.slice_bytes)
        assert len(found.commits) <= COMMITS_MAX, len(found.commits)
        is_last = found.next >= self.pass_end
        is_new = bool(found.commits) or not found.vector <= self.seen
        self.position = found.next
        self.seen = found.vector
        if is_last:
            self.pass_end = None
        if is_first and is_last and not is_new and not self.must_tell:
            return None  # these were the peer's own: its cursor can wait
        self.must_tell = False
        self.told_position = self.position
        self.sent_bytes += sum(map(len, found.commits))
        return Commits(tuple(found.commits), self.position, found.vector, is_last)
