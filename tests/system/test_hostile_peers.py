"""Whoever is no member, and whatever a member says that makes no sense: refused, and no harm done.

Everything here goes to the port of a real daemon.  Afterwards its view and its facts are what they
were, its log says why the connection was dropped, and a real peer is still served.
"""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import suppress

import aiohttp
import pytest
import zstandard

from crdt.causality import ReplicaId, VersionVector
from elmer.ticket import decode
from replication import wire
from replication.auth import Credentials, Dialer
from replication.client import dialed, open_client
from replication.connection import ConnectionGoneError, greet
from replication.limits import Limits
from replication.local import PeerError
from replication.message import Blocks, Commits, Identity, Message, Pull, Taken, Welcome
from tests.system.sites import CommandFailedError, Site, Sites, elmer, meet
from tests.system.waiting import until, until_equal

LIMITS = Limits()
STRANGER = Identity(ReplicaId(77_777), "mallory", b"m" * 16)
WAIT_S = 60


class Victim:
    """A site with something to lose, and what it was like before the attack."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.ticket = decode(site.report("invite")["ticket"])
        self.digest = site.digest()
        self.facts = site.status()["facts"]
        self.log_start = len(site.log_text())

    def credentials(self, secret: bytes | None = None) -> Credentials:
        return Credentials(self.ticket.volume_id, secret or self.ticket.secret, STRANGER)

    def wait_logged(self, *words: str) -> None:
        until(
            lambda: all(word in self.site.log_text()[self.log_start :] for word in words),
            f"{words} in the log of {self.site.name}",
        )

    def check_unharmed(self) -> None:
        assert self.site.digest() == self.digest
        status = self.site.status()
        assert status["facts"] == self.facts
        assert "mallory" not in {member["name"] for member in status["members"]}
        until(
            lambda: (
                not [
                    peer
                    for peer in self.site.status()["peers"]
                    if peer["name"] == "mallory" and peer["connected"]
                ]
            ),
            "the stranger is not connected",
        )


@pytest.fixture
def victim(shared_pair: list[Site]) -> Iterator[Victim]:
    a, b = shared_pair
    (a / "precious").write_bytes(b"must not change")
    meet(a, b)
    made = Victim(a)
    yield made
    made.check_unharmed()
    # A real peer is still served.
    content = os.urandom(1_000)
    (a / "precious").write_bytes(content)
    until_equal((b / "precious").read_bytes, content, "the next change of a through b")


# -- strangers -----------------------------------------------------------------------------------


def test_a_replica_of_another_volume_is_refused_by_both_sides(victim: Victim, sites: Sites):
    other = sites.found("other")
    (other / "f").write_bytes(b"of another volume")
    other.add_peer(victim.site.url)
    until(lambda: "not a member" in other.status()["peers"][0]["error"], "the reason in its status")
    assert not other.status()["peers"][0]["connected"]
    victim.wait_logged("ended")
    assert os.listdir(other.mountpoint) == ["f"]


def test_a_ticket_with_another_secret_lets_nobody_in(victim: Victim, sites: Sites):
    other = sites.found("other")
    ticket = other.report("invite", "--url", victim.site.url)["ticket"]
    late = sites.add("late")
    with pytest.raises(CommandFailedError, match="not a member"):
        elmer("join", late.store, ticket, "--name", "late")
    assert not late.store.exists()


def test_who_knows_the_volume_but_not_the_secret_learns_nothing(victim: Victim):
    async def attack() -> None:
        async with (
            open_client() as client,
            dialed(client, victim.site.url, LIMITS) as frames,
        ):
            await greet(frames, Dialer(victim.credentials(b"w" * 32), os.urandom(32)))

    with pytest.raises((PeerError, ConnectionGoneError)):
        asyncio.run(attack())


def test_who_skips_the_proof_is_refused(victim: Victim):
    """It says hello, and then not that it knows the secret but what it wants."""

    async def attack() -> None:
        dialer = Dialer(victim.credentials(), os.urandom(32))
        async with (
            open_client() as client,
            dialed(client, victim.site.url, LIMITS) as frames,
        ):
            await frames.send(dialer.hello())
            await frames.receive_greeting()
            await frames.send(Welcome(STRANGER, bytes(32)))
            await frames.receive_greeting()

    with pytest.raises((PeerError, ConnectionGoneError), match="proof"):
        asyncio.run(attack())


@pytest.mark.parametrize(
    "data",
    [b"\x00" * 1_000, b"GET / HTTP/9.9\r\n\r\n", b"\xff" * 100_000, b"GET /elmer/v1 HTTP/1.1\r\n\r\n"],
    ids=["zeros", "bad-version", "much", "no-websocket"],
)
def test_what_is_no_http_is_dropped(victim: Victim, data: bytes):
    with (
        socket.create_connection(victim.site.address, timeout=WAIT_S) as connection,
        suppress(ConnectionResetError, BrokenPipeError),
    ):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass


def test_connections_that_say_nothing_do_not_keep_members_out(victim: Victim):
    silent = [socket.create_connection(victim.site.address, timeout=WAIT_S) for _ in range(50)]
    try:
        (victim.site / "precious").write_bytes(b"must not change")
        assert victim.site.status()["peers"]
    finally:
        for connection in silent:
            connection.close()
    victim.facts = victim.site.status()["facts"]


# -- frames --------------------------------------------------------------------------------------


def bomb(size: int) -> bytes:
    return wire.COMPRESSED + zstandard.ZstdCompressor().compress(bytes(size))


def claimed(size: int) -> bytes:
    """Return a compressed frame whose header claims `size` bytes."""
    frame = bytearray(bomb(70_000))
    # Magic number (4 bytes), descriptor (1), content size (4 bytes at this size).
    assert frame[5] >> 6 == 2, "a content size of four bytes"
    start = 6 if frame[5] & 0x20 else 7
    frame[start : start + 4] = size.to_bytes(4, "little")
    return bytes(frame)


BAD_FRAMES = {
    "empty": b"",
    "unknown-form": b"\x07" + b"x" * 100,
    "no-messagepack": wire.PLAIN + b"\xc1" * 100,
    "unknown-tag": wire.PLAIN + b"\x91\x92\xcd\x27\x0f\x01",
    "not-compressed": wire.COMPRESSED + b"\x28\xb5\x2f\xfd" + b"junk" * 10,
    "bomb": bomb(200 << 20),
    "too-much-claimed": claimed(0xFFFF_FFF0),
    "deep": wire.PLAIN + b"\x91" * 100_000 + b"\x01",
}


def send_as_stranger_before_greeting(victim: Victim, frame: bytes) -> aiohttp.WSMsgType:
    """Return how the connection ended."""

    async def attack() -> aiohttp.WSMsgType:
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(f"{victim.site.url}/elmer/v1") as connection,
        ):
            await connection.send_bytes(frame)
            while True:
                message = await connection.receive(timeout=WAIT_S)
                if message.type != aiohttp.WSMsgType.BINARY:
                    return message.type

    return asyncio.run(attack())


def send_as_member(victim: Victim, *frames_to_send: bytes) -> None:
    """Prove the secret, say this, and return when the connection was ended by the victim."""

    async def attack() -> None:
        async with (
            open_client() as client,
            dialed(client, victim.site.url, LIMITS) as frames,
        ):
            await greet(frames, Dialer(victim.credentials(), os.urandom(32)))
            for frame in frames_to_send:
                await frames.socket.send_bytes(frame)
            async with asyncio.timeout(WAIT_S):
                while True:
                    await frames.receive_frame(WAIT_S)

    with pytest.raises((ConnectionGoneError, PeerError, OSError)):
        asyncio.run(attack())


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_malformed_frame_of_a_stranger_ends_its_connection(victim: Victim, name: str):
    ended = send_as_stranger_before_greeting(victim, BAD_FRAMES[name])
    assert ended in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING}
    victim.wait_logged("ended")


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_malformed_frame_of_a_member_ends_its_connection(victim: Victim, name: str):
    send_as_member(victim, BAD_FRAMES[name])
    victim.wait_logged("mallory", "ended")


def test_a_frame_above_the_bound_ends_the_connection(victim: Victim):
    send_as_member(victim, bytes(LIMITS.frame_bytes_max + 1_000_000))
    victim.wait_logged("mallory", "ended")


def vector(**counters: int) -> VersionVector:
    return VersionVector({ReplicaId(int(name[1:])): count for name, count in counters.items()})


NONSENSE: dict[str, Message] = {
    "commits-that-are-none": Commits((b"junk",), 1, vector(r5=1), last=True),
    "an-empty-commit": Commits((b"",), 1, vector(r5=1), last=True),
    "a-huge-cursor": Commits((), (1 << 63) - 1, vector(r5=1 << 39), last=True),
    "a-pull-from-beyond-the-end": Pull((1 << 62), vector()),
    "blocks-nobody-asked-for": Blocks((b"x" * 1_000,)),
    "credit-nobody-had": Taken(1 << 40),
    "a-second-greeting": Welcome(STRANGER, bytes(32)),
}


@pytest.mark.parametrize("name", ["commits-that-are-none", "an-empty-commit", "a-second-greeting"])
def test_nonsense_from_a_member_ends_its_connection(victim: Victim, name: str):
    send_as_member(victim, wire.seal([NONSENSE[name]], LIMITS))
    victim.wait_logged("mallory", "ended")


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_from_a_member_changes_nothing(victim: Victim, name: str):
    async def attack() -> None:
        async with (
            open_client() as client,
            dialed(client, victim.site.url, LIMITS) as frames,
        ):
            await greet(frames, Dialer(victim.credentials(), os.urandom(32)))
            await frames.socket.send_bytes(wire.seal([NONSENSE[name]], LIMITS))
            await frames.receive_frame(WAIT_S)

    # What it answers, if anything, is its own affair.
    with suppress(ConnectionGoneError, PeerError, OSError):
        asyncio.run(attack())
