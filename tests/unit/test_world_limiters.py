"""The judge's own arithmetic: buckets, rolling windows, clock minutes and slots, against brute force."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apikeyrouter.simulation.world.limiters import Bucket, Limiter, Minute, Rolling, Slots

_STEPS = st.lists(st.tuples(st.floats(0.0, 30.0), st.integers(0, 40)), max_size=60)


def _let_in(limiter: Limiter, steps: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """Takes whatever fits; what was let in, and when."""
    now_s, taken = 0.0, []
    for pause_s, amount in steps:
        now_s += pause_s
        if amount <= limiter.free(now_s):
            limiter.take(amount, now_s)
            taken.append((now_s, amount))
    return taken


@given(_STEPS)
def test_no_sixty_seconds_of_a_rolling_window_hold_more_than_the_limit(steps: list[tuple[float, int]]) -> None:
    taken = _let_in(Rolling(100.0), steps)
    for begin_s, _ in taken:
        assert sum(amount for at_s, amount in taken if begin_s <= at_s < begin_s + 60.0) <= 100.0


@given(_STEPS, st.sampled_from([1.0, 6.0, 60.0]))
def test_a_bucket_lets_in_no_more_than_it_held_and_what_flowed_in(
    steps: list[tuple[float, int]], horizon_s: float
) -> None:
    taken = _let_in(Bucket(100.0, horizon_s), steps)
    for first, (begin_s, _) in enumerate(taken):
        total = 0.0
        for at_s, amount in taken[first:]:
            total += amount
            assert total <= 100.0 / 60.0 * (horizon_s + at_s - begin_s) + 1e-6


@given(_STEPS)
def test_no_clock_minute_holds_more_than_the_limit(steps: list[tuple[float, int]]) -> None:
    by_minute: dict[int, int] = {}
    for at_s, amount in _let_in(Minute(100.0, skew_s=12.0), steps):
        minute = math.floor((at_s + 12.0) / 60.0)
        by_minute[minute] = by_minute.get(minute, 0) + amount
    assert all(total <= 100 for total in by_minute.values())


@pytest.mark.parametrize("limiter", [Bucket(600.0, 60.0), Bucket(600.0, 6.0), Rolling(600.0), Minute(600.0)])
def test_what_did_not_fit_fits_after_the_wait_that_was_told_and_not_before(limiter: Limiter) -> None:
    rng = Random(5)
    now_s = 0.0
    for _ in range(300):
        now_s += rng.expovariate(2.0)
        amount = rng.randint(1, 30)
        wait_s = limiter.wait_s(amount, now_s)
        if wait_s > 0:
            assert amount > limiter.free(now_s)
            assert amount > limiter.free(now_s + wait_s * 0.98)
            now_s += wait_s + 1e-6
            assert amount <= limiter.free(now_s) + 1e-3
        limiter.take(amount, now_s)


@pytest.mark.parametrize("limiter", [Bucket(60.0, 60.0), Rolling(60.0), Minute(60.0)])
def test_a_full_reset_brings_everything_back_and_nothing_larger_than_the_limit_ever_fits(limiter: Limiter) -> None:
    limiter.take(50, 100.0)
    assert limiter.free(100.0) == pytest.approx(10.0)
    full_s = limiter.full_in_s(100.0)
    assert limiter.free(100.0 + full_s) == pytest.approx(60.0)
    assert limiter.free(1e6) == pytest.approx(60.0)
    assert limiter.wait_s(61, 1e6) == math.inf


@pytest.mark.parametrize("limiter", [Bucket(60.0, 60.0), Rolling(60.0), Minute(60.0)])
def test_refused_requests_take_what_is_there_and_no_more(limiter: Limiter) -> None:
    for _ in range(100):
        limiter.drain(1, 30.0)
    assert limiter.free(30.0) == pytest.approx(0.0)


def test_a_late_charge_may_go_below_zero_and_is_paid_off_first() -> None:
    bucket = Bucket(60.0, 10.0)
    bucket.charge_late(25, 0.0)
    assert bucket.free(0.0) == pytest.approx(-15.0)
    bucket.drain(1, 0.0)
    assert bucket.free(20.0) == pytest.approx(5.0)


def test_another_tier_scales_what_is_there() -> None:
    bucket = Bucket(60.0, 60.0)
    bucket.take(30, 0.0)
    bucket.scale(0.5, 0.0)
    assert (bucket.free(0.0), bucket.capacity, bucket.limit) == (15.0, 30.0, 30.0)


def test_slots_are_free_again_when_their_requests_end() -> None:
    slots = Slots(2)
    slots.take(5.0)
    slots.take(3.0)
    assert slots.free(0.0) == 0
    assert slots.wait_s(1.0) == 2.0
    assert slots.free(3.0) == 1
    assert slots.wait_s(5.0) == 0.0
