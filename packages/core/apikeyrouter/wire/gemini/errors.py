"""Errors in Google's shape: `{"error": {code, message, status, details}}`.

Source: https://google.aip.dev/193, read 2026-11-21.
Main entries: `error_body`, `error_event`, and `error_of` to read one. `error` is the first member: Google's SDK looks
for just that in a stream.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.wire.facts import ErrorFact
from apikeyrouter.wire.gemini.words import status_name

__all__ = ["error_body", "error_event", "error_of"]

_TYPE = "type.googleapis.com/google.rpc."


def error_body(error: ErrorFact) -> bytes:
    """The JSON of one error."""
    told: dict[str, Any] = {"code": error.status, "message": error.message, "status": status_name(error.status)}
    details = _details(error)
    if details:
        told["details"] = details
    return msgspec.json.encode({"error": told})


def error_event(error: ErrorFact) -> bytes:
    """An error inside a stream; it ends the stream."""
    return b"data: " + error_body(error) + b"\r\n\r\n"


def error_of(told: object) -> ErrorFact:
    """The error that a provider sent under `error`."""
    if not isinstance(told, dict):
        return ErrorFact(500, str(told)[:1000])
    status, message, name = told.get("code"), told.get("message"), told.get("status")
    return ErrorFact(
        status if type(status) is int and 400 <= status <= 599 else 500,
        message if isinstance(message, str) else "The provider told no reason.",
        name if isinstance(name, str) else None,
    )


def _details(error: ErrorFact) -> list[dict[str, Any]]:
    details: list[dict[str, Any]] = []
    if error.code is not None:
        info: dict[str, Any] = {"@type": _TYPE + "ErrorInfo", "reason": error.code.upper(), "domain": "apikeyrouter"}
        if error.facts:
            info["metadata"] = {name: _word(value) for name, value in error.facts.items()}
        details.append(info)
    if error.param is not None:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": _TYPE + "BadRequest", "fieldViolations": [violation]})
    if error.request_id is not None:
        details.append({"@type": _TYPE + "RequestInfo", "requestId": error.request_id})
    return details


def _word(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
