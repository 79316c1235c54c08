"""AnthropicAdapter at the simulated provider over real HTTP: chat requests translated, Messages passed as they are."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import openai
import pytest

from apikeyrouter import AnthropicAdapter, ApiKeyRouter, Message, RequestIntent, SystemError
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import Call, Operation, peek
from apikeyrouter.wire.losses import UntranslatableError
from tests.support.routers import ask
from tests.support.sim import Sim

MODEL = "claude-opus-5"
KEY = "sim-key-1"
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
WEATHER = "How is the weather in Paris and Oslo?"


@asynccontextmanager
async def router_at(sim: Sim, *keys: str) -> AsyncIterator[ApiKeyRouter]:
    async with ApiKeyRouter(environ={}) as router:
        await router.register_provider("anthropic", AnthropicAdapter(sim.base_url))
        for key in keys or (KEY,):
            await router.register_key(key, "anthropic")
        yield router


def call_of(body: dict[str, Any], operation: Operation = Operation.Chat, **more: Any) -> Call:
    raw = json.dumps(body).encode()
    return Call("r", operation, body.get("model", MODEL), raw, peek(raw), 0.0, 60.0, **more)


def sent(sim: Sim) -> dict[str, Any]:
    return dict(sim.requests()[-1])


async def test_a_chat_request_is_asked_and_answered_in_messages(sim: Sim) -> None:
    async with router_at(sim) as router:
        intent = RequestIntent(
            model=MODEL,
            messages=[Message(role="system", content="Be brief."), Message(role="user", content="Hello")],
            parameters={"max_tokens": 40, "stop": ["END"]},
        )
        reply = await router.route(intent)
        request = sent(sim)
        assert request["path"] == "/v1/messages"
        assert request["headers"]["anthropic-version"] == "2023-06-01"
        assert request["json"] == {
            "model": MODEL,
            "max_tokens": 40,
            "system": "Be brief.",
            "messages": [{"role": "user", "content": "Hello"}],
            "stop_sequences": ["END"],
        }
        assert reply.content.startswith('Simulated answer to "Hello"')
        assert reply.metadata.finish_reason == "stop"
        assert reply.metadata.provider_request_id is not None
        assert reply.cost.estimation_method == "usage"
        counts = sim.key(KEY)
        assert reply.metadata.tokens_used.output_tokens == counts["completion_tokens"] > 0
        assert reply.metadata.tokens_used.input_tokens == counts["prompt_tokens"] > 0


async def test_a_stream_says_what_the_whole_reply_says(sim: Sim) -> None:
    async with router_at(sim) as router:
        whole = await router.route(ask("Tell me", model=MODEL))
        chunks = [chunk async for chunk in router.route_stream(ask("Tell me", model=MODEL))]
        assert "".join(chunks) == whole.content
        assert sent(sim)["json"]["stream"] is True
        totals = await router.get_state_summary()
        assert totals.costs.total_spent > 0


async def test_tools_go_round_with_their_ids(sim: Sim) -> None:
    async with router_at(sim) as router, router.openai_client() as client:
        asked: list[Any] = [{"role": "user", "content": WEATHER}]
        first = await client.chat.completions.create(model=MODEL, messages=asked, tools=[TOOL], reasoning_effort="low")
        message = first.choices[0].message
        assert first.choices[0].finish_reason == "tool_calls"
        calls: list[Any] = message.tool_calls or []
        assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Paris"}, {"city": "Oslo"}]
        results: list[Any] = [
            {"role": "tool", "tool_call_id": call.id, "content": f"{call.id}: rain"} for call in calls
        ]
        answer: Any = message.model_dump(exclude_none=True)
        last = await client.chat.completions.create(
            model=MODEL,
            messages=[*asked, answer, *results],
            tools=[TOOL],
        )
        assert "rain" in str(last.choices[0].message.content)
        turns = sent(sim)["json"]["messages"]
        assert [block["id"] for block in turns[1]["content"] if block["type"] == "tool_use"] == [c.id for c in calls]
        assert [block["tool_use_id"] for block in turns[2]["content"]] == [call.id for call in calls]


async def test_streamed_tool_calls_are_those_of_the_whole_reply(sim: Sim) -> None:
    async with router_at(sim) as router, router.openai_client() as client:
        asked: Any = {"model": MODEL, "messages": [{"role": "user", "content": WEATHER}], "tools": [TOOL]}
        whole = (await client.chat.completions.create(**asked)).choices[0].message.tool_calls or []
        async with client.chat.completions.stream(**asked) as stream:
            async for _ in stream:
                pass
            streamed = (await stream.get_final_completion()).choices[0].message.tool_calls or []
        assert len(whole) == 2
        assert [call.model_dump()["function"]["arguments"] for call in streamed] == [
            call.model_dump()["function"]["arguments"] for call in whole
        ]


async def test_messages_pass_as_they_are_with_the_callers_version_and_betas(sim: Sim) -> None:
    async with router_at(sim) as router, router.anthropic_client() as client:
        system: Any = [{"type": "text", "text": "word " * 2_000, "cache_control": {"type": "ephemeral"}}]
        asked: Any = {"model": MODEL, "max_tokens": 900, "messages": [{"role": "user", "content": WEATHER}]}
        asked |= {"thinking": {"type": "adaptive"}, "system": system}
        first = await client.messages.create(**asked, extra_headers={"anthropic-beta": "a-2026,b-2026"})
        headers = sent(sim)["headers"]
        assert headers["anthropic-beta"] == "a-2026,b-2026"
        assert headers["anthropic-version"] == "2026-10-21"
        assert sent(sim)["json"] == asked
        async with client.messages.stream(**asked) as stream:
            told = await stream.get_final_message()
        assert [block.model_dump(exclude={"parsed_output"}) for block in told.content] == [
            block.model_dump() for block in first.content
        ]
        assert (first.usage.cache_creation_input_tokens, told.usage.cache_read_input_tokens) == (2_500, 2_500)
        assert (await client.messages.count_tokens(model=MODEL, messages=asked["messages"])).input_tokens > 0


async def test_counting_tokens_costs_nothing(sim: Sim) -> None:
    async with router_at(sim) as router, router.anthropic_client() as client:
        await client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "Hello"}])
        summary = await router.get_state_summary()
        assert summary.costs.total_spent == 0


async def test_refusals_travel_with_their_status_and_another_key_takes_over(sim: Sim) -> None:
    async with router_at(sim, "sim-key-1", "sim-key-2") as router:
        for kind, more in (("rate_limited", {"retry_after_s": 30}), ("server_error", {"status": 529})):
            sim.fault("sim-key-1", kind, **more)
            assert (await router.route(ask(model=MODEL))).content
            sim.clear_faults()
        with pytest.raises(SystemError, match="maximum allowed number of output tokens") as refused:
            await router.route(ask(model=MODEL, max_tokens=900_000))
        assert refused.value.status == 400


async def test_what_anthropic_cannot_do_is_refused_by_name_before_anything_is_sent(sim: Sim) -> None:
    async with router_at(sim) as router:
        with pytest.raises(SystemError, match="seed") as refused:
            await router.route(ask(model=MODEL, seed=3))
        assert refused.value.status == 400
        assert sim.seen() == 0


async def test_both_sdks_raise_their_own_errors(sim: Sim) -> None:
    async with router_at(sim) as router, router.openai_client() as ours, router.anthropic_client() as theirs:
        with pytest.raises(openai.BadRequestError, match="seed"):
            await ours.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}], seed=1)
        with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
            await theirs.messages.create(
                model=MODEL, max_tokens=900_000, messages=[{"role": "user", "content": "Hi"}], timeout=5
            )


# -- the adapter itself ---------------------------------------------------------------------------------------------


def test_keys_and_tokens_go_where_anthropic_wants_them() -> None:
    adapter = AnthropicAdapter("http://127.0.0.1:9", headers={"anthropic-beta": "mine"})
    call = call_of(
        {"model": MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}, Operation.Messages
    )
    key = dict(adapter.build_request(call, Secret("sk-" + "ant-api03-x")).headers)
    assert key[b"x-api-key"] == b"sk-" + b"ant-api03-x"
    assert b"authorization" not in key
    assert key[b"anthropic-beta"] == b"mine"
    for material in ("sk-" + "ant-oat01-x", "eyJ" + "hbGci.x.y"):
        token = dict(adapter.build_request(call, Secret(material)).headers)
        assert token[b"authorization"] == b"Bearer " + material.encode()
        assert b"x-api-key" not in token
        assert token[b"anthropic-beta"] == b"oauth-2025-04-20,mine"


def test_versions_betas_paths_and_queries() -> None:
    adapter = AnthropicAdapter("http://127.0.0.1:9/v1")
    body = {"model": "anthropic/" + MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    headers = [(b"anthropic-version", b"2026-10-21"), (b"anthropic-beta", b"a, b"), (b"anthropic-beta", b"b")]
    call = call_of(body, Operation.CountTokens, headers=headers, query="beta=true")
    call.model = MODEL
    request = adapter.build_request(call, Secret("k"))
    assert request.url == "http://127.0.0.1:9/v1/messages/count_tokens?beta=true"
    assert request.headers.count((b"anthropic-version", b"2026-10-21")) == 1
    assert (b"anthropic-beta", b"a,b") in request.headers
    assert json.loads(request.body) == {**body, "model": MODEL}
    chat = call_of({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}, headers=headers)
    told = dict(adapter.build_request(chat, Secret("k")).headers)
    assert told[b"anthropic-version"] == b"2023-06-01"
    assert b"anthropic-beta" not in told
    listing = adapter.build_models_request(Secret("k"))
    assert listing.url == "http://127.0.0.1:9/v1/models?limit=1000"
    assert dict(listing.headers)[b"anthropic-version"] == b"2023-06-01"


def test_what_cannot_be_said_is_refused_or_dropped_as_the_caller_wants() -> None:
    adapter = AnthropicAdapter("http://127.0.0.1:9")
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "seed": 5, "temperature": 0.2}
    with pytest.raises(UntranslatableError, match=r"seed.*temperature|temperature.*seed"):
        adapter.build_request(call_of(body), Secret("k"))
    request = adapter.build_request(call_of(body, drop_params=True), Secret("k"))
    assert set(request.dropped) == {"seed", "temperature"}
    with pytest.raises(ValueError, match="count of tokens"):
        adapter.read_reply(call_of(body, Operation.CountTokens), b"{}")


async def test_models_are_listed(sim: Sim) -> None:
    async with router_at(sim) as router:
        names = [model["id"] for model in await router.list_models()]
        assert MODEL in names
