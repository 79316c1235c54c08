"""When windows run dry, the states and alerts that follow, and the words for them."""

from __future__ import annotations

import pytest

from apikeyrouter.domain.models.quota_state import CapacityState
from apikeyrouter.domain.quota.capacity import Alert, CapacityTracker, duration_text, runs_dry_text
from apikeyrouter.domain.quota.exhaustion import SHADOW_PRICE_MOST, Exhaustion, Supply, exhaustion
from apikeyrouter.domain.quota.forecast import DemandForecast


@pytest.fixture(scope="module")
def demand() -> DemandForecast:
    """100 units a second for ten minutes."""
    forecast = DemandForecast()
    for second in range(600):
        forecast.add(90 + second % 21, second + 0.5)
    return forecast


def seen(chance_60s: float, headroom: float = 1000.0, chance_reset: float | None = None) -> Exhaustion:
    """A forecast with this chance of running dry within a minute."""
    return Exhaustion(headroom, 10.0, chance_60s / 2, chance_60s, chance_reset, None, None, None, 0.5, None)


# -- exhaustion ---------------------------------------------------------------------------------------------------


def test_time_to_exhaustion_is_headroom_over_demand_when_demand_is_steady(demand: DemandForecast) -> None:
    found = exhaustion(demand, Supply.fixed(3000, 300.0), 600.0)
    assert found.p10_s is not None
    assert found.p50_s is not None
    assert found.p90_s is not None
    assert found.p10_s <= found.p50_s <= found.p90_s
    assert found.p50_s == pytest.approx(30, abs=8)
    assert found.chance_10s < 0.01 < 0.99 < found.chance_60s
    assert found.chance_reset is not None
    assert found.chance_reset > 0.99
    assert found.shadow_price > 1.0
    assert found.demand_per_s == pytest.approx(100, rel=0.05)


def test_a_window_that_resets_first_lasts_and_costs_nothing(demand: DemandForecast) -> None:
    found = exhaustion(demand, Supply.fixed(3000, 10.0), 600.0)
    assert found.p50_s is None
    assert found.chance_60s == found.chance_reset == found.chance_10s < 0.01
    assert found.shadow_price == 0.0


def test_a_bucket_that_refills_faster_than_it_is_drained_lasts(demand: DemandForecast) -> None:
    found = exhaustion(demand, Supply.continuous(3000, 250.0), 600.0)
    assert (found.p10_s, found.p50_s, found.p90_s, found.chance_reset) == (None, None, None, None)
    assert found.shadow_price == 0.0


def test_a_bucket_that_refills_slower_runs_dry_at_the_difference(demand: DemandForecast) -> None:
    found = exhaustion(demand, Supply.continuous(3000, 50.0), 600.0)
    assert found.p50_s == pytest.approx(60, abs=15)


def test_what_an_earlier_look_said_of_times_beyond_a_minute_is_taken_over(demand: DemandForecast) -> None:
    earlier = exhaustion(demand, Supply.continuous(30_000, 50.0), 600.0)
    assert earlier.p10_s is not None
    assert earlier.p50_s is not None
    assert earlier.p10_s > 90.0
    supply = Supply.continuous(29_000, 50.0)
    found = exhaustion(demand, supply, 603.0, earlier=earlier, earlier_s=600.0)
    whole = exhaustion(demand, supply, 603.0)
    assert (found.p10_s, found.p50_s) == (earlier.p10_s - 3.0, earlier.p50_s - 3.0)
    assert (found.chance_10s, found.chance_60s, found.shadow_price) == (
        whole.chance_10s,
        whole.chance_60s,
        whole.shadow_price,
    )
    assert whole.p50_s == pytest.approx(found.p50_s, rel=0.1)


