"""Callers who forbid several tool calls at once get one, also from providers that cannot be told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.models.call import Call, Operation, Wire, peek
from apikeyrouter.wire.facts import (
    Answer,
    Choice,
    Event,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    Stop,
    Text,
    ToolCall,
)
from apikeyrouter.wire.one_call import FirstCalls, forbids_several
from apikeyrouter.wire.translate import TranslatingReader, translated_reply, translated_request
from tests.support.wire_sides import side_of

CANNOT_BE_TOLD = [Wire.Gemini, Wire.Converse, Wire.Cohere]
MODELS = {Wire.Gemini: "gemini-2.5-flash", Wire.Converse: "amazon.nova-pro-v1:0", Wire.Cohere: "command-a-03-2025"}
FUNCTIONS = [{"name": name, "parameters": {"type": "object", "properties": {}}} for name in ("f", "g")]
CALLS = [ToolCall("call_1", "f", '{"a":1}'), ToolCall("call_2", "g", "{}"), ToolCall("call_3", "f", "{}")]


def call_of(operation: Operation, model: str, **members: Any) -> Call:
    asked: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "hi"}], **members}
    if operation is Operation.Messages:
        asked |= {"max_tokens": 50, "tools": [{"name": f["name"], "input_schema": f["parameters"]} for f in FUNCTIONS]}
    else:
        asked["tools"] = [{"type": "function", "function": f} for f in FUNCTIONS]
    if operation is Operation.Responses:
        asked["input"] = asked.pop("messages")
        asked["tools"] = [{"type": "function", **f} for f in FUNCTIONS]
    body = json.dumps(asked).encode()
    return Call("r1", operation, model, body, peek(body), started_s=0.0, deadline_s=60.0)


FORBIDDING: list[tuple[Operation, dict[str, Any]]] = [
    (Operation.Chat, {"parallel_tool_calls": False}),
    (Operation.Responses, {"parallel_tool_calls": False}),
    (Operation.Messages, {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}),
]


@pytest.mark.parametrize("wire", CANNOT_BE_TOLD)
@pytest.mark.parametrize(("operation", "members"), FORBIDDING)
def test_of_several_calls_the_first_is_told(wire: Wire, operation: Operation, members: dict[str, Any]) -> None:
    call = call_of(operation, MODELS[wire], **members)
    _, dropped = translated_request(call, wire)
    assert dropped == (), "nothing is refused, and nothing is lost"
    choice = Choice([Text("Let me see."), *CALLS], Stop.Tools)
    body = side_of(wire).write_answer(Answer("r", call.model, [choice], Usage(5, 7)), call.model)
    reply, usage = translated_reply(call, wire, body)
    assert (reply.count(b'"g"'), reply.count(b'"f"')) == (0, 1)
    assert b"Let me see." in reply
    assert usage is not None
    assert usage.output_tokens == 7, "what was said is paid for"


@pytest.mark.parametrize("wire", CANNOT_BE_TOLD)
@pytest.mark.parametrize(("operation", "members"), FORBIDDING)
def test_streams_tell_the_first_call_alone(wire: Wire, operation: Operation, members: dict[str, Any]) -> None:
    def streamed(**also: Any) -> bytes:
        call = call_of(operation, MODELS[wire], stream=True, **also)
        reader = TranslatingReader(call, wire)
        writer = side_of(wire).encoder(call.model, want_usage=True)
        out = b"".join(reader.feed(writer.encode(event)) for event in _events())
        return out + reader.feed(writer.finish()) + reader.finish()

    assert b"g" in {name for name in (b"f", b"g") if b'"name":"%s"' % name in streamed()}
    one = streamed(**members)
    assert b'"name":"f"' in one
    assert b'"name":"g"' not in one
    assert b"call_3" not in one


def _events() -> list[Event]:
    events: list[Event] = [Started("r", "m"), PartStarted(0, Text("")), PartDelta(0, "Let me see."), PartEnded(0)]
    for at, one in enumerate(CALLS, start=1):
        events += [
            PartStarted(at, ToolCall(one.id, one.name, "")),
            PartDelta(at, one.arguments),
            PartEnded(at),
        ]
    return [*events, Finished(Stop.Tools)]


def test_what_stands_behind_a_further_call_stays_and_moves_up() -> None:
    events: list[Event] = [*_events()[:-1], PartStarted(4, Text("")), PartDelta(4, "Done."), PartEnded(4)]
    kept = FirstCalls().kept([*events, Finished(Stop.Tools)])
    assert [one.index for one in kept if isinstance(one, PartStarted)] == [0, 1, 2]
    assert [one.text for one in kept if isinstance(one, PartDelta)] == ["Let me see.", '{"a":1}', "Done."]


def test_choices_are_counted_each_by_itself() -> None:
    events: list[Event] = [PartStarted(0, ToolCall("a", "f", ""), choice=at) for at in (0, 1)]
    assert FirstCalls().kept(events) == events


@pytest.mark.parametrize(
    ("members", "wire"),
    [
        ({}, Wire.Gemini),
        ({"parallel_tool_calls": True}, Wire.Gemini),
        ({"parallel_tool_calls": None}, Wire.Gemini),
        ({"user": '"parallel_tool_calls": false'}, Wire.Gemini),
        ({"parallel_tool_calls": False}, Wire.Messages),
    ],
)
def test_others_get_every_call(members: dict[str, Any], wire: Wire) -> None:
    assert not forbids_several(call_of(Operation.Chat, "m", **members), wire)
