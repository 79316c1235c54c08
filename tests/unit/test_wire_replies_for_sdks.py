"""What is written for clients passes the models of their SDKs, whatever the provider wrote."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import Call, Operation, Wire, peek
from apikeyrouter.infrastructure.adapters.azure_adapter import AzureAdapter
from apikeyrouter.infrastructure.adapters.compatible import CompatibleAdapter
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from apikeyrouter.infrastructure.catalogue.provider_row import ProviderRow
from apikeyrouter.wire.citations import flat_citation, nested_citation, tier_told
from apikeyrouter.wire.codec import MalformedError, codec_of
from apikeyrouter.wire.facts import Answer, Choice, Finished, Stop, Text, ToolCall
from apikeyrouter.wire.logprobs import tokens_told
from apikeyrouter.wire.losses import Losses, UntranslatableError, shown

CITED: dict[str, Any] = {"url": "https://a.example", "title": "A", "start_index": 0, "end_index": 2}
NESTED = {"type": "url_citation", "url_citation": CITED}
FLAT = {"type": "url_citation", **CITED}
PAGE = {"type": "char_location", "document_index": 0, "cited_text": "x"}
FILE = {"type": "file_citation", "file_id": "file-1", "filename": "a.pdf", "index": 3}


def call(operation: Operation, body: dict[str, Any], **fields: Any) -> Call:
    raw = json.dumps(body).encode()
    return Call("req_1", operation, body.get("model", "m"), raw, peek(raw), started_s=0.0, deadline_s=60.0, **fields)


def test_citations_of_pages_take_the_shape_of_the_format() -> None:
    assert nested_citation(FLAT) == nested_citation(NESTED) == NESTED
    assert flat_citation(FLAT) == flat_citation(NESTED) == FLAT


def test_citations_that_a_format_has_no_word_for_are_left_out() -> None:
    assert [nested_citation(one) for one in (PAGE, FILE, {}, {"type": ["x"]})] == [None] * 4
    assert [flat_citation(one) for one in (PAGE, {"type": "file_citation"}, {}, {"type": ["x"]})] == [None] * 4
    assert flat_citation(FILE) == FILE


def test_a_citation_gets_what_clients_require() -> None:
    bare = nested_citation({"type": "url_citation", "url_citation": {"url": 5, "start_index": -1, "end_index": True}})
    assert bare == {"type": "url_citation", "url_citation": {"url": "", "title": "", "start_index": 0, "end_index": 0}}


@pytest.mark.parametrize("note", [NESTED, FLAT, PAGE, FILE, {"type": "url_citation"}])
@pytest.mark.parametrize("tier", ["on_demand", "standard", "", "flex", None])
def test_openais_models_accept_any_citation_and_tier(note: dict[str, Any], tier: str | None) -> None:
    answer = Answer("r", "m", [Choice([Text("Hi", annotations=[note])])], service_tier=tier)
    chat = ChatCompletion.model_validate_json(codec_of(Wire.Chat).write_answer(answer, "m"))
    response = Response.model_validate_json(codec_of(Wire.Responses).write_answer(answer, "m"))
    assert chat.service_tier == tier_told(tier)
    assert response.service_tier == (tier_told(tier) or "default")


def test_line_breaks_in_arguments_do_not_break_an_event_of_gemini() -> None:
    arguments = '{\n    "city": "Rio\\nde Janeiro",\r\n  "days": 3.10\n}'
    chunk = {"choices": [{"index": 0, "delta": {"tool_calls": [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    ]}, "finish_reason": "tool_calls"}]}  # fmt: skip
    decoder = codec_of(Wire.Chat).decoder()
    told = [*decoder.feed(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()), *decoder.finish()]
    encoder = codec_of(Wire.Gemini).encoder("m", want_usage=True)
    written = b"".join(map(encoder.encode, told)) + encoder.finish()
    again = codec_of(Wire.Gemini).decoder()
    read = [*again.feed(written), *again.finish()]
    assert any(isinstance(event, Finished) and event.stop is Stop.Tools for event in read)
    whole = codec_of(Wire.Gemini).write_answer(Answer("r", "m", [Choice([ToolCall("c", "f", arguments)])]), "m")
    call_of = json.loads(whole)["candidates"][0]["content"]["parts"][0]["functionCall"]
    assert call_of["args"] == {"city": "Rio\nde Janeiro", "days": 3.1}
    assert b"3.10" in written


@pytest.mark.parametrize("logprobs", [{"content": -1}, {"content": "x"}, {"refusal": {}}, 5, [1]])
def test_logprobs_that_cannot_be_read_are_none(logprobs: object) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "logprobs": logprobs}
    answer = codec_of(Wire.Chat).read_answer(json.dumps({"choices": [choice | {"finish_reason": "stop"}]}).encode())
    assert answer.choices[0].logprobs is None
    chunk = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "logprobs": logprobs, "finish_reason": "stop"}]}
    decoder = codec_of(Wire.Chat).decoder()
    told = decoder.feed(b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n")
    encoder = codec_of(Wire.Responses).encoder("m", want_usage=True)
    assert b"Hi" in b"".join(map(encoder.encode, told)) + encoder.finish()


def test_log_probabilities_go_no_deeper_than_the_format() -> None:
    deep: Any = "x"
    for _ in range(900):
        deep = [deep]
    good = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": [{"token": "Hi", "logprob": -0.5}]}
    assert tokens_told([good, 5, None]) == [good]
    assert tokens_told([{"token": deep, "bytes": deep, "top_logprobs": deep}]) == [{"bytes": [], "top_logprobs": []}]
    assert tokens_told({"token": "x"}) == []


def test_citations_go_no_deeper_than_the_format() -> None:
    assert nested_citation({"type": "url_citation", "url_citation": {**CITED, "more": [["x"]]}}) == NESTED
    assert flat_citation({**FILE, "more": {"x": {}}}) == FILE
    assert flat_citation({**FILE, "filename": []}) is None


@pytest.mark.parametrize(("wire", "place"), [
    (Wire.Messages, {"max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "x"}]}]}),
    (Wire.Messages, {"max_tokens": 5, "messages": [], "system": [{"type": "x"}]}),
    (Wire.Messages, {"max_tokens": 5, "messages": [], "tools": [{"type": "x"}]}),
    (Wire.Chat, {"messages": [{"role": "user", "content": [{"type": "x"}]}]}),
    (Wire.Chat, {"messages": [], "tools": [{"type": "x"}]}),
    (Wire.Responses, {"input": [{"role": "user", "content": [{"type": "x"}]}]}),
    (Wire.Responses, {"input": [], "tools": [{"type": "x"}]}),
])  # fmt: skip
def test_a_type_of_any_depth_is_refused_in_a_short_sentence(wire: Wire, place: dict[str, Any]) -> None:
    deep = "[" * 900 + "]" * 900
    body = json.dumps({"model": "m", **place}).replace('"type": "x"', f'"type": {deep}').encode()

    def read() -> None:
        losses = Losses("x", may_drop=False)
        codec_of(wire).read_request(body, losses, model="m", stream=False)
        losses.check()

    with pytest.raises((MalformedError, UntranslatableError)) as caught:
        read()
    assert len(str(caught.value)) < 900


def test_values_of_clients_are_shown_in_bounds() -> None:
    assert [shown(one) for one in ("a\nb", [1], {"a": 1}, 5, None)] == ["'a\\x0ab'", "a list", "an object", "5", "None"]
    assert len(shown("x" * 10_000)) == 102


RESPONSE = {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": [
    {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}
]}  # fmt: skip
ONLY_RESPONSES = [
    OpenAIAdapter("http://127.0.0.1:9/v1", operations=[Operation.Responses]),
    AzureAdapter("http://127.0.0.1:9", operations=[Operation.Responses]),
    AzureAdapter("http://127.0.0.1:9", api_version="2025-04-01-preview", operations=[Operation.Responses]),
    CompatibleAdapter(
        ProviderRow(id="x", base_url="http://127.0.0.1:9/v1", operations={Operation.Responses: "responses"})
    ),
]


@pytest.mark.parametrize("adapter", ONLY_RESPONSES, ids=lambda one: type(one).__name__)
def test_a_server_with_responses_only_serves_chat_completions_too(adapter: OpenAIAdapter) -> None:
    asked = call(Operation.Chat, {"model": "m", "messages": [{"role": "user", "content": "Hello"}]})
    request = adapter.build_request(asked, Secret("key-of-a-test"))
    assert request.url.partition("?")[0].endswith("/responses")
    assert json.loads(request.body)["input"]
    body, _ = adapter.read_reply(asked, json.dumps(RESPONSE).encode())
    assert json.loads(body)["choices"][0]["message"]["content"] == "Hi"
    assert Operation.Chat in adapter.get_capabilities().operations


@pytest.mark.parametrize("body", [b"{}", b'{"id":"x","choices":null}', b'{"choices":{}}', b'{"value":"Hi"}'])
def test_a_success_without_choices_is_no_reply(body: bytes) -> None:
    asked = call(Operation.Chat, {"model": "m", "messages": [{"role": "user", "content": "Hello"}]})
    with pytest.raises(ValueError, match="neither a list of choices nor one of embeddings"):
        OpenAIAdapter("http://127.0.0.1:9/v1").read_reply(asked, body)


@pytest.mark.parametrize("body", [b"", b'{"a":1}\n{"b":2}\n', b"\x89PNG", b"[[[["])
def test_raw_replies_may_be_any_bytes(body: bytes) -> None:
    asked = call(Operation.Raw, {}, path="files/1/content")
    from apikeyrouter.infrastructure.adapters.anthropic_adapter import AnthropicAdapter
    from apikeyrouter.infrastructure.adapters.gemini_adapter import GeminiAdapter

    for adapter in (OpenAIAdapter("http://127.0.0.1:9/v1"), AnthropicAdapter("http://127.0.0.1:9"), GeminiAdapter()):
        assert adapter.read_reply(asked, body)[0] == body


def test_white_space_in_front_of_a_raw_reply_hides_no_usage() -> None:
    asked = call(Operation.Raw, {}, path="chat")
    usage = OpenAIAdapter("http://127.0.0.1:9/v1").read_reply(
        asked, b'\n \n {"usage":{"prompt_tokens":3,"completion_tokens":4}}'
    )[1]
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (3, 4)
