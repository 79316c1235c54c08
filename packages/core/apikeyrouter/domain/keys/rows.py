"""A key as the store keeps it, and as users see it.

Main entries: `stored_key_of` and `record_of` (there and back), `api_key_view` and `view_of_stored` (for people),
`event_of` and `transition_of` (the audit trail). The layout of `StoredKey.document` and of the document of a
"key.transition" event is defined here and nowhere else.
Laws: no plaintext secret enters a row; the same record survives a restart with its deadlines: monotonic seconds here
are UTC seconds there, converted by a pair of times (`now_s`, `utc_s`) that were read together.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from apikeyrouter.domain.interfaces.state_store import StoredEvent, StoredKey
from apikeyrouter.domain.keys.metadata import key_terms
from apikeyrouter.domain.keys.record import KeyRecord, ModelLimit, Strike, Transition
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.api_key import APIKey, KeyState, StateTransition

__all__ = [
    "TRANSITION_KIND",
    "Moment",
    "api_key_view",
    "event_of",
    "record_of",
    "seal_context",
    "stored_key_of",
    "transition_of",
    "view_of_stored",
]

TRANSITION_KIND = "key.transition"
"""The event kind of a key's audit trail."""

_RESTING = (KeyState.Throttled, KeyState.Exhausted)
"""States that time ends."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The same instant on two clocks: monotonic seconds and UTC (Unix) seconds."""

    now_s: float
    utc_s: float

    def to_utc(self, time_s: float) -> float:
        """A monotonic time as Unix seconds."""
        return self.utc_s + (time_s - self.now_s)

    def to_monotonic(self, utc_s: float) -> float:
        """Unix seconds as a monotonic time; never 0.0, which means none."""
        return (self.now_s + (utc_s - self.utc_s)) or 1e-9


def seal_context(key_id: str, provider_id: str, version: int) -> bytes:
    """What a sealed secret is bound to: it opens in no other row and under no other version."""
    return msgspec.json.encode([key_id, provider_id, version])


def stored_key_of(record: KeyRecord, at: Moment) -> StoredKey:
    """The record's row."""

    def utc(time_s: float) -> float | None:
        return at.to_utc(time_s) if time_s else None

    limits = {
        model: {
            "until_s": at.to_utc(limit.until_s),
            "code": limit.code,
            "reason": limit.reason,
            "trusted": limit.trusted,
        }
        for model, limit in record.limited_models.items()
    }
    document: dict[str, Any] = {
        "label": record.label,
        "pool_id": record.pool_id,
        "metadata": dict(record.metadata),
        "reason": record.state_reason,
        "code": record.code,
        "state_since_s": at.to_utc(record.state_since_s),
        "until_s": utc(record.until_s),
        "limited_models": limits,
        "strikes": [[kind, model, strike.count] for (kind, model), strike in record.strikes.items()],
        "trusted": record.trusted,
        "suspected_s": utc(record.suspected_s),
        "usage_count": record.usage_count,
        "failure_count": record.failure_count,
        "last_used_s": None if record.last_used_s is None else at.to_utc(record.last_used_s),
        "newest_version": record.newest_version,
        "previous_version": record.previous_version,
        "draining_until_s": utc(record.draining_until_s),
        "swaps_left": record.swaps_left,
        "order_revision": record.order_revision,
        "secret_revision": record.secret_revision,
        "terms_revision": record.terms_revision,
    }
    return StoredKey(
        key_id=record.key_id,
        provider_id=record.provider_id,
        state=record.state.value,
        sealed_secret=record.sealed,
        fingerprint=record.fingerprint,
        version=record.version,
        document=document,
        created_at_s=record.created_at_utc_s,
        updated_at_s=at.utc_s,
        sealed_previous=record.sealed_previous,
        revision=record.revision,
    )


def record_of(row: StoredKey, secret: Secret, previous: Secret | None, at: Moment) -> KeyRecord:
    """The record behind a row. Nothing is in flight."""
    document = row.document
    metadata = document.get("metadata") or {}
    terms = key_terms(metadata)

    def monotonic(name: str) -> float:
        utc_s = document.get(name)
        return at.to_monotonic(utc_s) if utc_s else 0.0

    limits = {
        model: ModelLimit(at.to_monotonic(limit["until_s"]), limit["code"], limit["reason"], limit["trusted"])
        for model, limit in (document.get("limited_models") or {}).items()
    }
    return KeyRecord(
        key_id=row.key_id,
        provider_id=row.provider_id,
        label=document.get("label") or row.key_id,
        pool_id=document.get("pool_id") or row.key_id,
        secret=secret,
        sealed=row.sealed_secret,
        fingerprint=row.fingerprint,
        created_at_utc_s=row.created_at_s,
        weight=terms.weight,
        models=terms.models,
        base_url=terms.base_url,
        metadata=metadata,
        version=row.version,
        newest_version=max(row.version, document.get("newest_version") or 0),
        previous=previous,
        sealed_previous=row.sealed_previous if previous is not None else None,
        previous_version=document.get("previous_version") or 0,
        draining_until_s=monotonic("draining_until_s"),
        swaps_left=document.get("swaps_left") or 0,
        state=KeyState(row.state),
        state_reason=document.get("reason") or "",
        state_since_s=monotonic("state_since_s"),
        until_s=monotonic("until_s"),
        code=document.get("code") or "",
        limited_models=limits,
        strikes={(kind, model): Strike(count, at.now_s) for kind, model, count in document.get("strikes") or ()},
        trusted=bool(document.get("trusted")),
        suspected_s=monotonic("suspected_s"),
        usage_count=document.get("usage_count") or 0,
        failure_count=document.get("failure_count") or 0,
        last_used_s=monotonic("last_used_s") or None,
        revision=row.revision,
        order_revision=document.get("order_revision") or 0,
        secret_revision=document.get("secret_revision") or 0,
        terms_revision=document.get("terms_revision") or 0,
    )


