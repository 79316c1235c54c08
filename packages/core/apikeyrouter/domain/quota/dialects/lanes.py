"""Limit headers as tables: which header tells which side of which limit.

Main entries: `Lane` (one limit), `HeaderTable` (all of a dialect's, compiled), `facts_of`. A lane is written once with
the three names of its headers; reading a reply is one dictionary look-up for each of its headers and no more.
Laws: the first of two equal headers counts; a lane of which neither limit nor remaining was told is no fact;
0 <= remaining <= limit; names that a provider sends and that limit nothing we count are listed as ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from apikeyrouter.domain.interfaces.transport import Headers
from apikeyrouter.domain.quota.dialects.values import RESET_MAX_S, clamped_reset_s, count, provider_clock, reset_reading
from apikeyrouter.domain.quota.facts import DAY_S, MINUTE_S, MONTH_S, Dimension, LimitFact, Refill, Source

__all__ = ["CHARGED", "LIMIT", "PERIOD", "REMAINING", "RESET", "HeaderTable", "Lane", "Told", "facts_of", "tightest"]

LIMIT, REMAINING, RESET, CHARGED, PERIOD = 0, 1, 2, 3, 4
"""Which side of a limit a header tells. Charged: what this request cost. Period: the limit's own period in seconds."""

Told = list[bytes | None]

_DAY_FROM_S = 3_600.0
_DAY_TO_S = 1.005 * DAY_S


@dataclass(frozen=True, slots=True)
class Lane:
    """One limit that headers tell.

    `names`: its headers by side. `period_s`: 0 when the reset must tell it (the smallest usual period that holds it).
    `scale`: the told numbers stand for so many in `period_s` (rates told per second that are counted per minute).
    `may_be_daily`: a full reset that takes longer than a minute's refill could says that the period is a day.
    `twin`: another lane tells the same dimension and period; the tighter of both counts.
    """

    dimension: Dimension
    period_s: float
    names: Mapping[int, str]
    reset_means: Literal["full", "next", "window"] = "full"
    models: str = ""
    refill: Refill | None = None
    scale: int = 1
    may_be_daily: bool = False
    twin: bool = False


class HeaderTable:
    """The lanes of a dialect, compiled for reading. `ignored`: further names that it knows and that say no limit."""

    __slots__ = ("_places", "ignored", "lanes", "plain")

    def __init__(self, lanes: Sequence[Lane], ignored: Iterable[str] = ()) -> None:
        self.lanes = tuple(lanes)
        self.ignored = frozenset(name.encode("ascii") for name in ignored)
        # lanes whose numbers need no thought: most replies tell only these, and every reply is read
        self.plain = tuple(
            bool(lane.period_s) and lane.scale == 1 and not lane.may_be_daily and max(lane.names) <= RESET
            for lane in self.lanes
        )
        self._places = {
            name.encode("ascii"): (number, side)
            for number, lane in enumerate(self.lanes)
            for side, name in lane.names.items()
        }

    @property
    def names(self) -> frozenset[bytes]:
        """Every header name that is understood, lower case."""
        return self.ignored.union(self._places)

    def pick(self, headers: Headers) -> dict[int, Told]:
        """What the headers tell, by number of the lane. Names in lower case, as transports give them, cost least."""
        told: dict[int, Told] = {}
        places = self._places
        for name, value in headers:
            if name in places:
                number, side = places[name]
                if number in told:
                    sides = told[number]
                else:
                    sides = told[number] = [None, None, None, None, None]
                if sides[side] is None:
                    sides[side] = value
        if not told and any(name[:1].isupper() for name, _ in headers):
            return self.pick([(name.lower(), value) for name, value in headers])
        return told


