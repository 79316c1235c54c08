"""What an attempt teaches about its key.

Main entries: `begin` hands out a `Ticket`; `succeed`, `fail` or `release` takes it back, exactly once. `fail` returns
the `Effect` that it had, which `impose` applies to the other keys of the same quota pool.
Laws: deadlines only move later, except on success or an operator's action. Nothing changes on failures that are the
caller's own (Client, Policy, TooLargeForLimit). Faults that speak of a host or model set a key aside only when it fails
more than its peers (`resilience.ejection`): what all of them share, the breaker answers. What was sent before a wait
began is no news about it: such a success ends no wait, and such a failure lengthens no backoff, so that ten requests
refused together count as one refusal. A secret that is no longer current cannot condemn its successor.
"""

from __future__ import annotations

from random import Random

from apikeyrouter.domain.errors import InvalidStateTransitionError
from apikeyrouter.domain.keys.effects import Among, Effect, effect_of, evidence_of, impose
from apikeyrouter.domain.keys.eligibility import EJECTED, blocked
from apikeyrouter.domain.keys.moves import clear_waits, move
from apikeyrouter.domain.keys.record import KeyRecord, ModelLimit, Ticket, Transition
from apikeyrouter.domain.keys.rotation import swap_refused
from apikeyrouter.domain.keys.states import KeyEvent
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.resilience.cooldown import EJECTING
from apikeyrouter.domain.resilience.ejection import Blame
from apikeyrouter.domain.resilience.failures import Failure, FailureClass

__all__ = [
    "LIMIT_FORGOTTEN_AFTER_S",
    "Transition",
    "accepted",
    "begin",
    "fail",
    "forget_old_limits",
    "release",
    "succeed",
]

LIMIT_FORGOTTEN_AFTER_S = 600.0
"""A model's limit that nobody has run into for so long is forgotten with its strikes."""

_AVAILABLE = KeyState.Available
_CALLERS_OWN = frozenset({FailureClass.Client, FailureClass.Policy, FailureClass.TooLargeForLimit})


def begin(
    record: KeyRecord, model: str | None, now_s: float, *, ahead: bool = False
) -> tuple[Ticket, Transition | None]:
    """Takes the key for one attempt. Call it in the same step as `blocked`, without awaiting between.

    `model` None: a request that generates nothing, such as listing models; it tells about the secret and not about
    limits, so it is a probe of Invalid keys only. `ahead`: an operator's check, which need not wait. An ejected key may
    be begun before its time, as a probe. Raises InvalidStateTransitionError for a key that is blocked otherwise, or
    ejected with its probe in flight; then nothing has changed.
    """
    ticket = Ticket(record, model, record.version, record.secret, now_s)
    moved = None
    if record.state is not _AVAILABLE:
        moved = _begin_with_care(ticket, now_s, ahead=ahead)
    record.in_flight += 1
    record.usage_count += 1
    ticket.used_before_s, record.last_used_s = record.last_used_s, now_s
    return ticket, moved


def _begin_with_care(ticket: Ticket, now_s: float, *, ahead: bool) -> Transition | None:
    record = ticket.record
    block = blocked(record, ticket.model, now_s)
    early = ahead and record.state is not KeyState.Retired
    if block is not None and not early and (block.code != EJECTED or record.probing):
        raise InvalidStateTransitionError(f"Key {record.key_id} cannot take a request now: {block.reason}.")
    if ticket.model is None:
        if record.state is KeyState.Invalid and not record.probing:
            return _probe(ticket, now_s, "a check of the secret")
        return None
    keeps_its_word = record.trusted and record.until_s <= now_s
    no_wait = record.state is KeyState.Throttled and (record.until_s == 0.0 or keeps_its_word)
    moved = None
    if not no_wait and not record.probing and record.state is not KeyState.Disabled:
        moved = _probe(ticket, now_s, "the wait is over" if block is None else "sent before the wait was over")
    limit = record.limited_models.get(ticket.model)
    if limit is not None and not limit.trusted and not limit.probing:
        ticket.model_limit = limit
        limit.probing = True
    return moved


def _probe(ticket: Ticket, now_s: float, cause: str) -> Transition | None:
    """Makes this attempt the one that decides."""
    record = ticket.record
    ticket.probe = record.probing = True
    if record.state is KeyState.Recovering:
        return None
    record.until_s = 0.0
    reason = "one request is finding out whether it serves again"
    evidence = {} if ticket.model is None else {"model": ticket.model}
    return move(record, KeyEvent.WaitElapsed, now_s, cause=cause, reason=reason, actor="clock", evidence=evidence)


def accepted(ticket: Ticket, now_s: float) -> Transition | None:
    """The provider let the attempt in, and its reply goes on: the limit that it was sent after is gone.

    A reply takes seconds, in which a key that may serve would have stood still for its probe. An ejected key is not
    judged by this: it may break off what it begins. The attempt is still to be closed.
    """
    record = ticket.record
    recovers = record.state is KeyState.Recovering and ticket.probe
    if ticket.model is None or record.code == EJECTED or not (recovers or record.state is KeyState.Throttled):
        return None
    _decided(ticket)
    ticket.probe, ticket.model_limit = False, None
    if not recovers:
        _end_waits(record, ticket)
    if recovers or (record.until_s == 0.0 and not record.limited_models):
        return _recovered(record, ticket, now_s)
    return None


