"""Converse word by word: what requests become, what is refused by name, what replies and binary streams say."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.models.call import Call, Operation, Wire, peek
from apikeyrouter.wire.codec import codec_of
from apikeyrouter.wire.converse.frames import Frames
from apikeyrouter.wire.facts import (
    AnswerShape,
    Ask,
    Event,
    Failed,
    Finished,
    Media,
    MediaKind,
    PartDelta,
    PartEnded,
    PartStarted,
    Reasoning,
    ReasoningWish,
    Role,
    Started,
    Stop,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    UsageTold,
)  # fmt: skip
from apikeyrouter.wire.losses import Losses, UntranslatableError
from tests.support.converse_side import event, exception, frame
from tests.support.wire_values import PICTURE

CODEC = codec_of(Wire.Converse)
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "us.amazon.nova-2-lite-v1:0"
LLAMA = "meta.llama3-2-1b-instruct-v1:0"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


def written(ask: Ask, *, drop: bool = False) -> tuple[dict[str, Any], list[str]]:
    losses = Losses("bedrock_converse", may_drop=drop)
    body = json.loads(CODEC.write_request(ask, losses))
    losses.check()
    return body, losses.dropped


def asked(*turns: Turn, model: str = CLAUDE, **more: Any) -> Ask:
    return Ask(model, list(turns) or [Turn(Role.User, [Text("hi")])], **more)


def read(data: bytes) -> list[Event]:
    decoder = CODEC.decoder()
    return [*decoder.feed(data), *decoder.finish()]


# -- requests ---------------------------------------------------------------------------------------------------------


def test_a_conversation_with_pictures_calls_and_marks_for_the_cache() -> None:
    mark = {"type": "ephemeral", "ttl": "1h"}
    body, dropped = written(
        asked(
            Turn(Role.System, [Text("be brief", cache={"type": "ephemeral"})]),
            Turn(Role.User, [Text("see"), Media(MediaKind.Image, "image/jpeg", data=PICTURE)]),
            Turn(Role.Assistant, [Text("I look"), ToolCall("a", "look", '{"x":1}'), ToolCall("b", "look", "")]),
            Turn(Role.Tool, [ToolResult("b", [Text("no")], is_error=True), ToolResult("a", [Text("yes")], cache=mark)]),
            Turn(Role.User, [Text("so?")]),
            tools=[Tool("look", "looks", SCHEMA, cache=mark)],
            tool_choice=ToolChoice("required"),
            max_tokens=9,
            temperature=0.5,
            top_k=4,
            stop=["x", ""],
            user="u",
        )
    )
    assert body["system"] == [{"text": "be brief"}, {"cachePoint": {"type": "default"}}]
    assert body["messages"] == [
        {"role": "user", "content": [{"text": "see"}, {"image": {"format": "png", "source": {"bytes": PICTURE}}}]},
        {
            "role": "assistant",
            "content": [
                {"text": "I look"},
                {"toolUse": {"toolUseId": "a", "name": "look", "input": {"x": 1}}},
                {"toolUse": {"toolUseId": "b", "name": "look", "input": {}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "b", "content": [{"text": "no"}], "status": "error"}},
                {"toolResult": {"toolUseId": "a", "content": [{"text": "yes"}]}},
                {"cachePoint": {"type": "default", "ttl": "1h"}},
                {"text": "so?"},
            ],
        },
    ]
    spec = {"toolSpec": {"name": "look", "description": "looks", "inputSchema": {"json": SCHEMA}}}
    point = {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert body["toolConfig"] == {"tools": [spec, point], "toolChoice": {"any": {}}}
    assert body["inferenceConfig"] == {"maxTokens": 9, "temperature": 0.5, "stopSequences": ["x"]}
    assert body["additionalModelRequestFields"] == {"top_k": 4}
    assert body["additionalModelResponseFieldPaths"] == ["/stop_sequence"]
    assert dropped == ["user"]
    assert "model" not in body
    assert "stream" not in body


def test_documents_have_names_of_allowed_letters_each_but_once() -> None:
    pdf = Media(MediaKind.Document, "application/pdf", data="JVBERi0=", name="my_file (1).pdf")
    text = Media(MediaKind.Document, "text/plain", text="purr", name="my_file (1).pdf")
    nameless = Media(MediaKind.Document, "text/csv", data="YQ==")
    body, _ = written(asked(Turn(Role.User, [pdf, text, nameless, Text("so?")])))
    told = [block["document"] for block in body["messages"][0]["content"][:3]]
    assert [(one["format"], one["name"]) for one in told] == [
        ("pdf", "my file (1) pdf"), ("txt", "my file (1) pdf 2"), ("csv", "Document 3"),
    ]  # fmt: skip
    assert told[1]["source"] == {"bytes": b64encode(b"purr").decode()}


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (Media(MediaKind.Image, "image/png", url="https://x.example/a.png"), "fetches nothing from the web"),
        (Media(MediaKind.Image, "image/png", file_id="file-1"), "stores no files"),
        (Media(MediaKind.Image, "image/tiff", data="AAAA"), "image/tiff"),
        (Media(MediaKind.Document, "application/pdf", data="JVBERi0="), "wants a text beside a document"),
    ],
)
def test_media_that_cannot_be_told_are_refused_by_name_and_never_dropped(part: Media, why: str) -> None:
    with pytest.raises(UntranslatableError, match=why) as refused:
        written(asked(Turn(Role.User, [part])), drop=True)
    assert "messages[0]" in str(refused.value)


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"seed": 1}, "seed"),
        ({"n": 2}, "n"),
        ({"logprobs": 2}, "logprobs"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"verbosity": "low"}, "verbosity"),
        ({"service_tier": "scale"}, "service_tier"),
        ({"shape": AnswerShape("json")}, "response_format"),
        ({"temperature": 1.5, "model": LLAMA}, "temperature"),
        ({"top_k": 4, "model": LLAMA}, "top_k"),
        ({"shape": AnswerShape("schema", "a", SCHEMA), "model": LLAMA}, "response_format"),
    ],
)
def test_wishes_that_converse_has_not_are_refused_by_name_or_dropped_and_told(more: dict[str, Any], name: str) -> None:
    with pytest.raises(UntranslatableError, match=name):
        written(asked(**more))
    assert written(asked(**more), drop=True)[1] == [name]


def test_what_says_nothing_is_left_out_without_a_word() -> None:
    body, dropped = written(
        asked(n=1, presence_penalty=0, frequency_penalty=0, verbosity="medium", service_tier="auto")
    )
    assert body == {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
    assert dropped == []


@pytest.mark.parametrize(
    ("model", "wish", "more"),
    [
        (CLAUDE, ReasoningWish(budget_tokens=2000), {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        (NOVA, ReasoningWish("high"), {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}),
        (NOVA, ReasoningWish("none"), {"reasoningConfig": {"type": "disabled"}}),
        ("openai.gpt-oss-20b-1:0", ReasoningWish("low"), {"reasoning_effort": "low"}),
        ("qwen.qwen3-32b-v1:0", ReasoningWish("medium"), {"reasoning_config": "medium"}),
    ],
)
def test_how_much_to_think_is_said_in_each_makers_words(model: str, wish: ReasoningWish, more: dict[str, Any]) -> None:
    body, _ = written(asked(model=model, reasoning=wish, max_tokens=5000))
    assert body["additionalModelRequestFields"] == more


def test_thoughts_go_back_to_claude_with_their_proof_and_to_nobody_else() -> None:
    own = Reasoning("hm", "c2ln", origin="anthropic_messages")
    secret = Reasoning(encrypted="ZW5j", origin="anthropic_messages")
    other = Reasoning("hm", "c2ln", origin="gemini")
    turns = (
        Turn(Role.User, [Text("a")]),
        Turn(Role.Assistant, [own, secret, other, Text("b")]),
        Turn(Role.User, [Text("c")]),
    )
    body, dropped = written(asked(*turns))
    assert body["messages"][1]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": b64encode(b"ZW5j").decode()}},
        {"text": "b"},
    ]
    assert dropped == ["reasoning"]
    assert written(asked(*turns, model=NOVA))[0]["messages"][1]["content"] == [{"text": "b"}]


def test_a_shape_is_told_as_a_schema_in_text() -> None:
    shape = AnswerShape("schema", "thing", {**SCHEMA, "additionalProperties": False}, True)
    form = written(asked(shape=shape))[0]["outputConfig"]["textFormat"]
    assert form["type"] == "json_schema"
    assert form["structure"]["jsonSchema"]["name"] == "thing"
    assert json.loads(form["structure"]["jsonSchema"]["schema"])["properties"] == SCHEMA["properties"]


def test_a_history_with_calls_declares_its_tools_and_forbidden_tools_are_left_out() -> None:
    turns = (
        Turn(Role.User, [Text("a")]),
        Turn(Role.Assistant, [ToolCall("1", "look", "{}")]),
        Turn(Role.Tool, [ToolResult("1", [Text("x")])]),
    )
    body, dropped = written(asked(*turns))
    assert [one["toolSpec"]["name"] for one in body["toolConfig"]["tools"]] == ["look"]
    assert dropped == ["tools"]
    assert "toolConfig" not in written(asked(tools=[Tool("look")], tool_choice=ToolChoice("none")))[0]


def test_odd_ids_are_respelt_the_same_for_the_call_and_its_result() -> None:
    name = "call|" + "x" * 100
    turns = (
        Turn(Role.User, [Text("a")]),
        Turn(Role.Assistant, [ToolCall(name, "look", "{}")]),
        Turn(Role.Tool, [ToolResult(name, [Text("x")])]),
    )
    messages = written(asked(*turns, tools=[Tool("look")]))[0]["messages"]
    called = messages[1]["content"][0]["toolUse"]["toolUseId"]
    assert called == messages[2]["content"][0]["toolResult"]["toolUseId"]
    assert len(called) <= 64
    assert "|" not in called


def test_results_come_before_what_the_user_said_meanwhile() -> None:
    mark = {"type": "ephemeral"}
    turns = (
        Turn(Role.User, [Text("a")]),
        Turn(Role.Assistant, [ToolCall("1", "look", "{}")]),
        Turn(Role.User, [Text("hurry", cache=mark)]),
        Turn(Role.Tool, [ToolResult("1", [Text("x")], cache=mark)]),
    )
    blocks = written(asked(*turns, tools=[Tool("look")]))[0]["messages"][2]["content"]
    assert [next(iter(block)) for block in blocks] == ["toolResult", "cachePoint", "text", "cachePoint"]


def test_later_instructions_move_to_the_front_and_that_is_told() -> None:
    body, dropped = written(asked(Turn(Role.User, [Text("a")]), Turn(Role.System, [Text("s")])))
    assert body["system"] == [{"text": "s"}]
    assert dropped == ["messages[1].role"]


# -- replies ----------------------------------------------------------------------------------------------------------


def reply(content: list[dict[str, Any]], stop: str = "end_turn", **more: Any) -> bytes:
    return json.dumps(
        {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": stop, **more}
    ).encode()


def test_a_reply_keeps_thoughts_calls_and_every_class_of_usage() -> None:
    answer = CODEC.read_answer(
        reply(
            [
                {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
                {"reasoningContent": {"redactedContent": b64encode(b"ZW5j").decode()}},
                {"text": "so"},
                {"toolUse": {"toolUseId": "t1", "name": "look", "input": {"b": [1, 2.50], "a": "é"}}},
            ],
            "tool_use",
            usage={"inputTokens": 5, "outputTokens": 7, "cacheReadInputTokens": 11, "cacheWriteInputTokens": 13,
                   "cacheDetails": [{"ttl": "1h", "inputTokens": 13}]},
        )
    )  # fmt: skip
    (choice,) = answer.choices
    assert choice.stop is Stop.Tools
    assert choice.parts == [
        Reasoning("hm", "c2ln", origin="anthropic_messages"),
        Reasoning(encrypted="ZW5j", origin="anthropic_messages"),
        Text("so"),
        ToolCall("t1", "look", '{"b": [1, 2.5], "a": "\\u00e9"}'),
    ]
    assert answer.usage == Usage(29, 7, cached_input_tokens=11, cache_write_tokens=13, cache_write_1h_tokens=13)
    assert answer.id


@pytest.mark.parametrize(
    ("told", "stop"),
    [
        ("end_turn", Stop.End), ("max_tokens", Stop.Length), ("stop_sequence", Stop.Sequence), ("tool_use", Stop.Tools),
        ("guardrail_intervened", Stop.Filter), ("content_filtered", Stop.Filter),
        ("model_context_window_exceeded", Stop.Context), ("something_new", Stop.End),
    ],
)  # fmt: skip
def test_every_reason_to_stop_is_known(told: str, stop: Stop) -> None:
    assert CODEC.read_answer(reply([{"text": "x"}], told)).choices[0].stop is stop


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"message":"no"}', b'{"output":{"message":{"content":1}}}'])
def test_what_is_no_reply_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match="no answer of Converse"):
        CODEC.read_answer(body)


def test_clients_do_not_speak_it() -> None:
    call = Call("r", Operation.Chat, "m", b"{}", peek(b"{}"), started_s=0.0, deadline_s=1.0)
    for ask in (
        lambda: CODEC.read_request(b"{}", Losses("x", may_drop=True), model="m", stream=False),
        lambda: CODEC.reader(call),
        lambda: CODEC.encoder("m", want_usage=True),
    ):
        with pytest.raises(NotImplementedError, match="bedrock_converse is spoken to providers only"):
            ask()


# -- streams ----------------------------------------------------------------------------------------------------------


def delta(at: int, **told: Any) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": at, "delta": told})


def stop(at: int) -> bytes:
    return event("contentBlockStop", {"contentBlockIndex": at})


def test_a_stream_tells_thoughts_text_and_parallel_calls_in_order() -> None:
    call = {"toolUse": {"toolUseId": "t1", "name": "look"}}
    server = {"toolUse": {"toolUseId": "s1", "name": "code", "type": "server_tool_use"}}
    data = b"".join(
        [
            event("messageStart", {"role": "assistant", "p": "abc"}),
            delta(0, reasoningContent={"text": "hm"}), delta(0, reasoningContent={"signature": "c2ln"}), stop(0),
            event("contentBlockStart", {"contentBlockIndex": 1, "start": server}),
            delta(1, toolUse={"input": "{}"}), stop(1),
            event("contentBlockStart", {"contentBlockIndex": 2, "start": {}}),
            delta(2, text="so"), stop(2),
            event("contentBlockStart", {"contentBlockIndex": 3, "start": call}),
            delta(3, toolUse={"input": '{"a":'}), delta(3, toolUse={"input": "1}"}), stop(3),
            event("messageStop", {"stopReason": "tool_use"}),
            event("metadata", {"usage": {"inputTokens": 5, "outputTokens": 7}, "serviceTier": {"type": "flex"}}),
        ]
    )  # fmt: skip
    assert read(data) == [
        Started("", ""),
        PartStarted(0, Reasoning(origin="anthropic_messages")),
        PartDelta(0, "hm"),
        PartDelta(0, signature="c2ln"),
        PartEnded(0),
        PartStarted(1, Text("")),
        PartDelta(1, "so"),
        PartEnded(1),
        PartStarted(2, ToolCall("t1", "look", "")),
        PartDelta(2, '{"a":'),
        PartDelta(2, "1}"),
        PartEnded(2),
        Finished(Stop.Tools),
        UsageTold(Usage(5, 7), "flex"),
    ]


def picture(at: int, *pieces: bytes) -> bytes:
    """A picture in pieces, each of them base64 of its own."""
    began = event("contentBlockStart", {"contentBlockIndex": at, "start": {"image": {"format": "webp"}}})
    told = [delta(at, image={"source": {"bytes": b64encode(one).decode()}}) for one in pieces]
    return began + b"".join(told)


@pytest.mark.parametrize("stopped", [True, False])
def test_a_picture_in_pieces_is_told_whole(stopped: bool) -> None:
    data = delta(0, text="Look:") + stop(0) + picture(1, b"abcd", b"e", b"fg") + (stop(1) if stopped else b"")
    events = read(data + event("messageStop", {"stopReason": "end_turn"}))
    whole = Media(MediaKind.Image, "image/webp", data=b64encode(b"abcdefg").decode())
    assert events[-3:] == [PartStarted(1, whole), PartEnded(1), Finished(Stop.End)]


def test_a_picture_that_cannot_be_read_is_left_out() -> None:
    failed = event("contentBlockStart", {"contentBlockIndex": 0, "start": {"image": {"format": "png"}}})
    failed += delta(0, image={"error": {"message": "blocked"}}) + stop(0)
    torn = picture(1) + delta(1, image={"source": {"bytes": "%%%"}}) + stop(1)
    events = read(failed + torn + delta(2, text="x") + event("messageStop", {"stopReason": "end_turn"}))
    assert [one.part for one in events if isinstance(one, PartStarted)] == [Text("")]


def test_parts_that_never_stop_end_with_the_message() -> None:
    events = read(delta(0, text="x") + event("messageStop", {"stopReason": "max_tokens"}))
    assert events[-2:] == [PartEnded(0), Finished(Stop.Length)]


@pytest.mark.parametrize(
    ("data", "status", "code", "message"),
    [
        (exception("throttlingException", "slow down"), 429, "throttlingException", "slow down"),
        (exception("modelStreamErrorException", "gone"), 424, "modelStreamErrorException", "gone"),
        (exception("modelNotReadyException", "soon"), 429, "modelNotReadyException", "soon"),
        (exception("modelTimeoutException", "late"), 408, "modelTimeoutException", "late"),
        (exception("serviceUnavailableException", ""), 503, "serviceUnavailableException", "with an error"),
        (frame(b"", message_type="error", error_code="Boom", error_message="why"), 500, "Boom", "why"),
        (event("contentBlockDelta", b"{"), 502, None, "cannot be read"),
        (delta(0, text="x")[:-1] + b"?", 502, None, "checksum of a message is wrong"),
        (b"\0\0\0\x10\0\0\0\0????" + b"\0" * 4, 502, None, "beginning is wrong"),
    ],
)
def test_errors_inside_a_stream_end_it(data: bytes, status: int, code: str | None, message: str) -> None:
    events = read(delta(0, text="x") + data + delta(0, text="y"))
    (*_, last) = events
    assert isinstance(last, Failed)
    assert (last.error.status, last.error.code) == (status, code)
    assert message in last.error.message
    assert [one.text for one in events if isinstance(one, PartDelta)] == ["x"]


def test_frames_are_read_as_botocore_reads_them() -> None:
    data = event("messageStart", {"role": "assistant"}) + exception("x", "é" * 300) + frame(b"", message_type="event")
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    theirs = [(one.headers, one.payload) for one in buffer]
    assert [(one.headers, one.payload) for one in Frames().feed(data)] == theirs
    assert len(theirs) == 3
