"""How much of a file is said to be no hole (st_blocks)."""

from __future__ import annotations

import pytest

from crdt import blocks
from crdt.blocks import BLOCK_SIZE, MAP_CHUNK, BlockMap, WritableMap
from crdt.store import MemoryStore
from tests.shell import exchange, shells

ROW = MAP_CHUNK * BLOCK_SIZE  # bytes


class Rows(MemoryStore):
    def put(self, key: bytes, value: bytes | None) -> None:
        self.commit({key: value})


def map_of(*full: range) -> BlockMap:
    rows = Rows()
    WritableMap(rows, 5, 6).replace(None, [(index, b"h" * 32) for each in full for index in each])
    return BlockMap(rows, 5, 6)


@pytest.mark.parametrize(
    ("full", "count", "filled"),
    [
        ([], 10, 0),
        ([range(10)], 10, 10),
        ([range(3), range(60, 64)], 64, 7),
        ([range(3), range(60, 70)], 1_000_000, 13),
        ([range(1_000), range(5_000, 5_010)], 100_000, 1_010),
    ],
)
def test_blocks_are_counted_that_are_no_holes(full: list[range], count: int, filled: int):
    assert map_of(*full).filled(count) == filled


def test_what_is_full_as_far_as_one_looks_is_full(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blocks, "FULL_MAX", 2)
    assert map_of(range(3 * MAP_CHUNK)).filled(10 * MAP_CHUNK + 5) == 10 * MAP_CHUNK
    assert map_of(range(1, 3 * MAP_CHUNK)).filled(10 * MAP_CHUNK) == 3 * MAP_CHUNK - 1
    assert map_of(range(2 * MAP_CHUNK)).filled(10 * MAP_CHUNK) == 2 * MAP_CHUNK


def test_of_a_large_map_a_part_is_looked_at(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blocks, "ROWS_MAX", 3)
    every_tenth = [range(at, at + 1) for at in range(0, 10 * MAP_CHUNK, 10)]
    assert map_of(*every_tenth).filled(10 * MAP_CHUNK) == 20 + 7 * MAP_CHUNK


def test_holes_are_told_of_what_is_written_and_of_what_was_merged():
    a, b = shells(0, 0)
    a.write("f", b"x" * 40_000)
    fh = a.open_file("f")
    a.fs.write(fh, 100 * ROW, b"end")
    assert a.stat("f").filled == 3 * BLOCK_SIZE
    a.fs.flush(fh)
    assert a.stat("f").filled == 3 * BLOCK_SIZE
    exchange(a, b)
    assert b.stat("f").filled == 3 * BLOCK_SIZE
    a.fs.setattr(a.stat("f").ino, size=50 * ROW)
    assert a.stat("f").filled == 2 * BLOCK_SIZE
    a.close(fh)
    assert a.stat("f").filled == 2 * BLOCK_SIZE
    exchange(a, b)
    assert b.stat("f").filled == 2 * BLOCK_SIZE


def test_a_conflict_entry_has_holes_of_its_own():
    a, b = shells(0, 0)
    a.write("f", b"x" * 40_000)
    exchange(a, b)
    for each, size in ((a, 10 * ROW), (b, 20 * ROW)):
        fh = each.open_file("f")
        each.fs.write(fh, size, b"y" * 3 * BLOCK_SIZE)
        each.close(fh)
        b.world.tick()
    exchange(a, b)
    (entry,) = [name for name in a.shows if "conflict" in name]
    assert {a.stat("f").filled, a.stat(entry).filled} == {5 * BLOCK_SIZE}
    assert a.stat("f").size != a.stat(entry).size


def test_a_small_file_is_full():
    (a,) = shells(0)
    for size in (0, 1, 4_096, 5_000, BLOCK_SIZE):
        a.write("f", b"\0" * size)
        assert a.stat("f").filled == size
