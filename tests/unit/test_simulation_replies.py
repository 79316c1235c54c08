"""What the simulated models say: deterministic, in OpenAI's shapes, and strict about malformed requests."""

from __future__ import annotations

import base64
import json
import math
import random
from array import array
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apikeyrouter.simulation.api_errors import ApiError
from apikeyrouter.simulation.chat import answer_chat
from apikeyrouter.simulation.completions import answer_completion
from apikeyrouter.simulation.config import SimConfig
from apikeyrouter.simulation.embeddings import answer_embedding, vector
from apikeyrouter.simulation.requests import ChatRequest, CompletionRequest, EmbeddingRequest, decode
from apikeyrouter.simulation.schema import fill
from apikeyrouter.simulation.sse import DONE, chat_events
from apikeyrouter.simulation.text import compose, digest_of, tokens_of

USER = [{"role": "user", "content": "Tell me about tides"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
            "required": ["city"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "local_clock", "parameters": {"type": "object", "properties": {}}}}


def chat(*, config: SimConfig | None = None, **fields: Any) -> dict[str, Any]:
    body = json.dumps({"model": "gpt-4o", "messages": USER, **fields}).encode()
    reply = answer_chat(decode(body, ChatRequest), config or SimConfig(), "chatcmpl-1", 1_700_000_000)
    decoded: dict[str, Any] = json.loads(msgspec.json.encode(reply.whole()))
    return decoded


def refused(**fields: Any) -> dict[str, Any]:
    with pytest.raises(ApiError) as caught:
        chat(**fields)
    assert caught.value.status == 400
    error: dict[str, Any] = caught.value.body["error"]
    return error


def test_the_same_request_and_seed_give_the_same_reply_and_another_seed_another() -> None:
    assert chat() == chat()
    assert chat(config=SimConfig(seed=2)) != chat()
    other = chat(messages=[{"role": "user", "content": "Tell me about tides."}])
    assert other["choices"] != chat()["choices"]


def test_usage_counts_the_tokens_that_are_there() -> None:
    reply = chat(n=3)
    texts = [choice["message"]["content"] for choice in reply["choices"]]
    assert reply["usage"]["completion_tokens"] == sum(len(tokens_of(text)) for text in texts)
    assert len(set(texts)) == 3
    assert reply["usage"]["total_tokens"] == reply["usage"]["prompt_tokens"] + reply["usage"]["completion_tokens"]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_token_bound_ends_the_reply_with_reason_length(name: str) -> None:
    bound: dict[str, Any] = {name: 3}
    reply = chat(**bound)
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 3


def test_a_stop_sequence_ends_the_text_before_itself() -> None:
    whole = chat()["choices"][0]["message"]["content"]
    cut = chat(stop=["answer", "zzz"])["choices"][0]
    assert cut["message"]["content"] == whole[: whole.index("answer")].rstrip()
    assert cut["finish_reason"] == "stop"


def test_models_that_reason_bill_their_thoughts_and_want_the_newer_parameter() -> None:
    details = chat(model="gpt-5")["usage"]["completion_tokens_details"]
    assert details["reasoning_tokens"] >= 16
    assert (
        chat(model="gpt-5", reasoning_effort="minimal")["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0
    )
    starved = chat(model="gpt-5", max_completion_tokens=5)
    assert (starved["choices"][0]["message"]["content"], starved["choices"][0]["finish_reason"]) == ("", "length")
    assert starved["usage"]["completion_tokens"] == 5
    assert refused(model="gpt-5", max_tokens=5)["code"] == "unsupported_parameter"


def test_log_probabilities_spell_the_content() -> None:
    choice = chat(logprobs=True, top_logprobs=2)["choices"][0]
    entries = choice["logprobs"]["content"]
    assert "".join(entry["token"] for entry in entries) == choice["message"]["content"]
    assert all(len(entry["top_logprobs"]) == 2 and entry["logprob"] < 0 for entry in entries)


def test_a_tool_is_called_when_the_user_names_it() -> None:
    asked = chat(messages=[{"role": "user", "content": "What is the weather in Oslo?"}], tools=[WEATHER, CLOCK])
    (call,) = asked["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"])["city"] == "Oslo"
    assert asked["choices"][0]["finish_reason"] == "tool_calls"
    assert asked["choices"][0]["message"]["content"] is None
    assert "tool_calls" not in chat(tools=[WEATHER])["choices"][0]["message"]


def test_tools_are_called_in_parallel_unless_forbidden() -> None:
    both = [{"role": "user", "content": "Weather in Oslo and Lima, please"}]
    calls = chat(messages=both, tools=[WEATHER])["choices"][0]["message"]["tool_calls"]
    assert [json.loads(call["function"]["arguments"])["city"] for call in calls] == ["Oslo", "Lima"]
    assert len({call["id"] for call in calls}) == 2
    assert (
        len(chat(messages=both, tools=[WEATHER], parallel_tool_calls=False)["choices"][0]["message"]["tool_calls"]) == 1
    )


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ("required", "get_weather"),
        ({"type": "function", "function": {"name": "local_clock"}}, "local_clock"),
        ("none", None),
    ],
)
def test_tool_choice_is_obeyed(choice: object, name: str | None) -> None:
    message = chat(tools=[WEATHER, CLOCK], tool_choice=choice)["choices"][0]["message"]
    assert [call["function"]["name"] for call in message.get("tool_calls", [])] == ([name] if name else [])


