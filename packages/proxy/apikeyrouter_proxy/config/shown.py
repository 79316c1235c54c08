"""The configuration as it counts, for people: each value with where it comes from, secrets masked.

Main entry: `effective`. Law: what is shown is what `ProxySettings` made of argument, environment, `.env`, file and
default; an object of the file is shown as it was written, references included.
"""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Any

import msgspec

from apikeyrouter.infrastructure.config.settings import RouterSettings
from apikeyrouter_proxy.config.faults import Path, dotted
from apikeyrouter_proxy.config.layers import VARIABLES
from apikeyrouter_proxy.config.masking import MASK, is_secret, masked, masked_tree
from apikeyrouter_proxy.env_keys import unquoted
from apikeyrouter_proxy.settings import ProxySettings
from apikeyrouter_proxy.webhook_target import WebhookTarget

__all__ = ["Shown", "as_document", "effective", "objects"]

_SECTIONS = (
    "providers", "pools", "keys", "prices", "budgets", "deployments", "aliases", "fallbacks",
    "model_groups", "policies", "virtual_keys", "teams",
)  # fmt: skip
_FIELDS = {"store": "store_url", "config_watch": "config_watch_s"}


class Shown(msgspec.Struct, frozen=True):
    """A value that counts. `source`: argument, environment, .env, file or default; `at`: which variable, or where in
    which file. `shadowed`: where else it is said, without effect."""

    where: str
    value: Any
    source: str
    at: str = ""
    shadowed: str = ""


def effective(settings: ProxySettings) -> list[Shown]:
    """Every setting that has a variable, in the order of the reference."""
    return [_one(settings, path) for path in VARIABLES if path != ("objective",) and path[0] != "providers"]


def objects(settings: ProxySettings) -> list[Shown]:
    """Every object of the file, as it was written."""
    known = settings.config.configuration if settings.config is not None else None
    if known is None:
        return []
    found = []
    for section in _SECTIONS:
        part = known.tree.get(section)
        for name, value in (part if isinstance(part, dict) else {}).items():
            place = known.place_of(section, name)
            found.append(Shown(dotted((section, name)), masked_tree(value, (section, name)), "file", str(place or "")))
    return found


def as_document(settings: ProxySettings) -> dict[str, Any]:
    """What counts and is no default, as a document of the file's form."""
    document: dict[str, Any] = {}
    for one in effective(settings):
        if one.source != "default":
            section, _, member = one.where.partition(".")
            document.setdefault(section, {})[member] = one.value
    for one in objects(settings):
        section, _, name = one.where.partition(".")
        document.setdefault(section, {})[name] = one.value
    return document


def _one(settings: ProxySettings, path: Path) -> Shown:
    origin, layered = settings.origin, settings.config
    names = VARIABLES[path]
    if path == ("router", "default_objective"):
        names = (*names, *VARIABLES["objective",])
    environ = origin.environ if origin is not None else {}
    known = layered.configuration if layered is not None else None
    written = _written(known.tree if known is not None else {}, path)
    place = known.place_of(*path) if known is not None and written is not None else None
    if path == ("router", "default_objective") and known is not None and place is None:
        place = known.place_of("objective")
    value = _value(settings, path, written)
    shadowed = str(place) if place is not None else ""
    for name in names:
        for one in (name, f"{name}_FILE"):
            if unquoted(environ.get(one, "")):
                source = "argument" if origin is not None and one in origin.arguments else "environment"
                return Shown(dotted(path), value, source, "" if source == "argument" else one, shadowed)
    if layered is not None and any(name in layered.from_file for name in names):
        return Shown(dotted(path), value, "file", shadowed)
    for name in names:
        if layered is not None and unquoted(layered.environ.get(name, "")):
            return Shown(dotted(path), value, ".env", f"{_dotenv(settings)}: {name}", shadowed)
    if layered is None and origin is not None and origin.dotenv is not None:
        from dotenv import dotenv_values

        found = dotenv_values(origin.dotenv, interpolate=False) if FilePath(origin.dotenv).is_file() else {}
        for name in names:
            if unquoted(found.get(name) or ""):
                return Shown(dotted(path), value, ".env", f"{_dotenv(settings)}: {name}")
    return Shown(dotted(path), value, "default")


def _dotenv(settings: ProxySettings) -> str:
    return FilePath(settings.origin.dotenv).name if settings.origin is not None and settings.origin.dotenv else ".env"


def _written(tree: Any, path: Path) -> Any:
    for part in path:
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _value(settings: ProxySettings, path: Path, written: Any) -> Any:
    section, name = str(path[0]), str(path[-1])
    if is_secret(path):
        if isinstance(written, str) and masked(written, path) != MASK:
            return written
        there = {
            "encryption_key": settings.encryption_key, "admin_key": settings.admin_key, "url": settings.webhook,
            "secret": settings.webhook,
        }[name]  # fmt: skip
        return None if there is None else MASK
    if section == "server":
        value = getattr(settings, _FIELDS.get(name, name))
    elif section == "webhook":
        value = _of_webhook(settings.webhook, name)
    else:
        given = settings.router_config.get(name)
        value = given if given is not None else RouterSettings.model_fields[name].default
    if isinstance(value, tuple):
        return list(value)
    return masked(value, path) if isinstance(value, str) else value


def _of_webhook(target: WebhookTarget | None, name: str) -> Any:
    if name == "format":
        return None if target is None else target.form.value
    return target is not None and target.allow_private
