"""Items of `input` and `output`: messages, calls, results and thoughts, read into turns.

Main entries: `read_input` for requests; `read_thoughts` and `read_call` serve replies too. Items that belong together
(thoughts, words, parallel calls) become one turn of the assistant, since that is what every other format has.
Items of tools that OpenAI runs itself are refused by name; of those, a finished web search is a mere record (the
message after it tells what came of it) and may be dropped as a parameter may.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.domain.models.call import Wire
from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.facts import Media, Reasoning, Refusal, Role, Text, ToolCall, ToolResult, Turn
from apikeyrouter.wire.losses import Losses, shown
from apikeyrouter.wire.responses.fields import fault, listed, mapping, text, text_or_none
from apikeyrouter.wire.responses.names import SEARCH, custom_arguments, joined, told_found
from apikeyrouter.wire.responses.parts_in import read_content
from apikeyrouter.wire.responses.proofs import unpack

__all__ = ["ItemsReader", "read_call", "read_thoughts"]

_ROLES = {
    "user": Role.User, "system": Role.System, "developer": Role.Developer, "assistant": Role.Assistant,
}  # fmt: skip
_RECORDS = ("web_search_call", "image_generation_call", "mcp_list_tools")


class ItemsReader:
    """Reads `input`. `turns`: what it said; `tools`: definitions that stood among the items."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._signatures: dict[str, str] = {}
        self.turns: list[Turn] = []
        self.tools: list[tuple[str, Any]] = []

    def read(self, items: object) -> None:
        """The value of `input`. Raises MalformedError."""
        if isinstance(items, str):
            self.turns.append(Turn(Role.User, [Text(items)]))
            return
        if not isinstance(items, list):
            raise fault("input", "a string or an array of objects", items)
        for at, item in enumerate(items):
            path = f"input[{at}]"
            self._item(mapping(item, path), path)
        if self._signatures:
            self._sign_calls()

    def _item(self, item: dict[str, Any], path: str) -> None:
        kind = item.get("type")
        match kind:
            case "message" | None if kind is not None or "role" in item:
                self._message(item, path)
            case "reasoning":
                self._thoughts(item, path)
            case "tool_search_call" | "tool_search_output" if item.get("execution") != "client":
                self._losses.harmless(path)
                self._found(item, path)
            case "tool_search_output":
                self._found(item, path)
                names = [str(one.get("name")) for one in item.get("tools") or () if isinstance(one, dict)]
                self._result({"call_id": item.get("call_id"), "output": told_found(names)}, path)
            case "function_call" | "custom_tool_call" | "tool_search_call":
                self._assistant().parts.append(read_call(item, path))
            case "function_call_output" | "custom_tool_call_output":
                self._result(item, path)
            case "additional_tools":
                self._found(item, path)
            case "item_reference" | None:
                self._losses.content(path, "item_reference points into the state of one account at OpenAI")
            case _ if kind in _RECORDS:
                self._losses.parameter(path, f"a {kind} is the record of a tool that OpenAI itself runs")
            case str():
                self._losses.content(path, f"items of type {shown(kind)} belong to tools that only OpenAI has")
            case _:
                raise fault(f"{path}.type", "a string", kind)

    def _found(self, item: dict[str, Any], path: str) -> None:
        """Tools that stand among the items."""
        where = f"{path}.tools"
        if item.get("tools") is not None:
            self.tools += [(f"{where}[{at}]", one) for at, one in enumerate(listed(item["tools"], where))]

    def _message(self, item: dict[str, Any], path: str) -> None:
        role = _ROLES.get(text(item, "role", path))
        if role is None:
            raise MalformedError(
                f"Invalid value: {shown(item['role'])}. Supported values are: 'assistant', 'system', 'developer', and "
                "'user'.",
                param=f"{path}.role",
            )
        if item.get("phase") is not None:
            self._losses.harmless("phase")
        parts = read_content(item.get("content"), f"{path}.content", self._losses)
        if role is Role.Assistant:
            self._assistant(words=True).parts.extend(parts)
        else:
            self.turns.append(Turn(role, parts))

    def _assistant(self, *, words: bool = False) -> Turn:
        """The assistant's turn that runs, or a new one: a second message begins its own, unless a call that waits for
        its result stands before it. `words`: for a message or thoughts."""
        last = self.turns[-1] if self.turns else None
        if last is not None and last.role is Role.Assistant:
            spoke = any(isinstance(part, (Text, Refusal)) for part in last.parts)
            if not words or not spoke or any(isinstance(part, ToolCall) for part in last.parts):
                return last
        turn = Turn(Role.Assistant, [])
        self.turns.append(turn)
        return turn

    def _thoughts(self, item: dict[str, Any], path: str) -> None:
        encrypted = text_or_none(item, "encrypted_content", path)
        proof = unpack(encrypted) if encrypted else None
        if proof is not None and proof.call_id:
            self._signatures[proof.call_id] = proof.signature or ""
            return
        self._assistant(words=True).parts.append(read_thoughts(item, path))

    def _result(self, item: dict[str, Any], path: str) -> None:
        output = item.get("output")
        parts: list[Text | Media] = [
            part if isinstance(part, (Text, Media)) else Text(getattr(part, "text", ""))
            for part in read_content(output, f"{path}.output", self._losses)
        ]
        result = ToolResult(text(item, "call_id", path), parts)
        if self.turns and self.turns[-1].role is Role.Tool:
            self.turns[-1].parts.append(result)
        else:
            self.turns.append(Turn(Role.Tool, [result]))

    def _sign_calls(self) -> None:
        for turn in self.turns:
            for part in turn.parts:
                if isinstance(part, ToolCall) and part.id in self._signatures:
                    part.signature = self._signatures[part.id]


def read_call(item: dict[str, Any], path: str) -> ToolCall:
    """A `function_call`, `custom_tool_call`, or a `tool_search_call` that the client answers."""
    if item.get("type") == "tool_search_call":
        arguments = msgspec.json.encode(item.get("arguments") or {}).decode()
        return ToolCall(text(item, "call_id", path), SEARCH, arguments)
    custom = item.get("type") == "custom_tool_call"
    name = joined(text_or_none(item, "namespace", path), text(item, "name", path), custom=custom)
    given = text(item, "input" if custom else "arguments", path)
    return ToolCall(text(item, "call_id", path), name, custom_arguments(given) if custom else given)


def read_thoughts(item: dict[str, Any], path: str) -> Reasoning:
    """A `reasoning` item: the thoughts themselves, else their summary, whose paragraphs are joined by a blank line."""
    words = _joined(item.get("content"), f"{path}.content") or _joined(item.get("summary"), f"{path}.summary")
    encrypted = text_or_none(item, "encrypted_content", path)
    proof = unpack(encrypted) if encrypted else None
    if proof is not None:
        return Reasoning(words, proof.signature, proof.encrypted, origin=proof.origin)
    return Reasoning(words, None, encrypted, text_or_none(item, "id", path), Wire.Responses.value)


def _joined(parts: object, path: str) -> str:
    if parts is None:
        return ""
    return "\n\n".join(
        text(mapping(one, f"{path}[{at}]"), "text", f"{path}[{at}]") for at, one in enumerate(listed(parts, path))
    )
