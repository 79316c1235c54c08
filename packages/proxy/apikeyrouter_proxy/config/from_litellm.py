"""A `config.yaml` of LiteLLM's proxy, as a document of ours.

Main entries: `is_litellm`, `translate`. A row of `model_list` becomes a target of the deployment `model_name`, with a
key of its own or one that several rows share; router, budget and general settings go to the members that mean the same.
Laws: what has no counterpart is told by name and line, never dropped in silence; each value keeps the place that it has
in the original, so that faults and `config show` point there; `os.environ/NAME` becomes `${NAME}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit

from apikeyrouter.infrastructure.catalogue.providers import find_row
from apikeyrouter_proxy.config.faults import Faults, Path, Place, dotted
from apikeyrouter_proxy.config.litellm_settings import Settings
from apikeyrouter_proxy.config.litellm_tables import (
    LIMITS,
    ONLY_TOLD,
    TIERS,
    environment_name,
    provider_id_of,
    provider_of_model,
)

__all__ = ["Translated", "is_litellm", "translate"]

_ADDRESS = re.compile(r"[0-9.]+|[0-9a-f:]+:[0-9a-f:]*|localhost|host\.docker\.internal")
_ENVIRONMENT = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")
_QUIET = frozenset({"model", "api_key", "api_base", "base_url", "api_version", "weight", "tags", "region_name",
                    "litellm_credential_name", *LIMITS, *TIERS})  # fmt: skip
_QUIET_INFO = frozenset({"id", "base_model", "mode", "description", "tier", "max_tokens", "max_output_tokens",
                         "max_input_tokens", "supports_vision", "supports_function_calling", *TIERS})  # fmt: skip


def is_litellm(tree: Mapping[str, Any]) -> bool:
    """Whether a document has LiteLLM's shape and none of our members."""
    ours = ("keys", "deployments", "server", "providers")
    return isinstance(tree.get("model_list"), list) and not any(name in tree for name in ours)


@dataclass(slots=True)
class Translated:
    """A document of ours. `told`: what was left out or is otherwise, a line each."""

    tree: dict[str, Any] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)


def translate(tree: dict[str, Any], faults: Faults) -> Translated:
    """The document in our form; places in `faults` become those of its members."""
    translator = _Translator(tree, faults)
    translator.rows()
    Settings(translator).read()
    translator.finish()
    return translator.made


@dataclass(slots=True)
class _Row:
    """A row that was taken. `at`: its path in the original."""

    name: str
    params: Mapping[str, Any]
    at: Path
    key: str | None


