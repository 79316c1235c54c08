"""Anthropic's Messages: replies and streams, read and written, translated and passed on."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from anthropic.types import Message

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.codec import codec_of
from apikeyrouter.wire.facts import (
    Answer,
    Choice,
    ErrorFact,
    Event,
    Failed,
    Finished,
    Media,
    MediaKind,
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
)
from apikeyrouter.wire.messages.reader import MessagesReader

CODEC = codec_of(Wire.Messages)
OWN = Wire.Messages.value
USAGE = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 300,
    "cache_read_input_tokens": 2_000,
    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
    "output_tokens": 40,
    "output_tokens_details": {"thinking_tokens": 15},
    "service_tier": "priority",
}
MEANT = Usage(
    input_tokens=2_310,
    output_tokens=40,
    cached_input_tokens=2_000,
    cache_write_tokens=300,
    cache_write_1h_tokens=200,
    reasoning_tokens=15,
    service_tier="priority",
)
CONTENT: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Hm.", "signature": "proof=="},
    {"type": "redacted_thinking", "data": "cipher=="},
    {"type": "text", "text": "Two cities"},
    {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"city": "Paris", "n": 1e2}},
    {"type": "tool_use", "id": "toolu_2", "name": "f", "input": {}},
]
WHOLE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5",
    "content": CONTENT,
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": USAGE,
}


def sse(*events: dict[str, Any], ends: bytes = b"\n") -> bytes:
    lines = [
        b"event: %b%b" % (e["type"].encode(), ends) + b"data: " + json.dumps(e).encode() + ends * 2 for e in events
    ]
    return b"".join(lines)


def streamed(ends: bytes = b"\n") -> bytes:
    head = {**WHOLE, "content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}}
    del head["usage"]["output_tokens_details"]
    events: list[dict[str, Any]] = [{"type": "message_start", "message": head}, {"type": "ping"}]
    server = {"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {}}
    blocks = [
        ({"type": "thinking", "thinking": "", "signature": ""}, ["thinking_delta", "thinking", "H", "m."]),
        ({"type": "redacted_thinking", "data": "cipher=="}, []),
        (server, ["input_json_delta", "partial_json", "{}"]),
        ({"type": "text", "text": ""}, ["text_delta", "text", "Two", " cities"]),
        ({**CONTENT[3], "input": {}}, ["input_json_delta", "partial_json", "", '{"city": "Par', 'is", "n": 1e2}']),
        ({**CONTENT[4]}, []),
    ]
    for index, (block, told) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        deltas = [{"type": told[0], told[1]: piece} for piece in told[2:]]
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        if index == 0:
            proof = {"type": "signature_delta", "signature": "proof=="}
            events.append({"type": "content_block_delta", "index": 0, "delta": proof})
        events.append({"type": "content_block_stop", "index": index})
    ended = {"output_tokens": 40, "output_tokens_details": {"thinking_tokens": 15}}
    delta = {"stop_reason": "tool_use", "stop_sequence": None}
    events += [{"type": "message_delta", "delta": delta, "usage": ended}, {"type": "message_stop"}]
    return sse(*events, ends=ends)


def decoded(raw: bytes, cuts: list[int] | None = None) -> list[Event]:
    decoder = CODEC.decoder()
    events: list[Event] = []
    at = 0
    for cut in [*(cuts or []), len(raw)]:
        events += decoder.feed(raw[at:cut])
        at = cut
    return [*events, *decoder.finish()]


def encoded(events: list[Event]) -> list[dict[str, Any]]:
    encoder = CODEC.encoder("my-model", want_usage=False)
    raw = b"".join([encoder.encode(event) for event in events]) + encoder.finish()
    return told(raw)


def told(raw: bytes) -> list[dict[str, Any]]:
    out = []
    for event in raw.decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        decoded_event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {decoded_event['type']}"
        out.append(decoded_event)
    return out


def message_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a client puts together."""
    message: dict[str, Any] = {}
    texts: dict[int, str] = {}
    for event in events:
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                assert event["index"] == len(message["content"])
                message["content"].append(event["content_block"])
            case "content_block_delta":
                block, delta = message["content"][event["index"]], event["delta"]
                match delta["type"]:
                    case "text_delta":
                        block["text"] += delta["text"]
                    case "thinking_delta":
                        block["thinking"] += delta["thinking"]
                    case "signature_delta":
                        block["signature"] = delta["signature"]
                    case "input_json_delta":
                        texts[event["index"]] = texts.get(event["index"], "") + delta["partial_json"]
            case "content_block_stop" if event["index"] in texts:
                message["content"][event["index"]]["input"] = json.loads(texts[event["index"]])
            case "message_delta":
                message.update(event["delta"])
                message["usage"].update(event["usage"])
    return message


