"""Where a budget's spend goes on a straight line, and how it came about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from apikeyrouter.domain.interfaces.shared_ledger import LedgerEntry
from apikeyrouter.domain.models.budget import Budget, BudgetScope, TimeWindow
from apikeyrouter_proxy.budget_course import POINTS_MAX, counted, course, period_start, project

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)


def budget(**given: Any) -> Budget:
    facts = {
        "id": "b", "scope": BudgetScope.Global, "limit_amount": Decimal(10), "current_spend": Decimal(4),
        "created_at": datetime(2026, 11, 1, tzinfo=UTC), "reset_at": MIDNIGHT,
    }  # fmt: skip
    return Budget(**{**facts, **given})


def test_a_day_half_over_ends_at_twice_its_spend() -> None:
    told = project(budget(), NOON)
    assert (told.at, told.spend_at_end, told.runs_out_at, told.based_on_s) == (MIDNIGHT, Decimal(8), None, 43_200.0)


def test_it_runs_out_when_the_line_meets_the_limit() -> None:
    told = project(budget(current_spend=Decimal(8)), NOON)
    assert told.spend_at_end == Decimal(16)
    assert told.runs_out_at == NOON + timedelta(hours=3)


def test_a_budget_made_at_noon_is_judged_from_noon_on() -> None:
    told = project(budget(created_at=NOON), NOON + timedelta(hours=1))
    assert (told.spend_at_end, told.based_on_s) == (Decimal(48), 3600.0)


@pytest.mark.parametrize("spent", [Decimal(10), Decimal(12)])
def test_what_is_reached_already_does_not_run_out_again(spent: Decimal) -> None:
    assert project(budget(current_spend=spent), NOON).runs_out_at is None


def test_nothing_spent_goes_on_as_nothing() -> None:
    told = project(budget(current_spend=Decimal(0)), NOON)
    assert (told.spend_at_end, told.runs_out_at) == (Decimal(0), None)


def test_a_total_has_no_end_and_is_foreseen_ten_years_at_most() -> None:
    facts = {"period": TimeWindow.Total, "reset_at": None, "created_at": NOON - timedelta(days=4)}
    told = project(budget(**facts), NOON)
    assert (told.at, told.spend_at_end, told.runs_out_at) == (None, None, NOON + timedelta(days=6))
    assert project(budget(**facts, limit_amount=Decimal(10_000)), NOON).runs_out_at is None


def test_a_rolling_budget_fills_until_it_is_as_old_as_its_period() -> None:
    young = project(budget(rolling=True, reset_at=None, created_at=NOON - timedelta(hours=6)), NOON)
    assert (young.at, young.spend_at_end) == (NOON + timedelta(hours=18), Decimal(16))
    assert young.runs_out_at == NOON + timedelta(hours=9)
    old = project(budget(rolling=True, reset_at=None), NOON)
    assert (old.at, old.spend_at_end, old.runs_out_at) == (None, Decimal(4), None)


def test_periods_begin_where_the_calendar_of_their_zone_says() -> None:
    assert period_start(budget(time_zone="Asia/Tokyo"), NOON) == datetime(2026, 11, 20, 15, tzinfo=UTC)
    assert period_start(budget(period=TimeWindow.Total), NOON) == datetime(2026, 11, 1, tzinfo=UTC)
    assert period_start(budget(rolling=True), NOON) == NOON - timedelta(days=1)


def test_lines_of_other_periods_do_not_count() -> None:
    today = int(datetime(2026, 11, 21, tzinfo=UTC).timestamp())
    lines = [LedgerEntry(at, "b", window, "w", "spent", 5) for at, window in ((9.0, today), (8.0, today - 86_400))]
    assert counted(budget(), lines, NOON) == [(9.0, 5)]


def test_a_course_has_every_charge_and_ends_at_what_is_spent() -> None:
    assert course([(10.0, 3), (60.0, 4)], [], 7, since_s=0.0, now_s=100.0) == [
        (0.0, 0),
        (10.0, 3),
        (60.0, 7),
        (100.0, 7),
    ]
    assert course([(10.0, 3)], [], 5, since_s=0.0, now_s=100.0)[-2:] == [(100.0, 5), (100.0, 5)]


def test_what_the_ledger_has_folded_takes_the_shape_of_the_hours() -> None:
    points = course([(90.0, 1)], [(20.0, 100), (40.0, 300)], 11, since_s=0.0, now_s=100.0)
    assert points == [(0.0, 0), (20.0, 2), (40.0, 10), (90.0, 11), (100.0, 11)]


def test_many_charges_are_few_points() -> None:
    points = course([(n / 10, 1) for n in range(10_000)], [], 10_000, since_s=0.0, now_s=1_000.0)
    assert 150 < len(points) <= POINTS_MAX
    assert points[-1] == (1_000.0, 10_000)
    assert points == sorted(points)
