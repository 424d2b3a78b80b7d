"""The laws of replicated data types, stated once and asked of every type.

Shape after cblp/crdt's CRDT.Laws: a test of a type is one line, and a new type gets the whole list.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import given
from hypothesis.strategies import DataObject, SearchStrategy, data, permutations

T = TypeVar("T")


def check_semilattice(
    values: SearchStrategy[T],
    merge: Callable[[T, T], T],
    at_most: Callable[[Any, Any], bool] = operator.le,
) -> None:
    """`merge` gives the least upper bound in the order `at_most`."""

    @given(values, values, values)
    def associative(a: T, b: T, c: T) -> None:
        assert merge(merge(a, b), c) == merge(a, merge(b, c))

    @given(values, values)
    def commutative(a: T, b: T) -> None:
        assert merge(a, b) == merge(b, a)

    @given(values)
    def idempotent(a: T) -> None:
        assert merge(a, a) == a

    @given(values, values)
    def upper_bound(a: T, b: T) -> None:
        assert at_most(a, merge(a, b))
        assert at_most(b, merge(a, b))

    @given(values, values, values)
    def least(a: T, b: T, c: T) -> None:
        if at_most(a, c) and at_most(b, c):
            assert at_most(merge(a, b), c)

    @given(values, values)
    def antisymmetric(a: T, b: T) -> None:
        if at_most(a, b) and at_most(b, a):
            assert a == b

    for law in (associative, commutative, idempotent, upper_bound, least, antisymmetric):
        law()


def check_converges(operations: SearchStrategy[Sequence[T]], replay: Callable[[Sequence[T]], Any]) -> None:
    """Whatever order the same operations arrive in, and however often, the state is the same."""

    @given(data(), operations)
    def in_any_order(draw: DataObject, run: Sequence[T]) -> None:
        assert replay(draw.draw(permutations(run))) == replay(run)

    @given(operations)
    def repeated(run: Sequence[T]) -> None:
        assert replay([*run, *run]) == replay(run)

    in_any_order()
    repeated()
