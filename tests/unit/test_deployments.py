"""Deployment groups and fallbacks: what may be written, who serves a name, and what is tried after it."""

from __future__ import annotations

from typing import Any

import pytest

from apikeyrouter import ApiKeyRouter, OpenAIAdapter
from apikeyrouter.domain.errors import ProviderNotRegisteredError
from apikeyrouter.domain.routing.candidates import Group
from apikeyrouter.domain.routing.deployments import Deployments, odd_about, read_deployment, read_deployments
from apikeyrouter.domain.routing.directory import Directory
from apikeyrouter.domain.routing.fallbacks import FallbackReason

FAST = {
    "name": "fast-chat",
    "targets": [
        {"provider": "openai", "model": "gpt-4o-mini", "weight": 2},
        "groq/llama-3.3-70b-versatile",
        {"provider": "azure", "model": "my-deployment", "keys": ["east"], "region": "eu-west", "tags": "gdpr, slow"},
    ],
    "fallbacks": ["claude", "openai/gpt-4o"],
    "context_fallbacks": "gpt-4.1",
}


async def _router(*providers: str) -> ApiKeyRouter:
    router = ApiKeyRouter(environ={})
    for provider in providers:
        await router.register_provider(provider, OpenAIAdapter("http://127.0.0.1:9/v1", claims_all=False))
    return router


def _define(router: ApiKeyRouter, *documents: dict[str, Any]) -> None:
    router.directory.deployments.load([read_deployment(one) for one in documents])
    router.directory.changed()


def _plan(directory: Directory, provider_id: str | None, model: str) -> list[Group]:
    """The group of a model, then its fallbacks in order."""
    return [directory.group_for(provider_id, model), *directory.fallbacks_for(provider_id, model)]


def _names(groups: Any) -> list[str]:
    return [group.model for group in groups]


def test_a_deployment_is_read_as_it_is_written() -> None:
    one = read_deployment(FAST)
    assert [(t.provider_id, t.model, t.weight) for t in one.targets] == [
        ("openai", "gpt-4o-mini", 2.0),
        ("groq", "llama-3.3-70b-versatile", 1.0),
        ("azure", "my-deployment", 1.0),
    ]
    assert one.targets[2].keys == {"east"}
    assert one.targets[2].tags == {"gdpr", "slow"}
    assert one.fallbacks == ("claude", "openai/gpt-4o")
    assert one.context_fallbacks == ("gpt-4.1",)
    assert dict(one.document) == FAST


