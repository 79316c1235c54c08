"""The input bound counts what a model is shown, by what it is, and says what it cannot bound."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from apikeyrouter.domain.cost.input_bound import tight_input_bound
from apikeyrouter.domain.cost.media_tokens import audio_tokens_most, image_tokens_most, name_of
from bench.recordings import data_folder, recordings

FOLDER = data_folder()


def bound(messages: Any, model: str = "gpt-4o", **members: Any) -> Any:
    return tight_input_bound(msgspec.json.encode({"model": model, "messages": messages, **members}), model)


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def part(kind: str, value: Any) -> list[dict[str, Any]]:
    return user([{"type": kind, kind: value}])


def test_every_byte_of_text_counts_and_the_envelope_does_not() -> None:
    short, long = bound(user("x")), bound(user("x" * 1001))
    assert long.tokens - short.tokens == 1000
    assert long.content_bytes - short.content_bytes == 1000
    assert bound(user("x"), temperature=0.7, metadata={"a": "b" * 500}) == short
    assert short.tokens < 100
    assert (short.method, short.unbounded) == ("content", ())
    parts = bound(user([{"type": "text", "text": "x" * 1001, "cache_control": {"type": "ephemeral"}}]))
    assert 0 <= parts.tokens - long.tokens <= 8


def test_frames_schemas_and_reasoning_count_what_providers_add() -> None:
    plain = bound(user("x")).tokens
    assert bound(user("x") * 3).tokens == plain + 2 * (8 + 1)
    assert bound(user("x"), response_format={"type": "json_object"}).tokens >= plain + 256
    assert bound(user("x"), reasoning_effort="high").tokens == plain + 128


def test_an_unknown_member_counts() -> None:
    assert bound(user("x"), novelty={"deep": ["y" * 500]}).tokens >= bound(user("x")).tokens + 500
    odd = bound([{"role": "narrator", "content": "x", "aside": "z" * 100}])
    assert odd.tokens >= bound(user("x")).tokens + 100 + len("narrator")


def test_text_counts_as_it_is_or_as_it_may_be_composed() -> None:
    assert bound(user("é" * 10)).tokens - bound(user("")).tokens == 20
    # one character of 3 bytes that compatibility composition spells out in 33
    assert bound(user("\ufdfa" * 10)).tokens - bound(user("")).tokens == 330


def test_a_picture_counts_by_its_rule_and_not_by_its_bytes() -> None:
    picture = {"url": "data:image/png;base64," + "A" * 400_000}
    shown = bound(part("image_url", picture))
    assert 1_445 <= shown.tokens <= 1_600
    assert (shown.unbounded, shown.media_tokens) == ((), 765)
    assert bound(part("image_url", {"url": "https://example.com/x.png"})).tokens == shown.tokens
    assert bound(part("image_url", picture), "gpt-4o-mini").tokens >= 48_169
    assert bound(part("image_url", picture), "my-deployment").tokens >= 48_169


def test_a_text_that_looks_like_a_picture_is_a_text() -> None:
    told = '{"type":"image_url","image_url":{"url":"data:image/png;base64,' + "A" * 5000 + '"}}'
    assert bound(user(told)).tokens >= len(told)
    tool = {"type": "function", "function": {"name": "f", "parameters": {"default": {"type": "image_url", "t": told}}}}
    assert bound(user("x"), tools=[tool]).tokens >= len(told)
    called = {"id": "c", "type": "function", "function": {"name": "f", "arguments": told}}
    assert bound([{"role": "assistant", "tool_calls": [called]}]).tokens >= len(told)


def test_sound_is_bounded_by_how_long_it_can_play() -> None:
    mp3 = bound(part("input_audio", {"data": "A" * 4_000, "format": "mp3"}))
    assert mp3.tokens - bound(user("")).tokens == pytest.approx(96, abs=8)
    assert bound(part("input_audio", {"data": "A" * 4_000, "format": "flac"})).unbounded == ("audio flac",)
    assert (audio_tokens_most(4_000, "wav"), audio_tokens_most(1, "ogg")) == (32, None)


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"messages": part("file", {"file_id": "file-1"})}, "file"),
        ({"messages": part("document_url", "https://example.com/x.pdf")}, "document_url"),
        ({"messages": user("x"), "web_search_options": {"a": 1}}, "web search"),
        ({"messages": user("x"), "tools": [{"type": "web_search"}]}, "tool web_search"),
        ({"messages": user("x"), "tools": [{"googleSearch": {}}]}, "tool googleSearch"),
        ({"input": "x", "previous_response_id": "r"}, "stored conversation"),
        ({"input": "x", "prompt": {"id": "p"}}, "stored prompt"),
        ({"messages": user("x"), "model": "groq/compound-beta"}, "model searches"),
        ({"input": "x", "reasoning": {"mode": "pro"}}, "pro mode"),
    ],
)
def test_what_cannot_be_bounded_is_named(members: dict[str, Any], why: str) -> None:
    assert tight_input_bound(msgspec.json.encode({"model": "gpt-4o", **members})).unbounded == (why,)


def test_tools_and_schemas_count_with_the_instructions_that_come_with_them() -> None:
    schema = {"type": "object", "properties": {f"field_{n}": {"type": "string"} for n in range(20)}}
    tool = {"type": "function", "function": {"name": "f", "description": "d" * 300, "parameters": schema}}
    plain = bound(user("x")).tokens
    assert bound(user("x"), tools=[tool]).tokens >= plain + 1024 + len(msgspec.json.encode(tool))
    formed = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    assert bound(user("x"), response_format=formed).tokens >= plain + len(msgspec.json.encode(schema))


def test_token_ids_count_one_each() -> None:
    ids = tight_input_bound(b'{"model":"text-embedding-3-small","input":[1,22,333]}')
    assert ids.tokens < 20
    many = tight_input_bound(b'{"model":"text-embedding-3-small","input":[[1,22],[333]]}')
    assert 3 <= many.tokens < 40


def test_any_of_several_models_may_serve_a_request_that_names_them() -> None:
    assert bound(user("x"), models=["x-ai/grok-4"]).tokens >= 1_536
    assert image_tokens_most(name_of("us.anthropic.claude-sonnet-4-6")) == 4_784


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b'"x"', b'{"messages":["' + b"\xff" + b'"]}'])
def test_what_is_no_request_is_bounded_by_its_bytes(body: bytes) -> None:
    found = tight_input_bound(body)
    assert found.tokens == len(body)
    assert found.unbounded != ()


@pytest.mark.data
@pytest.mark.skipif(not (FOLDER / "exchanges").is_dir(), reason="data not found, skipped")
def test_no_recorded_provider_counted_more_than_the_bound() -> None:
    above, bounded = [], 0
    for recording in recordings(FOLDER):
        found = tight_input_bound(recording.body, recording.model)
        if not found.unbounded:
            bounded += 1
            if recording.input_tokens > found.tokens:
                above.append((recording.line, recording.model, recording.input_tokens, found.tokens))
    assert above == []
    assert bounded >= 500
