"""Windows: when what was taken from an account stops counting against its limit.

Five kinds serve quota limits and budgets alike: `Total` never forgets, `Rolling` looks back a fixed time, `Calendar`
starts anew at UTC calendar borders, `Anchored` at an end that somebody told, `Concurrent` counts only what is under
way. Each is a function of time that numbers stretches ("epochs") and says when they end; an account asks only when the
current one has ended, so a hold costs no date arithmetic. Implements `domain.ledger.accounts.Window`.

Laws: epochs never go back, even when the wall clock does. In a `Rolling` window, no stretch of `period_s` seconds ever
contains more than the limit: the oldest sub-bucket counts whole until its youngest entry is `period_s` old.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.models.quota_state import TimeWindow

__all__ = ["Anchored", "Calendar", "Concurrent", "Rolling", "Total", "calendar_id", "calendar_number", "calendar_start"]

RECHECK_S = 60.0
"""A calendar window looks at the wall clock at least this often: the monotonic clock stands still while a machine
sleeps, and without this a daily budget of a laptop would end hours late."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIXED_LENGTH_S = {TimeWindow.Minute: 60, TimeWindow.Hourly: 3600, TimeWindow.Daily: 86400}
_ID_FORMAT = {
    TimeWindow.Minute: "%Y-%m-%dT%H:%M",
    TimeWindow.Hourly: "%Y-%m-%dT%H",
    TimeWindow.Daily: "%Y-%m-%d",
    TimeWindow.Weekly: "%G-W%V",
    TimeWindow.Monthly: "%Y-%m",
}
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


class Anchored:
    """Windows of `period_s`, one of which ends at the monotonic time `ends_at_s`.

    `anchor` moves that end, as providers tell it anew with every reply; it never reopens a window that has ended.
    """

    __slots__ = ("_ends_at_s", "_epoch", "period_s")
    charges = True
    buckets = 1

    def __init__(self, period_s: float, ends_at_s: float) -> None:
        if not period_s > 0 or not math.isfinite(period_s):
            raise ValueError(f"period_s must be a positive number of seconds, not {period_s!r}")
        self.period_s = period_s
        self._ends_at_s = ends_at_s
        self._epoch = 0

    def at(self, now_s: float, /) -> tuple[int, float]:
        """The running window's number, and when it ends."""
        if now_s >= self._ends_at_s:
            over = math.floor((now_s - self._ends_at_s) / self.period_s) + 1
            self._epoch += over
            self._ends_at_s += over * self.period_s
        return self._epoch, self._ends_at_s

    def anchor(self, ends_at_s: float) -> None:
        """The running window ends then."""
        self._ends_at_s = ends_at_s

    def leaves_at_s(self, epoch: int, _now_s: float, /) -> float | None:
        """The end of the window `epoch`."""
        return self._ends_at_s + (epoch - self._epoch) * self.period_s


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
        """The running period's number (`calendar_number`), and when to look again: at its end, or sooner."""
        utc = self._clock.utc_now()
        number = calendar_number(self.period, utc)
        left_s = (calendar_start(self.period, number + 1) - utc).total_seconds()
        return number, now_s + min(left_s, RECHECK_S)

    def leaves_at_s(self, epoch: int, now_s: float, /) -> float | None:
        """The end of the period `epoch`, as monotonic seconds."""
        utc = self._clock.utc_now()
        return now_s + (calendar_start(self.period, epoch + 1) - utc).total_seconds()


def calendar_number(period: TimeWindow, utc: datetime) -> int:
    """Which period `utc` lies in, counted from 1970 (months: from year 0); 0 for Total."""
    if period is TimeWindow.Total:
        return 0
    if period is TimeWindow.Monthly:
        utc = utc.astimezone(UTC)
        return utc.year * 12 + utc.month - 1
    seconds = int(utc.timestamp())
    if period is TimeWindow.Weekly:
        return (seconds // 86400 + _EPOCH_WEEK_SHIFT_DAYS) // 7
    return seconds // _FIXED_LENGTH_S[period]


def calendar_start(period: TimeWindow, number: int) -> datetime:
    """The first instant of a period. Raises ValueError for Total, which has none."""
    if period is TimeWindow.Total:
        raise ValueError("a total has no start and no end")
    if period is TimeWindow.Monthly:
        return datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)
    if period is TimeWindow.Weekly:
        return _EPOCH + timedelta(days=7 * number - _EPOCH_WEEK_SHIFT_DAYS)
    return _EPOCH + timedelta(seconds=number * _FIXED_LENGTH_S[period])


def calendar_id(period: TimeWindow, number: int) -> str:
    """Names a period, alike in every process: "2026-11-21T13:05", "2026-11-21", "2026-W47", "2026-11", "total"."""
    if period is TimeWindow.Total:
        return "total"
    return calendar_start(period, number).strftime(_ID_FORMAT[period])
