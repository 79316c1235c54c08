"""A word for the headroom of a quota window, and the alert that goes out before it is dry.

`CapacityTracker.update` turns an `Exhaustion` into a `CapacityState` and notes what changed; `runs_dry_text` says it
in words. States follow the chance of running dry within a minute, with hysteresis: they worsen at once and improve
only when the chance is half of what worsened them, for some seconds. Alerts are latched: one when it gets serious,
then none until it has been calm for minutes, so a pool that hovers around its limit alarms once, not every minute.

Laws: no headroom means Exhausted and nothing else does; an alert never repeats before its all-clear.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from apikeyrouter.domain.models.quota_state import CapacityState
from apikeyrouter.domain.quota.exhaustion import Exhaustion

__all__ = ["Alert", "CapacityChange", "CapacityTracker", "duration_text", "runs_dry_text"]

CONSTRAINED_FROM = 0.05
"""Chance of running dry within a minute from which a pool is Constrained."""

CRITICAL_FROM = 0.5
"""The same for Critical. It also makes a pool Constrained when it is the chance of running dry before the reset."""

ALERT_FROM = 0.25
"""The same for an alert. Lower than Critical: bursts leave a pool a few seconds between likely and dry, so the alert
goes out when it becomes likely that the next burst will do it. At 0.5 the median lead on bursty traffic was 5 s, at
0.25 it is 22 s, at 0.15 false alarms tripled on calm traffic (bench.forecast)."""

_NEAR_FROM = 0.1
"""Chance from which an alert may be near."""

_HYSTERESIS = 2.0
_IMPROVES_AFTER_S = 10.0
_RECOVERING_S = 10.0
_CALM_S = 300.0
"""So long must nothing be serious before the all-clear. Minute windows turn serious once a minute: calm must outlast
several of them."""

_WORSE = (CapacityState.Abundant, CapacityState.Constrained, CapacityState.Critical)
_EXHAUSTED, _RECOVERING = CapacityState.Exhausted, CapacityState.Recovering


class Alert(StrEnum):
    """What to tell people. `RunsDry`: it may well be dry within a minute. `Dry`: it is, and no alert came before.
    `AllClear`: nothing serious for five minutes."""

    RunsDry = "runs_dry"
    Dry = "dry"
    AllClear = "all_clear"


@dataclass(frozen=True, slots=True)
class CapacityChange:
    """An event: the state, or the alert, changed. `alert`: None when only the state did."""

    before: CapacityState
    after: CapacityState
    alert: Alert | None
    at_s: float


class CapacityTracker:
    """The capacity state of one window. Ask it about once a second, and after each refusal."""

    __slots__ = ("_better_since_s", "_serious_s", "_since_s", "alerting", "change", "state")

    def __init__(self) -> None:
        self.state = CapacityState.Unknown
        self.alerting = False
        """Whether an alert went out that no all-clear followed."""
        self.change: CapacityChange | None = None
        """What the last update changed; None when nothing."""
        self._since_s = 0.0
        self._better_since_s: float | None = None
        self._serious_s = 0.0

    def update(self, exhaustion: Exhaustion | None, now_s: float, *, needed: float = 1.0) -> CapacityState:
        """The state now. `exhaustion`: None while the limit is unknown. `needed`: the units of a usual request; with
        less headroom the window counts as exhausted, and it recovers with twice as much."""
        before = self.state
        after = self._next(exhaustion, now_s, needed)
        if after is not before:
            self.state = after
            self._since_s = now_s
        alert = self._alert(exhaustion, now_s)
        changed = after is not before or alert is not None
        self.change = CapacityChange(before, after, alert, now_s) if changed else None
        return after

    def nears(self, exhaustion: Exhaustion, now_s: float) -> bool:
        """Whether an alert may go out within seconds, or whether half of the calm before an all-clear is over."""
        if self.alerting:
            return now_s - self._serious_s >= _CALM_S / 2
        return exhaustion.chance_60s >= _NEAR_FROM

    def recovers(self, headroom: float, needed: float) -> bool:
        """Whether it is exhausted, and `update` would find that it no longer is."""
        return self.state is _EXHAUSTED and headroom > 0.0 and headroom >= _HYSTERESIS * needed

    def _next(self, exhaustion: Exhaustion | None, now_s: float, needed: float) -> CapacityState:
        state = self.state
        if exhaustion is None:
            return CapacityState.Unknown
        if exhaustion.headroom <= 0.0 or exhaustion.headroom < needed:
            return _EXHAUSTED
        if state is _EXHAUSTED:
            return _RECOVERING if exhaustion.headroom >= _HYSTERESIS * needed else state
        if state is _RECOVERING and now_s - self._since_s < _RECOVERING_S:
            return state
        at_once, level = _level(exhaustion, 1.0), _WORSE.index(state) if state in _WORSE else 0
        if at_once >= level:
            self._better_since_s = None
            return _WORSE[at_once]
        if _level(exhaustion, _HYSTERESIS) >= level:
            self._better_since_s = None
            return state
        if self._better_since_s is None:
            self._better_since_s = now_s
        if now_s - self._better_since_s < _IMPROVES_AFTER_S:
            return state
        self._better_since_s = None
        return _WORSE[_level(exhaustion, _HYSTERESIS)]

    def _alert(self, exhaustion: Exhaustion | None, now_s: float) -> Alert | None:
        dry = self.state is _EXHAUSTED
        chance = 0.0 if exhaustion is None else exhaustion.chance_60s
        if dry or chance >= ALERT_FROM / (_HYSTERESIS if self.alerting else 1.0):
            self._serious_s = now_s
            if self.alerting:
                return None
            self.alerting = True
            return Alert.Dry if dry else Alert.RunsDry
        if self.alerting and now_s - self._serious_s >= _CALM_S:
            self.alerting = False
            return Alert.AllClear
        return None


def _level(exhaustion: Exhaustion, ease: float) -> int:
    """The place in `_WORSE`; `ease` > 1 asks for so much smaller chances."""
    if exhaustion.chance_60s * ease >= CRITICAL_FROM:
        return 2
    will_not_last = exhaustion.chance_reset is not None and exhaustion.chance_reset * ease >= CRITICAL_FROM
    return 1 if will_not_last or exhaustion.chance_60s * ease >= CONSTRAINED_FROM else 0


# -- in words -------------------------------------------------------------------------------------------------------

_UNITS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "m"))
"""Longer than a second, the longest first."""


def _in_unit(wait_s: float) -> tuple[str, str]:
    for unit_s, name in _UNITS:
        if wait_s >= 2 * unit_s:
            return f"{wait_s / unit_s:.0f}", name
    return f"{wait_s:.0f}", "s"


def duration_text(wait_s: float) -> str:
    """Seconds as people read them: "90 s", "4 m", "3 h", "2 d". Two of a unit at least: rounding stays small."""
    return " ".join(_in_unit(max(wait_s, 0.0)))


def runs_dry_text(exhaustion: Exhaustion | None) -> str:
    """One line for tables: "runs dry in 4 m (2-9 m), resets in 11 m". The range holds 8 times in 10."""
    if exhaustion is None:
        return "limit unknown"
    resets = "" if exhaustion.reset_in_s is None else f", resets in {duration_text(exhaustion.reset_in_s)}"
    if exhaustion.headroom <= 0.0:
        return f"dry{resets}"
    p10_s, p50_s, p90_s = exhaustion.p10_s, exhaustion.p50_s, exhaustion.p90_s
    if p10_s is None:
        return f"lasts{resets}"
    if p50_s is None:
        return f"may run dry from {duration_text(p10_s)} on{resets}"
    return f"runs dry in {duration_text(p50_s)} ({_range_text(p10_s, p90_s)}){resets}"


def _range_text(low_s: float, high_s: float | None) -> str:
    if high_s is None:
        return f"{duration_text(low_s)} or later"
    low, low_unit = _in_unit(low_s)
    high, high_unit = _in_unit(high_s)
    if low_unit != high_unit:
        return f"{low} {low_unit}-{high} {high_unit}"
    return f"{low} {low_unit}" if low == high else f"{low}-{high} {low_unit}"
