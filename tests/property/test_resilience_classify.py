"""Whatever a provider sends, it is exactly one failure, and hints stay within their bounds."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from apikeyrouter.domain.errors import ErrorCategory
from apikeyrouter.domain.interfaces.transport import SendPhase, TransportError
from apikeyrouter.domain.resilience.classify import (
    Failure,
    FailureClass,
    category_of,
    classify_event,
    classify_reply,
    classify_transport,
    client_code_of,
    client_status_of,
)
from apikeyrouter.domain.resilience.durations import (
    DURATION_MAX_S,
    hint_in_text,
    parse_duration_s,
    retry_after_s,
    seconds_until,
)
from apikeyrouter.domain.resilience.redact import fold, redact
from apikeyrouter.domain.resilience.rules import DIALECTS

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
BOUNDED = settings(max_examples=150, deadline=None, database=None)

dialects = st.one_of(st.sampled_from(sorted(DIALECTS)), st.text(max_size=8))
statuses = st.integers(min_value=0, max_value=999)
header_names = st.one_of(
    st.sampled_from(
        [
            b"retry-after",
            b"Retry-After-Ms",
            b"x-ms-retry-after-ms",
            b"date",
            b"x-request-id",
            b"x-ratelimit-reset",
            b"x-ratelimit-limit-requests",
            b"x-ratelimit-remaining-requests",
        ]
    ),
    st.binary(max_size=20),
)
header_values = st.one_of(
    st.binary(max_size=40),
    st.integers().map(lambda n: str(n).encode()),
    st.floats().map(lambda x: repr(x).encode()),
    st.datetimes().map(lambda d: d.isoformat().encode() + b"Z"),
    st.sampled_from([b"6m0s", b"Sat, 21 Nov 2026 12:00:30 GMT", b"Sat, 21 Nov 2026 12:00:30 +9999", b"\xb2"]),
)
headers_lists = st.lists(st.tuples(header_names, header_values), max_size=6)
hostile = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=30),
        st.sampled_from(
            ["429", "0", "36s", "insufficient_quota", "error", '{"error":{"error":1}}', "Limit 1, Requested 2"]
        ),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=10,
)
FIELDS = [
    "error",
    "message",
    "type",
    "code",
    "param",
    "status",
    "status_code",
    "details",
    "detail",
    "metadata",
    "innererror",
    "raw",
    "headers",
    "reason",
    "violations",
    "quotaId",
    "quotaValue",
    "retryDelay",
    "seconds",
    "nanos",
    "limit_source",
    "request_id",
    "response",
    "object",
    "X-RateLimit-Reset",
]


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    shaped = st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6)
    return st.one_of(shaped, st.lists(shaped, max_size=2))


bodies_json = st.recursive(hostile, nested, max_leaves=14).map(lambda value: json.dumps(value).encode())
enveloped = st.dictionaries(st.sampled_from(FIELDS), hostile, max_size=8).map(
    lambda e: json.dumps({"error": e}).encode()
)
bodies = st.one_of(st.binary(max_size=300), bodies_json, enveloped)


def check(failure: Failure) -> None:
    assert isinstance(failure.failure_class, FailureClass)
    assert len(failure.message) <= 500
    assert "\n" not in failure.message
    assert failure.code is None or 0 < len(failure.code) <= 64
    assert failure.retry_after_s is None or 0.0 <= failure.retry_after_s <= DURATION_MAX_S
    assert 400 <= client_status_of(failure) <= 599
    assert client_status_of(failure) != 401
    assert isinstance(category_of(failure), ErrorCategory)
    assert client_code_of(failure)


@BOUNDED
@given(dialects, statuses, headers_lists, bodies)
def test_any_reply_is_exactly_one_failure(
    dialect: str, status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    failure = classify_reply(dialect, status, headers, body, utc_now=NOW)
    check(failure)
    assert failure == classify_reply(dialect, status, headers, body, utc_now=NOW)


@BOUNDED
@given(dialects, bodies)
def test_any_event_is_one_failure_or_none(dialect: str, data: bytes) -> None:
    failure = classify_event(dialect, data, utc_now=NOW)
    if failure is not None:
        check(failure)


@BOUNDED
@given(st.text(max_size=30), st.sampled_from(list(SendPhase)), st.text(max_size=600))
def test_any_transport_error_is_one_failure(kind: str, phase: SendPhase, message: str) -> None:
    check(classify_transport(TransportError(kind, phase, message)))


def test_a_body_nested_beyond_reason_is_only_text() -> None:
    for deep in (b"[" * 100_000, b'{"error":' * 50_000, b"[" * 5_000 + b"]" * 5_000):
        check(classify_reply("openai", 500, [], deep, utc_now=NOW))


@BOUNDED
@given(headers_lists)
def test_hints_in_headers_stay_within_a_day(headers: list[tuple[bytes, bytes]]) -> None:
    hint_s = retry_after_s(headers, NOW)
    assert hint_s is None or 0.0 <= hint_s <= DURATION_MAX_S


words = st.lists(
    st.sampled_from(
        ["try again in ", "retry after ", "1", "20.5", "m", "s", "ms", " hours", "Limit 1", ", Requested 9"]
    ),
    max_size=12,
).map("".join)


@BOUNDED
@given(st.one_of(st.text(max_size=60), words))
def test_hints_in_any_text_stay_within_a_day(text: str) -> None:
    for hint_s in (parse_duration_s(text), hint_in_text(text), seconds_until(text, now=NOW)):
        assert hint_s is None or 0.0 <= hint_s <= DURATION_MAX_S


@BOUNDED
@given(
    st.integers(min_value=0, max_value=23),
    st.integers(min_value=0, max_value=59),
    st.integers(min_value=0, max_value=59),
    st.integers(min_value=0, max_value=999),
)
def test_a_duration_written_as_go_does_is_read_back_exactly(hours: int, minutes: int, seconds: int, ms: int) -> None:
    expected_s = hours * 3600 + minutes * 60 + seconds + ms / 1000
    for text in (f"{hours}h{minutes}m{seconds}.{ms:03}s", f"{hours}h{minutes}m{seconds}s{ms}ms"):
        read_s = parse_duration_s(text)
        assert read_s is not None
        assert abs(read_s - expected_s) < 1e-9


@BOUNDED
@given(st.text(max_size=200))
def test_redaction_is_idempotent_and_folding_bounded(text: str) -> None:
    assert redact(redact(text)) == redact(text)
    assert len(fold(text, 50)) <= 50
