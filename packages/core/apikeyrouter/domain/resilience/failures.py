"""What a failed attempt means, as one value: `Failure`, and what each class of failure stands for, as one table.

Main entries: `Failure`, `FACTS`, `category_of`, `client_status_of`, `client_code_of`.
Laws: a failure has exactly one class; class and facts decide who suffers (scope), what it may have cost (billing),
whether another key may be tried, and what our own client is told. A broken credential of ours is never the client's
401: clients would throw their own key away.
Source: the classification table of the design notes on provider reliability; statuses follow what client SDKs retry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from apikeyrouter.domain.errors import ErrorCategory

__all__ = [
    "FACTS",
    "LIMITED",
    "RATES",
    "Billing",
    "ClassFacts",
    "Failure",
    "FailureClass",
    "Scope",
    "bad_reply",
    "category_of",
    "client_code_of",
    "client_status_of",
    "of_raw_path",
    "unsupported",
]


class FailureClass(StrEnum):
    """Why an attempt failed.

    Rate: the pool's rate limit. Burst: too steep a rise, below the limit. Capacity: the provider is full for this
    model, whoever asks. Server: a fault on the provider's side. DayQuota: a day's or month's allowance is used up.
    SpendCap: a spending limit that somebody set. Balance: prepaid credit or payment is missing. InflightHold: money
    held for running requests, free again soon. Auth: the credential is refused. Permission: it is known, but may not do
    this. TooLargeForLimit: this request alone exceeds the pool's limit. Client: the request is wrong, for every key.
    Policy: refused for its content. NotSent: no byte left. Unanswered: sent, nothing came back. Timeout: nothing came
    back in time. MidReply: the reply broke off. BadReply: a reply that is none (2xx without a valid body, 3xx).
    """

    Rate = "rate"
    Burst = "burst"
    Capacity = "capacity"
    Server = "server"
    DayQuota = "day_quota"
    SpendCap = "spend_cap"
    Balance = "balance"
    InflightHold = "inflight_hold"
    Auth = "auth"
    Permission = "permission"
    TooLargeForLimit = "too_large_for_limit"
    Client = "client"
    Policy = "policy"
    NotSent = "not_sent"
    Unanswered = "unanswered"
    Timeout = "timeout"
    MidReply = "mid_reply"
    BadReply = "bad_reply"


class Scope(StrEnum):
    """Whom a failure tells about. One wrong scope ejects innocents."""

    Key = "key"
    Pool = "pool"
    ProviderModel = "provider_model"
    Host = "host"
    Nobody = "nobody"


class Billing(StrEnum):
    """Whether the provider may charge for the attempt. A hold of an attempt that is not `No` is not simply released."""

    No = "no"
    Unknown = "unknown"
    Yes = "yes"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt.

    `elsewhere`: whether another key may be tried (for scope Pool: a key of another pool). `status`: the HTTP status, or
    for an error inside a 200 the one that it names or implies; None below HTTP. `code`: the provider's code, or the
    transport's kind. `message`: one line of at most 500 characters without key material. `retry_after_s`: the
    provider's hint, 0..86,400. `whole_account`: the limit covers every model of the pool, not only the one asked for.
    `param`: the member of the request that the provider finds fault with, as it names it.
    """

    failure_class: FailureClass
    scope: Scope
    billing: Billing
    elsewhere: bool
    status: int | None
    code: str | None
    message: str
    retry_after_s: float | None
    provider_request_id: str | None
    whole_account: bool
    param: str | None = None


@dataclass(frozen=True, slots=True)
class ClassFacts:
    """What holds for a class unless a rule says otherwise. `status`, `code`: what our client is told."""

    scope: Scope
    billing: Billing
    elsewhere: bool
    whole_account: bool
    category: ErrorCategory
    status: int
    code: str


def _facts(
    scope: Scope,
    billing: Billing,
    category: ErrorCategory,
    status: int,
    code: str,
    *,
    elsewhere: bool = True,
    whole_account: bool = False,
) -> ClassFacts:
    return ClassFacts(scope, billing, elsewhere, whole_account, category, status, code)


_F, _S, _B, _C = FailureClass, Scope, Billing, ErrorCategory

