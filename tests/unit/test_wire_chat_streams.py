"""Chat completions as event streams: what servers send, read; what clients expect, written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.wire.chat import ChatCodec
from apikeyrouter.wire.chat.sse import EventSplitter
from apikeyrouter.wire.facts import (
    Answer,
    Choice,
    ErrorFact,
    Event,
    Failed,
    Finished,
    Part,
    PartDelta,
    PartEnded,
    PartStarted,
    Reasoning,
    Refusal,
    Started,
    Stop,
    Text,
    ToolCall,
    UsageTold,
)  # fmt: skip
from tests.support.wire_grammar import check_stream
from tests.support.wire_values import answer_of, events_of

CODEC = ChatCodec()


def stream(*deltas: dict[str, Any] | str, finish: str | None = "stop", newline: str = "\n", end: bool = True) -> bytes:
    chunks: list[Any] = [delta if isinstance(delta, str) else chunk(delta) for delta in deltas]
    if finish:
        chunks.append(chunk({}, finish))
    if end:
        chunks.append("[DONE]")
    texts = [one if isinstance(one, str) else json.dumps(one) for one in chunks]
    return "".join(f"data: {text}{newline}{newline}" for text in texts).encode()


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"id": "chatcmpl-1", "model": "m", "created": 5, "choices": choices, **more}


def decoded(data: bytes) -> list[Event]:
    decoder = CODEC.decoder()
    events = [*decoder.feed(data), *decoder.finish()]
    assert decoder.done
    return events


def parts(*deltas: dict[str, Any], finish: str = "stop") -> list[Part]:
    return answer_of(decoded(stream(*deltas, finish=finish))).choices[0].parts


def call(index: int | None, arguments: object = None, **more: Any) -> dict[str, Any]:
    function: dict[str, Any] = {} if arguments is None else {"arguments": arguments}
    if "name" in more:
        function["name"] = more.pop("name")
    return {"tool_calls": [{**({} if index is None else {"index": index}), "function": function, **more}]}


# -- reading --------------------------------------------------------------------------------------------------------


def test_text_is_read_with_role_chunk_empty_chunks_and_usage() -> None:
    usage = json.dumps({"id": "chatcmpl-1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    deltas: list[Any] = [{"role": "assistant", "content": ""}, {"content": "a"}, {"content": ""}, {"content": "b"}]
    data = stream(*deltas, end=False) + f"data: {usage}\n\ndata: [DONE]\n\n".encode()
    assert decoded(data) == [
        Started("chatcmpl-1", "m", created_s=5),
        PartStarted(0, Text("")),
        PartDelta(0, "a"),
        PartDelta(0, "b"),
        PartEnded(0),
        Finished(Stop.End),
        UsageTold(Usage(3, 2)),
    ]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_comments_and_line_ends_of_both_kinds(newline: str) -> None:
    data = f": keep-alive{newline}{newline}".encode() + stream({"content": "a"}, newline=newline)
    assert answer_of(decoded(data)).choices[0].parts == [Text("a")]


def test_an_empty_first_chunk_does_not_start_the_reply() -> None:
    azure = json.dumps({"id": "", "model": "", "choices": [], "prompt_filter_results": []})
    assert decoded(stream(azure, {"content": "a"}))[0] == Started("chatcmpl-1", "m", created_s=5)


def test_parallel_calls_in_pieces() -> None:
    found = parts(
        call(0, "", id="a", type="function", name="look"), call(0, '{"at"'), call(0, ":1}"),
        call(1, "", id="b", type="function", name="stop"), call(1, "{}"),
        finish="tool_calls",
    )  # fmt: skip
    assert found == [ToolCall("a", "look", '{"at":1}'), ToolCall("b", "stop", "{}")]


def test_pieces_of_calls_that_are_mixed_do_not_mix_their_arguments() -> None:
    found = parts(
        call(0, "", id="a", name="look"), call(1, "", id="b", name="stop"),
        call(0, '{"x'), call(1, '{"y'), call(0, '":1}'), call(1, '":2}'),
        finish="tool_calls",
    )  # fmt: skip
    assert found == [ToolCall("a", "look", '{"x":1}'), ToolCall("b", "stop", '{"y":2}')]


def test_a_call_that_is_whole_does_not_wait_for_the_end_of_the_stream() -> None:
    decoder = CODEC.decoder()
    first = decoder.feed(stream(call(0, '{"a":1}', id="a", name="look"), finish=None, end=False))
    second = decoder.feed(stream(call(1, '{"b":', id="b", name="stop"), finish=None, end=False))
    assert [type(event) for event in first] == [Started, PartStarted, PartDelta]
    assert second == [PartEnded(0), PartStarted(1, ToolCall("b", "stop", "")), PartDelta(1, '{"b":')]


@pytest.mark.parametrize(
    "deltas",
    [
        [
            {
                "tool_calls": [
                    call(0, "{}", id="a", name="f")["tool_calls"][0],
                    call(1, "{}", id="b", name="g")["tool_calls"][0],
                ]
            }
        ],
        [call(None, "{}", id="a", name="f"), call(None, "{}", id="b", name="g")],
        [call(0, "{}", id="a", name="f"), call(0, "{}", id="b", name="g")],
        [
            call(0, "{", id="a", name="f"),
            call(0, "}", id="a", name="f"),
            call(1, "{", id="b", name="g"),
            call(1, "}", id="b"),
        ],
        [call(None, "{", id="a", name="f"), call(None, "}"), call(None, {}, id="b", name="g")],
    ],
    ids=["whole in one chunk", "no index", "always index 0", "id repeated", "pieces without index"],
)
def test_calls_as_other_servers_send_them(deltas: list[dict[str, Any]]) -> None:
    assert parts(*deltas) == [ToolCall("a", "f", "{}"), ToolCall("b", "g", "{}")]


def test_calls_without_ids_get_different_ones() -> None:
    first, second = parts(call(0, "{}", id="", name="f"), call(1, "{}", name="f"))
    assert isinstance(first, ToolCall)
    assert isinstance(second, ToolCall)
    assert first.id
    assert second.id
    assert first.id != second.id


def test_a_legacy_function_call_is_a_call() -> None:
    (found,) = parts({"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": "{}"}})
    assert isinstance(found, ToolCall)
    assert (found.name, found.arguments) == ("f", "{}")


def test_text_around_calls_is_kept_in_order() -> None:
    found = parts({"content": "a"}, call(0, "{}", id="x", name="f"), {"content": "b"}, call(1, "{}", id="y", name="g"))
    assert found == [Text("a"), ToolCall("x", "f", "{}"), Text("b"), ToolCall("y", "g", "{}")]


def test_text_in_the_middle_of_a_call_waits_for_its_end() -> None:
    found = parts(call(0, '{"a":', id="x", name="f"), {"content": "b"}, call(0, "1}"), {"content": "c"})
    assert found == [ToolCall("x", "f", '{"a":1}'), Text("bc")]


def test_thoughts_under_all_names_come_before_the_text() -> None:
    chat = "openai_chat"
    assert parts({"reasoning_content": "h"}, {"reasoning": "m"}, {"content": "a"}) == [
        Reasoning("hm", origin=chat),
        Text("a"),
    ]
    listed = {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}
    assert parts(listed, {"content": "a"}) == [Reasoning("hm", origin=chat), Text("a")]


def test_details_of_thoughts_are_not_told_twice() -> None:
    def piece(text: str, **more: Any) -> dict[str, Any]:
        detail = {"type": "reasoning.text", "text": text, "format": "anthropic-claude-v1", "index": 0, **more}
        return {"content": "", "reasoning": text or None, "reasoning_details": [detail]}

    found = parts(piece("h"), piece("m"), piece("", signature="sig"), {"content": "a"})
    assert found == [Reasoning("hm", "sig", origin="anthropic_messages"), Text("a")]


def test_details_alone_tell_thoughts_and_ciphers() -> None:
    details = [
        {"type": "reasoning.summary", "summary": "s", "format": "openai-responses-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "cipher", "format": "openai-responses-v1", "index": 0},
    ]
    found = parts({"reasoning_details": details}, {"content": "a"})
    assert found == [Reasoning("s", encrypted="cipher", origin="openai_responses"), Text("a")]


def test_a_refusal_ends_in_a_refusal() -> None:
    answer = answer_of(decoded(stream({"refusal": "n"}, {"refusal": "o"})))
    assert answer.choices == [Choice([Refusal("no")], Stop.Refusal)]


def test_logprobs_and_annotations_come_with_their_text() -> None:
    logprobs = {"content": [{"token": "a", "logprob": -0.1}]}
    one = chunk({"content": "a", "annotations": [{"type": "url_citation"}]})
    one["choices"][0]["logprobs"] = logprobs
    events = decoded(stream(json.dumps(one)))
    assert PartDelta(0, "a", annotations=[{"type": "url_citation"}], logprobs=logprobs) in events


def test_several_choices_are_told_apart() -> None:
    chunks = [
        json.dumps({"id": "1", "choices": [{"index": n, "delta": {"content": text}, "finish_reason": finish}]})
        for n, text, finish in [(0, "a", None), (1, "b", None), (0, "c", "stop"), (1, "d", "length")]
    ]
    answer = answer_of(decoded(stream(*chunks, finish=None)))
    assert answer.choices == [Choice([Text("ac")], Stop.End), Choice([Text("bd")], Stop.Length)]


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ('data: {"error":{"message":"m","code":429}}', 429),
        ('data: {"error":{"message":"m","type":"overloaded_error"}}', 503),
        ('data: {"error":{"message":"m","code":1305}}', 500),
        ('data: {"error":"m"}', 500),
        ('event: error\ndata: {"message":"m","type":"rate_limit_exceeded"}', 429),
        ('data: {"id":"1","choices":[{"delta":{},"finish_reason":"error"}],"error":{"code":502,"message":"m"}}', 502),
        (
            'data: {"choices":[{"index":0,"delta":{},"finish_reason":"error","error":{"code":"503","message":"m"}}]}',
            503,
        ),
    ],
)
def test_errors_inside_the_stream(event: str, status: int) -> None:
    decoder = CODEC.decoder()
    events = decoder.feed(stream({"content": "a"}, finish=None, end=False) + event.encode() + b"\n\ndata: [DONE]\n\n")
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert (failed.error.status, failed.error.message) == (status, "m")
    assert not decoder.done
    assert decoder.finish() == []


def test_the_reason_may_be_missing_or_the_end_mark_but_not_both() -> None:
    without_reason = CODEC.decoder()
    events = without_reason.feed(stream({"content": "a"}, finish=None))
    assert events[-1] == Finished(Stop.End)
    assert without_reason.done
    without_mark = CODEC.decoder()
    without_mark.feed(stream({"content": "a"}, end=False))
    without_mark.finish()
    assert without_mark.done
    decoder = CODEC.decoder()
    assert not any(
        isinstance(event, Finished) for event in decoder.feed(stream({"content": "a"}, finish=None, end=False))
    )
    decoder.finish()
    assert not decoder.done


def test_what_is_no_chunk_is_skipped() -> None:
    data = b"data: {\n\ndata: 5\n\ndata: null\n\nevent: x\nid: 7\nretry: 1\n\n" + stream({"content": "a"})
    assert answer_of(decoded(data)).choices[0].parts == [Text("a")]


def test_an_event_beyond_all_bounds_is_an_error_and_costs_little() -> None:
    splitter = EventSplitter()
    piece = b"x" * (1024 * 1024)
    found = [one for _ in range(20) for one in splitter.feed(piece)]
    assert len(found) == 1
    assert b"16 MiB" in found[0]


# -- writing --------------------------------------------------------------------------------------------------------


def written(events: list[Event], *, want_usage: bool = True) -> bytes:
    encoder = CODEC.encoder("asked", want_usage=want_usage)
    return b"".join(map(encoder.encode, events)) + encoder.finish()


CITATION: dict[str, Any] = {
    "type": "url_citation",
    "url_citation": {"url": "https://x.test", "title": "x", "start_index": 0, "end_index": 4},
}
FULL = Answer(
    "msg_1", "m",
    [Choice([
        Reasoning("hm", "sig", origin="anthropic_messages"),
        Text("look", annotations=[CITATION]),
        ToolCall("toolu_1", "look", '{"at":1}'),
        ToolCall("toolu_2", "stop", "{}", signature="c2ln"),
    ], Stop.Tools)],
    Usage(10, 5, 3), 5,
)  # fmt: skip


def test_a_stream_of_all_parts_is_whole_and_reads_as_it_was() -> None:
    data = written(list(events_of(FULL)))
    check_stream(CODEC.wire, data)
    again = answer_of(decoded(data))
    assert again.choices == FULL.choices
    assert again.usage == FULL.usage


def test_the_official_sdk_takes_every_chunk_and_reply() -> None:
    data = written(list(events_of(FULL)))
    for payload in EventSplitter().feed(data)[:-1]:
        ChatCompletionChunk.model_validate_json(payload, strict=True)
    ChatCompletion.model_validate_json(CODEC.write_answer(FULL, "asked"), strict=True)


def test_usage_is_told_only_to_those_who_asked() -> None:
    data = written(list(events_of(FULL)), want_usage=False)
    check_stream(CODEC.wire, data)
    assert b"usage" not in data


def test_the_usage_known_at_the_start_is_told_if_no_other_comes() -> None:
    events: list[Event] = [Started("1", "m", Usage(7, 0)), PartStarted(0, Text("")), PartEnded(0), Finished(Stop.End)]
    assert UsageTold(Usage(7, 0)) in decoded(written(events))


def test_a_call_without_arguments_has_an_empty_object() -> None:
    events: list[Event] = [
        Started("1", ""), PartStarted(0, ToolCall("", "f", "")), PartEnded(0), Finished(Stop.Tools),
    ]  # fmt: skip
    data = written(events)
    check_stream(CODEC.wire, data)
    assert b'"model":"asked"' in data
    (found,) = answer_of(decoded(data)).choices[0].parts
    assert isinstance(found, ToolCall)
    assert found.arguments == "{}"
    assert found.id


def test_two_choices_both_begin_with_their_role() -> None:
    answer = Answer("1", "m", [Choice([Text("a")]), Choice([Text("b")], Stop.Length)])
    data = written(list(events_of(answer)))
    check_stream(CODEC.wire, data)
    assert answer_of(decoded(data)).choices == answer.choices


def test_a_failure_is_an_error_that_sdks_raise_on() -> None:
    encoder = CODEC.encoder("asked", want_usage=True)
    data = encoder.encode(Started("1", "m")) + encoder.encode(Failed(ErrorFact(503, "gone", "overloaded")))
    assert data.endswith(b"data: [DONE]\n\n")
    assert json.loads(data.split(b"\n\n")[-3][6:])["error"]["code"] == "overloaded"
