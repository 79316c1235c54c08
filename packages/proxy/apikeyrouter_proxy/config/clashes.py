"""Names that the configuration file and the store both know, and what counts then.

Main entries: `clashes`, for what a file means and a store holds, and `clashes_in` for a store that nobody has open.
Laws: nothing is written; what the file made itself is no clash; a key of the store that has the file's own secret is
none either, since the file takes it over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from apikeyrouter.domain.components import deployment_keeper, policy_engine, price_keeper
from apikeyrouter.domain.interfaces.state_store import StateStore, StoredBudget, StoredKey
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter_proxy import providers
from apikeyrouter_proxy.config.meaning import FileBudget, FileKey, Meaning

if TYPE_CHECKING:
    from apikeyrouter_proxy.settings import ProxySettings

__all__ = ["clashes", "clashes_in", "owned_setting"]

Same = Callable[[FileKey, StoredKey], bool]

_WINS = {
    "key": "both serve, unless the secret is the same",
    "budget": "both limit",
    "virtual key": "both are let in",
    "deployment": "the file's counts",
    "policy": "the file's counts",
    "price": "the one of the API counts",
    "provider": "the file's counts",
}


def owned_setting(name: str) -> str:
    """Where the store keeps what the configuration of this name made."""
    return f"config.{name}.owned"


async def clashes(meaning: Meaning, store: StateStore, name: str, same: Same) -> list[str]:
    """A sentence for each clash. `name`: of the configuration. `same`: whether a stored key has the file's secret.
    Raises StateStoreError."""
    owned = _rows(await store.get_setting(owned_setting(name)), {})
    mine = {*owned.get("keys", {}).values(), *owned.get("budgets", {}).values()}
    told: list[str] = []
    stored = [row for row in await store.load_keys() if row.state != KeyState.Retired and row.key_id not in mine]
    labels = {str(row.document.get("label")): row for row in stored if row.provider_id != providers.SIMULATED}
    for key in meaning.keys:
        row = labels.get(key.name)
        if row is not None and not same(key, row):
            told.append(_told("key", key.name, row.key_id))
    limits = [row for row in await store.load_budgets() if row.status == "active" and row.budget_id not in mine]
    told += [_about_budget(one, row) for one in meaning.budgets for row in limits if row.name == one.name]
    issued = {row.document.get("name"): row.virtual_key_id for row in await store.load_virtual_keys() if _lives(row)}
    told += [_told("virtual key", one.name, issued[one.name]) for one in meaning.virtual_keys if one.name in issued]
    for kind, wanted, there in (
        ("deployment", [one.name for one in meaning.deployments], await _names(store, deployment_keeper.SETTING)),
        ("policy", [one.policy_id for one in meaning.policies], await _names(store, policy_engine.SETTING)),
        ("price", ["/".join(one.key) for one in meaning.prices], await _names(store, price_keeper.SETTING)),
        ("provider", [one.id for one in meaning.providers], await _names(store, providers.SETTING)),
    ):
        told += [_told(kind, one) for one in wanted if one in there]
    return told


async def clashes_in(settings: ProxySettings) -> list[str]:
    """Those of the store that these settings name; none for one that does not exist yet. Raises StateStoreError."""
    from apikeyrouter.infrastructure.state_store import open_store

    known = settings.config.configuration if settings.config is not None else None
    store = open_store(settings.store_url)
    path = getattr(store, "path", None)
    if known is None or settings.config is None or not store.persistent or (path is not None and not path.is_file()):
        return []
    variables = {(one.variable, one.material.reveal()) for one in settings.env_keys}

    def same(key: FileKey, row: StoredKey) -> bool:
        """Which secret a row holds is sealed; which variable it came from is not."""
        metadata: Mapping[str, Any] = row.document.get("metadata") or {}
        return (metadata.get("source"), key.material.reveal()) in variables

    try:
        await store.open()
        return await clashes(settings.config.meaning, store, known.file.name, same)
    finally:
        await store.close()


def _told(kind: str, name: str, object_id: str = "", wins: str = "") -> str:
    whose = f" ({object_id})" if object_id else ""
    counts = wins or _WINS[kind]
    return f"The {kind} {name!r} is in the file and was set through the management API as well{whose}: {counts}."


def _about_budget(one: FileBudget, row: StoredBudget) -> str:
    """One that covers the same in the same periods becomes the file's, with what was spent (`Owned`)."""
    wanted = one.definition
    alike = (wanted.scope, wanted.period, wanted.rolling, wanted.time_zone)
    wins = ""
    if alike == (row.scope, row.period, row.rolling, row.time_zone):
        wins = "the file takes it over" + (", if it covers the same; else both limit" if row.scope_id else "")
    return _told("budget", one.name, row.budget_id, wins)


def _lives(row: Any) -> bool:
    return row.revoked_at_s is None


async def _names(store: StateStore, setting: str) -> frozenset[str]:
    """What the documents of a setting are called."""
    rows = [row for row in _rows(await store.get_setting(setting), []) if not row.get("removed")]
    priced = {f"{row.get('provider')}/{row['model']}" for row in rows if "model" in row}
    return frozenset(priced | {str(row.get("name") or row.get("id")) for row in rows if "model" not in row})


def _rows(stored: bytes | None, none: Any) -> Any:
    return msgspec.json.decode(stored) if stored else none
