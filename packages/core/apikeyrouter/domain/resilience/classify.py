"""The one classifier: whatever went wrong becomes exactly one `Failure`.

Main entries: `classify_reply` (a whole reply), `classify_event` (an error inside a 200 stream), `classify_transport`
(no usable reply at all). What a class stands for is in `failures`, the signals are rows in `rules`.
Laws: never raises, whatever a provider sent. Body code before status, status before text. A 429 is not one thing: rate,
burst, capacity, day quota, spend cap and balance differ in whom they rest and for how long. A `Retry-After` counts only
on a failure. A refusal inside a valid reply (finish_reason "content_filter", stop_reason "refusal") is a reply and no
failure: it is passed on, never shopped around.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from apikeyrouter.domain.interfaces.transport import SendPhase, TransportError
from apikeyrouter.domain.resilience.bodies import (
    ErrorBody,
    decode_error,
    error_of,
    header_request_id,
    load_json,
    with_header_code,
)
from apikeyrouter.domain.resilience.durations import (
    ABSURD_S,
    DURATION_MAX_S,
    LimitFacts,
    hint_in_details,
    hint_in_text,
    limit_in_text,
    provider_now,
    retry_after_s,
)
from apikeyrouter.domain.resilience.failures import (
    FACTS,
    Billing,
    Failure,
    FailureClass,
    Scope,
    category_of,
    client_code_of,
    client_status_of,
)
from apikeyrouter.domain.resilience.redact import fold
from apikeyrouter.domain.resilience.rules import BY_STATUS, IMPLIED_STATUS, Rule, rules_of, status_fallback

__all__ = [
    "Billing",
    "Failure",
    "FailureClass",
    "Scope",
    "category_of",
    "classify_event",
    "classify_reply",
    "classify_transport",
    "client_code_of",
    "client_status_of",
]

Headers = list[tuple[bytes, bytes]]

MESSAGE_MAX = 500
_CODE_MAX = 64

BURST_REMAINING_RATIO = 0.2
"""A 429 while more than this share of every reported limit is left is a burst and not the limit (design notes 1.2)."""

_ERROR_MARKS = (b'"error"', b"response.failed")
_EPOCH_HEADERS = ("x-ratelimit-reset", "ratelimit-reset")
_EPOCH_MS_FROM = 1e11
"""Unix times above this are milliseconds (in seconds it would be the year 5138)."""


def classify_reply(dialect: str, status: int, headers: Headers, body: bytes, *, utc_now: datetime) -> Failure:
    """What a reply means that is not a valid answer.

    Call it for every status of 300 and more, and for a 2xx whose body could not be read as a reply. A 2xx that carries
    an error envelope is classified by that error. `body`: decoded of its content-encoding; only its beginning is read.
    """
    if 300 <= status <= 399 or status < 200:
        return _odd_status(status, headers)
    in_band = 200 <= status <= 299
    if in_band:
        error = error_of(load_json(body))
        if error is None:
            return _unreadable(status, headers, body)
        status = _implied_status(error)
    else:
        error = with_header_code(decode_error(body), headers)
    hint_s = _hint_s(dialect, [] if in_band else headers, error, utc_now)
    return _judge(dialect, status, error, hint_s, headers)


def classify_event(dialect: str, event_data: bytes, *, utc_now: datetime) -> Failure | None:
    """What the payload of one SSE `data:` line means; None when it is no error.

    `status` of the failure is the one that the event names or implies (500 when it does neither).
    """
    if not any(mark in event_data for mark in _ERROR_MARKS):
        return None
    error = error_of(load_json(event_data))
    if error is None:
        return None
    return _judge(dialect, _implied_status(error), error, _hint_s(dialect, [], error, utc_now), [])


def _odd_status(status: int, headers: Headers) -> Failure:
    """A redirect, or a status that is none: something other than the API answered."""
    what = f"HTTP {status}: a redirect, which is not followed" if status >= 300 else f"HTTP {status} is no final status"
    return _failure(
        FailureClass.BadReply,
        status=status,
        code=None,
        message=what,
        request_id=header_request_id(headers),
        scope=Scope.Host,
        billing=Billing.No if status >= 300 else None,
    )


def _unreadable(status: int, headers: Headers, body: bytes) -> Failure:
    shown = fold(body[:200].decode("utf-8", "replace"), 120) or "an empty body"
    return _failure(
        FailureClass.BadReply,
        status=status,
        code=None,
        message=f"HTTP {status} whose body is no valid reply: {shown}",
        request_id=header_request_id(headers),
    )


def _implied_status(error: ErrorBody) -> int:
    """The status that an error inside a 200 would have had: as it says, else by its type, else 500."""
    if error.status is not None and error.status >= 400:
        return error.status
    return next((IMPLIED_STATUS[reason] for reason in error.reasons if reason in IMPLIED_STATUS), 500)


def _judge(dialect: str, status: int, error: ErrorBody, hint_s: float | None, headers: Headers) -> Failure:
    limit = limit_in_text(error.message)
    rule = next((r for r in rules_of(dialect) if _matches(r, status, error, hint_s, limit)), None)
    kind = (BY_STATUS.get(status) or status_fallback(status)) if rule is None else rule.failure_class
    if kind is FailureClass.Rate and hint_s is None and limit is None and _plenty_remains(headers):
        kind = FailureClass.Burst
    return _failure(
        kind,
        status=status,
        code=error.code or error.type,
        message=error.message,
        hint_s=hint_s,
        request_id=header_request_id(headers) or error.request_id,
        scope=None if rule is None else rule.scope,
        billing=None if rule is None else rule.billing,
        whole_account=None if rule is None else rule.whole_account,
        param=error.param,
    )


def _matches(rule: Rule, status: int, error: ErrorBody, hint_s: float | None, limit: LimitFacts | None) -> bool:
    """Whether every condition of the row holds."""
    return (
        (not rule.statuses or status in rule.statuses)
        and (not rule.reasons or not rule.reasons.isdisjoint(error.reasons))
        and (not rule.hinted or hint_s is not None)
        and (not rule.html or error.html)
        and (not rule.too_large or (limit is not None and limit.too_large))
        and (rule.text is None or rule.text.search(error.message) is not None)
    )


def _failure(
    kind: FailureClass,
    *,
    status: int | None,
    code: str | None,
    message: str,
    hint_s: float | None = None,
    request_id: str | None = None,
    scope: Scope | None = None,
    billing: Billing | None = None,
    whole_account: bool | None = None,
    param: str | None = None,
) -> Failure:
    facts = FACTS[kind]
    return Failure(
        failure_class=kind,
        scope=facts.scope if scope is None else scope,
        billing=facts.billing if billing is None else billing,
        elsewhere=facts.elsewhere,
        status=status,
        code=None if code is None else fold(code, _CODE_MAX) or None,
        message=fold(message, MESSAGE_MAX) or (f"HTTP {status} without a message" if status else "no message"),
        retry_after_s=hint_s,
        provider_request_id=None if request_id is None else fold(request_id, 128) or None,
        whole_account=facts.whole_account if whole_account is None else whole_account,
        param=None if param is None else fold(param, _CODE_MAX) or None,
    )


def _hint_s(dialect: str, headers: Headers, error: ErrorBody, utc_now: datetime) -> float | None:
    """How long the provider asks to wait: headers, then structured details, then an absolute reset, then the text."""
    hint_s = retry_after_s(headers, utc_now)
    if hint_s is None:
        hint_s = hint_in_details(error.details)
    if hint_s is None and dialect == "openrouter":
        hint_s = _epoch_hint_s(error.details, headers, utc_now)
    return hint_in_text(error.message) if hint_s is None else hint_s


def _epoch_hint_s(details: Iterable[Mapping[str, object]], headers: Headers, utc_now: datetime) -> float | None:
    """Seconds until the Unix time (s or ms) of an X-RateLimit-Reset, which may travel inside the body's metadata."""
    values = [value.decode("latin-1") for name, value in headers if name.lower().decode("latin-1") in _EPOCH_HEADERS]
    for detail in details:
        inner = detail.get("headers")
        if isinstance(inner, dict):
            values += [str(value) for name, value in inner.items() if str(name).lower() in _EPOCH_HEADERS]
    for value in values:
        if len(value) <= 16 and value.isascii() and value.isdigit():
            until_s = float(value) / 1_000.0 if float(value) > _EPOCH_MS_FROM else float(value)
            wait_s = until_s - provider_now(headers, utc_now).timestamp()
            if 0.0 <= wait_s <= ABSURD_S:
                return min(wait_s, DURATION_MAX_S)
    return None


