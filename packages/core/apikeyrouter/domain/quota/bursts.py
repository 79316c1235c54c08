"""How much a limit holds at once, where that is less than a whole period's worth.

Providers that count in shorter stretches than they tell (Azure and Anthropic by the second) have buckets that flow back
at limit / period but hold less than the limit. Two sources say how much. A reply's `reset` is the time until the bucket
is full: capacity = remaining + reset x rate, every time (`CapacityWatch`). And a refusal that says when to come back
tells how far short the request was, and so what was really left (`horizon_of`), even where `remaining` speaks of the
whole period.
Laws: nothing here assumes a bucket: in a window that ends as a whole the sum falls as time goes by, and in a rolling
one it stands above the limit; neither is taken for one.
"""

from __future__ import annotations

from apikeyrouter.domain.resilience.durations import LimitFacts

__all__ = ["SHORT_RATIO", "CapacityWatch", "Span", "agrees_with_a_bucket", "horizon_of", "left_by"]

Span = tuple[float, float]
"""The least and the most that something may be."""

SHORT_RATIO = 0.9
"""A bucket is called short that holds less than this share of its limit: above, rounding may be the reason."""

_SPREAD_RATIO = 0.02
_WATCHED_PERIODS = 0.05
"""So long the sum must stand still: a window that ends as a whole loses that share of its limit meanwhile."""

_AS_HIGH = 0.02

_AGREES_RATIO = 0.05
_AGREES_UNITS = 1.0


class CapacityWatch:
    """Watches remaining + reset x rate of one limit."""

    __slots__ = ("_from_s", "_highest", "_highest_reset_s", "_limit", "_lowest")

    def __init__(self) -> None:
        self._limit = -1
        self._from_s = 0.0
        self._lowest = self._highest = self._highest_reset_s = 0.0

    def level(self, reset_s: float, limit: int, period_s: float) -> float:
        """What is left, with its fraction, when it is full again in `reset_s`. A limit that is told in whole units may
        flow back by up to one unit a period faster: what that makes is left out."""
        later_s = reset_s - self._highest_reset_s
        return self._highest - reset_s * limit / period_s - (later_s / period_s if later_s > 0.0 else 0.0)

    def observe(self, remaining: int, reset_s: float, limit: int, period_s: float, at_s: float) -> int | None:
        """What a reply said at `at_s`. The capacity, once it has stood still for long enough; else None."""
        capacity = remaining + reset_s * limit / period_s
        rate_per_s = limit / period_s
        # without `min` and `max`: every reply is watched
        lowest, highest = self._lowest, self._highest
        if capacity < lowest:
            lowest = capacity
        if capacity > highest:
            highest = capacity
        # whole units and whole milliseconds are all that may blur it
        slack = _SPREAD_RATIO * highest + 1.0 + rate_per_s * 0.001
        if limit != self._limit or highest - lowest > slack:
            self._limit, self._from_s = limit, at_s
            self._lowest = self._highest = capacity
            self._highest_reset_s = reset_s
            return None
        if capacity > self._highest or (capacity > self._highest - _AS_HIGH and reset_s > self._highest_reset_s):
            self._highest_reset_s = reset_s
        self._lowest, self._highest = lowest, highest
        stood_s = at_s - self._from_s
        if stood_s < _WATCHED_PERIODS * period_s or stood_s < 2.0 * slack / rate_per_s:
            return None
        return int(highest + 1e-6) or 1


def left_by(need: int, retry_s: float, rate_per_s: float) -> float:
    """What was really left when a request of `need` was told to come back after `retry_s`; below zero: more is needed
    than there will ever be, or the wait has another reason."""
    return need - retry_s * rate_per_s


def horizon_of(
    limit: int, period_s: float, used: tuple[float, float], need: int, retry_s: float, *, need_blur: float = 0.0
) -> Span | None:
    """Over how many seconds a limit is counted that refused `need` (give or take `need_blur`): the shortest and the
    longest horizon that it may be. `used`: of what the bucket holds, the least and the most that it may be, for what is
    told is rounded, as is the limit. None when the wait has another reason, or not even one unit would fit."""
    rate_per_s = limit / period_s
    left = left_by(need, retry_s, rate_per_s)
    most_left = left + need_blur + rate_per_s * _rounded_s(retry_s)
    if most_left < -_AGREES_UNITS - _AGREES_RATIO * need:
        return None
    low = used[0] + max(0.0, left - need_blur)
    high = used[1] + max(0.0, most_left)
    if high < 1.0:
        return None
    return max(0.0, low) * period_s / (limit + 1), high / rate_per_s


def _rounded_s(retry_s: float) -> float:
    """By how much a wait was rounded up at the most: to a millisecond or a second."""
    return 0.001 if retry_s % 1.0 else 1.0


def agrees_with_a_bucket(numbers: LimitFacts, period_s: float, retry_s: float) -> bool:
    """Whether the wait that a refusal asks for is what a bucket of its numbers needs to hold enough again."""
    if numbers.used is None or numbers.limit <= 0 or numbers.too_large:
        return False
    short = numbers.used + numbers.requested - numbers.limit  # whole units: rounded
    rate_per_s = numbers.limit / period_s
    slack = _AGREES_RATIO * short + _AGREES_UNITS + _rounded_s(retry_s) * rate_per_s
    return short >= 0 and abs(retry_s * rate_per_s - short) <= slack
