"""The official SDKs over the router itself: no proxy, no socket but those to the provider."""

from __future__ import annotations

import openai
import pytest

from apikeyrouter import ApiKeyRouter, OpenAIAdapter
from tests.support.sim import Sim


async def router_with_keys(sim: Sim, *names: str) -> ApiKeyRouter:
    router = ApiKeyRouter(environ={})
    await router.register_provider("openai", OpenAIAdapter(sim.base_url))
    for name in names:
        await router.register_key(f"sim-key-{name}", "openai", label=name)
    return router


async def test_the_openai_sdk_gets_replies_streams_tools_and_embeddings(sim: Sim) -> None:
    router = await router_with_keys(sim, "a", "b")
    async with router, router.openai_client() as client:
        reply = await client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Say: round trip"}]
        )
        assert reply.choices[0].message.content
        assert reply.usage is not None
        assert reply.usage.total_tokens > 0
        stream = await client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Say: round trip"}], stream=True
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
        assert text == reply.choices[0].message.content
        vectors = await client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
        assert len(vectors.data) == 2
        assert [model.id async for model in await client.models.list()]
    summary = await router.get_state_summary()
    assert summary.costs.total_spent > 0


async def test_the_sdk_raises_what_it_always_raises(sim: Sim) -> None:
    router = await router_with_keys(sim, "a")
    async with router, router.openai_client() as client:
        with pytest.raises(openai.BadRequestError) as wrong:
            await client.chat.completions.create(model="gpt-4o-mini", messages=[])
        assert wrong.value.status_code == 400
        with pytest.raises(openai.NotFoundError, match="not served in process"):
            await client.files.list()


async def test_leaving_a_stream_early_stops_the_provider_and_leaves_nothing_held(sim: Sim) -> None:
    router = await router_with_keys(sim, "a")
    async with router, router.openai_client() as client:
        stream = await client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Tell me much"}], stream=True
        )
        async for _ in stream:
            break
        await stream.close()
        (key,) = router.key_manager.records("openai")
        assert key.in_flight == 0
