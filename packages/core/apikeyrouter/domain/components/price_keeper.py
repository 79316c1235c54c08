"""Prices that are set while the router runs: kept in the store, and the same in every process on it.

`PriceKeeper` owns the router's `PriceBook`. Overrides are one blob among the store's settings; whoever changes one
reads the blob first and replaces only what it has read, and every process that follows the store's changes reads it
again.
Laws: a price is durable when `set_price` returns, and holds for requests that are decided afterwards: those under way,
and old ones, keep the price of their time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from apikeyrouter.domain.cost.overrides import PriceOverride, read_override
from apikeyrouter.domain.cost.price_book import PriceBook
from apikeyrouter.domain.errors import ConfigurationError, StateStoreError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.price_source import ModelPrice, PriceSource
from apikeyrouter.domain.interfaces.state_store import StateStore, StoreBatch, StoredEvent

__all__ = ["SETTING", "PriceKeeper"]

_Told = Callable[[frozenset[str] | None], Awaitable[None]]

SETTING = "prices.overrides"
"""The name of the blob: a JSON list of overrides as they were written."""

_TRIES = 100
"""Each try that fails is another process's success."""


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
        self._writing = asyncio.Lock()
        self._blob: bytes | None = None
        self._due_s = 0.0

    def follow(self, subscribe: Callable[[str, _Told], None], on_change: Callable[[], None]) -> None:
        """Hears of other processes by `subscribe` (of the store's feed), and tells of other prices by `on_change`."""
        subscribe("setting", self.changed)
        self.on_change = on_change

    async def open(self) -> None:
        """Loads the overrides. Raises StateStoreError."""
        await self._load()

    async def changed(self, ids: frozenset[str] | None) -> None:
        """For the store's feed of changed settings. Raises StateStoreError."""
        if ids is None or SETTING in ids:
            await self._load()

    def configure(self, overrides: Sequence[PriceOverride]) -> None:
        """The configuration's prices are these from now on."""
        self.book.configure(overrides)
        self.on_change()

    def tick(self) -> None:
        """Call it every now and then: says `on_change` when a dated or hourly price has begun or ended."""
        now_s = self._clock.monotonic_s()
        due_s, self._due_s = self._due_s, self.book.changes_at_s()
        if now_s >= min(due_s, self._due_s) and due_s > 0.0:
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

        def put() -> bool:
            self.book.set_override(override)
            return True

        async with self._writing:
            await self._change(put, "price.set", override.document)
        return override

    async def remove_price(self, provider_id: str, model: str) -> int:
        """Removes the prices that were set for exactly this provider and model; returns how many there were.

        Prices of the configuration cannot be removed here. Raises StateStoreError.
        """
        gone = 0

        def remove() -> bool:
            nonlocal gone
            gone = self.book.remove_override(provider_id, model)
            return gone > 0

        async with self._writing:
            await self._change(remove, "price.removed", {"provider": provider_id, "model": model})
        return gone

    async def _load(self) -> None:
        blob = await self._store.get_setting(SETTING)
        if blob == self._blob:
            return
        try:
            overrides = [read_override(row) for row in json.loads(blob or b"[]")]
        except ValueError as fault:
            raise StateStoreError(f"The prices in the store ({SETTING}) cannot be read: {fault}") from None
        self._blob = blob
        self.book.load(overrides)
        self.on_change()

    async def _change(self, change: Callable[[], bool], kind: str, about: Mapping[str, Any]) -> None:
        """Changes the overrides as they are now in the store; where another process was faster, once more."""
        for _ in range(_TRIES):
            await self._load()
            before = self.book.stored
            if not change():
                return
            if await self._save(before):
                break
        else:
            raise StateStoreError("Other processes change prices all the time, so this one was not set. Try again.")
        self.on_change()
        name = f"{about['provider']}/{about['model']}"
        self._store.post(StoreBatch(events=[StoredEvent(self._clock.utc_now().timestamp(), kind, name, dict(about))]))

    async def _save(self, before: tuple[PriceOverride, ...]) -> bool:
        """Writes the overrides, unless others are stored than those that were changed: then False, and nothing is."""
        blob = json.dumps([dict(one.document) for one in self.book.stored]).encode()
        absent = self._blob is None
        saved = False
        try:
            stored = await self._store.put_setting(SETTING, blob, only_if_absent=absent, only_if=self._blob)
            saved = stored == blob
        finally:  # on cancellation too
            if not saved:
                self.book.load(before)
        if saved:
            self._blob = blob
        return saved
