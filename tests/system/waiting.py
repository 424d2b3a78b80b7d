"""Waiting for something that will be so, and saying what was last seen where it does not come."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Far beyond what anything here takes: a loaded machine must never make a test fail.
DEADLINE_S = 90.0
POLL_S = 0.01


def until(condition: Callable[[], T], what: str, deadline_s: float = DEADLINE_S, poll_s: float = POLL_S) -> T:
    """Call `condition` until it returns something true, and return that.

    An OSError or AssertionError that it raises counts as "not yet".  Raises AssertionError with
    `what` and the last value (or error) after `deadline_s` seconds.
    """
    deadline = time.monotonic() + deadline_s
    while True:
        last: object
        try:
            value = condition()
            if value:
                return value
            last = value
        except (OSError, AssertionError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {deadline_s:.0f} s: {what}; last seen: {last!r}")
        time.sleep(poll_s)


def until_equal(read: Callable[[], T], expected: T, what: str, deadline_s: float = DEADLINE_S) -> None:
    """Call `read` until it returns `expected`."""
    seen: list[T | OSError] = []

    def is_equal() -> bool:
        seen[:] = []
        try:
            seen.append(read())
        except OSError as error:
            seen.append(error)
        return seen[0] == expected

    try:
        until(is_equal, what, deadline_s)
    except AssertionError as error:
        raise AssertionError(f"{what}: expected {expected!r}, last seen {seen!r}") from error
