"""The entries of a directory, and the names of those that are in conflict.

A conflict entry is `stem.conflict-REPLICA-ID.ext`: REPLICA made what lost the name, and ID counts its
commits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from crdt.causality import BEFORE_ALL, Dot, Stamp
from crdt.facts import DERIVED, ROOT, Ino, Kind, LinkId, Ref

NAME_MAX = 255  # bytes
EXTENSION_MAX = 16
MARK = b".conflict-"
CROCKFORD = b"0123456789abcdefghjkmnpqrstvwxyz"


def crockford(number: int) -> bytes:
    digits = bytearray()
    while number or not digits:
        number, digit = divmod(number, 32)
        digits.append(CROCKFORD[digit])
    return bytes(reversed(digits))


def conflict_name(raw: bytes, replica: bytes, counter: int, attempt: int) -> bytes:
    """Return `stem.conflict-REPLICA-ID.ext`."""
    again = b"-%d" % attempt if attempt > 1 else b""
    return with_mark(raw, MARK + replica + b"-" + crockford(counter) + again)


def with_mark(raw: bytes, mark: bytes) -> bytes:
    """Put a mark before the extension; the stem is cut to stay within 255 bytes.  Too long an extension is
    none."""
    dot = raw.rfind(b".")
    has_extension = dot > 0 and len(raw) - dot <= EXTENSION_MAX
    stem, extension = (raw[:dot], raw[dot:]) if has_extension else (raw, b"")
    return stem[: NAME_MAX - len(mark) - len(extension)] + mark + extension


def possible_raws(name: bytes) -> Iterator[bytes]:
    """Yield the names that `name` may be a conflict name of, where nothing was cut off."""
    at = name.find(MARK)
    while at >= 0:
        rest = name[at + len(MARK) :]
        dot = rest.find(b".")
        extension = rest[dot:] if dot >= 0 else b""
        if name[:at] + extension:
            yield name[:at] + extension
        at = name.find(MARK, at + 1)


def branch_ino(top: Ref) -> Ino:
    """The inode number of the conflict entry whose branch begins with this version."""
    digest = blake2b(top.ino.to_bytes(8, "big") + top.version.to_bytes(8, "big"), digest_size=8)
    return Ino(DERIVED | int.from_bytes(digest.digest(), "big") >> 1)


class Twin(NamedTuple):
    """A link that does not show, because the one that does shows all that it would."""

    ino: Ino
    link: LinkId


@dataclass(slots=True)
class Entry:
    """One name in one directory."""

    kind: int
    ino: Ino  # as programs see it; of a union its lead's
    name: bytes
    raw: bytes  # the name it would have if it were alone
    parent: Ino  # the directory that holds its link
    tag: Dot  # of what made it; tells conflict entries of one raw name apart
    link: LinkId | None = None  # of a file; None: a content conflict entry, or a directory
    members: tuple[Ino, ...] = ()  # of a directory, the lead first
    owner: Ino = ROOT  # the inode that its content belongs to
    twins: tuple[Twin, ...] = ()  # hidden under this one
    heads: tuple[Ref, ...] = ()  # of a regular file; the first is what shows
    top: Ref | None = None  # of a content conflict entry: the first version of its branch
    rank: Stamp = BEFORE_ALL
    wall_ns: int = 0  # when what made it was made

    @property
    def is_directory(self) -> bool:
        return self.kind == Kind.DIRECTORY

    @property
    def is_conflict(self) -> bool:
        return self.name != self.raw

    @property
    def key(self) -> tuple[Ino, int]:
        """What it stays known by when its name or content changes."""
        return (self.ino, self.link or 0)

    @property
    def sort_key(self) -> tuple[Dot, int, int]:
        return (self.tag, self.ino, self.link or 0)
