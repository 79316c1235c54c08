"""A JSON document that fits a JSON Schema, chosen by a seeded generator.

Main entry: `fill`. Covers what structured outputs and tool parameters use: objects, arrays, enums, const, anyOf, oneOf,
allOf, $ref into $defs, string formats and lengths, number bounds, type lists. Patterns are not followed.
Laws: every required property is there; recursion ends (optional parts are left out beyond a depth, null is preferred,
the number of values is bounded); the same generator state gives the same document.
"""

from __future__ import annotations

import random
from typing import Any

__all__ = ["fill"]

_DEPTH_MAX = 24
_DEPTH_FRUGAL = 4  # deeper than this only what is required
_VALUES_MAX = 10_000
_SPAN = 100  # how far numbers go beyond the only bound they have
_FORMATS = {
    "date-time": "2026-01-15T09:30:00Z",
    "date": "2026-01-15",
    "time": "09:30:00Z",
    "duration": "PT15M",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/page",
    "uuid": "7b3f5c1e-9f0a-4c55-8c0e-2f1d6a4b8e90",
}
_WORDS = ("amber", "brook", "cedar", "delta", "ember", "fjord", "grove", "harbor", "indigo", "juniper", "kelp", "lilac")


def fill(schema: object, rng: random.Random, subject: str = "") -> Any:
    """A value that fits `schema`. `subject`, when given, is what free string properties say.

    Raises ValueError when a keyword has a value that makes no sense."""
    root = schema if isinstance(schema, dict) else {}
    try:
        return _Filler(root, rng, subject).value(root, 0)
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as fault:
        raise ValueError(f"not a usable JSON Schema: {fault}") from None


class _Filler:
    def __init__(self, root: dict[str, Any], rng: random.Random, subject: str) -> None:
        self._root = root
        self._rng = rng
        self._subject = subject
        self._values_left = _VALUES_MAX

    def value(self, schema: object, depth: int) -> Any:
        if not isinstance(schema, dict) or depth > _DEPTH_MAX:
            return None
        self._values_left -= 1
        if self._values_left < 0:
            raise ValueError(f"its smallest document has more than {_VALUES_MAX} values")
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._rng.choice(schema["enum"])
        for word in ("anyOf", "oneOf"):
            if schema.get(word):
                return self.value(self._branch(schema[word], depth), depth + 1)
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = (
                "null" if depth > _DEPTH_FRUGAL and "null" in kind else next((k for k in kind if k != "null"), "null")
            )
        if kind is None:
            kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "string":
                return self._string(schema)
            case "integer" | "number":
                return self._number(schema, whole=kind == "integer")
            case "boolean":
                return self._rng.random() < 0.5
            case _:
                return None

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Follows $ref and merges allOf; siblings of both stay in force."""
        for _ in range(_DEPTH_MAX):
            if isinstance(ref := schema.get("$ref"), str):
                target: Any = self._root
                for name in ref.removeprefix("#").strip("/").split("/") if ref != "#" else ():
                    target = (
                        target.get(name.replace("~1", "/").replace("~0", "~"), {}) if isinstance(target, dict) else {}
                    )
                schema = {**target, **{k: v for k, v in schema.items() if k != "$ref"}}
            elif isinstance(parts := schema.get("allOf"), list):
                schema = {k: v for k, v in schema.items() if k != "allOf"}
                for part in parts:
                    schema = _merged(schema, self._resolved(part) if isinstance(part, dict) else {})
            else:
                break
        return schema

    def _branch(self, branches: list[Any], depth: int) -> object:
        nulls = [b for b in branches if isinstance(b, dict) and b.get("type") == "null"]
        if nulls and depth > _DEPTH_FRUGAL:
            return nulls[0]
        rest = [b for b in branches if b not in nulls]
        return rest[0] if rest else branches[0]

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        required = schema.get("required") or []
        properties = schema.get("properties") or {}
        if not isinstance(properties, dict) or not all(isinstance(name, str) for name in required):
            raise ValueError("'properties' must be an object and 'required' an array of names")
        wanted = [name for name in properties if name in required or depth <= _DEPTH_FRUGAL]
        out = {name: self.value(properties[name], depth + 1) for name in wanted}
        for name in required:
            out.setdefault(name, None)
        return out

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        least = schema.get("minItems", 0)
        count = least if depth > _DEPTH_FRUGAL else max(least, min(2, schema.get("maxItems", 2)))
        if count > _VALUES_MAX:
            raise ValueError(f"'minItems' is beyond {_VALUES_MAX}")
        prefix = schema.get("prefixItems") or []
        items = [*prefix, *[schema.get("items", {"type": "string"})] * max(0, count - len(prefix))]
        return [self.value(item, depth + 1) for item in items]

    def _string(self, schema: dict[str, Any]) -> str:
        known = _FORMATS.get(schema.get("format", ""))
        if known is not None:
            return known
        text = self._subject or self._rng.choice(_WORDS)
        if schema.get("minLength", 0) > _VALUES_MAX:
            raise ValueError(f"'minLength' is beyond {_VALUES_MAX}")
        text = text.ljust(schema.get("minLength", 0), "x")
        return text[: schema["maxLength"]] if "maxLength" in schema else text

    def _number(self, schema: dict[str, Any], *, whole: bool) -> float:
        least = schema.get("minimum", schema.get("exclusiveMinimum"))
        most = schema.get("maximum", schema.get("exclusiveMaximum"))
        if least is None:
            least = 0 if most is None or most >= 0 else most - _SPAN
        if most is None:
            most = least + _SPAN
        step = schema.get("multipleOf") or (1 if whole else None)
        if step is None:
            return round((least + most) / 2, 6) if least != most else float(least)
        first = -(-least // step) * step
        if first == schema.get("exclusiveMinimum"):
            first += step
        span = int((most - first) // step)
        value = first + self._rng.randint(0, max(0, span)) * step
        if value == schema.get("exclusiveMaximum"):
            value -= step
        return int(value) if whole else value


def _merged(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    out = {**left, **right}
    if "properties" in left and "properties" in right:
        out["properties"] = {**left["properties"], **right["properties"]}
    if "required" in left and "required" in right:
        out["required"] = [*left["required"], *right["required"]]
    return out
