"""How much will be asked of a quota window in the next seconds, with a bound that holds 95 % of the time.

`DemandForecast.add` counts what is admitted, `bound` and `exceedance` say what is to come. The expectation is
`horizon * (0.5 * EWMA_20s + 0.5 * EWMA_10min)`; how far off such expectations were decides the bound (`residuals`).
Used per quota window: requests or tokens of one pool. `exhaustion` sets it against what is left.

Laws: pure and clock-free (`now_s`: monotonic seconds, from any start); memory and the time of a call are bounded,
whatever the gap since the last one; looking changes nothing: a forecast that is asked every second equals one that is
asked once. A clock that stands still or goes back counts towards the current second.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

from apikeyrouter.domain.quota.residuals import Residuals

__all__ = ["LONGEST_S", "MINUTE_S", "DemandBound", "DemandForecast"]

LONGEST_S = 31 * 86_400.0
"""The longest horizon: a month."""

MINUTE_S = (1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0)
"""The horizons at which the next minute is looked at, see `still_minute`."""

_SHORT_S, _LONG_S = 10, 60
_BETWEEN = math.log(_LONG_S / _SHORT_S)
_IDLE_S = 30
"""After so many empty seconds, idleness teaches nothing more: a night would else fill the ring with "nothing came",
and the morning's first bound would be 0. 60 s lost up to 2 points of coverage on bursty traffic, 120 s up to 4."""

_FAST_DECAY = math.exp(-1 / 20)
_SLOW_DECAY = math.exp(-1 / 600)
_USUAL_DECAY = math.exp(-1 / 1800)
_DAY_DECAY = math.exp(-1 / 3600)
_SPREAD_DECAY = 0.5 ** (1 / 30)
_FAST_SHARE = 0.5
_SCALE_FLOOR = 0.25
_FIRST_WEIGHT = 5.0  # until five seconds' worth is seen, one burst is spread over five seconds, not over one
_YOUNG_S = 20
"""Expectations of so young a forecast are guesses, and their errors teach nothing: kept, they widened the bounds of
the first quarter of an hour."""
_COLD_SIGMA = 0.5
"""Least spread (of the logarithm) while little is known: the 95 % bound is then twice the expectation."""

_SHORTER = 0.5
"""How relative errors grow below 10 s: as (10 / horizon)^0.5, as if seconds were independent (a little too wide for
bursts)."""
_LONGER = 0.15
"""How they grow beyond 60 s, as (horizon / 60)^0.15, for up to an hour: demand drifts. With 0, the 95 % bound covered
75 to 90 % of chat's ten minutes."""

_NOTHING = 1e-12
"""Less than so many units is none: what is left of a rate after days of silence, which would divide by nothing."""

_NORMAL = NormalDist()
_SQRT_2 = math.sqrt(2.0)


@dataclass(frozen=True, slots=True)
class DemandBound:
    """What will be asked for within a horizon, in the units that were added. `upper`: exceeded as rarely as asked."""

    expected: float
    upper: float


