"""Servers that ignore the wish for a stream, or name it wrongly: clients get the events that they wait for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.proxy.test_endpoints_formats import (
    CANDIDATE,
    CHAT_STREAM,
    CLIENTS,
    ENDS,
    MESSAGE_STREAM,
    MODELS,
    ask_stream,
    provider,
    running,
    served,
    sse,
    told_in,
)
from tests.support.server import Served
from tests.support.upstream import Upstream

__all__ = ["provider", "running", "served"]

CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at":"sky"}'}}
COMPLETION: dict[str, Any] = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
}  # fmt: skip
MESSAGE: dict[str, Any] = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude",
    "content": [{"type": "text", "text": "Hello!"}],
    "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 5, "output_tokens": 3},
}  # fmt: skip
WHOLE = {"openai": COMPLETION, "anthropic": MESSAGE, "gemini": CANDIDATE}
STREAMS = {"openai": CHAT_STREAM, "anthropic": MESSAGE_STREAM, "gemini": sse(CANDIDATE)}


def path_of(provider_id: str) -> str:
    return {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}.get(
        provider_id, f"/v1beta/models/{MODELS['gemini']}:streamGenerateContent"
    )


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "text/plain"])
@pytest.mark.parametrize("provider_id", MODELS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_whole_reply_is_told_as_events(
    served: Served, provider: Upstream, client: str, provider_id: str, kind: str
) -> None:
    provider.answers(path_of(provider_id), json.dumps(WHOLE[provider_id]).encode(), kind=kind)
    answer = ask_stream(served, client, MODELS[provider_id])
    assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    assert told_in(client, answer.body) == "Hello!"
    assert ENDS[client] in answer.body
    decision = served.get(f"/api/v1/decisions/{answer.headers['x-akr-decision']}").json
    assert (decision["outcome"], bool(decision["output_tokens"])) == ("ok", True)


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream"])
@pytest.mark.parametrize("provider_id", MODELS)
def test_events_under_another_name_are_events(served: Served, provider: Upstream, provider_id: str, kind: str) -> None:
    provider.answers(path_of(provider_id), STREAMS[provider_id], kind=kind)
    answer = ask_stream(served, "chat", MODELS[provider_id])
    assert (answer.status, told_in("chat", answer.body)) == (200, "Hello!")
    assert answer.body.count(ENDS["chat"]) == 1


def test_calls_of_tools_are_told_whole(served: Served, provider: Upstream) -> None:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": None, "tool_calls": [CALL]},
        "finish_reason": "tool_calls",
    }
    provider.answers(path_of("openai"), json.dumps({**COMPLETION, "choices": [choice]}).encode())
    body = ask_stream(served, "chat", MODELS["openai"]).body
    events = [json.loads(line[5:]) for line in body.splitlines() if line.startswith(b"data: {")]
    deltas = [one["choices"][0]["delta"] for one in events if one["choices"]]
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert "".join(call["function"].get("arguments", "") for call in calls) == '{"at":"sky"}'
    assert [call["id"] for call in calls if call.get("id")] == ["call_1"]
    assert [one["choices"][0]["finish_reason"] for one in events if one["choices"]][-1] == "tool_calls"


def test_an_error_or_a_page_instead_of_a_stream_is_no_reply(served: Served, provider: Upstream) -> None:
    filtered = {"error": {"code": "content_filter", "status": 400, "message": "The prompt was filtered."}}
    provider.answers(path_of("openai"), json.dumps(filtered).encode())
    assert ask_stream(served, "chat", MODELS["openai"]).status == 400
    provider.answers(path_of("openai"), b"<html>hello</html>", kind="text/html")
    assert ask_stream(served, "chat", MODELS["openai"]).status == 502