# -- whole replies --------------------------------------------------------------------------------------------------


def test_a_reply_is_read_with_its_ids_signatures_and_every_class_of_usage() -> None:
    answer = CODEC.read_answer(json.dumps(WHOLE).encode())
    assert (answer.id, answer.model, answer.usage) == ("msg_1", "claude-opus-5", MEANT)
    choice = answer.choices[0]
    assert choice.stop is Stop.Tools
    assert choice.parts == [
        Reasoning("Hm.", signature="proof==", origin=OWN),
        Reasoning(encrypted="cipher==", origin=OWN),
        Text("Two cities"),
        ToolCall("toolu_1", "f", '{"city": "Paris", "n": 100.0}'),
        ToolCall("toolu_2", "f", "{}"),
    ]


def test_a_reply_that_is_read_is_written_the_same() -> None:
    answer = CODEC.read_answer(json.dumps(WHOLE).encode())
    body = CODEC.write_answer(answer, "mine")
    assert json.loads(body) == WHOLE
    assert Message.model_validate_json(body).usage.cache_read_input_tokens == 2_000


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("end_turn", Stop.End),
        ("max_tokens", Stop.Length),
        ("stop_sequence", Stop.Sequence),
        ("pause_turn", Stop.Pause),
        ("refusal", Stop.Refusal),
        ("model_context_window_exceeded", Stop.Context),
    ],
)
def test_every_reason_to_stop_is_kept(reason: str, stop: Stop) -> None:
    answer = CODEC.read_answer(json.dumps({**WHOLE, "stop_reason": reason, "stop_sequence": "END"}).encode())
    assert (answer.choices[0].stop, answer.choices[0].stop_sequence) == (stop, "END")
    assert json.loads(CODEC.write_answer(answer, "m"))["stop_reason"] == reason


def test_a_reply_of_another_format_is_one_that_the_sdk_takes() -> None:
    parts: list[Part] = [
        Reasoning("theirs", signature="x", origin="gemini"),
        Reasoning(encrypted="x", origin="openai_responses"),
        Text(""),
        Refusal("I will not."),
        ToolCall("", "f", ""),
        ToolCall("call_1", "g", '{"broken'),
        Media(MediaKind.Image, data="x"),
    ]
    answer = Answer("chatcmpl-9", "", [Choice(parts, Stop.End), Choice([Text("other")])])
    message = Message.model_validate_json(CODEC.write_answer(answer, "mine"))
    assert (message.id, message.model, message.stop_reason) == ("msg_chatcmpl-9", "mine", "refusal")
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
    body = json.loads(CODEC.write_answer(answer, "mine"))
    assert body["content"][0]["signature"] == ""
    assert body["content"][2]["id"].startswith("toolu_")
    assert body["content"][3] == {"type": "tool_use", "id": "call_1", "name": "g", "input": {"arguments": '{"broken'}}
    assert json.loads(CODEC.write_answer(Answer("a", "m", [Choice([], Stop.Filter)]), "m"))["stop_reason"] == "refusal"
    assert json.loads(CODEC.write_answer(Answer("a", "m", []), "m"))["content"] == []


def test_citations_of_pages_travel() -> None:
    page = {
        "type": "web_search_result_location",
        "url": "https://e.com",
        "title": "E",
        "cited_text": "",
        "encrypted_index": "",
    }
    place = {
        "type": "char_location",
        "cited_text": "a",
        "document_index": 0,
        "start_char_index": 0,
        "end_char_index": 1,
    }
    body = {**WHOLE, "content": [{"type": "text", "text": "See", "citations": [page, place]}]}
    answer = CODEC.read_answer(json.dumps(body).encode())
    (text,) = answer.choices[0].parts
    assert isinstance(text, Text)
    assert text.annotations is not None
    assert text.annotations[0]["url_citation"]["url"] == "https://e.com"
    assert json.loads(CODEC.write_answer(answer, "m"))["content"][0]["citations"] == [page, place]