def test_many_may_be_written_as_an_object_by_name() -> None:
    found = read_deployments({"a": ["openai/x", "groq/y"], "b": "openai/z", "c": {"fallbacks": ["a"]}})
    assert [(one.name, len(one.targets), one.fallbacks) for one in found] == [
        ("a", 2, ()),
        ("b", 1, ()),
        ("c", 0, ("a",)),
    ]


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"name": "a", "targets": ["gpt-4o"]}, "targets[0]: 'gpt-4o' names no provider"),
        (
            {"name": "a", "targets": [{"provider": "p", "model": "m", "weight": 0}]},
            "targets[0].weight: expected a number",
        ),
        ({"name": "a", "targets": [{"provider": "p", "model": "m", "weight": True}]}, "targets[0].weight"),
        ({"name": "a", "targets": [{"provider": "p", "model": "m", "weight": "NaN"}]}, "targets[0].weight"),
        ({"name": "a", "targets": [{"provider": "p"}]}, "targets[0].model: expected 1 to 256"),
        ({"name": "a", "targets": ["p/m", "p/m"]}, "targets[1]: p/m is listed twice"),
        (
            {"name": "a", "targets": [{"provider": "p", "model": "m", "without": ["tool"]}]},
            "expected some of streaming",
        ),
        ({"name": "a", "targets": [{"provider": "p", "model": "m", "context_window": 0}]}, "whole number of tokens"),
        ({"name": "a", "fallbacks": ["a"]}, "fallbacks: 'a' cannot stand in for itself"),
        ({"name": "a", "fallbacks": ["b", "b"]}, "fallbacks: a name is listed twice"),
        ({"name": "a", "fallbacks": [f"m{i}" for i in range(17)]}, "at most 16 are tried"),
        ({"name": "a", "fallbacks": [1]}, "expected a list of names"),
        ({"name": "a"}, "needs targets, fallbacks or both"),
        ({"name": "a", "target": ["p/m"]}, "target: there is no such field; did you mean 'targets'?"),
        ({"targets": ["p/m"]}, "name: expected 1 to 256 printable characters"),
        ({"name": "a", "targets": 3}, "targets: expected a list"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(document: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=": ") as refused:
        read_deployment(document)
    assert told in str(refused.value)


def test_every_fault_of_a_list_is_told_at_once() -> None:
    with pytest.raises(ValueError, match=": ") as refused:
        read_deployments([{"name": "a", "targets": ["x"]}, {"name": "b", "fallbacks": ["b"]}, 7])
    lines = str(refused.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["1", "2", "3"]


def test_a_group_may_not_silently_replace_a_real_model() -> None:
    real = {"gpt-4o"}.__contains__
    with pytest.raises(ValueError, match="name of a real model"):
        read_deployment({"name": "gpt-4o", "targets": ["groq/llama"]}, real)
    read_deployment({"name": "gpt-4o", "targets": ["groq/llama", "openai/gpt-4o"]}, real)
    read_deployment({"name": "gpt-4o", "fallbacks": ["llama"]}, real)


def test_the_configuration_goes_before_the_store() -> None:
    book = Deployments([read_deployment({"name": "a", "fallbacks": ["b"]})])
    book.load([read_deployment({"name": "a", "fallbacks": ["c"]}), read_deployment({"name": "d", "fallbacks": ["c"]})])
    assert [(one.name, one.fallbacks) for one in book.all()] == [("a", ("b",)), ("d", ("c",))]


def test_odd_things_are_told_and_stop_nothing() -> None:
    book = Deployments()
    notes = odd_about(read_deployment(FAST), book, {"openai", "groq"})
    assert notes == ["no provider is registered as azure; those targets wait for it"]
    notes = odd_about(read_deployment({"name": "openai/x", "fallbacks": ["nobody/y"]}), book, {"openai"})
    assert "go to this group" in notes[0]
    assert "no provider is registered as 'nobody'" in notes[1]


async def test_a_group_holds_the_keys_of_all_its_targets_with_their_own_models() -> None:
    async with await _router("openai", "groq", "azure") as router:
        for provider, label in (("openai", "a"), ("groq", "b"), ("azure", "east"), ("azure", "west")):
            await router.register_key(f"key-of-{label}", provider, label=label, metadata={"weight": 3, "region": "us"})
        _define(router, FAST)
        group = router.directory.group_for(None, "fast-chat")
        assert [(c.provider.provider_id, c.model, c.asked, c.record.label) for c in group.candidates] == [
            ("openai", "gpt-4o-mini", "fast-chat", "a"),
            ("groq", "llama-3.3-70b-versatile", "fast-chat", "b"),
            ("azure", "my-deployment", "fast-chat", "east"),
        ]
        first, _, third = group.candidates
        assert first.stride == pytest.approx(1 / 6), "the target's weight multiplies the key's"
        assert third.region == "eu-west"
        assert third.tags == {"gdpr", "slow"}
        assert first.region == "us"
        assert first.price is not None
        assert first.price.context_window == first.context_max
        assert first.breaker is router.providers["openai"].breaker("gpt-4o-mini")


async def test_a_key_that_serves_two_models_of_a_group_keeps_a_turn_for_each() -> None:
    async with await _router("openai") as router:
        await router.register_key("key-of-a", "openai")
        _define(router, {"name": "both", "targets": ["openai/x", "openai/y"]})
        group = router.directory.group_for(None, "both")
        group.candidates[0].turn = 5.0
        router.directory.changed()
        assert [c.turn for c in router.directory.group_for(None, "both").candidates] == [5.0, 0.0]


async def test_a_request_for_one_provider_stays_with_it() -> None:
    async with await _router("openai", "groq") as router:
        await router.register_key("key-of-a", "openai")
        await router.register_key("key-of-b", "groq")
        _define(router, FAST)
        directory = router.directory
        assert [c.model for c in directory.group_for("groq", "fast-chat").candidates] == ["llama-3.3-70b-versatile"]
        plan = _plan(directory, "groq", "fast-chat")
        assert _names(plan) == ["fast-chat", "claude"], "openai/gpt-4o is another provider's"
        assert {c.provider.provider_id for group in plan for c in group.candidates} == {"groq"}


async def test_fallbacks_are_tried_in_order_and_are_not_followed_further() -> None:
    async with await _router("openai", "anthropic") as router:
        _define(
            router,
            {"name": "openai-model", "targets": ["openai/m"], "fallbacks": ["other", "openai/x", "nobody-serves-this"]},
            {"name": "other", "targets": ["anthropic/c"], "fallbacks": ["openai-model"]},
        )
        assert _names(_plan(router.directory, None, "openai-model")) == ["openai-model", "other", "x"]
        assert _names(_plan(router.directory, None, "other")) == ["other", "openai-model"]
        assert router.directory.fallbacks_for(None, "openai-model", FallbackReason.Context) == []
        assert router.directory.fallbacks_for(None, "plain") == ()


async def test_a_model_that_no_provider_serves_still_has_its_fallbacks() -> None:
    async with await _router("groq", "openai") as router:
        _define(router, {"name": "claude-x", "fallbacks": ["groq/llama"]}, {"name": "g", "targets": ["nobody/m"]})
        assert [len(group.candidates) for group in _plan(router.directory, None, "claude-x")] == [0, 0]
        with pytest.raises(ProviderNotRegisteredError):
            router.directory.group_for(None, "g")


async def test_the_name_of_a_group_is_not_split_at_a_provider() -> None:
    async with await _router("openai") as router:
        assert router.directory.split_model("openai/fast") == ("openai", "fast")
        _define(router, {"name": "openai/fast", "targets": ["openai/m"]})
        assert router.directory.split_model("openai/fast") == (None, "openai/fast")
