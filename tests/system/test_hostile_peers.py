"""Whoever is no member, and whatever a member says that makes no sense: refused, and no harm done.

Everything here goes to the port of a real daemon.  Afterwards its view and its facts are what they
were, its log says why the connection was dropped, and a real peer is still served.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
import zstandard

from crdt.causality import COUNTER_BITS, Dot, ReplicaId, VersionVector
from crdt.encoding import encode_commit
from crdt.facts import ROOT, Birth, Commit, Ino, Kind, LinkId, Placement
from crdt.hlc import CEILING
from elmer.ticket import decode
from replication import wire
from replication.auth import Credentials, Dialer
from replication.limits import Limits
from replication.local import PeerError
from replication.message import (
    PROTOCOL_VERSION,
    Alive,
    Answer,
    Blocks,
    Bye,
    Commits,
    Hello,
    Identity,
    Message,
    Probe,
    Proof,
    Pull,
    State,
    Taken,
    Welcome,
)
from replication.server import PATH
from tests.system.sites import CommandFailedError, Site, Sites, elmer, meet
from tests.system.waiting import until, until_equal

LIMITS = Limits()
STRANGER = Identity(ReplicaId(77_777), "mallory", b"m" * 16)
WAIT_S = 60


class EndedError(Exception):
    """The victim ended the connection; the text is what it said of the reason."""


class Attacker:
    """A connection that says what it likes."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.reason = ""

    async def say(self, message: Message) -> None:
        await self.send(wire.seal([message], LIMITS))

    async def send(self, frame: bytes) -> None:
        with suppress(ConnectionError):  # `hear` tells that it ended
            await self.socket.send_bytes(frame)

    async def hear(self) -> Message:
        """Return what comes next.  Raises EndedError."""
        received = await self.socket.receive(timeout=WAIT_S)
        if received.type != aiohttp.WSMsgType.BINARY:
            raise EndedError(self.reason)
        message = wire.unseal(received.data, LIMITS)[0]
        if isinstance(message, Bye):
            self.reason = message.reason
            return await self.hear()
        return message

    async def hear_the_end(self) -> None:
        """Raises EndedError, after whatever else comes."""
        while True:
            await self.hear()

    async def greet(self, credentials: Credentials) -> None:
        """Become a peer."""
        dialer = Dialer(credentials, os.urandom(32))
        await self.say(dialer.hello())
        await self.say(dialer.prove(await self.hear()))
        dialer.accept(await self.hear())


@asynccontextmanager
async def attacker(url: str) -> AsyncIterator[Attacker]:
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(f"{url}{PATH}", max_msg_size=0) as socket,
    ):
        yield Attacker(socket)


class Victim:
    """A site with something to lose, and what it was like before the attack."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.ticket = decode(site.ask("invite")["ticket"])
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
    ticket = other.ask("invite", url=victim.site.url)["ticket"]
    late = sites.add("late")
    with pytest.raises(CommandFailedError, match="not a member"):
        elmer("join", late.store, ticket, "--name", "late")
    assert not late.store.exists()


def test_who_knows_the_volume_but_not_the_secret_learns_nothing(victim: Victim):
    """Not even that it is the right volume: who dials cannot tell a wrong secret from another one."""

    async def attack() -> None:
        async with attacker(victim.site.url) as connection:
            await connection.greet(victim.credentials(b"w" * 32))

    with pytest.raises(PeerError, match="not a member"):
        asyncio.run(attack())


def test_a_proof_of_another_secret_is_refused(victim: Victim):
    """As if the attacker had not looked at the challenge."""

    async def attack() -> None:
        async with attacker(victim.site.url) as connection:
            dialer = Dialer(victim.credentials(), os.urandom(32))
            await connection.say(dialer.hello())
            proof = dialer.prove(await connection.hear())
            await connection.say(Proof(proof.identity, bytes(32)))
            await connection.hear_the_end()

    with pytest.raises(EndedError):
        asyncio.run(attack())
    victim.wait_logged("not a member")


def test_who_skips_the_proof_is_refused(victim: Victim):
    """It says hello, and then not that it knows the secret but what it wants."""

    async def attack() -> None:
        async with attacker(victim.site.url) as connection:
            await connection.say(Dialer(victim.credentials(), os.urandom(32)).hello())
            await connection.hear()
            await connection.say(Pull(0, VersionVector()))
            await connection.hear_the_end()

    with pytest.raises(EndedError, match="proof"):
        asyncio.run(attack())
    victim.wait_logged("proof")


def test_another_version_of_the_protocol_is_told_so(victim: Victim):
    async def attack() -> None:
        async with attacker(victim.site.url) as connection:
            await connection.say(Hello(PROTOCOL_VERSION + 1, os.urandom(32)))
            await connection.hear_the_end()

    with pytest.raises(EndedError, match="version"):
        asyncio.run(attack())
    victim.wait_logged("version")


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


def send_as_stranger(victim: Victim, frame: bytes) -> None:
    """Say this as the first word, and return when the victim has ended the connection."""

    async def attack() -> None:
        async with attacker(victim.site.url) as connection:
            await connection.send(frame)
            await connection.hear_the_end()

    with pytest.raises(EndedError):
        asyncio.run(attack())


def send_as_member(victim: Victim, frame: bytes) -> None:
    """Prove the secret, say this, and return when the victim has ended the connection."""

    async def attack() -> None:
        async with attacker(victim.site.url) as connection:
            await connection.greet(victim.credentials())
            await connection.send(frame)
            await connection.hear_the_end()

    with pytest.raises(EndedError):
        asyncio.run(attack())


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_malformed_frame_of_a_stranger_ends_its_connection(victim: Victim, name: str):
    send_as_stranger(victim, BAD_FRAMES[name])
    victim.wait_logged("ended")


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_malformed_frame_of_a_member_ends_its_connection(victim: Victim, name: str):
    send_as_member(victim, BAD_FRAMES[name])
    victim.wait_logged("mallory", "ended")


def test_a_frame_above_the_bound_ends_the_connection(victim: Victim):
    send_as_member(victim, bytes(LIMITS.frame_bytes_max + 1_000_000))
    victim.wait_logged("mallory", "ended")


# -- commits -------------------------------------------------------------------------------------

MADE = Dot(STRANGER.replica << COUNTER_BITS | 1)


def commit(name: bytes = b"forged", hlc: int = 1 << 40, parent: int = ROOT) -> Commit:
    """Return how a stranger's replica would make an empty file."""
    birth = Birth(Ino(MADE), Kind.REGULAR, 0o644, 0, 0, 0)
    placement = Placement(Ino(MADE), LinkId(MADE), Ino(parent), name)
    return Commit(MADE, hlc, 1, (birth, placement))


