"""Whole replies: `{"type": "message", "content": [...], "stop_reason", "usage"}`, both ways.

Main entries: `read_answer` and `write_answer`. Blocks of tools that Anthropic ran itself are left out in reading: no
other format asks for such tools, and none can tell of them. The input of a tool keeps its bytes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.facts import Answer, Choice, Part, Reasoning, Refusal, Stop, Text, ToolCall
from apikeyrouter.wire.messages.words import (
    STOP_NAMES,
    STOPS,
    annotations_of,
    citations_of,
    tool_input,
    usage_members,
    usage_read,
)

__all__ = ["ORIGIN", "call_id", "message_id", "read_answer", "usage_of", "write_answer"]

ORIGIN = Wire.Messages.value


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    text: str = ""
    citations: list[dict[str, Any]] | None = None
    thinking: str = ""
    signature: str | None = None
    data: str = ""
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _Message(msgspec.Struct, gc=False):
    content: list[_Block]
    type: str = ""
    id: str = ""
    model: str = ""
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: dict[str, Any] | None = None


class _Glance(msgspec.Struct, gc=False):
    type: str = ""
    usage: dict[str, Any] | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Message).decode
_glance = msgspec.json.Decoder(_Glance).decode


def read_answer(body: bytes) -> Answer:
    """A provider's reply. Raises ValueError when it is none."""
    try:
        message = _decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as fault:
        if usage_of(body) is None:  # an error in disguise raises here, by its own name
            raise ValueError(f"the reply is no message: {fault}") from None
        raise ValueError(f"the reply is no message that we understand: {fault}") from None
    if message.type == "error":
        raise ValueError("the reply has status 200 and an error inside")
    parts = [part for block in message.content if (part := _part(block)) is not None]
    reason = message.stop_reason
    stop = STOPS.get(reason, Stop.End) if reason is not None else None
    usage = usage_read(message.usage)
    choice = Choice(parts, stop, message.stop_sequence)
    return Answer(
        message.id, message.model, [choice], usage, service_tier=usage.service_tier or None if usage else None
    )


def _part(block: _Block) -> Part | None:
    match block.type:
        case "text":
            return Text(block.text, annotations=annotations_of(block.citations))
        case "tool_use":
            return ToolCall(block.id, block.name, bytes(block.input).decode())
        case "thinking":
            return Reasoning(block.thinking, signature=block.signature or None, origin=ORIGIN)
        case "redacted_thinking":
            return Reasoning(encrypted=block.data, origin=ORIGIN)
        case _:
            return None


def usage_of(body: bytes) -> Usage | None:
    """The usage of a whole reply. Raises ValueError when it is no JSON object, or an error."""
    try:
        seen = _glance(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as fault:
        raise ValueError(f"the reply is not a JSON object: {fault}") from None
    if seen.type == "error" or (seen.error is not None and not seen.type):  # in Anthropic's words, or in another's
        raise ValueError("the reply has status 200 and an error inside")
    return usage_read(seen.usage)


def write_answer(answer: Answer, ask_model: str) -> bytes:
    """The same for a client. Of several choices the first is told: Messages has one."""
    choice = answer.choices[0] if answer.choices else Choice([], Stop.End)
    content = [block for number, part in enumerate(choice.parts) if (block := _block(part, answer.id, number))]
    refused = choice.stop is Stop.End and any(isinstance(part, Refusal) for part in choice.parts)
    reason = "refusal" if refused else STOP_NAMES[choice.stop] if choice.stop is not None else None
    return msgspec.json.encode(
        {
            "id": message_id(answer.id),
            "type": "message",
            "role": "assistant",
            "model": answer.model or ask_model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": choice.stop_sequence,
            "usage": usage_members(answer.usage),
        }
    )


def _block(part: Part, answer_id: str, number: int) -> dict[str, Any] | None:
    match part:
        case Text() if part.text or part.annotations:
            block: dict[str, Any] = {"type": "text", "text": part.text}
            if citations := citations_of(part.annotations):
                block["citations"] = citations
            return block
        case Refusal() if part.text:
            return {"type": "text", "text": part.text}
        case ToolCall():
            given = tool_input(part.arguments)
            members = {"arguments": part.arguments} if given is None else given
            name, told = part.name, part.id or call_id(answer_id, number)
            return {"type": "tool_use", "id": told, "name": name, "input": members}
        case Reasoning() if part.origin == ORIGIN and part.encrypted:
            return {"type": "redacted_thinking", "data": part.encrypted}
        case Reasoning() if part.text or part.origin == ORIGIN:
            signature = part.signature if part.origin == ORIGIN else None
            return {"type": "thinking", "thinking": part.text, "signature": signature or ""}
        case _:
            return None


def message_id(given: str) -> str:
    """An id as this format's clients know them: the provider's own behind the usual prefix."""
    return given if given.startswith("msg_") else f"msg_{given}"


def call_id(answer_id: str, number: int) -> str:
    """An id for a call of a format that has none: the same for the same reply and place."""
    return f"toolu_{''.join([c for c in answer_id if c.isalnum()])[-24:]}_{number}"
