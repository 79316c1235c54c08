"""Errors on the wire, in OpenAI's shape, with the status and retry headers that SDKs act upon.

SDKs retry 408, 409, 429 and 5xx by themselves; `x-should-retry: false` stops them where a retry cannot help, and a true
`Retry-After` (with `retry-after-ms`) times it where it can. A provider's own 4xx about the request passes through
whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal

import msgspec

from apikeyrouter.domain.errors import (
    BudgetExceededError,
    NoEligibleKeysError,
    RouterError,
    StateStoreError,
    SystemError,
)

__all__ = ["Headers", "WireError", "error_body", "of_router_error"]

Headers = list[tuple[bytes, bytes]]

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}
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
    """The JSON of one error. `facts`: further members of the error object."""
    kind = _TYPES.get(status, "api_error")
    error = {"message": message, "type": kind, "param": param, "code": code, **(facts or {})}
    return msgspec.json.encode({"error": error})


class WireError(Exception):
    """An answer that is an error: status, body and headers, ready to send."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(message, status=status, code=code, param=param)
        self.content_type = b"application/json"
        self.headers = _retry_headers(status, retry_after_s, retryable=retryable)


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
        wire = WireError(
            error.status,
            error.message,
            code=error.provider_code or error.category.value,
            retry_after_s=error.retry_after,
            retryable=retryable and (error.retry_after is not None or not isinstance(error, NoEligibleKeysError)),
        )
        if isinstance(error, BudgetExceededError):
            code = error.provider_code
            wire.body = error_body(error.message, status=error.status, code=code, facts={"budget": _facts_of(error)})
        elif "which" in error.details:  # a limit of the caller's own key
            wire.body = error_body(
                error.message, status=error.status, code=error.provider_code, facts={"limit": error.details}
            )
            if error.retry_after is not None:
                worth = error.retry_after <= _SDK_WAIT_MAX_S
                wire.headers.append((b"x-should-retry", b"true" if worth else b"false"))
        if error.provider_body is not None:
            wire.body = error.provider_body
            wire.content_type = (error.provider_content_type or "application/json").encode("latin-1")
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