def test_an_earlier_look_counts_for_nothing_where_it_spoke_of_the_next_minute_or_the_window_resets(
    demand: DemandForecast,
) -> None:
    dry = exhaustion(demand, Supply.continuous(0, 50.0), 600.0)
    for supply in (Supply.continuous(30_000, 50.0), Supply.fixed(30_000, 3600.0)):
        assert exhaustion(demand, supply, 603.0, earlier=dry, earlier_s=600.0) == exhaustion(demand, supply, 603.0)
    lasts = exhaustion(demand, Supply.fixed(30_000, 10.0), 600.0)
    supply = Supply.fixed(30_000, 3600.0)
    assert exhaustion(demand, supply, 603.0, earlier=lasts, earlier_s=600.0).p50_s is not None


def test_a_rolling_window_gives_back_what_was_used_over_its_period() -> None:
    supply = Supply.rolling(headroom=100, limit=700, period_s=60.0)
    assert supply.within(0.0) == 100
    assert supply.within(30.0) == 400
    assert supply.within(60.0) == 700
    assert supply.within(120.0) == 1400


def test_a_day_that_will_not_last_is_seen_hours_ahead(demand: DemandForecast) -> None:
    found = exhaustion(demand, Supply.fixed(1_000_000, 8 * 3600.0), 600.0)
    assert found.chance_60s < 0.05
    assert found.chance_reset is not None
    assert found.chance_reset > 0.9
    assert found.p50_s == pytest.approx(10_000, rel=0.3)
    assert found.shadow_price == pytest.approx(2 * 2.88 - 1, rel=0.1)


def test_nothing_left_is_dry_now(demand: DemandForecast) -> None:
    found = exhaustion(demand, Supply.fixed(0, 40.0), 600.0)
    assert (found.chance_10s, found.chance_60s, found.chance_reset, found.p50_s) == (1.0, 1.0, 1.0, 0.0)
    assert found.shadow_price == SHADOW_PRICE_MOST


def test_no_demand_never_runs_dry() -> None:
    found = exhaustion(DemandForecast(), Supply.continuous(1, 0.0), 0.0)
    assert (found.chance_60s, found.p10_s, found.shadow_price) == (0.0, None, 0.0)


# -- capacity states ----------------------------------------------------------------------------------------------


def test_states_follow_the_chance_of_running_dry() -> None:
    for chance, state in (
        (0.04, CapacityState.Abundant),
        (0.05, CapacityState.Constrained),
        (0.49, CapacityState.Constrained),
        (0.5, CapacityState.Critical),
    ):
        assert CapacityTracker().update(seen(chance), 0.0) is state
    assert CapacityTracker().update(None, 0.0) is CapacityState.Unknown
    assert CapacityTracker().update(seen(1.0, headroom=0.0), 0.0) is CapacityState.Exhausted
    assert CapacityTracker().update(seen(0.0, headroom=50.0), 0.0, needed=51.0) is CapacityState.Exhausted
    assert CapacityTracker().update(seen(0.01, chance_reset=0.6), 0.0) is CapacityState.Constrained


def test_a_state_improves_only_at_half_the_chance_and_after_ten_seconds() -> None:
    tracker = CapacityTracker()
    tracker.update(seen(0.6), 0.0)
    assert tracker.update(seen(0.3), 60.0) is CapacityState.Critical  # above half of 0.5
    assert tracker.update(seen(0.2), 61.0) is CapacityState.Critical  # not for long enough
    assert tracker.update(seen(0.2), 70.9) is CapacityState.Critical
    assert tracker.update(seen(0.2), 71.0) is CapacityState.Constrained
    assert tracker.update(seen(0.9), 72.0) is CapacityState.Critical  # worse at once


def test_an_improvement_that_does_not_last_starts_anew() -> None:
    tracker = CapacityTracker()
    tracker.update(seen(0.6), 0.0)
    tracker.update(seen(0.1), 1.0)
    tracker.update(seen(0.4), 6.0)
    assert tracker.update(seen(0.1), 12.0) is CapacityState.Critical
    assert tracker.update(seen(0.1), 22.0) is CapacityState.Constrained


