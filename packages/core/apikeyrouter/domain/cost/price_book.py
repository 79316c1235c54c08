"""The price book: one answer to "what does this model cost with this key".

`PriceBook.resolve` asks, in this order: overrides of the operator, the list (a `PriceSource`), and lays the key's own
metadata over the result (`price_from_metadata`). Answers are cached; a cached answer is used only while the list still
gives the same price, so dated price changes come through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apikeyrouter.domain.cost.prices import PRICE_FIELDS, price_from_metadata
from apikeyrouter.domain.interfaces.price_source import ModelPrice, PriceSource

__all__ = ["PriceBook"]

_CACHE_MAX = 4096

_Key = tuple[str, str, tuple[tuple[str, str], ...]]


class PriceBook:
    """Prices with the operator's and the keys' own laid over a list.

    `overrides`: by (provider id, model); a provider id of "*" holds for every provider.
    """

    def __init__(self, source: PriceSource, overrides: Mapping[tuple[str, str], ModelPrice] | None = None) -> None:
        self._source = source
        self._overrides = dict(overrides or {})
        self._cache: dict[_Key, tuple[ModelPrice | None, ModelPrice | None]] = {}

    def resolve(self, provider_id: str, model: str, metadata: Mapping[str, Any]) -> ModelPrice | None:
        """The price, or None when nobody knows it. Raises ValueError that names a bad metadata field."""
        listed = self._listed(provider_id, model)
        fields = tuple([(name, str(metadata[name])) for name in PRICE_FIELDS if metadata.get(name) is not None])
        if not fields:
            return listed
        key = (provider_id, model, fields)
        cached = self._cache.get(key)
        if cached is not None and cached[0] == listed:
            return cached[1]
        price = price_from_metadata(metadata, listed)
        if len(self._cache) >= _CACHE_MAX:
            self._cache.clear()
        self._cache[key] = (listed, price)
        return price

    def _listed(self, provider_id: str, model: str) -> ModelPrice | None:
        if self._overrides:
            for key in ((provider_id, model), ("*", model)):
                if key in self._overrides:
                    return self._overrides[key]
        return self._source.price(provider_id, model)
