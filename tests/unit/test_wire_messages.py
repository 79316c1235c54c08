"""Anthropic's Messages: requests read and written, what is refused by name, and what each model takes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.codec import MalformedError, codec_of
from apikeyrouter.wire.facts import (
    AnswerShape,
    Ask,
    Media,
    MediaKind,
    Part,
    Reasoning,
    ReasoningWish,
    Refusal,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from apikeyrouter.wire.losses import Losses, UntranslatableError
from apikeyrouter.wire.messages.models import claude

CODEC = codec_of(Wire.Messages)
PNG = "iVBORw0KGgoAAAANSUhEUg=="
CACHE = {"type": "ephemeral", "ttl": "1h"}
OLD, NEW = "claude-sonnet-4-5", "claude-opus-5"
TOOL = Tool("get_weather", "Tells it", {"type": "object", "properties": {"city": {"type": "string"}}})
OWN = Wire.Messages.value


def read(body: dict[str, Any], losses: Losses | None = None) -> Ask:
    told = losses or Losses("elsewhere", may_drop=False)
    ask = CODEC.read_request(
        json.dumps(body).encode(), told, model=body.get("model", NEW), stream=bool(body.get("stream"))
    )
    if losses is None:
        told.check()
    return ask


def written(ask: Ask, losses: Losses | None = None) -> dict[str, Any]:
    told = losses or Losses("anthropic_messages", may_drop=False)
    body: dict[str, Any] = json.loads(CODEC.write_request(ask, told))
    if losses is None:
        told.check()
    return body


def asked(*turns: Turn, model: str = NEW, **more: Any) -> Ask:
    return Ask(model=model, turns=list(turns) or [user("Hello")], **more)


def user(text: str) -> Turn:
    return Turn(Role.User, [Text(text)])


def faults(ask: Ask) -> str:
    losses = Losses("anthropic_messages", may_drop=False)
    CODEC.write_request(ask, losses)
    with pytest.raises(UntranslatableError) as refused:
        losses.check()
    return str(refused.value)


def dropped(ask: Ask) -> tuple[dict[str, Any], list[str]]:
    losses = Losses("anthropic_messages", may_drop=True)
    return written(ask, losses), losses.dropped


WHOLE = {
    "model": NEW,
    "max_tokens": 300,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": CACHE}, {"type": "text", "text": "Be kind."}],
    "messages": [
        {"role": "user", "content": "What is the weather in Paris and Oslo?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Two calls.", "signature": "proof=="},
                {"type": "redacted_thinking", "data": "cipher=="},
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}},
                {"type": "tool_use", "id": "toolu_2", "name": "get_weather", "input": {"city": "Oslo"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": "rain", "is_error": True},
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [
                        {"type": "text", "text": "sun"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                    ],
                    "cache_control": CACHE,
                },
                {"type": "text", "text": "And these?"},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                {"type": "document", "source": {"type": "file", "file_id": "file_011C"}, "title": "Notes"},
                {
                    "type": "document",
                    "source": {"type": "text", "media_type": "text/plain", "data": "plain"},
                    "cache_control": CACHE,
                },
            ],
        },
        {"role": "system", "content": "From now on in French."},
    ],
    "tools": [
        {
            "name": "get_weather",
            "description": "",
            "input_schema": {"type": "object", "properties": {}, "additionalProperties": False},
            "strict": True,
            "cache_control": CACHE,
        }
    ],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    "stop_sequences": ["END"],
    "metadata": {"user_id": "u-1"},
    "thinking": {"type": "adaptive", "display": "summarized"},
    "output_config": {
        "effort": "xhigh",
        "format": {
            "type": "json_schema",
            "schema": {"type": "object", "properties": {}, "additionalProperties": False},
        },
    },
    "service_tier": "standard_only",
    "stream": True,
}


def test_what_is_read_is_written_the_same() -> None:
    assert written(read(WHOLE)) == WHOLE


def test_a_request_is_read_into_turns_in_their_order() -> None:
    ask = read(WHOLE)
    assert [turn.role for turn in ask.turns] == [
        Role.System, Role.User, Role.Assistant, Role.Tool, Role.User, Role.System
    ]  # fmt: skip
    assert ask.turns[0].parts[0] == Text("Be brief.", CACHE)
    assistant = ask.turns[2].parts
    assert assistant[0] == Reasoning("Two calls.", signature="proof==", origin=OWN)
    assert assistant[1] == Reasoning(encrypted="cipher==", origin=OWN)
    assert assistant[3] == ToolCall("toolu_1", "get_weather", '{"city":"Paris"}')
    results = ask.turns[3].parts
    assert results[0] == ToolResult("toolu_2", [Text("rain")], is_error=True)
    assert isinstance(results[1], ToolResult)
    assert results[1].parts == [Text("sun"), Media(MediaKind.Image, "image/png", data=PNG)]
    assert ask.tool_choice == ToolChoice("required", parallel=False)
    assert ask.reasoning == ReasoningWish("xhigh", -1, tell=True)
    assert (ask.max_tokens, ask.stop, ask.user, ask.service_tier) == (300, ["END"], "u-1", "default")
    assert ask.shape is not None
    assert (ask.shape.kind, ask.shape.strict) == ("schema", True)


def test_the_requests_own_cache_mark_stands_on_the_last_block() -> None:
    ask = read({"max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}], "cache_control": CACHE})
    assert ask.turns[-1].parts == [Text("Hi", CACHE)]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["Hi"]}, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0].type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64"}}]}]},
            "messages[0].content[0].source.data",
        ),
        (
            {
                "messages": [
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": 5}]}
                ]
            },
            "messages[0].content[0].input",
        ),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"system": 5}, "system"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"name": "a"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "perhaps"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {}}, "thinking.type"),
        ({"stop_sequences": [5]}, "stop_sequences"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
    ],
)
def test_a_malformed_request_is_refused_with_the_member_at_fault(change: dict[str, Any], param: str) -> None:
    body = {"max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}], **change}
    with pytest.raises(MalformedError) as fault:
        read(body)
    assert fault.value.param == param


def test_what_is_no_json_is_refused() -> None:
    for body in (b"", b"{", b"[]", b'"text"', b"\xff", b"[" * 100_000):
        with pytest.raises(MalformedError):
            CODEC.read_request(body, Losses("x", may_drop=True), model=NEW, stream=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]: web_search_20250305"),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "server_tool_use", "id": "a", "name": "b"}]}]},
            "messages[0].content[0]: server_tool_use",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]},
            "messages[0].content[0]: container_upload",
        ),
        ({"mcp_servers": [{"type": "url"}]}, "mcp_servers: only Anthropic"),
        ({"thinking": {"type": "between_tools"}}, "thinking: 'between_tools'"),
        ({"context_management": {"edits": [1]}}, "context_management: only Anthropic"),
        ({"speed": "fast"}, "speed: only Anthropic"),
        ({"output_config": {"task_budget": {"total": 5}}}, "output_config.task_budget"),
    ],
)
def test_what_only_anthropic_has_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    body = {"max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}], **change}
    with pytest.raises(UntranslatableError) as refused:
        read(body)
    assert said in str(refused.value)


def test_content_is_never_dropped_even_when_parameters_may_be() -> None:
    losses = Losses("x", may_drop=True)
    tools = [{"type": "bash_20250124", "name": "bash"}]
    read({"max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}], "tools": tools, "speed": "fast"}, losses)
    assert losses.dropped == ["speed"]
    with pytest.raises(UntranslatableError, match="bash_20250124"):
        losses.check()


# -- writing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "most"),
    [
        ("claude-opus-5", 128_000),
        ("claude-haiku-5-5", 128_000),
        ("claude-opus-4-6", 128_000),
        ("claude-sonnet-4-6", 64_000),
        ("claude-haiku-4-5-20251001", 64_000),
        ("claude-opus-4-1-20250805", 32_000),
        ("claude-opus-4-20250514", 32_000),
        ("claude-sonnet-4@20250514", 64_000),
        ("claude-3-7-sonnet-latest", 64_000),
        ("claude-3-5-haiku-20241022", 8_192),
        ("claude-3-haiku-20240307", 4_096),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", 64_000),
        ("anthropic/claude-opus-4.8", 128_000),
        ("claude-mythos-preview", 4_096),
        ("my-own-model", 4_096),
    ],
)
def test_without_a_limit_the_models_own_maximum_is_written(model: str, most: int) -> None:
    assert written(asked(model=model))["max_tokens"] == most
    assert written(asked(model=model, max_tokens=7))["max_tokens"] == 7


def test_tool_results_stand_first_in_one_user_turn_with_what_the_user_says() -> None:
    call, other = ToolCall("a", "f", "{}"), ToolCall("b", "f", '{"x": 1}')
    turns = [
        user("Go"),
        Turn(Role.Assistant, [call, other]),
        Turn(Role.Tool, [ToolResult("a", [Text("1")])]),
        Turn(Role.Tool, [ToolResult("b", [])]),
        user("And?"),
    ]
    messages = written(asked(*turns))["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"][1]["input"] == {"x": 1}
    assert messages[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": "1"},
        {"type": "tool_result", "tool_use_id": "b"},
        {"type": "text", "text": "And?"},
    ]


def test_ids_that_anthropic_refuses_are_respelt_and_missing_ones_made_up_for_call_and_result_alike() -> None:
    turns = [
        user("Go"),
        Turn(Role.Assistant, [ToolCall("functions.f:0", "f", ""), ToolCall("", "g", ""), ToolCall("", "h", "")]),
        Turn(Role.Tool, [ToolResult("", [], name="h"), ToolResult("functions.f:0", []), ToolResult("", [], name="g")]),
    ]
    messages = written(asked(*turns))["messages"]
    calls = {block["name"]: block["id"] for block in messages[1]["content"]}
    results = [block["tool_use_id"] for block in messages[2]["content"]]
    assert calls["f"] == "functions_f_0"
    assert results == [calls["h"], calls["f"], calls["g"]]
    assert len(set(results)) == 3


def test_arguments_that_are_no_object_are_wrapped_and_reported() -> None:
    turns = [Turn(Role.Assistant, [ToolCall("a", "f", '{"cut": ')]), Turn(Role.Tool, [ToolResult("a", [])])]
    body, told = dropped(asked(user("Go"), *turns))
    assert body["messages"][1]["content"][0]["input"] == {"arguments": '{"cut": '}
    assert told == ["messages[1].content[0].arguments"]


def test_instructions_stay_where_they_are_when_the_model_allows_it() -> None:
    turns = [Turn(Role.Developer, [Text("A")]), user("Hi"), Turn(Role.System, [Text("B")])]
    body, told = dropped(asked(*turns))
    assert body["system"] == "A"
    assert body["messages"][1] == {"role": "system", "content": "B"}
    assert told == []
    body, told = dropped(asked(*turns, model=OLD))
    assert [block["text"] for block in body["system"]] == ["A", "B"]
    assert told == ["messages[2].role"]


def test_instructions_alone_are_asked_by_the_user() -> None:
    body, told = dropped(asked(Turn(Role.System, [Text("Tell a joke")])))
    assert body["messages"] == [{"role": "user", "content": "Tell a joke"}]
    assert "system" not in body
    assert told == ["messages[0].role"]


def test_empty_texts_and_empty_turns_are_left_out() -> None:
    turns = [user("Hi"), Turn(Role.Assistant, [Text(" ")]), Turn(Role.User, [Text(""), Text("there")])]
    assert written(asked(*turns))["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}]}
    ]


def test_only_thoughts_that_anthropic_can_check_go_back() -> None:
    parts: list[Part] = [
        Reasoning("mine", signature="proof", origin=OWN),
        Reasoning(encrypted="cipher", origin=OWN),
        Reasoning("unsigned", origin=OWN),
        Reasoning("theirs", signature="other", origin=Wire.Gemini.value),
        Refusal("No."),
    ]
    body, told = dropped(asked(user("Hi"), Turn(Role.Assistant, parts), user("Why?")))
    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "mine", "signature": "proof"},
        {"type": "redacted_thinking", "data": "cipher"},
        {"type": "text", "text": "No."},
    ]
    assert told == ["reasoning"]


def test_pictures_and_documents_keep_their_data() -> None:
    media = [
        Media(MediaKind.Image, data=PNG),
        Media(MediaKind.Image, "image/heic", url="https://example.com/a.png", detail="auto"),
        Media(MediaKind.Document, "application/pdf", data="JVBERi0x", name="a.pdf"),
        Media(MediaKind.Document, "text/csv", data="YSxi"),
        Media(MediaKind.Image, file_id="file_1"),
    ]
    blocks = written(asked(Turn(Role.User, [*media])))["messages"][0]["content"]
    assert [block["source"] for block in blocks] == [
        {"type": "base64", "media_type": "image/png", "data": PNG},
        {"type": "url", "url": "https://example.com/a.png"},
        {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"},
        {"type": "text", "media_type": "text/plain", "data": "a,b"},
        {"type": "file", "file_id": "file_1"},
    ]
    assert blocks[2]["title"] == "a.pdf"


@pytest.mark.parametrize(
    ("media", "said"),
    [
        (Media(MediaKind.Audio, "audio/wav", data="UklG"), "takes no audio"),
        (Media(MediaKind.Image, url="gs://bucket/a.png"), "http and https"),
        (Media(MediaKind.Image, file_id="file-abc"), "not one that Anthropic stores"),
        (Media(MediaKind.Image, data="????"), "neither its media type"),
        (Media(MediaKind.Document, "application/msword", data="AAAA"), "PDF or plain text"),
        (Media(MediaKind.Document, "text/plain", data="//79"), "no UTF-8 text"),
    ],
)
def test_media_that_anthropic_does_not_take_are_refused_with_their_place(media: Media, said: str) -> None:
    message = faults(asked(Turn(Role.User, [Text("See"), media])))
    assert said in message
    assert "messages[0].content[1]" in message


def test_parameters_that_anthropic_lacks_are_refused_by_name_or_dropped_and_told() -> None:
    wishes: dict[str, Any] = {
        "seed": 1, "presence_penalty": 0.5, "frequency_penalty": 0.5, "logprobs": 2, "n": 2, "verbosity": "low",
        "service_tier": "flex", "stop": ["\n", "END"],
    }  # fmt: skip
    message = faults(asked(**wishes))
    for name in wishes:
        assert f"{name}: " in message
    body, told = dropped(asked(**wishes))
    assert set(told) == set(wishes)
    assert body["stop_sequences"] == ["END"]
    assert not set(wishes) & set(body)
    quiet = asked(
        presence_penalty=0, frequency_penalty=0.0, n=1, verbosity="medium", metadata={"a": "b"}, cache_key="k"
    )
    assert dropped(quiet)[1] == ["metadata", "prompt_cache_key"]
    written(quiet)


def test_temperature_above_one_becomes_one_and_is_told() -> None:
    body, told = dropped(asked(model=OLD, temperature=1.7))
    assert (body["temperature"], told) == (1.0, ["temperature"])
    assert "from 0 to 1" in faults(asked(model=OLD, temperature=1.7))
    assert written(asked(model=OLD, temperature=0.3, top_k=5))["temperature"] == 0.3


def test_sampling_follows_what_the_model_takes() -> None:
    assert "takes no sampling parameters" in faults(asked(temperature=0.3))
    assert not {"temperature", "top_p"} & set(written(asked(temperature=1, top_p=1.0)))
    assert "together with temperature" in faults(asked(model=OLD, temperature=0.3, top_p=0.5))
    assert written(asked(model=OLD, temperature=0.3, top_p=1.0)).get("top_p") is None
    assert written(asked(model=OLD, temperature=1.0, top_p=0.5)).get("temperature") is None
    both = written(asked(model="claude-3-haiku-20240307", temperature=0.3, top_p=0.5))
    assert (both["temperature"], both["top_p"]) == (0.3, 0.5)


@pytest.mark.parametrize(
    ("model", "wish", "thinking", "effort"),
    [
        (NEW, ReasoningWish("high"), {"type": "adaptive"}, "high"),
        (NEW, ReasoningWish("minimal"), {"type": "adaptive"}, "low"),
        (NEW, ReasoningWish(budget_tokens=5_000), {"type": "adaptive"}, "medium"),
        (NEW, ReasoningWish(budget_tokens=-1, tell=True), {"type": "adaptive", "display": "summarized"}, None),
        (NEW, ReasoningWish("none"), {"type": "disabled"}, None),
        ("claude-opus-4-8", ReasoningWish("none"), None, None),
        ("claude-opus-4-6", ReasoningWish("xhigh"), {"type": "adaptive"}, "high"),
        (OLD, ReasoningWish("low"), {"type": "enabled", "budget_tokens": 2_000}, None),
        (OLD, ReasoningWish("high"), {"type": "enabled", "budget_tokens": 8_000}, None),
        (OLD, ReasoningWish("minimal"), {"type": "enabled", "budget_tokens": 1_024}, None),
        (OLD, ReasoningWish(budget_tokens=50_000), {"type": "enabled", "budget_tokens": 9_999}, None),
        (OLD, ReasoningWish("none"), None, None),
        ("claude-opus-4-5", ReasoningWish("max"), {"type": "enabled", "budget_tokens": 9_500}, "high"),
    ],
)
def test_the_wish_to_think_is_said_as_the_model_takes_it(
    model: str, wish: ReasoningWish, thinking: dict[str, Any] | None, effort: str | None
) -> None:
    body = written(asked(model=model, reasoning=wish, max_tokens=10_000))
    assert body.get("thinking") == thinking
    assert body.get("output_config", {}).get("effort") == effort


def test_where_thinking_is_impossible_it_is_refused_by_name() -> None:
    wish = ReasoningWish("high")
    assert "leaves no room" in faults(asked(model=OLD, reasoning=wish, max_tokens=500))
    assert "cannot think" in faults(asked(model="claude-3-haiku-20240307", reasoning=wish))
    forced = asked(model=OLD, reasoning=wish, tools=[TOOL], tool_choice=ToolChoice("required"))
    assert "use of a tool is forced" in faults(forced)
    assert "always thinks" in faults(asked(model="claude-fable-5", reasoning=ReasoningWish("none")))
    assert "while the model thinks" in faults(asked(model=OLD, reasoning=wish, temperature=0.2))


def test_a_budget_model_in_the_midst_of_its_tools_does_not_think_on_without_its_thoughts() -> None:
    turns = [user("Go"), Turn(Role.Assistant, [ToolCall("a", "f", "{}")]), Turn(Role.Tool, [ToolResult("a", [])])]
    body, told = dropped(asked(*turns, model=OLD, reasoning=ReasoningWish("high"), tools=[TOOL]))
    assert "thinking" not in body
    assert told == ["reasoning_effort"]
    turns[1].parts.insert(0, Reasoning("So.", signature="proof", origin=OWN))
    assert written(asked(*turns, model=OLD, reasoning=ReasoningWish("high"), tools=[TOOL]))["thinking"]


def test_structured_output_is_native_and_closed() -> None:
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer", "minimum": 0}, "of": {"$ref": "#/$defs/a"}},
        "$defs": {"a": {"type": "object", "properties": {}}},
    }
    body, told = dropped(asked(shape=AnswerShape("schema", "answer", schema, strict=True)))
    wanted = body["output_config"]["format"]
    assert wanted["type"] == "json_schema"
    assert wanted["schema"]["additionalProperties"] is False
    assert wanted["schema"]["$defs"]["a"]["additionalProperties"] is False
    assert wanted["schema"]["properties"]["age"] == {"type": "integer", "description": "(minimum: 0)"}
    assert told == ["response_format"]
    assert schema["properties"]["age"] == {"type": "integer", "minimum": 0}  # type: ignore[index]  # left alone
    assert "does not enforce minimum" in faults(asked(shape=AnswerShape("schema", "answer", schema)))
    open_schema = {"type": "object", "additionalProperties": {"type": "string"}}
    assert "additionalProperties" in faults(asked(shape=AnswerShape("schema", "answer", open_schema)))


def test_structured_output_that_anthropic_lacks_is_refused_by_name() -> None:
    assert "response_format: Anthropic has no mode for any JSON" in faults(asked(shape=AnswerShape("json")))
    shape = AnswerShape("schema", "answer", {"type": "object"})
    assert "models before Claude 4.5" in faults(asked(model="claude-sonnet-4-20250514", shape=shape))


def test_tools_and_the_choice_among_them() -> None:
    body = written(asked(tools=[TOOL, Tool("ping")], tool_choice=ToolChoice("named", "ping", parallel=False)))
    assert body["tools"][0] == {"name": "get_weather", "description": "Tells it", "input_schema": TOOL.schema}
    assert body["tools"][1] == {"name": "ping", "input_schema": {"type": "object", "properties": {}}}
    assert body["tool_choice"] == {"type": "tool", "name": "ping", "disable_parallel_tool_use": True}
    assert written(asked(tools=[TOOL], tool_choice=ToolChoice("none", parallel=False)))["tool_choice"] == {
        "type": "none"
    }
    assert "tool_choice" not in written(asked(tool_choice=ToolChoice("auto")))
    strict = Tool("f", schema={"type": "object", "properties": {}}, strict=True)
    assert written(asked(tools=[strict]))["tools"][0]["strict"] is True
    assert "tools[0].strict" in faults(asked(model="claude-3-haiku-20240307", tools=[strict]))


def test_facts_of_models_follow_their_version() -> None:
    assert claude("claude-sonnet-4-20250514").version == (4, 0)
    assert claude("claude-3-5-sonnet@20240620").version == (3, 5)
    assert claude("gpt-4o").version == claude("claude-latest").version == (99, 0)
    assert claude("claude-opus-4-6").budgets
    assert claude("claude-opus-4-6").adaptive
    assert not claude("claude-opus-4-7").samples
    assert not claude("claude-mythos-preview").samples


def test_results_move_in_front_of_what_the_user_said_before_them() -> None:
    turns = [
        user("Go"),
        Turn(Role.Assistant, [ToolCall("a", "f", "{}")]),
        user("Wait"),
        Turn(Role.Tool, [ToolResult("a", [])]),
    ]
    blocks = written(asked(*turns))["messages"][2]["content"]
    assert [block["type"] for block in blocks] == ["tool_result", "text"]


def test_calls_of_one_name_without_ids_are_answered_in_their_order() -> None:
    calls, results = [ToolCall("", "f", "") for _ in range(2)], [ToolResult("", [], name="f") for _ in range(2)]
    messages = written(asked(user("Go"), Turn(Role.Assistant, [*calls]), Turn(Role.Tool, [*results])))["messages"]
    assert [b["tool_use_id"] for b in messages[2]["content"]] == [b["id"] for b in messages[1]["content"]]
    assert len({block["id"] for block in messages[1]["content"]}) == 2


def test_system_turns_begin_with_claude_4_8() -> None:
    assert claude("claude-opus-4-8").system_turns
    assert not claude("claude-opus-4-7").system_turns
