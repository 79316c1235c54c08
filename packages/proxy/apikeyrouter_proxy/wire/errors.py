"""Errors on the wire, in OpenAI's shape, with the status and retry headers that SDKs act upon.

SDKs retry 408, 409, 429 and 5xx by themselves; `x-should-retry: false` stops them where a retry cannot help, and a true
`Retry-After` (with `retry-after-ms`) times it where it can. A provider's own 4xx about the request passes through
whole.
"""

from __future__ import annotations

import math

import msgspec

from apikeyrouter.domain.errors import NoEligibleKeysError, RouterError, StateStoreError, SystemError

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


def error_body(message: str, *, status: int, code: str | None = None, param: str | None = None) -> bytes:
    """The JSON of one error."""
    kind = _TYPES.get(status, "api_error")
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


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
    elif not retryable and status not in (400, 401, 403, 404, 413, 422):
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
        if error.provider_body is not None:
            wire.body = error.provider_body
            wire.content_type = (error.provider_content_type or "application/json").encode("latin-1")
        return wire
    if isinstance(error, StateStoreError):
        return WireError(503, error.message, code="store_unavailable", retry_after_s=_STORE_RETRY_S, retryable=True)
    return WireError(500, error.message, code="internal_error")
