"""Which tools a simulated model calls, and with which arguments.

Main entry: `choose_calls`. A model calls a tool when `tool_choice` demands it, or when the user's words name it: a word
of its name with at least four letters ("weather" for `get_weather`). Several tools may be called at once unless
`parallel_tool_calls` is false; one tool is called once for each place or person named ("Paris and Oslo"). A script in
the user's words (`script`) goes before all that.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Any

import msgspec

from apikeyrouter.simulation.messages import Prompt, tool_name
from apikeyrouter.simulation.requests import ChatRequest
from apikeyrouter.simulation.schema import fill
from apikeyrouter.simulation.script import has_script, scripted_call
from apikeyrouter.simulation.text import Digest, digest_of

__all__ = ["ToolCall", "choose_calls"]

_CALLS_MAX = 8
_PROPER_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+(?: [A-Z][a-z]+)*")
_WORD = re.compile(r"[A-Za-z]{4,}")


@dataclass(slots=True)
class ToolCall:
    """One call. `arguments`: JSON text, or free text when the tool is `custom`."""

    call_id: str
    name: str
    arguments: str
    custom: bool = False

    def wire(self) -> dict[str, Any]:
        """As a message carries it."""
        if self.custom:
            return {"id": self.call_id, "type": "custom", "custom": {"name": self.name, "input": self.arguments}}
        return {"id": self.call_id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


def choose_calls(request: ChatRequest, prompt: Prompt, digest: Digest) -> list[ToolCall]:
    """The calls of one answer; empty when the model answers in words."""
    if not request.tools or request.tool_choice == "none":
        return []
    if has_script(prompt.last_user) and request.tool_choice in (None, "auto"):
        return _scripted(request.tools, prompt, digest)
    tools = _demanded(request, prompt)
    subjects = list(dict.fromkeys(_PROPER_NAME.findall(prompt.last_user)))
    targets = [(tool, subjects[0] if subjects else "") for tool in tools]
    if request.parallel_tool_calls is False:
        targets = targets[:1]
    elif len(tools) == 1 and len(subjects) > 1:
        targets = [(tools[0], subject) for subject in subjects]
    return [_call(tool, subject, digest, at) for at, (tool, subject) in enumerate(targets[:_CALLS_MAX])]


def _scripted(tools: list[dict[str, Any]], prompt: Prompt, digest: Digest) -> list[ToolCall]:
    wanted = scripted_call(prompt.last_user, len(prompt.tool_results))
    offered = {tool_name(tool): tool["type"] for tool in tools}
    if wanted is None or wanted[0] not in offered:
        return []
    name, arguments = wanted
    custom = offered[name] == "custom"
    told = arguments if custom and isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
    return [ToolCall(_call_id(digest_of(0, digest)), name, told, custom)]


def _demanded(request: ChatRequest, prompt: Prompt) -> list[dict[str, Any]]:
    tools: list[dict[str, Any]] = request.tools
    choice = request.tool_choice
    if isinstance(choice, dict) and choice.get("type") in ("function", "custom"):
        return [tool for tool in tools if tool_name(tool) == tool_name(choice)][:1]
    if isinstance(choice, dict):
        allowed = choice.get("allowed_tools")
        allowed = allowed if isinstance(allowed, dict) else choice
        listed = allowed.get("tools")
        names = {tool_name(tool) for tool in listed} if isinstance(listed, list) else set()
        tools = [tool for tool in tools if tool_name(tool) in names]
        choice = allowed.get("mode")
    spoken = {word.lower() for word in _WORD.findall(prompt.last_user)}
    named = [tool for tool in tools if prompt.last_role != "tool" and _words(tool) & spoken]
    return named or (tools[:1] if choice == "required" else [])


def _words(tool: dict[str, Any]) -> set[str]:
    name = re.sub(r"([a-z])([A-Z])", r"\1 \2", tool_name(tool) or "")
    return {word.lower() for word in _WORD.findall(name)}


def _call(tool: dict[str, Any], subject: str, digest: Digest, at: int) -> ToolCall:
    kind: str = tool["type"]
    own = digest_of(at, digest)
    call_id = _call_id(own)
    name: str = tool[kind]["name"]
    if kind == "custom":
        return ToolCall(call_id, name, subject or f"input for {name}", custom=True)
    rng = random.Random(int.from_bytes(own, "big"))
    arguments = fill(tool[kind].get("parameters") or {"type": "object"}, rng, subject)
    return ToolCall(call_id, name, msgspec.json.encode(arguments).decode())


def _call_id(digest: Digest) -> str:
    return f"call_{digest.hex()[:24]}"
