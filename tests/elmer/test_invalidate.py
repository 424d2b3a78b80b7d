"""The order in which the kernel is told, and that one file that is stuck holds up no other."""

import threading
from collections.abc import Iterator

import pytest

from elmer.invalidate import Invalidator
from tests.system.waiting import until

THREADS = 3


class FakeKernel:
    """A channel that notes what is told; for `stuck` inodes it waits, as for a page that is read."""

    def __init__(self) -> None:
        self.told: list[tuple] = []
        self.unknown: set[int] = set()
        self.stuck: dict[int, threading.Event] = {}
        self.refused: set[int] = set()

    def inode(self, ino: int, content: bool) -> bool:
        self.told.append((ino, content))
        if ino in self.refused:
            raise OSError(22, "Invalid argument")
        if ino in self.stuck and content:
            self.stuck[ino].wait(60)
        return ino not in self.unknown

    def entry(self, parent: int, name: bytes) -> bool:
        self.told.append((parent, name))
        return True


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel()


@pytest.fixture
def known() -> set[int]:
    return set(range(1, 100))


@pytest.fixture
def invalidator(kernel, known) -> Iterator[Invalidator]:
    invalidator = Invalidator(kernel, known.__contains__, THREADS)
    invalidator.start()
    yield invalidator
    for event in kernel.stuck.values():
        event.set()
    invalidator.stop(60)
    assert not any(thread.is_alive() for thread in invalidator.threads)


def test_entries_are_told_before_inodes(kernel, invalidator):
    invalidator.wait(invalidator.tell({(1, b"a"), (2, b"b")}, {3: False, 4: True}), 60)
    assert set(kernel.told[:2]) == {(1, b"a"), (2, b"b")}
    assert kernel.told[2:] == [(3, False), (4, True)]


def test_nothing_is_left_when_it_was_waited_for(kernel, invalidator):
    batch = invalidator.tell((), {ino: ino % 2 == 0 for ino in range(1, 100)})
    assert invalidator.wait(batch, 60)
    assert sorted(kernel.told) == [(ino, ino % 2 == 0) for ino in range(1, 100)]
    assert invalidator.drain(0)


def test_what_the_kernel_cannot_know_is_not_told(kernel, invalidator):
    assert invalidator.wait(invalidator.tell({(500, b"a"), (1, b"b")}, {600: True, 700: False}), 60)
    assert kernel.told == [(1, b"b")]


def test_a_look_up_that_is_on_its_way_is_told_again(kernel, invalidator):
    kernel.unknown.add(5)
    batch = invalidator.tell((), {5: False})
    until(lambda: kernel.told.count((5, False)) >= 2, "it was told twice")
    kernel.unknown.clear()
    assert invalidator.wait(batch, 60)


def test_an_inode_that_is_forgotten_meanwhile_is_told_no_more(kernel, known, invalidator):
    kernel.unknown.add(5)
    batch = invalidator.tell((), {5: True})
    until(lambda: kernel.told, "it was told")
    known.remove(5)
    assert invalidator.wait(batch, 60)


def test_files_that_are_stuck_hold_up_no_other(kernel, invalidator):
    stuck = range(1, THREADS)  # one thread less than there are
    for ino in stuck:
        kernel.stuck[ino] = threading.Event()
    batches = [invalidator.tell((), {ino: True}) for ino in stuck]
    for batch in batches:
        assert not invalidator.wait(batch, 0.01)
    again = invalidator.tell((), {1: True})  # waits behind itself, and takes no thread
    for ino in range(10, 90):
        assert invalidator.wait(invalidator.tell({(1, b"f")}, {ino: True}), 60)
    assert not again.is_done
    kernel.stuck[1].set()
    assert invalidator.wait(again, 60)
    assert kernel.told.count((1, True)) == 2


def test_a_change_that_comes_while_an_older_one_is_told_is_not_lost(kernel, invalidator):
    kernel.stuck[1] = threading.Event()
    first = invalidator.tell((), {1: True})
    until(lambda: kernel.told == [(1, True)], "the first is under way")
    later = [invalidator.tell((), {1: True}) for _ in range(10)]
    kernel.stuck[1].set()
    assert all(invalidator.wait(batch, 60) for batch in (first, *later))
    assert 2 <= kernel.told.count((1, True)) <= 11


def test_what_the_kernel_refuses_is_logged_and_ends_nothing(kernel, invalidator, expect_logs):
    expect_logs("refused a notification")
    kernel.refused.add(1)
    assert invalidator.wait(invalidator.tell((), {1: False, 2: False}), 60)
    assert kernel.told == [(1, False), (2, False)]


def test_a_bug_is_logged_and_ends_neither_the_threads_nor_the_waiting(kernel, invalidator, expect_logs):
    expect_logs("a notification failed")
    is_known, invalidator.is_known = invalidator.is_known, None
    batches = [invalidator.tell([(1, b"a")], {5: True}) for _ in range(2 * len(invalidator.threads))]
    assert all(invalidator.wait(batch, 60) for batch in batches)
    invalidator.is_known = is_known
    assert invalidator.wait(invalidator.tell([(1, b"b")], {5: True}), 60)
    assert all(thread.is_alive() for thread in invalidator.threads)


def test_drain_waits_for_what_was_told_before_and_not_for_later(kernel, invalidator):
    kernel.stuck[1] = threading.Event()
    invalidator.tell((), {2: True})
    assert invalidator.drain(60)
    invalidator.tell((), {1: True})
    assert not invalidator.drain(0.01)
    kernel.stuck[1].set()
    assert invalidator.drain(60)


def test_a_stop_releases_who_waits(kernel, invalidator):
    kernel.stuck[1] = threading.Event()
    batch = invalidator.tell((), {1: True})
    waiting = threading.Thread(target=invalidator.wait, args=(batch, 60))
    waiting.start()
    invalidator.stop(0)
    waiting.join(60)
    assert not waiting.is_alive()
