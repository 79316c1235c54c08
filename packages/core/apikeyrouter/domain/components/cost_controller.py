"""Budgets and prices: what a request may cost, whether that fits, and what was spent.

`CostController` is what users and the pipeline talk to; `BudgetBook` keeps the budgets and this worker's leases on
them. The router takes holds on the leases' accounts through the ledger, together with quota, in one step; the store
hears of it a few times a second.

Laws: a hard budget is never overrun by requests within their bounds, at any concurrency and from any number of
processes, and never refuses what fits; a refusal says which budget, and its numbers; amounts in and out are exact
Decimals.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from apikeyrouter.domain.components.budget_book import BudgetBook
from apikeyrouter.domain.components.lessee import Boxes
from apikeyrouter.domain.cost.budgets import BudgetOverrun, BudgetThresholdReached, PriceUnknown, define_budget
from apikeyrouter.domain.cost.lengths import OutputLengths
from apikeyrouter.domain.cost.price_book import PriceBook
from apikeyrouter.domain.cost.quote import quote
from apikeyrouter.domain.cost.ratios import InputRatios
from apikeyrouter.domain.cost.reconcile import Reconciler
from apikeyrouter.domain.cost.refusals import refusal_error
from apikeyrouter.domain.errors import BudgetExceededError, RouterError, UnknownPriceError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.domain.interfaces.shared_ledger import LedgerEntry, UsageQuery, UsageRow
from apikeyrouter.domain.interfaces.state_store import StateStore, StoreBatch, StoredEvent
from apikeyrouter.domain.ledger.accounts import Account
from apikeyrouter.domain.ledger.holds import Refused
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.domain.models.budget import Budget, BudgetCheck, BudgetScope, EnforcementMode
from apikeyrouter.domain.models.cost_estimate import CostEstimate, CostReconciliation
from apikeyrouter.domain.models.quota_state import TimeWindow
from apikeyrouter.domain.models.request_intent import RequestIntent
from apikeyrouter.domain.models.routing_decision import RoutingDecision

__all__ = ["BudgetExceededError", "CostController"]

_CACHE_MAX = 4096
_NO_TAGS: Mapping[str, object] = {}

Event = BudgetThresholdReached | BudgetOverrun | PriceUnknown
Checker = Callable[
    [RequestIntent | Mapping[str, Any], str | None, str | None, Mapping[str, Any] | None], Awaitable[BudgetCheck]
]
"""(request, provider id, key id, tags) -> whether it would fit; the router's, since it knows who could serve."""


