from hypothesis import given
from hypothesis import strategies as st

from crdt.hlc import CEILING, COUNTER_BITS, NS_PER_MS, is_possible, milliseconds, next_time

walls_ns = st.integers(0, 4_000_000_000_000_000_000)
times = st.integers(1, CEILING - 2)


@given(times, walls_ns)
def test_the_next_time_is_after_all_that_was_seen_however_wrong_the_clock_is(latest, wall_ns):
    assert next_time(latest, wall_ns) > latest


@given(times, walls_ns)
def test_the_next_time_is_not_before_the_wall_clock(latest, wall_ns):
    assert milliseconds(next_time(latest, wall_ns)) >= wall_ns // NS_PER_MS


@given(walls_ns)
def test_a_clock_that_is_ahead_of_all_others_shows_its_own_time(wall_ns):
    latest = (wall_ns // NS_PER_MS << COUNTER_BITS) - 1
    assert milliseconds(next_time(latest, wall_ns)) == wall_ns // NS_PER_MS


def test_a_full_counter_carries_into_the_milliseconds():
    wall_ns = 5 * NS_PER_MS
    latest = 5 << COUNTER_BITS | (1 << COUNTER_BITS) - 1
    assert next_time(latest, wall_ns) == 6 << COUNTER_BITS


def test_a_clock_that_stands_still_counts():
    times = [next_time(0, 7 * NS_PER_MS)]
    for _ in range(100_000):
        times.append(next_time(times[-1], 7 * NS_PER_MS))
    assert times == sorted(set(times))
    assert milliseconds(times[-1]) == 7 + 100_000 // (1 << COUNTER_BITS)


def test_times_beyond_the_year_2500_are_impossible():
    assert is_possible(CEILING - 1)
    assert not is_possible(CEILING)
    assert not is_possible(0)
    year_2400_ns = 430 * 365 * 24 * 3_600_000_000_000
    assert is_possible(next_time(1, year_2400_ns))
