"""Prices that are set while the router runs: kept in the store, and the same in every process on it.

`PriceKeeper` owns the router's `PriceBook`, and fills it with the overrides that are stored.
Laws: a price is durable when `set_price` returns, and holds for requests that are decided afterwards: those under way,
and old ones, keep the price of their time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from apikeyrouter.domain.components.shared_list import SharedList, Subscribe
from apikeyrouter.domain.cost.overrides import PriceOverride, read_override
from apikeyrouter.domain.cost.price_book import PriceBook
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.price_source import ModelPrice, PriceSource
from apikeyrouter.domain.interfaces.state_store import StateStore, StoreBatch, StoredEvent

__all__ = ["SETTING", "PriceKeeper"]

SETTING = "prices.overrides"
"""The name of the store's setting: a JSON list of overrides as they were written."""


class PriceKeeper:
    """Keeps the `book` over the list `source`, with `configured` overrides below those of the store.

    `on_change` is called whenever prices may be others than before.
    """

    def __init__(
        self, source: PriceSource, store: StateStore, clock: Clock, configured: Sequence[PriceOverride] = ()
    ) -> None:
        self.book = PriceBook(source, configured=configured, clock=clock)
        self.on_change: Callable[[], None] = lambda: None
        self._store = store
        self._clock = clock
        self._list = SharedList(store, SETTING, read=read_override, taken_in=self._take_in)
        self._due_s = 0.0

    def follow(self, subscribe: Subscribe, on_change: Callable[[], None]) -> None:
        """Hears of other processes by `subscribe` (of the store's feed), and tells of other prices by `on_change`."""
        subscribe("setting", self._list.changed)
        self.on_change = on_change

    async def open(self) -> None:
        """Loads the overrides. Raises StateStoreError."""
        await self._list.load()

    def configure(self, overrides: Sequence[PriceOverride]) -> None:
        """The configuration's prices are these from now on."""
        self.book.configure(overrides)
        self.on_change()

    def tick(self) -> None:
        """Call it every now and then: says `on_change` when a dated or hourly price has begun or ended."""
        now_s = self._clock.monotonic_s()
        due_s, self._due_s = self._due_s, self.book.changes_at_s()
        if (now_s >= due_s or now_s >= self._due_s) and due_s > 0.0:
            self._due_s = 0.0  # the book knows the next border when it has been asked again
            self.on_change()

    def price(self, provider_id: str, model: str, at: datetime | None = None) -> ModelPrice | None:
        """The price before any key's metadata, also of models that are not sold by tokens; None when unknown."""
        return self.book.listed(provider_id, model, at)

    async def set_price(self, given: Mapping[str, Any]) -> PriceOverride:
        """Sets a price as `read_override` understands it; one with the same provider, model and beginning is replaced.

        Raises ConfigurationError (nothing was set), StateStoreError.
        """
        try:
            override = read_override(given)
        except ValueError as fault:
            raise ConfigurationError([str(fault)]) from None

        def with_it(stored: Sequence[PriceOverride]) -> Sequence[PriceOverride]:
            return [*(one for one in stored if not override.replaces(one)), override]

        await self._list.change(with_it)
        self._note("price.set", override.document)
        return override

    async def remove_price(self, provider_id: str, model: str) -> int:
        """Removes the prices that were set for exactly this provider and model; returns how many there were.

        Prices of the configuration cannot be removed here. Raises StateStoreError.
        """
        gone = 0

        def without_them(stored: Sequence[PriceOverride]) -> Sequence[PriceOverride] | None:
            nonlocal gone
            rest = [one for one in stored if one.key != (provider_id, model)]
            gone = len(stored) - len(rest)
            return rest if gone else None

        if await self._list.change(without_them):
            self._note("price.removed", {"provider": provider_id, "model": model})
        return gone

    def _take_in(self, stored: Sequence[PriceOverride]) -> None:
        self.book.load(stored)
        self.on_change()

    def _note(self, kind: str, about: Mapping[str, Any]) -> None:
        name = f"{about['provider']}/{about['model']}"
        self._store.post(StoreBatch(events=[StoredEvent(self._clock.utc_now().timestamp(), kind, name, dict(about))]))