def commits(*encoded: bytes) -> Commits:
    return Commits(encoded, 1, VersionVector({STRANGER.replica: 1}), last=True)


GOOD = encode_commit(commit())
BAD_COMMITS = {
    "junk": b"junk",
    "cut": GOOD[:-3],
    "more-behind-it": GOOD + b"\x00",
    "a-name-with-a-slash": encode_commit(commit(b"../../etc/passwd")),
    "a-name-of-dots": encode_commit(commit(b"..")),
    "an-empty-name": encode_commit(commit(b"")),
    "a-name-with-a-zero": encode_commit(commit(b"a\0b")),
    "a-name-that-is-too-long": encode_commit(commit(b"n" * 256)),
    "a-time-after-the-year-2500": encode_commit(commit(hlc=CEILING)),
    "a-parent-that-is-no-inode": encode_commit(commit(parent=0)),
    "a-dot-of-nobody": encode_commit(commit()._replace(dot=Dot(5))),
}


def send_in_session(victim: Victim, *messages: Message) -> None:
    """Behave as a member that begins a session, then say this, until the victim ends it."""

    async def attack() -> None:
        async with attacker(victim.site.url) as connection:
            await connection.greet(victim.credentials())
            await connection.say(State(VersionVector(), 0))
            for message in messages:
                await connection.say(message)
            await connection.hear_the_end()

    with pytest.raises(EndedError):
        asyncio.run(attack())


@pytest.mark.parametrize("name", BAD_COMMITS)
def test_a_malformed_commit_ends_the_connection(victim: Victim, name: str):
    send_in_session(victim, commits(BAD_COMMITS[name]))
    victim.wait_logged("mallory", "ended")


def test_a_good_commit_among_malformed_ones_is_not_taken_either(victim: Victim):
    """A pass is applied whole or not at all."""
    send_in_session(victim, commits(GOOD, BAD_COMMITS["a-name-with-a-slash"]))
    assert not (victim.site / "forged").exists()


def test_a_good_commit_of_a_member_is_taken(site: Site):
    """So what the tests above see refused is refused for what is wrong with it."""
    victim = Victim(site)

    async def tell() -> None:
        async with attacker(site.url) as connection:
            await connection.greet(victim.credentials())
            await connection.say(State(VersionVector(), 0))
            await connection.say(commits(GOOD))
            while not (site / "forged").exists():
                await connection.say(Alive())
                await connection.hear()

    asyncio.run(tell())
    assert (site / "forged").read_bytes() == b""


def test_a_session_that_does_not_begin_with_a_state_ends(victim: Victim):
    send_as_member(victim, wire.seal([commits(GOOD)], LIMITS))
    victim.wait_logged("mallory", "state was due")


NONSENSE: dict[str, Message] = {
    "blocks-nobody-asked-for": Blocks((b"x" * 1_000,)),
    "credit-nobody-had": Taken(1 << 40),
    "a-second-greeting": Welcome(STRANGER, bytes(32)),
    "a-second-hello": Hello(PROTOCOL_VERSION, bytes(32)),
    "nothing-new": Commits((), 1 << 62, VersionVector(), last=True),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_from_a_member_changes_nothing(victim: Victim, name: str):
    """Whether it is answered or ends the connection."""

    async def attack() -> None:
        async with attacker(victim.site.url) as connection:
            await connection.greet(victim.credentials())
            await connection.say(State(VersionVector(), 0))
            await connection.say(NONSENSE[name])
            await connection.say(Probe(7))
            while not isinstance(await connection.hear(), Answer):
                pass

    with suppress(EndedError):
        asyncio.run(attack())
