"""Windows of budgets over all time zones and the years 2000 to 2045: they tile time, and a slow count agrees.

The slow count knows nothing of folds and gaps: it reads a local clock minute by minute (clocks are set at whole minutes
in these years) and applies the definitions.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apikeyrouter.domain.models.quota_state import TimeWindow
from apikeyrouter.domain.quota.budget_windows import BudgetWindow, Span

ZONES = sorted(available_timezones() - {"localtime", "posixrules", "Factory"})
FROM_S = int(datetime(2000, 1, 10, tzinfo=UTC).timestamp())
UNTIL_S = int(datetime(2045, 12, 1, tzinfo=UTC).timestamp())
BY_DATE = [TimeWindow.Daily, TimeWindow.Weekly, TimeWindow.Monthly]
LONGEST_S = {
    TimeWindow.Minute: 60,
    TimeWindow.Hourly: 3600,
    TimeWindow.Daily: 27 * 3600,
    TimeWindow.Weekly: (7 * 24 + 3) * 3600,
    TimeWindow.Monthly: (31 * 24 + 3) * 3600,
}
MINUTE_S = 60
WEEK_S = 7 * 86400


@cache
def changes(zone: str) -> tuple[int, ...]:
    """Seconds at which the clocks of a zone were set, found by looking once a week, then halving."""
    found = []
    for week_s in range(FROM_S, UNTIL_S, WEEK_S):
        low_s, high_s = week_s, week_s + WEEK_S
        if offset(zone, low_s) == offset(zone, high_s):
            continue
        while high_s - low_s > 1:
            middle_s = (low_s + high_s) // 2
            low_s, high_s = (middle_s, high_s) if offset(zone, middle_s) == offset(zone, low_s) else (low_s, middle_s)
        found.append(high_s)
    return tuple(found) or (FROM_S,)


def local(zone: str, second: float) -> datetime:
    return datetime.fromtimestamp(second, ZoneInfo(zone))


def offset(zone: str, second: float) -> timedelta | None:
    return local(zone, second).utcoffset()


@st.composite
def instants(draw: st.DrawFn) -> tuple[str, float]:
    """A zone and an instant, which half of the time is near a change of its clocks."""
    zone = draw(st.sampled_from(ZONES))
    if draw(st.booleans()):
        changed_s = draw(st.sampled_from(changes(zone)))
        return zone, changed_s + draw(st.integers(-200, 200)) * 900 + draw(st.floats(0, 60))
    return zone, draw(st.floats(FROM_S, UNTIL_S))


def first_day(period: TimeWindow, day: date) -> date:
    if period is TimeWindow.Weekly:
        return day - timedelta(days=day.isoweekday() - 1)
    return date(day.year, day.month, 1) if period is TimeWindow.Monthly else day


def slow_start_by_date(zone: str, period: TimeWindow, second: float) -> int:
    """When the calendar first reached the running day, week or month, by reading it at every minute."""
    minute_s = int(second // MINUTE_S) * MINUTE_S
    reached = max(local(zone, s).date() for s in range(minute_s - 26 * 3600, minute_s + 1, MINUTE_S))
    first = first_day(period, reached)
    there_s = int(datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp())
    for s in range(there_s - 26 * 3600, there_s + 50 * 3600, MINUTE_S):
        if local(zone, s).date() >= first:
            return s
    raise AssertionError("never reached")


def slow_start_by_clock(zone: str, period: TimeWindow, second: float) -> int:
    """How far back the clock shows the same hour (or minute) and was not set."""
    fields = slice(0, 4) if period is TimeWindow.Hourly else slice(0, 5)
    whole_s = int(second // 1)
    shown = local(zone, whole_s)
    start_s = whole_s
    while (
        local(zone, start_s - 1).timetuple()[fields] == shown.timetuple()[fields]
        and offset(zone, start_s - 1) == shown.utcoffset()
    ):
        start_s -= 1
    return start_s


@settings(max_examples=300, deadline=None)
@given(instants(), st.sampled_from(list(LONGEST_S)), st.booleans())
def test_spans_tile_time(instant: tuple[str, float], period: TimeWindow, rolling: bool) -> None:
    zone, second = instant
    window = BudgetWindow(period, rolling=rolling, time_zone=zone)
    span = window.at(second)
    assert span.window <= second < span.ends_utc_s
    assert span.ends_utc_s - span.window <= LONGEST_S[period]
    assert window.at(span.window) == span == window.at(span.ends_utc_s - 0.001)
    assert window.at(span.ends_utc_s).window == span.ends_utc_s
    assert window.at(span.window - 0.001).ends_utc_s == span.window
    assert rolling or (span.oldest == span.window and window.resets_at(second) == span.ends_utc_s)


@settings(max_examples=120, deadline=None)
@given(instants(), st.sampled_from(BY_DATE))
def test_days_weeks_and_months_start_where_a_slow_count_says(instant: tuple[str, float], period: TimeWindow) -> None:
    zone, second = instant
    assert BudgetWindow(period, time_zone=zone).at(second).window == slow_start_by_date(zone, period, second)


@settings(max_examples=60, deadline=None)
@given(instants(), st.sampled_from([TimeWindow.Hourly, TimeWindow.Minute]))
def test_hours_and_minutes_start_where_a_slow_count_says(instant: tuple[str, float], period: TimeWindow) -> None:
    zone, second = instant
    assert BudgetWindow(period, time_zone=zone).at(second).window == slow_start_by_clock(zone, period, second)


@settings(max_examples=200, deadline=None)
@given(instants(), st.sampled_from([TimeWindow.Minute, TimeWindow.Hourly, *BY_DATE]))
def test_neighbours_never_share_a_label(instant: tuple[str, float], period: TimeWindow) -> None:
    zone, second = instant
    window = BudgetWindow(period, time_zone=zone)
    here = window.at(second)
    after: Span = window.at(here.ends_utc_s)
    assert window.label(here.window) != window.label(after.window)
    assert window.label(here.window).endswith(zone if zone != "UTC" else "")


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(list(LONGEST_S)),
    st.floats(FROM_S, UNTIL_S),
    st.floats(0, 1, exclude_max=True),
)
def test_a_rolling_budget_counts_all_that_is_younger_than_its_period(
    period: TimeWindow, now_s: float, age_ratio: float
) -> None:
    window = BudgetWindow(period, rolling=True)
    period_s = {TimeWindow.Minute: 60, TimeWindow.Hourly: 3600, TimeWindow.Daily: 86400, TimeWindow.Weekly: 604800}
    length_s = period_s.get(period, 2592000)
    span = window.at(now_s)
    assert window.at(now_s - age_ratio * length_s).window >= span.oldest
    part_s = span.ends_utc_s - span.window
    assert span.oldest + part_s + length_s > now_s, "a part that is wholly older than the period counts no more"
    assert window.at(span.oldest).window == span.oldest


def test_odd_clock_changes_are_among_the_instants() -> None:
    if "America/St_Johns" not in ZONES:
        pytest.fail("the time zones are missing")
    assert len(changes("America/St_Johns")) == 92
    assert all(second % MINUTE_S == 0 for second in changes("America/St_Johns"))
    assert len(ZONES) > 400
