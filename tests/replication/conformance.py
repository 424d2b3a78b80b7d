"""What every `Local` must do, as code."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from crdt.blocks import hash_of
from crdt.causality import VersionVector
from replication.local import Local, PeerError

NOTHING = VersionVector()
MUCH = 1 << 30
Write = Callable[[bytes], None]  # commits something whose content is this block


def check_local(make: Callable[[int], tuple[Local, Write]]) -> None:
    """`make(n)` returns a new replica with id n of one volume, with all that was made in it synced."""
    a, write = make(1)
    before = a.durable_end()
    base = a.vector()
    first = b"first" * 2000
    write(first)
    assert a.durable_end() == before, "told before it is durable"
    assert a.vector() == base
    assert a.arrivals(before, base, MUCH).commits == []
    for n in range(9):
        write(b"block %d" % n * 2000)
    a.sync()
    assert a.vector().of(a.replica) >= base.of(a.replica) + 10

    found = a.arrivals(before, base, MUCH)
    assert len(found.commits) >= 10
    assert found.next == a.durable_end() > before
    assert found.vector == a.vector()
    nothing = a.arrivals(0, a.vector(), MUCH)
    assert (nothing.commits, nothing.next) == ([], a.durable_end())
    at_the_end = a.arrivals(a.durable_end(), base, MUCH)
    assert (at_the_end.commits, at_the_end.next) == ([], a.durable_end())
    _check_slices(a, before, base, found.commits)

    b, _ = make(2)
    _check_garbage(b, found.commits, a.store_id)
    _check_receiving(a, b, first)


def _check_slices(a: Local, start: int, seen: VersionVector, whole: list[bytes]) -> None:
    commits: list[bytes] = []
    while start < a.durable_end():
        found = a.arrivals(start, seen, 1)
        assert found.next > start
        assert seen <= found.vector
        assert len(found.commits) <= 1
        commits += found.commits
        start, seen = found.next, found.vector
    assert commits == whole
    assert seen == a.vector()


def _check_garbage(b: Local, commits: list[bytes], peer: bytes) -> None:
    before = (b.vector(), b.durable_end(), b.cursor(peer), b.wanted(100))
    for bad in (b"", b"\xc1", commits[0][:-1], commits[0] + b"\0", b"\x93\x01\x02\x03"):
        with pytest.raises(PeerError):
            b.receive([*commits, bad], VersionVector({1: 50}), peer, 7)
        b.sync()
        assert (b.vector(), b.durable_end(), b.cursor(peer), b.wanted(100)) == before


def _check_receiving(a: Local, b: Local, first: bytes) -> None:
    mine = b.vector()
    found = a.arrivals(0, mine, MUCH)
    assert b.cursor(a.store_id) == 0
    end = b.durable_end()
    b.receive(found.commits, found.vector, a.store_id, found.next)
    assert b.cursor(a.store_id) == found.next
    assert b.vector() == mine, "told before it is durable"
    b.sync()
    assert a.vector() <= b.vector()
    assert b.durable_end() > end
    passed_on = b.arrivals(end, mine, MUCH)
    assert passed_on.commits == found.commits

    end = b.durable_end()
    b.receive(found.commits, found.vector, a.store_id, found.next)
    b.receive([], a.vector(), a.store_id, found.next)
    b.sync()
    assert b.durable_end() == end, "what was received before, or nothing, made an arrival"

    wanted = b.wanted(1000)
    assert hash_of(first) in wanted
    assert b.wanted(1, [hash_of(first)]) == [hash_of(first)]
    assert len(b.wanted(2)) == 2
    assert b.blocks([hash_of(first), bytes(32)]) == [None, None]
    b.add_blocks([b"nobody wants this"])
    assert b.blocks([hash_of(b"nobody wants this")]) == [None]
    b.add_blocks(a.blocks(wanted))
    assert b.wanted(1000) == []
    assert b.blocks([hash_of(first)]) == [first]
