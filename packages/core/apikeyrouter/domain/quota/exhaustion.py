"""When a quota window runs dry: what is left and what comes back (`Supply`) against what will be asked for.

`exhaustion(forecast, supply, now_s)` gives the chance of running dry within 10 s, 60 s and until the reset, when that
happens (one time in ten, in two, in nine of ten), and the shadow price that routing pays for using the window.
A window is dry by time h when the demand up to some moment before h exceeds what was left plus what came back.

Laws: chances lie in 0..1, never fall with the horizon and never rise with headroom; p10 <= p50 <= p90, where None
stands for "later than anything looked at".
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct

from apikeyrouter.domain.quota.forecast import LONGEST_S, MINUTE_S, DemandForecast

__all__ = ["SHADOW_PRICE_MOST", "Exhaustion", "Supply", "exhaustion"]

SHADOW_PRICE_MOST = 10.0
"""A price at which nobody buys who has another pool."""

_OPEN_ENDED_S = 3600.0
"""How far to look when nothing ever resets; a window that lasts an hour at this demand lasts."""

_FAR_S = (
    90.0, 120.0, 180.0, 300.0, 600.0, 1200.0, 1800.0,
    3600.0, 7200.0, 14_400.0, 28_800.0, 57_600.0, 86_400.0, 172_800.0, 345_600.0, 691_200.0, 1_382_400.0, LONGEST_S,
)  # fmt: skip
"""The horizons beyond the next minute: what is dry by then needs no look at them."""
_CERTAIN = 0.999
_PRICED_S = (10.0, 60.0, 600.0, LONGEST_S)  # what is beyond the end is the end
_LATER_PRICED_S = _PRICED_S[1:]
_SHARES = (0.1, 0.5, 0.9)
_SHARES_IN_ALL = len(_SHARES)
_FREE_UP_TO = 0.5  # of what is available: below it, using the window costs nothing


class Supply(Struct, frozen=True, gc=False):
    """What is left of a window and what comes back, in its units. Make one with `continuous`, `fixed` or `rolling`.

    `headroom`: free now. `refill_per_s`: comes back all the time, for the next `refill_for_s` seconds, `later_per_s`
    after them. `reset_in_s`: then everything is back and a new window begins; None when there is no such moment.
    """

    headroom: float
    refill_per_s: float = 0.0
    refill_for_s: float = LONGEST_S
    later_per_s: float = 0.0
    reset_in_s: float | None = None

    @classmethod
    def continuous(cls, headroom: float, refill_per_s: float) -> Supply:
        """A token bucket."""
        return cls(headroom, refill_per_s)

    @classmethod
    def fixed(cls, headroom: float, reset_in_s: float) -> Supply:
        """A window, fixed or calendar, that ends in `reset_in_s` seconds (>= 0)."""
        return cls(headroom, reset_in_s=max(reset_in_s, 0.0))

    @classmethod
    def rolling(cls, headroom: float, limit: float, period_s: float) -> Supply:
        """A rolling window. What was used is taken to leave evenly over the next period, the limit's rate after it."""
        used = max(limit - headroom, 0.0)
        return cls(headroom, used / period_s, period_s, limit / period_s)

    def within(self, horizon_s: float) -> float:
        """Units that can be used in the next `horizon_s` seconds of this window."""
        soon_s = self.refill_for_s
        if horizon_s <= soon_s:
            return self.headroom + horizon_s * self.refill_per_s
        return self.headroom + soon_s * self.refill_per_s + (horizon_s - soon_s) * self.later_per_s

    def all_within(self, horizons_s: Sequence[float]) -> list[float]:
        """`within` of each; horizons rise."""
        if horizons_s and horizons_s[-1] > self.refill_for_s:
            return [self.within(horizon_s) for horizon_s in horizons_s]
        headroom, refill_per_s = self.headroom, self.refill_per_s
        return [headroom + horizon_s * refill_per_s for horizon_s in horizons_s]


class Exhaustion(Struct, frozen=True, gc=False):
    """What will become of a window at the demand foreseen.

    `headroom`: units free now. `demand_per_s`: units a second, expected for the next minute. `chance_10s`,
    `chance_60s`: probability (0..1) of running dry within that time, or until the reset if that is sooner;
    `chance_reset`: until the reset, None without one. `p10_s`, `p50_s`, `p90_s`: seconds by which it will be dry with
    probability 0.1, 0.5, 0.9; None: not before the reset, or, without one, not within an hour. `shadow_price`: 0 when
    at most half of what is available will be used, 1 when the demand takes all of it, up to `SHADOW_PRICE_MOST`;
    more than 1 means that it will not last. `reset_in_s`: seconds to the reset, None without one.
    """

    headroom: float
    demand_per_s: float
    chance_10s: float
    chance_60s: float
    chance_reset: float | None
    p10_s: float | None
    p50_s: float | None
    p90_s: float | None
    shadow_price: float
    reset_in_s: float | None


