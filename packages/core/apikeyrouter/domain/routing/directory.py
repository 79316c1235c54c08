"""Who could serve what: registered providers, and the group of candidates of each model.

`group_for` answers with a cached `Group`; groups are rebuilt when keys or providers come and go, and told when a key
changes state. A request that names no provider is served by those that claim its model, or by the only one there is.
A name that a deployment has stands for the deployment's targets; `fallbacks_for` says what is tried after a group.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Protocol

from apikeyrouter.domain.components.key_manager import KeyManager
from apikeyrouter.domain.errors import ProviderNotRegisteredError, ProviderRegistrationError
from apikeyrouter.domain.interfaces.model_names import ModelNames, NoNames
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.domain.interfaces.provider_adapter import ProviderAdapter
from apikeyrouter.domain.keys.record import KeyRecord
from apikeyrouter.domain.quota.pools import PoolView
from apikeyrouter.domain.routing.candidates import Candidate, Group
from apikeyrouter.domain.routing.deployments import Deployment, Deployments, Target
from apikeyrouter.domain.routing.fallbacks import FallbackReason
from apikeyrouter.domain.routing.provider import Provider
from apikeyrouter.domain.routing.stats import KeyStats

__all__ = ["Directory", "PoolViews", "Prices"]

_GROUPS_MAX = 512


class Prices(Protocol):
    """The price of a model for one key: what `CostController.price_for` answers."""

    def __call__(self, metadata: Mapping[str, object], provider_id: str, model: str) -> ModelPrice | None:
        """The price, or None when unknown."""
        ...


class PoolViews(Protocol):
    """What a key's quota pool has for a model: `Pools.view`."""

    def __call__(self, record: KeyRecord, dialect_name: str, model: str) -> PoolView:
        """Made on first use; keys of one pool share it."""
        ...


