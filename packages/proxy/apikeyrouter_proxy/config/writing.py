"""A document of ours as YAML for people, without secrets: what the importers write.

Main entry: `write`. A literal secret is replaced by a reference to a variable, which is told to whoever runs the
import; it is never copied. Law: what is written reads back as the same document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from apikeyrouter_proxy.config.faults import Path
from apikeyrouter_proxy.config.litellm_tables import environment_name
from apikeyrouter_proxy.config.masking import is_secret

__all__ = ["without_secrets", "write"]

_PLAIN = re.compile(r"[A-Za-z_./$][A-Za-z0-9_./${}*@+ -]*(:[A-Za-z0-9_./-]+)*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n", "~"})
_ORDER = (
    "version", "include", "name", "server", "webhook", "objective", "router", "providers", "pools", "keys", "prices",
    "budgets", "deployments", "aliases", "fallbacks", "model_groups", "policies", "virtual_keys",
    "teams",
)  # fmt: skip


def without_secrets(tree: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Path]]:
    """(the document with references in place of literal secrets, the member that each new variable stands for)."""
    variables: dict[str, Path] = {}

    def clean(value: Any, path: Path) -> Any:
        if isinstance(value, Mapping):
            return {name: clean(one, (*path, name)) for name, one in value.items()}
        if isinstance(value, str) and is_secret(path) and "${" not in value:
            name = _variable(tree, path, variables)
            variables[name] = path
            return f"${{{name}}}"
        return value

    return clean(tree, ()), variables


def _variable(tree: Mapping[str, Any], path: Path, taken: Mapping[str, Path]) -> str:
    if path == ("server", "admin_key"):
        return "APIKEYROUTER_ADMIN_KEY"
    if path[0] == "keys":
        provider = str(tree["keys"][path[1]].get("provider", path[1]))
        known = tree.get("providers", {}).get(provider, {})
        base = environment_name(str(known.get("like", provider)) if isinstance(known, Mapping) else provider)
        number = str(path[1]).rpartition("-")[2]
        name = f"{base}_{number}" if number.isdecimal() else base
    else:
        name = re.sub(r"[^A-Z0-9]+", "_", "_".join(map(str, path[1:])).upper())
    while name in taken:
        name += "_X"
    return name


def write(tree: Mapping[str, Any], comment: str = "") -> str:
    """The document as YAML, sections in the order of the reference. `comment`: its first lines."""
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    lines.append("version: 1")
    for section in sorted(tree, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER)):
        value = tree[section]
        if section == "version" or value in (None, {}, []):
            continue
        lines.append("")
        if isinstance(value, Mapping):
            lines.append(f"{section}:")
            for name, one in value.items():
                lines += _member(str(name), one, 1)
        else:
            lines.append(f"{section}: {_flow(value)}")
    return "\n".join(lines) + "\n"


def _member(name: str, value: Any, depth: int) -> list[str]:
    indent = "  " * depth
    if isinstance(value, Mapping) and value and depth < 2:
        return [f"{indent}{_scalar(name)}:", *(line for one in value.items() for line in _member(*one, depth + 1))]
    if isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        return [f"{indent}{_scalar(name)}:", *(f"{indent}  - {_flow(one)}" for one in value)]
    return [f"{indent}{_scalar(name)}: {_flow(value)}"]


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(name, inside=True)}: {_inner(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inner, value)) + "]"
    return _scalar(value)


def _inner(value: Any) -> str:
    return _flow(value) if isinstance(value, Mapping | list) else _scalar(value, inside=True)


def _scalar(value: Any, *, inside: bool = False) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS and value == value.strip()
    if not plain or (inside and re.search(r"[{}\[\],]|:$", value)) or re.search(r":\s|\s#|^[*&]", value):
        return json.dumps(value, ensure_ascii=False)
    return value
