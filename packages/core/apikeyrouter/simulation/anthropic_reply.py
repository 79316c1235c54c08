"""Replies of the simulated Claude: a message, or the same as events.

Main entry: `answer_messages`. A reply thinks when asked to, calls tools as the simulator's other formats do
(`tool_calls.choose_calls`), else says something. Laws: it depends on the request and the seed alone; usage counts
exactly what is there; thoughts count as output.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from apikeyrouter.simulation.anthropic_request import MessagesRequest
from apikeyrouter.simulation.anthropic_thoughts import signature_of, thinks, thought_of
from apikeyrouter.simulation.api_errors import invalid
from apikeyrouter.simulation.chat import cut_at_stop
from apikeyrouter.simulation.config import SimConfig
from apikeyrouter.simulation.messages import Prompt
from apikeyrouter.simulation.requests import ChatRequest
from apikeyrouter.simulation.schema import fill
from apikeyrouter.simulation.text import Digest, compose, digest_of, tokens_of
from apikeyrouter.simulation.tool_calls import choose_calls

__all__ = ["MESSAGE_STOP", "Message", "answer_messages"]

MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_PING = b'event: ping\ndata: {"type": "ping"}\n\n'
_CALL_OVERHEAD_TOKENS = 5
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_encode = msgspec.json.encode


@dataclass(slots=True)
class Message:
    """A finished reply. `blocks`: content; `tokens`: what was written, thoughts included; `thought_tokens`: those."""

    message_id: str
    model: str
    blocks: list[dict[str, Any]]
    stop_reason: str
    stop_sequence: str | None
    tokens: int
    thought_tokens: int
    input_usage: dict[str, Any]

    @property
    def usage(self) -> dict[str, Any]:
        """The usage object of the whole reply."""
        told: dict[str, Any] = {**self.input_usage, "output_tokens": self.tokens}
        if self.thought_tokens:
            told["output_tokens_details"] = {"thinking_tokens": self.thought_tokens}
        return {**told, "service_tier": "standard"}

    def whole(self) -> bytes:
        """The body of the reply that is not streamed."""
        return _encode(
            {
                **self._head(self.usage),
                "content": self.blocks,
                "stop_reason": self.stop_reason,
                "stop_sequence": self.stop_sequence,
            }
        )

    def events(self) -> Iterator[bytes]:
        """The events of the streamed reply, a ping among them."""
        head = self._head({**self.input_usage, "output_tokens": 1, "service_tier": "standard"})
        yield _event({"type": "message_start", "message": {**head, "stop_reason": None, "stop_sequence": None}})
        for index, block in enumerate(self.blocks):
            started, pieces = _pieces(block)
            yield _event({"type": "content_block_start", "index": index, "content_block": started})
            if index == 0:
                yield _PING
            for delta in pieces:
                yield _event({"type": "content_block_delta", "index": index, "delta": delta})
            yield _event({"type": "content_block_stop", "index": index})
        delta = {"stop_reason": self.stop_reason, "stop_sequence": self.stop_sequence}
        told = {name: value for name, value in self.usage.items() if name not in ("cache_creation", "service_tier")}
        yield _event({"type": "message_delta", "delta": delta, "usage": told})
        yield MESSAGE_STOP

    def _head(self, usage: dict[str, Any]) -> dict[str, Any]:
        head = {"id": self.message_id, "type": "message", "role": "assistant", "model": self.model}
        return {**head, "content": [], "usage": usage}


def answer_messages(request: MessagesRequest, config: SimConfig, message_id: str, usage: dict[str, Any]) -> Message:
    """Answers a checked request. `usage`: what its input cost. Raises ApiError."""
    digest = request.digest(config.seed)
    left = request.max_tokens
    blocks: list[dict[str, Any]] = []
    thought_tokens = 0
    if thinks(request.body):
        text = thought_of(digest, request.last_user)
        thought_tokens = min(len(tokens_of(text)), left)
        left -= thought_tokens
        shown = "" if request.body["thinking"].get("display") == "omitted" else text
        blocks.append({"type": "thinking", "thinking": shown, "signature": signature_of(shown, config.seed)})
    calls = _calls(request, digest)
    stop, sequence = "tool_use" if calls else "end_turn", None
    written = 0
    if calls:
        blocks += calls
        written = sum(len(tokens_of(_encode(c["input"]).decode())) + _CALL_OVERHEAD_TOKENS for c in calls)
        if written > left:
            blocks, stop, written = blocks[: len(blocks) - len(calls)], "max_tokens", left
    else:
        text = _words(request, digest, config)
        cut = cut_at_stop(text, request.body.get("stop_sequences"))
        if cut != text:
            stop = "stop_sequence"
            sequence = next(one for one in request.body["stop_sequences"] if text.startswith(one, len(cut)))
        pieces = tokens_of(cut)
        if len(pieces) > left:
            pieces, stop, sequence = pieces[:left], "max_tokens", None
        written = len(pieces)
        if pieces:
            blocks.append({"type": "text", "text": "".join(pieces)})
    total = written + thought_tokens
    return Message(message_id, request.model, blocks, stop, sequence, total, thought_tokens, usage)


def _calls(request: MessagesRequest, digest: Digest) -> list[dict[str, Any]]:
    tools = [tool for tool in request.body.get("tools") or [] if tool.get("type", "custom") == "custom"]
    if not tools:
        return []
    choice = request.body.get("tool_choice") or {"type": "auto"}
    functions = [{"name": tool["name"], "parameters": tool["input_schema"]} for tool in tools]
    named = {"type": "function", "function": {"name": choice.get("name")}}
    asked = ChatRequest(
        tools=[{"type": "function", "function": one} for one in functions],
        tool_choice=_CHOICES.get(choice["type"], named),
        parallel_tool_calls=not choice.get("disable_parallel_tool_use"),
    )
    last_role = "tool" if request.ends_in_results else "user"
    prompt = Prompt(request.tokens, digest, digest, request.last_user, last_role, request.results)
    try:
        calls = choose_calls(asked, prompt, digest)
    except ValueError as fault:
        raise invalid(f"tools: Invalid schema: {fault}") from None
    return [
        {
            "type": "tool_use",
            "id": f"toolu_{call.call_id.removeprefix('call_')}",
            "name": call.name,
            "input": msgspec.json.decode(call.arguments),
        }
        for call in calls
    ]


def _words(request: MessagesRequest, digest: Digest, config: SimConfig) -> str:
    wanted = (request.body.get("output_config") or {}).get("format")
    if wanted:
        try:
            return _encode(fill(wanted["schema"], random.Random(int.from_bytes(digest, "big")))).decode()
        except ValueError as fault:
            raise invalid(f"output_config.format.schema: {fault}") from None
    subject = request.results[-1] if request.results else request.last_user
    return compose(digest_of(1, digest), subject, *config.reply_tokens)


def _pieces(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as it begins, and the deltas that complete it."""
    match block["type"]:
        case "text":
            deltas = [{"type": "text_delta", "text": piece} for piece in tokens_of(block["text"])]
            return {"type": "text", "text": ""}, deltas
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in tokens_of(block["thinking"])]
            proof = {"type": "signature_delta", "signature": block["signature"]}
            return {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, proof]
        case _:
            text = _encode(block["input"]).decode()
            pieces = ["", *tokens_of(text)]
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


def _event(event: dict[str, Any]) -> bytes:
    name: str = event["type"]
    return b"event: " + name.encode() + b"\ndata: " + _encode(event) + b"\n\n"
