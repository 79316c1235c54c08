"""The quota engine as users meet it: what a key's pool has left, and when it runs dry.

Counts come from the ledger, limits from providers, configuration, tiers or learning, predictions from `Foresight`: the
same figures that routing goes by. Asking for a key renews its pool's outlook first; a list renews a bounded number.
Law: looking never makes a pool watched: only what requests use is foreseen, or a list would push out those in use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal

from apikeyrouter.domain.components.foresight import RENEW_S, SEVERITY, Foresight
from apikeyrouter.domain.components.key_manager import KeyManager
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.keys.eligibility import Block, blocked
from apikeyrouter.domain.keys.record import KeyRecord
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.models.quota_state import (
    CapacityEstimate,
    CapacityState,
    ExhaustionPrediction,
    LimitState,
    PoolState,
    QuotaState,
    TimeWindow,
)
from apikeyrouter.domain.quota.capacity import duration_text, runs_dry_text
from apikeyrouter.domain.quota.exhaustion import Exhaustion
from apikeyrouter.domain.quota.facts import DAY_S, MINUTE_S, MONTH_S, Dimension, Source
from apikeyrouter.domain.quota.limits import QuotaWindow
from apikeyrouter.domain.quota.pools import Pools, PoolView, QuotaPool

__all__ = ["PoolOrder", "QuotaAwarenessEngine"]

PoolOrder = Literal["registered", "urgency"]
"""Of pools: by provider and age of their first key, or those first that are dry or will be soonest."""

_PERIODS = {
    TimeWindow.Minute: MINUTE_S,
    TimeWindow.Hourly: 3600.0,
    TimeWindow.Daily: DAY_S,
    TimeWindow.Weekly: 7 * DAY_S,
    TimeWindow.Monthly: MONTH_S,
}
# Shares of the limit that are left, for pools of which nothing can be foreseen since nobody uses them.
_CONSTRAINED_BELOW_RATIO = 0.5
_CRITICAL_BELOW_RATIO = 0.2

_RESTING = (KeyState.Throttled, KeyState.Exhausted)
_CALM = (0, 0.0)
_RENEWED_PER_LIST = 60
"""Outlooks that one list renews, about 100 us each; the others are some seconds old at the most, see `Foresight`."""


class QuotaAwarenessEngine:
    """Reads quota states. Its verbs raise KeyNotFoundError for an unknown key."""

    def __init__(self, keys: KeyManager, pools: Pools, foresight: Foresight, clock: Clock) -> None:
        self._keys = keys
        self._pools = pools
        self._foresight = foresight
        self._clock = clock

    async def get_quota_state(self, key_id: str, time_window: TimeWindow | str | None = None) -> QuotaState:
        """The pool behind one key, now; counts and totals are those of `time_window` (default: the minute). Raises
        ValueError for a window that no provider counts in (total)."""
        period = TimeWindow(time_window or TimeWindow.Minute)
        if period not in _PERIODS:
            raise ValueError(f"quota is counted per minute, hour, day, week or month, not per {period.value!r}")
        record = self._keys.get(key_id)
        now_s = self._clock.monotonic_s()
        pool = self._pools.pool(record)
        views, windows = self._renewed(pool, now_s)
        of_period = [window for window in windows if window.period_s == _PERIODS[period]]
        requests = _tightest([w for w in of_period if w.dimension is Dimension.Requests], now_s)
        tokens = _tightest([w for w in of_period if w.dimension is Dimension.Tokens], now_s)
        counted = {w.dimension: w.account for w in pool.shared.values() if w.period_s == _PERIODS[period]}
        return QuotaState(
            key_id=key_id,
            pool_id=record.pool_id,
            capacity_state=self._state(record, pool, windows, now_s),
            remaining_capacity=_estimate(requests, now_s),
            total_capacity=requests.limit if requests is not None else None,
            remaining_tokens=tokens.headroom(now_s) if tokens is not None else None,
            total_tokens=tokens.limit if tokens is not None else None,
            used_requests=counted[Dimension.Requests].used if Dimension.Requests in counted else 0,
            used_tokens=counted[Dimension.Tokens].used if Dimension.Tokens in counted else 0,
            in_flight=record.in_flight,
            time_window=period,
            reset_at=self._reset_at(requests, now_s),
            updated_at=self._clock.utc_now(),
            outlook=self._outlook(windows, views, [record], now_s),
            outlook_limit=_outlook_limit(windows),
            limits=[_limit_state(window, models, now_s) for window, models in windows.items()],
            shared_with=[one.key_id for one in self._keys.ring.pool_of(record) if one is not record],
        )

    async def predict_exhaustion(self, key_id: str, model: str | None = None) -> ExhaustionPrediction | None:
        """When the key's pool runs dry, by its tightest limit; with `model`, of the limits that count for it. None
        while no limit is known."""
        record = self._keys.get(key_id)
        pool = self._pools.pool(record)
        now_s = self._clock.monotonic_s()
        _, windows = self._renewed(pool, now_s, model)
        worst = _worst(windows)
        return None if worst is None or worst.exhaustion is None else prediction_of(worst.exhaustion)

    async def update_capacity(
        self, key_id: str, used_tokens: int, time_window: TimeWindow | str | None = None
    ) -> QuotaState:
        """Counts tokens that somebody else spent from this key's pool; returns the state after it."""
        if used_tokens < 0:
            raise ValueError("used_tokens must not be negative")
        pool = self._pools.pool(self._keys.get(key_id))
        now_s = self._clock.monotonic_s()
        pool.shared[Dimension.Tokens, MINUTE_S].account.adjust_used(used_tokens, now_s)
        for view in pool.views.values():
            for window in view.own.values():
                if window.dimension is Dimension.Tokens:
                    window.account.adjust_used(used_tokens, now_s)
        return await self.get_quota_state(key_id, time_window)

    async def get_pools(self, provider_id: str | None = None) -> list[PoolState]:
        """Every quota pool that has keys, by provider and age of the first key."""
        return (await self.list_pools(provider_id))[0]

    async def list_pools(
        self,
        provider_id: str | None = None,
        *,
        key_id: str | None = None,
        model: str | None = None,
        order: PoolOrder = "registered",
        limit: int | None = None,
        offset: int = 0,
    ) -> tuple[list[PoolState], int]:
        """A part of the quota pools that have keys, and how many there are. `key_id`: only this key's. `model`: only
        limits that count for it. Raises KeyNotFoundError."""
        now_s = self._clock.monotonic_s()
        found = self._with_keys(provider_id, key_id)
        names = sorted(found, key=lambda name: found[name][0].provider_id)
        if order == "urgency":
            worst = self._urgencies(found)
            names.sort(key=lambda name: worst.get(name, _CALM))
        page = names[offset : None if limit is None else offset + limit]
        shown = [view for name in page for view in self._views(self._pools.pool(found[name][0]), model)]
        due = [
            view
            for view in shown
            if view in self._pools.active and (view.exhaustion is None or now_s - view.refreshed_at_s >= RENEW_S)
        ]
        for view in sorted(due, key=lambda view: view.refreshed_at_s)[:_RENEWED_PER_LIST]:
            self._foresight.renew(view, now_s)
        return [self._pool_state(name, found[name], model, now_s) for name in page], len(names)

    def _urgencies(self, found: Mapping[str, list[KeyRecord]]) -> dict[str, tuple[int, float]]:
        """Sorts the worst pools first, by what is known already; those that are missing here rest."""
        worst: dict[str, tuple[int, float]] = {}
        for view in self._pools.active:
            name = view.pool.pool_id
            worst[name] = min(worst.get(name, _CALM), (-SEVERITY[view.state], -view.pressure))
        for name, records in found.items():
            if records[0].state in _RESTING and all(record.state in _RESTING for record in records):
                worst[name] = (-SEVERITY[CapacityState.Exhausted], worst.get(name, _CALM)[1])
        return worst

    def labels_of(self, pool_id: str) -> list[str]:
        """The labels of a pool's keys. `pool_id`: "provider/pool"."""
        provider_id, _, name = pool_id.partition("/")
        return [record.label for record in self._keys.ring.of_provider(provider_id) if record.pool_id == name]

    def _with_keys(self, provider_id: str | None, key_id: str | None) -> dict[str, list[KeyRecord]]:
        """The keys of each pool, retired ones aside."""
        records = self._keys.ring.all() if key_id is None else self._keys.ring.pool_of(self._keys.get(key_id))
        found: dict[str, list[KeyRecord]] = {}
        for record in records:
            if record.state is not KeyState.Retired and provider_id in (None, record.provider_id):
                found.setdefault(f"{record.provider_id}/{record.pool_id}", []).append(record)
        return found

    def _pool_state(self, pool_id: str, records: list[KeyRecord], model: str | None, now_s: float) -> PoolState:
        pool = self._pools.pool(records[0])
        views = self._views(pool, model)
        windows = _windows(pool, views, every=model is None)
        return PoolState(
            pool_id=pool_id,
            provider_id=pool.provider_id,
            key_ids=[one.key_id for one in records],
            key_labels=[one.label for one in records],
            capacity_state=min((self._state(one, pool, windows, now_s) for one in records), key=SEVERITY.__getitem__),
            outlook=self._outlook(windows, views, records, now_s),
            outlook_limit=_outlook_limit(windows),
            pressure=max((view.pressure for view in views), default=0.0),
            in_flight=sum(one.in_flight for one in records),
            burst_horizon_s=min((view.learner.burst_horizon_s for view in views), default=MINUTE_S),
            limits=[_limit_state(window, models, now_s) for window, models in windows.items()],
            suspected_same=sorted(pool.suspected_same),
        )

    def _views(self, pool: QuotaPool, model: str | None) -> list[PoolView]:
        """All of them, or those that count for a model."""
        return [
            view
            for view in pool.views.values()
            if model is None or view.models in ("*", model, view.dialect.models_sharing(model))
        ]

    def _renewed(
        self, pool: QuotaPool, now_s: float, model: str | None = None
    ) -> tuple[list[PoolView], dict[QuotaWindow, str]]:
        """The views, or those of one model, with an outlook as of now, and their windows."""
        views = self._views(pool, model)
        for view in views:
            if view in self._pools.active:
                self._foresight.renew(view, now_s)
        return views, _windows(pool, views, every=model is None)

    def _outlook(
        self, windows: Iterable[QuotaWindow], views: Iterable[PoolView], records: Iterable[KeyRecord], now_s: float
    ) -> str:
        """The tightest limit's, in words; where nothing is foreseen, why. Keys that rest serve nobody however much
        their limits have left, so that comes first where all of them do."""
        worst = _worst(windows)
        if worst is not None or not any(window.limit is not None for window in windows):
            said = runs_dry_text(None if worst is None else worst.exhaustion)
        else:
            said = "not foreseen" if any(view in self._pools.active for view in views) else "not in use"
        rests = [_rest(record, now_s) for record in records]
        resting = [rest for rest in rests if rest is not None]
        if not rests or len(resting) < len(rests):
            return said
        first = min(resting, key=lambda rest: now_s if rest.until_s is None else rest.until_s)
        until = "" if first.until_s is None else f" for {duration_text(first.until_s - now_s)}"
        return f"resting{until} ({first.reason or first.code}); limits: {said}"

    def _state(self, record: KeyRecord, pool: QuotaPool, windows: Iterable[QuotaWindow], now_s: float) -> CapacityState:
        if _rest(record, now_s) is not None:
            return CapacityState.Exhausted
        known = [view.state for view in pool.views.values() if view.state is not CapacityState.Unknown]
        if known:
            return max(known, key=SEVERITY.__getitem__)
        return _by_share(windows, now_s)

    def _reset_at(self, window: QuotaWindow | None, now_s: float) -> datetime | None:
        if window is None or window.reset_at_s is None or window.reset_at_s <= now_s:
            return None
        return self._clock.utc_now() + timedelta(seconds=window.reset_at_s - now_s)


