"""Where an object's definition stands, said in one way in every view of the management API: `defined`.

Main entry: `Definitions`, made once per answer. Laws: it tells who can change the object: what comes from the file is
changed in the file, at the place that is told; no variable's value is ever told, its name is.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, Field

from apikeyrouter.domain.cost.overrides import PriceOverride
from apikeyrouter.domain.cost.price_book import STORED
from apikeyrouter.domain.models.api_key import APIKey
from apikeyrouter.domain.routing.deployments import Deployment
from apikeyrouter.domain.routing.policy import Policy
from apikeyrouter_proxy.bootstrap import Proxy
from apikeyrouter_proxy.config.faults import Place
from apikeyrouter_proxy.config.meaning import Meaning
from apikeyrouter_proxy.config.shown import effective
from apikeyrouter_proxy.providers import SIMULATED

__all__ = ["APIKeyView", "Defined", "Definitions"]


class Source(StrEnum):
    """Who says that something is there."""

    File = "file"
    Environment = "environment"
    Api = "api"
    BuiltIn = "built-in"
    Simulated = "simulated"


class Defined(BaseModel):
    """Where a definition stands."""

    source: Source = Field(
        description="file: the configuration file, changed there. environment: a variable. api: this API, kept in the "
        "store. built-in: it comes along. simulated: the provider that stands in while there is no key."
    )
    at: str = Field(default="", description='The line, such as "apikeyrouter.yaml:12"; the variable; else "".')


class APIKeyView(APIKey):
    """A key, and where it comes from."""

    defined: Defined


_API = Defined(source=Source.Api)
_BUILT_IN = Defined(source=Source.BuiltIn)
_SIMULATED = Defined(source=Source.Simulated)


def _variable(name: str = "") -> Defined:
    return Defined(source=Source.Environment, at=name)


class Definitions:
    """Where the objects of a running proxy come from, as it stands now."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._keeper = proxy.config
        self._settings = proxy.config.settings
        layered = proxy.config.layered
        self._meaning = layered.meaning if layered is not None else Meaning()
        known = layered.configuration if layered is not None else None
        self._folder = Path(known.path).parent if known is not None else Path()

    @cached_property
    def _keys(self) -> Mapping[str, str]:
        """Names in the file of keys, by id; one look for a whole list."""
        return {object_id: name for name, object_id in self._keeper.owned.keys.items()}

    @cached_property
    def _budgets(self) -> Mapping[str, str]:
        return {object_id: name for name, object_id in self._keeper.owned.budgets.items()}

    @cached_property
    def _variables(self) -> frozenset[tuple[str, str]]:
        return frozenset((one.variable, one.provider_id) for one in self._settings.env_keys)

    @cached_property
    def _deployments(self) -> Mapping[str, Deployment]:
        return {one.name: one for one in self._meaning.deployments}

    @cached_property
    def _policies(self) -> Mapping[str, Policy]:
        return {one.policy_id: one for one in self._meaning.policies}

    def key(self, key: APIKey) -> Defined:
        """Of a provider's key."""
        if key.id in self._keys:
            return self._file("keys", self._keys[key.id])
        if key.provider_id == SIMULATED:
            return _SIMULATED
        variable = key.metadata.get("source")
        if isinstance(variable, str) and (variable, key.provider_id) in self._variables:
            return _variable(variable)
        return _API

    def key_view(self, key: APIKey) -> APIKeyView:
        """The key as the API shows it."""
        return APIKeyView(**dict(key), defined=self.key(key))

    def budget(self, budget_id: str) -> Defined:
        """Of a budget."""
        return self._file("budgets", self._budgets[budget_id]) if budget_id in self._budgets else _API

    def virtual_key(self, virtual_key_id: str) -> Defined:
        """Of a virtual key."""
        name = virtual_key_id.removeprefix("vkf_")
        return self._file("virtual-keys", name) if name != virtual_key_id else _API

    def deployment(self, name: str) -> Defined:
        """Of a deployment, an alias or fallbacks."""
        one = self._proxy.router.deployments.book.configured.get(name)
        if one is None:
            return _API
        mine = one == self._deployments.get(name)
        return self._file("deployments", name) if mine else _variable("APIKEYROUTER_DEPLOYMENTS")

    def policy(self, policy_id: str) -> Defined:
        """Of a policy."""
        if policy_id not in self._proxy.router.policy_engine.configured:
            return _API
        mine = self._proxy.router.policy_engine.get_policy(policy_id) == self._policies.get(policy_id)
        return self._file("policies", policy_id) if mine else _variable("APIKEYROUTER_POLICIES")

    def price(self, origin: str, price: PriceOverride) -> Defined:
        """Of a price of the operator's own. `origin`: as the price book tells it."""
        if origin == STORED:
            return _API
        mine = price in self._meaning.prices
        return self._file("prices", "/".join(price.key)) if mine else _variable("APIKEYROUTER_PRICES")

    def listed_price(self) -> Defined:
        """Of a price that comes with the price list."""
        return _BUILT_IN

    def provider(self, provider_id: str, source: str) -> Defined:
        """Of a provider. `source`: as its view has it."""
        if source == "simulated":
            return _SIMULATED
        if any(one.id == provider_id for one in self._meaning.providers):
            return self._file("providers", provider_id)
        if source == "added":
            return _API
        if source == "configured":
            return _variable()
        variable = "OPENAI_BASE_URL" if provider_id == "openai" else ""
        layered = self._settings.config
        if variable and layered is not None and variable in layered.from_file:
            return self._file("providers", provider_id)
        origin = self._settings.origin
        given = variable and origin is not None and origin.environ.get(variable, "").strip()
        return _variable(variable) if given else _BUILT_IN

    def webhook(self) -> Defined | None:
        """Of where webhooks go; None: nowhere. A change of the file counts after the next start, so it is told as it
        was at this one."""
        settings = self._proxy.settings
        if settings.webhook is None:
            return None
        told = next(one for one in effective(settings) if one.where == "webhook.url")
        if told.source != "file":
            return _variable(told.at)
        known = settings.config.configuration if settings.config is not None else None
        return self._placed(known.place_of("webhook", "url") if known is not None else None)

    def _file(self, kind: str, name: str) -> Defined:
        return self._placed(self._keeper.place_named(kind, name))

    def _placed(self, place: Place | None) -> Defined:
        if place is None:
            return Defined(source=Source.File)
        file = Path(place.file)
        near = file.relative_to(self._folder) if file.is_relative_to(self._folder) else file
        return Defined(source=Source.File, at=f"{near}:{place.line}")
