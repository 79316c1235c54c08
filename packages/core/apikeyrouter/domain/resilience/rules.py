"""Which signal means which class of failure: tables per dialect, read top to bottom, the first match decides.

Main entry: `rules_of(dialect)`: the dialect's own rows, then the common ones. `BY_STATUS` and `status_fallback` decide
what no row knows. Order within a table: body codes, then statuses with text.
Laws: rows are data; adding a provider adds rows. A row's text is matched at the *start* of the message unless its
status is one that only the provider's own limiter sends (402, 403, 413, 429, 5xx): a 400 may quote what the caller
wrote, and a caller must not be able to bench our keys by writing "credit balance is too low" into a prompt.
Sources: provider documentation and recorded replies, as collected in the design notes on reliability, section 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from apikeyrouter.domain.resilience.failures import Billing, FailureClass, Scope

__all__ = ["BY_STATUS", "DIALECTS", "IMPLIED_STATUS", "Rule", "rules_of", "status_fallback"]

_F = FailureClass


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: every condition given must hold. What it leaves out comes from the class (`FACTS`).

    `reasons`: any of these words among the body's. `statuses`: any of these. `text`: found in the message.
    `too_large`: the message's own numbers say that the request exceeds the whole limit. `hinted`: a retry hint came.
    `html`: the body is a page. The rest overrides the class's facts.
    """

    failure_class: FailureClass
    reasons: frozenset[str] = frozenset()
    statuses: frozenset[int] = frozenset()
    text: re.Pattern[str] | None = None
    too_large: bool = False
    hinted: bool = False
    html: bool = False
    scope: Scope | None = None
    billing: Billing | None = None
    whole_account: bool | None = None


def _code(kind: FailureClass, *reasons: str, status: int | None = None, whole_account: bool | None = None) -> Rule:
    statuses = frozenset() if status is None else frozenset({status})
    return Rule(kind, reasons=frozenset(reasons), statuses=statuses, whole_account=whole_account)


def _text(
    kind: FailureClass,
    pattern: str,
    *statuses: int,
    whole_account: bool | None = None,
    scope: Scope | None = None,
) -> Rule:
    text = re.compile(pattern, re.IGNORECASE)
    return Rule(kind, statuses=frozenset(statuses), text=text, whole_account=whole_account, scope=scope)


def _status(kind: FailureClass, *statuses: int, hinted: bool = False) -> Rule:
    return Rule(kind, statuses=frozenset(statuses), hinted=hinted)


_OPENAI = (
    _code(_F.Permission, "model_not_found", "permission_denied", status=403),
    _text(_F.Permission, r"^You have insufficient permissions|^Missing scopes", 401),
    _text(_F.Permission, r"^Your IP is not authorized", 401),
)

_ANTHROPIC = (
    _text(_F.SpendCap, r"^You have reached your specified (?:workspace )?API usage limits", 400, 403, 429),
    _text(_F.Balance, r"^Your credit balance is too low", 400, 402, 403),
    _text(_F.Auth, r"^This organization has been disabled", 400, 403),
    _text(_F.Permission, r"^Extra usage is required|^The long context beta is not yet available", 400, 429),
    _text(
        _F.Burst, r"acceleration limit|usage increase rate|scale up your input tokens|increase .{0,20}gradually", 429
    ),
)

_AZURE = (
    _code(_F.Permission, "permissiondenied", status=401),
    _code(_F.Capacity, "nocapacity"),
    # "a day" is what Azure says of a request that exceeds a whole minute's tokens; obeyed, it would bench a deployment
    _text(_F.TooLargeForLimit, r"token rate limit\b.{0,300}\bretry after 86400 seconds", 429),
    _text(_F.Capacity, r"high demand|system is (?:currently )?experiencing|at capacity", 429, 503),
)

_GEMINI = (
    _code(_F.Permission, "quota_zero"),
    _text(_F.Permission, r"\blimit: 0(?![.\d])", 429),
    _text(_F.Balance, r"(?:prepayment )?credits (?:are|have been) (?:depleted|exhausted)", 402, 403, 429),
    _text(
        _F.Rate, r"\bspend(?:ing|-based)?\b.{0,40}\b(?:rate )?limit|rate limit.{0,40}\bspend", 429, whole_account=True
    ),
    _code(_F.DayQuota, "quota_per_day"),
    _text(_F.Auth, r"^Your API key was reported as leaked|^Permission denied: Consumer .{0,80} suspended", 403),
    _text(_F.Auth, r"^API key not valid|^API key expired|^API Key not found", 400),
    _text(_F.Permission, r"^User location is not supported|^Gemini API free tier is not available", 400),
    _text(_F.Capacity, r"overloaded|high demand|try again later", 503),
    _status(_F.Capacity, 529),
)

