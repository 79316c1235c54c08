"""Rotation: a new secret takes over at once, and the old one stays at hand until it is clear that the new one works.

Main entries: `replace_secret`, `swap_refused`, `drop_previous`.
Laws: attempts begun after `replace_secret` use the new secret; attempts under way keep theirs. While the overlap lasts,
a current secret that the provider refuses makes room for the other one (a mistyped or not yet active new secret, later
a revoked old one), and says so in the audit trail; at most twice, so that two dead secrets end as any dead secret does.
When the overlap ends, the one that is not current is forgotten.
"""

from __future__ import annotations

from typing import Any

from apikeyrouter.domain.keys.moves import clear_waits, move
from apikeyrouter.domain.keys.record import KeyRecord, Transition
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.keys.states import KeyEvent, advance, legal
from apikeyrouter.domain.models.api_key import KeyState

__all__ = ["OVERLAP_S", "drop_previous", "forget_previous", "next_version", "replace_secret", "swap_refused"]

OVERLAP_S = 3600.0
"""Default overlap: long enough that a key with little traffic tries its new secret within it."""

_SWAPS = 2
"""New to old when the new one is refused, and back once when the old one is revoked after all."""

_AUTH = ("auth", "")


def next_version(record: KeyRecord) -> int:
    """The number that the next secret will have; its sealing is bound to it."""
    return record.newest_version + 1


def replace_secret(
    record: KeyRecord,
    new: Secret,
    *,
    sealed: bytes,
    fingerprint: bytes,
    now_s: float,
    overlap_s: float = OVERLAP_S,
    actor: str = "operator",
) -> Transition:
    """Makes `new` current. The old secret drains for `overlap_s` seconds, unless the provider had refused it already.

    `sealed`: the new secret, sealed under `next_version(record)`. Raises InvalidStateTransitionError for a retired key,
    and then nothing has changed.
    """
    was = record.state
    to_state = advance(was, KeyEvent.SecretReplaced)
    if overlap_s > 0 and was is not KeyState.Invalid:
        record.previous, record.sealed_previous = record.secret, record.sealed
        record.previous_version = record.version
        record.draining_until_s = now_s + overlap_s
        record.swaps_left = _SWAPS
    else:
        forget_previous(record)
    record.version = record.newest_version = next_version(record)
    record.secret, record.sealed, record.fingerprint = new, sealed, fingerprint
    _clear_suspicion(record)
    if was is not KeyState.Throttled:
        clear_waits(record)
    evidence: dict[str, Any] = {"version": record.version}
    if record.previous is not None:
        evidence |= {"draining_version": record.previous_version, "overlap_s": overlap_s}
    return move(
        record,
        KeyEvent.SecretReplaced,
        now_s,
        cause="secret replaced",
        reason="" if to_state is KeyState.Available else record.state_reason,
        actor=actor,
        evidence=evidence,
    )


def swap_refused(record: KeyRecord, now_s: float, evidence: dict[str, Any]) -> Transition | None:
    """The current secret was refused: the other one becomes current, if the overlap lasts. None when it cannot be."""
    if record.previous is None or record.sealed_previous is None or not legal(record.state, KeyEvent.RotationUndone):
        return None
    if record.swaps_left <= 0 or now_s >= record.draining_until_s:
        return None
    refused = record.version
    record.secret, record.previous = record.previous, record.secret
    record.sealed, record.sealed_previous = record.sealed_previous, record.sealed
    record.version, record.previous_version = record.previous_version, refused
    record.swaps_left -= 1
    _clear_suspicion(record)
    facts = evidence | {"refused_version": refused, "version": record.version}
    cause = f"the provider refused secret {refused}; secret {record.version} is current again"
    return move(
        record, KeyEvent.RotationUndone, now_s, cause=cause, reason=record.state_reason or cause, evidence=facts
    )


def drop_previous(record: KeyRecord, now_s: float) -> bool:
    """Forgets the secret that is not current when the overlap is over. Whether there was one to forget."""
    if record.previous is None or now_s < record.draining_until_s:
        return False
    forget_previous(record)
    return True


def forget_previous(record: KeyRecord) -> None:
    """Ends the overlap: only the current secret is left."""
    record.previous = record.sealed_previous = None
    record.previous_version = record.swaps_left = 0
    record.draining_until_s = 0.0


def _clear_suspicion(record: KeyRecord) -> None:
    """What was learned about a secret says nothing about another one."""
    record.strikes.pop(_AUTH, None)
    if record.suspected_s and record.state is KeyState.Throttled and record.code == "suspect":
        record.until_s = 0.0
    record.suspected_s = 0.0