def exhaustion(
    forecast: DemandForecast, supply: Supply, now_s: float, *, earlier: Exhaustion | None = None, earlier_s: float = 0.0
) -> Exhaustion:
    """Sets what is foreseen against what there is. `now_s`: monotonic seconds, those of the forecast. About 20 us.

    `earlier`: what was said of the same window at `earlier_s`, a few seconds ago: where nothing resets, times beyond
    the next minute are taken from it, which saves a third of the work.
    """
    reset_s = supply.reset_in_s
    end_s = _OPEN_ENDED_S if reset_s is None else min(reset_s, LONGEST_S)
    rate = forecast.rate_per_s(now_s)
    price = _shadow_price(forecast, supply, end_s)
    if supply.headroom <= 0.0:
        chance = None if reset_s is None else 1.0
        return Exhaustion(supply.headroom, rate, 1.0, 1.0, chance, 0.0, 0.0, 0.0, price, reset_s)
    times: list[float | None] = [None, None, None]
    chance_10s, chance, place = _minute(forecast, supply, end_s, times)
    chance_60s = chance
    if end_s > 60.0 and chance < _CERTAIN:
        later = None if earlier is None or reset_s is not None else _still_later(earlier, now_s - earlier_s, place)
        if later is not None:
            times[place:] = later
        else:
            spans_s = _far(end_s)
            chances = forecast.still_exceedances(spans_s, supply.all_within(spans_s))
            most = max(chances)
            _note(times, place, (60.0, chance), spans_s, chances, most)
            if most > chance:
                chance = most
    p10_s, p50_s, p90_s = times
    return Exhaustion(
        supply.headroom, rate, chance_10s, chance_60s, None if reset_s is None else chance, p10_s, p50_s, p90_s,
        price, reset_s,
    )  # fmt: skip


def _minute(
    forecast: DemandForecast, supply: Supply, end_s: float, times: list[float | None]
) -> tuple[float, float, int]:
    """The chance of running dry within 10 s, and within the next minute, or until `end_s` if that is sooner, and how
    many of `times` lie in it, which are noted there."""
    if end_s >= 60.0 and supply.refill_for_s >= 60.0:
        looked = forecast.still_minute(supply.headroom, supply.refill_per_s, _SHARES[0])
        if looked is not None:
            chance_10s, chance_60s, spans_s, chances = looked
            return chance_10s, chance_60s, _note(times, 0, (0.0, 0.0), spans_s, chances, chance_60s)
    spans_s = MINUTE_S if end_s >= 60.0 else (*MINUTE_S[: bisect_left(MINUTE_S, end_s)], end_s)
    chances = forecast.still_exceedances(spans_s, supply.all_within(spans_s))
    chance_10s, most = max(chances[: bisect_right(spans_s, 10.0)]), max(chances)
    return chance_10s, most, _note(times, 0, (0.0, 0.0), spans_s, chances, most)


def _note(
    times: list[float | None],
    place: int,
    before: tuple[float, float],
    spans_s: Sequence[float],
    chances: Sequence[float],
    most: float,
) -> int:
    """Writes down when the chance passes each of `_SHARES`, from `place` on. `before`: the time and the chance that
    come before; `most`: the largest of `chances`. The number of those that it passed."""
    if place == _SHARES_IN_ALL or most < _SHARES[place]:
        return place
    at_s, chance = before
    share = _SHARES[place]
    for span_s, of_span in zip(spans_s, chances, strict=True):
        # Once dry is dry: the chance of the whole stretch is at least that of any part.
        if of_span > chance:
            while of_span >= share:
                times[place] = at_s + (span_s - at_s) * (share - chance) / (of_span - chance)
                place += 1
                if place == _SHARES_IN_ALL:
                    return place
                share = _SHARES[place]
            chance = of_span
        at_s = span_s
    return place


def _still_later(earlier: Exhaustion, gone_s: float, place: int) -> list[float | None] | None:
    """The times from `place` on, of an outlook made `gone_s` seconds ago; None when one of them was not beyond the next
    minute, which is known better now."""
    later: list[float | None] = []
    for time_s in (earlier.p10_s, earlier.p50_s, earlier.p90_s)[place:]:
        left_s = None if time_s is None else time_s - gone_s
        if left_s is not None and left_s < 60.0:
            return None
        later.append(left_s)
    return later


@lru_cache(maxsize=1)
def _far(end_s: float) -> tuple[float, ...]:
    """The horizons beyond a minute, up to `end_s` and with it."""
    return (*_FAR_S[: bisect_left(_FAR_S, end_s)], end_s)


def _shadow_price(forecast: DemandForecast, supply: Supply, end_s: float) -> float:
    """The dearest of the horizons: the rate of use over the rate at which what there is would just last (the dual
    price of the window's constraint), free up to one half."""
    most = 0.0
    headroom, refill_per_s, refill_for_s = supply.headroom, supply.refill_per_s, supply.refill_for_s
    # Where the refill is even and something is left, the minute is dearer than its first seconds.
    for horizon_s in _LATER_PRICED_S if headroom > 0.0 and refill_for_s >= 60.0 else _PRICED_S:
        span_s = horizon_s if horizon_s < end_s else end_s  # noqa: FURB136
        expected = forecast.still_expected(span_s)
        if expected > 0.0:
            there_is = headroom + span_s * refill_per_s if span_s <= refill_for_s else supply.within(span_s)
            price = expected / there_is if there_is > 0.0 else SHADOW_PRICE_MOST
            if price > most:
                most = price
    if most <= _FREE_UP_TO:
        return 0.0
    price = (most - _FREE_UP_TO) / (1.0 - _FREE_UP_TO)
    return price if price < SHADOW_PRICE_MOST else SHADOW_PRICE_MOST  # noqa: FURB136
