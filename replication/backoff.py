"""When to dial a peer again.

The waits double up to a bound, with "full jitter" (AWS Architecture Blog, "Exponential Backoff And
Jitter", 2015), of which the lower half is left out so that none is nearly zero: peers that lost each
other at one moment do not come back at one moment.
"""

from __future__ import annotations

from typing import Protocol


class Randomness(Protocol):
    def random(self) -> float:
        """Return a number from 0 up to, not including, 1."""


class Backoff:
    def __init__(self, min_s: float, max_s: float, random: Randomness) -> None:
        assert 0 < min_s <= max_s, (min_s, max_s)
        self.min_s = min_s
        self.max_s = max_s
        self.random = random
        self.bound_s = min_s

    def failed(self) -> float:
        """Return how many seconds to wait before the next attempt."""
        bound_s = self.bound_s
        self.bound_s = min(2 * bound_s, self.max_s)
        return bound_s * (0.5 + 0.5 * self.random.random())

    def succeeded(self) -> None:
        self.bound_s = self.min_s
