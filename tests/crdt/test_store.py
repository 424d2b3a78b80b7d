"""The store in memory: the contract, and what a crash leaves of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt.store import MemoryStore
from tests.conformance import check_store

BATCHES = st.lists(
    st.dictionaries(st.sampled_from([b"Da", b"Db", b"Ka"]), st.sampled_from([None, b"1", b"2"]), min_size=1),
    max_size=6,
)


def test_the_memory_store_is_a_store():
    check_store(MemoryStore)


def state_after(batches):
    rows = {}
    for batch in batches:
        rows |= batch
    return {key: value for key, value in rows.items() if value is not None}


@given(BATCHES, st.data())
def test_a_crash_leaves_a_prefix_of_the_batches_with_all_that_was_synced(batches, data):
    synced = data.draw(st.integers(0, len(batches)))
    kept = data.draw(st.integers(0, len(batches) - synced))
    store = MemoryStore()
    for batch in batches[:synced]:
        store.commit(batch)
    store.sync()
    for batch in batches[synced:]:
        store.commit(batch)
    image = store.crashed(kept)
    assert image.rows == state_after(batches[: synced + kept])
    assert [key for key, _ in image.scan(b"D", b"L")] == sorted(image.rows)
    assert store.rows == state_after(batches)


@pytest.mark.parametrize("sync", [lambda store: store.sync(), lambda store: store.commit({}, sync=True)])
def test_what_was_synced_survives(sync):
    store = MemoryStore()
    store.commit({b"Da": b"1", b"Db": b"1"})
    store.commit({b"Db": None})
    assert store.crashed().rows == {}
    sync(store)
    assert store.crashed().rows == {b"Da": b"1"}


def test_a_crash_image_lives_on_by_itself():
    store = MemoryStore({b"Da": b"1"})
    image = store.crashed()
    image.commit({b"Da": b"2"}, sync=True)
    assert store.get(b"Da") == b"1"
    assert image.crashed().get(b"Da") == b"2"
