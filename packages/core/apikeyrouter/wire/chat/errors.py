"""Errors in OpenAI's shape: `{"error": {message, type, param, code}}`, also inside streams."""

from __future__ import annotations

import msgspec

from apikeyrouter.wire.facts import ErrorFact

__all__ = ["DONE_EVENT", "error_body", "error_event"]

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
    kind = _TYPES.get(error.status, "api_error")
    members = {"message": error.message, "type": kind, "param": error.param, "code": error.code, **(error.facts or {})}
    return msgspec.json.encode({"error": members})


def error_event(error: ErrorFact) -> bytes:
    """An in-band error and the end mark: SDKs raise on it instead of taking the cut for an end."""
    return b"data: " + error_body(error) + b"\n\n" + DONE_EVENT
