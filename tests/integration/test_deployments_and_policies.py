"""Deployment groups, fallbacks and policies over real HTTP, with two simulated servers as two providers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from apikeyrouter import ApiKeyRouter, OpenAIAdapter
from apikeyrouter.domain.errors import NoEligibleKeysError, SystemError
from apikeyrouter.domain.models.policy import PolicyScope
from tests.support.routers import ask
from tests.support.sim import Sim, sim_process

GROUP = {
    "name": "fast-chat",
    "targets": [{"provider": "north", "model": "gpt-4o-mini", "weight": 2}, "south/gpt-4o"],
}


@pytest.fixture(scope="module")
def two() -> Iterator[tuple[Sim, Sim]]:
    with sim_process() as north, sim_process() as south:
        yield north, south


@pytest.fixture
def sims(two: tuple[Sim, Sim]) -> tuple[Sim, Sim]:
    for sim in two:
        sim.reset()
        sim.clear_faults()
    return two


@asynccontextmanager
async def routed(sims: tuple[Sim, Sim], *deployments: dict[str, Any], **config: Any) -> AsyncIterator[ApiKeyRouter]:
    """A router with one key at each of the providers "north" and "south", which are in the EU and the US."""
    async with ApiKeyRouter(config=config, environ={}) as router:
        for name, sim in zip(("north", "south"), sims, strict=True):
            await router.register_provider(name, OpenAIAdapter(sim.base_url, claims_all=False))
            region = {"north": "eu-west", "south": "us-east"}[name]
            await router.register_key(f"sk-test-{name}", name, {"region": region}, f"key-{name}")
        for one in deployments:
            await router.deployments.set(one)
        yield router


def models_seen(sim: Sim) -> list[str]:
    return [request["json"]["model"] for request in sim.requests()]


async def test_a_group_shares_its_requests_by_weight_and_each_provider_sees_its_own_model(
    sims: tuple[Sim, Sim],
) -> None:
    async with routed(sims, GROUP) as router:
        replies = [await router.route(ask(model="fast-chat")) for _ in range(9)]
    assert models_seen(sims[0]) == ["gpt-4o-mini"] * 6
    assert models_seen(sims[1]) == ["gpt-4o"] * 3
    assert {reply.metadata.model.partition("-2")[0] for reply in replies} == {"gpt-4o-mini", "gpt-4o"}
    assert all(reply.cost.amount > 0 for reply in replies)


async def test_when_one_provider_of_a_group_dies_the_other_serves(sims: tuple[Sim, Sim]) -> None:
    await sims[0].aio.fault(None, "server_error", status=503)
    async with routed(sims, GROUP) as router:
        replies = [await router.route(ask(model="fast-chat")) for _ in range(6)]
        chunks = [str(chunk) async for chunk in router.route_stream(ask(model="fast-chat"))]
    assert {reply.metadata.key_used for reply in replies} == {replies[0].metadata.key_used}
    assert "".join(chunks)
    assert len(models_seen(sims[1])) == 7


async def test_a_fallback_serves_when_nobody_else_can_and_the_decision_tells(sims: tuple[Sim, Sim]) -> None:
    await sims[0].aio.fault(None, "server_error", status=503)
    async with routed(
        sims, {"name": "main", "targets": ["north/gpt-4o-mini"], "fallbacks": ["south/gpt-4o"]}
    ) as router:
        response = await router.route(ask(model="main"))
        decision = await router.get_decision(response.metadata.request_id)
    assert models_seen(sims[1]) == ["gpt-4o"]
    assert decision is not None
    assert decision.fallbacks == ["main"]
    assert {attempt.provider_id for attempt in decision.attempts} == {"north", "south"}


async def test_a_request_that_is_wrong_falls_back_nowhere(sims: tuple[Sim, Sim]) -> None:
    await sims[0].aio.fault(None, "client_error", status=400)
    async with routed(
        sims, {"name": "main", "targets": ["north/gpt-4o-mini"], "fallbacks": ["south/gpt-4o"]}
    ) as router:
        with pytest.raises(SystemError) as refused:
            await router.route(ask(model="main"))
    assert refused.value.status == 400
    assert models_seen(sims[1]) == []


async def test_a_request_that_is_too_long_goes_to_a_model_that_takes_more(sims: tuple[Sim, Sim]) -> None:
    small = {"provider": "north", "model": "gpt-4o-mini", "context_window": 50}
    main = {"name": "main", "targets": [small], "context_fallbacks": ["south/gpt-4o"]}
    async with routed(sims, main) as router:
        await router.route(ask(model="main"))
        await router.route(ask("long words " * 200, model="main"))
    assert models_seen(sims[0]) == ["gpt-4o-mini"]
    assert models_seen(sims[1]) == ["gpt-4o"]


async def test_what_policies_forbid_is_refused_with_reasons_and_sent_nowhere(sims: tuple[Sim, Sim]) -> None:
    async with routed(sims, GROUP) as router:
        await router.policy_engine.add_policy(id="eu-only", allowed_regions=["eu-*"])
        for _ in range(3):
            response = await router.route(ask(model="fast-chat"))
        decision = await router.get_decision(response.metadata.request_id)
        with pytest.raises(NoEligibleKeysError) as refused:
            await router.route(ask(model="south/gpt-4o"))
    assert models_seen(sims[1]) == []
    assert decision is not None
    assert decision.policies == ["eu-only"]
    assert refused.value.status == 403
    assert "policy eu-only: region us-east is not among the allowed ones" in refused.value.message


async def test_a_policy_of_a_team_holds_for_that_team_alone(sims: tuple[Sim, Sim]) -> None:
    async with routed(sims) as router:
        await router.policy_engine.add_policy(
            id="red", scope=PolicyScope.PerTeam, scope_id="red", blocked_providers=["south"]
        )
        with pytest.raises(NoEligibleKeysError):
            await router.route(ask(model="south/gpt-4o"), metadata={"team": "red"})
        await router.route(ask(model="south/gpt-4o"), metadata={"team": "blue"})
        await router.route(ask(model="south/gpt-4o"))
    assert len(models_seen(sims[1])) == 2


async def test_a_policy_may_forbid_that_another_model_stands_in(sims: tuple[Sim, Sim]) -> None:
    await sims[0].aio.fault(None, "server_error", status=503)
    main = {"name": "main", "targets": ["north/gpt-4o-mini"], "fallbacks": ["south/gpt-4o"]}
    async with routed(sims, main, policies=[{"id": "exact", "fallbacks": False}]) as router:
        with pytest.raises(SystemError):
            await router.route(ask(model="main"))
    assert models_seen(sims[1]) == []


async def test_a_request_may_bring_a_policy_of_its_own(sims: tuple[Sim, Sim]) -> None:
    async with routed(sims, GROUP) as router:
        for _ in range(3):
            await router.route(ask(model="fast-chat"), policy={"blocked_providers": ["north"]})
        async for _ in router.route_stream(ask(model="fast-chat"), policy={"blocked_providers": ["north"]}):
            pass
    assert models_seen(sims[0]) == []
    assert models_seen(sims[1]) == ["gpt-4o"] * 4


async def test_a_group_that_was_removed_is_an_unknown_model_again(sims: tuple[Sim, Sim]) -> None:
    async with routed(sims, GROUP) as router:
        await router.route(ask(model="fast-chat"))
        assert await router.deployments.remove("fast-chat")
        with pytest.raises(SystemError, match="No registered provider is known to serve"):
            await router.route(ask(model="fast-chat"))


async def test_a_dry_run_goes_by_policies_and_fallbacks_too(sims: tuple[Sim, Sim]) -> None:
    main = {"name": "main", "targets": ["north/gpt-4o-mini"], "fallbacks": ["south/gpt-4o"]}
    async with routed(sims, main) as router:
        await router.policy_engine.add_policy(id="us", blocked_regions=["eu-*"])
        decision = await router.routing_engine.route_request(ask(model="main"))
        assert (decision.selected_provider_id, decision.fallbacks, decision.policies) == ("south", ["main"], ["us"])
        await router.policy_engine.add_policy(id="exact", fallbacks=False)
        refused = await router.routing_engine.route_request(ask(model="main"))
    assert refused.selected_key_id is None
    assert models_seen(sims[0]) + models_seen(sims[1]) == []
