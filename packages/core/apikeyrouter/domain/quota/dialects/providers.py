"""Dialects that need code: Anthropic, Azure OpenAI, Gemini, OpenRouter, DeepSeek, Cohere, and any imitation of OpenAI.

Main entries: the classes, each `HeaderDialect` with one step changed. Laws: as there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apikeyrouter.domain.interfaces.transport import Headers
from apikeyrouter.domain.quota.dialects.base import TEXT_CLASSES, HeaderDialect
from apikeyrouter.domain.quota.dialects.lanes import LIMIT, REMAINING, RESET, fact_of, facts_of
from apikeyrouter.domain.quota.dialects.sharing import ACCOUNT, FREE_MODELS
from apikeyrouter.domain.quota.dialects.structured import STRUCTURED_NAMES, structured_facts
from apikeyrouter.domain.quota.dialects.texts import Hit, hit_in_text, with_hit
from apikeyrouter.domain.quota.dialects.values import count, month_end_s, provider_clock, reset_s
from apikeyrouter.domain.quota.facts import DAY_S, MINUTE_S, MONTH_S, Dimension, LimitFact, Refill, Source
from apikeyrouter.domain.resilience.bodies import ErrorBody
from apikeyrouter.domain.resilience.failures import Failure, FailureClass

__all__ = [
    "AnthropicDialect",
    "AzureDialect",
    "CohereDialect",
    "CompatibleDialect",
    "DeepSeekDialect",
    "GeminiDialect",
    "OpenRouterDialect",
]

_F = FailureClass


class CompatibleDialect(HeaderDialect):
    """OpenAI's own headers, those of servers that imitate it, and the IETF's fields where nothing else was said."""

    def understands(self, header_name: bytes) -> bool:
        """See `HeaderDialect.understands`."""
        return header_name in STRUCTURED_NAMES or super().understands(header_name)

    def of_reply(self, headers: Headers, *, utc_now: datetime) -> Sequence[LimitFact]:
        """See `LimitDialect.of_reply`."""
        return facts_of(self.table, headers, utc_now) or structured_facts(headers, utc_now)


class AnthropicDialect(HeaderDialect):
    """Input and output apart; `tokens-*` tells the most restrictive limit, usually only their sum."""

    def of_reply(self, headers: Headers, *, utc_now: datetime) -> Sequence[LimitFact]:
        """See `LimitDialect.of_reply`. The sum of input and output limits is left out: it limits nothing by itself."""
        facts = facts_of(self.table, headers, utc_now)
        if len(facts) < 3:
            return facts
        limits = {fact.dimension: fact.limit for fact in facts}
        read, written = limits.get(Dimension.InputTokens), limits.get(Dimension.OutputTokens)
        if read is None or written is None or limits.get(Dimension.Tokens) != read + written:
            return facts
        return [fact for fact in facts if fact.dimension is not Dimension.Tokens]

    def _of_error(
        self, facts: list[LimitFact], failure: Failure, error: ErrorBody, headers: Headers, utc_now: datetime
    ) -> Sequence[LimitFact]:
        if failure.failure_class is _F.SpendCap:
            return [*facts, _spend_cap(error.message, provider_clock(headers, utc_now))]
        return super()._of_error(facts, failure, error, headers, utc_now)


_REGAIN = re.compile(r"\bon (\d{4}-\d{2}-\d{2})(?: at (\d{2}:\d{2}) UTC)?")


def _spend_cap(message: str, now_s: float) -> LimitFact:
    """The month's money is gone, until the moment that the message names, else until the month ends (UTC)."""
    wait_s = month_end_s(now_s)
    match = _REGAIN.search(message[:1_024])
    if match is not None:
        try:
            until = datetime.fromisoformat(f"{match[1]}T{match[2] or '00:00'}:00+00:00").timestamp() - now_s
        except (ValueError, OverflowError):
            until = -1.0
        if 0.0 < until <= 32 * DAY_S:
            wait_s = until
    return LimitFact(
        Dimension.Spend,
        MONTH_S,
        remaining=0,
        reset_s=wait_s,
        reset_means="window",
        models=ACCOUNT,
        refill=Refill.Calendar,
        source=Source.ErrorBody,
    )


