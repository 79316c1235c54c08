"""Clients of every format at Cohere's own API, over HTTP: tools, thoughts, rerank, embeddings, errors, cut streams."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from apikeyrouter import ApiKeyRouter, SystemError
from apikeyrouter.domain.models.call import Operation, peek
from apikeyrouter.infrastructure.adapters.cohere_adapter import CohereAdapter
from tests.support.native_servers import CITIES, COHERE_BROKEN, FakeCohere
from tests.support.server import run_app

MODEL = "command-a-reasoning-08-2025"
ONE, TWO = "cohere-key-one", "cohere-key-two"
TOOL = {
    "name": "get_weather",
    "description": "The weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture
def cohere() -> Iterator[tuple[FakeCohere, str]]:
    app = FakeCohere(ONE, TWO)
    with run_app(app) as served:
        yield app, served.origin


async def router_at(origin: str, *keys: str) -> ApiKeyRouter:
    router = ApiKeyRouter(environ={})
    await router.register_provider("cohere", CohereAdapter(origin))
    for key in keys or (ONE,):
        await router.register_key(key, "cohere")
    return router


def intent(text: str, model: str = MODEL, **parameters: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "parameters": parameters}


async def test_a_reply_is_charged_as_cohere_bills_it(cohere: tuple[FakeCohere, str]) -> None:
    app, origin = cohere
    async with await router_at(origin) as router:
        response = await router.route(intent("Hello", max_tokens=50, top_p=1.0, stop=["x"]))
    assert response.content == "You said: Hello"
    assert app.seen[-1].json == {
        "model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50, "p": 0.99,
        "stop_sequences": ["x"],
    }  # fmt: skip
    used = response.metadata.tokens_used
    assert (used.input_tokens, used.output_tokens) == (100, 20)


async def test_chat_clients_stream_and_call_tools(cohere: tuple[FakeCohere, str]) -> None:
    app, origin = cohere
    async with await router_at(origin) as router, router.openai_client() as client:
        messages: list[Any] = [{"role": "user", "content": "weather in Paris and in Rome"}]
        tools: Any = [{"type": "function", "function": TOOL}]
        asked: Any = {"model": MODEL, "tools": tools, "tool_choice": "required"}
        reply = await client.chat.completions.create(messages=messages, **asked)
        calls: Any = reply.choices[0].message.tool_calls
        assert reply.choices[0].finish_reason == "tool_calls"
        assert [json.loads(one.function.arguments)["city"] for one in calls] == list(CITIES)
        streamed: dict[int, list[str]] = {}
        async for chunk in await client.chat.completions.create(messages=messages, stream=True, **asked):
            for delta in chunk.choices[0].delta.tool_calls or [] if chunk.choices else []:
                slot = streamed.setdefault(delta.index, ["", ""])
                slot[0] += delta.id or ""
                slot[1] += (delta.function and delta.function.arguments) or ""
        assert [tuple(one) for one in streamed.values()] == [(one.id, one.function.arguments) for one in calls]
        assert app.seen[-1].json["tool_choice"] == "REQUIRED"
        messages.append(reply.choices[0].message.model_dump(exclude_none=True))
        messages += [{"role": "tool", "tool_call_id": one.id, "content": "mild"} for one in calls]
        final = await client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    assert final.choices[0].message.content == "It is mild."
    assert [one["role"] for one in app.seen[-1].json["messages"]] == ["user", "assistant", "tool", "tool"]


@pytest.mark.parametrize("stream", [False, True])
async def test_messages_clients_get_thoughts_and_send_them_back(cohere: tuple[FakeCohere, str], stream: bool) -> None:
    app, origin = cohere
    async with await router_at(origin) as router, router.anthropic_client() as client:
        asked: Any = {
            "model": MODEL,
            "max_tokens": 4000,
            "thinking": {"type": "enabled", "budget_tokens": 2000},
            "messages": [{"role": "user", "content": "think"}],
        }
        if stream:
            async with client.messages.stream(**asked) as running:
                message = await running.get_final_message()
        else:
            message = await client.messages.create(**asked)
        assert [one.type for one in message.content] == ["thinking", "text"]
        assert (message.usage.input_tokens, message.usage.output_tokens) == (100, 20)
        asked["messages"] += [
            {"role": "assistant", "content": [one.model_dump() for one in message.content]},
            {"role": "user", "content": "go on"},
        ]
        await client.messages.create(**asked)
    sent = app.seen[-1].json
    assert sent["thinking"] == {"type": "enabled", "token_budget": 2000}
    assert sent["messages"][1]["content"][0] == {"type": "thinking", "thinking": "Let me see."}


@pytest.mark.parametrize("stream", [False, True])
async def test_responses_and_gemini_clients_are_answered(cohere: tuple[FakeCohere, str], stream: bool) -> None:
    _, origin = cohere
    async with await router_at(origin) as router, router.openai_client() as client:
        if stream:
            seen = [one async for one in await client.responses.create(model=MODEL, input="Hello", stream=True)]
            assert seen[-1].type == "response.completed"
            assert seen[-1].response.output_text == "You said: Hello"
        else:
            assert (await client.responses.create(model=MODEL, input="Hello")).output_text == "You said: Hello"
        body = json.dumps({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}).encode()
        told = peek(body)
        told.stream = stream
        call = router.new_call(Operation.Gemini, body, told, provider_id="cohere")
        call.model = MODEL
        reply = await router.serve(call, router.objective(None))
        whole = reply.body if reply.stream is None else b"".join([one async for one in reply.stream.chunks()])
    assert "".join(re.findall(r'"text":"([^"]*)"', whole.decode())) == "You said: Hello"
    assert b'"promptTokenCount":100' in whole


async def test_text_files_are_documents_that_can_be_cited_and_others_are_refused(
    cohere: tuple[FakeCohere, str],
) -> None:
    app, origin = cohere
    text = {"type": "text", "media_type": "text/plain", "data": "cats purr"}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQ="}
    async with await router_at(origin) as router, router.anthropic_client() as client:
        for source, refused in ((text, False), (pdf, True)):
            content: Any = [{"type": "document", "source": source, "title": "cats"}, {"type": "text", "text": "so?"}]
            messages: Any = [{"role": "user", "content": content}]
            if refused:
                with pytest.raises(Exception, match="document"):
                    await client.messages.create(model=MODEL, max_tokens=50, messages=messages)
            else:
                await client.messages.create(model=MODEL, max_tokens=50, messages=messages)
    assert len(app.seen) == 1
    assert app.seen[0].json["documents"] == [{"id": "doc:0", "data": {"title": "cats", "text": "cats purr"}}]


async def test_rerank_passes_and_its_searches_are_counted(cohere: tuple[FakeCohere, str]) -> None:
    app, origin = cohere
    body = json.dumps({"model": "rerank-v3.5", "query": "a", "documents": ["a", "b"]}).encode()
    async with await router_at(origin) as router:
        call = router.new_call(Operation.Rerank, body, peek(body))
        reply = await router.serve(call, router.objective(None))
    assert app.seen[-1].target == "/v2/rerank"
    assert app.seen[-1].body == body
    assert len(json.loads(reply.body)["results"]) == 2
    assert reply.usage is not None
    assert reply.usage.counts["rerank_searches"] == 1


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_openais_embeddings_come_back_in_order(cohere: tuple[FakeCohere, str], encoding: str) -> None:
    app, origin = cohere
    asked = {"model": "embed-v4.0", "input": ["a", "bb"], "encoding_format": encoding, "input_type": "search_query",
             "dimensions": 256}  # fmt: skip
    body = json.dumps(asked).encode()
    async with await router_at(origin) as router:
        call = router.new_call(Operation.Embeddings, body, peek(body))
        told = json.loads((await router.serve(call, router.objective(None))).body)
    vectors = [one["embedding"] for one in told["data"]]
    if encoding == "base64":
        vectors = [list(struct.unpack("<2f", base64.b64decode(one))) for one in vectors]
    assert vectors == [[1.0, 0.5], [2.0, 0.5]]
    assert told["usage"]["prompt_tokens"] == 2
    assert app.seen[-1].json == {
        "model": "embed-v4.0", "texts": ["a", "bb"], "input_type": "search_query", "embedding_types": ["float"],
        "output_dimension": 256,
    }  # fmt: skip


async def test_a_trial_keys_month_that_is_used_up_rests_it_and_another_serves(cohere: tuple[FakeCohere, str]) -> None:
    app, origin = cohere
    limit = "You are using a Trial key, which is limited to 1000 API calls / month."
    app.fails[ONE] = (429, {}, {"id": "e-2", "message": limit})
    async with await router_at(origin, ONE, TWO) as router:
        for _ in range(4):
            assert (await router.route(intent("Hello"))).content
    asked = [seen.key for seen in app.seen]
    assert asked.count(ONE) <= 1
    assert asked.count(TWO) == 4


async def test_a_refusal_is_told_in_the_callers_format(cohere: tuple[FakeCohere, str]) -> None:
    app, origin = cohere
    app.fails[ONE] = (400, {}, {"id": "e-3", "message": "invalid request: top_k is too large"})
    async with await router_at(origin) as router:
        with pytest.raises(SystemError, match="top_k is too large") as refused:
            await router.route(intent("Hello"))
    assert refused.value.status == 400
    assert len(app.seen) == 1


@pytest.mark.parametrize("end", [COHERE_BROKEN, b'data: {"message":"gone"}\n\n', b"", b"data: {\n\n"])
async def test_a_stream_that_breaks_ends_with_an_error(cohere: tuple[FakeCohere, str], end: bytes) -> None:
    app, origin = cohere
    app.breaks[ONE] = end
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": True}).encode()
    async with await router_at(origin) as router:
        call = router.new_call(Operation.Chat, body, peek(body), provider_id="cohere")
        reply = await router.serve(call, router.objective(None))
        assert reply.stream is not None
        whole = b"".join([one async for one in reply.stream.chunks()])
        assert reply.stream.failure is not None
        assert router.ledger.open_holds == 0
    assert b'"error":{"message":"' in whole
    assert whole.endswith(b"data: [DONE]\n\n")


async def test_models_are_listed_and_its_own_are_claimed(cohere: tuple[FakeCohere, str]) -> None:
    _, origin = cohere
    async with await router_at(origin) as router:
        assert [one["id"] for one in await router.list_models()] == ["command-a-03-2025"]
    adapter = CohereAdapter("https://api.cohere.com/v2/")
    assert adapter.base_url == "https://api.cohere.com"
    assert CohereAdapter("https://api.cohere.ai/compatibility/v1").base_url == "https://api.cohere.ai"
    assert all(map(adapter.claims, ("command-a-03-2025", "embed-v4.0", "rerank-v3.5", "c4ai-aya-expanse-32b")))
    assert not any(map(adapter.claims, ("gpt-4o", "claude-sonnet-4-5", "mistral-embed")))
