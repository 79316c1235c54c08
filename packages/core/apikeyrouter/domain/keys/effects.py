"""From a classified failure to what it does to a key: `effect_of` decides, `impose` applies.

A failure with scope Pool is decided once, for the key that met it, and imposed on all keys of its pool, so that they
rest until the same moment. How long a rest is comes from `resilience.cooldown.rest_s`; which event of the state machine
a class of failure is, is the table `_EVENTS`. Faults that may be everybody's rest a key only when it is an outlier
among its peers, and never the last one in service: `resilience.ejection`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from apikeyrouter.domain.keys.eligibility import EJECTED
from apikeyrouter.domain.keys.moves import move
from apikeyrouter.domain.keys.record import KeyRecord, ModelLimit, Strike, Transition
from apikeyrouter.domain.keys.states import KeyEvent, legal
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.resilience.cooldown import AUTH_SUSPECT_S, BASE_S, EJECTING, cooldown_s, later, rest_s
from apikeyrouter.domain.resilience.ejection import (
    GRAY_REST_S,
    Blame,
    Outlier,
    judge,
    may_eject,
    peers_failure_rate,
)
from apikeyrouter.domain.resilience.failures import Failure, FailureClass

__all__ = ["LIMITED_MODELS_MAX", "Among", "Effect", "effect_of", "evidence_of", "impose"]

LIMITED_MODELS_MAX = 256
"""Waits of single models that a key remembers; beyond that the one that ends first makes room."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a failure does to a key and, if it says so, to the keys of its pool.

    `model`: the model that waits; None: the whole key. `strikes`: failures of this kind in a row, this one included.
    `until_s`, `code`, `reason`, `trusted`: of the wait, as in `KeyRecord`. `fresh`: False for a late report about a
    wait that is running already, which may only move its deadline. `by_size`: the refused request was too large for
    what is left, and the pool's windows know how much that is.
    """

    event: KeyEvent
    kind: FailureClass
    model: str | None
    strikes: int
    until_s: float
    code: str
    reason: str
    trusted: bool
    fresh: bool
    evidence: Mapping[str, Any]
    by_size: bool = False


@dataclass(frozen=True, slots=True)
class Among:
    """Where a key failed. `peers`: the keys that might have served instead, itself included. `blame`: whose fault the
    breaker takes it for; a key that fails where others have just served is set aside at once."""

    peers: Sequence[KeyRecord]
    blame: Blame = Blame.Usual


_K, _E = FailureClass, KeyEvent

_EVENTS: Mapping[FailureClass, tuple[KeyEvent, str, str]] = {
    _K.Rate: (_E.RateLimited, "rate_limited", "rate limit reached"),
    _K.Burst: (_E.RateLimited, "rate_limited", "traffic rose too fast for the provider"),
    _K.InflightHold: (_E.RateLimited, "rate_limited", "credit is held for running requests"),
    _K.DayQuota: (_E.QuotaSpent, "exhausted", "the allowance of the day or month is used up"),
    _K.SpendCap: (_E.BillingBlocked, "exhausted", "the spend cap is reached"),
    _K.Balance: (_E.BillingBlocked, "exhausted", "the account is out of credit"),
    _K.Permission: (_E.Failed, "permission", "the provider does not allow this key to do that"),
}
_TOO_LARGE = "a request needed more tokens than were left; smaller ones are served"
_FAILED = (_E.Failed, EJECTED, "it kept failing, or asked to wait")
_SUSPECT = (_E.AuthSuspected, "suspect", "the provider refused the secret once; a second try decides")
_REJECTED = (_E.AuthRejected, "invalid", "the provider refuses the secret")

_OFTEN_PER_MODEL = frozenset({_K.Rate, _K.Burst, _K.InflightHold, _K.DayQuota, _K.Permission})
"""Classes whose wait may be that of one model; every other one rests the whole key."""

_HONEST = frozenset({_K.Rate, _K.Burst, _K.InflightHold})
"""Classes whose `Retry-After` says when the limit is gone. A short hint on a day quota buys one probe (Gemini)."""

_SET_ASIDE = frozenset({KeyState.Throttled, KeyState.Recovering})

_PEERS_MAX = 64
"""Peers that a key is compared with: a failure over 1,000 keys must not cost a millisecond."""

_FOR_SIZE_MAX = 3
"""So many refusals for size in a row, and the next one closes the model: what fits is not what we think."""

_BARELY_S = 1e-9
"""Stands for the time 0.0, which means none in a record."""


def effect_of(
    record: KeyRecord,
    failure: Failure,
    model: str | None,
    *,
    started_s: float,
    now_s: float,
    rng: Random,
    among: Among | None = None,
    used_before_s: float | None = None,
    by_size: bool = False,
) -> Effect | None:
    """What the failure of an attempt begun at `started_s` does; counts its strike. None: nothing (yet).

    `among`: None: nobody knows its peers, and the key is judged alone. `used_before_s`: when the key had been taken
    before; others that were sent since a wait ended may have used up what it had promised, which proves no word false.
    `by_size`: the provider said how much is left, and the pool's windows keep out what does not fit. That is believed
    only as long as something is served now and then.
    """
    kind = failure.failure_class
    event, code, words = _EVENTS.get(kind, _FAILED)
    spot_model = None if failure.whole_account or kind not in _OFTEN_PER_MODEL else model
    known = record.limited_models.get(spot_model) if spot_model is not None else None
    if by_size and spot_model is not None and (known is None or known.for_size < _FOR_SIZE_MAX):
        return _effect_of_size(record, failure, spot_model, now_s, rng)
    if kind is _K.Auth:
        event, code, words = _SUSPECT if not record.suspected_s else _REJECTED
        if record.suspected_s and now_s - record.suspected_s < AUTH_SUSPECT_S:
            return None
        if not record.suspected_s:
            record.strikes.pop((kind.value, ""), None)
            record.suspected_s = now_s or _BARELY_S
    elif spot_model is not None and event is not _E.Failed:
        event = _E.RateLimited  # a limit of one model, of whatever kind, leaves the key's other models in service
    spot = (kind.value, spot_model or "")
    strike = record.strikes.get(spot)
    running = record.until_s != 0.0 if spot_model is None else spot_model in record.limited_models
    fresh = strike is None or not running or started_s > strike.struck_s
    alone = strike is None or used_before_s is None or used_before_s <= strike.struck_s
    strikes = (strike.count if strike else 0) + (fresh and (alone or not failure.retry_after_s or kind not in _HONEST))
    if not fresh and not failure.retry_after_s:
        return None
    record.strikes[spot] = Strike(strikes, now_s if fresh or strike is None else strike.struck_s)
    wait_s = rest_s(failure, strikes, rng)
    if kind in EJECTING and not failure.retry_after_s:
        wait_s = _ejection_s(record, wait_s, among, now_s, rng)
    if wait_s <= 0.0:
        return None
    return Effect(
        event=event,
        kind=kind,
        model=spot_model,
        strikes=strikes,
        until_s=now_s + wait_s,
        code=code,
        reason=_reason(words, failure, spot_model),
        trusted=strikes == 1 and bool(failure.retry_after_s) and kind in _HONEST,
        fresh=fresh,
        evidence=evidence_of(failure, model) | {"strikes": strikes, "rest_s": round(wait_s, 3)},
    )


def _effect_of_size(record: KeyRecord, failure: Failure, model: str, now_s: float, rng: Random) -> Effect:
    """What is left is known exactly: no strike, and no probe when the wait is over."""
    code = _EVENTS[failure.failure_class][1]
    limit, wait_s = record.limited_models.get(model), rest_s(failure, 1, rng)
    return Effect(
        event=_E.RateLimited,
        kind=failure.failure_class,
        model=model,
        strikes=0,
        until_s=now_s + wait_s,
        code=code,
        reason=_reason(_TOO_LARGE, failure, model),
        trusted=True,
        fresh=limit is None or limit.until_s <= now_s,
        evidence=evidence_of(failure, model) | {"rest_s": round(wait_s, 3)},
        by_size=True,
    )


def _ejection_s(record: KeyRecord, wait_s: float, among: Among | None, now_s: float, rng: Random) -> float:
    """How long a faulty key is set aside, 0.0 if it stays. `wait_s`: what its faults in a row alone would make it."""
    track = record.track
    if among is None:
        return wait_s
    peers = among.peers
    if len(peers) > _PEERS_MAX:
        first = rng.randrange(len(peers) - _PEERS_MAX + 1)
        peers = peers[first : first + _PEERS_MAX]
    others = [peer for peer in peers if peer is not record]
    dead = among.blame is Blame.Own or wait_s > 0.0
    outlier = Outlier.Dead if dead else judge(track, peers_failure_rate(peer.track for peer in others), now_s)
    if outlier is None:
        return 0.0
    in_service = 1 + sum(_in_service(peer) for peer in others)
    if not may_eject(outlier, ejected=sum(_ejected(peer) for peer in others), in_service=in_service):
        return 0.0
    base_s = GRAY_REST_S if outlier is Outlier.Gray else BASE_S
    rest = max(wait_s, cooldown_s(int(track.ejections_now(now_s)) + 1, rng, base_s=base_s))
    track.eject(now_s, now_s + rest)
    return rest


def _in_service(record: KeyRecord) -> bool:
    return record.state is KeyState.Available or (record.state is KeyState.Throttled and record.until_s == 0.0)


def _ejected(record: KeyRecord) -> bool:
    return record.code == EJECTED and record.state in _SET_ASIDE and not _in_service(record)


def evidence_of(failure: Failure, model: str | None) -> dict[str, Any]:
    """The facts of a failure that an audit line keeps."""
    facts = {
        "status": failure.status,
        "code": failure.code,
        "provider_request_id": failure.provider_request_id,
        "retry_after_s": failure.retry_after_s,
        "model": model,
    }
    return {name: value for name, value in facts.items() if value is not None}


def impose(record: KeyRecord, effect: Effect, now_s: float) -> Transition | None:
    """Applies the effect to the key that met it, or to another one of its pool. None when its state knows no such
    event, or when only a running wait moved."""
    if not legal(record.state, effect.event):
        return None
    if not effect.by_size:
        record.strikes[(effect.kind.value, effect.model or "")] = Strike(effect.strikes, now_s)
    waits = record.until_s != 0.0 if effect.model is None else effect.model in record.limited_models
    until_s = (
        _limit_model(record, effect.model, effect, now_s)
        if effect.model is not None
        else _limit_key(record, effect, now_s)
    )
    if waits and not effect.fresh:
        return None
    return move(
        record,
        effect.event,
        now_s,
        cause=effect.kind.value,
        reason=effect.reason,
        evidence=effect.evidence,
        until_s=until_s,
    )


def _limit_key(record: KeyRecord, effect: Effect, now_s: float) -> float:
    """Merges the wait into a running one: the later deadline holds, and is trusted only when both are.

    Its code is that of the later one; but an ejection never names it beside a wait that the provider asked for, since
    ejected keys may be taken before their time.
    """
    running = record.until_s > now_s
    ejected = (record.code == EJECTED, effect.code == EJECTED)
    if not running or ejected == (True, False) or (ejected != (False, True) and effect.until_s >= record.until_s):
        record.code = effect.code
    record.trusted = effect.trusted and (record.until_s == 0.0 or record.trusted)
    record.until_s = later(record.until_s, effect.until_s) if running else effect.until_s
    return record.until_s


def _limit_model(record: KeyRecord, model: str, effect: Effect, now_s: float) -> float:
    limits = record.limited_models
    limit = limits.get(model)
    if limit is None:
        if len(limits) >= LIMITED_MODELS_MAX:
            first = min(limits, key=lambda name: limits[name].until_s)
            del limits[first]
            for spot in [spot for spot in record.strikes if spot[1] == first]:
                del record.strikes[spot]
        limit = limits[model] = ModelLimit(effect.until_s, effect.code, effect.reason, effect.trusted)
        limit.open_from_s, limit.for_size = (now_s, 1) if effect.by_size else (math.inf, 0)
        return effect.until_s
    if effect.until_s >= limit.until_s:
        limit.code, limit.reason = effect.code, effect.reason
    over = effect.by_size and limit.until_s <= now_s  # what was only guessed is known by now
    limit.trusted = effect.trusted and (limit.trusted or over)
    limit.open_from_s = limit.closed_until_s if effect.by_size else later(limit.open_from_s, effect.until_s)
    limit.for_size += effect.by_size
    limit.until_s = later(limit.until_s, effect.until_s)
    return limit.until_s


def _reason(words: str, failure: Failure, model: str | None) -> str:
    facts = " ".join(str(f) for f in (failure.status, failure.code) if f is not None)
    return words + (f" ({facts})" if facts else "") + (f", for {model}" if model is not None else "")
