"""Each row of the classification table, with a body as its provider sends it."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from apikeyrouter.domain.resilience.classify import (
    Billing,
    Failure,
    FailureClass,
    Scope,
    classify_reply,
    client_status_of,
)
from apikeyrouter.domain.resilience.rules import DIALECTS

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
F = FailureClass


def reply(dialect: str, status: int, body: Any, **headers: str) -> Failure:
    """Classifies a body; header names are given with underscores."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return classify_reply(dialect, status, pairs, raw, utc_now=NOW)


def openai(message: str, type_: str | None = None, code: str | int | None = None, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": type_, "param": None, "code": code, **more}}


def anthropic(type_: str, message: str, **more: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": type_, "message": message, **more}, "request_id": "req_011"}


def google(code: int, status: str, message: str, *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def violation(quota_id: str, value: str = "50") -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [
            {"quotaMetric": "generativelanguage.googleapis.com/x", "quotaId": quota_id, "quotaValue": value}
        ],
    }


def openrouter(code: int, message: str, **metadata: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "metadata": metadata}, "user_id": "user_1"}


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36s"}
BAD_GOOGLE_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
TPM = "Rate limit reached for gpt-4o in organization o on tokens per min (TPM): Limit 30000, Used 29000, Requested 1500"
AZURE_DAY = (
    "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-05-01-preview have exceeded "
    "token rate limit of your current OpenAI S0 pricing tier. Please retry after 86400 seconds. Please go here"
)
TOO_LARGE = "Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Requested 40000."
GROQ_LARGE = "Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 8092, please reduce"
FILTERED = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
FREE_DAY = "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day"
IN_A_MINUTE = {"X-RateLimit-Limit": "50", "X-RateLimit-Reset": str(int((NOW.timestamp() + 60) * 1000))}
QUOTA = "You exceeded your current quota, please check your plan and billing details."
ANTHROPIC_CAP = "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."

ROWS = [
    # RATE
    (F.Rate, "openai", 429, openai(TPM + ". Please try again in 1s.", "tokens", "rate_limit_exceeded")),
    (F.Rate, "anthropic", 429, anthropic("rate_limit_error", "This request would exceed your account's rate limit.")),
    (
        F.Rate,
        "azure",
        429,
        openai("Requests have exceeded call rate limit. Please retry after 9 seconds.", None, "429"),
    ),
    (F.Rate, "groq", 429, openai("Rate limit reached for model `x`", "tokens", "rate_limit_exceeded")),
    (F.Rate, "gemini", 429, google(429, "RESOURCE_EXHAUSTED", QUOTA, violation("RequestsPerMinutePerProject"))),
    (F.Rate, "gemini", 429, google(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).")),
    (F.Rate, "mistral", 429, {"message": "Requests rate limit exceeded"}),
    (F.Rate, "openrouter", 429, openrouter(429, "Rate limit exceeded: free-models-per-min.")),
    (F.Rate, "cohere", 429, {"message": "You are using a Trial key, which is limited to 20 API calls / minute."}),
    (F.Rate, "together", 429, openai("You have reached the rate limit", "model_rate_limit")),
    (F.Rate, "generic", 429, b""),
    # BURST
    (F.Burst, "openai", 429, openai("Slow down.", "requests", "slow_down")),
    (F.Burst, "openai", 503, openai("Slow down.", "server_error", "slow_down")),
    (F.Burst, "anthropic", 429, anthropic("rate_limit_error", "would exceed your organization's acceleration limit")),
    # CAPACITY
    (F.Capacity, "anthropic", 529, anthropic("overloaded_error", "Overloaded")),
    (F.Capacity, "openai", 503, openai("Overloaded", "service_unavailable_error", "server_is_overloaded")),
    (F.Capacity, "openai", 503, openai("That model is currently overloaded with other requests.", "server_error")),
    (F.Capacity, "together", 503, openai("The server is currently unavailable", "service_unavailable")),
    (
        F.Capacity,
        "azure",
        429,
        openai("The system is currently experiencing high demand and cannot", None, "NoCapacity"),
    ),
    (F.Capacity, "gemini", 503, google(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")),
    (F.Capacity, "groq", 498, openai("Flex tier capacity exceeded", None, "capacity_exceeded")),
    (F.Capacity, "openrouter", 429, openrouter(429, "Provider returned error", provider_name="G", raw="is limited")),
    (F.Capacity, "mistral", 429, {"object": "error", "type": "service_tier_capacity_exceeded", "code": "3505"}),
    (F.Capacity, "groq", 498, b""),
    (F.Capacity, "generic", 529, b"<html>"),
    # DAY_QUOTA
    (
        F.DayQuota,
        "gemini",
        429,
        google(429, "RESOURCE_EXHAUSTED", QUOTA, violation("RequestsPerDayPerProject"), RETRY_INFO),
    ),
    (F.DayQuota, "openrouter", 429, openrouter(429, FREE_DAY, headers=IN_A_MINUTE)),
    (F.DayQuota, "cohere", 429, {"message": "You are using a Trial key, which is limited to 1000 API calls / month."}),
    # SPEND_CAP
    (
        F.SpendCap,
        "anthropic",
        429,
        anthropic("rate_limit_error", "Spend limit", details={"error_code": "enforced_spend_limit_reached"}),
    ),
    (F.SpendCap, "anthropic", 400, anthropic("invalid_request_error", ANTHROPIC_CAP)),
    (F.SpendCap, "openai", 429, openai("Spend limit", "insufficient_quota", "project_spend_limit_exceeded")),
    (F.SpendCap, "openai", 429, openai("Spend limit", "billing", "organization_spend_limit_exceeded")),
    (F.SpendCap, "openai", 429, openai("Usage limit", "billing", "organization_usage_limit_exceeded")),
    (F.SpendCap, "openrouter", 402, openrouter(402, "Key limit", limit_source="openrouter_key_limit")),
    (F.SpendCap, "openrouter", 403, openrouter(403, "Key limit exceeded (total limit).")),
    # BALANCE
    (F.Balance, "openai", 429, openai(QUOTA, "insufficient_quota", "insufficient_quota")),
    (F.Balance, "openai", 429, openai("No credit", "billing", "credit_balance_exhausted")),
    (F.Balance, "anthropic", 402, anthropic("billing_error", "Payment required")),
    (F.Balance, "anthropic", 400, anthropic("invalid_request_error", "Your credit balance is too low to access")),
    (F.Balance, "deepseek", 402, openai("Insufficient Balance", "unknown_error", "invalid_request_error")),
    (F.Balance, "openrouter", 402, openrouter(402, "Insufficient credits", limit_source="openrouter_credits")),
    (
        F.Balance,
        "xai",
        403,
        {"code": "denied", "error": "Your newly created team doesn't have any credits or licenses"},
    ),
    (F.Balance, "cohere", 402, {"message": "Please add a payment method"}),
    # INFLIGHT_HOLD
    (F.InflightHold, "openrouter", 402, openrouter(402, "Held", limit_source="openrouter_in_flight_budget")),
    # AUTH
    (F.Auth, "openai", 401, openai("Incorrect API key provided", "invalid_request_error", "invalid_api_key")),
    (F.Auth, "anthropic", 401, anthropic("authentication_error", "invalid x-api-key")),
    (F.Auth, "azure", 401, openai("Access denied due to invalid subscription key", None, "401")),
    (F.Auth, "gemini", 400, google(400, "INVALID_ARGUMENT", "API key not valid.", BAD_GOOGLE_KEY)),
    (F.Auth, "gemini", 403, google(403, "PERMISSION_DENIED", "Your API key was reported as leaked. Use another")),
    (F.Auth, "xai", 400, {"code": "invalid argument", "error": "Incorrect API key provided: xx***yy."}),
    (F.Auth, "deepseek", 401, openai("Authentication Fails", "authentication_error", "invalid_request_error")),
    (F.Auth, "mistral", 401, {"message": "Unauthorized", "request_id": "abc"}),
    (F.Auth, "openrouter", 401, openrouter(401, "User not found.")),
    # PERMISSION
    (F.Permission, "openai", 403, openai("Project `p` does not have access to model `m`", "i", "model_not_found")),
    (F.Permission, "openai", 401, openai("You have insufficient permissions for this operation.", "i")),
    (F.Permission, "anthropic", 403, anthropic("permission_error", "Your API key may not use this resource")),
    (
        F.Permission,
        "gemini",
        429,
        google(429, "RESOURCE_EXHAUSTED", QUOTA + " limit: 0, model: gemini-3-pro", RETRY_INFO),
    ),
    (F.Permission, "gemini", 429, google(429, "RESOURCE_EXHAUSTED", QUOTA, violation("RequestsPerDayFreeTier", "0"))),
    # TOO_LARGE_FOR_LIMIT
    (F.TooLargeForLimit, "groq", 413, openai(GROQ_LARGE, "tokens", "rate_limit_exceeded")),
    (F.TooLargeForLimit, "openai", 429, openai(TOO_LARGE, "tokens", "rate_limit_exceeded")),
    # CLIENT
    (F.Client, "openai", 400, openai("maximum context length is 128000 tokens", "i", "context_length_exceeded")),
    (
        F.Client,
        "anthropic",
        400,
        anthropic("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
    ),
    (F.Client, "gemini", 400, google(400, "INVALID_ARGUMENT", "The input token count (2) exceeds the maximum (1).")),
    (F.Client, "openai", 404, openai("The model `x` does not exist", "invalid_request_error", "model_not_found")),
    (F.Client, "azure", 404, openai("The API deployment does not exist.", "i", "DeploymentNotFound")),
    (F.Client, "anthropic", 413, anthropic("request_too_large", "Request exceeds the maximum size")),
    (F.Client, "groq", 400, openai("Tool call validation failed", "invalid_request_error", "tool_use_failed")),
    (F.Client, "mistral", 422, {"detail": [{"type": "missing", "loc": ["body", "model"], "msg": "Field required"}]}),
    (F.Client, "generic", 409, b"conflict"),
    (F.Client, "together", 403, openai("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097")),
    # POLICY
    (
        F.Policy,
        "azure",
        400,
        openai(FILTERED, None, "content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}),
    ),
    (F.Policy, "openai", 400, openai("Your request was rejected", "image_error", "content_policy_violation")),
    (F.Policy, "openrouter", 403, openrouter(403, "x requires moderation on y. Your input was flagged", reasons=["a"])),
    (F.Policy, "cohere", 498, {"message": "blocked output"}),
    # SERVER
    (F.Server, "openai", 500, openai("The server had an error", "server_error")),
    (F.Server, "anthropic", 500, anthropic("api_error", "Internal server error")),
    (F.Server, "openai", 503, openai("Service unavailable", "server_error")),
    (F.Server, "generic", 502, b"<html><head><title>502 Bad Gateway</title></head></html>"),
    (F.Server, "generic", 520, b""),
    (F.Server, "generic", 425, b""),
    (F.Server, "openai", 403, b"<!DOCTYPE html><title>Just a moment...</title>"),
    # what only one provider says
    (F.Rate, "together", 429, openai("You have been rate limited. Your rate limit is 60 queries", "credit_limit")),
    (F.Rate, "together", 429, openai("Slow down please", "dynamic_request_limited")),
    (F.TooLargeForLimit, "azure", 429, openai(AZURE_DAY, None, "429")),
    (F.Rate, "azure", 429, openai(AZURE_DAY.replace("86400", "45"), None, "429")),
    (F.DayQuota, "openrouter", 429, openrouter(429, "Rate limited", limit_source="openrouter_free_tier_daily")),
    (
        F.Capacity,
        "cerebras",
        429,
        openai("Please try again soon", "too_many_requests_error", "queue_exceeded"),
    ),
    (F.Rate, "cerebras", 429, openai("Tokens per minute limit exceeded - too many tokens processed.")),
    (F.DayQuota, "cerebras", 429, openai("Tokens per day limit exceeded - too many tokens processed.")),
    (F.Balance, "cerebras", 402, openai("Payment required")),
    (F.Balance, "fireworks", 412, openai("Account acme is suspended, possibly due to the monthly spending limit")),
    (F.Client, "fireworks", 412, openai("Precondition failed")),
    (F.Capacity, "fireworks", 503, openai("Service overloaded")),
    (F.Capacity, "cerebras", 429, openai("We're experiencing high traffic right now!", "too_many_requests_error")),
    (F.DayQuota, "bedrock", 429, {"message": "Too many tokens per day, please wait before trying again."}),
    # TIMEOUT, BAD REPLY
    (F.Timeout, "openai", 408, openai("Request timed out", "server_error")),
    (F.BadReply, "openai", 200, b"<html>Log in to the Wi-Fi</html>"),
    (F.BadReply, "openai", 200, b""),
    (F.BadReply, "openai", 302, b""),
]


@pytest.mark.parametrize(("expected", "dialect", "status", "body"), ROWS)
def test_a_reply_has_the_class_of_its_row(expected: FailureClass, dialect: str, status: int, body: Any) -> None:
    failure = reply(dialect, status, body)
    assert failure.failure_class is expected
    assert failure.status == status
    assert 400 <= client_status_of(failure) <= 599


def test_every_class_of_a_reply_and_every_dialect_has_a_row_here() -> None:
    below_http = {F.NotSent, F.Unanswered, F.MidReply}
    assert {row[0] for row in ROWS} == set(F) - below_http
    assert {row[1] for row in ROWS} == set(DIALECTS)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (429, "ThrottlingException", F.Rate),
        (429, "ModelNotReadyException", F.Capacity),
        (400, "ServiceQuotaExceededException", F.Capacity),
        (503, "ServiceUnavailableException", F.Capacity),
        (408, "ModelTimeoutException", F.Timeout),
        (424, "ModelErrorException", F.Server),
        (500, "InternalServerException", F.Server),
        (403, "AccessDeniedException", F.Permission),
        (403, "UnrecognizedClientException", F.Auth),
        (403, "ExpiredTokenException", F.Auth),
        (400, "ValidationException", F.Client),
        (404, "ResourceNotFoundException", F.Client),
    ],
)
def test_amazon_tells_the_class_in_a_header(status: int, code: str, expected: FailureClass) -> None:
    failure = reply("bedrock", status, {"message": "no"}, x_amzn_ErrorType=f"{code}:http://internal.amazon.com/coral/")
    assert (failure.failure_class, failure.code, failure.message) == (expected, code, "no")
    told = reply("bedrock", status, {"Message": "no"}, x_amzn_errortype=f"com.amazon.coral#{code}")
    assert (told.failure_class, told.message) == (expected, "no")


def test_an_unknown_dialect_is_read_like_any_other() -> None:
    assert reply("never-heard-of", 429, openai(QUOTA, None, "insufficient_quota")).failure_class is F.Balance


def test_a_payment_required_that_says_when_to_return_is_only_a_hold() -> None:
    assert reply("openrouter", 402, openrouter(402, "Held"), retry_after="3").failure_class is F.InflightHold
    assert reply("openrouter", 402, openrouter(402, "Held")).failure_class is F.Balance


def test_a_429_with_most_of_every_limit_left_is_a_burst() -> None:
    plenty = {
        "x_ratelimit_limit_requests": "500",
        "x_ratelimit_remaining_requests": "499",
        "x_ratelimit_limit_tokens": "30000",
        "x_ratelimit_remaining_tokens": "20000",
    }
    body = openai("Rate limit reached", "requests", "rate_limit_exceeded")
    assert reply("openai", 429, body, **plenty).failure_class is F.Burst
    assert reply("openai", 429, body, **{**plenty, "x_ratelimit_remaining_tokens": "10"}).failure_class is F.Rate
    assert reply("openai", 429, body, **plenty, retry_after="2").failure_class is F.Rate
    counted = openai("on tokens per min (TPM): Limit 30000, Requested 20500", "tokens", "rate_limit_exceeded")
    assert reply("openai", 429, counted, **plenty).failure_class is F.Rate
    spare = {"anthropic_ratelimit_requests_limit": "50", "anthropic_ratelimit_requests_remaining": "49"}
    assert reply("anthropic", 429, anthropic("rate_limit_error", "x"), **spare).failure_class is F.Burst


@pytest.mark.parametrize(
    ("dialect", "status", "body", "headers", "expected_s"),
    [
        ("openai", 429, openai(TPM + ". Please try again in 1s.", "tokens", "rate_limit_exceeded"), {}, 1.0),
        ("openai", 429, openai("Please try again in 9s."), {"retry_after": "8"}, 8.0),
        ("azure", 429, openai("x", None, "429"), {"retry_after_ms": "1500", "retry_after": "2"}, 1.5),
        ("gemini", 429, google(429, "RESOURCE_EXHAUSTED", QUOTA, RETRY_INFO), {}, 36.0),
        ("openrouter", 429, openrouter(429, FREE_DAY, headers=IN_A_MINUTE), {}, 60.0),
        ("openai", 503, b"", {"retry_after": "Sat, 21 Nov 2026 12:00:30 GMT"}, 30.0),
        ("openai", 200, b"{}", {"retry_after": "30"}, None),
        ("openai", 200, openai("late", "server_error"), {"retry_after": "30"}, None),
    ],
)
def test_the_hint_is_found_where_the_provider_put_it(
    dialect: str, status: int, body: Any, headers: dict[str, str], expected_s: float | None
) -> None:
    assert reply(dialect, status, body, **headers).retry_after_s == expected_s


def test_scopes_and_costs_follow_from_the_class() -> None:
    rate = reply("openai", 429, b"")
    assert (rate.scope, rate.billing, rate.elsewhere, rate.whole_account) == (Scope.Pool, Billing.No, True, False)
    full = reply("anthropic", 529, b"")
    assert (full.scope, full.elsewhere) == (Scope.ProviderModel, True)
    fault = reply("openai", 500, b"")
    assert (fault.scope, fault.billing, fault.elsewhere) == (Scope.Key, Billing.Unknown, True)
    wrong = reply("openai", 400, b"")
    assert (wrong.scope, wrong.elsewhere) == (Scope.Nobody, False)
    filtered = reply("azure", 400, openai(FILTERED, None, "content_filter"))
    assert (filtered.scope, filtered.elsewhere) == (Scope.Nobody, False)
    broke = reply("openai", 429, openai(QUOTA, None, "insufficient_quota"))
    assert (broke.scope, broke.elsewhere, broke.whole_account) == (Scope.Pool, True, True)
    moved = reply("openai", 307, b"")
    assert (moved.scope, moved.billing, moved.elsewhere) == (Scope.Host, Billing.No, True)
    walled = reply("openai", 403, b"<html>blocked</html>")
    assert (walled.scope, walled.billing) == (Scope.Host, Billing.No)


def test_a_day_quota_covers_the_account_only_where_the_provider_counts_so() -> None:
    assert reply("openrouter", 429, openrouter(429, FREE_DAY)).whole_account
    per_model = google(429, "RESOURCE_EXHAUSTED", QUOTA, violation("RequestsPerDayPerProjectPerModel"))
    assert not reply("gemini", 429, per_model).whole_account


@pytest.mark.parametrize("dialect", list(DIALECTS))
@pytest.mark.parametrize(
    "quoted",
    [
        "Your credit balance is too low",
        "Incorrect API key provided",
        "API key not valid",
        "You have reached your specified API usage limits",
        "This organization has been disabled",
        "Limit 10, Requested 20",
        "insufficient_quota",
        '{"error":{"code":"insufficient_quota","message":"x"}}',
    ],
)
def test_a_caller_cannot_bench_a_key_by_writing_a_providers_words_into_a_request(dialect: str, quoted: str) -> None:
    body = openai(f"Invalid value for 'messages[0].role': {quoted!r}", "invalid_request_error", "invalid_value")
    failure = reply(dialect, 400, body)
    assert (failure.failure_class, failure.scope) == (F.Client, Scope.Nobody)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"message": "The provided model identifier is invalid."}, None, "The provided model identifier is invalid."),
        ([google(400, "INVALID_ARGUMENT", "bad role")], "400", "bad role"),
        (openai(json.dumps(google(400, "INVALID_ARGUMENT", "inner"))), "400", "inner"),
        ({"detail": "Not Found"}, None, "Not Found"),
        ({"detail": [{"msg": "Field required"}, {"msg": "Too short"}]}, None, "Field required; Too short"),
        ({"error": "model 'x' not found"}, None, "model 'x' not found"),
        (
            b"<html><head><title>400 Bad &amp; Request</title></head><body>nginx</body></html>",
            None,
            "400 Bad & Request",
        ),
        (b"plain words\n", None, "plain words"),
        (b"", None, "HTTP 400 without a message"),
        (b" \n\x00", None, "HTTP 400 without a message"),
        (b"null", None, "null"),
        (b'event: error\ndata: {"error":{"message":"framed","code":"c"}}\n\n', "c", "framed"),
        (openai("m", "some_type"), "some_type", "m"),
    ],
)
def test_every_envelope_gives_its_code_and_message(body: Any, code: str | None, message: str) -> None:
    failure = reply("generic", 400, body)
    assert (failure.code, failure.message) == (code, message)