def prediction_of(exhaustion: Exhaustion) -> ExhaustionPrediction:
    """The prediction as users read it."""
    return ExhaustionPrediction(
        chance_10s=exhaustion.chance_10s,
        chance_60s=exhaustion.chance_60s,
        chance_before_reset=exhaustion.chance_reset,
        p10_s=exhaustion.p10_s,
        p50_s=exhaustion.p50_s,
        p90_s=exhaustion.p90_s,
        resets_in_s=exhaustion.reset_in_s,
        demand_per_s=exhaustion.demand_per_s,
        pressure=exhaustion.shadow_price,
        text=runs_dry_text(exhaustion),
    )


def _windows(pool: QuotaPool, views: Iterable[PoolView], *, every: bool) -> dict[QuotaWindow, str]:
    """The windows of these views, each once, with the models that share them; `every`: the pool's own too."""
    found: dict[QuotaWindow, str] = dict.fromkeys(pool.shared.values() if every else (), "*")
    for view in views:
        for window in view.windows:
            found[window] = view.models if window.source is Source.Learned else window.models
    if not found:
        found = dict.fromkeys(pool.shared.values(), "*")
    # one whose place another took only counts
    return {window: models for window, models in found.items() if window.limit == window.account.limit}


def _limit_state(window: QuotaWindow, models: str, now_s: float) -> LimitState:
    account = window.account
    account.refresh(now_s)
    resets_in_s = None if window.reset_at_s is None else window.reset_at_s - now_s
    return LimitState(
        name=window.label,
        models=models,
        limit=window.limit,
        remaining=window.headroom(now_s),
        used=max(0, account.used),
        held=account.held,
        period_s=window.period_s,
        refill=window.refill.value,
        source=window.source.value if window.limit is not None else "unknown",
        confidence=window.confidence,
        age_s=None if window.observed_at_s is None else max(0.0, now_s - window.observed_at_s),
        foreign_per_minute=window.foreign_per_s * MINUTE_S,
        resets_in_s=resets_in_s if resets_in_s is not None and resets_in_s > 0 else None,
        state=CapacityState.Unknown if window.tracker is None else window.tracker.state,
        prediction=None if window.exhaustion is None else prediction_of(window.exhaustion),
    )


