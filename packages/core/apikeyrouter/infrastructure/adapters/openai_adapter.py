"""OpenAI and every server that speaks its wire format.

Bodies go through unchanged: only the model name (when the caller wrote a prefix) and `stream_options` (to learn the
usage of a stream) are ever edited, as bytes. `OpenAIAdapter()` alone talks to OpenAI, or to `OPENAI_BASE_URL` when that
is set, as the official SDKs do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from apikeyrouter.domain.cost.usage import Usage, usage_of_openai
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.provider_adapter import ProviderCapabilities
from apikeyrouter.domain.interfaces.transport import HttpRequest
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import Call, Operation
from apikeyrouter.infrastructure.adapters.sse import OpenAIStreamReader

__all__ = ["OPENAI_BASE_URL", "OpenAIAdapter"]

OPENAI_BASE_URL = "https://api.openai.com/v1"

# Names that OpenAI gives to its own models (https://platform.openai.com/docs/models, read 2026-11).
_OWN_PREFIXES = (
    "gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-", "text-davinci", "davinci", "babbage", "omni-", "dall-e",
    "whisper", "tts-", "codex-", "computer-use-", "ft:gpt-", "ft:o",
)  # fmt: skip
_JSON = (b"content-type", b"application/json")
_USAGE_OPTION = b'"stream_options":{"include_usage":true}'


class _Reply(msgspec.Struct, gc=False):
    model: str | None = None
    error: msgspec.Raw = msgspec.Raw()


_decode_reply = msgspec.json.Decoder(_Reply).decode


class OpenAIAdapter:
    """Speaks OpenAI's wire format.

    `base_url`: where the API lives, ending before `/chat/completions`; default `OPENAI_BASE_URL` from the environment,
    else OpenAI itself. `headers`: sent with each request (for instance `OpenAI-Organization`). `dialect`: how the
    server reports limits and errors; "openai" also suits servers that only imitate it. `claims_all`: serve any model
    when a request names no provider (for gateways and self-hosted servers). `capabilities`: what it can do. Raises
    ConfigurationError when the base URL is not an absolute http(s) URL.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        dialect: str = "openai",
        claims_all: bool | None = None,
        capabilities: ProviderCapabilities | None = None,
    ) -> None:
        given = base_url or os.environ.get("OPENAI_BASE_URL", "").strip() or OPENAI_BASE_URL
        self.base_url = checked_base_url(given)
        self.dialect = dialect
        self._claims_all = self.base_url != OPENAI_BASE_URL if claims_all is None else claims_all
        self._capabilities = capabilities or ProviderCapabilities()
        self._headers = [(k.lower().encode("ascii"), v.encode("latin-1")) for k, v in (headers or {}).items()]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r}, dialect={self.dialect!r})"

    def get_capabilities(self) -> ProviderCapabilities:
        """What this server can do, as configured."""
        return self._capabilities

    def claims(self, model: str) -> bool:
        """Whether the model's name is one of OpenAI's; with another base URL than OpenAI's, any model."""
        return self._claims_all or model.startswith(_OWN_PREFIXES)

    def build_request(self, call: Call, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        """See `ProviderAdapter.build_request`."""
        body = call.body
        if call.peek.model != call.model:
            body = _with_member(body, "model", call.model)
        if call.streams and call.operation is not Operation.Embeddings and not call.peek.wants_usage:
            body = _asking_for_usage(body, has_options=call.peek.stream_options is not None)
        headers = [(b"authorization", b"Bearer " + secret.reveal_bytes()), _JSON, *self._headers, *call.headers]
        return HttpRequest(
            "POST", f"{base_url or self.base_url}/{call.operation.value}", headers, body, deadline_s=call.deadline_s
        )

    def build_models_request(self, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        """See `ProviderAdapter.build_models_request`."""
        headers = [(b"authorization", b"Bearer " + secret.reveal_bytes()), *self._headers]
        return HttpRequest("GET", f"{base_url or self.base_url}/models", headers)

    def read_models(self, body: bytes) -> Sequence[dict[str, Any]]:
        """See `ProviderAdapter.read_models`."""
        listing = msgspec.json.decode(body)
        models = listing.get("data") if isinstance(listing, dict) else None
        if not isinstance(models, list):
            raise ValueError("the reply has no list of models under 'data'")  # noqa: TRY004 - wrong value, not type
        return [m for m in models if isinstance(m, dict) and isinstance(m.get("id"), str)]

    def read_reply(self, call: Call, body: bytes) -> tuple[bytes, Usage | None]:  # noqa: ARG002 - other formats need it
        """See `ProviderAdapter.read_reply`."""
        try:
            reply = _decode_reply(body)
        except msgspec.MsgspecError as fault:
            raise ValueError(f"the reply is not a JSON object: {fault}") from None
        if reply.error and bytes(reply.error) not in (b"null", b""):
            raise ValueError("the reply has status 200 and an error inside")
        return body, usage_of_openai(body)

    def open_stream(self, call: Call) -> OpenAIStreamReader:
        """See `ProviderAdapter.open_stream`."""
        return OpenAIStreamReader(strip_usage=not call.peek.wants_usage)


def checked_base_url(base_url: str) -> str:
    """The URL without a trailing slash. Raises ConfigurationError unless it is absolute http(s) without credentials."""
    parts = urlsplit(base_url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError([f"base URL {base_url!r}: expected something like https://api.example.com/v1"])
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigurationError(
            [f"base URL of host {parts.hostname!r}: must have no user, password, query or fragment"]
        )
    return base_url.strip().rstrip("/")


def _asking_for_usage(body: bytes, *, has_options: bool) -> bytes:
    """The body with `stream_options.include_usage` set; spliced in front of the last brace when the member is
    absent."""
    if has_options:
        decoded = msgspec.json.decode(body)
        decoded["stream_options"] = {**(decoded.get("stream_options") or {}), "include_usage": True}
        return msgspec.json.encode(decoded)
    if b'"stream_options"' in body:  # present as null
        return _with_member(body, "stream_options", {"include_usage": True})
    return body[: body.rindex(b"}")] + b"," + _USAGE_OPTION + b"}"


def _with_member(body: bytes, name: str, value: object) -> bytes:
    """The JSON object with one member replaced; every other member keeps its very bytes."""
    members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    members[name] = msgspec.Raw(msgspec.json.encode(value))
    return msgspec.json.encode(members)
