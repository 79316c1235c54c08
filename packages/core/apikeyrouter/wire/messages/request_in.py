"""Requests for messages, read.

Main entry: `read_request`. System blocks become system turns in front; a user turn's tool results become a tool turn of
their own, before what else that turn says. Tools that Anthropic runs itself, and the blocks that they left behind, have
no counterpart elsewhere and are told to `losses` by name.
Source: https://platform.claude.com/docs/en/api/messages (read 2026-11-21).
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.facts import (
    AnswerShape,
    Ask,
    Media,
    Part,
    ReasoningWish,
    Role,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    Turn,
)
from apikeyrouter.wire.losses import Losses, shown
from apikeyrouter.wire.messages.blocks import BlockReader, cache_of, expect

__all__ = ["read_request"]

_TIERS = {"auto": "auto", "standard_only": "default"}
_READ = frozenset({
    "model", "messages", "system", "tools", "tool_choice", "max_tokens", "temperature", "top_p", "top_k",
    "stop_sequences", "stream", "metadata", "thinking", "output_config", "output_format", "service_tier",
    "cache_control",
})  # fmt: skip
_CONTENT = frozenset({"mcp_servers", "container", "fallbacks"})
_HARMLESS = frozenset({"diagnostics", "user_profile_id", "workspace_id", "betas"})
_MODES = {"auto": "auto", "any": "required", "none": "none", "tool": "named"}


def read_request(body: bytes, losses: Losses, *, model: str, stream: bool) -> Ask:
    """The request as neutral values. Raises MalformedError."""
    try:
        members = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as fault:
        raise MalformedError(f"The body is not valid JSON: {fault}") from None
    members = expect(members, dict, None, "an object")
    reader = BlockReader(losses)
    turns = [*_system(members.get("system"), reader), *_messages(members.get("messages"), reader)]
    ask = Ask(model=model, turns=turns, stream=stream)
    ask.max_tokens = _number(members, "max_tokens", int)
    ask.temperature = _number(members, "temperature", float)
    ask.top_p = _number(members, "top_p", float)
    ask.top_k = _number(members, "top_k", int)
    ask.stop = _texts(members.get("stop_sequences"), "stop_sequences")
    ask.tools = _tools(members.get("tools"), losses)
    ask.tool_choice = _tool_choice(members.get("tool_choice"))
    _thinking(ask, members.get("thinking"), losses)
    _output(ask, members, losses)
    _about_the_caller(ask, members, losses)
    _mark_last(turns, members.get("cache_control"))
    for name in members.keys() - _READ:
        _other(name, members[name], losses)
    return ask


def _other(name: str, value: Any, losses: Losses) -> None:
    if value is None or value in ([], {}):
        return
    if name in _HARMLESS:
        losses.harmless(name)
    elif name in _CONTENT:
        losses.content(name, "only Anthropic has it")
    elif not (name == "speed" and value == "standard"):
        losses.parameter(name, "only Anthropic knows it")


def _system(value: Any, reader: BlockReader) -> list[Turn]:
    """One system turn for the system prompt, whatever the number of its blocks."""
    if value is None or value in ("", []):
        return []
    if isinstance(value, str):
        return [Turn(Role.System, [Text(value)])]
    blocks = expect(value, list, "system", "a string or an array of text blocks")
    parts = [part for at, one in enumerate(blocks) for part in reader.text_only(one, f"system[{at}]")]
    return [Turn(Role.System, parts)] if parts else []


def _messages(value: Any, reader: BlockReader) -> list[Turn]:
    messages = expect(value, list, "messages", "an array of messages")
    if not messages:
        raise MalformedError("messages: at least one message is required", param="messages")
    turns: list[Turn] = []
    for at, one in enumerate(messages):
        where = f"messages[{at}]"
        message = expect(one, dict, where, "an object with role and content")
        content = message.get("content")
        match message.get("role"):
            case "user":
                turns += _user_turns(reader.parts(content, f"{where}.content"))
            case "assistant":
                turns.append(Turn(Role.Assistant, reader.parts(content, f"{where}.content")))
            case "system":
                turns.append(Turn(Role.System, _system_parts(content, f"{where}.content", reader)))
            case other:
                raise MalformedError(
                    f"{where}.role: expected 'user', 'assistant' or 'system', got {shown(other)}", param=f"{where}.role"
                )
    return turns


def _system_parts(content: Any, where: str, reader: BlockReader) -> list[Part]:
    if isinstance(content, str):
        return [Text(content)]
    blocks = expect(content, list, where, "a string or an array of text blocks")
    return [part for at, one in enumerate(blocks) for part in reader.text_only(one, f"{where}[{at}]")]


def _user_turns(parts: list[Part]) -> list[Turn]:
    """Tool results in a turn of their own, first: Anthropic demands them at the beginning of the turn anyway."""
    results = [part for part in parts if isinstance(part, ToolResult)]
    if not results:
        return [Turn(Role.User, parts)]
    rest: list[Part] = [part for part in parts if not isinstance(part, ToolResult)]
    return [Turn(Role.Tool, [*results]), *([Turn(Role.User, rest)] if rest else [])]


def _number(members: dict[str, Any], name: str, kind: type) -> Any:
    value = members.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        raise MalformedError(f"{name}: expected {'an integer' if kind is int else 'a number'}", param=name)
    return value


def _or_empty(members: dict[str, Any], name: str) -> Any:
    value = members.get(name)
    return {} if value is None else value


def _texts(value: Any, name: str) -> list[str]:
    found = expect([] if value is None else value, list, name, "an array of strings")
    if not all(isinstance(one, str) for one in found):
        raise MalformedError(f"{name}: expected an array of strings", param=name)
    return list(found)


def _tools(value: Any, losses: Losses) -> list[Tool]:
    tools = []
    for at, one in enumerate(expect([] if value is None else value, list, "tools", "an array of tools")):
        where = f"tools[{at}]"
        tool = expect(one, dict, where, "an object")
        kind = tool.get("type")
        if kind not in (None, "custom"):
            told = kind if isinstance(kind, str) else shown(kind)
            losses.content(where, f"{told} is a tool that only Anthropic's models know")
            continue
        name = expect(tool.get("name"), str, f"{where}.name", "a string")
        schema = expect(tool.get("input_schema"), dict, f"{where}.input_schema", "a JSON schema")
        description = tool.get("description")
        if description is not None:
            expect(description, str, f"{where}.description", "a string")
        if tool.get("input_examples"):
            losses.harmless(f"{where}.input_examples")
        if tool.get("defer_loading"):
            losses.harmless(f"{where}.defer_loading")
        callers = tool.get("allowed_callers")
        if callers not in (None, ["direct"]):
            losses.parameter(f"{where}.allowed_callers", "only Anthropic calls tools from code")
        strict = tool.get("strict") is True or None
        tools.append(Tool(name, description, schema, strict, cache_of(tool)))
    return tools


def _tool_choice(value: Any) -> ToolChoice | None:
    if value is None:
        return None
    choice = expect(value, dict, "tool_choice", "an object")
    mode = _MODES.get(str(choice.get("type")))
    if mode is None:
        raise MalformedError("tool_choice.type: expected 'auto', 'any', 'tool' or 'none'", param="tool_choice.type")
    name = choice.get("name") if mode == "named" else None
    if mode == "named":
        expect(name, str, "tool_choice.name", "the name of a tool")
    parallel = choice.get("disable_parallel_tool_use")
    return ToolChoice(mode, name, None if parallel is None else not parallel)


def _thinking(ask: Ask, value: Any, losses: Losses) -> None:
    if value is None:
        return
    thinking = expect(value, dict, "thinking", "an object")
    tell = None if thinking.get("display") is None else thinking["display"] != "omitted"
    match thinking.get("type"):
        case "enabled":
            budget = _number(thinking, "budget_tokens", int)
            if budget is None:
                raise MalformedError("thinking.budget_tokens: expected an integer", param="thinking.budget_tokens")
            ask.reasoning = ReasoningWish(budget_tokens=budget, tell=True if tell is None else tell)
        case "adaptive":
            ask.reasoning = ReasoningWish(budget_tokens=-1, tell=tell)
        case "disabled":
            ask.reasoning = ReasoningWish(effort="none", budget_tokens=0)
        case str(kind) if kind:
            losses.parameter("thinking", f"'{kind}' is a way to think that only Anthropic's models know")
        case _:
            raise MalformedError("thinking.type: expected 'enabled', 'adaptive' or 'disabled'", param="thinking.type")


def _output(ask: Ask, members: dict[str, Any], losses: Losses) -> None:
    """`output_config` and the older `output_format`."""
    config = expect(_or_empty(members, "output_config"), dict, "output_config", "an object")
    effort = config.get("effort")
    if effort is not None:
        expect(effort, str, "output_config.effort", "a string")
        ask.reasoning = ask.reasoning or ReasoningWish()
        ask.reasoning.effort = ask.reasoning.effort or effort
    shape = config.get("format") or members.get("output_format")
    if shape is not None:
        where = "output_config.format" if config.get("format") else "output_format"
        wanted = expect(shape, dict, where, "an object")
        if wanted.get("type") != "json_schema":
            raise MalformedError(f"{where}.type: expected 'json_schema'", param=f"{where}.type")
        schema = expect(wanted.get("schema"), dict, f"{where}.schema", "a JSON schema")
        ask.shape = AnswerShape("schema", name="answer", schema=schema, strict=True)
    for name in config.keys() - {"effort", "format"}:
        if config[name] is not None:
            losses.parameter(f"output_config.{name}", "only Anthropic knows it")


def _about_the_caller(ask: Ask, members: dict[str, Any], losses: Losses) -> None:
    metadata = expect(_or_empty(members, "metadata"), dict, "metadata", "an object")
    user = metadata.get("user_id")
    if isinstance(user, str):
        ask.user = user
    for name in metadata.keys() - {"user_id"}:
        losses.harmless(f"metadata.{name}")
    tier = members.get("service_tier")
    if tier is not None:
        ask.service_tier = _TIERS.get(expect(tier, str, "service_tier", "a string"), tier)


def _mark_last(turns: list[Turn], mark: Any) -> None:
    """The request's own cache mark stands for one on the last block."""
    if not isinstance(mark, dict):
        return
    for turn in reversed(turns):
        for part in reversed(turn.parts):
            if isinstance(part, Text | Media | ToolResult):
                part.cache = part.cache or mark
                return
