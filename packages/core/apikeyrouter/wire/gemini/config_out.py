"""What is asked of Google besides the conversation: `generationConfig`, tools and how they are chosen.

Main entry: `write_config`. Schemas go into `parametersJsonSchema` and `responseJsonSchema`, which take JSON schema as
it is (see `schemas`).
Law: each wish that Google cannot fulfil is told by name.
"""

from __future__ import annotations

from typing import Any

from apikeyrouter.wire.facts import Ask, Tool
from apikeyrouter.wire.gemini.models import generation, thinking_config
from apikeyrouter.wire.losses import Losses

__all__ = ["write_config"]

_STOPS_MAX = 5  # https://ai.google.dev/api/generate-content#generationconfig
_PLAIN = (
    ("max_tokens", "maxOutputTokens"), ("temperature", "temperature"), ("top_p", "topP"), ("top_k", "topK"),
    ("seed", "seed"), ("presence_penalty", "presencePenalty"), ("frequency_penalty", "frequencyPenalty"),
    ("n", "candidateCount"),
)  # fmt: skip
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}
_TIERS = frozenset(("standard", "flex", "priority"))
_TOKENS_MAX = 2**31 - 1  # the member is an int32


def write_config(ask: Ask, body: dict[str, Any], losses: Losses) -> None:
    """Adds to the body what `ask` wishes."""
    config = _generation_config(ask, losses)
    if config:
        body["generationConfig"] = config
    if ask.tools:
        body["tools"] = [{"functionDeclarations": [_declaration(tool, losses) for tool in ask.tools]}]
    if ask.tool_choice is not None:
        _write_choice(ask, body, losses)
    _write_rest(ask, body, losses)


def _generation_config(ask: Ask, losses: Losses) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for ours, theirs in _PLAIN:
        value = getattr(ask, ours)
        if value is not None:
            config[theirs] = value
    if ask.max_tokens is not None and ask.max_tokens > _TOKENS_MAX:
        config["maxOutputTokens"] = _TOKENS_MAX
    if ask.stop:
        if len(ask.stop) > _STOPS_MAX:
            losses.parameter("stop", f"Gemini takes at most {_STOPS_MAX} sequences")
        config["stopSequences"] = ask.stop[:_STOPS_MAX]
    if ask.logprobs is not None:
        config["responseLogprobs"] = True
        if ask.logprobs:
            config["logprobs"] = ask.logprobs
    _write_shape(ask, config, losses)
    if ask.reasoning is not None:
        thinking = thinking_config(ask.reasoning, ask.model)
        if thinking:
            config["thinkingConfig"] = thinking
        elif thinking is None and ask.reasoning.effort != "none" and ask.reasoning.budget_tokens != 0:
            losses.parameter("reasoning", f"{ask.model} does not think")
    return config


def _write_shape(ask: Ask, config: dict[str, Any], losses: Losses) -> None:
    shape = ask.shape
    if shape is None:
        return
    if ask.tools and generation(ask.model) < (3, 0):
        # https://ai.google.dev/gemini-api/docs/structured-output: with tools from Gemini 3 on.
        losses.parameter("response_format", f"{ask.model} gives structured replies only without tools")
        return
    config["responseMimeType"] = "application/json"
    if shape.kind == "schema" and shape.schema is not None:
        config["responseJsonSchema"] = shape.schema


def _declaration(tool: Tool, losses: Losses) -> dict[str, Any]:
    told: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        told["description"] = tool.description
    if tool.schema:
        told["parametersJsonSchema"] = tool.schema
    if tool.strict:
        losses.harmless("strict")
    return told


def _write_choice(ask: Ask, body: dict[str, Any], losses: Losses) -> None:
    choice = ask.tool_choice
    if choice is None:
        return
    if not ask.tools:
        if choice.mode in ("required", "named"):
            losses.content("tool_choice", "there are no tools to choose from")
        return
    calling: dict[str, Any] = {"mode": _MODES[choice.mode]}
    if choice.mode == "named" and choice.name is not None:
        calling["allowedFunctionNames"] = [choice.name]
    body["toolConfig"] = {"functionCallingConfig": calling}


def _write_rest(ask: Ask, body: dict[str, Any], losses: Losses) -> None:
    if ask.service_tier in _TIERS:
        body["serviceTier"] = ask.service_tier
    elif ask.service_tier not in (None, "auto", "default"):
        losses.parameter("service_tier", f"Gemini has no tier {ask.service_tier!r}")
    if ask.verbosity is not None:
        losses.parameter("verbosity", "Gemini cannot be told how wordy to be")
    for name, value in (("user", ask.user), ("metadata", ask.metadata), ("prompt_cache_key", ask.cache_key)):
        if value:
            losses.harmless(name)
