import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdt.causality import COUNTER_MAX, REPLICA_MAX, ReplicaId, VersionVector
from crdt.codec import pack
from replication import message as m
from replication.local import PeerError
from replication.message import Identity, pack_messages, unpack_messages

counts = st.integers(0, m.COUNT_MAX)
nonces = st.binary(min_size=32, max_size=32)
hashes = st.lists(nonces, max_size=3).map(tuple)
blocks = st.lists(st.binary(min_size=1, max_size=40), max_size=3).map(tuple)
names = st.text("abcXYZ019-_", min_size=1, max_size=32)
identities = st.builds(Identity, st.integers(1, REPLICA_MAX), names, st.binary(min_size=16, max_size=16))
vectors = st.dictionaries(st.integers(1, REPLICA_MAX), st.integers(1, COUNTER_MAX), max_size=4).map(
    VersionVector
)
reasons = st.text(st.characters(categories=["L", "N", "P"]), max_size=50)

messages = st.one_of(
    st.builds(m.Hello, st.just(m.PROTOCOL_VERSION), nonces),
    st.builds(m.Challenge, nonces, nonces),
    st.builds(m.Proof, st.none() | identities, nonces),
    st.builds(m.Welcome, identities, nonces),
    st.builds(m.Join, st.binary(max_size=50)),
    st.builds(m.Joined, st.binary(max_size=50)),
    st.builds(m.State, vectors, counts),
    st.builds(m.Pull, counts, vectors),
    st.builds(m.Commits, blocks, counts, vectors, st.booleans()),
    st.builds(m.Taken, counts),
    st.builds(m.Want, hashes, st.booleans()),
    st.builds(m.Blocks, blocks),
    st.builds(m.Lack, hashes, hashes),
    st.builds(m.Have, hashes),
    st.builds(m.Probe, counts),
    st.builds(m.Answer, counts),
    st.builds(m.Alive),
    st.builds(m.Bye, reasons),
)


@given(st.lists(messages, min_size=1, max_size=5))
def test_messages_come_out_as_they_went_in(said):
    assert unpack_messages(pack_messages(said)) == said


def test_every_kind_of_message_is_among_those_tried():
    kinds = set(m.Message.__args__)
    tried = {strategy.wrapped_strategy.target for strategy in messages.original_strategies}
    assert kinds == tried


@given(st.binary(max_size=200))
def test_of_any_bytes_come_messages_or_a_peer_error(data):
    with contextlib.suppress(PeerError):
        unpack_messages(data)


@given(st.lists(messages, min_size=1, max_size=3), st.data())
@settings(max_examples=400)
def test_of_a_damaged_frame_come_messages_or_a_peer_error(said, data):
    frame = bytearray(pack_messages(said))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(frame)))
        match data.draw(st.sampled_from(["flip", "cut", "put"])):
            case "flip" if at < len(frame):
                frame[at] ^= data.draw(st.integers(1, 255))
            case "cut":
                del frame[at : at + data.draw(st.integers(1, 4))]
            case "put":
                frame[at:at] = data.draw(st.binary(max_size=4))
    with contextlib.suppress(PeerError):
        unpack_messages(bytes(frame))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=12,
)  # fmt: skip


@given(st.integers(0, 20), st.lists(values, max_size=5))
@settings(max_examples=400)
def test_of_fields_of_any_type_come_messages_or_a_peer_error(tag, fields):
    try:
        said = unpack_messages(pack([[tag, *fields]]))
    except PeerError:
        return
    assert unpack_messages(pack_messages(said)) == said


ID = b"i" * 16
MAC = b"m" * 32


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ((99,), "unknown kind"),
        ((), "unknown kind"),
        ((True,), "unknown kind"),
        (7, "no sequence"),
        ((10, True), "no number"),
        ((10, -1), "no number"),
        ((10, 1 << 63), "no number"),
        ((10,), "0 fields"),
        ((10, 1, 1), "2 fields"),
        ((11, (b"short",), False), "32 to 32 bytes"),
        ((11, tuple([MAC] * (m.HASHES_MAX + 1)), False), "at most"),
        ((11, (MAC,), 1), "neither true nor false"),
        ((12, (b"",)), "1 to 32768 bytes"),
        ((12, (bytes(32769),)), "1 to 32768 bytes"),
        ((7, (1,), 0), "as many counters"),
        ((7, (1, 0), 0), "no number from 1"),
        ((7, (0, 1), 0), "no number from 1"),
        ((7, (2, 1, 1, 1), 0), "no number from 3"),
        ((7, (1, 1, 1, 1), 0), "no number from 2"),
        ((7, (REPLICA_MAX + 1, 1), 0), "no number"),
        ((7, (1, COUNTER_MAX + 1), 0), "no number"),
        ((4, (1, "a/b", ID), MAC), "an identity"),
        ((4, (1, "a" * 33, ID), MAC), "an identity"),
        ((4, (1, "ä", ID), MAC), "an identity"),
        ((4, (1, "a\n", ID), MAC), "an identity"),
        ((4, (0, "a", ID), MAC), "no number"),
        ((4, (1, "a", ID[1:]), MAC), "16 to 16 bytes"),
        ((4, None, MAC), "no sequence"),
        ((2, MAC, MAC[1:]), "32 to 32 bytes"),
        ((18, b"bytes"), "no reason"),
    ],
)
def test_a_malformed_message_is_refused(item, why):
    with pytest.raises(PeerError, match=why):
        unpack_messages(pack([item]))


def test_a_frame_of_too_many_messages_is_refused():
    with pytest.raises(PeerError, match="at most 64"):
        unpack_messages(pack([(17,)] * 65))


def test_another_version_is_refused_in_words_that_name_both_whatever_else_it_says():
    with pytest.raises(PeerError, match=r"version 2 .* version 1"):
        unpack_messages(pack([(1, 2, "unknown", "fields", 3)]))


def test_a_reason_is_cut_and_made_harmless():
    (bye,) = unpack_messages(pack([(18, "\x1b[2J" + "x" * 1000)]))
    assert bye.reason.startswith("?[2Jxxx")
    assert len(bye.reason) == m.REASON_MAX


def test_equal_vectors_have_equal_bytes():
    one = VersionVector({ReplicaId(1): 2, ReplicaId(7): 1})
    other = VersionVector({ReplicaId(7): 1, ReplicaId(1): 2})
    assert pack_messages([m.State(one, 0)]) == pack_messages([m.State(other, 0)])
