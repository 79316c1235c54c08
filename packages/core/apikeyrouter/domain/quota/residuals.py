"""How wrong forecasts of demand were lately, and how wide a bound must therefore be: adaptive conformal inference.

`Residuals` keeps the last errors of one horizon as multiples of a scale, in order, so that a quantile is one look-up
and a probability one bisection. `settle` scores the forecast that fell due and steers the miss rate: a bound that is
exceeded too often widens, whatever the shape of the demand (Gibbs and Candes, "Adaptive Conformal Inference Under
Distribution Shift", 2021). No distribution is assumed, which is the point: real traffic is not Poisson.

Laws: memory is bounded (`RING` errors); `quantile` falls as `exceed` rises; `exceedance` falls as `error` rises.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

__all__ = ["MISS_TARGET", "READY", "RING", "Residuals"]

RING = 900
"""Errors kept, one a second: a quarter of an hour. Half of it lost 2 to 4 points of coverage (bench.forecast)."""

READY = 60
"""Errors needed before quantiles mean something: one in twenty is three of them."""

MISS_TARGET = 0.05
"""How often a 95 % bound may be exceeded."""

GAIN = 0.004
"""Step of the miss rate per scored second: 0.003 covers more and is wider, 0.005 covers 92.8 % where this covers
93.6 %, 0.01 lost up to 5 points on bursty traffic (bench.forecast)."""

_UP_TO_HALF = 0.5 - MISS_TARGET
_MISSED, _MET = GAIN * (MISS_TARGET - 1.0), GAIN * MISS_TARGET
_MISS_MOST = 0.45  # below one half, where the median is left as it is
_ERROR_MOST = 6.0
"""Errors are cut here. A burst after silence would otherwise leave one enormous error in the ring, and every bound of
the next quarter of an hour would be its multiple: the bound doubled, for no gain in coverage (bench.forecast)."""


class Residuals:
    """The errors of forecasts over `horizon_s` whole seconds, and those forecasts that have not fallen due yet.
    `ready`: whether there are enough errors to go by."""

    __slots__ = ("_bounds", "_expected", "_next", "_order", "_ring", "_scales", "horizon_s", "miss_rate", "ready")

    def __init__(self, horizon_s: int) -> None:
        self.horizon_s = horizon_s
        self.miss_rate = MISS_TARGET
        self.ready = False
        self._ring = array("f")  # in order of time
        self._order = array("f")  # the same, in order of size
        self._next = 0
        self._expected = array("d", [-1.0]) * horizon_s  # by second modulo the horizon; -1: no forecast was made
        self._scales = array("d", [0.0]) * horizon_s
        self._bounds = array("d", [0.0]) * horizon_s

    def promise(self, slot: int, expected: float, scale: float, bound: float) -> None:
        """Notes a forecast that falls due when `slot` comes round again; a `bound` below 0 counts as 0."""
        self._expected[slot] = expected
        self._scales[slot] = scale
        self._bounds[slot] = bound

    def promise_usual(self, slot: int, expected: float, scale: float) -> None:
        """As `promise`, with the bound that a share `MISS_TARGET` of forecasts will exceed. Only when `ready`."""
        order, miss = self._order, self.miss_rate
        ranks = len(order) + 1
        rank = -1  # the last
        if miss * ranks >= 1.0:
            rank = math.ceil((1.0 - miss) * ranks) - 1
            if rank < 0:
                rank = 0
        self._expected[slot] = expected
        self._scales[slot] = scale
        self._bounds[slot] = expected + order[rank] * scale

    def forget_promises(self) -> None:
        """Drops the forecasts that have not fallen due: nothing is learned from them."""
        for slot in range(self.horizon_s):
            self._expected[slot] = -1.0

    def settle(self, slot: int, came: float) -> None:
        """Scores the forecast in `slot` by what came in its horizon."""
        expected = self._expected[slot]
        if expected < 0.0:
            return
        scale, bound = self._scales[slot], self._bounds[slot]
        error = (came - expected) / scale if scale > 0.0 else 0.0
        # without `min`, `max` and further calls: twice a second and window, they are what costs
        rate = self.miss_rate + (_MISSED if came > (bound if bound > 0.0 else 0.0) else _MET)  # noqa: FURB136
        self.miss_rate = 0.0 if rate < 0.0 else _MISS_MOST if rate > _MISS_MOST else rate  # noqa: FURB136
        if error > _ERROR_MOST:
            error = _ERROR_MOST
        ring, order = self._ring, self._order
        if len(ring) < RING:
            ring.append(error)
            error = ring[-1]  # as rounded by the ring, so that it can be found again
            self.ready = len(ring) >= READY
        else:
            at = self._next
            del order[bisect_left(order, ring[at])]
            ring[at] = error
            error = ring[at]
            self._next = at + 1 if at + 1 < RING else 0
        order.insert(bisect_right(order, error), error)  # half of the price of `insort`

    def quantile(self, exceed: float) -> float:
        """The error that a share `exceed` (0..1) of forecasts will exceed, corrected by what was missed lately."""
        count = len(self._order)
        rank = math.ceil((1.0 - self._raw(exceed)) * (count + 1)) - 1
        return self._order[min(max(rank, 0), count - 1)]

    def exceedance(self, error: float) -> float:
        """The share (0..1) of forecasts whose error will be larger: `quantile` backwards. Beyond every error seen, it
        falls off as 1 / error, a heavy tail: what was never seen is unlikely, not impossible."""
        order = self._order
        count = len(order)
        ranks = count + 1
        miss = self.miss_rate
        if miss * ranks < 1.0:
            miss = 1.0 / ranks
        top = order[-1]
        if error >= top:
            raw = (1.0 + top if top > 0.0 else 1.0) / (1.0 + error if error > 0.0 else 1.0) / ranks
        else:
            raw = (ranks - bisect_right(order, error)) / ranks
        if raw <= miss:
            return raw * MISS_TARGET / miss
        return MISS_TARGET + (raw - miss) / (0.5 - miss) * _UP_TO_HALF if raw < 0.5 else raw

    def exceedances(self, errors: Iterable[float]) -> list[float]:
        """`exceedance` of each: what is the same for all is worked out once."""
        order = self._order
        count = len(order)
        ranks = count + 1
        top = order[-1]
        miss, least = self.miss_rate, 1.0 / ranks
        if miss < least:  # as in `_raw`
            miss = least
        tail, to_half = 1.0 + top if top > 0.0 else 1.0, 0.5 - miss
        found = []
        for error in errors:
            if error >= top:
                raw = tail / (1.0 + error if error > 0.0 else 1.0) / ranks
            else:
                raw = (ranks - bisect_right(order, error)) / ranks
            if raw < 0.5:  # as is `miss`
                raw = raw * MISS_TARGET / miss if raw <= miss else MISS_TARGET + (raw - miss) / to_half * _UP_TO_HALF
            found.append(raw)
        return found

    def _miss(self) -> float:
        return max(self.miss_rate, 1.0 / (len(self._order) + 1))

    def _raw(self, exceed: float) -> float:
        # The steered rate holds for one level, 5 %. Between it and the median the correction fades out linearly.
        miss = self._miss()
        if exceed <= MISS_TARGET:
            return exceed * miss / MISS_TARGET
        if exceed >= 0.5:
            return exceed
        return miss + (exceed - MISS_TARGET) / (0.5 - MISS_TARGET) * (0.5 - miss)
