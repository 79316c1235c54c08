"""Members of Google's JSON: camelCase or snake_case, null for absent, whole numbers as numbers or strings.

Main entries: `fields` opens an object, the others check what is in it. Google reads JSON as protocol buffers do, so all
these spellings are legal (https://protobuf.dev/programming-guides/json/, read 2026-11-21).
Law: whatever is given, they return what they say or raise MalformedError with the member's path.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from apikeyrouter.wire.codec import MalformedError

__all__ = ["decoded", "fields", "flag", "listed", "number", "text", "texts", "whole"]


def decoded(body: bytes) -> dict[str, Any]:
    """The body as an object with camelCase names."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise MalformedError(f"The body is not JSON: {fault}") from None
    return fields(value, "")


def fields(value: object, where: str) -> dict[str, Any]:
    """An object's members that are not null, by their camelCase names. Inner objects stay as they are."""
    if not isinstance(value, dict):
        raise MalformedError(f"{f'{where!r}' if where else 'The body'} must be an object", param=where or None)
    return {_camel(name) if "_" in name else name: one for name, one in value.items() if one is not None}


def listed(value: object, where: str) -> list[Any]:
    """A list; Google takes a single object for a list of one."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return [value]
    raise MalformedError(f"{where!r} must be a list", param=where)


def text(value: object, where: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise MalformedError(f"{where!r} must be a string", param=where)
    return value


def texts(value: object, where: str) -> list[str]:
    """A list of strings."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise MalformedError(f"{where!r} must be a list of strings", param=where)
    return value


def flag(value: object, where: str) -> bool:
    """A truth value."""
    if not isinstance(value, bool):
        raise MalformedError(f"{where!r} must be true or false", param=where)
    return value


def number(value: object, where: str) -> float:
    """A number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MalformedError(f"{where!r} must be a number", param=where)
    return value


def whole(value: object, where: str) -> int:
    """A whole number, also as 5.0 or "5"."""
    if isinstance(value, str) and value.lstrip("-").isdecimal() and len(value) < 20:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise MalformedError(f"{where!r} must be a whole number", param=where)
    return value


@lru_cache(maxsize=1024)
def _camel(name: str) -> str:
    first, *rest = name.strip("_").split("_")
    return first + "".join(one[:1].upper() + one[1:] for one in rest)
