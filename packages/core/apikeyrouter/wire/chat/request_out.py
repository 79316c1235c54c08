"""Requests, written as chat completions.

Main entry: `write_request`. Members that some servers refuse are written only for models whose servers take them
(`families.py`); what the format cannot say is reported.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.domain.cost.fit import cap_member
from apikeyrouter.wire.chat import families
from apikeyrouter.wire.chat.turns_out import write_messages
from apikeyrouter.wire.facts import AnswerShape, Ask, Tool, ToolChoice
from apikeyrouter.wire.losses import Losses

__all__ = ["write_request"]

_USER_MAX_CHARACTERS = 64
"""OpenAI refuses longer names of end users (API reference, `safety_identifier`, read 2026-11)."""

_TIERS = {"standard_only": "default", "standard": "default"}
_KNOWN_TIERS = ("auto", "default", "flex", "priority", "scale", "fast", "on_demand", "performance")
_encode = msgspec.json.Encoder().encode
_NO_ARGUMENTS = {"type": "object", "properties": {}}


def write_request(ask: Ask, losses: Losses) -> bytes:
    """See `Codec.write_request`."""
    body: dict[str, Any] = {"model": ask.model, "messages": write_messages(ask.turns, ask.model, losses)}
    if ask.tools:
        body["tools"] = [_tool(tool) for tool in ask.tools]
    if ask.tool_choice is not None:
        _write_choice(body, ask.tool_choice, has_tools=bool(ask.tools))
    if ask.max_tokens is not None:
        body[cap_member(ask.model)] = ask.max_tokens
    _write_sampling(body, ask, losses)
    if ask.shape is not None:
        body["response_format"] = _shape(ask.shape)
    _write_reasoning(body, ask, losses)
    _write_rest(body, ask, losses)
    if ask.stream:
        body["stream"] = True
        if ask.want_usage:
            body["stream_options"] = {"include_usage": True}
    return _encode(body)


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.schema if tool.schema is not None else _NO_ARGUMENTS
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _write_choice(body: dict[str, Any], choice: ToolChoice, *, has_tools: bool) -> None:
    if not has_tools:  # servers refuse a choice among nothing
        return
    if choice.mode == "named":
        body["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    else:
        body["tool_choice"] = choice.mode
    if choice.parallel is not None:
        body["parallel_tool_calls"] = choice.parallel


def _write_sampling(body: dict[str, Any], ask: Ask, losses: Losses) -> None:
    for name in ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "n"):
        value = getattr(ask, name)
        if value is not None:
            body[name] = value
    if ask.stop:
        body["stop"] = ask.stop
    if ask.top_k is not None:
        losses.parameter("top_k", "chat completions have no such parameter")
    if ask.logprobs is not None:
        body["logprobs"] = True
        if ask.logprobs:
            body["top_logprobs"] = ask.logprobs


def _shape(shape: AnswerShape) -> dict[str, Any]:
    if shape.kind == "json":
        return {"type": "json_object"}
    told: dict[str, Any] = {"name": shape.name or "answer"}
    if shape.description is not None:
        told["description"] = shape.description
    if shape.schema is not None:
        told["schema"] = shape.schema
    if shape.strict is not None:
        told["strict"] = shape.strict
    return {"type": "json_schema", "json_schema": told}


def _write_reasoning(body: dict[str, Any], ask: Ask, losses: Losses) -> None:
    wish = ask.reasoning
    if wish is None:
        return
    word = families.effort_word(ask.model, wish)
    if word is not None:
        body["reasoning_effort"] = word
    elif wish.effort is not None or (wish.budget_tokens is not None and wish.budget_tokens >= 0):
        losses.harmless("reasoning")


def _write_rest(body: dict[str, Any], ask: Ask, losses: Losses) -> None:
    if ask.verbosity is not None:
        body["verbosity"] = ask.verbosity
    if ask.service_tier is not None:
        tier = _TIERS.get(ask.service_tier, ask.service_tier)
        if tier in _KNOWN_TIERS:
            body["service_tier"] = tier
        else:
            losses.parameter("service_tier", f"chat completions have no tier {ask.service_tier!r}")
    if ask.user is not None:
        if len(ask.user) <= _USER_MAX_CHARACTERS:
            body["user"] = ask.user
        else:
            losses.harmless("user")
    if ask.cache_key is not None:
        if families.is_openai(ask.model):
            body["prompt_cache_key"] = ask.cache_key
        else:
            losses.harmless("prompt_cache_key")
    if ask.metadata:  # OpenAI takes it only with `store`, others not at all
        losses.harmless("metadata")
