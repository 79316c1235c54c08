"""Where state outlives a process.

Rows are plain values with no pydantic inside: stores move bytes and integers, the domain gives them meaning. A store
never sees a plaintext secret: `StoredKey.sealed_secret` is ciphertext bound to its row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from apikeyrouter.domain.interfaces.shared_ledger import (
    Changes,
    LeaseAsk,
    LeaseReply,
    LeaseWorker,
    LedgerEntry,
    Legacy,
    UsageQuery,
    UsageRow,
    WindowTotals,
    WorkerRow,
)
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
    `fingerprint`: keyed hash of the secret, for telling that the same material is registered twice. `revision`: grows
    with everything that other processes must know (state, limits, metadata, secret); not with counters.
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
    revision: int = 0


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
    """A budget's definition. `limit_nano_usd`: whole nano-USD per period. `rolling`: the period is the last hour, day,
    7 or 30 days instead of a calendar one. `time_zone`: IANA name whose calendar counts. `name`: for people.

    `status`: "active" or "deleted". What was spent is in `WindowTotals`, by window.
    """

    budget_id: str
    scope: str
    scope_id: str | None
    limit_nano_usd: int
    period: str
    mode: str
    created_at_s: float
    status: str = "active"
    rolling: bool = False
    time_zone: str = "UTC"
    name: str = ""


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
    """Rows that are written together or not at all. `usage` is added to what the store has of the same hour and
    facts."""

    keys: Sequence[StoredKey] = ()
    budgets: Sequence[StoredBudget] = ()
    events: Sequence[StoredEvent] = ()
    decisions: Sequence[StoredDecision] = ()
    usage: Sequence[UsageRow] = ()


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
        """Writes the whole batch in one step and returns when it is durable.

        A key row replaces the stored one unless its `revision` is smaller (then it is ignored), and publishes a change
        when its `revision` is greater. Budgets insert or replace and publish a change. The two logs keep at most the
        configured number of rows each, dropping the oldest.
        """
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

    async def load_keys(self, key_ids: Sequence[str] | None = None) -> list[StoredKey]:
        """Every key, retired ones too, oldest first; with `key_ids` those of them that exist."""
        ...

    async def delete_key(self, key_id: str) -> None:
        """Forgets a key wholly, and publishes a change. Unknown ids are ignored."""
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

    async def lease(self, worker: LeaseWorker, asks: Sequence[LeaseAsk]) -> LeaseReply:
        """Renews the worker and answers its asks, in one durable step, by `domain.ledger.lease_rules.grant`.

        One grant per ask, in order. Spend that became known and presumed charges go to the ledger's entries. Budgets
        that are unknown or deleted are answered with `gone`. When an ask raised `calls`, a change of kind "lease" is
        published, with the budget's id.
        """
        ...

    async def recover_worker(self, worker_id: str, legacy: Mapping[tuple[str, int], Legacy] | None) -> int | None:
        """Ends a dead worker, by `lease_rules.recover`; returns what was presumed, or None when there was nothing to do
        (unknown, or ended already). From then on the worker is fenced.

        `legacy`: its journal by (budget id, window); a window without an entry is charged as granted. None: there is no
        journal; the worker must have expired by the store's clock, else nothing is done. Publishes "lease" changes.
        """
        ...

    async def list_workers(self) -> list[WorkerRow]:
        """Workers that were not ended, oldest first."""
        ...

    async def load_windows(self, windows: Sequence[tuple[str, int, int]]) -> list[WindowTotals]:
        """Totals of (budget id, oldest, newest) windows that exist, both ends included."""
        ...

    async def query_entries(self, budget_id: str, window: int | None = None, limit: int = 1000) -> list[LedgerEntry]:
        """The ledger's lines of a budget (or of one window of it), newest first."""
        ...

    async def query_usage(self, query: UsageQuery) -> list[UsageRow]:
        """Sums of what was used, one row per group, dearest first. Reads roll-ups, never the decision log."""
        ...

    async def changes(self, after: int | None, wait_s: float) -> Changes:
        """What other processes (and this one) changed since the cursor `after`; None: nothing, just the cursor of now.

        Waits up to `wait_s` for the first change, and returns within 200 ms of it. Key rows whose `revision` did not
        grow, usage, decisions and events publish nothing. Raises StateStoreError.
        """
        ...

    async def save_virtual_key(self, virtual_key: StoredVirtualKey, *, only_if: StoredVirtualKey | None = None) -> bool:
        """Inserts or replaces, and publishes a change; whether it did. A row that is revoked is replaced by a revoked
        one only: who changes a key may not know yet that another process has ended it. With `only_if`, only a row that
        equals that one is replaced, in one step, also among processes."""
        ...

    async def load_virtual_keys(self) -> list[StoredVirtualKey]:
        """Every virtual key, revoked and expired ones too, oldest first."""
        ...

    async def get_setting(self, name: str) -> bytes | None:
        """A small named blob (peppers, salts, markers), or None."""
        ...

    async def put_setting(
        self, name: str, value: bytes, *, only_if_absent: bool = False, only_if: bytes | None = None
    ) -> bytes:
        """Stores it and returns what is now stored (an existing value wins with `only_if_absent`; with `only_if`, any
        but that one). One step, also among processes. Publishes a change."""
        ...