def test_the_providers_request_id_is_kept_from_headers_or_body() -> None:
    assert reply("openai", 500, b"", x_request_id="req_1").provider_request_id == "req_1"
    assert reply("anthropic", 500, b"", request_id="req_2").provider_request_id == "req_2"
    assert reply("azure", 500, b"", apim_request_id="req_3").provider_request_id == "req_3"
    assert reply("generic", 502, b"", cf_ray="8f-FRA").provider_request_id == "8f-FRA"
    assert reply("anthropic", 529, anthropic("overloaded_error", "Overloaded")).provider_request_id == "req_011"
    assert reply("openai", 500, b"").provider_request_id is None


def test_no_key_material_survives_in_a_failure() -> None:
    secret = "sk-" + "aB3" * 12
    failure = reply("openai", 401, openai(f"Incorrect API key provided: {secret}.", None, secret), x_request_id=secret)
    assert secret not in repr(failure)
    assert failure.failure_class is F.Auth
    assert len(reply("openai", 400, openai("word " * 5_000)).message) == 500


def test_an_error_that_comes_with_status_200_is_classified_by_what_it_says() -> None:
    filtered = openai(FILTERED, None, "content_filter", status=400)
    failure = reply("azure", 200, filtered)
    assert (failure.failure_class, failure.status) == (F.Policy, 400)
    assert reply("openai", 200, openai("x", "rate_limit_error")).failure_class is F.Rate