FACTS: Mapping[FailureClass, ClassFacts] = {
    _F.Rate: _facts(_S.Pool, _B.No, _C.RateLimitError, 429, "rate_limit_exceeded"),
    _F.Burst: _facts(_S.Pool, _B.No, _C.RateLimitError, 429, "rate_limit_exceeded"),
    _F.Capacity: _facts(_S.ProviderModel, _B.No, _C.ProviderError, 503, "upstream_overloaded"),
    # "usually unbilled" is not "unbilled": a 5xx may follow a finished generation
    _F.Server: _facts(_S.Key, _B.Unknown, _C.ProviderError, 502, "upstream_error"),
    _F.DayQuota: _facts(_S.Pool, _B.No, _C.QuotaExceededError, 429, "upstream_quota_exceeded"),
    _F.SpendCap: _facts(_S.Pool, _B.No, _C.QuotaExceededError, 503, "upstream_quota_exceeded", whole_account=True),
    _F.Balance: _facts(_S.Pool, _B.No, _C.QuotaExceededError, 503, "upstream_quota_exceeded", whole_account=True),
    _F.InflightHold: _facts(_S.Pool, _B.No, _C.RateLimitError, 429, "rate_limit_exceeded", whole_account=True),
    _F.Auth: _facts(_S.Key, _B.No, _C.AuthenticationError, 502, "upstream_auth", whole_account=True),
    _F.Permission: _facts(_S.Key, _B.No, _C.AuthenticationError, 502, "upstream_auth"),
    # 413 and not 429: the same request can never fit, so a client must not repeat it
    _F.TooLargeForLimit: _facts(_S.Nobody, _B.No, _C.ValidationError, 413, "request_too_large"),
    _F.Client: _facts(_S.Nobody, _B.No, _C.ValidationError, 400, "invalid_request", elsewhere=False),
    # Azure OpenAI bills a 400 of its content filter (its "manage costs" page): unknown, to be safe
    _F.Policy: _facts(_S.Nobody, _B.Unknown, _C.ValidationError, 400, "content_policy", elsewhere=False),
    _F.NotSent: _facts(_S.Host, _B.No, _C.NetworkError, 502, "upstream_unreachable"),
    _F.Unanswered: _facts(_S.Host, _B.Unknown, _C.NetworkError, 502, "upstream_unanswered"),
    _F.Timeout: _facts(_S.ProviderModel, _B.Unknown, _C.TimeoutError, 504, "upstream_timeout"),
    _F.MidReply: _facts(_S.Host, _B.Yes, _C.NetworkError, 502, "upstream_broke_off", elsewhere=False),
    _F.BadReply: _facts(_S.ProviderModel, _B.Unknown, _C.ProviderError, 502, "upstream_bad_reply"),
}

RATES = frozenset({_F.Rate, _F.Burst})
"""Refused for the pace of requests: the same key may serve soon."""

LIMITED = frozenset({_F.Rate, _F.Burst, _F.DayQuota, _F.SpendCap, _F.InflightHold, _F.TooLargeForLimit})
"""Refused for a limit of the account."""

_OWN_STATUS = frozenset({_F.Client, _F.Policy})
_NOT_FOUND = frozenset({"404", "not_found", "not_found_error"})
"""Codes of providers for whatever is not there: Google (a number), Cohere and others, Anthropic."""
_GATEWAY_STATUSES = frozenset({502, 503, 504})
# A client that sees one of these takes its own credential, account or proxy for the fault.
_MISLEADING = frozenset({401, 402, 403, 407, 429})
_TIMEOUT_KINDS = frozenset({"connect_timeout", "first_byte_timeout", "idle_timeout", "deadline"})


def bad_reply(why: str, status: int | None) -> Failure:
    """A reply that is none, found out by whoever tried to read it. `why`: without key material or reply content."""
    facts = FACTS[FailureClass.BadReply]
    return Failure(
        FailureClass.BadReply, facts.scope, facts.billing, facts.elsewhere, status, "bad_reply", why, None, None, False
    )


def unsupported(why: str, *, elsewhere: bool) -> Failure:
    """A request that cannot be said in a provider's format, found out before anything was sent. `elsewhere`: other
    providers may still serve it; False: it is no request of the caller's own format. `why`: for the caller, by the
    names that it used. Its status is None, since nobody was asked."""
    return Failure(
        FailureClass.Client,
        Scope.ProviderModel,
        Billing.No,
        elsewhere=elsewhere,
        status=None,
        code="unsupported_by_provider" if elsewhere else "invalid_request",
        message=why,
        retry_after_s=None,
        provider_request_id=None,
        whole_account=False,
    )


def of_raw_path(failure: Failure) -> Failure:
    """The failure of a path that the caller chose: that a key may not go there is no fault of the key, which serves
    everything else; one caller's curiosity must not keep others out."""
    if failure.failure_class is not FailureClass.Permission:
        return failure
    return replace(failure, failure_class=FailureClass.Client, scope=Scope.Nobody, elsewhere=False, whole_account=False)


def _timed_out(failure: Failure) -> bool:
    """Whether a failure below HTTP, or a gateway's 504, is about time."""
    return failure.status == 504 or (failure.status is None and failure.code in _TIMEOUT_KINDS)


def category_of(failure: Failure) -> ErrorCategory:
    """The category that callers of the library see."""
    if _timed_out(failure):
        return ErrorCategory.TimeoutError
    if failure.failure_class is FailureClass.Capacity and failure.status == 429:
        return ErrorCategory.RateLimitError
    return FACTS[failure.failure_class].category


def client_status_of(failure: Failure) -> int:
    """The HTTP status that our proxy answers with when this failure is the last word; always 400..599.

    The caller's own errors keep their status; a 429 for a shared reason stays 429; 502, 503 and 504 stay what they are.
    """
    kind, status = failure.failure_class, failure.status
    if kind in _OWN_STATUS:
        keep = status is not None and 400 <= status < 500 and status not in _MISLEADING
        return status if keep and status is not None else FACTS[kind].status
    if kind in (FailureClass.Capacity, FailureClass.SpendCap, FailureClass.Balance) and status == 429:
        return 429
    if kind is FailureClass.Server and status in _GATEWAY_STATUSES:
        return status if status is not None else FACTS[kind].status
    return 504 if _timed_out(failure) else FACTS[kind].status


def client_code_of(failure: Failure) -> str:
    """The `code` of our error body: the provider's own for the caller's errors, ours for what lies behind us, and for
    a model that the provider does not have, which clients of OpenAI tell by the code and others by the status."""
    code = failure.code
    if failure.failure_class not in _OWN_STATUS or not code:
        return FACTS[failure.failure_class].code
    if failure.status == 404 and code.lower() in _NOT_FOUND and "model" in failure.message.lower():
        return "model_not_found"
    return code if not code.isdecimal() else FACTS[failure.failure_class].code
