"""Requests written for Bedrock's Converse.

Main entry: `write_request`. What all models share stands in `inferenceConfig`, `toolConfig` and `outputConfig`; what
one maker's models take beside that goes into `additionalModelRequestFields`, in the maker's words (`makers`).
Decisions: a history with calls needs its tools, so tools that it called are declared when the caller declares none;
Converse cannot forbid tools, so with `none` they are left out unless the history has used them. Claude thinks and is
sampled as `messages` says.
Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from apikeyrouter.wire.converse.makers import Model, makers_model
from apikeyrouter.wire.converse.turns_out import TurnWriter, cache_point
from apikeyrouter.wire.effort import effort_of
from apikeyrouter.wire.facts import AnswerShape, Ask, Tool
from apikeyrouter.wire.losses import Losses
from apikeyrouter.wire.messages.models import Claude
from apikeyrouter.wire.messages.request_out import write_sampling
from apikeyrouter.wire.messages.schemas import closed_schema
from apikeyrouter.wire.messages.thinking import write_thinking

__all__ = ["write_request"]

_TIERS = {"priority": "priority", "default": "default", "standard": "default", "standard_only": "default",
          "flex": "flex", "reserved": "reserved"}  # fmt: skip
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_METADATA = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{0,256}")
_METADATA_MAX = 16
_NOVA_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}


def write_request(ask: Ask, losses: Losses) -> bytes:
    """The request's body; what cannot be said is told to `losses`."""
    model = makers_model(ask.model)
    turns = TurnWriter(losses, model)
    system, messages = turns.write(ask.turns)
    out: dict[str, Any] = {"messages": messages}
    if system:
        out["system"] = system
    more: dict[str, Any] = {}
    config: dict[str, Any] = {}
    if ask.max_tokens is not None:
        config["maxTokens"] = ask.max_tokens
    if model.claude is not None:
        _as_claude(ask, model.claude, out, config, more, losses)
    else:
        _sampling(ask, model, config, more, losses)
        _thinking(ask, model, more, losses)
    stops = [one for one in ask.stop if one]
    if stops:
        config["stopSequences"] = stops
        if model.claude is not None:
            out["additionalModelResponseFieldPaths"] = ["/stop_sequence"]
    if config:
        out["inferenceConfig"] = config
    if more:
        out["additionalModelRequestFields"] = more
    _tools(ask, model, turns.called, out, losses)
    if ask.shape is not None:
        _shape(ask.shape, model, out, losses)
    _rest(ask, out, losses)
    return msgspec.json.encode(out)


def _as_claude(
    ask: Ask, model: Claude, out: dict[str, Any], config: dict[str, Any], more: dict[str, Any], losses: Losses
) -> None:
    """Thinking and sampling as Anthropic takes them, each in its place here."""
    told: dict[str, Any] = {"messages": []}
    if model.adaptive or not _mid_call(out["messages"]):
        effort = write_thinking(ask, model, ask.max_tokens or model.output_tokens, told, losses).get("effort")
        if effort is not None:
            out["outputConfig"] = {"effort": effort}
    elif ask.reasoning is not None:
        losses.harmless("reasoning_effort")
    thinking = told.get("thinking")
    if thinking is not None:
        more["thinking"] = thinking
        if thinking.get("type") == "enabled" and "maxTokens" not in config:
            config["maxTokens"] = model.output_tokens  # the budget must be below it
    write_sampling(ask, model, told, losses)
    for name, place in (("temperature", "temperature"), ("top_p", "topP")):
        if name in told:
            config[place] = told[name]
    if "top_k" in told:
        more["top_k"] = told["top_k"]


def _mid_call(messages: list[dict[str, Any]]) -> bool:
    """Whether the last turn of the assistant called tools and its thoughts are not here: models that think by budget
    then refuse to think on."""
    contents = (one["content"] for one in reversed(messages) if one["role"] == "assistant")
    last: list[dict[str, Any]] = next(contents, [])
    return any("toolUse" in one for one in last) and "reasoningContent" not in last[0]


def _sampling(ask: Ask, model: Model, config: dict[str, Any], more: dict[str, Any], losses: Losses) -> None:
    heat = ask.temperature
    if heat is not None and heat > 1:
        losses.parameter("temperature", "Bedrock's goes from 0 to 1")
        heat = 1.0
    if heat is not None:
        config["temperature"] = heat
    if ask.top_p is not None:
        config["topP"] = ask.top_p
    if ask.top_k:
        if model.nova:
            more["inferenceConfig"] = {"topK": ask.top_k}
        else:
            losses.parameter("top_k", "Converse has it for models of Anthropic and for Nova only")


