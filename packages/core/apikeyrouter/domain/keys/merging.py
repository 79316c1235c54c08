"""One key, known to several processes: how what another one wrote becomes part of the live record.

Main entries: `merge` (theirs into mine, in place: groups and tickets hold the record), `carries_secret` (whether their
secrets must be opened for it) and `twins` (the same material registered by two processes at once).
A record has three parts that change for reasons of their own, so that none is lost when two processes change different
ones at the same moment: the secret (the higher version wins, then the later `secret_revision`), label and metadata
(`terms_revision`), and the state.
Laws: Retired wins always. An operator's order counts more than what was learned without knowing of it
(`order_revision`); else the newer `revision` says where the key stands, and among waits of both the later deadline
holds. In-flight counts, probes and counters stay local. Merging the same row again changes nothing, and two processes
that have merged each other's rows say the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from apikeyrouter.domain.keys.effects import LIMITED_MODELS_MAX
from apikeyrouter.domain.keys.moves import clear_waits
from apikeyrouter.domain.keys.record import KeyRecord, ModelLimit, Strike
from apikeyrouter.domain.keys.rotation import forget_previous
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.resilience.cooldown import later

__all__ = ["Merge", "carries_secret", "merge", "twins"]

_WAITING = frozenset({KeyState.Throttled, KeyState.Exhausted, KeyState.Invalid})

_SAME_S = 0.05
"""Deadlines closer than this are the same: each process converts them by its own pair of clocks."""


@dataclass(slots=True)
class Merge:
    """What a merge did. `took`: my record changed. `gave`: theirs lacks something of mine. `moved_in_groups`: it came
    to or left a provider's or a pool's keys, or has other terms. `rewrite`: the merged record must be stored again,
    since neither row holds all of it."""

    took: bool = False
    gave: bool = False
    moved_in_groups: bool = False
    rewrite: bool = False


def carries_secret(mine: KeyRecord, theirs: KeyRecord) -> bool:
    """Whether `theirs` has a secret that `mine` should use."""
    if KeyState.Retired in (mine.state, theirs.state):
        return False
    return _secret_order(mine, theirs) > 0


def merge(mine: KeyRecord, theirs: KeyRecord, now_s: float) -> Merge:
    """Takes into `mine` what is newer in `theirs`, a record made of a row. `theirs` is not used afterwards."""
    done = Merge()
    if theirs.revision == mine.revision:
        return done
    newer = theirs.revision > mine.revision
    if KeyState.Retired in (mine.state, theirs.state):
        _merge_retired(mine, theirs, done)
    else:
        _merge_secret(mine, theirs, done)
        _merge_state(mine, theirs, now_s, done)
    _merge_terms(mine, theirs, done)
    mine.revision = max(mine.revision, theirs.revision)
    done.rewrite = done.gave if newer else done.took
    return done


def twins(records: Iterable[KeyRecord]) -> list[tuple[KeyRecord, KeyRecord]]:
    """(the key that goes, the one that stays) for every secret that two keys of a provider hold: the older one stays.

    Every process that sees the same keys comes to the same answer.
    """
    first: dict[tuple[str, bytes], KeyRecord] = {}
    surplus: list[tuple[KeyRecord, KeyRecord]] = []
    for record in sorted(records, key=lambda one: (one.created_at_utc_s, one.key_id)):
        if record.state is KeyState.Retired or not record.fingerprint:
            continue
        holder = first.setdefault((record.provider_id, record.fingerprint), record)
        if holder is not record:
            surplus.append((record, holder))
    return surplus


def _merge_retired(mine: KeyRecord, theirs: KeyRecord, done: Merge) -> None:
    if mine.state is KeyState.Retired:
        done.gave = theirs.state is not KeyState.Retired
        return
    mine.state, mine.state_reason = theirs.state, theirs.state_reason
    mine.state_since_s = theirs.state_since_s
    mine.order_revision = max(mine.order_revision, theirs.order_revision)
    mine.version, mine.newest_version = theirs.version, max(mine.newest_version, theirs.newest_version)
    clear_waits(mine)
    forget_previous(mine)
    mine.secret = Secret("")
    mine.sealed = mine.fingerprint = b""
    done.took = done.moved_in_groups = True


def _secret_order(mine: KeyRecord, theirs: KeyRecord) -> int:
    """1: their secret is the one to use; -1: mine; 0: they are the same."""
    ours, other = (mine.newest_version, mine.secret_revision), (theirs.newest_version, theirs.secret_revision)
    if ours != other:
        return 1 if other > ours else -1
    if mine.version == theirs.version:
        return 0  # sealed anew, at most: what is in memory is the same
    return 1 if theirs.revision > mine.revision else -1  # one of them went back to the secret before


def _merge_secret(mine: KeyRecord, theirs: KeyRecord, done: Merge) -> None:
    order = _secret_order(mine, theirs)
    if order < 0:
        done.gave = True
    elif order > 0:
        done.took = True
        mine.secret, mine.sealed, mine.fingerprint = theirs.secret, theirs.sealed, theirs.fingerprint
        mine.version, mine.newest_version = theirs.version, theirs.newest_version
        mine.secret_revision = theirs.secret_revision
        mine.previous, mine.sealed_previous = theirs.previous, theirs.sealed_previous
        mine.previous_version, mine.swaps_left = theirs.previous_version, theirs.swaps_left
        mine.draining_until_s = theirs.draining_until_s
    elif mine.previous is not None and theirs.sealed_previous is None and theirs.revision > mine.revision:
        forget_previous(mine)


def _merge_terms(mine: KeyRecord, theirs: KeyRecord, done: Merge) -> None:
    if theirs.terms_revision < mine.terms_revision:
        done.gave = True
    elif theirs.terms_revision > mine.terms_revision:
        done.took = done.moved_in_groups = True
        mine.label, mine.metadata, mine.pool_id = theirs.label, theirs.metadata, theirs.pool_id
        mine.weight, mine.models, mine.base_url = theirs.weight, theirs.models, theirs.base_url
        mine.terms_revision = theirs.terms_revision


def _merge_state(mine: KeyRecord, theirs: KeyRecord, now_s: float, done: Merge) -> None:
    """The state of whoever knows the last order, else of the newer one; then the waits of the other one."""
    both_know = mine.order_revision == theirs.order_revision
    if (theirs.order_revision, theirs.revision) > (mine.order_revision, mine.revision):
        until_s, code, trusted = mine.until_s, mine.code, mine.trusted
        waited = mine.state in _WAITING
        limits = {model: _copy(limit) for model, limit in mine.limited_models.items()} if both_know and waited else {}
        _take_state(mine, theirs, now_s)
        done.took = True
        if both_know and waited and mine.state in _WAITING:
            done.gave = _extend(mine, until_s, code, trusted, limits, now_s) or done.gave
    else:
        done.gave = done.gave or theirs.revision > mine.revision
        if both_know and theirs.state in _WAITING and mine.state in _WAITING:
            longer = _extend(mine, theirs.until_s, theirs.code, theirs.trusted, theirs.limited_models, now_s)
            done.took = longer or done.took


def _take_state(mine: KeyRecord, theirs: KeyRecord, now_s: float) -> None:
    mine.state, mine.state_reason, mine.state_since_s = theirs.state, theirs.state_reason, theirs.state_since_s
    mine.until_s, mine.code, mine.trusted = theirs.until_s, theirs.code, theirs.trusted
    mine.suspected_s = theirs.suspected_s
    mine.order_revision = theirs.order_revision
    # A strike that both counted keeps my time: what was sent before it is still no news.
    mine.strikes = {
        spot: Strike(strike.count, mine.strikes[spot].struck_s if spot in mine.strikes else now_s)
        for spot, strike in theirs.strikes.items()
    }
    for model in [model for model in mine.limited_models if model not in theirs.limited_models]:
        del mine.limited_models[model]
    for model, limit in theirs.limited_models.items():
        known = mine.limited_models.setdefault(model, limit)  # the same object: a probe of it may be under way
        if limit.until_s > known.until_s + _SAME_S:  # what was left then, only the other one was told
            known.open_from_s = later(known.open_from_s, limit.until_s)
        known.until_s, known.code, known.reason, known.trusted = limit.until_s, limit.code, limit.reason, limit.trusted


def _extend(
    mine: KeyRecord, until_s: float, code: str, trusted: bool, limits: dict[str, ModelLimit], now_s: float
) -> bool:
    """Lengthens the waits of `mine` to the later deadlines of the other one; whether any was. Waits that are over say
    nothing: whoever dropped them has seen them end."""
    longer = False
    if until_s > now_s and until_s > mine.until_s + _SAME_S:
        mine.trusted = trusted and (mine.until_s == 0.0 or mine.trusted)
        mine.until_s, mine.code = until_s, code
        longer = True
    for model, limit in limits.items():
        known = mine.limited_models.get(model)
        if limit.until_s <= now_s or (known is not None and limit.until_s <= known.until_s + _SAME_S):
            continue
        if known is not None:
            known.until_s, known.code, known.reason = limit.until_s, limit.code, limit.reason
            known.open_from_s = later(known.open_from_s, limit.closed_until_s)
            known.trusted = limit.trusted and known.trusted
        elif len(mine.limited_models) < LIMITED_MODELS_MAX:
            mine.limited_models[model] = limit
        else:
            continue
        longer = True
    return longer


def _copy(limit: ModelLimit) -> ModelLimit:
    """Without its probe, which gives back the object that it began with."""
    return ModelLimit(limit.until_s, limit.code, limit.reason, limit.trusted, open_from_s=limit.open_from_s)
