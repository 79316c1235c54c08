"""Windows: when what was taken from an account stops counting against its limit.

Four kinds serve quota limits and budgets alike: `Total` never forgets, `Rolling` looks back a fixed time, `Calendar`
starts anew at UTC calendar borders, `Concurrent` counts only what is under way. Each is a function of time that numbers
stretches ("epochs") and says when they end; an account asks only when the current one has ended, so a hold costs no date
arithmetic. Implements `domain.ledger.accounts.Window`.

Laws: epochs never go back, even when the wall clock does. In a `Rolling` window, no stretch of `period_s` seconds ever
contains more than the limit: the oldest sub-bucket counts whole until its youngest entry is `period_s` old.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.models.quota_state import TimeWindow

__all__ = ["Calendar", "Concurrent", "Rolling", "Total", "calendar_end", "calendar_id"]

RECHECK_S = 60.0
"""A calendar window looks at the wall clock at least this often: the monotonic clock stands still while a machine
sleeps, and without this a daily budget of a laptop would end hours late."""

_EPOCH_WEEK_SHIFT_DAYS = 3  # 1970-01-01 was a Thursday: shifted by three days, whole weeks begin on Monday


class Total:
    """One window for ever."""

    __slots__ = ()
    charges = True
    buckets = 1

    def at(self, _now_s: float, /) -> tuple[int, float]:
        """Epoch 0, which never ends."""
        return 0, math.inf

    def leaves_at_s(self, _epoch: int, _now_s: float, /) -> float | None:
        """None: nothing ever leaves."""
        return None


class Concurrent(Total):
    """Counts what is held and nothing else: settling charges 0."""

    __slots__ = ()
    charges = False


class Rolling:
    """The last `period_s` seconds, in `sub_buckets` equal parts plus the running one.

    More parts forget more precisely: capacity comes back at most `period_s / sub_buckets` late.
    """

    __slots__ = ("_width_s", "buckets", "period_s")
    charges = True

    def __init__(self, period_s: float, sub_buckets: int = 12) -> None:
        if not period_s > 0 or not math.isfinite(period_s):
            raise ValueError(f"period_s must be a positive number of seconds, not {period_s!r}")
        if sub_buckets < 1:
            raise ValueError(f"sub_buckets must be at least 1, not {sub_buckets!r}")
        self.period_s = period_s
        self._width_s = period_s / sub_buckets
        self.buckets = sub_buckets + 1

    def at(self, now_s: float, /) -> tuple[int, float]:
        """The running sub-bucket's number, and when it ends."""
        epoch = math.floor(now_s / self._width_s)
        return epoch, (epoch + 1) * self._width_s

    def leaves_at_s(self, epoch: int, _now_s: float, /) -> float | None:
        """When the sub-bucket `epoch` stops counting: a full period after its own end."""
        return (epoch + self.buckets) * self._width_s


class Calendar:
    """Minute, hour, day, week (from Monday) or month by the UTC calendar.

    The wall clock decides which window runs; the monotonic clock only schedules the next look at it. Twice the limit
    may pass within a short time around a border: one limit before it, one after.
    """

    __slots__ = ("_clock", "period")
    charges = True
    buckets = 1

    def __init__(self, period: TimeWindow, clock: Clock) -> None:
        if period is TimeWindow.Total:
            raise ValueError("a calendar window needs a period; for one that never resets use Total()")
        self.period = period
        self._clock = clock

    def at(self, now_s: float, /) -> tuple[int, float]:
        """The running period's number since 1970, and when to look again (its end, or sooner)."""
        utc = self._clock.utc_now()
        left_s = (calendar_end(self.period, utc) - utc).total_seconds()
        return _calendar_number(self.period, utc), now_s + min(left_s, RECHECK_S)

    def leaves_at_s(self, _epoch: int, now_s: float, /) -> float | None:
        """The end of the running period, as monotonic seconds."""
        utc = self._clock.utc_now()
        return now_s + (calendar_end(self.period, utc) - utc).total_seconds()


def calendar_end(period: TimeWindow, utc: datetime) -> datetime:
    """The first instant after the period that `utc` lies in. Raises ValueError for Total, which has no end."""
    utc = utc.astimezone(UTC)
    minute = utc.replace(second=0, microsecond=0)
    if period is TimeWindow.Minute:
        return minute + timedelta(minutes=1)
    if period is TimeWindow.Hourly:
        return minute.replace(minute=0) + timedelta(hours=1)
    day = minute.replace(hour=0, minute=0)
    if period is TimeWindow.Daily:
        return day + timedelta(days=1)
    if period is TimeWindow.Weekly:
        return day + timedelta(days=7 - day.weekday())
    if period is TimeWindow.Monthly:
        return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    raise ValueError("Total has no end")


def calendar_id(period: TimeWindow, utc: datetime) -> str:
    """Names the period that `utc` lies in, alike in every process: "2026-11-21", "2026-W47", "2026-11", "total"."""
    utc = utc.astimezone(UTC)
    if period is TimeWindow.Minute:
        return utc.strftime("%Y-%m-%dT%H:%M")
    if period is TimeWindow.Hourly:
        return utc.strftime("%Y-%m-%dT%H")
    if period is TimeWindow.Daily:
        return utc.strftime("%Y-%m-%d")
    if period is TimeWindow.Weekly:
        year, week, _ = utc.isocalendar()
        return f"{year}-W{week:02d}"
    if period is TimeWindow.Monthly:
        return utc.strftime("%Y-%m")
    return "total"


def _calendar_number(period: TimeWindow, utc: datetime) -> int:
    if period is TimeWindow.Monthly:
        return utc.year * 12 + utc.month
    seconds = int(utc.timestamp())
    if period is TimeWindow.Minute:
        return seconds // 60
    if period is TimeWindow.Hourly:
        return seconds // 3600
    if period is TimeWindow.Daily:
        return seconds // 86400
    return (seconds // 86400 + _EPOCH_WEEK_SHIFT_DAYS) // 7
