"""Policies, deployments and groups of models in settings: JSON text, or the name of a JSON or TOML file with them.

Main entries: `policies_given`, `deployments_given`, `groups_given`, validators of `RouterSettings`. Law: every fault of
a document is told, with its place.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from apikeyrouter.domain.routing.deployments import Deployment, read_deployments
from apikeyrouter.domain.routing.policy import Policy, read_policies
from apikeyrouter.muxer.groups import ModelGroup, read_groups

__all__ = ["deployments_given", "groups_given", "policies_given"]


def policies_given(given: object) -> tuple[Policy, ...]:
    """Policies from objects, JSON text or a file. Raises ValueError with every fault."""
    if isinstance(given, tuple) and all(isinstance(one, Policy) for one in given):
        return given
    return read_policies(_written(given, "policies"))


def deployments_given(given: object) -> tuple[Deployment, ...]:
    """Deployments from objects, JSON text or a file. Raises ValueError with every fault."""
    if isinstance(given, tuple) and all(isinstance(one, Deployment) for one in given):
        return given
    return read_deployments(_written(given, "deployments"))


def groups_given(given: object) -> tuple[ModelGroup, ...]:
    """Groups of models from objects, JSON text or a file. Raises ValueError with every fault."""
    if isinstance(given, tuple) and all(isinstance(one, ModelGroup) for one in given):
        return given
    return read_groups(_written(given, "model_groups"))


def _written(given: object, table: str) -> object:
    if isinstance(given, Path):
        return _in_file(given, table)
    if not isinstance(given, str):
        return given
    if given.lstrip()[:1] in ("[", "{"):
        return _of_json(given, "")
    return _in_file(Path(given.strip()), table)


def _in_file(path: Path, table: str) -> object:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as fault:
        # a mistyped variable may hold a secret: only what looks like a file's name is repeated
        which = str(path) if path.suffix.lower() in (".json", ".toml") else "it"
        reason = getattr(fault, "strerror", None) or "it is not text in UTF-8"
        raise ValueError(
            f"expected JSON, or the name of a JSON or TOML file; {which} cannot be read: {reason}"
        ) from None
    if path.suffix.lower() != ".toml":
        return _of_json(text, f"{path} ")
    try:
        return tomllib.loads(text).get(table, [])
    except tomllib.TOMLDecodeError as fault:
        raise ValueError(f"{path} is not TOML: {fault}") from None


def _of_json(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as fault:
        raise ValueError(f"{where}is not JSON: {fault.msg} at line {fault.lineno}, column {fault.colno}") from None
