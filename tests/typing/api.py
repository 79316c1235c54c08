"""The public API as a type checker sees it: this file is checked with mypy --strict, never run."""

from __future__ import annotations

from decimal import Decimal
from typing import assert_type

from apikeyrouter import (
    APIKey,
    ApiKeyRouter,
    Budget,
    BudgetScope,
    Message,
    OpenAIAdapter,
    RequestIntent,
    RoutingObjective,
    SQLiteStateStore,
    StreamChunk,
    SyncApiKeyRouter,
    SystemResponse,
)
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.provider_adapter import ProviderAdapter
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.domain.interfaces.transport import Transport
from apikeyrouter.domain.models.routing_decision import ObjectiveType
from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.infrastructure.transport import HttpTransport


async def library() -> None:
    async with ApiKeyRouter() as router:
        await router.register_provider("openai", OpenAIAdapter())
        assert_type(await router.register_key("material", "openai", metadata={"weight": 2}), APIKey)
        intent = RequestIntent(model="m", messages=[Message(role="user", content="x")])
        objective = RoutingObjective(primary=ObjectiveType.Cost)
        response = await router.route(intent, objective=objective)
        assert_type(response, SystemResponse)
        assert_type(response.cost.amount, Decimal)
        async for chunk in router.route_stream(intent, objective="cost"):
            assert_type(chunk, StreamChunk)
        budget = await router.cost_controller.create_budget(scope=BudgetScope.Global, limit=Decimal(1))
        assert_type(budget, Budget)


def scripts() -> str:
    with SyncApiKeyRouter() as router:
        return router.route({"model": "m", "messages": [{"role": "user", "content": "x"}]}).content


def ports() -> tuple[Clock, Transport, StateStore, StateStore, ProviderAdapter]:
    return SystemClock(), HttpTransport(), MemoryStateStore(), SQLiteStateStore("x.sqlite"), OpenAIAdapter()
