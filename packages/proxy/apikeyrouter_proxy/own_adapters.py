"""Adapters of the operator's own, named in the file of providers: `adapter = "my_package.module:MyAdapter"`.

Main entry: `own_adapter`. Modules are found as Python finds them, and beside the file that names them (last, so that
nothing of the same name is hidden).
Law: whatever is wrong with such a class is told with the provider's name, before the proxy takes a request.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.provider_adapter import ProviderAdapter

__all__ = ["own_adapter"]

_MEMBERS = (
    "dialect", "base_url", "get_capabilities", "claims", "passes", "build_request", "build_models_request",
    "read_models", "read_reply", "open_stream",
)  # fmt: skip


def own_adapter(provider_id: str, reference: object, options: object, folder: Path) -> ProviderAdapter:
    """The adapter that `reference` names, called with `options` as keyword arguments. `folder`: where modules are
    looked for besides. Raises ConfigurationError."""
    where = f"provider {provider_id!r}: adapter {reference!r}"
    module_name, _, name = reference.partition(":") if isinstance(reference, str) else ("", "", "")
    if not module_name or not name:
        raise ConfigurationError([f'{where}: expected "package.module:Class"'])
    if not isinstance(options, Mapping):
        raise ConfigurationError([f"{where}: options is a table, whose members become the class's arguments"])
    made = _made(where, _found(where, module_name, name, folder), options)
    if not isinstance(made, ProviderAdapter):
        missing = ", ".join(member for member in _MEMBERS if not hasattr(made, member))
        raise ConfigurationError([f"{where} is no ProviderAdapter: it lacks {missing}"])
    return made


def _found(where: str, module_name: str, name: str, folder: Path) -> Any:
    beside = str(folder.resolve())
    if beside not in sys.path:
        sys.path.append(beside)
    try:
        found: Any = import_module(module_name)
    except Exception as fault:  # noqa: BLE001 - a module of somebody else's may raise anything
        raise ConfigurationError([f"{where}: cannot import {module_name} ({type(fault).__name__}: {fault})"]) from None
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ConfigurationError([f"{where}: module {module_name} has no class {name}"])
    return found


def _made(where: str, kind: Any, options: Mapping[str, Any]) -> Any:
    try:
        return kind(**options)
    except ConfigurationError as error:
        raise ConfigurationError([f"{where}: {fault}" for fault in error.faults]) from None
    except Exception as fault:  # noqa: BLE001 - as above
        raise ConfigurationError([f"{where} cannot be made ({type(fault).__name__}: {fault})"]) from None
