"""Looking at decoded JSON with the suspicion that bytes from outside deserve.

Each getter takes an object's member out of it (so that what is left over can be reported) and checks its type; null
counts as absent, as at OpenAI. Raised: MalformedError, naming the member.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.wire.codec import MalformedError

__all__ = [
    "decoded_object", "json_text", "object_of", "take_bool", "take_int", "take_list", "take_number", "take_object",
    "take_text",
]  # fmt: skip

_LARGEST_INT = 2**63 - 1


def decoded_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object; ValueError when it is none."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
        raise MalformedError(f"The body is not JSON: {fault}.") from None
    if not isinstance(found, dict):
        raise MalformedError(f"The body is no JSON object but {_kind(found)}.")
    return found


def object_of(value: object, path: str) -> dict[str, Any]:
    """The value as an object of its own, which may be taken apart."""
    if not isinstance(value, dict):
        raise MalformedError(f"{path}: expected an object, got {_kind(value)}.", param=path)
    return dict(value)


def take_text(members: dict[str, Any], name: str, path: str = "") -> str | None:
    """A string."""
    value = members.pop(name, None)
    if value is None or isinstance(value, str):
        return value
    raise _wrong(path + name, "a string", value)


def take_bool(members: dict[str, Any], name: str, path: str = "") -> bool | None:
    """True or false."""
    value = members.pop(name, None)
    if value is None or isinstance(value, bool):
        return value
    raise _wrong(path + name, "true or false", value)


def take_int(members: dict[str, Any], name: str, path: str = "") -> int | None:
    """A whole number, also spelled 5.0; within 64 bits."""
    value = members.pop(name, None)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -_LARGEST_INT <= value <= _LARGEST_INT:
        raise _wrong(path + name, "an integer", value)
    return value


def take_number(members: dict[str, Any], name: str, path: str = "") -> float | None:
    """Any number."""
    value = members.pop(name, None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(path + name, "a number", value)
    return value


def take_object(members: dict[str, Any], name: str, path: str = "") -> dict[str, Any] | None:
    """An object."""
    value = members.pop(name, None)
    if value is None or isinstance(value, dict):
        return value
    raise _wrong(path + name, "an object", value)


def take_list(members: dict[str, Any], name: str, path: str = "") -> list[Any] | None:
    """A list."""
    value = members.pop(name, None)
    if value is None or isinstance(value, list):
        return value
    raise _wrong(path + name, "a list", value)


def json_text(value: object) -> str:
    """Arguments of a tool as JSON text: servers that send them as an object mean the same."""
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def _wrong(path: str, expected: str, value: object) -> MalformedError:
    return MalformedError(f"{path}: expected {expected}, got {_kind(value)}.", param=path)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
