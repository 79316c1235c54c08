"""Citations and tiers of service, in the words that OpenAI's SDKs know.

Entries: `nested_citation` (chat completions), `flat_citation` (Responses), `tier_told`. Values carry citations in
either of OpenAI's two shapes, and those of other formats as they came.
Law: what is written passes the SDKs' own models, which clients in typed languages enforce: members that they require
are filled in, and kinds that they do not know are left out.
Sources: openai-python 3.52 (`ChatCompletionMessage.annotations`, `ResponseOutputText.annotations`, `service_tier`),
read 2026-11-21.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["flat_citation", "nested_citation", "tier_told"]

_KIND = "url_citation"
_FLAT_KINDS = {
    "file_citation": ("file_id", "filename", "index"),
    "container_file_citation": ("container_id", "file_id", "filename", "start_index", "end_index"),
    "file_path": ("file_id", "index"),
}
_TIERS: Final = frozenset({"auto", "default", "flex", "scale", "priority", "fast"})


def nested_citation(one: dict[str, Any], shift: int = 0) -> dict[str, Any] | None:
    """The citation of a page in chat's shape, its places moved by `shift` characters; None for other kinds."""
    members = _members(one, shift)
    return None if members is None else {"type": _KIND, _KIND: members}


def flat_citation(one: dict[str, Any]) -> dict[str, Any] | None:
    """A citation in the shape of Responses; None for kinds that it does not know."""
    members = _members(one, 0)
    if members is not None:
        return {"type": _KIND, **members}
    needed = _FLAT_KINDS.get(kind) if isinstance(kind := one.get("type"), str) else None
    if needed is None or any(isinstance(one.get(name), dict | list | None) for name in needed):
        return None
    return {name: value for name, value in one.items() if not isinstance(value, dict | list)}


def tier_told(tier: str | None) -> str | None:
    """The tier where OpenAI has a word for it, else None: other providers have tiers of their own."""
    return tier if tier in _TIERS else None


def _members(one: dict[str, Any], shift: int) -> dict[str, Any] | None:
    if one.get("type") != _KIND:
        return None
    inner = one.get(_KIND)
    told = inner if isinstance(inner, dict) else {name: value for name, value in one.items() if name != "type"}
    return {
        **{name: value for name, value in told.items() if not isinstance(value, dict | list)},
        "url": _word(told.get("url")),
        "title": _word(told.get("title")),
        "start_index": _place(told.get("start_index")) + shift,
        "end_index": _place(told.get("end_index")) + shift,
    }


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""


def _place(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
