"""What is published about the configuration file: its JSON schema, and the reference for people. Both come from the
types, and a test fails when they are not those of today.

Main entries: `schema`, `reference`, and `python -m apikeyrouter_proxy.config.published FOLDER`, which writes
`schema.json` beside this module and `docs/reference/configuration.md` in FOLDER. Law: the text below a member in
`types` and `objects` is its description; nothing is described twice.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import create_model

from apikeyrouter.infrastructure.config import settings
from apikeyrouter.infrastructure.config.settings import RESTART_FIELDS, RouterSettings
from apikeyrouter_proxy.config import objects, types
from apikeyrouter_proxy.config.layers import VARIABLES
from apikeyrouter_proxy.config.types import ROUTER_FIELDS, ConfigFile

__all__ = ["SCHEMA_FILE", "reference", "schema"]

SCHEMA_FILE = Path(__file__).with_name("schema.json")
_ID = "https://json-schema.org/draft/2020-12/schema"
_PRICE_CLASS = "US dollars for the tokens of this class."
_POLICY_LIST = "Names, or patterns with * and ?."


def schema() -> dict[str, Any]:
    """The JSON schema of the file (draft 2020-12), for editors and validators."""
    made = ConfigFile.model_json_schema()
    described = {**_texts(types), **_texts(objects)}
    for name, part in {**made["$defs"], "ConfigFile": made}.items():
        for member, shape in part.get("properties", {}).items():
            text = described.get(name, {}).get(member) or _inherited(name, member, described)
            shape.pop("title", None)
            if shape.get("default") is None or isinstance(shape.get("default"), dict):
                shape.pop("default", None)
            if text:
                shape["description"] = text
            part["properties"][member] = _plain(shape)
        part.pop("title", None)
    router = made["$defs"]["Router"]
    router["properties"] = _router_members()
    return {"$schema": _ID, "title": "apikeyrouter.yaml", **made}


def _router_members() -> dict[str, Any]:
    texts = _texts(settings)["RouterSettings"]
    fields: dict[str, Any] = {
        name: (RouterSettings.model_fields[name].annotation, RouterSettings.model_fields[name])
        for name in ROUTER_FIELDS
    }
    made = create_model("Members", **fields).model_json_schema()
    found = {}
    for name, shape in made["properties"].items():
        plain = _plain(shape)
        known = made.get("$defs", {}).get(str(plain.pop("$ref", "")).rpartition("/")[2])
        if known is not None:
            plain |= {"enum": known["enum"], "type": "string"}
        plain.pop("title", None)
        if plain.get("default", "") is None:
            del plain["default"]
        if plain.get("type") in ("number", "integer", "boolean"):  # or a reference
            rest = {one: value for one, value in plain.items() if one not in ("default", "description")}
            plain = {**{k: v for k, v in plain.items() if k not in rest}, "anyOf": [rest, {"type": "string"}]}
        found[name] = {**plain, "description": texts.get(name, "")}
    return found


def _plain(shape: dict[str, Any]) -> dict[str, Any]:
    """Without the alternative null: what is not said is left out."""
    options = shape.get("anyOf")
    if options is None or {"type": "null"} not in options:
        return shape
    left = [one for one in options if one != {"type": "null"}]
    rest = {name: value for name, value in shape.items() if name != "anyOf"}
    return {**left[0], **rest} if len(left) == 1 else {**rest, "anyOf": left}


def _inherited(part: str, member: str, described: dict[str, dict[str, str]]) -> str:
    known = types.parts().get(part, ConfigFile)
    for base in known.__mro__:
        text = described.get(base.__name__, {}).get(member)
        if text:
            return text
    return {"Price": _PRICE_CLASS}.get(part, _POLICY_LIST if member.startswith(("allowed_", "blocked_")) else "")


def _texts(module: ModuleType) -> dict[str, dict[str, str]]:
    """The text below each member, by class."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        texts = found.setdefault(node.name, {})
        for member, below in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(member, ast.AnnAssign)
                and isinstance(member.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                texts[member.target.id] = " ".join(below.value.value.split())
    return found


# -- for people -----------------------------------------------------------------------------------------------------

_INTRO = """# Configuration file

Every member of `apikeyrouter.yaml`. Generated from the types by
`python -m apikeyrouter_proxy.config.published .`; how to work with the file:
[configuration](../how-to/configuration.md). `apikeyrouter config schema` prints the JSON schema.

Any text may hold references: `${NAME}`, `${NAME:-otherwise}`, `${file:path}`, `${command:program arguments}`; `$$` is a
dollar sign. Lists may be written as text with commas. A variable of the environment goes before the member beside it.
"""


def reference() -> str:
    """The page for people, in Markdown."""
    made = schema()
    variables: dict[Any, tuple[str, ...]] = dict(VARIABLES)
    lines = [_INTRO, "## The file", "", *_table(made, (), variables)]
    for section, shape in made["properties"].items():
        name = _part_of(shape)
        if name is None:
            continue
        part = made["$defs"][name]
        by_name = "additionalProperties" in shape
        path = f"{section}.NAME" if by_name else section
        lines += ["", f"## {path}", "", *_described(part), *_table(part, (section,), variables)]
    for name in ("Money", "PolicyRules"):
        title = {"Money": "teams.NAME.budget", "PolicyRules": "teams.NAME.policy"}[name]
        lines += ["", f"## {title}", "", *_described(made["$defs"][name]), *_table(made["$defs"][name], (), variables)]
    return "\n".join(lines) + "\n"


def _described(part: dict[str, Any]) -> list[str]:
    text = " ".join(str(part.get("description", "")).split())
    return [text, ""] if text else []


def _table(part: dict[str, Any], section: tuple[str, ...], variables: dict[Any, tuple[str, ...]]) -> list[str]:
    named = any((*section, member) in variables for member in part["properties"])
    head = [
        "| member | type | meaning |" + (" variable |" if named else ""),
        "|---|---|---|" + ("---|" if named else ""),
    ]
    rows = []
    for member, shape in part["properties"].items():
        text = str(shape.get("description", "")).replace("|", "\\|")
        if "default" in shape and shape["default"] not in ({}, None, "") and "Default" not in text:
            text += f" Default: {_shown(shape['default'])}."
        if section == ("router",) and member in RESTART_FIELDS:
            text += " A change needs a restart."
        required = " (required)" if member in part.get("required", ()) else ""
        names = ", ".join(f"`{one}`" for one in variables.get((*section, member), ()))
        rows.append(f"| `{member}` | {_kind(shape)}{required} | {text} |" + (f" {names} |" if named else ""))
    return [*head, *rows]


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _kind(shape: dict[str, Any]) -> str:
    if "enum" in shape:
        return ", ".join(map(str, shape["enum"]))
    if "const" in shape:
        return str(shape["const"])
    if _part_of(shape) is not None:
        return "objects by name" if "additionalProperties" in shape else "object"
    kinds = [one.get("type", "") for one in shape.get("anyOf", [shape])]
    for kind, word in (
        ("array", "list"),
        ("boolean", "true, false"),
        ("integer", "whole number"),
        ("number", "number"),
    ):
        if kind in kinds:
            return word
    return {"string": "text", "object": "object"}.get(str(kinds[0]), "any")


def _part_of(shape: dict[str, Any]) -> str | None:
    inside = shape.get("additionalProperties")
    ref = shape.get("$ref") or (inside.get("$ref", "") if isinstance(inside, dict) else "")
    if not ref and isinstance(shape.get("allOf"), list):
        ref = shape["allOf"][0].get("$ref", "")
    return str(ref).rpartition("/")[2] or None


def main(arguments: list[str]) -> None:
    """Writes both."""
    SCHEMA_FILE.write_text(json.dumps(schema(), indent=1) + "\n", encoding="utf-8")
    if arguments:
        Path(arguments[0], "docs/reference/configuration.md").write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
