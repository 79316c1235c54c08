"""One group of providers that speak different formats: what one cannot be asked for, another is; nothing is charged for
what was never sent."""

from __future__ import annotations

import json

import pytest

from apikeyrouter import AnthropicAdapter, ApiKeyRouter, OpenAIAdapter, RequestIntent, SystemError
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import Call, Operation, peek
from tests.support.sim import Sim


def asked(model: str, **parameters: object) -> RequestIntent:
    return RequestIntent(
        model=model, messages=[{"role": "user", "content": "Say: round trip"}], parameters=dict(parameters)
    )


def test_thoughts_of_another_provider_are_not_sent_to_openai() -> None:
    """A conversation of a Responses client that Claude answered first, and OpenAI goes on with."""
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "akr1.anthropic.c2ln"}
    asked_for = [{"role": "user", "content": "go on"}, thought]
    body = json.dumps({"model": "gpt-5", "input": asked_for}).encode()
    call = Call("req_1", Operation.Responses, "gpt-5", body, peek(body), started_s=0.0, deadline_s=1.0)
    request = OpenAIAdapter().build_request(call, Secret("sim-key-gpt"))
    assert json.loads(request.body)["input"] == asked_for[:1]
    assert request.url == "https://api.openai.com/v1/responses"


async def router_of(sim: Sim, *, targets: bool) -> ApiKeyRouter:
    deployments = [
        {
            "name": "any",
            "targets": [
                {"provider": "anthropic", "model": "claude-haiku-4-5", "weight": 1000},
                {"provider": "openai", "model": "gpt-4o-mini", "weight": 1},
            ],
        }
    ]
    router = ApiKeyRouter(config={"deployments": deployments} if targets else None, environ={})
    await router.register_provider("anthropic", AnthropicAdapter(sim.base_url))
    await router.register_key("sim-key-claude", "anthropic", label="claude")
    await router.register_provider("openai", OpenAIAdapter(sim.base_url, claims_all=False))
    await router.register_key("sim-key-gpt", "openai", label="gpt")
    return router


async def test_a_request_that_one_format_cannot_say_goes_to_the_other_and_costs_nothing_before(sim: Sim) -> None:
    async with await router_of(sim, targets=True) as router:
        for _ in range(3):
            reply = await router.route(asked("any", logit_bias={"50256": -100}))
            assert reply.metadata.provider_id == "openai"
        assert sim.seen("sim-key-claude") == 0
        assert router.key_manager.records("anthropic")[0].state.value == "available"
        assert (await router.route(asked("any"))).metadata.provider_id == "anthropic"
        assert router.ledger.open_holds == 0


async def test_alone_it_is_refused_by_name_before_anything_is_sent(sim: Sim) -> None:
    async with await router_of(sim, targets=False) as router:
        with pytest.raises(SystemError, match="logit_bias") as refused:
            await router.route(asked("claude-haiku-4-5", logit_bias={"50256": -100}))
        assert (refused.value.status, refused.value.provider_code) == (400, "unsupported_by_provider")
        assert sim.seen() == 0
        assert refused.value.decision is not None
        assert (await router.route(asked("claude-haiku-4-5"))).content
