"""Chat completions as replies: whole ones, and errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.wire.chat import ChatCodec
from apikeyrouter.wire.facts import (
    Answer,
    Choice,
    ErrorFact,
    Media,
    MediaKind,
    Part,
    Reasoning,
    Stop,
    Text,
    ToolCall,
)  # fmt: skip

CODEC = ChatCodec()


def read(message: dict[str, Any], finish: object = "stop", **more: Any) -> Choice:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, **more}
    return CODEC.read_answer(json.dumps({"id": "chatcmpl-1", "model": "m", "choices": [choice]}).encode()).choices[0]


def through(*parts: Part, **more: Any) -> tuple[dict[str, Any], Choice]:
    body = CODEC.write_answer(Answer("msg_1", "m", [Choice(list(parts), **more)]), "asked")
    return json.loads(body)["choices"][0], CODEC.read_answer(body).choices[0]


def test_a_reply_of_all_parts_is_read_and_written() -> None:
    parts: list[Part] = [
        Reasoning("hm", "sig", origin="anthropic_messages"),
        Text(
            "look",
            annotations=[
                {
                    "type": "url_citation",
                    "url_citation": {"url": "https://x.test", "title": "x", "start_index": 0, "end_index": 4},
                }
            ],
        ),
        Media(MediaKind.Image, "image/png", data="AAAA"),
        ToolCall("toolu_1", "look", '{"at": 1}'),
        ToolCall("toolu_2", "stop", "{}", signature="c2ln"),
    ]
    choice, again = through(*parts, stop=Stop.Tools)
    assert again.parts == parts
    assert again.stop is Stop.Tools
    assert choice["message"]["content"] == "look"
    assert choice["message"]["reasoning_content"] == "hm"
    assert choice["finish_reason"] == "tool_calls"


def test_several_thoughts_with_proofs_and_ciphers_come_back_in_order() -> None:
    parts: list[Part] = [
        Reasoning("summary", encrypted="cipher", id="rs_1", origin="openai_responses"),
        Reasoning("", encrypted="hidden", origin="anthropic_messages"),
        Reasoning("more", "sig", origin="gemini"),
        Text("a"),
    ]
    assert through(*parts)[1].parts == parts


def test_a_reply_of_calls_alone_has_no_content_and_an_empty_one_an_empty_string() -> None:
    assert through(ToolCall("a", "b", "{}"))[0]["message"]["content"] is None
    assert through()[0]["message"]["content"] == ""


@pytest.mark.parametrize(
    ("finish", "message", "stop"),
    [
        ("stop", {"content": "a"}, Stop.End),
        ("length", {"content": "a"}, Stop.Length),
        ("content_filter", {"content": ""}, Stop.Filter),
        ("tool_calls", {"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}, Stop.Tools),
        ("stop", {"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}, Stop.Tools),
        ("function_call", {"function_call": {"name": "f", "arguments": "{}"}}, Stop.Tools),
        ("stop", {"refusal": "no"}, Stop.Refusal),
        ("eos", {"content": "a"}, Stop.End),
        ("sensitive", {"content": "a"}, Stop.Filter),
        ("", {"content": "a"}, None),
        (None, {"content": "a"}, None),
    ],
)
def test_reasons_to_end_in_the_words_of_all_servers(finish: object, message: dict[str, Any], stop: Stop | None) -> None:
    assert read(message, finish).stop is stop


def test_a_stop_sequence_is_told_as_vllm_does() -> None:
    choice, again = through(Text("a"), stop=Stop.Sequence, stop_sequence="END")
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "END")
    assert (again.stop, again.stop_sequence) == (Stop.Sequence, "END")


@pytest.mark.parametrize(
    ("stop", "word"),
    [(Stop.Pause, "stop"), (Stop.Context, "length"), (Stop.Refusal, "content_filter"), (None, "stop")],
)
def test_reasons_that_the_format_lacks_become_the_nearest(stop: Stop | None, word: str) -> None:
    assert through(Text("a"), stop=stop)[0]["finish_reason"] == word


def test_calls_without_an_id_get_one_of_the_reply() -> None:
    choice = read(
        {"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}, {"id": "", "function": {"name": "g"}}]}
    )
    first, second = choice.parts
    assert isinstance(first, ToolCall)
    assert isinstance(second, ToolCall)
    assert (first.arguments, second.arguments) == ('{"a":1}', "")
    assert first.id.startswith("call_")
    assert first.id != second.id


def test_members_that_are_empty_say_nothing() -> None:
    said = {
        "content": "4",
        "refusal": "",
        "audio": {"data": "", "id": ""},
        "function_call": {"name": "", "arguments": ""},
        "tool_calls": None,
    }
    assert read(said).parts == [Text("4")]


def test_content_as_a_list_holds_thoughts_and_text() -> None:
    content = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "a"},
        {"type": "reference"},
    ]
    assert read({"content": content}).parts == [Reasoning("hm", origin="openai_chat"), Text("a")]


def test_sound_is_read_with_its_words() -> None:
    sound = {"id": "audio_1", "data": "AAAA", "transcript": "hi", "expires_at": 1}
    parts = read({"content": None, "audio": sound}).parts
    assert parts == [Text("hi"), Media(MediaKind.Audio, data="AAAA")]


def test_citations_of_later_texts_are_moved_and_flat_ones_nested() -> None:
    flat = {"type": "url_citation", "url": "https://x.test", "title": "x", "start_index": 1, "end_index": 2}
    message = through(Text("abc"), Text("def", annotations=[flat]))[0]["message"]
    inner = {"url": "https://x.test", "title": "x", "start_index": 4, "end_index": 5}
    assert message["annotations"] == [{"type": "url_citation", "url_citation": inner}]


def test_all_classes_of_usage_are_read_and_written() -> None:
    usage = Usage(
        100, 50, 40, 20, 10, 5, 3, image_input_tokens=7, counts={"web_searches": 2}, billed_nano_usd=1_234_000
    )
    body = CODEC.write_answer(Answer("1", "m", [Choice([Text("a")])], usage, 17, "flex"), "asked")
    answer = CODEC.read_answer(body)
    usage.service_tier = "flex"
    assert answer.usage == usage
    assert (answer.created_s, answer.service_tier) == (17, "flex")
    assert json.loads(body)["usage"]["total_tokens"] == 150


def test_ids_have_the_usual_prefix_once() -> None:
    assert json.loads(CODEC.write_answer(Answer("msg_1", "", []), "asked"))["id"] == "chatcmpl-msg_1"
    told = json.loads(CODEC.write_answer(Answer("chatcmpl-7", "", []), "asked"))
    assert (told["id"], told["model"]) == ("chatcmpl-7", "asked")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b"{}", b"<html>", b'{"choices":5}', b'{"error":{"message":"no"}}', b'{"choices":[5]}',
        b'{"choices":[{"finish_reason":"error","error":{"code":502},"message":{"content":""}}]}',
    ],
)  # fmt: skip
def test_what_is_no_reply_raises(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        CODEC.read_answer(body)


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b'{"error":{"message":"no"}}', b'{"error":"no"}'])
def test_usage_of_what_is_no_reply_raises(body: bytes) -> None:
    with pytest.raises(ValueError, match="the reply"):
        CODEC.usage_of(body)


def test_usage_is_read_without_the_rest() -> None:
    assert CODEC.usage_of(b'{"error":null,"usage":{"prompt_tokens":3,"completion_tokens":4}}') == Usage(3, 4)
    assert CODEC.usage_of(b'{"choices":[]}') is None


def test_an_error_has_the_shape_that_sdks_know() -> None:
    error = json.loads(CODEC.write_error(ErrorFact(429, "slow down", "rate_limited", "model")))
    assert error == {
        "error": {"message": "slow down", "type": "rate_limit_error", "param": "model", "code": "rate_limited"}
    }
