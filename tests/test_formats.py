"""Golden vectors of docs/formats.md: bytes that this release writes, and must read for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crdt.blocks import decode_chunk, encode_chunk
from crdt.causality import Dot, ReplicaId, Stamp, make_dot
from crdt.codec import CodecError, pack, unpack
from crdt.encoding import decode_commit, encode_commit
from crdt.facts import (
    ROOT,
    Acknowledgement,
    Birth,
    Caller,
    Commit,
    Field,
    Ino,
    Kind,
    Left,
    LinkId,
    Member,
    Pin,
    Placement,
    Policy,
    RecordKind,
    Ref,
    Register,
    Removal,
    Setting,
    Version,
    VersionId,
    Xattr,
)
from crdt.policy import pattern_setting
from crdt.rows import (
    Head,
    Inode,
    Item,
    Link,
    Shown,
    Stamped,
    StoredVersion,
    decode_inode,
    decode_names,
    decode_version,
    encode_inode,
    encode_names,
    encode_version,
)

DOCUMENT = Path(__file__).parent.parent / "docs" / "formats.md"

DOT = make_dot(ReplicaId(1), 2)
LATER = make_dot(ReplicaId(2), 1)
HLC = 1_700_000_000_000 << 16
WALL_NS = 1_700_000_000_000_000_000
INO = Ino(DOT)
LINK = LinkId(DOT)
FIRST = Ref(INO, VersionId(DOT))

CREATE = Commit(
    DOT,
    HLC,
    WALL_NS,
    (Birth(INO, Kind.REGULAR, 0o644, 0, 0, 0), Placement(INO, LINK, ROOT, b"f")),
)
CREATE_BYTES = (
    "94cf0000010000000002cf018bcfe568000000cf17979cfe362a0000"  # dot, hlc, wall clock
    "92"  # two facts
    "9b01cf000001000000000201cd01a40000000000c400c0"  # the birth
    "9d02cf0000010000000002cf000001000000000201c4016690c2c2c2c090c090"  # the placement
)

# A file that was made at a name from which another one had been removed.
CONTINUING = Commit(
    LATER,
    HLC,
    WALL_NS,
    (
        Birth(Ino(LATER), Kind.REGULAR, 0o644, 0, 0, 0, lineage=FIRST),
        Placement(
            Ino(LATER), LinkId(LATER), ROOT, b"f", rank=Stamp(HLC, DOT), via=Ref(Ino(LATER), VersionId(LATER))
        ),
    ),
)
CONTINUING_BYTES = (
    "94cf0000020000000001cf018bcfe568000000cf17979cfe362a0000"  # dot, hlc, wall clock
    "92"  # two facts
    "9c01cf000002000000000101cd01a40000000000c400c092cf0000010000000002cf0000010000000002"  # the birth
    "9d02cf0000020000000001cf000002000000000101c4016690c2c2c292cf018bcfe568000000cf0000010000000002"
    "9092cf0000020000000001cf000002000000000190"  # the placement
)

EVERY_FACT = Commit(
    LATER,
    HLC + 1,
    WALL_NS + 1,
    (
        Birth(Ino(LATER), Kind.SYMLINK, 0o777, 1, 2, 3, 4, 5, b"target", FIRST, FIRST, True),
        Placement(
            INO, LINK, ROOT, b"g", (DOT,), True, True, True, Stamp(HLC, DOT), (INO,), FIRST, (Left(ROOT),)
        ),
        Removal(INO, LINK, (DOT,), True, (FIRST,), (FIRST,), (Left(ROOT, HLC, WALL_NS),)),
        Pin(INO, LINK, DOT, b"p"),
        Version(
            INO,
            VersionId(LATER),
            (FIRST,),
            70_000,
            WALL_NS,
            b"d" * 32,
            b"e" * 32,
            None,
            0,
            ((0, b"h" * 32), (2, b"")),
            False,
            True,
            FIRST,
            3,
            Caller(1000, 100),
            (DOT,),
        ),
        Register(INO, Field.MTIME, -1, (DOT,)),
        Xattr(INO, b"user.a", None, (DOT,)),
        Member(ReplicaId(2), "B", b"s" * 16, 1),
        Setting("policy", b"keep"),
        Acknowledgement(INO, RecordKind.RENAME, DOT),
    ),
)

EXCLUSIVE = Commit(DOT, HLC, WALL_NS, (Birth(INO, Kind.REGULAR, 0o644, 0, 0, 0, exclusive=True),))
EXCLUSIVE_BYTES = (
    "94cf0000010000000002cf018bcfe568000000cf17979cfe362a0000"  # dot, hlc, wall clock
    "91"  # one fact
    "9d01cf000001000000000201cd01a40000000000c400c0c0c3"
)

ACKNOWLEDGED = Commit(LATER, HLC, WALL_NS, (Acknowledgement(INO, RecordKind.UNLINK, DOT),))
ACKNOWLEDGED_BYTES = (
    "94cf0000020000000001cf018bcfe568000000cf17979cfe362a0000"  # dot, hlc, wall clock
    "91"  # one fact
    "940acf000001000000000204cf0000010000000002"
)

INODE = Inode(
    INO,
    [Stamped(DOT, HLC, WALL_NS, CREATE.facts[0])],
    links={LINK: Link([Stamped(DOT, HLC, WALL_NS, CREATE.facts[1])])},
    heads=[Head(FIRST, DOT, HLC, WALL_NS, 0, WALL_NS)],
    shown=(Shown(LINK, ROOT, b"f", b"f"),),
)
INODE_BYTES = (
    "9d919ecf0000010000000002cf018bcfe568000000cf17979cfe362a000001cf000001000000000201cd01a400000000"
    "00c400c0909194cf000001000000000291dc0010cf0000010000000002cf018bcfe568000000cf17979cfe362a000002"
    "cf0000010000000002cf000001000000000201c4016690c2c2c2c090c0909090919c92cf0000010000000002cf000001"
    "0000000002cf0000010000000002cf018bcfe568000000cf17979cfe362a000000cf17979cfe362a00000000c20000c0"
    "90909000c0c09194cf000001000000000201c40166c4016600c2"
)

NAMES = {b"f": (Item(LINK, INO, Kind.REGULAR),)}
NAMES_BYTES = "9192c401669194cf0000010000000002cf00000100000000020100"

VERSION = StoredVersion(
    LATER, HLC, WALL_NS, Version(INO, VersionId(LATER), (FIRST,), 2, WALL_NS, b"d" * 32, inline=b"hi")
)
VERSION_BYTES = (
    "95cf0000020000000001cf018bcfe568000000cf17979cfe362a00009f05cf0000010000000002cf0000020000000001"
    "9192cf0000010000000002cf000001000000000202cf17979cfe362a0000c42064646464646464646464646464646464"
    "64646464646464646464646464646464c400c4026869c090c2c2c0c090"
)

POLICIES = Commit(
    LATER,
    HLC,
    WALL_NS,
    (Register(INO, Field.POLICY, Policy.APPEND, ()), pattern_setting("*.log", Policy.APPEND)),
)
POLICIES_BYTES = (
    "94cf0000020000000001cf018bcfe568000000cf17979cfe362a0000929506cf00000100000000020503909309ab6d65"
    "7267653a2a2e6c6f67c406617070656e64"
)

WRITTEN = Commit(
    LATER,
    HLC,
    WALL_NS,
    (
        Version(
            INO,
            VersionId(LATER),
            (FIRST,),
            2,
            WALL_NS,
            b"d" * 32,
            inline=b"hi",
            writer=Caller(1000, 100),
            under=(DOT,),
        ),
    ),
)
WRITTEN_BYTES = (
    "94cf0000020000000001cf018bcfe568000000cf17979cfe362a0000"  # dot, hlc, wall clock
    "91"  # one fact
    "dc0011"
    "05cf0000010000000002cf00000200000000019192cf0000010000000002cf000001000000000202cf17979cfe362a0000"
    "c4206464646464646464646464646464646464646464646464646464646464646464c400c4026869c090c2c2c0c0"
    "92cd03e86491cf0000010000000002"  # who wrote it, under which settings
)

ARRIVAL = (DOT, HLC, WALL_NS, [b"I" + INO.to_bytes(8, "big")])
ARRIVAL_BYTES = "94cf0000010000000002cf018bcfe568000000cf17979cfe362a000091c409490000010000000002"


@pytest.mark.parametrize(
    ("value", "encode", "golden"),
    [
        (CREATE, encode_commit, CREATE_BYTES),
        (POLICIES, encode_commit, POLICIES_BYTES),
        (CONTINUING, encode_commit, CONTINUING_BYTES),
        (INODE, encode_inode, INODE_BYTES),
        (NAMES, encode_names, NAMES_BYTES),
        (VERSION, encode_version, VERSION_BYTES),
        (ARRIVAL, pack, ARRIVAL_BYTES),
        (ACKNOWLEDGED, encode_commit, ACKNOWLEDGED_BYTES),
        (EXCLUSIVE, encode_commit, EXCLUSIVE_BYTES),
        (WRITTEN, encode_commit, WRITTEN_BYTES),
        ({0: b"a" * 32, 5: b"b" * 32}, encode_chunk, "0000000000000021" + "61" * 32 + "62" * 32),
    ],
    ids=[
        "commit",
        "policies",
        "continuing",
        "inode",
        "names",
        "version",
        "arrival",
        "acknowledgement",
        "exclusive",
        "written by somebody",
        "chunk of a block map",
    ],
)
def test_what_is_written_is_the_golden_vector(value, encode, golden):
    assert encode(value).hex() == golden


def test_golden_vectors_are_read_back():
    assert decode_commit(bytes.fromhex(CREATE_BYTES)) == CREATE
    assert decode_commit(bytes.fromhex(ACKNOWLEDGED_BYTES)) == ACKNOWLEDGED
    assert decode_commit(bytes.fromhex(EXCLUSIVE_BYTES)) == EXCLUSIVE
    assert decode_commit(bytes.fromhex(WRITTEN_BYTES)) == WRITTEN
    assert decode_commit(bytes.fromhex(POLICIES_BYTES)) == POLICIES
    assert decode_commit(bytes.fromhex(CONTINUING_BYTES)) == CONTINUING
    assert decode_inode(INO, bytes.fromhex(INODE_BYTES)) == INODE
    assert decode_names(bytes.fromhex(NAMES_BYTES)) == NAMES
    assert decode_version(bytes.fromhex(VERSION_BYTES)) == VERSION
    assert decode_chunk(encode_chunk({3: b"x" * 32})) == {3: b"x" * 32}
    assert unpack(bytes.fromhex(ARRIVAL_BYTES)) == (*ARRIVAL[:3], tuple(ARRIVAL[3]))


def test_the_document_shows_the_golden_commit():
    assert CREATE_BYTES in DOCUMENT.read_text().replace("\n", "")


def test_every_kind_of_fact_survives_the_wire():
    decoded = decode_commit(encode_commit(EVERY_FACT))
    assert decoded == EVERY_FACT
    assert [type(fact) for fact in decoded.facts] == [type(fact) for fact in EVERY_FACT.facts]
    assert isinstance(decoded.facts[1].rank, Stamp)
    assert isinstance(decoded.facts[4].parents[0], Ref)
    assert isinstance(decoded.facts[4].writer, Caller)


def refusal(data):
    """What is wrong with these bytes, None where they are a commit."""
    try:
        decode_commit(data)
    except CodecError as error:
        return str(error)
    return None


@given(st.binary(max_size=200))
@example(b"\x94\xcf")
def test_whatever_bytes_come_are_a_commit_or_refused(data):
    assert refusal(data) is None or refusal(data)


@given(st.data())
def test_a_changed_commit_is_a_commit_or_refused(data):
    good = bytearray(encode_commit(EVERY_FACT))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    refusal(bytes(good[: data.draw(st.integers(0, len(good)))]))


def with_fact(fact):
    return pack((DOT, HLC, WALL_NS, [fact]))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (with_fact((2, INO, LINK, ROOT, b"a/b", *CREATE.facts[1][4:])), "Placement.name"),
        (with_fact((2, INO, LINK, ROOT, b"..", *CREATE.facts[1][4:])), "Placement.name"),
        (with_fact((2, INO, LINK, ROOT, b"n" * 256, *CREATE.facts[1][4:])), "Placement.name"),
        (with_fact((1, INO, 9, *CREATE.facts[0][2:])), "Birth.kind"),
        (with_fact((1, INO, 1, 0o10000, *CREATE.facts[0][3:])), "Birth.mode"),
        (with_fact((6, INO, 1, True, [])), "Register.value"),
        (with_fact((10, INO, 0, DOT)), "Acknowledgement.kind"),
        (with_fact((5, *WRITTEN.facts[0][:14], (1,), ())), "Version.writer"),
        (with_fact((5, *WRITTEN.facts[0][:14], (1, -1), ())), "Version.writer"),
        (with_fact((5, *WRITTEN.facts[0][:14], None, (7,))), "Version.under"),
        (with_fact((10, INO, 1, 7)), "Acknowledgement.dot"),
        (with_fact((99, 1)), "unknown kind"),
        (with_fact((1, INO)), "has 12 fields"),
        (with_fact(()), "unknown kind"),
        (pack((DOT, 1 << 63, WALL_NS, [])), "year 2500"),
        (pack((5, HLC, WALL_NS, [])), "is no dot"),
        (pack((DOT, HLC, WALL_NS)), "four parts"),
        (pack(7), "no sequence"),
        (b"\xc1", "not msgpack"),
    ],
)
def test_a_refusal_names_the_field(data, says):
    assert says in refusal(data)


def test_a_dot_fits_an_inode_number():
    assert make_dot(ReplicaId((1 << 23) - 1), (1 << 40) - 1) == (1 << 63) - 1
    assert Dot(make_dot(ReplicaId(1), 1)) > ROOT
