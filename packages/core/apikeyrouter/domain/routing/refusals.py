"""From a failed decision to the error that the caller gets: one category, one status, a true retry_after."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from apikeyrouter.domain.errors import ErrorCategory, NoEligibleKeysError, SystemError
from apikeyrouter.domain.resilience.failures import (
    Failure,
    FailureClass,
    category_of,
    client_code_of,
    client_status_of,
)
from apikeyrouter.domain.routing.explain import AttemptFact, Rejection
from apikeyrouter.domain.routing.fallbacks import FallbackReason, reason_of_refusals
from apikeyrouter.domain.routing.preflight import CONTEXT
from apikeyrouter.domain.routing.refusal_words import Reason, advice, told

if TYPE_CHECKING:
    from apikeyrouter.domain.routing.candidates import Candidate

__all__ = ["failed_error", "largest_context", "refused_error", "waitable_at"]

_TOO_LONG = "context_length_exceeded"
"""OpenAI's code for a request that is too long, by which clients know that they should shorten it."""

_WAITS = frozenset({"rate_limited", "headroom", "throttled"})
_MENDED_BY_WAITING = _WAITS | {"ejected", "probing", "breaker_open"}
_LOOK_AGAIN_S = 1.0
"""When to look again where only the end of another request helps, and nobody knows when that is."""
_LIMITED = frozenset({FailureClass.Rate, FailureClass.Burst, FailureClass.InflightHold, FailureClass.DayQuota})
_OWN_FAULT = frozenset({FailureClass.Client, FailureClass.Policy, FailureClass.TooLargeForLimit})


def waitable_at(rejections: Iterable[Rejection], now_s: float) -> float | None:
    """The earliest monotonic time at which a request that was refused everywhere may be served, None when no wait
    mends it. Whoever waits should also look when a hold closes: that may be sooner."""
    earliest: float | None = None
    for rejection in rejections:
        if rejection.code in _MENDED_BY_WAITING:
            until_s = rejection.until_s
            at_s = now_s + _LOOK_AGAIN_S if until_s is None else max(until_s, now_s)
            if earliest is None or at_s < earliest:
                earliest = at_s
    return earliest


def failed_error(
    failure: Failure, attempts: Sequence[AttemptFact], body: bytes | None, content_type: str | None
) -> SystemError:
    """The error for a request that stopped at this failure. The caller's own errors carry the provider's body."""
    own = failure.failure_class in _OWN_FAULT
    key = attempts[-1].label if attempts else "the key"
    tried = f" after {len(attempts)} attempts" if len(attempts) > 1 else ""
    message = (
        failure.message
        if own
        else f"{_WORDS.get(failure.failure_class, 'The provider failed')}{tried} (last: {key}): {failure.message}"
    )
    return SystemError(
        category_of(failure),
        message,
        provider_code=client_code_of(failure),
        retryable=not own and failure.elsewhere,
        details={
            "failure_class": failure.failure_class.value,
            "attempts": len(attempts),
            **({"param": failure.param} if own and failure.param is not None else {}),
        },
        retry_after=failure.retry_after_s,
        status=client_status_of(failure),
        provider_body=body if own else None,
        provider_content_type=content_type if own else None,
    )


def largest_context(candidates: Sequence[Candidate], rejections: Sequence[Rejection]) -> int:
    """The largest context window, in tokens, of the candidates that were refused for theirs; 0 without any."""
    refused = {one.who for one in rejections if one.code == CONTEXT}
    return max([one.context_max for one in candidates if one.who in refused], default=0) if refused else 0


