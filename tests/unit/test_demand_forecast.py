"""The forecast of demand: what it says of simple traffic, and that its bound holds where Poisson's does not."""

from __future__ import annotations

import random
import sys

import pytest

from apikeyrouter.domain.quota.forecast import DemandForecast
from apikeyrouter.domain.quota.residuals import RING, Residuals


def steady(seconds: int, amount: int = 100) -> DemandForecast:
    """`amount` in every second from 0 on."""
    forecast = DemandForecast()
    for second in range(seconds):
        forecast.add(amount, second + 0.5)
    return forecast


def bursty(seconds: int, seed: int) -> list[int]:
    """Sums by second: bursts of seconds to minutes with quiet between them, sizes far from equal."""
    chance = random.Random(seed)
    sums: list[int] = []
    while len(sums) < seconds:
        level = chance.choice((0.2, 1.0, 3.0))
        sums += [
            sum(int(chance.lognormvariate(6, 1)) for _ in range(int(chance.expovariate(1 / level) + 0.5)))
            for _ in range(chance.randint(5, 60))
        ]
    return sums[:seconds]


def test_a_forecast_that_saw_nothing_expects_nothing() -> None:
    forecast = DemandForecast()
    assert forecast.bound(60.0, 5.0).upper == 0.0
    assert forecast.exceedance(0.0, 60.0, 5.0) == 0.0
    assert forecast.seconds_seen == 0


def test_steady_demand_is_expected_to_go_on_and_bounded_tightly() -> None:
    forecast = steady(600)
    for horizon_s in (10.0, 30.0, 60.0, 300.0, 86_400.0):
        bound = forecast.bound(horizon_s, 600.0)
        assert bound.expected == pytest.approx(100 * horizon_s, rel=0.01)
        assert bound.expected <= bound.upper * 1.001 <= 101.5 * horizon_s
    assert forecast.rate_per_s(600.0) == pytest.approx(100, rel=0.01)


def test_the_first_seconds_are_bounded_by_twice_the_expectation_or_more() -> None:
    forecast = steady(20)
    bound = forecast.bound(60.0, 20.0)
    assert bound.expected == pytest.approx(6000, rel=0.01)
    assert 1.95 * bound.expected <= bound.upper <= 4 * bound.expected


def test_one_burst_in_the_first_second_is_not_taken_for_a_rate() -> None:
    forecast = DemandForecast()
    forecast.add(1000, 0.5)
    assert forecast.expected(60.0, 1.0) <= 60 * 1000 / 5


def test_bursty_demand_is_covered_by_the_bound_at_both_horizons() -> None:
    for seed in range(3):
        sums = bursty(3600, seed)
        forecast = DemandForecast()
        bounds: dict[int, list[float]] = {10: [], 60: []}
        for second, amount in enumerate(sums):
            forecast.add(amount, second + 0.5)
            for horizon_s, kept in bounds.items():
                kept.append(forecast.bound(horizon_s, second + 1.0).upper)
        for horizon_s, kept in bounds.items():
            seconds = range(60, len(sums) - horizon_s)
            hits = sum(sum(sums[second + 1 : second + 1 + horizon_s]) <= kept[second] for second in seconds)
            assert 0.92 <= hits / len(seconds) <= 0.98, (seed, horizon_s)


def test_higher_levels_give_higher_bounds() -> None:
    forecast = DemandForecast()
    for second, amount in enumerate(bursty(1000, 7)):
        forecast.add(amount, second + 0.5)
    uppers = [forecast.bound(30.0, 1000.0, level).upper for level in (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)]
    assert uppers == sorted(uppers)
    assert uppers[0] < uppers[-1]


def test_a_night_does_not_teach_that_nothing_ever_comes() -> None:
    forecast = steady(900)
    forecast.add(100, 900.5 + 12 * 3600)
    for second in range(1, 120):
        forecast.add(100, 900.5 + 12 * 3600 + second)
    morning = forecast.bound(10.0, 1020.0 + 12 * 3600)
    assert 500 <= morning.expected <= 1100
    assert 1000 <= morning.upper <= 6000  # covers what comes, and did not explode


