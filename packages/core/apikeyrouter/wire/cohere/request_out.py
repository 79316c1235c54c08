"""Requests written for Cohere's chat.

Main entry: `write_request`. Decisions: a certain tool is demanded by giving that one alone and demanding any; `p` and
`k` are kept within the bounds that Cohere has; how much to think is a budget, and none for "high" and more.
Source: https://docs.cohere.com/reference/chat (`p` 0.01 to 0.99, `k` 0 to 500, penalties 0 to 1, five stop sequences,
`response_format` with neither tools nor documents, `strict_tools` for all tools at once).
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.wire.cohere.turns_out import TurnWriter
from apikeyrouter.wire.effort import BUDGETS
from apikeyrouter.wire.facts import Ask, Tool, ToolChoice
from apikeyrouter.wire.losses import Losses

__all__ = ["write_request"]

_STOPS_MAX = 5
_TOP_K_MAX = 500
_TOP_P = (0.01, 0.99)
_BOUNDED = ("minimal", "low", "medium")
_NO_ARGUMENTS = {"type": "object", "properties": {}}


def write_request(ask: Ask, losses: Losses) -> bytes:
    """The request's body; what cannot be said is told to `losses`."""
    reasons = "reasoning" in ask.model
    turns = TurnWriter(losses, reasons=reasons)
    out: dict[str, Any] = {"model": ask.model, "messages": turns.write(ask.turns)}
    if turns.documents:
        out["documents"] = turns.documents
    _tools(ask.tools, ask.tool_choice, out, losses)
    if ask.max_tokens is not None:
        out["max_tokens"] = ask.max_tokens
    _sampling(ask, out, losses)
    _shape(ask, out, losses)
    _thinking(ask, out, losses, reasons=reasons)
    _rest(ask, losses)
    if ask.stream:
        out["stream"] = True
    return msgspec.json.encode(out)


def _tools(tools: list[Tool], choice: ToolChoice | None, out: dict[str, Any], losses: Losses) -> None:
    if not tools:
        return
    mode = choice.mode if choice is not None else "auto"
    if choice is not None and mode == "named":
        tools = [tool for tool in tools if tool.name == choice.name] or tools
    out["tools"] = [_tool(tool) for tool in tools]
    if mode in ("required", "named"):
        out["tool_choice"] = "REQUIRED"
    elif mode == "none":
        out["tool_choice"] = "NONE"
    strict = [tool for tool in tools if tool.strict]
    if strict and len(strict) == len(tools):
        out["strict_tools"] = True
    elif strict:
        losses.parameter("tools.strict", "Cohere's tools are strict all together or not at all")


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = tool.schema or _NO_ARGUMENTS
    return {"type": "function", "function": function}


def _sampling(ask: Ask, out: dict[str, Any], losses: Losses) -> None:
    if ask.temperature is not None:
        out["temperature"] = ask.temperature
    if ask.top_p is not None:
        out["p"] = min(max(ask.top_p, _TOP_P[0]), _TOP_P[1])
    if ask.top_k is not None:
        out["k"] = min(ask.top_k, _TOP_K_MAX)
    if ask.seed is not None:
        out["seed"] = ask.seed
    for name in ("presence_penalty", "frequency_penalty"):
        value = getattr(ask, name)
        if value is not None and not 0 <= value <= 1:
            losses.parameter(name, "Cohere's goes from 0 to 1")
        elif value:
            out[name] = value
    stops = [one for one in ask.stop if one]
    if len(stops) > _STOPS_MAX:
        losses.parameter("stop", f"Cohere takes {_STOPS_MAX} sequences at the most")
        stops = stops[:_STOPS_MAX]
    if stops:
        out["stop_sequences"] = stops


def _shape(ask: Ask, out: dict[str, Any], losses: Losses) -> None:
    if ask.shape is None:
        return
    if "tools" in out or "documents" in out:
        losses.parameter("response_format", "Cohere takes it with neither tools nor documents")
        return
    out["response_format"] = {"type": "json_object"}
    if ask.shape.schema is not None:
        out["response_format"]["json_schema"] = ask.shape.schema


def _thinking(ask: Ask, out: dict[str, Any], losses: Losses, *, reasons: bool) -> None:
    wish = ask.reasoning
    if wish is None or (wish.effort is None and wish.budget_tokens is None):
        return
    budget = wish.budget_tokens
    if budget is None and wish.effort is not None:
        budget = 0 if wish.effort == "none" else BUDGETS[wish.effort] if wish.effort in _BOUNDED else -1
    if not reasons:
        if budget != 0:
            losses.harmless("reasoning_effort")
    elif budget == 0:
        out["thinking"] = {"type": "disabled"}
    else:
        out["thinking"] = {"type": "enabled", **({"token_budget": budget} if budget is not None and budget > 0 else {})}


def _rest(ask: Ask, losses: Losses) -> None:
    wishes: tuple[tuple[str, object, object], ...] = (
        ("n", ask.n, 1),
        ("logprobs", ask.logprobs, None),
        ("verbosity", ask.verbosity, "medium"),
    )
    for name, wish, usual in wishes:
        if wish is not None and wish != usual:
            losses.parameter(name, "Cohere's chat has no such parameter")
    if ask.service_tier not in (None, "auto", "default", "standard", "standard_only"):
        losses.parameter("service_tier", "Cohere has no tiers")
    for name, told in (("metadata", ask.metadata), ("user", ask.user), ("prompt_cache_key", ask.cache_key)):
        if told:
            losses.harmless(name)