def _plenty_remains(headers: Headers) -> bool:
    """Whether the reply reports limits, and each has more than BURST_REMAINING_RATIO left."""
    found = {name.lower(): value for name, value in headers}
    ratios: list[float] = []
    for name, value in found.items():
        if b"ratelimit" in name and b"remaining" in name:
            limit = found.get(name.replace(b"remaining", b"limit"), b"")
            if value.isdigit() and limit.isdigit() and len(value) <= 15 and len(limit) <= 15 and int(limit) > 0:
                ratios.append(int(value) / int(limit))
    return bool(ratios) and min(ratios) > BURST_REMAINING_RATIO


# Below HTTP. Rows: (phase, kind) -> class, scope, billing; None takes the class's own; kind None is any other kind.
_TransportRow = tuple[FailureClass, Scope | None, Billing | None]
_TRANSPORT: Mapping[tuple[SendPhase, str | None], _TransportRow] = {
    (SendPhase.NotSent, None): (FailureClass.NotSent, None, None),
    # our caller's patience ended: that says nothing about the provider
    (SendPhase.NotSent, "deadline"): (FailureClass.Timeout, Scope.Nobody, Billing.No),
    (SendPhase.Unanswered, None): (FailureClass.Unanswered, None, None),
    (SendPhase.Unanswered, "deadline"): (FailureClass.Timeout, Scope.Nobody, None),
    (SendPhase.Unanswered, "first_byte_timeout"): (FailureClass.Timeout, None, None),
    (SendPhase.Unanswered, "idle_timeout"): (FailureClass.Timeout, None, None),
    (SendPhase.MidReply, None): (FailureClass.MidReply, None, None),
    (SendPhase.MidReply, "deadline"): (FailureClass.MidReply, Scope.Nobody, None),
    (SendPhase.MidReply, "too_large"): (FailureClass.MidReply, Scope.Nobody, None),
}


def classify_transport(error: TransportError) -> Failure:
    """What a failure below HTTP means; `code` is the transport's kind."""
    row = _TRANSPORT.get((error.phase, error.kind)) or _TRANSPORT[(error.phase, None)]
    kind, scope, billing = row
    return _failure(kind, status=None, code=error.kind, message=error.message, scope=scope, billing=billing)
