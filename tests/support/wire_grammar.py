"""What an event stream of each format must look like, checked by code that shares nothing with the codecs.

`check_stream(wire, data)` asserts the grammar that the format's documentation and SDKs expect. Sources, read 2026-11:
platform.openai.com/docs/api-reference (chat-streaming, responses-streaming), docs.anthropic.com (build-with-claude/
streaming), ai.google.dev/api/generate-content.
"""

from __future__ import annotations

import json
from typing import Any

from apikeyrouter.domain.models.call import Wire


def check_stream(wire: Wire, data: bytes) -> None:
    """Asserts that these bytes are one whole stream without an error."""
    events = _events(data)
    {
        Wire.Chat: _check_chat,
        Wire.Messages: _check_messages,
        Wire.Responses: _check_responses,
        Wire.Gemini: _check_gemini,
    }[wire](events)


def _events(data: bytes) -> list[tuple[str, str]]:
    assert data.endswith((b"\n\n", b"\r\n\r\n"))
    found = []
    for block in data.decode().replace("\r\n", "\n").removesuffix("\n\n").split("\n\n"):
        name, texts = "", []
        for line in block.split("\n"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                texts.append(value)
            else:
                assert not field or field in ("id", "retry"), f"no field of server-sent events: {line!r}"
        if texts:
            found.append((name, "\n".join(texts)))
    return found


def _check_chat(events: list[tuple[str, str]]) -> None:
    assert all(not name for name, _ in events)
    assert events[-1][1] == "[DONE]"
    chunks = [json.loads(text) for _, text in events[:-1]]
    assert len({(c["id"], c["object"], c["created"], c["model"]) for c in chunks}) == 1
    assert chunks[0]["object"] == "chat.completion.chunk"
    assert chunks[0]["id"].startswith("chatcmpl")
    ended: set[int] = set()
    begun: set[int] = set()
    calls: dict[int, list[dict[str, Any]]] = {}
    for place, chunk in enumerate(chunks):
        if not chunk["choices"]:
            assert place == len(chunks) - 1, "the chunk without choices comes last"
            assert isinstance(chunk["usage"]["prompt_tokens"], int)
            continue
        assert chunk.get("usage") is None
        (choice,) = chunk["choices"]
        number = choice["index"]
        assert number not in ended, "nothing follows a choice's end"
        assert (number not in begun) == ("role" in choice["delta"]), "the role comes first, once"
        begun.add(number)
        for one in choice["delta"].get("tool_calls", []):
            known = calls.setdefault(number, [])
            if one["index"] == len(known):
                assert one["id"]
                assert one["type"] == "function"
                assert isinstance(one["function"]["name"], str)
                known.append({"arguments": ""})
            else:
                assert one["index"] == len(known) - 1, "calls come one after another"
                assert "id" not in one
            known[one["index"]]["arguments"] += one.get("function", {}).get("arguments", "")
        if choice["finish_reason"] is not None:
            assert choice["finish_reason"] in ("stop", "length", "tool_calls", "content_filter")
            ended.add(number)
    assert begun == ended
    for known in calls.values():
        assert all(isinstance(json.loads(one["arguments"]), dict) for one in known)


_DELTAS = {
    "text": {"text_delta", "citations_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
    "redacted_thinking": set(),
}


def _check_messages(events: list[tuple[str, str]]) -> None:
    told = [(name, json.loads(text)) for name, text in events if name != "ping"]
    assert all(name == body["type"] for name, body in told)
    kinds = [name for name, _ in told]
    assert kinds[0] == "message_start"
    message = told[0][1]["message"]
    assert message["type"] == "message"
    assert message["role"] == "assistant"
    assert message["content"] == []
    assert isinstance(message["id"], str)
    assert isinstance(message["model"], str)
    assert isinstance(message["usage"]["input_tokens"], int)
    assert isinstance(message["usage"]["output_tokens"], int)
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert kinds.count("message_delta") == kinds.count("message_stop") == 1
    assert told[-2][1]["delta"]["stop_reason"] in (
        "end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal", "model_context_window_exceeded",
    )  # fmt: skip
    assert isinstance(told[-2][1]["usage"]["output_tokens"], int)
    _check_blocks([body for _, body in told[1:-2]])


def _check_blocks(bodies: list[dict[str, Any]]) -> None:
    running: dict[str, Any] | None = None
    count, typed = 0, ""
    for body in bodies:
        if body["type"] == "content_block_start":
            assert running is None, "one block at a time"
            assert body["index"] == count
            running, typed = body["content_block"], ""
            if running["type"] == "tool_use":
                assert running["id"]
                assert running["input"] == {}
        elif body["type"] == "content_block_delta":
            assert running is not None
            assert body["index"] == count
            assert body["delta"]["type"] in _DELTAS[running["type"]]
            typed += body["delta"].get("partial_json", "")
        else:
            assert body["type"] == "content_block_stop"
            assert running is not None
            assert body["index"] == count
            if running["type"] == "tool_use":
                assert isinstance(json.loads(typed or "{}"), dict)
            running = None
            count += 1
    assert running is None


def _check_responses(events: list[tuple[str, str]]) -> None:
    told = [json.loads(text) for _, text in events]
    assert [name for name, _ in events] == [one["type"] for one in told]
    assert [one["sequence_number"] for one in told] == list(range(len(told)))
    kinds = [one["type"] for one in told]
    assert kinds[0] == "response.created"
    assert kinds[-1] in ("response.completed", "response.incomplete")
    assert told[0]["response"]["object"] == "response"
    assert told[0]["response"]["output"] == []
    assert len({one["response"]["id"] for one in told if "response" in one}) == 1
    items: list[dict[str, Any]] = []
    running: dict[str, Any] | None = None
    for one in told:
        kind = one["type"]
        if kind == "response.output_item.added":
            assert running is None, "one item at a time"
            assert one["output_index"] == len(items)
            running = one["item"]
        elif kind == "response.output_item.done":
            assert running is not None
            assert one["output_index"] == len(items)
            assert one["item"]["type"] == running["type"]
            assert one["item"].get("id") == running.get("id")
            items.append(one["item"])
            running = None
        elif "output_index" in one:
            assert running is not None
            assert one["output_index"] == len(items)
            assert one["item_id"] == running["id"]
    assert running is None
    assert told[-1]["response"]["output"] == items, "the last event repeats all items"
    _check_whole_texts(told)


def _check_whole_texts(told: list[dict[str, Any]]) -> None:
    """Each `.done` says what its deltas said."""
    for stem, member in (
        ("response.output_text", "text"),
        ("response.refusal", "refusal"),
        ("response.function_call_arguments", "arguments"),
        ("response.reasoning_summary_text", "text"),
    ):
        pieces: dict[tuple[Any, ...], str] = {}
        for one in told:
            key = (one.get("item_id"), one.get("content_index"), one.get("summary_index"))
            if one["type"] == f"{stem}.delta":
                pieces[key] = pieces.get(key, "") + one["delta"]
            elif one["type"] == f"{stem}.done":
                assert one[member] == (pieces.get(key) or one[member])


def _check_gemini(events: list[tuple[str, str]]) -> None:
    assert all(not name for name, _ in events)
    chunks = [json.loads(text) for _, text in events]
    assert len({chunk["modelVersion"] for chunk in chunks if "modelVersion" in chunk}) == 1
    ended: set[int] = set()
    for chunk in chunks:
        for candidate in chunk.get("candidates", []):
            number = candidate.get("index", 0)
            assert number not in ended or not candidate.get("content", {}).get("parts")
            for part in candidate.get("content", {}).get("parts", []):
                assert set(part) & {"text", "functionCall", "inlineData", "thoughtSignature"}
                if "functionCall" in part:
                    assert isinstance(part["functionCall"]["name"], str)
                    assert isinstance(part["functionCall"].get("args", {}), dict)
            if candidate.get("finishReason"):
                assert candidate["finishReason"].isupper()
                ended.add(number)
    assert ended, "a candidate says why it ended"
    assert all(isinstance(c["usageMetadata"]["promptTokenCount"], int) for c in chunks if "usageMetadata" in c)
