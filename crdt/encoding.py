"""Facts as bytes, for peers and for rows, and the checks that bytes from a peer must pass.

A fact is a tuple: a tag, then its fields in the order of crdt.facts; a birth without a lineage ends
before it.  A commit is (dot, hlc, wall_ns, facts).  `decode_commit` trusts nothing: every field has its
type and its bounds, and whatever is wrong raises CodecError with the name of the field, so that a peer's
bad bytes change nothing (promise P8).
Rows of our own store are decoded by `fact_of` without these checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Any

from crdt.causality import COUNTER_BITS, COUNTER_MAX, REPLICA_MAX, Dot, Stamp
from crdt.codec import CodecError, pack, unpack
from crdt.facts import (
    DERIVED,
    ROOT,
    Acknowledgement,
    Birth,
    Caller,
    Commit,
    Fact,
    Field,
    Kind,
    Left,
    Member,
    Pin,
    Placement,
    RecordKind,
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
    10: Acknowledgement,
}
TAG_OF: dict[type, int] = {kind: tag for tag, kind in TAGS.items()}

NAME_MAX = 255
XATTR_NAME_MAX = 255
XATTR_SIZE_MAX = 65_536
TARGET_MAX = 4095
SIZE_MAX = (1 << 63) - 1
INDEX_MAX = (1 << 38) - 1  # of a block: as many as a block map has room for
TIME_MIN, TIME_MAX = -(1 << 63), (1 << 63) - 1  # nanoseconds since 1970
DOT_MIN = 1 << COUNTER_BITS
LIST_MAX = 1 << 20
HASH_SIZE = 32

Check = Callable[[Any], Any]
Row = tuple[Any, ...]


def encode_commit(commit: Commit) -> bytes:
    return pack((commit.dot, commit.hlc, commit.wall_ns, [fact_tuple(f) for f in commit.facts]))


def fact_tuple(fact: Fact) -> Row:
    """Return the fact as it is packed: what few facts have comes last, and is left out where it is not."""
    kind = type(fact)
    if kind in ENDS and not fact[-1]:
        return (TAG_OF[kind], *(fact[:-1] if fact[-2] else fact[:-2]))
    return (TAG_OF[kind], *fact)


def with_end(kind: type[Fact], fields: Row) -> Row:
    """Return the fields of a packed fact with those that were left out."""
    missing = len(CHECKS[kind]) - len(fields)
    return (*fields, *ENDS[kind][-missing:]) if 0 < missing <= len(ENDS[kind]) else fields


def fact_of(tag: int, fields: Row) -> Fact:
    """Return the fact of a row that we wrote, nested tuples with their classes."""
    return OF_FIELDS[tag](fields)


def _birth_of(fields: Row) -> Birth:
    birth = Birth._make(with_end(Birth, fields))
    if birth.claims is None and birth.lineage is None:
        return birth
    return birth._replace(claims=_maybe_ref_of(birth.claims), lineage=_maybe_ref_of(birth.lineage))


def _placement_of(fields: Row) -> Placement:
    placement = Placement._make(fields)
    rank, via, left = placement.rank, placement.via, placement.left
    if left:
        placement = placement._replace(left=lefts_of(left))
    if rank is not None or via is not None:
        placement = placement._replace(
            rank=None if rank is None else Stamp._make(rank), via=_maybe_ref_of(via)
        )
    return placement


def _removal_of(fields: Row) -> Removal:
    ino, link, context, over_split, seen, drops, left = fields
    return Removal(ino, link, context, over_split, refs_of(seen), refs_of(drops), lefts_of(left))


def _version_of(fields: Row) -> Version:
    ino, version, parents, *content, lineage, appends, writer, under = with_end(Version, fields)
    known = None if writer is None else Caller._make(writer)
    return Version._make(
        (ino, version, refs_of(parents), *content, _maybe_ref_of(lineage), appends, known, under)
    )


def _maybe_ref_of(row: Row | None) -> Ref | None:
    return None if row is None else Ref._make(row)


def refs_of(rows: Iterable[Row]) -> tuple[Ref, ...]:
    return tuple(map(Ref._make, rows))


def lefts_of(rows: Iterable[Row]) -> tuple[Left, ...]:
    return tuple(map(Left._make, rows))


ENDS: dict[type[Fact], Row] = {Birth: (None, False), Version: (None, ())}
OF_FIELDS: dict[int, Callable[[Row], Fact]] = {tag: kind._make for tag, kind in TAGS.items()}
OF_FIELDS |= {TAG_OF[Birth]: _birth_of, TAG_OF[Placement]: _placement_of}
OF_FIELDS |= {TAG_OF[Removal]: _removal_of, TAG_OF[Version]: _version_of}


def decode_commit(data: bytes) -> Commit:
    """Return the commit that a peer sent.  Raises CodecError."""
    row = _sequence(unpack(data))
    if len(row) != 4:
        raise CodecError("a commit has four parts")
    dot, hlc = _dot(row[0]), _integer(row[1], 1, (1 << 64) - 1)
    if not is_possible(hlc):
        raise CodecError("a commit of a time beyond the year 2500: its clock is wrong")
    wall_ns = _integer(row[2], TIME_MIN, TIME_MAX)
    facts = tuple(decode_fact(fact) for fact in _sequence(row[3]))
    return Commit(dot, hlc, wall_ns, facts)


def decode_fact(value: object) -> Fact:
    row = _sequence(value)
    kind = TAGS.get(_integer(row[0], 0, 255)) if row else None
    if kind is None:
        raise CodecError(f"a fact of an unknown kind: {row[:1]!r}; is the peer newer than this replica?")
    checks, fields = CHECKS[kind], row[1:]
    if kind in ENDS:
        fields = with_end(kind, fields)
    if len(fields) != len(checks):
        raise CodecError(f"a {kind.__name__} has {len(checks)} fields, not {len(fields)}")
    try:
        return kind._make([check(field) for check, field in zip(checks, fields, strict=True)])
    except CodecError:
        raise _first_fault(kind, fields) from None


def _first_fault(kind: type[Fact], fields: Row) -> CodecError:
    """Say which field is wrong: to name each while all is well would cost as much as the checks."""
    for name, check, field in zip(kind._fields, CHECKS[kind], fields, strict=True):
        try:
            check(field)
        except CodecError as error:
            return CodecError(f"{kind.__name__}.{name}: {error}")
    raise AssertionError(f"every field of this {kind.__name__} is well formed")


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
    """A replica and a counter, neither of them 0."""
    if type(value) is int and DOT_MIN <= value < DERIVED and value & COUNTER_MAX:
        return Dot(value)
    raise CodecError(f"{value!r:.40} is no dot")


def _number(value: object) -> int:
    """An inode, link or version number: the root, a dot, or derived."""
    if type(value) is int:
        if DOT_MIN <= value < DERIVED and value & COUNTER_MAX:
            return value
        if value == ROOT or DERIVED <= value < 2 * DERIVED:
            return value
    raise CodecError(f"{value!r:.40} is no number of an inode, link or version")


def _context(value: object) -> tuple[Dot, ...]:
    return _each(_dot, value)


def _each(check: Check, value: object) -> tuple[Any, ...]:
    row = _sequence(value)
    return tuple([check(item) for item in row]) if row else ()


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
    return _each(_ref, value)


def _numbers(value: object) -> tuple[int, ...]:
    return _each(_number, value)


def _left(value: object) -> Left:
    row = _sequence(value)
    if len(row) != 3:
        raise CodecError("a directory that was left has three parts")
    return Left._make((_number(row[0]), _integer(row[1], 0, CEILING), _integer(row[2], TIME_MIN, TIME_MAX)))


def _lefts(value: object) -> tuple[Left, ...]:
    return _each(_left, value)


def _name(value: object) -> bytes:
    name = _bytes(value, 1, NAME_MAX)
    if b"/" in name or b"\0" in name or name in (b".", b".."):
        raise CodecError(f"{name!r} is no name of a file")
    return name


def _changed_block(value: object) -> tuple[int, bytes]:
    row = _sequence(value)
    if len(row) != 2:
        raise CodecError("a changed block has an index and a hash")
    block = _bytes(row[1], 0, HASH_SIZE)
    if len(block) not in (0, HASH_SIZE):
        raise CodecError("a hash has 32 bytes")
    return _integer(row[0], 0, INDEX_MAX), block


def _changed(value: object) -> tuple[tuple[int, bytes], ...]:
    return _each(_changed_block, value)


def _maybe(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _between(least: int, most: int) -> Check:
    return lambda value: _integer(value, least, most)


def _sized(least: int, most: int) -> Check:
    return lambda value: _bytes(value, least, most)


_uid = _between(0, (1 << 32) - 1)
_size = _between(0, SIZE_MAX)
_time = _between(TIME_MIN, TIME_MAX)
_mode = _between(0, 0o7777)


def _replica(value: object) -> int:
    return _integer(value, 1, REPLICA_MAX)


def _writer(value: object) -> Caller:
    row = _sequence(value)
    if len(row) != 2:
        raise CodecError("who wrote has a user and a group")
    return Caller(_uid(row[0]), _uid(row[1]))


def _one_of(names: type[IntEnum]) -> Check:
    least, most, members = min(names), max(names), {int(member): member for member in names}
    return lambda value: members[_integer(value, least, most)]


_kind = _one_of(Kind)
_record_kind = _one_of(RecordKind)
_field = _one_of(Field)


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
        _boolean,
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
        _maybe(_writer),
        _context,
    ),
    Register: (_number, _field, _time, _context),
    Xattr: (_number, _sized(1, XATTR_NAME_MAX), _maybe(_sized(0, XATTR_SIZE_MAX)), _context),
    Member: (_replica, _text, _sized(16, 16), _between(1, 3)),
    Setting: (_text, _sized(0, XATTR_SIZE_MAX)),
    Acknowledgement: (_number, _record_kind, _dot),
}
assert {kind: len(checks) for kind, checks in CHECKS.items()} == {
    kind: len(kind._fields) for kind in TAGS.values()
}
