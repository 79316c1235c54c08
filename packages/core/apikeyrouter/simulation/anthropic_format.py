"""Anthropic's API as the simulated provider speaks it; see `formats.Format`.

Main entry: `AnthropicFormat`: `/v1/messages`, `/v1/messages/count_tokens` and, for callers who show Anthropic's
headers, `/v1/models`. Sources: https://platform.claude.com/docs/en/api/errors, /rate-limits, /versioning (2026-11-21).
Laws: `anthropic-version` and a key are demanded, as by the real one; a refusal keeps its status, except that a lack of
money is a 400 there and an overload a 529.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from apikeyrouter.simulation.accounts import Account
from apikeyrouter.simulation.anthropic_models import model_page
from apikeyrouter.simulation.anthropic_reply import MESSAGE_STOP, answer_messages
from apikeyrouter.simulation.anthropic_request import MessagesRequest, read_messages
from apikeyrouter.simulation.api_errors import ApiError, Headers, error_body, invalid
from apikeyrouter.simulation.connection import Scope
from apikeyrouter.simulation.delivery import Reply
from apikeyrouter.simulation.openai_format import bearer

if TYPE_CHECKING:
    from apikeyrouter.simulation.asgi import SimulatedProvider
    from apikeyrouter.simulation.formats import Handler

__all__ = ["AnthropicFormat", "error_members"]

_MESSAGES = "/v1/messages"
_COUNT = "/v1/messages/count_tokens"
_MODELS = "/v1/models"
_INPUTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_LANES = {"requests": b"requests", "input": b"input-tokens", "output": b"output-tokens", "tokens": b"tokens"}
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
        desk = _Desk(provider)
        wanted = {_MESSAGES: desk.message, _COUNT: desk.count}.get(path)
        if wanted is None:
            raise invalid(f"Not found: {method} {path}", status=404)
        if method != "POST":
            raise invalid("Method Not Allowed", status=405)
        return wanted

    def error(self, error: ApiError, request_id: str, account: Account | None) -> tuple[int, Headers, bytes]:  # noqa: ARG002
        """In Anthropic's envelope."""
        status, members = error_members(error)
        body = {"type": "error", "error": members, "request_id": request_id}
        headers = [one for one in error.headers if not one[0].startswith(b"x-ratelimit-")]
        return status, headers, msgspec.json.encode(body)

    def error_event(self, error: ApiError) -> bytes:
        """An error inside a stream."""
        _, members = error_members(error)
        return b"event: error\ndata: " + msgspec.json.encode({"type": "error", "error": members}) + b"\n\n"

    def is_end(self, event: bytes) -> bool:
        """Whether it is `message_stop`."""
        return event is MESSAGE_STOP

    def huge_frame(self, *, streams: bool) -> tuple[bytes, bytes]:
        """A message that is far too large."""
        members: dict[str, Any] = {"id": "msg_huge", "type": "message", "role": "assistant", "content": []}
        head = msgspec.json.encode(members)[:-1] + b',"padding":"'
        return (b"event: message_start\ndata: " + head, b'"}\n\n') if streams else (head, b'"}')


class _Desk:
    """Answers the POSTs of one provider."""

    __slots__ = ("_provider",)

    def __init__(self, provider: SimulatedProvider) -> None:
        self._provider = provider

    def message(self, account: Account, body: bytes, headers: Headers) -> Reply:
        provider = self._provider
        config = provider.config
        request = read_messages(body, config.seed)
        context = config.context_tokens or request.facts.context_tokens
        if request.tokens > context:
            raise invalid(f"prompt is too long: {request.tokens} tokens > {context} maximum")
        usage = self._input_usage(account, request)
        self._admit(account, request, usage["input_tokens"] + usage["cache_creation_input_tokens"])
        message = answer_messages(request, config, f"msg_{provider.new_id('msg')[:24]}", usage)
        account.meter_output(message.tokens)
        headers += self._limit_headers(account)
        prompt = sum(usage[name] for name in _INPUTS)
        told = {
            "prompt_tokens": prompt,
            "completion_tokens": message.tokens,
            "total_tokens": prompt + message.tokens,
        }
        if request.body.get("stream"):
            return Reply(headers, events=message.events(), usage=told)
        return Reply(headers, message.whole(), usage=told)

    def count(self, account: Account, body: bytes, headers: Headers) -> Reply:
        request = read_messages(body, self._provider.config.seed, counting=True)
        self._admit(account, request, 0)
        headers += self._limit_headers(account)
        return Reply(headers, msgspec.json.encode({"input_tokens": request.tokens}))

    def _input_usage(self, account: Account, request: MessagesRequest) -> dict[str, Any]:
        """What the input costs: read from the cache, written to it, or neither."""
        marked = request.marked_tokens
        known = 0
        if marked:
            prefix = request.digest(self._provider.config.seed, marked=True)
            known = marked if account.cached_tokens(prefix, marked) else 0
        written = marked - known
        long = written if request.marked_1h else 0
        return {
            "input_tokens": request.tokens - marked,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": known,
            "cache_creation": {"ephemeral_5m_input_tokens": written - long, "ephemeral_1h_input_tokens": long},
        }

    def _admit(self, account: Account, request: MessagesRequest, input_tokens: int) -> None:
        provider = self._provider
        now_s = provider.clock.monotonic_s()
        refused = account.admit_metered(input_tokens, now_s, count_refused=provider.config.failed_requests_count)
        if refused is None:
            return
        message = (
            f"This request would exceed the rate limit for your organization ({account.organization}) of "
            f"{refused.capacity:,} {refused.what} (model: {request.model}). For details, refer to: "
            "https://docs.claude.com/en/api/rate-limits."
        )
        told = self._limit_headers(account)
        if refused.wait_s is not None:
            told.append((b"retry-after", b"%d" % max(1, math.ceil(refused.wait_s))))
        raise ApiError(429, error_body(message, "rate_limit_error", code="rate_limit_exceeded"), told)

    def _limit_headers(self, account: Account) -> Headers:
        """Limit, what is left, and when it is full again, of each limit; `tokens-*` of input and output together."""
        now = self._provider.clock.utc_now()
        lanes: dict[str, tuple[float, float, float]] = {
            name: (m.capacity, m.remaining, m.reset_s) for name, m in account.lanes()
        }
        if "input" in lanes and "output" in lanes and "tokens" not in lanes:
            both = zip(lanes["input"], lanes["output"], strict=True)
            (limit, limit_out), (left, left_out), (reset_s, reset_out_s) = both
            lanes["tokens"] = (limit + limit_out, left + left_out, max(reset_s, reset_out_s))
        out: Headers = []
        for name, (limit, left, reset_s) in lanes.items():
            start = b"anthropic-ratelimit-" + _LANES[name]
            at = (now + timedelta(seconds=reset_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
            out += [
                (start + b"-limit", b"%d" % limit),
                (start + b"-remaining", b"%d" % left),
                (start + b"-reset", at.encode()),
            ]
        return out


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
