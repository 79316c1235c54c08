"""Whole replies of Cohere: `{"id", "finish_reason", "message": {"content", "tool_plan", "tool_calls"}, "usage"}`.

Main entry: `read_answer`. The plan that a model tells before it calls tools is text, as other providers' models say it.
A reply that ends in ERROR or TIMEOUT is none. A reply does not name its model.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.wire.cohere.words import BROKEN, ORIGIN, STOPS, annotations_of, usage_read
from apikeyrouter.wire.facts import Answer, Choice, Part, Reasoning, Stop, Text, ToolCall

__all__ = ["read_answer", "usage_of"]


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    text: str = ""
    thinking: str = ""


class _Function(msgspec.Struct, gc=False):
    name: str = ""
    arguments: str | None = ""


class _Call(msgspec.Struct, gc=False):
    id: str = ""
    function: _Function | None = None


class _Message(msgspec.Struct, gc=False):
    content: list[_Block] | None = None
    tool_plan: str | None = None
    tool_calls: list[_Call] | None = None
    citations: list[Any] | None = None


class _Reply(msgspec.Struct, gc=False):
    message: _Message
    id: str = ""
    finish_reason: str = ""
    usage: dict[str, Any] | None = None


class _Glance(msgspec.Struct, gc=False):
    usage: dict[str, Any] | None = None
    finish_reason: str | None = None


_decode = msgspec.json.Decoder(_Reply).decode
_glance = msgspec.json.Decoder(_Glance).decode


def read_answer(body: bytes) -> Answer:
    """A provider's reply. Raises ValueError when it is none."""
    try:
        reply = _decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as fault:
        raise ValueError(f"the reply is no answer of Cohere's: {fault}") from None
    _check(reply.finish_reason)
    message = reply.message
    parts: list[Part] = [_part(block) for block in message.content or () if block.text or block.thinking]
    if message.tool_plan:
        parts.append(Text(message.tool_plan))
    texts = [part for part in parts if isinstance(part, Text)]
    if texts and message.citations:
        texts[-1].annotations = annotations_of(message.citations) or None
    parts += [
        ToolCall(call.id, call.function.name, call.function.arguments or "")
        for call in message.tool_calls or ()
        if call.function is not None
    ]
    stop = STOPS.get(reply.finish_reason, Stop.End)
    return Answer(reply.id, "", [Choice(parts, stop)], usage_read(reply.usage))


def _part(block: _Block) -> Text | Reasoning:
    return Reasoning(block.thinking, origin=ORIGIN) if block.thinking else Text(block.text)


def _check(reason: str | None) -> None:
    if reason in BROKEN:
        raise ValueError(f"the model failed (finish_reason {reason})")


def usage_of(body: bytes) -> Usage | None:
    """The usage of a whole reply. Raises ValueError when it is no JSON object, or the model failed."""
    try:
        glance = _glance(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as fault:
        raise ValueError(f"the reply is not a JSON object: {fault}") from None
    _check(glance.finish_reason)
    return usage_read(glance.usage)
