"""What is known of each peer, connected or not: for `status` and for people who wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from crdt.blocks import BLOCK_SIZE
from crdt.causality import ReplicaId, VersionVector
from replication.message import Identity, State


@dataclass(slots=True)
class Standing:
    """A peer whose identity is known."""

    identity: Identity
    url: str | None = None  # where it was dialed
    state: State | None = None  # the last it told
    last_contact_s: float | None = None  # wall clock
    equal_s: float | None = None  # monotonic clock, when the vectors were equal last
    error: str = ""


@dataclass(frozen=True, slots=True)
class PeerStatus:
    name: str | None  # None: never reached
    replica: ReplicaId | None
    store_id: bytes | None
    url: str | None
    is_connected: bool
    direction: str | None  # "out": dialed from here, "in"
    last_contact_s: float | None  # wall clock
    commits_to_receive: int | None  # None: not known yet
    commits_to_send: int | None
    blocks_to_receive: int | None  # at least
    blocks_to_send: int | None
    bytes_to_receive_max: int | None  # of those blocks
    bytes_to_send_max: int | None
    seconds_since_equal: float | None  # None: never yet
    error: str  # "" where there is none


class Equality(NamedTuple):
    is_equal: bool
    peer_count: int  # peers that could be asked
    reason: str  # what is missing, "" where nothing is


def behind(vector: VersionVector, other: VersionVector) -> int:
    """Return how many commits `other` has seen that `vector` has not."""
    return sum(max(0, counter - vector.of(replica)) for replica, counter in other)


def status_of(
    standing: Standing, direction: str | None, vector: VersionVector, missing: int, now_s: float
) -> PeerStatus:
    state = standing.state
    equal_s = standing.equal_s
    if direction is not None and state is not None and state.vector == vector:
        equal_s = now_s
    return PeerStatus(
        name=standing.identity.name,
        replica=standing.identity.replica,
        store_id=standing.identity.store_id,
        url=standing.url,
        is_connected=direction is not None,
        direction=direction,
        last_contact_s=standing.last_contact_s,
        commits_to_receive=None if state is None else behind(vector, state.vector),
        commits_to_send=None if state is None else behind(state.vector, vector),
        blocks_to_receive=missing,
        blocks_to_send=None if state is None else state.missing,
        bytes_to_receive_max=missing * BLOCK_SIZE,
        bytes_to_send_max=None if state is None else state.missing * BLOCK_SIZE,
        seconds_since_equal=None if equal_s is None else now_s - equal_s,
        error=standing.error,
    )


def unreached(url: str, error: str) -> PeerStatus:
    """The status of a peer of which only the URL is known."""
    return PeerStatus(
        name=None, replica=None, store_id=None, url=url, is_connected=False, direction=None,
        last_contact_s=None, commits_to_receive=None, commits_to_send=None, blocks_to_receive=None,
        blocks_to_send=None, bytes_to_receive_max=None, bytes_to_send_max=None,
        seconds_since_equal=None, error=error,
    )  # fmt: skip


def difference(name: str, state: State | None, vector: VersionVector) -> str:
    """Return why the peer does not have the same as this replica, "" where it does."""
    if state is None:
        return f"{name} has not said yet what it has"
    to_receive, to_send = behind(vector, state.vector), behind(state.vector, vector)
    parts = []
    if to_receive:
        parts.append(f"{to_receive} commits are to come from {name}")
    if to_send:
        parts.append(f"{to_send} commits are to go to {name}")
    if state.missing:
        parts.append(f"{name} lacks {state.missing} blocks or more")
    return ", ".join(parts)
