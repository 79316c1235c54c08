"""The environment as a document of ours: what variables configure, written down.

Main entry: `from_environment`. Law: secrets stay in their variables and become references; a variable that has no
member is left where it is, since it goes on counting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apikeyrouter_proxy.config.from_litellm import Translated
from apikeyrouter_proxy.config.layers import VARIABLES
from apikeyrouter_proxy.config.masking import is_secret
from apikeyrouter_proxy.env_keys import read_env_keys, unquoted

__all__ = ["from_environment"]

_LEFT = ("APIKEYROUTER_PROVIDERS_FILE", "APIKEYROUTER_PRICES", "APIKEYROUTER_PRICES_FILE", "APIKEYROUTER_POLICIES",
         "APIKEYROUTER_DEPLOYMENTS")  # fmt: skip
_SEVERAL = ","


def from_environment(environ: Mapping[str, str]) -> Translated:
    """The document."""
    made = Translated()
    for path, names in VARIABLES.items():
        name = next((one for one in names if unquoted(environ.get(one, ""))), None)
        if name is None or path == ("objective",):
            continue
        value: Any = f"${{{name}}}" if is_secret(path) else _typed(unquoted(environ[name]))
        part = made.tree
        for member in path[:-1]:
            part = part.setdefault(str(member), {})
        part[str(path[-1])] = value
    keys, warnings, faults = read_env_keys(environ)
    made.told += [*(warning.rstrip(".") + "." for warning in warnings), *faults]
    found: dict[str, Any] = {}
    for key in keys:
        if _SEVERAL in unquoted(environ.get(key.variable, "")):
            told = f"{key.variable} holds several keys, so it stays where it is and goes on counting."
            made.told += [told] if told not in made.told else []
            continue
        number = 1 + sum(one["provider"] == key.provider_id for one in found.values())
        found[f"{key.provider_id}-{number}"] = {"provider": key.provider_id, "secret": f"${{{key.variable}}}"}
    if found:
        made.tree["keys"] = found
    made.told += [
        f"{name} stays where it is and goes on counting." for name in _LEFT if unquoted(environ.get(name, ""))
    ]
    return made


def _typed(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return int(text) if text.isdecimal() and len(text) < 16 else text
