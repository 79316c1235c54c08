"""`auto` with the whole router, in virtual time: what keeps models out, who stands in, and whose name wins."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest

from apikeyrouter import (
    ApiKeyRouter,
    BudgetScope,
    EnforcementMode,
    OpenAIAdapter,
    RouterSettings,
    SystemError,
    TimeWindow,
)
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.models.model_choice import ModelChoice
from apikeyrouter.domain.models.system_response import SystemResponse
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.muxer.feedback import SETTING, FeedbackKeeper
from apikeyrouter.muxer.groups import LADDERS, read_group
from apikeyrouter.muxer.guard import RouteBook
from apikeyrouter.testing import run_virtual
from tests.support.routers import ask
from tests.support.talking_world import Saying, TalkingWorld, talking_router

WEAK, STRONG = "gpt-4o-mini", "gpt-4.1"
HARD = "Prove rigorously, step by step, that the square root of 2 is irrational, and compare three complex proofs."


def hello(model: str, number: int, body: dict[str, Any]) -> Saying:
    return Saying("Hello!")


def play(use: Callable[[ApiKeyRouter, TalkingWorld], Awaitable[None]], say: Any = hello, **config: Any) -> None:
    async def go() -> None:
        world = TalkingWorld(say)
        router = await talking_router(world, **config)
        try:
            await use(router, world)
        finally:
            await router.aclose()
        assert router.ledger.at_rest

    run_virtual(go())


def group(*models: Any, **more: Any) -> dict[str, Any]:
    return {"model_groups": [{"name": "default", "models": list(models), **more}]}


def choice_of(response: SystemResponse) -> ModelChoice:
    assert response.decision is not None
    assert response.decision.model_choice is not None
    return response.decision.model_choice


def test_without_configuration_a_known_provider_has_a_weak_and_a_strong_model() -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        assert choice_of(await router.route(ask(HARD, "auto:heuristic"))).model == f"openai/{STRONG}"
        assert choice_of(await router.route(ask("Hi", "auto:heuristic"))).model == f"openai/{WEAK}"

    play(use)


def test_the_strategy_of_the_settings_is_used_where_nobody_says() -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        assert choice_of(await router.route(ask("Hi", "auto"))).strategy == "quality"
        assert world.models == [STRONG]

    play(use, default_routing_strategy="quality")


def test_the_environment_of_document_004_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFAULT_ROUTING_STRATEGY", "cost_optimized")
    monkeypatch.setenv("CASCADE_ROUTING_ENABLED", "false")
    settings = RouterSettings()
    assert (settings.default_routing_strategy.value, settings.cascade_routing_enabled) == ("cost_optimized", False)
    monkeypatch.setenv("DEFAULT_ROUTING_STRATEGY", "cheapest-ever")
    with pytest.raises(ConfigurationError, match="DEFAULT_ROUTING_STRATEGY"):
        RouterSettings()


def test_every_ladder_names_models_of_the_catalogue() -> None:
    from apikeyrouter.infrastructure.catalogue.model_rows import MODELS

    assert all(model in MODELS for ladder in LADDERS.values() for model in ladder)


def test_a_model_that_lacks_what_the_request_needs_is_left_out_with_a_reason() -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
        found = choice_of(await router.route(ask("Hi", "auto:cost", tools=tools)))
        assert found.model == f"openai/{STRONG}"
        assert found.rejected == {f"openai/{WEAK}": "it calls no tools"}
        found = choice_of(await router.route(ask("x" * 8_000, "auto:cost")))
        assert found.model == f"openai/{STRONG}"
        assert "do not fit into its context of 1,000" in found.rejected[f"openai/{WEAK}"]

    weak = {"model": f"openai/{WEAK}", "without": ["tools"], "context_window": 1000}
    play(use, **group(weak, f"openai/{STRONG}"))


def test_when_no_model_can_answer_the_error_says_why_of_each() -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        with pytest.raises(SystemError) as refused:
            await router.route(ask("x" * 9_000, "auto"))
        assert refused.value.provider_code == "no_model_fits"
        assert f"openai/{WEAK}: about" in refused.value.message
        assert not world.asked

    play(use, **group({"model": f"openai/{WEAK}", "context_window": 100}))


def test_when_the_chosen_model_fails_the_next_one_stands_in() -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        response = await router.route(ask("Hi", "auto:cost"))
        assert response.content == "Hello!"
        assert choice_of(response).model == f"openai/{STRONG}"
        assert set(world.models) == {WEAK, STRONG}

    play(use, lambda model, *_: Saying(status=500) if model == WEAK else Saying("Hello!"))


def test_a_model_that_no_hard_budget_has_room_for_gives_way_to_a_cheaper_one() -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        await router.cost_controller.create_budget(
            scope=BudgetScope.Global,
            limit=Decimal("0.005"),
            period=TimeWindow.Daily,
            enforcement_mode=EnforcementMode.Hard,
        )
        found = choice_of(await router.route(ask("Hi", "auto:quality", max_tokens=1000)))
        assert found.model == f"openai/{WEAK}"
        assert "budgets have no room for openai/gpt-4.1" in found.explanation

    play(use)


@pytest.mark.parametrize("name", ["auto-gpt", "automatic", "autoX:cost"])
def test_a_model_whose_name_only_begins_like_auto_is_a_named_model(name: str) -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        response = await router.route(ask("Hi", name))
        assert world.models == [name]
        assert response.decision is not None
        assert response.decision.model_choice is None

    play(use)


def test_a_providers_own_model_called_auto_is_served_when_it_is_named() -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        await router.route(ask("Hi", "openai/auto"))
        await router.route({"model": "auto", "provider_id": "openai", "messages": [{"role": "user", "content": "Hi"}]})
        assert world.models == ["auto", "auto"]

    play(use)


def test_a_deployment_called_auto_goes_before_ours() -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        await router.deployments.set({"name": "auto", "targets": ["openai/gpt-4o"]})
        await router.route(ask("Hi", "auto"))
        assert world.models == ["gpt-4o"]

    play(use)


def test_what_a_caller_forbids_for_keys_holds_for_the_choice_too() -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        await router.register_provider("other", OpenAIAdapter("http://127.0.0.1:9/v1"))
        await router.register_key("sk-virtual-9", "other", label="else")
        intent = ask("Hi", "auto:quality")
        from apikeyrouter import RoutingObjective

        narrow = RoutingObjective(primary="cost", constraints={"allowed_providers": ["other"]})
        found = choice_of(await router.route(intent, narrow))
        assert found.model == f"other/{WEAK}"
        assert "not among the allowed ones" in found.rejected[f"openai/{STRONG}"]

    play(use, **group(f"openai/{STRONG}", f"other/{WEAK}"))


def test_feedback_survives_and_moves_the_choice() -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        for _ in range(60):
            response = await router.route(ask("Hi", "auto:cost"))
            if choice_of(response).model != f"openai/{WEAK}":
                break
            await router.muxer.take_feedback(response.request_id, 0.0)
        assert choice_of(response).model == f"openai/{STRONG}"
        assert choice_of(response).gain > choice_of(response).raw_gain

    play(use)


def test_a_second_mark_replaces_the_first_whichever_process_takes_it() -> None:
    async def go() -> None:
        store = MemoryStateStore()
        books = {"default": RouteBook("default")}
        here, there = FeedbackKeeper(store, books), FeedbackKeeper(store, {})
        assert not await here.add("req_1", "default", 0.4, 0.0, 0.0)
        assert await there.add("req_1", "default", 0.4, 0.0, 1.0)
        await here.changed(frozenset({SETTING}))
        assert books["default"].marks == 1.0
        assert books["default"].weak[4] == [1.0, 0.0]

    asyncio.run(go())


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"name": "a"}, "models: expected a list"),
        ({"name": "a/b", "models": ["x"]}, "neither ':' nor '/'"),
        ({"name": "a", "models": ["x", "x"]}, "x is listed twice"),
        ({"name": "a", "models": ["auto:cost"]}, "a group cannot hold auto"),
        ({"name": "a", "models": ["x"], "reference": "y"}, "'y' is not among the models"),
        ({"name": "a", "models": ["x"], "strategy": "best-ever"}, "unknown strategy"),
        ({"name": "a", "models": ["x"], "strong_share": 0.5, "target_quality": 0.9}, "not both"),
        ({"name": "a", "models": ["x"], "strong_share": 2}, "from 0 to 1"),
        ({"name": "a", "models": ["x"], "max_cost": -1}, "US dollars"),
        ({"name": "a", "models": [{"model": "x", "role": "boss"}]}, "models[0].role: expected weak or strong"),
        ({"name": "a", "models": [{"model": "x", "windw": 1}]}, "there is no such field"),
        ({"name": "a", "models": ["x"], "cascade": {"accept": "hope"}}, "cascade.accept: expected one of"),
        ({"name": "a", "models": ["x"], "cascade": {"samples": 9}}, "from 2 to 5"),
    ],
)
def test_a_group_that_cannot_be_meant_is_refused_with_its_place(document: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=re.escape(fault)):
        read_group(document)
