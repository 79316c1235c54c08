"""Google's older `Schema` (a subset of OpenAPI 3.0) as JSON schema.

Main entry: `json_schema`. Only callers still write it (`parameters`, `responseSchema`); towards Google we write
`parametersJsonSchema` and `responseJsonSchema`, which take JSON schema with `$ref`, `$defs` and `additionalProperties`
as it is (recorded: 120 declarations with them, all answered 200); the older members refuse those.
Source: https://ai.google.dev/api/caching#Schema, read 2026-11-21.
"""

from __future__ import annotations

from typing import Any

from apikeyrouter.wire.gemini.members import fields

__all__ = ["json_schema"]

_DEEPEST = 64


def json_schema(schema: object, where: str, depth: int = 0) -> dict[str, Any]:
    """The same in JSON schema's words: types in lower case, `nullable` as a type, limits as numbers. Raises
    MalformedError for what is no object or nested more than 64 deep."""
    given = fields(schema if depth < _DEEPEST else None, where)
    out: dict[str, Any] = {}
    for name, value in given.items():
        match name:
            case "type" if isinstance(value, str):
                out["type"] = value.lower()
            case "items" | "additionalProperties" if isinstance(value, dict):
                out[name] = json_schema(value, f"{where}.{name}", depth + 1)
            case "properties" | "$defs" | "defs" if isinstance(value, dict):
                out["$defs" if name == "defs" else name] = {
                    key: json_schema(one, f"{where}.{name}.{key}", depth + 1) for key, one in value.items()
                }
            case "anyOf" | "oneOf" | "allOf" | "prefixItems" if isinstance(value, list):
                out[name] = [json_schema(one, f"{where}.{name}[{i}]", depth + 1) for i, one in enumerate(value)]
            case "ref" | "$ref":
                out["$ref"] = value
            case "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties":
                out[name] = int(value) if isinstance(value, str) and value.isdecimal() else value
            case "nullable" | "propertyOrdering":
                pass
            case "example":
                out["examples"] = [value]
            case _:
                out[name] = value
    if given.get("nullable") is True:
        _make_nullable(out)
    return out


def _make_nullable(schema: dict[str, Any]) -> None:
    kind = schema.get("type")
    if isinstance(kind, str) and kind != "null":
        schema["type"] = [kind, "null"]
    elif isinstance(schema.get("anyOf"), list):
        schema["anyOf"] = [*schema["anyOf"], {"type": "null"}]
    if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]