class AzureDialect(HeaderDialect):
    """OpenAI's names, with resets as bare numbers whose unit only arithmetic tells."""

    def of_reply(self, headers: Headers, *, utc_now: datetime) -> Sequence[LimitFact]:
        """See `LimitDialect.of_reply`.

        A bare reset is milliseconds in recorded replies (120 a minute, 119 left, "500") and seconds in users' reports:
        the unit is taken that comes nearer to used / limit x period. Limits of -1 (Responses API) say nothing.
        """
        facts: list[LimitFact] = []
        for number, told in self.table.pick(headers).items():
            limit, remaining = count(told[LIMIT]), count(told[REMAINING])
            if limit is None and remaining is None:
                continue
            fact = fact_of(self.table.lanes[number], limit, remaining, None, told)
            wait_s = reset_s(told[RESET], headers, utc_now)
            if wait_s is not None and _bare(told[RESET]):
                wait_s = _azure_reset_s(wait_s, fact)
            facts.append(_with_reset(fact, wait_s))
        return facts


def _bare(value: bytes | None) -> bool:
    return value is not None and value.strip().isdigit()


def _azure_reset_s(number: float, fact: LimitFact) -> float:
    if fact.limit and fact.remaining is not None and fact.remaining < fact.limit and number > 0.0:
        due_s = (fact.limit - fact.remaining) / fact.limit * fact.period_s
        as_ms = number / 1_000.0
        # nearer on a logarithmic scale: the mean of both readings divides them
        return as_ms if due_s * due_s < number * as_ms else number
    return number / 1_000.0 if number > fact.period_s else number


def _with_reset(fact: LimitFact, wait_s: float | None) -> LimitFact:
    if wait_s is None:
        return fact
    return LimitFact(fact.dimension, fact.period_s, fact.limit, fact.remaining, wait_s, "full", fact.models)


PACIFIC = "America/Los_Angeles"
_GEMINI_LINE = re.compile(r"Quota exceeded for metric: [^\s,]{1,200}/([^\s,/]{1,120}), limit: (\d{1,15})(?![\d.])")
_QUOTA_PERIODS = (("perday", DAY_S), ("perminute", MINUTE_S), ("perhour", 3_600.0), ("permonth", MONTH_S))
_VIOLATIONS_MAX = 16


class GeminiDialect(HeaderDialect):
    """No headers: everything is in QuotaFailure, RetryInfo and, where those lack a number, in the message."""

    def _of_error(
        self, facts: list[LimitFact], failure: Failure, error: ErrorBody, headers: Headers, utc_now: datetime
    ) -> Sequence[LimitFact]:
        if failure.failure_class is _F.Rate and failure.whole_account:
            # the rolling ten minutes of money; tiers say how much
            spent = LimitFact(Dimension.Spend, 600.0, remaining=0, reset_s=failure.retry_after_s, reset_means="next")
            return [*facts, _as_error(spent, ACCOUNT, Refill.Rolling)]
        limits = dict(_GEMINI_LINE.findall(error.message))
        now_s = provider_clock(headers, utc_now)
        found = [
            fact
            for violation in _violations(error.details)
            if (fact := _violated(violation, limits, failure.retry_after_s, now_s)) is not None
        ]
        if found or failure.failure_class not in TEXT_CLASSES:
            return [*facts, *found]
        return super()._of_error(facts, failure, error, headers, utc_now)


def _violations(details: Iterable[Mapping[str, object]]) -> list[Mapping[str, object]]:
    found: list[Mapping[str, object]] = []
    for detail in details:
        violations = detail.get("violations")
        if isinstance(violations, list):
            found += [violation for violation in violations if isinstance(violation, dict)]
    return found[:_VIOLATIONS_MAX]


def _violated(
    violation: Mapping[str, object], limits: Mapping[str, str], retry_s: float | None, now_s: float
) -> LimitFact | None:
    """One violation as a limit with nothing left: what is counted, over which period, for whom, and until when."""
    quota_id, metric = violation.get("quotaId"), violation.get("quotaMetric")
    words = (quota_id if isinstance(quota_id, str) else "") + " " + (metric if isinstance(metric, str) else "")
    words = words[:512].lower().replace("_", "")
    period_s = next((seconds for word, seconds in _QUOTA_PERIODS if word in words), None)
    if period_s is None:
        return None
    dimension = Dimension.InputTokens if "token" in words else Dimension.Requests
    value = violation.get("quotaValue")
    told = limits.get(metric.rpartition("/")[2]) if isinstance(metric, str) else None
    limit = count(str(value)[:32].encode("utf-8", "replace")) if isinstance(value, str | int) else None
    if limit is None and told is not None:
        limit = int(told)
    dimensions = violation.get("quotaDimensions")
    per_model = "permodel" in words or (isinstance(dimensions, dict) and "model" in dimensions)
    calendar = period_s == DAY_S and dimension is Dimension.Requests
    wait_s = _until_midnight_s(now_s) if calendar else retry_s
    return LimitFact(
        dimension,
        period_s,
        limit,
        0,
        wait_s,
        "window" if calendar else "next",
        "" if per_model else ACCOUNT,
        Refill.Calendar if calendar else None,
        PACIFIC if calendar else "UTC",
        Source.ErrorBody,
    )


