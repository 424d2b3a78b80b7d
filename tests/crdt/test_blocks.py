"""Block maps against a dict, digests against the sum of the whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import blocks
from crdt.blocks import BLOCK_SIZE, EMPTY_DIGEST, HOLE, MAP_CHUNK, NO_MAP, WritableMap
from crdt.codec import CorruptStore
from crdt.facts import Ino, Ref, Version, VersionId
from crdt.store import MemoryStore

INO = Ino(1 << 40 | 5)
OTHER = Ino(INO + 1)
KEY = bytes(range(32))
PARENT = Ref(INO, VersionId(1))

# Few indices, on both sides of where a row ends.
LAST = (MAP_CHUNK << 32) - 1
indices = st.sampled_from([0, 1, 2, MAP_CHUNK - 1, MAP_CHUNK, MAP_CHUNK + 1, 3 * MAP_CHUNK, 1 << 25, LAST])
hashes = st.sampled_from([HOLE] + [bytes([n]) * 32 for n in (1, 2, 3)])
cuts = st.none() | st.builds(
    lambda index, rest: index * BLOCK_SIZE + rest,
    indices,
    st.sampled_from([0, 1, BLOCK_SIZE - 1]),
)
# A version in few words: None is an inline one, else where it cuts and what it changes.
edits = st.none() | st.tuples(cuts, st.dictionaries(indices, hashes, max_size=4))


class StoreRows(MemoryStore):
    def put(self, key, value):
        self.commit({key: value})


def version(number, edit, map_id):
    content = {"inline": b"small"}
    if edit is not None:
        cut, changed = edit
        # Where there is no map before, the version must hold everything.
        content = {"cut_bytes": cut if map_id else 0, "changed": tuple(changed.items())}
    return Version(INO, VersionId(number), (PARENT,), 0, 0, EMPTY_DIGEST, **content)


def model_of(before, edit):
    """The blocks after an edit, by the words of `Version`."""
    if edit is None:
        return {}
    cut, changed = edit
    kept = {i: h for i, h in before.items() if cut is None or i * BLOCK_SIZE < cut}
    return {i: h for i, h in (kept | changed).items() if h}


def content_of(rows, map_id):
    return dict(blocks.BlockMap(rows, INO, map_id).items()) if map_id else {}


def back(rows, map_id, undo):
    """Go from the map of a version to that of its first parent."""
    before = int.from_bytes(undo[:8], "big")
    if map_id not in (before, NO_MAP):
        WritableMap(rows, INO, map_id).drop()
    if before:
        WritableMap(rows, INO, before).restore(undo[8:])
    return before


@given(st.lists(edits, max_size=6))
def test_a_map_is_what_its_versions_say_and_goes_back_the_way_it_came(history):
    rows = StoreRows()
    WritableMap(rows, OTHER, 7).set(0, b"o" * 32)  # a neighbour that nothing may touch
    map_id, model, past = NO_MAP, {}, []
    for number, edit in enumerate(history, start=100):
        past.append((dict(rows.rows), map_id))
        new_id, undo = blocks.advance(rows, INO, map_id, version(number, edit, map_id))
        model = model_of(model, edit)
        assert content_of(rows, new_id) == model
        assert new_id == (NO_MAP if edit is None else map_id or number)
        past[-1] += (undo,)
        map_id = new_id
    for before, old_id, undo in reversed(past):
        map_id = back(rows, map_id, undo)
        assert map_id == old_id
        assert rows.rows == before


@given(st.lists(edits, min_size=1, max_size=4), indices, indices)
def test_hashes_of_a_range_are_those_one_by_one(history, first, last):
    rows, map_id = StoreRows(), NO_MAP
    for number, edit in enumerate(history, start=100):
        map_id, _ = blocks.advance(rows, INO, map_id, version(number, edit, map_id))
    first, last = min(first, last), min(max(first, last), min(first, last) + 3 * MAP_CHUNK)
    block_map = blocks.BlockMap(rows, INO, map_id)
    content = content_of(rows, map_id)
    expected = [content.get(index, HOLE) for index in range(first, last + 1)]
    assert block_map.hashes(first, last) == expected
    assert [block_map.hash_at(index) for index in range(first, last + 1)] == expected
    assert dict(block_map.items(first)) == {i: h for i, h in content.items() if i >= first}


@given(st.dictionaries(indices, hashes, max_size=6), st.dictionaries(indices, hashes, max_size=6))
def test_a_copy_leaves_its_original_alone(content, changes):
    rows = StoreRows()
    original = WritableMap(rows, INO, 1)
    original.replace(None, content.items())
    original.copy_to(2)
    copy = WritableMap(rows, INO, 2)
    old = {index: copy.set(index, new) for index, new in changes.items()}
    assert old == {index: content.get(index, HOLE) for index in changes}
    assert dict(original.items()) == {i: h for i, h in content.items() if h}
    assert dict(copy.items()) == {i: h for i, h in (content | changes).items() if h}
    saved = copy.drop()
    assert dict(copy.items()) == {}
    copy.restore(saved)
    assert dict(copy.items()) == {i: h for i, h in (content | changes).items() if h}


sizes = st.integers(0, 1 << 41)


@given(st.lists(st.tuples(sizes, st.dictionaries(indices, hashes, max_size=5)), max_size=5))
def test_a_digest_kept_up_to_date_is_the_digest_of_the_whole(history):
    digest, size, content = EMPTY_DIGEST, 0, {}
    for new_size, changed in history:
        changes = [(i, content.get(i, HOLE), new) for i, new in changed.items()]
        digest = blocks.updated(KEY, digest, (size, new_size), changes)
        size, content = new_size, content | changed
        assert digest == blocks.digest_of(KEY, size, content.items())
    emptied = [(index, old, HOLE) for index, old in content.items()]
    assert blocks.updated(KEY, digest, (size, 0), emptied) == EMPTY_DIGEST


@given(st.dictionaries(indices, hashes), st.dictionaries(indices, hashes), sizes, sizes)
def test_digests_are_equal_exactly_where_contents_are(one, other, size, other_size):
    one = {i: h for i, h in one.items() if h}
    other = {i: h for i, h in other.items() if h}
    equal = (one, size) == (other, other_size)
    digests = [
        blocks.digest_of(KEY, size, one.items()),
        blocks.digest_of(KEY, other_size, other.items()),
    ]
    assert (digests[0] == digests[1]) == equal
    assert blocks.digest_of(bytes(32), size, one.items()) != digests[0] or not (one or size)


def test_zeros_at_the_end_are_in_no_block():
    assert blocks.trimmed(b"a\0b\0\0") == b"a\0b"
    assert blocks.hash_of(blocks.trimmed(bytes(BLOCK_SIZE))) == HOLE
    block = bytes([1]) * BLOCK_SIZE
    assert blocks.trimmed(block) is block  # no copy of a full one


def test_inline_bytes_count_as_block_0():
    content = b"text\0\0"
    as_block = [(0, blocks.hash_of(b"text"))]
    assert blocks.digest_of_inline(KEY, content) == blocks.digest_of(KEY, 6, as_block)
    assert blocks.digest_of_inline(KEY, b"") == EMPTY_DIGEST


def test_a_file_with_one_hole_of_a_tebibyte_has_a_map_without_rows():
    rows = StoreRows()
    map_id, undo = blocks.advance(rows, INO, NO_MAP, version(9, (None, {}), NO_MAP))
    assert (map_id, rows.rows) == (9, {})
    assert back(rows, map_id, undo) == NO_MAP


def test_a_change_of_one_block_costs_one_row_and_one_hash():
    rows = StoreRows()
    big = {index: bytes([1]) * 32 for index in range(10 * MAP_CHUNK)}
    map_id, _ = blocks.advance(rows, INO, NO_MAP, version(8, (0, big), NO_MAP))
    rows.sync()
    _, undo = blocks.advance(rows, INO, map_id, version(9, (None, {70: bytes([2]) * 32}), map_id))
    assert [list(batch) for batch in rows.unsynced] == [[blocks.map_key(INO, map_id, 1)]]
    assert len(undo) < 100


@pytest.mark.parametrize("row", [b"", bytes(8), bytes([1]) * 8, b"\0" * 7 + b"\1" + b"x" * 31])
def test_a_damaged_row_is_noticed(row):
    rows = StoreRows({blocks.map_key(INO, 1, 0): row})
    with pytest.raises(CorruptStore, match="chunk of a block map"):
        blocks.BlockMap(rows, INO, 1).hash_at(0)
    with pytest.raises(CorruptStore, match="chunk of a block map"):
        list(blocks.BlockMap(rows, INO, 1).items())
