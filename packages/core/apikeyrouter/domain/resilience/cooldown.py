"""How long a scope rests after a failure.

Main entry: `rest_s(failure, strikes, rng)`. `cooldown_s` is the exponential rest without a hint, `hinted_s` obeys one.
Laws: a rest is >= 0 and finite, 0 means none; jitter always, so that keys and workers do not return in step; a hint is
never undercut; the later deadline wins (`later`): a fresh failure may not shorten a running rest.
`strikes` counts identical failures in a row of the scope that rests, this one included, from 1; success resets it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from apikeyrouter.domain.resilience.durations import DURATION_MAX_S
from apikeyrouter.domain.resilience.failures import Failure, FailureClass

__all__ = [
    "AUTH_SUSPECT_S",
    "EJECTING",
    "EJECT_AFTER",
    "PROBE_BASE_S",
    "PROBE_CAP_S",
    "cooldown_s",
    "hinted_s",
    "later",
    "rest_s",
]

BASE_S = 1.0
CAP_S = 60.0
"""Ejection and cooldown: 1 s x 2^n to 60 s, +-50 % (design notes 2.6; Envoy's 30 s x count suits many hosts)."""

HINT_JITTER_RATIO = 0.1
"""Added to a hint: U(0, 10 %). Never taken off: a key that returns early is refused again (design notes 1.2)."""

EJECT_AFTER = 3
"""Faults in a row before a key or host is ejected; a single 500 benches nobody (design notes 2.6)."""

AUTH_SUSPECT_S = 5.0
"""Rest of a key after its first refusal. One 401 may be an outage of theirs: it takes a second, at least 5 s later."""

PROBE_BASE_S = 900.0
PROBE_CAP_S = 21_600.0
"""Rest before a dead key, or an account without money, is tried again: 15 min doubling to 6 h. Such a try is cheap for
us, and often rude: providers count failed requests too."""

DAY_BASE_S = 3_600.0
"""Rest after a day's quota refused again though its hint had been honoured: 1 h, doubling to 6 h. Gemini sends
retryDelay "36s" with a per-day quota, so a short hint buys one probe and no more."""


@dataclass(frozen=True, slots=True)
class _Rest:
    """A class's rest: `base_s` x 2^n up to `cap_s` from strike `from_strike` on, `before_s` until then.

    `wide`: jitter +-50 % around it (spreads a crowd), else +0..10 % (a floor that must hold). `hint_instead`: a hint on
    strike 1 replaces the rest, also a shorter one.
    """

    base_s: float
    cap_s: float
    from_strike: int = 1
    before_s: float = 0.0
    wide: bool = True
    hint_instead: bool = True


_BACKOFF = _Rest(BASE_S, CAP_S)
_EJECT = _Rest(BASE_S, CAP_S, from_strike=EJECT_AFTER)
_PROBE = _Rest(PROBE_BASE_S, PROBE_CAP_S, wide=False, hint_instead=False)
_AUTH = _Rest(PROBE_BASE_S, PROBE_CAP_S, from_strike=2, before_s=AUTH_SUSPECT_S, wide=False, hint_instead=False)

_F = FailureClass
_RESTS: Mapping[FailureClass, _Rest] = {
    _F.Rate: _BACKOFF,
    _F.Burst: _BACKOFF,
    _F.InflightHold: _BACKOFF,
    # the breaker of provider and model counts these too; a key alone with them (a deployment of its own) is ejected
    _F.Capacity: _EJECT,
    _F.Server: _EJECT,
    _F.NotSent: _EJECT,
    _F.Unanswered: _EJECT,
    _F.Timeout: _EJECT,
    _F.MidReply: _EJECT,
    _F.BadReply: _EJECT,
    _F.DayQuota: _Rest(DAY_BASE_S, PROBE_CAP_S, from_strike=2, before_s=DAY_BASE_S, wide=False),
    _F.SpendCap: _PROBE,
    _F.Balance: _PROBE,
    _F.Auth: _AUTH,
    _F.Permission: _PROBE,
}
EJECTING = frozenset(kind for kind, rest in _RESTS.items() if rest is _EJECT)
"""Classes that eject a key, several in a row or too many of them; they may also be everybody's trouble."""

_UNRESTED = frozenset({_F.TooLargeForLimit, _F.Client, _F.Policy})

_DOUBLINGS_MAX = 32


def cooldown_s(strikes: int, rng: random.Random, *, base_s: float = BASE_S, cap_s: float = CAP_S) -> float:
    """Seconds to rest after `strikes` (>= 1) failures in a row: U(0.5, 1.5) x base x 2^(strikes-1), at most `cap_s`."""
    doublings = min(max(strikes, 1) - 1, _DOUBLINGS_MAX)
    return min(cap_s, base_s * float(2**doublings) * rng.uniform(0.5, 1.5))


def hinted_s(hint_s: float, rng: random.Random) -> float:
    """Seconds to rest on a hint: as asked plus U(0, 10 %), so that all who were asked do not return together."""
    return max(0.0, hint_s) * (1.0 + HINT_JITTER_RATIO * rng.random())


def later(old_until_s: float, new_until_s: float) -> float:
    """The deadline that holds when a resting scope is told to rest again: the later one, always."""
    return max(old_until_s, new_until_s)


def rest_s(failure: Failure, strikes: int, rng: random.Random) -> float:
    """Seconds that the failure's scope rests; 0 for none.

    With a hint: the hint, and from the second strike on also at least the class's own backoff, since a hint that was
    honoured and proved false is no longer trusted. Auth: 5 s as a suspect, then, confirmed, the slow probe.
    """
    kind = failure.failure_class
    if kind in _UNRESTED:
        return 0.0
    strikes = max(1, strikes)
    rest = _RESTS[kind]
    own_s = _own_rest_s(rest, strikes, rng)
    hint_s = failure.retry_after_s
    if not hint_s:  # "Retry-After: 0" promises nothing
        return own_s
    obeyed_s = hinted_s(min(hint_s, DURATION_MAX_S), rng)
    return obeyed_s if rest.hint_instead and strikes == 1 else max(obeyed_s, own_s)


def _own_rest_s(rest: _Rest, strikes: int, rng: random.Random) -> float:
    nth = strikes - rest.from_strike + 1
    if nth < 1:
        return hinted_s(rest.before_s, rng)
    if rest.wide:
        return cooldown_s(nth, rng, base_s=rest.base_s, cap_s=rest.cap_s)
    floor_s = min(rest.cap_s, rest.base_s * float(2 ** min(nth - 1, _DOUBLINGS_MAX)))
    return hinted_s(floor_s, rng)