class CostController:
    """Budgets and prices of one router.

    `on_event` is told of passed thresholds (each once over all processes) and unknown prices: it must be quick and must
    not raise. `book`: budgets and leases. `checker`: set by the router. `has_budgets`: whether there is any at all.
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
        boxes: Boxes | None = None,
        soft_without_store: bool = True,
    ) -> None:
        self.ledger = ledger
        self.book = BudgetBook(store, clock, on_alert=self._alert, boxes=boxes, soft_without_store=soft_without_store)
        self._store = store
        self._prices = price_book
        self._clock = clock
        self._on_event = on_event
        self.lengths = lengths or OutputLengths()
        self.ratios = InputRatios()
        self.reconciler = Reconciler()
        self._unpriced: set[tuple[str, str]] = set()
        self.checker: Checker | None = None

    @property
    def has_budgets(self) -> bool:
        """Whether any budget exists."""
        return self.book.any

    # -- budgets ----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Takes over the store's budgets. Raises StateStoreError."""
        await self.book.reload()

    async def create_budget(
        self,
        scope: BudgetScope,
        limit: Decimal | int | str,
        period: TimeWindow = TimeWindow.Daily,
        scope_id: str | None = None,
        enforcement_mode: EnforcementMode = EnforcementMode.Hard,
        *,
        rolling: bool = False,
        time_zone: str = "UTC",
        name: str = "",
    ) -> Budget:
        """Creates a budget of `limit` dollars per period; it holds from now on, in every process on the store.

        `scope_id`: provider id, key id, model, virtual key id, team or tag ("feature=search"); None for Global.
        `rolling`: the last hour, day, 7 or 30 days instead of the calendar's. `time_zone`: whose calendar. Several
        budgets may cover the same request: each must have room. Raises BudgetDefinitionError, StateStoreError.
        """
        return await self.book.create(
            define_budget(
                scope,
                scope_id,
                limit,
                period,
                enforcement_mode,
                rolling=rolling,
                time_zone=time_zone,
                name=name,
            )
        )

    async def get_budget(self, budget_id: str) -> Budget:
        """The budget as it stands now, spend of all processes included. Raises BudgetNotFoundError, StateStoreError."""
        return await self.book.get(budget_id)

    async def list_budgets(self, scope: BudgetScope | None = None, scope_id: str | None = None) -> list[Budget]:
        """Every budget, oldest first, as they stand now; of one scope or scope id only, if given."""
        return await self.book.select(scope, scope_id)

    async def update_budget(
        self,
        budget_id: str,
        *,
        limit: Decimal | int | str | None = None,
        enforcement_mode: EnforcementMode | None = None,
        name: str | None = None,
    ) -> Budget:
        """Changes limit, mode or name; what was spent stays spent, and a lower limit leaves running requests alone.

        Raises BudgetNotFoundError, BudgetDefinitionError, StateStoreError.
        """
        return await self.book.update(budget_id, limit=limit, enforcement_mode=enforcement_mode, name=name)

    async def delete_budget(self, budget_id: str) -> None:
        """Removes a budget; nothing limits what it limited. Raises BudgetNotFoundError, StateStoreError."""
        await self.book.delete(budget_id)

    async def check_budget(
        self,
        intent: RequestIntent | Mapping[str, Any],
        provider_id: str | None = None,
        key_id: str | None = None,
        *,
        tags: Mapping[str, Any] | None = None,
    ) -> BudgetCheck:
        """Whether a request would fit now; nothing is held for it. Without `key_id`, for the cheapest key that could
        serve it. Raises KeyNotFoundError, ProviderNotRegisteredError, StateStoreError."""
        if self.checker is None:
            raise RouterError("This cost controller belongs to no router, so nobody knows which key would serve.")
        return await self.checker(intent, provider_id, key_id, tags)

    async def query_spend(self, query: UsageQuery) -> list[UsageRow]:
        """What was used, summed up by the query's fields, dearest first. Raises StateStoreError."""
        return await self._store.query_usage(query)

    async def query_entries(self, budget_id: str, limit: int = 1000) -> list[LedgerEntry]:
        """The ledger's lines of a budget, newest first: what was charged, when, by which worker. Raises
        StateStoreError."""
        return await self._store.query_entries(budget_id, limit=limit)

    def reconciliation(self) -> list[CostReconciliation]:
        """Estimates against charges per provider and model, since this process started."""
        return self.reconciler.reconciliations(self.ratios)

    # -- the path of a request --------------------------------------------------------------------------------------

    def accounts_for(
        self, provider_id: str, key_id: str, model: str, tags: Mapping[str, object] = _NO_TAGS
    ) -> tuple[Account, ...]:
        """The accounts (nano-USD) that a request must be held on; empty when no budget covers it."""
        return self.book.accounts_for(provider_id, key_id, model, tags, now_s=self._clock.monotonic_s())

    def has_hard(self, provider_id: str, key_id: str, model: str, tags: Mapping[str, object] = _NO_TAGS) -> bool:
        """Whether a hard budget covers the request, so that its cost must be bounded beforehand."""
        accounts = self.accounts_for(provider_id, key_id, model, tags)
        return any(line.definition.hard for line in self.book.lines_of(accounts))

    def require_price(self, provider_id: str, key_id: str, model: str, tags: Mapping[str, object] = _NO_TAGS) -> None:
        """Call it when no price is known: raises UnknownPriceError under a hard budget, else tells it once."""
        if self.has_hard(provider_id, key_id, model, tags):
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
        largest_output: int | None = None,
        decision: RoutingDecision | None = None,
    ) -> BudgetExceededError:
        """The error for a hold that a budget refused: which budget, limit, spent, held, what the request could cost,
        and when it resets. `also`: the request's other accounts, so that every budget without room is named.
        `largest_output`: the most output tokens that would fit."""
        accounts = dict.fromkeys((refused.account, *also))
        lines = [line for line in self.book.lines_of(accounts) if line.lease is not None and line.definition.hard]
        short = [line for line in lines if line.lease is not None and not line.lease.has_room(refused.need)] or lines
        utc_s = self.book.lessee.utc_s(self._clock.monotonic_s())
        return refusal_error(refused, short, model=model, utc_s=utc_s, largest_output=largest_output, decision=decision)

    async def estimate_request_cost(
        self,
        intent: RequestIntent,
        provider_id: str,
        key_id: str = "",
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> CostEstimate:
        """What a request will cost: the provable most when a hard budget covers it, what one in twenty exceeds under a
        soft one, else what is likely.

        `metadata`: the key's, for contract prices.
        """
        price = self.price_for(metadata or {}, provider_id, intent.model)
        hard = self.has_hard(provider_id, key_id, intent.model)
        soft = not hard and bool(self.accounts_for(provider_id, key_id, intent.model))
        return quote(intent, price, self.lengths, bound=hard, soft=soft, ratios=self.ratios, provider_id=provider_id)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _alert(self, event: BudgetThresholdReached | BudgetOverrun) -> None:
        about: dict[str, Any] = {"spent_nano_usd": event.spent_nano_usd, "window_id": event.window_id}
        if isinstance(event, BudgetThresholdReached):
            kind, about["percent"] = "budget.threshold", event.percent
        else:
            kind, about["overrun_nano_usd"] = "budget.overrun", event.amount_nano_usd
        at_s = self._clock.utc_now().timestamp()
        self._store.post(StoreBatch(events=[StoredEvent(at_s, kind, event.budget_id, about)]))
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