class DemandForecast:
    """The demand on one quota window. At most 32 KiB, 3 KiB while young; `add` costs about 0.2 us."""

    __slots__ = (
        "_border_s", "_closed", "_day_sum", "_day_weight", "_fast_sum", "_fast_weight", "_history", "_idle", "_long",
        "_long_sum", "_open", "_rate", "_short", "_short_sum", "_slow_rate", "_slow_sum", "_slow_weight",
        "_spread_mean", "_spread_square", "_spread_weight", "_usual_rate", "_usual_sum", "_usual_weight",
    )  # fmt: skip

    def __init__(self) -> None:
        self._border_s = -math.inf  # the end of the current second; before the first add, always past
        self._open = 0  # what came in the current second
        self._closed = 0  # how many seconds have ended
        self._idle = 0  # how many of the last of them were empty
        self._history = [0] * _LONG_S
        self._short_sum = self._long_sum = 0
        self._short = Residuals(_SHORT_S)
        self._long = Residuals(_LONG_S)
        self._fast_sum = self._fast_weight = self._slow_sum = self._slow_weight = 0.0
        self._usual_sum = self._usual_weight = self._day_sum = self._day_weight = 0.0
        self._spread_mean = self._spread_square = self._spread_weight = 0.0
        self._rate = self._slow_rate = self._usual_rate = 0.0

    # -- counting ---------------------------------------------------------------------------------------------------

    def add(self, amount: int, now_s: float) -> None:
        """Counts an admission of `amount` units (>= 0)."""
        if now_s >= self._border_s:
            self._catch_up(now_s)
            if self._border_s == -math.inf:
                self._border_s = math.floor(now_s) + 1.0
        self._open += amount

    @property
    def seconds_seen(self) -> int:
        """How many whole seconds it knows; under about 120, bounds rest on few data and are wide."""
        return self._closed

    # -- foretelling ------------------------------------------------------------------------------------------------

    def rate_per_s(self, now_s: float) -> float:
        """Units a second, as expected for the next minute."""
        self._catch_up(now_s)
        return self._rate

    def expected(self, horizon_s: float, now_s: float) -> float:
        """Units expected in the next `horizon_s` seconds (0 to a month)."""
        self._catch_up(now_s)
        return self.still_expected(horizon_s)

    def bound(self, horizon_s: float, now_s: float, level: float = 0.95) -> DemandBound:
        """What is expected in the next `horizon_s` seconds (0 to a month), and what will not be exceeded with
        probability `level` (0..1). A level below 0.5 gives a lower bound in `upper`."""
        self._catch_up(now_s)
        return DemandBound(self.still_expected(horizon_s), self._quantile(horizon_s, 1.0 - level))

    def exceedance(self, amount: float, horizon_s: float, now_s: float) -> float:
        """The probability (0..1) that more than `amount` is asked for in the next `horizon_s` seconds."""
        self._catch_up(now_s)
        return self.still_exceedances((horizon_s,), (amount,))[0]

    def still_expected(self, horizon_s: float) -> float:
        """As `expected`, at the time of the last question: for one who asks of many horizons at once."""
        rate = self._rate
        if horizon_s <= _LONG_S:
            return rate * horizon_s
        slow = self._slow_rate
        # What the last seconds were like says nothing about the next hours: the farther, the longer the memory.
        if horizon_s <= 600.0:
            return rate * _LONG_S + slow * (horizon_s - _LONG_S)
        total, weight = rate * _LONG_S + slow * (600.0 - _LONG_S), self._day_weight
        later_s = (horizon_s if horizon_s < LONGEST_S else LONGEST_S) - 600.0  # noqa: FURB136 - as in `_rates`
        return total + self._day_sum / (weight if weight > _FIRST_WEIGHT else _FIRST_WEIGHT) * later_s  # noqa: FURB136

    def still_exceedances(self, horizons_s: Sequence[float], amounts: Sequence[float]) -> list[float]:
        """As `exceedance`, at the time of the last question, of an amount for each horizon; horizons rise."""
        short, long = self._short, self._long
        if not short.ready:
            return self._cold_exceedances(horizons_s, amounts)
        rate, usual_rate, errors = self._rate, self._usual_rate, []
        for horizon_s, amount in zip(horizons_s, amounts, strict=True):
            expected = rate * horizon_s if horizon_s <= _LONG_S else self.still_expected(horizon_s)
            if expected <= _NOTHING:
                errors.append(math.inf)
                continue
            # `_scale`, written out
            usual = usual_rate * horizon_s
            least = _SCALE_FLOOR * usual
            scale = math.sqrt((expected if expected > least else least) * (usual if usual > 1e-9 else 1e-9))  # noqa: FURB136
            errors.append((amount - expected) / (scale * _stretch(horizon_s)))
        near, below = bisect_right(horizons_s, _SHORT_S), bisect_left(horizons_s, _LONG_S)
        if not long.ready:
            return short.exceedances(errors[:near]) + self._cold_exceedances(horizons_s[near:], amounts[near:])
        if not below:  # all are far: the shorter ring tells nothing of them
            return long.exceedances(errors)
        chances, far = short.exceedances(errors[:below]), long.exceedances(errors[near:])
        for place in range(near, below):
            chance = chances[place]
            chances[place] = chance + _long_share(horizons_s[place]) * (far[place - near] - chance)
        chances += far[below - near :]
        return chances

    def still_minute(
        self, headroom: float, refill_per_s: float, least: float
    ) -> tuple[float, float, Sequence[float], list[float]] | None:
        """The chances that more is asked for than `headroom` (> 0) and what comes back: the largest within 10 s, the
        largest within a minute, and those at horizons of `MINUTE_S`, which are told with them: at all of them, from
        10 s on where no earlier one reaches `least`, or at none where the minute does not. As `still_exceedances`, in
        a quarter of its time. None while young."""
        rate, usual = self._rate, self._usual_rate
        if not self._long.ready or usual < 1e-9:
            return None
        if rate <= _NOTHING:
            return 0.0, 0.0, (), []
        # Up to a minute, expectation, scale and supply are multiples of the horizon, so an error is linear in two
        # constants of it (`_SOON`).
        least_rate = _SCALE_FLOOR * usual
        scale = math.sqrt((rate if rate > least_rate else least_rate) * usual)  # noqa: FURB136 - as in `_rates`
        over, beside = headroom / scale, (refill_per_s - rate) / scale
        short, long = self._short, self._long
        first = [over * a + beside * b for a, b in _SOON]
        falling = headroom >= (refill_per_s - rate) * _SHORT_S  # errors fall all the way to 10 s
        soon = short.exceedance(over / _SHORT_S + beside if falling else min(first))
        # Beyond, errors fall with the horizon, and each chance lies between those of the two rings.
        late = long.exceedance(over / _LONG_S + beside)
        minute = soon if soon > late else late  # noqa: FURB136
        if minute < least and short.exceedance(over / _LAST_MIXED_S + beside) <= late:
            return soon, minute, (), []
        mixed = [over / horizon_s + beside for horizon_s in _MIXED_S]
        spans_s, errors = (_FROM_SOON_S, [min(first), *mixed]) if soon < least else (MINUTE_S, first + mixed)
        chances = short.exceedances(errors)
        if soon < least <= chances[0]:  # rounding made `soon` smaller
            spans_s, chances = MINUTE_S, short.exceedances(first + mixed)
        place = len(chances) - len(mixed)
        for share, far in zip(_MIXED_SHARES, long.exceedances(mixed), strict=True):
            chances[place] += share * (far - chances[place])
            place += 1
        chances.append(late)
        return soon, max(chances), spans_s, chances

    def _cold_exceedances(self, horizons_s: Sequence[float], amounts: Sequence[float]) -> list[float]:
        """The same from what little was seen; see `_cold_spread`."""
        of_second, of_mean = self._cold_spread()
        rate, found = self._rate, []
        for horizon_s, amount in zip(horizons_s, amounts, strict=True):
            expected = rate * horizon_s if horizon_s <= _LONG_S else self.still_expected(horizon_s)
            if expected <= _NOTHING or amount <= _NOTHING:
                found.append(0.0 if expected <= _NOTHING else 1.0)
                continue
            sigma = math.sqrt(math.log1p(of_second / max(horizon_s, 1.0) + of_mean))
            if sigma < _COLD_SIGMA:
                sigma = _COLD_SIGMA
            ratio = amount / expected
            if ratio <= 0.0:  # too small for a float, and `log` would not take it
                found.append(1.0)
                continue
            at = (math.log(ratio) + sigma * sigma / 2) / sigma
            found.append(1.0 - 0.5 * (1.0 + math.erf(at / _SQRT_2)))
        return found

    def _scale(self, horizon_s: float, expected: float) -> float:
        # The geometric mean of the expectation and of the usual demand: errors grow with the level, less than in
        # proportion. In proportion alone, the bound exploded whenever the expectation neared 0.
        usual = self._usual_rate * horizon_s
        least = _SCALE_FLOOR * usual
        # without `max`: the calls cost more than the work
        return math.sqrt((expected if expected > least else least) * (usual if usual > 1e-9 else 1e-9))  # noqa: FURB136

    def _rings(self, horizon_s: float) -> tuple[Residuals, Residuals, float] | None:
        """The two rings to mix and the second one's share; None while too young."""
        short, long = self._short, self._long
        if horizon_s <= _SHORT_S:
            return (short, short, 0.0) if short.ready else None
        if not long.ready:
            return None
        return (long, long, 0.0) if horizon_s >= _LONG_S else (short, long, _long_share(horizon_s))

    def _quantile(self, horizon_s: float, exceed: float) -> float:
        expected = self.still_expected(horizon_s)
        if expected <= 0.0:
            return 0.0
        rings = self._rings(horizon_s)
        if rings is None:
            of_second, of_mean = self._cold_spread()
            sigma = max(math.sqrt(math.log1p(of_second / max(horizon_s, 1.0) + of_mean)), _COLD_SIGMA)
            return expected * math.exp(sigma * _normal_at(1.0 - exceed) - sigma**2 / 2)
        near, far, share = rings
        error = near.quantile(exceed)
        if share > 0.0:
            error += share * (far.quantile(exceed) - error)
        return max(0.0, expected + error * _stretch(horizon_s) * self._scale(horizon_s, expected))

    def _cold_spread(self) -> tuple[float, float]:
        """Relative variances, of one second and of the mean: those of a log-normal with the moments of what little
        was seen, seconds that differ and a mean that rests on few of them. It stands for Gamma-Poisson arrivals with
        sizes, and needs no split into the two."""
        seen = max(self._spread_weight, 1.0)
        mean = self._spread_mean / seen
        if mean <= 0.0:
            return 0.0, 0.0
        variance = max(self._spread_square / seen / (mean * mean) - 1.0, 1.0 / seen)
        return variance, variance / seen

    # -- the passing of seconds -------------------------------------------------------------------------------------

    def _catch_up(self, now_s: float) -> None:
        border_s = self._border_s
        if now_s < border_s or border_s == -math.inf:
            return
        gap = int(now_s - border_s)  # whole seconds that ended after the current one
        came = self._open
        self._close(came if came > 0 else 0)  # noqa: FURB136
        self._open = 0
        if gap:
            steps = min(gap, max(_LONG_S + 1 - self._idle, 0))  # then the history is empty
            for _ in range(steps):
                self._close(0)
            if gap > steps:
                self._skip(gap - steps)
        self._border_s = border_s + gap + 1.0

    def _close(self, came: int) -> None:
        """Ends a second in which `came` was asked for: score what falls due, learn, and promise anew."""
        history, second = self._history, self._closed
        slot = second % _LONG_S
        short_sum = self._short_sum = self._short_sum + (came - history[slot - _SHORT_S])  # below 0: from the end
        long_sum = self._long_sum = self._long_sum + (came - history[slot])
        history[slot] = came
        self._closed = second + 1
        idle = self._idle = 0 if came else self._idle + 1
        if idle <= _IDLE_S:
            self._usual_sum = self._usual_sum * _USUAL_DECAY + came
            self._usual_weight = self._usual_weight * _USUAL_DECAY + 1.0
        elif idle == _IDLE_S + 1:
            self._short.forget_promises()
            self._long.forget_promises()
        self._fast_sum = self._fast_sum * _FAST_DECAY + came
        self._fast_weight = self._fast_weight * _FAST_DECAY + 1.0
        self._slow_sum = self._slow_sum * _SLOW_DECAY + came
        self._slow_weight = self._slow_weight * _SLOW_DECAY + 1.0
        self._day_sum = self._day_sum * _DAY_DECAY + came
        self._day_weight = self._day_weight * _DAY_DECAY + 1.0
        self._rates()
        if not self._long.ready:
            self._spread_mean = self._spread_mean * _SPREAD_DECAY + came
            self._spread_square = self._spread_square * _SPREAD_DECAY + float(came) * came
            self._spread_weight = self._spread_weight * _SPREAD_DECAY + 1.0
        if idle <= _IDLE_S and second >= _YOUNG_S:
            rate, usual_rate = self._rate, self._usual_rate
            for ring, place, summed in ((self._short, second % _SHORT_S, short_sum), (self._long, slot, long_sum)):
                horizon_s = ring.horizon_s
                expected = rate * horizon_s
                # `_scale`, written out
                usual = usual_rate * horizon_s
                least = _SCALE_FLOOR * usual
                scale = math.sqrt((expected if expected > least else least) * (usual if usual > 1e-9 else 1e-9))  # noqa: FURB136
                ring.settle(place, summed)
                if expected > 0.0 and ring.ready:  # `_quantile`, where nothing is stretched
                    ring.promise_usual(place, expected, scale)
                else:
                    ring.promise(place, expected, scale, self._quantile(horizon_s, 0.05))

    def _rates(self) -> None:
        """What is asked again and again until the next second ends."""
        # without `max`: once a second and window, the calls cost more than the work
        fast, slow, usual = self._fast_weight, self._slow_weight, self._usual_weight
        slow_rate = self._slow_rate = self._slow_sum / (slow if slow > _FIRST_WEIGHT else _FIRST_WEIGHT)  # noqa: FURB136
        fast_rate = self._fast_sum / (fast if fast > _FIRST_WEIGHT else _FIRST_WEIGHT)  # noqa: FURB136
        self._rate = _FAST_SHARE * fast_rate + (1.0 - _FAST_SHARE) * slow_rate
        self._usual_rate = self._usual_sum / (usual if usual > _FIRST_WEIGHT else _FIRST_WEIGHT)  # noqa: FURB136

    def _skip(self, seconds: int) -> None:
        """The same as so many empty seconds after a long idle time, at once."""
        self._closed += seconds
        self._idle += seconds
        self._fast_sum, self._fast_weight = _idled(self._fast_sum, self._fast_weight, _FAST_DECAY, seconds)
        self._slow_sum, self._slow_weight = _idled(self._slow_sum, self._slow_weight, _SLOW_DECAY, seconds)
        self._day_sum, self._day_weight = _idled(self._day_sum, self._day_weight, _DAY_DECAY, seconds)
        self._rates()
        if not self._long.ready:
            kept = _SPREAD_DECAY**seconds
            self._spread_square *= kept
            self._spread_mean, self._spread_weight = _idled(
                self._spread_mean, self._spread_weight, _SPREAD_DECAY, seconds
            )