def test_a_page_that_is_no_message_is_refused() -> None:
    error = b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}'
    for body in (b"", b"[]", b"{}", b'{"content": 5}', b"<html>", error, error[:-1] + b', "content": []}', b"\xff"):
        with pytest.raises(ValueError, match="reply"):
            CODEC.read_answer(body)
    anothers = b'{"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}'
    for body in (b"", b"[]", b"<html>", error, anothers):
        with pytest.raises(ValueError, match="reply"):
            CODEC.usage_of(body)
    assert CODEC.usage_of(json.dumps(WHOLE).encode()) == MEANT
    assert CODEC.usage_of(b"{}") is None


# -- streams --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_a_stream_is_read_into_the_events_of_its_parts(ends: bytes) -> None:
    events = decoded(streamed(ends))
    assert events == [
        Started("msg_1", "claude-opus-5", events[0].usage),  # type: ignore[union-attr]  # a Started
        PartStarted(0, Reasoning(origin=OWN)),
        PartDelta(0, "H"),
        PartDelta(0, "m."),
        PartDelta(0, signature="proof=="),
        PartEnded(0),
        PartStarted(1, Reasoning(origin=OWN)),
        PartDelta(1, encrypted="cipher=="),
        PartEnded(1),
        PartStarted(2, Text("")),
        PartDelta(2, "Two"),
        PartDelta(2, " cities"),
        PartEnded(2),
        PartStarted(3, ToolCall("toolu_1", "f", "")),
        PartDelta(3, '{"city": "Par'),
        PartDelta(3, 'is", "n": 1e2}'),
        PartEnded(3),
        PartStarted(4, ToolCall("toolu_2", "f", "")),
        PartEnded(4),
        Finished(Stop.Tools),
        UsageTold(MEANT, "priority"),
    ]


def test_a_stream_reads_the_same_however_its_bytes_are_cut() -> None:
    rng = random.Random(7)
    for ends in (b"\n", b"\r\n"):
        raw = streamed(ends)
        whole = decoded(raw)
        for _ in range(60):
            assert decoded(raw, sorted(rng.choices(range(len(raw)), k=rng.randint(1, 40)))) == whole
        assert decoded(raw, list(range(1, len(raw)))) == whole


def test_a_stream_that_is_read_is_written_as_the_same_message() -> None:
    assert message_of(encoded(decoded(streamed()))) == WHOLE


def test_every_stream_begins_and_ends_as_clients_expect() -> None:
    kinds = [event["type"] for event in encoded([])]
    assert kinds == ["message_start", "message_delta", "message_stop"]
    events = encoded(decoded(streamed()))
    assert [events[0]["type"], events[-2]["type"], events[-1]["type"]] == kinds


def test_parts_that_overlap_are_written_one_after_the_other() -> None:
    events: list[Event] = [
        Started("1", "m"),
        PartStarted(0, Text("")),
        PartDelta(0, "Two"),
        PartStarted(1, ToolCall("a", "f", "")),
        PartStarted(2, ToolCall("b", "f", "")),
        PartDelta(2, '{"x":'),
        PartDelta(1, '{"y":'),
        PartDelta(2, "2}"),
        PartEnded(2),
        PartEnded(0),
        PartDelta(1, "1}"),
        PartEnded(1),
        Finished(Stop.Tools),
    ]
    out = encoded(events)
    order = [event["index"] for event in out if "index" in event]
    assert order == sorted(order)
    assert [block.get("input") for block in message_of(out)["content"]] == [None, {"y": 1}, {"x": 2}]


def test_foreign_thoughts_are_told_without_their_proofs_and_second_choices_not_at_all() -> None:
    events: list[Event] = [
        Started("1", "m"),
        PartStarted(0, Reasoning(origin="openai_responses")),
        PartDelta(0, encrypted="x"),
        PartEnded(0),
        PartStarted(1, Reasoning(origin="gemini")),
        PartDelta(1, "So", signature="x"),
        PartEnded(1),
        PartStarted(2, Media(MediaKind.Image, data="x")),
        PartEnded(2),
        PartStarted(0, Text(""), choice=1),
        PartDelta(0, "other", choice=1),
        PartEnded(0, choice=1),
        Finished(Stop.Length, choice=1),
        PartStarted(3, Refusal("")),
        PartDelta(3, "No."),
        Finished(Stop.End),
    ]
    message = message_of(encoded(events))
    assert message["content"] == [
        {"type": "thinking", "thinking": "So", "signature": ""},
        {"type": "text", "text": "No."},
    ]
    assert message["stop_reason"] == "refusal"


