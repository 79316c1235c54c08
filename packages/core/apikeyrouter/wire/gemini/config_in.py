"""What a Gemini client asks for besides its conversation: `generationConfig`, tools, and the rest of the body.

Main entry: `read_config`, which takes the members that are left when the contents are read.
Law: each member that no other format has is told by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.facts import AnswerShape, Ask, ReasoningWish, Tool, ToolChoice
from apikeyrouter.wire.gemini.members import fields, flag, listed, number, text, texts, whole
from apikeyrouter.wire.gemini.schemas import json_schema
from apikeyrouter.wire.losses import Losses

__all__ = ["read_config"]

_UNKNOWN = "no other format has it"
_OFF = frozenset(("BLOCK_NONE", "OFF", "HARM_BLOCK_THRESHOLD_UNSPECIFIED"))
_HARMLESS = frozenset(("labels", "store"))
_ELSEWHERE = frozenset(("model", "stream"))  # they stand in the path

_PLAIN: dict[str, tuple[str, Callable[[object, str], Any]]] = {
    "maxOutputTokens": ("max_tokens", whole),
    "temperature": ("temperature", number),
    "topP": ("top_p", number),
    "topK": ("top_k", whole),
    "seed": ("seed", whole),
    "presencePenalty": ("presence_penalty", number),
    "frequencyPenalty": ("frequency_penalty", number),
    "candidateCount": ("n", whole),
    "stopSequences": ("stop", texts),
}
_SHAPED = frozenset(("responseMimeType", "responseSchema", "responseJsonSchema"))


def read_config(request: dict[str, Any], ask: Ask, losses: Losses) -> None:
    """Puts into `ask` what the members of a request (without its contents) say. Raises MalformedError."""
    for name, value in request.items():
        match name:
            case "generationConfig":
                _read_generation(fields(value, name), ask, losses)
            case "tools":
                _read_tools(listed(value, name), ask, losses)
            case "toolConfig":
                pass
            case "safetySettings":
                _read_safety(listed(value, name), losses)
            case "serviceTier":
                ask.service_tier = text(value, name).lower().removeprefix("service_tier_")
            case "cachedContent":
                losses.content(name, "names a prompt that is stored at Google")
            case _ if name in _HARMLESS:
                losses.harmless(name)
            case _ if name not in _ELSEWHERE:
                losses.parameter(name, _UNKNOWN)
    if "toolConfig" in request:
        _read_choice(fields(request["toolConfig"], "toolConfig"), ask, losses)


def _read_generation(config: dict[str, Any], ask: Ask, losses: Losses) -> None:
    for name, value in config.items():
        where = f"generationConfig.{name}"
        plain = _PLAIN.get(name)
        if plain is not None:
            setattr(ask, plain[0], plain[1](value, where))
        elif name == "thinkingConfig":
            ask.reasoning = _wish(fields(value, where), where, losses)
        elif name == "responseLogprobs":
            if flag(value, where):
                ask.logprobs = whole(config.get("logprobs", 0), "generationConfig.logprobs")
        elif name == "responseModalities":
            _check_modalities(value, where, losses)
        elif name not in _SHAPED and name != "logprobs":
            losses.parameter(where, _UNKNOWN)
    ask.shape = _shape(config, losses)


def _check_modalities(value: object, where: str, losses: Losses) -> None:
    if any(one.upper() != "TEXT" for one in texts(value, where)):
        losses.content(where, "replies in other forms than text cannot be translated")


def _wish(config: dict[str, Any], where: str, losses: Losses) -> ReasoningWish:
    wish = ReasoningWish()
    for name, value in config.items():
        match name:
            case "thinkingBudget":
                wish.budget_tokens = whole(value, f"{where}.{name}")
            case "thinkingLevel":
                level = text(value, f"{where}.{name}").lower()
                wish.effort = None if level == "thinking_level_unspecified" else level
            case "includeThoughts":
                wish.tell = flag(value, f"{where}.{name}")
            case _:
                losses.parameter(f"{where}.{name}", _UNKNOWN)
    return wish


def _shape(config: dict[str, Any], losses: Losses) -> AnswerShape | None:
    mime = text(config.get("responseMimeType", ""), "generationConfig.responseMimeType")
    if mime not in ("", "text/plain", "application/json"):
        losses.parameter("generationConfig.responseMimeType", f"{mime} is Google's own")
        return None
    schema = config.get("responseJsonSchema")
    if schema is not None:
        return AnswerShape("schema", schema=_object(schema, "generationConfig.responseJsonSchema"))
    if "responseSchema" in config:
        where = "generationConfig.responseSchema"
        return AnswerShape("schema", schema=json_schema(config["responseSchema"], where))
    return AnswerShape("json") if mime == "application/json" else None


def _read_tools(tools: list[Any], ask: Ask, losses: Losses) -> None:
    read: list[Tool] = []
    for number_, one in enumerate(tools):
        where = f"tools[{number_}]"
        for name, value in fields(one, where).items():
            if name != "functionDeclarations":
                losses.content(f"{where}.{name}", "is a tool that Google runs itself")
                continue
            for place, declared in enumerate(listed(value, f"{where}.{name}")):
                read.append(_tool(declared, f"{where}.{name}[{place}]", losses))
    ask.tools = read


def _tool(value: object, where: str, losses: Losses) -> Tool:
    told = fields(value, where)
    tool = Tool(text(told.get("name"), f"{where}.name"))
    for name, given in told.items():
        match name:
            case "name":
                pass
            case "description":
                tool.description = text(given, f"{where}.description")
            case "parametersJsonSchema":
                tool.schema = _object(given, f"{where}.{name}")
            case "parameters":
                tool.schema = tool.schema or json_schema(given, f"{where}.{name}")
            case "response" | "responseJsonSchema":
                losses.harmless(f"{where}.{name}")
            case _:
                losses.parameter(f"{where}.{name}", _UNKNOWN)
    return tool


def _read_choice(config: dict[str, Any], ask: Ask, losses: Losses) -> None:
    for name in config:
        if name != "functionCallingConfig":
            losses.parameter(f"toolConfig.{name}", _UNKNOWN)
    where = "toolConfig.functionCallingConfig"
    calling = fields(config.get("functionCallingConfig", {}), where)
    mode = text(calling.pop("mode", "AUTO"), f"{where}.mode").upper()
    allowed = texts(calling.pop("allowedFunctionNames", []), f"{where}.allowedFunctionNames")
    for name in calling:
        losses.parameter(f"{where}.{name}", _UNKNOWN)
    match mode:
        case "AUTO" | "VALIDATED" | "MODE_UNSPECIFIED":
            ask.tool_choice = ToolChoice("auto") if "functionCallingConfig" in config else None
        case "NONE":
            ask.tool_choice = ToolChoice("none")
        case "ANY" if len(allowed) == 1:
            ask.tool_choice = ToolChoice("named", allowed[0])
        case "ANY":
            ask.tool_choice = ToolChoice("required")
        case _:
            raise MalformedError(f"'{where}.mode' must be AUTO, ANY, VALIDATED or NONE", param=f"{where}.mode")
    if allowed and mode != "NONE" and (mode != "ANY" or len(allowed) > 1):
        # No other format can forbid some of the tools: those that may not be called are not offered at all.
        ask.tools = [tool for tool in ask.tools if tool.name in allowed]


def _read_safety(settings: list[Any], losses: Losses) -> None:
    """Filters that are off are what other providers have anyway."""
    for place, one in enumerate(settings):
        if fields(one, f"safetySettings[{place}]").get("threshold") not in _OFF:
            losses.parameter("safetySettings", "other providers have no such filters")
            return
    losses.harmless("safetySettings")


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedError(f"{where!r} must be an object", param=where)
    return value
