"""Budgets: exact under concurrency, across periods and restarts; refusals that say why."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from apikeyrouter.domain.components.cost_controller import BudgetExceededError, CostController
from apikeyrouter.domain.cost.budgets import BudgetOverrun, BudgetThresholdReached, PriceUnknown
from apikeyrouter.domain.cost.prices import cost_nano_usd
from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.errors import BudgetDefinitionError, BudgetNotFoundError, StateStoreError, UnknownPriceError
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.domain.interfaces.shared_ledger import LeaseAsk, LeaseReply, LeaseWorker
from apikeyrouter.domain.interfaces.state_store import StateQuery, StoreBatch
from apikeyrouter.domain.ledger.accounts import Account
from apikeyrouter.domain.ledger.holds import Hold, Refused
from apikeyrouter.domain.ledger.leases import Lease, Waiter
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.domain.models.budget import BudgetScope, EnforcementMode, TimeWindow
from apikeyrouter.domain.models.request_intent import Message, RequestIntent
from apikeyrouter.infrastructure.pricing.catalogue import PriceBook
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.testing.virtual_time import ManualClock
from tests.support.price_lists import StaticPriceSource

CENT = 10_000_000
MINI = ModelPrice(150_000_000, 600_000_000)

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Bench:
    """A controller with everything it stands on."""

    def __init__(self, store: MemoryStateStore | None = None, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock(utc=NOON)
        self.store = store or MemoryStateStore(clock=self.clock)
        self.ledger = Ledger(self.clock)
        self.events: list[BudgetThresholdReached | BudgetOverrun | PriceUnknown] = []
        book = PriceBook(StaticPriceSource({"mini": MINI}))
        self.costs = CostController(self.store, self.ledger, book, self.clock, on_event=self.events.append)

    def accounts(self) -> tuple[Account, ...]:
        return self.costs.accounts_for("openai", "key-1", "mini")

    def leases(self) -> list[Lease]:
        """The leases behind `accounts`."""
        found = [self.costs.book.lease_of(account) for account in self.accounts()]
        return [lease for lease in found if lease is not None]

    async def hold(self, nano: int) -> Hold | Refused:
        """Holds; when this worker's slices are too small, asks the store for as much, as a waiting request does."""
        held = self.try_hold(nano)
        if isinstance(held, Refused):
            waiters = [Waiter(nano, lambda _: None) for _ in self.leases()]
            for lease, waiter in zip(self.leases(), waiters, strict=True):
                lease.enqueue(waiter)
            await self.sync()
            for lease, waiter in zip(self.leases(), waiters, strict=True):
                lease.leave(waiter)
            held = self.try_hold(nano)
        return held

    def try_hold(self, nano: int) -> Hold | Refused:
        return self.ledger.try_hold([(account, nano) for account in self.accounts()])

    async def sync(self) -> None:
        """One round with the store."""
        await self.costs.book.lessee.step()

    async def spend(self, nano: int) -> None:
        hold = await self.hold(nano)
        assert isinstance(hold, Hold)
        hold.dispatch()
        hold.settle([nano] * len(hold.lines))

    async def refuse(self, nano: int) -> BudgetExceededError:
        refused = await self.hold(nano)
        assert isinstance(refused, Refused)
        return self.costs.refusal_error(refused, "mini", also=self.accounts())


async def test_a_budget_reads_back_as_created() -> None:
    bench = Bench()
    budget = await bench.costs.create_budget(
        scope=BudgetScope.Global,
        limit=Decimal("100.00"),
        period=TimeWindow.Daily,
        enforcement_mode=EnforcementMode.Hard,
    )
    assert (budget.limit_amount, budget.current_spend, budget.held) == (Decimal(100), Decimal(0), Decimal(0))
    assert budget.reset_at == datetime(2026, 11, 22, tzinfo=UTC)
    assert await bench.costs.get_budget(budget.id) == budget
    assert await bench.costs.list_budgets() == [budget]


