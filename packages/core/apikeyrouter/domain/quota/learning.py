"""What refusals teach about limits that nobody told.

Two cases, each kept per pool and group of models. A pool that tells its limits refused although plenty was left: it
counts in shorter stretches than it says (Azure and Anthropic judge by the second), so its burst horizon shrinks:
60 -> 10 -> 5 -> 1 s. A pool that tells nothing refused: the limit is near what was used in the last minute, and is
searched by additive-increase, multiplicative-decrease. Where the refusal names the limit and asks for a wait, the wait
tells how fast capacity flows back (`need` units in so many seconds at the most); where that is more than was used, the
limit is a bucket that holds less than a minute's worth, and what it holds is searched.
Laws: at most one decrease a second, however many requests were refused together; a limit is at least 1; a refusal of
what nothing came before teaches no limit; what nobody told makes no request impossible (`QuotaWindow.make_room`).
Source of the numbers: design notes 2.1 and 2.11 ("AIMD limit", "burst-horizon learning").
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from apikeyrouter.domain.ledger.bucket import Bucket
from apikeyrouter.domain.quota.bursts import SHORT_RATIO, Span
from apikeyrouter.domain.quota.facts import MINUTE_S, Dimension, Refill, Source
from apikeyrouter.domain.quota.limits import QuotaWindow

__all__ = ["BURST_HORIZONS_S", "RefusalLearner"]

BURST_HORIZONS_S = (10.0, 5.0, 1.0)
PLENTY_RATIO = 0.2
"""Refused while more than this share of every told limit was left: a burst, and not the limit."""

DECREASE, INCREASE = 0.85, 0.004
NEAR_RATIO = 0.8
"""A limit grows by successes only while more than this share of it is used: else they prove nothing."""

_PACE_WAIT_S_MAX = 30.0
"""Longer waits are those of windows, or a usual value where the provider knows none."""

_PACE_RISE, _PACE_SHARE = 1.05, 0.75
"""How much faster capacity is thought to flow back with each refusal, so that one wrong word is forgotten; and the
share of it that is taken: part of a need may have been there, and others take some. Measured, bursts of 6 s, nothing
told but waits, seed 1, code and chat at 80 % load: 51.3 and 98.7 % served, 9.3 and 8.4 refusals per 100; with 1.0
instead of 0.75 53.5 and 98.7 %, 18.2 and 11.8; without any of it 12.0 and 78.6 %, 1.7 and 6.1."""

_HORIZON_S_MIN = BURST_HORIZONS_S[-1]
"""Nobody counts in less."""

_AGAINST_MAX = 3
"""So many refusals in a row that tell of a shorter horizon than the last ones are believed."""

PAUSE_S = 1.0
PROBE_AFTER_S = 300.0
"""After so long without a refusal the searched limit is doubled, and the burst horizon goes up a step."""

_Spot = tuple[Dimension, float]
_SEARCHED: tuple[_Spot, ...] = ((Dimension.Requests, MINUTE_S), (Dimension.Tokens, MINUTE_S))


class RefusalLearner:
    """`bursts`: learned windows of a burst horizon, by dimension. `searched`: limits that are being searched."""

    __slots__ = (
        "_against",
        "_against_at_s",
        "_exact",
        "_horizon",
        "_paces",
        "_refused_at_s",
        "_span_s",
        "bursts",
        "horizon_s",
        "name",
        "searched",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.bursts: dict[Dimension, QuotaWindow] = {}
        self.searched: dict[_Spot, QuotaWindow] = {}
        self._exact: dict[_Spot, float] = {}
        self._paces: dict[_Spot, float] = {}
        self.horizon_s: float | None = None
        self._span_s: Span = (0.0, math.inf)
        self._against, self._against_at_s = 0, -math.inf
        self._horizon = -1
        self._refused_at_s = float("-inf")

    @property
    def burst_horizon_s(self) -> float:
        """Over how long the provider seems to count; 60 as long as nothing speaks against it."""
        if self.horizon_s is not None:
            return self.horizon_s
        return BURST_HORIZONS_S[self._horizon] if self._horizon >= 0 else MINUTE_S

    def told_horizon(self, low_s: float, high_s: float, told: Mapping[_Spot, QuotaWindow], now_s: float) -> bool:
        """A refusal said over how many seconds the provider counts: every limit of a minute holds that much at once.
        `high_s`: inf where another limit may be the reason for a part of the wait. Each narrows it down; the middle is
        believed. Where another limit asked for a longer wait the horizon seems too short, never too long: so the longer
        of two that contradict each other is believed, and the shorter one only when it comes again and again. Whether
        steps of the search are over."""
        self._refused_at_s = now_s
        self._narrow(low_s, max(high_s, _HORIZON_S_MIN), now_s)
        least_s, longest_s = self._span_s
        middle_s = (self.horizon_s or 0.0) if longest_s == math.inf else (least_s + longest_s) / 2.0
        believed_s = max(least_s, middle_s, _HORIZON_S_MIN)
        self.horizon_s = believed_s
        if believed_s >= SHORT_RATIO * MINUTE_S:
            self._give_up_horizon()
        self._apply(told, now_s)
        searched, self._horizon = bool(self.bursts), -1
        self.bursts.clear()
        return searched

    def _narrow(self, low_s: float, high_s: float, now_s: float) -> None:
        low, high = self._span_s
        if high_s >= low:
            self._against = 0
        elif now_s - self._against_at_s >= PAUSE_S:  # those that were refused together count once
            self._against, self._against_at_s = self._against + 1, now_s
        if low_s > high or self._against >= _AGAINST_MAX:
            self._span_s, self._against = (low_s, high_s), 0
        elif high_s >= low:
            self._span_s = max(low, low_s), min(high, high_s)

    def keep_horizon(self, told: Mapping[_Spot, QuotaWindow], now_s: float) -> None:
        """Limits that were told of after the horizon hold no more than the others."""
        if self.horizon_s is not None and any(window.burst is None for window in told.values()):
            self._apply(told, now_s)

    def _apply(self, told: Mapping[_Spot, QuotaWindow], now_s: float) -> None:
        """Every limit of a minute holds what comes back within the horizon."""
        horizon_s = self.horizon_s
        for (_, period_s), window in told.items():
            if (horizon_s or 0.0) < period_s <= MINUTE_S and window.limit is not None:
                if horizon_s is None:
                    window.hold_at_once(None, now_s)
                elif window.observed_at_s is not None:
                    window.hold_at_once(int(window.rate_per_s * horizon_s), now_s)

    def widen(self, told: Mapping[_Spot, QuotaWindow], now_s: float) -> None:
        """After long without a refusal the horizon that a refusal told is doubled, and in the end forgotten."""
        if self.horizon_s is not None and now_s - self._refused_at_s >= PROBE_AFTER_S:
            self._refused_at_s = now_s
            self.horizon_s *= 2.0
            self._span_s = (self._span_s[0], math.inf)
            if self.horizon_s >= MINUTE_S:
                self._give_up_horizon()
            self._apply(told, now_s)

    def _give_up_horizon(self) -> None:
        self.horizon_s, self._span_s, self._against = None, (0.0, math.inf), 0

    def refused(
        self,
        told: Mapping[_Spot, QuotaWindow],
        counting: Mapping[_Spot, QuotaWindow],
        needs: tuple[int, ...],
        now_s: float,
        *,
        named: Collection[_Spot] = (),
        retry_s: float | None = None,
    ) -> bool:
        """A refusal that no told limit explains. `told`: the group's own windows; `counting`: the pool's; `named`:
        limits that it names; `retry_s`: how long it asks to wait. Whether windows came or changed."""
        if now_s - self._refused_at_s < PAUSE_S:
            return False
        self._refused_at_s = now_s
        known = {spot: window for spot, window in told.items() if window.observed_at_s is not None and window.limit}
        if known:
            return self.horizon_s is None and self._shrink_horizon(known, now_s)
        spots = [spot for spot in _SEARCHED if spot in named]
        if len(spots) == 1 and retry_s:
            self._pace(spots[0], needs[counting[spots[0]].kind], retry_s)
        changed = [self._search(spot, counting[spot], needs, now_s) for spot in spots or _SEARCHED]
        return any(changed)

    def succeeded(self, now_s: float) -> None:
        """A request was let in; only worth calling while `searched` or `bursts` is not empty."""
        if now_s - self._refused_at_s >= PROBE_AFTER_S:
            self._probe(now_s)
        for spot, window in self.searched.items():
            limit = window.capacity or 1
            account = window.account
            if account.used + account.held >= NEAR_RATIO * limit:
                self._exact[spot] *= 1.0 + INCREASE
                self._set(spot, window, now_s)

    def recall(
        self, burst_horizon_s: float, searched: Mapping[_Spot, int], told: Mapping[_Spot, QuotaWindow], now_s: float
    ) -> None:
        """Begins with what an earlier process had learned: the burst horizon, and limits that were being searched.
        `told`: the group's own windows."""
        if 0.0 < burst_horizon_s < MINUTE_S and burst_horizon_s not in BURST_HORIZONS_S:
            self.horizon_s = burst_horizon_s
            self._apply(told, now_s)
        if burst_horizon_s in BURST_HORIZONS_S:
            self._horizon = BURST_HORIZONS_S.index(burst_horizon_s) - 1
            self._shrink_horizon({spot: window for spot, window in told.items() if window.limit}, now_s)
            for burst in self.bursts.values():
                burst.account.adjust_used(-burst.account.used, now_s)  # nobody refused just now
        for spot, limit in searched.items():
            if spot in _SEARCHED and spot not in told:
                self._exact[spot] = float(limit)
                self.searched[spot] = self._new_search(spot, now_s)
                self._set(spot, self.searched[spot], now_s)
        if self.bursts or self.searched or self.horizon_s is not None:
            self._refused_at_s = now_s

    def forget(self, spot: _Spot) -> bool:
        """The provider told this limit: nothing is searched any more."""
        self._exact.pop(spot, None)
        self._paces.pop(spot, None)
        return self.searched.pop(spot, None) is not None

    def _pace(self, spot: _Spot, need: int, retry_s: float) -> None:
        """What flows back in a minute, by the wait that a refusal asks for: so much at the most, since part of the need
        may have been there. The least is believed, and a little more each time."""
        if retry_s <= _PACE_WAIT_S_MAX:
            known = self._paces.get(spot, math.inf) * _PACE_RISE
            self._paces[spot] = min(known, need * MINUTE_S / retry_s)

    def _search(self, spot: _Spot, counting: QuotaWindow, needs: tuple[int, ...], now_s: float) -> bool:
        account = counting.account
        account.refresh(now_s)
        usage = account.used + account.held - needs[counting.kind]
        if usage <= 0:
            return False  # nothing of ours came before it: others use the account too, or it is spent
        window = self.searched.get(spot)
        if window is None:
            window = self.searched[spot] = self._new_search(spot, now_s)
            window.account.adjust_used(usage, now_s)
            self._exact[spot] = usage * DECREASE
        else:
            if window.refill is Refill.Continuous:
                window.account.refresh(now_s)
                usage = window.account.used + window.account.held - needs[window.kind]
            self._exact[spot] = max(1.0, min(self._exact[spot], usage) * DECREASE)
        # a bucket holds a second's worth at least: nobody counts in less
        self._exact[spot] = max(self._exact[spot], self._paces.get(spot, 0.0) / MINUTE_S)
        self._set(spot, window, now_s)
        if window.refill is Refill.Continuous:  # it refused just now: there is nothing left
            account = window.account
            account.adjust_used((account.limit or 0) - account.used - account.held, now_s)
        return True

    def _new_search(self, spot: _Spot, now_s: float) -> QuotaWindow:
        dimension, period_s = spot
        return QuotaWindow(
            f"{self.name} {dimension} (learned)",
            dimension,
            period_s,
            limit=None,
            source=Source.Learned,
            models=self.name,
            now_s=now_s,
        )

    def _set(self, spot: _Spot, window: QuotaWindow, now_s: float) -> None:
        limit, pace = max(1, int(self._exact[spot])), self._paces.get(spot, 0.0)
        short = pace > limit
        window.set_limit(max(1, int(pace * _PACE_SHARE)) if short else limit, Source.Learned, now_s)
        if short or window.burst is not None:
            window.hold_at_once(limit, now_s, hidden=False)

    def _shrink_horizon(self, known: Mapping[_Spot, QuotaWindow], now_s: float) -> bool:
        if self._horizon + 1 >= len(BURST_HORIZONS_S):
            return False
        self._horizon += 1
        horizon_s = BURST_HORIZONS_S[self._horizon]
        self.bursts.clear()
        for (dimension, period_s), window in known.items():
            if not horizon_s < period_s <= MINUTE_S:
                continue
            limit = max(1, int(window.rate_per_s * horizon_s))
            self.bursts[dimension] = burst = QuotaWindow(
                f"{self.name} {dimension} per {horizon_s:g} s (learned)",
                dimension,
                horizon_s,
                limit=limit,
                source=Source.Learned,
                models=self.name,
                corrected=window.corrected,
                now_s=now_s,
            )
            burst.account = Bucket(burst.name, burst.account.unit, limit, window.rate_per_s, now_s=now_s)
            burst.refill = Refill.Continuous
            burst.account.adjust_used(limit, now_s)  # it refused just now: there is nothing left
        return True

    def _probe(self, now_s: float) -> None:
        self._refused_at_s = now_s
        for spot, window in self.searched.items():
            self._exact[spot] *= 2.0
            self._set(spot, window, now_s)
        if self.bursts:
            self._horizon -= 1
            for dimension in list(self.bursts):
                window = self.bursts[dimension]
                if self._horizon < 0:
                    del self.bursts[dimension]
                else:
                    rate_per_s = window.rate_per_s
                    window.period_s = BURST_HORIZONS_S[self._horizon]
                    window.set_limit(max(1, int(rate_per_s * window.period_s)), Source.Learned, now_s)
