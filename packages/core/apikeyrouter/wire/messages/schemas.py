"""JSON schemas as Anthropic's structured outputs take them.

Main entry: `closed_schema`. Every object must forbid further properties; bounds of numbers, texts and arrays cannot be
enforced there: they are left out, written into the description, and told to `losses`.
Source: https://platform.claude.com/docs/en/build-with-claude/structured-outputs, its "limitations" (read 2026-11-21).
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.wire.losses import Losses

__all__ = ["closed_schema"]

_UNENFORCED = frozenset({
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems",
    "uniqueItems", "minProperties", "maxProperties", "patternProperties", "contains",
})  # fmt: skip
_NESTED = ("items", "additionalItems", "not", "if", "then", "else")
_NAMED = ("properties", "$defs", "definitions")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_DEPTH_MAX = 64


def closed_schema(schema: dict[str, Any], where: str, losses: Losses) -> dict[str, Any]:
    """The schema, closed, without what is not enforced. `where`: what losses are called by."""
    faults: dict[str, None] = {}
    closed = _closed(schema, faults, 0)
    if faults:
        losses.parameter(where, f"Anthropic does not enforce {', '.join(faults)} in schemas")
    return closed


def _closed(schema: dict[str, Any], faults: dict[str, None], depth: int) -> dict[str, Any]:
    if depth > _DEPTH_MAX:
        return schema
    out: dict[str, Any] = {}
    notes = []
    for name, value in schema.items():
        if name in _UNENFORCED or (name == "minItems" and value not in (0, 1)):
            faults[name] = None
            notes.append(f"{name}: {msgspec.json.encode(value).decode()}")
        elif name in _NAMED and isinstance(value, dict):
            out[name] = {key: _one(inner, faults, depth) for key, inner in value.items()}
        elif name in _LISTED and isinstance(value, list):
            out[name] = [_one(inner, faults, depth) for inner in value]
        elif name in _NESTED:
            out[name] = _one(value, faults, depth)
        else:
            out[name] = value
    kind = schema.get("type")
    if kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema:
        if schema.get("additionalProperties") not in (None, False):
            faults["additionalProperties"] = None
        out["additionalProperties"] = False
    if notes:
        told = out.get("description")
        out["description"] = " ".join([*([told] if isinstance(told, str) else []), f"({'; '.join(notes)})"])
    return out


def _one(value: Any, faults: dict[str, None], depth: int) -> Any:
    return _closed(value, faults, depth + 1) if isinstance(value, dict) else value