@lru_cache(maxsize=256)
def _stretch(horizon_s: float) -> float:
    """How much wider relative errors are than those of the rings."""
    if horizon_s <= _SHORT_S:
        return float((_SHORT_S / max(horizon_s, 0.1)) ** _SHORTER)
    return float((min(horizon_s, 3600.0) / _LONG_S) ** _LONGER) if horizon_s >= _LONG_S else 1.0


@lru_cache(maxsize=256)
def _long_share(horizon_s: float) -> float:
    """How much the longer ring counts between the two."""
    return math.log(horizon_s / _SHORT_S) / _BETWEEN


_SOON = [(1.0 / (horizon_s * _stretch(horizon_s)), 1.0 / _stretch(horizon_s)) for horizon_s in MINUTE_S[:6]]
_MIXED_S = MINUTE_S[6:-1]
_FROM_SOON_S = MINUTE_S[5:]
_LAST_MIXED_S = _MIXED_S[-1]
_MIXED_SHARES = [_long_share(horizon_s) for horizon_s in _MIXED_S]
"""What `still_minute` needs of its horizons."""


@lru_cache(maxsize=8)
def _normal_at(level: float) -> float:
    return _NORMAL.inv_cdf(min(max(level, 1e-9), 1 - 1e-9))


def _idled(total: float, weight: float, decay: float, seconds: int) -> tuple[float, float]:
    kept = decay**seconds
    return total * kept, weight * kept + (1.0 - kept) / (1.0 - decay)
