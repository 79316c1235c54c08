"""Names of tools that only this format can group or leave without a schema, written as plain functions' names.

A client's tool in a `namespace` and a `custom` tool (free text instead of JSON) become functions for every other
provider; their calls come back under the same names and are told apart by `MARK`. Main entries: `joined`, `split`.
Law: `split(joined(namespace, name, custom=c)) == (namespace, name, c)`; a client's plain function may not hold `MARK`.
"""

from __future__ import annotations

import msgspec

__all__ = [
    "CUSTOM_SCHEMA",
    "LONGEST_NAME",
    "MARK",
    "SEARCH",
    "custom_arguments",
    "custom_input",
    "found_names",
    "joined",
    "split",
    "told_found",
]

MARK = "-_-"
SEARCH = f"tool_search{MARK}{MARK}"
"""A `tool_search` that the client answers itself, as a function; no joined name is like it."""

LONGEST_NAME = 64
"""Characters that providers allow in a function's name (OpenAI and Anthropic, read 2026-11-21)."""

CUSTOM_SCHEMA = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The whole input, as plain text."}},
    "required": ["input"],
    "additionalProperties": False,
}
"""What stands for the free text of a custom tool."""


_FOUND = "Tools found: "


class _Custom(msgspec.Struct, gc=False):
    input: str


_decode_custom = msgspec.json.Decoder(_Custom).decode


def joined(namespace: str | None, name: str, *, custom: bool = False) -> str:
    """One name for a tool of a namespace or without a schema."""
    return (f"{namespace}{MARK}" if namespace else "") + name + (MARK if custom else "")


def split(name: str) -> tuple[str | None, str, bool]:
    """Namespace (None without), the tool's own name, and whether it is a custom tool."""
    if MARK not in name:
        return None, name, False
    custom = name.endswith(MARK)
    namespace, mark, own = (name.removesuffix(MARK) if custom else name).partition(MARK)
    return (namespace, own, custom) if mark else (None, namespace, custom)


def told_found(names: list[str]) -> str:
    """What a search for tools found, in words."""
    return _FOUND + (", ".join(names) or "none")


def found_names(told: str) -> list[str] | None:
    """The names in such words; None when they are others."""
    if not told.startswith(_FOUND):
        return None
    names = told.removeprefix(_FOUND)
    return [] if names == "none" else names.split(", ")


def custom_arguments(text: str) -> str:
    """The free text of a custom call as a function's arguments."""
    return msgspec.json.encode({"input": text}).decode()


def custom_input(arguments: str) -> str:
    """The free text in such arguments; arguments of another shape are the text themselves."""
    try:
        return _decode_custom(arguments).input
    except msgspec.MsgspecError:
        return arguments
