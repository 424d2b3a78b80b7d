"""Which absent block is asked of which peer.

A *known* hash is one that this replica wants, and is in flight at one peer at most.  Each peer has a
queue of *candidates*, and every event that could make a hash worth asking for there puts it in: it
became known, another peer lacks it or went away, the peer says it came.  Taking from the queue skips
what has become pointless, so the work is proportional to the events, however many hashes wait.

A peer *lacks* what it was asked for and did not have.  It announces what comes later, and is asked
again anyhow after a while.  Where it *expects* the block itself, hope is not lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from replication.limits import Limits
from replication.local import Local, PeerError

PeerKey = int  # of a session: a peer that comes back is another one
RESCAN_S = 1.0  # between two long lists of wanted hashes


@dataclass(slots=True)
class Source:
    """What is known of one peer as a source of blocks."""

    candidates: deque[bytes]
    in_flight: set[bytes] = field(default_factory=set)
    heard_s: float = 0.0
    lacking: set[bytes] = field(default_factory=set)
    expecting: set[bytes] = field(default_factory=set)  # of those it lacks
    interest: set[bytes] = field(default_factory=set)  # what it asked us for in vain
    news: list[bytes] = field(default_factory=list)  # of those, what has come


class Fetch:
    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.known: dict[bytes, PeerKey | None] = {}  # hash -> the peer that was asked
        self.urgent: set[bytes] = set()
        self.sources: dict[PeerKey, Source] = {}
        self.arrived_count = 0
        self.has_stirred = False  # there may be something to say to other peers than the last heard
        self.stale = True  # what is wanted may have changed since the list was read
        self.read_changes = 0  # of the replica's, when the list was read
        self.whole = False  # the list that was read was not cut off
        self.refilled_s = 0.0
        self.retry_s = limits.retry_min_s
        self.retry_due_s: float | None = None

    def join(self, peer: PeerKey) -> None:
        candidates = deque(self.urgent)
        candidates.extend(h for h in self.known if h not in self.urgent)
        self.sources[peer] = Source(candidates)
        self.retry_s = self.limits.retry_min_s

    def leave(self, peer: PeerKey) -> None:
        source = self.sources.pop(peer, None)
        for block_hash in source.in_flight if source else ():
            self._free(block_hash)

    def refill(self, local: Local, now_s: float) -> None:
        """Read which blocks are wanted, where more can be asked for or what was read may be old."""
        changes = local.wanted_changes()  # before the list: what changes meanwhile is read the next time
        self.stale |= changes != self.read_changes
        wide = len(self.known) > 2 * self.limits.blocks_refill
        if (self.known and self._has_plenty()) or (wide and now_s < self.refilled_s + RESCAN_S):
            return
        if not self.stale and (self.whole or len(self.known) >= self.limits.blocks_known_max):
            return
        limit = min(len(self.known) + self.limits.blocks_refill, self.limits.blocks_known_max)
        hashes = local.wanted(limit, tuple(self.urgent))
        self.stale, self.whole, self.refilled_s = False, len(hashes) < limit, now_s
        self.read_changes = changes
        if self.whole:
            self._forget_all_but(set(hashes))
        for block_hash in hashes:
            if block_hash not in self.known:
                self.known[block_hash] = None
                self._offer(block_hash)

    def urge(self, hashes: Iterable[bytes]) -> None:
        """Ask for these before all others: a program waits for them."""
        for block_hash in hashes:
            if block_hash in self.urgent and block_hash in self.known:
                continue
            self.urgent.add(block_hash)
            if self.known.setdefault(block_hash, None) is None:
                self._offer(block_hash)

    def ask(
        self, peer: PeerKey, now_s: float, *, only_urgent: bool = False
    ) -> tuple[list[bytes], list[bytes]]:
        """Return the hashes to ask this peer for now: urgent ones, others."""
        source = self.sources[peer]
        if not source.in_flight:
            source.heard_s = now_s
        urgent: list[bytes] = []
        others: list[bytes] = []
        while source.candidates and self._has_room(source):
            if only_urgent and source.candidates[0] not in self.urgent:
                break  # those that are stand before all others
            block_hash = source.candidates.popleft()
            if self.known.get(block_hash, peer) is None and block_hash not in source.lacking:
                self.known[block_hash] = peer
                source.in_flight.add(block_hash)
                (urgent if block_hash in self.urgent else others).append(block_hash)
        return urgent, others

    def arrived(self, peer: PeerKey, hashes: Iterable[bytes], now_s: float) -> None:
        """Raises PeerError where the peer was not asked for them."""
        self._answered(peer, hashes, now_s)
        for block_hash in hashes:
            self.known.pop(block_hash, None)
            self.urgent.discard(block_hash)
            self.arrived_count += 1
            for source in self.sources.values():
                if block_hash in source.interest:
                    source.interest.remove(block_hash)
                    source.news.append(block_hash)
                    self.has_stirred = True
        self.stale = True
        self.retry_s = self.limits.retry_min_s

    def lacks(self, peer: PeerKey, hashes: Iterable[bytes], expected: Iterable[bytes], now_s: float) -> None:
        """Raises PeerError where the peer was not asked for them."""
        hashes, expected = tuple(hashes), tuple(expected)
        self._answered(peer, (*hashes, *expected), now_s)
        source = self.sources[peer]
        source.expecting.update(expected)
        for block_hash in (*hashes, *expected):
            source.lacking.add(block_hash)
            self._free(block_hash)
        if self.retry_due_s is None:
            self.retry_due_s = now_s + self.retry_s

    def has(self, peer: PeerKey, hashes: Iterable[bytes]) -> None:
        source = self.sources[peer]
        for block_hash in hashes:
            source.lacking.discard(block_hash)
            source.expecting.discard(block_hash)
            if block_hash in self.known:
                self._put(source, block_hash)

    def has_all(self, peer: PeerKey) -> None:
        """The peer has all blocks that it wants, so what it lacked is worth asking for again."""
        self.has(peer, tuple(self.sources[peer].lacking))

    def retry(self, now_s: float) -> None:
        """Ask again for what peers lacked, after waits that double: a peer may have been repaired."""
        if self.retry_due_s is None or now_s < self.retry_due_s:
            return
        self.retry_due_s = None
        self.retry_s = min(2 * self.retry_s, self.limits.retry_max_s)
        for peer in self.sources:
            self.has_all(peer)

    def is_silent(self, peer: PeerKey, now_s: float) -> bool:
        """Whether the peer owes us blocks and has given none for too long."""
        source = self.sources[peer]
        return bool(source.in_flight) and now_s > source.heard_s + self.limits.block_silence_s

    def is_hopeless(self, block_hash: bytes) -> bool:
        """Whether no peer that is connected has the block, or expects to have it."""
        return all(
            block_hash in source.lacking and block_hash not in source.expecting
            for source in self.sources.values()
        )

    def expects(self, block_hash: bytes, asker: PeerKey) -> bool:
        """Whether this replica wants the block and may still get it from somebody but the asker."""
        return block_hash in self.known and any(
            block_hash not in source.lacking for peer, source in self.sources.items() if peer != asker
        )

    def note_interest(self, peer: PeerKey, hashes: Iterable[bytes]) -> None:
        interest = self.sources[peer].interest
        for block_hash in hashes:
            if len(interest) >= self.limits.interest_max:
                break  # it asks again by itself
            interest.add(block_hash)

    def take_news(self, peer: PeerKey, count_max: int) -> list[bytes]:
        """Return hashes the peer asked for in vain that have come since, each once."""
        news = self.sources[peer].news
        taken = news[:count_max]
        del news[:count_max]
        return taken

    def has_news(self, peer: PeerKey) -> bool:
        return bool(self.sources[peer].news)

    def _answered(self, peer: PeerKey, hashes: Iterable[bytes], now_s: float) -> None:
        source = self.sources[peer]
        source.heard_s = now_s
        for block_hash in hashes:
            if block_hash not in source.in_flight:
                raise PeerError(f"block {block_hash.hex()} came, but it was not asked for")
            source.in_flight.remove(block_hash)

    def _free(self, block_hash: bytes) -> None:
        if block_hash in self.known:
            self.known[block_hash] = None
            self.stale = True  # it was kept while it was in flight, be it wanted no more
            self._offer(block_hash)

    def _offer(self, block_hash: bytes) -> None:
        for source in self.sources.values():
            if block_hash not in source.lacking:
                self._put(source, block_hash)

    def _put(self, source: Source, block_hash: bytes) -> None:
        self.has_stirred = True
        if block_hash in self.urgent:
            source.candidates.appendleft(block_hash)
        else:
            source.candidates.append(block_hash)

    def _has_room(self, source: Source) -> bool:
        room = self.limits.blocks_in_flight_max - len(source.in_flight)
        # What a program waits for does not queue behind what nobody waits for.
        return room > 0 or (source.candidates[0] in self.urgent and room > -self.limits.blocks_in_flight_max)

    def _has_plenty(self) -> bool:
        return bool(self.sources) and all(
            len(source.candidates) >= self.limits.blocks_in_flight_max for source in self.sources.values()
        )

    def _forget_all_but(self, wanted: set[bytes]) -> None:
        gone = {h for h, asked in self.known.items() if asked is None and h not in wanted}
        for block_hash in gone:
            del self.known[block_hash]
        self.urgent -= gone
        for source in self.sources.values():
            source.lacking &= self.known.keys()
            source.expecting &= self.known.keys()
