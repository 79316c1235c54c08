"""Whatever JSON a client or a provider sends: the Responses codec says what is wrong, and raises nothing else."""

from __future__ import annotations

import copy
import random
from typing import Any

import msgspec

from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.codec import MalformedError, codec_of
from apikeyrouter.wire.losses import Losses

CODEC = codec_of(Wire.Responses)
ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2.5,
    "",
    "x",
    "\r\nx: y",
    [],
    {},
    [None],
    {"type": None},
    {"type": "x"},
    [[]],
)
REQUEST: dict[str, Any] = {
    "model": "m",
    "instructions": "i",
    "input": [
        {"role": "user", "content": [
            {"type": "input_text", "text": "t"},
            {"type": "input_image", "image_url": "data:image/png;base64,aa", "detail": "low"},
            {"type": "input_file", "file_data": "aa", "filename": "a.pdf"},
            {"type": "input_audio", "input_audio": {"data": "aa", "format": "wav"}}]},
        {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "s"}],
         "encrypted_content": "akr1.eyJvIjoieCJ9"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "namespace": "n"},
        {"type": "custom_tool_call", "call_id": "d", "name": "f", "input": "x"},
        {"type": "tool_search_call", "execution": "client", "call_id": "s", "arguments": {}},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "t"}]},
        {"type": "tool_search_output", "execution": "client", "call_id": "s", "tools": [
            {"type": "function", "name": "a"}]},
        {"type": "additional_tools", "role": "developer", "tools": [{"type": "function", "name": "g"}]},
    ],
    "tools": [
        {"type": "function", "name": "f", "parameters": {}, "strict": True, "description": "d"},
        {"type": "custom", "name": "p", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}},
        {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}]},
        {"type": "tool_search", "execution": "client", "parameters": {}},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["message.output_text.logprobs"],
    "metadata": {"a": "b"},
    "top_logprobs": 1,
    "max_output_tokens": 5,
    "store": True,
    "background": False,
}  # fmt: skip


def spots(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, inner in list(pairs):
        found.append((value, key))
        found += spots(inner)
    return found


def spoilt(value: Any, rng: random.Random) -> Any:
    out = copy.deepcopy(value)
    for _ in range(rng.randrange(1, 4)):
        places = spots(out)
        holder, key = rng.choice(places)
        if isinstance(holder, dict) and rng.random() < 0.3:
            del holder[key]
        elif isinstance(holder, dict) and rng.random() < 0.1:
            holder[str(rng.choice(ODD))] = holder.pop(key)
        else:
            holder[key] = copy.deepcopy(rng.choice(ODD))
    return out


def test_a_spoilt_request_is_malformed_or_read_and_written() -> None:
    rng = random.Random(11)
    read = 0
    for _ in range(4_000):
        body = msgspec.json.encode(spoilt(REQUEST, rng))
        losses = Losses("x", may_drop=True)
        try:
            ask = CODEC.read_request(body, losses, model="m", stream=False)
        except MalformedError as error:
            assert str(error)
            continue
        read += 1
        assert all("\n" not in name and "\r" not in name for name in losses.dropped)
        CODEC.write_request(ask, losses)
    assert 500 < read < 3_900


def test_a_spoilt_reply_is_a_value_error_or_read_and_written() -> None:
    rng = random.Random(12)
    losses = Losses("x", may_drop=True)
    reply = {
        "id": "resp_1",
        "model": "m",
        "status": "completed",
        "created_at": 5,
        "output": [*REQUEST["input"][1:5], {"type": "message", "content": [
            {"type": "output_text", "text": "t", "annotations": [{"type": "a"}], "logprobs": [{"token": "t"}]},
            {"type": "refusal", "refusal": "r"}]}],
        "usage": {"input_tokens": 1, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 1}},
    }  # fmt: skip
    for _ in range(3_000):
        body = msgspec.json.encode(spoilt(reply, rng))
        try:
            answer = CODEC.read_answer(body)
        except ValueError as error:
            assert str(error)
            continue
        CODEC.write_answer(answer, "m")
    losses.check()


def test_a_spoilt_stream_never_raises_and_fails_at_most_once() -> None:
    rng = random.Random(13)
    kinds = ("response.output_text.delta", "response.refusal.delta", "response.function_call_arguments.delta",
             "response.output_text.annotation.added", "response.reasoning_summary_text.delta",
             "response.reasoning_text.delta", "response.output_item.added", "response.output_item.done",
             "response.completed", "response.failed", "response.created", "error")  # fmt: skip
    for _ in range(1_500):
        decoder, encoder = CODEC.decoder(), CODEC.encoder("m", want_usage=True)
        stream = b""
        for _ in range(rng.randrange(1, 12)):
            event: Any = {
                "type": rng.choice(kinds), "output_index": rng.randrange(3), "content_index": rng.randrange(2),
                "delta": "x", "annotation": {"type": "a"}, "item_id": "i", "summary_index": rng.randrange(2),
                "item": rng.choice(REQUEST["input"][1:5]),
                "response": {"id": "r", "status": "completed", "output": REQUEST["input"][1:4], "usage": None},
            }  # fmt: skip
            if rng.random() < 0.6:
                event = spoilt(event, rng)
            stream += b"data: " + msgspec.json.encode(event) + b"\n\n"
        events = [*decoder.feed(stream), *decoder.finish()]
        assert sum(type(one).__name__ == "Failed" for one in events) <= 1
        assert sum(type(one).__name__ == "Started" for one in events) <= 1
        for one in events:
            encoder.encode(one)
        encoder.finish()
