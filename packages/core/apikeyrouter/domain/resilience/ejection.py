"""Outlier ejection: a key that fails more than its peers is set aside for a while, and never everybody.

Main entries: `Track`, what a key's attempts came to; `judge`, whether it is an outlier; `may_eject`, the cap; `panic`,
whether so few are left that ejection is to be ignored.
Two kinds. Dead: several faults in a row, or P(success < 0.5) > 0.95. Gray: P(success < bar) > 0.95, where the bar lies
at 93 %, or at twice its peers' failure rate, whichever asks less: a key that fails three times in ten costs as many
retries, and seldom fails three times in a row. P is that of a Beta posterior over discounted counts.
Laws: a gray key is ejected only while at most half of all are; a dead one while another is in service; so the last key
of a provider never goes, and what then happens to it is the breaker's decision. Rests double from 1 s (gray: 5 s) to
60 s with each ejection, and halve again for each minute without one.
Sources: design notes 2.6 and 2.11, "Outlier eject"; Envoy's outlier detection for the cap and the panic threshold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum

__all__ = ["Blame", "Outlier", "Track", "beta_below", "judge", "may_eject", "panic", "peers_failure_rate"]

HALF_LIFE_S = 60.0
"""Counts are halved once in so many seconds; not while it is ejected, or a long rest would clear its name."""
MEMORY = 32.0
"""And whenever they come to so many attempts: a long good past must not hide that a key has just begun to fail."""
PRIOR_GOOD, PRIOR_BAD = 9.0, 1.0
"""Every key starts as nine good attempts and a bad one: a single failure ejects nobody as gray. Whether it is dead is
judged without that credit."""
DEAD_BELOW = 0.5
SURE = 0.95
SURE_AGAIN = 0.80
"""For a key that was ejected of late."""
GRAY_FAILURES = 0.07
GRAY_TIMES_PEERS = 2.0
GRAY_REST_S = 5.0
"""First rest of a gray key. It comes back with most of its probes, so a short rest would only fill it up again."""
EJECTED_MAX_RATIO = 0.5
"""At most so many of the keys are ejected for failing more than others (a dead one is worth less than none)."""
FORGIVEN_PER_S = 1.0 / 60.0
"""Ejections forgotten per second in service."""


class Outlier(StrEnum):
    """Why a key is ejected. Dead: it hardly serves at all. Gray: it fails clearly more often than its peers."""

    Dead = "dead"
    Gray = "gray"


class Blame(StrEnum):
    """Whose fault a fault is, as far as the breaker can tell (`Breaker.blame`). Shared: all keys in use fail; it says
    nothing about this one. Usual: nobody knows. Own: the provider has just proved with other keys that it works."""

    Shared = "shared"
    Usual = "usual"
    Own = "own"


class Track:
    """Good and bad attempts of a key, discounted. `ejections`: how often it was ejected, forgiven with time.

    A failure that all keys share is not to be recorded."""

    __slots__ = ("_ejected_s", "_halves_s", "bad", "ejections", "good")

    def __init__(self) -> None:
        self.good = 0.0
        self.bad = 0.0
        self.ejections = 0.0
        self._halves_s = 0.0
        self._ejected_s = 0.0

    def succeed(self, now_s: float) -> None:
        """An attempt ended well."""
        if now_s >= self._halves_s or self.good + self.bad >= MEMORY:
            self._halve(now_s)
        self.good += 1.0

    def fail(self, now_s: float) -> None:
        """An attempt failed for the provider's or the connection's fault."""
        if now_s >= self._halves_s or self.good + self.bad >= MEMORY:
            self._halve(now_s)
        self.bad += 1.0

    def eject(self, now_s: float, until_s: float) -> None:
        """It is set aside until then."""
        self.ejections = self.ejections_now(now_s) + 1.0
        self._ejected_s = until_s
        self._halves_s += max(0.0, until_s - now_s)

    def ejections_now(self, now_s: float) -> float:
        """Ejections that are not forgiven yet."""
        served_s = max(0.0, now_s - self._ejected_s)
        return max(0.0, self.ejections - served_s * FORGIVEN_PER_S)

    def _halve(self, now_s: float) -> None:
        periods = max(0, int((now_s - self._halves_s) / HALF_LIFE_S))
        keep = 0.5 ** (1 + min(periods, 60))
        self.good *= keep
        self.bad *= keep
        self._halves_s = max(now_s, self._halves_s) + HALF_LIFE_S

    def __repr__(self) -> str:
        return f"<Track {self.good:.1f} good, {self.bad:.1f} bad, {self.ejections:.1f} ejections>"


def judge(track: Track, peers_failures: float, now_s: float) -> Outlier | None:
    """Whether a key is an outlier. `peers_failures`: failure rate of the others, 0..1."""
    good, bad = PRIOR_GOOD + track.good, PRIOR_BAD + track.bad
    bar = min(1.0 - GRAY_FAILURES, 1.0 - GRAY_TIMES_PEERS * peers_failures)
    if bad <= (good + bad) * (1.0 - max(bar, DEAD_BELOW)):
        return None  # its mean is no outlier: neither is the tail
    if beta_below(DEAD_BELOW, 1.0 + track.good, 1.0 + track.bad) > SURE:
        return Outlier.Dead
    sure = SURE if track.ejections_now(now_s) < 0.5 else SURE_AGAIN
    if bar > 0.0 and beta_below(bar, good, bad) > sure:
        return Outlier.Gray
    return None


def peers_failure_rate(peers: Iterable[Track]) -> float:
    """Failure rate of the better half of the others, 0..1; 0.0 without others, or when they fail less than new keys.

    Of the better half, since up to half of all may be gray: among their like, gray keys would look ordinary.
    """
    ranked = sorted((PRIOR_BAD + track.bad) / (PRIOR_GOOD + PRIOR_BAD + track.good + track.bad) for track in peers)
    better = ranked[: (len(ranked) + 1) // 2]
    return max(0.0, sum(better) / len(better) - PRIOR_BAD / (PRIOR_GOOD + PRIOR_BAD)) if better else 0.0


def may_eject(outlier: Outlier, *, ejected: int, in_service: int) -> bool:
    """Whether one more may go. `ejected`: keys that are ejected now; `in_service`: keys that serve, this one included;
    what waits for other reasons (quota, credit, refused secret) counts in neither."""
    if in_service <= 1:
        return False
    return outlier is Outlier.Dead or ejected + 1 <= EJECTED_MAX_RATIO * (ejected + in_service)


def panic(*, kept: int, ejected: int) -> bool:
    """Whether ejection is to be ignored for this request: nobody else is left (kept, and not refused for want of
    quota). Then the breaker alone decides."""
    return kept == 0 and ejected > 0


def beta_below(x: float, a: float, b: float) -> float:
    """P(theta < x) for theta ~ Beta(a, b): the regularized incomplete beta function, by its continued fraction.

    0 <= x <= 1, a and b > 0; error below 1e-9. Source: Numerical Recipes, 6.4 (Lentz's method).
    """
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    front = math.exp(log_front)
    if x < (a + 1.0) / (a + b + 2.0):
        return min(1.0, front * _fraction(x, a, b) / a)
    return max(0.0, 1.0 - front * _fraction(1.0 - x, b, a) / b)


def _fraction(x: float, a: float, b: float) -> float:
    tiny, precise = 1e-300, 1e-12
    c, d = 1.0, 1.0 / (1.0 - (a + b) * x / (a + 1.0) or tiny)
    h = d
    for m in range(1, 300):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0)),
        ):
            d = 1.0 / (1.0 + term * d or tiny)
            c = 1.0 + term / c or tiny
            step = c * d
            h *= step
        if abs(step - 1.0) < precise:
            break
    return h
