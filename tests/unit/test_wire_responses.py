"""The codec of OpenAI's Responses API: requests and whole replies, both ways, checked with OpenAI's own models."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from openai.types.responses import Response

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.models.call import Wire, peek
from apikeyrouter.wire.codec import MalformedError, codec_of
from apikeyrouter.wire.facts import (
    Answer,
    AnswerShape,
    Ask,
    Choice,
    ErrorFact,
    Media,
    MediaKind,
    Reasoning,
    ReasoningWish,
    Refusal,
    Role,
    Stop,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from apikeyrouter.wire.losses import Losses, UntranslatableError
from apikeyrouter.wire.responses import as_chat, looks_like_responses, without_foreign_reasoning

CODEC = codec_of(Wire.Responses)


def read(may_drop: bool = False, **members: Any) -> tuple[Ask, Losses]:
    losses = Losses("openai_chat", may_drop=may_drop)
    body = msgspec.json.encode({"model": "m", **members})
    return CODEC.read_request(body, losses, model="m", stream=bool(members.get("stream"))), losses


def refusals(may_drop: bool = False, **members: Any) -> list[str]:
    _, losses = read(may_drop, **members)
    with pytest.raises(UntranslatableError) as raised:
        losses.check()
    return raised.value.faults


def written(ask: Ask) -> tuple[dict[str, Any], Losses]:
    losses = Losses("openai_responses", may_drop=True)
    return msgspec.json.decode(CODEC.write_request(ask, losses)), losses


# -- requests -------------------------------------------------------------------------------------------------------


def test_a_string_is_what_the_user_says() -> None:
    ask, losses = read(input="Hello", instructions="Be brief.")
    assert ask.turns == [Turn(Role.System, [Text("Be brief.")]), Turn(Role.User, [Text("Hello")])]
    losses.check()


def test_thoughts_words_and_parallel_calls_are_one_turn_and_their_results_another() -> None:
    ask, losses = read(
        input=[
            {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Two cities."}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Oslo"}'},
            {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": '{"city": "Rome"}'},
            {"type": "function_call_output", "call_id": "c1", "output": "cold"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "warm"}]},
        ]
    )
    assert ask.turns[1:] == [
        Turn(
            Role.Assistant,
            [
                Reasoning("Two cities.", id="rs_1", origin="openai_responses"),
                Text("I look."),
                ToolCall("c1", "weather", '{"city": "Oslo"}'),
                ToolCall("c2", "weather", '{"city": "Rome"}'),
            ],
        ),
        Turn(Role.Tool, [ToolResult("c1", [Text("cold")]), ToolResult("c2", [Text("warm")])]),
    ]
    losses.check()


def test_two_messages_of_the_assistant_stay_two_turns() -> None:
    ask, _ = read(input=[{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}])
    assert ask.turns == [Turn(Role.Assistant, [Text("a")]), Turn(Role.Assistant, [Text("b")])]


def test_pictures_documents_and_sounds_keep_their_base64() -> None:
    ask, losses = read(
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_image", "image_url": "data:image/png;base64,iVBO+/=", "detail": "high"},
                    {"type": "input_image", "image_url": "https://example.com/a.png"},
                    {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"},
                    {"type": "input_file", "filename": "a.csv", "file_data": "YSxi"},
                    {"type": "input_file", "file_url": "https://example.com/a.pdf"},
                    {"type": "input_file", "file_id": "file-1"},
                    {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}},
                ],
            }
        ]
    )
    assert ask.turns[0].parts == [
        Media(MediaKind.Image, mime="image/png", data="iVBO+/=", detail="high"),
        Media(MediaKind.Image, url="https://example.com/a.png"),
        Media(MediaKind.Document, mime="application/pdf", data="JVBE", name="a.pdf"),
        Media(MediaKind.Document, mime="text/csv", data="YSxi", name="a.csv"),
        Media(MediaKind.Document, mime="application/pdf", url="https://example.com/a.pdf"),
        Media(MediaKind.Document, file_id="file-1"),
        Media(MediaKind.Audio, mime="audio/wav", data="UklG"),
    ]
    losses.check()


def test_wishes_are_read() -> None:
    ask, losses = read(
        input="x",
        max_output_tokens=7,
        temperature=0.5,
        top_p=0.9,
        top_logprobs=3,
        reasoning={"effort": "low", "summary": "auto"},
        text={"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}},
        tool_choice={"type": "function", "name": "f"},
        tools=[{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}],
        parallel_tool_calls=False,
        service_tier="flex",
        safety_identifier="u",
        metadata={"a": "b"},
        prompt_cache_key="k",
        include=["reasoning.encrypted_content"],
        store=False,
        truncation="disabled",
    )
    assert (ask.max_tokens, ask.temperature, ask.top_p, ask.logprobs) == (7, 0.5, 0.9, 3)
    assert ask.reasoning == ReasoningWish("low", tell=True)
    assert ask.shape == AnswerShape("schema", "n", {}, True)
    assert ask.tool_choice == ToolChoice("named", "f", False)
    assert ask.tools == [Tool("f", None, {"type": "object"}, False)]
    assert (ask.verbosity, ask.service_tier, ask.user, ask.cache_key) == ("low", "flex", "u", "k")
    assert ask.metadata == {"a": "b"}
    assert losses.dropped == ["include"]


@pytest.mark.parametrize(
    ("members", "word"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"input": "x", "background": True}, "background"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "item_reference"),
        ({"input": [{"type": "code_interpreter_call", "id": "ci_1"}]}, "code_interpreter_call"),
        ({"input": "x", "tools": [{"type": "mcp", "server_label": "s"}]}, "mcp"),
        ({"input": "x", "tool_choice": {"type": "web_search"}}, "web_search"),
        ({"input": [{"role": "user", "content": [{"type": "input_video"}]}]}, "input_video"),
    ],
)
def test_what_lives_at_openai_alone_is_refused_by_name_whatever_may_be_dropped(
    members: dict[str, Any], word: str
) -> None:
    assert word in refusals(may_drop=True, **members)[0]


@pytest.mark.parametrize(
    ("members", "name"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"truncation": "auto"}, "truncation"),
        ({"surprise": 1}, "surprise"),
        ({"text": {"surprise": 1}}, "text.surprise"),
    ],
)
def test_mere_offers_and_wishes_are_refused_by_name_or_dropped(members: dict[str, Any], name: str) -> None:
    assert refusals(input="x", **members)[0].startswith(name + ":")
    _, losses = read(may_drop=True, input="x", **members)
    losses.check()
    assert losses.dropped == [name]


CODEX_TOOLS = [
    {"type": "function", "name": "exec_command", "strict": False, "parameters": {"type": "object", "properties": {}}},
    {"type": "custom", "name": "apply_patch", "description": "Edits.", "format": {
        "type": "grammar", "syntax": "lark", "definition": "start: /x/"}},
    {"type": "web_search", "external_web_access": False},
    {"type": "namespace", "name": "files", "description": "d", "tools": [
        {"type": "function", "name": "read", "parameters": {"type": "object"}}]},
]  # fmt: skip


def test_codex_reaches_all_its_own_tools_through_any_provider() -> None:
    ask, losses = read(
        may_drop=True,
        input=[
            {"type": "custom_tool_call", "call_id": "c1", "name": "apply_patch", "input": "*** Begin"},
            {"type": "custom_tool_call_output", "call_id": "c1", "output": "Done"},
        ],
        tools=CODEX_TOOLS,
        store=False,
        stream=True,
        include=["reasoning.encrypted_content"],
        client_metadata={"x": "y"},
    )
    losses.check()
    assert [tool.name for tool in ask.tools] == ["exec_command", "apply_patch-_-", "files-_-read"]
    assert "start: /x/" in (ask.tools[1].description or "")
    assert ask.turns[0].parts == [ToolCall("c1", "apply_patch-_-", '{"input":"*** Begin"}')]
    assert set(losses.dropped) == {"tools[1].format", "tools[2]", "include", "client_metadata"}
    reply = Answer(
        "r", "m", [Choice([ToolCall("c2", "apply_patch-_-", '{"input": "a\\nb"}'), ToolCall("c3", "files-_-read", "")])]
    )
    first, second = msgspec.json.decode(CODEC.write_answer(reply, "m"))["output"]
    assert (first["type"], first["name"], first["input"]) == ("custom_tool_call", "apply_patch", "a\nb")
    assert (second["namespace"], second["name"], second["arguments"]) == ("files", "read", "{}")


def test_a_plain_tool_may_not_hold_our_mark() -> None:
    assert "-_-" in refusals(may_drop=True, input="x", tools=[{"type": "function", "name": "a-_-b"}])[0]


def test_allowed_tools_takes_the_others_away() -> None:
    tools = [{"type": "function", "name": name} for name in ("a", "b")]
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "b"}]}
    ask, _ = read(input="x", tools=tools, tool_choice=choice)
    assert [tool.name for tool in ask.tools] == ["b"]
    assert ask.tool_choice == ToolChoice("required")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"[]", None),
        (b"{", None),
        (b'{"model":"m"}', "input"),
        (b'{"input":3}', "input"),
        (b'{"input":[3]}', "input[0]"),
        (b'{"input":[{"role":"king","content":"x"}]}', "input[0].role"),
        (b'{"input":[{"role":"user","content":[{"type":"input_text"}]}]}', "input[0].content[0].text"),
        (b'{"input":"x","tools":[{"type":"function"}]}', "tools[0].name"),
        (b'{"input":"x","max_output_tokens":"9"}', "max_output_tokens"),
        (b'{"input":"x","temperature":true}', "temperature"),
        (b'{"input":"x","tool_choice":"maybe"}', "tool_choice"),
        (b'{"input":"x","text":{"format":{"type":"xml"}}}', "text.format.type"),
        (b'{"input":[{"type":"function_call","call_id":"c","name":"f"}]}', "input[0].arguments"),
    ],
)
def test_a_malformed_request_names_the_member_at_fault(body: bytes, param: str | None) -> None:
    with pytest.raises(MalformedError) as raised:
        CODEC.read_request(body, Losses("x", may_drop=True), model="m", stream=False)
    assert raised.value.param == param


def test_what_both_can_say_survives_writing_and_reading() -> None:
    ask = Ask(
        "m",
        [
            Turn(Role.System, [Text("Be brief.")]),
            Turn(Role.User, [Text("Look"), Media(MediaKind.Image, mime="image/png", data="aGk=", detail="low")]),
            Turn(
                Role.Assistant,
                [
                    Reasoning("hm", None, "cipher", "rs_1", "openai_responses"),
                    Text("Calling."),
                    ToolCall("c1", "f", '{"a": 1}'),
                    ToolCall("c2", "files-_-read", "{}"),
                    ToolCall("c3", "patch-_-", '{"input":"x"}'),
                ],
            ),
            Turn(Role.Tool, [ToolResult("c1", [Text("ok")]), ToolResult("c2", [Text("a"), Text("b")])]),
            Turn(Role.Developer, [Text("Go on.")]),
        ],
        tools=[Tool("f", "d", {"type": "object"}, True)],
        tool_choice=ToolChoice("required", parallel=True),
        max_tokens=5,
        temperature=0.1,
        shape=AnswerShape("json"),
        reasoning=ReasoningWish("high", tell=True),
        user="u",
        cache_key="k",
        stream=True,
    )
    losses = Losses("x", may_drop=False)
    again = CODEC.read_request(CODEC.write_request(ask, losses), losses, model="m", stream=True)
    losses.check()
    assert again == ask


def test_what_the_format_cannot_say_is_told_by_name() -> None:
    ask = Ask("m", [Turn(Role.User, [Text("x")], name="Ann")], seed=1, stop=["END"], top_k=3, n=2)
    losses = Losses("openai_responses", may_drop=False)
    CODEC.write_request(ask, losses)
    with pytest.raises(UntranslatableError) as raised:
        losses.check()
    assert [one.partition(":")[0] for one in raised.value.faults] == ["seed", "top_k", "stop", "n"]
    assert losses.dropped == ["name"]


def test_thoughts_of_other_providers_stay_away_and_are_reported() -> None:
    turn = Turn(Role.Assistant, [Reasoning("hm", "sig", origin="anthropic_messages"), Text("Hi")])
    body, losses = written(Ask("m", [Turn(Role.User, [Text("x")]), turn]))
    assert [item["type"] for item in body["input"]] == ["message", "message"]
    assert losses.dropped == ["reasoning"]
    assert body["store"] is False


def test_calls_without_an_id_get_one_with_their_results() -> None:
    turns = [
        Turn(Role.Assistant, [ToolCall("", "a", "{}"), ToolCall("", "b", "{}")]),
        Turn(Role.Tool, [ToolResult("", [Text("2")], name="b"), ToolResult("", [Text("1")], name="a")]),
    ]
    body, _ = written(Ask("m", turns))
    calls = {item["name"]: item["call_id"] for item in body["input"] if "name" in item}
    results = {item["output"]: item["call_id"] for item in body["input"] if "output" in item}
    assert results == {"1": calls["a"], "2": calls["b"]}
    assert calls["a"] != calls["b"]


# -- replies --------------------------------------------------------------------------------------------------------


def answered(*parts: Any, stop: Stop = Stop.End, usage: Usage | None = None) -> dict[str, Any]:
    body = CODEC.write_answer(Answer("x1", "", [Choice(list(parts), stop)], usage, 5), "model-9")
    Response.model_validate_json(body)
    found: dict[str, Any] = msgspec.json.decode(body)
    return found


def test_a_reply_has_its_items_in_order_and_all_classes_of_usage() -> None:
    usage = Usage(100, 20, 60, 10, 7)
    reply = answered(
        Reasoning("hm"), Text("Hi "), Text("there"), ToolCall("c1", "f", "{}"), stop=Stop.Tools, usage=usage
    )
    assert [item["type"] for item in reply["output"]] == ["reasoning", "message", "function_call"]
    assert [part["text"] for part in reply["output"][1]["content"]] == ["Hi ", "there"]
    assert (reply["id"], reply["model"], reply["status"], reply["created_at"]) == ("resp_x1", "model-9", "completed", 5)
    assert reply["usage"] == {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 7},
        "total_tokens": 120,
    }
    assert len({item["id"] for item in reply["output"]}) == 3


@pytest.mark.parametrize(
    ("stop", "status", "reason"),
    [
        (Stop.End, "completed", None),
        (Stop.Sequence, "completed", None),
        (Stop.Length, "incomplete", "max_output_tokens"),
        (Stop.Context, "incomplete", "max_output_tokens"),
        (Stop.Filter, "incomplete", "content_filter"),
        (Stop.Refusal, "incomplete", "content_filter"),
    ],
)
def test_a_reply_tells_how_it_ended(stop: Stop, status: str, reason: str | None) -> None:
    reply = answered(Text("Hi"), stop=stop)
    assert reply["status"] == status
    assert (reply["incomplete_details"] or {}).get("reason") == reason


def test_a_refusal_in_words_is_complete() -> None:
    reply = answered(Refusal("No."), stop=Stop.Refusal)
    assert reply["status"] == "completed"
    assert reply["output"][0]["content"] == [{"type": "refusal", "refusal": "No."}]
    assert CODEC.read_answer(msgspec.json.encode(reply)).choices[0].stop is Stop.Refusal


def test_signatures_of_other_providers_travel_through_a_client_and_back() -> None:
    thought = Reasoning("hm", "sig+/=", "redacted", origin="anthropic_messages")
    call = ToolCall("c1", "f", "{}", signature="gemini-sig")
    reply = answered(thought, call, stop=Stop.Tools)
    assert "sig+/=" not in msgspec.json.encode(reply).decode()
    ask, losses = read(input=[*reply["output"], {"type": "function_call_output", "call_id": "c1", "output": "ok"}])
    assert ask.turns[0].parts == [thought, call]
    losses.check()


def test_a_native_provider_never_sees_proofs_of_others() -> None:
    reply = answered(Reasoning("hm", "sig", origin="anthropic_messages"), Text("Hi"))
    body = msgspec.json.encode({"model": "m", "input": [*reply["output"], {"role": "user", "content": "x"}], "n": 1})
    kept = msgspec.json.decode(without_foreign_reasoning(body))
    assert [item.get("type", "user") for item in kept["input"]] == ["message", "user"]
    assert kept["n"] == 1
    own = b'{"input":[{"type":"reasoning","encrypted_content":"gAAA","summary":[]}]}'
    assert without_foreign_reasoning(own) is own


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"output":3}',
        b'{"status":"failed","error":{"code":"server_error","message":"Sorry"},"output":[]}',
        b'{"status":"queued","output":[]}',
        b'{"status":"completed","output":[{"type":"local_shell_call"}]}',
        b'{"status":"completed","output":[{"type":"function_call","name":"f"}]}',
    ],
)
def test_what_is_no_finished_reply_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        CODEC.read_answer(body)


def test_records_of_the_providers_own_tools_are_left_out_of_a_reply() -> None:
    body = {
        "status": "completed",
        "output": [
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
            {"type": "message", "content": [{"type": "output_text", "text": "Hi", "annotations": [{"type": "a"}]}]},
        ],
    }
    answer = CODEC.read_answer(msgspec.json.encode(body))
    assert answer.choices[0].parts == [Text("Hi", annotations=[{"type": "a"}])]


def test_usage_is_peeked_and_failures_are_errors() -> None:
    good = b'{"object":"response","usage":{"input_tokens":3,"output_tokens":2},"error":null}'
    assert CODEC.usage_of(good) == Usage(3, 2)
    assert CODEC.usage_of(b'{"object":"response","status":"in_progress","usage":null}') is None
    for bad in (b"[]", b"{", b'{"error":{"message":"no"}}', b'{"object":"response","error":{"code":"server_error"}}'):
        with pytest.raises(ValueError, match="reply"):
            CODEC.usage_of(bad)
    told = b'{"object":"response","background":true,"error":{"code":"server_error"},"usage":null}'
    assert CODEC.usage_of(told) is None


def test_errors_have_openais_shape() -> None:
    body = msgspec.json.decode(CODEC.write_error(ErrorFact(429, "Slow down", "rate_limit_exceeded")))
    assert body["error"]["code"] == "rate_limit_exceeded"
    assert body["error"]["message"] == "Slow down"


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b'{"model":"m","input":[{"role":"user","content":"x"}],"stream":true}', True),
        (b'{"model":"m","input":"x"}', True),
        (b'{"model":"m","messages":[],"input":"x"}', False),
        (b'{"model":"m","messages":[{"role":"user","content":"the \\"input\\" field"}]}', False),
        (b'{"model":"m"}', False),
        (b'{"model":"m","input":7}', False),
    ],
)
def test_a_responses_body_is_told_at_the_chat_endpoint(body: bytes, wanted: bool) -> None:
    assert looks_like_responses(peek(body), body) is wanted


def test_cursors_body_becomes_a_chat_completion_request() -> None:
    body = msgspec.json.encode(
        {
            "model": "prefix/m",
            "input": [{"role": "user", "content": "x"}],
            "stream": True,
            "include": ["reasoning.encrypted_content"],
            "reasoning": {"effort": "medium", "summary": "auto"},
            "text": {"verbosity": "low"},
            "stream_options": {"include_usage": True},
            "tools": [
                {"type": "function", "name": "a", "parameters": {"type": "object"}},
                {"type": "function", "function": {"name": "b", "parameters": {"type": "object"}}},
            ],
        }
    )
    chat, dropped = as_chat(body, model="prefix/m", stream=True)
    asked = msgspec.json.decode(chat)
    assert asked["model"] == "prefix/m"
    assert asked["messages"] == [{"role": "user", "content": "x"}]
    assert asked["stream"] is True
    assert asked["stream_options"] == {"include_usage": True}
    assert asked["reasoning_effort"] == "medium"
    assert [tool["function"]["name"] for tool in asked["tools"]] == ["a", "b"]
    assert "include" in dropped
    with pytest.raises(UntranslatableError, match="previous_response_id"):
        as_chat(b'{"model":"m","previous_response_id":"resp_1","input":"x"}', model="m", stream=False)


def test_a_search_for_tools_that_the_client_answers_works_with_any_provider() -> None:
    hidden = {"type": "function", "name": "rates", "parameters": {"type": "object"}, "defer_loading": True}
    ask, losses = read(
        input=[
            {"role": "user", "content": "Rates?"},
            {"type": "tool_search_call", "execution": "client", "call_id": "s1", "arguments": {"queries": ["rate"]}},
            {"type": "tool_search_output", "execution": "client", "call_id": "s1", "tools": [hidden]},
        ],
        tools=[{"type": "tool_search", "execution": "client", "parameters": {"type": "object"}}],
    )
    losses.check()
    assert [tool.name for tool in ask.tools] == ["tool_search-_--_-", "rates"]
    assert ask.turns[1].parts == [ToolCall("s1", "tool_search-_--_-", '{"queries":["rate"]}')]
    assert ask.turns[2].parts == [ToolResult("s1", [Text("Tools found: rates")])]
    reply = answered(ToolCall("s2", "tool_search-_--_-", '{"queries": ["x"]}'), stop=Stop.Tools)
    assert reply["output"][0]["type"] == "tool_search_call"
    assert reply["output"][0]["arguments"] == {"queries": ["x"]}
    again, _ = written(ask)
    assert [item.get("type") for item in again["input"]] == ["message", "tool_search_call", "tool_search_output"]
    assert again["tools"][0] == {"type": "tool_search", "execution": "client", "parameters": {"type": "object"}}
    again.pop("model")
    assert read(**again)[0].turns == ask.turns
