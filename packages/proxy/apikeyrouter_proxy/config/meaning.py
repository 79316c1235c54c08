"""What the objects of a configuration mean to the router: read by the router's own readers, faults at their places.

Main entry: `meaning_of`. Providers are in `provider_parts`. Laws: everything is looked at, and every fault is told;
what refers to another object of the file is checked here, what refers to the world (a key's material at its provider)
is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path as FilePath
from typing import Any, TypeVar

from apikeyrouter.domain.cost.budgets import BudgetDefinition, define_budget
from apikeyrouter.domain.cost.overrides import PriceOverride, read_override
from apikeyrouter.domain.errors import ConfigurationError, RouterError
from apikeyrouter.domain.keys.metadata import LIMITS, clean_label, clean_material, clean_metadata
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.budget import BudgetScope, TimeWindow
from apikeyrouter.domain.routing.deployments import Deployment, read_deployment
from apikeyrouter.domain.routing.policy import Policy, read_policy
from apikeyrouter.infrastructure.catalogue.provider_row import KEYLESS
from apikeyrouter.infrastructure.catalogue.providers import NATIVE, find_row, unknown_provider
from apikeyrouter.infrastructure.config.settings import RouterSettings
from apikeyrouter.meter import RESERVED_TAGS
from apikeyrouter.muxer.groups import ModelGroup, read_group
from apikeyrouter_proxy import budget_forms
from apikeyrouter_proxy.config.faults import Faults, Path, nearest
from apikeyrouter_proxy.config.loading import Configuration
from apikeyrouter_proxy.config.objects import Key, Money, Part
from apikeyrouter_proxy.config.provider_parts import provider_of
from apikeyrouter_proxy.config.types import ROUTER_FIELDS, ConfigFile
from apikeyrouter_proxy.declared import DeclaredKey, declared_id
from apikeyrouter_proxy.env_keys import is_placeholder
from apikeyrouter_proxy.provider_settings import Configured

__all__ = ["FileBudget", "FileKey", "Meaning", "meaning_of", "said"]

_Read = TypeVar("_Read")
_SECRET_LENGTH_MIN = 16
_DECODED = re.compile(r"(?:provider '[^']*': )?(.*) - at `\$\.([^`]+)`")
_SPOT = re.compile(r"((?:[^\s:.\[\]]+|\[\d+\]|\.)+): (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class FileKey:
    """A provider's key. `name`: its label, and who it is over changes of its secret."""

    name: str
    provider_id: str
    material: Secret
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FileBudget:
    """A budget. `scope_id`: as it was written: a key's label, a virtual key's name."""

    name: str
    definition: BudgetDefinition
    scope_id: str | None


@dataclass(slots=True)
class Meaning:
    """What a configuration asks for. `router`: fields of `RouterSettings`."""

    router: dict[str, Any] = field(default_factory=dict)
    providers: list[Configured] = field(default_factory=list)
    keys: list[FileKey] = field(default_factory=list)
    prices: list[PriceOverride] = field(default_factory=list)
    budgets: list[FileBudget] = field(default_factory=list)
    deployments: list[Deployment] = field(default_factory=list)
    groups: list[ModelGroup] = field(default_factory=list)
    policies: list[Policy] = field(default_factory=list)
    virtual_keys: list[DeclaredKey] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def said(part: Part) -> dict[str, Any]:
    """The members that were written."""
    return part.model_dump(exclude_unset=True)


def meaning_of(
    configuration: Configuration, environ: Mapping[str, str], faults: Faults, *, trusted: bool = True
) -> Meaning:
    """What the configuration means; faults are noted at their places. `trusted`: False for texts that came over the
    API: their classes are not run. Faults may quote `environ`, so that callers give such texts none of its values."""
    return _Reader(configuration, environ, faults, trusted=trusted).read()


