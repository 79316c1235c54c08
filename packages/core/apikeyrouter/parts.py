"""What a router is made of, wired once: every part, each told of those that it needs.

`RouterParts` is the half of `ApiKeyRouter` without verbs: construction, loading, and what parts tell each other. No
policy lives here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from apikeyrouter.credentials.keeper import CredentialKeeper
from apikeyrouter.domain.components.cost_controller import CostController
from apikeyrouter.domain.components.deployment_keeper import DeploymentKeeper
from apikeyrouter.domain.components.foresight import Foresight
from apikeyrouter.domain.components.key_manager import KeyManager
from apikeyrouter.domain.components.policy_engine import PolicyEngine
from apikeyrouter.domain.components.pool_shares import PoolShares
from apikeyrouter.domain.components.price_keeper import PriceKeeper
from apikeyrouter.domain.components.quota_awareness_engine import QuotaAwarenessEngine
from apikeyrouter.domain.components.quota_memory import QuotaMemory
from apikeyrouter.domain.components.tenant_limits import TenantLimits
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.price_source import PriceList, PriceSource
from apikeyrouter.domain.interfaces.sealer import Sealer
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.domain.interfaces.transport import Transport
from apikeyrouter.domain.keys.learning import Transition
from apikeyrouter.domain.keys.record import KeyRecord
from apikeyrouter.domain.keys.states import KeyEvent
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.domain.models.events import KeyMoved, Observer
from apikeyrouter.domain.models.routing_decision import RoutingObjective
from apikeyrouter.domain.quota.dialects import limit_dialect
from apikeyrouter.domain.quota.pools import Pools
from apikeyrouter.domain.routing.choose import Chooser
from apikeyrouter.domain.routing.directory import Directory
from apikeyrouter.domain.routing.objectives import Objective, compile_objective
from apikeyrouter.domain.routing.shadow import Shadow
from apikeyrouter.feed import ChangeFeed
from apikeyrouter.housekeeping import Housekeeping
from apikeyrouter.infrastructure.catalogue.models import ModelCatalogue
from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.infrastructure.config.settings import RouterSettings
from apikeyrouter.infrastructure.ledger_boxes import boxes_for
from apikeyrouter.infrastructure.pricing.catalogue import GenaiPriceSource
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.journal import Journal
from apikeyrouter.opening import learners_of, open_room

__all__ = ["RouterParts"]

_log = logging.getLogger("apikeyrouter")
_REFUSED = frozenset({KeyEvent.AuthSuspected, KeyEvent.AuthRejected})


class RouterParts:
    """The parts, by name; `ApiKeyRouter` says what they are for."""

    def __init__(
        self,
        state_store: StateStore | None,
        config: RouterSettings | Mapping[str, Any] | None,
        observers: Sequence[Observer],
        clock: Clock | None,
        rng: Random | None,
        price_source: PriceSource | None,
        environ: Mapping[str, str] | None,
    ) -> None:
        self.settings = RouterSettings.from_any(config)
        if "log_level" in self.settings.model_fields_set:
            _log.setLevel(self.settings.log_level)
        self.state_store: StateStore = state_store or MemoryStateStore()
        self._clock: Clock = clock or SystemClock()
        self._environ = os.environ if environ is None else environ
        rng = rng or Random()
        self.ledger = Ledger(self._clock)
        self.journal = Journal(self.state_store, self._clock, decisions_max=self.settings.decision_log_max)
        self.journal.observers.extend(observers)
        listed = price_source or GenaiPriceSource(self._clock)
        self.prices = PriceKeeper(listed, self.state_store, self._clock, self.settings.price_overrides)
        self.cost_controller = costs = CostController(
            self.state_store,
            self.ledger,
            self.prices.book,
            self._clock,
            on_event=self.journal.money_event,
            boxes=boxes_for(self.state_store, self._environ),
            soft_without_store=self.settings.soft_budgets_without_store,
        )
        self.key_manager = KeyManager(self.state_store, self._clock, rng, on_change=self._key_changed)
        self.pools = Pools(self._clock, limit_dialect)
        self.foresight = Foresight(self.pools, self.journal.quota_changed)
        self.quota_memory = QuotaMemory(self.pools, self.state_store, self._clock)
        is_model = listed.providers_of if isinstance(listed, PriceList) else None
        self.deployments = DeploymentKeeper(self.state_store, self._clock, self.settings.deployments, is_model)
        self.policy_engine = PolicyEngine(self.state_store, self._clock, self.objective, self.settings.policies)
        self.directory = Directory(
            self.key_manager,
            costs.price_for,
            self.pools.view,
            self.settings.considered_max,
            self.deployments.book,
            ModelCatalogue(listed if isinstance(listed, GenaiPriceSource) else None),
        )
        self.chooser = Chooser(self.ledger, costs, self.settings.considered_max)
        if self.settings.shadow_objective:
            self.chooser.shadow = Shadow(compile_objective(self.settings.shadow_objective, "", self.settings.values))
        self.quota_awareness_engine = QuotaAwarenessEngine(self.key_manager, self.pools, self.foresight, self._clock)
        self.tenant_limits = TenantLimits(costs.book.lessee, self._clock)
        self.waiting_room = open_room(self.settings, self._clock)
        self.pool_shares = self._open_pool_shares()
        self._learners = learners_of(self.key_manager, costs, self._clock, rng, self.waiting_room.freed)
        self.feed = ChangeFeed(self.state_store, self._clock)
        self.prices.follow(self.feed.subscribe, self.directory.changed)
        self.deployments.follow(self.feed.subscribe, self.directory.changed)
        self.policy_engine.follow(self.feed.subscribe)
        self.credentials = CredentialKeeper(
            self.state_store, self.key_manager, self._clock, transport=lambda: self.transport
        )
        self._house = Housekeeping(
            self._clock, self._post, costs.book, self.key_manager, self.quota_memory, self.feed, self.credentials
        )
        self.journal.on_pending = self._house.stir
        self._objectives: dict[str | None, Objective] = {}
        self.sealer: Sealer | None = None
        """What seals the secrets of this router's store; None until it is open."""

    @property
    def transport(self) -> Transport:
        """The connections to providers."""
        raise NotImplementedError

    def _open_pool_shares(self) -> PoolShares | None:
        """Pools' limits are shared where other processes may use the same keys: over a store that outlives this one."""
        if not self.state_store.persistent:
            return None
        self.pools.lend = self.tenant_limits.account_for
        self.tenant_limits.on_room = self.waiting_room.freed
        return PoolShares(self.tenant_limits, self._clock)

    async def _load(self, sealer: Sealer) -> None:
        """What the store keeps. Raises StateStoreError or SealError."""
        self.sealer = sealer
        await self.key_manager.open(sealer)
        self.credentials.open(sealer)
        await self.prices.open()
        await self.deployments.open()
        await self.policy_engine.open()
        await self.cost_controller.open()
        await self.quota_memory.open()

    def objective(self, objective: RoutingObjective | str | None) -> Objective:
        """Compiles an objective; names are cached. Raises SystemError (ValidationError) for an unknown one."""
        if objective is None or isinstance(objective, str):
            found = self._objectives.get(objective)
            if found is None:
                found = compile_objective(objective, self.settings.default_objective, self.settings.values)
                self._objectives[objective] = found
            return found
        return compile_objective(objective, self.settings.default_objective, self.settings.values)

    def _key_changed(self, record: KeyRecord, transition: Transition | None) -> None:
        if self.directory.knows(record.provider_id):
            self.directory.key_moved(record.key_id)
        else:
            self.directory.changed()
        self.waiting_room.freed()
        self._house.stir()
        if transition is not None and transition.event in _REFUSED:
            self.credentials.refused(record)
        if transition is not None and self.journal.observers:
            event = KeyMoved(
                record.key_id,
                record.label,
                record.provider_id,
                transition.from_state.value,
                transition.to_state.value,
                transition.cause,
                transition.until_s,
            )
            self.journal.key_moved(event)

    def _post(self) -> None:
        self.foresight.tick(self._clock.monotonic_s())
        for due in (self.journal.flush, self.key_manager.flush_counters, self.prices.tick, self._learners.renew):
            due()
