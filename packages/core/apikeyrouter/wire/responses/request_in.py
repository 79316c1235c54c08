"""A client's request, read into an `Ask`.

Main entry: `read_request`. Each member has one line in `_MEMBERS`; a member without one is told to `losses` by name.
What lives in one account (`previous_response_id`, `conversation`, `prompt`) or needs OpenAI's own machinery
(`background`) cannot be carried elsewhere and is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from apikeyrouter.wire.codec import MalformedError
from apikeyrouter.wire.facts import AnswerShape, Ask, ReasoningWish, Role, Turn
from apikeyrouter.wire.losses import Losses, shown
from apikeyrouter.wire.responses.fields import fault, integer, listed, mapping, number, text, text_or_none, truth
from apikeyrouter.wire.responses.items_in import ItemsReader
from apikeyrouter.wire.responses.parts_in import read_content
from apikeyrouter.wire.responses.tools_in import ToolsReader

__all__ = ["read_request"]

_Member = Callable[[Ask, Any, Losses], None]

_STATE = ("previous_response_id", "conversation", "prompt")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LOGPROBS = "message.output_text.logprobs"


def read_request(body: bytes, losses: Losses, *, model: str, stream: bool) -> Ask:
    """See `Codec.read_request`."""
    members = _decoded(body)
    items, tools = ItemsReader(losses), ToolsReader(losses)
    given = members.get("input")
    if given is not None:
        items.read(given)
    elif not any(members.get(name) is not None for name in _STATE):
        raise MalformedError("Missing required parameter: 'input'.", param="input")
    turns = _instructions(members.get("instructions"), losses) + items.turns
    defined = members.get("tools")
    if defined is not None:
        for at, one in enumerate(listed(defined, "tools")):
            tools.read(one, f"tools[{at}]")
    for path, one in items.tools:
        tools.read(one, path)
    choice = tools.choice(members.get("tool_choice"), members.get("parallel_tool_calls"))
    ask = Ask(model, turns, tools.tools, choice, stream=stream)
    for name, value in members.items():
        if value is None:
            continue
        read = _MEMBERS.get(name)
        if read is None:
            losses.parameter(_shown(name), "we know no such member of the Responses API")
        else:
            read(ask, value, losses)
    return ask


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"The request body is not valid JSON: {error}") from None
    if not isinstance(decoded, dict):
        raise MalformedError("The request body must be a JSON object.")
    return decoded


def _shown(name: str) -> str:
    """A member's name as it may stand in messages and headers: it came from outside."""
    return name if _NAME.fullmatch(name) else "(unknown)"


def _instructions(value: object, losses: Losses) -> list[Turn]:
    if value is None:
        return []
    if isinstance(value, list):
        reader = ItemsReader(losses)
        reader.read(value)
        return reader.turns
    return [Turn(Role.System, read_content(value, "instructions", losses))]


def _nothing(_ask: Ask, _value: Any, _losses: Losses) -> None:
    """Read elsewhere, or without meaning for the reply."""


def _state(name: str, why: str) -> _Member:
    def read(_ask: Ask, _value: Any, losses: Losses) -> None:
        losses.content(name, why)

    return read


def _wish(name: str, why: str) -> _Member:
    def read(_ask: Ask, _value: Any, losses: Losses) -> None:
        losses.parameter(name, why)

    return read


def _hint(name: str) -> _Member:
    def read(_ask: Ask, _value: Any, losses: Losses) -> None:
        losses.harmless(name)

    return read


def _whole(name: str, field: str) -> _Member:
    def read(ask: Ask, value: Any, _losses: Losses) -> None:
        setattr(ask, field, integer(value, name))

    return read


def _real(name: str) -> _Member:
    def read(ask: Ask, value: Any, _losses: Losses) -> None:
        setattr(ask, name, number(value, name))

    return read


def _word(name: str, field: str) -> _Member:
    def read(ask: Ask, value: Any, _losses: Losses) -> None:
        if not isinstance(value, str):
            raise fault(name, "a string", value)
        setattr(ask, field, value)

    return read


