"""The models that the simulated provider lists, with the few facts that decide how it answers.

Main entries: `model_facts` and `listing`. Any model is served, listed or not, unless its name begins with `no-such`.
Source: the provider's public model pages; context and output lengths in tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["ModelFacts", "listing", "model_entry", "model_facts"]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """`context_tokens`: prompt and output together; `output_tokens`: the most it writes; `reasons`: it thinks first,
    and takes `max_completion_tokens` only; `dimensions`: length of its embeddings."""

    context_tokens: int = 128_000
    output_tokens: int = 16_384
    reasons: bool = False
    dimensions: int = 1536


_REASONING = ModelFacts(context_tokens=400_000, output_tokens=128_000, reasons=True)
_LISTED: dict[str, ModelFacts] = {
    "gpt-4o": ModelFacts(),
    "gpt-4o-mini": ModelFacts(),
    "gpt-4.1": ModelFacts(context_tokens=1_047_576, output_tokens=32_768),
    "gpt-4.1-mini": ModelFacts(context_tokens=1_047_576, output_tokens=32_768),
    "gpt-4.1-nano": ModelFacts(context_tokens=1_047_576, output_tokens=32_768),
    "gpt-4-turbo": ModelFacts(output_tokens=4096),
    "gpt-4": ModelFacts(context_tokens=8192, output_tokens=8192),
    "gpt-3.5-turbo": ModelFacts(context_tokens=16_385, output_tokens=4096),
    "gpt-3.5-turbo-instruct": ModelFacts(context_tokens=4096, output_tokens=4096),
    "davinci-002": ModelFacts(context_tokens=16_384),
    "babbage-002": ModelFacts(context_tokens=16_384),
    "gpt-5": _REASONING,
    "gpt-5-mini": _REASONING,
    "gpt-5-nano": _REASONING,
    "o3": _REASONING,
    "o4-mini": _REASONING,
    "text-embedding-3-small": ModelFacts(context_tokens=8192),
    "text-embedding-3-large": ModelFacts(context_tokens=8192, dimensions=3072),
    "text-embedding-ada-002": ModelFacts(context_tokens=8192),
}
_UNLISTED = ModelFacts(output_tokens=128_000)
_CREATED_AT = 1_715_367_049  # one date for all: nothing depends on it


def model_facts(model: str) -> ModelFacts:
    """Facts of a model; a dated name (`gpt-4o-2024-08-06`) is its model, an unknown one gets generous limits."""
    facts = _LISTED.get(model)
    if facts is not None:
        return facts
    base = max((name for name in _LISTED if model.startswith(name + "-20")), key=len, default=None)
    return _UNLISTED if base is None else _LISTED[base]


def model_entry(model: str) -> dict[str, Any]:
    """One model as `/v1/models/{id}` shows it."""
    return {"id": model, "object": "model", "created": _CREATED_AT, "owned_by": "system"}


def listing() -> dict[str, Any]:
    """The body of `/v1/models`."""
    return {"object": "list", "data": [model_entry(model) for model in _LISTED]}
