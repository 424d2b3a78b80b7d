import contextlib
import hashlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from replication import wire
from replication.limits import Limits
from replication.local import PeerError
from replication.message import Alive, Blocks, pack_messages
from tests.replication.test_message import messages

LIMITS = Limits()
SMALL = Limits(frame_bytes_max=10_000)


@given(st.lists(messages, min_size=1, max_size=3))
def test_frames_come_out_as_they_went_in(said):
    assert wire.unseal(wire.seal(said, LIMITS), LIMITS) == said


def test_only_large_frames_that_get_smaller_are_compressed():
    small = wire.seal([Blocks((b"a" * 3000,))], LIMITS)
    text = Blocks((b"the same words, again and again. " * 500,))
    large = wire.seal([text], LIMITS)
    noise = wire.seal([Blocks((noise_bytes(16_000),))], LIMITS)
    assert [f[:1] for f in (small, large, noise)] == [wire.PLAIN, wire.COMPRESSED, wire.PLAIN]
    assert len(large) < 1000
    assert wire.unseal(large, LIMITS) == [text]


def noise_bytes(size: int) -> bytes:
    return b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(size // 32))


@given(st.binary(max_size=100))
def test_of_any_bytes_come_messages_or_a_peer_error(data):
    for frame in (data, b"\0" + data, b"\1" + data):
        with contextlib.suppress(PeerError):
            wire.unseal(frame, LIMITS)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_of_a_damaged_compressed_frame_come_messages_or_a_peer_error(at, flip):
    frame = bytearray(wire.seal([Blocks((b"words " * 3000,))], LIMITS))
    frame[at % len(frame)] ^= flip
    with contextlib.suppress(PeerError):
        wire.unseal(bytes(frame), LIMITS)


def compressed(data: bytes, **options: bool) -> bytes:
    return wire.COMPRESSED + zstandard.ZstdCompressor(**options).compress(data)


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (b"", "unknown form"),
        (b"\x02", "unknown form 02"),
        (wire.PLAIN + bytes(10_000), "at most 10000 are taken"),
        (compressed(bytes(10_001)), "claims 10001 bytes"),
        (compressed(b"x", write_content_size=False), "claims -1 bytes"),
        (compressed(pack_messages([Alive()])) + b"more", "does not decompress"),
        (compressed(pack_messages([Alive()]))[:-1], "does not decompress"),
        (b"\x01no zstandard", "does not decompress"),
    ],
)
def test_a_bad_frame_is_refused(frame, why):
    with pytest.raises(PeerError, match=why):
        wire.unseal(frame, SMALL)


def test_a_frame_that_lies_about_its_size_does_not_grow():
    # Header of a content of 5 bytes (single segment), body of a megabyte of zeros.
    honest = zstandard.ZstdCompressor(write_content_size=True).compress(bytes(5))
    large = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1_000_000))
    lie = honest[:6] + large[6:]
    with pytest.raises(PeerError):
        wire.unseal(wire.COMPRESSED + lie, SMALL)
