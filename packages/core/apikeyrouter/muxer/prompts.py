"""The text of a request that says what is wanted, whatever its format: OpenAI's, Anthropic's, Google's.

Main entry: `prompt_of`. What counts is the last turn of the user that has a text; tool results, pictures and earlier
turns say little about how hard the next answer is. Laws: never raises for a body that is JSON; one decode, about 5 us
per KB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

__all__ = ["Prompt", "prompt_of", "text_of"]

_TURNS = ("messages", "input", "contents", "prompt")
_PARTS = ("content", "parts")
_TEXT_MAX = 64 * 1024


class Prompt(msgspec.Struct, frozen=True, gc=False):
    """`text`: of the last turn of the user, "" where there is none. `turns`: how many turns there are. `tools`: whether
    any are offered."""

    text: str
    turns: int = 1
    tools: bool = False
    schema: bool = False
    images: bool = False


def prompt_of(body: bytes) -> Prompt:
    """What a request asks, from its JSON body."""
    try:
        request = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return Prompt("")
    if not isinstance(request, dict):
        return Prompt("")
    turns = next((request[name] for name in _TURNS if request.get(name)), "")
    tools = bool(request.get("tools") or request.get("functions"))
    schema = bool(request.get("response_format") or (request.get("text") or {}) if isinstance(request, dict) else False)
    if isinstance(turns, str):
        return Prompt(turns[:_TEXT_MAX], 1, tools, schema)
    if not isinstance(turns, list):
        return Prompt("", 1, tools, schema)
    text, images = "", False
    for turn in reversed(turns):
        if isinstance(turn, str):
            text = turn
        elif isinstance(turn, dict) and turn.get("role", "user") == "user":
            text = text_of(turn)
            images = images or _has_images(turn)
        if text:
            break
    return Prompt(text[:_TEXT_MAX], len(turns), tools, schema, images)


def text_of(turn: Mapping[str, Any]) -> str:
    """The text of one turn, its parts joined by line breaks."""
    return "\n".join(_texts(turn))


def _texts(turn: Mapping[str, Any]) -> Iterator[str]:
    content = next((turn[name] for name in _PARTS if turn.get(name)), None)
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, str):
                yield part
            elif isinstance(part, dict) and isinstance(part.get("text"), str):
                yield part["text"]


_IMAGES = ("image_url", "input_image", "image", "inlineData", "inline_data")


def _has_images(turn: Mapping[str, Any]) -> bool:
    content = next((turn[name] for name in _PARTS if turn.get(name)), None)
    if not isinstance(content, list):
        return False
    return any(
        isinstance(part, dict) and (part.get("type") in _IMAGES or not part.keys().isdisjoint(_IMAGES))
        for part in content
    )
