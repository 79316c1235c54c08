"""Clients of the Responses API over providers of every format, and other clients over a provider of this one: official
SDKs, the router, real HTTP to the simulated provider."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.lib.streaming.responses import ResponseTextDeltaEvent

from apikeyrouter import AnthropicAdapter, ApiKeyRouter, OpenAIAdapter
from apikeyrouter.domain.models.call import Operation, Wire
from apikeyrouter.infrastructure.adapters.base import WireAdapter
from tests.support.sim import Sim

WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
BASICS = (Operation.Chat, Operation.Completions, Operation.Embeddings)


def adapter_of(kind: str, sim: Sim) -> WireAdapter:
    match kind:
        case "native":
            return OpenAIAdapter(sim.base_url, operations=(*BASICS, Operation.Responses))
        case "chat":
            return OpenAIAdapter(sim.base_url, operations=BASICS)
        case "messages":
            return AnthropicAdapter(sim.base_url)
        case _:
            return WireAdapter(
                sim.base_url, dialect="openai", wire=Wire.Responses, native={Operation.Responses: "responses"}
            )


async def router_over(kind: str, sim: Sim) -> ApiKeyRouter:
    router = ApiKeyRouter(environ={})
    await router.register_provider("p", adapter_of(kind, sim))
    await router.register_key("sim-key-a", "p")
    return router


def model_of(kind: str) -> str:
    return "p/claude-sonnet-4-5" if kind == "messages" else "p/gpt-4o"


KINDS = pytest.mark.parametrize("kind", ["native", "chat", "messages"])


@KINDS
async def test_a_responses_client_gets_words_and_usage_from_any_provider(kind: str, sim: Sim) -> None:
    router = await router_over(kind, sim)
    async with router, router.openai_client() as client:
        whole = await client.responses.create(model=model_of(kind), input="Tell me", instructions="Be brief")
        assert whole.status == "completed"
        assert whole.output_text
        assert whole.usage is not None
        assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens > 0
        text, numbers, last = "", [], None
        async for event in await client.responses.create(
            model=model_of(kind), input="Tell me", instructions="Be brief", stream=True
        ):
            numbers.append(event.sequence_number)
            text += event.delta if event.type == "response.output_text.delta" else ""
            last = event
        assert text == whole.output_text
        assert numbers == list(range(len(numbers)))
        assert last is not None
        assert last.type == "response.completed"
        assert last.response.output_text == text
        assert last.response.usage is not None
        assert last.response.usage.output_tokens == whole.usage.output_tokens


@KINDS
async def test_parallel_tools_go_and_come_back_with_their_ids(kind: str, sim: Sim) -> None:
    router = await router_over(kind, sim)
    question = {"role": "user", "content": "What is the weather in Paris and in Oslo?"}
    async with router, router.openai_client() as client:
        async with client.responses.stream(model=model_of(kind), input=[question], tools=[WEATHER]) as stream:
            async for event in stream:
                assert not isinstance(event, ResponseTextDeltaEvent)
            reply = await stream.get_final_response()
        calls = [item for item in reply.output if item.type == "function_call"]
        assert sorted(json.loads(call.arguments)["city"] for call in calls) == ["Oslo", "Paris"]
        assert len({call.call_id for call in calls}) == 2
        results = [
            {"type": "function_call_output", "call_id": call.call_id, "output": f"sunny {at}"}
            for at, call in enumerate(calls)
        ]
        said = [
            {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments}
            for call in calls
        ]
        answer = await client.responses.create(model=model_of(kind), input=[question, *said, *results], tools=[WEATHER])
        assert "sunny 1" in answer.output_text


@pytest.mark.parametrize("kind", ["chat", "messages"])
async def test_what_a_provider_cannot_do_is_refused_by_name_before_anything_is_sent(kind: str, sim: Sim) -> None:
    router = await router_over(kind, sim)
    async with router, router.openai_client(max_retries=0) as client:
        with pytest.raises(openai.BadRequestError, match="previous_response_id"):
            await client.responses.create(model=model_of(kind), input="x", previous_response_id="resp_1")
        with pytest.raises(openai.BadRequestError, match="web_search"):
            await client.responses.create(model=model_of(kind), input="x", tools=[{"type": "web_search"}])
    assert sim.seen("sim-key-a") == 0


async def test_stored_state_works_at_a_native_provider(sim: Sim) -> None:
    router = await router_over("native", sim)
    async with router, router.openai_client() as client:
        first = await client.responses.create(model="p/gpt-4o", input="I am Ann")
        second = await client.responses.create(model="p/gpt-4o", input="Who?", previous_response_id=first.id)
        assert second.previous_response_id == first.id


@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat_client_is_served_by_a_provider_of_responses_alone(sim: Sim, stream: bool) -> None:
    router = await router_over("responses", sim)
    tool = {"type": "function", "function": {name: one for name, one in WEATHER.items() if name != "type"}}
    asked: dict[str, Any] = {
        "model": "p/gpt-4o",
        "messages": [{"role": "user", "content": "What is the weather in Paris and in Oslo?"}],
        "tools": [tool],
    }
    async with router, router.openai_client() as client:
        if stream:
            async with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as events:
                reply = await events.get_final_completion()
        else:
            reply = await client.chat.completions.create(**asked)
    choice = reply.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    cities = [json.loads(call.function.arguments)["city"] for call in choice.message.tool_calls]
    assert cities == ["Paris", "Oslo"]
    assert reply.usage is not None
    assert reply.usage.completion_tokens > 0


@KINDS
async def test_a_failure_inside_a_stream_is_an_error_of_this_format(kind: str, sim: Sim) -> None:
    router = await router_over(kind, sim)
    async with router, router.openai_client(max_retries=0) as client:
        sim.fault(kind="stream_error", key="sim-key-a", count=1, after_chunks=6, message="It broke.")
        with pytest.raises(openai.APIError):
            async for _ in await client.responses.create(model=model_of(kind), input="Tell me", stream=True):
                pass
