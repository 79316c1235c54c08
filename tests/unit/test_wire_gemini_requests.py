"""Requests in Gemini's format: read from clients, written for Google."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    Role,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from apikeyrouter.wire.gemini.signatures import signature_of, signed
from apikeyrouter.wire.losses import Losses, UntranslatableError

CODEC = codec_of(Wire.Gemini)
MODEL = "gemini-2.5-flash"


def read(body: dict[str, Any], model: str = MODEL) -> tuple[Ask, Losses]:
    losses = Losses("other", may_drop=False)
    return CODEC.read_request(json.dumps(body).encode(), losses, model=model, stream=False), losses


def written(ask: Ask, *, may_drop: bool = False) -> tuple[dict[str, Any], Losses]:
    losses = Losses("gemini", may_drop=may_drop)
    body = json.loads(CODEC.write_request(ask, losses))
    return body, losses


def user(text: str = "Hi") -> Turn:
    return Turn(Role.User, [Text(text)])


def model_turn(*parts: Part) -> Turn:
    return Turn(Role.Assistant, list(parts))


def faults_of(losses: Losses) -> str:
    with pytest.raises(UntranslatableError) as refused:
        losses.check()
    return str(refused.value)


# -- reading --------------------------------------------------------------------------------------------------------


def test_snake_case_and_camel_case_say_the_same() -> None:
    camel = {
        "systemInstruction": {"parts": {"text": "Be brief"}},
        "contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "aGk="}}]}],
        "generationConfig": {"maxOutputTokens": 5, "topK": 3.0, "thinkingConfig": {"thinkingBudget": 0}},
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object"}}]}],
    }
    snake = {
        "system_instruction": {"parts": [{"text": "Be brief"}]},
        "contents": [{"role": "user", "parts": [{"inline_data": {"mime_type": "image/png", "data": "aGk="}}]}],
        "generation_config": {"max_output_tokens": "5", "top_k": 3, "thinking_config": {"thinking_budget": 0}},
        "tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["f"]}},
        "tools": [{"function_declarations": [{"name": "f", "parameters_json_schema": {"type": "object"}}]}],
    }
    one, losses = read(camel)
    two, _ = read(snake)
    assert msgspec.json.encode(one) == msgspec.json.encode(two)
    losses.check()
    assert losses.dropped == []
    assert one.max_tokens == 5
    assert one.tool_choice == ToolChoice("named", "f")
    assert one.turns[0] == Turn(Role.System, [Text("Be brief")])


def test_calls_without_ids_get_stable_ones_and_results_find_them_by_name_and_order() -> None:
    call = {"role": "model", "parts": [{"functionCall": {"name": n, "args": {"x": 1}}} for n in ("a", "b", "a")]}
    answer = {
        "role": "user",
        "parts": [{"functionResponse": {"name": n, "response": {"output": n + str(i)}}} for i, n in enumerate("baa")],
    }
    opening = {"role": "user", "parts": [{"text": "go"}]}
    ask, _ = read({"contents": [opening, call, answer]})
    ids = [part.id for part in ask.turns[1].parts if isinstance(part, ToolCall)]
    assert ids == ["call_0", "call_1", "call_2"]
    results = [part for part in ask.turns[2].parts if isinstance(part, ToolResult)]
    assert [result.call_id for result in results] == ["call_1", "call_0", "call_2"]
    longer, _ = read({"contents": [opening, call, answer, opening, call, answer]})
    assert longer.turns[:3] == ask.turns
    again = [part.id for part in longer.turns[4].parts if isinstance(part, ToolCall)]
    assert again == ["call_3", "call_4", "call_5"]


def test_results_are_tool_turns_and_words_beside_them_stay_a_users() -> None:
    parts = [
        {"functionResponse": {"id": "1", "name": "f", "response": {"error": "broken"}}},
        {"text": "go on"},
    ]
    ask, _ = read({"contents": [{"role": "user", "parts": parts}]})
    assert [turn.role for turn in ask.turns] == [Role.Tool, Role.User]
    assert ask.turns[0].parts == [ToolResult("1", [Text("broken")], "f", is_error=True)]


@pytest.mark.parametrize(
    ("member", "name"),
    [
        ({"tools": [{"googleSearch": {}}]}, "tools[0].googleSearch"),
        ({"tools": [{"code_execution": {}}]}, "tools[0].codeExecution"),
        ({"cachedContent": "cachedContents/x"}, "cachedContent"),
        ({"generationConfig": {"responseModalities": ["IMAGE"]}}, "generationConfig.responseModalities"),
        ({"generationConfig": {"speechConfig": {}}}, "generationConfig.speechConfig"),
        ({"generationConfig": {"responseMimeType": "text/x.enum"}}, "generationConfig.responseMimeType"),
        ({"toolConfig": {"retrievalConfig": {}}}, "toolConfig.retrievalConfig"),
        ({"safetySettings": [{"threshold": "BLOCK_LOW_AND_ABOVE"}]}, "safetySettings"),
        ({"brandNew": 1}, "brandNew"),
    ],
)
def test_what_nobody_else_has_is_told_by_name(member: dict[str, Any], name: str) -> None:
    _, losses = read({"contents": [{"parts": [{"text": "hi"}]}], **member})
    assert name in faults_of(losses)


def test_filters_that_are_off_and_labels_are_left_out_and_reported() -> None:
    safety = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    _, losses = read({"contents": [], "safetySettings": safety, "labels": {"team": "x"}})
    losses.check()
    assert losses.dropped == ["safetySettings", "labels"]


def test_several_allowed_functions_are_the_only_ones_offered() -> None:
    tools = [{"functionDeclarations": [{"name": n} for n in ("a", "b", "c")]}]
    config = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["a", "c"]}}
    ask, _ = read({"contents": [], "toolConfig": config, "tools": tools})
    assert ask.tool_choice == ToolChoice("required")
    assert [tool.name for tool in ask.tools] == ["a", "c"]


def test_the_older_schema_becomes_json_schema() -> None:
    schema = {
        "type": "OBJECT",
        "propertyOrdering": ["a"],
        "properties": {"a": {"type": "STRING", "nullable": True, "enum": ["x"]}, "b": {"type": "ARRAY", "minItems": "2",
                       "items": {"anyOf": [{"type": "INTEGER"}, {"type": "NUMBER"}]}}},
    }  # fmt: skip
    config = {"responseMimeType": "application/json", "responseSchema": schema}
    ask, _ = read({"contents": [], "generationConfig": config})
    assert ask.shape is not None
    assert ask.shape.schema == {
        "type": "object",
        "properties": {
            "a": {"type": ["string", "null"], "enum": ["x", None]},
            "b": {"type": "array", "minItems": 2, "items": {"anyOf": [{"type": "integer"}, {"type": "number"}]}},
        },
    }


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"[]", None),
        (b"{", None),
        (b"{}", "contents"),
        (b'{"contents":[{"role":"system","parts":[]}]}', "contents[0].role"),
        (b'{"contents":[{"parts":[{"text":1}]}]}', "contents[0].parts[0].text"),
        (b'{"contents":[{"parts":[{}]}]}', "contents[0].parts[0]"),
        (b'{"contents":[{"parts":[{"functionCall":{}}]}]}', "contents[0].parts[0].functionCall.name"),
        (b'{"contents":[],"generationConfig":{"temperature":"hot"}}', "generationConfig.temperature"),
        (b'{"contents":[{"parts":[{"fileData":{"fileUri":"file:///etc/passwd"}}]}]}',
         "contents[0].parts[0].fileData.fileUri"),
    ],
)  # fmt: skip
def test_a_malformed_request_names_the_member_at_fault(body: bytes, param: str | None) -> None:
    with pytest.raises(MalformedError) as fault:
        CODEC.read_request(body, Losses("x", may_drop=False), model=MODEL, stream=False)
    assert fault.value.param == param


NAMES = st.sampled_from([
    "contents", "parts", "role", "text", "functionCall", "functionResponse", "name", "args", "response", "inlineData",
    "fileData", "fileUri", "mimeType", "data", "thought", "thoughtSignature", "tools", "functionDeclarations", "items",
    "generationConfig", "thinkingConfig", "toolConfig", "functionCallingConfig", "mode", "systemInstruction", "type",
    "parameters", "responseSchema", "safetySettings", "nullable", "_", "stop_sequences",
])  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats(allow_nan=False) | st.sampled_from(
        ["", "user", "model", "ANY", "x", "5", "YWtyMTp7fQ==", "https://a/b.png", "https://[", "é"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=25,
)  # fmt: skip


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_whatever_the_body_reading_and_writing_raise_nothing_but_their_own(body: dict[str, Any]) -> None:
    try:
        ask = CODEC.read_request(json.dumps(body).encode(), Losses("x", may_drop=True), model=MODEL, stream=False)
    except MalformedError:
        return
    CODEC.write_request(ask, Losses("gemini", may_drop=True))


# -- writing --------------------------------------------------------------------------------------------------------


def test_everything_that_can_be_said_is_said() -> None:
    ask = Ask(
        MODEL, [user()], max_tokens=9, temperature=0.5, top_p=0.9, top_k=4, stop=["x"], seed=7, presence_penalty=0.1,
        frequency_penalty=0.2, n=2, logprobs=3, shape=AnswerShape("schema", schema={"$ref": "#/$defs/A"}),
        reasoning=ReasoningWish(budget_tokens=99999, tell=True), service_tier="flex",
    )  # fmt: skip
    body, losses = written(ask)
    losses.check()
    assert body["generationConfig"] == {
        "maxOutputTokens": 9, "temperature": 0.5, "topP": 0.9, "topK": 4, "seed": 7, "presencePenalty": 0.1,
        "frequencyPenalty": 0.2, "candidateCount": 2, "stopSequences": ["x"], "responseLogprobs": True, "logprobs": 3,
        "responseMimeType": "application/json", "responseJsonSchema": {"$ref": "#/$defs/A"},
        "thinkingConfig": {"thinkingBudget": 24576, "includeThoughts": True},
    }  # fmt: skip
    assert body["serviceTier"] == "flex"
    again, _ = read(body)
    ask.reasoning = ReasoningWish(budget_tokens=24576, tell=True)
    assert msgspec.json.encode(again) == msgspec.json.encode(ask)


@pytest.mark.parametrize(
    ("model", "wish", "config"),
    [
        ("gemini-2.5-flash", ReasoningWish("none"), {"thinkingBudget": 0}),
        ("gemini-2.5-pro", ReasoningWish("none"), {"thinkingBudget": 128}),
        ("gemini-2.5-flash-lite", ReasoningWish(budget_tokens=100), {"thinkingBudget": 512}),
        ("gemini-2.5-pro", ReasoningWish(budget_tokens=-1), {"thinkingBudget": -1}),
        ("gemini-3-pro-preview", ReasoningWish("minimal"), {"thinkingLevel": "low"}),
        ("gemini-3-flash-preview", ReasoningWish("minimal", tell=True), {"thinkingLevel": "minimal",
                                                                         "includeThoughts": True}),
        ("gemini-flash-latest", ReasoningWish("xhigh"), {"thinkingLevel": "high"}),
    ],
)  # fmt: skip
def test_each_generation_is_told_to_think_in_its_own_way(
    model: str, wish: ReasoningWish, config: dict[str, Any]
) -> None:
    body, losses = written(Ask(model, [user()], reasoning=wish))
    losses.check()
    assert body["generationConfig"]["thinkingConfig"] == config


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"stop": list("abcdef")}, "stop"),
        ({"verbosity": "low"}, "verbosity"),
        ({"service_tier": "scale"}, "service_tier"),
        ({"tools": [Tool("f")], "shape": AnswerShape("json")}, "response_format"),
        ({"model": "gemini-2.0-flash", "reasoning": ReasoningWish("high")}, "reasoning"),
    ],
)
def test_wishes_that_gemini_cannot_fulfil_are_refused_by_name_or_dropped(change: dict[str, Any], name: str) -> None:
    ask = msgspec.structs.replace(Ask(MODEL, [user()]), **change)
    _, losses = written(ask)
    assert name in faults_of(losses)
    _, losses = written(ask, may_drop=True)
    losses.check()
    assert losses.dropped == [name]


def test_a_files_id_of_another_provider_is_content_that_is_never_dropped() -> None:
    ask = Ask(MODEL, [Turn(Role.User, [Media(MediaKind.Document, file_id="file-abc123")])])
    _, losses = written(ask, may_drop=True)
    assert "file_id" in faults_of(losses)


def test_media_go_inline_or_by_url_and_base64_is_not_touched() -> None:
    parts: list[Part] = [
        Media(MediaKind.Image, "image/png", data="a+/b="),
        Media(MediaKind.Image, url="https://a.example/x.webp?y=1"),
        Media(MediaKind.Video, url="https://youtu.be/abc"),
        Media(MediaKind.Document, "application/pdf", url="gs://bucket/x"),
        Media(MediaKind.Document, file_id="https://generativelanguage.googleapis.com/v1beta/files/k8"),
        Media(MediaKind.Document, text="plain"),
    ]
    body, losses = written(Ask(MODEL, [Turn(Role.User, parts)]))
    losses.check()
    assert body["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": "a+/b="}},
        {"fileData": {"mimeType": "image/webp", "fileUri": "https://a.example/x.webp?y=1"}},
        {"fileData": {"mimeType": "video/mp4", "fileUri": "https://youtu.be/abc"}},
        {"fileData": {"mimeType": "application/pdf", "fileUri": "gs://bucket/x"}},
        {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/k8"}},
        {"inlineData": {"mimeType": "text/plain", "data": "cGxhaW4="}},
    ]


def test_results_of_parallel_calls_share_a_content_and_keep_their_words() -> None:
    turns = [
        user(),
        model_turn(ToolCall("1", "a", '{"x": 1.50}'), ToolCall("2", "b", "")),
        Turn(Role.Tool, [ToolResult("2", [Text('{"deg": 3}')])]),
        Turn(Role.Tool, [ToolResult("1", [Text("no")], is_error=True)]),
        user("and?"),
    ]
    losses = Losses("gemini", may_drop=False)
    raw = CODEC.write_request(Ask(MODEL, turns), losses)
    losses.check()
    assert b'"args":{"x": 1.50}' in raw
    contents = json.loads(raw)["contents"]
    assert [content["role"] for content in contents] == ["user", "model", "user", "user"]
    assert contents[2]["parts"] == [
        {"functionResponse": {"name": "b", "response": {"deg": 3}, "id": "2"}},
        {"functionResponse": {"name": "a", "response": {"error": "no"}, "id": "1"}},
    ]


def test_signatures_return_on_the_very_part_and_foreign_thoughts_stay_out() -> None:
    turns = [
        user(),
        model_turn(
            Reasoning("I think", "c2lnMQ==", origin="gemini"),
            Reasoning("other", "sig", origin="anthropic_messages"),
            Text("So"),
            Reasoning("", "c2lnMg==", origin="gemini"),
            ToolCall("1", "a", "{}", signature="c2lnMw=="),
            ToolCall("2", "a", "{}"),
        ),
    ]
    body, losses = written(Ask("gemini-3-pro-preview", turns))
    losses.check()
    assert losses.dropped == ["reasoning"]
    assert body["contents"][1]["parts"] == [
        {"text": "I think", "thought": True, "thoughtSignature": "c2lnMQ=="},
        {"text": "So", "thoughtSignature": "c2lnMg=="},
        {"functionCall": {"name": "a", "args": {}, "id": "1"}, "thoughtSignature": "c2lnMw=="},
        {"functionCall": {"name": "a", "args": {}, "id": "2"}},
    ]


@pytest.mark.parametrize(("model", "marked"), [("gemini-3-pro-preview", True), ("gemini-2.5-pro", False)])
def test_calls_from_elsewhere_bear_googles_word_for_it_where_it_is_needed(model: str, *, marked: bool) -> None:
    body, _ = written(Ask(model, [user(), model_turn(ToolCall("1", "a", "{}"))]))
    part = body["contents"][1]["parts"][0]
    assert (part.get("thoughtSignature") == "skip_thought_signature_validator") is marked


def test_instructions_go_to_the_front_and_a_late_one_is_reported() -> None:
    late = [Turn(Role.System, [Text("A")]), user(), Turn(Role.Developer, [Text("B")]), user()]
    body, losses = written(Ask(MODEL, late))
    losses.check()
    assert body["systemInstruction"] == {"parts": [{"text": "A"}, {"text": "B"}]}
    assert losses.dropped == ["system message position"]
    alone, _ = written(Ask(MODEL, [Turn(Role.System, [Text("A")])]))
    assert alone["contents"] == [{"role": "user", "parts": [{"text": "A"}]}]


def test_arguments_that_are_no_object_are_refused_by_name() -> None:
    _, losses = written(Ask(MODEL, [user(), model_turn(ToolCall("1", "f", '{"half": '))]), may_drop=True)
    assert "tool_calls.arguments" in faults_of(losses)


@given(st.text(max_size=20), st.none() | st.text(max_size=20), st.none() | st.text(max_size=20))
def test_proofs_of_other_formats_survive_a_gemini_client(text: str, proof: str | None, cipher: str | None) -> None:
    thought = Reasoning(text, proof, cipher, "rs_1", "openai_responses")
    told = signature_of(thought)
    if proof is None and cipher is None:
        assert told is None
    else:
        assert signed(text, told) == thought
        assert told is not None
        assert signed(text, told.replace("+", "-").replace("/", "_").rstrip("=")) == thought


def test_a_thought_kept_in_pieces_of_a_stream_is_one_thought_with_its_proof() -> None:
    parts: list[dict[str, Any]] = [{"text": "a", "thought": True}, {"text": "b", "thought": True}]
    proof = signature_of(Reasoning("", "sig", origin="anthropic_messages"))
    parts += [{"text": "", "thought": True, "thoughtSignature": proof}, {"text": "x"}, {"text": "y"}]
    parts += [{"functionCall": {"name": "f"}}, {"text": ""}]
    ask, _ = read({"contents": [{"role": "model", "parts": parts}]})
    assert ask.turns[0].parts == [
        Reasoning("ab", "sig", origin="anthropic_messages"),
        Text("xy"),
        ToolCall("call_0", "f", "{}"),
    ]
