"""How each provider tells its limits: header sets as documented or recorded, and refusals with numbers."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from apikeyrouter.domain.quota.dialects import DIALECTS, limit_dialect, tier_names, tier_rows
from apikeyrouter.domain.quota.dialects.charges import CHARGES
from apikeyrouter.domain.quota.facts import DAY_S, MINUTE_S, MONTH_S, Dimension, LimitDialect, LimitFact, Refill, Source
from apikeyrouter.domain.resilience import rules
from apikeyrouter.domain.resilience.classify import FailureClass, classify_reply

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
D = Dimension
Key = tuple[Dimension, float]


def pairs(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def of_reply(dialect: str, headers: dict[str, str]) -> dict[Key, LimitFact]:
    facts = limit_dialect(dialect).of_reply(pairs(headers), utc_now=NOW)
    found = {(fact.dimension, fact.period_s): fact for fact in facts}
    assert len(found) == len(facts), "one fact for each dimension and period"
    return found


def of_refusal(
    dialect: str, status: int, body: Any, headers: dict[str, str] | None = None
) -> tuple[FailureClass, dict[Key, LimitFact]]:
    told, raw = pairs(headers or {}), json.dumps(body).encode()
    failure = classify_reply(dialect, status, told, raw, utc_now=NOW)
    facts = limit_dialect(dialect).of_failure(failure, told, raw, utc_now=NOW)
    return failure.failure_class, {(fact.dimension, fact.period_s): fact for fact in facts}


def openai_headers(requests: tuple[str, str, str], tokens: tuple[str, str, str]) -> dict[str, str]:
    return {
        f"x-ratelimit-{side}-{what}": value
        for what, values in (("requests", requests), ("tokens", tokens))
        for side, value in zip(("limit", "remaining", "reset"), values, strict=True)
    }


def error(message: str, type_: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": type_, "param": None, "code": code}}


# --- replies -----------------------------------------------------------------------------------------------------


def test_every_dialect_that_errors_are_read_in_tells_limits_too() -> None:
    assert set(rules.DIALECTS) == set(DIALECTS) == set(CHARGES)
    for name in DIALECTS:
        dialect: LimitDialect = limit_dialect(name)
        assert dialect.charges is CHARGES[name]
    assert limit_dialect("somebody-else") is limit_dialect("generic")


def test_openai_tells_when_everything_is_back() -> None:
    facts = of_reply("openai", openai_headers(("500", "499", "120ms"), ("200000", "199998", "6m0s")))
    requests, tokens = facts[D.Requests, MINUTE_S], facts[D.Tokens, MINUTE_S]
    assert (requests.limit, requests.remaining, requests.reset_s) == (500, 499, 0.12)
    assert (tokens.limit, tokens.remaining, tokens.reset_s) == (200_000, 199_998, 360.0)
    assert requests.reset_means == "full"
    assert requests.source is Source.Header
    assert requests.models == ""


@pytest.mark.parametrize(
    ("limit", "remaining", "reset", "period_s"),
    [
        ("10000", "9999", "8.64s", DAY_S),
        ("10000", "9965", "5m1.2s", DAY_S),
        ("200", "199", "7m12s", DAY_S),
        ("200", "0", "24h0m0s", DAY_S),
        ("30000", "29999", "2ms", MINUTE_S),
        ("500", "0", "1m0s", MINUTE_S),
        ("100", "99", "59s", MINUTE_S),
        ("2000", "1999", "43s", MINUTE_S),
        ("2000", "1999", "43", MINUTE_S),
        ("10000", "10000", "0s", MINUTE_S),
    ],
)
def test_the_time_to_refill_tells_a_days_requests_from_a_minutes(
    limit: str, remaining: str, reset: str, period_s: float
) -> None:
    facts = of_reply("openai", openai_headers((limit, remaining, reset), ("200000", "199998", "0s")))
    assert {key[1] for key in facts if key[0] is D.Requests} == {period_s}


def test_of_an_organisations_and_a_projects_tokens_the_tighter_counts() -> None:
    headers = openai_headers(("500", "499", "120ms"), ("200000", "150000", "15s"))
    headers |= {
        "x-ratelimit-limit-project-tokens": "60000",
        "x-ratelimit-remaining-project-tokens": "57000",
        "x-ratelimit-reset-project-tokens": "3s",
    }
    assert of_reply("openai", headers)[D.Tokens, MINUTE_S].limit == 60_000


def test_groqs_requests_are_a_days_whatever_the_reset_looks_like() -> None:
    facts = of_reply("groq", openai_headers(("14400", "14399", "6s"), ("6000", "5987", "130ms")))
    assert facts[D.Requests, DAY_S].remaining == 14_399
    assert facts[D.Tokens, MINUTE_S].remaining == 5_987


ANTHROPIC = {
    "date": "Sat, 02 Aug 2025 12:00:40 GMT",
    "anthropic-ratelimit-requests-limit": "4000",
    "anthropic-ratelimit-requests-remaining": "3999",
    "anthropic-ratelimit-requests-reset": "2025-08-02T12:00:48Z",
    "anthropic-ratelimit-input-tokens-limit": "400000",
    "anthropic-ratelimit-input-tokens-remaining": "390000",
    "anthropic-ratelimit-input-tokens-reset": "2025-08-02T14:00:42+02:00",
    "anthropic-ratelimit-output-tokens-limit": "80000",
    "anthropic-ratelimit-output-tokens-remaining": "80000",
    "anthropic-ratelimit-output-tokens-reset": "2025-08-02T12:00:28Z",
    "anthropic-ratelimit-tokens-limit": "480000",
    "anthropic-ratelimit-tokens-remaining": "470000",
    "anthropic-ratelimit-tokens-reset": "2025-08-02T12:00:42Z",
}


def test_anthropics_moments_are_measured_on_its_own_clock_and_the_sum_of_its_limits_is_none() -> None:
    facts = of_reply("anthropic", ANTHROPIC)
    assert set(facts) == {(d, MINUTE_S) for d in (D.Requests, D.InputTokens, D.OutputTokens)}
    assert facts[D.Requests, MINUTE_S].reset_s == 8.0
    assert facts[D.InputTokens, MINUTE_S].reset_s == 2.0
    assert facts[D.OutputTokens, MINUTE_S].reset_s == 0.0, "what should have come back 12 s ago is back"
    assert facts[D.InputTokens, MINUTE_S].refill is Refill.Continuous


def test_a_reset_beyond_a_month_is_not_believed() -> None:
    far = {**ANTHROPIC, "anthropic-ratelimit-requests-reset": "2025-10-02T12:00:40Z"}
    assert of_reply("anthropic", far)[D.Requests, MINUTE_S].reset_s is None
    assert (
        of_reply("openai", openai_headers(("5", "1", "99999999"), ("5", "1", "1s")))[D.Requests, 60.0].reset_s is None
    )


def test_a_workspaces_own_token_limit_is_one() -> None:
    facts = of_reply("anthropic", {**ANTHROPIC, "anthropic-ratelimit-tokens-limit": "100000"})
    assert facts[D.Tokens, MINUTE_S].limit == 100_000
    old = {name: value for name, value in ANTHROPIC.items() if "put" not in name}
    assert of_reply("anthropic", old)[D.Tokens, MINUTE_S].limit == 480_000


@pytest.mark.parametrize(
    ("limit", "remaining", "reset", "reset_s"),
    [
        ("120", "119", "500", 0.5),
        ("120000", "119986", "7", 0.007),
        ("120", "0", "60", 60.0),
        ("120", "60", "30", 30.0),
        ("120", "0", "60000", 60.0),
    ],
)
def test_azures_bare_resets_take_the_unit_that_arithmetic_allows(
    limit: str, remaining: str, reset: str, reset_s: float
) -> None:
    headers = {
        "x-ratelimit-limit-requests": limit,
        "x-ratelimit-remaining-requests": remaining,
        "x-ratelimit-reset-requests": reset,
        "x-ratelimit-renewalperiod-requests": "60",
        "x-ratelimit-abusepenalty-active": "False",
    }
    assert of_reply("azure", headers)[D.Requests, MINUTE_S].reset_s == pytest.approx(reset_s)


def test_azure_tells_the_period_and_sometimes_nothing() -> None:
    renewal = {"x-ratelimit-limit-requests": "10", "x-ratelimit-renewalperiod-requests": "10"}
    assert of_reply("azure", renewal)[D.Requests, 10.0].limit == 10
    minus = openai_headers(("-1", "-1", "0"), ("-1", "-1", "0"))
    assert of_reply("azure", minus) == {}
    only_left = {"x-ratelimit-remaining-requests": "119", "x-ratelimit-remaining-tokens": "119984"}
    fact = of_reply("azure", only_left)[D.Tokens, MINUTE_S]
    assert (fact.limit, fact.remaining, fact.reset_s) == (None, 119_984, None)
    waits = {"30": 30.0, "30000": 30.0}
    for told, wait_s in waits.items():
        unlimited = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": told}
        assert of_reply("azure", unlimited)[D.Requests, MINUTE_S].reset_s == wait_s


def test_mistral_says_what_a_request_was_charged() -> None:
    facts = of_reply(
        "mistral",
        {
            "x-ratelimit-limit-tokens-minute": "5000000",
            "x-ratelimit-remaining-tokens-minute": "4999911",
            "x-ratelimit-tokens-query-cost": "52",
            "x-ratelimit-limit-req-minute": "720",
            "x-ratelimit-remaining-req-minute": "717",
            "x-ratelimit-limit-tokens-month": "1000000000",
            "x-ratelimit-remaining-tokens-month": "870000000",
        },
    )
    assert facts[D.Tokens, MINUTE_S].charged == 52
    assert facts[D.Requests, MINUTE_S].remaining == 717
    assert facts[D.Tokens, MONTH_S].remaining == 870_000_000
    assert facts[D.Tokens, MONTH_S].charged is None


def test_cerebras_names_the_period_in_each_header() -> None:
    facts = of_reply(
        "cerebras",
        {
            "x-ratelimit-limit-requests-day": "14400",
            "x-ratelimit-remaining-requests-day": "14399",
            "x-ratelimit-reset-requests-day": "33011.382867097855",
            "x-ratelimit-limit-tokens-minute": "60000",
            "x-ratelimit-remaining-tokens-minute": "59000",
            "x-ratelimit-reset-tokens-minute": "11.38",
        },
    )
    assert facts[D.Requests, DAY_S].reset_s == pytest.approx(33_011.38, abs=0.01)
    assert facts[D.Tokens, MINUTE_S].remaining == 59_000


def test_together_tells_rates_per_second_fixed_and_dynamic() -> None:
    facts = of_reply(
        "together",
        {
            "x-ratelimit-limit": "10",
            "x-ratelimit-remaining": "9",
            "x-ratelimit-reset": "1",
            "x-ratelimit-limit-dynamic": "4",
            "x-ratelimit-remaining-dynamic": "3",
            "x-tokenlimit-limit": "3000",
            "x-tokenlimit-remaining": "2500",
            "x-tokenlimit-limit-dynamic": "2000",
            "x-tokenlimit-remaining-dynamic": "1500",
        },
    )
    assert (facts[D.Requests, 1.0].limit, facts[D.Requests, 1.0].remaining) == (4, 3)
    assert (facts[D.Tokens, MINUTE_S].limit, facts[D.Tokens, MINUTE_S].remaining) == (120_000, 90_000)


def test_fireworks_rates_count_what_no_cache_held_for_all_models() -> None:
    facts = of_reply(
        "fireworks",
        {
            "x-ratelimit-limit-tokens-prompt": "60000",
            "x-ratelimit-limit-tokens-cache-adjusted-prompt": "15000",
            "x-ratelimit-limit-tokens-generated": "600",
            "x-ratelimit-over-limit": "no",
        },
    )
    assert facts[D.InputTokens, MINUTE_S].limit == 900_000
    assert facts[D.OutputTokens, MINUTE_S].limit == 36_000
    assert facts[D.OutputTokens, MINUTE_S].models == "*"


def test_a_cohere_trial_tells_its_minute_and_its_month() -> None:
    facts = of_reply(
        "cohere",
        {
            "x-endpoint-monthly-call-limit": "1000",
            "x-trial-endpoint-call-limit": "20",
            "x-trial-endpoint-call-remaining": "19",
        },
    )
    assert (facts[D.Requests, MINUTE_S].limit, facts[D.Requests, MINUTE_S].remaining) == (20, 19)
    assert (facts[D.Requests, MONTH_S].limit, facts[D.Requests, MONTH_S].models) == (1_000, "*")


@pytest.mark.parametrize("dialect", ["xai", "openai", "generic"])
def test_openais_names_are_understood_of_its_imitators(dialect: str) -> None:
    facts = of_reply(dialect, openai_headers(("480", "479", "125ms"), ("2000000", "1999000", "30ms")))
    assert facts[D.Requests, MINUTE_S].remaining == 479
    assert facts[D.Tokens, MINUTE_S].limit == 2_000_000


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            {"x-ratelimit-limit": "100", "x-ratelimit-remaining": "99", "x-ratelimit-reset": "45"},
            (D.Requests, MINUTE_S, 100, 99, 45.0),
        ),
        (
            {"x-ratelimit-limit": "1000", "x-ratelimit-remaining": "999", "x-ratelimit-reset": "1795266000"},
            (D.Requests, 3_600.0, 1_000, 999, 1_795_266_000 - NOW.timestamp()),
        ),
        (
            {"x-ratelimit-limit": "9", "x-ratelimit-remaining": "1", "x-ratelimit-reset": "1795262430000"},
            (D.Requests, MINUTE_S, 9, 1, 30.0),
        ),
        (
            {"ratelimit": '"default";r=50;t=30', "ratelimit-policy": '"default";q=100;w=60'},
            (D.Requests, 60.0, 100, 50, 30.0),
        ),
        (
            {"ratelimit": '"tokens";r=5;t=9', "ratelimit-policy": '"tokens";q=9;w=3600;qu="tokens"'},
            (D.Tokens, 3_600.0, 9, 5, 9.0),
        ),
        (
            {"ratelimit": "limit=100, remaining=50, reset=30", "ratelimit-policy": "100;w=3600"},
            (D.Requests, 3_600.0, 100, 50, 30.0),
        ),
        (
            {"ratelimit-limit": "100, 100;w=10", "ratelimit-remaining": "9", "ratelimit-reset": "3"},
            (D.Requests, 10.0, 100, 9, 3.0),
        ),
        (
            {"ratelimit-limit": "5000", "ratelimit-remaining": "4999", "ratelimit-reset": "3000"},
            (D.Requests, 3_600.0, 5_000, 4_999, 3_000.0),
        ),
        (
            {"ratelimit": '"c";r=1', "ratelimit-policy": '"c";q=4;qu="concurrent-requests"'},
            (D.Concurrency, 0.0, 4, 1, None),
        ),
    ],
)
def test_a_generic_server_may_use_any_custom(headers: dict[str, str], expected: tuple[Any, ...]) -> None:
    ((key, fact),) = of_reply("generic", headers).items()
    assert (*key, fact.limit, fact.remaining) == expected[:4]
    assert fact.reset_s == (expected[4] if expected[4] is None else pytest.approx(expected[4]))
    assert fact.reset_means == "window" or fact.dimension is D.Concurrency


def test_header_names_in_any_case_and_repeated_headers_are_read() -> None:
    headers = [(b"X-RateLimit-Limit-Requests", b"60"), (b"X-RATELIMIT-REMAINING-REQUESTS", b"5")]
    (fact,) = limit_dialect("openai").of_reply([*headers, (b"X-RateLimit-Limit-Requests", b"9")], utc_now=NOW)
    assert (fact.limit, fact.remaining) == (60, 5)


def test_more_left_than_the_limit_is_the_limit_and_nonsense_is_nothing() -> None:
    facts = of_reply("openai", openai_headers(("10", "12", "x"), ("many", "", "1s")))
    assert facts[D.Requests, MINUTE_S].remaining == 10
    assert facts[D.Requests, MINUTE_S].reset_s is None
    assert (D.Tokens, MINUTE_S) not in facts


def test_a_share_of_one_request_is_no_limit_of_none() -> None:
    assert of_reply("generic", {"x-ratelimit-limit": "0.6"}) == {}
    assert of_reply("generic", {"x-ratelimit-limit": "2.9"})[D.Requests, MINUTE_S].limit == 2
    assert of_reply("generic", {"x-ratelimit-limit": "0"})[D.Requests, MINUTE_S].limit == 0


def test_more_tokens_left_than_the_limit_are_the_limit() -> None:
    facts = of_reply("openai", openai_headers(("500", "499", "120ms"), ("100", "150", "0s")))
    assert facts[D.Tokens, MINUTE_S].remaining == 100


def test_a_refill_too_fast_for_a_day_is_a_minutes() -> None:
    facts = of_reply("openai", openai_headers(("1000", "500", "3h0m0s"), ("100", "100", "0s")))
    assert {key[1] for key in facts} == {MINUTE_S}


def test_a_dialect_says_which_headers_it_understands() -> None:
    assert limit_dialect("openai").understands(b"x-ratelimit-limit-input-images")
    assert limit_dialect("openai").understands(b"ratelimit-policy")
    assert not limit_dialect("groq").understands(b"ratelimit-policy")
    assert not limit_dialect("openai").understands(b"x-request-id")


# --- refusals ----------------------------------------------------------------------------------------------------

GROQ_TPM = (
    "Rate limit reached for model `llama-3.3-70b-versatile` in organization `org_01` service tier `on_demand` on "
    "tokens per minute (TPM): Limit 12000, Used 4437, Requested 9854. Please try again in 11.455s. Need more tokens?"
)
OPENAI_RPD = (
    "Rate limit reached for gpt-4o-mini in organization org-1 on requests per day (RPD): Limit 200, Used 200, "
    "Requested 1. Please try again in 7m12s."
)
ANTHROPIC_ITPM = (
    "This request would exceed the rate limit for your organization (0dcc) of 50,000 input tokens per minute. For "
    "details, refer to: https://docs.claude.com/en/api/rate-limits."
)
XAI_TPM = (
    "Too many tokens for team e9fe and model grok-4-0709. Your team's rate limit is — Tokens per Minute "
    "(actual/limit): 65605/16000. You can view your team rate limits at https://console.x.ai."
)
AZURE_TOKENS = (
    "Your requests to gpt-4.1-nano in Sweden Central have exceeded the token rate limit for your current AIServices S0 "
    "pricing tier. Please retry after 45 seconds."
)


@pytest.mark.parametrize(
    ("dialect", "body", "key", "limit", "remaining"),
    [
        ("groq", error(GROQ_TPM, "tokens", "rate_limit_exceeded"), (D.Tokens, MINUTE_S), 12_000, 7_563),
        ("openai", error(OPENAI_RPD, "requests", "rate_limit_exceeded"), (D.Requests, DAY_S), 200, 0),
        ("anthropic", error(ANTHROPIC_ITPM, "rate_limit_error"), (D.InputTokens, MINUTE_S), 50_000, 0),
        ("xai", {"code": "x", "error": XAI_TPM}, (D.Tokens, MINUTE_S), 16_000, 0),
        ("azure", error(AZURE_TOKENS, None, "429"), (D.Tokens, MINUTE_S), None, 0),
        ("azure", error("... have exceeded call rate limit of ...", None, "429"), (D.Requests, MINUTE_S), None, 0),
        (
            "cerebras",
            error("Tokens per minute limit exceeded - too many tokens processed."),
            (D.Tokens, MINUTE_S),
            None,
            0,
        ),
        ("cerebras", error("Requests per second limit exceeded."), (D.Requests, 1.0), None, 0),
        ("mistral", {"object": "error", "message": "Requests rate limit exceeded"}, (D.Requests, MINUTE_S), None, 0),
        ("deepseek", error("Rate limit reached for requests"), (D.Concurrency, 0.0), None, 0),
        (
            "together",
            error("You have been rate limited. Your rate limit is 60 queries per minute.", "credit_limit"),
            (D.Requests, MINUTE_S),
            60,
            0,
        ),
        (
            "cohere",
            {"message": "You are using a Trial key, which is limited to 40 API calls / minute."},
            (D.Requests, MINUTE_S),
            40,
            0,
        ),
        (
            "cohere",
            {"message": "trial token rate limit exceeded, limit is 100000 tokens per minute"},
            (D.Tokens, MINUTE_S),
            100_000,
            0,
        ),
        (
            "generic",
            error("Rate limit reached for requests per min. Limit: 60.000000 / min. Current: 70.000000 / min."),
            (D.Requests, MINUTE_S),
            60,
            0,
        ),
        (
            "anthropic",
            error("Number of concurrent connections has exceeded your rate limit"),
            (D.Concurrency, 0.0),
            None,
            0,
        ),
    ],
)
def test_a_refusal_names_its_limit(dialect: str, body: Any, key: Key, limit: int | None, remaining: int) -> None:
    kind, facts = of_refusal(dialect, 429, body)
    assert kind is FailureClass.Rate
    assert set(facts) == {key}
    assert (facts[key].limit, facts[key].remaining) == (limit, remaining)
    assert facts[key].source is Source.ErrorBody


def test_numbers_of_the_sentence_replace_those_of_the_headers_and_leave_the_rest() -> None:
    headers = openai_headers(("14400", "14370", "6s"), ("12000", "9000", "15s"))
    _, facts = of_refusal("groq", 429, error(GROQ_TPM, "tokens", "rate_limit_exceeded"), headers)
    assert facts[D.Tokens, MINUTE_S].remaining == 12_000 - 4_437
    assert facts[D.Tokens, MINUTE_S].reset_s == 15.0
    assert facts[D.Requests, DAY_S].source is Source.Header


def test_the_true_rest_of_a_limit_is_kept_where_headers_know_it() -> None:
    told = {**ANTHROPIC, "retry-after": "9"}
    _, facts = of_refusal("anthropic", 429, error(ANTHROPIC_ITPM, "rate_limit_error"), told)
    assert facts[D.InputTokens, MINUTE_S].remaining == 50_000, "never more than the limit that was named"
    headers = {**told, "anthropic-ratelimit-input-tokens-remaining": "30000"}
    _, facts = of_refusal("anthropic", 429, error(ANTHROPIC_ITPM, "rate_limit_error"), headers)
    assert facts[D.InputTokens, MINUTE_S].remaining == 30_000


def test_a_request_too_large_for_a_limit_tells_it_and_does_not_empty_it() -> None:
    message = (
        "Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Requested 31538."
    )
    kind, facts = of_refusal("openai", 429, error(message, "tokens", "rate_limit_exceeded"))
    assert kind is FailureClass.TooLargeForLimit
    assert (facts[D.Tokens, MINUTE_S].limit, facts[D.Tokens, MINUTE_S].remaining) == (30_000, None)


def test_a_caller_cannot_set_limits_by_quoting_a_refusal() -> None:
    assert of_refusal("openai", 400, error("Invalid: " + GROQ_TPM, "invalid_request_error"))[1] == {}
    assert of_refusal("openai", 500, error(GROQ_TPM))[1] == {}


def gemini(
    violations: list[dict[str, Any]], message: str = "Quota exceeded", retry: str | None = "36s"
) -> dict[str, Any]:
    details: list[dict[str, Any]] = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations}]
    if retry is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": retry})
    return {"error": {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": details}}


def violation(quota_id: str, metric: str = "m/requests", value: str | None = None) -> dict[str, Any]:
    more = {} if value is None else {"quotaValue": value}
    return {"quotaId": quota_id, "quotaMetric": metric, "quotaDimensions": {"model": "gemini-2.5-flash"}, **more}


def test_geminis_day_ends_at_midnight_in_california() -> None:
    body = gemini([violation("GenerateRequestsPerDayPerProjectPerModel-FreeTier", value="250")])
    kind, facts = of_refusal("gemini", 429, body)
    fact = facts[D.Requests, DAY_S]
    assert kind is FailureClass.DayQuota
    assert (fact.limit, fact.remaining, fact.reset_s) == (250, 0, 20 * 3_600.0)  # 12:00 UTC is 04:00 in November
    assert (fact.reset_means, fact.refill, fact.time_zone) == ("window", Refill.Calendar, "America/Los_Angeles")
    assert fact.models == ""


def test_the_day_on_which_clocks_change_is_longer() -> None:
    body = json.dumps(gemini([violation("GenerateRequestsPerDayPerProjectPerModel")])).encode()
    changes = datetime(2026, 11, 1, 7, 30, tzinfo=UTC)  # 00:30 in California; this day has 25 hours
    failure = classify_reply("gemini", 429, [], body, utc_now=changes)
    (fact,) = limit_dialect("gemini").of_failure(failure, [], body, utc_now=changes)
    assert fact.reset_s == 24.5 * 3_600.0


def test_each_violation_of_gemini_is_a_limit_with_nothing_left() -> None:
    message = (
        "* Quota exceeded for metric: generativelanguage.googleapis.com/free_input_token_count, limit: 250000\n"
        "* Quota exceeded for metric: generativelanguage.googleapis.com/free_requests, limit: 10, model: x"
    )
    body = gemini(
        [
            violation("GenerateContentInputTokensPerModelPerMinute-FreeTier", "g.com/free_input_token_count"),
            violation("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "g.com/free_requests"),
        ],
        message,
    )
    _, facts = of_refusal("gemini", 429, body)
    assert facts[D.InputTokens, MINUTE_S].limit == 250_000
    assert facts[D.Requests, MINUTE_S].limit == 10
    assert {fact.remaining for fact in facts.values()} == {0}
    assert {fact.reset_s for fact in facts.values()} == {36.0}


def test_a_model_outside_geminis_tier_has_a_limit_of_nothing() -> None:
    body = gemini([violation("GenerateRequestsPerDayPerProjectPerModel-FreeTier", value="0")], retry=None)
    kind, facts = of_refusal("gemini", 429, body)
    assert kind is FailureClass.Permission
    assert facts[D.Requests, DAY_S].limit == 0


def test_geminis_rolling_spend_limit_concerns_the_whole_project() -> None:
    kind, facts = of_refusal("gemini", 429, error("You exceeded the spend-based rate limit of your tier"))
    assert kind is FailureClass.Rate
    assert (facts[D.Spend, 600.0].remaining, facts[D.Spend, 600.0].models) == (0, "*")


def test_openrouters_free_day_travels_in_the_body_and_ends_at_midnight_utc() -> None:
    headers = {"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1795305600000"}
    body = {
        "error": {
            "message": "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 requests per day",
            "code": 429,
            "metadata": {"headers": headers},
        }
    }
    kind, facts = of_refusal("openrouter", 429, body)
    fact = facts[D.Requests, DAY_S]
    assert kind is FailureClass.DayQuota
    assert (fact.limit, fact.remaining, fact.models) == (50, 0, "free-models")
    assert fact.reset_s == 12 * 3_600.0
    _, bare = of_refusal("openrouter", 429, error("Rate limit exceeded: free-models-per-day-high-balance."))
    assert bare[D.Requests, DAY_S].reset_s == 12 * 3_600.0
    _, minute = of_refusal("openrouter", 429, error("Rate limit exceeded: free-models-per-min."))
    assert set(minute) == {(D.Requests, MINUTE_S)}


def test_what_limits_the_provider_behind_openrouter_limits_no_key() -> None:
    body = {
        "error": {"code": 429, "message": "Provider returned error", "metadata": {"raw": "x is rate-limited upstream"}}
    }
    assert of_refusal("openrouter", 429, body) == (FailureClass.Capacity, {})


def test_a_spend_cap_of_anthropic_ends_when_it_says_else_with_the_month() -> None:
    def capped(message: str) -> LimitFact:
        body = {
            "type": "error",
            "error": {
                "type": "rate_limit_error",
                "message": message,
                "details": {"error_code": "enforced_spend_limit_reached"},
            },
        }
        kind, facts = of_refusal("anthropic", 429, body)
        assert kind is FailureClass.SpendCap
        return facts[D.Spend, MONTH_S]

    assert capped("You will regain access on 2026-11-22 at 00:00 UTC.").reset_s == 12 * 3_600.0
    assert capped("You have reached your API usage limits").reset_s == 9.5 * DAY_S
    assert capped("You will regain access on 2026-99-99 at 00:00 UTC.").models == "*"


def test_coheres_month_is_the_whole_accounts() -> None:
    message = "You are using a Trial key, which is limited to 1000 API calls / month."
    kind, facts = of_refusal("cohere", 429, {"message": message})
    assert kind is FailureClass.DayQuota
    assert (facts[D.Requests, MONTH_S].limit, facts[D.Requests, MONTH_S].models) == (1_000, "*")


# --- groups and tiers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "model", "group"),
    [
        ("anthropic", "claude-opus-4-1-20250805", "claude-opus-4"),
        ("anthropic", "claude-opus-4-8", "claude-opus-4"),
        ("anthropic", "claude-sonnet-4-20250514", "claude-sonnet-4"),
        ("anthropic", "claude-sonnet-5-5", "claude-sonnet-5.5"),
        ("anthropic", "claude-sonnet-5", "claude-sonnet-5"),
        ("anthropic", "claude-fable-5-1", "claude-fable-5"),
        ("anthropic", "claude-3-5-haiku-20241022", "claude-haiku-3.5"),
        ("anthropic", "claude-3-haiku@20240307", "claude-haiku-3"),
        ("anthropic", "anthropic/claude-haiku-4.5", "claude-haiku-4"),
        ("anthropic", "claude-next", "claude-next"),
        ("openai", "gpt-4o-2024-08-06", "gpt-4o"),
        ("openai", "gpt-4o-mini", "gpt-4o-mini"),
        ("gemini", "models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("openrouter", "meta-llama/llama-3.3-70b-instruct:free", "free-models"),
        ("openrouter", "openai/gpt-5", "openai/gpt-5"),
        ("fireworks", "accounts/fireworks/models/x", "*"),
        ("groq", "llama-3.1-8b-instant", "llama-3.1-8b-instant"),
    ],
)
def test_models_that_share_limits_have_one_name(dialect: str, model: str, group: str) -> None:
    assert limit_dialect(dialect).models_sharing(model) == group


@pytest.mark.parametrize(
    ("dialect", "tier", "model", "expected"),
    [
        ("openai", "Tier 1", "gpt-5", {(D.Requests, MINUTE_S): 500, (D.Tokens, MINUTE_S): 500_000}),
        ("openai", "5", "gpt-5-mini-2025-08-07", {(D.Tokens, MINUTE_S): 180_000_000}),
        (
            "anthropic",
            "scale",
            "claude-fable-5-1",
            {(D.InputTokens, MINUTE_S): 4_000_000, (D.Spend, MONTH_S): 200_000 * 10**9},
        ),
        ("anthropic", "tier-4", "claude-sonnet-4-5", {(D.OutputTokens, MINUTE_S): 400_000}),
        ("gemini", "tier 1", "models/gemini-3-pro", {(D.Spend, 600.0): 10 * 10**9}),
        ("groq", "free", "openai/gpt-oss-120b", {(D.Tokens, DAY_S): 200_000, (D.Requests, DAY_S): 1_000}),
        ("mistral", "free", "mistral-small-latest", {(D.Requests, 1.0): 1}),
        ("cerebras", "free", "gpt-oss-120b", {(D.Requests, MINUTE_S): 5}),
        ("openrouter", "credits", "x/y:free", {(D.Requests, DAY_S): 1_000}),
        ("cohere", "trial", "command-a-reasoning-08-2025", {(D.Requests, MINUTE_S): 20, (D.Requests, MONTH_S): 1_000}),
        ("cohere", "production", "command-r-plus-08-2024", {(D.Requests, MINUTE_S): 500}),
        ("deepseek", "default", "deepseek-v4-pro", {(D.Concurrency, 0.0): 500}),
        ("xai", "tier 0", "grok-4.7", {(D.Requests, 1.0): 150}),
        ("fireworks", "default", "any", {(D.OutputTokens, MINUTE_S): 36_000}),
    ],
)
def test_a_tier_has_the_limits_that_were_published(
    dialect: str, tier: str, model: str, expected: dict[Key, int]
) -> None:
    facts = limit_dialect(dialect).of_tier(tier, model)
    found = {(fact.dimension, fact.period_s): fact.limit for fact in facts}
    assert expected.items() <= found.items()
    assert {fact.source for fact in facts} == {Source.Tier}


def test_what_nobody_published_is_not_made_up() -> None:
    assert limit_dialect("openai").of_tier("tier 9", "gpt-5") == ()
    assert limit_dialect("groq").of_tier("free", "some-new-model") == ()
    assert limit_dialect("together").of_tier("5", "any") == ()


def test_the_group_of_a_tiers_limit_is_the_group_of_its_model() -> None:
    for model in ("claude-opus-4-1", "claude-haiku-4-5", "claude-fable-5-1"):
        dialect = limit_dialect("anthropic")
        groups = {fact.models for tier in ("1", "4", "start") for fact in dialect.of_tier(tier, model)}
        assert groups - {"*"} == {dialect.models_sharing(model)}


def test_every_published_limit_has_a_date_and_a_source() -> None:
    for row in tier_rows():
        assert re.fullmatch(r"20\d\d(-\d\d){0,2}", row.as_of), row
        assert row.source.startswith("https://"), row
        assert row.note or row.seen != "reports", row
        assert row.dialect in DIALECTS
        assert set(row.tiers) <= set(tier_names(row.dialect))
