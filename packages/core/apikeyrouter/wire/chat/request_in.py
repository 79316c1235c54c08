"""Requests of chat completions, read.

Main entry: `read_request`. Besides OpenAI's parameters it knows how OpenRouter, DeepSeek, Z.ai and vLLM spell wishes
that others have too (`reasoning`, `thinking`, `top_k`).
Laws: a member without effect (null, an empty list, `store: false`) is no loss; everything else that `Ask` cannot hold
is reported by its name.
Source: https://platform.openai.com/docs/api-reference/chat/create (read 2026-11).
"""

from __future__ import annotations

from typing import Any

from apikeyrouter.wire.chat.members import (
    decoded_object,
    object_of,
    take_bool,
    take_int,
    take_list,
    take_number,
    take_object,
    take_text,
)  # fmt: skip
from apikeyrouter.wire.chat.turns_in import read_messages
from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.facts import AnswerShape, Ask, ReasoningWish, Tool, ToolChoice
from apikeyrouter.wire.losses import Losses, shown

__all__ = ["read_request"]

_WITHOUT_EFFECT = ("prompt_cache_retention", "prompt_cache_options", "store", "prediction", "reasoning_split")
"""Where to keep things, and how fast: no reply changes by them."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "modalities": (["text"],),
    "min_p": (0,),
    "repetition_penalty": (1,),
    "best_of": (1,),
    "echo": (False,),
}


def read_request(body: bytes, losses: Losses, *, model: str, stream: bool) -> Ask:
    """See `Codec.read_request`."""
    members = decoded_object(body)
    messages = take_list(members, "messages")
    if not messages:
        raise MalformedError("messages: expected a list with at least one message.", param="messages")
    for name in ("model", "stream"):
        members.pop(name, None)
    ask = Ask(model, read_messages(messages, losses), stream=stream)
    _read_numbers(members, ask)
    options = take_object(members, "stream_options") or {}
    ask.want_usage = options.get("include_usage") is True
    ask.stop = _read_stop(members)
    ask.shape = _read_shape(members)
    ask.reasoning = _read_reasoning(members)
    _read_tools(members, ask, losses)
    ask.verbosity = take_text(members, "verbosity")
    ask.service_tier = take_text(members, "service_tier")
    safety_id = take_text(members, "safety_identifier")
    ask.user = take_text(members, "user") or safety_id
    ask.metadata = take_object(members, "metadata")
    ask.cache_key = take_text(members, "prompt_cache_key")
    _report(members, losses)
    return ask


def _read_numbers(members: dict[str, Any], ask: Ask) -> None:
    new, old = take_int(members, "max_completion_tokens"), take_int(members, "max_tokens")
    ask.max_tokens = new if new is not None else old
    ask.temperature = take_number(members, "temperature")
    ask.top_p = take_number(members, "top_p")
    ask.top_k = take_int(members, "top_k")
    ask.seed = take_int(members, "seed")
    ask.presence_penalty = take_number(members, "presence_penalty")
    ask.frequency_penalty = take_number(members, "frequency_penalty")
    ask.n = take_int(members, "n")
    wanted, top = members.pop("logprobs", None), take_int(members, "top_logprobs")
    if wanted is not None and not isinstance(wanted, bool):
        raise MalformedError("logprobs: expected true or false.", param="logprobs")
    if wanted:
        ask.logprobs = top or 0


def _read_stop(members: dict[str, Any]) -> list[str]:
    stop = members.pop("stop", None)
    if stop is None:
        return []
    if isinstance(stop, str):
        return [stop]
    if isinstance(stop, list) and all(isinstance(one, str) for one in stop):
        return stop
    raise MalformedError("stop: expected a string or a list of strings.", param="stop")


def _read_shape(members: dict[str, Any]) -> AnswerShape | None:
    wanted = take_object(members, "response_format")
    kind = wanted.get("type") if wanted else None
    if wanted is None or kind == "text":
        return None
    if kind == "json_object":
        return AnswerShape("json")
    if kind != "json_schema":
        raise MalformedError(f"response_format.type: {shown(kind)} is not known.", param="response_format.type")
    path = "response_format.json_schema"
    told = object_of(wanted.get("json_schema"), path)
    return AnswerShape(
        "schema",
        take_text(told, "name", path + "."),
        take_object(told, "schema", path + "."),
        take_bool(told, "strict", path + "."),
        take_text(told, "description", path + "."),
    )


def _read_reasoning(members: dict[str, Any]) -> ReasoningWish | None:
    effort = take_text(members, "reasoning_effort")
    wish = ReasoningWish(effort)
    own = take_object(members, "reasoning")  # OpenRouter
    if own is not None:
        wish.effort = wish.effort or take_text(own, "effort", "reasoning.")
        wish.budget_tokens = take_int(own, "max_tokens", "reasoning.")
        if take_bool(own, "enabled", "reasoning.") is False:
            wish.budget_tokens = 0
        hidden = take_bool(own, "exclude", "reasoning.")
        wish.tell = None if hidden is None else not hidden
    switch = take_object(members, "thinking")  # DeepSeek, Z.ai, Moonshot
    if switch is not None:
        wish.budget_tokens = take_int(switch, "budget_tokens", "thinking.")
        if switch.get("type") == "disabled":
            wish.budget_tokens = 0
        elif wish.budget_tokens is None and switch.get("type") is not None:
            wish.budget_tokens = -1
    told = take_bool(members, "include_reasoning")  # OpenRouter, Groq
    wish.tell = told if told is not None else wish.tell
    form = take_text(members, "reasoning_format")  # Groq
    if form is not None and wish.tell is None:
        wish.tell = form != "hidden"
    said = wish.effort is not None or wish.budget_tokens is not None or wish.tell is not None
    return wish if said else None


def _read_tools(members: dict[str, Any], ask: Ask, losses: Losses) -> None:
    tools: list[Tool] = []
    for number, one in enumerate(take_list(members, "tools") or []):
        tool = _read_tool(one, f"tools[{number}]", losses)
        if tool is not None:
            tools.append(tool)
    for number, one in enumerate(take_list(members, "functions") or []):
        tools.append(_read_function(object_of(one, f"functions[{number}]"), f"functions[{number}]"))
    ask.tools = tools
    choice = members.pop("tool_choice", None)
    if choice is None:
        choice = members.pop("function_call", None)
    parallel = take_bool(members, "parallel_tool_calls")
    ask.tool_choice = _read_choice(choice, ask, losses)
    if parallel is not None:
        ask.tool_choice = ask.tool_choice or ToolChoice()
        ask.tool_choice.parallel = parallel


def _read_tool(one: object, path: str, losses: Losses) -> Tool | None:
    members = object_of(one, path)
    kind = members.get("type") or "function"
    if kind != "function":
        losses.content(path, f"tools of type {shown(kind)} exist in their own format alone")
        return None
    function = object_of(members.get("function"), path + ".function")
    tool = _read_function(function, path + ".function")
    tool.cache = take_object(members, "cache_control", path + ".") or tool.cache
    return tool


def _read_function(function: dict[str, Any], path: str) -> Tool:
    name = take_text(function, "name", path + ".")
    if not name:
        raise MalformedError(f"{path}.name: missing.", param=path + ".name")
    return Tool(
        name,
        take_text(function, "description", path + "."),
        take_object(function, "parameters", path + "."),
        take_bool(function, "strict", path + "."),
        take_object(function, "cache_control", path + "."),
    )


def _read_choice(choice: object, ask: Ask, losses: Losses) -> ToolChoice | None:
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice in ("auto", "none", "required"):
            return ToolChoice(choice)
        if choice == "any":  # Mistral
            return ToolChoice("required")
        raise MalformedError(f"tool_choice: {shown(choice)} is not known.", param="tool_choice")
    members = object_of(choice, "tool_choice")
    if members.get("type") == "allowed_tools":
        return _read_allowed(object_of(members.get("allowed_tools", members), "tool_choice.allowed_tools"), ask)
    named = members.get("function", members)
    name = named.get("name") if isinstance(named, dict) else None
    if members.get("type") not in (None, "function") or not isinstance(name, str):
        losses.content("tool_choice", "only functions can be chosen elsewhere")
        return None
    return ToolChoice("named", name)


def _read_allowed(allowed: dict[str, Any], ask: Ask) -> ToolChoice:
    """Some tools of all: the others are left out, which allows the same calls."""
    names = set()
    for one in take_list(allowed, "tools", "tool_choice.allowed_tools.") or []:
        function = one.get("function", one) if isinstance(one, dict) else None
        if isinstance(function, dict):
            names.add(str(function.get("name")))
    ask.tools = [tool for tool in ask.tools if tool.name in names]
    return ToolChoice("required" if allowed.get("mode") == "required" else "auto")


def _report(members: dict[str, Any], losses: Losses) -> None:
    for name in _WITHOUT_EFFECT:
        if members.pop(name, None):
            losses.harmless(name)
    for name in ("audio", "web_search_options"):
        if members.pop(name, None) is not None:
            losses.content(name, "no other format has this; the reply would be another")
    for name, value in members.items():
        if value is None or value in ([], {}, "") or value in _NEUTRAL.get(name, ()):
            continue
        if name == "modalities":
            losses.content(name, "other formats answer in text")
        else:
            losses.parameter(name, "no other format has this parameter")