def test_a_custom_tool_gets_free_text() -> None:
    tool = {"type": "custom", "custom": {"name": "shell"}}
    (call,) = chat(tools=[tool], tool_choice="required")["choices"][0]["message"]["tool_calls"]
    assert (call["type"], call["custom"]["name"]) == ("custom", "shell")


def test_after_a_tool_answered_the_model_speaks_of_its_result() -> None:
    messages = [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "eleven degrees"},
    ]
    assert "eleven degrees" in chat(messages=messages, tools=[WEATHER])["choices"][0]["message"]["content"]


def test_structured_output_fits_its_schema() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 3},
            "age": {"type": "integer", "minimum": 18, "maximum": 20},
            "tags": {"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 3},
            "address": {"$ref": "#/$defs/Address"},
            "note": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        },
        "required": ["name", "age", "tags", "address", "note"],
        "additionalProperties": False,
        "$defs": {"Address": {"type": "object", "properties": {"zip": {"type": "string"}}, "required": ["zip"]}},
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": schema}}
    document = json.loads(chat(response_format=wanted)["choices"][0]["message"]["content"])
    assert set(document) == set(schema["required"])
    assert len(document["name"]) <= 3
    assert 18 <= document["age"] <= 20
    assert len(document["tags"]) == 3
    assert set(document["tags"]) <= {"x", "y"}
    assert isinstance(document["address"]["zip"], str)
    del schema["additionalProperties"]
    assert "additionalProperties" in refused(response_format=wanted)["message"]


def test_json_mode_answers_json_and_wants_the_word() -> None:
    asked = [{"role": "user", "content": "Answer in JSON"}]
    reply = chat(messages=asked, response_format={"type": "json_object"})
    assert json.loads(reply["choices"][0]["message"]["content"])
    assert "must contain the word 'json'" in refused(response_format={"type": "json_object"})["message"]


def test_a_schema_that_refers_to_itself_ends() -> None:
    node = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["next"],
    }
    document, depth = fill(node, random.Random(1)), 0
    while document["next"] is not None:
        document, depth = document["next"], depth + 1
    assert depth < 10


