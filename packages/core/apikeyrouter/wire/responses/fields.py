"""Members of a client's JSON, checked: each function returns the value or raises MalformedError with its path.

Paths are written as OpenAI writes them ("input[2].content[0].text").
"""

from __future__ import annotations

from typing import Any

from apikeyrouter.wire.codec import MalformedError

__all__ = ["fault", "integer", "listed", "mapping", "number", "objects", "text", "text_or_none", "truth"]


def fault(path: str, expected: str, value: object) -> MalformedError:
    """The error for a value of the wrong type."""
    found = {
        type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array",
        dict: "an object",
    }  # fmt: skip
    told = found.get(type(value), "something else")
    return MalformedError(f"Invalid type for '{path}': expected {expected}, but got {told} instead.", param=path)


def mapping(value: object, path: str) -> dict[str, Any]:
    """An object."""
    if not isinstance(value, dict):
        raise fault(path, "an object", value)
    return value


def listed(value: object, path: str) -> list[Any]:
    """An array."""
    if not isinstance(value, list):
        raise fault(path, "an array", value)
    return value


def objects(value: object) -> list[dict[str, Any]] | None:
    """The objects of an array that only adorns a reply (annotations); None without any. Never raises."""
    return ([one for one in value if isinstance(one, dict)] or None) if isinstance(value, list) else None


def text(holder: dict[str, Any], name: str, path: str) -> str:
    """A member that must be a string. `path`: of the holder."""
    value = holder.get(name)
    if not isinstance(value, str):
        where = f"{path}.{name}" if path else name
        if value is None:
            raise MalformedError(f"Missing required parameter: '{where}'.", param=where)
        raise fault(where, "a string", value)
    return value


def text_or_none(holder: dict[str, Any], name: str, path: str) -> str | None:
    """A member that may be absent or null."""
    return None if holder.get(name) is None else text(holder, name, path)


def integer(value: object, path: str) -> int:
    """A whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise fault(path, "an integer", value)
    return value


def number(value: object, path: str) -> float:
    """A number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise fault(path, "a number", value)
    return value


def truth(value: object, path: str) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise fault(path, "a boolean", value)
    return value
