"""What heads show together is what the model says, worked out from what is since their base alone."""

from __future__ import annotations

from random import Random

import pytest

from crdt.facts import Policy, Ref
from crdt.merging import Merged, Piece, is_any_merging, is_merging, merged, merges
from tests.dags import File, histories, spelled

POLICIES = [Policy.BLOCKS, Policy.APPEND]


def shown(file: File, heads: list[Ref], bares: Random | None = None) -> bytes | None:
    found = merged(file.state(bares), file.policy, [file.head(ref) for ref in heads])
    if found is None:
        return None
    content = b"".join(bytes_of(file, found, piece) for piece in found.parts.pieces(0, found.size))
    assert len(content) == found.size
    return content


def bytes_of(file: File, found: Merged, piece: Piece) -> bytes:
    content = file.contents[found.heads[piece.head].ref]
    return content[piece.offset : piece.offset + piece.size].ljust(piece.size, b"\0")


@pytest.mark.parametrize("policy", POLICIES)
def test_heads_show_what_the_model_says(policy):
    count = 0
    for file, heads in histories(policy, 200):
        if len(heads) > 1:
            count += 1
            for order in (heads, heads[::-1]):
                assert shown(file, order) == file.merging.shown(policy, order)
    assert count > 50


def test_superseded_contents_that_are_gone_are_not_needed():
    """A replica that never had the bytes of a version shows what the one shows that wrote it."""
    for file, heads in histories(Policy.BLOCKS, 100):
        if len(heads) > 1:
            assert shown(file, heads, Random(len(file.versions))) == file.merging.shown(file.policy, heads)


@pytest.mark.parametrize("policy", POLICIES)
def test_pieces_are_the_same_from_anywhere(policy):
    for file, heads in histories(policy, 30):
        if len(heads) > 1:
            found = merged(file.state(), policy, [file.head(ref) for ref in heads])
            whole, random = shown(file, heads), Random(1)
            assert found is not None
            assert whole is not None
            for _ in range(5):
                start, end = sorted(random.randrange(found.size + 1) for _ in range(2))
                pieces = [bytes_of(file, found, piece) for piece in found.parts.pieces(start, end)]
                assert b"".join(pieces) == whole[start:end]


def test_a_head_that_another_came_of_adds_nothing():
    file = File(Policy.BLOCKS, spelled("ABC"))
    older = file.write(file.base, spelled("XBC"))
    newer = file.write(older, spelled("XYC"))
    beside = file.write(file.base, spelled("ABZ"))
    heads = [file.head(ref) for ref in (older, newer, beside)]
    assert shown(file, [older, newer, beside]) == spelled("XYZ")
    assert merged(file.state(), Policy.BLOCKS, heads[:2]) == heads[1]


def test_the_walk_ends_where_all_build_on():
    """However long the history is: what is worked out is what was written since."""
    file = File(Policy.APPEND, b"log:")
    head = file.base
    for _ in range(50):
        head = file.write(head, file.contents[head] + b"x")
    heads = [file.head(file.write(head, file.contents[head] + token)) for token in (b"a", b"b")]
    state = file.state()
    found = merged(state, Policy.APPEND, heads)
    assert found is not None
    assert len(list(found.parts.pieces(0, found.size))) == 2
    looked_at = set(state._versions)  # what was read from rows: nothing, all is new
    assert not looked_at


def test_merges_says_whether_heads_show_together():
    file = File(Policy.APPEND, b"log:")
    a, b = (file.head(file.write(file.base, b"log:" + token)) for token in (b"a", b"b"))
    edited = file.head(file.write(file.base, b"LOG:"))
    state = file.state()
    assert merges(state, Policy.APPEND, [a, b])
    assert not merges(state, Policy.APPEND, [a, edited])
    assert merges(state, Policy.BLOCKS, [a, edited])
    assert not merges(state, Policy.KEEP, [a, b])


def test_what_shows_by_one_policy_is_no_merge_by_another():
    file = File(Policy.APPEND, b"log:")
    heads = [file.write(file.base, b"log:" + token) for token in (b"a", b"b")]
    made = file.versions[file.merge(*heads)].fact
    assert is_merging(made, Policy.APPEND)
    assert not is_merging(made, Policy.BLOCKS)
    assert is_any_merging(made)
    assert not is_any_merging(made._replace(settles=False))
    assert not is_any_merging(made._replace(parents=made.parents[::-1]))


def test_zeros_behind_a_small_content_write_no_block():
    file = File(Policy.BLOCKS, b"abc")
    older = file.write(file.base, b"xbc")
    longer = file.write(file.base, b"abc\0")
    assert shown(file, [older, longer]) == b"xbc\0"