def api_key_view(record: KeyRecord, at: Moment) -> APIKey:
    """The key as users see it, with what is in flight now. A wait that is over is not shown."""
    view = view_of_stored(stored_key_of(record, at), utc_s=at.utc_s)
    view.in_flight = record.in_flight
    return view


def view_of_stored(row: StoredKey, *, utc_s: float | None = None) -> APIKey:
    """A row as users see it: everything but secrets, and nothing in flight.

    With `utc_s` (Unix seconds, now) waits and overlaps that are over are left out, and the state is what a request
    would find (`_state_now`); without it everything shows as stored.
    """
    document = row.document
    state, reason, since_s = _state_now(row, utc_s)

    def upcoming(name: str) -> datetime | None:
        time_s = document.get(name)
        return None if not time_s or (utc_s is not None and time_s <= utc_s) else _datetime(time_s)

    limited = {
        model: _datetime(limit["until_s"])
        for model, limit in (document.get("limited_models") or {}).items()
        if utc_s is None or limit["until_s"] > utc_s
    }
    waits = [time for time in (upcoming("until_s"), *limited.values()) if time is not None]
    last_used_s = document.get("last_used_s")
    return APIKey(
        id=row.key_id,
        provider_id=row.provider_id,
        label=document.get("label") or row.key_id,
        pool_id=document.get("pool_id") or row.key_id,
        state=state,
        state_reason=reason,
        state_updated_at=_datetime(since_s),
        created_at=_datetime(row.created_at_s),
        last_used_at=_datetime(last_used_s) if last_used_s else None,
        usage_count=document.get("usage_count") or 0,
        failure_count=document.get("failure_count") or 0,
        cooldown_until=max(waits, default=None),
        limited_models=limited,
        version=row.version,
        draining_until=upcoming("draining_until_s") if row.sealed_previous is not None else None,
        metadata=dict(document.get("metadata") or {}),
    )


def _state_now(row: StoredKey, utc_s: float | None) -> tuple[KeyState, str, float]:
    """(state, why, since when in Unix seconds) as `eligibility.blocked` would find it. A rest that is over ends in the
    record with the next request only: until then a key whose provider named the end is shown as available, since it
    gets full traffic at once, and any other one as recovering, since that request is its probe. A secret that was
    refused stays invalid until then: no time mends it."""
    document = row.document
    state, reason = KeyState(row.state), document.get("reason") or ""
    since_s = document.get("state_since_s") or row.updated_at_s
    limits = list((document.get("limited_models") or {}).values())
    own_s = document.get("until_s") or 0.0
    end_s = max((own_s, *(limit["until_s"] for limit in limits)))
    if utc_s is None or state not in _RESTING or not 0.0 < end_s <= utc_s:
        return state, reason, since_s
    promised = all(limit["trusted"] for limit in limits) and (not own_s or document.get("trusted"))
    if state is KeyState.Throttled and promised:
        return KeyState.Available, "", end_s
    was = f" ({state.value}: {reason})" if reason else ""
    return KeyState.Recovering, f"its wait is over, the next request decides{was}", end_s


def event_of(transition: Transition, at: Moment) -> StoredEvent:
    """A transition as a line of the event log."""
    document: dict[str, Any] = {
        "key_id": transition.key_id,
        "provider_id": transition.provider_id,
        "from_state": transition.from_state.value,
        "to_state": transition.to_state.value,
        "event": transition.event.value,
        "cause": transition.cause,
        "evidence": dict(transition.evidence),
        "until_s": None if transition.until_s is None else at.to_utc(transition.until_s),
        "actor": transition.actor,
    }
    return StoredEvent(at.to_utc(transition.at_s), TRANSITION_KIND, transition.key_id, document)


def transition_of(event: StoredEvent) -> StateTransition:
    """A line of the event log as users see it."""
    document = event.document
    until_s = document["until_s"]
    return StateTransition(
        entity_id=event.entity_id,
        from_state=KeyState(document["from_state"]),
        to_state=KeyState(document["to_state"]),
        transition_timestamp=_datetime(event.at_s),
        trigger=document["event"],
        cause=document["cause"],
        evidence=document["evidence"],
        until=None if until_s is None else _datetime(until_s),
        actor=document["actor"],
    )


def _datetime(utc_s: float) -> datetime:
    return datetime.fromtimestamp(utc_s, UTC)
