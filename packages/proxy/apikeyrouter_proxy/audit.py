"""Who changed what through the management API: one line per write in the store's event log.

Main entry: `Audit.write`. Law: a line holds ids and facts, never material; it is posted, so it costs the request no
wait, and what was posted before an awaited write is durable with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from apikeyrouter.domain.interfaces.state_store import StateQuery, StateStore, StoreBatch, StoredEvent
from apikeyrouter.journal import Journal
from apikeyrouter_proxy.health_alerts import HEALTH_KINDS
from apikeyrouter_proxy.middleware.guard import principal_of
from apikeyrouter_proxy.model_routing_alerts import MODEL_ROUTING_KINDS
from apikeyrouter_proxy.quota_alerts import QUOTA_KINDS

__all__ = ["KINDS", "Audit", "EventPage", "kinds_of"]

_ADMIN = (
    "admin.provider.added",
    "admin.provider.removed",
    "admin.config.reloaded",
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
    *(kind for kind in HEALTH_KINDS if kind.startswith("breaker.")),
    *MODEL_ROUTING_KINDS,
)
KINDS = (*_ADMIN, *_CORE)
"""Every kind of event that the log holds."""


def kinds_of(name: str) -> tuple[str, ...]:
    """The kinds that a name stands for: one of them, or the words that several begin with ("admin", "admin.key",
    "budget"). Nothing for a name that is unknown."""
    return (name,) if name in KINDS else tuple(kind for kind in KINDS if kind.startswith(name + "."))


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events, newest first. `next_before_s`: Unix seconds to ask for the next page with; None when this is the last."""

    events: list[StoredEvent]
    next_before_s: float | None


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

    async def newest(
        self,
        kinds: Sequence[str],
        entity_id: str | None,
        limit: int,
        *,
        before_s: float | None = None,
        after_s: float | None = None,
    ) -> EventPage:
        """The newest events of these kinds, newest first; about one entity, before or after a time (Unix seconds), if
        given. Raises StateStoreError.

        A page ends between two times, so that the next one misses nothing: it is shorter than `limit` where events of
        one time would be cut apart.
        """
        found: list[StoredEvent] = []
        for kind in kinds:
            query = StateQuery(kind, entity_id=entity_id, since_s=after_s, until_s=before_s, limit=limit + 1)
            found += await self._store.query_events(query)
        found.sort(key=lambda event: event.at_s, reverse=True)
        if after_s is not None:
            found = [event for event in found if event.at_s > after_s]
        if len(found) <= limit:
            return EventPage(found, None)
        whole = [event for event in found[:limit] if event.at_s > found[limit].at_s] or found[:limit]
        return EventPage(whole, whole[-1].at_s)
