"""Who changed what through the management API: one line per write in the store's event log.

Main entry: `Audit.write`. Law: a line holds ids and facts, never material; it is posted, so it costs the request no
wait, and what was posted before an awaited write is durable with it.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request

from apikeyrouter.domain.interfaces.state_store import StateQuery, StateStore, StoreBatch, StoredEvent
from apikeyrouter.journal import Journal
from apikeyrouter_proxy.middleware.guard import principal_of
from apikeyrouter_proxy.quota_alerts import QUOTA_KINDS

__all__ = ["KINDS", "Audit"]

_ADMIN = (
    "admin.provider.added",
    "admin.provider.removed",
    "admin.credential.added",
    "admin.key.added",
    "admin.key.changed",
    "admin.key.disabled",
    "admin.key.enabled",
    "admin.key.rotated",
    "admin.key.revoked",
    "admin.key.checked",
    "admin.budget.created",
    "admin.budget.changed",
    "admin.budget.deleted",
    "admin.price.set",
    "admin.price.removed",
    "admin.policy.set",
    "admin.policy.removed",
    "admin.deployment.set",
    "admin.deployment.removed",
    "admin.virtual_key.changed",
    "admin.virtual_key.created",
    "admin.virtual_key.revoked",
    "admin.webhook.tested",
)
_CORE = (
    "key.registered",
    "key.transition",
    "credential.failed",
    "budget.created",
    "budget.updated",
    "budget.deleted",
    "budget.overrun",
    "budget.threshold",
    "price.set",
    "price.removed",
    "policy.set",
    "policy.removed",
    "deployment.set",
    "deployment.removed",
    "webhook.delivery",
    *QUOTA_KINDS,
)
KINDS = (*_ADMIN, *_CORE)
"""Every kind of event that the log holds."""


class Audit:
    """Writes and reads the event log."""

    def __init__(self, store: StateStore, journal: Journal) -> None:
        self._store = store
        self._journal = journal

    def write(self, request: Request, verb: str, entity_id: str, **facts: Any) -> None:
        """One line: the caller did `verb` ("key.revoked") to `entity_id`."""
        kind = f"admin.{verb}"
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of event; add it to KINDS")
        actor = principal_of(request.scope)
        address = request.client.host if request.client else ""
        document = {"actor": actor.id, "actor_name": actor.name, "address": address, **facts}
        self._store.post(StoreBatch(events=[StoredEvent(self._journal.utc_s(), kind, entity_id, document)]))

    async def newest(self, kind: str | None, entity_id: str | None, limit: int) -> list[StoredEvent]:
        """The newest events, newest first; of one kind or about one entity, if given. Raises StateStoreError."""
        found: list[StoredEvent] = []
        for one in KINDS if kind is None else (kind,):
            found += await self._store.query_events(StateQuery(one, entity_id=entity_id, limit=limit))
        found.sort(key=lambda event: event.at_s, reverse=True)
        return found[:limit]
