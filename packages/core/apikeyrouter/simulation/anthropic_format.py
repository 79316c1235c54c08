"""Anthropic's API as the simulated provider speaks it; see `formats.Format`.

Main entry: `AnthropicFormat`: `/v1/messages`, `/v1/messages/count_tokens` and, for callers who show Anthropic's
headers, `/v1/models`. Sources: https://platform.claude.com/docs/en/api/errors, /rate-limits, /versioning (2026-11-21).
Laws: `anthropic-version` and a key are demanded, as by the real one; a refusal keeps its status, except that a lack of
money is a 400 there and an overload a 529.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from apikeyrouter.simulation.accounts import Account
from apikeyrouter.simulation.anthropic_models import model_page
from apikeyrouter.simulation.api_errors import ApiError, Headers, invalid
from apikeyrouter.simulation.connection import Scope
from apikeyrouter.simulation.openai_format import bearer

if TYPE_CHECKING:
    from apikeyrouter.simulation.asgi import SimulatedProvider
    from apikeyrouter.simulation.formats import Handler

__all__ = ["AnthropicFormat", "error_members"]

_MESSAGES = "/v1/messages"
_MODELS = "/v1/models"
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_NO_CREDIT = (
    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase "
    "credits."
)


class AnthropicFormat:
    """See `formats.Format`."""

    def serves(self, scope: Scope) -> bool:
        """Messages by their path, models by headers that only Anthropic's clients send."""
        path: str = scope["path"]
        if path.startswith(_MESSAGES):
            return True
        if not path.startswith(_MODELS):
            return False
        return any(name in (b"x-api-key", b"anthropic-version") for name, _ in scope["headers"])

    def credential(self, scope: Scope) -> str:
        """The key, which stands in `x-api-key` or is a bearer."""
        for name, value in scope["headers"]:
            if name == b"x-api-key":
                return str(value.decode("latin-1").strip())
        return bearer(scope["headers"])

    def headers(self, request_id: str) -> Headers:
        """What every reply carries."""
        return [(b"request-id", request_id.encode())]

    def account_headers(self, account: Account) -> Headers:
        """Whose reply it is."""
        return [(b"anthropic-organization-id", account.organization.encode())]

    def handler(self, provider: SimulatedProvider, scope: Scope) -> Handler:
        """Who answers this path."""
        method, path = scope["method"], scope["path"].rstrip("/")
        if not any(name == b"anthropic-version" for name, _ in scope["headers"]):
            raise invalid("anthropic-version: header is required")
        if path == _MODELS and method == "GET":
            return model_page(scope)
        raise invalid(f"Not found: {method} {path}", status=404)

    def error(self, error: ApiError, request_id: str, account: Account | None) -> tuple[int, Headers, bytes]:
        """In Anthropic's envelope, with its headers of limits."""
        status, members = error_members(error)
        body = {"type": "error", "error": members, "request_id": request_id}
        headers = [one for one in error.headers if not one[0].startswith(b"x-ratelimit-")]
        if any(name == b"retry-after" for name, _ in headers):
            headers = [one for one in headers if one[0] != b"retry-after-ms"]
        return status, headers, msgspec.json.encode(body)

    def error_event(self, error: ApiError) -> bytes:
        """An error inside a stream."""
        _, members = error_members(error)
        return b"event: error\ndata: " + msgspec.json.encode({"type": "error", "error": members}) + b"\n\n"

    def is_end(self, event: bytes) -> bool:
        """Whether it is `message_stop`."""
        return event.startswith(b"event: message_stop")

    def huge_frame(self, *, streams: bool) -> tuple[bytes, bytes]:
        """A message that is far too large."""
        members: dict[str, Any] = {"id": "msg_huge", "type": "message", "role": "assistant", "content": []}
        head = msgspec.json.encode(members)[:-1] + b',"padding":"'
        return (b"event: message_start\ndata: " + head, b'"}\n\n') if streams else (head, b'"}')


def error_members(error: ApiError) -> tuple[int, dict[str, str]]:
    """The status and the `error` object of a refusal."""
    told = error.body["error"]
    status = 400 if told.get("code") == "insufficient_quota" else error.status
    message = str(told.get("message") or "")
    if told.get("code") == "insufficient_quota":
        message = _NO_CREDIT
    elif told.get("code") == "invalid_api_key":
        message = "invalid x-api-key"
    elif status == 401 and not told.get("code"):
        message = "x-api-key header is required"
    kind = _TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")
    return status, {"type": kind, "message": message}
