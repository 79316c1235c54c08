"""Errors on the wire: the caller's own format, with the status and retry headers that SDKs act upon.

A `WireError` is told in neutral words and written when it is known who asked (`written`); OpenAI's shape is the one of
whoever says nothing. SDKs retry 408, 409, 429 and 5xx by themselves; `x-should-retry: false` stops them where a retry
cannot help, and a true `Retry-After` (with `retry-after-ms`) times it where it can. A provider's own 4xx about the
request passes through whole where both sides speak one format, else it is told anew, with its code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from apikeyrouter.domain.errors import (
    BudgetExceededError,
    NoEligibleKeysError,
    RouterError,
    StateStoreError,
    SystemError,
)
from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.codec import codec_of
from apikeyrouter.wire.facts import ErrorFact

__all__ = ["Headers", "WireError", "error_body", "of_router_error"]

Headers = list[tuple[bytes, bytes]]

_STORE_RETRY_S = 1.0
_PAYMENT_REQUIRED = 402
_SDK_WAIT_MAX_S = 60.0
"""SDKs do not wait longer than this for a Retry-After, but try again after half a second, which cannot help."""


def error_body(
    message: str,
    *,
    status: int,
    code: str | None = None,
    param: str | None = None,
    facts: Mapping[str, object] | None = None,
) -> bytes:
    """The JSON of one error in OpenAI's shape. `facts`: further members of the error object."""
    fact = ErrorFact(status, message, code, param, facts=dict(facts) if facts else None)
    return codec_of(Wire.Chat).write_error(fact)


class WireError(Exception):
    """An answer that is an error: status and headers, ready to send, and what to say, in nobody's format yet.

    `facts`: further members, for formats that have room for them. `passed`: a provider's own body, in the caller's
    format already, and its content type.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        retryable: bool = False,
        facts: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.fact = ErrorFact(status, message, code, param, facts=facts)
        self.passed: tuple[bytes, bytes] | None = None
        self.headers = _retry_headers(status, retry_after_s, retryable=retryable)

    @property
    def body(self) -> bytes:
        """The body in OpenAI's shape, or the provider's."""
        return self.written()[0]

    def written(self, wire: Wire = Wire.Chat, request_id: str | None = None) -> tuple[bytes, bytes]:
        """The body in a client's format, and its content type."""
        if self.passed is not None:
            return self.passed
        fact = self.fact
        if request_id is not None:
            fact = msgspec.structs.replace(fact, request_id=request_id)
        return codec_of(wire).write_error(fact), b"application/json"


def _retry_headers(status: int, retry_after_s: float | None, *, retryable: bool) -> Headers:
    headers: Headers = []
    if retry_after_s is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(retry_after_s))).encode()))
        headers.append((b"retry-after-ms", str(max(1, math.ceil(retry_after_s * 1000))).encode()))
    hopeless = retry_after_s is None and not retryable and status not in (400, 401, 403, 404, 413, 422)
    if hopeless or status == _PAYMENT_REQUIRED:  # SDKs must not hammer on a spent budget, whenever it resets
        headers.append((b"x-should-retry", b"false"))
    return headers


def of_router_error(error: RouterError) -> WireError:
    """The answer for an error of the library."""
    if isinstance(error, SystemError):
        retryable = error.retryable and error.status != 402
        facts: dict[str, Any] | None = None
        if isinstance(error, BudgetExceededError):
            facts = {"budget": _facts_of(error)}
        elif "which" in error.details:  # a limit of the caller's own key
            facts = {"limit": error.details}
        wire = WireError(
            error.status,
            error.message,
            code=error.provider_code or error.category.value,
            param=error.details.get("param"),
            retry_after_s=error.retry_after,
            retryable=retryable and (error.retry_after is not None or not isinstance(error, NoEligibleKeysError)),
            facts=facts,
        )
        if facts is not None and "limit" in facts and error.retry_after is not None:
            worth = error.retry_after <= _SDK_WAIT_MAX_S
            wire.headers.append((b"x-should-retry", b"true" if worth else b"false"))
        if error.provider_body is not None:
            kind = error.provider_content_type or "application/json"
            wire.passed = (error.provider_body, kind.encode("latin-1"))
        return wire
    if isinstance(error, StateStoreError):
        return WireError(503, error.message, code="store_unavailable", retry_after_s=_STORE_RETRY_S, retryable=True)
    return WireError(500, error.message, code="internal_error")


def _facts_of(error: BudgetExceededError) -> dict[str, object]:
    """The refusing budget's figures; amounts are US dollars as text, so that no digit is lost."""

    def usd(amount: Decimal | None) -> str | None:
        return None if amount is None else f"{amount:f}"

    return {
        "ids": error.violated_budgets,
        "scope": error.scope,
        "scope_id": error.scope_id,
        "limit_usd": usd(error.budget_limit),
        "spent_usd": usd(error.spent),
        "held_usd": usd(error.held),
        "remaining_usd": usd(error.remaining_budget),
        "needed_usd": usd(error.cost_estimate),
        "reset_at": None if error.reset_at is None else error.reset_at.isoformat(),
        "max_output_tokens": error.max_output_tokens,
    }
