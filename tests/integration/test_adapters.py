"""Several providers in one router: each model goes to its own, and adapters find their address as the SDKs do."""

from __future__ import annotations

import pytest

from apikeyrouter import AnthropicAdapter, ApiKeyRouter, NoEligibleKeysError, OpenAIAdapter, SystemError
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.provider_adapter import ProviderCapabilities
from tests.support.routers import ask
from tests.support.sim import Sim


async def test_models_go_to_the_provider_that_claims_them(sim: Sim) -> None:
    async with ApiKeyRouter() as router:
        await router.register_provider("anthropic", AnthropicAdapter(sim.base_url))
        await router.register_provider("openai", OpenAIAdapter(sim.base_url, claims_all=False))
        await router.register_key("sk-one", "openai")
        await router.register_key("sk-two", "anthropic")
        assert (await router.route(ask(model="gpt-4o"))).metadata.provider_id == "openai"
        claude = await router.route(ask(model="claude-3-5-haiku-latest"))
        assert claude.metadata.provider_id == "anthropic"
        assert claude.cost.amount > 0
        prefixed = await router.route(ask(model="anthropic/gpt-4o"))
        assert prefixed.metadata.provider_id == "anthropic"
        assert sim.requests()[-1]["json"]["model"] == "gpt-4o"
        with pytest.raises(SystemError, match="No registered provider is known to serve"):
            await router.route(ask(model="gemini-2.5-pro"))


async def test_what_a_provider_does_not_offer_is_refused_by_name_and_not_sent(sim: Sim) -> None:
    async with ApiKeyRouter() as router:
        await router.register_provider("anthropic", AnthropicAdapter(sim.base_url))
        await router.register_key("sk-two", "anthropic")
        with pytest.raises(NoEligibleKeysError, match="does not offer embeddings") as refused:
            await router.embed("claude-embedding", "one")
        assert (refused.value.status, refused.value.provider_code) == (400, "unsupported_operation")
        assert sim.seen() == 0
        silent = ProviderCapabilities(supports_streaming=False)
        await router.register_provider("silent", OpenAIAdapter(sim.base_url, capabilities=silent))
        await router.register_key("sk-three", "silent")
        intent = ask()
        intent.provider_id = "silent"
        with pytest.raises(NoEligibleKeysError, match="does not offer streaming"):
            await anext(router.route_stream(intent))
        assert (await router.route(intent)).content


def test_addresses_come_from_the_environment_as_with_the_sdks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("ANTHROPIC_BASE_URL", raising=False)
    assert OpenAIAdapter().base_url == "https://api.openai.com/v1"
    assert AnthropicAdapter().base_url == "https://api.anthropic.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:4000/v1/")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:4000")
    assert OpenAIAdapter().base_url == AnthropicAdapter().base_url == "http://127.0.0.1:4000/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", " ")
    assert OpenAIAdapter().base_url == "https://api.openai.com/v1"
    for wrong in ("api.example.com/v1", "ftp://example.com", "https://user:word@example.com/v1"):
        with pytest.raises(ConfigurationError):
            OpenAIAdapter(wrong)
