"""A breaker for one model at one provider: stops asking who cannot answer, and comes back gently.

    Closed --trip--> Open --(time)--> HalfOpen --2 good probes--> Ramping --10 s--> Closed
                       ^----------------- bad probe / trip ----------------'

Main entries: `verdict(now_s)` says whether an attempt may go; `begin` takes the place and gives a ticket; the ticket
comes back exactly once with `succeed`, `fail` or `release`.
Laws: `verdict` is a pure function of (state, now); verdict and begin belong into one step, with nothing awaited in
between; while half-open at most one probe is out; an outcome counts only for the phase in which its attempt began, so
that a slow reply from before the trip neither closes nor reopens anything; no method reads a clock.
Source of the numbers: design notes 2.11, "Breaker"; a return at full load trips again at once, hence the ramp.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from enum import StrEnum

from apikeyrouter.domain.resilience.cooldown import CAP_S, cooldown_s

__all__ = ["Breaker", "Phase", "Verdict"]

TRIP_STREAK = 3
"""Failures in a row that trip it."""
TRIP_RATIO = 0.5
TRIP_SAMPLES = 10
"""Or this share of failures, out of at least so many outcomes in the window."""
WINDOW_S = 30.0
PROBES_NEEDED = 2
"""Good probes, one at a time, before the ramp."""
RAMP_S = 10.0
RAMP_RATIOS = (0.10, 0.25, 0.50)
"""Share of attempts admitted in each third of the ramp; all of them after it."""

_SLOTS = 10
_SLOTS_PER_S = _SLOTS / WINDOW_S
_UNCOUNTED = 0
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


class Breaker:
    """One provider and model. Not thread-safe; one event loop owns it.

    `open_until_s`: monotonic time before which nothing is admitted while open; 0.0 when it never opened. `trips`: times
    it opened since it last closed for good; doubles the open time. `phase`: Ramping becomes Closed with the first
    attempt after the ramp.
    """

    __slots__ = (
        "_bad",
        "_epoch",
        "_good",
        "_probe",
        "_proofs",
        "_ramp_from_s",
        "_slot",
        "_streak",
        "open_until_s",
        "phase",
        "trips",
    )

    def __init__(self) -> None:
        self.phase = Phase.Closed
        self.open_until_s = 0.0
        self.trips = 0
        self._epoch = 1
        self._probe = _UNCOUNTED
        self._proofs = 0
        self._ramp_from_s = 0.0
        self._streak = 0
        self._slot = 0
        self._good = [0] * _SLOTS
        self._bad = [0] * _SLOTS

    def verdict(self, now_s: float) -> Verdict:
        """Whether an attempt may go now. Changes nothing; the same for every caller at the same time."""
        phase = self.phase
        if phase is _CLOSED:
            return _ADMIT
        if phase is Phase.Open:
            return Verdict.Probe if now_s >= self.open_until_s else Verdict.Reject
        if phase is Phase.HalfOpen:
            return Verdict.Probe if self._probe == _UNCOUNTED else Verdict.Reject
        return Verdict.Admit if self._ramp_admits(now_s) else Verdict.Reject

    def begin(self, now_s: float) -> int:
        """Takes a place and returns its ticket. Call it right after a verdict other than Reject.

        An attempt that goes in spite of Reject (nobody else is left) gets a ticket whose outcome does not count.
        """
        phase = self.phase
        if phase is _CLOSED:
            return self._epoch
        if phase is Phase.Ramping:
            self._end_ramp_if_over(now_s)
            return self._epoch
        if self.verdict(now_s) is Verdict.Reject:
            return _UNCOUNTED
        if phase is Phase.Open:
            self._proofs = 0
        self._go(_Event.ProbeBegins)
        self._epoch += 1
        self._probe = self._epoch
        return self._epoch

    def succeed(self, now_s: float, ticket: int) -> None:
        """The attempt was answered as it should be (its first byte came)."""
        if ticket != self._epoch:
            return
        if self.phase is not _CLOSED:
            if self.phase is Phase.HalfOpen:
                self._probe_succeeded(now_s)
                return
            self._end_ramp_if_over(now_s)
        self._streak = 0
        self._good[self._slot_of(now_s)] += 1

    def fail(self, now_s: float, ticket: int, rng: random.Random) -> None:
        """The attempt failed for a reason that this breaker is about: Capacity, Server, Timeout, BadReply ..."""
        if ticket != self._epoch:
            return
        if self.phase is Phase.HalfOpen:
            self._open(_Event.ProbeFailed, now_s, rng)
            return
        if self.phase is Phase.Ramping:
            self._end_ramp_if_over(now_s)
        self._streak += 1
        self._bad[self._slot_of(now_s)] += 1
        bad = sum(self._bad)
        samples = bad + sum(self._good)
        if self._streak >= TRIP_STREAK or (samples >= TRIP_SAMPLES and bad >= TRIP_RATIO * samples):
            self._open(_Event.Trip, now_s, rng)

    def release(self, now_s: float, ticket: int) -> None:
        """The attempt told nothing (client error, cancelled, a rate limit of one key). Gives a probe's place back."""
        if ticket == self._probe and self.phase is Phase.HalfOpen:
            self._probe = _UNCOUNTED
            self._epoch += 1
        elif self.phase is Phase.Ramping:
            self._end_ramp_if_over(now_s)

    def _go(self, event: _Event) -> None:
        self.phase = _TRANSITIONS[self.phase, event]

    def _open(self, event: _Event, now_s: float, rng: random.Random) -> None:
        self._go(event)
        self.trips += 1
        self._epoch += 1
        self._probe = _UNCOUNTED
        self.open_until_s = now_s + cooldown_s(self.trips, rng, cap_s=CAP_S)

    def _probe_succeeded(self, now_s: float) -> None:
        self._probe = _UNCOUNTED
        self._epoch += 1
        self._proofs += 1
        if self._proofs >= PROBES_NEEDED:
            self._go(_Event.Proven)
            self._ramp_from_s = now_s
            self._forget(now_s)

    def _ramp_admits(self, now_s: float) -> bool:
        step = int((now_s - self._ramp_from_s) * len(RAMP_RATIOS) / RAMP_S)
        if step >= len(RAMP_RATIOS):
            return True
        return (now_s * 1e6 * _GOLDEN) % 1.0 < RAMP_RATIOS[max(0, step)]

    def _end_ramp_if_over(self, now_s: float) -> None:
        if now_s - self._ramp_from_s >= RAMP_S:
            self._go(_Event.RampEnds)
            self.trips = 0

    def _forget(self, now_s: float) -> None:
        """Starts the window anew: failures from before the pause must not trip the ramp."""
        self._streak = 0
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
