"""Laws of the forecast of exhaustion that hold for any demand, any gaps and any supply."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apikeyrouter.domain.quota.exhaustion import SHADOW_PRICE_MOST, Supply, exhaustion
from apikeyrouter.domain.quota.forecast import MINUTE_S, DemandForecast

amounts = st.lists(
    st.tuples(st.integers(0, 10**12) | st.integers(0, 50), st.floats(0, 5) | st.floats(0, 1e5)), max_size=150
)
headrooms = st.floats(0, 1e15) | st.floats(0, 1000)


def after(steps: list[tuple[int, float]]) -> tuple[DemandForecast, float]:
    """A forecast that saw each amount, the given seconds apart, and then the same by the second for a while."""
    forecast, now_s = DemandForecast(), 0.0
    for amount, gap_s in steps:
        now_s += gap_s
        forecast.add(amount, now_s)
    for amount, _ in steps[: len(steps) // 2 * 2]:
        now_s += 1.0
        forecast.add(amount, now_s)
    return forecast, now_s + 1.0


@settings(max_examples=60, deadline=None)
@given(amounts, headrooms, headrooms, st.floats(0, 1e6), st.sampled_from(["continuous", "fixed", "rolling"]))
def test_chances_are_chances_ordered_in_time_and_fall_with_headroom(
    steps: list[tuple[int, float]], one: float, other: float, pace: float, kind: str
) -> None:
    forecast, now_s = after(steps)
    low, high = sorted((one, other))

    def found(headroom: float) -> Supply:
        if kind == "fixed":
            return Supply.fixed(headroom, pace)
        return Supply.continuous(headroom, pace) if kind == "continuous" else Supply.rolling(headroom, 1e15, 60.0)

    scarce, ample = exhaustion(forecast, found(low), now_s), exhaustion(forecast, found(high), now_s)
    for each in (scarce, ample):
        assert 0.0 <= each.chance_10s <= each.chance_60s <= 1.0
        assert each.chance_reset is None or each.chance_60s <= each.chance_reset <= 1.0
        times = [math.inf if at_s is None else at_s for at_s in (each.p10_s, each.p50_s, each.p90_s)]
        assert times == sorted(times)
        assert times[0] >= 0.0
        assert 0.0 <= each.shadow_price <= SHADOW_PRICE_MOST
    if kind != "rolling":  # there, less headroom means that more was used, which comes back
        assert ample.chance_10s <= scarce.chance_10s + 1e-9
        assert ample.chance_60s <= scarce.chance_60s + 1e-9
        assert ample.shadow_price <= scarce.shadow_price + 1e-9


@settings(max_examples=60, deadline=None)
@given(amounts, st.floats(0.5, 1e6), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_bounds_are_finite_not_negative_and_rise_with_their_level(
    steps: list[tuple[int, float]], horizon_s: float, one: float, other: float
) -> None:
    forecast, now_s = after(steps)
    low, high = (forecast.bound(horizon_s, now_s, level) for level in sorted((one, other)))
    assert 0.0 <= low.upper <= high.upper * (1 + 1e-9) < math.inf
    assert low.expected == high.expected >= 0.0


@settings(max_examples=60, deadline=None)
@given(amounts, st.floats(0.5, 1e6))
def test_a_bound_is_exceeded_with_about_the_chance_that_it_was_asked_for(
    steps: list[tuple[int, float]], horizon_s: float
) -> None:
    forecast, now_s = after(steps)
    bound = forecast.bound(horizon_s, now_s)
    if bound.upper > 0.0 and not 10.0 < horizon_s < 60.0:  # between the two rings it is a mixture
        assert forecast.exceedance(bound.upper * (1 + 1e-6), horizon_s, now_s) <= 0.05 + 1e-3


@settings(max_examples=100, deadline=None)
@given(
    amounts,
    st.integers(0, 150),
    st.lists(st.tuples(st.sampled_from([1.0, 10.0, 60.0, 3600.0]) | st.floats(0.01, 1e6), headrooms), max_size=20),
)
@example([(10**12, 0.0)], 0, [(60.0, 5e-324)])  # amount / expectation is too small for a float
def test_many_horizons_at_once_are_foreseen_as_each_is_alone(
    steps: list[tuple[int, float]], seconds: int, looks: list[tuple[float, float]]
) -> None:
    forecast, now_s = after(steps)
    for second in range(seconds):  # young, with one ring of errors, with both
        forecast.add(second % 7, now_s)
        now_s += 1.0
    looks.sort()
    alone = [forecast.exceedance(amount, horizon_s, now_s) for horizon_s, amount in looks]
    at_once = forecast.still_exceedances([look[0] for look in looks], [look[1] for look in looks])
    assert at_once == alone
    for supply in (Supply.continuous(5.0, 0.7), Supply.fixed(5.0, 9.0), Supply.rolling(5.0, 80.0, 60.0)):
        horizons_s = [look[0] for look in looks]
        assert supply.all_within(horizons_s) == [supply.within(horizon_s) for horizon_s in horizons_s]


@settings(max_examples=100, deadline=None)
@given(amounts, st.integers(60, 200), st.integers(1, 10**6), headrooms, st.floats(0, 1e6) | st.floats(0, 20))
@example([], 150, 1, 25.0, 1.0)
def test_the_next_minute_is_foreseen_as_each_of_its_horizons_is(
    steps: list[tuple[int, float]], seconds: int, size: int, headroom: float, pace: float
) -> None:
    forecast, now_s = after(steps)
    for second in range(seconds):
        forecast.add(second % 3 * size, now_s)
        now_s += 1.0
    forecast.rate_per_s(now_s)
    headroom += 1e-3
    exact = forecast.still_exceedances(MINUTE_S, Supply.continuous(headroom, pace).all_within(MINUTE_S))
    for least in (0.0, 0.1, 1.1):
        looked = forecast.still_minute(headroom, pace, least)
        if looked is not None:
            soon, minute, horizons_s, chances = looked
            assert soon == pytest.approx(max(exact[:6]))
            assert minute == pytest.approx(max(exact))
            if not horizons_s:
                assert minute < least
                assert not chances
            elif tuple(horizons_s) == MINUTE_S:
                assert chances == pytest.approx(exact)
            else:  # from 10 s on, where nothing sooner is worth telling
                assert tuple(horizons_s) == MINUTE_S[5:]
                assert chances[0] < least
                assert chances == pytest.approx([max(exact[:6]), *exact[6:]])


@settings(max_examples=60, deadline=None)
@given(amounts, headrooms, headrooms, st.floats(0, 1e6), st.floats(0, 5))
def test_an_earlier_look_changes_no_chance_and_no_order_of_times(
    steps: list[tuple[int, float]], before: float, now: float, pace: float, gone_s: float
) -> None:
    forecast, now_s = after(steps)
    earlier = exhaustion(forecast, Supply.continuous(before, pace), now_s)
    supply, later_s = Supply.continuous(now, pace), now_s + gone_s
    found = exhaustion(forecast, supply, later_s, earlier=earlier, earlier_s=now_s)
    whole = exhaustion(forecast, supply, later_s)
    for name in ("headroom", "demand_per_s", "chance_10s", "chance_60s", "chance_reset", "shadow_price"):
        assert getattr(found, name) == getattr(whole, name)
    times = [math.inf if at_s is None else at_s for at_s in (found.p10_s, found.p50_s, found.p90_s)]
    assert times == sorted(times)
    exact = [math.inf if at_s is None else at_s for at_s in (whole.p10_s, whole.p50_s, whole.p90_s)]
    assert [at_s for at_s in times if at_s <= 60.0] == [at_s for at_s in exact if at_s <= 60.0]


@pytest.mark.parametrize("days", [4.9, 5.0, 5.05, 5.1, 5.15, 5.2])
def test_days_of_silence_leave_nothing_to_divide_by(days: float) -> None:
    forecast, now_s = DemandForecast(), 0.0
    for second in range(120):
        forecast.add(second % 7, now_s)
        now_s += 1.0
    assert exhaustion(forecast, Supply.continuous(5.0, 0.1), now_s + days * 86_400.0).chance_60s == 0.0


@pytest.mark.parametrize("seen_s", [0, 120])
def test_hardly_anything_left_is_as_much_as_nothing(seen_s: int) -> None:
    forecast, now_s = DemandForecast(), 0.0
    for _ in range(seen_s + 1):
        forecast.add(10**9, now_s)
        now_s += 1.0
    assert exhaustion(forecast, Supply.continuous(5e-324, 0.0), now_s).chance_60s > 0.9
