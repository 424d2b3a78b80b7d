"""Facts as bytes, for peers and for rows, and the checks that bytes from a peer must pass.

A fact is a tuple: a tag, then its fields in the order of crdt.facts; a birth without a lineage ends
before it.  A commit is (dot, hlc, wall_ns, facts).  `decode_commit` trusts nothing: every field has its
type and its bounds, and whatever is wrong raises CodecError with the name of the field, so that a peer's
bad bytes change nothing (promise P8).
Rows of our own store are decoded by `fact_of` without these checks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from crdt.causality import COUNTER_BITS, COUNTER_MAX, REPLICA_MAX, Dot, Stamp
from crdt.codec import CodecError, pack, unpack
from crdt.facts import (
    DERIVED,
    Birth,
    Commit,
    Fact,
    Field,
    Kind,
    Left,
    Member,
    Pin,
    Placement,
    Ref,
    Register,
    Removal,
    Setting,
    Version,
    Xattr,
)
from crdt.hlc import CEILING, is_possible

TAGS: dict[int, type[Fact]] = {
    1: Birth,
    2: Placement,
    3: Removal,
    4: Pin,
    5: Version,
    6: Register,
    7: Xattr,
    8: Member,
    9: Setting,
}
TAG_OF: dict[type, int] = {kind: tag for tag, kind in TAGS.items()}

NAME_MAX = 255
XATTR_NAME_MAX = 255
XATTR_SIZE_MAX = 65_536
TARGET_MAX = 4095
SIZE_MAX = (1 << 63) - 1
INDEX_MAX = (1 << 38) - 1  # of a block: as many as a block map has room for
INT64_MIN = -(1 << 63)
LIST_MAX = 1 << 20
HASH_SIZE = 32

Check = Callable[[object], object]


def encode_commit(commit: Commit) -> bytes:
    return pack((commit.dot, commit.hlc, commit.wall_ns, [fact_tuple(f) for f in commit.facts]))


def fact_tuple(fact: Fact) -> tuple[object, ...]:
    if type(fact) is Birth and fact.lineage is None:
        return (TAG_OF[Birth], *fact[:-1])
    return (TAG_OF[type(fact)], *fact)


def _with_lineage(kind: type[Fact], row: tuple[object, ...]) -> tuple[object, ...]:
    """A birth that ends before its lineage has none."""
    return (*row, None) if kind is Birth and len(row) == len(Birth._fields) else row


def fact_of(row: tuple[object, ...]) -> Fact:
    """Return the fact of a row that we wrote."""
    kind = TAGS[cast(int, row[0])]
    return restored(kind._make(_with_lineage(kind, row)[1:]))


def restored(fact: Fact) -> Fact:
    """Give the nested tuples of a decoded fact their classes again."""
    match fact:
        case Placement(rank=rank, via=via, left=left) if rank is not None or via is not None or left:
            return fact._replace(
                rank=None if rank is None else Stamp(*rank),
                via=None if via is None else Ref(*via),
                left=lefts_of(left),
            )
        case Removal(seen=seen, drops=drops, left=left):
            return fact._replace(seen=refs_of(seen), drops=refs_of(drops), left=lefts_of(left))
        case Version(parents=parents, lineage=lineage):
            return fact._replace(parents=refs_of(parents), lineage=None if lineage is None else Ref(*lineage))
        case Birth(claims=claims, lineage=lineage) if claims is not None or lineage is not None:
            return fact._replace(
                claims=None if claims is None else Ref(*claims),
                lineage=None if lineage is None else Ref(*lineage),
            )
    return fact


def refs_of(rows: tuple[Ref, ...]) -> tuple[Ref, ...]:
    return tuple([Ref(*row) for row in rows])


def lefts_of(rows: tuple[Left, ...]) -> tuple[Left, ...]:
    return tuple([Left(*row) for row in rows])


def decode_commit(data: bytes) -> Commit:
    """Return the commit that a peer sent.  Raises CodecError."""
    row = _sequence(unpack(data))
    if len(row) != 4:
        raise CodecError("a commit has four parts")
    dot, hlc = _dot(row[0]), _integer(row[1], 1, (1 << 64) - 1)
    if not is_possible(hlc):
        raise CodecError("a commit of a time beyond the year 2500: its clock is wrong")
    wall_ns = _integer(row[2], INT64_MIN, SIZE_MAX)
    facts = tuple(decode_fact(fact) for fact in _sequence(row[3]))
    return Commit(dot, hlc, wall_ns, facts)


def decode_fact(value: object) -> Fact:
    row = _sequence(value)
    kind = TAGS.get(_integer(row[0], 0, 255)) if row else None
    if kind is None:
        raise CodecError(f"a fact of an unknown kind: {row[:1]!r}; is the peer newer than this replica?")
    checks = CHECKS[kind]
    row = _with_lineage(kind, row)
    if len(row) != len(checks) + 1:
        raise CodecError(f"a {kind.__name__} has {len(checks)} fields, not {len(row) - 1}")
    fields = []
    for name, check, field in zip(kind._fields, checks, row[1:], strict=True):
        try:
            fields.append(check(field))
        except CodecError as error:
            raise CodecError(f"{kind.__name__}.{name}: {error}") from None
    return kind._make(fields)


# -- checks ------------------------------------------------------------------------------------------


def _integer(value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise CodecError(f"{value!r:.40} is no integer from {least} to {most}")
    return value


def _sequence(value: object) -> tuple[object, ...]:
    if type(value) is not tuple or len(value) > LIST_MAX:
        raise CodecError(f"{value!r:.40} is no sequence, or too long")
    return value


def _bytes(value: object, least: int, most: int) -> bytes:
    if type(value) is not bytes or not least <= len(value) <= most:
        raise CodecError(f"{value!r:.40} is no bytes of length {least} to {most}")
    return value


def _boolean(value: object) -> bool:
    if type(value) is not bool:
        raise CodecError(f"{value!r:.40} is no boolean")
    return value


def _text(value: object) -> str:
    if type(value) is not str or not 0 < len(value) <= NAME_MAX:
        raise CodecError(f"{value!r:.40} is no text")
    return value


def _dot(value: object) -> Dot:
    dot = _integer(value, 1, DERIVED - 1)
    if not 0 < dot >> COUNTER_BITS <= REPLICA_MAX or not dot & COUNTER_MAX:
        raise CodecError(f"{dot} is no dot")
    return Dot(dot)


def _number(value: object) -> int:
    """An inode, link or version number: the root, a dot, or derived."""
    number = _integer(value, 1, 2 * DERIVED - 1)
    return number if number == 1 or number & DERIVED else _dot(number)


def _context(value: object) -> tuple[Dot, ...]:
    return tuple(_dot(dot) for dot in _sequence(value))


def _stamp(value: object) -> Stamp:
    row = _sequence(value)
    if len(row) != 2:
        raise CodecError("a stamp has two parts")
    return Stamp(_integer(row[0], 0, (1 << 64) - 1), Dot(_integer(row[1], 0, DERIVED - 1)))


def _ref(value: object) -> Ref:
    row = _sequence(value)
    if len(row) != 2:
        raise CodecError("a version is named by two numbers")
    return Ref._make((_number(row[0]), _number(row[1])))


def _refs(value: object) -> tuple[Ref, ...]:
    return tuple(_ref(ref) for ref in _sequence(value))


def _numbers(value: object) -> tuple[int, ...]:
    return tuple(_number(number) for number in _sequence(value))


def _lefts(value: object) -> tuple[Left, ...]:
    found = []
    for item in _sequence(value):
        row = _sequence(item)
        if len(row) != 3:
            raise CodecError("a directory that was left has three parts")
        hlc = _integer(row[1], 0, CEILING)
        found.append(Left._make((_number(row[0]), hlc, _integer(row[2], INT64_MIN, SIZE_MAX))))
    return tuple(found)


def _name(value: object) -> bytes:
    name = _bytes(value, 1, NAME_MAX)
    if b"/" in name or b"\0" in name or name in (b".", b".."):
        raise CodecError(f"{name!r} is no name of a file")
    return name


def _changed(value: object) -> tuple[tuple[int, bytes], ...]:
    changed = []
    for item in _sequence(value):
        row = _sequence(item)
        if len(row) != 2:
            raise CodecError("a changed block has an index and a hash")
        block = _bytes(row[1], 0, HASH_SIZE)
        if len(block) not in (0, HASH_SIZE):
            raise CodecError("a hash has 32 bytes")
        changed.append((_integer(row[0], 0, INDEX_MAX), block))
    return tuple(changed)


def _maybe(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _between(least: int, most: int) -> Check:
    return lambda value: _integer(value, least, most)


def _sized(least: int, most: int) -> Check:
    return lambda value: _bytes(value, least, most)


_uid = _between(0, (1 << 32) - 1)
_size = _between(0, SIZE_MAX)
_time = _between(INT64_MIN, SIZE_MAX)
_mode = _between(0, 0o7777)


def _replica(value: object) -> int:
    return _integer(value, 1, REPLICA_MAX)


def _kind(value: object) -> Kind:
    return Kind(_integer(value, min(Kind), max(Kind)))


def _field(value: object) -> Field:
    return Field(_integer(value, min(Field), max(Field)))


CHECKS: dict[type[Fact], tuple[Check, ...]] = {
    Birth: (
        _number,
        _kind,
        _mode,
        _uid,
        _uid,
        _uid,
        _between(0, 255),
        _size,
        _sized(0, TARGET_MAX),
        _maybe(_ref),
        _maybe(_ref),
    ),
    Placement: (
        _number,
        _number,
        _number,
        _name,
        _context,
        _boolean,
        _boolean,
        _boolean,
        _maybe(_stamp),
        _numbers,
        _maybe(_ref),
        _lefts,
    ),
    Removal: (_number, _number, _context, _boolean, _refs, _refs, _lefts),
    Pin: (_number, _number, _between(0, DERIVED - 1), _name),
    Version: (
        _number,
        _number,
        _refs,
        _size,
        _time,
        _sized(HASH_SIZE, HASH_SIZE),
        _sized(0, HASH_SIZE),
        _maybe(_sized(0, 4096)),
        _maybe(_size),
        _changed,
        _boolean,
        _boolean,
        _maybe(_ref),
        _maybe(_size),
    ),
    Register: (_number, _field, _time, _context),
    Xattr: (_number, _sized(1, XATTR_NAME_MAX), _maybe(_sized(0, XATTR_SIZE_MAX)), _context),
    Member: (_replica, _text, _sized(16, 16), _between(1, 3)),
    Setting: (_text, _sized(0, XATTR_SIZE_MAX)),
}
assert {kind: len(checks) for kind, checks in CHECKS.items()} == {
    kind: len(kind._fields) for kind in TAGS.values()
}
