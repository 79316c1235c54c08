"""Prices as the domain sees them: whole nano-dollars per million tokens, per token class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["ModelPrice", "PriceSource"]


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """What a model costs. Unit of every price: nano-USD (1e-9 $) per 1,000,000 tokens, so $0.15/1M is 150_000_000.

    `cached_input`, `cache_write`, `audio_input`: None means that the provider bills those tokens as plain input;
    `reasoning`, `audio_output`: as plain output; `cache_write_1h`: as `cache_write`. `per_request`: nano-USD per call.
    Above `long_context_over` tokens of input other prices hold for the whole request: those of `long`, or without it
    `long_input` and `long_output` (None: no band, or unchanged). `context_window`: the most tokens that input and
    output may have together, None when unknown. `source`: where it comes from, for people ("genai-prices 0.2.3", "key
    metadata", "configuration").
    """

    input: int
    output: int
    cached_input: int | None = None
    cache_write: int | None = None
    per_request: int = 0
    long_context_over: int | None = None
    long_input: int | None = None
    long_output: int | None = None
    source: str = ""
    cache_write_1h: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None
    reasoning: int | None = None
    context_window: int | None = None
    long: ModelPrice | None = None


class PriceSource(Protocol):
    """A price list. Pure and fast after the first call for a model: results are cached by the implementation."""

    def price(self, provider_id: str, model: str) -> ModelPrice | None:
        """Today's price, or None when the list does not know the model."""
        ...
