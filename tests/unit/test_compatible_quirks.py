"""What a row's quirks do to a request: nothing where nothing is wrong, else the one edit, or a refusal by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import Call, Operation, peek
from apikeyrouter.infrastructure.adapters.compatible import CompatibleAdapter
from apikeyrouter.infrastructure.catalogue import ProviderRow, Quirk, provider
from apikeyrouter.wire.losses import UntranslatableError

ASKED = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def adapter_with(*quirks: Quirk, **fields: Any) -> CompatibleAdapter:
    return CompatibleAdapter(
        ProviderRow(id="acme", base_url="https://acme.example/v1", quirks=frozenset(quirks), **fields)
    )


def call_of(body: bytes, **fields: Any) -> Call:
    return Call("r1", Operation.Chat, "m", body, peek(body), started_s=0.0, deadline_s=60.0, **fields)


def sent(adapter: CompatibleAdapter, asked: dict[str, Any], **fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    request = adapter.build_request(call_of(json.dumps(asked).encode(), **fields), Secret("k"))
    return json.loads(request.body), request.dropped


@pytest.mark.parametrize("quirks", [(), tuple(Quirk)], ids=["none", "all"])
def test_a_body_without_anything_odd_passes_byte_for_byte(quirks: tuple[Quirk, ...]) -> None:
    body = b'{ "model" : "m",  "messages":[{"role":"user","content":"Hi"}], "odd": 1.50 }'
    assert adapter_with(*quirks).build_request(call_of(body), Secret("k")).body == body


def test_words_of_the_caller_that_look_like_a_quirk_change_nothing() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"say \\"developer\\" and \\"stream_options\\""}]}'
    assert adapter_with(*Quirk).build_request(call_of(body), Secret("k")).body == body
    listed = b'{"model":"m",  "messages":[{"role":"user","content":"developer","name":"developer"}]}'
    assert adapter_with(Quirk.NoDeveloperRole).build_request(call_of(listed), Secret("k")).body == listed


def test_stream_options_are_asked_for_unless_the_server_refuses_them() -> None:
    streamed = {**ASKED, "stream": True}
    assert sent(adapter_with(), streamed)[0]["stream_options"] == {"include_usage": True}
    assert "stream_options" not in sent(adapter_with(Quirk.NoStreamOptions), streamed)[0]
    wanted = {**streamed, "stream_options": {"include_usage": True}}
    body, dropped = sent(adapter_with(Quirk.NoStreamOptions), wanted)
    assert "stream_options" not in body
    assert dropped == ("stream_options",)


def test_the_limit_of_the_reply_is_renamed_for_servers_that_know_the_old_name() -> None:
    assert sent(adapter_with(Quirk.MaxTokens), {**ASKED, "max_completion_tokens": 7})[0]["max_tokens"] == 7
    both = {**ASKED, "max_completion_tokens": 7, "max_tokens": 9}
    assert sent(adapter_with(Quirk.MaxTokens), both)[0] == {**ASKED, "max_tokens": 7}
    assert sent(adapter_with(Quirk.MaxTokens), {**ASKED, "max_completion_tokens": None})[0] == ASKED


def test_developers_speak_as_the_system_where_that_is_the_only_name() -> None:
    asked = {**ASKED, "messages": [{"role": "developer", "content": "Be brief"}, *ASKED["messages"]]}
    body, dropped = sent(adapter_with(Quirk.NoDeveloperRole), asked)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert dropped == ()


def test_what_changes_the_answer_is_refused_by_name_or_dropped_where_the_caller_allows_it() -> None:
    adapter = adapter_with(Quirk.NoParallelToolCalls, Quirk.NoJsonSchema, refuses=("logit_bias", "seed", "user", "n"))
    wishes = {
        **ASKED,
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
        "logit_bias": {"1": 2},
        "seed": 1,
        "user": "someone",
        "n": 2,
    }
    with pytest.raises(UntranslatableError) as refused:
        sent(adapter, wishes)
    for name in ("parallel_tool_calls", "response_format", "logit_bias", "seed", "n:"):
        assert name in str(refused.value)
    assert "user" not in {fault.partition(":")[0] for fault in refused.value.faults}
    body, dropped = sent(adapter, wishes, drop_params=True)
    assert body == ASKED
    assert set(dropped) == {"parallel_tool_calls", "response_format", "logit_bias", "seed", "user", "n"}


def test_defaults_of_members_that_a_server_refuses_are_no_wish() -> None:
    adapter = adapter_with(Quirk.NoParallelToolCalls, refuses=("logit_bias", "logprobs", "n", "frequency_penalty"))
    asked = {**ASKED, "parallel_tool_calls": True, "logit_bias": {}, "logprobs": False, "n": 1, "frequency_penalty": 0}
    assert sent(adapter, asked) == (ASKED, ())


def test_lists_of_texts_are_joined_and_pictures_are_refused() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    asked = {"model": "m", "messages": [{"role": "user", "content": parts}]}
    assert sent(adapter_with(Quirk.TextOnly), asked)[0]["messages"][0]["content"] == "one\ntwo"
    parts.append({"type": "image_url", "image_url": {"url": "data:,"}})  # type: ignore[dict-item]
    with pytest.raises(UntranslatableError, match=r"messages\[0\]\.content\[2\]: this provider takes text only"):
        sent(adapter_with(Quirk.TextOnly), asked, drop_params=True)


def test_a_reply_to_be_continued_is_marked_or_refused_as_the_server_wants_it() -> None:
    asked = {"model": "m", "messages": [*ASKED["messages"], {"role": "assistant", "content": "1, 2,"}]}
    assert sent(adapter_with(Quirk.AssistantPrefix), asked)[0]["messages"][1]["prefix"] is True
    with pytest.raises(UntranslatableError, match=r"messages\[1\]: the last message must be the user's"):
        sent(adapter_with(Quirk.LastIsUser), asked)


def test_quirks_hold_for_requests_that_came_in_another_format() -> None:
    body = json.dumps({"model": "m", "max_tokens": 5, "stream": True, "messages": ASKED["messages"]}).encode()
    call = Call("r1", Operation.Messages, "m", body, peek(body), started_s=0.0, deadline_s=60.0)
    request = adapter_with(Quirk.NoStreamOptions, Quirk.MaxTokens).build_request(call, Secret("k"))
    written = json.loads(request.body)
    assert "stream_options" not in written
    assert written["max_tokens"] == 5
    assert request.url == "https://acme.example/v1/chat/completions"


def test_paths_and_key_placement_are_the_rows() -> None:
    writer = provider("writer", environ={})
    request = writer.build_request(call_of(json.dumps(ASKED).encode()), Secret("k-1"))
    assert request.url == "https://api.writer.com/v1/chat"
    odd = adapter_with(header="X-Acme-Key", scheme="")
    assert (b"x-acme-key", b"k-1") in odd.build_models_request(Secret("k-1")).headers


def test_models_are_claimed_by_their_maker_and_open_ones_by_their_hosts() -> None:
    groq, mistral, ollama, litellm = (provider(name, environ={}) for name in ("groq", "mistral", "ollama", "litellm"))
    for model, claimed in {
        "gpt-4o": (False, False, False, True),
        "claude-opus-4-5": (False, False, False, True),
        "mistral-large-latest": (False, True, False, True),
        "llama-3.3-70b-versatile": (True, False, True, True),
        "openai/gpt-oss-120b": (True, False, True, True),
    }.items():
        assert tuple(one.claims(model) for one in (groq, mistral, ollama, litellm)) == claimed, model