def succeed(ticket: Ticket, now_s: float) -> Transition | None:
    """The attempt was served. Ends the wait that it was sent after, if any."""
    _close(ticket)
    record = ticket.record
    record.track.succeed(now_s)
    if record.suspected_s and ticket.version == record.version and ticket.started_s >= record.suspected_s:
        record.suspected_s = 0.0
    if record.state is _AVAILABLE:
        if record.strikes:
            record.strikes.clear()
        return None
    if record.state is KeyState.Recovering and ticket.probe:
        return _recovered(record, ticket, now_s)
    if record.state is KeyState.Throttled and (ticket.model is not None or record.code == "suspect"):
        _end_waits(record, ticket)
        if record.until_s == 0.0 and not record.limited_models:
            return _recovered(record, ticket, now_s)
    return None


def _end_waits(record: KeyRecord, ticket: Ticket) -> None:
    """Removes the waits of the key and of the model that were over when the attempt began."""
    if ticket.started_s >= record.until_s:
        record.until_s = 0.0
        _forgive(record, "")
    _end_model_wait(record, ticket)


def _end_model_wait(record: KeyRecord, ticket: Ticket) -> None:
    model = ticket.model
    limit = record.limited_models.get(model) if model is not None else None
    if model is None or limit is None:
        return
    if ticket.started_s >= limit.until_s:
        del record.limited_models[model]
        _forgive(record, model)
    elif ticket.started_s >= limit.open_from_s:
        limit.for_size = 0


def _recovered(record: KeyRecord, ticket: Ticket, now_s: float) -> Transition:
    evidence = {} if ticket.model is None else {"model": ticket.model}
    _end_model_wait(record, ticket)
    if record.limited_models:  # the key as a whole serves again, single models of it still wait
        _forgive(record, "")
        model, limit = max(record.limited_models.items(), key=lambda item: item[1].until_s)
        return move(
            record,
            KeyEvent.RateLimited,
            now_s,
            cause="the key serves again, but not every model yet",
            reason=limit.reason,
            evidence=evidence | {"limited_model": model},
            until_s=limit.until_s,
        )
    clear_waits(record)
    return move(record, KeyEvent.Succeeded, now_s, cause="a request succeeded", reason="", evidence=evidence)


def fail(
    ticket: Ticket,
    failure: Failure,
    now_s: float,
    rng: Random,
    among: Among | None = None,
    *,
    by_size: bool = False,
) -> tuple[Transition | None, Effect | None]:
    """The attempt failed. Returns the key's transition, if any, and the effect for other keys of the pool, if any.

    The effect is to be imposed on them only when `failure.scope` is Pool. `among`: its peers, and whose fault it is.
    `by_size`: see `effect_of`.
    """
    _close(ticket)
    record, kind = ticket.record, failure.failure_class
    if kind in _CALLERS_OWN:
        return None, None
    record.failure_count += 1
    if kind in EJECTING:
        if among is not None and among.blame is Blame.Shared and not failure.retry_after_s:
            return None, None
        record.track.fail(now_s)
    if kind is FailureClass.Auth:
        if ticket.version != record.version:
            return None, None
        swapped = swap_refused(record, now_s, evidence_of(failure, ticket.model))
        if swapped is not None:
            return swapped, None
    started_s = ticket.started_s
    effect = effect_of(
        record,
        failure,
        ticket.model,
        started_s=started_s,
        now_s=now_s,
        rng=rng,
        among=among,
        used_before_s=ticket.used_before_s,
        by_size=by_size,
    )
    if effect is None:
        return None, None
    return impose(record, effect, now_s), effect


def release(ticket: Ticket) -> bool:
    """The attempt ended and told nothing (cancelled, the caller's own fault). Whether it was a probe: then others may
    try now."""
    return _close(ticket)


def forget_old_limits(record: KeyRecord, now_s: float) -> bool:
    """Drops limits of single models that ended long ago. Whether there were any."""
    horizon_s = now_s - LIMIT_FORGOTTEN_AFTER_S
    old = [m for m, limit in record.limited_models.items() if limit.until_s < horizon_s and not limit.probing]
    for model in old:
        del record.limited_models[model]
        _forgive(record, model)
    return bool(old)


def _forgive(record: KeyRecord, model: str) -> None:
    for spot in [spot for spot in record.strikes if spot[1] == model]:
        del record.strikes[spot]


def _close(ticket: Ticket) -> bool:
    """Takes the ticket back; whether it was a probe of the key or of a model."""
    if not ticket.open:
        raise InvalidStateTransitionError(f"This attempt with key {ticket.record.key_id} was closed before.")
    ticket.open = False
    ticket.record.in_flight -= 1
    return _decided(ticket)


def _decided(ticket: Ticket) -> bool:
    """It is no probe any more; whether it was one, of the key or of a model."""
    probed = ticket.probe or ticket.model_limit is not None
    if ticket.probe:
        ticket.record.probing = False
    limit: ModelLimit | None = ticket.model_limit
    if limit is not None:
        limit.probing = False
    return probed
