"""Budgets and prices: what a request may cost, whether that fits, and what was spent.

`CostController` keeps the budgets' accounts; the router takes holds on them through the ledger, together with quota, in
one step. Settled spend is written behind: `flush` posts what changed since the last time, so the store is never on the
path of a request.

Laws: a hard budget is never overrun by requests within their bounds, at any concurrency in this process, and never
refuses what fits; a refusal says which budget, and its numbers; amounts in and out are exact Decimals.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from apikeyrouter.domain.cost.budgets import (
    BudgetLine,
    BudgetThresholdReached,
    PriceUnknown,
    define_budget,
    limit_to_nano_usd,
    mode_of,
)
from apikeyrouter.domain.cost.estimate import OutputLengths
from apikeyrouter.domain.cost.price_book import PriceBook
from apikeyrouter.domain.cost.prices import to_decimal_usd
from apikeyrouter.domain.cost.quote import quote
from apikeyrouter.domain.cost.refusals import refusal_error
from apikeyrouter.domain.errors import BudgetExceededError, BudgetNotFoundError, UnknownPriceError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.domain.interfaces.state_store import StateStore, StoreBatch, StoredBudget, StoredEvent
from apikeyrouter.domain.ledger.accounts import Account
from apikeyrouter.domain.ledger.holds import Refused
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.domain.models.budget import Budget, BudgetScope, EnforcementMode
from apikeyrouter.domain.models.cost_estimate import CostEstimate
from apikeyrouter.domain.models.quota_state import TimeWindow
from apikeyrouter.domain.models.request_intent import RequestIntent
from apikeyrouter.domain.models.routing_decision import RoutingDecision

__all__ = ["BudgetExceededError", "CostController"]

_CACHE_MAX = 4096

Event = BudgetThresholdReached | PriceUnknown


class CostController:
    """Budgets of one router.

    `on_event` is told of passed thresholds and unknown prices, from within a settlement: it must be quick and must not
    raise. `has_budgets`: whether there is any at all; without budgets the path of a request skips everything here.
    """

    def __init__(
        self,
        store: StateStore,
        ledger: Ledger,
        price_book: PriceBook,
        clock: Clock,
        *,
        on_event: Callable[[Event], None] | None = None,
        lengths: OutputLengths | None = None,
    ) -> None:
        self.ledger = ledger
        self.has_budgets = False
        self._store = store
        self._prices = price_book
        self._clock = clock
        self._on_event = on_event
        self._lengths = lengths or OutputLengths()
        self._lines: dict[str, BudgetLine] = {}
        self._accounts: dict[tuple[str, str, str], tuple[Account, ...]] = {}
        self._unpriced: set[tuple[str, str]] = set()

    # -- budgets ----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Loads the budgets of the store that are not known yet, with what the running periods have spent.

        Raises StateStoreError.
        """
        for row in await self._store.load_budgets():
            if row.budget_id not in self._lines:
                self._lines[row.budget_id] = self._line_of(row)
        self._changed()

    async def create_budget(
        self,
        scope: BudgetScope,
        limit: Decimal | int | str,
        period: TimeWindow = TimeWindow.Daily,
        scope_id: str | None = None,
        enforcement_mode: EnforcementMode = EnforcementMode.Hard,
    ) -> Budget:
        """Creates a budget of `limit` dollars per period; it holds from now on, and survives a restart.

        `scope_id`: provider id, key id or model for PerProvider, PerKey and PerRoute; None for Global. Several budgets
        may cover the same request: each must have room. Raises BudgetDefinitionError, StateStoreError.
        """
        definition = define_budget(scope, scope_id, limit, period, enforcement_mode)
        line = BudgetLine(
            f"budget_{secrets.token_hex(6)}",
            definition,
            self._clock,
            created_at_s=self._clock.utc_now().timestamp(),
            on_alert=self._alert,
        )
        await self._write(line, "budget.created")
        self._lines[line.budget_id] = line
        self._changed()
        return line.snapshot(self._clock.monotonic_s())

    async def get_budget(self, budget_id: str) -> Budget:
        """The budget as it stands now. Raises BudgetNotFoundError."""
        return self._line(budget_id).snapshot(self._clock.monotonic_s())

    async def list_budgets(self, scope: BudgetScope | None = None, scope_id: str | None = None) -> list[Budget]:
        """Every budget, oldest first, as they stand now; of one scope or scope id only, if given."""
        now_s = self._clock.monotonic_s()
        return [
            line.snapshot(now_s)
            for line in self._lines.values()
            if (scope is None or line.definition.scope == scope)
            and (scope_id is None or line.definition.scope_id == scope_id)
        ]

    async def update_budget(
        self,
        budget_id: str,
        *,
        limit: Decimal | int | str | None = None,
        enforcement_mode: EnforcementMode | None = None,
    ) -> Budget:
        """Changes limit or mode; what was spent stays spent, and a lower limit leaves running requests alone.

        Raises BudgetNotFoundError, BudgetDefinitionError, StateStoreError.
        """
        line = self._line(budget_id)
        before = line.definition
        after = replace(
            before,
            limit_nano_usd=before.limit_nano_usd if limit is None else limit_to_nano_usd(limit),
            mode=before.mode if enforcement_mode is None else mode_of(enforcement_mode),
        )
        line.redefine(after)
        written = False
        try:
            await self._write(line, "budget.updated")
            written = True
        finally:  # on cancellation too
            if not written:
                line.redefine(before)
        return line.snapshot(self._clock.monotonic_s())

    async def delete_budget(self, budget_id: str) -> None:
        """Removes a budget; requests under way settle as if it were there. Raises BudgetNotFoundError,
        StateStoreError."""
        line = self._line(budget_id)
        del self._lines[budget_id]  # first, or a flush meanwhile would write it back
        self._changed()
        deleted = False
        try:
            await self._write(line, "budget.deleted", status="deleted")
            deleted = True
        finally:  # on cancellation too
            if not deleted:
                self._lines[budget_id] = line
                self._changed()

    def flush(self) -> None:
        """Posts the budgets whose spend changed since the last call. Call it every now and then, and before closing."""
        now_s = self._clock.monotonic_s()
        changed = []
        for line in self._lines.values():
            row = line.row(now_s)
            if row != line.posted:
                line.posted = row
                changed.append(row)
        if changed:
            self._store.post(StoreBatch(budgets=changed))

    # -- the path of a request --------------------------------------------------------------------------------------

    def accounts_for(self, provider_id: str, key_id: str, model: str) -> tuple[Account, ...]:
        """The accounts (nano-USD) that a request must be held on; empty when no budget covers it."""
        if not self.has_budgets:
            return ()
        key = (provider_id, key_id, model)
        found = self._accounts.get(key)
        if found is None:
            if len(self._accounts) >= _CACHE_MAX:
                self._accounts.clear()
            found = tuple(line.account for line in self._lines.values() if line.covers(*key))
            self._accounts[key] = found
        return found

    def has_hard(self, provider_id: str, key_id: str, model: str) -> bool:
        """Whether a hard budget covers the request, so that its cost must be bounded beforehand."""
        return any(account.hard for account in self.accounts_for(provider_id, key_id, model))

    def require_price(self, provider_id: str, key_id: str, model: str) -> None:
        """Call it when no price is known: raises UnknownPriceError under a hard budget, else tells it once."""
        if self.has_hard(provider_id, key_id, model):
            raise UnknownPriceError(
                f"No price is known for model {model!r} at provider {provider_id!r}, and a hard budget covers it, so "
                "what it may cost cannot be bounded. Register the key with metadata such as {'cost_per_1k': '0.01'}, "
                "or make the budget soft.",
                model=model,
                provider_id=provider_id,
            )
        self._tell_unpriced(provider_id, model, "no price list knows it")

    def price_for(self, metadata: Mapping[str, Any], provider_id: str, model: str) -> ModelPrice | None:
        """What `model` costs with a key of this metadata, or None when nobody knows.

        Metadata that makes no sense counts as unknown, and is told: one bad key must not stop the others.
        """
        try:
            return self._prices.resolve(provider_id, model, metadata)
        except ValueError as fault:
            self._tell_unpriced(provider_id, model, f"key metadata: {fault}")
            return None

    def refusal_error(
        self,
        refused: Refused,
        model: str = "",
        *,
        also: Sequence[Account] = (),
        decision: RoutingDecision | None = None,
    ) -> BudgetExceededError:
        """The error for a hold that a budget refused: which budget, limit, spent, held, what the request could cost,
        and when it resets. `also`: the request's other accounts, so that every budget without room is named."""
        now_s = self._clock.monotonic_s()
        short = [
            self._lines[account.id]
            for account in dict.fromkeys((refused.account, *also))
            if account.id in self._lines and account.hard and (account.free(now_s) or 0) < refused.need
        ]
        return refusal_error(refused, short, model=model, now_s=now_s, utc=self._clock.utc_now(), decision=decision)

    async def estimate_request_cost(
        self,
        intent: RequestIntent,
        provider_id: str,
        key_id: str = "",
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> CostEstimate:
        """What a request will cost: the provable most when a hard budget covers it, else what is likely.

        `metadata`: the key's, for contract prices.
        """
        price = self.price_for(metadata or {}, provider_id, intent.model)
        return quote(intent, price, self._lengths, bound=self.has_hard(provider_id, key_id, intent.model))

    # -- inside -----------------------------------------------------------------------------------------------------

    def _line(self, budget_id: str) -> BudgetLine:
        line = self._lines.get(budget_id)
        if line is None:
            raise BudgetNotFoundError(f"No budget has the id {budget_id!r}. `list_budgets()` shows those that exist.")
        return line

    def _line_of(self, row: StoredBudget) -> BudgetLine:
        limit = to_decimal_usd(row.limit_nano_usd)
        return BudgetLine(
            row.budget_id,
            define_budget(row.scope, row.scope_id, limit, row.period, row.mode),
            self._clock,
            created_at_s=row.created_at_s,
            on_alert=self._alert,
            warning_count=row.warning_count,
            spent=(row.window_id, row.spent_nano_usd),
        )

    async def _write(self, line: BudgetLine, kind: str, *, status: str = "active") -> None:
        definition = line.definition
        about = {
            "scope": definition.scope.value,
            "scope_id": definition.scope_id,
            "limit_nano_usd": definition.limit_nano_usd,
            "period": definition.period.value,
            "mode": definition.mode.value,
        }
        event = StoredEvent(self._clock.utc_now().timestamp(), kind, line.budget_id, about)
        row = line.row(self._clock.monotonic_s(), status)
        await self._store.apply(StoreBatch(budgets=[row], events=[event]))
        line.posted = row

    def _changed(self) -> None:
        self._accounts.clear()
        self.has_budgets = bool(self._lines)

    def _alert(self, event: BudgetThresholdReached) -> None:
        about = {"percent": event.percent, "spent_nano_usd": event.spent_nano_usd, "window_id": event.window_id}
        at_s = self._clock.utc_now().timestamp()
        self._store.post(StoreBatch(events=[StoredEvent(at_s, "budget.threshold", event.budget_id, about)]))
        if self._on_event is not None:
            self._on_event(event)

    def _tell_unpriced(self, provider_id: str, model: str, reason: str) -> None:
        if (provider_id, model) in self._unpriced:
            return
        if len(self._unpriced) >= _CACHE_MAX:
            self._unpriced.clear()
        self._unpriced.add((provider_id, model))
        if self._on_event is not None:
            self._on_event(PriceUnknown(provider_id, model, reason))
