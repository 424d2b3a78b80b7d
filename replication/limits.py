"""All times and bounds of replication, in one place.

Nothing that a peer sends is kept without one of these bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    # Frames.  A commit must fit into a frame together with the vector that goes with it.
    frame_bytes_max: int = 16 * MIB  # also of what a compressed frame becomes
    greeting_bytes_max: int = 4 * KIB  # of a frame from somebody who has not proved to be a member
    compress_bytes_min: int = 4 * KIB  # smaller frames are sent as they are: latency matters more

    # The stream of commits.
    slice_bytes: int = 1 * MIB  # of the commits in one message (one commit may be larger)
    window_bytes: int = 8 * MIB  # sent and not yet taken by the peer
    stage_commits_max: int = 10_000  # a pass above either is applied in slices
    stage_bytes_max: int = 32 * MIB
    cursor_tell_s: float = 10.0  # a cursor that moved over nothing new is told this late

    # Blocks.
    blocks_per_message: int = 32
    blocks_in_flight_max: int = 128  # asked of one peer and not answered
    blocks_asked_max: int = 1024  # a peer that asks for more at once breaks the protocol
    blocks_refill: int = 4096  # taken from the replica's list of absent blocks at a time
    blocks_known_max: int = 131_072  # kept in mind at a time
    interest_max: int = 16_384  # hashes a peer asked for that are to be announced when they come
    block_silence_s: float = 30.0  # a peer that was asked and gives none is left
    retry_min_s: float = 5.0  # before a peer that lacked a block is asked for it again; doubles
    retry_max_s: float = 300.0
    request_s: float = 30.0  # a reading program waits at most this long for a block

    # Connections.
    connect_s: float = 2.0
    greeting_s: float = 5.0
    heartbeat_s: float = 1.0
    silence_s: float = 5.0  # a peer that says nothing for so long is gone
    close_s: float = 1.0
    backoff_min_s: float = 0.1
    backoff_max_s: float = 2.0
    connections_max: int = 256
    tick_s: float = 0.5
    cycle_gap_s: float = 0.004  # between the starts of two groups of commits that are synced and told
    join_s: float = 30.0
    join_bytes_max: int = 1 * MIB
