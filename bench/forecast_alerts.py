"""Does the alert come before a window runs dry? One pool at a time meets a whole trace at several loads.

Entry: `alert_rows(traces)`, called by `bench.forecast`. A request that does not fit is a would-be refusal: it is
dropped and the forecast never hears of it. The tracker is asked once a second.
Definitions: an episode lasts from an alert to its all-clear; its lead is from the alert to the first refusal since the
all-clear before it (negative when the refusal came first); an episode without refusal is a false alarm. The "80 % used"
alert of others is given the same latch and is scored alike; what reacts to refusals has a lead of 0.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from apikeyrouter.domain.quota.capacity import Alert, CapacityTracker
from apikeyrouter.domain.quota.exhaustion import Supply, exhaustion
from apikeyrouter.domain.quota.forecast import DemandForecast
from bench import report

LOADS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.3)
"""Mean demand over the limit."""

WINDOWS = (("bucket", 60.0), ("fixed", 60.0), ("fixed", 1500.0))
"""Kind and period. The last stands for a day: it ends twice within a trace."""

_USED_ALERT = 0.8
_CALM_S = 300.0


class Pool:
    """A limit, as a provider would hold it."""

    def __init__(self, kind: str, limit: float, period_s: float) -> None:
        self.kind, self.limit, self.period_s = kind, limit, period_s
        self.left = limit
        self._at_s = 0.0

    def pass_to(self, now_s: float) -> None:
        """Gives back what has come back."""
        if self.kind == "bucket":
            self.left = min(self.limit, self.left + (now_s - self._at_s) * self.limit / self.period_s)
        elif now_s // self.period_s != self._at_s // self.period_s:
            self.left = self.limit
        self._at_s = now_s

    def takes(self, amount: int, now_s: float) -> bool:
        """Whether the request fits; then it is charged."""
        self.pass_to(now_s)
        if amount > self.left:
            return False
        self.left -= amount
        return True

    def supply(self, now_s: float) -> Supply:
        """What a router that mirrors it exactly would know."""
        self.pass_to(now_s)
        if self.kind == "bucket":
            return Supply.continuous(self.left, self.limit / self.period_s)
        return Supply.fixed(self.left, self.period_s - now_s % self.period_s)


@dataclass(slots=True)
class Score:
    """Of one way to alert, over some runs. Seconds and hours."""

    leads_s: list[float] = field(default_factory=list)
    false: int = 0

    def episodes(self, alerts: Sequence[float], clears: Sequence[float], refusals: Sequence[float]) -> None:
        """Scores the alerts of one run."""
        for number, alert_s in enumerate(alerts):
            since_s = clears[number - 1] if number else 0.0
            until_s = clears[number] if number < len(clears) else float("inf")
            first = next((at_s for at_s in refusals if since_s <= at_s <= until_s), None)
            if first is None:
                self.false += 1
            else:
                self.leads_s.append(first - alert_s)


class UsedAlert:
    """The threshold of others, latched as ours is."""

    def __init__(self) -> None:
        self.alerts: list[float] = []
        self.clears: list[float] = []
        self._last_s = 0.0

    def look(self, pool: Pool, now_s: float) -> None:
        """Alerts when four fifths are used."""
        alerting = len(self.alerts) > len(self.clears)
        if pool.left <= (1.0 - _USED_ALERT) * pool.limit:
            self._last_s = now_s
            if not alerting:
                self.alerts.append(now_s)
        elif alerting and now_s - self._last_s >= _CALM_S:
            self.clears.append(now_s)


def replay(at_s: Sequence[float], amounts: Sequence[int], pool: Pool, ours: Score, used: Score) -> tuple[int, int]:
    """Runs one pool through one trace; returns how many refusals and how many changes of state there were."""
    forecast, tracker, other = DemandForecast(), CapacityTracker(), UsedAlert()
    alerts: list[float] = []
    clears: list[float] = []
    refusals: list[float] = []
    usual = sum(amounts) / len(amounts)
    changes, look_s = 0, 1.0
    for arrival_s, amount in zip(at_s, amounts, strict=True):
        while look_s <= arrival_s:
            tracker.update(exhaustion(forecast, pool.supply(look_s), look_s), look_s, needed=usual)
            other.look(pool, look_s)
            change = tracker.change
            if change is not None:
                changes += change.before is not change.after
                if change.alert is Alert.AllClear:
                    clears.append(look_s)
                elif change.alert is not None:
                    alerts.append(look_s)
            look_s += 1.0
        if pool.takes(amount, arrival_s):
            forecast.add(amount, arrival_s)
        else:
            refusals.append(arrival_s)
    ours.episodes(alerts, clears, refusals)
    used.episodes(other.alerts, other.clears, refusals)
    return len(refusals), changes


def alert_rows(traces: Sequence[tuple[str, list[float], list[int]]]) -> tuple[str, list[float], list[float]]:
    """The table, all our leads in seconds, and our false alarms an hour by row. `traces`: name, arrivals, amounts."""
    lines: list[list[str]] = []
    leads_s: list[float] = []
    false_per_h: list[float] = []
    for name, at_s, amounts in traces:
        rate = sum(amounts) / at_s[-1]
        hours = len(LOADS) * at_s[-1] / 3600.0
        for kind, period_s in WINDOWS:
            ours, used = Score(), Score()
            pools = [Pool(kind, rate * period_s / load, period_s) for load in LOADS]
            ran = [replay(at_s, amounts, pool, ours, used) for pool in pools]
            leads_s += ours.leads_s
            false_per_h.append(ours.false / hours)
            late = sum(lead <= 0.0 for lead in ours.leads_s)
            lines.append([
                f"{name}, {kind} {period_s:.0f} s", str(sum(one for one, _ in ran)), str(len(ours.leads_s)),
                f"{statistics.median(ours.leads_s):.0f}" if ours.leads_s else "-", str(late),
                f"{ours.false / hours:.2f}", f"{sum(change for _, change in ran) / hours:.0f}",
                f"{statistics.median(used.leads_s):.0f}" if used.leads_s else "-", f"{used.false / hours:.2f}",
            ])  # fmt: skip
    header = [
        "loads 60-130 %", "refusals", "episodes", "lead p50, s", "late", "false/h", "states/h",
        "80 % used: lead", "false/h",
    ]  # fmt: skip
    return report.columns(header, lines), leads_s, false_per_h
