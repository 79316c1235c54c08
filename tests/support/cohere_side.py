"""The side of Cohere in conversations of its chat, for tests: requests read, replies and streams written.

Main entry: `CohereSide`, like a codec for the half that our own lacks. Written from Cohere's reference and recorded
exchanges, not from our codec, so that the two check each other.
"""

from __future__ import annotations

import json
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

STOPS = {Stop.Length: "MAX_TOKENS", Stop.Tools: "TOOL_CALL", Stop.Sequence: "STOP_SEQUENCE", Stop.Filter: "ERROR_TOXIC",
         Stop.Context: "ERROR_LIMIT"}  # fmt: skip
KNOWN = {
    "model", "messages", "tools", "documents", "tool_choice", "strict_tools", "max_tokens", "temperature", "p", "k",
    "seed", "presence_penalty", "frequency_penalty", "stop_sequences", "response_format", "thinking", "stream",
}  # fmt: skip


def sse(kind: str, **members: object) -> bytes:
    """One event."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def usage_told(usage: Usage) -> dict[str, Any]:
    """What is billed, and what the model saw, which is more."""
    billed = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    seen = {"input_tokens": usage.input_tokens + 500, "output_tokens": usage.output_tokens + 2}
    return {"billed_units": billed, "tokens": seen, "cached_tokens": 144}


class CohereSide:
    """See `Codec`: what Cohere does."""

    def read_request(self, body: bytes, losses: Losses, *, model: str, stream: bool) -> Ask:
        """The request as values. Raises MalformedError for what is no request at all."""
        try:
            return _ask(msgspec.json.decode(body), stream=stream)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as fault:
            raise MalformedError(str(fault)) from None

    def write_answer(self, answer: Answer, ask_model: str) -> bytes:
        """The reply."""
        parts = answer.choices[0].parts
        message: dict[str, Any] = {"role": "assistant"}
        calls = [one for one in parts if isinstance(one, ToolCall)]
        texts = [one.text for one in parts if isinstance(one, Text)]
        content = [{"type": "thinking", "thinking": one.text} for one in parts if isinstance(one, Reasoning)]
        if calls:
            message["tool_plan"] = "".join(texts)
            message["tool_calls"] = [
                {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": one.arguments}}
                for one in calls
            ]
        else:
            content += [{"type": "text", "text": text} for text in texts]
        if content:
            message["content"] = content
        reason = STOPS.get(answer.choices[0].stop or Stop.End, "COMPLETE")
        out: dict[str, Any] = {"id": answer.id, "finish_reason": reason, "message": message}
        if answer.usage is not None:
            out["usage"] = usage_told(answer.usage)
        return json.dumps(out).encode()

    def encoder(self, ask_model: str, *, want_usage: bool) -> CohereWriter:
        """For one stream."""
        return CohereWriter()


class CohereWriter:
    """See `StreamEncoder`. Text is always content here: the model makes no plans."""

    def __init__(self) -> None:
        self._usage: Usage | None = None
        self._stop = "COMPLETE"
        self._kind = ""
        self._calls = -1

    def encode(self, told: Event) -> bytes:
        """The event."""
        match told:
            case Started():
                empty = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
                return sse("message-start", id=told.id, delta={"message": empty})
            case PartStarted(part=ToolCall(id=name, name=tool)):
                self._kind, self._calls = "call", self._calls + 1
                call = {"id": name, "type": "function", "function": {"name": tool, "arguments": ""}}
                return sse("tool-call-start", index=self._calls, delta={"message": {"tool_calls": call}})
            case PartStarted(part=Reasoning()):
                self._kind = "thinking"
                return self._content("content-start", told.index, {"type": "thinking", "thinking": ""})
            case PartStarted():
                self._kind = "text"
                return self._content("content-start", told.index, {"type": "text", "text": ""})
            case PartDelta() if self._kind == "call":
                call = {"function": {"arguments": told.text}}
                return sse("tool-call-delta", index=self._calls, delta={"message": {"tool_calls": call}})
            case PartDelta():
                return self._content("content-delta", told.index, {self._kind: told.text}) if told.text else b""
            case PartEnded():
                return sse("tool-call-end" if self._kind == "call" else "content-end", index=told.index)
            case Finished():
                self._stop = STOPS.get(told.stop, "COMPLETE")
            case UsageTold():
                self._usage = told.usage
            case Failed():
                return sse("message-end", delta={"finish_reason": "ERROR", "error": told.error.message})
        return b""

    @staticmethod
    def _content(kind: str, index: int, content: dict[str, str]) -> bytes:
        return sse(kind, index=index, delta={"message": {"content": content}})

    def finish(self) -> bytes:
        """The end."""
        usage = {"usage": usage_told(self._usage)} if self._usage is not None else {}
        return sse("message-end", delta={"finish_reason": self._stop, **usage}) + b"data: [DONE]\n\n"


def _ask(given: dict[str, Any], *, stream: bool) -> Ask:
    if unknown := given.keys() - KNOWN:
        raise ValueError(f"unknown: {unknown}")
    ask = Ask(given["model"], [_turn(one) for one in given["messages"]], stream=stream or bool(given.get("stream")))
    for one in given.get("tools") or []:
        function = one["function"]
        ask.tools.append(Tool(function["name"], function.get("description"), function["parameters"]))
    choice = given.get("tool_choice")
    if choice is not None:
        ask.tool_choice = ToolChoice({"REQUIRED": "required", "NONE": "none"}[choice])
    ask.max_tokens, ask.temperature = given.get("max_tokens"), given.get("temperature")
    ask.top_p, ask.top_k, ask.stop = given.get("p"), given.get("k"), list(given.get("stop_sequences") or [])
    form = given.get("response_format")
    if form is not None:
        schema = form.get("json_schema")
        ask.shape = AnswerShape("schema" if schema else "json", None, schema)
    thinking = given.get("thinking")
    if thinking is not None and thinking["type"] == "disabled":
        ask.reasoning = ReasoningWish("none")
    elif thinking is not None:
        budget = thinking.get("token_budget")
        ask.reasoning = ReasoningWish(None if budget else "high", budget)
    return ask


def _turn(message: dict[str, Any]) -> Turn:
    content = message.get("content") or []
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    parts: list[Part] = [_part(block) for block in blocks]
    if message["role"] == "tool":
        texts: list[Text | Media] = [part for part in parts if isinstance(part, Text)]
        if len(texts) != len(parts):
            raise ValueError("results hold text")
        return Turn(Role.Tool, [ToolResult(message["tool_call_id"], texts)])
    if message.get("tool_plan"):
        parts.append(Text(message["tool_plan"]))
    parts += [
        ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in message.get("tool_calls") or []
    ]
    return Turn(Role(message["role"]), parts)


def _part(block: dict[str, Any]) -> Part:
    if block["type"] == "text":
        return Text(block["text"])
    if block["type"] == "thinking":
        return Reasoning(block["thinking"])
    if block["type"] == "image_url":
        head, _, data = block["image_url"]["url"].partition(";base64,")
        return Media(MediaKind.Image, head.removeprefix("data:"), data=data)
    raise ValueError(f"no such block: {block['type']}")