def _thinking(ask: Ask, model: Model, more: dict[str, Any], losses: Losses) -> None:
    wish = ask.reasoning
    if wish is None:
        return
    effort = wish.effort
    if effort is None and wish.budget_tokens is not None:
        effort = effort_of(wish.budget_tokens)
    effort = effort or "medium"
    if model.nova_thinks:
        told = {"type": "disabled"} if effort == "none" else {"type": "enabled"}
        if effort != "none":
            told["maxReasoningEffort"] = _NOVA_EFFORTS.get(effort, "medium")
        more["reasoningConfig"] = told
    elif effort == "none":
        losses.harmless("reasoning_effort")
    elif model.maker == "openai":
        more["reasoning_effort"] = _NOVA_EFFORTS.get(effort, "medium")
    elif model.maker == "qwen":
        more["reasoning_config"] = _NOVA_EFFORTS.get(effort, "medium")
    else:
        losses.parameter("reasoning_effort", f"how much {ask.model} thinks cannot be set through Converse")


def _tools(ask: Ask, model: Model, called: dict[str, None], out: dict[str, Any], losses: Losses) -> None:
    choice = ask.tool_choice
    tools = ask.tools
    if choice is not None and choice.mode == "none" and tools:
        if called:
            losses.parameter("tool_choice", "Converse cannot forbid tools that the conversation has used")
        else:
            tools = []
    if not tools and called:
        losses.harmless("tools")
        tools = [Tool(name, "Not to be used any more.") for name in called]
    if not tools:
        return
    written: list[dict[str, Any]] = []
    for at, one in enumerate(tools):
        written.append({"toolSpec": _tool(at, one, model, losses)})
        if one.cache is not None:
            written.append(cache_point(one.cache))
    config: dict[str, Any] = {"tools": written}
    if choice is not None and ask.tools:
        if choice.mode == "required":
            config["toolChoice"] = {"any": {}}
        elif choice.mode == "named":
            config["toolChoice"] = {"tool": {"name": choice.name}}
    out["toolConfig"] = config


def _tool(at: int, tool: Tool, model: Model, losses: Losses) -> dict[str, Any]:
    if not _TOOL_NAME.fullmatch(tool.name):
        losses.content(f"tools[{at}].name", "Bedrock's tools are named by 1 to 64 letters, digits, '_' and '-'")
    schema = tool.schema or {"type": "object", "properties": {}}
    if "type" not in schema:
        schema = {"type": "object", **schema}
    out: dict[str, Any] = {"name": tool.name}
    if tool.description:
        out["description"] = tool.description
    if tool.strict:
        if model.shapes:
            out["strict"] = True
            schema = closed_schema(schema, f"tools[{at}]", losses) if model.claude is not None else schema
        else:
            losses.parameter(f"tools[{at}].strict", "this model has no strict tools")
    out["inputSchema"] = {"json": schema}
    return out


def _shape(shape: AnswerShape, model: Model, out: dict[str, Any], losses: Losses) -> None:
    if shape.kind != "schema" or shape.schema is None:
        losses.parameter("response_format", "Bedrock has no mode for any JSON object: give a schema")
        return
    if not model.shapes:
        losses.parameter("response_format", "this model has no structured output")
        return
    schema = closed_schema(shape.schema, "response_format", losses) if model.claude is not None else shape.schema
    told = {"schema": msgspec.json.encode(schema).decode()}
    if shape.name:
        told["name"] = shape.name
    if shape.description:
        told["description"] = shape.description
    form = {"type": "json_schema", "structure": {"jsonSchema": told}}
    out.setdefault("outputConfig", {})["textFormat"] = form


def _rest(ask: Ask, out: dict[str, Any], losses: Losses) -> None:
    if ask.service_tier is not None and ask.service_tier != "auto":
        tier = _TIERS.get(ask.service_tier)
        if tier is None:
            losses.parameter("service_tier", f"Bedrock has no tier '{ask.service_tier}'")
        else:
            out["serviceTier"] = {"type": tier}
    if ask.n is not None and ask.n > 1:
        losses.parameter("n", "Bedrock gives one reply a request")
    for name, value, usual in (
        ("seed", ask.seed, None),
        ("presence_penalty", ask.presence_penalty, 0),
        ("frequency_penalty", ask.frequency_penalty, 0),
        ("logprobs", ask.logprobs, None),
        ("verbosity", ask.verbosity, "medium"),
    ):
        if value is not None and value != usual:
            losses.parameter(name, "Converse has no such parameter")
    if ask.metadata:
        told = {key: value for key, value in ask.metadata.items() if isinstance(value, str)}
        fits = len(told) == len(ask.metadata) <= _METADATA_MAX
        if fits and all(key and _METADATA.fullmatch(key) and _METADATA.fullmatch(told[key]) for key in told):
            out["requestMetadata"] = told
        else:
            losses.harmless("metadata")
    if ask.user is not None:
        losses.harmless("user")
    if ask.cache_key is not None:
        losses.harmless("prompt_cache_key")
