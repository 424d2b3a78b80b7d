"""The shortest part of a history that still fails."""

from collections.abc import Callable, Sequence
from typing import TypeVar

S = TypeVar("S")
F = TypeVar("F")


def shortest(steps: Sequence[S], failure_of: Callable[[Sequence[S]], F | None]) -> F | None:
    """Return how that part fails of which nothing can be left out, None where the whole does not fail.

    `failure_of` plays a part, and returns None where it does not fail.
    """
    found = failure_of(steps)
    kept, size = list(steps), max(1, len(steps) // 2)
    while found is not None and size:
        start = 0
        while start < len(kept):
            shorter = kept[:start] + kept[start + size :]
            failure = failure_of(shorter)
            if failure is None:
                start += size
            else:
                kept, found = shorter, failure
        size //= 2
    return found
