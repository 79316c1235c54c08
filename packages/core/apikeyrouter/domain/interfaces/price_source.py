"""Prices as the domain sees them: whole nano-dollars per million tokens, per token class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["ModelPrice", "PriceSource"]


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """What a model costs. Unit of every price: nano-USD (1e-9 $) per 1,000,000 tokens, so $0.15/1M is 150_000_000.

    `cached_input` and `cache_write`: None means that the provider bills those tokens as plain input. `per_request`:
    nano-USD per call. `long_context_over` tokens of input, the `long_*` prices hold for the whole request (None: no band).
    `source`: where it comes from, for people ("genai-prices 0.2.3", "metadata of key_1", "configuration").
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


class PriceSource(Protocol):
    """A price list. Pure and fast after the first call for a model: results are cached by the implementation."""

    def price(self, provider_id: str, model: str) -> ModelPrice | None:
        """Today's price, or None when the list does not know the model."""
        ...
