"""Texts that a stream spells over several events, joined before they are masked: half a key looks like none.

Main entry: `joined`. Law: what is there of a stream in which nothing is masked across events stays as it was, byte for
byte; otherwise the first event has the whole text, masked, and the later ones of the same text an empty one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

__all__ = ["is_stream", "joined"]

_KINDS = ("text/event-stream", "application/x-ndjson", "application/jsonl")
_EVENT = re.compile(r"([ \t]*(?:(?:data:|[\[,])[ \t]*)?)(\{.*\})([ \t]*(?:[,\]\r][ \t\r]*)?)")
"""Two runs of spaces never touch: else a long one would be cut in two at every place."""

_PLACES = ("index", "output_index", "content_index", "item_id")
"""Members that tell texts apart that are spelt at the same time: choices, calls, parts."""

_NOISE = frozenset({"obfuscation"})
"""OpenAI's padding, random in each event (API reference, "include_obfuscation", read 2026-11-21)."""

_LAST_WORD = re.compile(r"\S+\Z")

_Home = dict[str, Any] | list[Any]


def is_stream(kind: str, text: str) -> bool:
    """Whether a body of this content type is events, a line each. Gemini's may be one array that grows."""
    return kind in _KINDS or text.startswith("[{")


def joined(text: str, mask: Callable[[str], str], *, cut: bool) -> str:
    """The stream with what `mask` finds across its events. `cut`: whether it goes on; the event in which it was cut off
    is left out then, since a key of those before may end in it, and so is the last word of a text that is joined."""
    lines = text.split("\n")
    events: dict[int, tuple[str, Any, str]] = {}
    pieces: dict[tuple[Any, ...], list[tuple[int, _Home, Any]]] = {}
    for number, line in enumerate(lines):
        found = _EVENT.fullmatch(line)
        if found is None:
            continue
        try:
            event = msgspec.json.decode(found[2])
        except (msgspec.DecodeError, RecursionError):
            continue
        events[number] = found[1], event, found[3]
        for way, home, name in _texts(event):
            pieces.setdefault(way, []).append((number, home, name))
    changed: set[int] = set()
    for spots in pieces.values():
        words = [home[name] for _, home, name in spots]
        whole = "".join(words)
        if len(set(words)) < 2 or (masked := mask(whole)) == whole or masked == "".join(map(mask, words)):
            continue
        if cut:
            masked = _LAST_WORD.sub("", masked)
        for number, home, name in spots:
            home[name], masked = masked, ""
            changed.add(number)
    for number in changed:
        before, event, after = events[number]
        lines[number] = before + msgspec.json.encode(event).decode() + after
    if cut and events and len(lines) - 1 not in events:
        lines[-1] = ""
    return "\n".join(lines)


def _texts(event: Any) -> Iterator[tuple[tuple[Any, ...], _Home, Any]]:
    """(which text, where it stands, under which name) of every text in an event."""
    waiting: list[tuple[tuple[Any, ...], Any]] = [((), event)]
    while waiting:
        way, value = waiting.pop()
        if isinstance(value, dict):
            way = (*way, *(value.get(name) for name in _PLACES if isinstance(value.get(name), int | str)))
            members: Any = value.items()
        else:
            members = enumerate(value)
        for name, one in members:
            if isinstance(one, str) and name not in _NOISE:
                yield (*way, name), value, name
            elif isinstance(one, dict | list):
                waiting.append(((*way, name), one))
