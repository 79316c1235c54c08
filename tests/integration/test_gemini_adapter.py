"""Chat requests, native requests and embeddings at a provider that speaks Gemini, over HTTP."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from apikeyrouter import ApiKeyRouter, SystemError
from apikeyrouter.domain.models.call import Operation, peek
from apikeyrouter.infrastructure.adapters.gemini_adapter import GeminiAdapter, VertexAdapter
from tests.support.sim import Sim

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]


def origin_of(sim: Sim) -> str:
    return sim.base_url.removesuffix("/v1")


async def gemini_router(sim: Sim, *names: str) -> ApiKeyRouter:
    router = ApiKeyRouter(environ={})
    await router.register_provider("gemini", GeminiAdapter(origin_of(sim)))
    for name in names or ("a",):
        await router.register_key(f"sim-key-{name}", "gemini", label=name)
    return router


def intent(text: str, model: str = "gemini-2.5-flash", **parameters: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "parameters": parameters}


async def test_a_chat_request_is_answered_with_text_and_every_class_of_usage(sim: Sim) -> None:
    router = await gemini_router(sim)
    async with router:
        response = await router.route(intent("Say: hello there", max_tokens=500, temperature=0.5))
    assert response.content
    seen = sim.requests("sim-key-a")[-1]
    assert seen["path"] == "/v1beta/models/gemini-2.5-flash:generateContent"
    assert "key=" not in seen.get("query", "")
    assert seen["json"]["generationConfig"] == {"maxOutputTokens": 500, "temperature": 0.5}
    usage = response.metadata.tokens_used
    assert usage.input_tokens > 0
    assert usage.output_tokens > 0


async def test_a_streamed_reply_says_what_the_whole_one_says(sim: Sim) -> None:
    router = await gemini_router(sim)
    async with router:
        whole = await router.route(intent("Tell me of rivers"))
        chunks = [chunk async for chunk in router.route_stream(intent("Tell me of rivers"))]
    text = "".join(chunks)
    assert text == whole.content
    last_words = chunks[-1].response
    assert last_words is not None
    assert last_words.metadata.tokens_used == whole.metadata.tokens_used
    last = sim.requests("sim-key-a")[-1]
    assert last["path"].endswith(":streamGenerateContent")


@pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-3-pro-preview"])
async def test_parallel_calls_come_with_ids_and_their_results_find_them(sim: Sim, model: str) -> None:
    router = await gemini_router(sim)
    async with router, router.openai_client() as client:
        messages: list[Any] = [{"role": "user", "content": "What is the weather in Paris and in Rome ?"}]
        reply = await client.chat.completions.create(model=model, messages=messages, tools=TOOLS)
        message = reply.choices[0].message
        assert reply.choices[0].finish_reason == "tool_calls"
        calls = message.tool_calls or []
        assert len({call.id for call in calls}) == len(calls) == 2
        messages.append(message.model_dump(exclude_none=True))
        messages += [{"role": "tool", "tool_call_id": call.id, "content": "18 degrees"} for call in calls]
        final = await client.chat.completions.create(model=model, messages=messages, tools=TOOLS)
    assert final.choices[0].message.content
    contents = sim.requests("sim-key-a")[-1]["json"]["contents"]
    assert [content["role"] for content in contents] == ["user", "model", "user"]
    assert [part["functionResponse"]["name"] for part in contents[2]["parts"]] == ["get_weather"] * 2
    assert ("thoughtSignature" in contents[1]["parts"][0]) == model.startswith("gemini-3")


async def test_calls_in_a_stream_are_the_calls_of_the_whole_reply(sim: Sim) -> None:
    router = await gemini_router(sim)
    async with router, router.openai_client() as client:
        asked: Any = {
            "model": "gemini-2.5-flash",
            "messages": [{"role": "user", "content": "What is the weather in Paris and in Rome ?"}],
            "tools": TOOLS,
        }
        whole = await client.chat.completions.create(**asked)
        streamed: dict[int, list[str]] = {}
        reasons = []
        async for chunk in await client.chat.completions.create(stream=True, **asked):
            for choice in chunk.choices:
                reasons.append(choice.finish_reason)
                for delta in choice.delta.tool_calls or []:
                    slot = streamed.setdefault(delta.index, ["", ""])
                    slot[0] += (delta.function and delta.function.name) or ""
                    slot[1] += (delta.function and delta.function.arguments) or ""
    calls = whole.choices[0].message.tool_calls or []
    assert [(c.function.name, json.loads(c.function.arguments)) for c in calls] == [
        (name, json.loads(arguments)) for name, arguments in streamed.values()
    ]
    assert reasons[-1] == "tool_calls"


async def test_a_native_request_passes_byte_for_byte_and_its_stream_too(sim: Sim) -> None:
    router = await gemini_router(sim)
    body = b'{"contents" : [{"parts":[{"text":"Hello"}]}],  "generationConfig":{"topK": 3}}'
    async with router:
        call = router.new_call(Operation.Gemini, body, peek(body), model="gemini-2.5-flash", query="key=secret&alt=sse")
        reply = await router.serve(call, router.objective(None))
        told = json.loads(reply.body)
    assert told["candidates"][0]["finishReason"] == "STOP"
    seen = sim.requests("sim-key-a")[-1]
    assert seen["body"] == body.decode()
    assert "secret" not in json.dumps(seen)


async def test_schema_and_thinking_reach_the_provider_as_asked(sim: Sim) -> None:
    router = await gemini_router(sim)
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    shape = {"type": "json_schema", "json_schema": {"name": "number", "schema": schema, "strict": True}}
    async with router:
        response = await router.route(intent("A number", response_format=shape, reasoning_effort="low"))
    assert isinstance(json.loads(response.content or "")["n"], int)
    config = sim.requests("sim-key-a")[-1]["json"]["generationConfig"]
    assert config["responseJsonSchema"] == schema
    assert config["thinkingConfig"]["thinkingBudget"] == 1024


async def test_what_gemini_cannot_do_is_refused_by_name_before_anything_is_sent(sim: Sim) -> None:
    router = await gemini_router(sim)
    async with router:
        with pytest.raises(SystemError, match="logit_bias") as refused:
            await router.route(intent("Hi", logit_bias={"5": 1}))
    assert refused.value.status == 400
    assert sim.seen("sim-key-a") == 0


async def test_a_blocked_prompt_is_a_filtered_reply_and_no_failure(sim: Sim) -> None:
    router = await gemini_router(sim)
    async with router, router.openai_client() as client:
        asked: Any = {
            "model": "gemini-2.5-flash",
            "messages": [{"role": "user", "content": "simulate-a-safety-block"}],
        }
        reply = await client.chat.completions.create(**asked)
        reasons = [
            chunk.choices[0].finish_reason
            async for chunk in await client.chat.completions.create(stream=True, **asked)
            if chunk.choices
        ]
    assert reply.choices[0].finish_reason == "content_filter"
    assert reasons[-1] == "content_filter"


async def test_a_spent_key_gives_way_to_another(sim: Sim) -> None:
    sim.add_account("small", "sim-key-a", limits={"rpm": 1})
    router = await gemini_router(sim, "a", "b")
    async with router:
        for _ in range(5):
            assert (await router.route(intent("Hi"))).content
    assert sim.key("sim-key-a")["requests"] <= 2
    assert sim.key("sim-key-b")["requests"] >= 4


async def test_a_wrong_key_gives_way_to_another_though_google_calls_it_a_bad_request(sim: Sim) -> None:
    router = await gemini_router(sim, "a", "b")
    sim.fault("sim-key-a", "revoked")
    async with router:
        for _ in range(4):
            assert (await router.route(intent("Hi"))).content
    assert sim.key("sim-key-b")["requests"] == 4


async def test_an_overloaded_model_is_tried_again(sim: Sim) -> None:
    router = await gemini_router(sim, "a", "b")
    sim.fault(None, "server_error", status=503, count=1)
    async with router:
        assert (await router.route(intent("Hi"))).content
    assert sim.seen() == 2


async def test_a_stream_that_breaks_off_is_an_error_and_not_an_end(sim: Sim) -> None:
    router = await gemini_router(sim)
    async with router:
        sim.fault("sim-key-a", "stream_error", after_chunks=2)
        with pytest.raises(SystemError):
            async for _ in router.route_stream(intent("Tell me of rivers")):
                pass


@pytest.mark.parametrize("encoding", ["float", "base64"])
@pytest.mark.parametrize("vertex", [False, True])
async def test_embeddings_in_openai_format_come_back_in_order(sim: Sim, encoding: str, vertex: bool) -> None:
    router = await gemini_router(sim)
    async with router:
        if vertex:
            root = f"{origin_of(sim)}/v1/projects/p1/locations/global"
            await router.register_provider("vertex", VertexAdapter("p1", base_url=root))
            await router.register_key("sim-key-v", "vertex")
        body = json.dumps(
            {"model": "gemini-embedding-001", "input": ["a", "bb"], "dimensions": 8, "encoding_format": encoding}
        ).encode()
        provider = "vertex" if vertex else "gemini"
        call = router.new_call(Operation.Embeddings, body, peek(body), provider_id=provider)
        told = json.loads((await router.serve(call, router.objective(None))).body)
        one = json.dumps({"model": "gemini-embedding-001", "input": "bb", "dimensions": 8}).encode()
        call = router.new_call(Operation.Embeddings, one, peek(one), provider_id=provider)
        alone = json.loads((await router.serve(call, router.objective(None))).body)
    assert [entry["index"] for entry in told["data"]] == [0, 1]
    vectors = [entry["embedding"] for entry in told["data"]]
    if encoding == "base64":
        vectors = [list(struct.unpack("<8f", base64.b64decode(vector))) for vector in vectors]
    assert vectors[1] == pytest.approx(alone["data"][0]["embedding"])
    assert vectors[0] != vectors[1]
    assert told["usage"]["prompt_tokens"] > 0


async def test_token_ids_are_refused_by_name(sim: Sim) -> None:
    router = await gemini_router(sim)
    async with router:
        body = b'{"model":"gemini-embedding-001","input":[1,2]}'
        call = router.new_call(Operation.Embeddings, body, peek(body), provider_id="gemini")
        with pytest.raises(SystemError, match="token ids"):
            await router.serve(call, router.objective(None))


async def test_vertex_is_asked_with_a_bearer_below_its_project(sim: Sim) -> None:
    router = ApiKeyRouter(environ={})
    root = f"{origin_of(sim)}/v1/projects/p1/locations/europe-west4"
    await router.register_provider("vertex", VertexAdapter("p1", "europe-west4", base_url=root))
    await router.register_key("sim-key-v", "vertex")
    async with router:
        response = await router.route(intent("Hello"))
        assert response.content
        models = await router.list_models()
    assert {"gemini-2.5-flash", "gemini-2.5-pro"} <= {model["id"] for model in models}
    paths = [seen["path"] for seen in sim.requests("sim-key-v")]
    assert "/v1/projects/p1/locations/europe-west4/publishers/google/models/gemini-2.5-flash:generateContent" in paths


async def test_models_are_listed_without_their_prefix(sim: Sim) -> None:
    router = await gemini_router(sim)
    async with router:
        models = await router.list_models()
    assert "gemini-2.5-flash" in {model["id"] for model in models}
