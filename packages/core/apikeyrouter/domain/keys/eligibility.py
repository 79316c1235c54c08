"""May this key serve this model now? A pure function of the record and the time.

Main entry: `blocked`, called for every candidate of every request: a healthy key costs one comparison of its state.

How a wait ends. When the provider itself named the deadline (`Retry-After`) and it is the first time, the provider has
said when the limit is gone: full traffic returns at that moment, as a first probe would only idle capacity that is
there. When the deadline is our own guess (backoff), or the provider's word proved false before, one probe goes first,
and everybody else waits for its outcome: a crowd returning to a limit that still holds would only be refused again.
Exhausted and Invalid keys always return by a probe. A refusal that says how much is left, of a limit on tokens, closes
nothing: smaller requests may fit, and which of them do the pool's windows know (`ModelLimit.open_from_s`).
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache

from msgspec import Struct

from apikeyrouter.domain.keys.record import KeyRecord
from apikeyrouter.domain.models.api_key import KeyState

__all__ = ["EJECTED", "Block", "blocked", "serves"]

EJECTED = "ejected"
"""The code of a key that was set aside for failing, and not because the provider said no: when nothing else is left, a
caller may take it as a probe before its time (`learning.begin` allows it)."""

_AVAILABLE = KeyState.Available
_THROTTLED = KeyState.Throttled
_RECOVERING = KeyState.Recovering
_FINAL = {KeyState.Disabled: "disabled by an operator", KeyState.Retired: "revoked for good"}


class Block(Struct, frozen=True, gc=False):
    """Why a key may not serve now.

    `code`: "rate_limited", "ejected", "suspect", "permission", "exhausted", "invalid", "probing", "disabled",
    "retired" or "model_not_served". `until_s`: monotonic time at which to look again; None: when somebody says so.
    """

    code: str
    reason: str
    until_s: float | None


def blocked(record: KeyRecord, model: str | None, now_s: float) -> Block | None:
    """Why `record` may not serve `model` at `now_s`, or None when it may. `model` None asks about the key alone."""
    state = record.state
    if state is _AVAILABLE:
        if record.models is None or model is None or serves(record.models, model):
            return None
        return _not_served(record)
    if state in _FINAL:
        return Block(state.value, record.state_reason or _FINAL[state], None)
    if model is not None and record.models is not None and not serves(record.models, model):
        return _not_served(record)
    until_s = record.until_s
    limit = record.limited_models.get(model) if model is not None else None
    if limit is not None and limit.closed_until_s > now_s and (until_s <= now_s or record.code == EJECTED):
        # also beside an ejection: who may pass over that one may not pass over this
        if until_s < limit.closed_until_s:
            until_s = limit.closed_until_s
        return Block(limit.code, limit.reason, until_s)
    if until_s > now_s:
        return Block(record.code if state is _THROTTLED else state.value, record.state_reason, until_s)
    if record.probing and (state is not _THROTTLED or (until_s != 0.0 and not record.trusted)):
        return Block("probing", "one request is finding out whether it serves again", None)
    if limit is not None and limit.probing:
        return Block("probing", "one request is finding out whether it serves this model again", None)
    return None


@lru_cache(maxsize=4096)
def serves(patterns: frozenset[str], model: str) -> bool:
    """Whether one of the patterns (`*`, `?`) matches the whole name."""
    return model in patterns or any(fnmatchcase(model, pattern) for pattern in patterns)


def _not_served(record: KeyRecord) -> Block:
    return Block("model_not_served", f"{record.label} is registered for other models", None)
