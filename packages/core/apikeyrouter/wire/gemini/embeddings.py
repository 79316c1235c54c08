"""OpenAI's embeddings at Google: `batchEmbedContents` of the Gemini API, `predict` at Vertex AI.

Main entries: `EmbeddingsAsk.read`, then `batch_body` or `predict_body`, and on the way back `batch_reply` or
`predict_reply`. Sources (read 2026-11-21): https://ai.google.dev/api/embeddings,
https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api.
Laws: vectors come back in the order of the inputs; base64 is of little-endian 32-bit floats, as OpenAI's.
"""

from __future__ import annotations

import base64
import sys
from array import array
from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.cost.usage_dialects import usage_of_gemini
from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.gemini.errors import error_of
from apikeyrouter.wire.losses import Losses

__all__ = ["EmbeddingsAsk", "batch_body", "batch_reply", "predict_body", "predict_reply", "vectors_reply"]

_ENCODINGS = ("float", "base64")
_KNOWN = frozenset(("model", "input", "encoding_format", "dimensions"))


class EmbeddingsAsk(msgspec.Struct, gc=False):
    """A request for embeddings. `dimensions`: None for the model's own. `base64`: how the caller wants vectors."""

    model: str
    texts: list[str]
    dimensions: int | None = None
    base64: bool = False

    @classmethod
    def read(cls, body: bytes, model: str, losses: Losses, *, maker: str = "Google") -> EmbeddingsAsk:
        """From a body in OpenAI's format, for the models of `maker`. Raises MalformedError; tells `losses` of token ids
        and unknown members."""
        try:
            told = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            raise MalformedError(f"The body is not JSON: {fault}") from None
        if not isinstance(told, dict):
            raise MalformedError("The body must be an object")
        encoding = told.get("encoding_format") or "float"
        if encoding not in _ENCODINGS:
            raise MalformedError("'encoding_format' must be 'float' or 'base64'", param="encoding_format")
        dimensions = told.get("dimensions")
        if dimensions is not None and (type(dimensions) is not int or dimensions < 1):
            raise MalformedError("'dimensions' must be a whole number above 0", param="dimensions")
        for name, value in told.items():
            if name == "user":
                losses.harmless(name)
            elif name not in _KNOWN and value is not None:
                losses.parameter(name, f"{maker}'s embeddings have no such parameter")
        return cls(model, _texts(told.get("input"), losses, maker), dimensions, encoding == "base64")


def _texts(given: object, losses: Losses, maker: str) -> list[str]:
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list) or not given:
        raise MalformedError("'input' must be a string or a list of strings, and not empty", param="input")
    if all(isinstance(one, str) for one in given):
        return given
    if all(isinstance(one, int | list) for one in given):
        losses.content("input", f"token ids mean nothing to {maker}'s models; send text")
        return []
    raise MalformedError("'input' must be a string or a list of strings", param="input")


def batch_body(ask: EmbeddingsAsk) -> bytes:
    """The body of `batchEmbedContents`."""
    more: dict[str, Any] = {} if ask.dimensions is None else {"outputDimensionality": ask.dimensions}
    name = ask.model if ask.model.startswith("models/") else f"models/{ask.model}"
    requests = [{"model": name, "content": {"parts": [{"text": text}]}, **more} for text in ask.texts]
    return msgspec.json.encode({"requests": requests})


def predict_body(ask: EmbeddingsAsk) -> bytes:
    """The body of Vertex AI's `predict`."""
    body: dict[str, Any] = {"instances": [{"content": text} for text in ask.texts]}
    if ask.dimensions is not None:
        body["parameters"] = {"outputDimensionality": ask.dimensions}
    return msgspec.json.encode(body)


def batch_reply(ask: EmbeddingsAsk, body: bytes) -> tuple[bytes, Usage | None]:
    """The reply in OpenAI's format, and its usage; None where Google tells none (older models). Raises ValueError."""
    reply = _object(body)
    embeddings = reply.get("embeddings")
    vectors = [one.get("values") if isinstance(one, dict) else None for one in _list(embeddings)]
    return vectors_reply(ask, vectors, usage_of_gemini(reply))


def predict_reply(ask: EmbeddingsAsk, body: bytes) -> tuple[bytes, Usage | None]:
    """The same from `predict`. Raises ValueError."""
    vectors: list[object] = []
    tokens: int | None = None
    for one in _list(_object(body).get("predictions")):
        told = one.get("embeddings") if isinstance(one, dict) else None
        vectors.append(told.get("values") if isinstance(told, dict) else None)
        statistics = told.get("statistics") if isinstance(told, dict) else None
        count = statistics.get("token_count") if isinstance(statistics, dict) else None
        if isinstance(count, int | float) and not isinstance(count, bool) and count >= 0:
            tokens = (tokens or 0) + int(count)
    return vectors_reply(ask, vectors, None if tokens is None else Usage(tokens))


def vectors_reply(ask: EmbeddingsAsk, vectors: list[object], usage: Usage | None) -> tuple[bytes, Usage | None]:
    """Vectors in the order of the texts as OpenAI tells them. Raises ValueError when they are not as many, or none."""
    if len(vectors) != len(ask.texts):
        raise ValueError(f"the reply has {len(vectors)} vectors for {len(ask.texts)} inputs")
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(vector, base64_wanted=ask.base64)}
        for index, vector in enumerate(vectors)
    ]
    tokens = usage.input_tokens if usage is not None else 0
    counts = {"prompt_tokens": tokens, "total_tokens": tokens}
    return msgspec.json.encode({"object": "list", "data": data, "model": ask.model, "usage": counts}), usage


def _vector(values: object, *, base64_wanted: bool) -> object:
    if not isinstance(values, list) or not all(isinstance(one, int | float) for one in values):
        raise ValueError("an embedding in the reply has no list of numbers")
    if not base64_wanted:
        return values
    numbers = array("f", values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


def _object(body: bytes) -> dict[str, Any]:
    try:
        reply = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise ValueError(f"the reply is not JSON: {fault}") from None
    if not isinstance(reply, dict):
        raise ValueError("the reply is not an object")  # noqa: TRY004 - wrong value, not type
    if reply.get("error"):
        raise ValueError(f"the reply has status 200 and an error inside: {error_of(reply['error']).message}")
    return reply


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("the reply has no list of embeddings")  # noqa: TRY004 - wrong value, not type
    return value
