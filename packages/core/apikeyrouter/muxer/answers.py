"""Reading whole answers, and events of whole streams, in any format: what a cascade judges.

Main entries: `read_answer`, and for the model's own probabilities `asking_for_logprobs`, `confidence` and
`without_logprobs`. Laws: pure; an answer that cannot be read is an empty one; bytes that nobody asked to change stay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec

from apikeyrouter.domain.models.call import CONVERSATIONS, Call
from apikeyrouter.wire.codec import codec_of
from apikeyrouter.wire.facts import Finished, PartDelta, PartStarted, Text, ToolCall

__all__ = ["asking_for_logprobs", "confidence", "read_answer", "without_logprobs"]


def read_answer(call: Call, body: bytes) -> tuple[str, str | None, bool]:
    """(text, why it ended, whether it is a call of tools with readable arguments), in any format."""
    codec = codec_of(CONVERSATIONS[call.operation])
    if not call.streams:
        try:
            answer = codec.read_answer(body)
        except ValueError:
            return "", None, False
        if not answer.choices:
            return "", None, False
        choice = answer.choices[0]
        text = "".join(part.text for part in choice.parts if isinstance(part, Text))
        calls = [part.arguments for part in choice.parts if isinstance(part, ToolCall)]
        return text, str(choice.stop) if choice.stop else None, bool(calls) and all(map(_readable, calls))
    decoder = codec.decoder()
    events = [*decoder.feed(body), *decoder.finish()]
    return _of_events(events)


def _of_events(events: Sequence[Any]) -> tuple[str, str | None, bool]:
    kinds: dict[int, Any] = {}
    texts: list[str] = []
    arguments: dict[int, str] = {}
    finish: str | None = None
    for event in events:
        if isinstance(event, PartStarted):
            kinds[event.index] = event.part
            if isinstance(event.part, ToolCall):
                arguments[event.index] = event.part.arguments
            elif isinstance(event.part, Text):
                texts.append(event.part.text)
        elif isinstance(event, PartDelta):
            if event.index in arguments:
                arguments[event.index] += event.text
            elif isinstance(kinds.get(event.index), Text):
                texts.append(event.text)
        elif isinstance(event, Finished):
            finish = finish or event.stop.value
    return "".join(texts), finish, bool(arguments) and all(map(_readable, arguments.values()))


def _readable(arguments: str) -> bool:
    with suppress(msgspec.MsgspecError):
        return isinstance(msgspec.json.decode(arguments or "{}"), dict)
    return False


# -- probabilities --------------------------------------------------------------------------------------------------


def asking_for_logprobs(call: Call) -> Call:
    """The call with the wish for the probabilities of its answer's words, where the provider has them."""
    members = msgspec.json.decode(call.body, type=dict[str, msgspec.Raw])
    members["logprobs"] = msgspec.Raw(b"true")
    return replace(call, body=msgspec.json.encode(members), drop_params=True)


def _objects(body: bytes) -> list[Any]:
    """The JSON objects of a body, or of its events."""
    found = []
    lines = body.split(b"\n") if body.lstrip()[:1] != b"{" else [b"data: " + body]
    for line in lines:
        if line.startswith(b"data:"):
            with suppress(msgspec.MsgspecError):
                found.append(msgspec.json.decode(line[5:].strip()))
    return [one for one in found if isinstance(one, dict)]


def confidence(body: bytes) -> float | None:
    """The geometric mean of the probabilities of the first choice's words, 0..1; None where none are told."""
    logs = []
    for one in _objects(body):
        for choice in (one.get("choices") or [])[:1]:
            logs += [
                token["logprob"]
                for token in ((choice.get("logprobs") or {}).get("content") or [])
                if isinstance(token, dict) and isinstance(token.get("logprob"), int | float)
            ]
    return math.exp(sum(logs) / len(logs)) if logs else None


def without_logprobs(body: bytes, *, streamed: bool) -> bytes:
    """The answer as if nobody had asked for them."""
    if not streamed:
        return _stripped(body)
    lines = []
    for line in body.split(b"\n"):
        payload = line[5:].strip() if line.startswith(b"data:") else b""
        lines.append(b"data: " + _stripped(payload) if payload[:1] == b"{" else line)
    return b"\n".join(lines)


def _stripped(payload: bytes) -> bytes:
    try:
        decoded = msgspec.json.decode(payload)
    except msgspec.MsgspecError:
        return payload
    for choice in decoded.get("choices") or []:
        if choice.get("logprobs") is not None:
            choice["logprobs"] = None
    return msgspec.json.encode(decoded)
