"""`/v1/embeddings`: unit vectors that depend on the input and the seed, as numbers or base64 of 32-bit floats.

Main entry: `answer_embedding`. Inputs may be texts or token ids, one or many. A vector cut to `dimensions` is the
beginning of the full one, brought back to length one, as the real models' are.
"""

from __future__ import annotations

import base64
import random
import sys
from array import array
from typing import Any

from apikeyrouter.simulation.api_errors import invalid, too_long
from apikeyrouter.simulation.catalog import model_facts
from apikeyrouter.simulation.completions import prompt_list
from apikeyrouter.simulation.config import SimConfig
from apikeyrouter.simulation.requests import EmbeddingRequest, check_ranges
from apikeyrouter.simulation.text import digest_of

__all__ = ["answer_embedding", "vector"]

_INPUTS_MAX = 2048
_ADA = "text-embedding-ada-002"


def answer_embedding(request: EmbeddingRequest, config: SimConfig) -> dict[str, Any]:
    """The reply's body. Raises ApiError."""
    check_ranges(request)
    if request.input is None:
        raise invalid("Missing required parameter: 'input'.", "input", "missing_required_parameter")
    if request.encoding_format not in (None, "float", "base64"):
        text = f"Invalid value: '{request.encoding_format}'. Supported values are: 'float' and 'base64'."
        raise invalid(text, "encoding_format", "invalid_value")
    inputs = prompt_list(request.input, "input")
    if len(inputs) > _INPUTS_MAX:
        raise too_long("input", _INPUTS_MAX, len(inputs))
    if any(not text for text, _ in inputs):
        raise invalid("Invalid 'input': input cannot be an empty string.", "input")
    facts = model_facts(request.model)
    longest = max(tokens for _, tokens in inputs)
    context = config.context_tokens or facts.context_tokens
    if longest > context:
        raise invalid(
            f"This model's maximum context length is {context} tokens, however you requested {longest} tokens. "
            "Please reduce your prompt; or completion length."
        )
    size = _size(request, facts.dimensions)
    as_text = request.encoding_format == "base64"
    data = []
    for index, (text, _) in enumerate(inputs):
        numbers = vector(config.seed, request.model, text, size)
        data.append(
            {"object": "embedding", "index": index, "embedding": _base64(numbers) if as_text else numbers.tolist()}
        )
    tokens = sum(count for _, count in inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": request.model, "usage": usage}


def vector(seed: int, model: str, text: str, size: int) -> array[float]:
    """A vector of length one with `size` numbers."""
    digest = digest_of(seed, model, text)
    raw = array("i", random.Random(int.from_bytes(digest, "big")).randbytes(4 * size))
    if sys.byteorder == "big":
        raw.byteswap()
    norm = sum(float(n) * n for n in raw) ** 0.5
    return array("f", [n / norm for n in raw])


def _size(request: EmbeddingRequest, full: int) -> int:
    if request.dimensions is None:
        return full
    if request.model == _ADA:
        raise invalid("This model does not support specifying dimensions.", "dimensions")
    if request.dimensions > full:
        text = f"Invalid value for 'dimensions' = {request.dimensions}. Must be less than or equal to {full}."
        raise invalid(text, "dimensions")
    size: int = request.dimensions
    return size


def _base64(numbers: array[float]) -> str:
    """Little-endian 32-bit floats, as the official clients expect."""
    if sys.byteorder == "big":
        numbers = array("f", numbers)
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()
