"""Turns written as `system` and `messages` of Converse.

Main entry: `TurnWriter.write`. Turns of user and assistant alternate: consecutive ones of a speaker are merged; results
of tools belong to the user and come first. Instructions stand in `system` alone: later ones move there, which is told.
Marks for the cache become blocks of their own behind what they mark. Ids of calls have 64 letters of few kinds at most:
others are respelt, the call and its result alike. Thoughts go back to Claude, with their proof; other models take none.
Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Message.html and ..._ToolUseBlock.html;
that an assistant may speak first, and that results and text may share a turn, was recorded.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import blake2b
from typing import Any

from apikeyrouter.wire.converse.makers import Model
from apikeyrouter.wire.converse.media_out import MediaWriter
from apikeyrouter.wire.converse.words import CLAUDES, ORIGIN
from apikeyrouter.wire.facts import Media, Part, Reasoning, Refusal, Role, Text, ToolCall, ToolResult, Turn
from apikeyrouter.wire.losses import Losses
from apikeyrouter.wire.messages.words import tool_input
from apikeyrouter.wire.open_calls import OpenCalls

__all__ = ["TurnWriter", "cache_point"]

Block = dict[str, Any]

_INSTRUCTIONS = (Role.System, Role.Developer)
_ODD_ID = re.compile(r"[^a-zA-Z0-9_.:-]")
_ODD_ID_OF_CLAUDE = re.compile(r"[^a-zA-Z0-9_-]")
_ID_LETTERS_MAX = 64


def cache_point(cache: dict[str, Any]) -> Block:
    """The block behind what is marked. `cache`: the mark in Anthropic's shape."""
    point = {"type": "default"}
    if cache.get("ttl") in ("5m", "1h"):
        point["ttl"] = cache["ttl"]
    return {"cachePoint": point}


class TurnWriter:
    """Writes the turns of one request. `called`: names of tools that its assistant called."""

    __slots__ = ("_calls", "_losses", "_media", "_messages", "_model", "_odd", "_system", "called")

    def __init__(self, losses: Losses, model: Model) -> None:
        self._losses = losses
        self._media = MediaWriter(losses)
        self._model = model
        self._odd = _ODD_ID_OF_CLAUDE if model.claude is not None else _ODD_ID
        self._system: list[Block] = []
        self._messages: list[dict[str, Any]] = []
        self._calls = OpenCalls()
        self.called: dict[str, None] = {}

    def write(self, turns: list[Turn]) -> tuple[list[Block], list[dict[str, Any]]]:
        """`system` and `messages`."""
        for at, turn in enumerate(turns):
            self._turn(at, turn)
        if not self._messages and self._system:  # nothing but instructions: somebody must ask
            self._losses.harmless("messages[0].role")
            self._messages, self._system = [{"role": "user", "content": self._system}], []
        for at, message in enumerate(self._messages):
            if message["role"] == "user":
                message["content"] = _results_first(message["content"])
                if any("document" in one for one in message["content"]) and not any(
                    "text" in one for one in message["content"]
                ):
                    self._losses.content(f"messages[{at}]", "Bedrock wants a text beside a document")
        return self._system, self._messages

    def _turn(self, at: int, turn: Turn) -> None:
        if turn.name is not None:
            self._losses.harmless(f"messages[{at}].name")
        blocks: list[Block] = []
        for number, part in enumerate(turn.parts):
            block = self._block(part, f"messages[{at}].content[{number}]")
            if block is not None:
                blocks.append(block)
                cache = None if isinstance(part, Reasoning | Refusal) else part.cache
                if cache is not None:
                    blocks.append(cache_point(cache))
        if not blocks:
            return
        if turn.role in _INSTRUCTIONS:
            if self._messages:
                self._losses.harmless(f"messages[{at}].role")
            self._system.extend(blocks)
            return
        role = "assistant" if turn.role is Role.Assistant else "user"
        if self._messages and self._messages[-1]["role"] == role:
            self._messages[-1]["content"].extend(blocks)
        else:
            self._messages.append({"role": role, "content": blocks})

    def _block(self, part: Part, where: str) -> Block | None:
        match part:
            case Text() | Refusal():
                return {"text": part.text} if part.text.strip() else None  # blank texts are refused
            case ToolCall():
                return self._call(part, where)
            case ToolResult():
                return self._result(part, where)
            case Media():
                return self._media.block(part, where)
            case Reasoning():
                return self._thought(part)

    def _thought(self, part: Reasoning) -> Block | None:
        known = part.origin in (CLAUDES, ORIGIN) and (self._model.claude is not None or not self._model.maker)
        if known and part.encrypted:
            cipher = part.encrypted
            return {
                "reasoningContent": {
                    "redactedContent": b64encode(cipher.encode()).decode() if part.origin == CLAUDES else cipher
                }
            }
        if known and part.signature:
            return {"reasoningContent": {"reasoningText": {"text": part.text, "signature": part.signature}}}
        self._losses.harmless("reasoning")
        return None

    def _id(self, given: str) -> str:
        told = self._odd.sub("_", given)
        if len(told) <= _ID_LETTERS_MAX:
            return told
        return f"{told[: _ID_LETTERS_MAX - 17]}_{blake2b(given.encode(), digest_size=8).hexdigest()}"

    def _call(self, part: ToolCall, where: str) -> Block:
        told = self._calls.opened(self._id(part.id), part.name)
        self.called[part.name] = None
        given = tool_input(part.arguments)
        if given is None:  # the model wrote no JSON object; Bedrock takes nothing else
            self._losses.harmless(f"{where}.arguments")
        members = {"arguments": part.arguments} if given is None else given
        return {"toolUse": {"toolUseId": told, "name": part.name, "input": members}}

    def _result(self, part: ToolResult, where: str) -> Block:
        content = []
        for number, one in enumerate(part.parts):
            inner = self._block(one, f"{where}.content[{number}]")
            if inner is not None and "audio" in inner:
                self._losses.content(f"{where}.content[{number}]", "Bedrock takes no sound from tools")
            elif inner is not None:
                content.append(inner)
        block: Block = {
            "toolUseId": self._calls.answered(self._id(part.call_id), part.name),
            "content": content or [{"text": "(empty)"}],
        }
        if part.is_error:
            block["status"] = "error"
        return {"toolResult": block}


def _results_first(blocks: list[Block]) -> list[Block]:
    """Results in front, each with the mark for the cache behind it."""
    front: list[Block] = []
    back: list[Block] = []
    last = back
    for block in blocks:
        if "cachePoint" not in block:
            last = front if "toolResult" in block else back
        last.append(block)
    return front + back
