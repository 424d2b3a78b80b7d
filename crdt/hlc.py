"""The hybrid logical clock: times that never contradict causality, close to the wall clock.

A time is one integer: 48 bits of milliseconds since 1970 and a 16-bit counter below them, so that the
counter carries into the milliseconds when it is full.  The wall time is an argument.

Source: Kulkarni et al., "Logical Physical Clocks", OPODIS 2014.
"""

from __future__ import annotations

COUNTER_BITS = 16
NS_PER_MS = 1_000_000

# Year 2500.  A stamp beyond it comes from a broken clock or an attacker, and would leave no room.
CEILING = 16_725_225_600_000 << COUNTER_BITS


def next_time(latest: int, wall_ns: int) -> int:
    """Return a time after `latest`, the greatest one seen, and not before the wall clock."""
    return max(latest + 1, (wall_ns // NS_PER_MS) << COUNTER_BITS)


def milliseconds(hlc: int) -> int:
    return hlc >> COUNTER_BITS


def is_possible(hlc: int) -> bool:
    return 0 < hlc < CEILING
