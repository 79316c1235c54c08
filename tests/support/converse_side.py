"""The side of Bedrock in conversations of Converse, for tests: requests read, replies and streams written.

Main entries: `ConverseSide`, like a codec for the half that our own lacks, and `frame`, one binary message. Written
from the service model, not from our codec, so that the two check each other.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import msgspec

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.facts import (
    Answer,
    AnswerShape,
    Ask,
    Event,
    Failed,
    Finished,
    Media,
    MediaKind,
    Part,
    PartDelta,
    PartEnded,
    PartStarted,
    Reasoning,
    ReasoningWish,
    Role,
    Started,
    Stop,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    UsageTold,
)  # fmt: skip
from apikeyrouter.wire.losses import Losses

STOPS = {
    Stop.End: "end_turn", Stop.Length: "max_tokens", Stop.Tools: "tool_use", Stop.Sequence: "stop_sequence",
    Stop.Filter: "content_filtered", Stop.Refusal: "refusal", Stop.Pause: "pause_turn",
    Stop.Context: "model_context_window_exceeded",
}  # fmt: skip
MIMES = {"png": "image/png", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp", "pdf": "application/pdf"}


def frame(payload: object, **headers: str) -> bytes:
    """One message. `headers`: `message_type` stands for ":message-type" and so on; values are text."""
    told = b""
    for name, value in headers.items():
        key, text = f":{name.replace('_', '-')}".encode(), value.encode()
        told += struct.pack(">B", len(key)) + key + struct.pack(">BH", 7, len(text)) + text
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    head = struct.pack(">II", 16 + len(told) + len(body), len(told))
    whole = head + struct.pack(">I", zlib.crc32(head)) + told + body
    return whole + struct.pack(">I", zlib.crc32(whole))


def event(kind: str, payload: object) -> bytes:
    """One event of a stream."""
    return frame(payload, message_type="event", event_type=kind, content_type="application/json")


def exception(kind: str, message: str) -> bytes:
    """An exception inside a stream."""
    return frame({"message": message}, message_type="exception", exception_type=kind, content_type="application/json")


def usage_told(usage: Usage) -> dict[str, int]:
    """As Bedrock counts: what comes from the cache, or goes into it, is beside the input."""
    told = {
        "inputTokens": usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.input_tokens + usage.output_tokens,
    }
    cached = {"cacheReadInputTokens": usage.cached_input_tokens, "cacheWriteInputTokens": usage.cache_write_tokens}
    return {**told, **cached}


class ConverseSide:
    """See `Codec`: what Bedrock does."""

    def read_request(self, body: bytes, losses: Losses, *, model: str, stream: bool) -> Ask:
        """The request as values. Raises MalformedError for what is no request at all."""
        try:
            return _ask(msgspec.json.decode(body), model, stream=stream)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as fault:
            raise MalformedError(str(fault)) from None

    def write_answer(self, answer: Answer, ask_model: str) -> bytes:
        """The reply."""
        content = [block for part in answer.choices[0].parts if (block := _block(part)) is not None]
        stop = STOPS[answer.choices[0].stop or Stop.End]
        out: dict[str, Any] = {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": stop}
        if answer.usage is not None:
            out["usage"] = usage_told(answer.usage)
        return json.dumps({**out, "metrics": {"latencyMs": 1}}).encode()

    def encoder(self, ask_model: str, *, want_usage: bool) -> ConverseWriter:
        """For one stream."""
        return ConverseWriter()


class ConverseWriter:
    """See `StreamEncoder`."""

    def __init__(self) -> None:
        self._usage: Usage | None = None
        self._calls: set[int] = set()
        self._thoughts: set[int] = set()

    def encode(self, told: Event) -> bytes:
        """The event in frames."""
        match told:
            case Started():
                return event("messageStart", {"role": "assistant"})
            case PartStarted(part=ToolCall(id=name, name=tool)):
                self._calls.add(told.index)
                start = {"toolUse": {"toolUseId": name, "name": tool}}
                return event("contentBlockStart", {"contentBlockIndex": told.index, "start": start})
            case PartStarted(part=Reasoning()):
                self._thoughts.add(told.index)
                return b""
            case PartDelta():
                return b"".join(
                    event("contentBlockDelta", {"contentBlockIndex": told.index, "delta": delta})
                    for delta in self._deltas(told)
                )
            case PartEnded():
                return event("contentBlockStop", {"contentBlockIndex": told.index})
            case Finished():
                return event("messageStop", {"stopReason": STOPS[told.stop]})
            case UsageTold():
                self._usage = told.usage
                return b""
            case Failed():
                return exception(told.error.code or "internalServerException", told.error.message)
            case _:
                return b""

    def _deltas(self, told: PartDelta) -> list[dict[str, Any]]:
        if told.index in self._calls:
            return [{"toolUse": {"input": told.text}}]
        if told.index in self._thoughts:
            found = [{"reasoningContent": {"text": told.text}}] if told.text else []
            return found + ([{"reasoningContent": {"signature": told.signature}}] if told.signature else [])
        return [{"text": told.text}] if told.text else []

    def finish(self) -> bytes:
        """The metadata."""
        usage = {"usage": usage_told(self._usage)} if self._usage is not None else {}
        return event("metadata", {**usage, "metrics": {"latencyMs": 1}})


def _block(part: Part) -> dict[str, Any] | None:
    match part:
        case Text():
            return {"text": part.text}
        case Reasoning():
            signed = {"signature": part.signature} if part.signature else {}
            return {"reasoningContent": {"reasoningText": {"text": part.text, **signed}}}
        case ToolCall():
            return {"toolUse": {"toolUseId": part.id, "name": part.name, "input": json.loads(part.arguments or "{}")}}
        case _:
            return None


def _ask(given: dict[str, Any], model: str, *, stream: bool) -> Ask:
    turns = [Turn(Role.System, _parts(given["system"]))] if given.get("system") else []
    for message in given["messages"]:
        parts = _parts(message["content"])
        if message["role"] == "assistant":
            turns.append(Turn(Role.Assistant, parts))
            continue
        results: list[Part] = [part for part in parts if isinstance(part, ToolResult)]
        rest = [part for part in parts if not isinstance(part, ToolResult)]
        turns += [Turn(role, one) for role, one in ((Role.Tool, results), (Role.User, rest)) if one]
    ask = Ask(model, turns, stream=stream)
    config = given.get("inferenceConfig") or {}
    ask.max_tokens, ask.temperature = config.get("maxTokens"), config.get("temperature")
    ask.top_p, ask.stop = config.get("topP"), list(config.get("stopSequences") or [])
    tools = given.get("toolConfig") or {}
    for one in tools.get("tools") or []:
        if "toolSpec" in one:
            spec = one["toolSpec"]
            ask.tools.append(Tool(spec["name"], spec.get("description"), spec["inputSchema"]["json"]))
    choice = tools.get("toolChoice")
    if choice:
        ask.tool_choice = (
            ToolChoice("named", choice["tool"]["name"])
            if "tool" in choice
            else ToolChoice("required" if "any" in choice else "auto")
        )
    form = (given.get("outputConfig") or {}).get("textFormat")
    if form:
        told = form["structure"]["jsonSchema"]
        ask.shape = AnswerShape("schema", told.get("name"), json.loads(told["schema"]), True)
    thinking = (given.get("additionalModelRequestFields") or {}).get("thinking")
    if thinking:
        ask.reasoning = ReasoningWish(budget_tokens=thinking["budget_tokens"])
    return ask


def _parts(blocks: list[dict[str, Any]]) -> list[Part]:
    found: list[Part] = []
    for block in blocks:
        ((kind, value),) = block.items()
        if kind == "text":
            found.append(Text(value))
        elif kind in ("image", "document"):
            found.append(Media(MediaKind(kind), MIMES[value["format"]], data=value["source"]["bytes"]))
        elif kind == "toolUse":
            found.append(ToolCall(value["toolUseId"], value["name"], json.dumps(value["input"])))
        elif kind == "toolResult":
            inner = [part for part in _parts(value["content"]) if isinstance(part, Text | Media)]
            found.append(ToolResult(value["toolUseId"], inner, is_error=value.get("status") == "error"))
        elif kind == "reasoningContent":
            told = value.get("reasoningText") or {}
            found.append(Reasoning(told.get("text", ""), told.get("signature"), value.get("redactedContent")))
        elif kind == "cachePoint":
            last = found[-1]
            if isinstance(last, Text | Media | ToolCall | ToolResult):
                last.cache = value
        else:
            raise ValueError(f"no such block: {kind}")
    return found
