"""Laws of the simulated provider's meters, against oracles that only remember what was let in, and when.

Times are whole milliseconds, so that the oracles count exactly where the meters use floats; clock periods begin between
them.
"""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from apikeyrouter.simulation.limits import Meter, Refill, meter_of

PERIOD_MS = 6000
EPOCH_MS = -2500.5
_FLOAT_S = 1e-6

Ask = tuple[int, int]
"""Milliseconds since the last one, units."""

asks = st.lists(st.tuples(st.integers(0, 2500), st.integers(1, 4)), min_size=1, max_size=120)
capacities = st.integers(1, 20)


def made(refill: Refill, capacity: int, burst_s: float | None = None) -> Meter:
    return meter_of(capacity, PERIOD_MS / 1000, refill, burst_s, now_s=0.0, epoch_s=EPOCH_MS / 1000)


def let_in(meter: Meter, asked: list[Ask], *, count_refused: bool = False) -> list[tuple[int, int]]:
    """Plays the requests; (ms, units) of those that were let in."""
    now_ms, served = 0, []
    for gap_ms, amount in asked:
        now_ms += gap_ms
        meter.refill(now_ms / 1000)
        assert 0 <= meter.remaining <= meter.capacity
        if not meter.lacks(amount):
            served.append((now_ms, amount))
            meter.take(amount)
        elif count_refused:
            meter.take(1)
    return served


@given(capacities, asks, st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_stretch_of_a_rolling_period_holds_more_than_the_limit(
    capacity: int, asked: list[Ask], count_refused: bool
) -> None:
    served = let_in(made(Refill.Rolling, capacity), asked, count_refused=count_refused)
    for begin_ms, _ in served:
        assert sum(n for at_ms, n in served if begin_ms <= at_ms < begin_ms + PERIOD_MS - _FLOAT_S) <= capacity


@given(capacities, asks)
@settings(max_examples=150, deadline=None)
def test_a_rolling_limit_refuses_nothing_that_fits(capacity: int, asked: list[Ask]) -> None:
    served: list[tuple[int, int]] = []
    meter, now_ms = made(Refill.Rolling, capacity), 0
    for gap_ms, amount in asked:
        now_ms += gap_ms
        meter.refill(now_ms / 1000 + _FLOAT_S)
        used = sum(n for at_ms, n in served if at_ms > now_ms - PERIOD_MS)
        assert meter.remaining == capacity - used
        assert meter.lacks(amount) == (used + amount > capacity)
        if used + amount <= capacity:
            served.append((now_ms, amount))
            meter.take(amount)


@given(capacities, asks)
@settings(max_examples=100, deadline=None)
def test_a_clock_period_holds_the_limit_and_the_next_one_is_whole(capacity: int, asked: list[Ask]) -> None:
    served: list[tuple[int, int]] = []
    meter, now_ms = made(Refill.Fixed, capacity), 0
    for gap_ms, amount in asked:
        now_ms += gap_ms
        period = (now_ms - EPOCH_MS) // PERIOD_MS
        meter.refill(now_ms / 1000)
        used = sum(n for at_ms, n in served if (at_ms - EPOCH_MS) // PERIOD_MS == period)
        assert meter.remaining == capacity - used
        if used + amount <= capacity:
            served.append((now_ms, amount))
            meter.take(amount)


@given(st.integers(6, 60), st.floats(0.5, 6.0), asks)
@settings(max_examples=150, deadline=None)
def test_a_burst_lets_in_what_fits_at_once_and_what_flows_in(capacity: int, burst_s: float, asked: list[Ask]) -> None:
    meter = made(Refill.Continuous, capacity, burst_s)
    served = let_in(meter, asked)
    rate = capacity / PERIOD_MS
    at_once = max(1.0, capacity * burst_s * 1000 / PERIOD_MS)
    for first, (begin_ms, _) in enumerate(served):
        units = 0
        for at_ms, amount in served[first:]:
            units += amount
            assert units <= at_once + (at_ms - begin_ms) * rate + 1e-3


@given(st.sampled_from(list(Refill)), st.sampled_from([None, 2.0]), capacities, asks, st.booleans())
@settings(max_examples=300, deadline=None)
def test_after_the_told_wait_it_fits_and_not_a_millisecond_sooner(
    refill: Refill, burst_s: float | None, capacity: int, asked: list[Ask], count_refused: bool
) -> None:
    """`retry-after` rests on this."""
    meter = made(refill, capacity, burst_s)
    let_in(meter, asked, count_refused=count_refused)
    now_s = sum(gap_ms for gap_ms, _ in asked) / 1000
    amount = max(1, min(asked[-1][1], math.floor(meter.largest)))
    wait_s = meter.wait_s(amount)
    assert (wait_s > _FLOAT_S) == meter.lacks(amount)
    assert wait_s <= PERIOD_MS / 1000 + _FLOAT_S
    if wait_s > 0.001:
        meter.refill(now_s + wait_s - 0.001)
        assert meter.lacks(amount)
    meter.refill(now_s + wait_s + _FLOAT_S)
    assert not meter.lacks(amount)


@given(st.sampled_from(list(Refill)), st.sampled_from([None, 2.0]), capacities, asks)
@settings(max_examples=150, deadline=None)
def test_after_the_told_reset_everything_is_back(
    refill: Refill, burst_s: float | None, capacity: int, asked: list[Ask]
) -> None:
    meter = made(refill, capacity, burst_s)
    let_in(meter, asked)
    now_s = sum(gap_ms for gap_ms, _ in asked) / 1000
    meter.refill(now_s + meter.reset_s + _FLOAT_S)
    assert meter.remaining == capacity