def _background(_ask: Ask, value: Any, losses: Losses) -> None:
    if truth(value, "background"):
        losses.content("background", "only OpenAI keeps working on a response that nobody waits for")


def _store(_ask: Ask, value: Any, losses: Losses) -> None:
    if truth(value, "store"):
        losses.harmless("store")


def _truncation(_ask: Ask, value: Any, losses: Losses) -> None:
    if value != "disabled":
        losses.parameter("truncation", "no other provider shortens the input by itself")


def _metadata(ask: Ask, value: Any, _losses: Losses) -> None:
    ask.metadata = mapping(value, "metadata") or None


def _include(ask: Ask, value: Any, losses: Losses) -> None:
    for one in listed(value, "include"):
        if one == _LOGPROBS:
            ask.logprobs = ask.logprobs or 0
        else:
            losses.harmless("include")


def _top_logprobs(ask: Ask, value: Any, _losses: Losses) -> None:
    wanted = integer(value, "top_logprobs")
    if wanted or ask.logprobs is not None:
        ask.logprobs = wanted


def _person(ask: Ask, value: Any, losses: Losses) -> None:
    if ask.user is None:
        _word("safety_identifier", "user")(ask, value, losses)


def _reasoning(ask: Ask, value: Any, losses: Losses) -> None:
    members = mapping(value, "reasoning")
    summary = members.get("summary") or members.get("generate_summary")
    effort = text_or_none(members, "effort", "reasoning")
    if effort is not None or summary is not None:
        ask.reasoning = ReasoningWish(effort, tell=True if summary else None)
    for name, one in members.items():
        if one is not None and name not in ("effort", "summary", "generate_summary"):
            losses.harmless(f"reasoning.{_shown(name)}")


def _text(ask: Ask, value: Any, losses: Losses) -> None:
    members = mapping(value, "text")
    ask.verbosity = text_or_none(members, "verbosity", "text")
    if members.get("format") is not None:
        ask.shape = _shape(mapping(members["format"], "text.format"))
    for name in members:
        if name not in ("verbosity", "format"):
            losses.parameter(f"text.{_shown(name)}", "we know no such member of the Responses API")


def _shape(members: dict[str, Any]) -> AnswerShape | None:
    kind = text(members, "type", "text.format")
    match kind:
        case "text":
            return None
        case "json_object":
            return AnswerShape("json")
        case "json_schema":
            strict = members.get("strict")
            return AnswerShape(
                "schema",
                text(members, "name", "text.format"),
                mapping(members.get("schema"), "text.format.schema"),
                None if strict is None else truth(strict, "text.format.strict"),
                text_or_none(members, "description", "text.format"),
            )
        case _:
            raise MalformedError(
                f"Invalid value: {shown(kind)}. Supported values are: 'json_object', 'json_schema', and 'text'.",
                param="text.format.type",
            )


_ELSEWHERE = "it points into the state of one account at OpenAI; send the whole conversation as `input`"
_MEMBERS: dict[str, _Member] = {
    **dict.fromkeys(
        ("model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "stream"), _nothing
    ),
    **{name: _state(name, _ELSEWHERE) for name in _STATE},
    **{name: _hint(name) for name in (
        "stream_options", "prompt_cache_retention", "prompt_cache_options", "client_metadata", "max_tool_calls",
        "access_programs",
    )},
    **{name: _real(name) for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty")},
    "context_management": _wish("context_management", "no other provider compacts the conversation by itself"),
    "moderation": _wish("moderation", "no other provider moderates beside the model"),
    "image": _wish("image", "no other provider compresses pictures by itself"),
    "max_output_tokens": _whole("max_output_tokens", "max_tokens"),
    "top_logprobs": _top_logprobs,
    "service_tier": _word("service_tier", "service_tier"),
    "prompt_cache_key": _word("prompt_cache_key", "cache_key"),
    "user": _word("user", "user"),
    "safety_identifier": _person,
    "background": _background,
    "store": _store,
    "truncation": _truncation,
    "metadata": _metadata,
    "include": _include,
    "reasoning": _reasoning,
    "text": _text,
}  # fmt: skip
