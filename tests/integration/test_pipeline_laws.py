"""The laws of the request path, over real HTTP against the simulated provider."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal

import pytest

from apikeyrouter import ApiKeyRouter, NoEligibleKeysError, RoutingObjective, SystemError
from apikeyrouter.domain.errors import BudgetExceededError, ErrorCategory, ProviderNotRegisteredError
from apikeyrouter.domain.models.budget import BudgetScope, EnforcementMode, TimeWindow
from tests.support.routers import ask, key_ids, router_on
from tests.support.sim import Sim


def at_rest(router: ApiKeyRouter) -> bool:
    return router.ledger.open_holds == 0 and all(r.in_flight == 0 for r in router.key_manager.records("openai"))


@pytest.mark.parametrize(("calls", "keys"), [(30, 3), (50, 7), (64, 2)])
async def test_concurrent_fair_calls_land_evenly(sim: Sim, calls: int, keys: int) -> None:
    async with router_on(sim, keys) as router:
        replies = await asyncio.gather(*(router.route(ask()) for _ in range(calls)))
        counts = Counter(r.key_used for r in replies)
        assert len(counts) == keys
        assert max(counts.values()) - min(counts.values()) <= 1
        assert at_rest(router)


async def test_weights_share_turns_in_proportion(sim: Sim) -> None:
    async with router_on(sim, 2, metadata=[{"weight": 3}, {"weight": 1}]) as router:
        replies = [await router.route(ask()) for _ in range(40)]
        first, second = await key_ids(router)
        counts = Counter(r.key_used for r in replies)
        assert (counts[first], counts[second]) == (30, 10)


async def test_fairness_in_a_pool_too_large_to_scan_is_exact_too(sim: Sim) -> None:
    async with router_on(sim, 60) as router:
        replies = await asyncio.gather(*(router.route(ask()) for _ in range(120)))
        assert set(Counter(r.key_used for r in replies).values()) == {2}


async def test_cost_chooses_the_cheapest_and_says_so_with_its_numbers(sim: Sim) -> None:
    prices = [{"cost_per_1k": "0.05"}, {"cost_per_1k": "0.01"}, {"cost_per_1k": "0.03"}]
    async with router_on(sim, 3, metadata=prices) as router:
        cheapest = (await key_ids(router))[1]
        replies = [await router.route(ask(), objective="cost") for _ in range(6)]
        assert {r.key_used for r in replies} == {cheapest}
        sentence = replies[-1].metadata.routing_explanation
        assert sentence.startswith("Selected key-2 because lowest cost ($0.")
        assert "reliability threshold" in sentence
        reply = replies[-1]
        assert reply.cost.amount == Decimal("0.00001") * reply.metadata.tokens_used.total_tokens


async def test_reliability_prefers_the_least_loaded_and_healthy(sim: Sim) -> None:
    async with router_on(sim, 3) as router:
        sim.fault("sk-test-key-1", "server_error", count=1)
        replies = await asyncio.gather(*(router.route(ask(), objective="reliability") for _ in range(30)))
        flawed = (await key_ids(router))[0]
        counts = Counter(r.key_used for r in replies)
        others = [n for key, n in counts.items() if key != flawed]
        assert counts[flawed] < min(others)
        assert max(others) - min(others) <= 2


async def test_score_terms_add_up_and_every_candidate_is_kept_or_rejected(sim: Sim) -> None:
    objective = RoutingObjective(primary="cost", secondary=["reliability"], weights={"cost": 0.7, "reliability": 0.3})
    async with router_on(sim, 4) as router:
        ids = await key_ids(router)
        await router.key_manager.disable(ids[2])
        reply = await router.route(ask(), objective=objective)
        decision = reply.decision
        assert decision is not None
        assert sum(decision.terms_usd.values(), Decimal(0)) == decision.score_usd
        for other in decision.alternatives_considered:
            assert sum(other.terms_usd.values(), Decimal(0)) == other.score_usd
            assert other.score_usd >= (decision.score_usd or 0)
        told = {decision.selected_key_id, *(a.key_id for a in decision.alternatives_considered)}
        told |= {r.key_id for r in decision.rejections}
        assert told == set(ids)
        assert [r.code for r in decision.rejections] == ["disabled"]
        assert decision.candidates == 4
        assert decision.weights == {"cost": 0.7, "reliability": 0.3}


async def test_constraints_filter_with_reasons(sim: Sim) -> None:
    async with router_on(sim, 3) as router:
        first, second, third = await key_ids(router)
        objective = RoutingObjective(primary="cost", constraints={"allowed_keys": [third], "max_cost": 1.0})
        reply = await router.route(ask(max_tokens=10), objective=objective)
        assert reply.key_used == third
        with pytest.raises(NoEligibleKeysError, match="may cost") as refused:
            await router.route(ask(), objective=RoutingObjective(primary="cost", constraints={"max_cost": 1e-9}))
        assert set(refused.value.reasons) == {first, second, third}
        assert at_rest(router)


async def test_cancellation_closes_the_hold_and_stops_the_provider(sim: Sim) -> None:
    async with router_on(sim, 1) as router:
        sim.fault("sk-test-key-1", "hang")
        task = asyncio.create_task(router.route(ask()))
        while not (await sim.aio.key("sk-test-key-1"))["in_flight"]:
            pass
        assert router.ledger.open_holds == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert at_rest(router)
        while (await sim.aio.key("sk-test-key-1"))["in_flight"]:
            pass


async def test_leaving_a_stream_early_settles_and_stops_the_provider(sim: Sim) -> None:
    async with router_on(sim, 1) as router:
        sim.fault("sk-test-key-1", "slow_tokens", delay_s=0.2)
        stream = router.route_stream(ask())
        async for chunk in stream:
            if chunk:
                break
        assert router.ledger.open_holds == 1
        await stream.aclose()
        assert at_rest(router)
        while not (await sim.aio.key("sk-test-key-1"))["disconnected"]:
            pass
        assert router.journal.newest(1)[0].outcome == "client_closed"


async def test_a_stream_settles_with_the_usage_of_its_last_chunk(sim: Sim) -> None:
    async with router_on(sim, 2) as router:
        chunks = [chunk async for chunk in router.route_stream(ask("Tell me a story"))]
        last = chunks[-1].response
        assert last is not None
        assert last.content == "".join(chunks)
        assert last.metadata.tokens_used.total_tokens > 0
        assert last.cost.amount > 0
        assert at_rest(router)


async def test_a_hard_budget_is_never_passed_and_never_blocks_falsely(sim: Sim) -> None:
    async with router_on(sim, 4) as router:
        budget = await router.cost_controller.create_budget(
            scope=BudgetScope.Global,
            limit=Decimal("0.001"),
            period=TimeWindow.Daily,
            enforcement_mode=EnforcementMode.Hard,
        )
        results = await asyncio.gather(*(router.route(ask(max_tokens=40)) for _ in range(200)), return_exceptions=True)
        refused = [r for r in results if isinstance(r, BudgetExceededError)]
        served = [r for r in results if not isinstance(r, BaseException)]
        assert refused
        assert served
        assert len(refused) + len(served) == 200
        now = await router.cost_controller.get_budget(budget.id)
        assert now.current_spend == sum((r.cost.amount for r in served), Decimal(0))
        assert now.current_spend <= now.limit_amount
        assert now.held == 0
        one = refused[0]
        assert one.violated_budgets == [budget.id]
        assert one.cost_estimate > one.remaining_budget >= 0
        assert one.category is ErrorCategory.BudgetExceededError
        assert sim.seen() == len(served), "a refused request was sent"
        while now.remaining_budget >= one.cost_estimate:  # what is left is served, one by one, to the last that fits
            await router.route(ask(max_tokens=40))
            now = await router.cost_controller.get_budget(budget.id)
        assert now.current_spend <= now.limit_amount


async def test_an_unregistered_provider_is_named(sim: Sim) -> None:
    async with router_on(sim, 1) as router:
        intent = ask()
        intent.provider_id = "anthropic"
        with pytest.raises(ProviderNotRegisteredError, match=r"'anthropic'.*register_provider"):
            await router.route(intent)
    async with ApiKeyRouter() as empty:
        with pytest.raises(SystemError, match="none is registered"):
            await empty.route(ask())


async def test_no_key_says_how_to_add_one(sim: Sim) -> None:
    async with router_on(sim, 0) as router:
        with pytest.raises(NoEligibleKeysError, match="register_key"):
            await router.route(ask())


async def test_a_dry_run_sends_nothing_and_takes_no_turn(sim: Sim) -> None:
    async with router_on(sim, 3) as router:
        first = await router.routing_engine.route_request(ask())
        again = await router.routing_engine.route_request(ask())
        assert first.selected_key_id == again.selected_key_id
        assert sim.seen() == 0
        assert at_rest(router)
        assert (await router.route(ask())).key_used == first.selected_key_id
        assert "Selected" in router.routing_engine.explain_decision(first)


async def test_decisions_are_found_by_either_id(sim: Sim) -> None:
    async with router_on(sim, 2) as router:
        reply = await router.route(ask())
        by_decision = await router.get_decision(reply.metadata.decision_id)
        by_request = await router.get_decision(reply.request_id)
        assert by_decision == by_request == reply.decision
        assert by_decision is not None
        assert by_decision.attempts[0].outcome == "ok"
        assert await router.get_decision("dec_unknown") is None


async def test_the_provider_id_and_our_fields_never_travel_upstream(sim: Sim) -> None:
    async with router_on(sim, 1) as router:
        await router.route(ask(temperature=0.7, custom_thing={"a": [1]}), metadata={"feature": "x"})
        sent = sim.requests()[-1]["json"]
        assert set(sent) == {"model", "messages", "temperature", "custom_thing"}
