"""What experience says about one key: how often it succeeds, how soon it answers.

Success is a discounted Beta estimate (half-life 5 minutes, prior 19.5 : 0.5, so an untried key counts as 97.5 %
reliable and one failure drops it below 95 %). Time to first token is a peak-EWMA (jumps up at once, comes down with a
time constant of 10 s). Sources: reference notes on discounted Thompson sampling and finagle's peak-EWMA. A 429 is no
failure: it speaks of quota, not of health.
"""

from __future__ import annotations

import math

__all__ = ["KeyStats"]

_HALF_LIFE_S = 300.0
_PRIOR_SUCCESSES = 19.5
_PRIOR_FAILURES = 0.5
_TTFT_TAU_S = 10.0
UNSEEN_TTFT_S = 1.0


class KeyStats:
    """Running statistics of one key. Times are monotonic seconds.

    `steady`: P(failure) while it has never failed, 0..1, else -1.0: ask `p_failure`. `ttft_s`: expected seconds to the
    first byte; 1 s while unknown, so that an untried key is not taken for a fast one.
    """

    __slots__ = ("_at_s", "_failures", "_seen", "_successes", "_ttft_at_s", "steady", "ttft_s")

    def __init__(self) -> None:
        self._successes = 0.0
        self._failures = 0.0
        self._at_s = 0.0
        self._seen = False
        self._ttft_at_s = 0.0
        self.steady = _PRIOR_FAILURES / (_PRIOR_FAILURES + _PRIOR_SUCCESSES)
        self.ttft_s = UNSEEN_TTFT_S

    def record(self, *, ok: bool, now_s: float) -> None:
        """One attempt ended well or badly."""
        keep = 0.5 ** ((now_s - self._at_s) / _HALF_LIFE_S)
        self._successes = self._successes * keep + ok
        self._failures = self._failures * keep + (not ok)
        self._at_s = now_s
        # Only successes: evidence can but lower the prior, and no discounting is worth its cost.
        self.steady = (
            -1.0 if self._failures else _PRIOR_FAILURES / (_PRIOR_FAILURES + _PRIOR_SUCCESSES + self._successes)
        )

    def record_ttft(self, ttft_s: float, now_s: float) -> None:
        """The first byte of a good reply came after `ttft_s`."""
        if ttft_s >= self.ttft_s or not self._seen:
            self.ttft_s = ttft_s
        else:
            weight = math.exp(-(now_s - self._ttft_at_s) / _TTFT_TAU_S)
            self.ttft_s = self.ttft_s * weight + ttft_s * (1.0 - weight)
        self._seen = True
        self._ttft_at_s = now_s

    def p_failure(self, now_s: float) -> float:
        """Estimated probability, 0..1, that the next attempt fails; lower is better."""
        if self.steady >= 0.0:
            return self.steady
        keep: float = 0.5 ** ((now_s - self._at_s) / _HALF_LIFE_S)
        failures = self._failures * keep + _PRIOR_FAILURES
        return failures / (failures + self._successes * keep + _PRIOR_SUCCESSES)