_GROQ = (
    _code(_F.TooLargeForLimit, "rate_limit_exceeded", "tokens", status=413),
    _code(_F.SpendCap, "blocked_api_access", "spend_limit_reached"),
    _code(_F.Auth, "organization_restricted"),
    _code(_F.Capacity, "over_capacity", "capacity_exceeded"),
    _status(_F.Capacity, 498),
)

_OPENROUTER = (
    _code(_F.InflightHold, "openrouter_in_flight_budget"),
    _code(_F.SpendCap, "openrouter_key_limit"),
    _code(_F.Balance, "openrouter_credits"),
    _code(_F.DayQuota, "openrouter_free_tier_daily", whole_account=True),
    _text(_F.SpendCap, r"^Key limit exceeded", 402, 403),
    _text(_F.Policy, r"requires? moderation|was flagged", 403),
    _text(_F.DayQuota, r"free-models-per-day|per[- ]day", 429, whole_account=True),
    _text(_F.Rate, r"free-models-per-min", 429, whole_account=True),
    # the provider behind OpenRouter is full or limits OpenRouter: no key of ours is at fault
    _text(_F.Capacity, r"^Provider returned error|rate-limited upstream", 429),
    _status(_F.InflightHold, 402, hinted=True),
)

_MISTRAL = (
    _code(_F.Capacity, "service_tier_capacity_exceeded"),
    _text(_F.Capacity, r"capacity exceeded", 429),
    _text(_F.DayQuota, r"month", 429, whole_account=True),
)

_DEEPSEEK = (
    _text(_F.Balance, r"insufficient balance", 402),
    _status(_F.Capacity, 503),
)

_TOGETHER = (
    _code(_F.Rate, "dynamic_request_limited", "dynamic_token_limited", status=429),
    # comes with the type "credit_limit", which elsewhere means that money is missing
    _text(_F.Rate, r"^You have been rate limited|^You have reached the rate limit", 429),
    _text(_F.SpendCap, r"spend(?:ing)? limit", 402, 403, 429),
    _text(_F.Client, r"^Input validation error|^.{0,20}tokens? .{0,80}must be", 403),
    _status(_F.Capacity, 503),
)

_XAI = (
    _text(_F.Auth, r"^Incorrect API key provided|^Invalid API key", 400),
    _text(_F.Balance, r"used all available credits|monthly spending limit|have any credits", 402, 403, 429),
    _text(_F.Policy, r"^Content violates usage guidelines", 400, 403),
)

_COHERE = (
    _text(_F.DayQuota, r"/\s?month|per month|monthly", 429, whole_account=True),
    _status(_F.Policy, 498),
)

# https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html; the codes come in a header,
# and as names of exceptions inside streams, where no status tells them apart
_BEDROCK = (
    _text(_F.DayQuota, r"tokens per day", 429),
    _code(_F.Rate, "throttlingexception"),
    _code(_F.Capacity, "modelnotreadyexception", "serviceunavailableexception", "servicequotaexceededexception"),
    _code(_F.Timeout, "modeltimeoutexception"),
    _code(_F.Server, "modelerrorexception", "modelstreamerrorexception", "internalserverexception", "internalfailure"),
    _code(
        _F.Auth,
        "unrecognizedclientexception",
        "invalidsignatureexception",
        "incompletesignature",
        "incompletesignatureexception",
        "missingauthenticationtokenexception",
        "invalidclienttokenid",
        "expiredtokenexception",
    ),
    _text(_F.Auth, r"^(?:Authentication failed|Invalid API Key format|Bearer Token has expired)", 403),
    _code(_F.Client, "validationexception", "resourcenotfoundexception"),
)

_CEREBRAS = (
    _code(_F.Capacity, "queue_exceeded"),
    _text(_F.Capacity, r"high traffic", 429, 503),
    _text(_F.DayQuota, r"^(?:Tokens|Requests) per day limit exceeded", 429),
)

_FIREWORKS = (
    _text(_F.Balance, r"^Account \S{1,100} is suspended", 412),
    _status(_F.Capacity, 503),
)

