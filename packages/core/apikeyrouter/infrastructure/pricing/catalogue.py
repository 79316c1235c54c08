"""Price lists: the bundled catalogue of genai-prices, and fixed lists for configuration and tests.

`GenaiPriceSource` compiles the catalogue's entry of a model into one `ModelPrice` of whole nano-dollars and keeps it
until the next time when the catalogue says that it may change (a dated price row, or a time of day). The catalogue is
imported at the first question, since that takes a quarter of a second; `warm()` does it early.

Laws: a price is exact, or rounded up to the next nano-dollar per million tokens; an unknown model is None, never a
guess from a similar name; no network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING

from apikeyrouter.domain.cost.price_book import PriceBook
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.infrastructure.clock import SystemClock

if TYPE_CHECKING:
    from genai_prices import types as genai
    from genai_prices.data_snapshot import DataSnapshot

__all__ = ["GenaiPriceSource", "PriceBook", "StaticPriceSource"]

_THEIR_ID = {
    "azure_openai": "azure",
    "azure-openai": "azure",
    "bedrock": "aws",
    "aws_bedrock": "aws",
    "gemini": "google",
    "vertex": "google",
    "vertex_ai": "google",
    "xai": "x-ai",
    "grok": "x-ai",
    "together_ai": "together",
    "togetherai": "together",
    "fireworks_ai": "fireworks",
    "fireworks-ai": "fireworks",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "z.ai": "zai",
    "kimi": "moonshotai",
}
"""Provider ids that people use, where the catalogue has another one."""

_PREFERENCE = (
    "openai",
    "anthropic",
    "google",
    "mistral",
    "deepseek",
    "x-ai",
    "cohere",
    "moonshotai",
    "zai",
    "groq",
    "together",
    "fireworks",
    "openrouter",
)
"""Whose price a model has when it is served by a provider that the catalogue does not know (a gateway, a custom base
URL): its maker's, else that of large hosts. The first that knows the model wins."""

_CACHE_MAX = 4096

_UNIT_PER_MTOK = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "audio_input": "input_audio_mtok",
    "audio_output": "output_audio_mtok",
    "reasoning": "output_reasoning_mtok",
}
"""Our field: the catalogue's."""


class StaticPriceSource:
    """A fixed list. Keys are model names, or (provider id, model) for one provider's price, which goes first."""

    def __init__(self, prices: Mapping[str | tuple[str, str], ModelPrice]) -> None:
        self._prices = dict(prices)

    def price(self, provider_id: str, model: str) -> ModelPrice | None:
        """The listed price, or None."""
        return self._prices.get((provider_id, model)) or self._prices.get(model)


class GenaiPriceSource:
    """Today's list prices from the installed genai-prices package.

    Service tiers (batch, flex, priority) are not distinguished: the standard price holds.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._catalogue: DataSnapshot | None = None
        self._source = ""
        self._cache: dict[tuple[str, str], tuple[ModelPrice | None, float]] = {}

    def warm(self) -> None:
        """Loads the catalogue now (about 0.3 s) instead of at the first question."""
        self._load()

    def price(self, provider_id: str, model: str) -> ModelPrice | None:
        """The price that holds now, or None when the catalogue does not know the model or sells it by other units."""
        now_s = self._clock.monotonic_s()
        cached = self._cache.get((provider_id, model))
        if cached is not None and now_s < cached[1]:
            return cached[0]
        if len(self._cache) >= _CACHE_MAX:
            self._cache.clear()
        utc = self._clock.utc_now()
        found = self._find(provider_id, model)
        price = _compile(found, utc, self._source) if found is not None else None
        until_s = now_s + _steady_s(found, utc)
        self._cache[provider_id, model] = (price, until_s)
        return price

    def _load(self) -> DataSnapshot:
        if self._catalogue is None:
            import genai_prices
            from genai_prices.data_snapshot import get_snapshot

            self._catalogue = get_snapshot()
            self._source = f"genai-prices {genai_prices.__version__}"
        return self._catalogue

    def _find(self, provider_id: str, model: str) -> genai.ModelInfo | None:
        providers = self._load().providers
        by_id = {provider.id: provider for provider in providers}
        named = provider_id.lower()
        own = by_id.get(_THEIR_ID.get(named, named))
        if own is not None:
            return own.find_model(model, all_providers=providers)
        for name in _names_without(model):
            for other in _PREFERENCE:
                found = by_id[other].find_model(name, all_providers=providers) if other in by_id else None
                if found is not None:
                    return found
        return None


def _names_without(model: str) -> Iterator[str]:
    """The name as given, then without a vendor's prefix ("openai/gpt-4o")."""
    yield model
    if "/" in model:
        yield model.rpartition("/")[2]


def _compile(model: genai.ModelInfo, utc: datetime, source: str) -> ModelPrice | None:
    """One `ModelPrice` with its bands, innermost first; None when tokens have no price."""
    rows = model.get_prices(utc)
    prices = {ours: getattr(rows, theirs) for ours, theirs in _UNIT_PER_MTOK.items()}
    if prices["input"] is None and prices["output"] is None:
        return None
    per_request = _nano(rows.requests_kcount, None) or 0
    starts = sorted({tier.start for price in prices.values() for tier in getattr(price, "tiers", ())})
    compiled: ModelPrice | None = None
    for index in range(len(starts), -1, -1):
        over = starts[index - 1] if index else None
        band = {ours: _nano(price, over) for ours, price in prices.items()}
        compiled = ModelPrice(
            input=band["input"] or 0,
            output=band["output"] or 0,
            cached_input=band["cached_input"],
            cache_write=band["cache_write"],
            per_request=-(-per_request // 1000),
            long_context_over=starts[index] if compiled is not None else None,
            long_input=compiled.input if compiled is not None else None,
            long_output=compiled.output if compiled is not None else None,
            source=source,
            cache_write_1h=band["cache_write_1h"],
            audio_input=band["audio_input"],
            audio_output=band["audio_output"],
            reasoning=band["reasoning"],
            context_window=model.context_window,
            long=compiled,
        )
    return compiled


def _nano(price: Decimal | genai.TieredPrices | None, over: int | None) -> int | None:
    """Dollars as nano-dollars, rounded up; of a tiered price the one above `over` tokens (None: its base)."""
    if price is None:
        return None
    if not isinstance(price, Decimal | int):
        dollars = price.base
        for tier in price.tiers:
            if over is not None and tier.start <= over:
                dollars = tier.price
        price = dollars
    return int((Decimal(price) * 10**9).to_integral_value(ROUND_CEILING))


def _steady_s(model: genai.ModelInfo | None, utc: datetime) -> float:
    """Seconds until the price may change: the next border of a time of day in its rows, at the latest midnight UTC."""
    midnight = datetime.combine(utc.date() + timedelta(days=1), time(0), tzinfo=UTC)
    borders = [midnight]
    rows = model.prices if model is not None and isinstance(model.prices, list) else []
    for row in rows:
        for name in ("start_time", "end_time"):
            border = getattr(row.constraint, name, None)
            if border is not None:
                at = datetime.combine(utc.date(), border if border.tzinfo else border.replace(tzinfo=UTC))
                borders.append(at if at > utc else at + timedelta(days=1))
    return (min(borders) - utc).total_seconds()