async def test_64_racing_tasks_never_overspend_and_never_are_refused_what_fits() -> None:
    bench = Bench()
    budget = await bench.costs.create_budget(BudgetScope.Global, "1.00")
    rng = random.Random(7)
    limit = 100 * CENT
    spent = pending = served = refusals = 0

    async def one_request() -> None:
        nonlocal spent, pending, served, refusals
        for _ in range(20):
            bound = rng.randrange(1, 4 * CENT)
            actual = rng.randrange(0, bound + 1)
            hold = await bench.hold(bound)
            fits = spent + pending + bound <= limit  # an independent, naive ledger; nothing ran since the last look
            if not isinstance(hold, Hold):
                assert not fits
                refusals += 1
                await asyncio.sleep(0)
                continue
            pending += bound
            hold.dispatch()
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            hold.settle([actual])
            pending -= bound
            spent += actual
            served += 1

    await asyncio.gather(*(one_request() for _ in range(64)))
    after = await bench.costs.get_budget(budget.id)
    assert served > 60
    assert refusals > 100
    assert bench.ledger.at_rest
    assert after.current_spend == Decimal(spent).scaleb(-9) <= Decimal(1)
    assert after.held == 0


async def test_ten_requests_of_a_tenth_cent_fit_a_cent_exactly() -> None:
    bench = Bench()
    budget = await bench.costs.create_budget(BudgetScope.Global, "0.01")
    for _ in range(10):
        await bench.spend(CENT // 10)
    assert isinstance(await bench.hold(1), Refused)
    after = await bench.costs.get_budget(budget.id)
    assert str(after.current_spend) == "0.01"
    assert after.remaining_budget == 0
    assert after.is_exceeded


async def test_spend_is_the_price_of_the_usage_to_the_nano_dollar() -> None:
    bench = Bench()
    budget = await bench.costs.create_budget(BudgetScope.Global, 1)
    for _ in range(3):
        await bench.spend(cost_nano_usd(MINI, Usage(1234, 567)))
    assert (await bench.costs.get_budget(budget.id)).current_spend == Decimal("0.0015759")


async def test_every_scope_covers_its_own_and_no_more() -> None:
    bench = Bench()
    created = [
        await bench.costs.create_budget(BudgetScope.Global, 1),
        await bench.costs.create_budget(BudgetScope.PerProvider, 1, scope_id="openai"),
        await bench.costs.create_budget(BudgetScope.PerKey, 1, scope_id="key-1"),
        await bench.costs.create_budget(BudgetScope.PerRoute, 1, scope_id="mini"),
    ]

    def covering(*request: str) -> list[int]:
        ids = [account.id for account in bench.costs.accounts_for(*request)]
        return [place for place, budget in enumerate(created) if budget.id in ids]

    assert covering("openai", "key-1", "mini") == [0, 1, 2, 3]
    assert covering("openai", "key-2", "maxi") == [0, 1]
    assert covering("other", "key-2", "mini") == [0, 3]
    await bench.costs.delete_budget(created[0].id)
    assert covering("other", "key-2", "maxi") == []
    assert [b.id for b in await bench.costs.list_budgets(BudgetScope.PerKey)] == [created[2].id]
    assert [b.id for b in await bench.costs.list_budgets(scope_id="mini")] == [created[3].id]


async def test_a_refusal_by_one_budget_takes_nothing_from_the_others() -> None:
    bench = Bench()
    await bench.costs.create_budget(BudgetScope.Global, 10)
    tight = await bench.costs.create_budget(BudgetScope.PerKey, "0.01", scope_id="key-1")
    error = await bench.refuse(2 * CENT)
    assert error.violated_budgets == [tight.id]
    assert [budget.held for budget in await bench.costs.list_budgets()] == [0, 0]


async def test_a_refusal_says_which_budget_and_all_its_numbers() -> None:
    bench = Bench()
    budget = await bench.costs.create_budget(BudgetScope.PerRoute, "0.05", scope_id="mini")
    await bench.spend(2 * CENT)
    await bench.hold(CENT)
    error = await bench.refuse(4 * CENT)
    for word in (
        budget.id,
        "per_route mini",
        "daily",
        "$0.05",
        "spent $0.02",
        "$0.01",
        "$0.04",
        "2026-11-22 00:00 UTC",
    ):
        assert word in error.message
    assert (error.remaining_budget, error.cost_estimate) == (Decimal("0.02"), Decimal("0.04"))
    assert (error.budget_limit, error.status, error.retry_after) == (Decimal("0.05"), 402, 12 * 3600)
    assert error.details["violated_budgets"] == [budget.id]


async def test_a_refusal_names_every_budget_without_room_and_the_tightest_numbers() -> None:
    bench = Bench()
    wide = await bench.costs.create_budget(BudgetScope.Global, "0.03", TimeWindow.Monthly)
    tight = await bench.costs.create_budget(BudgetScope.PerKey, "0.02", TimeWindow.Total, scope_id="key-1")
    error = await bench.refuse(4 * CENT)
    assert error.violated_budgets == [wide.id, tight.id]
    assert error.budget_limit == Decimal("0.02")


@pytest.mark.parametrize(
    ("period", "spent", "held", "need", "advice", "retry_after"),
    [
        (TimeWindow.Daily, 0, 3, 4, "when they settle", 1.0),
        (TimeWindow.Daily, 0, 0, 6, "can never fit", None),
        (TimeWindow.Total, 3, 0, 3, "never resets", None),
    ],
)
async def test_a_refusal_gives_advice_that_is_true_and_no_false_retry_after(
    period: TimeWindow, spent: int, held: int, need: int, advice: str, retry_after: float | None
) -> None:
    bench = Bench()
    await bench.costs.create_budget(BudgetScope.Global, "0.05", period)
    await bench.spend(spent * CENT)
    await bench.hold(held * CENT)
    error = await bench.refuse(need * CENT)
    assert advice in error.message
    assert error.retry_after == retry_after


async def test_a_new_day_brings_a_fresh_budget_and_late_settlements_stay_in_the_old() -> None:
    bench = Bench()
    budget = await bench.costs.create_budget(BudgetScope.Global, "0.05")
    running = await bench.hold(5 * CENT)
    assert isinstance(running, Hold)
    running.dispatch()
    bench.clock.advance(12 * 3600)
    today = await bench.costs.get_budget(budget.id)
    assert (today.held, today.reset_at) == (0, datetime(2026, 11, 23, tzinfo=UTC))
    await bench.spend(5 * CENT)
    running.settle([5 * CENT])
    assert (await bench.costs.get_budget(budget.id)).current_spend == Decimal("0.05")
    assert bench.ledger.at_rest


async def test_a_restart_restores_the_spend_of_the_running_period_only() -> None:
    clock = ManualClock(utc=datetime(2026, 11, 21, 12, tzinfo=UTC))
    store = MemoryStateStore(clock=clock)
    first = Bench(store, clock)
    daily = await first.costs.create_budget(BudgetScope.Global, "0.05")
    monthly = await first.costs.create_budget(BudgetScope.PerKey, "0.09", TimeWindow.Monthly, scope_id="key-1")
    await first.spend(3 * CENT)
    await first.costs.book.lessee.aclose()

    second = Bench(store, clock)
    await second.costs.open()
    restored = {budget.id: budget for budget in await second.costs.list_budgets()}
    assert [restored[b.id].current_spend for b in (daily, monthly)] == [Decimal("0.03"), Decimal("0.03")]
    assert restored[daily.id].held == 0
    assert isinstance(await second.hold(3 * CENT), Refused)
    await second.spend(2 * CENT)
    await second.costs.book.lessee.aclose()

    clock.advance(24 * 3600)
    third = Bench(store, clock)
    await third.costs.open()
    spends = {budget.id: budget.current_spend for budget in await third.costs.list_budgets()}
    assert spends == {daily.id: Decimal(0), monthly.id: Decimal("0.05")}


class CountingStore(MemoryStateStore):
    """A memory store that counts leases, and can be made to fail."""

    asked = 0
    fails = False

    async def lease(self, worker: LeaseWorker, asks: Sequence[LeaseAsk]) -> LeaseReply:
        self.asked += 1
        return await super().lease(worker, asks)

    async def apply(self, batch: StoreBatch) -> None:
        if self.fails:
            raise StateStoreError("the disk is full")
        await super().apply(batch)


async def test_the_store_is_asked_in_slices_and_not_for_each_request() -> None:
    clock = ManualClock(utc=NOON)
    store = CountingStore(clock=clock)
    bench = Bench(store, clock)
    await bench.costs.create_budget(BudgetScope.Global, 1000)
    await bench.costs.create_budget(BudgetScope.PerKey, 1, scope_id="another")
    await bench.spend(CENT)
    asked = store.asked
    for _ in range(5):
        await bench.spend(CENT)
    assert store.asked == asked
    await bench.sync()
    await bench.sync()
    assert store.asked == asked + 1


async def test_what_the_store_refuses_has_not_happened() -> None:
    clock = ManualClock(utc=NOON)
    store = CountingStore(clock=clock)
    bench = Bench(store, clock)
    budget = await bench.costs.create_budget(BudgetScope.Global, "0.05")
    store.fails = True
    attempts: Sequence[Callable[[], Awaitable[Any]]] = (
        lambda: bench.costs.create_budget(BudgetScope.Global, "0.01"),
        lambda: bench.costs.update_budget(budget.id, limit="0.01"),
        lambda: bench.costs.delete_budget(budget.id),
    )
    for attempt in attempts:
        with pytest.raises(StateStoreError):
            await attempt()
    assert [b.limit_amount for b in await bench.costs.list_budgets()] == [Decimal("0.05")]
    assert isinstance(await bench.hold(5 * CENT), Hold)


async def test_an_update_that_makes_no_sense_changes_nothing() -> None:
    bench = Bench()
    budget = await bench.costs.create_budget(BudgetScope.Global, "0.05")
    wrong: list[dict[str, Any]] = [{"limit": "-1"}, {"limit": "0.01", "enforcement_mode": "gentle"}]
    for change in wrong:
        with pytest.raises(BudgetDefinitionError):
            await bench.costs.update_budget(budget.id, **change)
    assert await bench.costs.get_budget(budget.id) == budget


async def test_a_deleted_budget_stays_deleted_and_lets_running_requests_settle() -> None:
    bench = Bench()
    budget = await bench.costs.create_budget(BudgetScope.Global, "0.05")
    running = await bench.hold(5 * CENT)
    assert isinstance(running, Hold)
    running.dispatch()
    await bench.costs.delete_budget(budget.id)
    running.settle([CENT])
    await bench.sync()
    assert (bench.accounts(), bench.costs.has_budgets) == ((), False)
    again = Bench(bench.store, bench.clock)
    await again.costs.open()
    assert await again.costs.list_budgets() == []
    for call in (bench.costs.get_budget, bench.costs.delete_budget, bench.costs.update_budget):
        with pytest.raises(BudgetNotFoundError):
            await call(budget.id)


async def test_a_changed_limit_holds_at_once_and_spend_stays() -> None:
    bench = Bench()
    budget = await bench.costs.create_budget(BudgetScope.Global, "0.05")
    await bench.spend(3 * CENT)
    lowered = await bench.costs.update_budget(budget.id, limit="0.02")
    assert (lowered.current_spend, lowered.remaining_budget) == (Decimal("0.03"), Decimal(0))
    assert isinstance(await bench.hold(1), Refused)
    await bench.costs.update_budget(budget.id, limit="0.04")
    await bench.spend(CENT)
    await bench.costs.update_budget(budget.id, enforcement_mode=EnforcementMode.Soft)
    await bench.spend(CENT)
    again = Bench(bench.store, bench.clock)
    await bench.sync()
    await again.costs.open()
    stored = await again.costs.get_budget(budget.id)
    assert (stored.limit_amount, stored.enforcement_mode) == (Decimal("0.04"), EnforcementMode.Soft)


async def test_a_soft_budget_never_refuses_and_warns_once_at_each_mark() -> None:
    bench = Bench()
    budget = await bench.costs.create_budget(BudgetScope.Global, "1", enforcement_mode=EnforcementMode.Soft)
    marks: list[list[int]] = []
    for cents in (49, 1, 29, 1, 18, 5, 200):
        bench.events.clear()
        await bench.spend(cents * CENT)
        await bench.sync()
        marks.append([event.percent for event in bench.events if isinstance(event, BudgetThresholdReached)])
    assert marks == [[], [50], [], [80], [95], [100], []]
    after = await bench.costs.get_budget(budget.id)
    assert (after.current_spend, after.warning_count, after.is_exceeded) == (Decimal("3.03"), 4, True)
    logged = await bench.store.query_events(StateQuery("budget.threshold", limit=10))
    assert sorted(event.document["percent"] for event in logged) == [50, 80, 95, 100]


async def test_marks_are_told_again_in_the_next_period_but_not_after_a_restart() -> None:
    bench = Bench()
    await bench.costs.create_budget(BudgetScope.Global, "1")
    await bench.spend(60 * CENT)
    await bench.sync()
    again = Bench(bench.store, bench.clock)
    await again.costs.open()
    await again.spend(10 * CENT)
    await again.sync()
    assert again.events == []
    bench.clock.advance(12 * 3600)
    await again.spend(85 * CENT)
    await again.sync()
    assert [event.percent for event in again.events if isinstance(event, BudgetThresholdReached)] == [50, 80]


async def test_an_unknown_price_is_an_error_under_a_hard_budget_and_told_once_otherwise() -> None:
    bench = Bench()
    bench.costs.require_price("openai", "key-1", "mystery")
    bench.costs.require_price("openai", "key-1", "mystery")
    assert bench.events == [PriceUnknown("openai", "mystery", "no price list knows it")]
    await bench.costs.create_budget(BudgetScope.PerKey, 1, scope_id="key-1", enforcement_mode=EnforcementMode.Soft)
    bench.costs.require_price("openai", "key-1", "mystery")
    await bench.costs.create_budget(BudgetScope.PerKey, 1, scope_id="key-1")
    with pytest.raises(UnknownPriceError, match="'mystery'"):
        bench.costs.require_price("openai", "key-1", "mystery")
    bench.costs.require_price("openai", "key-2", "mystery")


async def test_metadata_that_makes_no_sense_is_no_price_and_is_told() -> None:
    bench = Bench()
    assert bench.costs.price_for({"cost_per_1k": "0.001"}, "openai", "any") is not None
    assert bench.costs.price_for({}, "openai", "mini") == MINI
    assert bench.costs.price_for({"cost_per_1k": 1, "cost_per_1m": 1}, "openai", "mini") is None
    assert isinstance(bench.events[0], PriceUnknown)
    assert "cost_per_1m" in bench.events[0].reason


async def test_an_estimate_is_a_bound_under_a_hard_budget_and_an_expectation_without() -> None:
    bench = Bench()
    intent = RequestIntent(
        model="mini", messages=[Message(role="user", content="Hello!")], parameters={"max_tokens": 100}
    )
    likely = await bench.costs.estimate_request_cost(intent, "openai", "key-1")
    assert (likely.estimation_method, likely.output_tokens_estimate) == ("expected", 100)
    await bench.costs.create_budget(BudgetScope.Global, 1)
    bound = await bench.costs.estimate_request_cost(intent, "openai", "key-1")
    assert (bound.estimation_method, bound.confidence) == ("upper_bound", 1.0)
    assert bound.amount > likely.amount > 0
    assert sum(bound.breakdown.values()) == bound.amount
    unknown = intent.model_copy(update={"model": "mystery"})
    unpriced = await bench.costs.estimate_request_cost(unknown, "openai")
    assert (unpriced.amount, unpriced.confidence, unpriced.estimation_method) == (0, 0.0, "unpriced")
    contract = await bench.costs.estimate_request_cost(
        unknown, "openai", metadata={"estimated_cost_per_request": "0.5"}
    )
    assert contract.amount == Decimal("0.5")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"limit": 0}, "above zero"),
        ({"limit": Decimal(-1)}, "above zero"),
        ({"limit": "NaN"}, "above zero"),
        ({"limit": Decimal("Infinity")}, "above zero"),
        ({"limit": "lots"}, "amount of dollars"),
        ({"limit": True}, "amount of dollars"),
        ({"limit": None}, "amount of dollars"),
        ({"limit": "0.0000000001"}, "finer"),
        ({"limit": 10**10}, "9 billion"),
        ({"scope_id": "openai"}, "leave scope_id out"),
        ({"scope": BudgetScope.PerKey}, "key id"),
        ({"scope": BudgetScope.PerProvider, "scope_id": " "}, "provider id"),
        ({"scope": BudgetScope.PerRoute, "scope_id": None}, "model name"),
        ({"scope": "galaxy"}, "per_provider"),
        ({"period": "fortnight"}, "weekly"),
        ({"enforcement_mode": "gentle"}, "hard, soft"),
    ],
)
async def test_a_definition_that_makes_no_sense_is_refused_in_words(arguments: dict[str, Any], complaint: str) -> None:
    bench = Bench()
    with pytest.raises(BudgetDefinitionError, match=complaint):
        await bench.costs.create_budget(**{"scope": BudgetScope.Global, "limit": 1, **arguments})
    assert await bench.costs.list_budgets() == []


