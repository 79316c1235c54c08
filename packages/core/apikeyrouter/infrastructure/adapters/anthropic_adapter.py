"""Anthropic's own API: Messages as it is, other conversations translated into it.

Main entry: `AnthropicAdapter`. Sources (read 2026-11-21): https://platform.claude.com/docs/en/api/overview (headers),
/en/api/versioning, /en/api/models-list (paging), /en/api/messages-count-tokens (free of charge).
Laws: a version or beta that the caller sent travels as it is; counting tokens costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.interfaces.transport import Headers, HttpRequest
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import Call, Operation, Wire
from apikeyrouter.infrastructure.adapters.base import WireAdapter

__all__ = ["ANTHROPIC_BASE_URL", "ANTHROPIC_VERSION", "AnthropicAdapter"]

ANTHROPIC_BASE_URL = "https://api.anthropic.com/v1"
ANTHROPIC_VERSION = "2023-06-01"
"""Sent where the caller named none. 2026-10-21 no longer has temperature, top_p and top_k, which older models take."""

_OAUTH_STARTS = (b"sk-ant-oat", b"eyJ")
"""How tokens begin that are bearers and no API keys: OAuth access tokens, and JWTs of federated identities. API keys
(`sk-ant-api...`, and whatever a gateway in front of Anthropic calls a key) go into `x-api-key`."""
_OAUTH_BETA = b"oauth-2025-04-20"
_VERSION = b"anthropic-version"
_BETA = b"anthropic-beta"
_MODELS_A_PAGE = 1000


class _Count(msgspec.Struct, gc=False):
    input_tokens: int


_decode_count = msgspec.json.Decoder(_Count).decode


class AnthropicAdapter(WireAdapter):
    """Serves models whose names begin with "claude".

    `base_url`: default `ANTHROPIC_BASE_URL` from the environment (with or without `/v1`, as Anthropic's SDKs take it
    without), else Anthropic itself. `headers`: sent with each request, for instance `anthropic-beta`. Raises
    ConfigurationError for a malformed URL.
    """

    def __init__(self, base_url: str | None = None, *, headers: Mapping[str, str] | None = None) -> None:
        given = base_url or os.environ.get("ANTHROPIC_BASE_URL", "").strip() or ANTHROPIC_BASE_URL
        super().__init__(
            given if given.rstrip("/").endswith("/v1") else given.rstrip("/") + "/v1",
            dialect="anthropic",
            wire=Wire.Messages,
            native={Operation.Messages: "messages", Operation.CountTokens: "messages/count_tokens"},
            headers=headers,
        )

    def credentials(self, secret: Secret) -> Headers:
        """`x-api-key` for API keys, a bearer for tokens (see `_OAUTH_STARTS`)."""
        material = secret.reveal_bytes()
        if material.startswith(_OAUTH_STARTS):
            return [(b"authorization", b"Bearer " + material), (_BETA, _OAUTH_BETA)]
        return [(b"x-api-key", material)]

    def claims(self, model: str) -> bool:
        """Whether the model's name is one of Anthropic's."""
        return model.startswith("claude")

    def prepared(self, request: HttpRequest, call: Call) -> HttpRequest:  # noqa: ARG002 - the same for all calls
        """With exactly one version, the caller's before the configured one before ours, and all betas in one header."""
        return replace(request, headers=_settled(request.headers))

    def build_models_request(self, secret: Secret, *, base_url: str | None = None) -> HttpRequest:
        """See `ProviderAdapter.build_models_request`. All models fit one page."""
        request = super().build_models_request(secret, base_url=base_url)
        return replace(request, url=f"{request.url}?limit={_MODELS_A_PAGE}", headers=_settled(request.headers))

    def native_usage(self, call: Call, body: bytes) -> Usage | None:
        """Nothing, for a count of tokens: it is free. Raises ValueError when the reply counts none."""
        if call.operation is Operation.CountTokens:
            try:
                _decode_count(body)
            except msgspec.MsgspecError as fault:
                raise ValueError(f"the reply is no count of tokens: {fault}") from None
            return Usage()
        return None


def _settled(headers: Headers) -> Headers:
    version = (_VERSION, ANTHROPIC_VERSION.encode())
    betas: dict[bytes, None] = {}
    out: Headers = []
    for name, value in headers:
        if name == _VERSION:
            version = (name, value)
        elif name == _BETA:
            betas.update(dict.fromkeys([one.strip() for one in value.split(b",") if one.strip()]))
        else:
            out.append((name, value))
    out.append(version)
    if betas:
        out.append((_BETA, b",".join(betas)))
    return out
