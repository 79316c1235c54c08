"""The price list: the bundled catalogue of genai-prices.

`GenaiPriceSource` compiles the catalogue's entry of a model into one `ModelPrice` of whole nano-dollars (see `compile`)
and keeps it until the next time when the catalogue says that it may change (a dated price row, or a time of day). The
catalogue is imported at the first question, since that takes a quarter of a second; `warm()` does it early.

Laws: a price is exact, or rounded up to the next nano-dollar per million tokens; an unknown model is None, never a
guess from a similar name; no network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from apikeyrouter.domain.cost.price_book import PriceBook
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.infrastructure.catalogue.models import longest_reply
from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.infrastructure.pricing.compile import compile_price, steady_s

if TYPE_CHECKING:
    from genai_prices import types as genai
    from genai_prices.data_snapshot import DataSnapshot

__all__ = ["GenaiPriceSource", "PriceBook"]

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


class GenaiPriceSource:
    """List prices from the installed genai-prices package: today's (`price`), and those of any day (`price_at`)."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._catalogue: DataSnapshot | None = None
        self._source = ""
        self._cache: dict[tuple[str, str], tuple[ModelPrice | None, float]] = {}
        self._changes_at_s = math.inf

    @property
    def changes_at_s(self) -> float:
        """The monotonic time at which a price that was asked for may change: midnight UTC, or an hour of its list."""
        return self._changes_at_s

    def warm(self) -> None:
        """Loads the catalogue now (about 0.3 s) instead of at the first question."""
        self._load()

    def price(self, provider_id: str, model: str) -> ModelPrice | None:
        """The price that holds now, or None when the catalogue does not know the model."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._changes_at_s:
            self._cache.clear()
            self._changes_at_s = math.inf
        cached = self._cache.get((provider_id, model))
        if cached is not None and now_s < cached[1]:
            return cached[0]
        if len(self._cache) >= _CACHE_MAX:
            self._cache.clear()
        utc = self._clock.utc_now()
        found, own = self._find(provider_id, model)
        price = compile_price(found, utc, self._source, own=own) if found is not None else None
        if price is not None:
            price = replace(price, output_max=longest_reply(model))
        until_s = now_s + steady_s(found, utc)
        self._cache[provider_id, model] = (price, until_s)
        self._changes_at_s = min(self._changes_at_s, until_s)
        return price

    def price_at(self, provider_id: str, model: str, at: datetime) -> ModelPrice | None:
        """The price that held at `at`, as far back as the catalogue's dated rows go; before them, the first row."""
        found, own = self._find(provider_id, model)
        return compile_price(found, at.astimezone(UTC), self._source, own=own) if found is not None else None

    def models(self, provider_id: str | None = None) -> Sequence[tuple[str, str]]:
        """Every (provider id, model id) of the catalogue; of one provider only, if given. Sorted."""
        wanted = _THEIR_ID.get(provider_id.lower(), provider_id.lower()) if provider_id else None
        providers = self._load().providers
        return sorted([(one.id, model.id) for one in providers if wanted in (None, one.id) for model in one.models])

    def providers_of(self, model: str) -> Sequence[str]:
        """The ids of the catalogue's providers that sell this model themselves, its maker first."""
        selling = [one.id for one in self._load().providers if one.find_model(model) is not None]
        rank = {name: place for place, name in enumerate(_PREFERENCE)}
        return sorted(selling, key=lambda name: (rank.get(name, len(rank)), name))

    def _load(self) -> DataSnapshot:
        if self._catalogue is None:
            import genai_prices
            from genai_prices.data_snapshot import get_snapshot

            self._catalogue = get_snapshot()
            self._source = f"genai-prices {genai_prices.__version__}"
        return self._catalogue

    def _find(self, provider_id: str, model: str) -> tuple[genai.ModelInfo | None, bool]:
        """The catalogue's entry, and whether its service tiers hold: they are not handed on to hosts of their own."""
        providers = self._load().providers
        by_id = {provider.id: provider for provider in providers}
        named = provider_id.lower()
        own = by_id.get(_THEIR_ID.get(named, named))
        if own is not None:
            entry = own.find_model(model, all_providers=providers)
            return entry, any(entry is one for one in own.models)
        names = tuple(_names_without(model))
        for other in _PREFERENCE:
            for name in names if other in by_id else ():
                found = by_id[other].find_model(name, all_providers=providers)
                if found is not None:
                    return found, True
        return None, False


def _names_without(model: str) -> Iterator[str]:
    """The name as given, then without a vendor's prefix ("openai/gpt-4o")."""
    yield model
    if "/" in model:
        yield model.rpartition("/")[2]