def recordings() -> Path:
    default = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    return Path(os.environ.get("APIKEYROUTER_DATA", default)) / "exchanges" / "dev.jsonl"


HOST_DIALECTS = {
    "api.openai.com": "openai",
    "api.groq.com": "groq",
    "openrouter.ai": "openrouter",
    "api.deepseek.com": "deepseek",
    "aiplatform.googleapis.com": "gemini",
    "us-central1-aiplatform.googleapis.com": "gemini",
    "traceloop-stg.openai.azure.com": "azure",
    "test-resource.openai.azure.com": "azure",
}
RECORDED = {400: F.Client, 401: F.Auth, 404: F.Client, 429: F.Capacity}


@pytest.mark.data
def test_every_recorded_error_has_the_class_that_a_person_gives_it() -> None:
    path = recordings()
    if not path.exists():
        pytest.skip("data not found, skipped")
    seen = 0
    for line in path.read_text().splitlines():
        exchange = json.loads(line)
        if exchange["status"] < 400:
            continue
        seen += 1
        body = exchange["response_json"]
        raw = (exchange["response_text"] or "").encode() if body is None else json.dumps(body).encode()
        headers = [(name.encode(), value.encode()) for name, value in exchange["response_headers"].items()]
        dialect = HOST_DIALECTS.get(exchange["host"], "generic")
        failure = classify_reply(dialect, exchange["status"], headers, raw, utc_now=NOW)
        # the only 429 recorded is OpenRouter's "rate-limited upstream": not our key's limit
        assert failure.failure_class is RECORDED[exchange["status"]], exchange["source"]
        assert failure.message
        assert "without a message" not in failure.message
    assert seen >= 30
