"""Windows of budgets on days that are known to be odd, their names, and what is refused."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from apikeyrouter.domain.models.quota_state import TimeWindow
from apikeyrouter.domain.quota.budget_windows import BudgetWindow, Span, time_zone_named

MINUTE, HOURLY, DAILY, WEEKLY, MONTHLY = [period for period in TimeWindow if period is not TimeWindow.Total]


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def spans(window: BudgetWindow, first: str, until: str) -> list[tuple[str, float]]:
    """(label, length in hours) of every window from the one at `first` to the one at `until`."""
    found = []
    span = window.at(utc(first))
    while span.window <= utc(until):
        found.append((window.label(span.window).split()[0], (span.ends_utc_s - span.window) / 3600))
        span = window.at(span.ends_utc_s)
    return found


def test_utc_windows_start_at_calendar_borders() -> None:
    now = utc("2026-11-21T13:05:30") + 0.25
    borders = {
        MINUTE: ("2026-11-21T13:05", "2026-11-21T13:06", "2026-11-21T13:05"),
        HOURLY: ("2026-11-21T13:00", "2026-11-21T14:00", "2026-11-21T13"),
        DAILY: ("2026-11-21", "2026-11-22", "2026-11-21"),
        WEEKLY: ("2026-11-16", "2026-11-23", "2026-W47"),
        MONTHLY: ("2026-11-01", "2026-12-01", "2026-11"),
    }
    for period, (start, end, label) in borders.items():
        window = BudgetWindow(period)
        assert window.at(now) == Span(utc(start), utc(start), utc(end))
        assert window.resets_at(now) == utc(end)
        assert window.label(utc(start)) == label


def test_a_total_is_one_window_that_never_ends() -> None:
    window = BudgetWindow(TimeWindow.Total, time_zone="Asia/Kolkata")
    assert window.at(1.0) == window.at(utc("2038-01-20")) == Span(0, 0, math.inf)
    assert window.resets_at(1.0) is None
    assert window.label(0) == "total"


def test_weeks_begin_on_monday_and_belong_to_the_iso_year() -> None:
    assert spans(BudgetWindow(WEEKLY), "2026-12-27", "2027-01-10") == [
        ("2026-W52", 168),
        ("2026-W53", 168),
        ("2027-W01", 168),
    ]


@pytest.mark.parametrize(
    ("first", "days"), [("2028-02-01", 29), ("2100-02-01", 28), ("2027-02-28", 28), ("2038-12-31", 31)]
)
def test_months_end_where_the_calendar_says(first: str, days: int) -> None:
    assert spans(BudgetWindow(MONTHLY), first, first) == [(first[:7], days * 24)]


def test_time_does_not_end_in_2038() -> None:
    window = BudgetWindow(DAILY, time_zone="America/New_York")
    assert spans(window, "2040-03-10T12:00", "2040-03-13") == [
        ("2040-03-10", 24),
        ("2040-03-11", 23),
        ("2040-03-12", 24),
    ]


def test_berlin_days_have_23_and_25_hours() -> None:
    window = BudgetWindow(DAILY, time_zone="Europe/Berlin")
    assert spans(window, "2026-03-28T12:00", "2026-03-30") == [
        ("2026-03-28", 24),
        ("2026-03-29", 23),
        ("2026-03-30", 24),
    ]
    assert spans(window, "2026-10-24T12:00", "2026-10-26") == [
        ("2026-10-24", 24),
        ("2026-10-25", 25),
        ("2026-10-26", 24),
    ]
    assert window.at(utc("2026-11-21T22:59:59")).window == utc("2026-11-20T23:00")
    assert window.at(utc("2026-11-21T23:00:00")).window == utc("2026-11-21T23:00")
    assert window.label(utc("2026-11-21T23:00")) == "2026-11-22 Europe/Berlin"


def test_berlin_month_and_week_with_a_change_are_an_hour_off() -> None:
    assert spans(BudgetWindow(MONTHLY, time_zone="Europe/Berlin"), "2026-03-15", "2026-03-15") == [("2026-03", 743)]
    assert spans(BudgetWindow(WEEKLY, time_zone="Europe/Berlin"), "2026-10-25", "2026-10-25") == [("2026-W43", 169)]


def test_a_repeated_hour_is_two_windows_and_a_skipped_one_is_none() -> None:
    window = BudgetWindow(HOURLY, time_zone="Europe/Berlin")
    assert spans(window, "2026-10-24T23:30", "2026-10-25T02:00") == [
        ("2026-10-25T01", 1),
        ("2026-10-25T02+02:00", 1),
        ("2026-10-25T02+01:00", 1),
        ("2026-10-25T03", 1),
    ]
    assert spans(window, "2026-03-29T00:30", "2026-03-29T01:00") == [("2026-03-29T01", 1), ("2026-03-29T03", 1)]


def test_new_york_repeats_the_hour_after_one() -> None:
    window = BudgetWindow(HOURLY, time_zone="America/New_York")
    assert spans(window, "2026-11-01T05:00", "2026-11-01T06:59") == [
        ("2026-11-01T01-04:00", 1),
        ("2026-11-01T01-05:00", 1),
    ]
    minutes = BudgetWindow(MINUTE, time_zone="America/New_York")
    assert minutes.label(utc("2026-11-01T05:59")) == "2026-11-01T01:59-04:00 America/New_York"


def test_a_day_without_midnight_begins_when_the_clock_comes_back() -> None:
    # Sao Paulo went from 00:00 to 01:00 in spring, and from 24:00 back to 23:00 in autumn
    window = BudgetWindow(DAILY, time_zone="America/Sao_Paulo")
    assert window.at(utc("2018-11-04T12:00")).window == utc("2018-11-04T03:00")
    assert spans(window, "2018-11-03T12:00", "2018-11-05T12:00") == [
        ("2018-11-03", 24),
        ("2018-11-04", 23),
        ("2018-11-05", 24),
    ]
    assert spans(window, "2018-02-17T12:00", "2018-02-18T12:00") == [("2018-02-17", 25), ("2018-02-18", 24)]


def test_cairo_skips_one_midnight_and_has_an_hour_before_another_twice() -> None:
    window = BudgetWindow(DAILY, time_zone="Africa/Cairo")
    assert spans(window, "2026-04-23T12:00", "2026-04-24T12:00") == [("2026-04-23", 24), ("2026-04-24", 23)]
    assert spans(window, "2026-10-29T12:00", "2026-10-30T12:00") == [("2026-10-29", 25), ("2026-10-30", 24)]
    assert spans(BudgetWindow(HOURLY, time_zone="Africa/Cairo"), "2026-10-29T20:00", "2026-10-29T22:00") == [
        ("2026-10-29T23+03:00", 1),
        ("2026-10-29T23+02:00", 1),
        ("2026-10-30T00", 1),
    ]


def test_a_clock_that_is_set_back_over_midnight_does_not_reopen_the_day() -> None:
    # St. John's went from 00:01 on Sunday back to 23:01 on Saturday: Sunday has begun, and goes on
    window = BudgetWindow(DAILY, time_zone="America/St_Johns")
    assert spans(window, "2010-11-06T12:00", "2010-11-08T12:00") == [
        ("2010-11-06", 24),
        ("2010-11-07", 25),
        ("2010-11-08", 24),
    ]
    sunday = window.at(utc("2010-11-07T02:30"))
    assert sunday.window == utc("2010-11-07T02:30") < utc("2010-11-07T03:00") < sunday.ends_utc_s
    assert window.at(utc("2010-11-07T03:00")) == sunday


def test_offsets_of_half_and_quarter_hours_have_their_own_hours() -> None:
    now = utc("2026-11-21T13:50")
    kolkata, kathmandu = (BudgetWindow(HOURLY, time_zone=f"Asia/{city}") for city in ("Kolkata", "Kathmandu"))
    assert kolkata.at(now) == Span(utc("2026-11-21T13:30"), utc("2026-11-21T13:30"), utc("2026-11-21T14:30"))
    assert kolkata.label(utc("2026-11-21T13:30")) == "2026-11-21T19 Asia/Kolkata"
    assert kathmandu.at(now).window == utc("2026-11-21T13:15")
    assert BudgetWindow(DAILY, time_zone="Asia/Kolkata").at(now).window == utc("2026-11-20T18:30")


def test_lord_howe_sets_its_clocks_by_half_an_hour() -> None:
    hours = BudgetWindow(HOURLY, time_zone="Australia/Lord_Howe")
    assert spans(hours, "2026-04-04T14:00", "2026-04-04T15:30") == [
        ("2026-04-05T01", 1),
        ("2026-04-05T01:30+10:30", 0.5),
        ("2026-04-05T02", 1),
    ]
    assert spans(hours, "2026-10-03T15:00", "2026-10-03T16:00") == [
        ("2026-10-04T01", 1),
        ("2026-10-04T02:30", 0.5),
        ("2026-10-04T03", 1),
    ]
    days = BudgetWindow(DAILY, time_zone="Australia/Lord_Howe")
    assert spans(days, "2026-04-04T20:00", "2026-04-04T20:00") == [("2026-04-05", 24.5)]
    assert spans(days, "2026-10-03T20:00", "2026-10-03T20:00") == [("2026-10-04", 23.5)]


def test_apia_never_had_the_30th_of_december_2011() -> None:
    days = BudgetWindow(DAILY, time_zone="Pacific/Apia")
    assert spans(days, "2011-12-29T12:00", "2011-12-31T12:00") == [
        ("2011-12-29", 24),
        ("2011-12-31", 24),
        ("2012-01-01", 24),
    ]
    assert spans(BudgetWindow(WEEKLY, time_zone="Pacific/Apia"), "2011-12-28", "2011-12-28") == [("2011-W52", 144)]
    months = BudgetWindow(MONTHLY, time_zone="Pacific/Apia")
    assert spans(months, "2011-12-28", "2011-12-28") == [("2011-12", 30 * 24)]


@pytest.mark.parametrize(
    ("period", "part_s", "parts", "label"),
    [
        (MINUTE, 5, 12, "last minute"),
        (HOURLY, 300, 12, "last hour"),
        (DAILY, 3600, 24, "last 24 hours"),
        (WEEKLY, 21600, 28, "last 7 days"),
        (MONTHLY, 86400, 30, "last 30 days"),
    ],
)
def test_rolling_budgets_count_whole_parts_of_the_last_period(
    period: TimeWindow, part_s: int, parts: int, label: str
) -> None:
    window = BudgetWindow(period, rolling=True, time_zone="Europe/Berlin")
    now = utc("2026-11-21T13:05:30") + 0.5
    span = window.at(now)
    assert span.window % part_s == 0
    assert span.window <= now < span.ends_utc_s == span.window + part_s
    assert span.oldest == span.window - part_s * parts
    assert window.label(span.window) == label
    assert window.resets_at(now) is None


def test_a_rolling_total_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be rolling"):
        BudgetWindow(TimeWindow.Total, rolling=True)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("Europe/Berln", "did you mean Europe/Berlin or"),
        ("europe/berlin", "did you mean Europe/Berlin or"),
        ("berlin", r"did you mean Europe/Berlin\?"),
        ("New York", r"did you mean America/New_York\?"),
        ("America", "did you mean America/"),
        ("Mars/Olympus", "use an IANA name"),
        ("", "use an IANA name"),
        ("../../etc/passwd", "use an IANA name"),
        ("/etc/localtime", "did you mean|use an IANA name"),
        ("nul\0", "use an IANA name"),
        ("localtime", "use an IANA name"),
        ("right/Europe/Berlin", "did you mean Europe/Berlin"),
        ("x" * 5000, "use an IANA name"),
    ],
)
def test_unknown_zones_are_refused_with_near_misses(name: str, advice: str) -> None:
    with pytest.raises(ValueError, match=advice) as refused:
        BudgetWindow(DAILY, time_zone=name)
    assert str(refused.value).startswith("unknown time zone ")
    assert len(str(refused.value)) < 250


def test_zones_are_found_by_their_names() -> None:
    assert time_zone_named("UTC") is UTC
    assert str(time_zone_named("Asia/Kolkata")) == "Asia/Kolkata"
