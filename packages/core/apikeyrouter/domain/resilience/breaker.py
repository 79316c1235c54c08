"""A breaker for one model at one provider: stops asking who cannot answer, and comes back gently but soon.

    Closed --trip--> Open --(time)--> HalfOpen --2 good probes--> Ramping --3 s--> Closed
                       ^----------------- bad probe / trip ----------------'

Main entries: `verdict(now_s, key)` says whether an attempt may go; `begin` takes the place and gives a ticket; the
ticket comes back exactly once with `succeed`, `fail` or `release`. `key`: which key asks, "" where nobody knows.
Laws: `verdict` is a pure function of (state, now); verdict and begin belong into one step, with nothing awaited in
between; an outcome counts only for the phase in which its attempt began, so that a slow reply from before the trip
neither closes nor reopens anything; no method reads a clock; it trips only when more than half of the keys that were
used of late failed last: what some keys do and others do not is a matter of those keys (see `ejection`).
Numbers: design notes 2.11, "Breaker", except for the open time and the ramp: an outage of ten minutes must be over for
clients within ten seconds of its end, so 3 s open + 2 probes + 3 s ramp; a probe in 3 s is 0.4 % of 100 requests/s.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from enum import StrEnum

from apikeyrouter.domain.resilience.cooldown import cooldown_s
from apikeyrouter.domain.resilience.ejection import Blame
from apikeyrouter.domain.resilience.throttle import Throttle

__all__ = ["Breaker", "Phase", "Verdict"]

TRIP_STREAK = 3
"""Failures in a row that trip it, when failures were rare before."""
TRIP_STREAK_MAX = 12
CHANCE_OF_STREAK = 1.1e-6
"""A streak trips it when chance alone, at the failure rate before it, brings about fewer than so many."""
TRIP_KEYS_MAX = 8
"""Keys that a streak must run over at the most; at the least it is more than half of those in use."""
TRIP_RATIO = 0.5
TRIP_SAMPLES = 10
"""Or this share of failures, out of at least so many outcomes in the window."""
WINDOW_S = 30.0
OPEN_CAP_S = 3.0
"""The longest time open: U(0.5, 1.5) x 2^n s, and not more than this."""
PROBES_NEEDED = 2
"""Good probes before the ramp."""
PROBE_PATIENCE_S = 3.0
"""A probe that has told nothing for so long is joined by another one: a provider that hangs must not hold up its own
return for as long as requests may take."""
PROBES_OUT_MAX = 8
"""Probes whose outcome still counts; beyond that the oldest is forgotten."""
UNTRIED_FIRST_S = 1.0
"""For so long after the open time, only keys that did not fail last may probe, if there are any."""
RAMP_S = 3.0
RAMP_RATIOS = (0.10, 0.25, 0.50)
"""Share of attempts admitted in each third of the ramp; all of them after it."""

_SLOTS = 10
_SLOTS_PER_S = _SLOTS / WINDOW_S
_UNCOUNTED = 0
_PRIOR_BAD, _PRIOR_ALL = 0.2, 20.0
"""What a new breaker assumes: one failure in a hundred."""
_GOLDEN = 0.6180339887498949
"""Fraction whose multiples fill 0..1 evenly (Weyl's sequence): chance without dice for the ramp."""


class Phase(StrEnum):
    """Where a breaker stands."""

    Closed = "closed"
    Open = "open"
    HalfOpen = "half_open"
    Ramping = "ramping"


class Verdict(StrEnum):
    """Whether an attempt may go. Probe: it may, and its outcome decides about all others."""

    Admit = "admit"
    Probe = "probe"
    Reject = "reject"


class _Event(StrEnum):
    Trip = "trip"
    ProbeBegins = "probe_begins"
    ProbeFailed = "probe_failed"
    Proven = "proven"
    RampEnds = "ramp_ends"


_TRANSITIONS: Mapping[tuple[Phase, _Event], Phase] = {
    (Phase.Closed, _Event.Trip): Phase.Open,
    (Phase.Open, _Event.ProbeBegins): Phase.HalfOpen,
    (Phase.HalfOpen, _Event.ProbeBegins): Phase.HalfOpen,
    (Phase.HalfOpen, _Event.ProbeFailed): Phase.Open,
    (Phase.HalfOpen, _Event.Proven): Phase.Ramping,
    (Phase.Ramping, _Event.Trip): Phase.Open,
    (Phase.Ramping, _Event.RampEnds): Phase.Closed,
}

# Looked up once: a member of an enum class costs five times a global, and `verdict` runs for every candidate.
_CLOSED = Phase.Closed
_ADMIT = Verdict.Admit


class _Keys:
    """Which keys were used within one to two windows, and which of them failed last.

    A key counts as used from its start on: failures often come sooner than replies, and would look like everybody's.
    `suspects`: those that failed last when others proved that the provider works. Until they succeed, what they do is
    their own affair (they are ejected for it) and says nothing about the provider.
    """

    __slots__ = ("_before", "_now", "_turns_s", "failing", "suspects")

    def __init__(self) -> None:
        self._now: set[str] = set()
        self._before: set[str] = set()
        self._turns_s = 0.0
        self.failing: set[str] = set()
        self.suspects: set[str] = set()

    def use(self, key: str, now_s: float) -> None:
        if now_s >= self._turns_s:
            self._turn(now_s)
        self._now.add(key)

    def bad(self, key: str, now_s: float) -> None:
        self.use(key, now_s)
        self.failing.add(key)

    def good(self, key: str) -> None:
        self.failing.discard(key)
        self.suspects.discard(key)

    def used(self) -> int:
        return len((self._now | self._before) - self.suspects)

    def _turn(self, now_s: float) -> None:
        self._before = self._now if now_s < self._turns_s + WINDOW_S else set()
        self._now = set()
        self._turns_s = now_s + WINDOW_S
        self.failing &= self._before
        self.suspects &= self._before


class Breaker:
    """One provider and model. Not thread-safe; one event loop owns it.

    `open_until_s`: monotonic time before which nothing is admitted while open; 0.0 when it never opened. `trips`: times
    it opened since it last closed for good; doubles the open time. `phase`: Ramping becomes Closed with the first
    attempt after the ramp. `since_s`: when the phase began. `throttle`: what stays at home while it is closed.
    """

    __slots__ = (
        "_bad",
        "_epoch",
        "_good",
        "_keys",
        "_probed_s",
        "_probes",
        "_proofs",
        "_slot",
        "_streak",
        "_streak_keys",
        "open_until_s",
        "phase",
        "since_s",
        "throttle",
        "trips",
    )

    def __init__(self) -> None:
        self.phase = Phase.Closed
        self.since_s = 0.0
        self.open_until_s = 0.0
        self.trips = 0
        self.throttle = Throttle()
        self._keys = _Keys()
        self._epoch = 1
        self._probes: list[int] = []
        self._probed_s = 0.0
        self._proofs = 0
        self._streak = 0
        self._streak_keys: set[str] = set()
        self._slot = 0
        self._good = [0] * _SLOTS
        self._bad = [0] * _SLOTS

    def verdict(self, now_s: float, key: str = "") -> Verdict:
        """Whether an attempt may go now. Changes nothing; the same for every caller with this key at the same time."""
        phase = self.phase
        if phase is _CLOSED:
            if self.throttle.share and self.throttle.rejects(now_s):
                return Verdict.Reject
            return _ADMIT
        if phase is Phase.Ramping:
            return Verdict.Admit if self._ramp_admits(now_s) else Verdict.Reject
        if phase is Phase.Open:
            ready_s = self.open_until_s
        elif self._probes:
            ready_s = self._probed_s + PROBE_PATIENCE_S
        else:
            ready_s = self._probed_s
        if now_s < ready_s or (now_s < ready_s + UNTRIED_FIRST_S and self._others_first(key)):
            return Verdict.Reject
        return Verdict.Probe

    def why(self, now_s: float) -> tuple[str, float]:
        """After a Reject: the reason in words, and the time at which to look again."""
        if self.phase is _CLOSED:
            return f"takes only a part of what is sent; {self.throttle.share:.0%} stays at home", now_s + 0.1
        if self.phase is Phase.Ramping:
            return "is coming back, with a part of the traffic at first", self.since_s + RAMP_S
        return "keeps failing for this model; the breaker is open", max(self.open_until_s, now_s)

    def begin(self, now_s: float, key: str = "") -> int:
        """Takes a place and returns its ticket. Call it right after a verdict other than Reject.

        An attempt that goes in spite of Reject (nobody else is left) gets a ticket whose outcome does not count.
        """
        phase = self.phase
        self._keys.use(key, now_s)
        if phase is _CLOSED:
            self.throttle.start(now_s)
            return self._epoch
        if phase is Phase.Ramping:
            self._end_ramp_if_over(now_s)
            return self._epoch
        if now_s < self.open_until_s or (self._probes and now_s < self._probed_s + PROBE_PATIENCE_S):
            return _UNCOUNTED
        if phase is Phase.Open:
            self._proofs = 0
        self._go(_Event.ProbeBegins, now_s)
        self._epoch += 1
        self._probed_s = now_s
        self._probes.append(self._epoch)
        del self._probes[:-PROBES_OUT_MAX]
        return self._epoch

    def succeed(self, now_s: float, ticket: int, key: str = "") -> None:
        """The attempt was answered as it should be (its first byte came)."""
        if self.phase is not _CLOSED:
            if self.phase is Phase.HalfOpen:
                self._probe_succeeded(now_s, ticket, key)
                return
            self._end_ramp_if_over(now_s)
        if ticket != self._epoch:
            return
        if self._streak:
            self._streak = 0
            self._streak_keys.clear()
        if self._keys.failing:
            self._keys.good(key)
        self._good[self._slot_of(now_s)] += 1

    def fail(self, now_s: float, ticket: int, rng: random.Random, key: str = "") -> None:
        """The attempt failed for a reason that this breaker is about: Capacity, Server, Timeout, BadReply ..."""
        if self.phase is Phase.HalfOpen:
            if ticket in self._probes:
                self._keys.bad(key, now_s)
                self._open(_Event.ProbeFailed, now_s, rng)
            return
        if ticket != self._epoch:
            return
        if self.phase is Phase.Ramping:
            self._end_ramp_if_over(now_s)
        keys = self._keys
        news = key not in keys.failing
        keys.bad(key, now_s)
        if key in keys.suspects:
            return
        self._streak += 1
        self._streak_keys.add(key)
        self._bad[self._slot_of(now_s)] += 1
        used = keys.used()
        most = 2 * len(keys.failing - keys.suspects) > used
        if most or news:  # a key that only ever fails is dead, which says nothing about how much the provider takes
            self.throttle.refuse(now_s)
        if not most:
            return
        if self._streak_tells(used) or self._ratio_tells():
            self._open(_Event.Trip, now_s, rng)

    def release(self, now_s: float, ticket: int) -> None:
        """The attempt told nothing (client error, cancelled, a rate limit of one key). Gives a probe's place back."""
        if self.phase is Phase.HalfOpen and ticket in self._probes:
            self._probes.remove(ticket)
        elif self.phase is Phase.Ramping:
            self._end_ramp_if_over(now_s)

    @property
    def blame(self) -> Blame:
        """Whose fault the failure that was told last is."""
        keys = self._keys
        if keys.suspects:
            return Blame.Own
        failing = len(keys.failing)
        return Blame.Shared if failing > 1 and failing >= keys.used() else Blame.Usual

    def _streak_tells(self, used: int) -> bool:
        """Whether the failures in a row are more than chance, and over more than half of the keys."""
        streak = self._streak
        if streak < TRIP_STREAK or len(self._streak_keys) < min(used // 2 + 1, TRIP_KEYS_MAX):
            return False
        if streak >= TRIP_STREAK_MAX:
            return True
        bad = max(0, sum(self._bad) - streak)
        rate = (bad + _PRIOR_BAD) / (bad + sum(self._good) + _PRIOR_ALL)
        return streak >= math.log(CHANCE_OF_STREAK) / math.log(rate)

    def _ratio_tells(self) -> bool:
        bad = sum(self._bad)
        samples = bad + sum(self._good)
        return samples >= TRIP_SAMPLES and bad >= TRIP_RATIO * samples

    def _others_first(self, key: str) -> bool:
        """Whether this key failed last and another one did not."""
        return key in self._keys.failing and len(self._keys.failing) < self._keys.used()

    def _go(self, event: _Event, now_s: float) -> None:
        before, self.phase = self.phase, _TRANSITIONS[self.phase, event]
        if self.phase is not before:
            self.since_s = now_s

    def _open(self, event: _Event, now_s: float, rng: random.Random) -> None:
        self._go(event, now_s)
        self.trips += 1
        self._epoch += 1
        self._probes.clear()
        self._proofs = 0
        self._keys.suspects.clear()
        self.throttle.reset()
        self.open_until_s = now_s + cooldown_s(self.trips, rng, cap_s=OPEN_CAP_S)

    def _probe_succeeded(self, now_s: float, ticket: int, key: str) -> None:
        if ticket not in self._probes:
            return
        self._probes.remove(ticket)
        self._keys.good(key)
        self._proofs += 1
        if self._proofs >= PROBES_NEEDED:
            self._go(_Event.Proven, now_s)
            self._epoch += 1
            self._probes.clear()
            self._keys.suspects = set(self._keys.failing)
            self._forget(now_s)

    def _ramp_admits(self, now_s: float) -> bool:
        step = int((now_s - self.since_s) * len(RAMP_RATIOS) / RAMP_S)
        if step >= len(RAMP_RATIOS):
            return True
        return (now_s * 1e6 * _GOLDEN) % 1.0 < RAMP_RATIOS[max(0, step)]

    def _end_ramp_if_over(self, now_s: float) -> None:
        if self.phase is Phase.Ramping and now_s - self.since_s >= RAMP_S:
            self._go(_Event.RampEnds, now_s)
            self.trips = 0

    def _forget(self, now_s: float) -> None:
        """Starts the window anew: failures from before the pause must not trip the ramp."""
        self._streak = 0
        self._streak_keys.clear()
        self._slot = int(now_s * _SLOTS_PER_S)
        self._good = [0] * _SLOTS
        self._bad = [0] * _SLOTS

    def _slot_of(self, now_s: float) -> int:
        """Index of the time slice of `now_s`; slices that have left the window are emptied on the way."""
        slot = int(now_s * _SLOTS_PER_S)
        if slot > self._slot:
            for passed in range(max(self._slot + 1, slot - _SLOTS + 1), slot + 1):
                self._good[passed % _SLOTS] = 0
                self._bad[passed % _SLOTS] = 0
            self._slot = slot
        return self._slot % _SLOTS

    def __repr__(self) -> str:
        return f"<Breaker {self.phase.value}, {self._streak} failures in a row, {self.trips} trips>"
