"""The state machine of a key, as a table.

Theory of operation: a key is in exactly one `KeyState`. Whatever happens to it (a classified reply, the clock, an
operator) is one `KeyEvent`. `TRANSITIONS[state][event]` is the next state; an event that is not in a state's row is
illegal there: `advance` raises and nothing changes. Everything that reports late (a reply to a request sent before an
operator acted) asks `legal` first.

Three states end by themselves at a deadline: Throttled, Exhausted and Invalid. When it has passed, the next request
that wants the key is its probe: WaitElapsed leads to Recovering, and Succeeded from there to Available. Throttled also
covers limits of single models; such a key serves its other models, and returns to Available when the last limit is
proven gone (see `eligibility` and `learning`). Retired is terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from apikeyrouter.domain.errors import InvalidStateTransitionError
from apikeyrouter.domain.models.api_key import KeyState

__all__ = ["TRANSITIONS", "KeyEvent", "advance", "diagram", "legal"]


class KeyEvent(StrEnum):
    """What can happen to a key.

    RateLimited: a rate limit, of the account or of one model. Failed: it failed in its own right (server faults in a
    row, a model that it may not use) and is set aside. QuotaSpent: an allowance per day or month is used up.
    BillingBlocked: credit or a spend cap is used up. AuthSuspected: the secret was refused once. AuthRejected: refused
    again, later. WaitElapsed: a wait is over and a probe is sent. Succeeded: a request of now succeeded.
    OperatorDisabled, OperatorEnabled, Revoked, SecretReplaced: what operators do. RotationUndone: during a rotation's
    overlap the current secret was refused, so the other one is current now.
    """

    RateLimited = "rate_limited"
    Failed = "failed"
    QuotaSpent = "quota_spent"
    BillingBlocked = "billing_blocked"
    AuthSuspected = "auth_suspected"
    AuthRejected = "auth_rejected"
    WaitElapsed = "wait_elapsed"
    Succeeded = "succeeded"
    OperatorDisabled = "operator_disabled"
    OperatorEnabled = "operator_enabled"
    Revoked = "revoked"
    SecretReplaced = "secret_replaced"
    RotationUndone = "rotation_undone"


_S, _E = KeyState, KeyEvent

TRANSITIONS: Mapping[KeyState, Mapping[KeyEvent, KeyState]] = {
    _S.Available: {
        _E.RateLimited: _S.Throttled,
        _E.Failed: _S.Throttled,
        _E.QuotaSpent: _S.Exhausted,
        _E.BillingBlocked: _S.Exhausted,
        _E.AuthSuspected: _S.Throttled,
        _E.AuthRejected: _S.Invalid,
        _E.Succeeded: _S.Available,
        _E.OperatorDisabled: _S.Disabled,
        _E.OperatorEnabled: _S.Available,
        _E.Revoked: _S.Retired,
        _E.SecretReplaced: _S.Available,
        _E.RotationUndone: _S.Available,
    },
    _S.Throttled: {
        _E.RateLimited: _S.Throttled,
        _E.Failed: _S.Throttled,
        _E.QuotaSpent: _S.Exhausted,
        _E.BillingBlocked: _S.Exhausted,
        _E.AuthSuspected: _S.Throttled,
        _E.AuthRejected: _S.Invalid,
        _E.WaitElapsed: _S.Recovering,
        _E.Succeeded: _S.Available,
        _E.OperatorDisabled: _S.Disabled,
        _E.OperatorEnabled: _S.Available,
        _E.Revoked: _S.Retired,
        # a new secret of the same account has the same limits
        _E.SecretReplaced: _S.Throttled,
        _E.RotationUndone: _S.Throttled,
    },
    _S.Exhausted: {
        _E.QuotaSpent: _S.Exhausted,
        _E.BillingBlocked: _S.Exhausted,
        _E.AuthRejected: _S.Invalid,
        _E.WaitElapsed: _S.Recovering,
        _E.OperatorDisabled: _S.Disabled,
        _E.OperatorEnabled: _S.Available,
        _E.Revoked: _S.Retired,
        # the operator may have brought a secret of another account: one probe tells, at once
        _E.SecretReplaced: _S.Recovering,
        _E.RotationUndone: _S.Exhausted,
    },
    _S.Recovering: {
        _E.RateLimited: _S.Throttled,
        _E.Failed: _S.Throttled,
        _E.QuotaSpent: _S.Exhausted,
        _E.BillingBlocked: _S.Exhausted,
        _E.AuthSuspected: _S.Throttled,
        _E.AuthRejected: _S.Invalid,
        _E.Succeeded: _S.Available,
        _E.OperatorDisabled: _S.Disabled,
        _E.OperatorEnabled: _S.Available,
        _E.Revoked: _S.Retired,
        _E.SecretReplaced: _S.Recovering,
        _E.RotationUndone: _S.Recovering,
    },
    _S.Disabled: {
        _E.OperatorDisabled: _S.Disabled,
        _E.OperatorEnabled: _S.Available,
        _E.Revoked: _S.Retired,
        _E.SecretReplaced: _S.Disabled,
    },
    _S.Invalid: {
        _E.WaitElapsed: _S.Recovering,
        _E.OperatorDisabled: _S.Disabled,
        _E.OperatorEnabled: _S.Available,
        _E.Revoked: _S.Retired,
        _E.SecretReplaced: _S.Available,
    },
    _S.Retired: {},
}


def legal(state: KeyState, event: KeyEvent) -> bool:
    """Whether the table knows this event in this state."""
    return event in TRANSITIONS[state]


def advance(state: KeyState, event: KeyEvent) -> KeyState:
    """The next state. Raises InvalidStateTransitionError for an event that is illegal in `state`."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        may = ", ".join(TRANSITIONS[state]) or "none: it is final"
        raise InvalidStateTransitionError(
            f"A key that is {state} knows no event {event}; nothing was changed. Events it knows: {may}."
        ) from None


def diagram() -> str:
    """The table as a Mermaid state diagram, for the documentation."""
    arrows: dict[tuple[KeyState, KeyState], list[str]] = {}
    for state, row in TRANSITIONS.items():
        for event, target in row.items():
            arrows.setdefault((state, target), []).append(event.name)
    lines = ["stateDiagram-v2", f"    [*] --> {KeyState.Available.name}"]
    lines += [f"    {a.name} --> {b.name}: {', '.join(events)}" for (a, b), events in arrows.items() if a is not b]
    lines.append(f"    {KeyState.Retired.name} --> [*]")
    return "\n".join(lines) + "\n"