class Directory:
    """Providers and groups. All synchronous. `deployments`: names that stand for other models; say `changed` when they
    are others than before. `names`: what models are called, and where."""

    def __init__(
        self,
        keys: KeyManager,
        prices: Prices,
        pools: PoolViews,
        considered_max: int,
        deployments: Deployments | None = None,
        names: ModelNames | None = None,
    ) -> None:
        self._names = NoNames() if names is None else names
        self.deployments = Deployments() if deployments is None else deployments
        self._keys = keys
        self._prices = prices
        self._pools = pools
        self._considered_max = considered_max
        self._providers: dict[str, Provider] = {}
        self._stats: dict[str, KeyStats] = {}
        self._groups: OrderedDict[tuple[str | None, str], Group] = OrderedDict()
        self._known: dict[str, Sequence[KeyRecord]] = {}
        self._generation = 0

    @property
    def providers(self) -> Mapping[str, Provider]:
        """Registered providers by id."""
        return self._providers

    def stats(self, key_id: str) -> KeyStats:
        """The running statistics of a key."""
        found = self._stats.get(key_id)
        if found is None:
            found = self._stats[key_id] = KeyStats()
        return found

    def register(self, provider_id: str, adapter: ProviderAdapter, *, overwrite: bool = False) -> Provider:
        """Adds a provider. Raises ProviderRegistrationError when the id is taken or something is malformed."""
        if not isinstance(provider_id, str) or not provider_id.strip() or "/" in provider_id or len(provider_id) > 64:
            raise ProviderRegistrationError(
                f"Provider id {provider_id!r} cannot be used: give 1 to 64 characters without '/', such as 'openai'."
            )
        if not isinstance(adapter, ProviderAdapter):
            raise ProviderRegistrationError(
                f"{type(adapter).__name__} is no provider adapter: it lacks methods of ProviderAdapter. "
                "Pass an instance such as OpenAIAdapter()."
            )
        if provider_id in self._providers and not overwrite:
            raise ProviderRegistrationError(
                f"Provider {provider_id!r} is registered already; pass overwrite=True to replace its adapter."
            )
        provider = self._providers[provider_id] = Provider(provider_id, adapter)
        self.changed()
        return provider

    def unregister(self, provider_id: str) -> None:
        """Takes a provider out of service; its keys stay, unused. Unknown ids are ignored."""
        if self._providers.pop(provider_id, None) is not None:
            self.changed()

    def require(self, provider_id: str) -> Provider:
        """The provider of this id. Raises ProviderNotRegisteredError."""
        provider = self._providers.get(provider_id)
        if provider is None:
            have = f"registered are: {', '.join(sorted(self._providers))}" if self._providers else "none is registered"
            raise ProviderNotRegisteredError(
                f"Provider {provider_id!r} is not registered ({have}). "
                f"Call `await router.register_provider({provider_id!r}, adapter)` first.",
                provider_id=provider_id,
                registered=sorted(self._providers),
            )
        return provider

    def changed(self) -> None:
        """Keys, providers or deployments came, went or got other prices or weights: groups are rebuilt at their next
        use."""
        self._generation += 1

    def knows(self, provider_id: str) -> bool:
        """Whether the provider's keys are still those that groups were built of; remembers them if not."""
        records = self._keys.records(provider_id)
        same = self._known.get(provider_id) is records
        self._known[provider_id] = records
        return same

    def key_moved(self, key_id: str) -> None:
        """A key's state changed: whoever parked it looks again."""
        for group in self._groups.values():
            if not group.small:
                for candidate in group.candidates:
                    if candidate.record.key_id == key_id:
                        group.unpark(candidate)

    def split_model(self, model: str) -> tuple[str | None, str]:
        """`provider/model` -> (provider, model) when that provider is registered, else (None, the name as it is); so
        for the name of a deployment."""
        if model in self.deployments.names:
            return None, model
        head, slash, rest = model.partition("/")
        meant = self._names.provider_meant(head, self._providers) if slash and rest else None
        return (meant, rest) if meant is not None else (None, model)

    def group_for(self, provider_id: str | None, model: str) -> Group:
        """The candidates for a model. Raises ProviderNotRegisteredError when nobody could ever serve it."""
        key = (provider_id, model)
        group = self._groups.get(key)
        if group is not None and group.generation == self._generation:
            self._groups.move_to_end(key)
            return group
        return self._build(key, group)

    def fallbacks_for(
        self, provider_id: str | None, model: str, reason: FallbackReason = FallbackReason.Unavailable
    ) -> Sequence[Group]:
        """Groups to try, in order, when that of the model failed for `reason`. Requests for one provider stay with it;
        groups that no provider could serve are left out."""
        deployment = self.deployments.get(model)
        if deployment is None:
            return ()
        names = deployment.fallbacks if reason is FallbackReason.Unavailable else deployment.context_fallbacks
        return self.groups_of(names, provider_id)

    def groups_of(self, names: Sequence[str], provider_id: str | None = None) -> list[Group]:
        """The groups of models or deployments by name, without those that no provider could serve. `provider_id`:
        only of this one."""
        groups: list[Group] = []
        for name in names:
            named, bare = self.split_model(name)
            if provider_id is not None and named not in (None, provider_id):
                continue
            try:
                groups.append(self.group_for(named or provider_id, bare))
            except ProviderNotRegisteredError:
                continue
        return groups

    def _build(self, key: tuple[str | None, str], old: Group | None) -> Group:
        provider_id, model = key
        turns = {(c.record.key_id, c.model): c.turn for c in old.candidates} if old else {}
        deployment = self.deployments.get(model)
        candidates: list[Candidate] = []
        for provider, target in self._targets(provider_id, model, deployment):
            for record in self._keys.records(provider.provider_id):
                keys = target.keys if target is not None else None
                if keys is None or record.key_id in keys or record.label in keys:
                    candidates.append(self._candidate(len(candidates), provider, record, model, target, deployment))
        floor = min(turns.values(), default=0.0)
        for candidate in candidates:
            candidate.turn = turns.get((candidate.record.key_id, candidate.model), floor)
        group = Group(model, candidates, considered_max=self._considered_max, generation=self._generation)
        self._groups[key] = group
        while len(self._groups) > _GROUPS_MAX:
            self._groups.popitem(last=False)
        return group

    def _candidate(
        self,
        index: int,
        provider: Provider,
        record: KeyRecord,
        asked: str,
        target: Target | None,
        deployment: Deployment | None,
    ) -> Candidate:
        model = self._names.name_at(provider.provider_id, asked) if target is None else target.model
        return Candidate(
            index,
            provider,
            record,
            model,
            stats=self.stats(record.key_id),
            price=self._prices(record.metadata, provider.provider_id, model),
            breaker=provider.breaker(model),
            quota=self._pools(record, provider.adapter.dialect, model),
            asked=asked,
            target=target,
            has_substitutes=deployment is not None and deployment.has_substitutes,
        )

    def _targets(
        self, provider_id: str | None, model: str, deployment: Deployment | None
    ) -> Sequence[tuple[Provider, Target | None]]:
        """Who serves a name. A request for one provider gets the targets there, or that provider's own model."""
        if deployment is not None and deployment.targets:
            within = [t for t in deployment.targets if provider_id in (None, t.provider_id)]
            found = [(self._providers[t.provider_id], t) for t in within if t.provider_id in self._providers]
            if found:
                return found
            if within and not deployment.fallbacks:
                raise self._not_registered(within[0].provider_id, model)
            if within:
                return ()
        try:
            return [(provider, None) for provider in self._serving(provider_id, model)]
        except ProviderNotRegisteredError:
            if deployment is not None and deployment.fallbacks:
                return ()
            raise

    def _serving(self, provider_id: str | None, model: str) -> Sequence[Provider]:
        if provider_id is not None:
            return [self.require(provider_id)]
        claiming = [p for p in self._providers.values() if p.adapter.claims(model)]
        if claiming:
            return claiming
        implied = self._names.makers_of(model)
        if len(self._providers) == 1 and implied is None:
            return list(self._providers.values())
        raise self._not_registered(implied, model)

    def _not_registered(self, provider_id: str | None, model: str) -> ProviderNotRegisteredError:
        registered = sorted(self._providers)
        have = f"registered are: {', '.join(registered)}" if registered else "none is registered"
        what = f"No registered provider is known to serve the model {model!r} ({have})."
        if provider_id is None:
            hint = "Name one with provider_id, or as 'provider/model'."
        else:
            hint = (
                f"It looks like a model of {provider_id!r}: register that provider, or name another with provider_id."
            )
        advice = self._names.advice(model, registered)
        message = " ".join(part for part in (what, hint, advice) if part)
        return ProviderNotRegisteredError(message, provider_id=provider_id, registered=registered)
