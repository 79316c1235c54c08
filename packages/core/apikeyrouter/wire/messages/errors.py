"""Errors in Anthropic's shape: `{"type": "error", "error": {type, message}, "request_id"}`, also inside streams.

Source: https://platform.claude.com/docs/en/api/errors (read 2026-11-21). `code`, `param` and further facts stand beside
`type` and `message`, where clients ignore what they do not know.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.wire.facts import ErrorFact
from apikeyrouter.wire.messages.words import ERROR_TYPES, status_of_type

__all__ = ["error_body", "error_event", "error_read"]


class _Error(msgspec.Struct, gc=False):
    type: str = "api_error"
    message: str = ""


class _Envelope(msgspec.Struct, gc=False):
    error: _Error
    request_id: str | None = None


_decode = msgspec.json.Decoder(_Envelope).decode


def error_body(error: ErrorFact) -> bytes:
    """The JSON of one error."""
    kind = ERROR_TYPES.get(error.status) or ("api_error" if error.status >= 500 else "invalid_request_error")
    members: dict[str, Any] = {"type": kind, "message": error.message}
    if error.code is not None:
        members["code"] = error.code
    if error.param is not None:
        members["param"] = error.param
    members.update(error.facts or {})
    return msgspec.json.encode({"type": "error", "error": members, "request_id": error.request_id})


def error_event(error: ErrorFact) -> bytes:
    """An in-band error, which ends a stream."""
    return b"event: error\ndata: " + error_body(error) + b"\n\n"


def error_read(payload: bytes) -> ErrorFact:
    """The error of an in-band event; something general where it is not in the usual shape."""
    try:
        envelope = _decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return ErrorFact(500, "The provider ended the stream with an error.", "api_error")
    kind = envelope.error.type
    message = envelope.error.message or "The provider ended the stream with an error."
    return ErrorFact(status_of_type(kind), message, kind, request_id=envelope.request_id)