def facts_of(table: HeaderTable, headers: Headers, utc_now: datetime) -> list[LimitFact]:
    """The facts that a reply's headers tell, in the order of the headers."""
    facts: list[LimitFact] = []
    twins = False
    now_s: float | None = None
    lanes, plain = table.lanes, table.plain
    for number, told in table.pick(headers).items():
        lane = lanes[number]
        limit, remaining, reset = count(told[LIMIT]), count(told[REMAINING]), told[RESET]
        if limit is None and remaining is None:
            continue
        wait_s: float | None = None
        reading = None if reset is None else reset_reading(reset)
        if reading is not None:
            wait_s, is_moment = reading
            if is_moment:
                if now_s is None:
                    now_s = provider_clock(headers, utc_now)
                wait_s = clamped_reset_s(wait_s - now_s)
        if plain[number]:
            if limit is not None and remaining is not None and remaining > limit:
                remaining = limit
            facts.append(
                LimitFact(
                    lane.dimension, lane.period_s, limit, remaining, wait_s, lane.reset_means, lane.models, lane.refill
                )
            )
        else:
            facts.append(fact_of(lane, limit, remaining, wait_s, told))
        twins = twins or lane.twin
    return tightest(facts) if twins and len(facts) > 1 else facts


def fact_of(lane: Lane, limit: int | None, remaining: int | None, wait_s: float | None, told: Told) -> LimitFact:
    """One lane's fact out of its numbers, of which limit or remaining is given."""
    period_s = lane.period_s
    if told[PERIOD] is not None:
        told_s = count(told[PERIOD])
        if told_s is not None and 0 < told_s <= RESET_MAX_S:
            period_s = float(told_s)
    elif (
        lane.may_be_daily
        and wait_s
        and limit
        and remaining is not None
        and wait_s * limit > _DAY_FROM_S * (limit - remaining)
        and _fills_in_a_day(limit, remaining, wait_s)
    ):
        period_s = DAY_S
    elif not period_s:
        period_s = _period_around(wait_s)
    if limit is not None:
        limit *= lane.scale
    if remaining is not None:
        remaining *= lane.scale
        if limit is not None and remaining > limit:
            remaining = limit
    return LimitFact(
        lane.dimension,
        period_s,
        limit,
        remaining,
        wait_s,
        lane.reset_means,
        lane.models,
        lane.refill,
        "UTC",
        Source.Header,
        None if told[CHARGED] is None else count(told[CHARGED]),
    )


def _fills_in_a_day(limit: int, remaining: int, wait_s: float) -> bool:
    """Whether a bucket that is full again after `wait_s` refills over a day and not over a minute.

    OpenAI tells its requests per day under the name of those per minute where a model has both: 10000, 9999, "8.64s".
    Its buckets refill evenly, so used = reset / period x limit, with the fraction of a request rounded up (all of 105
    recorded replies obey it). A whole number of seconds up to a minute is left to a minute: so do those reset who
    imitate OpenAI with windows.
    """
    if remaining >= limit or (wait_s <= MINUTE_S and wait_s.is_integer()):
        return False
    used = limit - remaining
    fills_s = wait_s * limit / used
    return 0.995 * DAY_S * (used - 1) / used < fills_s <= _DAY_TO_S


def _period_around(wait_s: float | None) -> float:
    """The smallest usual period that a wait for the window's end fits in; a minute when nothing is known."""
    if wait_s is None or wait_s <= MINUTE_S:
        return MINUTE_S
    return next((period_s for period_s in (3_600.0, DAY_S) if wait_s <= period_s), MONTH_S)


def tightest(facts: Sequence[LimitFact]) -> list[LimitFact]:
    """One fact for each dimension, period and group of models: the one that has least left."""
    best: dict[tuple[Dimension, float, str], LimitFact] = {}
    for fact in facts:
        key = (fact.dimension, fact.period_s, fact.models)
        other = best.get(key)
        if other is None or _room(fact) < _room(other):
            best[key] = fact
    return list(best.values())


def _room(fact: LimitFact) -> tuple[float, float]:
    limit = float("inf") if fact.limit is None else float(fact.limit)
    return (limit if fact.remaining is None else float(fact.remaining)), limit
