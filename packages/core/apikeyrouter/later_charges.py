"""Charges that become known after their request: a batch is paid for when it is done, not when it is handed in.

Main entry: `LaterCharges.book`, which charges budgets and reports once for each thing. What was booked is remembered in
the store, by an exchange that one process wins; so neither a restart nor another process books a thing again.
Laws: at most once: a crash between claim and charge loses that charge, never doubles it; a store that does not answer
books nothing, and the next look tries again. Bounded: the newest 4,096 things of a kind are remembered.
"""

from __future__ import annotations

import logging
import secrets
import zlib
from collections.abc import Mapping

import msgspec

from apikeyrouter.domain.cost.prices import cost_nano_usd
from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.state_store import StoreBatch, StoredEvent
from apikeyrouter.domain.ledger.holds import Hold
from apikeyrouter.pinning import Owner
from apikeyrouter.router import ApiKeyRouter

__all__ = ["LaterCharges"]

_log = logging.getLogger("apikeyrouter")

_BUCKETS = 16
_IN_BUCKET = 256
_TRIES = 100


class LaterCharges:
    """See the module. `router`: whose budgets, prices and reports."""

    def __init__(self, router: ApiKeyRouter) -> None:
        self._router = router
        self._known: set[tuple[str, str]] = set()

    async def book(
        self, kind: str, thing_id: str, owner: Owner, model: str, usage: Usage, tags: Mapping[str, object]
    ) -> int | None:
        """Charges it, unless that was done; returns the nano-dollars, None when nothing was booked now.

        `owner`: provider id and key id. `tags`: of whoever pays. Without a price only tokens are reported.
        """
        if (kind, thing_id) in self._known:
            return None
        try:
            if not await self._claim(kind, thing_id):
                return None
        except StateStoreError as error:
            _log.warning("What %s %s cost is booked later: %s", kind, thing_id, error.message)
            return None
        return self._charge(kind, thing_id, owner, model, usage, tags)

    def booked(self, kind: str, thing_id: str) -> bool:
        """Whether it is known here that it was charged, by whomever. After `book`, False means that the store did not
        answer."""
        return (kind, thing_id) in self._known

    def _charge(
        self, kind: str, thing_id: str, owner: Owner, model: str, usage: Usage, tags: Mapping[str, object]
    ) -> int:
        router, (provider_id, key_id) = self._router, owner
        record = next((one for one in router.key_manager.records(provider_id) if one.key_id == key_id), None)
        metadata = record.metadata if record is not None else {}
        price = router.cost_controller.price_for(metadata, provider_id, model)
        cost = cost_nano_usd(price, usage) if price is not None else 0
        accounts = router.cost_controller.book.accounts_for(provider_id, key_id, model, tags, now_s=router.now_s())
        hold = router.ledger.try_hold([(account, 0) for account in accounts])
        if isinstance(hold, Hold):  # lines of 0 are never refused
            hold.dispatch()
            hold.settle([cost] * len(accounts))
        now = router.journal.utc_now().timestamp()
        router.journal.spent_nano_usd += cost
        router.journal.meter.late(tags, owner, model, usage, cost, at_utc_s=now)
        about = {
            "provider": provider_id, "key": key_id, "model": model, "nano_usd": cost, "priced": price is not None,
            "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens,
        }  # fmt: skip
        router.state_store.post(StoreBatch(events=[StoredEvent(now, f"{kind}.charged", thing_id, about)]))
        return cost

    async def _claim(self, kind: str, thing_id: str) -> bool:
        """Whether it is ours to charge: nobody did before. Raises StateStoreError."""
        store = self._router.state_store
        name = f"charged/{kind}/{zlib.crc32(thing_id.encode('utf-8', 'surrogatepass')) % _BUCKETS:x}"
        for _ in range(_TRIES):
            before = await store.get_setting(name)
            claims = msgspec.json.decode(before, type=list[tuple[str, str]]) if before else []
            if any(thing_id == claimed for claimed, _ in claims):
                self._remember(kind, thing_id)
                return False
            # our mark makes what we write differ from what another process writes about the same thing
            after = msgspec.json.encode([*claims, (thing_id, secrets.token_hex(4))][-_IN_BUCKET:])
            if await store.put_setting(name, after, only_if_absent=before is None, only_if=before) == after:
                self._remember(kind, thing_id)
                return True
        raise StateStoreError("other processes write all the time")

    def _remember(self, kind: str, thing_id: str) -> None:
        if len(self._known) >= _BUCKETS * _IN_BUCKET:
            self._known.clear()
        self._known.add((kind, thing_id))