def test_idleness_lets_the_expectation_fade() -> None:
    forecast = steady(900)
    assert forecast.expected(60.0, 900.0 + 3600) < 0.01 * 60 * 100


@pytest.mark.parametrize("gap_s", [1, 9, 31, 59, 60, 61, 62, 200, 5000])
def test_asking_every_second_equals_asking_once(gap_s: int) -> None:
    watched, alone = steady(300), steady(300)
    for second in range(gap_s):
        watched.bound(10.0, 300.0 + second)
    for forecast in (watched, alone):
        for second in range(100):
            forecast.add(50 + second, 300.5 + gap_s + second)
    now_s = 401.0 + gap_s
    for horizon_s in (5.0, 10.0, 30.0, 60.0, 600.0):
        one, other = watched.bound(horizon_s, now_s), alone.bound(horizon_s, now_s)
        assert one.expected == pytest.approx(other.expected, rel=1e-6)
        assert one.upper == pytest.approx(other.upper, rel=1e-5)
    assert watched.seconds_seen == alone.seconds_seen


def test_a_clock_that_stands_still_or_goes_back_counts_towards_the_current_second() -> None:
    still, moving = steady(100), steady(100)
    for now_s in (100.5, 100.5, 3.0, -7.0, 100.9):
        still.add(10, now_s)
    moving.add(50, 100.5)
    assert still.bound(10.0, 101.0) == moving.bound(10.0, 101.0)


def test_it_does_not_matter_where_the_clock_starts() -> None:
    early, late = DemandForecast(), DemandForecast()
    for second, amount in enumerate(bursty(500, 3)):
        early.add(amount, second + 0.5)
        late.add(amount, second + 0.5 + 2.0**31)
    assert early.bound(60.0, 500.0) == late.bound(60.0, 500.0 + 2.0**31)


def test_huge_amounts_and_huge_gaps_leave_it_sane() -> None:
    forecast = DemandForecast()
    for second in range(200):
        forecast.add(10**18, second + 0.5)
    assert forecast.bound(10.0, 200.0).expected == pytest.approx(10**19, rel=0.01)
    forecast.add(1, 1e12)
    for second in range(200):
        forecast.add(1, 1e12 + second)
    assert 0.0 < forecast.bound(10.0, 1e12 + 200).expected < 1000.0


def test_memory_stays_small_however_long_it_runs() -> None:
    def size(thing: object) -> int:
        total = sys.getsizeof(thing)
        for name in getattr(type(thing), "__slots__", ()):
            part = getattr(thing, name)
            total += size(part) if isinstance(part, Residuals) else sys.getsizeof(part)
            if isinstance(part, list):
                total += sum(map(sys.getsizeof, part))
        return total

    assert size(DemandForecast()) <= 6 * 1024
    assert size(steady(3 * RING)) <= 32 * 1024


def test_one_burst_after_silence_does_not_widen_the_bound_by_its_own_size() -> None:
    residuals = Residuals(10)
    for number in range(RING):
        residuals.promise(0, 1.0, 1.0, 2.0)
        residuals.settle(0, 1e9 if number % 3 == 0 else 1.0)
    assert residuals.quantile(0.01) <= 10.0


def test_what_was_never_seen_is_unlikely_and_the_more_so_the_larger() -> None:
    residuals = Residuals(10)
    for _ in range(RING):
        residuals.promise(0, 1.0, 1.0, 2.0)
        residuals.settle(0, 1.0)
    chances = [residuals.exceedance(error) for error in (-0.5, 0.0, 1.0, 10.0, 1000.0)]
    assert chances == sorted(chances, reverse=True)
    assert 0.0 < chances[-1] < chances[-2] / 50 < chances[1]
