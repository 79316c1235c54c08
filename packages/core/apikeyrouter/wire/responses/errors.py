"""Errors in this format: a body as everywhere at OpenAI, and the events that end a stream.

Main entries: `write_error`, `error_events`. A failed stream ends with an `error` event, on which OpenAI's SDKs raise,
and with `response.failed`, by which Codex and other clients learn of it; OpenAI itself sends both, in this order
(recorded by clients' issue threads, read 2026-11-21). No `[DONE]` follows in this format.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.wire.chat.errors import error_body
from apikeyrouter.wire.facts import ErrorFact
from apikeyrouter.wire.responses.answer_out import response_id, response_object

__all__ = ["error_events", "event_bytes", "write_error"]

write_error = error_body


def event_bytes(kind: str, members: dict[str, Any]) -> bytes:
    """One server-sent event. `members` has no `type` yet."""
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode({"type": kind, **members}) + b"\n\n"


def error_events(error: ErrorFact, number: int = 0, response: dict[str, Any] | None = None) -> bytes:
    """The end of a stream that failed. `number`: of the next event; `response`: as far as it had come."""
    inner = msgspec.json.decode(error_body(error))["error"]
    told = {
        "code": error.code,
        "message": error.message,
        "param": error.param,
        "sequence_number": number,
        "error": inner,
    }
    failed = response or response_object(response_id(error.request_id or ""), "", 0, "failed", [])
    failed["status"], failed["completed_at"] = "failed", None
    failed["error"] = {"code": error.code or "server_error", "message": error.message}
    return event_bytes("error", told) + event_bytes(
        "response.failed", {"response": failed, "sequence_number": number + 1}
    )
