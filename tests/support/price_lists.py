"""A price list that a test writes down. Main entry: `StaticPriceSource`."""

from __future__ import annotations

from collections.abc import Mapping

from apikeyrouter.domain.interfaces.price_source import ModelPrice

__all__ = ["StaticPriceSource"]


class StaticPriceSource:
    """A fixed list. Keys are model names, or (provider id, model) for one provider's price, which goes first."""

    def __init__(self, prices: Mapping[str | tuple[str, str], ModelPrice]) -> None:
        self._prices = dict(prices)

    def price(self, provider_id: str, model: str) -> ModelPrice | None:
        """The listed price, or None."""
        return self._prices.get((provider_id, model)) or self._prices.get(model)
