"""What a merge costs, in rows read and rows written: it goes with what changed, not with what there is.

No time is measured.  A replica begins each of these with empty caches, so that every row it looks at is read.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import pytest

from crdt.blocks import BLOCK_SIZE
from crdt.causality import VersionVector
from crdt.encoding import decode_commit
from crdt.facts import Ino, Ref
from crdt.store import MemoryStore
from crdt.waiting import ROWS_PASSED
from tests.shell import Shell, exchange, shells
from translation.branch import Shown


class Counted(MemoryStore):
    """A store that counts rows by what is done with them and by their kind."""

    def __init__(self, rows: Mapping[bytes, bytes]) -> None:
        super().__init__(rows)
        self.rows_read: Counter[str] = Counter()
        self.rows_written: Counter[str] = Counter()

    def get(self, key: bytes) -> bytes | None:
        self.rows_read[chr(key[0])] += 1
        return super().get(key)

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        for row in super().scan(start, end, reverse=reverse):
            self.rows_read[chr(row[0][0])] += 1
            yield row

    def commit(self, batch: Mapping[bytes, bytes | None], *, sync: bool = False) -> None:
        self.rows_written.update(chr(key[0]) for key in batch)
        super().commit(batch, sync=sync)


Cost = tuple[Counter[str], Counter[str]]  # rows read, rows written


def cost_of(shell: Shell, work: Callable[[], object]) -> Cost:
    store = Counted(shell.store.rows)
    shell.store = store
    shell.open()
    store.rows_read.clear()
    store.rows_written.clear()
    work()
    return store.rows_read.copy(), store.rows_written.copy()


def commits_of(shell: Shell, newest: int) -> list[bytes]:
    """The newest commits of this replica as they go over the wire."""
    shell.replica.sync()
    end = shell.replica.arrival_end
    return shell.replica.arrivals(end - newest, VersionVector(), 1 << 20).commits


def fill(shell: Shell, directory: str, count: int) -> None:
    for number in range(count):
        shell.write(f"{directory}/{shell.replica.name}-{number}", "content")


MANY = 300


# -- a directory gets another name ---------------------------------------------------------------------


def renamed(count: int) -> tuple[Cost, Cost, list[bytes]]:
    """Rename a directory with this many files; the cost here, and at a peer that merges it."""
    a, b = shells(0, 0)
    a.mkdir("d")
    a.mkdir("e")
    fill(a, "d", count)
    exchange(a, b)
    here = cost_of(a, lambda: a.move("d", "e/renamed"))
    there = cost_of(b, lambda: b.hear(a))
    assert len(b.list(b.stat("e/renamed").ino)) == count
    return here, there, commits_of(a, 1)


def test_a_renamed_directory_costs_the_same_rows_however_much_is_in_it():
    few_here, few_there, _ = renamed(1)
    many_here, many_there, _ = renamed(MANY)
    assert many_here == few_here
    assert many_there == few_there
    assert many_there[1].total() <= 12


def test_a_renamed_directory_is_one_fact_however_much_is_in_it():
    _, _, (commit,) = renamed(MANY)
    assert len(decode_commit(commit).facts) == 1
    assert len(commit) < 200


# -- a union -------------------------------------------------------------------------------------------


def torn_and_formed(count: int) -> tuple[Cost, Cost]:
    """A's `photos` and B's are one.  C, who knew A's alone, moves that away, and B the union after that."""
    a, b, c = shells(0, 0, 0)
    a.mkdir("photos")
    c.hear(a)
    b.mkdir("photos")
    fill(a, "photos", count)
    fill(b, "photos", count)
    exchange(a, b)
    assert len(a.list(a.stat("photos").ino)) == 2 * count
    c.move("photos", "away")
    b.move("photos", "pictures")
    torn = cost_of(a, lambda: a.hear(c))
    assert len(a.list(a.stat("photos").ino)) == len(a.list(a.stat("away").ino)) == count
    formed = cost_of(a, lambda: a.hear(b))
    assert len(a.list(a.stat("pictures").ino)) == 2 * count
    return torn, formed


def test_a_union_is_torn_and_formed_by_the_same_rows_however_much_is_in_it():
    few_torn, few_formed = torn_and_formed(1)
    many_torn, many_formed = torn_and_formed(MANY)
    assert many_torn == few_torn
    assert many_formed == few_formed
    assert many_torn[1].total() <= 12
    assert many_formed[1].total() <= 20


