"""What people write for amounts, periods, time zones and intervals, and what it means."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from apikeyrouter.domain.interfaces.shared_ledger import UsageRow
from apikeyrouter.domain.models.budget import TimeWindow
from apikeyrouter_proxy.budget_forms import dollars, limit, money, period, tag, time_zone
from apikeyrouter_proxy.spending import group_of, interval, report_rows, to_csv

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 21, 10, 37, 12, tzinfo=UTC)  # a Saturday


@pytest.mark.parametrize(
    ("text", "amount"),
    [("10", "10"), ("10.50", "10.50"), ("$10", "10"), ("US$ 10", "10"), ("10 USD", "10"), ("usd 0.000000001", "1E-9"),
     ("1,000,000.5", "1000000.5"), ("10 dollars", "10"), (0.1, "0.1"), (7, "7"), (Decimal(2), "2"), (" 3 ", "3")],
)  # fmt: skip
def test_amounts_are_understood_in_every_usual_spelling(text: object, amount: str) -> None:
    assert dollars(text) == Decimal(amount)


@pytest.mark.parametrize(
    ("text", "told"),
    [("10 EUR", "not in US dollars"), ("€10", "not in US dollars"), ("1,5", "two ways"), ("ten", "not an amount"),
     ("", "not an amount"), ("$", "not an amount"), ("1 000", "not an amount"), (True, "amount of US dollars"),
     ("NaN", "not an amount"), ("inf", "not an amount"), (None, "amount of US dollars"), ("1" * 60, "not an amount")],
)  # fmt: skip
def test_amounts_that_could_be_misread_are_refused(text: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        dollars(text)


@pytest.mark.parametrize("text", ["0", "-1", "$-5", "-$5", -0.5, Decimal("NaN"), Decimal("Infinity")])
def test_a_limit_is_above_zero(text: object) -> None:
    with pytest.raises(ValueError, match="above zero"):
        limit(text)


def test_money_is_shown_as_digits() -> None:
    shown = [money(Decimal(text)) for text in ("7.5E-6", "1E+3", "10.50", "0", "-0.10", "100")]
    assert shown == ["0.0000075", "1000", "10.5", "0", "-0.1", "100"]


def test_periods_have_many_names() -> None:
    named = {"day": "daily", "d": "daily", "Month": "monthly", "week": "weekly", "h": "hourly", "per day": "daily",
             "forever": "total", "monthly": "monthly", "minute": "minute"}  # fmt: skip
    assert {name: period(name).value for name in named} == named
    assert period(TimeWindow.Weekly) is TimeWindow.Weekly
    with pytest.raises(ValueError, match="did you mean daily"):
        period("dayly")
    with pytest.raises(ValueError, match="a month or a minute"):
        period("m")
    with pytest.raises(ValueError, match="hourly, daily, weekly, monthly or total"):
        period("eon")


def test_time_zones_are_found_in_any_case_and_suggested_when_mistyped() -> None:
    assert [time_zone(name) for name in ("europe/berlin", "UTC", "Z", "america/new york")] == [
        "Europe/Berlin", "UTC", "UTC", "America/New_York",
    ]  # fmt: skip
    for text, suggested in {
        "Berlin": "Europe/Berlin", "Europe/Berln": "Europe/Berlin", "PST": "America/Los_Angeles",
        "new york": "America/New_York", "Asia/Calcuta": "Asia/Calcutta",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=f"did you mean .*{suggested}"):
            time_zone(text)
    for text in ("Mars/Phobos", "", "../etc/passwd", "Europe"):
        with pytest.raises(ValueError, match="IANA"):
            time_zone(text)


def test_tags_are_pairs() -> None:
    assert tag(" feature = search ") == "feature=search"
    for text in ("feature", "=x", "x=", "a=\n"):
        with pytest.raises(ValueError, match="name=value"):
            tag(text)


# -- intervals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "start"),
    [("7d", "2026-11-14T11:00+01:00"), ("12h", "2026-11-20T23:00+01:00"), ("90m", "2026-11-21T10:00+01:00"),
     ("2 weeks ago", "2026-11-07T11:00+01:00"), ("today", "2026-11-21T00:00+01:00"),
     ("yesterday", "2026-11-20T00:00+01:00"), ("week", "2026-11-16T00:00+01:00"),
     ("this month", "2026-11-01T00:00+01:00"), ("2026-11-01", "2026-11-01T00:00+01:00"),
     ("2026-11-01T14:20", "2026-11-01T14:00+01:00"), ("2026-11-01T14:00Z", "2026-11-01T15:00+01:00")],
)  # fmt: skip
def test_intervals_begin_at_whole_hours_of_the_zone(since: str, start: str) -> None:
    found = interval(since, "now", NOW, BERLIN)
    assert found.since.isoformat(timespec="minutes") == start
    assert found.until.isoformat(timespec="minutes") == "2026-11-21T12:00+01:00"


def test_today_may_begin_before_a_change_of_clocks() -> None:
    noon = datetime(2026, 10, 25, 12, tzinfo=BERLIN)
    found = interval("today", "now", noon, BERLIN)
    assert (found.until - found.since).total_seconds() in (12 * 3600, 13 * 3600)
    assert found.since.astimezone(UTC) == datetime(2026, 10, 24, 22, tzinfo=UTC)
    assert found.until.astimezone(UTC) == datetime(2026, 10, 25, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "until"), [("now", "7d"), ("2027-01-01", "now"), ("soon", "now"), ("7d", "?"), ("-7d", "now"), ("", "")]
)
def test_intervals_that_make_no_sense_are_refused(since: str, until: str) -> None:
    with pytest.raises(ValueError, match=r"is no time|must be before"):
        interval(since, until, NOW, BERLIN)


def test_groups_have_many_spellings() -> None:
    assert [group_of(name) for name in ("Models", "virtual_key", "key_id", "tags", "days")] == [
        "model", "virtual-key", "key", "tag", "day",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="provider, key, model, virtual-key"):
        group_of("planet")


# -- reports --------------------------------------------------------------------------------------------------------


def used(hour: datetime, cost: int, tags: dict[str, str] | None = None, **more: str) -> UsageRow:
    return UsageRow(
        int(hour.timestamp()), more.get("provider_id", ""), more.get("key_id", ""), more.get("model", ""),
        tags=json.dumps(tags or {}), requests=1, input_tokens=10, cost_nano_usd=cost,
    )  # fmt: skip


def test_days_are_those_of_the_time_zone_and_come_in_order() -> None:
    rows = [
        used(datetime(2026, 11, 20, 22, tzinfo=UTC), 5),
        used(datetime(2026, 11, 20, 23, tzinfo=UTC), 9),
        used(datetime(2026, 11, 20, 1, tzinfo=UTC), 2),
    ]
    found, total = report_rows(rows, ["day"], BERLIN)
    assert [(values, sums.cost_nano_usd) for values, sums in found] == [(("2026-11-20",), 7), (("2026-11-21",), 9)]
    assert (total.cost_nano_usd, total.requests, total.input_tokens) == (16, 3, 30)
    in_utc, _ = report_rows(rows, ["day"], UTC)
    assert [sums.cost_nano_usd for _, sums in in_utc] == [16]


def test_the_hour_that_a_clock_shows_twice_is_two_hours() -> None:
    rows = [used(datetime(2026, 10, 25, hour, tzinfo=UTC), 1) for hour in (0, 1)]
    found, _ = report_rows(rows, ["hour"], BERLIN)
    assert [values[0] for values, _ in found] == ["2026-10-25T02:00+01:00", "2026-10-25T02:00+02:00"]


def test_a_request_with_two_tags_is_in_two_rows_and_once_in_the_sum() -> None:
    hour = datetime(2026, 11, 20, tzinfo=UTC)
    rows = [used(hour, 7, {"feature": "search", "env": "prod"}), used(hour, 1, {"feature": "chat"}), used(hour, 2)]
    found, total = report_rows(rows, ["tag"], UTC)
    assert {values[0]: sums.cost_nano_usd for values, sums in found} == {
        "feature=search": 7, "env=prod": 7, "feature=chat": 1, "(none)": 2,
    }  # fmt: skip
    assert total.cost_nano_usd == 10
    only, total = report_rows(rows, ["tag"], UTC, "feature=search")
    assert {values[0] for values, _ in only} == {"feature=search", "env=prod"}
    assert total.cost_nano_usd == 7


def test_rows_of_one_group_are_added_and_the_dearest_comes_first() -> None:
    hour = datetime(2026, 11, 20, tzinfo=UTC)
    rows = [used(hour, 1, model="a"), used(hour, 5, {"x": "y"}, model="b"), used(hour, 1, {"x": "z"}, model="b")]
    found, _ = report_rows(rows, ["model"], UTC)
    assert [(values, sums.cost_nano_usd, sums.requests) for values, sums in found] == [(("b",), 6, 2), (("a",), 1, 1)]


def test_csv_is_exact_and_runs_nothing_in_a_spreadsheet() -> None:
    hour = datetime(2026, 11, 20, tzinfo=UTC)
    rows = [used(hour, 7_500, model='=HYPERLINK("x","y")'), used(hour, 1, model="a,b")]
    found, _ = report_rows(rows, ["model"], UTC)
    text = to_csv(["model"], found)
    read = list(csv.DictReader(io.StringIO(text)))
    assert [(row["model"], row["cost_usd"]) for row in read] == [
        ("'=HYPERLINK(\"x\",\"y\")", "0.0000075"), ("a,b", "0.000000001"),
    ]  # fmt: skip
    assert text.count("\r\n") == 3
