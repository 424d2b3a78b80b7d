"""Contents of files as tests write and read them."""

from __future__ import annotations

from tests.translation.fake_replica import FakeReplica
from translation.content import Content

MIB = 1 << 20


def pattern(size, seed=1):
    """Bytes of which no two blocks are equal, and none ends in zeros."""
    unit = b"".join((2 * n + 1).to_bytes(4, "big") for n in range(seed, seed + size // 4 + 1))
    return unit[:size]


def make(content=b""):
    replica = FakeReplica()
    ino = replica.create(content)
    return replica, Content(replica), ino


def read_all(content, ino):
    pieces = []
    while piece := content.read(ino, sum(map(len, pieces)), MIB):
        pieces.append(piece)
    return b"".join(pieces)
