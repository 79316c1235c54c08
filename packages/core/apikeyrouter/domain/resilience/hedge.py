"""When a second send is worth its price: hedging against a slow reply.

Main entry: `Hedger`. `record` takes in times to the first byte; `plan` says after how many seconds of silence a request
to be sent to one place should be sent to another as well, if at all; `fire` takes it from the budget.
Rules: only after the p95 of the first place's times; only where v_lat x E[seconds saved] > E[$ of the loser], since the
loser is billed; at most 2 % of the requests. E[seconds saved]: what is usually left to wait once p95 has passed, less
the median of the second place; both from the newest 256 times of each.
Off unless an operator turns it on. Sources: Dean and Barroso, "The Tail at Scale" (2013); design notes 2.11, "Hedge".
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict

from apikeyrouter.domain.resilience.retry import RetryBudget

__all__ = ["FirstByteTimes", "Hedger"]

HEDGE_RATIO = 0.02
"""Hedges per request at the most."""
PLACES_MAX = 1024
"""Providers x models whose times are remembered; the one used longest ago is forgotten first."""

_RING = 256
_SAMPLES_MIN = 40
"""Below this a p95 is a guess."""
_SORT_EVERY = 16


class FirstByteTimes:
    """The newest 256 times to first byte of one place, in seconds. Sorted lazily, once in 16 records."""

    __slots__ = ("_next", "_ring", "_sorted", "_stale")

    def __init__(self) -> None:
        self._ring: list[float] = []
        self._next = 0
        self._sorted: list[float] = []
        self._stale = 0

    def record(self, ttft_s: float) -> None:
        """One more reply began after `ttft_s`."""
        if len(self._ring) < _RING:
            self._ring.append(ttft_s)
        else:
            self._ring[self._next] = ttft_s
            self._next = (self._next + 1) % _RING
        self._stale += 1

    def quantile_s(self, share: float) -> float | None:
        """The time that `share` (0..1) of the replies stay within; None while too few are known."""
        ordered = self._ordered()
        if len(ordered) < _SAMPLES_MIN:
            return None
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def left_s(self, waited_s: float) -> float:
        """Seconds that are still to come on average, once `waited_s` have passed in silence; 0.0 when unheard of."""
        ordered = self._ordered()
        longer = ordered[bisect_right(ordered, waited_s) :]
        return sum(longer) / len(longer) - waited_s if longer else 0.0

    def _ordered(self) -> list[float]:
        if self._stale >= _SORT_EVERY or len(self._sorted) < min(_SAMPLES_MIN, len(self._ring)):
            self._sorted = sorted(self._ring)
            self._stale = 0
        return self._sorted


class Hedger:
    """Decides about hedges for one router. `value_usd_per_s`: what a second less to the first byte is worth."""

    __slots__ = ("_budget", "_places", "_value_usd_per_s")

    def __init__(self, value_usd_per_s: float, ratio: float = HEDGE_RATIO) -> None:
        self._value_usd_per_s = value_usd_per_s
        self._budget = RetryBudget(ratio, 0.0, 1.0)
        self._places: OrderedDict[tuple[str, str], FirstByteTimes] = OrderedDict()

    def record(self, provider_id: str, model: str, ttft_s: float) -> None:
        """A reply of this place began."""
        self._times(provider_id, model).record(ttft_s)

    def plan(self, first: tuple[str, str], second: tuple[str, str], *, loser_usd: float, now_s: float) -> float | None:
        """Seconds of silence after which to hedge, or None. Call it once per request: it also earns budget.

        `first`, `second`: (provider, model). `loser_usd`: what the leg that loses is expected to cost, in dollars.
        """
        self._budget.deposit(now_s)
        times = self._times(*first)
        after_s = times.quantile_s(0.95)
        second_s = self._times(*second).quantile_s(0.5)
        if after_s is None or second_s is None:
            return None
        saved_s = times.left_s(after_s) - second_s
        return after_s if self._value_usd_per_s * saved_s > loser_usd else None

    def fire(self, now_s: float) -> bool:
        """Whether the budget allows a hedge now; takes it."""
        return self._budget.try_withdraw(now_s)

    def _times(self, provider_id: str, model: str) -> FirstByteTimes:
        place = (provider_id, model)
        found = self._places.get(place)
        if found is not None:
            self._places.move_to_end(place)
            return found
        if len(self._places) >= PLACES_MAX:
            self._places.popitem(last=False)
        found = self._places[place] = FirstByteTimes()
        return found
