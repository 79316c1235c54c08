"""Windows of budgets: which stretch of time an amount counts in, named alike in every process on every host.

Main entry: `BudgetWindow.at`, a pure function of a UTC instant (Unix seconds): the window that runs, the oldest that
still counts, and when to ask again. A window is named by the Unix second at which it starts (0: a total). Calendar
windows follow the wall clocks of a time zone (`zoneinfo`); rolling ones are made of equal parts of the period.

Laws: windows tile time: each instant lies in exactly one, and one begins where the last ended, however clocks are set.
A calendar window begins at the first instant at which the local calendar has reached it, and never runs twice: a day
has 23, 24 or 25 hours, and one whose midnight is skipped begins when the clock comes back. Hours and minutes also end
when the clock is set, so a repeated hour is two windows and none is longer than its name says. In a rolling budget no
stretch of the period ever contains more than the limit: the oldest part counts whole until all of it is over.
"""

from __future__ import annotations

import contextlib
import difflib
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache, lru_cache
from zoneinfo import ZoneInfo, available_timezones

from apikeyrouter.domain.models.quota_state import TimeWindow

__all__ = ["BudgetWindow", "Span", "time_zone_named"]

ROLLING = {
    TimeWindow.Minute: (60, 12, "last minute"),
    TimeWindow.Hourly: (3600, 12, "last hour"),
    TimeWindow.Daily: (86400, 24, "last 24 hours"),
    TimeWindow.Weekly: (7 * 86400, 28, "last 7 days"),
    TimeWindow.Monthly: (30 * 86400, 30, "last 30 days"),
}
"""Period in seconds, its number of parts, and its name. With n parts, n + 1 count: spend comes back at most 1/n of the
period late, and a steady spender can use at least n/(n + 1) of the limit (92 % at 12, 97 % at 30). More parts would be
more rows to add up in the store at each lease. No part is shorter than 5 s: many leases (about 250 ms) fit in each. The
parts of days and longer are whole hours of UTC, as the rows of spend reports are."""

_CLOCK_STEP_S = {TimeWindow.Minute: 60, TimeWindow.Hourly: 3600}
_ONE_DAY = timedelta(days=1)
_MACHINE_DEPENDENT = {"localtime", "posixrules", "Factory"}  # names in zone directories that are no places


@dataclass(frozen=True, slots=True)
class Span:
    """A running window. `window`: Unix second at which it starts, its name. `oldest`: windows that start at or after
    this second count against the limit too (calendar: `window` itself). `ends_utc_s`: the next one begins then (inf:
    never)."""

    window: int
    oldest: int
    ends_utc_s: float