@given(
    least=st.integers(-1000, 1000), span=st.integers(0, 50), step=st.sampled_from([1, 2, 5]), seed=st.integers(0, 99)
)
@settings(max_examples=60, deadline=None)
def test_whole_numbers_keep_their_bounds(least: int, span: int, step: int, seed: int) -> None:
    schema = {"type": "integer", "minimum": least, "maximum": least + span + step, "multipleOf": step}
    value = fill(schema, random.Random(seed))
    assert least <= value <= least + span + step
    assert value % step == 0


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": ["hi"]}, "messages[0]", "invalid_type"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.[0].content", None),
        (
            {"messages": [{"role": "user", "content": [{"type": "smell"}]}]},
            "messages[0].content[0].type",
            "invalid_value",
        ),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "c"}]}, "messages.[0].role", None),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "c"}]}, *USER]}, "messages.[1].role", None),
        ({"temperature": 3}, "temperature", "decimal_above_max_value"),
        ({"temperature": -0.5}, "temperature", "decimal_below_min_value"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"n": 1.5}, "n", "invalid_type"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"max_tokens": 20_000}, "max_tokens", "invalid_value"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens", "invalid_parameter_combination"),
        ({"top_logprobs": 2}, "top_logprobs", None),
        ({"stop": ["a"] * 5}, "stop", "array_above_max_length"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream_options": {}}, "stream_options", None),
        ({"tool_choice": "required"}, "tool_choice", None),
        ({"tools": [WEATHER], "tool_choice": "maybe"}, "tool_choice", "invalid_value"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": "x"}}, "tool_choice", None),
        ({"tools": [{"type": "magic"}]}, "tools[0].type", "invalid_value"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "invalid_value"),
        ({"response_format": {"type": "yaml"}}, "response_format.type", "invalid_value"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter"),
        (
            {"model": "gpt-4", "messages": [{"role": "user", "content": "x" * 40_000}]},
            "messages",
            "context_length_exceeded",
        ),
    ],
)
def test_malformed_requests_are_refused_by_parameter_and_code(
    fields: dict[str, Any], param: str, code: str | None
) -> None:
    error = refused(**fields)
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        decode(body, ChatRequest)
    assert caught.value.status == 400
    assert "could not parse the JSON body" in caught.value.body["error"]["message"]


def test_a_model_must_be_named_and_known() -> None:
    for body, status in ((b"{}", 400), (b'{"model":5}', 400), (b'{"model":"no-such-model"}', 404)):
        with pytest.raises(ApiError) as caught:
            decode(body, ChatRequest)
        assert caught.value.status == status


WORDS = (
    "allowed_tools",
    "tools",
    "tool_calls",
    "tool_call_id",
    "assistant",
    "tool",
    "user",
    "type",
    "function",
    "name",
    "role",
    "content",
    "text",
    "json_schema",
    "schema",
    "properties",
    "items",
    "enum",
    "$ref",
)
NAMES = st.sampled_from((*WORDS, "minimum", "minLength", "required", "anyOf")) | st.text(max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.floats(-5, 5) | st.sampled_from(WORDS) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
SCHEMA = st.dictionaries(NAMES, JSON, max_size=4)
FUNCTION = st.fixed_dictionaries({"name": st.sampled_from(["tide", "moon"]), "parameters": SCHEMA})
ODD = st.one_of(
    st.dictionaries(st.sampled_from(sorted(ChatRequest.__struct_fields__)), JSON, max_size=4),
    st.fixed_dictionaries({"messages": st.lists(st.dictionaries(NAMES, JSON, max_size=3), max_size=3)}),
    SCHEMA.map(
        lambda schema: {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}
    ),
    st.tuples(FUNCTION, JSON).map(lambda t: {"tools": [{"type": "function", "function": t[0]}], "tool_choice": t[1]}),
    FUNCTION.map(lambda f: {"tools": [{"type": "function", "function": f}], "tool_choice": "required"}),
)


@given(fields=ODD)
@settings(max_examples=200, deadline=None)
def test_any_json_object_is_answered_or_refused_and_nothing_else(fields: dict[str, Any]) -> None:
    body = json.dumps({"model": "gpt-4o", "messages": USER, **fields}).encode()
    try:
        reply = answer_chat(decode(body, ChatRequest), SimConfig(), "chatcmpl-1", 1)
    except ApiError:
        return  # any other exception fails the test
    assert b"".join(chat_events(reply, include_usage=True, obfuscate=True)).endswith(DONE)
    assert msgspec.json.encode(reply.whole())


@given(prompt=st.text(max_size=200), seed=st.integers(0, 9), least=st.integers(1, 60), span=st.integers(0, 60))
@settings(max_examples=100, deadline=None)
def test_replies_keep_the_wanted_length_and_their_tokens_spell_them(
    prompt: str, seed: int, least: int, span: int
) -> None:
    text = compose(digest_of(seed, prompt), prompt, least, least + span)
    assert least <= len(tokens_of(text)) <= 2 * (least + span) + 8  # long words of the quote are several tokens
    assert "".join(tokens_of(text)) == text


def streamed(**fields: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    body = json.dumps({"model": "gpt-4o", "messages": USER, "stream": True, **fields}).encode()
    reply = answer_chat(decode(body, ChatRequest), SimConfig(), "chatcmpl-1", 1)
    events = list(chat_events(reply, include_usage="stream_options" in fields, obfuscate=True))
    assert events[-1] == b"data: [DONE]\n\n"
    assert all(event.startswith(b"data: ") and event.endswith(b"\n\n") for event in events)
    return [json.loads(event[6:]) for event in events[:-1]], reply.whole()


def test_a_stream_spells_the_same_reply_in_the_recorded_order() -> None:
    chunks, whole = streamed(stream_options={"include_usage": True})
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1])
    assert text == whole["choices"][0]["message"]["content"]
    assert [c["choices"][0]["finish_reason"] for c in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], whole["usage"])
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert {chunk["id"] for chunk in chunks} == {"chatcmpl-1"}