class _Reader:
    def __init__(
        self, configuration: Configuration, environ: Mapping[str, str], faults: Faults, *, trusted: bool
    ) -> None:
        self._file: ConfigFile = configuration.file
        self._tree = configuration.tree
        self._path = configuration.path
        self._folder = FilePath(configuration.path).parent if trusted else None
        self._environ = environ
        self._faults = faults
        self._found = Meaning()

    def read(self) -> Meaning:
        """Everything, section by section."""
        self._router()
        for name, part in self._file.providers.items():
            self._try(
                ("providers", name),
                partial(provider_of, name, said(part), self._environ, self._folder),
                self._found.providers,
            )
        for name, key in self._file.keys.items():
            self._key(name, key)
        for name, price in self._file.prices.items():
            provider, slash, model = name.partition("/")
            named = {"provider": provider, "model": model} if slash else {"provider": "*", "model": name}
            self._try(("prices", name), partial(read_override, {**named, **said(price)}), self._found.prices)
        for name, document in self._deployments().items():
            self._try(self._home(name), partial(read_deployment, document), self._found.deployments)
        for name, group in self._file.model_groups.items():
            self._try(("model_groups", name), partial(read_group, {"name": name, **said(group)}), self._found.groups)
        for path, document in self._policies():
            self._try(path, partial(read_policy, document), self._found.policies)
        for name, budget in self._file.budgets.items():
            self._budget(("budgets", name), name, budget, budget.scope, budget.scope_id)
        for name, team in self._file.teams.items():
            if team.budget is not None:
                self._budget(("teams", name, "budget"), f"team-{name}", team.budget, "team", name)
        self._virtual_keys()
        return self._found

    def _try(self, path: Path, read: Callable[[], _Read], into: list[_Read]) -> None:
        """Reads an object; each line of its fault is told at the member that it names."""
        try:
            into.append(read())
        except ConfigurationError as error:
            lines = error.faults
        except RouterError as error:
            lines = [error.message]
        except ValueError as error:
            lines = str(error).splitlines()
        else:
            return
        for line in lines:
            below, message = self._spot(path, line)
            self._faults.add(below, message)

    def _spot(self, path: Path, line: str) -> tuple[Path, str]:
        """`targets[0].weight: expected ...` names the member; what names none is about the object."""
        match = _SPOT.fullmatch(line)
        decoded = _DECODED.fullmatch(line)
        if decoded is not None:
            match, line = _SPOT.fullmatch(f"{decoded[2]}: {decoded[1]}"), decoded[1]
        if match is None:
            return path, line
        parts = [int(p[1:-1]) if p[0] == "[" else p for p in re.findall(r"\[\d+\]|[^.\[\]]+", match[1])]
        below = path
        for part in parts:
            if (*below, part) not in self._faults.places:
                break
            below = (*below, part)
        return (below, match[2]) if below != path else (path, line)

    # -- sections ---------------------------------------------------------------------------------------------------

    def _router(self) -> None:
        given = said(self._file.router)
        if self._file.objective is not None:
            if "default_objective" in given:
                self._faults.add(("objective",), "router.default_objective says it too", "keep one", at_name=True)
            given["default_objective"] = self._file.objective
        if not given:
            return
        try:
            RouterSettings(**given, log_level="INFO")
        except ConfigurationError as error:
            for line in error.faults:
                name, _, what = line.partition(": ")
                if "from the environment" not in name and name.partition(".")[0] in ROUTER_FIELDS:
                    self._faults.add(("router", name.partition(".")[0]), what.replace("Input should be", "expected"))
        self._found.router = given

    def _key(self, name: str, key: Key) -> None:
        path: Path = ("keys", name)
        given = said(key)
        written = self._tree.get("providers")
        own: Mapping[str, Any] = written if isinstance(written, Mapping) else {}
        row = find_row(key.provider)
        known = key.provider in own or key.provider in NATIVE or row is not None
        provider_id = key.provider if key.provider in own or row is None else row.id
        if not known:
            self._faults.add((*path, "provider"), unknown_provider(key.provider).rstrip("."))
        if key.secret is None and not (known and self._keyless(provider_id)):
            self._faults.add(path, "'secret' is required", "such as ${OPENAI_API_KEY}", at_name=True)
            return
        material = key.secret if key.secret is not None else KEYLESS
        metadata = {"source": self._path.rpartition("/")[2] or "configuration", **given.pop("metadata", {})}
        metadata |= {field: value for field, value in given.items() if field not in ("provider", "secret", "pool")}
        metadata |= self._pool(path, key)
        if is_placeholder(material):
            self._faults.add((*path, "secret"), "is a placeholder", "put a reference such as ${OPENAI_API_KEY}")
            return
        if key.secret == "":
            if not any(one.where == f"keys.{name}.secret" for one in self._faults.found):
                self._faults.add((*path, "secret"), "is empty")
            return
        if key.secret and self._is_literal(path):
            self._found.warnings.append(
                f"keys.{name}.secret stands in the file in the clear; put it into the environment or a file of its "
                "own, and a reference such as ${OPENAI_API_KEY} here."
            )

        def read() -> FileKey:
            text = clean_material(material)
            return FileKey(clean_label(name, text), provider_id, Secret(text), clean_metadata(metadata, text))

        self._try(path, read, self._found.keys if known else [])

    def _is_literal(self, path: Path) -> bool:
        written = self._tree.get(str(path[0]), {}).get(path[1], {})
        text = written.get("secret") if isinstance(written, Mapping) else None
        return isinstance(text, str) and "${" not in text

    def _keyless(self, provider_id: str) -> bool:
        part = self._file.providers.get(provider_id)
        if part is not None and part.keyless is not None:
            return part.keyless
        row = find_row((part.like if part is not None else None) or provider_id)
        return row is not None and row.keyless

    def _pool(self, path: Path, key: Key) -> dict[str, Any]:
        """The metadata that the key's pool stands for."""
        if key.pool is None:
            return {}
        pool = self._file.pools.get(key.pool)
        shared: dict[str, Any] = {"quota_pool": key.pool}
        if pool is None:
            return shared
        for name, value in said(pool).items():
            if getattr(key, name, None) is not None:
                self._faults.add((*path, name), f"pools.{key.pool}.{name} says it for every key of the pool")
            shared[name] = value
        return {name: value for name, value in shared.items() if name in (*LIMITS, "tier", "quota_pool")}

    def _deployments(self) -> dict[str, dict[str, Any]]:
        """Deployments with aliases and fallbacks, as documents by name."""
        found: dict[str, dict[str, Any]] = {
            name: {"name": name, **said(one)} for name, one in self._file.deployments.items()
        }
        for name, target in self._file.aliases.items():
            if name in found:
                self._faults.add(("aliases", name), f"deployments.{name} is called so, too", at_name=True)
            elif target in self._file.deployments:
                found[name] = {**found[target], "name": name}
            elif "/" in target:
                found[name] = {"name": name, "targets": [target]}
            else:
                hint = nearest(target, self._file.deployments)
                told = f"{target!r} is neither provider/model nor a deployment"
                self._faults.add(("aliases", name), told, hint if hint.startswith("did") else "write provider/model")
        for name, listed in self._file.fallbacks.items():
            if found.get(name, {}).get("fallbacks"):
                self._faults.add(("fallbacks", name), f"deployments.{name}.fallbacks says it too", at_name=True)
            else:
                found[name] = {**found.get(name, {"name": name}), "fallbacks": listed}
        return found

    def _home(self, name: str) -> Path:
        if name in self._file.deployments:
            return ("deployments", name)
        return ("aliases" if name in self._file.aliases else "fallbacks", name)

    def _policies(self) -> list[tuple[Path, dict[str, Any]]]:
        found: list[tuple[Path, dict[str, Any]]] = [
            (("policies", name), {"id": name, **said(one)}) for name, one in self._file.policies.items()
        ]
        for name, team in self._file.teams.items():
            if team.policy is not None:
                document = {"id": f"team-{name}", "scope": "team", "scope_id": name, **said(team.policy)}
                found.append((("teams", name, "policy"), document))
        for _, document in found:
            scope = str(document.get("scope", "")).removeprefix("per_")
            if scope == "virtual_key" and document.get("scope_id") in self._file.virtual_keys:
                document["scope_id"] = declared_id(str(document["scope_id"]))
        return found

    def _budget(self, path: Path, name: str, given: Money, scope: str, scope_id: str | None) -> None:
        """A budget. What fits stands in for what does not, so that each of its faults is told."""
        before = len(self._faults.found)
        limit = self._fitting((*path, "limit"), budget_forms.limit, given.limit, Decimal(1))
        period = self._fitting((*path, "period"), budget_forms.period, given.period, TimeWindow.Daily)
        zone = self._fitting((*path, "time_zone"), budget_forms.time_zone, given.time_zone, "UTC")
        of = self._fitting((*path, "scope"), _scope, scope, None)
        if of is BudgetScope.PerKey and scope_id is not None and scope_id not in self._file.keys:
            hint = nearest(scope_id, self._file.keys, "keys of this file are") or "it has no keys"
            self._faults.add((*path, "scope_id"), f"no key of this file is called {scope_id!r}", hint)

        def read(named: str, of: BudgetScope, scope_id: str | None, rolling: bool) -> FileBudget:
            definition = define_budget(
                of, scope_id, limit, period, given.enforcement_mode, rolling=rolling, time_zone=zone, name=named
            )
            return FileBudget(name, definition, scope_id)

        if of is not None:
            self._try((*path, "scope_id"), partial(read, "", of, scope_id, False), [])
        self._try((*path, "rolling"), partial(read, "", BudgetScope.Global, None, given.rolling), [])
        if of is None or len(self._faults.found) > before:
            self._try(path, partial(read, name, BudgetScope.Global, None, False), [])
        else:
            self._try(path, partial(read, name, of, scope_id, given.rolling), self._found.budgets)

    def _fitting(self, path: Path, form: Callable[[Any], _Read], value: object, instead: _Read) -> _Read:
        """What the value means; `instead`, and a fault, for what means nothing."""
        try:
            return form(value)
        except ValueError as fault:
            self._faults.add(path, str(fault))
            return instead

    def _virtual_keys(self) -> None:
        seen: dict[str, str] = {}
        for name, one in self._file.virtual_keys.items():
            path: Path = ("virtual_keys", name)
            secret = one.secret
            if is_placeholder(secret) or len(secret) < _SECRET_LENGTH_MIN or not all("!" <= c <= "~" for c in secret):
                told = f"must be {_SECRET_LENGTH_MIN} printable ASCII characters or more, and no placeholder"
                self._faults.add((*path, "secret"), told, "make one with: openssl rand -hex 24")
            if secret in seen:
                self._faults.add((*path, "secret"), f"is that of virtual_keys.{seen[secret]}, too")
            seen[secret] = name
            for tag in sorted(set(one.tags or {}) & set(RESERVED_TAGS)):
                self._faults.add((*path, "tags", tag), "is no name for a tag", "a team has a member of its own")
            expires_at_s = None
            if one.expires_at is not None and (expires_at_s := _moment_s(one.expires_at)) is None:
                told = "expected a day such as 2026-12-31, or a time with its zone such as 2026-12-31T09:00Z"
                self._faults.add((*path, "expires_at"), told)
            if not 0 < one.weight <= 1000:
                self._faults.add((*path, "weight"), "expected a number above 0 and up to 1000")
            models = None if one.models is None else tuple(one.models)
            providers = None if one.providers is None else tuple(one.providers)
            limits = (one.rpm, one.tpm, one.parallel, one.weight)
            self._found.virtual_keys.append(
                DeclaredKey(
                    name, Secret(secret or "-"), one.role, models, providers, one.team, one.tags or {}, expires_at_s,
                    *limits,
                )
            )  # fmt: skip


def _scope(given: str) -> BudgetScope:
    text = given.strip().lower().replace("-", "_")
    known = {scope.value.removeprefix("per_"): scope for scope in BudgetScope}
    found = known.get(text.removeprefix("per_"))
    if found is None:
        raise ValueError(f"expected one of {', '.join(known)}")
    return found


def _moment_s(text: str) -> float | None:
    """Unix seconds of a day's beginning (UTC) or of a time with its zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC).timestamp() if len(text) <= 10 else None
    return moment.timestamp()
