"""P6: anti-entropy costs what differs, not what there is.  Bytes are counted on the wire itself."""

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.system.sites import Site, Sites, assert_same_trees, cut, heal, meet
from tests.system.waiting import until
from tests.system.wire import Wire

FILES = 1_000
BLOCK_BYTES = 32 << 10


class Wired(NamedTuple):
    """Two sites whose only way to each other is the wire."""

    a: Site
    b: Site
    wire: Wire

    def cost_of(self, change: Callable[[], object]) -> int:
        """Return the bytes in both directions from a change until both have seen the same."""
        meet(self.a, self.b)
        before = self.wire.total
        change()
        meet(self.a, self.b)
        return self.wire.total - before


@pytest.fixture
def wired(sites: Sites) -> Iterator[Wired]:
    a = sites.found("a")
    wire = Wire(a.address)
    try:
        b = sites.join(a, "b", url=wire.url)
        until(lambda: b.status()["peers"][0]["connected"], "b is connected through the wire")
        yield Wired(a, b, wire)
    finally:
        wire.close()


def test_renaming_a_directory_costs_less_than_a_kilobyte_however_much_is_in_it(wired: Wired):
    a, b, _ = wired
    (a / "large").mkdir()
    for number in range(FILES):
        (a / "large" / f"file-{number}").write_bytes(b"%d" % number * 100)
    cost = wired.cost_of(lambda: (a / "large").rename(a / "renamed"))
    assert cost < 1_000
    assert len(os.listdir(b / "renamed")) == FILES
    assert_same_trees(a, b)


def test_a_changed_byte_in_a_large_file_costs_about_one_block(wired: Wired):
    a, b, _ = wired
    content = bytearray(os.urandom(8 << 20))
    (a / "image").write_bytes(content)

    def change() -> None:
        with (a / "image").open("r+b") as file:
            file.seek(5_000_000)
            file.write(b"!")

    cost = wired.cost_of(change)
    content[5_000_000:5_000_001] = b"!"
    assert (b / "image").read_bytes() == content
    assert cost < 2 * BLOCK_BYTES


def test_a_copy_of_what_is_there_already_sends_no_block(wired: Wired):
    a, b, _ = wired
    content = os.urandom(8 << 20)
    (a / "first").write_bytes(content)
    cost = wired.cost_of(lambda: (a / "second").write_bytes(content))
    assert (b / "second").read_bytes() == content
    # 256 hashes of 32 bytes, and not the 8 MiB that they stand for.
    assert cost < 64 << 10


def test_two_sites_that_are_equal_have_little_to_say_when_they_meet_again(wired: Wired):
    a, b, wire = wired
    for number in range(FILES):
        (a / f"file-{number}").write_bytes(os.urandom(100))
    meet(a, b)
    before = wire.total
    cut(a, b)
    heal(a, b)
    until(lambda: b.status()["peers"][0]["connected"], "b is connected again")
    meet(a, b)
    assert wire.total - before < 10_000


def test_files_that_came_and_went_while_apart_are_not_sent(wired: Wired):
    a, b, wire = wired
    (a / "kept").write_bytes(b"k")
    meet(a, b)
    cut(a, b)
    for number in range(300):
        (a / "scratch").write_bytes(os.urandom(20_000))
        (a / "scratch").unlink()
        (a / f"temporary-{number}").write_bytes(b"t")
        (a / f"temporary-{number}").unlink()
    before = wire.total
    heal(a, b)
    until(lambda: b.status()["peers"][0]["connected"], "b is connected again")
    meet(a, b)
    assert os.listdir(b.mountpoint) == ["kept"]
    # 6 MB were written meanwhile.
    assert wire.total - before < 200_000
