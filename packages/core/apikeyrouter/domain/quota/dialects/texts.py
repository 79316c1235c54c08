"""Limits in sentences: which limit a refusal names, and the numbers that it gives.

Main entries: `hit_in_text` and `with_hit`. One sentence often calibrates a limit exactly: "tokens per minute (TPM):
Limit 6000, Used 4626, Requested 4022" says limit 6000 and 1374 left. Laws: never raises; only the text of a refusal
that the provider's own limiter sent may come here (the caller sees to that), since other errors quote prompts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from apikeyrouter.domain.quota.facts import DAY_S, MINUTE_S, MONTH_S, Dimension, LimitFact, Source
from apikeyrouter.domain.resilience.durations import limit_in_text

__all__ = ["Hit", "hit_in_text", "with_hit"]

_TEXT_MAX = 4_096

_UNIT = r"(?:(input|output|prompt|completion|generated)[ -]{1,2})?(tokens?|requests?|queries|(?:API )?calls?)"
_PERIOD = r"(seconds?|secs?|minutes?|mins?|hours?|days?|months?)\b"
_AMOUNT = r"(?<![\d.,])(\d[\d,]{0,18}(?:\.\d{1,9})?)"
_ACTUAL = re.compile(rf"{_UNIT} per {_PERIOD} ?\(actual/limit\): ?{_AMOUNT} ?/ ?(\d[\d,]{{0,18}})", re.IGNORECASE)
_OLD = re.compile(
    rf"{_UNIT} per {_PERIOD}\. Limit: ?{_AMOUNT}(?: ?/ ?[a-z]{{1,6}}\.? Current: ?{_AMOUNT})?", re.IGNORECASE
)
_NUMBERED = re.compile(rf"{_AMOUNT} {_UNIT} ?(?:per|/) ?{_PERIOD}", re.IGNORECASE)
_NAMED = re.compile(rf"{_UNIT} ?(?:per|/|-per-) ?{_PERIOD}", re.IGNORECASE)
_ABBREVIATED = re.compile(r"\b(I|O)?(T|R)P(S|M|H|D)\b")
_BARE = re.compile(rf"{_UNIT} (?:rate |quota )?limit", re.IGNORECASE)
_CONCURRENT = re.compile(r"\bconcurren(?:t|cy)\b", re.IGNORECASE)

_PERIODS: Mapping[str, float] = {"s": 1.0, "mi": MINUTE_S, "h": 3_600.0, "d": DAY_S, "mo": MONTH_S}
_LETTERS: Mapping[str, float] = {"S": 1.0, "M": MINUTE_S, "H": 3_600.0, "D": DAY_S}


@dataclass(frozen=True, slots=True)
class Hit:
    """The limit that a refusal names. `period_s`: None when it does not say. `remaining`: exact where told."""

    dimension: Dimension
    period_s: float | None
    limit: int | None = None
    remaining: int | None = None


def _dimension(part: str | None, unit: str) -> Dimension:
    if not unit.lower().startswith("token"):
        return Dimension.Requests
    if part is None:
        return Dimension.Tokens
    return Dimension.InputTokens if part.lower() in ("input", "prompt") else Dimension.OutputTokens


def _period_s(word: str) -> float:
    word = word.lower()
    return _PERIODS[word[:2] if word[0] == "m" else word[0]]


def _number(text: str) -> int:
    return int(text.replace(",", "").partition(".")[0])


def hit_in_text(message: str) -> Hit | None:
    """The limit that a sentence names; None when it names none."""
    message = message[:_TEXT_MAX]
    # few write so, and the search is slow
    match = _ACTUAL.search(message) if "(actual" in message.lower() else None
    if match is not None:
        part, unit, period, used, limit = match.groups()
        whole = _number(limit)
        return Hit(_dimension(part, unit), _period_s(period), whole, max(0, whole - _number(used)))
    named = _named(message)
    exact = limit_in_text(message)
    if exact is not None and named is not None:
        left = None if exact.used is None else max(0, exact.limit - exact.used)
        return Hit(named.dimension, named.period_s or exact.window_s, exact.limit, left)
    match = _OLD.search(message)
    if match is not None:
        part, unit, period, limit, used = match.groups()
        whole = _number(limit)
        left = max(0, whole - _number(used)) if used else None
        return Hit(_dimension(part, unit), _period_s(period), whole, left)
    match = _NUMBERED.search(message)
    if match is not None:
        limit, part, unit, period = match.groups()
        return Hit(_dimension(part, unit), _period_s(period), _number(limit) or None)
    if named is None and _CONCURRENT.search(message) is not None:
        return Hit(Dimension.Concurrency, 0.0)
    return named


def _named(message: str) -> Hit | None:
    """Dimension and period out of "(TPM)", "tokens per minute" or "token rate limit", in that order."""
    short = _ABBREVIATED.search(message)
    if short is not None:
        direction, kind, letter = short.groups()
        dimension = Dimension.Requests if kind == "R" else Dimension.Tokens
        if kind == "T" and direction:
            dimension = Dimension.InputTokens if direction == "I" else Dimension.OutputTokens
        return Hit(dimension, _LETTERS[letter])
    match = _NAMED.search(message)
    if match is not None:
        return Hit(_dimension(match[1], match[2]), _period_s(match[3]))
    match = _BARE.search(message)
    return None if match is None else Hit(_dimension(match[1], match[2]), None)


def with_hit(
    facts: Sequence[LimitFact], hit: Hit, *, exhausted: bool, retry_s: float | None, period_s: float, models: str = ""
) -> list[LimitFact]:
    """`facts` (of the headers) with what a refusal named put in its place, or added.

    Numbers of the sentence win over those of the headers, which win over the plain conclusion that nothing is left.
    `exhausted`: whether that conclusion holds (a request too large for a limit does not empty it). `retry_s`: the
    provider's hint. `period_s`: assumed when neither the sentence nor the headers name one.
    """
    known = next((f for f in facts if _same(f, hit)), None)
    if known is None:
        if hit.limit is None and hit.remaining is None and not exhausted:
            return list(facts)
        period = period_s if hit.period_s is None else hit.period_s
        left = 0 if hit.remaining is None and exhausted else hit.remaining
        new = LimitFact(hit.dimension, period, hit.limit, left, retry_s, "next", models=models, source=Source.ErrorBody)
        return [*facts, new]
    limit = known.limit if hit.limit is None else hit.limit
    left = known.remaining if hit.remaining is None else hit.remaining
    if left is None and exhausted:
        left = 0
    if limit is not None and left is not None:
        left = min(left, limit)
    merged = replace(known, limit=limit, remaining=left, source=Source.ErrorBody)
    if known.reset_s is None:
        merged = replace(merged, reset_s=retry_s, reset_means="next")
    return [merged if fact is known else fact for fact in facts]


def _same(fact: LimitFact, hit: Hit) -> bool:
    return fact.dimension is hit.dimension and (hit.period_s is None or fact.period_s == hit.period_s)