def test_a_part_of_a_listing_of_a_union_reads_the_rows_of_its_entries():
    """The kernel asks for a listing in parts, and of a part for no more than it has room for."""
    a, b = shells(0, 0)
    a.mkdir("photos")
    b.mkdir("photos")
    fill(a, "photos", MANY)
    fill(b, "photos", MANY)
    exchange(a, b)
    ino = a.stat("photos").ino
    names = [name for name, _ in a.list(ino)]
    assert sorted(names) == sorted(b"%s-%d" % (who, n) for who in (b"A", b"B") for n in range(MANY))

    def read_on() -> None:
        fh, listed, offset = a.fs.opendir(ino), [], 0
        while part := list(itertools.islice(a.fs.readdir(fh, offset), 100)):
            listed += [name for name, _, _ in part]
            offset = part[-1][2]
        assert listed == [b".", b"..", *names]

    read, _ = cost_of(a, read_on)
    # Each entry once, and at each part its last one and one of each member again.
    assert read["D"] <= 2 * MANY + 3 * (2 * MANY // 100 + 1)


# -- open files ----------------------------------------------------------------------------------------


def test_what_is_open_is_not_looked_at_by_a_rename_or_removal_of_something_else():
    a, _ = shells(0, 0)
    for number in range(10):
        a.write(f"open-{number}", "content")
    handles = [a.open_file(f"open-{number}") for number in range(10)]
    a.write("other", "content")
    looked_at: list[int] = []
    shown_at = a.fs.base.shown_at

    def noted(ino: Ino, head: Ref) -> Shown | None:
        looked_at.append(ino)
        return shown_at(ino, head)

    a.fs.base.shown_at = noted  # type: ignore[method-assign]
    a.move("other", "moved")
    a.remove("moved")
    assert looked_at == []
    for fh in handles:
        a.close(fh)


# -- late moves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", [10, 200])
def test_a_late_move_writes_its_row_of_the_log_and_that_of_the_next_move_of_its_directory(log: int):
    """However many moves came after it: they are read, and found as they were."""
    a, b = shells(0, 0)
    for name in ("x", "y", "late"):
        a.mkdir(name)
    exchange(a, b)
    b.move("late", "moved by B")
    for number in range(log):
        a.move("x" if not number else f"x{number - 1}", f"x{number}")
    a.move("late", "moved by A")
    _, written = cost_of(a, lambda: a.hear(b))
    assert written["G"] == 2
    assert exchange(a, b) == {f"x{log - 1}": "dir", "y": "dir", "moved by A": "dir"}


def test_moves_of_a_batch_are_read_once_and_written_once():
    """One undo and one redo for all: the log is read from the first late move on, twice."""
    a, b = shells(0, 0)
    for name in ("x", "y"):
        a.mkdir(name)
    exchange(a, b)
    for number in range(100):
        b.move("y" if not number else f"y{number - 1}", f"y{number}")
        a.move("x" if not number else f"x{number - 1}", f"x{number}")
    read, written = cost_of(a, lambda: a.hear(b))
    assert written["G"] == 100
    assert read["G"] <= 2 * 100 + 2


# -- contents ------------------------------------------------------------------------------------------


def test_an_edit_that_is_merged_costs_the_rows_of_its_file():
    a, b = shells(0, 0)
    a.mkdir("d")
    fill(a, "d", MANY)
    exchange(a, b)
    for number in range(100):
        a.write(f"d/A-{number}", "edited")
    read, written = cost_of(b, lambda: b.hear(a))
    # Of each edit the arrival, the version and the inode; then the clock and the cursor of the peer.
    assert written == {"A": 100, "V": 100, "I": 100, "Z": 2}
    assert read["I"] == 100
    assert read["D"] <= 100


def test_a_conflict_that_is_merged_costs_the_rows_of_its_file():
    a, b = shells(0, 0)
    a.mkdir("d")
    fill(a, "d", MANY)
    exchange(a, b)
    for number in range(100):
        a.write(f"d/A-{number}", "edited by A")
        b.write(f"d/A-{number}", "edited by B")
    _, written = cost_of(b, lambda: b.hear(a))
    # Besides: the name, the mark of a name that needs rules, and which branch the number of the entry is.
    assert written == {"A": 100, "V": 100, "I": 100, "D": 100, "Q": 100, "E": 100, "Z": 2}


def test_a_start_looks_at_the_rows_of_files_whose_contents_are_on_their_way_and_not_at_the_files():
    """There may be a million of them, each of many blocks."""
    a, b = shells(0, 0)
    a.mkdir("d")
    fill(a, "d", 50)
    exchange(a, b)
    for number in range(50):
        a.write(f"d/A-{number}", os.urandom(50 * BLOCK_SIZE if number == 25 else 3_000).hex())
    b.hear(a, blocks=False)
    assert len(b.replica.hiding()) == 50
    store = b.store = Counted(b.store.rows)
    b.open()
    assert store.rows_read["L"] == 50
    assert store.rows_read["P"] <= 50 + ROWS_PASSED
    assert store.rows_read["I"] == 0
    assert not store.rows_written
    b.fetch(a)
    assert exchange(a, b)
    assert b.replica.hiding() == []


def test_a_start_shows_what_only_an_open_file_kept_from_showing():
    a, b = shells(0, 0)
    for name in ("before", "held", "waits"):
        a.write(name, "old")
    exchange(a, b)
    fh = b.open_file("held")
    a.write("before", b"x" * 5_000)
    a.write("waits", b"y" * 5_000)
    b.hear(a, blocks=False)
    a.write("held", "new")
    b.hear(a, blocks=False)
    assert b.fs.read(fh, 0, 10) == b"old"
    b.open()  # as after a crash: nobody has it open any more
    assert {name: b.read(name) for name in ("before", "held", "waits")} == {
        "before": b"old",
        "held": b"new",
        "waits": b"old",
    }


# -- a file is made and removed at one name again and again ------------------------------------------------


def test_a_lock_file_that_is_made_and_removed_again_and_again_leaves_the_earlier_ones_alone():
    """Each goes on from the one before, so all are kin (SQLite's journal, git's index.lock)."""

    def cost_after(times: int) -> tuple[int, int]:
        (a,) = shells(0)
        store = Counted(a.store.rows)
        a.store = store
        a.open()
        for _ in range(times):
            store.rows_read.clear()
            store.rows_written.clear()
            a.write("lock", "mine")
            a.remove("lock")
        return store.rows_read["U"], sum(store.rows_written.values())

    assert cost_after(10) == cost_after(100)
