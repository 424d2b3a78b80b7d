"""The contract of crdt.store.Store as code.  Every store passes `check_store`.

What a crash leaves is not in here, since each store has its own way to crash.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator

from crdt.store import Reader, Store

Row = tuple[bytes, bytes]

# Every kind of row there is (docs/architecture.md), and one that there is not yet.
KINDS = [bytes([kind]) for kind in b"ABCDEFGHIKMPQSTVWXZ"] + [b"\x01"]

# Suffixes in order, where it is easy to be wrong: prefixes of each other, zeros, all ones.
SUFFIXES = [b"", b"\0", b"\0\0", b"\0\1", b"a", b"a\0", b"a\xff", b"b", b"\xff", b"\xff\0", b"\xff\xff"]

DEADLINE_S = 60


def check_store(make: Callable[[], Store]) -> None:
    """`make` returns a new empty store each time it is called."""
    for check in CHECKS:
        store = make()
        try:
            check(store)
        finally:
            store.close()


def after(kind: bytes) -> bytes:
    return bytes([kind[0] + 1])


def rows(reader: Reader, kind: bytes) -> list[Row]:
    return list(reader.scan(kind, after(kind)))


def numbered(kind: bytes, numbers: Iterable[int], value: bytes = b"v") -> dict[bytes, bytes | None]:
    return {kind + number.to_bytes(8, "big"): value for number in numbers}


def a_new_store_is_empty(store: Store) -> None:
    for kind in KINDS:
        assert store.get(kind + b"a") is None
        assert rows(store, kind) == []


def what_was_put_is_there(store: Store) -> None:
    for value in (b"", b"\0", b"v", bytes(range(256)), b"x" * 4095, b"x" * 4096, b"y" * (1 << 20)):
        for kind in KINDS:
            store.commit({kind + b"key": value})
            assert store.get(kind + b"key") == value
            assert rows(store, kind) == [(kind + b"key", value)]


def values_are_bytes(store: Store) -> None:
    store.commit({b"Da": b"v", b"Ka": b"block"})
    for reader in (store, store.snapshot()):
        assert type(reader.get(b"Da")) is bytes
        assert [type(part) for row in reader.scan(b"D", b"E") for part in row] == [bytes, bytes]


def a_later_batch_replaces(store: Store) -> None:
    store.commit({b"Da": b"1", b"Db": b"1"})
    store.commit({b"Da": b"2"})
    assert rows(store, b"D") == [(b"Da", b"2"), (b"Db", b"1")]


def what_was_deleted_is_gone_and_can_come_back(store: Store) -> None:
    for kind in KINDS:
        store.commit({kind + b"a": b"1", kind + b"b": b"1"})
        store.commit({kind + b"a": None})
        assert store.get(kind + b"a") is None
        assert rows(store, kind) == [(kind + b"b", b"1")]
        store.commit({kind + b"a": b"2"})
        assert rows(store, kind) == [(kind + b"a", b"2"), (kind + b"b", b"1")]


def what_is_not_there_can_be_deleted(store: Store) -> None:
    store.commit({b"Da": None, b"Ka": None})
    store.commit({b"Db": b"1"})
    store.commit({b"Da": None})
    assert rows(store, b"D") == [(b"Db", b"1")]


def a_batch_reaches_all_kinds(store: Store) -> None:
    store.commit({kind + b"a": kind for kind in KINDS})
    assert [store.get(kind + b"a") for kind in KINDS] == KINDS
    store.commit({kind + b"a": None if kind in b"DAKB" else b"new" for kind in KINDS})
    expected = [None if kind in b"DAKB" else b"new" for kind in KINDS]
    assert [store.get(kind + b"a") for kind in KINDS] == expected


def a_batch_may_be_empty(store: Store) -> None:
    store.commit({})
    store.commit({}, sync=True)
    store.sync()
    store.commit({b"Da": b"1"})
    assert store.get(b"Da") == b"1"


def a_batch_belongs_to_the_caller(store: Store) -> None:
    batch: dict[bytes, bytes | None] = {b"Da": b"1"}
    store.commit(batch)
    batch[b"Da"] = b"2"
    batch[b"Db"] = b"2"
    store.sync()
    assert rows(store, b"D") == [(b"Da", b"1")]


def kinds_do_not_mix(store: Store) -> None:
    store.commit({kind + suffix: kind for kind in KINDS for suffix in SUFFIXES})
    for kind in KINDS:
        assert rows(store, kind) == [(kind + suffix, kind) for suffix in SUFFIXES]


def every_range_has_its_rows_in_order(store: Store) -> None:
    for kind in (b"D", b"A", b"B", b"K"):
        keys = [kind + suffix for suffix in SUFFIXES]
        # The odd ones are not there, so that bounds fall on rows and beside them.
        there = keys[::2]
        store.commit(dict.fromkeys(keys, b"old"))
        store.commit({key: key[::-1] if key in there else None for key in reversed(keys)})
        check_ranges(store, there, [*keys, after(kind)])
        check_ranges(store.snapshot(), there, [*keys, after(kind)])


def check_ranges(reader: Reader, there: list[bytes], bounds: list[bytes]) -> None:
    for start, end in itertools.product(bounds[:-1], bounds):
        expected = [(key, key[::-1]) for key in there if start <= key < end]
        assert list(reader.scan(start, end)) == expected, (start, end)
        assert list(reader.scan(start, end, reverse=True)) == expected[::-1], (start, end)


def a_scan_of_many_rows_has_each_once(store: Store) -> None:
    for kind in (b"D", b"K"):
        store.commit(numbered(kind, range(3000)))
        store.commit(dict.fromkeys(numbered(kind, range(0, 3000, 7))))
        expected = list(numbered(kind, (n for n in range(3000) if n % 7)).items())
        for reader in (store, store.snapshot()):
            assert rows(reader, kind) == expected
            assert list(reader.scan(kind, after(kind), reverse=True)) == expected[::-1]


def a_scan_can_be_left(store: Store) -> None:
    store.commit(numbered(b"D", range(1000)))
    for reader in (store, store.snapshot()):
        for reverse, first in ((False, 0), (True, 999)):
            key, _ = next(iter(reader.scan(b"D", b"E", reverse=reverse)))
            assert key == b"D" + first.to_bytes(8, "big")
    store.commit({b"Dx": b"1"})
    assert len(rows(store, b"D")) == 1001


def scans_do_not_disturb_each_other(store: Store) -> None:
    store.commit(numbered(b"D", range(300)))
    for reader in (store, store.snapshot()):
        pairs = [
            (outer, inner)
            for outer, _ in reader.scan(b"D", b"E")
            for inner, _ in itertools.islice(reader.scan(outer, b"E", reverse=True), 2)
            if reader.get(inner) == b"v"
        ]
        keys = list(numbered(b"D", range(300)))
        assert pairs == [(o, i) for o in keys for i in keys[:-3:-1] if i >= o]


def bounds_may_be_forgotten_by_the_caller(store: Store) -> None:
    store.commit(numbered(b"D", range(2000)))

    def begun() -> Iterator[Row]:
        start, end = bytes(bytearray(b"D")), bytes(bytearray(b"D" + (1500).to_bytes(8, "big")))
        scan = iter(store.scan(start, end))
        return itertools.chain([next(scan)], scan)

    scans = [begun() for _ in range(20)]
    other_bytes = [bytes(bytearray(b"C" + n.to_bytes(8, "big"))) for n in range(10_000)]
    assert [len(list(scan)) for scan in scans] == [1500] * 20
    del other_bytes


def a_scan_during_commits_has_what_they_did_not_touch(store: Store) -> None:
    for reverse in (False, True):
        store.commit(numbered(b"D", range(0, 1000, 2)))
        found = []
        for number, (key, _) in enumerate(store.scan(b"D", b"E", reverse=reverse)):
            found.append(key)
            store.commit(numbered(b"D", [2 * number + 1]))  # between the others, and then ahead of them
            store.commit({b"D\xff" + key: b"beyond", b"Kblock": b"another kind"})
        untouched = list(numbered(b"D", range(0, 1000, 2)))
        seen = [key for key in found if key in set(untouched)]
        assert seen == (untouched[::-1] if reverse else untouched)
        assert found == sorted(set(found), reverse=reverse)
        store.commit(dict.fromkeys(key for key, _ in rows(store, b"D")))


def a_snapshot_stays_as_it_was(store: Store) -> None:
    store.commit({kind + b"a": b"1" for kind in KINDS} | {kind + b"b": b"1" for kind in KINDS})
    snapshot = store.snapshot()
    for round_ in range(20):
        store.commit({kind + b"a": b"new" for kind in KINDS} | {kind + b"b": None for kind in KINDS})
        store.commit({kind + b"c%d" % round_: b"new" for kind in KINDS}, sync=round_ % 3 == 0)
        later = store.snapshot()
        for kind in KINDS:
            expected = [(kind + b"a", b"1"), (kind + b"b", b"1")]
            assert rows(snapshot, kind) == expected
            assert list(snapshot.scan(kind, after(kind), reverse=True)) == expected[::-1]
            assert [snapshot.get(kind + suffix) for suffix in (b"a", b"b", b"c0")] == [b"1", b"1", None]
            assert [later.get(kind + suffix) for suffix in (b"a", b"b", b"c0")] == [b"new", None, b"new"]


def a_scan_of_a_snapshot_goes_on_over_commits(store: Store) -> None:
    store.commit(numbered(b"D", range(1000)))
    for reverse in (False, True):
        snapshot = store.snapshot()
        expected = list(snapshot.scan(b"D", b"E", reverse=reverse))
        found = []
        for key, value in snapshot.scan(b"D", b"E", reverse=reverse):
            found.append((key, value))
            store.commit({key: None, b"D\xff" + key: b"new", b"D\0" + key: b"new"})
        assert found == expected
        store.commit(numbered(b"D", range(1000)))


def sync_may_be_called_in_any_thread(store: Store) -> None:
    done = threading.Event()
    rounds = [0] * 4
    errors: list[Exception] = []

    def sync_on(index: int) -> None:
        try:
            while not done.is_set():
                store.sync()
                rounds[index] += 1
        except Exception as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=sync_on, args=(index,)) for index in range(len(rounds))]
    for thread in threads:
        thread.start()
    count = 0
    while not errors and (count < 500 or min(rounds) < 3):
        store.commit({b"D%d" % count: b"%d" % count, b"K%d" % count: b"x" * 5000}, sync=count % 50 == 0)
        count += 1
    done.set()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert not errors
    assert not any(thread.is_alive() for thread in threads)
    assert all(store.get(b"D%d" % n) == b"%d" % n for n in range(count))
    assert len(rows(store, b"K")) == count


CHECKS: list[Callable[[Store], None]] = [
    a_new_store_is_empty,
    what_was_put_is_there,
    values_are_bytes,
    a_later_batch_replaces,
    what_was_deleted_is_gone_and_can_come_back,
    what_is_not_there_can_be_deleted,
    a_batch_reaches_all_kinds,
    a_batch_may_be_empty,
    a_batch_belongs_to_the_caller,
    kinds_do_not_mix,
    every_range_has_its_rows_in_order,
    a_scan_of_many_rows_has_each_once,
    a_scan_can_be_left,
    scans_do_not_disturb_each_other,
    bounds_may_be_forgotten_by_the_caller,
    a_scan_during_commits_has_what_they_did_not_touch,
    a_snapshot_stays_as_it_was,
    a_scan_of_a_snapshot_goes_on_over_commits,
    sync_may_be_called_in_any_thread,
]
