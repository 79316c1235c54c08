"""The price book: one answer to "what does this model cost with this key, at this time".

`PriceBook.resolve` asks, in this order: overrides of the operator, the list (a `PriceSource`), and lays the key's own
metadata over the result (`price_from_metadata`). Answers are cached; a cached answer is used only while the list still
gives the same price, so dated price changes come through.
Overrides come from the configuration (`configured`) and from the management API (`load`); for one model the
nearer one holds (a named model before a pattern, a named provider before any), then the API's, then the younger one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from apikeyrouter.domain.cost.overrides import PriceOverride
from apikeyrouter.domain.cost.prices import PRICE_FIELDS, price_from_metadata
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.price_source import DatedPriceSource, ModelPrice, PriceSource, TimedPriceSource

__all__ = ["CONFIGURED", "STORED", "PriceBook"]

CONFIGURED, STORED = "configuration", "management API"
"""Where an override comes from, for people."""

_CACHE_MAX = 4096

_Key = tuple[str, str, tuple[tuple[str, str], ...]]


class PriceBook:
    """Prices with the operator's and the keys' own laid over a list.

    `overrides`: undated prices by (provider id, model), for programs; a provider id of "*" holds for every provider.
    `configured`: the operator's, from the settings. `clock`: needed for overrides with dates.
    """

    def __init__(
        self,
        source: PriceSource,
        overrides: Mapping[tuple[str, str], ModelPrice] | None = None,
        *,
        configured: Sequence[PriceOverride] = (),
        clock: Clock | None = None,
    ) -> None:
        self._source = source
        # what a source can do is asked once: looking at a protocol's members takes 20 us
        self._timed = source if isinstance(source, TimedPriceSource) else None
        self._dated = source if isinstance(source, DatedPriceSource) else None
        self._clock = clock
        self._given = dict(overrides or {})
        self._own: dict[str, ModelPrice] = {}
        self._configured = tuple(configured)
        self._stored: tuple[PriceOverride, ...] = ()
        self._ranked: list[tuple[str, PriceOverride]] = []
        self._cache: dict[_Key, tuple[ModelPrice | None, ModelPrice | None]] = {}
        self._rank()

    @property
    def source(self) -> PriceSource:
        """The list below the overrides."""
        return self._source

    def resolve(
        self, provider_id: str, model: str, metadata: Mapping[str, Any], at: datetime | None = None
    ) -> ModelPrice | None:
        """The price, or None when nobody knows it or tokens are not what is sold. `at`: as of this time, default now.

        Raises ValueError that names a bad metadata field.
        """
        listed = self.listed(provider_id, model, at)
        if listed is not None and not listed.by_tokens:
            listed = None
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

    def listed(self, provider_id: str, model: str, at: datetime | None = None) -> ModelPrice | None:
        """The price before any key's metadata: the operator's, else the list's; None when neither knows the model."""
        if self._given:
            for key in ((provider_id, model), ("*", model)):
                if key in self._given:
                    return self._given[key]
        for origin, override in self._ranked:
            if override.covers(provider_id, model) and self._holds(override, at):
                return override.laid_over(self._from_list(provider_id, model, at), origin)
        return self._from_list(provider_id, model, at)

    def own_price(self, provider_id: str, price: ModelPrice | None) -> None:
        """What a provider's adapter says that each of its calls costs stands for the list; None: the list again."""
        if price is None:
            self._own.pop(provider_id, None)
        else:
            self._own[provider_id] = price

    def overrides(self) -> list[tuple[str, PriceOverride]]:
        """Every override with where it comes from, the nearest first."""
        return list(self._ranked)

    def configure(self, overrides: Iterable[PriceOverride]) -> None:
        """Replaces all overrides of the configuration's."""
        self._configured = tuple(overrides)
        self._rank()

    def load(self, overrides: Iterable[PriceOverride]) -> None:
        """Replaces all overrides of the API's."""
        self._stored = tuple(overrides)
        self._rank()

    def changes_at_s(self) -> float:
        """The monotonic time at which a price that was asked for may change by itself; infinity when none will."""
        changes_at_s = math.inf if self._timed is None else self._timed.changes_at_s
        if self._clock is None or not self._ranked:
            return changes_at_s
        now_s, utc = self._clock.monotonic_s(), self._clock.utc_now()
        borders = [moment for _, one in self._ranked for moment in (one.effective_from, one.effective_until) if moment]
        ahead = [(moment - utc).total_seconds() for moment in borders if moment > utc]
        return min(changes_at_s, now_s + min(ahead, default=math.inf))

    def _from_list(self, provider_id: str, model: str, at: datetime | None) -> ModelPrice | None:
        own = self._own.get(provider_id)
        if own is not None:
            return own
        if at is not None and self._dated is not None:
            return self._dated.price_at(provider_id, model, at)
        return self._source.price(provider_id, model)

    def _holds(self, override: PriceOverride, at: datetime | None) -> bool:
        if override.effective_from is None and override.effective_until is None:
            return True
        if at is None and self._clock is not None:
            at = self._clock.utc_now()
        return at is not None and override.in_force(at)

    def _rank(self) -> None:
        rows = [(1, STORED, one) for one in self._stored] + [(0, CONFIGURED, one) for one in self._configured]
        rows.sort(key=lambda row: (row[2].specificity, row[0], _begin_s(row[2])), reverse=True)
        self._ranked = [(origin, one) for _, origin, one in rows]


def _begin_s(override: PriceOverride) -> float:
    return override.effective_from.timestamp() if override.effective_from is not None else -math.inf
