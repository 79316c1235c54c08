"""Whatever a provider sends: reading its limits never raises, and every fact stays within its bounds."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from apikeyrouter.domain.quota.dialects import DIALECTS
from apikeyrouter.domain.quota.dialects.values import RESET_MAX_S, count
from apikeyrouter.domain.quota.facts import MINUTE_S, Dimension, LimitFact
from apikeyrouter.domain.resilience.classify import classify_reply

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
NAMES = [
    *sorted(set().union(*(dialect.table.names for dialect in DIALECTS.values()))),
    b"date",
    b"retry-after",
    b"ratelimit",
    b"ratelimit-policy",
    b"ratelimit-limit",
    b"ratelimit-remaining",
    b"ratelimit-reset",
]
PLAUSIBLE = [
    b"0", b"1", b"60", b"-1", b"29999", b"99999999999999999999", b"1795262400", b"1795262400000", b"6m0s", b"120ms",
    b"8.64s", b"1e9", b"inf", b"nan", b"0.5", b"2026-11-21T12:00:30Z", b"9999-12-31T23:59:59+23:59", b"30,000",
    b"0001-01-01T00:00:00-23:59", b'"a";r=1;t=2', b'"a";q=1;w=60', b"limit=1, remaining=5, reset=9",
    b"100, 100;w=99999999999", b"Sat, 21 Nov 2026 12:00:00 GMT", b"\xff\x00", b"", b"\xc2\xb2", b"1_000",
]  # fmt: skip
values = st.one_of(st.sampled_from(PLAUSIBLE), st.binary(max_size=40), st.integers(0, 10**16).map(lambda n: b"%d" % n))
headers = st.lists(st.tuples(st.one_of(st.sampled_from(NAMES), st.binary(max_size=24)), values), max_size=24)
clocks = st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds
dialects = st.sampled_from(list(DIALECTS.values()))


def check(fact: LimitFact) -> None:
    assert fact.limit is not None or fact.remaining is not None
    assert fact.limit is None or fact.limit >= 0
    assert fact.remaining is None or fact.remaining >= 0
    assert fact.limit is None or fact.remaining is None or fact.remaining <= fact.limit
    assert fact.reset_s is None or 0.0 <= fact.reset_s <= RESET_MAX_S
    assert 0.0 <= fact.period_s <= RESET_MAX_S
    assert (fact.period_s == 0.0) is (fact.dimension is Dimension.Concurrency)
    assert fact.charged is None or fact.charged >= 0


@given(dialect=dialects, told=headers, now=clocks)
def test_any_headers_give_facts_within_bounds(dialect: Any, told: list[tuple[bytes, bytes]], now: datetime) -> None:
    for fact in dialect.of_reply(told, utc_now=now):
        check(fact)


words = st.sampled_from(
    [
        "Limit", "Used", "Requested", "tokens", "requests", "per", "minute", "day", "month", "(TPM):", "(RPD):", "ITPM",
        "5", "10,", "60.0", "/", "min.", "Current:", "of", "on", "rate limit", "actual/limit", "input tokens", "٣", "²",
        "per-day", "concurrent", "call", "99999999999999999999", "free-models-per-day", "spend-based rate limit",
        "limit: 0,", "Quota exceeded for metric: a.b/c, limit: 7", "You will regain access on 2026-13-45 at 00:00 UTC",
    ]
)  # fmt: skip
sentences = st.lists(words, max_size=14).map(" ".join)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=12), sentences),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
violations = st.fixed_dictionaries(
    {},
    optional={
        "quotaId": st.one_of(st.sampled_from(["XPerDayY", "TokensPerMinute", "PerHour"]), json_values),
        "quotaMetric": json_values,
        "quotaValue": st.one_of(st.sampled_from(["0", "250", "-3", 10**20]), json_values),
        "quotaDimensions": json_values,
    },
)
errors = st.fixed_dictionaries(
    {"message": st.one_of(sentences, json_values)},
    optional={
        "code": st.one_of(st.sampled_from(["rate_limit_exceeded", "enforced_spend_limit_reached"]), json_values),
        "type": json_values,
        "status": st.one_of(st.just("RESOURCE_EXHAUSTED"), json_values),
        "details": st.one_of(
            st.lists(st.fixed_dictionaries({"violations": st.lists(violations, max_size=3)}), max_size=2), json_values
        ),
        "metadata": st.one_of(
            st.fixed_dictionaries(
                {"headers": st.dictionaries(st.sampled_from(["X-RateLimit-Limit", "X-RateLimit-Reset"]), json_values)}
            ),
            json_values,
        ),
    },
)


@given(
    dialect=dialects,
    told=headers,
    status=st.sampled_from([200, 400, 402, 403, 413, 429, 498, 503, 529]),
    body=st.one_of(
        st.binary(max_size=60),
        errors.map(lambda error: json.dumps({"error": error}).encode()),
        json_values.map(lambda value: json.dumps(value).encode()),
    ),
    now=clocks,
)
@example(dialect=DIALECTS["gemini"], told=[], status=429, body=b'[{"error":{"details":[{"violations":[3]}]}}]', now=NOW)
def test_any_refusal_gives_facts_within_bounds(
    dialect: Any, told: list[tuple[bytes, bytes]], status: int, body: bytes, now: datetime
) -> None:
    failure = classify_reply(dialect.name, status, told, body, utc_now=now)
    for fact in dialect.of_failure(failure, told, body, utc_now=now):
        check(fact)


@given(dialect=dialects, tier=st.text(max_size=12), model=st.text(max_size=24))
def test_any_tier_and_model_are_answered(dialect: Any, tier: str, model: str) -> None:
    assert isinstance(dialect.models_sharing(model), str)
    for fact in dialect.of_tier(tier, model):
        check(fact)


@given(limit=st.integers(1, 10**9), used=st.integers(0, 10**9), fraction=st.floats(0.0, 0.999))
def test_a_minutes_bucket_is_never_taken_for_a_days(limit: int, used: int, fraction: float) -> None:
    used = min(used, limit)
    wait_s = max(0.0, used - fraction) / limit * MINUTE_S
    told = [
        (b"x-ratelimit-limit-requests", b"%d" % limit),
        (b"x-ratelimit-remaining-requests", b"%d" % (limit - used)),
        (b"x-ratelimit-reset-requests", f"{wait_s * 1000:.0f}ms".encode()),
    ]
    (fact,) = DIALECTS["openai"].of_reply(told, utc_now=NOW)
    assert fact.period_s == MINUTE_S


@given(limit=st.integers(10, 50_000), used=st.integers(2, 50_000), fraction=st.floats(0.0, 0.999))
def test_a_days_bucket_is_told_by_its_refill(limit: int, used: int, fraction: float) -> None:
    used = min(used, limit)
    whole_ms = round((used - fraction) / limit * 86_400_000)
    span = timedelta(milliseconds=whole_ms)
    told = [
        (b"x-ratelimit-limit-requests", b"%d" % limit),
        (b"x-ratelimit-remaining-requests", b"%d" % (limit - used)),
        (b"x-ratelimit-reset-requests", f"{span.total_seconds():.3f}s".encode()),
    ]
    (fact,) = DIALECTS["openai"].of_reply(told, utc_now=NOW)
    ambiguous = whole_ms <= 60_000 and whole_ms % 1_000 == 0
    assert fact.period_s == (MINUTE_S if ambiguous else 86_400.0)


@given(st.binary(max_size=30))
def test_a_count_is_a_whole_number_or_nothing(value: bytes) -> None:
    number = count(value)
    assert number is None or number >= 0
