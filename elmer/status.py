"""What is said of a replica, as JSON values: the same with a daemon and without one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from crdt.hlc import milliseconds
from crdt.policy import NAMES
from elmer.config import Config
from elmer.directory import StoreDirectory
from elmer.exits import no_such_record
from replication.standing import PeerStatus
from translation.attributes import AttributeRequests
from translation.content import Content
from translation.content_base import ContentBase
from translation.listing import Listing
from translation.records import Acknowledgements, Records, Side
from translation.replica import Replica

T = TypeVar("T", int, float)


def listing_of(replica: Replica) -> Listing:
    """Return the tree of a replica, to read it as a whole.  What is being written is not in it.

    Unlike a FileSystem it commits nothing, so it may stand on a snapshot, or on a store at rest.
    """
    base = ContentBase(replica)
    requests = AttributeRequests(replica, Content(base))
    base.requests = requests
    return Listing(replica, requests)


def replica_status(listing: Listing) -> dict[str, Any]:
    replica = listing.replica
    ahead_ms = milliseconds(replica.latest_hlc) - time.time_ns() // 1_000_000
    return {
        "replica": {"name": replica.name, "id": replica.replica},
        "volume": replica.volume.volume_id.hex(),
        "facts": replica.facts_count(),
        "conflicts": listing.conflict_count(),
        "records": listing.record_count(),
        "orphans": listing.orphan_count(),
        # Stamps follow the fastest clock among the replicas; behind it this clock is slow.
        "clock": {"ahead_ms": max(0, ahead_ms)},
        "members": [
            {"name": member.name, "id": member.replica, "state": member.state} for member in replica.members()
        ],
    }


def config_status(directory: StoreDirectory, config: Config) -> dict[str, Any]:
    disk = os.statvfs(directory.path)
    return {
        "store": str(directory.path),
        "offline": config.offline,
        "must_rejoin": config.must_rejoin,
        "disk": {
            "free_bytes": disk.f_bavail * disk.f_frsize,
            "total_bytes": disk.f_blocks * disk.f_frsize,
            "store_bytes": _size_of(directory),
        },
    }


def _size_of(directory: StoreDirectory) -> int:
    """Return what the rows occupy; files that RocksDB removes meanwhile count nothing."""
    total = 0
    for path, _, names in os.walk(directory.rows):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_blocks * 512  # noqa: PTH118
            except FileNotFoundError:
                continue
    return total


def peer_status(peer: PeerStatus) -> dict[str, Any]:
    return {
        "name": peer.name,
        "id": peer.replica,
        "url": peer.url,
        "connected": peer.is_connected,
        "direction": peer.direction,
        "last_contact_s": peer.last_contact_s,
        "to_receive": _amount(peer.commits_to_receive, peer.blocks_to_receive, peer.bytes_to_receive_max),
        "to_send": _amount(peer.commits_to_send, peer.blocks_to_send, peer.bytes_to_send_max),
        "seconds_since_equal": peer.seconds_since_equal,
        "error": peer.error,
    }


def _amount(facts: int | None, blocks: int | None, bytes_max: int | None) -> dict[str, int | None]:
    return {"facts": facts, "blocks": blocks, "bytes_max": bytes_max}


def lag(peers: Iterable[PeerStatus]) -> dict[str, Any]:
    """Return how far this replica and the furthest of its peers are apart, as far as is known."""
    listed = list(peers)
    return {
        "to_receive": _amount(
            _greatest(peer.commits_to_receive for peer in listed),
            _greatest(peer.blocks_to_receive for peer in listed),
            _greatest(peer.bytes_to_receive_max for peer in listed),
        ),
        "to_send": _amount(
            _greatest(peer.commits_to_send for peer in listed),
            _greatest(peer.blocks_to_send for peer in listed),
            _greatest(peer.bytes_to_send_max for peer in listed),
        ),
        "seconds_since_equal": _greatest(peer.seconds_since_equal for peer in listed),
    }


def _greatest(values: Iterable[T | None]) -> T | None:
    return max((value for value in values if value is not None), default=None)


def unreached_peer(url: str) -> dict[str, Any]:
    """The status of a peer while no daemon runs."""
    nothing = _amount(None, None, None)
    return {
        "name": None, "id": None, "url": url, "connected": False, "direction": None,
        "last_contact_s": None, "to_receive": nothing, "to_send": nothing,
        "seconds_since_equal": None, "error": "",
    }  # fmt: skip


def patterns(replica: Replica) -> dict[str, Any]:
    return {
        "patterns": [
            {"pattern": each.pattern, "policy": NAMES[each.policy].decode()}
            for each in replica.patterns.patterns
        ]
    }


def conflicts(listing: Listing) -> dict[str, Any]:
    return {
        "conflicts": [
            {
                "path": os.fsdecode(conflict.path),
                "kind": conflict.kind,
                "replica": conflict.replica,
                "wall_ns": conflict.wall_ns,
                "bare": os.fsdecode(conflict.bare),
                "ino": conflict.ino,
            }
            for conflict in listing.conflicts()
        ],
        "records": [
            {
                "id": record.id,
                "kind": record.kind,
                "path": os.fsdecode(record.path),
                "overruled": _side(record.overruled),
                "by": _side(record.by),
                "ino": record.ino,
            }
            for record in listing.records()
        ],
    }


def acknowledgements(listing: Listing, ids: Sequence[str] | None) -> Acknowledgements:
    """Return what acknowledges these records, or all.  Raises CommandError (NOT_SO)."""
    try:
        return Records(listing.replica).acknowledgements(ids)
    except LookupError as unknown:
        raise no_such_record(unknown.args[0]) from unknown


def _side(side: Side) -> dict[str, Any]:
    return {
        "replica": side.replica,
        "did": side.did,
        "path": os.fsdecode(side.path),
        "wall_ns": side.wall_ns,
    }