def _tightest(windows: Iterable[QuotaWindow], now_s: float) -> QuotaWindow | None:
    limited = [window for window in windows if window.account.limit is not None]
    return min(limited, key=lambda window: window.headroom(now_s) or 0, default=None)


def _rest(record: KeyRecord, now_s: float) -> Block | None:
    """Why the key rests, until when; None when it does not."""
    return blocked(record, None, now_s) if record.state in _RESTING else None


def _worst(windows: Iterable[QuotaWindow]) -> QuotaWindow | None:
    """The limit that is reached first; None while nothing is foreseen of any."""

    def nearness(window: QuotaWindow) -> tuple[float, float, float]:
        one = window.exhaustion
        return (-1.0, 0.0, 0.0) if one is None else (one.chance_60s, one.shadow_price, -one.headroom)

    worst = max(windows, key=nearness, default=None)
    return None if worst is None or worst.exhaustion is None else worst


def _outlook_limit(windows: Mapping[QuotaWindow, str]) -> str:
    worst = _worst(windows)
    if worst is None:
        return ""
    return worst.label if windows[worst] == "*" else f"{worst.label}, {windows[worst]}"


def _estimate(window: QuotaWindow | None, now_s: float) -> CapacityEstimate:
    if window is None:
        return CapacityEstimate()
    source = "configuration" if window.source.value == "configured" else window.source.value
    return CapacityEstimate(value=window.headroom(now_s), confidence=window.confidence, source=source)


def _by_share(windows: Iterable[QuotaWindow], now_s: float) -> CapacityState:
    """The tightest limit decides; without any limit nothing is known."""
    shares = []
    for window in windows:
        free = window.headroom(now_s)
        if window.account.limit and free is not None:
            shares.append(free / window.account.limit)
    if not shares:
        return CapacityState.Unknown
    share = min(shares)
    if share <= 0:
        return CapacityState.Exhausted
    if share < _CRITICAL_BELOW_RATIO:
        return CapacityState.Critical
    return CapacityState.Constrained if share < _CONSTRAINED_BELOW_RATIO else CapacityState.Abundant
