"""Anthropic's own SDK at the simulated provider, which speaks Messages as the real one does, limits and faults too."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import anthropic
import httpx2 as httpx
import pytest

from tests.support.sim import Sim

MODEL = "claude-opus-5"
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
TOOL: Any = {
    "name": "get_weather",
    "description": "Weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture
def client(sim: Sim) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key="sim-key-1", base_url=sim.base_url.removesuffix("/v1"), max_retries=0) as ready:
        yield ready


def refusal(client: anthropic.Anthropic, **change: Any) -> str:
    body = {"model": MODEL, "max_tokens": 50, "messages": HELLO, **change}
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.post("/v1/messages", body=body, cast_to=object)
    return refused.value.message


def test_a_reply_and_its_stream_say_the_same(client: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {
        "model": MODEL,
        "max_tokens": 4_000,
        "messages": [{"role": "user", "content": "How is the weather in Paris and Oslo?"}],
        "tools": [TOOL],
        "thinking": {"type": "adaptive"},
    }
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        kinds = {event.type for event in stream}
        told = stream.get_final_message()
    assert told.content == whole.content
    assert {"thinking", "signature", "input_json", "content_block_stop", "message_stop"} <= kinds
    assert [block.type for block in whole.content] == ["thinking", "tool_use", "tool_use"]
    assert whole.stop_reason == told.stop_reason == "tool_use"
    assert whole.usage.output_tokens == told.usage.output_tokens > 0
    assert whole.usage.output_tokens_details is not None


def test_tools_are_answered_and_thoughts_must_come_back_as_they_were(client: anthropic.Anthropic) -> None:
    asked: Any = [{"role": "user", "content": "How is the weather in Paris?"}]
    more: dict[str, Any] = {"model": MODEL, "max_tokens": 4_000, "tools": [TOOL], "thinking": {"type": "adaptive"}}
    first = client.messages.create(messages=asked, **more)
    assert first.content[1].type == "tool_use"
    blocks: list[Any] = [block.model_dump(exclude_none=True) for block in first.content]
    result: Any = {"type": "tool_result", "tool_use_id": first.content[1].id, "content": "It rains."}
    turns = [*asked, {"role": "assistant", "content": blocks}, {"role": "user", "content": [result]}]
    last = client.messages.create(messages=turns, **more)
    assert "It rains." in last.content[-1].text
    assert "`tool_use` ids were found without" in refusal(client, **{**more, "messages": turns[:2]})
    blocks[0]["thinking"] += "!"
    assert "Invalid `signature`" in refusal(client, **{**more, "messages": turns})


def test_marked_prompts_are_written_to_the_cache_and_then_read_from_it(client: anthropic.Anthropic) -> None:
    system: Any = [{"type": "text", "text": "word " * 2_000, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    first = client.messages.create(model=MODEL, max_tokens=5, system=system, messages=HELLO).usage
    again = client.messages.create(model=MODEL, max_tokens=5, system=system, messages=HELLO).usage
    assert (first.cache_creation_input_tokens, first.cache_read_input_tokens) == (2_500, 0)
    assert first.cache_creation is not None
    assert first.cache_creation.ephemeral_1h_input_tokens == 2_500
    assert (again.cache_creation_input_tokens, again.cache_read_input_tokens) == (0, 2_500)


def test_structured_output_stop_sequences_and_lengths(client: anthropic.Anthropic) -> None:
    schema: Any = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    closed = {**schema, "additionalProperties": False}
    config: Any = {"format": {"type": "json_schema", "schema": closed}}
    reply = client.messages.create(model=MODEL, max_tokens=50, messages=HELLO, output_config=config)
    assert reply.content[0].text.startswith('{"a":')  # type: ignore[union-attr]  # a text
    config["format"]["schema"] = schema
    assert "additionalProperties" in refusal(client, output_config=config)
    stopped = client.messages.create(model=MODEL, max_tokens=50, messages=HELLO, stop_sequences=["answer"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "answer")
    assert client.messages.create(model=MODEL, max_tokens=3, messages=HELLO).stop_reason == "max_tokens"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, "seed: Extra inputs are not permitted"),
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"max_tokens": 500_000}, "maximum allowed number of output tokens"),
        ({"temperature": 0.5}, "deprecated for this model"),
        ({"model": "claude-sonnet-4-5", "temperature": 1.5}, "range: 0..1"),
        ({"model": "claude-sonnet-4-5", "temperature": 0.5, "top_p": 0.5}, "cannot both be specified"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2_000}}, "thinking.type.adaptive"),
        ({"model": "claude-sonnet-4-5", "thinking": {"type": "adaptive"}}, "not supported on this model"),
        ({"model": "claude-sonnet-4-5", "output_config": {"effort": "low"}}, "does not support the effort"),
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "user", "content": " "}]}, "non-whitespace"),
        ({"messages": [{"role": "user", "content": ""}]}, "non-empty"),
        ({"tool_choice": {"type": "any"}}, "while providing tools"),
        ({"stop_sequences": ["\n"]}, "non-whitespace"),
    ],
)
def test_it_is_as_strict_as_the_real_one(client: anthropic.Anthropic, change: dict[str, Any], said: str) -> None:
    assert said in refusal(client, **change)


def test_tokens_are_counted_and_models_listed_in_pages(client: anthropic.Anthropic) -> None:
    count = client.messages.count_tokens(model=MODEL, messages=HELLO).input_tokens
    assert count == client.messages.create(model=MODEL, max_tokens=5, messages=HELLO).usage.input_tokens
    page = client.models.list(limit=2)
    names = [model.id for model in page]
    assert len(page.data) == 2
    assert len(names) == len(set(names)) > 4


def test_a_key_a_version_and_a_known_path_are_demanded(client: anthropic.Anthropic, sim: Sim) -> None:
    wrong = client.with_options(api_key="unknown")
    with pytest.raises(anthropic.AuthenticationError, match="invalid x-api-key"):
        wrong.messages.create(model=MODEL, max_tokens=5, messages=HELLO)
    with pytest.raises(anthropic.BadRequestError, match="anthropic-version"):
        client.post(
            "/v1/messages", body={}, cast_to=object, options={"headers": {"anthropic-version": anthropic.Omit()}}
        )
    with pytest.raises(anthropic.NotFoundError):
        client.post("/v1/messages/nothing", body={}, cast_to=object)
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="no-such-model", max_tokens=5, messages=HELLO)
    assert sim.key("sim-key-1")["by_status"] == {"400": 1, "404": 2}


def test_limits_are_told_in_anthropics_headers_and_held(client: anthropic.Anthropic, sim: Sim) -> None:
    sim.add_account("small", "sim-key-1", limits={"rpm": 3, "tpm": None, "itpm": 1_000, "otpm": 400})
    raw = client.messages.with_raw_response.create(
        model=MODEL, max_tokens=20_000, messages=[{"role": "user", "content": "word " * 400}]
    )
    usage = raw.parse().usage
    told = {name.removeprefix("anthropic-ratelimit-"): value for name, value in raw.headers.items()}
    assert (told["requests-limit"], told["requests-remaining"]) == ("3", "2")
    assert (told["input-tokens-limit"], told["input-tokens-remaining"]) == ("1000", str(1_000 - usage.input_tokens))
    assert (told["output-tokens-limit"], told["output-tokens-remaining"]) == ("400", str(400 - usage.output_tokens))
    assert (told["tokens-limit"], int(told["tokens-remaining"])) == (
        "1400",
        1_400 - usage.input_tokens - usage.output_tokens,
    )
    assert datetime.fromisoformat(told["requests-reset"]).tzinfo is not None
    with pytest.raises(anthropic.RateLimitError, match="1,000 input tokens per minute") as refused:
        client.messages.create(model=MODEL, max_tokens=5, messages=[{"role": "user", "content": "word " * 700}])
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60
    client.messages.create(model=MODEL, max_tokens=5, messages=HELLO)
    with pytest.raises(anthropic.RateLimitError, match="3 requests per minute"):
        client.messages.create(model=MODEL, max_tokens=5, messages=HELLO)


@pytest.mark.parametrize(
    ("fault", "status", "kind", "error"),
    [
        ({"kind": "rate_limited", "retry_after_s": 7}, 429, "rate_limit_error", anthropic.RateLimitError),
        ({"kind": "server_error", "status": 529}, 529, "overloaded_error", anthropic.APIStatusError),
        ({"kind": "server_error"}, 500, "api_error", anthropic.InternalServerError),
        ({"kind": "billing"}, 400, "invalid_request_error", anthropic.BadRequestError),
        ({"kind": "revoked"}, 401, "authentication_error", anthropic.AuthenticationError),
        ({"kind": "client_error", "status": 413}, 413, "request_too_large", anthropic.APIStatusError),
    ],
)
def test_faults_come_in_anthropics_envelope(
    client: anthropic.Anthropic, sim: Sim, fault: dict[str, Any], status: int, kind: str, error: type[Exception]
) -> None:
    sim.fault("sim-key-1", **fault)
    with pytest.raises(error) as raised:
        client.messages.create(model=MODEL, max_tokens=5, messages=HELLO)
    assert isinstance(raised.value, anthropic.APIStatusError)
    assert raised.value.status_code == status
    body: Any = raised.value.body
    assert (body["type"], body["error"]["type"]) == ("error", kind)
    assert raised.value.response.headers["request-id"] == body["request_id"]
    assert raised.value.response.headers.get("retry-after") == ("7" if status == 429 else None)


def test_streams_break_as_told_and_never_with_their_end(client: anthropic.Anthropic, sim: Sim) -> None:
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 50, "messages": HELLO, "stream": True}
    sim.fault("sim-key-1", "stream_error", count=1, after_chunks=4, message="It broke.")
    with pytest.raises(anthropic.APIStatusError, match=r"It broke\."):
        list(client.messages.create(**asked))
    sim.fault("sim-key-1", "cut_stream", count=1, after_chunks=1_000)
    kinds: list[str] = []
    with pytest.raises(httpx.RemoteProtocolError):
        kinds.extend(event.type for event in client.messages.create(**asked))
    assert kinds[-1:] == ["message_delta"]
