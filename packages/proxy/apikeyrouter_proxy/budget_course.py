"""How a budget's spend came about in its running period, and where it ends if it goes on like that.

Main entries: `period_start`, `project` and `course`, pure functions. A projection is a straight line: what was spent
since the period (or the budget) began, per second, until the period ends. It knows nothing of nights and weekends, so
it says how long it has been looking (`based_on_s`).
Laws: a course begins at nothing and ends at what is spent now, to the nano-dollar, whatever lines of the ledger are
gone; it never has more than `POINTS_MAX` points.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from apikeyrouter.domain.interfaces.shared_ledger import LedgerEntry
from apikeyrouter.domain.models.budget import Budget
from apikeyrouter.domain.quota.budget_windows import ROLLING, BudgetWindow

__all__ = ["POINTS_MAX", "Projection", "counted", "course", "period_start", "project"]

POINTS_MAX = 200
"""About one for each four pixels of a chart."""

_FORESEEN_MAX_S = 10 * 365 * 86_400.0
"""Further ahead than ten years nothing is foreseen."""

_NANO = Decimal(10) ** -9


@dataclass(frozen=True, slots=True)
class Projection:
    """If spending goes on at the mean rate of the last `based_on_s` seconds.

    `at`: the end of the period; of a rolling budget that is younger than its period, when it is as old; None for a
    total, and for a rolling budget from then on, whose spend stays what it is. `spend_at_end`: US dollars by then; None
    for a total. `runs_out_at`: when the limit is reached, None if not before `at` or not in ten years; never for what
    is reached already. Amounts are US dollars.
    """

    at: datetime | None
    spend_at_end: Decimal | None
    runs_out_at: datetime | None
    based_on_s: float


def _oldest_s(budget: Budget, now: datetime) -> int:
    window = BudgetWindow(budget.period, rolling=budget.rolling, time_zone=budget.time_zone)
    return window.at(now.timestamp()).oldest


def period_start(budget: Budget, now: datetime) -> datetime:
    """From when on spend counts now: the calendar's period, or as long ago as a rolling budget remembers; a total's
    creation."""
    oldest_s = _oldest_s(budget, now)
    return datetime.fromtimestamp(oldest_s, UTC) if oldest_s else budget.created_at


def project(budget: Budget, now: datetime) -> Projection:
    """Where spend is at the end of the period, on a straight line. The more of the period is over, the surer."""
    start = max(period_start(budget, now), budget.created_at)
    seen_s = max(0.0, (now - start).total_seconds())
    end = budget.reset_at
    if budget.rolling:
        full = budget.created_at + timedelta(seconds=ROLLING[budget.period][0])
        end = full if full > now else None
    spent, left = budget.current_spend, budget.limit_amount - budget.current_spend
    if not seen_s or spent <= 0:
        return Projection(end, None if _endless(budget) else spent, None, seen_s)
    if end is None:
        if budget.rolling:
            return Projection(None, spent, None, seen_s)
        return Projection(None, None, _reached(now, left, spent, seen_s), seen_s)
    ahead_s = Decimal(str(max(0.0, (end - now).total_seconds())))
    at_end = (spent + spent * ahead_s / Decimal(str(seen_s))).quantize(_NANO)
    out = _reached(now, left, spent, seen_s)
    return Projection(end, at_end, out if out is not None and out < end else None, seen_s)


def _endless(budget: Budget) -> bool:
    return not budget.rolling and budget.reset_at is None


def _reached(now: datetime, left: Decimal, spent: Decimal, seen_s: float) -> datetime | None:
    if left <= 0:
        return None
    wait_s = float(left / spent) * seen_s
    return now + timedelta(seconds=wait_s) if wait_s < _FORESEEN_MAX_S else None


def counted(budget: Budget, entries: Iterable[LedgerEntry], now: datetime) -> list[tuple[float, int]]:
    """(Unix seconds, nano-dollars) of the lines that count in the running period, oldest first."""
    oldest_s = _oldest_s(budget, now)
    return sorted((entry.at_s, entry.amount) for entry in entries if entry.window >= oldest_s)


def course(
    spent: Sequence[tuple[float, int]],
    earlier: Sequence[tuple[float, int]],
    total: int,
    *,
    since_s: float,
    now_s: float,
) -> list[tuple[float, int]]:
    """(Unix seconds, nano-dollars spent by then), from (since, 0) to (now, total).

    `spent`: charges, oldest first, as far back as they are told one by one; `earlier`: what is known of the time before
    them, less exactly (hourly sums): its shape counts, not its sum. Without it, what the charges do not explain was
    spent just now and is not written yet.
    """
    rest = total - sum(amount for _, amount in spent)
    charges = list(spent)
    known = sum(amount for _, amount in earlier)
    if rest and known > 0:
        charges = [*_scaled(earlier, rest, known), *charges]
    elif rest:
        charges.append((now_s, rest))
    width_s = max(now_s - since_s, 1e-3) / (POINTS_MAX - 3)
    points = [(since_s, 0)]
    level, until_s = 0, since_s
    for charged_s, amount in charges:
        level += amount
        at_s = min(max(charged_s, since_s), now_s)
        if len(points) > 1 and at_s < until_s:
            points[-1] = (at_s, level)
        else:
            points.append((at_s, level))
            until_s = at_s + width_s
    points.append((now_s, total))
    return points


def _scaled(earlier: Sequence[tuple[float, int]], rest: int, known: int) -> list[tuple[float, int]]:
    """The shape of `earlier` with the sum `rest`; rounding ends up in the last one."""
    found = [(at_s, amount * rest // known) for at_s, amount in earlier]
    at_s, amount = found[-1]
    found[-1] = (at_s, amount + rest - sum(one for _, one in found))
    return found
