"""Requests written for Anthropic.

Main entry: `write_request`. Decisions, where the format differs from others:
- `max_tokens` is required: without one the model's maximum is written (`models`), else 4,096.
- Structured output is native (`output_config.format`, models from 4.5 on); "any JSON object" and older models are
  refused by name, since a forced tool would look like a reply of another kind.
- How much to think: see `thinking`. Sampling: models from 4.7 on take none; a temperature above 1 becomes 1, told.
Sources: https://platform.claude.com/docs/en/api/messages, /en/api/openai-sdk (what does not exist there),
/en/build-with-claude/structured-outputs, /en/about-claude/models/migration-guide (all read 2026-11-21).
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.wire.facts import AnswerShape, Ask, Tool
from apikeyrouter.wire.losses import Losses
from apikeyrouter.wire.messages.models import Claude, claude
from apikeyrouter.wire.messages.schemas import closed_schema
from apikeyrouter.wire.messages.thinking import write_thinking
from apikeyrouter.wire.messages.turns_out import TurnWriter

__all__ = ["write_request", "write_sampling"]

_MODES = {"auto": "auto", "required": "any", "none": "none", "named": "tool"}
_TIERS = {
    "auto": "auto", "priority": "auto", "default": "standard_only", "standard": "standard_only",
    "standard_only": "standard_only",
}  # fmt: skip
_LEAST_TOP_P_WHEN_THINKING = 0.95


def write_request(ask: Ask, losses: Losses) -> bytes:
    """The request's body; what cannot be said is told to `losses`."""
    model = claude(ask.model)
    system, messages = TurnWriter(losses, system_turns=model.system_turns).write(ask.turns)
    max_tokens = ask.max_tokens if ask.max_tokens is not None else model.output_tokens
    out: dict[str, Any] = {"model": ask.model, "max_tokens": max_tokens}
    if system:
        out["system"] = system
    out["messages"] = messages
    if ask.tools:
        out["tools"] = [_tool(at, one, model, losses) for at, one in enumerate(ask.tools)]
    choice = _tool_choice(ask)
    if choice is not None:
        out["tool_choice"] = choice
    config = write_thinking(ask, model, max_tokens, out, losses)
    if ask.shape is not None:
        wanted = _shape(ask.shape, model, losses)
        if wanted is not None:
            config["format"] = wanted
    if config:
        out["output_config"] = config
    write_sampling(ask, model, out, losses)
    _stops(ask, out, losses)
    _rest(ask, out, losses)
    if ask.stream:
        out["stream"] = True
    return msgspec.json.encode(out)


def _tool(at: int, tool: Tool, model: Claude, losses: Losses) -> dict[str, Any]:
    out: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        out["description"] = tool.description
    schema = tool.schema or {"type": "object", "properties": {}}
    if "type" not in schema:
        schema = {"type": "object", **schema}
    if tool.strict:
        if model.shapes:
            out["strict"] = True
            schema = closed_schema(schema, f"tools[{at}]", losses)
        else:
            losses.parameter(f"tools[{at}].strict", "models before Claude 4.5 have no strict tools")
    out["input_schema"] = schema
    if tool.cache is not None:
        out["cache_control"] = tool.cache
    return out


def _tool_choice(ask: Ask) -> dict[str, Any] | None:
    choice = ask.tool_choice
    if choice is None or not ask.tools:
        return None
    out: dict[str, Any] = {"type": _MODES.get(choice.mode, "auto")}
    if choice.mode == "named":
        out["name"] = choice.name
    if choice.parallel is not None and choice.mode != "none":
        out["disable_parallel_tool_use"] = not choice.parallel
    return out


def _shape(shape: AnswerShape, model: Claude, losses: Losses) -> dict[str, Any] | None:
    if shape.kind != "schema" or shape.schema is None:
        losses.parameter("response_format", "Anthropic has no mode for any JSON object: give a schema")
        return None
    if not model.shapes:
        losses.parameter("response_format", "models before Claude 4.5 have no structured output")
        return None
    return {"type": "json_schema", "schema": closed_schema(shape.schema, "response_format", losses)}


def write_sampling(ask: Ask, model: Claude, out: dict[str, Any], losses: Losses) -> None:
    """Temperature, top_p and top_k. One that says what the model does anyway is left out without a word."""
    if not model.samples:
        for name, value, usual in (
            ("temperature", ask.temperature, 1),
            ("top_p", ask.top_p, 1),
            ("top_k", ask.top_k, 0),
        ):
            if value is not None and value != usual:
                losses.parameter(name, f"{ask.model} takes no sampling parameters")
        return
    thinks = out.get("thinking", {}).get("type") in ("enabled", "adaptive")
    heat, top_p, top_k = ask.temperature, ask.top_p, ask.top_k
    if heat is not None and heat > 1:
        losses.parameter("temperature", "Anthropic's goes from 0 to 1")
        heat = 1.0
    if thinks and heat is not None and heat != 1:
        losses.parameter("temperature", "only 1 is allowed while the model thinks")
        heat = None
    if thinks and top_p is not None and top_p < _LEAST_TOP_P_WHEN_THINKING:
        losses.parameter("top_p", "must be at least 0.95 while the model thinks")
        top_p = None
    if thinks and top_k is not None:
        losses.parameter("top_k", "not allowed while the model thinks")
        top_k = None
    if model.samples_one and heat is not None and top_p is not None:
        if top_p != 1 and heat != 1:
            losses.parameter("top_p", f"{ask.model} does not take it together with temperature")
        heat, top_p = (None, top_p) if heat == 1 and top_p != 1 else (heat, None)
    told = {"temperature": heat, "top_p": top_p, "top_k": top_k}
    out.update({name: value for name, value in told.items() if value is not None})


def _stops(ask: Ask, out: dict[str, Any], losses: Losses) -> None:
    stops = [one for one in ask.stop if one.strip()]
    if len(stops) < len(ask.stop):
        losses.parameter("stop", "Anthropic's stop sequences must not be white space alone")
    if stops:
        out["stop_sequences"] = stops


def _rest(ask: Ask, out: dict[str, Any], losses: Losses) -> None:
    if ask.user is not None:
        out["metadata"] = {"user_id": ask.user}
    if ask.service_tier is not None:
        tier = _TIERS.get(ask.service_tier)
        if tier is None:
            losses.parameter("service_tier", f"Anthropic has no tier '{ask.service_tier}'")
        else:
            out["service_tier"] = tier
    if ask.n is not None and ask.n > 1:
        losses.parameter("n", "Anthropic gives one reply a request")
    why = "Anthropic has no such parameter"
    for name, value, usual in (
        ("seed", ask.seed, None),
        ("presence_penalty", ask.presence_penalty, 0),
        ("frequency_penalty", ask.frequency_penalty, 0),
        ("logprobs", ask.logprobs, None),
        ("verbosity", ask.verbosity, "medium"),
    ):
        if value is not None and value != usual:
            losses.parameter(name, why)
    if ask.metadata:
        losses.harmless("metadata")
    if ask.cache_key is not None:
        losses.harmless("prompt_cache_key")
