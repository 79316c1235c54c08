"""Rules name keys by their labels: a key that gets another label falls under other rules from its next request on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from apikeyrouter import ApiKeyRouter, OpenAIAdapter
from tests.support.routers import ask


@asynccontextmanager
async def routed() -> AsyncIterator[ApiKeyRouter]:
    """A router with the keys "old" and "other"; requests are only decided."""
    async with ApiKeyRouter(environ={}) as router:
        await router.register_provider("openai", OpenAIAdapter("http://127.0.0.1:9/v1"))
        for label in ("old", "other"):
            await router.register_key(f"sk-test-{label}", "openai", {}, label)
        yield router


async def serving(router: ApiKeyRouter, model: str = "gpt-4o-mini") -> set[str]:
    """Labels of the keys that may serve a request."""
    decision = await router.routing_engine.route_request(ask(model=model))
    assert decision.selected is not None
    served = {one.key_id for one in (decision.selected, *decision.alternatives_considered)}
    return {key.label for key in await router.key_manager.list_keys("openai") if key.id in served}


async def rename(router: ApiKeyRouter, label: str, to: str) -> None:
    for key in await router.key_manager.list_keys("openai"):
        if key.label == label:
            await router.key_manager.update(key.id, label=to)


async def test_a_policy_that_blocks_a_label_holds_for_the_key_that_gets_it() -> None:
    async with routed() as router:
        await router.policy_engine.add_policy(id="none", blocked_keys=["spare*"])
        assert await serving(router) == {"old", "other"}
        await rename(router, "old", "spare-1")
        assert await serving(router) == {"other"}
        await rename(router, "spare-1", "old")
        assert await serving(router) == {"old", "other"}


async def test_a_policy_of_one_key_goes_by_the_label_that_it_has_now() -> None:
    async with routed() as router:
        await router.policy_engine.add_policy(id="cheap", scope="per_key", scope_id="old", max_cost=0.0)
        assert await serving(router) == {"other"}
        await rename(router, "old", "new")
        assert await serving(router) == {"new", "other"}


async def test_a_deployment_that_names_keys_by_label_takes_the_one_that_has_it_now() -> None:
    group = {"name": "main", "targets": [{"provider": "openai", "model": "gpt-4o-mini", "keys": ["other", "third"]}]}
    async with routed() as router:
        await router.deployments.set(group)
        assert await serving(router, "main") == {"other"}
        await rename(router, "old", "third")
        assert await serving(router, "main") == {"other", "third"}


async def test_turns_that_keys_have_taken_outlive_a_new_label() -> None:
    async with routed() as router:
        before = router.directory.group_for(None, "gpt-4o-mini")
        before.took(before.candidates[0])
        await rename(router, "old", "new")
        after = router.directory.group_for(None, "gpt-4o-mini")
        assert [one.record.label for one in after.candidates] == ["new", "other"]
        assert [one.turn for one in after.candidates] == [one.turn for one in before.candidates]
