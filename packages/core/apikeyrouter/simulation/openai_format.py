"""OpenAI's API as the simulated provider speaks it; see `formats.Format`.

Main entry: `OpenAIFormat`. `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings` and `/v1/models`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from apikeyrouter.simulation.accounts import Account
from apikeyrouter.simulation.api_errors import ApiError, Headers, invalid, model_not_found
from apikeyrouter.simulation.catalog import listing, model_entry
from apikeyrouter.simulation.chat import answer_chat
from apikeyrouter.simulation.completions import answer_completion
from apikeyrouter.simulation.connection import Scope
from apikeyrouter.simulation.delivery import Reply
from apikeyrouter.simulation.embeddings import answer_embedding
from apikeyrouter.simulation.messages import rough_tokens
from apikeyrouter.simulation.requests import ChatRequest, CompletionRequest, EmbeddingRequest, decode
from apikeyrouter.simulation.sse import DONE, chat_events, error_event
from apikeyrouter.simulation.text import estimate_tokens

if TYPE_CHECKING:
    from apikeyrouter.simulation.asgi import SimulatedProvider
    from apikeyrouter.simulation.formats import Handler

__all__ = ["OpenAIFormat", "bearer"]

_MODELS = "/v1/models"
_VERSION = (b"openai-version", b"2020-10-01")
_NOSNIFF = (b"x-content-type-options", b"nosniff")


class OpenAIFormat:
    """See `formats.Format`."""

    def serves(self, scope: Scope) -> bool:  # noqa: ARG002 - it takes what nobody else wants
        """Everything."""
        return True

    def credential(self, scope: Scope) -> str:
        """The bearer of a request, or nothing."""
        return bearer(scope["headers"])

    def headers(self, request_id: str) -> Headers:
        """What every reply carries."""
        return [_VERSION, (b"x-request-id", request_id.encode()), _NOSNIFF]

    def account_headers(self, account: Account) -> Headers:
        """Whose reply it is."""
        return [(b"openai-organization", account.organization.encode())]

    def handler(self, provider: SimulatedProvider, scope: Scope) -> Handler:
        """Who answers this path."""
        method, path = scope["method"], scope["path"]
        desk = _Desk(provider)
        handlers: dict[str, Handler] = {
            "/v1/chat/completions": desk.chat,
            "/v1/completions": desk.completion,
            "/v1/embeddings": desk.embedding,
        }
        handler = handlers.get(path)
        wanted = "POST"
        if handler is None:
            wanted = "GET"
            if path == _MODELS:
                handler = _models
            elif path.startswith(_MODELS + "/"):
                handler = _model(path.removeprefix(_MODELS + "/"))
            else:
                raise invalid(f"Invalid URL ({method} {path})", status=404)
        if method != wanted:
            raise invalid(f"Not allowed to {method} on {path}.", status=405)
        return handler

    def error(self, error: ApiError, request_id: str, account: Account | None) -> tuple[int, Headers, bytes]:  # noqa: ARG002
        """As it was raised: errors speak OpenAI's words."""
        return error.status, error.headers, error.encoded()

    def error_event(self, error: ApiError) -> bytes:
        """An error inside a stream."""
        return error_event(error.body)

    def is_end(self, event: bytes) -> bool:
        """Whether it is `[DONE]`."""
        return event is DONE

    def huge_frame(self, *, streams: bool) -> tuple[bytes, bytes]:
        """A chat completion that is far too large."""
        head = msgspec.json.encode({"id": "huge", "object": "chat.completion", "choices": []})[:-1] + b',"padding":"'
        return (b"data: " + head, b'"}\n\n' + DONE) if streams else (head, b'"}')


class _Desk:
    """Answers the POSTs of one provider."""

    __slots__ = ("_provider",)

    def __init__(self, provider: SimulatedProvider) -> None:
        self._provider = provider

    def chat(self, account: Account, body: bytes, headers: Headers) -> Reply:
        request = decode(body, ChatRequest)
        self._admit(account, request.model, rough_tokens(request, len(body)), headers)
        provider = self._provider
        reply_id = f"chatcmpl-{provider.new_id('chat')[:29]}"
        reply = answer_chat(request, provider.config, reply_id, provider.created_s())
        cached = account.cached_tokens(reply.prefix, reply.usage["prompt_tokens"])
        reply.usage["prompt_tokens_details"]["cached_tokens"] = cached
        if not request.stream:
            return Reply(headers, msgspec.json.encode(reply.whole()), usage=reply.usage)
        options: dict[str, Any] = request.stream_options or {}
        events = chat_events(
            reply,
            include_usage=bool(options.get("include_usage")),
            obfuscate=options.get("include_obfuscation") is not False,
        )
        return Reply(headers, events=events, usage=reply.usage)

    def completion(self, account: Account, body: bytes, headers: Headers) -> Reply:
        request = decode(body, CompletionRequest)
        asked = request.max_tokens if isinstance(request.max_tokens, int) else 0
        self._admit(account, request.model, max(asked, estimate_tokens(len(body))), headers)
        provider = self._provider
        reply_id = f"cmpl-{provider.new_id('cmpl')[:29]}"
        reply = answer_completion(request, provider.config, reply_id, provider.created_s())
        if not request.stream:
            return Reply(headers, msgspec.json.encode(reply.whole()), usage=reply.usage)
        options: dict[str, Any] = request.stream_options or {}
        events = reply.events(include_usage=bool(options.get("include_usage")))
        return Reply(headers, events=events, usage=reply.usage)

    def embedding(self, account: Account, body: bytes, headers: Headers) -> Reply:
        request = decode(body, EmbeddingRequest)
        self._admit(account, request.model, estimate_tokens(len(body)), headers)
        reply = answer_embedding(request, self._provider.config)
        return Reply(headers, msgspec.json.encode(reply), usage=reply["usage"])

    def _admit(self, account: Account, model: str, tokens: int, headers: Headers) -> None:
        provider = self._provider
        account.admit(model, tokens, provider.clock.monotonic_s(), count_refused=provider.config.failed_requests_count)
        headers += account.headers()


def bearer(headers: Headers) -> str:
    """The bearer of a request, or nothing."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.decode("latin-1").partition(" ")
            return key.strip() if scheme.lower() == "bearer" else ""
    return ""


def _models(_account: Account, _body: bytes, headers: Headers) -> Reply:
    return Reply(headers, msgspec.json.encode(listing()))


def _model(model: str) -> Handler:
    def handler(_account: Account, _body: bytes, headers: Headers) -> Reply:
        if model.startswith("no-such"):
            raise model_not_found(model)
        return Reply(headers, msgspec.json.encode(model_entry(model)))

    return handler
