"""What fsck finds that no other check of a store sees; more is in tests/elmer/test_damage.py."""

from __future__ import annotations

from crdt.state import prefix_end
from tests.shell import shells


def test_a_content_whose_block_map_is_not_what_was_written_is_found_and_named():
    """A map without a row has a hole there, which reads as zeros: no block is missing, none is damaged."""
    (a,) = shells(0)
    a.mkdir("d")
    a.write("d/f", "x" * 100_000)
    a.write("d/g", "y" * 5_000)
    assert a.findings() == []
    (row, _), *_ = a.store.scan(b"B", prefix_end(b"B"))
    a.store.commit({row: None})
    a.open()
    assert a.read("d/f") == bytes(100_000)
    (found,) = a.findings()
    assert "not what its digest says" in found.problem
    assert found.paths == ("d/f",)