class BudgetWindow:
    """The windows of one kind of budget.

    `period`: its length. `rolling`: the last minute, hour, day, 7 or 30 days instead of a calendar's; a rolling budget
    has no use for its time zone. `time_zone`: whose clocks and calendars count ("Europe/Berlin"). Raises ValueError for
    a rolling total and for an unknown zone.
    """

    __slots__ = ("_zone", "period", "rolling", "time_zone")

    def __init__(self, period: TimeWindow, *, rolling: bool = False, time_zone: str = "UTC") -> None:
        if rolling and period is TimeWindow.Total:
            raise ValueError("a total budget never forgets: it cannot be rolling; choose a period, or rolling=False")
        self.period = period
        self.rolling = rolling
        self.time_zone = time_zone
        self._zone = time_zone_named(time_zone)

    def at(self, utc_s: float) -> Span:
        """The window that runs at `utc_s` (Unix seconds, the years 1 to 9998)."""
        if self.period is TimeWindow.Total:
            return Span(0, 0, math.inf)
        second = math.floor(utc_s)
        if self.rolling:
            period_s, parts, _ = ROLLING[self.period]
            width_s = period_s // parts
            start_s = second - second % width_s
            return Span(start_s, start_s - period_s, start_s + width_s)
        step_s = _CLOCK_STEP_S.get(self.period)
        start_s, end_s = (
            _span_of_days(self.period, self.time_zone, second) if step_s is None else self._by_clock(second, step_s)
        )
        return Span(start_s, start_s, end_s)

    def resets_at(self, utc_s: float) -> float | None:
        """When everything spent so far stops counting: the end of a calendar window; None for a total and for a rolling
        budget, which forgets bit by bit."""
        if self.rolling or self.period is TimeWindow.Total:
            return None
        return self.at(utc_s).ends_utc_s

    def label(self, window: int) -> str:
        """A window's name for people: "2026-11-21T13", "2026-11-21", "2026-W47", "2026-11", "total"; with the zone when
        that is not UTC ("2026-11-21 Europe/Berlin"). An hour that occurs twice says its offset ("T02+01:00"). All
        windows of a rolling budget are "last 24 hours"."""
        if self.period is TimeWindow.Total:
            return "total"
        if self.rolling:
            return ROLLING[self.period][2]
        local = datetime.fromtimestamp(window, self._zone)
        match self.period:
            case TimeWindow.Monthly:
                name = local.strftime("%Y-%m")
            case TimeWindow.Weekly:
                name = local.strftime("%G-W%V")
            case TimeWindow.Daily:
                name = local.strftime("%Y-%m-%d")
            case _:
                name = _clock_name(local, minutes=self.period is TimeWindow.Minute or local.minute != 0)
        return name if self.time_zone == "UTC" else f"{name} {self.time_zone}"

    def _by_clock(self, second: int, step_s: int) -> tuple[int, int]:
        """An hour or minute: between two whole ones of the wall clock, or where the clock is set."""
        offset_s = self._offset_s(second)
        start_s = second - (second + offset_s) % step_s
        end_s = start_s + step_s
        if self._offset_s(start_s) != offset_s:
            start_s = self._set_at(start_s, second)
        if self._offset_s(end_s - 1) != offset_s:
            end_s = self._set_at(second, end_s - 1)
        return start_s, end_s

    def by_date(self, second: int) -> tuple[int, int]:
        """A day, week or month: from when the local calendar first reaches its first day."""
        first = self._first_day(datetime.fromtimestamp(second, self._zone).date())
        following = self._next_first_day(first)
        end_s = self._reached(following)
        if second < end_s:
            return self._reached(first), end_s
        # the clock was set back over midnight: the calendar had reached the next window, which goes on
        return end_s, self._reached(self._next_first_day(following))

    def _first_day(self, day: date) -> date:
        if self.period is TimeWindow.Monthly:
            return day.replace(day=1)
        if self.period is TimeWindow.Weekly:
            return day - timedelta(days=day.weekday())
        return day

    def _next_first_day(self, first: date) -> date:
        if self.period is TimeWindow.Monthly:
            return (first + timedelta(days=31)).replace(day=1)
        return first + timedelta(days=7 if self.period is TimeWindow.Weekly else 1)

    def _reached(self, day: date) -> int:
        """The first instant at which the local date is `day` or later."""
        midnight = datetime.combine(day, time(), self._zone)
        first_s = math.floor(midnight.timestamp())  # the first of two midnights where it is repeated (fold 0)
        if datetime.fromtimestamp(first_s, self._zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
            return first_s
        # no such midnight: the leap is after what the clock behind it calls midnight, and not after first_s
        return self._set_at(math.floor(midnight.replace(fold=1).timestamp()), first_s)

    def _offset_s(self, second: int) -> int:
        offset = datetime.fromtimestamp(second, self._zone).utcoffset()
        return 0 if offset is None else offset.days * 86400 + offset.seconds

    def _set_at(self, before_s: int, after_s: int) -> int:
        """The first second in (before_s, after_s] at which the clock has been set."""
        offset_s = self._offset_s(before_s)
        while after_s - before_s > 1:
            middle_s = (before_s + after_s) // 2
            if self._offset_s(middle_s) == offset_s:
                before_s = middle_s
            else:
                after_s = middle_s
        return after_s

    def __repr__(self) -> str:
        return f"BudgetWindow({self.period.value!r}, rolling={self.rolling}, time_zone={self.time_zone!r})"


@lru_cache(maxsize=64)
def _span_of_days(period: TimeWindow, time_zone: str, second: int) -> tuple[int, int]:
    """Kept, since a list of a thousand budgets asks for few different ones, and each takes 55 us to work out."""
    return BudgetWindow(period, time_zone=time_zone).by_date(second)


def time_zone_named(name: str) -> tzinfo:
    """The zone of an IANA name ("Europe/Berlin", "UTC"). Raises ValueError that names near misses."""
    if name == "UTC":
        return UTC
    if name not in _MACHINE_DEPENDENT and not name.startswith(("posix/", "right/")):
        # unknown; no possible file name; a directory, as "America" is one
        with contextlib.suppress(KeyError, ValueError, OSError):
            return ZoneInfo(name)
    raise ValueError(f"unknown time zone {name[:60]!r}{_near_misses(name)}")


def _near_misses(name: str) -> str:
    wanted = name.strip().replace(" ", "_").casefold()
    found = [zone for zone in _zones() if zone.rpartition("/")[2].casefold() == wanted]
    by_folded = {zone.casefold(): zone for zone in _zones()}
    near = difflib.get_close_matches(wanted, by_folded, n=3, cutoff=0.7)
    names = list(dict.fromkeys([*found, *(by_folded[zone] for zone in near)]))[:3]
    if names:
        return f": did you mean {' or '.join(names)}?"
    return ': use an IANA name such as "Europe/Berlin" or "UTC"'


@cache
def _zones() -> tuple[str, ...]:
    """Every zone name of this machine, sorted: about 600, read from the zone files once."""
    return tuple(sorted(available_timezones() - _MACHINE_DEPENDENT))


def _clock_name(local: datetime, *, minutes: bool) -> str:
    name = local.strftime("%Y-%m-%dT%H:%M" if minutes else "%Y-%m-%dT%H")
    if local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset():
        offset = local.strftime("%z")  # this time of day occurs twice
        name += f"{offset[:3]}:{offset[3:5]}"
    return name
