"""What the store holds for the configuration file: keys and budgets, which have state that outlives a restart.

Main entry: `Owned.reconcile`, which makes the store's keys and budgets those of the file; what it made is on a list of
its own in the store (`config.NAME.owned`), so objects of the API are never touched. A key is who it is by its name: a
new secret is a rotation, with history and limits kept. Laws: a second call changes nothing; what is gone from the file
is taken away last; only what this list names is ever taken away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from apikeyrouter.domain.cost.prices import to_decimal_usd
from apikeyrouter.domain.errors import BudgetNotFoundError, KeyNotFoundError
from apikeyrouter.domain.keys.record import KeyRecord
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.models.budget import Budget
from apikeyrouter_proxy.config.clashes import owned_setting
from apikeyrouter_proxy.config.meaning import FileBudget, FileKey, Meaning

if TYPE_CHECKING:
    from apikeyrouter_proxy.bootstrap import Proxy

__all__ = ["ACTOR", "Owned"]

ACTOR = "configuration file"


class _List(msgspec.Struct):
    """Ids by name. `closed`: the file has declared a virtual key at some time, which ended open mode for good."""

    keys: dict[str, str] = {}
    budgets: dict[str, str] = {}
    closed: bool = False


class Owned:
    """The store's keys and budgets that a configuration called `name` made."""

    def __init__(self, proxy: Proxy, name: str) -> None:
        self._proxy = proxy
        self.setting = owned_setting(name)
        self._list = _List()

    @property
    def keys(self) -> Mapping[str, str]:
        """Ids of keys by name."""
        return self._list.keys

    @property
    def budgets(self) -> Mapping[str, str]:
        """Ids of budgets by name."""
        return self._list.budgets

    @property
    def closed(self) -> bool:
        """Whether open mode has ended for good."""
        return self._list.closed

    async def load(self) -> None:
        """Reads the list. Raises StateStoreError."""
        stored = await self._proxy.router.state_store.get_setting(self.setting)
        self._list = msgspec.json.decode(stored, type=_List) if stored else _List()

    async def reconcile(self, meaning: Meaning) -> list[str]:
        """Makes keys and budgets those of the file; what was done, in words. Raises StateStoreError,
        KeyRegistrationError, BudgetDefinitionError."""
        await self.load()
        done: list[str] = []
        if meaning.virtual_keys and not self._list.closed:
            self._list.closed = True
            await self._save()
        for key in meaning.keys:
            await self._key(key, done)
        for budget in meaning.budgets:
            await self._budget(budget, done)
        for name in [one for one in self._list.keys if all(key.name != one for key in meaning.keys)]:
            await self._forget_key(name, done)
        for name in [one for one in self._list.budgets if all(budget.name != one for budget in meaning.budgets)]:
            await self._forget_budget(name, done)
        return done

    async def _save(self) -> None:
        await self._proxy.router.state_store.put_setting(self.setting, msgspec.json.encode(self._list))

    # -- keys -------------------------------------------------------------------------------------------------------

    def _record(self, name: str) -> KeyRecord | None:
        """The living key of this name."""
        key_id = self._list.keys.get(name)
        if key_id is None:
            return None
        try:
            record = self._proxy.router.key_manager.get(key_id)
        except KeyNotFoundError:
            return None
        return None if record.state is KeyState.Retired else record

    async def _key(self, key: FileKey, done: list[str]) -> None:
        proxy, keys = self._proxy, self._proxy.router.key_manager
        record = self._record(key.name)
        if record is not None and record.provider_id != key.provider_id:
            await self._forget_key(key.name, done)
            record = None
        twin = keys.find(key.material.reveal(), key.provider_id)
        if record is None or (twin is not None and twin is not record):
            if record is not None:
                await self._forget_key(key.name, done)
            made = await proxy.router.register_key(key.material.reveal(), key.provider_id, dict(key.metadata), key.name)
            for other in [name for name, known in self._list.keys.items() if known == made.id]:
                del self._list.keys[other]  # two names have exchanged their secrets
            self._list.keys[key.name] = made.id
            await self._save()
            done.append(f"key {key.name} {'taken over' if twin is not None else 'added'}")
            return
        if twin is None:
            overlap_s = proxy.router.settings.rotation_overlap_s
            await keys.rotate_key(record.key_id, key.material.reveal(), overlap_s=overlap_s, actor=ACTOR)
            done.append(f"key {key.name} rotated")
        if dict(record.metadata) != dict(key.metadata) or record.label != key.name:
            await keys.update(record.key_id, metadata=key.metadata, label=key.name)
            done.append(f"key {key.name} changed")

    async def _forget_key(self, name: str, done: list[str]) -> None:
        record = self._record(name)
        if record is not None:
            keys = self._proxy.router.key_manager
            await keys.revoke_key(record.key_id, reason="gone from the configuration file", actor=ACTOR)
            done.append(f"key {name} revoked")
        del self._list.keys[name]
        await self._save()

    # -- budgets ----------------------------------------------------------------------------------------------------

    async def _budget(self, wanted: FileBudget, done: list[str]) -> None:
        costs = self._proxy.router.cost_controller
        one = wanted.definition
        from apikeyrouter_proxy.names import scope_id_of  # it needs `bootstrap`, which needs this

        scope_id = await scope_id_of(self._proxy, one.scope, wanted.scope_id)
        budget_id = self._list.budgets.get(wanted.name)
        there = None
        if budget_id is not None:
            try:
                there = await costs.get_budget(budget_id)
            except BudgetNotFoundError:
                there = None
        limit = to_decimal_usd(one.limit_nano_usd)
        shape = (one.scope, scope_id, one.period, one.rolling, one.time_zone)
        if there is None:  # made just before a crash, when it was not on the list yet
            alike = await costs.list_budgets(one.scope, scope_id)
            there = next((b for b in alike if b.name == wanted.name and _shape(b) == shape), None)
            if there is not None:
                self._list.budgets[wanted.name] = there.id
                await self._save()
        if there is not None and _shape(there) == shape:
            if (there.limit_amount, there.enforcement_mode) != (limit, one.mode):
                await costs.update_budget(there.id, limit=limit, enforcement_mode=one.mode)
                done.append(f"budget {wanted.name} changed")
            return
        made = await costs.create_budget(
            scope=one.scope,
            limit=limit,
            period=one.period,
            scope_id=scope_id,
            enforcement_mode=one.mode,
            rolling=one.rolling,
            time_zone=one.time_zone,
            name=wanted.name,
        )
        self._list.budgets[wanted.name] = made.id
        await self._save()
        if there is not None:
            await costs.delete_budget(there.id)
        done.append(f"budget {wanted.name} {'replaced: it counts anew' if there is not None else 'added'}")

    async def _forget_budget(self, name: str, done: list[str]) -> None:
        try:
            await self._proxy.router.cost_controller.delete_budget(self._list.budgets[name])
            done.append(f"budget {name} deleted")
        except BudgetNotFoundError:
            pass
        del self._list.budgets[name]
        await self._save()

    def name_of(self, kind: str, object_id: str) -> str | None:
        """The name in the file of a key or budget with this id."""
        listed: Sequence[tuple[str, str]] = list((self.keys if kind == "keys" else self.budgets).items())
        return next((name for name, known in listed if known == object_id), None)


def _shape(budget: Budget) -> tuple[object, ...]:
    """What cannot be changed about a budget."""
    return budget.scope, budget.scope_id, budget.period, budget.rolling, budget.time_zone
