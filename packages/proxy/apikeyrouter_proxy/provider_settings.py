"""Providers that the environment or a file names: what they are, before anything runs.

Main entries: `read_providers_file` (APIKEYROUTER_PROVIDERS_FILE, TOML or JSON) and `configured_providers`, which says
who is to be registered. A provider is five lines:

    [providers.acme]
    base_url = "https://llm.acme.example/v1"
    env = ["ACME_API_KEY"]
    quirks = ["no_stream_options"]

Laws: every fault is told with the provider's name; a file holds no keys, only the names of variables that do.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.provider_adapter import ProviderAdapter
from apikeyrouter.domain.models.call import Operation
from apikeyrouter.infrastructure.adapters.compatible import CompatibleAdapter
from apikeyrouter.infrastructure.adapters.http_adapter import HttpApi, HttpApiAdapter
from apikeyrouter.infrastructure.adapters.openai_adapter import OPENAI_BASE_URL, OpenAIAdapter
from apikeyrouter.infrastructure.catalogue.provider_row import ProviderRow, row_of
from apikeyrouter.infrastructure.catalogue.providers import NATIVE, find_row, provider, unknown_provider
from apikeyrouter_proxy.env_keys import EnvKey
from apikeyrouter_proxy.own_adapters import own_adapter

__all__ = [
    "SIMULATED",
    "Configured",
    "configured_providers",
    "operations_of",
    "read_provider",
    "read_providers_file",
]

SIMULATED = "simulated"
"""The id of the provider that stands in while no key is configured."""


@dataclass(frozen=True, slots=True)
class Configured:
    """One provider to register. `adapter`: how it is spoken to. `row`: None for those that are no rows."""

    id: str
    adapter: ProviderAdapter
    row: ProviderRow | None = None


def read_providers_file(path: str, environ: Mapping[str, str]) -> list[Configured]:
    """The providers of a file: a table `providers` by id, or a list of objects with an `id`. `like` takes over the rest
    of a known row; `kind = "http"` is an API that is no model's (`HttpApi`); `adapter = "module:Class"` is a class of
    the operator's own. Raises ConfigurationError."""
    try:
        raw = Path(path).expanduser().read_bytes()
        decoded = json.loads(raw) if path.endswith(".json") else tomllib.loads(raw.decode())
    except OSError as fault:
        raise ConfigurationError([f"cannot read {path!r} ({type(fault).__name__})"]) from None
    except (ValueError, UnicodeDecodeError) as fault:
        raise ConfigurationError([f"{path!r} is neither TOML nor JSON: {fault}"]) from None
    listed = decoded.get("providers", decoded) if isinstance(decoded, dict) else decoded
    if isinstance(listed, dict):
        listed = [{"id": name, **one} if isinstance(one, dict) else one for name, one in listed.items()]
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise ConfigurationError([f"{path!r}: expected tables [providers.ID], or a list of objects with an id"])
    faults: list[str] = []
    found: list[Configured] = []
    for one in listed:
        try:
            found.append(read_provider(one, environ, Path(path).expanduser().parent))
        except ConfigurationError as error:
            faults += [one if one.startswith("provider ") else f"{path!r}: {one}" for one in error.faults]
    if faults:
        raise ConfigurationError(faults)
    return found


def read_provider(document: Mapping[str, Any], environ: Mapping[str, str], folder: Path = Path()) -> Configured:
    """One provider from the members of its table and its `id`. `folder`: of the file, where an `adapter` of the
    operator's own may lie. Never for documents that come over the network: such a class runs here. Raises
    ConfigurationError."""
    given = dict(document)
    if given.get("id") == SIMULATED:
        raise ConfigurationError(
            [f"provider {SIMULATED!r}: that is the built-in provider's id, which answers while there is no key"]
        )
    if "adapter" in given:
        return _own(given, folder)
    kind, like = given.pop("kind", "compatible"), given.pop("like", None)
    if kind == "http":
        return _http(given)
    if kind != "compatible":
        raise ConfigurationError([f'provider {given.get("id")!r}: kind is "compatible" or "http"'])
    row = row_of(given, like=_like(given, str(like)) if like is not None else None)
    claims_all = None if row.makes or row.hosts_open else True
    return Configured(row.id, CompatibleAdapter(row, row.address(environ), claims_all=claims_all), row)


def _like(given: Mapping[str, Any], like: str) -> ProviderRow:
    """The row that another one takes over. OpenAI itself is none, but a server may have all that OpenAI has. Raises
    ConfigurationError."""
    if like == "openai":
        return ProviderRow(
            id="openai",
            base_url=OPENAI_BASE_URL,
            dialect="openai",
            operations={one: one.value for one in OpenAIAdapter(OPENAI_BASE_URL).native},
        )
    row = find_row(like)
    if row is not None:
        return row
    where = f"provider {given.get('id', '')!r}: like"
    if like in NATIVE:
        fault = (
            f"{where}: {like!r} speaks a format of its own, which is no row: leave `like` out and describe the "
            f"server, or write it into apikeyrouter.yaml, where `like: {like}` takes a base_url"
        )
        raise ConfigurationError([fault])
    raise ConfigurationError([f"{where}: {unknown_provider(like)}"])


def operations_of(given: object) -> list[Operation] | None:
    """A list of OpenAI's endpoints by their paths below /v1, such as "responses"; None where nothing is given. Raises
    ConfigurationError."""
    if given is None:
        return None
    try:
        return msgspec.convert(given, list[Operation])
    except msgspec.MsgspecError:
        known = ", ".join(OpenAIAdapter(OPENAI_BASE_URL).native)
        raise ConfigurationError([f"operations: expected a list of some of: {known}"]) from None


def _own(given: dict[str, Any], folder: Path) -> Configured:
    provider_id, env = str(given.pop("id", "")), given.pop("env", [])
    adapter = own_adapter(provider_id, given.pop("adapter"), given.pop("options", {}), folder)
    if given:
        raise ConfigurationError(
            [f"provider {provider_id!r}: {', '.join(given)}: beside adapter there are env and options"]
        )
    return Configured(provider_id, adapter, _row_for_keys(provider_id, adapter.base_url, env))


def _row_for_keys(provider_id: str, base_url: str, env: object) -> ProviderRow:
    """A row of its own, so that its variables are read as others' are."""
    return row_of({"id": provider_id, "base_url": base_url, "env": env, "operations": ["raw"]})


def _http(given: dict[str, Any]) -> Configured:
    provider_id, env = given.pop("id", ""), given.pop("env", [])
    try:
        api = msgspec.convert(given, HttpApi)
        adapter = HttpApiAdapter(api)
    except msgspec.MsgspecError as fault:
        raise ConfigurationError([f"provider {provider_id!r}: {fault}"]) from None
    except ConfigurationError as error:
        raise ConfigurationError([f"provider {provider_id!r}: {fault}" for fault in error.faults]) from None
    return Configured(provider_id, adapter, _row_for_keys(provider_id, api.base_url, env))


def configured_providers(
    keys: Iterable[EnvKey], file: Iterable[Configured], environ: Mapping[str, str], faults: list[str]
) -> list[Configured]:
    """Who is to be registered besides OpenAI: everything in the file, and each provider that has a key."""
    found = {one.id: one for one in file}
    for key in keys:
        if key.provider_id == "openai" or key.provider_id in found:
            continue
        try:
            adapter = provider(key.provider_id, environ=environ)
        except ConfigurationError as error:
            faults += [f"{key.variable}: {fault}" for fault in error.faults]
            continue
        found[key.provider_id] = Configured(key.provider_id, adapter, find_row(key.provider_id))
    return list(found.values())
