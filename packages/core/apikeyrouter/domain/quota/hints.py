"""What a refusal tells beside its limits: how long to wait, and how much was asked for.

Main entries: `explains`, whether a refusal is reason enough in itself; `sharpened`, which reads rounded numbers by the
wait; `uncounted`, what of the refused request the provider did not count; `learn_from_hint`, which learns from the wait
whether a limit is a bucket, how output is charged, and over how long the provider really counts; `refused_for_size`,
whether it was the request's size alone.
Law: a wait that another limit may be the reason for is no evidence against a bucket.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Protocol

from msgspec.structs import replace

from apikeyrouter.domain.quota.bursts import SHORT_RATIO, Span, agrees_with_a_bucket, horizon_of, left_by
from apikeyrouter.domain.quota.facts import MINUTE_S, ChargeRule, Dimension, LimitFact, Refill, Source
from apikeyrouter.domain.quota.habits import Habits
from apikeyrouter.domain.quota.learning import PLENTY_RATIO, RefusalLearner
from apikeyrouter.domain.quota.limits import KINDS, QuotaWindow
from apikeyrouter.domain.resilience.durations import LimitFacts

__all__ = ["Refused", "explains", "learn_from_hint", "refused_for_size", "sharpened", "uncounted"]

_LONGER_RATIO, _LONGER_S = 1.1, 1.0
"""A wait that is longer than a limit explains by no more than this may still be its own: it is rounded up."""

_TOKENS = frozenset({Dimension.InputTokens, Dimension.OutputTokens, Dimension.Tokens})

_ESTIMATE_BLUR = 0.05
"""By this share what a request needs may be more or less than was estimated."""

_Spot = tuple[Dimension, float]


class Refused(Protocol):
    """The view of a pool that refused: `PoolView`."""

    own: dict[_Spot, QuotaWindow]
    windows: tuple[QuotaWindow, ...]
    learner: RefusalLearner

    @property
    def habits(self) -> Habits:
        """How its provider counts."""
        ...

    def rebuild(self) -> None:
        """Windows came or went."""
        ...


def explains(fact: LimitFact, needs: Sequence[int]) -> bool:
    """Whether what a refusal says of a limit is reason enough: it was named, or little of it is left. Of tokens, only
    the provider knows how many it wanted; a request is one, so a named limit of which plenty is left is judged over a
    shorter time than told."""
    named = fact.source is Source.ErrorBody
    if fact.remaining is None or (named and fact.dimension is not Dimension.Requests):
        return named
    plenty = fact.limit is not None and fact.remaining > PLENTY_RATIO * fact.limit
    return not plenty or fact.remaining < needs[KINDS[fact.dimension]]


def sharpened(
    own: Mapping[_Spot, QuotaWindow], facts: Sequence[LimitFact], numbers: LimitFacts | None, retry_s: float | None
) -> Sequence[LimitFact]:
    """`facts` of a refusal, with the part of a unit that its wait tells. A sentence's numbers are rounded: "Used 31" of
    32 with 0.6 left refuses a request of 1, and taken at its word it would be sent again at once. `own`: the windows
    that the facts are of; `numbers`: those of its sentence."""
    if numbers is None or numbers.used is None or not retry_s:
        return facts
    return [
        replace(fact, fraction=_fraction(own.get((fact.dimension, fact.period_s)), fact, numbers.requested, retry_s))
        if fact.source is Source.ErrorBody and fact.limit and fact.remaining is not None and fact.period_s
        else fact
        for fact in facts
    ]


def _fraction(window: QuotaWindow | None, fact: LimitFact, need: int, retry_s: float) -> float:
    told = fact.remaining or 0
    left = told if window is None else window.left_of(told)
    exact = left_by(need, retry_s, (fact.limit or 0) / fact.period_s)
    return max(-1.0, min(exact - left, 1.0))


def uncounted(kind: int, need: int | None, left: float, rule: ChargeRule) -> int:
    """What a refused request holds of a limit (`need`; None: it was let in) and the provider did not count: all of it,
    but for the request itself where refused ones count and this limit was not the one that had no room. `kind`: see
    `QuotaWindow`; `left`: what is left of it."""
    counted = kind == 0 and rule.refused_count and need is not None and left >= need
    return 0 if need is None or counted else need


def refused_for_size(
    view: Refused, facts: Sequence[LimitFact], needs: Sequence[int], numbers: LimitFacts | None, retry_s: float | None
) -> bool:
    """Whether a request of `needs` was refused for its size alone, and smaller ones may be sent: the refusal named a
    limit of a minute on tokens and said what is left of it, that is too little by the provider's count and by ours, and
    it explains the wait `retry_s`. Else nobody knows for whom there is room: of a limit on requests nothing is left for
    anybody, what is estimated too low is let in again and again, and a longer wait has another reason."""
    fact = next((fact for fact in facts if fact.source is Source.ErrorBody), None)
    if fact is None or fact.dimension not in _TOKENS or fact.remaining is None or fact.period_s > MINUTE_S:
        return False
    if not fact.remaining and (numbers is None or numbers.used is None):
        return False  # only concluded, not said
    window = view.own.get((fact.dimension, fact.period_s))
    if window is None or not window.limit:
        return False
    left, need = window.left_of(fact.remaining), needs[window.kind]
    asked = need if numbers is None else numbers.requested
    explained_s = (asked - left) / window.rate_per_s if window.refill is Refill.Continuous else window.period_s
    if retry_s and retry_s > _LONGER_RATIO * explained_s + _LONGER_S:
        return False
    return left < min(asked, need)


def learn_from_hint(
    view: Refused,
    facts: Sequence[LimitFact],
    needs: Sequence[int],
    numbers: LimitFacts | None,
    retry_s: float,
    now_s: float,
) -> bool:
    """What the wait tells that a refusal asks for; `numbers`: those of its sentence. Whether that explains it."""
    view.learner.keep_horizon(view.own, now_s)
    named = next((fact for fact in facts if fact.source is Source.ErrorBody), None) if numbers is not None else None
    spans: list[Span] = []
    for fact in facts if named is None else (named,):
        window = view.own.get((fact.dimension, fact.period_s))
        if window is None or not fact.limit or fact.remaining is None or not 0 < fact.period_s <= MINUTE_S:
            continue
        if numbers is not None:
            view.habits.asked(window, numbers.requested, needs, now_s)
        need = needs[KINDS[fact.dimension]] if numbers is None else numbers.requested
        short = window.burst is not None and not window.hidden
        left = window.left_of(fact.remaining) if short else fact.remaining
        span = _span(fact, numbers, need, retry_s)
        if left + fact.fraction < need + (PLENTY_RATIO * fact.limit if numbers is None else 0):
            if numbers is None:
                return False
            alone = not _also_short(view.windows, window, needs, now_s)
            if short and span is not None and numbers.used is not None and view.learner.horizon_s is not None:
                view.learner.told_horizon(span[0], span[1] if alone else math.inf, view.own, now_s)
            elif numbers.used is not None and window.burst is None:
                agrees = agrees_with_a_bucket(numbers, fact.period_s, retry_s)
                if agrees or alone:
                    window.bucket_seen(now_s, agrees=agrees)
                    view.habits.learned(window, now_s)
            return True
        if span is not None and span[0] < SHORT_RATIO * fact.period_s:
            spans.append(span)
        elif short and numbers is not None and numbers.used is not None:
            # a wait that no bucket asks for: it can never fit
            spans.append((0.0, (numbers.used + need - 0.5) * fact.period_s / fact.limit))
    if not spans:
        return False
    # the limit that was short explains the whole wait; by the others' rates the same wait means less
    low_s, high_s = max(spans, key=itemgetter(1))
    if view.learner.told_horizon(low_s, high_s, view.own, now_s):
        view.rebuild()
    return True


def _span(fact: LimitFact, numbers: LimitFacts | None, need: int, retry_s: float) -> Span | None:
    """Over how many seconds the limit of `fact` is counted, by a refusal of `need`."""
    limit, told = fact.limit or 1, float((fact.limit or 0) - (fact.remaining or 0))
    if numbers is None:
        blur = 0.0 if fact.dimension is Dimension.Requests else _ESTIMATE_BLUR * need
        return horizon_of(limit, fact.period_s, (told - 1.0, told), need, retry_s, need_blur=blur)
    return horizon_of(limit, fact.period_s, (told - 0.5, told + 0.5), need, retry_s)


def _also_short(windows: Sequence[QuotaWindow], named: QuotaWindow, needs: Sequence[int], now_s: float) -> bool:
    """Whether another limit may be the reason for the wait."""
    return any(
        window is not named and (free := window.account.free(now_s)) is not None and free < needs[window.kind]
        for window in windows
    )