_COMMON = (
    Rule(_F.TooLargeForLimit, statuses=frozenset({413, 429}), too_large=True),
    _code(_F.TooLargeForLimit, "rate_limit_exceeded", status=413),
    _text(_F.TooLargeForLimit, r"^Request too large for", 429),
    _code(
        _F.SpendCap,
        "enforced_spend_limit_reached",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
    ),
    _code(
        _F.Balance,
        "insufficient_quota",
        "credit_balance_exhausted",
        "billing_not_active",
        "billing_error",
        "billing_disabled",
        "insufficient_balance",
        "insufficient_credits",
        "credit_limit",
    ),
    _code(
        _F.Auth,
        "invalid_api_key",
        "incorrect_api_key",
        "api_key_invalid",
        "api_key_expired",
        "account_deactivated",
        "consumer_suspended",
        "access_token_expired",
        "unrecognizedclientexception",
    ),
    _code(_F.Permission, "service_disabled", "api_key_service_blocked", "unsupported_country_region_territory"),
    _code(
        _F.Policy,
        "content_filter",
        "content_policy_violation",
        "responsibleaipolicyviolation",
        "contentfilter",
    ),
    _code(_F.Burst, "slow_down"),
    _code(
        _F.Capacity,
        "overloaded_error",
        "server_is_overloaded",
        "engine_overloaded",
        "engine_overloaded_error",
        "overloaded",
        "model_overloaded",
        "servicequotaexceededexception",
    ),
    _code(_F.Client, "context_length_exceeded", "model_not_found", "deploymentnotfound"),
    _text(_F.Balance, r"^You exceeded your current quota, please check your plan and billing", 402),
    _text(_F.Capacity, r"overloaded|over capacity|out of capacity", 503),
    # a page instead of JSON: a firewall or CDN refused us; the key was never looked at
    Rule(_F.Server, statuses=frozenset({401, 403, 429}), html=True, scope=Scope.Host, billing=Billing.No),
    # too early, misdirected connection: not processed, by definition (RFC 8470, RFC 9110)
    Rule(_F.Server, statuses=frozenset({421, 425}), scope=Scope.Host, billing=Billing.No),
    Rule(_F.Server, statuses=frozenset({407}), scope=Scope.Host, billing=Billing.No),
    Rule(_F.Server, statuses=frozenset({499})),
)

_OWN: Mapping[str, tuple[Rule, ...]] = {
    "openai": _OPENAI,
    "anthropic": _ANTHROPIC,
    "azure": _AZURE + _OPENAI,
    "gemini": _GEMINI,
    "groq": _GROQ,
    "openrouter": _OPENROUTER,
    "mistral": _MISTRAL,
    "deepseek": _DEEPSEEK,
    "together": _TOGETHER,
    "xai": _XAI,
    "cohere": _COHERE,
    "bedrock": _BEDROCK,
    "cerebras": _CEREBRAS,
    "fireworks": _FIREWORKS,
    "generic": (),
}

DIALECTS: Mapping[str, tuple[Rule, ...]] = {name: own + _COMMON for name, own in _OWN.items()}
"""The rows of every known dialect, in order."""

BY_STATUS: Mapping[int, FailureClass] = {
    401: _F.Auth,
    402: _F.Balance,
    403: _F.Permission,
    # the provider gave up on us, or on what lies behind it; unlike our own timeouts it is an answer
    408: _F.Timeout,
    429: _F.Rate,
    451: _F.Policy,
    529: _F.Capacity,
}
"""What a status means when the body says nothing. The rest: see `status_fallback`."""

IMPLIED_STATUS: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "api_error": 500,
    "server_error": 500,
    "internal_server_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
    "invalid_argument": 400,
    "failed_precondition": 400,
    "out_of_range": 400,
    "unauthenticated": 401,
    "permission_denied": 403,
    "not_found": 404,
    "resource_exhausted": 429,
    "internal": 500,
    "unimplemented": 501,
    "unavailable": 503,
    "deadline_exceeded": 504,
    "content_filter": 400,
    "context_length_exceeded": 400,
    "invalid_prompt": 400,
    "throttlingexception": 429,
    "modelnotreadyexception": 429,
    "validationexception": 400,
    "accessdeniedexception": 403,
    "resourcenotfoundexception": 404,
    "modeltimeoutexception": 408,
    "modelerrorexception": 424,
    "modelstreamerrorexception": 424,
    "internalserverexception": 500,
    "serviceunavailableexception": 503,
}
"""The HTTP status that an error inside a 200 would have had, by its type (Anthropic, OpenAI, google.rpc.Code)."""


def rules_of(dialect: str) -> tuple[Rule, ...]:
    """The rows for a dialect; those of "generic" when it is unknown."""
    return DIALECTS.get(dialect, _COMMON)


def status_fallback(status: int) -> FailureClass:
    """The class of a status that neither a row nor `BY_STATUS` knows. 2xx and 3xx here are replies that are none."""
    if 400 <= status <= 499:
        return FailureClass.Client
    return FailureClass.Server if 500 <= status <= 599 else FailureClass.BadReply
