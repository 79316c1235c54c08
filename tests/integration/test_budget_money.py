"""Money through the library's door, over real HTTP: waiting for held money, shorter replies, shared budgets."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from apikeyrouter import ApiKeyRouter, BudgetExceededError, OpenAIAdapter, SystemResponse
from apikeyrouter.domain.errors import StateStoreError, UnboundedCostError
from apikeyrouter.domain.interfaces.shared_ledger import LeaseAsk, LeaseReply, LeaseWorker, UsageQuery
from apikeyrouter.domain.models.budget import Budget, BudgetScope, EnforcementMode, TimeWindow
from apikeyrouter.infrastructure.state_store import open_store
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from tests.support.routers import ask, router_on
from tests.support.sim import Sim

OUTPUT_ONLY = {"cost_per_1m_input": "0", "cost_per_1m_output": "10"}
"""A price at which the bound of the input adds nothing, so that money is a matter of output alone."""

SEALED = {"APIKEYROUTER_ENCRYPTION_KEY": "a passphrase of the tests"}


async def outcomes(router: ApiKeyRouter, count: int, **parameters: Any) -> tuple[list[SystemResponse], list[Exception]]:
    """`count` requests at once: replies and errors."""
    results = await asyncio.gather(*(router.route(ask(**parameters)) for _ in range(count)), return_exceptions=True)
    served = [r for r in results if isinstance(r, SystemResponse)]
    errors = [r for r in results if isinstance(r, Exception)]
    assert len(served) + len(errors) == count
    return served, errors


async def one_cost(router: ApiKeyRouter) -> Decimal:
    """What a request of these tests costs; the simulated provider answers alike each time."""
    return (await router.route(ask(max_tokens=200))).cost.amount


async def test_a_budget_for_ten_serves_ten_of_84_that_ask_for_much_more(sim: Sim) -> None:
    async with router_on(sim, 4, metadata=[OUTPUT_ONLY] * 4) as router:
        one = await one_cost(router)
        budget = await router.cost_controller.create_budget(BudgetScope.Global, one * 10)
        served, refused = await outcomes(router, 64, max_tokens=200)
        for _ in range(20):
            more, error = await outcomes(router, 1, max_tokens=200)
            served += more
            refused += error
        assert len(served) == 10
        assert all(isinstance(error, BudgetExceededError) for error in refused)
        now = await router.cost_controller.get_budget(budget.id)
        assert now.current_spend == sum(reply.cost.amount for reply in served) <= one * 10
        assert (now.held, router.ledger.open_holds) == (0, 0)
        assert sim.seen() == 11, "a refused request was sent"


async def test_a_request_waits_for_money_that_is_only_held(sim: Sim) -> None:
    async with router_on(sim, 2, metadata=[OUTPUT_ONLY] * 2, config={"clamp_output": False}) as router:
        one = await one_cost(router)
        sim.fault(None, "latency_s", delay_s=0.2)
        limit = Decimal(200 * 10) / 1_000_000 + one  # room for one hold of 200 tokens, and what one request leaves
        await router.cost_controller.create_budget(BudgetScope.Global, limit)
        served, errors = await outcomes(router, 2, max_tokens=200)
        assert errors == []
        waited = sorted(reply.decision.waited_ms for reply in served if reply.decision)
        assert waited[1] >= 150.0
        late = max(served, key=lambda reply: reply.decision.waited_ms if reply.decision else 0.0)
        assert late.decision is not None
        assert "waited" in late.decision.explanation


async def test_waiting_for_held_money_ends_at_its_time_with_the_truth(sim: Sim) -> None:
    config = {"clamp_output": False, "budget_wait_s": 0.1}
    async with router_on(sim, 2, metadata=[OUTPUT_ONLY] * 2, config=config) as router:
        sim.fault(None, "latency_s", delay_s=1.0)
        await router.cost_controller.create_budget(BudgetScope.Global, Decimal("0.0030"))
        served, errors = await outcomes(router, 2, max_tokens=200)
        assert len(served) == len(errors) == 1
        error = errors[0]
        assert isinstance(error, BudgetExceededError)
        assert "when they settle" in error.message
        assert (error.held, error.spent, error.retry_after) == (Decimal("0.002"), Decimal(0), 1.0)
        assert error.max_output_tokens == 100


async def test_without_any_wait_what_is_free_is_served_and_what_is_held_is_refused_at_once(sim: Sim) -> None:
    config = {"clamp_output": False, "budget_wait_s": 0}
    async with router_on(sim, 2, metadata=[OUTPUT_ONLY] * 2, config=config) as router:
        await router.cost_controller.create_budget(BudgetScope.Global, Decimal("0.0030"))
        assert (await router.route(ask(max_tokens=200))).content, "nothing was spent or held: it must fit"
        sim.fault(None, "latency_s", delay_s=0.5)
        served, errors = await outcomes(router, 2, max_tokens=200)
        assert len(served) == len(errors) == 1
        assert isinstance(errors[0], BudgetExceededError)
        assert sim.seen() == 2


async def test_a_reply_is_shortened_to_what_is_left_and_everybody_is_told(sim: Sim) -> None:
    async with router_on(sim, 1, metadata=[OUTPUT_ONLY]) as router:
        budget = await router.cost_controller.create_budget(BudgetScope.Global, Decimal("0.0002"))
        reply = await router.route(ask(max_tokens=500))
        sent = sim.requests()[-1]["json"]
        assert sent["max_tokens"] == 20
        assert reply.metadata.tokens_used.output_tokens <= 20
        assert reply.metadata.finish_reason == "length"
        assert reply.decision is not None
        limit = reply.decision.output_limit
        assert limit is not None
        assert (limit.asked, limit.given, limit.budget_id) == (500, 20, budget.id)
        assert "lowered from 500 to 20" in reply.decision.explanation


async def test_without_a_limit_of_its_own_a_request_gets_one_that_fits(sim: Sim) -> None:
    async with router_on(sim, 1, metadata=[OUTPUT_ONLY]) as router:
        await router.cost_controller.create_budget(BudgetScope.Global, Decimal("0.01"))
        reply = await router.route(ask())
        assert sim.requests()[-1]["json"]["max_tokens"] == 1000
        assert reply.decision is not None
        assert reply.decision.output_limit is not None
        assert reply.decision.output_limit.asked is None


async def test_shortening_can_be_switched_off_and_the_refusal_says_what_would_fit(sim: Sim) -> None:
    async with router_on(sim, 1, metadata=[OUTPUT_ONLY], config={"clamp_output": False}) as router:
        await router.cost_controller.create_budget(BudgetScope.Global, Decimal("0.0002"))
        with pytest.raises(BudgetExceededError, match="max_tokens of at most 20") as caught:
            await router.route(ask(max_tokens=500))
        assert caught.value.max_output_tokens == 20
        assert sim.seen() == 0
        assert (await router.route(ask(max_tokens=20))).content


async def test_a_reply_that_would_be_too_short_to_be_worth_it_is_refused(sim: Sim) -> None:
    async with router_on(sim, 1, metadata=[OUTPUT_ONLY]) as router:
        await router.cost_controller.create_budget(BudgetScope.Global, Decimal("0.0001"))
        with pytest.raises(BudgetExceededError):
            await router.route(ask(max_tokens=500))
        assert sim.seen() == 0


async def test_a_dry_run_says_what_would_happen_and_takes_nothing(sim: Sim) -> None:
    async with router_on(sim, 1, metadata=[OUTPUT_ONLY]) as router:
        costs = router.cost_controller
        assert (await costs.check_budget(ask(max_tokens=10))).reason == "No budget covers this request."
        budget = await costs.create_budget(BudgetScope.Global, Decimal("0.0010"))
        fits = await costs.check_budget(ask(max_tokens=100))
        assert (fits.allowed, fits.violated, fits.estimate.amount) == (True, [], Decimal("0.001"))
        assert fits.estimate.estimation_method == "upper_bound"
        tight = await costs.check_budget(ask(max_tokens=101))
        assert (tight.allowed, tight.violated, tight.max_output_tokens) == (False, [budget.id], 100)
        assert sim.seen() == 0
        assert (await costs.get_budget(budget.id)).held == 0


async def test_scopes_of_callers_and_tags_cover_their_own_requests_only(sim: Sim) -> None:
    async with router_on(sim, 1, metadata=[OUTPUT_ONLY]) as router:
        costs = router.cost_controller
        scopes = {
            BudgetScope.PerTeam: "search",
            BudgetScope.PerVirtualKey: "vk_1",
            BudgetScope.PerTag: "feature=chat",
        }
        budgets: dict[BudgetScope, Budget] = {}
        for scope, scope_id in scopes.items():
            budgets[scope] = await costs.create_budget(scope, 1, scope_id=scope_id, period=TimeWindow.Monthly)
        reply = await router.route(ask(), metadata={"team": "search", "virtual_key": "vk_2", "feature": "chat"})
        spent = {scope: (await costs.get_budget(budget.id)).current_spend for scope, budget in budgets.items()}
        assert spent == {
            BudgetScope.PerTeam: reply.cost.amount,
            BudgetScope.PerVirtualKey: Decimal(0),
            BudgetScope.PerTag: reply.cost.amount,
        }


async def test_a_file_by_reference_is_refused_by_name_under_a_hard_budget_only(sim: Sim) -> None:
    async with router_on(sim, 1) as router:
        body = ask(max_tokens=10).model_dump()
        body["messages"] = [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-123"}}]}]
        await router.cost_controller.create_budget(BudgetScope.Global, 1, enforcement_mode=EnforcementMode.Soft)
        await router.route(body)
        await router.cost_controller.create_budget(BudgetScope.Global, 1)
        with pytest.raises(UnboundedCostError, match="file"):
            await router.route(body)
        assert sim.seen() == 1


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_two_routers_on_one_store_share_a_budget_to_the_nano_dollar(sim: Sim, tmp_path: Path, kind: str) -> None:
    def store() -> Any:
        return shared if kind == "memory" else open_store(f"sqlite:///{tmp_path}/state.sqlite")

    shared = MemoryStateStore()
    async with (
        router_on(sim, 1, metadata=[OUTPUT_ONLY], state_store=store(), environ=SEALED) as first,
        ApiKeyRouter(store(), environ=SEALED) as second,
    ):
        await second.register_provider("openai", OpenAIAdapter(sim.base_url))
        one = await one_cost(first)
        budget = await first.cost_controller.create_budget(BudgetScope.Global, one * 10)
        await second.feed.catch_up()
        assert second.cost_controller.has_budgets
        results = await asyncio.gather(*(outcomes(router, 30, max_tokens=200) for router in (first, second)))
        served = [reply for replies, _ in results for reply in replies]
        refused = [error for _, errors in results for error in errors]
        assert len(served) == 10
        assert all(isinstance(error, BudgetExceededError) for error in refused)
        for router in (first, second):
            now = await router.cost_controller.get_budget(budget.id)
            assert now.current_spend <= one * 10
        spent = sum(reply.cost.amount for reply in served)
    async with ApiKeyRouter(store(), environ=SEALED) as third:
        assert (await third.cost_controller.get_budget(budget.id)).current_spend == spent
        (row,) = await third.cost_controller.query_spend(UsageQuery(by=("model",)))
        assert (row.model, row.requests) == ("gpt-4o-mini", 11)
        assert Decimal(row.cost_nano_usd).scaleb(-9) == spent + one
        entries = await third.cost_controller.query_entries(budget.id)
        assert Decimal(sum(entry.amount for entry in entries)).scaleb(-9) == spent


class Unreachable(MemoryStateStore):
    """A store whose ledger can be cut off."""

    down = False

    async def lease(self, worker: LeaseWorker, asks: Any) -> LeaseReply:
        if self.down:
            raise StateStoreError("the ledger is cut off")
        asked: list[LeaseAsk] = list(asks)
        return await super().lease(worker, asked)


async def test_a_store_that_is_down_is_an_error_of_its_own_and_never_unmetered_service(sim: Sim) -> None:
    store = Unreachable()
    async with router_on(sim, 1, metadata=[OUTPUT_ONLY], state_store=store) as router:
        one = await one_cost(router)
        budget = await router.cost_controller.create_budget(BudgetScope.Global, one * 10)
        store.down = True
        with pytest.raises(StateStoreError, match="cut off"):
            await router.route(ask(max_tokens=200))
        assert sim.seen() == 1
        store.down = False
        served, errors = await outcomes(router, 64, max_tokens=200)
        while errors and isinstance(errors[0], StateStoreError):  # the next round with the store is a moment away
            served, errors = await outcomes(router, 64, max_tokens=200)
        assert len(served) == 10
        assert (await router.cost_controller.get_budget(budget.id)).current_spend <= one * 10


async def test_soft_budgets_count_and_serve_while_the_store_is_down(sim: Sim) -> None:
    store = Unreachable()
    async with router_on(sim, 1, metadata=[OUTPUT_ONLY], state_store=store) as router:
        budget = await router.cost_controller.create_budget(
            BudgetScope.Global, Decimal("0.0001"), enforcement_mode=EnforcementMode.Soft
        )
        store.down = True
        reply = await router.route(ask(max_tokens=200))
        store.down = False
        await router.cost_controller.book.lessee.step()
        assert (await router.cost_controller.get_budget(budget.id)).current_spend == reply.cost.amount