def test_an_error_inside_a_stream_ends_it_with_its_status() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"}
    start = streamed()[: streamed().index(b"event: content_block_stop")]
    events = decoded(start + sse(error) + sse({"type": "message_stop"}))
    assert events[-1] == Failed(ErrorFact(529, "Overloaded", "overloaded_error", request_id="req_1"))
    encoder = CODEC.encoder("m", want_usage=True)
    out = b"".join([encoder.encode(event) for event in events]) + encoder.finish()
    assert told(out)[-1]["error"] == {"type": "overloaded_error", "message": "Overloaded", "code": "overloaded_error"}


def test_a_stream_that_breaks_off_is_not_done_and_one_without_its_last_event_is() -> None:
    raw = streamed()
    decoder = CODEC.decoder()
    decoder.feed(raw[: raw.index(b"event: message_delta")])
    assert not decoder.finish()
    assert not decoder.done
    events = decoded(raw[: raw.index(b"event: message_stop")])
    assert any(isinstance(event, Finished) for event in events)


def test_nonsense_in_a_stream_never_raises() -> None:
    rng = random.Random(11)
    raw = streamed()
    for _ in range(300):
        spoilt = bytearray(raw)
        for _ in range(rng.randint(1, 20)):
            spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
        events = decoded(bytes(spoilt))
        encoded([event for event in events if not isinstance(event, Failed)])
        reader = MessagesReader()
        assert bytes(spoilt).startswith(reader.feed(bytes(spoilt)))
        reader.finish()


# -- passing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_a_passing_stream_keeps_its_bytes_and_tells_what_it_used(ends: bytes) -> None:
    raw = streamed(ends)
    rng = random.Random(5)
    for _ in range(40):
        reader, out, at = MessagesReader(), b"", 0
        while at < len(raw):
            size = rng.randint(1, 120)
            out += reader.feed(raw[at : at + size])
            at += size
        out += reader.finish()
        assert out == raw
        assert (reader.done, reader.error, reader.finish_reason) == (True, None, "tool_use")
        assert (reader.model, reader.usage, reader.deltas) == ("claude-opus-5", MEANT, 9)


def test_a_passing_stream_is_watched_for_errors_but_not_for_talk_of_them() -> None:
    reader = MessagesReader()
    block = {"type": "text_delta", "text": '{"type":"error"} and "message_stop" "message_delta"'}
    reader.feed(sse({"type": "content_block_delta", "index": 0, "delta": block}))
    assert (reader.error, reader.done, reader.deltas) == (None, False, 1)
    error = {"type": "error", "error": {"type": "api_error", "message": "x"}}
    reader.feed(sse(error))
    assert json.loads(reader.error or b"") == error


def test_a_passing_stream_gets_the_end_that_was_forgotten_and_no_half_event() -> None:
    raw = streamed()
    reader = MessagesReader()
    assert reader.feed(raw[: raw.index(b"event: message_stop") + 30]) == raw[: raw.index(b"event: message_stop")]
    assert reader.finish() == b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    assert reader.done
    broken = MessagesReader()
    broken.feed(raw[:400])
    assert broken.finish() == b""
    assert not broken.done


# -- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "api_error"),
        (529, "overloaded_error"),
    ],
)
def test_errors_are_written_in_anthropics_words(status: int, kind: str) -> None:
    fact = ErrorFact(status, "Why.", "our_code", "messages", "req_1", {"attempts": 2})
    body = json.loads(CODEC.write_error(fact))
    assert (body["type"], body["request_id"]) == ("error", "req_1")
    assert body["error"] == {"type": kind, "message": "Why.", "code": "our_code", "param": "messages", "attempts": 2}
    assert CODEC.write_error_event(fact) == b"event: error\ndata: " + CODEC.write_error(fact) + b"\n\n"
