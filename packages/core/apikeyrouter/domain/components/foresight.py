"""Looks ahead: when will each quota window run dry, and who has to know.

`Foresight.tick` is called by housekeeping. It renews the outlook of the pools that are in use, a bounded number a call:
state and pressure, which weigh in every choice, and the alerts that go out before a pool is dry.
Laws: nothing here is on the path of a request; memory is bounded, whatever the number of keys: pools that rest are
forgotten, and at most `WATCHED_MAX` windows are watched at a time (32 KiB each at the most).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from apikeyrouter.domain.models.events import QuotaChanged
from apikeyrouter.domain.models.quota_state import CapacityState
from apikeyrouter.domain.quota.capacity import CapacityChange, CapacityTracker, runs_dry_text
from apikeyrouter.domain.quota.exhaustion import Exhaustion, Supply, exhaustion
from apikeyrouter.domain.quota.facts import Refill
from apikeyrouter.domain.quota.forecast import DemandForecast
from apikeyrouter.domain.quota.limits import QuotaWindow
from apikeyrouter.domain.quota.pools import Pools, PoolView
from apikeyrouter.domain.quota.sharing import SharingDetector

__all__ = ["SEVERITY", "Foresight", "supply_of"]

_log = logging.getLogger("apikeyrouter")
RENEW_S = 1.0
"""So often is a pool looked at of which an alert or an all-clear may soon go out, and one in use of which
little is known yet."""

_YOUNG_S = 60
"""Seconds seen below which what is foreseen changes from one second to the next."""

RENEW_STEADY_S = 3.0
"""The same for others, as long as no window lost a fifth of what it had or came out of being dry: nothing
that is told changes by more than a little meanwhile, for expectations are those of the last 20 s and more."""

RENEW_QUIET_S = 5.0
"""The same for a pool that let nothing in since: what is asked for falls, what is left grows, so it becomes calmer."""

_SUNK_TO = 0.8

_SCAN_EVERY_S = 0.5
"""So often is asked which pools are due: of most, nothing is to be done, and that takes a microsecond each."""

FAR_EVERY_S = 15.0
"""So often is worked out anew what lies beyond the next minute: no state and no alert goes by it where limits refill
all the time, only the words for people, and who asks or is told of a change is told what is true now."""

VIEWS_PER_TICK = 50
"""About 50 us each: a call may not hold up requests for more than some milliseconds."""

WATCHED_MAX = 1024
_UNKNOWN, _EXHAUSTED = CapacityState.Unknown, CapacityState.Exhausted
_CONTINUOUS, _ROLLING = Refill.Continuous, Refill.Rolling
FORGOTTEN_AFTER_S = 900.0

SEVERITY = {
    state: place
    for place, state in enumerate(
        (
            CapacityState.Unknown,
            CapacityState.Abundant,
            CapacityState.Recovering,
            CapacityState.Constrained,
            CapacityState.Critical,
            CapacityState.Exhausted,
        )
    )
}


class Foresight:
    """`on_change`: is told of states and alerts that changed."""

    def __init__(self, pools: Pools, on_change: Callable[[QuotaChanged], None]) -> None:
        self._pools = pools
        self._on_change = on_change
        self._watched: dict[QuotaWindow, tuple[float, Exhaustion | None]] = {}  # the last look beyond a minute
        self._near: set[PoolView] = set()
        self._sharing = SharingDetector()
        self._scanned_s = -math.inf

    def tick(self, now_s: float) -> None:
        """Renews what is due."""
        for one, other in self._sharing.sample(self._pools.active, now_s):
            _log.warning(
                "The quota pools %s and %s seem to be one account (%s): what one takes, the other loses. Give their "
                "keys the same metadata quota_pool, so that they are counted together.",
                one.pool.pool_id,
                other.pool.pool_id,
                one.models,
            )
        if now_s - self._scanned_s < _SCAN_EVERY_S:
            return
        late_s, near = now_s - RENEW_S, self._near
        due = [
            view
            for view in self._pools.active
            if view.refreshed_at_s <= late_s and (view in near or _is_due(view, now_s))
        ]
        if len(due) <= VIEWS_PER_TICK:  # else the rest follows in the next round
            self._scanned_s = now_s
        del due[VIEWS_PER_TICK:]
        for view in due:
            self._renew(view, now_s, far_every_s=FAR_EVERY_S)
            if now_s - view.admitted_at_s >= FORGOTTEN_AFTER_S:
                self._forget(view)

    def renew(self, view: PoolView, now_s: float) -> None:
        """The outlook of one pool, now."""
        self._renew(view, now_s, far_every_s=0.0)

    def _renew(self, view: PoolView, now_s: float, *, far_every_s: float) -> None:
        view.refreshed_at_s = now_s
        state, pressure = _UNKNOWN, 0.0
        tightest: Exhaustion | None = None
        near = False
        for window in view.windows:
            if window.account.limit is None:  # it only counts
                continue
            outlook = self._outlook(window, now_s, far_every_s)
            tracker = window.tracker
            if outlook is None or tracker is None:
                continue
            before = tracker.state
            now = tracker.update(outlook, now_s, needed=window.usual_need)
            window.exhaustion = outlook
            near = near or tracker.nears(outlook, now_s)
            change = tracker.change
            # the first look is no change, unless it finds what people must know
            if change is not None and (before is not _UNKNOWN or change.alert is not None):
                self._tell(view, window, change, self._told_now(window, outlook, now_s))
            if SEVERITY[now] > SEVERITY[state]:
                state = now
            if tightest is None or outlook.shadow_price >= pressure:
                tightest, pressure = outlook, outlook.shadow_price
        view.state, view.pressure, view.exhaustion = state, pressure, tightest
        if near:
            self._near.add(view)
        else:
            self._near.discard(view)

    def _outlook(self, window: QuotaWindow, now_s: float, far_every_s: float) -> Exhaustion | None:
        if window.account.limit is None or not window.period_s:
            return None
        if window.forecast is None:
            if len(self._watched) >= WATCHED_MAX:
                return None
            self._watched[window] = -math.inf, None
            window.forecast = DemandForecast()
            window.tracker = CapacityTracker()
        supply = supply_of(window, now_s)
        if supply is None:
            return None
        far_at_s, far = self._watched[window]
        if now_s - far_at_s < far_every_s:
            return exhaustion(window.forecast, supply, now_s, earlier=far, earlier_s=far_at_s)
        outlook = exhaustion(window.forecast, supply, now_s)
        self._watched[window] = now_s, outlook
        return outlook

    def _told_now(self, window: QuotaWindow, outlook: Exhaustion, now_s: float) -> Exhaustion:
        """The outlook of `now_s`, with what lies beyond the next minute worked out anew. What is dry needs no look."""
        if outlook.headroom <= 0.0:
            self._watched[window] = now_s, outlook
            return outlook
        return self._outlook(window, now_s, 0.0) or outlook

    def _forget(self, view: PoolView) -> None:
        self._pools.active.pop(view, None)
        self._near.discard(view)
        for window in view.windows:
            if self._watched.pop(window, None) is not None:
                window.forecast = window.tracker = window.exhaustion = None
        view.state, view.pressure, view.exhaustion = CapacityState.Unknown, 0.0, None

    def _tell(self, view: PoolView, window: QuotaWindow, change: CapacityChange, outlook: Exhaustion) -> None:
        self._on_change(
            QuotaChanged(
                pool_id=view.pool.pool_id,
                models=view.models,
                window=window.label,
                before=change.before.value,
                after=change.after.value,
                alert=change.alert.value if change.alert is not None else None,
                outlook=runs_dry_text(outlook),
                limit=window.limit,
                remaining=int(outlook.headroom),
                runs_dry_in_s=outlook.p50_s,
                resets_in_s=outlook.reset_in_s,
            )
        )


def _is_due(view: PoolView, now_s: float) -> bool:
    """Whether a pool of which no alert is near should be looked at: its time has come, or a window changed much."""
    refreshed_at_s = view.refreshed_at_s
    used = view.admitted_at_s >= refreshed_at_s
    if now_s - refreshed_at_s >= (RENEW_STEADY_S if used else RENEW_QUIET_S):
        return True
    for window in view.windows:
        known, tracker = window.exhaustion, window.tracker
        if known is None or tracker is None:
            continue
        if used and window.forecast is not None and window.forecast.seconds_seen < _YOUNG_S:
            return True
        left = window.account.free(now_s)
        if left is not None and (
            left < known.headroom * _SUNK_TO
            or (tracker.state is _EXHAUSTED and tracker.recovers(left, window.usual_need))
        ):
            return True
    return False


def supply_of(window: QuotaWindow, now_s: float) -> Supply | None:
    """What is left of a window and what comes back; None without a limit."""
    limit = window.limit
    headroom, period_s = window.account.free(now_s), window.period_s
    if limit is None or headroom is None or not period_s:
        return None
    refill = window.refill
    if refill is _CONTINUOUS:
        refill_per_s = limit / period_s - window.others.per_s
        return Supply.continuous(headroom, refill_per_s if refill_per_s > 0.0 else 0.0)  # noqa: FURB136 - it is asked
    if refill is _ROLLING:
        return Supply.rolling(headroom, limit, period_s)
    return Supply.fixed(headroom, max(0.0, window.account.rolls_at_s - now_s))
