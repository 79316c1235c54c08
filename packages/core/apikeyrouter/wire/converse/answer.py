"""Whole replies of Converse: `{"output": {"message": {"content": [...]}}, "stopReason", "usage", "metrics"}`.

Main entry: `read_answer`. A reply names neither itself nor its model: its id is made of its bytes, so that ids of calls
without one stay unique in a conversation. Tools that Bedrock ran itself are left out, as no other format can tell them.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.wire.converse.words import STOPS, annotation_of, cipher_of, thought, usage_read
from apikeyrouter.wire.facts import Answer, Choice, Media, MediaKind, Part, Reasoning, Stop, Text, ToolCall

__all__ = ["read_answer", "usage_of"]


class _ReasoningText(msgspec.Struct, rename="camel", gc=False):
    text: str = ""
    signature: str | None = None


class _Reasoning(msgspec.Struct, rename="camel", gc=False):
    reasoning_text: _ReasoningText | None = None
    redacted_content: str | None = None


class _ToolUse(msgspec.Struct, rename="camel", gc=False):
    tool_use_id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")
    type: str | None = None


class _Cited(msgspec.Struct, gc=False):
    content: list[dict[str, Any]] = []
    citations: list[dict[str, Any]] = []


class _Source(msgspec.Struct, gc=False):
    bytes: str = ""


class _Image(msgspec.Struct, gc=False):
    format: str = "png"
    source: _Source | None = None


class _Block(msgspec.Struct, rename="camel", gc=False):
    text: str | None = None
    tool_use: _ToolUse | None = None
    reasoning_content: _Reasoning | None = None
    citations_content: _Cited | None = None
    image: _Image | None = None


class _Message(msgspec.Struct, gc=False):
    content: list[_Block]


class _Output(msgspec.Struct, gc=False):
    message: _Message


class _Tier(msgspec.Struct, gc=False):
    type: str | None = None


class _Reply(msgspec.Struct, rename="camel", gc=False):
    output: _Output
    stop_reason: str = ""
    usage: dict[str, Any] | None = None
    service_tier: _Tier | None = None
    additional_model_response_fields: Any = None


class _Glance(msgspec.Struct, gc=False):
    usage: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Reply).decode
_glance = msgspec.json.Decoder(_Glance).decode


def read_answer(body: bytes) -> Answer:
    """A provider's reply. Raises ValueError when it is none."""
    try:
        reply = _decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as fault:
        raise ValueError(f"the reply is no answer of Converse: {fault}") from None
    parts = [part for block in reply.output.message.content if (part := _part(block)) is not None]
    stop = STOPS.get(reply.stop_reason, Stop.End)
    more = reply.additional_model_response_fields
    sequence = more.get("stop_sequence") if isinstance(more, dict) and stop is Stop.Sequence else None
    choice = Choice(parts, stop, sequence if isinstance(sequence, str) else None)
    tier = reply.service_tier.type if reply.service_tier is not None else None
    name = blake2b(body, digest_size=12).hexdigest()
    return Answer(name, "", [choice], usage_read(reply.usage), service_tier=tier)


def _part(block: _Block) -> Part | None:
    if block.text is not None:
        return Text(block.text)
    if block.tool_use is not None:
        call = block.tool_use
        if call.type == "server_tool_use":
            return None
        return ToolCall(call.tool_use_id, call.name, bytes(call.input).decode())
    if block.reasoning_content is not None:
        return _thought(block.reasoning_content)
    if block.citations_content is not None:
        told = block.citations_content
        texts = [one["text"] for one in told.content if isinstance(one.get("text"), str)]
        return Text("".join(texts), annotations=[a for one in told.citations if (a := annotation_of(one))] or None)
    if block.image is not None and block.image.source is not None and block.image.source.bytes:
        return Media(MediaKind.Image, f"image/{block.image.format}", data=block.image.source.bytes)
    return None


def _thought(block: _Reasoning) -> Reasoning | None:
    if block.redacted_content:
        cipher, origin = cipher_of(block.redacted_content)
        return Reasoning(encrypted=cipher, origin=origin)
    if block.reasoning_text is not None:
        return thought(block.reasoning_text.text, block.reasoning_text.signature)
    return None


def usage_of(body: bytes) -> Usage | None:
    """The usage of a whole reply. Raises ValueError when it is no JSON object."""
    try:
        return usage_read(_glance(body).usage)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as fault:
        raise ValueError(f"the reply is not a JSON object: {fault}") from None
