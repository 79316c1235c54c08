"""Errors in OpenAI's shape: `{"error": {message, type, param, code}}`, also inside streams."""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.wire.facts import ErrorFact

__all__ = ["DONE_EVENT", "error_body", "error_event", "error_fact"]

DONE_EVENT = b"data: [DONE]\n\n"

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


def error_body(error: ErrorFact) -> bytes:
    """The JSON of one error."""
    kind = _TYPES.get(error.status) or ("invalid_request_error" if 400 <= error.status < 500 else "api_error")
    members = {"message": error.message, "type": kind, "param": error.param, "code": error.code, **(error.facts or {})}
    return msgspec.json.encode({"error": members})


def error_event(error: ErrorFact) -> bytes:
    """An in-band error and the end mark: SDKs raise on it instead of taking the cut for an end."""
    return b"data: " + error_body(error) + b"\n\n" + DONE_EVENT


_STATUSES = (
    ("rate_limit", 429), ("too_many", 429), ("quota", 429), ("overloaded", 503), ("unavailable", 503),
    ("authentication", 401), ("api_key", 401), ("permission", 403), ("not_found", 404), ("billing", 402),
    ("invalid_request", 400), ("content_filter", 400), ("context_length", 400), ("timeout", 504),
)  # fmt: skip
"""Words of codes and types -> the status that they have outside of streams."""


def error_fact(holder: dict[str, Any]) -> ErrorFact:
    """The error inside a stream's event: `{"error": {...}}`, `{"error": "text"}`, or the members by themselves. The
    status is the one that it would have outside, 500 when nothing tells it."""
    fault = holder.get("error", holder)
    if not isinstance(fault, dict):
        return ErrorFact(500, str(fault)[:2000] or "The provider ended the stream with an error.")
    message = fault.get("message") or fault.get("detail") or "The provider ended the stream with an error."
    code, kind, param = fault.get("code"), fault.get("type"), fault.get("param")
    number = int(code) if isinstance(code, int | float) or (isinstance(code, str) and code.isdecimal()) else 0
    words = f"{code} {kind}".lower()
    status = number if 400 <= number <= 599 else next((one for word, one in _STATUSES if word in words), 500)
    word = code if isinstance(code, str) else kind if isinstance(kind, str) else None
    return ErrorFact(status, str(message)[:2000], word, param if isinstance(param, str) else None)