def test_a_stream_without_the_option_carries_no_usage() -> None:
    chunks, _ = streamed()
    assert not any("usage" in chunk for chunk in chunks)


def test_streamed_choices_take_turns_and_each_spells_its_own() -> None:
    chunks, whole = streamed(n=2)
    assert [chunk["choices"][0]["index"] for chunk in chunks[:4]] == [0, 1, 0, 1]
    for index in (0, 1):
        mine = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        text = "".join(choice["delta"].get("content") or "" for choice in mine)
        assert text == whole["choices"][index]["message"]["content"]


def test_streamed_tool_calls_spell_their_arguments() -> None:
    question = [{"role": "user", "content": "weather in Oslo and Lima"}]
    chunks, whole = streamed(messages=question, tools=[WEATHER])
    spelled: dict[int, str] = {}
    for chunk in chunks:
        for part in chunk["choices"][0]["delta"].get("tool_calls", []):
            spelled[part["index"]] = spelled.get(part["index"], "") + part["function"]["arguments"]
    calls = whole["choices"][0]["message"]["tool_calls"]
    assert list(spelled.values()) == [call["function"]["arguments"] for call in calls]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def completion(**fields: Any) -> dict[str, Any]:
    body = json.dumps({"model": "gpt-3.5-turbo-instruct", "prompt": "Once", **fields}).encode()
    return answer_completion(decode(body, CompletionRequest), SimConfig(), "cmpl-1", 1).whole()


def test_legacy_completions_take_texts_and_token_ids_and_echo() -> None:
    assert completion()["object"] == "text_completion"
    assert completion(max_tokens=2)["choices"][0]["finish_reason"] == "length"
    assert [c["index"] for c in completion(prompt=["a", "b"], n=2)["choices"]] == [0, 1, 2, 3]
    assert completion(prompt=[1, 2, 3])["usage"]["prompt_tokens"] == 3
    assert completion(echo=True)["choices"][0]["text"].startswith("Once")
    spelled = completion(logprobs=1)["choices"][0]
    assert "".join(spelled["logprobs"]["tokens"]) == spelled["text"]
    with pytest.raises(ApiError):
        completion(prompt=[{}])
    with pytest.raises(ApiError) as caught:
        completion(max_tokens=-1)
    assert "Expected a value >= 0, but got -1" in caught.value.body["error"]["message"]


def embed(**fields: Any) -> dict[str, Any]:
    body = json.dumps({"model": "text-embedding-3-small", "input": "tide", **fields}).encode()
    return answer_embedding(decode(body, EmbeddingRequest), SimConfig())


def test_embeddings_are_unit_vectors_in_both_encodings() -> None:
    numbers = embed()["data"][0]["embedding"]
    assert len(numbers) == 1536
    assert math.isclose(math.fsum(n * n for n in numbers), 1.0, rel_tol=1e-5)
    packed = array("f", base64.b64decode(embed(encoding_format="base64")["data"][0]["embedding"]))
    assert packed.tolist() == numbers


def test_fewer_dimensions_are_the_beginning_of_the_full_vector() -> None:
    short, full = vector(1, "m", "tide", 8), vector(1, "m", "tide", 16)
    scale = full[0] / short[0]
    assert all(math.isclose(a * scale, b, rel_tol=1e-4) for a, b in zip(short, full, strict=False))


def test_embeddings_take_one_or_many_texts_or_token_ids() -> None:
    assert embed(input=[1, 2, 3])["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    many = embed(input=["a", "b", "a"])["data"]
    assert [item["index"] for item in many] == [0, 1, 2]
    assert many[0]["embedding"] == many[2]["embedding"] != many[1]["embedding"]
    assert len(embed(input=[[1], [2, 3]])["data"]) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"input": None},
        {"input": ""},
        {"input": []},
        {"input": ["a"] * 2049},
        {"input": "x" * 40_000},
        {"input": {"a": 1}},
        {"encoding_format": "hex"},
        {"dimensions": 0},
        {"dimensions": 4000},
        {"model": "text-embedding-ada-002", "dimensions": 8},
    ],
)
def test_malformed_embedding_requests_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        embed(**fields)
    assert caught.value.status == 400
