"""An `Ask`, written as a request for a provider that speaks this format.

Main entry: `write_request`. The first system turn becomes `instructions`, all others stay where they stood. Nothing is
kept at the provider (`store: false`), as callers of other formats expect.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.wire.effort import effort_of
from apikeyrouter.wire.facts import Ask, Role, Text, Tool, ToolChoice
from apikeyrouter.wire.losses import Losses
from apikeyrouter.wire.responses.items_out import ItemsWriter
from apikeyrouter.wire.responses.names import SEARCH, split

__all__ = ["write_request"]

_NO_ARGUMENTS = {"type": "object", "properties": {}}


def write_request(ask: Ask, losses: Losses) -> bytes:
    """See `Codec.write_request`."""
    turns = ask.turns
    members: dict[str, Any] = {"model": ask.model}
    first = turns[0] if turns else None
    if first is not None and first.role is Role.System and len(turns) > 1:
        texts = [part.text for part in first.parts if isinstance(part, Text)]
        if len(texts) == len(first.parts):
            members["instructions"] = "\n\n".join(texts)
            turns = turns[1:]
    members["input"] = ItemsWriter(losses).write(turns)
    members["store"] = False
    if ask.stream:
        members["stream"] = True
    if ask.tools:
        members["tools"] = _tools(ask.tools)
    if ask.tool_choice is not None:
        _put_choice(members, ask.tool_choice)
    _put_wishes(members, ask)
    _put_text(members, ask)
    _tell_losses(ask, losses)
    return msgspec.json.encode(members)


def _tools(tools: list[Tool]) -> list[dict[str, Any]]:
    """The definitions; those that came from a namespace go back into one (`names.py`)."""
    out: list[dict[str, Any]] = []
    groups: dict[str, list[dict[str, Any]]] = {}
    for tool in tools:
        if tool.name == SEARCH:
            search = _tool(tool, "", custom=False)
            del search["name"], search["strict"]
            out.append({**search, "type": "tool_search", "execution": "client"})
            continue
        namespace, name, custom = split(tool.name)
        wire = _tool(tool, name, custom=custom)
        if namespace is None:
            out.append(wire)
            continue
        if namespace not in groups:
            inner = groups[namespace] = []
            out.append({"type": "namespace", "name": namespace, "description": namespace, "tools": inner})
        groups[namespace].append(wire)
    return out


def _tool(tool: Tool, name: str, *, custom: bool) -> dict[str, Any]:
    """`strict` is said always: absent it means "if the schema allows" here and "no" elsewhere."""
    out: dict[str, Any] = {"type": "custom" if custom else "function", "name": name}
    if tool.description is not None:
        out["description"] = tool.description
    if custom:
        return out
    out["parameters"] = tool.schema if tool.schema is not None else _NO_ARGUMENTS
    out["strict"] = bool(tool.strict)
    return out


def _put_choice(members: dict[str, Any], choice: ToolChoice) -> None:
    if choice.mode == "named":
        namespace, name, custom = split(choice.name or "")
        members["tool_choice"] = {"type": "custom" if custom else "function", "name": name}
        if namespace is not None:
            members["tool_choice"]["namespace"] = namespace
    else:
        members["tool_choice"] = choice.mode
    if choice.parallel is not None:
        members["parallel_tool_calls"] = choice.parallel


def _put_wishes(members: dict[str, Any], ask: Ask) -> None:
    wishes = (
        ("max_output_tokens", ask.max_tokens),
        ("temperature", ask.temperature),
        ("top_p", ask.top_p),
        ("service_tier", ask.service_tier),
        ("user", ask.user),
        ("metadata", ask.metadata),
        ("prompt_cache_key", ask.cache_key),
    )
    members.update({name: value for name, value in wishes if value is not None})
    if ask.logprobs is not None:
        members["include"] = ["message.output_text.logprobs"]
        members["top_logprobs"] = ask.logprobs
    wish = ask.reasoning
    if wish is not None:
        reasoning: dict[str, Any] = {}
        effort = wish.effort
        if effort is None and wish.budget_tokens is not None:
            effort = effort_of(wish.budget_tokens)
        if effort is not None:
            reasoning["effort"] = effort
        if wish.tell and effort != "none":
            reasoning["summary"] = "auto"
        if reasoning:
            members["reasoning"] = reasoning


def _put_text(members: dict[str, Any], ask: Ask) -> None:
    text: dict[str, Any] = {}
    shape = ask.shape
    if shape is not None and shape.kind == "json":
        text["format"] = {"type": "json_object"}
    elif shape is not None:
        text["format"] = {"type": "json_schema", "name": shape.name or "reply", "schema": shape.schema or {}}
        if shape.strict is not None:
            text["format"]["strict"] = shape.strict
        if shape.description is not None:
            text["format"]["description"] = shape.description
    if ask.verbosity is not None:
        text["verbosity"] = ask.verbosity
    if text:
        members["text"] = text


def _tell_losses(ask: Ask, losses: Losses) -> None:
    why = "the Responses API has no such parameter"
    for name in ("seed", "top_k", "presence_penalty", "frequency_penalty"):
        if getattr(ask, name) is not None:
            losses.parameter(name, why)
    if ask.stop:
        losses.parameter("stop", why)
    if ask.n is not None and ask.n > 1:
        losses.content("n", "the Responses API gives one reply")