async def test_limits_may_be_text_numbers_and_floats_by_their_text() -> None:
    bench = Bench()
    limits: list[Any] = ["0.1", 0.1, Decimal("0.10"), 3]
    for limit in limits:
        await bench.costs.create_budget(BudgetScope.Global, limit)
    assert [b.limit_amount for b in await bench.costs.list_budgets()] == [
        Decimal(x) for x in ("0.1", "0.1", "0.1", "3")
    ]


async def test_without_budgets_nothing_is_held_and_with_many_models_the_cache_stays_bounded() -> None:
    bench = Bench()
    assert (bench.accounts(), bench.costs.has_budgets) == ((), False)
    await bench.costs.create_budget(BudgetScope.Global, 1)
    for number in range(10_000):
        assert len(bench.costs.accounts_for("openai", "key-1", f"model-{number}")) == 1
    assert len(bench.costs.book._cache) <= 4096


async def test_what_costs_more_than_was_held_is_spent_told_and_blocks() -> None:
    bench = Bench()
    budget = await bench.costs.create_budget(BudgetScope.Global, "0.05")
    hold = await bench.hold(CENT)
    assert isinstance(hold, Hold)
    hold.dispatch()
    hold.settle([6 * CENT])
    await bench.sync()
    await bench.sync()
    (told,) = [event for event in bench.events if isinstance(event, BudgetOverrun)]
    assert (told.budget_id, told.amount_nano_usd, told.spent_nano_usd) == (budget.id, 5 * CENT, 6 * CENT)
    assert "max_tokens" in str(told)
    after = await bench.costs.get_budget(budget.id)
    assert (after.current_spend, after.overrun) == (Decimal("0.06"), Decimal("0.05"))
    assert isinstance(await bench.hold(1), Refused)
    (logged,) = await bench.store.query_events(StateQuery("budget.overrun"))
    assert logged.document["overrun_nano_usd"] == 5 * CENT