def refused_error(
    model: str,
    rejections: Sequence[Rejection],
    failures: Sequence[tuple[AttemptFact, Failure]],
    now_s: float,
    *,
    context_max: int = 0,
) -> NoEligibleKeysError:
    """The error when no key is left to try: reasons, told once for all keys that share them, and the earliest time
    that one of them may serve; `reasons` has each key's own.
    `context_max`: see `largest_context`."""
    found = {r.key_id: Reason(r.label, r.code, r.reason.rstrip("."), r.until_s) for r in rejections}
    for fact, failure in failures:
        name = failure.failure_class.value
        found[fact.key_id] = Reason(fact.label, name, f"{name}: {failure.message.rstrip('.')}")
    reasons = {key_id: one.clause for key_id, one in found.items()}
    waits = [r.until_s - now_s for r in rejections if r.until_s is not None]
    waits += [f.retry_after_s for _, f in failures if f.retry_after_s is not None]
    retry_after = max(0.0, min(waits)) if waits else None
    category, status, code = _verdict(rejections, failures)
    said = {failure.message for _, failure in failures if failure.failure_class in _OWN_FAULT}
    why = told(list(found.values()), now_s)
    if code == _TOO_LONG:
        message = (
            f"The maximum context length of what may serve the model {model!r} is {context_max} tokens, and this "
            f"request is longer: {why}. Shorten it, lower max_tokens, or name a model that takes more."
        )
    elif len(said) == 1 and len(failures) == len(found):
        message = said.pop()  # all keys lack the same, and it is the request that has to change
    elif not found:
        message = (
            f"No key is registered that may serve the model {model!r}. "
            "Register one with `await router.register_key(key_material, provider_id)`, or `apikeyrouter keys add`."
        )
    else:
        what = f"Try again in {retry_after:.1f} s." if retry_after is not None else advice(found.values())
        message = f"No key can serve the model {model!r} now: {why}. {what}".rstrip()
    error = NoEligibleKeysError(
        message, reasons=reasons, category=category, retry_after=retry_after, status=status, provider_code=code
    )
    params = {failure.param for _, failure in failures}
    if code == _TOO_LONG:
        error.details["param"] = "messages"
    elif len(params) == 1 and (param := params.pop()) is not None:
        error.details["param"] = param
    return error


def _verdict(
    rejections: Sequence[Rejection], failures: Sequence[tuple[AttemptFact, Failure]]
) -> tuple[ErrorCategory, int, str]:
    """(category, status, code). Whatever a wait can mend counts before what only an operator can."""
    classes = {f.failure_class for _, f in failures}
    codes = {r.code for r in rejections}
    if CONTEXT in codes and not failures and reason_of_refusals(codes) is FallbackReason.Context:
        return ErrorCategory.ValidationError, 400, _TOO_LONG
    if classes & _LIMITED or codes & _WAITS:
        return ErrorCategory.RateLimitError, 429, "rate_limit_exceeded"
    unwell = [f for _, f in failures if f.failure_class not in {FailureClass.Auth, *_QUOTA}]
    if unwell:
        return category_of(unwell[-1]), client_status_of(unwell[-1]), client_code_of(unwell[-1])
    if codes & {"breaker_open", "ejected", "probing"}:
        return ErrorCategory.ProviderError, 503, "provider_unavailable"
    if classes & _QUOTA or "exhausted" in codes:
        return ErrorCategory.QuotaExceededError, 429, "insufficient_quota"
    if FailureClass.Auth in classes or codes & {"invalid", "suspect", "permission"}:
        return ErrorCategory.AuthenticationError, 502, "upstream_auth"
    if codes & {"max_cost", "price_unknown"}:
        return ErrorCategory.BudgetExceededError, 402, "max_cost"
    if "over_limit" in codes:
        return ErrorCategory.ValidationError, 413, "request_too_large"
    if codes == {"capability"}:
        return ErrorCategory.ValidationError, 400, "unsupported_operation"
    if codes and codes <= {"policy", "model_not_served", "capability"}:
        return ErrorCategory.ValidationError, 403, "not_allowed"
    return ErrorCategory.ProviderError, 503, "no_eligible_keys"


_QUOTA = frozenset({FailureClass.Balance, FailureClass.SpendCap})

_WORDS = {
    FailureClass.Rate: "The provider's rate limit is reached",
    FailureClass.Auth: "The provider refuses our key",
    FailureClass.Timeout: "The provider did not answer in time",
    FailureClass.NotSent: "The provider could not be reached",
    FailureClass.Unanswered: "The provider closed the connection without an answer",
    FailureClass.MidReply: "The provider broke off its reply",
    FailureClass.BadReply: "The provider's reply cannot be understood",
    FailureClass.Balance: "The provider account is out of credit",
    FailureClass.SpendCap: "The provider account reached its spend cap",
}
