"""Turns written as `system` and `messages`.

Main entry: `TurnWriter.write`. Anthropic wants all results of a turn's tools at the beginning of the next user turn,
and ids of letters, digits, "_" and "-". So consecutive turns of one speaker are merged, and ids of other characters are
respelt, the call and its result alike. (An assistant may speak first: recorded replies show it.) Instructions in front
become `system`; later ones stay where they are when the model allows it and a user spoke before them (`system_turns`),
else they move to `system`, which is told.
Source: https://platform.claude.com/docs/en/api/messages, /en/build-with-claude/mid-conversation-system-messages
(read 2026-11-21).
"""

from __future__ import annotations

import re
from typing import Any

from apikeyrouter.wire.facts import Media, Part, Reasoning, Refusal, Role, Text, ToolCall, ToolResult, Turn
from apikeyrouter.wire.losses import Losses
from apikeyrouter.wire.messages.answer import ORIGIN
from apikeyrouter.wire.messages.media_out import media_block
from apikeyrouter.wire.messages.words import tool_input
from apikeyrouter.wire.open_calls import OpenCalls

__all__ = ["TurnWriter"]

_INSTRUCTIONS = (Role.System, Role.Developer)
_ODD_ID = re.compile(r"[^a-zA-Z0-9_-]")


class TurnWriter:
    """Writes the turns of one request."""

    __slots__ = ("_calls", "_losses", "_messages", "_system", "_system_turns")

    def __init__(self, losses: Losses, *, system_turns: bool) -> None:
        self._losses = losses
        self._system_turns = system_turns
        self._system: list[dict[str, Any]] = []
        self._messages: list[dict[str, Any]] = []
        self._calls = OpenCalls()

    def write(self, turns: list[Turn]) -> tuple[str | list[dict[str, Any]], list[dict[str, Any]]]:
        """`system` and `messages`."""
        for at, turn in enumerate(turns):
            self._turn(at, turn)
        if not self._messages and self._system:  # nothing but instructions: somebody must ask
            self._losses.harmless("messages[0].role")
            self._messages, self._system = [{"role": "user", "content": self._system}], []
        for message in self._messages:
            if message["role"] == "user" and isinstance(message["content"], list):
                message["content"].sort(key=_results_first)
            message["content"] = _short(message["content"])
        return _short(self._system), self._messages

    def _turn(self, at: int, turn: Turn) -> None:
        if turn.name is not None:
            self._losses.harmless(f"messages[{at}].name")
        blocks = [block for number, part in enumerate(turn.parts) if (block := self._block(part, at, number))]
        if not blocks:
            return
        if turn.role in _INSTRUCTIONS:
            self._instructions(at, blocks)
            return
        role = "assistant" if turn.role is Role.Assistant else "user"
        if self._messages and self._messages[-1]["role"] == role:
            self._messages[-1]["content"].extend(blocks)
        else:
            self._messages.append({"role": role, "content": blocks})

    def _instructions(self, at: int, blocks: list[dict[str, Any]]) -> None:
        if not self._messages:
            self._system.extend(blocks)
            return
        last = self._messages[-1]["role"]
        if self._system_turns and last == "system":
            self._messages[-1]["content"].extend(blocks)
        elif self._system_turns and last == "user":
            self._messages.append({"role": "system", "content": blocks})
        else:
            self._losses.harmless(f"messages[{at}].role")
            self._system.extend(blocks)

    def _block(self, part: Part, at: int, number: int) -> dict[str, Any] | None:
        where = f"messages[{at}].content[{number}]"
        match part:
            case Text():
                if not part.text.strip():  # Anthropic refuses blocks of white space alone
                    return None
                return _marked({"type": "text", "text": part.text}, part.cache)
            case ToolCall():
                return self._call(part, where)
            case ToolResult():
                return self._result(part, where)
            case Media():
                block = media_block(part, where, self._losses)
                return None if block is None else _marked(block, part.cache)
            case Reasoning():
                return self._thought(part)
            case Refusal():
                return {"type": "text", "text": part.text} if part.text.strip() else None

    def _thought(self, part: Reasoning) -> dict[str, Any] | None:
        """Only thoughts that Anthropic can check may be sent back."""
        if part.origin == ORIGIN and part.encrypted:
            return {"type": "redacted_thinking", "data": part.encrypted}
        if part.origin == ORIGIN and part.signature:
            return {"type": "thinking", "thinking": part.text, "signature": part.signature}
        self._losses.harmless("reasoning")
        return None

    def _call(self, part: ToolCall, where: str) -> dict[str, Any]:
        told = self._calls.opened(_ODD_ID.sub("_", part.id), part.name)
        given = tool_input(part.arguments)
        if given is None:  # the model wrote no JSON object; Anthropic takes nothing else
            self._losses.harmless(f"{where}.arguments")
        members = {"arguments": part.arguments} if given is None else given
        return _marked({"type": "tool_use", "id": told, "name": part.name, "input": members}, part.cache)

    def _result(self, part: ToolResult, where: str) -> dict[str, Any]:
        block: dict[str, Any] = {
            "type": "tool_result",
            "tool_use_id": self._calls.answered(_ODD_ID.sub("_", part.call_id), part.name),
        }
        content = []
        for number, one in enumerate(part.parts):
            inner = self._block(one, 0, number) if isinstance(one, Text) else None
            if isinstance(one, Media):
                inner = media_block(one, f"{where}.content[{number}]", self._losses)
            if inner is not None:
                content.append(inner)
        if content:
            block["content"] = _short(content)
        if part.is_error:
            block["is_error"] = True
        return _marked(block, part.cache)


def _marked(block: dict[str, Any], cache: dict[str, Any] | None) -> dict[str, Any]:
    if cache is not None:
        block["cache_control"] = cache
    return block


def _results_first(block: dict[str, Any]) -> int:
    return 0 if block["type"] == "tool_result" else 1


def _short(content: Any) -> Any:
    """A single plain text as a string, which is what people write."""
    if isinstance(content, list) and len(content) == 1 and content[0].keys() == {"type", "text"}:
        return content[0]["text"]
    return content
