"""What is written to one file through two mounts is there, byte for byte, whatever is merged meanwhile:
random histories, see tests/system/one_file.py.

`scripts/differential` plays them for long.
"""

import pytest

from tests.system.one_file import draw, search
from tests.system.sites import Site
from tests.system.version_graph import Graph


# Among them those that catch a mapping that is written back to the end of the file.
@pytest.mark.parametrize("seed", [0, 1, 2, 3, 8, 14])
def test_two_programs_that_write_to_one_file_lose_nothing(shared_pair: list[Site], seed: int):
    search(shared_pair, f"one-{seed}", draw(seed), shares=True)


@pytest.mark.parametrize("seed", range(2))
def test_a_file_is_what_was_written_to_it_while_another_one_is_merged(shared_pair: list[Site], seed: int):
    search(shared_pair, f"own-{seed}", draw(seed), shares=False)


def test_what_is_needed_of_several_versions_is_what_no_other_one_goes_on_from():
    """The expectation itself: of two that both wrote "a", and one of which went on, one is left."""
    graph = Graph(b"")
    mine, theirs = graph.add(0, 0, b"a"), graph.add(1, 0, b"a")
    further = graph.add(1, theirs, b"ab")
    other = graph.add(0, 0, b"x")
    assert graph.last(0) == [mine, other]
    graph.merge()
    assert graph.last(0) == [mine, further, other]
    assert graph.contents(1) == {b"a", b"ab", b"x"}
    assert graph.needed() == {b"ab", b"x"}
