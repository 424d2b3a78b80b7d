"""Replicas in one thread: production sessions, virtual time, links that delay and are cut.

The transport is TCP-like: what arrives, arrives in order, and a cut loses a suffix of what is on its
way.  A side stops sending while much is on its way, as a socket does.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random

from replication import wire
from replication.exchange import Exchange
from replication.limits import Limits
from replication.local import PeerError
from replication.message import Identity, Message
from replication.session import Session
from tests.replication.fake import FakeLocal

ON_THE_WAY_MAX = 8  # frames


@dataclass(eq=False)
class Site:
    local: FakeLocal
    limits: Limits
    exchange: Exchange = field(init=False)

    def __post_init__(self) -> None:
        self.exchange = Exchange(self.local, self.limits)

    @property
    def identity(self) -> Identity:
        return Identity(self.local.replica, self.local.name, self.local.store_id)

    def cycle(self, now_s: float) -> None:
        mark = self.exchange.mark(self.exchange.sessions.values())
        self.local.sync()
        self.exchange.advance(mark, now_s)


@dataclass(eq=False)
class End:
    """One side of a link, and what is on its way to it."""

    site: Site
    session: Session | None = None
    inbox: deque[tuple[float, bytes]] = field(default_factory=deque)
    heard: list[Message] = field(default_factory=list)
    byte_count: int = 0


@dataclass(eq=False)
class Link:
    ends: tuple[End, End]
    error: PeerError | None = None

    @property
    def is_up(self) -> bool:
        return self.ends[0].session is not None

    def connect(self) -> None:
        for end, other in (self.ends, self.ends[::-1]):
            end.session = end.site.exchange.open(other.site.identity)

    def cut(self) -> None:
        for end in self.ends:
            if end.session is not None:
                end.site.exchange.close(end.session)
                end.session = None
            end.inbox.clear()


class Network:
    def __init__(self, count: int, edges, *, seed: int = 0, limits: Limits | None = None) -> None:
        self.random = Random(seed)
        self.limits = limits or Limits()
        self.sites = [Site(FakeLocal(n + 1), self.limits) for n in range(count)]
        self.links = [Link((End(self.sites[a]), End(self.sites[b]))) for a, b in edges]
        self.now_s = 0.0
        self.delay_max_s = 0.0

    def connect(self) -> None:
        for link in self.links:
            if not link.is_up:
                link.connect()

    def run(self, rounds: int = 10_000) -> None:
        """Run until nobody has anything to say any more."""
        for _ in range(rounds):
            if not self.step():
                return
        raise AssertionError("they go on talking")

    def step(self) -> bool:
        """Sync, send and deliver once; return whether anything moved."""
        for site in self.sites:
            site.cycle(self.now_s)
        moved = False
        for link in self.links:
            for end, other in (link.ends, link.ends[::-1]):
                moved |= self._send(link, end, other)
            for end in link.ends:
                moved |= self._deliver(link, end)
        self.now_s += 0.01
        return moved

    def tick(self) -> None:
        for link in self.links:
            for end in link.ends:
                if end.session is not None:
                    end.site.exchange.tick(end.session, self.now_s)

    def _send(self, link: Link, end: End, other: End) -> bool:
        moved = False
        while link.is_up and len(other.inbox) < ON_THE_WAY_MAX:
            frame = end.site.exchange.next_frame(end.session, self.now_s)
            if frame is None:
                break
            moved = True
            other.byte_count += len(frame)
            due_s = self.now_s + self.random.uniform(0, self.delay_max_s)
            due_s = max(due_s, other.inbox[-1][0] if other.inbox else 0)
            other.inbox.append((due_s, frame))
        return moved

    def _deliver(self, link: Link, end: End) -> bool:
        moved = bool(end.inbox)
        while end.inbox and end.inbox[0][0] <= self.now_s:
            _, frame = end.inbox.popleft()
            end.heard += wire.unseal(frame, self.limits)
            try:
                end.site.exchange.receive(end.session, frame, self.now_s)
            except PeerError as error:
                link.error = error
                link.cut()
        return moved


def pair(**limits: object) -> tuple[Network, FakeLocal, FakeLocal]:
    """Return two replicas on one link, connected."""
    network = Network(2, [(0, 1)], limits=Limits(**limits))
    network.connect()
    return network, network.sites[0].local, network.sites[1].local
