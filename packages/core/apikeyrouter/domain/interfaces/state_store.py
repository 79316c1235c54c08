"""Where state outlives a process.

Rows are plain values with no pydantic inside: stores move bytes and integers, the domain gives them meaning. A store
never sees a plaintext secret: `StoredKey.sealed_secret` is ciphertext bound to its row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from apikeyrouter.domain.models.api_key import APIKey
from apikeyrouter.domain.models.health_state import HealthState

__all__ = [
    "StateQuery",
    "StateStore",
    "StoreBatch",
    "StoredBudget",
    "StoredDecision",
    "StoredEvent",
    "StoredKey",
    "StoredVirtualKey",
]


@dataclass(slots=True)
class StoredKey:
    """A key's row. Times are Unix seconds (UTC). `document`: JSON-able facts (state machine, metadata, counters).

    `sealed_secret`: current secret. `sealed_previous`: the one that a rotation replaced, while it drains.
    `fingerprint`: keyed hash of the secret, for telling that the same material is registered twice.
    """

    key_id: str
    provider_id: str
    state: str
    sealed_secret: bytes
    fingerprint: bytes
    version: int
    document: dict[str, Any]
    created_at_s: float
    updated_at_s: float
    sealed_previous: bytes | None = None


@dataclass(slots=True)
class StoredEvent:
    """One line of the append-only event log (audit trail). `kind`: e.g. "key.transition", "budget.created"."""

    at_s: float
    kind: str
    entity_id: str
    document: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class StoredDecision:
    """A finished decision. `payload`: its JSON, as `domain.routing.explain` encodes it."""

    decision_id: str
    request_id: str
    at_s: float
    key_id: str | None
    provider_id: str | None
    model: str
    outcome: str
    payload: bytes


@dataclass(slots=True)
class StoredBudget:
    """A budget and its settled spend. Amounts are whole nano-USD. `window_id`: the period that `spent_nano_usd` is of.

    `status`: "active" or "deleted".
    """

    budget_id: str
    scope: str
    scope_id: str | None
    limit_nano_usd: int
    period: str
    mode: str
    window_id: str
    spent_nano_usd: int
    created_at_s: float
    warning_count: int = 0
    status: str = "active"


@dataclass(slots=True)
class StoredVirtualKey:
    """A credential that our proxy issued. `digest`: HMAC-SHA-256 of the secret part; the secret itself is not stored.

    `role`: "client" or "admin". `document`: name, scopes (models, providers), limits. Times are Unix seconds.
    """

    virtual_key_id: str
    role: str
    digest: bytes
    document: dict[str, Any]
    created_at_s: float
    expires_at_s: float | None = None
    revoked_at_s: float | None = None


@dataclass(slots=True)
class StoreBatch:
    """Rows that are written together or not at all."""

    keys: Sequence[StoredKey] = ()
    budgets: Sequence[StoredBudget] = ()
    events: Sequence[StoredEvent] = ()
    decisions: Sequence[StoredDecision] = ()


@dataclass(slots=True)
class StateQuery:
    """What to look for. `entity_type`: "RoutingDecision", "StateTransition" or an event kind. Newest first."""

    entity_type: str
    entity_id: str | None = None
    key_id: str | None = None
    provider_id: str | None = None
    since_s: float | None = None
    until_s: float | None = None
    limit: int = 100
    offset: int = 0


class StateStore(Protocol):
    """Durable state. One conformance suite runs on every implementation (`apikeyrouter.testing.store_conformance`).

    Laws: a call that returned has happened and survives a crash of this process (memory store: of nothing). Each call
    is all-or-nothing. Every failure is a StateStoreError; nothing falls back to another store. Opening twice is
    harmless; every other call opens the store first if need be.
    """

    @property
    def persistent(self) -> bool:
        """Whether state outlives the process."""
        ...

    @property
    def description(self) -> str:
        """What and where, for people: "memory", "sqlite:////home/me/x.sqlite". Never a password."""
        ...

    @property
    def path(self) -> Path | None:
        """The file that holds the state, when it is a file: the data key is kept beside it. None for others."""
        ...

    async def open(self) -> None:
        """Connects and migrates. Idempotent."""
        ...

    async def close(self) -> None:
        """Flushes and disconnects. Idempotent."""
        ...

    async def health_check(self) -> HealthState:
        """Does a real read. Never raises."""
        ...

    async def apply(self, batch: StoreBatch) -> None:
        """Writes the whole batch in one step and returns when it is durable. Keys and budgets insert or replace; the
        two logs keep at most the configured number of rows each, dropping the oldest."""
        ...

    def post(self, batch: StoreBatch) -> None:
        """Queues the batch and returns at once: for facts that a crash may lose (the last fraction of a second).

        Order is kept, and every later call on this object sees it. A failure to write is raised by the next `flush`,
        counted in `health_check`, and never by `post` itself. The queue is bounded; when it is full, decisions are
        dropped first and counted, keys, budgets and events are not.
        """
        ...

    async def flush(self) -> None:
        """Returns when everything posted so far is durable. Raises StateStoreError for what could not be written."""
        ...

    async def load_keys(self) -> list[StoredKey]:
        """Every key, retired ones too, oldest first."""
        ...

    async def delete_key(self, key_id: str) -> None:
        """Forgets a key wholly. Unknown ids are ignored."""
        ...

    async def list_keys(self, provider_id: str | None = None) -> list[APIKey]:
        """Keys as users see them, without secrets, oldest first; retired ones left out."""
        ...

    async def get_decision(self, decision_or_request_id: str) -> StoredDecision | None:
        """By decision id or request id."""
        ...

    async def query_decisions(self, query: StateQuery) -> list[StoredDecision]:
        """Newest first."""
        ...

    async def query_events(self, query: StateQuery) -> list[StoredEvent]:
        """Newest first."""
        ...

    async def query_state(self, query: StateQuery) -> list[Any]:
        """`query_decisions` or `query_events` by `entity_type`."""
        ...

    async def load_budgets(self) -> list[StoredBudget]:
        """Every active budget, oldest first."""
        ...

    async def save_virtual_key(self, virtual_key: StoredVirtualKey) -> None:
        """Inserts or replaces."""
        ...

    async def load_virtual_keys(self) -> list[StoredVirtualKey]:
        """Every virtual key, revoked and expired ones too, oldest first."""
        ...

    async def get_setting(self, name: str) -> bytes | None:
        """A small named blob (peppers, salts, markers), or None."""
        ...

    async def put_setting(self, name: str, value: bytes, *, only_if_absent: bool = False) -> bytes:
        """Stores it and returns what is now stored (an existing value wins with `only_if_absent`)."""
        ...
