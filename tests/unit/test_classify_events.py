"""Errors inside streams, failures below HTTP, and what our own client is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from apikeyrouter.domain.errors import ErrorCategory
from apikeyrouter.domain.interfaces.transport import SendPhase, TransportError
from apikeyrouter.domain.resilience.classify import (
    Billing,
    FailureClass,
    Scope,
    category_of,
    classify_event,
    classify_reply,
    classify_transport,
    client_code_of,
    client_status_of,
)
from apikeyrouter.domain.resilience.failures import FACTS

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
F = FailureClass
E = ErrorCategory


@pytest.mark.parametrize(
    ("dialect", "event", "expected", "status"),
    [
        (
            "anthropic",
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
            F.Capacity,
            529,
        ),
        ("anthropic", {"type": "error", "error": {"type": "api_error", "message": "Internal"}}, F.Server, 500),
        ("anthropic", {"type": "error", "error": {"type": "invalid_request_error", "message": "x"}}, F.Client, 400),
        (
            "groq",
            {"error": {"message": "Tool choice is required", "code": "tool_use_failed", "status_code": 400}},
            F.Client,
            400,
        ),
        ("openai", {"error": {"message": "The server had an error", "type": "server_error"}}, F.Server, 500),
        ("openai", {"error": {"message": "Rate limit", "code": "rate_limit_exceeded"}}, F.Rate, 429),
        ("openai", {"type": "error", "code": "rate_limit_exceeded", "message": "Rate limit"}, F.Rate, 429),
        (
            "openai",
            {"type": "response.failed", "response": {"error": {"code": "server_error", "message": "x"}}},
            F.Server,
            500,
        ),
        ("openai", {"type": "response.failed"}, F.Server, 500),
        (
            "openrouter",
            {"error": {"code": 502, "message": "Provider disconnected"}, "choices": [{"finish_reason": "error"}]},
            F.Server,
            502,
        ),
        (
            "gemini",
            {"error": {"code": 503, "message": "The model is overloaded", "status": "UNAVAILABLE"}},
            F.Capacity,
            503,
        ),
        ("gemini", [{"error": {"code": 429, "message": "x", "status": "RESOURCE_EXHAUSTED"}}], F.Rate, 429),
        ("azure", {"error": {"code": "content_filter", "message": "filtered"}}, F.Policy, 400),
        ("generic", {"error": "something broke"}, F.Server, 500),
        ("generic", {"error": {"message": "who knows"}}, F.Server, 500),
    ],
)
def test_an_error_inside_a_stream_is_recognised(dialect: str, event: Any, expected: FailureClass, status: int) -> None:
    failure = classify_event(dialect, json.dumps(event).encode(), utc_now=NOW)
    assert failure is not None
    assert (failure.failure_class, failure.status) == (expected, status)


@pytest.mark.parametrize(
    "data",
    [
        b"[DONE]",
        b"",
        b"null",
        b'{"error"',
        b'{"choices":[{"delta":{"content":"the \\"error\\" was mine"}}]}',
        b'{"choices":[],"error":null}',
        b'{"type":"response.created","response":{"error":null,"status":"in_progress"}}',
        b'{"choices":[{"delta":{},"finish_reason":"content_filter"}],"error":{}}',
        b'{"type":"message_delta","delta":{"stop_reason":"refusal"},"error":null}',
        b'{"promptFeedback":{"blockReason":"SAFETY"}}',
        b'["error"]',
        b'"error"',
    ],
)
def test_what_is_no_error_passes_and_a_refusal_is_a_reply(data: bytes) -> None:
    assert classify_event("openai", data, utc_now=NOW) is None


@pytest.mark.parametrize(
    ("kind", "phase", "expected", "scope", "billing"),
    [
        ("dns", SendPhase.NotSent, F.NotSent, Scope.Host, Billing.No),
        ("refused", SendPhase.NotSent, F.NotSent, Scope.Host, Billing.No),
        ("tls", SendPhase.NotSent, F.NotSent, Scope.Host, Billing.No),
        ("connect_timeout", SendPhase.NotSent, F.NotSent, Scope.Host, Billing.No),
        ("deadline", SendPhase.NotSent, F.Timeout, Scope.Nobody, Billing.No),
        ("reset", SendPhase.Unanswered, F.Unanswered, Scope.Host, Billing.Unknown),
        ("protocol", SendPhase.Unanswered, F.Unanswered, Scope.Host, Billing.Unknown),
        ("first_byte_timeout", SendPhase.Unanswered, F.Timeout, Scope.ProviderModel, Billing.Unknown),
        ("deadline", SendPhase.Unanswered, F.Timeout, Scope.Nobody, Billing.Unknown),
        ("reset", SendPhase.MidReply, F.MidReply, Scope.Host, Billing.Yes),
        ("idle_timeout", SendPhase.MidReply, F.MidReply, Scope.Host, Billing.Yes),
        ("deadline", SendPhase.MidReply, F.MidReply, Scope.Nobody, Billing.Yes),
        ("too_large", SendPhase.MidReply, F.MidReply, Scope.Nobody, Billing.Yes),
        ("a kind of tomorrow", SendPhase.Unanswered, F.Unanswered, Scope.Host, Billing.Unknown),
    ],
)
def test_a_failure_below_http_costs_what_its_phase_says(
    kind: str, phase: SendPhase, expected: FailureClass, scope: Scope, billing: Billing
) -> None:
    failure = classify_transport(TransportError(kind, phase, "it broke"))
    assert (failure.failure_class, failure.scope, failure.billing) == (expected, scope, billing)
    assert (failure.status, failure.code, failure.message) == (None, kind, "it broke")
    assert failure.elsewhere is (expected is not F.MidReply)


@pytest.mark.parametrize(
    ("dialect", "status", "body", "client_status", "client_code", "category"),
    [
        ("openai", 429, b"", 429, "rate_limit_exceeded", E.RateLimitError),
        ("openai", 401, b"", 502, "upstream_auth", E.AuthenticationError),
        ("openai", 403, b"", 502, "upstream_auth", E.AuthenticationError),
        ("openai", 400, b'{"error":{"code":"invalid_value"}}', 400, "invalid_value", E.ValidationError),
        ("openai", 404, b'{"error":{"code":"model_not_found"}}', 404, "model_not_found", E.ValidationError),
        ("openai", 401, b'{"error":{"code":"model_not_found"}}', 400, "model_not_found", E.ValidationError),
        ("openai", 422, b"", 422, "invalid_request", E.ValidationError),
        ("openai", 409, b"", 409, "invalid_request", E.ValidationError),
        ("together", 403, b"Input validation error", 400, "invalid_request", E.ValidationError),
        ("groq", 413, b'{"error":{"code":"rate_limit_exceeded"}}', 413, "request_too_large", E.ValidationError),
        (
            "openai",
            429,
            b'{"error":{"code":"insufficient_quota"}}',
            429,
            "upstream_quota_exceeded",
            E.QuotaExceededError,
        ),
        ("anthropic", 402, b"", 503, "upstream_quota_exceeded", E.QuotaExceededError),
        ("openrouter", 429, b'{"message":"free-models-per-day"}', 429, "upstream_quota_exceeded", E.QuotaExceededError),
        ("anthropic", 529, b"", 503, "upstream_overloaded", E.ProviderError),
        ("openrouter", 429, b"Provider returned error", 429, "upstream_overloaded", E.RateLimitError),
        ("openai", 500, b"", 502, "upstream_error", E.ProviderError),
        ("openai", 502, b"", 502, "upstream_error", E.ProviderError),
        ("openai", 503, b"", 503, "upstream_error", E.ProviderError),
        ("openai", 504, b"", 504, "upstream_error", E.TimeoutError),
        ("openai", 408, b"", 504, "upstream_timeout", E.TimeoutError),
        ("openai", 302, b"", 502, "upstream_bad_reply", E.ProviderError),
        ("azure", 400, b'{"error":{"code":"content_filter"}}', 400, "content_filter", E.ValidationError),
        ("openai", 451, b"", 451, "content_policy", E.ValidationError),
        (
            "anthropic",
            404,
            b'{"type":"error","error":{"type":"not_found_error","message":"model: claude-9"}}',
            404,
            "model_not_found",
            E.ValidationError,
        ),
        (
            "gemini",
            404,
            b'{"error":{"code":404,"message":"models/x is not found for API version v1beta","status":"NOT_FOUND"}}',
            404,
            "model_not_found",
            E.ValidationError,
        ),
        (
            "anthropic",
            404,
            b'{"error":{"type":"not_found_error","message":"Not found"}}',
            404,
            "not_found_error",
            E.ValidationError,
        ),
        (
            "gemini",
            400,
            b'{"error":{"code":400,"message":"contents is not specified","status":"INVALID_ARGUMENT"}}',
            400,
            "invalid_request",
            E.ValidationError,
        ),
    ],
)
def test_the_client_hears_whose_fault_it_is(
    dialect: str, status: int, body: bytes, client_status: int, client_code: str, category: ErrorCategory
) -> None:
    failure = classify_reply(dialect, status, [], body, utc_now=NOW)
    assert (client_status_of(failure), client_code_of(failure), category_of(failure)) == (
        client_status,
        client_code,
        category,
    )


@pytest.mark.parametrize(
    ("kind", "phase", "client_status", "category"),
    [
        ("refused", SendPhase.NotSent, 502, E.NetworkError),
        ("connect_timeout", SendPhase.NotSent, 504, E.TimeoutError),
        ("reset", SendPhase.Unanswered, 502, E.NetworkError),
        ("first_byte_timeout", SendPhase.Unanswered, 504, E.TimeoutError),
        ("reset", SendPhase.MidReply, 502, E.NetworkError),
        ("deadline", SendPhase.MidReply, 504, E.TimeoutError),
    ],
)
def test_the_client_hears_504_when_time_ran_out(
    kind: str, phase: SendPhase, client_status: int, category: ErrorCategory
) -> None:
    failure = classify_transport(TransportError(kind, phase, "x"))
    assert (client_status_of(failure), category_of(failure)) == (client_status, category)


def test_every_class_has_its_facts() -> None:
    assert set(FACTS) == set(FailureClass)
    # a client's own error, a refusal for content and a reply under way are nobody else's business
    assert {kind for kind, facts in FACTS.items() if not facts.elsewhere} == {F.Client, F.Policy, F.MidReply}
    assert 401 not in {facts.status for facts in FACTS.values()}
