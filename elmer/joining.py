"""What a newcomer and the member that lets it in say to each other, as JSON.

    newcomer                              member
      |---- {name, store_id, urls} --------->|   where it can be reached, if it listens
      |<--- {members} or {error} ------------|   so that it takes a name and a number that are free

Both have proved the secret of the volume to each other before (replication.auth).  That the
newcomer is a member is a fact, which it tells as its own first commit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from crdt.causality import REPLICA_MAX, ReplicaId
from crdt.facts import Member
from elmer.ticket import ID_BYTES
from replication.local import PeerError


class Request(NamedTuple):
    """What a newcomer tells the member that it joins by."""

    name: str
    store_id: bytes
    urls: Sequence[str]  # where it can be reached


def encode_request(request: Request) -> bytes:
    fields = {"name": request.name, "store_id": request.store_id.hex(), "urls": list(request.urls)}
    return json.dumps(fields).encode()


def decode_request(data: bytes) -> Request:
    """Raises PeerError where this is no request."""
    fields = _decode(data)
    match fields:
        case {"name": str(name), "store_id": str(store_id), "urls": list(urls)}:
            return Request(name, _unhex(store_id), [str(url) for url in urls])
    raise PeerError("malformed request to join")


def encode_members(members: Sequence[Member]) -> bytes:
    rows = [[m.replica, m.name, m.store_id.hex(), m.state] for m in members]
    return json.dumps({"members": rows}).encode()


def decode_members(data: bytes) -> list[Member]:
    """Raises PeerError where this is no answer to a request, or with the reason of a refusal."""
    match _decode(data):
        case {"error": str(reason)}:
            raise PeerError(reason)
        case {"members": list(rows)}:
            return [_member(row) for row in rows]
    raise PeerError("malformed answer to a request to join")


def _decode(data: bytes) -> object:
    try:
        decoded: object = json.loads(data)
    except ValueError as error:
        raise PeerError("what joining replicas say must be JSON") from error
    return decoded


def _member(row: object) -> Member:
    match row:
        case [int(replica), str(name), str(store_id), int(state)] if 0 < replica <= REPLICA_MAX:
            return Member(ReplicaId(replica), name, _unhex(store_id), state)
    raise PeerError("malformed member")


def _unhex(text: str) -> bytes:
    if not re.fullmatch(f"[0-9a-f]{{{2 * ID_BYTES}}}", text):
        raise PeerError("malformed store id")
    return bytes.fromhex(text)


def encode_refusal(reason: str) -> bytes:
    return json.dumps({"error": reason}).encode()
