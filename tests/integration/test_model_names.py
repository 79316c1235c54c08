"""Names of models as people write them: families, other names of providers, and advice when nobody serves one."""

from __future__ import annotations

import pytest

from apikeyrouter import AnthropicAdapter, ApiKeyRouter, OpenAIAdapter, SystemError
from tests.support.routers import ask
from tests.support.sim import Sim


async def test_a_family_is_asked_for_by_each_providers_own_name(sim: Sim) -> None:
    async with ApiKeyRouter(environ={}) as router:
        await router.register_provider("anthropic", AnthropicAdapter(sim.base_url))
        await router.register_key("sim-key-claude", "anthropic")
        await router.register_provider("groq", OpenAIAdapter(sim.base_url, claims_all=True))
        await router.register_key("sim-key-groq", "groq")
        reply = await router.route(ask(model="groq/llama-3-70b"))
        assert reply.content
        assert sim.requests()[-1]["json"]["model"] == "llama3-70b-8192"
        await router.route(ask(model="groq/some-other-model"))
        assert sim.requests()[-1]["json"]["model"] == "some-other-model"


async def test_a_provider_is_known_by_its_other_names(sim: Sim) -> None:
    async with ApiKeyRouter(environ={}) as router:
        await router.register_provider("together", OpenAIAdapter(sim.base_url))
        await router.register_key("sim-key-together", "together")
        reply = await router.route(ask(model="together_ai/some-model"))
        assert reply.metadata.provider_id == "together"
        assert sim.requests()[-1]["json"]["model"] == "some-model"


async def test_a_mistyped_model_that_nobody_serves_is_answered_with_the_nearest_names() -> None:
    async with ApiKeyRouter(environ={}) as router:
        await router.register_provider("openai", OpenAIAdapter("https://api.openai.com/v1"))
        await router.register_provider("anthropic", AnthropicAdapter("https://api.anthropic.com"))
        with pytest.raises(SystemError, match="gpt-4o-mini"):
            await router.route(ask(model="gtp-4o-mini"))
