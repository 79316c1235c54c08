"""Cohere's chat word by word: what requests become, what is refused by name, what replies and streams say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.codec import MalformedError, codec_of
from apikeyrouter.wire.cohere.embeddings import embed_body, embed_reply, read_ask
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
from tests.support.cohere_side import sse
from tests.support.wire_values import PICTURE

CODEC = codec_of(Wire.Cohere)
REASONER = "command-a-reasoning-08-2025"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
HI = {"role": "user", "content": "hi"}


def written(ask: Ask, *, drop: bool = False) -> tuple[dict[str, Any], list[str]]:
    losses = Losses("cohere_chat", may_drop=drop)
    body = json.loads(CODEC.write_request(ask, losses))
    losses.check()
    return body, losses.dropped


def asked(*turns: Turn, model: str = "command-a-03-2025", **more: Any) -> Ask:
    return Ask(model, list(turns) or [Turn(Role.User, [Text("hi")])], **more)


def read(data: bytes) -> list[Event]:
    decoder = CODEC.decoder()
    return [*decoder.feed(data), *decoder.finish()]


# -- requests ---------------------------------------------------------------------------------------------------------


def test_a_conversation_with_pictures_and_calls() -> None:
    body, dropped = written(
        asked(
            Turn(Role.System, [Text("be brief")]),
            Turn(Role.User, [Text("see"), Media(MediaKind.Image, "image/png", data=PICTURE, detail="low")]),
            Turn(Role.Assistant, [Text("I look"), ToolCall("a", "look", '{"x": 1}'), ToolCall("b", "look", "")]),
            Turn(
                Role.Tool,
                [
                    ToolResult("a", [Text("yes"), Media(MediaKind.Image, url="https://x.example/a.png")]),
                    ToolResult("b", [Text("no")], is_error=True),
                ],
            ),
            Turn(Role.Developer, [Text("be kind")]),
            tools=[Tool("look", "looks", SCHEMA, strict=True)],
            tool_choice=ToolChoice("required"),
            max_tokens=9,
            temperature=0.5,
            top_p=0.0,
            top_k=900,
            stop=["x", ""],
            seed=3,
            presence_penalty=0.5,
            frequency_penalty=0,
            user="u",
            stream=True,
        )
    )
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}", "detail": "low"}}
    calls = [
        {"id": name, "type": "function", "function": {"name": "look", "arguments": arguments}}
        for name, arguments in (("a", '{"x": 1}'), ("b", "{}"))
    ]
    assert body["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "see"}, picture]},
        {"role": "assistant", "tool_plan": "I look", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a", "content": "yes"},
        {"role": "tool", "tool_call_id": "b", "content": "no"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]},
        {"role": "system", "content": "be kind"},
    ]
    function = {"name": "look", "description": "looks", "parameters": SCHEMA}
    assert {name: body[name] for name in body if name != "messages"} == {
        "model": "command-a-03-2025", "tools": [{"type": "function", "function": function}], "tool_choice": "REQUIRED",
        "strict_tools": True, "max_tokens": 9, "temperature": 0.5, "p": 0.01, "k": 500, "seed": 3,
        "presence_penalty": 0.5, "stop_sequences": ["x"], "stream": True,
    }  # fmt: skip
    assert dropped == ["messages[3].is_error", "user"]


def test_pictures_of_results_are_told_with_what_the_user_says_next() -> None:
    picture = Media(MediaKind.Image, url="https://x.example/a.png")
    turns = (
        Turn(Role.User, [Text("a")]),
        Turn(Role.Assistant, [ToolCall("1", "look", "{}")]),
        Turn(Role.Tool, [ToolResult("1", [picture])]),
        Turn(Role.User, [Text("so?")]),
    )
    result, said = written(asked(*turns))[0]["messages"][2:]
    assert result == {"role": "tool", "tool_call_id": "1", "content": "(see the next message)"}
    assert said["role"] == "user"
    assert [one["type"] for one in said["content"]] == ["image_url", "text"]


def test_a_certain_tool_is_demanded_by_giving_it_alone() -> None:
    tools = [Tool("a"), Tool("b")]
    body, dropped = written(asked(tools=tools, tool_choice=ToolChoice("named", "b")))
    assert [one["function"]["name"] for one in body["tools"]] == ["b"]
    assert (body["tool_choice"], dropped) == ("REQUIRED", [])
    assert written(asked(tools=tools, tool_choice=ToolChoice("none")))[0]["tool_choice"] == "NONE"
    assert "tool_choice" not in written(asked(tools=tools, tool_choice=ToolChoice("auto")))[0]


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": 0}, "logprobs"),
        ({"verbosity": "low"}, "verbosity"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"presence_penalty": -1}, "presence_penalty"),
        ({"stop": list("abcdef")}, "stop"),
        ({"tools": [Tool("t")], "shape": AnswerShape("json")}, "response_format"),
        ({"tools": [Tool("t", strict=True), Tool("u")]}, "tools.strict"),
    ],
)
def test_wishes_that_cohere_has_not_are_refused_by_name_or_dropped_and_told(more: dict[str, Any], name: str) -> None:
    with pytest.raises(UntranslatableError, match=name):
        written(asked(**more))
    assert written(asked(**more), drop=True)[1] == [name]


@pytest.mark.parametrize("kind", [MediaKind.Document, MediaKind.Audio, MediaKind.Video])
def test_files_are_refused_by_name_and_never_dropped(kind: MediaKind) -> None:
    with pytest.raises(UntranslatableError, match=rf"messages\[0\]\.content\[0\].*{kind.value}"):
        written(asked(Turn(Role.User, [Media(kind, "application/pdf", data="JVBERi0=")])), drop=True)


@pytest.mark.parametrize(
    ("model", "wish", "told", "dropped"),
    [
        (REASONER, ReasoningWish("none"), {"type": "disabled"}, []),
        (REASONER, ReasoningWish("low"), {"type": "enabled", "token_budget": 1024}, []),
        (REASONER, ReasoningWish("high"), {"type": "enabled"}, []),
        (REASONER, ReasoningWish(budget_tokens=77), {"type": "enabled", "token_budget": 77}, []),
        (REASONER, ReasoningWish(budget_tokens=-1), {"type": "enabled"}, []),
        (REASONER, ReasoningWish(tell=True), None, []),
        ("command-r7b-12-2024", ReasoningWish("high"), None, ["reasoning_effort"]),
        ("command-r7b-12-2024", ReasoningWish("none"), None, []),
    ],
)
def test_how_much_to_think_is_a_budget(
    model: str, wish: ReasoningWish, told: dict[str, Any] | None, dropped: list[str]
) -> None:
    body, lost = written(asked(model=model, reasoning=wish))
    assert (body.get("thinking"), lost) == (told, dropped)


def test_thoughts_go_to_models_that_reason_without_others_proofs() -> None:
    turns = (Turn(Role.User, [Text("a")]), Turn(Role.Assistant, [Reasoning("hm", "c2ln", origin="gemini"), Text("b")]))
    body, dropped = written(asked(*turns, model=REASONER))
    assert body["messages"][1]["content"] == [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "b"}]
    assert dropped == ["reasoning"]
    body, dropped = written(asked(*turns))
    assert (body["messages"][1]["content"], dropped) == ("b", ["reasoning"])
    own = (turns[0], Turn(Role.Assistant, [Reasoning("hm", origin="cohere_chat"), Text("b")]))
    assert written(asked(*own, model=REASONER))[1] == []


def test_the_shape_of_the_reply() -> None:
    assert written(asked(shape=AnswerShape("json")))[0]["response_format"] == {"type": "json_object"}
    form = written(asked(shape=AnswerShape("schema", "x", SCHEMA)))[0]["response_format"]
    assert form == {"type": "json_object", "json_schema": SCHEMA}


# -- replies ----------------------------------------------------------------------------------------------------------


def reply(message: dict[str, Any], reason: str = "COMPLETE", **more: Any) -> bytes:
    return json.dumps(
        {"id": "r1", "finish_reason": reason, "message": {"role": "assistant", **message}, **more}
    ).encode()


def test_a_reply_keeps_thoughts_plan_calls_and_what_is_billed() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
    content = [{"type": "thinking", "thinking": "hm"}]
    units = {
        "billed_units": {"input_tokens": 5, "output_tokens": 7},
        "tokens": {"input_tokens": 505},
        "cached_tokens": 9,
    }
    answer = CODEC.read_answer(
        reply({"content": content, "tool_plan": "I look", "tool_calls": [call]}, "TOOL_CALL", usage=units)
    )
    (choice,) = answer.choices
    assert choice.parts == [Reasoning("hm", origin="cohere_chat"), Text("I look"), ToolCall("c1", "look", '{"a":1}')]
    assert (answer.id, choice.stop, answer.usage) == ("r1", Stop.Tools, Usage(5, 7))


def test_documents_with_an_address_are_cited() -> None:
    source = {"type": "document", "id": "doc:0", "document": {"url": "https://x.example", "title": "X"}}
    cited = {"start": 1, "end": 3, "text": "so", "sources": [source, {"type": "tool", "tool_output": {"a": 1}}]}
    answer = CODEC.read_answer(reply({"content": [{"type": "text", "text": "so so"}], "citations": [cited]}))
    (part,) = answer.choices[0].parts
    assert isinstance(part, Text)
    told = {"url": "https://x.example", "title": "X", "start_index": 1, "end_index": 3}
    assert part.annotations == [{"type": "url_citation", "url_citation": told}]


@pytest.mark.parametrize(
    ("told", "stop"),
    [("COMPLETE", Stop.End), ("MAX_TOKENS", Stop.Length), ("STOP_SEQUENCE", Stop.Sequence), ("TOOL_CALL", Stop.Tools),
     ("ERROR_TOXIC", Stop.Filter), ("ERROR_LIMIT", Stop.Context), ("NEW", Stop.End)],
)  # fmt: skip
def test_every_reason_to_stop_is_known(told: str, stop: Stop) -> None:
    assert CODEC.read_answer(reply({"content": [{"type": "text", "text": "x"}]}, told)).choices[0].stop is stop


@pytest.mark.parametrize("reason", ["ERROR", "TIMEOUT"])
def test_a_reply_that_failed_is_none(reason: str) -> None:
    for look in (CODEC.read_answer, CODEC.usage_of):
        with pytest.raises(ValueError, match=f"finish_reason {reason}"):
            look(reply({"content": []}, reason))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"message":"invalid api token"}'])
def test_what_is_no_reply_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match="no answer of Cohere"):
        CODEC.read_answer(body)


# -- streams ----------------------------------------------------------------------------------------------------------


def part(kind: str, index: int, **content: str) -> bytes:
    return sse(kind, index=index, delta={"message": {"content": content}})


def call(kind: str, index: int, **told: Any) -> bytes:
    return sse(kind, index=index, delta={"message": {"tool_calls": told}})


START = sse("message-start", id="s1", delta={"message": {"role": "assistant", "content": [], "tool_calls": []}})
USAGE = {"billed_units": {"input_tokens": 5, "output_tokens": 7}}


def test_a_stream_tells_thoughts_plan_and_calls_in_order() -> None:
    data = b"".join(
        [
            START,
            part("content-start", 0, type="thinking", thinking=""), part("content-delta", 0, thinking="hm"),
            sse("content-end", index=0),
            sse("tool-plan-delta", delta={"message": {"tool_plan": "I "}}),
            sse("tool-plan-delta", delta={"message": {"tool_plan": "look"}}),
            call("tool-call-start", 0, id="c1", function={"name": "look", "arguments": ""}),
            call("tool-call-delta", 0, function={"arguments": '{"a"'}),
            call("tool-call-delta", 0, function={"arguments": ":1}"}),
            sse("tool-call-end", index=0),
            call("tool-call-start", 1, id="c2", function={"name": "look", "arguments": "{}"}),
            sse("tool-call-end", index=1),
            sse("message-end", delta={"finish_reason": "TOOL_CALL", "usage": USAGE}), b"data: [DONE]\n\n",
        ]
    )  # fmt: skip
    assert read(data) == [
        Started("s1", ""),
        PartStarted(0, Reasoning(origin="cohere_chat")),
        PartDelta(0, "hm"),
        PartEnded(0),
        PartStarted(1, Text("")),
        PartDelta(1, "I "),
        PartDelta(1, "look"),
        PartEnded(1),
        PartStarted(2, ToolCall("c1", "look", "")),
        PartDelta(2, '{"a"'),
        PartDelta(2, ":1}"),
        PartEnded(2),
        PartStarted(3, ToolCall("c2", "look", "")),
        PartDelta(3, "{}"),
        PartEnded(3),
        Finished(Stop.Tools),
        UsageTold(Usage(5, 7)),
    ]


def test_parts_that_never_stop_end_with_the_message() -> None:
    events = read(START + part("content-delta", 0, text="x") + sse("message-end", delta={"finish_reason": "COMPLETE"}))
    assert events[-2:] == [PartEnded(0), Finished(Stop.End)]


def test_citations_come_while_their_text_runs() -> None:
    source = {"type": "document", "document": {"data": {"url": "https://x.example"}}}
    cited = {"start": 0, "end": 2, "text": "so", "sources": [source]}
    data = (
        START
        + part("content-delta", 0, text="so")
        + sse("citation-start", index=0, delta={"message": {"citations": cited}})
    )
    (*_, last) = read(data)
    assert isinstance(last, PartDelta)
    assert last.annotations is not None
    assert last.annotations[0]["url_citation"]["url"] == "https://x.example"


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        (sse("message-end", delta={"finish_reason": "ERROR", "error": "gone"}), 500, "gone"),
        (sse("message-end", delta={"finish_reason": "TIMEOUT"}), 504, "TIMEOUT"),
        (b'data: {"message":"too many"}\n\n', 500, "too many"),
        (b'event: error\ndata: {"type":"error","error":{"a":1}}\n\n', 500, "with an error"),
        (b"data: {\n\n", 502, "cannot be read"),
    ],
)
def test_errors_inside_a_stream_end_it(data: bytes, status: int, message: str) -> None:
    events = read(START + part("content-delta", 0, text="x") + data + part("content-delta", 0, text="y"))
    (*_, last) = events
    assert isinstance(last, Failed)
    assert last.error.status == status
    assert message in last.error.message
    assert [one.text for one in events if isinstance(one, PartDelta)] == ["x"]


# -- embeddings -------------------------------------------------------------------------------------------------------


def test_embeddings_say_what_texts_are_for() -> None:
    losses = Losses("cohere", may_drop=False)
    ask, kind = read_ask(b'{"model":"m","input":"a"}', "embed-v4.0", losses)
    assert json.loads(embed_body(ask, kind)) == {
        "model": "embed-v4.0", "texts": ["a"], "input_type": "search_document", "embedding_types": ["float"],
    }  # fmt: skip
    assert read_ask(b'{"input":"a","input_type":"clustering"}', "m", losses)[1] == "clustering"
    losses.check()
    for body in (b"[]", b'{"input":1}', b'{"input":"a","input_type":7}', b"\xff"):
        with pytest.raises(MalformedError):
            read_ask(body, "m", losses)
    read_ask(b'{"input":[1,2]}', "m", losses)
    with pytest.raises(UntranslatableError, match="token ids mean nothing to Cohere"):
        losses.check()
    for reply_body in (b"{", b"[]", b'{"embeddings":{}}', b'{"embeddings":{"float":[]}}'):
        with pytest.raises(ValueError, match="the reply"):
            embed_reply(ask, reply_body)