class _Translator:
    """Collects the document. `origins`: the path in the original of each member of ours."""

    def __init__(self, tree: dict[str, Any], faults: Faults) -> None:
        self.source = tree
        self.made = Translated()
        self._faults = faults
        self._places, self._names = dict(faults.places), dict(faults.names)
        self._origins: dict[Path, Path] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._rows: list[_Row] = []
        variables = tree.get("environment_variables")
        self._variables: Mapping[str, Any] = variables if isinstance(variables, Mapping) else {}

    # -- writing ----------------------------------------------------------------------------------------------------

    def put(self, path: Path, value: Any, at: Path) -> None:
        """Sets a member of ours; `at`: where the original says it."""
        tree: Any = self.made.tree
        for part in path[:-1]:
            tree = tree.setdefault(part, {})
        tree[path[-1]] = value
        for length in range(1, len(path) + 1):
            self._origins.setdefault(path[:length], at)
        self._origins[path] = at

    def has(self, *path: str) -> bool:
        """Whether a member of ours was set."""
        tree: Any = self.made.tree
        for part in path:
            if not isinstance(tree, dict) or part not in tree:
                return False
            tree = tree[part]
        return True

    def tell(self, at: Path, why: str = "") -> None:
        """Notes what has no counterpart."""
        place = self._place(at)
        reason = why or ONLY_TOLD.get(str(at[-1]), "has no counterpart here")
        self.made.told.append(f"{f'{place}: ' if place else ''}{dotted(at)}: {reason.rstrip('.')}.")

    def reference(self, value: Any, seen: tuple[str, ...] = ()) -> str:
        """`os.environ/NAME` as `${NAME}`; any other text as it is. `seen`: names that led here: one of
        `environment_variables` that leads back to itself is one of the environment."""
        text = str(value).strip()
        match = _ENVIRONMENT.fullmatch(text)
        if match is None:
            return text.replace("$", "$$")
        name = match[1]
        given = self._variables.get(name)
        return f"${{{name}}}" if given is None or name in seen else self.reference(given, (*seen, name))

    def finish(self) -> None:
        """Gives every member of ours its place in the original."""
        places, names = self._faults.places, self._faults.names
        places.clear()
        names.clear()
        if () in self._places:
            places[()] = self._places[()]
        for path, at in self._origins.items():
            place = self._place(at)
            if place is not None:
                places[path] = place
                names[path] = self._names.get(at, place)

    def _place(self, at: Path) -> Place | None:
        while at and at not in self._places:
            at = at[:-1]
        return self._places.get(at)

    # -- rows -------------------------------------------------------------------------------------------------------

    def rows(self) -> None:
        """`model_list`."""
        for number, row in enumerate(self.source["model_list"]):
            at: Path = ("model_list", number)
            params = row.get("litellm_params") if isinstance(row, Mapping) else None
            if not isinstance(params, Mapping) or not params.get("model") or not row.get("model_name"):
                self.tell(at, "has no model_name, or no litellm_params with a model")
                continue
            self._row(str(row["model_name"]), self._with_credential(params, at), row, at)
        self._limits()

    def _with_credential(self, params: Mapping[str, Any], at: Path) -> Mapping[str, Any]:
        wanted = params.get("litellm_credential_name")
        if wanted is None:
            return params
        listed = self.source.get("credential_list")
        for one in listed if isinstance(listed, list) else []:
            if isinstance(one, Mapping) and one.get("credential_name") == wanted:
                values = one.get("credential_values")
                return {**(values if isinstance(values, Mapping) else {}), **params}
        self.tell((*at, "litellm_params", "litellm_credential_name"), f"credential_list has no {wanted!r}")
        return params

    def _row(self, name: str, params: Mapping[str, Any], row: Mapping[str, Any], at: Path) -> None:
        within: Path = (*at, "litellm_params")
        model = str(params["model"]).strip()
        provider_id, model = self._provider(model, params, within)
        if provider_id is None:
            return
        key = self._key(provider_id, params, within)
        self._rows.append(_Row(name, params, within, key))
        self._told_of(params, row, at)
        if "*" in name or "*" in model:
            served = "" if name == "*" else f" as {provider_id}/MODEL"
            self.tell((*at, "model_name"), f"is not needed: any model of {provider_id} can be asked for{served}")
            return
        target: dict[str, Any] = {"provider": provider_id, "model": model}
        if key is not None:
            target["keys"] = [key]
        if isinstance(params.get("weight"), int | float) and params["weight"] > 0:
            target["weight"] = params["weight"]
        if isinstance(params.get("tags"), list):
            target["tags"] = [str(tag) for tag in params["tags"]]
        info = row.get("model_info")
        info = info if isinstance(info, Mapping) else {}
        if isinstance(info.get("max_input_tokens"), int):
            target["context_window"] = info["max_input_tokens"]
        self._target(name, target, at)
        self._price(provider_id, model, {**info, **params}, within)

    def _target(self, name: str, target: dict[str, Any], at: Path) -> None:
        path: Path = ("deployments", name, "targets")
        if not self.has(*map(str, path)):
            self.put(path, [], at)
        targets = self.made.tree["deployments"][name]["targets"]
        for known in targets:
            if (known["provider"], known["model"]) == (target["provider"], target["model"]):
                both = [*known.get("keys", []), *target.get("keys", [])]
                if both:
                    known["keys"] = list(dict.fromkeys(both))
                return
        self._origins[(*path, len(targets))] = at
        targets.append(target)

    def _told_of(self, params: Mapping[str, Any], row: Mapping[str, Any], at: Path) -> None:
        for member in params:
            if member not in _QUIET and params[member] is not None and (*at, "litellm_params", member) in self._places:
                self.tell((*at, "litellm_params", str(member)))
        info = row.get("model_info")
        for member in info if isinstance(info, Mapping) else ():
            if member not in _QUIET_INFO and not str(member).startswith("supports_"):
                self.tell((*at, "model_info", str(member)))
        for member in row:
            if member not in ("model_name", "litellm_params", "model_info"):
                self.tell((*at, str(member)))

    # -- providers --------------------------------------------------------------------------------------------------

    def _provider(self, model: str, params: Mapping[str, Any], at: Path) -> tuple[str | None, str]:
        """(our provider, its model), or None when there is none."""
        given = params.get("api_base") or params.get("base_url")
        base = self.reference(given) if given else None
        if base is not None and not _is_address(base):
            self.tell((*at, "api_base"), "is no address of a server")
            return None, model
        prefix, slash, rest = model.partition("/")
        known = provider_id_of(prefix) if slash else None
        name = rest if known is not None else model
        if params.get("custom_llm_provider"):
            known, name = provider_id_of(str(params["custom_llm_provider"])), model
        if known is None and (not slash or base):
            known = "openai" if base else provider_of_model(model)
        if known is None or known in ("bedrock", "vertex"):
            why = {
                "bedrock": "set BEDROCK_REGION and the AWS variables, and add provider bedrock to the deployment",
                "vertex": "register a credential (`apikeyrouter credentials add`), and add provider vertex",
            }.get(known or prefix, f"no provider is known as {prefix!r}; define it under providers with a base_url")
            self.tell((*at, "model"), why)
            return None, model
        if known == "azure":
            return self._azure(base, params, at), name.removeprefix("responses/")
        if base is None:
            if known in ("ollama", "vllm", "litellm", "lmstudio") and not self.has("providers", known):
                self.put(("providers", known), {}, at)
            return known, name
        return self._placed(known, base, at), name

    def _azure(self, base: str | None, params: Mapping[str, Any], at: Path) -> str:
        endpoint = base or "${AZURE_API_BASE}"
        part = {"like": "azure", "endpoint": endpoint}
        if params.get("api_version"):
            part["api_version"] = self.reference(params["api_version"])
        return self._named("azure", part, endpoint, at)

    def _placed(self, known: str, base: str, at: Path) -> str:
        """A known provider at an address of the user's own."""
        row = find_row(known)
        if known == "ollama" and not base.rstrip("/").endswith("/v1"):
            base = base.rstrip("/") + "/v1"
        if row is not None and row.base_url.rstrip("/") == base.rstrip("/"):
            return known
        if known == "openai" and base.rstrip("/") in ("https://api.openai.com/v1", "https://api.openai.com"):
            return known
        part = {"base_url": base}
        local = (urlsplit(base).hostname or "") in ("localhost", "127.0.0.1", "host.docker.internal", "::1")
        if known == "openai" and "$" not in base:
            part["keyless"] = True  # type: ignore[assignment] # a provider of its own, with any members
            return self._named("local" if local else "", part, base, at)
        return self._named(known, part if known == "openai" else {"like": known, **part}, base, at)

    def _named(self, known: str, part: dict[str, Any], base: str, at: Path) -> str:
        """The id of a provider with these members: there already, or made now."""
        providers = self.made.tree.get("providers", {})
        for name, there in providers.items():
            if there == part:
                return str(name)
        spot = (base.partition("{")[2].partition("}")[0].lower() if "${" in base else urlsplit(base).hostname) or ""
        if _ADDRESS.fullmatch(spot):
            spot = str(urlsplit(base).port or "") if known else f"server-{urlsplit(base).port or spot}"
        words = [word for word in re.split(r"[^a-z0-9]+", spot.lower()) if word not in ("api", "www", "com", "v1", "")]
        words = [word for word in words if word not in ("openai", "azure", "base", "ai", "io")] or words
        slug = "-".join([word for word in (known, *words[:2]) if word])[:48] or "server"
        name, number = slug, 2
        if known in ("ollama", "vllm", "lmstudio", "litellm") and known not in providers:
            name = known
            part.pop("like", None)
        while name in providers or (name == "openai"):
            name, number = f"{slug}-{number}", number + 1
        self.put(("providers", name), part, (*at, "api_base"))
        return name

    # -- keys, limits, prices ---------------------------------------------------------------------------------------

    def _key(self, provider_id: str, params: Mapping[str, Any], at: Path) -> str | None:
        part = self.made.tree.get("providers", {}).get(provider_id, {})
        row = find_row(str(part.get("like", provider_id)))
        given = params.get("api_key")
        if given in (None, ""):
            if part.get("keyless") or (row is not None and row.keyless):
                secret = ""
            else:
                secret = f"${{{environment_name(str(part.get('like', provider_id)))}}}"
        else:
            secret = self.reference(given)
        known = self._keys.get((provider_id, secret))
        if known is not None:
            return known
        number = 1 + sum(provider == provider_id for provider, _ in self._keys)
        name = f"{provider_id}-{number}"
        self._keys[provider_id, secret] = name
        at = (*at, "api_key") if given else at
        self.put(("keys", name), {"provider": provider_id, **({"secret": secret} if secret else {})}, at)
        self._origins[("keys", name, "secret")] = at
        return name

    def _limits(self) -> None:
        """Limits of rows, where a key serves one row, or the same limits in each."""
        for name in list(self.made.tree.get("keys", {})):
            rows = [row for row in self._rows if row.key == name and "*" not in row.name]
            for theirs, ours in LIMITS.items():
                said = [(row, row.params[theirs]) for row in rows if row.params.get(theirs) is not None]
                if not said:
                    continue
                if len(said) == len(rows) == 1:
                    self.put(("keys", name, ours), said[0][1], (*said[0][0].at, theirs))
                    continue
                for row, _ in said:
                    self.tell((*row.at, theirs), f"limits are a key's here, and {name} serves {len(rows)} rows; the "
                              "provider's own headers count, or set it once for the key")  # fmt: skip

    def _price(self, provider_id: str, model: str, given: Mapping[str, Any], at: Path) -> None:
        if given.get("input_cost_per_token") is None or given.get("output_cost_per_token") is None:
            return
        price: dict[str, Any] = {"unit": "per_1m"}
        for theirs, ours in TIERS.items():
            if given.get(theirs) is not None:
                try:
                    price[ours] = format((Decimal(str(given[theirs])) * 1_000_000).normalize(), "f")
                except InvalidOperation:
                    self.tell((*at, theirs), "is no number")
                    return
        self.put(("prices", f"{provider_id}/{model}"), price, (*at, "input_cost_per_token"))


def _is_address(base: str) -> bool:
    """Whether it can be taken apart; what a reference in it stands for is not known."""
    try:
        split = urlsplit(base)
        return "$" in base or split.port is None or bool(split.hostname)
    except ValueError:  # a bracket that is not closed, a port that is no number
        return False
