"""Errors in OpenAI's words: `{"error": {message, type, param, code}}` with a true status.

Main entry: `ApiError`, raised anywhere while a request is being answered and rendered in one place (`asgi`). The small
functions below are the ones several modules raise. Wording follows recorded error bodies, so that a classifier meets
here what it meets outside.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = [
    "ApiError",
    "Headers",
    "error_body",
    "incorrect_key",
    "insufficient_quota",
    "invalid",
    "missing_key",
    "model_not_found",
    "too_long",
    "wrong_type",
]

Headers = list[tuple[bytes, bytes]]

_WHOLE_KEY_SHOWN_CHARS = 12  # the real one echoes short wrong keys whole: "Incorrect API key provided: undefined."
_TYPE_NAMES = {
    str: "a string",
    int: "an integer",
    float: "a decimal",
    bool: "a boolean",
    list: "an array",
    dict: "an object",
}


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The error object as OpenAI sends it; `kind` becomes `type`."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class ApiError(Exception):
    """A refusal with its HTTP status, its body and extra reply headers."""

    def __init__(self, status: int, body: dict[str, Any], headers: Headers | None = None) -> None:
        super().__init__(str(body["error"]["message"]))
        self.status = status
        self.body = body
        self.headers: Headers = headers or []

    def encoded(self) -> bytes:
        """The body as JSON."""
        return msgspec.json.encode(self.body)


def invalid(message: str, param: str | None = None, code: str | None = None, *, status: int = 400) -> ApiError:
    """A fault of the caller: type `invalid_request_error`."""
    return ApiError(status, error_body(message, "invalid_request_error", param, code))


def wrong_type(where: str, expected: str, value: object) -> ApiError:
    """A value of the wrong JSON type."""
    found = "null" if value is None else _TYPE_NAMES[type(value)]
    message = f"Invalid type for '{where}': expected {expected}, but got {found} instead."
    return invalid(message, where, "invalid_type")


def too_long(where: str, most: int, length: int) -> ApiError:
    """An array with too many items."""
    message = (
        f"Invalid '{where}': array too long. Expected an array with maximum length {most}, "
        f"but got an array with length {length} instead."
    )
    return invalid(message, where, "array_above_max_length")


def missing_key() -> ApiError:
    """No credential came with the request."""
    return invalid(
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
        "(i.e. Authorization: Bearer YOUR_KEY).",
        status=401,
    )


def incorrect_key(key: str) -> ApiError:
    """A credential that no account knows. Like the real one it echoes part of a long key and all of a short one, so a
    router that relays provider messages to its clients must redact them."""
    shown = key if len(key) <= _WHOLE_KEY_SHOWN_CHARS else f"{key[:7]}{'*' * (len(key) - 11)}{key[-4:]}"
    return invalid(f"Incorrect API key provided: {shown}.", code="invalid_api_key", status=401)


def model_not_found(model: str) -> ApiError:
    """The model is unknown here."""
    message = f"The model `{model}` does not exist or you do not have access to it."
    return invalid(message, code="model_not_found", status=404)


def insufficient_quota() -> ApiError:
    """The account has no money: a 429 that waiting does not cure."""
    message = "You exceeded your current quota, please check your plan and billing details."
    return ApiError(429, error_body(message, "insufficient_quota", code="insufficient_quota"))
