"""What two replicas say to each other, and its bytes.

A message is a tag and its fields in order, a frame is a sequence of messages (`crdt.codec`).  The
first four make a stranger a peer (`replication.auth`).  `Hello` and `Bye` keep their tags and first
field in every version of the protocol, so that two versions can tell each other that they differ.

Whatever bytes come in, `unpack_messages` gives messages within their bounds or raises PeerError, and
nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

from crdt.blocks import BLOCK_SIZE, HASH_SIZE
from crdt.causality import COUNTER_MAX, REPLICA_MAX, ReplicaId, VersionVector
from crdt.codec import CodecError, pack, unpack
from replication.local import PeerError

PROTOCOL_VERSION = 1

ID_SIZE = 16
NONCE_SIZE = 32
MAC_SIZE = 32
NAME = re.compile(r"[A-Za-z0-9_-]{1,32}", re.ASCII)
REASON_MAX = 500  # characters
MESSAGES_MAX = 64  # in a frame
COMMITS_MAX = 65_536  # in a message
HASHES_MAX = 4096
MEMBERS_MAX = 65_536
COUNT_MAX = (1 << 63) - 1


class Identity(NamedTuple):
    replica: ReplicaId
    name: str
    store_id: bytes


@dataclass(frozen=True, slots=True)
class Hello:
    """The first word of whoever dialed."""

    version: int
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Challenge:
    """The answer of whoever was dialed: it knows the secret."""

    nonce: bytes
    mac: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """The dialer knows it too, and says who it is.  Without an identity it wants to become a member."""

    identity: Identity | None
    mac: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    identity: Identity
    mac: bytes


@dataclass(frozen=True, slots=True)
class Join:
    request: bytes


@dataclass(frozen=True, slots=True)
class Joined:
    answer: bytes


@dataclass(frozen=True, slots=True)
class State:
    """What is durable at the sender, and how many blocks it lacks (at least; 0 is exact)."""

    vector: VersionVector
    missing: int


@dataclass(frozen=True, slots=True)
class Pull:
    """Send me your arrivals from `cursor` on, without what `seen` covers."""

    cursor: int
    seen: VersionVector


@dataclass(frozen=True, slots=True)
class Commits:
    """A slice of a pass; `cursor` and `vector` hold once this and all before it are applied."""

    commits: tuple[bytes, ...]
    cursor: int
    vector: VersionVector
    last: bool  # of its pass


@dataclass(frozen=True, slots=True)
class Taken:
    """Bytes of commits in this session that the receiver has taken from the stream: credit."""

    byte_count: int


@dataclass(frozen=True, slots=True)
class Want:
    hashes: tuple[bytes, ...]
    urgent: bool  # a program waits


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks that were asked for, in any order: their bytes say which they are."""

    blocks: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Lack:
    """Blocks that were asked for and are not here; `expected` are those this replica waits for too."""

    hashes: tuple[bytes, ...]
    expected: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Have:
    """Blocks that the peer asked for in vain have come."""

    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """Sync what you have, tell me your state, then answer."""

    number: int


@dataclass(frozen=True, slots=True)
class Answer:
    """To all probes up to this number: the state told last was true after they came."""

    number: int


@dataclass(frozen=True, slots=True)
class Alive:
    """Nothing to say."""


@dataclass(frozen=True, slots=True)
class Bye:
    reason: str


Message = (
    Hello | Challenge | Proof | Welcome | Join | Joined | State | Pull | Commits | Taken
    | Want | Blocks | Lack | Have | Probe | Answer | Alive | Bye
)  # fmt: skip


def _int(value: object, least: int, most: int) -> int:
    # A bool is an int to isinstance, and True would come out where 1 went in.
    if type(value) is not int or not least <= value <= most:
        raise PeerError(f"malformed message: {_shown(value)} is no number from {least} to {most}")
    return value


def _count(value: object) -> int:
    return _int(value, 0, COUNT_MAX)


def _bool(value: object) -> bool:
    if type(value) is not bool:
        raise PeerError(f"malformed message: {_shown(value)} is neither true nor false")
    return value


def _bytes(value: object, least: int, most: int) -> bytes:
    if type(value) is not bytes or not least <= len(value) <= most:
        raise PeerError(f"malformed message: {_shown(value)} is not {least} to {most} bytes")
    return value


def _tuple(value: object, most: int) -> tuple[object, ...]:
    if type(value) is not tuple or len(value) > most:
        raise PeerError(f"malformed message: {_shown(value)} is no sequence of at most {most}")
    return value


def _shown(value: object) -> str:
    """Return the type alone: what a peer sent does not go into our log at full length."""
    return f"{type(value).__name__} {value}" if type(value) is int else type(value).__name__


def _nonce(value: object) -> bytes:
    return _bytes(value, NONCE_SIZE, NONCE_SIZE)