def test_an_exhausted_window_recovers_with_twice_what_a_request_needs() -> None:
    tracker = CapacityTracker()
    tracker.update(seen(1.0, headroom=5.0), 0.0, needed=10.0)
    assert tracker.update(seen(0.0, headroom=15.0), 1.0, needed=10.0) is CapacityState.Exhausted
    assert tracker.update(seen(0.0, headroom=20.0), 2.0, needed=10.0) is CapacityState.Recovering
    assert tracker.update(seen(0.0, headroom=999.0), 11.9, needed=10.0) is CapacityState.Recovering
    assert tracker.update(seen(0.0, headroom=999.0), 12.0, needed=10.0) is CapacityState.Abundant


def test_a_pool_around_its_limit_alarms_once_until_it_was_calm_for_five_minutes() -> None:
    tracker = CapacityTracker()
    alerts = []
    for second in range(1200):
        chance = 0.6 if second < 600 and second % 60 > 30 else 0.02
        tracker.update(seen(chance), float(second))
        if tracker.change is not None and tracker.change.alert is not None:
            alerts.append((tracker.change.alert, second))
    assert alerts == [(Alert.RunsDry, 31), (Alert.AllClear, 899)]
    assert not tracker.alerting


def test_the_alert_comes_before_the_window_is_dry_and_says_so_when_it_does_not(demand: DemandForecast) -> None:
    tracker = CapacityTracker()
    headroom, first = 20_000.0, None
    for second in range(210):
        tracker.update(exhaustion(demand, Supply.fixed(headroom, 3600.0), 600.0), float(second))
        headroom -= 100.0
        if tracker.change is not None and tracker.change.alert is not None:
            first = first or (tracker.change.alert, second)
    assert tracker.state is CapacityState.Exhausted
    assert first is not None
    assert first[0] is Alert.RunsDry
    assert first[1] <= 190
    unwarned = CapacityTracker()
    unwarned.update(seen(1.0, headroom=0.0), 0.0)
    assert unwarned.change is not None
    assert unwarned.change.alert is Alert.Dry


def test_nothing_changed_means_no_event() -> None:
    tracker = CapacityTracker()
    tracker.update(seen(0.0), 0.0)
    assert tracker.change is not None
    assert (tracker.change.before, tracker.change.after) == (CapacityState.Unknown, CapacityState.Abundant)
    tracker.update(seen(0.0), 1.0)
    assert tracker.change is None


# -- in words -----------------------------------------------------------------------------------------------------


def told(*times: float | None, reset_in_s: float | None = 660.0, headroom: float = 5.0) -> str:
    p10_s, p50_s, p90_s = times
    return runs_dry_text(Exhaustion(headroom, 1.0, 0.0, 0.0, None, p10_s, p50_s, p90_s, 0.0, reset_in_s))


def test_the_line_for_people() -> None:
    assert told(120.0, 240.0, 540.0) == "runs dry in 4 m (2-9 m), resets in 11 m"
    assert told(50.0, 240.0, 540.0, reset_in_s=None) == "runs dry in 4 m (50 s-9 m)"
    assert told(130.0, 240.0, None) == "runs dry in 4 m (2 m or later), resets in 11 m"
    assert told(240.0, 240.0, 241.0) == "runs dry in 4 m (4 m), resets in 11 m"
    assert told(130.0, None, None) == "may run dry from 2 m on, resets in 11 m"
    assert told(None, None, None) == "lasts, resets in 11 m"
    assert told(0.0, 0.0, 0.0, headroom=0.0) == "dry, resets in 11 m"
    assert runs_dry_text(None) == "limit unknown"


def test_durations_keep_two_units_of_the_smaller_kind() -> None:
    spans = (0.0, 119.0, 120.0, 7199.0, 7200.0, 172_800.0)
    assert [duration_text(span) for span in spans] == ["0 s", "119 s", "2 m", "120 m", "2 h", "2 d"]
