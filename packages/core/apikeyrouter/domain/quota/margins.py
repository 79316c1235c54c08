"""What others take from a limit unseen, and what is kept back because they may have taken it when a request arrives.

What a reply says is old when the next request comes: others took some, what it needs was a guess, numbers were rounded.
Close to the limit each unit too many is a refusal. `Margin` finds out how much must be kept back so that about `MISSES`
of the requests are refused: each unexpected refusal widens it, each request that was let in narrows it a little (the
step of adaptive conformal inference: Gibbs and Candes, "Adaptive Conformal Inference Under Distribution Shift", 2021).
Once there is plenty it begins anew: a margin that stood from the start would cost every burst what it could take at
once, and the first refusals of a long drought are few (`python -m bench.quota_grid`: kept through quiet times, it cost
the code trace 2 to 8 points of success, begun anew nothing).
Laws: it is never negative, and bounded; where nothing is refused, nothing is kept back.
"""

from __future__ import annotations

import math

from apikeyrouter.domain.ledger.bucket import Bucket

__all__ = ["MISSES", "Margin", "Others", "corrected"]

MISSES = 0.02
"""The share of requests that a limit may refuse although they were thought to fit."""

_WIDER = 0.05
"""Usual requests more to keep back after a refusal. More loses bursts, whose few refusals say little."""

_NARROWER = _WIDER * MISSES / (1.0 - MISSES)
_REQUESTS_MAX = 3.0
_SHARE_MAX = 0.25
"""Of what fits at once."""

_PLENTY_RATIO = 0.5

FOREIGN_TAU_S = 20.0
FOREIGN_SHARE_MAX = 0.9
FOREIGN_AHEAD_S, FOREIGN_AHEAD_SHARE = 1.0, 0.1
"""What others usually take in so long is left to them, up to this share of what fits at once: they come in lumps, and a
reply is old when it is read. More refuses less upstream and serves less: 2 s cost 0.8 points of success on the code
trace at 95 % load with a quarter of it unseen (`python -m bench.quota_grid`, one seed)."""


class Margin:
    """Of one limit. `requests`: how many usual ones are kept back; `kept`: units that are left out of what is believed
    to be there."""

    __slots__ = ("_missed_at_s", "kept", "requests")

    def __init__(self) -> None:
        self.requests = 0.0
        self.kept = 0.0
        self._missed_at_s = float("-inf")

    def missed(self, sent_at_s: float, now_s: float) -> None:
        """A request was refused that was thought to fit. Those sent before the last of these was known teach nothing
        more."""
        if sent_at_s >= self._missed_at_s:
            self._missed_at_s = now_s
            self.requests = min(_REQUESTS_MAX, self.requests + _WIDER)

    def fitted(self, left: float, capacity: float) -> None:
        """A request was let in, and `left` of `capacity` remained."""
        if self.requests:
            self.requests = 0.0 if left > _PLENTY_RATIO * capacity else max(0.0, self.requests - _NARROWER)

    def keep(self, usual: float, others: float, capacity: float) -> float:
        """The units to keep back from now on. `usual`: what a request usually takes; `others`: what those who are not
        seen are expected to have taken by now."""
        self.kept = min(self.requests * usual + others, _SHARE_MAX * capacity)
        return self.kept


class Others:
    """What others are thought to take of one limit: `per_s`, units a second."""

    __slots__ = ("_from_s", "_lost", "per_s")

    def __init__(self, now_s: float) -> None:
        self.per_s = 0.0
        self._lost = 0.0
        self._from_s = now_s

    def begin(self, now_s: float) -> None:
        """What was lost before is not known."""
        self._from_s = now_s

    def fold(self, lost: float, rate_per_s: float, now_s: float) -> bool:
        """Takes in what was missing since the last time (negative: was there beyond expectation), a second's worth at
        least at a time. Whether `per_s` changed."""
        self._lost += lost
        elapsed_s = now_s - self._from_s
        if elapsed_s < 1.0 or rate_per_s <= 0.0:
            return False
        weight = 1.0 - math.exp(-elapsed_s / FOREIGN_TAU_S)
        # one correction of the level is no steady loss
        seen = min(max(self._lost / elapsed_s, -rate_per_s), 2.0 * rate_per_s)
        self.per_s = min(max(0.0, self.per_s + weight * (seen - self.per_s)), FOREIGN_SHARE_MAX * rate_per_s)
        self._lost, self._from_s = 0.0, now_s
        return True


def corrected(
    account: Bucket, margin: Margin, observed: float, *, usual: float, others: Others, raised: float, now_s: float
) -> float:
    """From now on a bucket is thought to hold what was `observed`, less the margin; where that is more than was
    thought, by the share `raised` of the difference. What it had lost meanwhile, unexpectedly: the margin is no loss,
    or what is kept back would be taken for what others took. `usual`: units of a usual request."""
    capacity, free = float(account.limit or 0), max(0.0, account.exact(now_s))
    lost = min(capacity, free + margin.kept) - observed
    # others come in lumps, and by now one may have
    ahead = min(FOREIGN_AHEAD_S * others.per_s, FOREIGN_AHEAD_SHARE * capacity)
    gap = free - max(0.0, observed - margin.keep(usual, ahead, capacity))
    account.adjust_exact(gap if gap > 0 else gap * raised, now_s)
    return lost