def _as_error(fact: LimitFact, models: str, refill: Refill | None) -> LimitFact:
    return LimitFact(
        fact.dimension,
        fact.period_s,
        fact.limit,
        fact.remaining,
        fact.reset_s,
        fact.reset_means,
        models,
        refill,
        source=Source.ErrorBody,
    )


@lru_cache(maxsize=1)
def _pacific() -> ZoneInfo | None:
    """None on a machine without time zone data."""
    try:
        return ZoneInfo(PACIFIC)
    except (ZoneInfoNotFoundError, OSError, ValueError):
        return None


def _until_midnight_s(now_s: float) -> float | None:
    """Seconds to the next midnight in California, where Google's days end; the 23 and 25 hours of DST included."""
    zone = _pacific()
    if zone is None:
        return None
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=now_s)).astimezone(zone)
    midnight = datetime(local.year, local.month, local.day, tzinfo=zone) + timedelta(days=1)
    return max(0.0, midnight.timestamp() - now_s)


class OpenRouterDialect(HeaderDialect):
    """Limits only of free variants, told by refusals in their headers or in the body's metadata."""

    def _of_error(
        self, facts: list[LimitFact], failure: Failure, error: ErrorBody, headers: Headers, utc_now: datetime
    ) -> Sequence[LimitFact]:
        if failure.failure_class not in TEXT_CLASSES:
            return ()
        message = error.message.lower()
        daily = failure.failure_class is _F.DayQuota or "per-day" in message or "per day" in message
        if not daily and "free-models" not in message and not facts:
            return facts
        told = [*headers, *_metadata_headers(error.details)]
        said = self.of_reply(told, utc_now=utc_now)
        first = next(iter(said), None)
        now_s = provider_clock(headers, utc_now)
        reset = first.reset_s if first is not None else None
        if reset is None and daily:
            reset = DAY_S - now_s % DAY_S
        return [
            LimitFact(
                Dimension.Requests,
                DAY_S if daily else MINUTE_S,
                None if first is None else first.limit,
                0 if first is None or first.remaining is None else first.remaining,
                failure.retry_after_s if reset is None else reset,
                "window",
                FREE_MODELS,
                Refill.Calendar if daily else None,
                source=Source.ErrorBody,
            )
        ]


def _metadata_headers(details: Iterable[Mapping[str, object]]) -> Headers:
    """The X-RateLimit-* that travel inside the body."""
    found: Headers = []
    for detail in details:
        inner = detail.get("headers")
        if isinstance(inner, dict):
            found += [
                (name.lower().encode("utf-8", "replace"), str(value)[:64].encode("utf-8", "replace"))
                for name, value in list(inner.items())[:32]
                if isinstance(name, str)
            ]
    return found


class DeepSeekDialect(HeaderDialect):
    """One limit, on requests under way; a 429 means that it is reached, whatever it says."""

    def _hit(self, message: str) -> Hit | None:
        hit = hit_in_text(message)
        return hit if hit is not None and hit.limit is not None else Hit(Dimension.Concurrency, 0.0)


class CohereDialect(HeaderDialect):
    """Trial keys: calls a minute for each model, and 1,000 calls a month for all of the account."""

    def _of_error(
        self, facts: list[LimitFact], failure: Failure, error: ErrorBody, headers: Headers, utc_now: datetime
    ) -> Sequence[LimitFact]:
        hit = self._hit(error.message or failure.message)
        if failure.failure_class is _F.DayQuota and hit is not None and hit.period_s == MONTH_S:
            others = [fact for fact in facts if fact.period_s != MONTH_S]
            return with_hit(others, hit, exhausted=True, retry_s=None, period_s=MONTH_S, models=ACCOUNT)
        return super()._of_error(facts, failure, error, headers, utc_now)
