"""Groups of unlike models over real HTTP: each candidate is sized, held and tried as its own model, and what is too
long for all of them is told as such."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from apikeyrouter import ApiKeyRouter, OpenAIAdapter
from apikeyrouter.domain.errors import ErrorCategory, NoEligibleKeysError
from apikeyrouter.domain.models.budget import BudgetScope, EnforcementMode
from apikeyrouter.domain.models.quota_state import TimeWindow
from tests.support.routers import ask
from tests.support.sim import Sim

SMALL, LARGE = "gpt-4o-mini", "gpt-4o"


async def grouped(router: ApiKeyRouter, sim: Sim, *targets: object, **fields: Any) -> None:
    await router.register_provider("north", OpenAIAdapter(sim.base_url, claims_all=False))
    await router.register_key("sk-test-north", "north", label="north-1")
    await router.deployments.set({"name": "chat", "targets": list(targets), **fields})


def models_seen(sim: Sim) -> list[str]:
    return [request["json"]["model"] for request in sim.requests()]


async def test_a_key_that_serves_two_models_of_a_group_is_tried_with_both(sim: Sim) -> None:
    await sim.aio.fault(None, "server_error", status=503, count=1)
    async with ApiKeyRouter(environ={}) as router:
        await grouped(router, sim, f"north/{SMALL}", f"north/{LARGE}")
        response = await router.route(ask(model="chat"))
        decision = await router.get_decision(response.metadata.request_id)
    assert sorted(models_seen(sim)) == [LARGE, SMALL]
    assert decision is not None
    assert [attempt.outcome for attempt in decision.attempts] == ["capacity", "ok"]


async def test_a_hard_budget_holds_for_a_group_what_its_model_can_write_at_the_most(sim: Sim) -> None:
    async with ApiKeyRouter(environ={}) as router:
        await grouped(router, sim, f"north/{SMALL}")
        # 16,384 tokens of output are about a cent; the whole context, which stands for an unknown model, is eight
        await router.cost_controller.create_budget(
            scope=BudgetScope.Global,
            limit=Decimal("0.02"),
            period=TimeWindow.Daily,
            enforcement_mode=EnforcementMode.Hard,
        )
        response = await router.route(ask(model="chat"))
        decision = await router.get_decision(response.metadata.request_id)
        check = await router.cost_controller.check_budget(ask(model="chat"))
    assert decision is not None
    assert decision.output_limit is None
    assert "max_tokens" not in sim.requests()[-1]["json"]
    assert check.allowed
    assert Decimal("0.009") < check.estimate.amount < Decimal("0.011")


async def test_a_mixed_group_under_a_hard_budget_is_held_by_each_model_and_the_cheaper_one_serves(sim: Sim) -> None:
    async with ApiKeyRouter(environ={}) as router:
        await grouped(router, sim, f"north/{LARGE}", f"north/{SMALL}")
        # one reply of the large model may cost 16 cents
        await router.cost_controller.create_budget(
            scope=BudgetScope.Global,
            limit=Decimal("0.05"),
            period=TimeWindow.Daily,
            enforcement_mode=EnforcementMode.Hard,
        )
        for _ in range(3):
            await router.route(ask(model="chat"))
    assert models_seen(sim) == [SMALL] * 3


async def test_what_a_group_learns_of_replies_it_learns_of_the_model_that_wrote_them(sim: Sim) -> None:
    async with ApiKeyRouter(environ={}) as router:
        await grouped(router, sim, f"north/{SMALL}")
        await router.route(ask(model="chat"))
        lengths = router.cost_controller.lengths
        told = lengths.expected(SMALL)
        assert told != lengths.expected("chat")
        assert told != lengths.expected(LARGE)


@pytest.mark.parametrize("fallbacks", [{}, {"context_fallbacks": ["wide"]}])
async def test_a_request_too_long_for_every_model_is_a_400_that_names_the_largest_context(
    sim: Sim, fallbacks: dict[str, list[str]]
) -> None:
    small = {"provider": "north", "model": SMALL, "context_window": 50}
    large = {"provider": "north", "model": LARGE, "context_window": 80}
    async with ApiKeyRouter(environ={}) as router:
        await grouped(router, sim, small, large, **fallbacks)
        wide = {"provider": "north", "model": SMALL, "context_window": 60}
        await router.deployments.set({"name": "wide", "targets": [wide], "fallbacks": ["chat"]})
        with pytest.raises(NoEligibleKeysError) as refused:
            await router.route(ask("long words " * 200, model="chat"))
        await router.route(ask(model="chat"))
    error = refused.value
    assert (error.status, error.provider_code) == (400, "context_length_exceeded")
    assert error.category is ErrorCategory.ValidationError
    assert "maximum context length of what may serve the model 'chat' is 80 tokens" in error.message
    assert error.details["param"] == "messages"
    assert error.retry_after is None
    assert sim.seen() == 1


async def test_a_request_too_long_for_one_model_while_the_other_is_exhausted_is_no_fault_of_the_caller(
    sim: Sim,
) -> None:
    await sim.aio.fault(None, "rate_limited", retry_after_s=900)
    small = {"provider": "north", "model": SMALL, "context_window": 50}
    async with ApiKeyRouter(environ={}) as router:
        await grouped(router, sim, small, f"north/{LARGE}")
        for _ in range(2):
            with pytest.raises(NoEligibleKeysError) as refused:
                await router.route(ask("long words " * 200, model="chat"))
    assert refused.value.status == 429
