"""Chat completions as requests: what clients really send, read and written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.chat import ChatCodec
from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.facts import (
    AnswerShape,
    Ask,
    Media,
    MediaKind,
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
)  # fmt: skip
from apikeyrouter.wire.losses import Losses, UntranslatableError

CODEC = ChatCodec()
HELLO = [{"role": "user", "content": "hello"}]


def read(body: dict[str, Any], losses: Losses | None = None) -> Ask:
    losses = losses or Losses("test", may_drop=False)
    ask = CODEC.read_request(json.dumps(body).encode(), losses, model="m", stream=bool(body.get("stream")))
    losses.check()
    return ask


def write(ask: Ask, losses: Losses | None = None) -> dict[str, Any]:
    losses = losses or Losses("test", may_drop=False)
    body: dict[str, Any] = json.loads(CODEC.write_request(ask, losses))
    losses.check()
    return body


def asked(*turns: Turn, model: str = "gpt-4o", **more: Any) -> Ask:
    return Ask(model, list(turns) or [Turn(Role.User, [Text("hello")])], **more)


# -- contents -------------------------------------------------------------------------------------------------------


def test_content_is_a_string_or_a_list_of_parts() -> None:
    ask = read(
        {
            "messages": [
                *HELLO,
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            ]
        }
    )
    assert [turn.parts for turn in ask.turns] == [[Text("hello")], [Text("a"), Text("b")]]
    assert [message["content"] for message in write(ask)["messages"]] == [
        "hello",
        [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
    ]


@pytest.mark.parametrize(
    ("part", "media"),
    [
        (
            {"type": "image_url", "image_url": {"url": "https://x.test/a.png", "detail": "low"}},
            Media(MediaKind.Image, url="https://x.test/a.png", detail="low"),
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/webp;base64,AAA_-="}},
            Media(MediaKind.Image, "image/webp", data="AAA_-="),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "mp3"}},
            Media(MediaKind.Audio, "audio/mpeg", data="QUJD"),
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"}},
            Media(MediaKind.Document, "application/pdf", data="QUJD", name="a.pdf"),
        ),
        ({"type": "file", "file": {"file_id": "file-1"}}, Media(MediaKind.Document, file_id="file-1")),
        (
            {"type": "video_url", "video_url": {"url": "https://x.test/a.mp4"}},
            Media(MediaKind.Video, url="https://x.test/a.mp4"),
        ),
    ],
)
def test_media_are_read_and_written_as_they_were(part: dict[str, Any], media: Media) -> None:
    ask = read({"messages": [{"role": "user", "content": [part]}]})
    assert ask.turns[0].parts == [media]
    ask.model = "some-open-model"
    assert write(ask)["messages"][0]["content"] == [part]


def test_an_image_url_may_be_a_bare_string() -> None:
    part = {"type": "image_url", "image_url": "https://x.test/a.png"}
    ask = read({"messages": [{"role": "user", "content": [part]}]})
    assert ask.turns[0].parts == [Media(MediaKind.Image, url="https://x.test/a.png")]


def test_text_documents_are_written_as_text() -> None:
    plain = Media(MediaKind.Document, "text/plain", text="words", name="notes.txt")
    encoded = Media(MediaKind.Document, "text/plain", data="d29yZHM=")
    content = write(asked(Turn(Role.User, [plain, encoded])))["messages"][0]["content"]
    assert [part["text"] for part in content] == ["notes.txt:\nwords", "words"]


@pytest.mark.parametrize(
    "media",
    [
        Media(MediaKind.Image, file_id="file_1"),
        Media(MediaKind.Audio, url="https://x.test/a.wav"),
        Media(MediaKind.Video, url="https://x.test/a.mp4"),
        Media(MediaKind.Document, url="https://x.test/a.pdf"),
        Media(MediaKind.Document, "text/plain", data="%%%"),
    ],
)
def test_media_without_words_are_refused_by_name(media: Media) -> None:
    with pytest.raises(UntranslatableError, match=r"messages\[0\].content"):
        write(asked(Turn(Role.User, [media])))


def test_cache_marks_go_to_models_that_take_them_and_are_no_loss_elsewhere() -> None:
    marked = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}
    ask = read({"messages": [{"role": "user", "content": [marked]}]})
    assert ask.turns[0].parts == [Text("long", cache={"type": "ephemeral"})]
    ask.model = "anthropic/claude-sonnet-4"
    assert write(ask)["messages"][0]["content"] == [marked]
    ask.model = "gpt-4o"
    assert write(ask)["messages"][0]["content"] == "long"


def test_roles_and_names_stay() -> None:
    messages = [
        {"role": "system", "content": "s"},
        {"role": "developer", "content": "d", "name": "boss"},
        {"role": "user", "content": "u", "name": "ann"},
        {"role": "assistant", "content": "a"},
    ]
    ask = read({"messages": messages})
    ask.model = "gpt-5"
    assert write(ask)["messages"] == messages
    ask.model = "llama-3"
    assert [one["role"] for one in write(ask)["messages"]] == ["system", "system", "user", "assistant"]


# -- tools ----------------------------------------------------------------------------------------------------------


CALLS = [
    {"id": "call_a", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}},
    {"id": "call_b", "type": "function", "function": {"name": "stop", "arguments": "{}"}},
]


def test_parallel_calls_and_their_results_keep_ids_and_arguments_to_the_letter() -> None:
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": CALLS},
        {"role": "tool", "tool_call_id": "call_b", "content": "stopped"},
        {
            "role": "tool",
            "tool_call_id": "call_a",
            "content": [{"type": "text", "text": "1"}, {"type": "text", "text": "2"}],
        },
    ]
    ask = read({"messages": messages})
    assert ask.turns[1].parts == [ToolCall("call_a", "look", '{"at": 1}'), ToolCall("call_b", "stop", "{}")]
    assert ask.turns[3].parts == [ToolResult("call_a", [Text("1"), Text("2")])]
    assert write(ask)["messages"] == messages


def test_calls_without_ids_get_the_same_one_as_their_result() -> None:
    calls = [ToolCall("", "look", "{}"), ToolCall("", "stop", "{}")]
    results = [ToolResult("", [Text("s")], "stop"), ToolResult("", [Text("l")], "look")]
    body = write(asked(Turn(Role.Assistant, list(calls)), Turn(Role.Tool, list(results))))
    ids = {one["function"]["name"]: one["id"] for one in body["messages"][0]["tool_calls"]}
    assert [one["tool_call_id"] for one in body["messages"][1:]] == [ids["stop"], ids["look"]]
    assert ids["stop"] != ids["look"]


def test_results_without_id_and_name_answer_the_calls_in_order() -> None:
    calls = [ToolCall("", "look", "{}"), ToolCall("", "look", "{}")]
    results = [ToolResult("", [Text("first")]), ToolResult("", [Text("second")])]
    messages = write(asked(Turn(Role.Assistant, list(calls)), Turn(Role.Tool, list(results))))["messages"]
    assert [one["id"] for one in messages[0]["tool_calls"]] == [one["tool_call_id"] for one in messages[1:]]


def test_pictures_of_results_come_before_what_the_user_says_next() -> None:
    result = ToolResult("a", [Media(MediaKind.Image, "image/png", data="AAAA")])
    turns = [
        Turn(Role.Assistant, [ToolCall("a", "look", "{}")]),
        Turn(Role.Tool, [result]),
        Turn(Role.User, [Text("so?")]),
    ]
    messages = write(asked(*turns))["messages"]
    assert [one["role"] for one in messages] == ["assistant", "tool", "user", "user"]
    assert messages[3]["content"] == "so?"


def test_pictures_of_results_follow_behind_the_last_result_and_are_reported() -> None:
    picture = Media(MediaKind.Image, "image/png", data="AAAA")
    calls = Turn(Role.Assistant, [ToolCall("a", "look", "{}"), ToolCall("b", "look", "{}")])
    losses = Losses("test", may_drop=False)
    body = write(
        asked(
            calls, Turn(Role.Tool, [ToolResult("a", [Text("see"), picture])]), Turn(Role.Tool, [ToolResult("b", [])])
        ),
        losses,
    )
    assert [one["role"] for one in body["messages"]] == ["assistant", "tool", "tool", "user"]
    assert body["messages"][3]["content"][1]["image_url"]["url"] == "data:image/png;base64,AAAA"
    assert losses.dropped


def test_legacy_functions_are_tools() -> None:
    ask = read({
        "messages": [
            *HELLO,
            {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}},
            {"role": "function", "name": "look", "content": "seen"},
        ],
        "functions": [{"name": "look", "parameters": {"type": "object"}}],
        "function_call": {"name": "look"},
    })  # fmt: skip
    call, result = ask.turns[1].parts[0], ask.turns[2].parts[0]
    assert isinstance(call, ToolCall)
    assert isinstance(result, ToolResult)
    assert call.id == result.call_id != ""
    assert ask.tools == [Tool("look", None, {"type": "object"})]
    assert ask.tool_choice == ToolChoice("named", "look")


TOOLS = [
    {
        "type": "function",
        "function": {"name": name, "description": "d", "parameters": {"type": "object"}, "strict": True},
    }
    for name in ("look", "stop")
]


@pytest.mark.parametrize(
    ("said", "choice"),
    [
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "function": {"name": "look"}}, ToolChoice("named", "look")),
    ],
)
def test_tools_and_choices_are_read_and_written(said: object, choice: ToolChoice) -> None:
    ask = read({"messages": HELLO, "tools": TOOLS, "tool_choice": said, "parallel_tool_calls": False})
    choice.parallel = False
    assert ask.tool_choice == choice
    body = write(ask)
    assert (body["tools"], body["tool_choice"], body["parallel_tool_calls"]) == (TOOLS, said, False)


def test_other_spellings_of_choices_are_understood() -> None:
    assert read({"messages": HELLO, "tools": TOOLS, "tool_choice": "any"}).tool_choice == ToolChoice("required")
    loose = {"function": {"name": "stop"}}
    assert read({"messages": HELLO, "tools": TOOLS, "tool_choice": loose}).tool_choice == ToolChoice("named", "stop")


def test_allowed_tools_leave_the_others_out() -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "stop"}}]}
    ask = read({"messages": HELLO, "tools": TOOLS, "tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}})
    assert [tool.name for tool in ask.tools] == ["stop"]
    assert ask.tool_choice == ToolChoice("required")


def test_a_choice_among_no_tools_is_not_written() -> None:
    body = write(asked(tool_choice=ToolChoice("auto", parallel=True)))
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(body)


def test_tools_of_other_types_are_refused_by_name() -> None:
    with pytest.raises(UntranslatableError, match=r"tools\[0\].*custom"):
        read({"messages": HELLO, "tools": [{"type": "custom", "custom": {"name": "x"}}]})


# -- parameters -----------------------------------------------------------------------------------------------------


def test_parameters_are_read_and_written() -> None:
    said = {
        "temperature": 0.5, "top_p": 0.9, "seed": 7, "presence_penalty": 0.1, "frequency_penalty": 0.2, "n": 2,
        "stop": ["a", "b"], "logprobs": True, "top_logprobs": 3, "reasoning_effort": "low", "verbosity": "high",
        "service_tier": "flex", "user": "u1", "prompt_cache_key": "k", "max_completion_tokens": 9, "stream": True,
        "stream_options": {"include_usage": True},
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": True},
        },
    }  # fmt: skip
    ask = read({"messages": HELLO, **said})
    ask.model = "gpt-5.1"
    body = write(ask)
    assert {name: body[name] for name in said} == said
    assert ask.shape == AnswerShape("schema", "s", {"type": "object"}, strict=True)


def test_the_cap_has_the_name_that_the_model_takes() -> None:
    assert write(asked(model="gpt-4o", max_tokens=5))["max_tokens"] == 5
    assert write(asked(model="o3", max_tokens=5))["max_completion_tokens"] == 5
    assert read({"messages": HELLO, "max_tokens": 5}).max_tokens == 5


def test_single_stop_and_json_object() -> None:
    ask = read({"messages": HELLO, "stop": "x", "response_format": {"type": "json_object"}, "safety_identifier": "s"})
    assert (ask.stop, ask.shape, ask.user) == (["x"], AnswerShape("json"), "s")
    assert read({"messages": HELLO, "response_format": {"type": "text"}}).shape is None


@pytest.mark.parametrize(
    ("said", "wish"),
    [
        ({"reasoning_effort": "high"}, ReasoningWish("high")),
        ({"reasoning": {"effort": "low", "exclude": True}}, ReasoningWish("low", tell=False)),
        ({"reasoning": {"max_tokens": 2000}}, ReasoningWish(budget_tokens=2000)),
        ({"thinking": {"type": "disabled"}}, ReasoningWish(budget_tokens=0)),
        ({"thinking": {"type": "enabled"}}, ReasoningWish(budget_tokens=-1)),
        ({"include_reasoning": True}, ReasoningWish(tell=True)),
        ({"reasoning_format": "hidden"}, ReasoningWish(tell=False)),
    ],
)
def test_wishes_for_thinking_are_read_in_all_spellings(said: dict[str, Any], wish: ReasoningWish) -> None:
    assert read({"messages": HELLO, **said}).reasoning == wish


@pytest.mark.parametrize(
    ("model", "wish", "word"),
    [
        ("gpt-5.1", ReasoningWish(budget_tokens=0), "none"),
        ("gpt-5-mini", ReasoningWish("none"), "minimal"),
        ("o4-mini", ReasoningWish("none"), "low"),
        ("gpt-5", ReasoningWish(budget_tokens=8_000), "medium"),
        ("qwen3-32b", ReasoningWish("high"), "high"),
        ("gpt-4o", ReasoningWish(budget_tokens=10_000), None),
        ("llama-3.3-70b-versatile", ReasoningWish("low"), None),
    ],
)
def test_efforts_suit_the_model(model: str, wish: ReasoningWish, word: str | None) -> None:
    losses = Losses("test", may_drop=False)
    assert write(asked(model=model, reasoning=wish), losses).get("reasoning_effort") == word
    assert losses.dropped == ([] if word else ["reasoning"])


def test_members_without_effect_are_no_loss() -> None:
    losses = Losses("test", may_drop=False)
    read(
        {"messages": HELLO, "logit_bias": {}, "modalities": ["text"], "store": False, "audio": None, "x": None}, losses
    )
    assert losses.dropped == []


@pytest.mark.parametrize(
    ("name", "value"), [("logit_bias", {"1": 5}), ("provider", {"order": ["a"]}), ("made_up", 1), ("min_p", 0.1)]
)
def test_parameters_of_this_format_alone_are_named_and_droppable(name: str, value: object) -> None:
    with pytest.raises(UntranslatableError, match=name):
        read({"messages": HELLO, name: value})
    losses = Losses("test", may_drop=True)
    read({"messages": HELLO, name: value}, losses)
    assert losses.dropped == [name]


@pytest.mark.parametrize(
    "said",
    [{"modalities": ["text", "audio"]}, {"web_search_options": {}}, {"audio": {"voice": "alloy", "format": "wav"}}],
)
def test_another_kind_of_reply_is_never_dropped(said: dict[str, Any]) -> None:
    with pytest.raises(UntranslatableError, match=next(iter(said))):
        read({"messages": HELLO, **said}, Losses("test", may_drop=True))


def test_hints_are_reported_and_left_out() -> None:
    losses = Losses("test", may_drop=False)
    read({"messages": HELLO, "store": True, "prediction": {"type": "content", "content": "x"}}, losses)
    assert sorted(losses.dropped) == ["prediction", "store"]
    losses = Losses("test", may_drop=False)
    write(asked(model="mistral-large", cache_key="k", user="u" * 65, metadata={"a": "b"}), losses)
    assert sorted(losses.dropped) == ["metadata", "prompt_cache_key", "user"]
    with pytest.raises(UntranslatableError, match="top_k"):
        write(asked(top_k=5))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"[]", None),
        (b"{", None),
        (b'{"messages":"x"}', "messages"),
        (b"{}", "messages"),
        (b'{"messages":[1]}', "messages[0]"),
        (b'{"messages":[{"role":"king","content":"x"}]}', "messages[0].role"),
        (b'{"messages":[{"role":"user","content":5}]}', "messages[0].content"),
        (b'{"messages":[{"role":"user","content":[{"type":"hologram"}]}]}', "messages[0].content[0].type"),
        (b'{"messages":[{"role":"tool","content":"x"}]}', "messages[0].tool_call_id"),
        (b'{"messages":[{"role":"user","content":"x"}],"temperature":"hot"}', "temperature"),
        (b'{"messages":[{"role":"user","content":"x"}],"max_tokens":true}', "max_tokens"),
        (b'{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function"}]}', "tools[0].function"),
        (b'{"messages":[{"role":"user","content":"x"}],"tool_choice":"maybe"}', "tool_choice"),
        (
            b'{"messages":[{"role":"user","content":[{"type":"image_url","image_url":"ftp://x"}]}]}',
            "messages[0].content[0]",
        ),
    ],
)
def test_malformed_requests_name_the_member_at_fault(body: bytes, param: str | None) -> None:
    with pytest.raises(MalformedError) as caught:
        CODEC.read_request(body, Losses("test", may_drop=True), model="m", stream=False)
    assert caught.value.param == param


# -- thoughts -------------------------------------------------------------------------------------------------------


def test_thoughts_are_read_from_all_spellings() -> None:
    def thoughts(**members: Any) -> list[Any]:
        return read({"messages": [*HELLO, {"role": "assistant", "content": "a", **members}]}).turns[1].parts[:-1]

    plain = [Reasoning("t", origin="openai_chat")]
    assert thoughts(reasoning_content="t") == plain
    assert thoughts(reasoning="t") == plain
    signed = {"type": "reasoning.text", "text": "t", "signature": "s", "format": "anthropic-claude-v1", "index": 0}
    assert thoughts(reasoning="t", reasoning_details=[signed]) == [Reasoning("t", "s", origin=Wire.Messages.value)]


def test_thoughts_go_to_models_that_want_them_back_and_nowhere_else() -> None:
    turn = Turn(Role.Assistant, [Reasoning("t", origin="openai_chat"), Text("a")])
    assert write(asked(turn, model="deepseek-v4"))["messages"][0]["reasoning_content"] == "t"
    losses = Losses("test", may_drop=False)
    assert write(asked(turn, model="gpt-4o"), losses)["messages"] == [{"role": "assistant", "content": "a"}]
    assert losses.dropped == ["reasoning"]


def test_signed_thoughts_go_back_to_their_maker_through_a_gateway() -> None:
    turn = Turn(Role.Assistant, [Reasoning("t", "sig", origin=Wire.Messages.value), ToolCall("c", "look", "{}")])
    body = write(asked(turn, model="anthropic/claude-sonnet-4"))
    again = read({"messages": body["messages"]})
    assert again.turns[0].parts == turn.parts
    losses = Losses("test", may_drop=False)
    assert "reasoning_details" not in write(asked(turn, model="openai/gpt-oss-20b"), losses)["messages"][0]
    assert losses.dropped == ["reasoning"]


def test_googles_signature_of_a_call_is_read_and_written_where_google_keeps_it() -> None:
    call = {**CALLS[1], "extra_content": {"google": {"thought_signature": "c2ln"}}}
    ask = read({"messages": [*HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}]})
    assert ask.turns[1].parts == [ToolCall("call_b", "stop", "{}", signature="c2ln")]
    ask.model = "gemini-2.5-pro"
    assert write(ask)["messages"][1]["tool_calls"] == [call]
    ask.model = "gpt-4o"
    assert write(ask)["messages"][1]["tool_calls"] == [CALLS[1]]


def test_a_refusal_stays_one() -> None:
    messages = [*HELLO, {"role": "assistant", "content": None, "refusal": "no"}]
    ask = read({"messages": messages})
    assert ask.turns[1].parts == [Refusal("no")]
    assert write(ask)["messages"] == messages


def test_extras_of_echoed_replies_are_no_wishes_but_those_of_users_are() -> None:
    losses = Losses("test", may_drop=False)
    read({"messages": [{"role": "assistant", "content": "a", "annotations": [], "channel": "final"}]}, losses)
    assert losses.dropped == ["messages[0].channel"]
    with pytest.raises(UntranslatableError, match=r"messages\[0\].weight"):
        read({"messages": [{"role": "user", "content": "a", "weight": 1}]})
