"""All sessions of one replica, and what they share: blocks on their way, staged passes, standings.

Nothing here waits, and nothing is safe to call from two threads: the hub has one worker thread for it
(`Mark` is the exception).  Time is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from crdt.causality import VersionVector
from replication import wire
from replication.connection import PeerLeftError
from replication.fetch import Fetch
from replication.limits import Limits
from replication.local import Local
from replication.message import Bye, Identity, State
from replication.session import Session
from replication.staging import Staging
from replication.standing import PeerStatus, Standing, difference, status_of


class Mark(NamedTuple):
    """What was there before a sync began."""

    arrived_count: int  # blocks
    probes: tuple[tuple[Session, int], ...]  # the last probe of each peer


class Exchange:
    def __init__(self, local: Local, limits: Limits) -> None:
        self.local = local
        self.limits = limits
        self.fetch = Fetch(limits)
        self.stagings: dict[bytes, Staging] = {}
        self.sessions: dict[int, Session] = {}
        self.standings: dict[bytes, Standing] = {}
        self.session_count = 0

    def standing(self, peer: Identity) -> Standing:
        return self.standings.setdefault(peer.store_id, Standing(peer))

    def open(self, peer: Identity) -> Session:
        """Begin a session.  The one before with the same peer is closed by now."""
        assert all(s.peer.store_id != peer.store_id for s in self.sessions.values()), peer.name
        self.session_count += 1
        staging = self.stagings.setdefault(peer.store_id, Staging(peer.store_id))
        session = Session(self.local, peer, self.session_count, self.fetch, staging, self.limits)
        self.sessions[session.key] = session
        self.standing(peer).error = ""
        return session

    def close(self, session: Session) -> None:
        del self.sessions[session.key]
        self.fetch.leave(session.key)

    def receive(self, session: Session, frame: bytes, now_s: float) -> None:
        """Raises PeerError."""
        for message in wire.unseal(frame, self.limits):
            if isinstance(message, Bye):
                raise PeerLeftError(message.reason)
            session.receive(message, now_s)
        self.standing(session.peer).state = session.peer_state
        self._note_equal(session, self.local.vector(), now_s)

    def next_frame(self, session: Session, now_s: float) -> bytes | None:
        """Return what is to be sent next, None for nothing."""
        messages = session.take(now_s)
        return wire.seal(messages, self.limits) if messages else None

    def tick(self, session: Session, now_s: float) -> None:
        """Raises PeerError."""
        if session.key in self.sessions:
            session.tick(now_s)

    def mark(self, sessions: Iterable[Session]) -> Mark:
        """To be taken before a sync, in any thread: it only reads numbers that never go back."""
        return Mark(self.fetch.arrived_count, tuple((s, s.probes_heard) for s in sessions))

    def advance(self, mark: Mark, now_s: float) -> None:
        """Have the sessions tell what a sync that followed `mark` has made durable."""
        end = self.local.durable_end()  # before the vector: what may be told is covered by it
        vector, missing = self.own_state(now_s)
        if self.fetch.arrived_count != mark.arrived_count:
            missing = max(1, missing)  # some blocks came after the sync began: not durable yet
        for session, probe in mark.probes:
            if session.key in self.sessions:
                session.advance(State(vector, missing), end, probe)
                self._note_equal(session, vector, now_s)

    def own_state(self, now_s: float) -> tuple[VersionVector, int]:
        """Return the vector, and how many blocks are missing (at least; 0 is exact)."""
        self.fetch.refill(self.local, now_s)
        return self.local.vector(), len(self.fetch.known)

    def begin_request(self, hashes: Iterable[bytes]) -> None:
        """A program waits for these blocks: what peers lacked before is asked for again."""
        hashes = [h for h in hashes if self.local.blocks([h]) == [None]]
        self.fetch.urge(hashes)
        for key in self.sessions:
            self.fetch.has(key, hashes)

    def look_for(self, hashes: Iterable[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Return which of the blocks are absent, and of these the hopeless."""
        hashes = tuple(hashes)
        found = self.local.blocks(hashes)
        absent = [h for h, block in zip(hashes, found, strict=True) if block is None]
        return absent, [h for h in absent if self.fetch.is_hopeless(h)]

    def differences(self, probe: int, now_s: float) -> list[str]:
        """Probe all peers, and return what keeps them and this replica from having the same."""
        vector, missing = self.own_state(now_s)
        reasons = [f"{missing} blocks or more are to come"] if missing else []
        for session in self.sessions.values():
            name = session.peer.name
            session.probe(probe)
            if session.probe_answer < probe:
                reasons.append(f"{name} has not answered yet")
            elif why := difference(name, session.peer_state, vector):
                reasons.append(why)
        return reasons

    def status(self, directions: dict[bytes, str], now_s: float) -> list[PeerStatus]:
        """`directions` has the peers that are connected."""
        vector, missing = self.own_state(now_s)
        return [
            status_of(standing, directions.get(store_id), vector, missing, now_s)
            for store_id, standing in sorted(self.standings.items())
        ]

    def _note_equal(self, session: Session, vector: VersionVector, now_s: float) -> None:
        if session.peer_state is not None and session.peer_state.vector == vector:
            self.standing(session.peer).equal_s = now_s
