"""Rows for tests of state stores: valid, complete, and different in every field that is named.

Main entries: `key_row`, `budget_row`, `event_row`, `decision_row`, `virtual_key_row`, `usage_row`. All bytes in them
are made up; none is, or looks like, a secret.
"""

from __future__ import annotations

from typing import Any

from apikeyrouter.domain.interfaces.shared_ledger import UsageRow
from apikeyrouter.domain.interfaces.state_store import (
    StoredBudget,
    StoredDecision,
    StoredEvent,
    StoredKey,
    StoredVirtualKey,
)

__all__ = ["budget_row", "decision_row", "event_row", "key_row", "usage_row", "virtual_key_row"]


def key_row(key_id: str, *, at_s: float = 1_000.0, provider_id: str = "openai", **changes: Any) -> StoredKey:
    """A key created at `at_s`; `changes` are fields of `StoredKey`."""
    fields: dict[str, Any] = {
        "state": "available",
        "sealed_secret": b"sealed:" + key_id.encode(),
        "fingerprint": b"print:" + key_id.encode(),
        "version": 1,
        "document": {"label": key_id, "metadata": {"cost_per_1k": "0.01"}},
        "created_at_s": at_s,
        "updated_at_s": at_s,
    }
    return StoredKey(key_id=key_id, provider_id=provider_id, **{**fields, **changes})


def budget_row(budget_id: str, *, at_s: float = 1_000.0, **changes: Any) -> StoredBudget:
    """An active daily budget of one dollar created at `at_s`; `changes` are fields of `StoredBudget`."""
    fields: dict[str, Any] = {
        "scope": "global",
        "scope_id": None,
        "limit_nano_usd": 1_000_000_000,
        "period": "daily",
        "mode": "hard",
        "created_at_s": at_s,
    }
    return StoredBudget(budget_id=budget_id, **{**fields, **changes})


def event_row(at_s: float, *, kind: str = "key.transition", entity_id: str = "key_1", **document: Any) -> StoredEvent:
    """An event at `at_s` whose document is the other arguments."""
    return StoredEvent(at_s, kind, entity_id, document)


def decision_row(decision_id: str, *, at_s: float = 1_000.0, **changes: Any) -> StoredDecision:
    """A decision at `at_s` for the request "request-of-<decision_id>"; `changes` are fields of `StoredDecision`."""
    fields: dict[str, Any] = {
        "request_id": f"request-of-{decision_id}",
        "key_id": "key_1",
        "provider_id": "openai",
        "model": "gpt-4",
        "outcome": "ok",
        "payload": b'{"id":"' + decision_id.encode() + b'"}',
    }
    return StoredDecision(decision_id=decision_id, at_s=at_s, **{**fields, **changes})


def virtual_key_row(virtual_key_id: str, *, at_s: float = 1_000.0, **changes: Any) -> StoredVirtualKey:
    """A client's virtual key created at `at_s`; `changes` are fields of `StoredVirtualKey`."""
    fields: dict[str, Any] = {
        "role": "client",
        "digest": b"digest:" + virtual_key_id.encode(),
        "document": {"name": virtual_key_id, "models": ["gpt-4"]},
        "created_at_s": at_s,
    }
    return StoredVirtualKey(virtual_key_id=virtual_key_id, **{**fields, **changes})


def usage_row(hour_s: int, *, cost: int = 0, **changes: Any) -> UsageRow:
    """One request of the hour at `hour_s` that cost `cost` nano-USD; `changes` are fields of `UsageRow`."""
    fields: dict[str, Any] = {"provider_id": "openai", "key_id": "key_1", "model": "gpt-4", "requests": 1}
    return UsageRow(hour_s=hour_s, cost_nano_usd=cost, **{**fields, **changes})
