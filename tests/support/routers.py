"""Routers for tests: three keys at the simulated provider, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from apikeyrouter import ApiKeyRouter, Message, OpenAIAdapter, RequestIntent
from tests.support.sim import Sim

__all__ = ["ask", "key_ids", "router_on"]


def ask(text: str = "Hello!", model: str = "gpt-4o-mini", **parameters: Any) -> RequestIntent:
    """A small chat request."""
    return RequestIntent(model=model, messages=[Message(role="user", content=text)], parameters=parameters)


@asynccontextmanager
async def router_on(
    sim: Sim,
    keys: int | Sequence[str] = 3,
    *,
    metadata: Sequence[dict[str, Any]] = (),
    **arguments: Any,
) -> AsyncIterator[ApiKeyRouter]:
    """A started router with keys named key-1, key-2 ... at the provider "openai"."""
    materials = [f"sk-test-key-{i}" for i in range(1, keys + 1)] if isinstance(keys, int) else list(keys)
    async with ApiKeyRouter(**arguments) as router:
        await router.register_provider("openai", OpenAIAdapter(sim.base_url))
        for i, material in enumerate(materials):
            given = metadata[i] if i < len(metadata) else None
            await router.register_key(material, "openai", metadata=given, label=f"key-{i + 1}")
        yield router


async def key_ids(router: ApiKeyRouter) -> list[str]:
    """Ids in order of registration."""
    return [key.id for key in await router.key_manager.list_keys()]
