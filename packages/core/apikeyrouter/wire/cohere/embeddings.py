"""OpenAI's embeddings at Cohere: `/v2/embed`.

Main entries: `read_ask`, `embed_body` and, on the way back, `embed_reply`. Cohere wants to know what texts are for:
`input_type` beside OpenAI's members says it, "search_document" is taken without.
Source: https://docs.cohere.com/reference/embed; replies were checked against recorded ones.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.cost.usage_dialects import usage_of_cohere
from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.gemini.embeddings import EmbeddingsAsk, vectors_reply
from apikeyrouter.wire.losses import Losses

__all__ = ["embed_body", "embed_reply", "read_ask"]

_USUAL = "search_document"


def read_ask(body: bytes, model: str, losses: Losses) -> tuple[EmbeddingsAsk, str]:
    """The request, and what its texts are for. Raises MalformedError."""
    try:
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        kind = msgspec.json.decode(members.pop("input_type", msgspec.Raw(b"null")), type=str | None)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
        raise MalformedError(f"The body is no request for embeddings: {fault}") from None
    ask = EmbeddingsAsk.read(msgspec.json.encode(members), model, losses, maker="Cohere")
    return ask, kind or _USUAL


def embed_body(ask: EmbeddingsAsk, input_type: str) -> bytes:
    """The body of `/v2/embed`."""
    body: dict[str, Any] = {
        "model": ask.model, "texts": ask.texts, "input_type": input_type, "embedding_types": ["float"],
    }  # fmt: skip
    if ask.dimensions is not None:
        body["output_dimension"] = ask.dimensions
    return msgspec.json.encode(body)


def embed_reply(ask: EmbeddingsAsk, body: bytes) -> tuple[bytes, Usage | None]:
    """The reply in OpenAI's format, and what is billed. Raises ValueError."""
    try:
        reply = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise ValueError(f"the reply is not JSON: {fault}") from None
    told = reply.get("embeddings") if isinstance(reply, dict) else None
    vectors = told.get("float") if isinstance(told, dict) else None
    if not isinstance(vectors, list):
        raise ValueError("the reply has no list of embeddings")  # noqa: TRY004 - wrong value, not type
    return vectors_reply(ask, vectors, usage_of_cohere(reply))