def _mac(value: object) -> bytes:
    return _bytes(value, MAC_SIZE, MAC_SIZE)


def _payload(value: object) -> bytes:
    return _bytes(value, 0, COUNT_MAX)  # as large as a frame may be


def _hashes(value: object) -> tuple[bytes, ...]:
    return tuple(_bytes(item, HASH_SIZE, HASH_SIZE) for item in _tuple(value, HASHES_MAX))


def _blocks(value: object) -> tuple[bytes, ...]:
    return tuple(_bytes(item, 1, BLOCK_SIZE) for item in _tuple(value, HASHES_MAX))


def _commits(value: object) -> tuple[bytes, ...]:
    return tuple(_bytes(item, 1, COUNT_MAX) for item in _tuple(value, COMMITS_MAX))


def _identity(value: object) -> Identity:
    match _tuple(value, 3):
        case (replica, str(name), store_id) if NAME.fullmatch(name):
            return Identity(
                ReplicaId(_int(replica, 1, REPLICA_MAX)), name, _bytes(store_id, ID_SIZE, ID_SIZE)
            )
    raise PeerError("malformed message: an identity is a replica, its name and its store")


def _identity_or_none(value: object) -> Identity | None:
    return None if value is None else _identity(value)


def _vector(value: object) -> VersionVector:
    """Take replicas and counters in turn, replicas ascending: equal vectors have equal bytes."""
    items = _tuple(value, 2 * MEMBERS_MAX)
    if len(items) % 2:
        raise PeerError("malformed message: a vector has as many counters as replicas")
    counters: dict[ReplicaId, int] = {}
    before = 0
    for replica, counter in zip(items[::2], items[1::2], strict=True):
        before = _int(replica, before + 1, REPLICA_MAX)
        counters[ReplicaId(before)] = _int(counter, 1, COUNTER_MAX)
    return VersionVector(counters)


def _reason(value: object) -> str:
    if type(value) is not str:
        raise PeerError(f"malformed message: {_shown(value)} is no reason")
    # It goes to a terminal: no control sequences of somebody else's.
    return "".join(c if c.isprintable() else "?" for c in value[:REASON_MAX])


_FIELDS: dict[int, tuple[Callable[..., Message], tuple[Callable[[object], object], ...]]] = {
    1: (Hello, (_count, _nonce)),
    2: (Challenge, (_nonce, _mac)),
    3: (Proof, (_identity_or_none, _mac)),
    4: (Welcome, (_identity, _mac)),
    5: (Join, (_payload,)),
    6: (Joined, (_payload,)),
    7: (State, (_vector, _count)),
    8: (Pull, (_count, _vector)),
    9: (Commits, (_commits, _count, _vector, _bool)),
    10: (Taken, (_count,)),
    11: (Want, (_hashes, _bool)),
    12: (Blocks, (_blocks,)),
    13: (Lack, (_hashes, _hashes)),
    14: (Have, (_hashes,)),
    15: (Probe, (_count,)),
    16: (Answer, (_count,)),
    17: (Alive, ()),
    18: (Bye, (_reason,)),
}
_TAGS: dict[object, int] = {kind: tag for tag, (kind, _) in _FIELDS.items()}
_HELLO = _TAGS[Hello]


def _packable(value: object) -> object:
    if isinstance(value, VersionVector):
        return tuple(number for entry in value for number in entry)
    return value


def pack_messages(messages: Sequence[Message]) -> bytes:
    assert 0 < len(messages) <= MESSAGES_MAX, len(messages)
    return pack(
        [(_TAGS[type(m)], *(_packable(getattr(m, field.name)) for field in fields(m))) for m in messages]
    )


def unpack_messages(data: bytes) -> list[Message]:
    """Return the messages of a frame.  Raises PeerError."""
    try:
        items = unpack(data)
    except CodecError as error:
        raise PeerError(f"malformed frame: {error}") from None
    return [_message(item) for item in _tuple(items, MESSAGES_MAX)]


def _message(item: object) -> Message:
    tag, *values = _tuple(item, 16) or (0,)
    if type(tag) is not int or tag not in _FIELDS:
        raise PeerError(f"unknown kind of message: {_shown(tag)}")
    if tag == _HELLO and values:
        check_version(_count(values[0]))
    kind, readers = _FIELDS[tag]
    if len(values) != len(readers):
        raise PeerError(f"malformed message: {len(values)} fields under tag {tag}")
    return kind(*(read(value) for read, value in zip(readers, values, strict=True)))


def check_version(version: int) -> None:
    if version != PROTOCOL_VERSION:
        raise PeerError(
            f"the dialing side speaks version {version} of the protocol, the other"
            f" version {PROTOCOL_VERSION}: bring both to the same release"
        )
