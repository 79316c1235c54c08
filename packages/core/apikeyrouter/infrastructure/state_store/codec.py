"""Rows to plain tuples and back, shared by the memory and the SQLite store.

Main entry: `freeze`. It turns a batch into tuples of text, numbers and bytes in column order, on the caller's thread.
Laws: what was frozen no longer depends on the caller's objects, so a row may be changed after the call that stored it;
a document reads back as JSON would give it (tuples become lists, keys become text); a value that cannot be stored is a
StateStoreError that names its row, before anything is written.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.shared_ledger import UsageQuery, UsageRow
from apikeyrouter.domain.interfaces.state_store import (
    StateQuery,
    StoreBatch,
    StoredBudget,
    StoredDecision,
    StoredEvent,
    StoredKey,
    StoredVirtualKey,
)
from apikeyrouter.domain.keys.rows import TRANSITION_KIND

__all__ = [
    "DECISIONS",
    "USAGE_COUNTERS",
    "USAGE_FACTS",
    "FrozenBatch",
    "Row",
    "budget_of",
    "decision_of",
    "event_kind",
    "event_of",
    "freeze",
    "freeze_virtual_key",
    "key_of",
    "usage_groups",
    "usage_of",
    "virtual_key_of",
]

Row = tuple[Any, ...]
"""Column values in the order of the tables in `migrations/`."""

DECISIONS = "RoutingDecision"
"""The entity type of `query_state` that means the decision log; every other one means the event log."""

USAGE_FACTS = ("hour_s", "provider_id", "key_id", "model", "virtual_key_id", "team", "tags")
"""What rows of usage have in common when their counters add up; what answers may be grouped by."""

USAGE_COUNTERS = (
    "requests",
    "failures",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "cost_nano_usd",
    "presumed_nano_usd",
)

_usage_columns: Callable[[UsageRow], Row] = operator.attrgetter(*USAGE_FACTS, *USAGE_COUNTERS)
_NO_DOCUMENT = "{}"
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(dict[str, Any])
_AnyRow = TypeVar("_AnyRow")


class FrozenBatch(msgspec.Struct):
    """A `StoreBatch` as tuples."""

    keys: list[Row]
    budgets: list[Row]
    events: list[Row]
    decisions: list[Row]
    usage: list[Row]


def event_kind(query: StateQuery) -> str:
    """The event kind that a query asks for: "StateTransition" is the public word for key transitions."""
    return TRANSITION_KIND if query.entity_type == "StateTransition" else query.entity_type


def freeze(batch: StoreBatch) -> FrozenBatch:
    """The batch as tuples. Raises StateStoreError when a document is not JSON-able."""
    return FrozenBatch(
        _each(_freeze_key, batch.keys) if batch.keys else [],
        _each(_freeze_budget, batch.budgets) if batch.budgets else [],
        _each(_freeze_event, batch.events) if batch.events else [],
        _each(_freeze_decision, batch.decisions) if batch.decisions else [],
        _each(_usage_columns, batch.usage) if batch.usage else [],
    )


def freeze_virtual_key(row: StoredVirtualKey) -> Row:
    """The row as a tuple. Raises StateStoreError when its document is not JSON-able."""
    return _each(_freeze_virtual_key, [row])[0]


def _each(freeze_one: Callable[[_AnyRow], Row], rows: Iterable[_AnyRow]) -> list[Row]:
    try:
        return [freeze_one(row) for row in rows]
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError, RecursionError) as error:
        raise StateStoreError(
            f"A row cannot be stored: {error}. Documents hold what JSON can express: text, numbers, true, false, "
            "null, lists and objects. Nothing of this batch was written."
        ) from error


def _json(document: dict[str, Any]) -> str:
    return _encoder.encode(document).decode() if document else _NO_DOCUMENT


def _freeze_key(row: StoredKey) -> Row:
    return (
        row.key_id,
        row.provider_id,
        row.state,
        bytes(row.sealed_secret),
        bytes(row.fingerprint),
        row.version,
        _json(row.document),
        row.created_at_s,
        row.updated_at_s,
        None if row.sealed_previous is None else bytes(row.sealed_previous),
        row.revision,
    )


def key_of(row: Row) -> StoredKey:
    """The key behind a tuple of `freeze`; its document is the caller's own copy."""
    key_id, provider_id, state, sealed, fingerprint, version, document, created_at_s, updated_at_s = row[:9]
    previous, revision = row[9:]
    return StoredKey(
        key_id,
        provider_id,
        state,
        sealed,
        fingerprint,
        version,
        _decoder.decode(document),
        created_at_s,
        updated_at_s,
        previous,
        revision,
    )


def _freeze_budget(row: StoredBudget) -> Row:
    return (
        row.budget_id,
        row.scope,
        row.scope_id,
        row.limit_nano_usd,
        row.period,
        row.mode,
        row.created_at_s,
        row.status,
        int(row.rolling),
        row.time_zone,
        row.name,
    )


def budget_of(row: Row) -> StoredBudget:
    """The budget behind a tuple of `freeze`."""
    budget_id, scope, scope_id, limit_nano_usd, period, mode, created_at_s, status, rolling, time_zone, name = row
    return StoredBudget(
        budget_id, scope, scope_id, limit_nano_usd, period, mode, created_at_s, status, bool(rolling), time_zone, name
    )


def _freeze_event(row: StoredEvent) -> Row:
    key_id, provider_id = row.document.get("key_id"), row.document.get("provider_id")
    return (
        row.at_s,
        row.kind,
        row.entity_id,
        key_id if isinstance(key_id, str) else None,
        provider_id if isinstance(provider_id, str) else None,
        _json(row.document),
    )


def event_of(row: Row) -> StoredEvent:
    """The event behind a tuple of `freeze`."""
    at_s, kind, entity_id, _key_id, _provider_id, document = row
    return StoredEvent(at_s, kind, entity_id, _decoder.decode(document))


def _freeze_decision(row: StoredDecision) -> Row:
    return (
        row.decision_id,
        row.request_id,
        row.at_s,
        row.key_id,
        row.provider_id,
        row.model,
        row.outcome,
        bytes(row.payload),
    )


def decision_of(row: Row) -> StoredDecision:
    """The decision behind a tuple of `freeze`."""
    return StoredDecision(*row)


def usage_of(row: Row) -> UsageRow:
    """The usage behind a tuple of `freeze`."""
    return UsageRow(*row)


def usage_groups(query: UsageQuery) -> tuple[str, ...]:
    """The facts to group by, each once. Raises StateStoreError for what is no fact of usage."""
    strangers = [name for name in query.by if name not in USAGE_FACTS]
    if strangers:
        raise StateStoreError(f"Usage cannot be grouped by {strangers[0]!r}; it can be by {', '.join(USAGE_FACTS)}.")
    return tuple(dict.fromkeys(query.by))


def _freeze_virtual_key(row: StoredVirtualKey) -> Row:
    return (
        row.virtual_key_id,
        row.role,
        bytes(row.digest),
        _json(row.document),
        row.created_at_s,
        row.expires_at_s,
        row.revoked_at_s,
    )


def virtual_key_of(row: Row) -> StoredVirtualKey:
    """The virtual key behind a tuple of `freeze_virtual_key`."""
    virtual_key_id, role, digest, document, created_at_s, expires_at_s, revoked_at_s = row
    return StoredVirtualKey(
        virtual_key_id, role, digest, _decoder.decode(document), created_at_s, expires_at_s, revoked_at_s
    )
