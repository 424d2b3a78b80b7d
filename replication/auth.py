"""Who may speak: a mutual proof of the volume's secret before anything else is said.

    dialer                                    acceptor
      |---- Hello {version, nonce} ------------->|
      |<--- Challenge {nonce, mac} --------------|   the acceptor knows the secret
      |---- Proof {identity, mac} -------------->|   the dialer knows it, and says who it is
      |<--- Welcome {identity, mac} -------------|   the acceptor says who it is

Each mac is HMAC-SHA256, with the secret as key, over a label of its step, the protocol version, the
volume, both nonces and the identities that were told so far.  So none can be replayed (the nonces
are fresh), reflected (the labels differ by role) or moved to another volume.  Nobody tells its name
to somebody who has not proved the secret, and a wrong secret and another volume look alike.

This proves membership when a connection begins, and does not protect what is said afterwards from
somebody who can change packets on the way; mutual TLS will take its place (docs/decisions/0002).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from crdt.codec import pack
from replication.local import Local, PeerError
from replication.message import (
    ID_SIZE,
    NONCE_SIZE,
    PROTOCOL_VERSION,
    Challenge,
    Hello,
    Identity,
    Message,
    Proof,
    Welcome,
)


@dataclass(frozen=True, slots=True)
class Credentials:
    volume_id: bytes
    secret: bytes
    identity: Identity | None  # None: of a newcomer, who has none yet

    def __post_init__(self) -> None:
        assert len(self.volume_id) == ID_SIZE, "volume id"
        assert len(self.secret) >= 16, "secret"


def credentials_of(local: Local) -> Credentials:
    identity = Identity(local.replica, local.name, local.store_id)
    return Credentials(local.volume_id, local.secret, identity)


@dataclass(frozen=True, slots=True)
class Transcript:
    """What the macs of one greeting have in common."""

    volume_id: bytes
    secret: bytes
    dialer_nonce: bytes
    acceptor_nonce: bytes

    def mac(self, step: str, *identities: Identity | None) -> bytes:
        said = (step, PROTOCOL_VERSION, self.volume_id, self.dialer_nonce, self.acceptor_nonce)
        return hmac.digest(self.secret, pack((*said, *identities)), "sha256")

    def check(self, mac: bytes, step: str, *identities: Identity | None) -> None:
        if not hmac.compare_digest(mac, self.mac(step, *identities)):
            raise PeerError("not a member: it has another secret, or is of another volume")


class Dialer:
    """The side that dialed.  `nonce` is 32 bytes that were never used before."""

    def __init__(self, credentials: Credentials, nonce: bytes) -> None:
        assert len(nonce) == NONCE_SIZE, len(nonce)
        self.credentials = credentials
        self.nonce = nonce
        self.transcript: Transcript | None = None

    def hello(self) -> Hello:
        return Hello(PROTOCOL_VERSION, self.nonce)

    def prove(self, message: Message) -> Proof:
        """Answer the challenge.  Raises PeerError where the acceptor is no member."""
        if not isinstance(message, Challenge):
            raise PeerError(f"{type(message).__name__} where a challenge was due")
        mine = self.credentials
        self.transcript = Transcript(mine.volume_id, mine.secret, self.nonce, message.nonce)
        self.transcript.check(message.mac, "challenge")
        return Proof(mine.identity, self.transcript.mac("proof", mine.identity))

    def accept(self, message: Message) -> Identity:
        """Return who the acceptor is.  Raises PeerError."""
        assert self.transcript is not None, "prove comes first"
        if not isinstance(message, Welcome):
            raise PeerError(f"{type(message).__name__} where a welcome was due")
        self.transcript.check(message.mac, "welcome", self.credentials.identity, message.identity)
        _check_other(self.credentials, message.identity)
        return message.identity


class Acceptor:
    """The side that was dialed.  `nonce` is 32 bytes that were never used before."""

    def __init__(self, credentials: Credentials, nonce: bytes) -> None:
        assert len(nonce) == NONCE_SIZE, len(nonce)
        self.credentials = credentials
        self.nonce = nonce
        self.transcript: Transcript | None = None

    def challenge(self, message: Message) -> Challenge:
        """Answer the hello.  Raises PeerError."""
        if not isinstance(message, Hello):
            raise PeerError(f"{type(message).__name__} where a hello was due")
        mine = self.credentials
        self.transcript = Transcript(mine.volume_id, mine.secret, message.nonce, self.nonce)
        return Challenge(self.nonce, self.transcript.mac("challenge"))

    def identify(self, message: Message) -> Identity | None:
        """Return who the dialer is, None for a newcomer.  Raises PeerError."""
        assert self.transcript is not None, "challenge comes first"
        if not isinstance(message, Proof):
            raise PeerError(f"{type(message).__name__} where a proof was due")
        self.transcript.check(message.mac, "proof", message.identity)
        _check_other(self.credentials, message.identity)
        return message.identity

    def welcome(self, dialer: Identity | None) -> Welcome:
        assert self.transcript is not None, "challenge comes first"
        identity = self.credentials.identity
        assert identity is not None, "a newcomer cannot accept"
        return Welcome(identity, self.transcript.mac("welcome", dialer, identity))


def _check_other(mine: Credentials, other: Identity | None) -> None:
    if mine.identity is not None and other is not None and mine.identity.store_id == other.store_id:
        raise PeerError("the peer is this replica itself, or a copy of its store: a copy must be joined anew")
