"""Tools and `tool_choice` of a request.

Main entries: `ToolsReader.read`, then `ToolsReader.choice`. Functions pass; tools of a `namespace` and `custom` tools
become functions (`names.py`), so that coding agents reach theirs through any provider. Tools that OpenAI runs, or that
its models alone were trained on, are refused by name. Those that merely offer an ability (a web search) may be left
out where the caller or the operator said so (`drop_params`): Codex sends them always. Those that hold the caller's own
matter (its files, its servers) may not.
"""

from __future__ import annotations

from typing import Any

from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.facts import Tool, ToolChoice
from apikeyrouter.wire.losses import Losses, shown
from apikeyrouter.wire.responses.fields import listed, mapping, text, text_or_none, truth
from apikeyrouter.wire.responses.names import CUSTOM_SCHEMA, LONGEST_NAME, MARK, SEARCH, joined

__all__ = ["ToolsReader"]

_OFFERS = (
    "web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11", "image_generation",
    "local_shell", "shell", "apply_patch", "programmatic_tool_calling",
)  # fmt: skip
_CHOICES = ("auto", "none", "required")


class ToolsReader:
    """Reads tool definitions into `tools`."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self.tools: list[Tool] = []

    def read(self, tool: object, path: str, namespace: str | None = None) -> None:
        """One definition. Raises MalformedError."""
        members = mapping(tool, path)
        kind = text(members, "type", path)
        if members.get("defer_loading"):
            self._losses.harmless("defer_loading")
        match kind:
            case "function":
                self._function(members, path, namespace)
            case "custom":
                self._custom(members, path, namespace)
            case "namespace" if namespace is None:
                name = text(members, "name", path)
                for at, one in enumerate(listed(members.get("tools"), f"{path}.tools")):
                    self.read(one, f"{path}.tools[{at}]", name)
            case "tool_search" if members.get("execution") == "client":
                self._search(members, path)
            case "tool_search":
                self._losses.harmless(path)  # all tools are offered from the beginning: nothing is left to search
            case _ if kind in _OFFERS:
                self._losses.parameter(path, f"{kind} exists at OpenAI only")
            case _:
                self._losses.content(path, f"tools of type {shown(kind)} exist at OpenAI only")

    def _function(self, members: dict[str, Any], path: str, namespace: str | None) -> None:
        schema = members.get("parameters")
        strict = members.get("strict")
        self._add(
            Tool(
                text(members, "name", path),
                text_or_none(members, "description", path),
                None if schema is None else mapping(schema, f"{path}.parameters"),
                None if strict is None else truth(strict, f"{path}.strict"),
            ),
            path,
            namespace,
        )

    def _custom(self, members: dict[str, Any], path: str, namespace: str | None) -> None:
        description = text_or_none(members, "description", path)
        shape = members.get("format")
        if isinstance(shape, dict) and shape.get("type") == "grammar":
            self._losses.parameter(f"{path}.format", "no other provider holds a model to a grammar")
            grammar = f"The input must follow this grammar ({shape.get('syntax')}):\n{shape.get('definition')}"
            description = f"{description}\n\n{grammar}" if description else grammar
        self._add(Tool(text(members, "name", path), description, CUSTOM_SCHEMA), path, namespace, custom=True)

    def _search(self, members: dict[str, Any], path: str) -> None:
        schema = members.get("parameters")
        wanted = None if schema is None else mapping(schema, f"{path}.parameters")
        self.tools.append(Tool(SEARCH, text_or_none(members, "description", path), wanted))

    def _add(self, tool: Tool, path: str, namespace: str | None, *, custom: bool = False) -> None:
        if MARK in tool.name:
            self._losses.content(path, f"a tool's name must not hold {MARK!r}, which we use to tell tools apart")
        tool.name = joined(namespace, tool.name, custom=custom)
        if len(tool.name) > LONGEST_NAME:
            self._losses.parameter(path, f"its name with its namespace is longer than {LONGEST_NAME} characters")
        elif not any(known.name == tool.name for known in self.tools):  # one that a search found may be known
            self.tools.append(tool)

    def choice(self, choice: object, parallel: object) -> ToolChoice | None:
        """`tool_choice` and `parallel_tool_calls`. `allowed_tools` takes the others out of `tools`."""
        together = None if parallel is None else truth(parallel, "parallel_tool_calls")
        if choice is None:
            return None if together is None else ToolChoice(parallel=together)
        if isinstance(choice, str):
            if choice not in _CHOICES:
                raise MalformedError(
                    f"Invalid value: {shown(choice)}. Supported values are: 'none', 'auto', and 'required'.",
                    param="tool_choice",
                )
            return ToolChoice(choice, parallel=together)
        members = mapping(choice, "tool_choice")
        kind = text(members, "type", "tool_choice")
        match kind:
            case "function" | "custom":
                return ToolChoice("named", self._named(members, "tool_choice"), together)
            case "allowed_tools":
                return self._allowed(members, together)
            case _:
                self._losses.content("tool_choice", f"tools of type {shown(kind)} exist at OpenAI only")
                return None

    def _allowed(self, members: dict[str, Any], together: bool | None) -> ToolChoice:
        names = set()
        for at, one in enumerate(listed(members.get("tools"), "tool_choice.tools")):
            path = f"tool_choice.tools[{at}]"
            allowed = mapping(one, path)
            if allowed.get("type") in ("function", "custom"):
                names.add(self._named(allowed, path))
        self.tools = [tool for tool in self.tools if tool.name in names]
        return ToolChoice("required" if members.get("mode") == "required" else "auto", parallel=together)

    def _named(self, members: dict[str, Any], path: str) -> str:
        """The name under which `tools` has it; its namespace may be left out where the name is unambiguous."""
        custom = members.get("type") == "custom"
        name = joined(text_or_none(members, "namespace", path), text(members, "name", path), custom=custom)
        known = [tool.name for tool in self.tools]
        if name in known:
            return name
        ends = [one for one in known if one.endswith(MARK + name)]
        return ends[0] if len(ends) == 1 else name
