"""One step of the state machine: `move` looks the event up, changes the record and writes the audit line.

Law: an event that the table does not know raises InvalidStateTransitionError before anything has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apikeyrouter.domain.keys.record import KeyRecord, Transition
from apikeyrouter.domain.keys.states import KeyEvent, advance
from apikeyrouter.domain.models.api_key import KeyState

__all__ = ["clear_waits", "move"]

_WAITING = frozenset({KeyState.Throttled, KeyState.Exhausted, KeyState.Invalid})


def move(
    record: KeyRecord,
    event: KeyEvent,
    now_s: float,
    *,
    cause: str,
    reason: str,
    actor: str = "provider",
    evidence: Mapping[str, Any] | None = None,
    until_s: float | None = None,
) -> Transition:
    """Takes the record to the event's next state. `reason` is what people read beside the state.

    `until_s`: the deadline for the audit line; by default that of the whole key, in states that wait.
    """
    was = record.state
    to_state = advance(was, event)
    record.state, record.state_reason = to_state, reason
    if to_state is not was:
        record.state_since_s = now_s
    if until_s is None and to_state in _WAITING:
        until_s = record.until_s or None
    return Transition(
        record.key_id, record.provider_id, was, to_state, event, cause, dict(evidence or {}), until_s, actor, now_s
    )


def clear_waits(record: KeyRecord) -> None:
    """Forgets every wait and every failure counted: the record says nothing bad about the key any more."""
    record.until_s = record.suspected_s = 0.0
    record.code = ""
    record.trusted = False
    record.strikes.clear()
    record.limited_models.clear()
