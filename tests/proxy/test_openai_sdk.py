"""The official OpenAI SDK for Python against the running proxy, synchronous and asynchronous."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest
from pydantic import BaseModel

from tests.support.processes import ProxyProcess
from tests.support.sim import Sim

HELLO: list[dict[str, str]] = [{"role": "user", "content": "Hello!"}]
MODEL = "gpt-4o-mini"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture
def client(sim: Sim, proxy_server: ProxyProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=proxy_server.base_url, api_key="any", max_retries=0) as made:
        yield made


def test_chat(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model=MODEL, messages=HELLO)  # type: ignore[arg-type]
    assert reply.choices[0].message.content
    assert reply.usage is not None
    assert reply.usage.total_tokens > 0


def test_chat_says_how_it_was_routed(client: openai.OpenAI, proxy_server: ProxyProcess) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)  # type: ignore[arg-type]
    assert raw.headers["x-akr-attempts"] == "1"
    assert float(raw.headers["x-akr-cost"]) > 0
    assert raw.headers["x-akr-key"].startswith("openai")
    assert raw.request_id == raw.headers["x-request-id"]
    status, decision = proxy_server.get(f"/api/v1/decisions/{raw.headers['x-akr-decision']}")
    assert status == 200
    assert decision["explanation"].startswith("Selected ")
    status, by_request = proxy_server.get(f"/api/v1/decisions/{raw.request_id}")
    assert (status, by_request["id"]) == (200, decision["id"])


@pytest.mark.parametrize("wants_usage", [True, False])
def test_streaming(client: openai.OpenAI, wants_usage: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if wants_usage else {}
    chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True, **options))  # type: ignore[call-overload]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert chunks[0].choices, "the first chunk belongs to the text"
    assert any(c.usage for c in chunks) == wants_usage
    assert all(c.choices for c in chunks) != wants_usage


def test_tools_streamed_and_whole(client: openai.OpenAI) -> None:
    asked = {"model": MODEL, "messages": HELLO, "tools": [WEATHER], "tool_choice": "required"}
    reply = client.chat.completions.create(**asked)  # type: ignore[call-overload]
    (call,) = reply.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert "city" in json.loads(call.function.arguments)
    pieces = [
        piece.function.arguments or ""
        for chunk in client.chat.completions.create(**asked, stream=True)  # type: ignore[call-overload]
        for choice in chunk.choices
        for piece in choice.delta.tool_calls or []
    ]
    assert "city" in json.loads("".join(pieces))


def test_structured_output(client: openai.OpenAI) -> None:
    reply = client.chat.completions.parse(model=MODEL, messages=HELLO, response_format=Person)  # type: ignore[arg-type]
    assert isinstance(reply.choices[0].message.parsed, Person)


def test_completions_embeddings_and_models(client: openai.OpenAI) -> None:
    assert client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Once").choices[0].text
    vectors = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    assert len(vectors.data) == 2
    assert len(vectors.data[0].embedding) == 1536
    names = [model.id for model in client.models.list()]
    assert MODEL in names
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_client_errors_have_their_class_and_reach_one_key(client: openai.OpenAI, sim: Sim) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model=MODEL, messages=HELLO, temperature=99)  # type: ignore[arg-type]
    assert bad.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="no-such-model", messages=HELLO)  # type: ignore[arg-type]
    assert sum(r["path"].endswith("chat/completions") for r in sim.requests()) == 2


def test_rate_limit_error_carries_a_true_retry_after(sim: Sim, fresh: ProxyProcess) -> None:
    sim.fault(None, "rate_limited", retry_after_s=30)
    with openai.OpenAI(base_url=fresh.base_url, api_key="any", max_retries=0) as client:
        with pytest.raises(openai.RateLimitError) as limited:
            client.chat.completions.create(model=MODEL, messages=HELLO)  # type: ignore[arg-type]
        assert 25 <= int(limited.value.response.headers["retry-after"]) <= 33
        assert 25_000 <= int(limited.value.response.headers["retry-after-ms"]) <= 33_000
        asked = sim.seen()
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model=MODEL, messages=HELLO)  # type: ignore[arg-type]
        assert sim.seen() == asked, "a key that said when to come back was asked before"


def test_upstream_credentials_are_never_the_clients_401(sim: Sim, fresh: ProxyProcess) -> None:
    sim.fault(None, "revoked")
    with openai.OpenAI(base_url=fresh.base_url, api_key="any", max_retries=0) as client:
        with pytest.raises(openai.InternalServerError) as broken:
            client.chat.completions.create(model=MODEL, messages=HELLO)  # type: ignore[arg-type]
        assert broken.value.status_code == 502
        assert broken.value.code == "upstream_auth"


def test_a_cut_stream_raises_instead_of_ending_quietly(sim: Sim, fresh: ProxyProcess) -> None:
    sim.fault(None, "cut_stream", after_chunks=3)
    with openai.OpenAI(base_url=fresh.base_url, api_key="any", max_retries=0) as client:
        stream = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)  # type: ignore[call-overload]
        assert next(stream).choices
        with pytest.raises(openai.APIError, match="broke off"):
            list(stream)
    assert sim.seen() == 1


def test_cancel_in_mid_stream_stops_the_provider_and_settles(sim: Sim, fresh: ProxyProcess) -> None:
    sim.fault(None, "slow_tokens", delay_s=0.1)
    with openai.OpenAI(base_url=fresh.base_url, api_key="any", max_retries=0) as client:
        stream = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)  # type: ignore[call-overload]
        next(iter(stream))
        stream.close()
    while not any(key["disconnected"] for key in sim.state()["keys"].values()):
        pass
    while (summary := fresh.get("/api/v1/state")[1])["open_holds"]:
        pass
    assert summary["open_holds"] == 0


async def test_the_asynchronous_client_does_the_same(sim: Sim, proxy_server: ProxyProcess) -> None:
    async with openai.AsyncOpenAI(base_url=proxy_server.base_url, api_key="any", max_retries=0) as client:
        reply = await client.chat.completions.create(model=MODEL, messages=HELLO)  # type: ignore[arg-type]
        assert reply.choices[0].message.content
        stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)  # type: ignore[call-overload]
        assert "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
        vectors = await client.embeddings.create(model="text-embedding-3-small", input="one")
        assert vectors.data[0].embedding
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model=MODEL, messages=HELLO, temperature=99)  # type: ignore[arg-type]


def test_keys_fail_behind_it_and_no_user_notices(sim: Sim, fresh: ProxyProcess) -> None:
    bad, revoked, _good = sim.keys
    sim.fault(bad, "rate_limited", retry_after_s=20)
    sim.fault(revoked, "revoked")
    with openai.OpenAI(base_url=fresh.base_url, api_key="any", max_retries=0) as client:
        for _ in range(30):
            assert client.chat.completions.create(model=MODEL, messages=HELLO).choices  # type: ignore[arg-type]
    assert sim.seen(bad) <= 2  # one of them may have been the list of models
    assert sim.seen(revoked) <= 3
