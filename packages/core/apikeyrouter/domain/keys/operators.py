"""What operators do to a key: disable, enable, revoke. Replacing its secret is in `rotation`.

Laws: an operator's word counts more than what was learned: enabling clears every wait and every suspicion. Revoking is
final and destroys the secret here; attempts under way keep theirs until they end.
"""

from __future__ import annotations

from apikeyrouter.domain.keys.moves import clear_waits, move
from apikeyrouter.domain.keys.record import KeyRecord, Transition
from apikeyrouter.domain.keys.rotation import forget_previous
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.keys.states import KeyEvent

__all__ = ["disable", "enable", "retire_twin", "revoke"]


def disable(record: KeyRecord, now_s: float, *, reason: str = "", actor: str = "operator") -> Transition:
    """Switches the key off until it is enabled. Raises InvalidStateTransitionError when it is retired."""
    return _act(record, KeyEvent.OperatorDisabled, now_s, reason or "disabled by an operator", actor)


def enable(record: KeyRecord, now_s: float, *, reason: str = "", actor: str = "operator") -> Transition:
    """Puts the key back into service, whatever it waited for. Raises InvalidStateTransitionError when it is retired."""
    moved = _act(record, KeyEvent.OperatorEnabled, now_s, reason or "enabled by an operator", actor)
    record.state_reason = ""
    return moved


def revoke(record: KeyRecord, now_s: float, *, reason: str = "", actor: str = "operator") -> Transition:
    """Retires the key for good and destroys its secrets. Raises InvalidStateTransitionError when it is retired."""
    moved = _act(record, KeyEvent.Revoked, now_s, reason or "revoked by an operator", actor)
    forget_previous(record)
    record.secret = Secret("")
    record.sealed = record.fingerprint = b""
    return moved


def retire_twin(surplus: KeyRecord, kept: KeyRecord, now_s: float) -> Transition:
    """Two processes registered the same material at the same moment: one key of it stays."""
    reason = f"registered twice at the same moment; {kept.key_id} ({kept.label}) holds this material"
    return revoke(surplus, now_s, reason=reason, actor="clock")


def _act(record: KeyRecord, event: KeyEvent, now_s: float, reason: str, actor: str) -> Transition:
    moved = move(record, event, now_s, cause=reason, reason=reason, actor=actor)
    clear_waits(record)
    return moved
