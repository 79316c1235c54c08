"""Claude at Vertex AI: Anthropic's Messages, with the model in the path and the version in the body.

Main entry: `VertexClaude`, to which `VertexAdapter` hands every call for a model of Anthropic's.
Sources: https://cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude/use-claude (names with "@"), and
how Anthropic's own SDK 2.12 asks (paths, `anthropic_version`, counting; read 2026-11-21).
Law: what the caller wrote stays byte for byte, beside the model's name and the version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.interfaces.transport import HttpRequest
from apikeyrouter.domain.models.call import Call, Operation, Wire
from apikeyrouter.infrastructure.adapters.base import WireAdapter
from apikeyrouter.wire.codec import MalformedError

__all__ = ["VERTEX_VERSION", "VertexClaude", "is_claude"]

VERTEX_VERSION = "vertex-2023-10-16"
_COUNT = "models/count-tokens:rawPredict"
_DATE = re.compile(r"-(\d{8})$")
_VERSION_HEADER = b"anthropic-version"


def is_claude(model: str) -> bool:
    """Whether a model of this name is Anthropic's."""
    return model.startswith("claude-")


class VertexClaude(WireAdapter):
    """See `WireAdapter`. `base_url`: up to `/publishers/anthropic`."""

    def __init__(self, base_url: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(
            base_url,
            dialect="gemini",
            wire=Wire.Messages,
            native={Operation.Messages: "", Operation.CountTokens: _COUNT},
            headers=headers,
        )

    def native_body(self, call: Call) -> bytes:
        """The caller's members, as Vertex wants them."""
        return _for_vertex(call.body, call) if call.operation is not Operation.Raw else call.body

    def translated_body(self, call: Call) -> tuple[bytes, tuple[str, ...]]:
        """The same of a call in another format."""
        body, dropped = super().translated_body(call)
        return _for_vertex(body, call), dropped

    def path_of(self, call: Call) -> str:
        """The path below the base URL."""
        if call.path or call.operation is Operation.CountTokens:
            return call.path or _COUNT
        return f"models/{quote(_name(call.model), safe='@.')}:{'streamRawPredict' if call.streams else 'rawPredict'}"

    def prepared(self, request: HttpRequest, call: Call) -> HttpRequest:
        """Without the version as a header, and without Anthropic's own query (`beta=true`)."""
        if call.operation is Operation.Raw:
            return request
        headers = [one for one in request.headers if one[0] != _VERSION_HEADER]
        return replace(request, url=request.url.partition("?")[0], headers=headers)

    def native_usage(self, call: Call, body: bytes) -> Usage | None:  # noqa: ARG002 - the same for all of them
        """Nothing, for a count of tokens: it is free."""
        return Usage() if call.operation is Operation.CountTokens else None


def _name(model: str) -> str:
    """Vertex's spelling of a dated name: `claude-sonnet-4-5@20250929`."""
    return _DATE.sub(r"@\1", model)


def _for_vertex(body: bytes, call: Call) -> bytes:
    try:
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
        raise MalformedError(f"The request body is not a JSON object: {fault}") from None
    members.pop("model", None)
    if call.operation is Operation.CountTokens:
        members["model"] = msgspec.Raw(msgspec.json.encode(_name(call.model)))
    members.setdefault("anthropic_version", msgspec.Raw(msgspec.json.encode(VERTEX_VERSION)))
    return msgspec.json.encode(members)
