"""Values for people's eyes: secrets never, references as they were written, passwords in URLs not.

Main entries: `masked` for one value, `is_secret`, and `masked_tree`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from apikeyrouter_proxy.config.faults import Path
from apikeyrouter_proxy.config.types import SECRETS
from apikeyrouter_proxy.providers import names_credential

__all__ = ["MASK", "is_secret", "masked", "masked_tree"]

MASK = "********"
_PASSWORD = re.compile(r"(?<=://)([^/@\s]*):[^/@\s]*@")


def is_secret(path: Path) -> bool:
    """Whether the member's value is never shown."""
    if any(len(path) == len(one) and all(b in ("*", a) for a, b in zip(path, one, strict=True)) for one in SECRETS):
        return True
    named = path[:1] == ("providers",) and len(path) >= 4 and path[2] in ("headers", "options")
    return named and any(isinstance(part, str) and names_credential(part) for part in path[3:])


def masked(value: Any, path: Path) -> str:
    """The value as text."""
    if is_secret(path):
        return value if isinstance(value, str) and _is_reference(value) else MASK
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(masked(one, (*path, number)) for number, one in enumerate(value))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {masked(one, (*path, name))}" for name, one in value.items()) + "}"
    return _PASSWORD.sub(rf"\1:{MASK}@", str(value))


def masked_tree(value: Any, path: Path = ()) -> Any:
    """The same tree with secrets masked; references stay, since they are what was written."""
    if isinstance(value, Mapping):
        return {name: masked_tree(one, (*path, name)) for name, one in value.items()}
    if is_secret(path):
        return masked(value, path)
    if isinstance(value, list):
        return [masked_tree(one, (*path, number)) for number, one in enumerate(value)]
    return _PASSWORD.sub(rf"\1:{MASK}@", value) if isinstance(value, str) else value


def _is_reference(text: str) -> bool:
    """Whether the whole text is one reference without a literal part that could be a secret."""
    return re.fullmatch(r"\$\{[^{}]*\}", text.strip()) is not None and ":-" not in text
