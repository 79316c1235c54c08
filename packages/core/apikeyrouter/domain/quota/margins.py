"""What others take from a limit unseen, and how much is left to them because they may have taken it by now.

What a reply says is old when the next request comes. Others take whole requests (`Bucket.lump`) at random times, so
what they took since is a Poisson number of lumps. A request is sent as soon as it fits with probability `Margin.sure`:
with few lumps expected that is at once, where subtracting the mean would only wait for others to come. How sure it
should be is the ratio of two losses: `sure_wanted`. What is believed of others is never quite right, so `sure` itself
is corrected by what happens close to the limit (the step of adaptive conformal inference: Gibbs and Candes, "Adaptive
Conformal Inference Under Distribution Shift", 2021).
Laws: nothing is left where nobody else was seen; `sure` is bounded; requests that were refused together count once.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

from apikeyrouter.domain.ledger.bucket import Bucket

__all__ = ["Margin", "Others", "corrected", "steps_of", "sure_wanted"]

_WAIT_LOSS, _WAIT_LOSS_SHORT = 0.15, 0.5
"""What it costs to wait for one more lump to flow back, in refusals: others may take it first, and a queue has a
deadline; and the second times the lump's share of what fits at once, for a short bucket runs over sooner. Measured
(`bench.quota_grid`, a quarter of each limit taken by others, seed 1): a first of 0.25 instead of 0.15 refuses 3.5
instead of 1.7 of 100 requests of the code trace at 80 % load and serves as many; a second of 1.0 instead of 0.5 refuses
in bursts of 6 s 5.8 instead of 3.6 of the chat trace and serves 0.3 % more, of the code trace 9.0 instead of 6.7 and
serves 0.5 % less. A refusal that does not use up the limit was once taken for cheaper, 0.4: in bursts of the chat trace
that refused 7.9 of 100 instead of 5.0, and served 0.1 % more."""

_WAIT_LOSS_UNSEEN = 0.14
"""The same where only refusals tell what is left, whatever the bucket. Measured (a quarter taken by others, 80 % load,
no headers, bursts of 6 s, refusals count, seeds 1 to 3, while this was built): 0.15 plus 0.5 times the lump's share
sends the chat trace 1.06 times a request instead of 1.05, and serves 2 % more of the code trace."""

_SURE_MIN, _SURE_MAX = 0.5, 0.98
_GAIN = 0.02
_ROUNDED = 50
"""`sure` in so many parts: few different steps need to be worked out."""

_STEPS = 60
"""Lumps that are told apart; nobody waits so long without a word."""

_NEWTON_STEPS, _CLOSE = 3, 1e-10
"""See `_around`: so many steps come so near for every probability within `_SURE_MAX`."""

_NORMAL = NormalDist()

FOREIGN_TAU_S = 60.0
"""How long a loss must last to be believed. The first seconds of a run, in which sizes are only guessed, looked like
others that take 40 % (20 s), and kept from a modest tenant what it could have had: its p99 wait beside a greedy one was
2.1 s and is 1.6 s (four seeds of `scenarios.aggressor`); the code trace with a quarter unseen is served as before."""

FOREIGN_SHARE_MAX = 0.9


def sure_wanted(lump_share: float, *, unseen: bool = False) -> float:
    """The probability (0..1) of fitting from which sending is worth more than waiting: p x wait loss = (1 - p) x
    refusal loss. `lump_share`: a usual request's share (0..1) of what fits at once; `unseen`: replies do not say what
    is left."""
    loss = _WAIT_LOSS_UNSEEN if unseen else _WAIT_LOSS + _WAIT_LOSS_SHORT * min(1.0, lump_share)
    return max(_SURE_MIN, 1.0 / (1.0 + loss))


class Margin:
    """Of one limit. `sure`: the probability with which a request shall fit by what is believed of others, so that as
    many really fit as are wanted."""

    __slots__ = ("_missed_at_s", "_stepped", "_steps", "sure")

    def __init__(self) -> None:
        self.sure = sure_wanted(0.0)
        self._missed_at_s = float("-inf")
        self._stepped = self.sure
        self._steps = steps_of(round(self.sure * _ROUNDED) / _ROUNDED)

    def heard(
        self, account: Bucket, left: float, need: int | None, sent_at_s: float, now_s: float, *, unseen: bool
    ) -> None:
        """A reply says what is left: where that is less than a request takes, whether enough is left to others. `need`:
        of a request that was refused; None: it was let in, and not one more as usual would have been. `unseen`: see
        `let_in`; a refusal takes back what was concluded there."""
        if left >= (account.lump if need is None else need):
            return
        wanted = sure_wanted(account.lump / max(1, account.limit or 1), unseen=unseen)
        if need is None:
            self.fitted(wanted)
        else:
            self.missed(1.0 if unseen else wanted, sent_at_s, now_s)

    def let_in(self, account: Bucket, now_s: float) -> None:
        """A request was just held of which no reply will say what it left, and that is most likely let in: where not
        one more as usual would be, it fitted. See `Bucket.let_in`."""
        account.let_in()
        if (account.free(now_s) or 0) < account.lump:
            self.fitted(sure_wanted(account.lump / max(1, account.limit or 1), unseen=True))
            account.steps = self.steps()

    def missed(self, wanted: float, sent_at_s: float, now_s: float) -> None:
        """A request was refused that was thought to fit; `wanted`: see `sure_wanted`. Those sent before the last of
        these was known teach nothing more."""
        if sent_at_s >= self._missed_at_s:
            self._missed_at_s = now_s
            self.sure = min(_SURE_MAX, self.sure + _GAIN * wanted)

    def fitted(self, wanted: float) -> None:
        """A request was let in, and not one more would have been."""
        self.sure = max(_SURE_MIN, self.sure - _GAIN * (1.0 - wanted))

    def steps(self) -> tuple[float, ...]:
        """For `Bucket.steps`."""
        sure = self.sure
        if sure != self._stepped:
            self._stepped = sure
            self._steps = steps_of(round(sure * _ROUNDED) / _ROUNDED)
        return self._steps


@lru_cache(maxsize=_ROUNDED)
def steps_of(sure: float) -> tuple[float, ...]:
    """With how many lumps expected (of a Poisson process) one more has to be left, for what is left to be enough with
    probability `sure` (0..1, not included): the k-th is the mean m with P(N < k) = `sure`, by bisection."""
    return tuple(_mean_of(count, sure) for count in range(1, _STEPS + 1))


def _mean_of(count: int, sure: float) -> float:
    below, above = _around(count, sure)
    low, high = 0.0, 4.0 * _STEPS
    for _ in range(50):
        mean = (low + high) / 2
        if mean <= below or (mean < above and _fewer(count, mean)[0] > sure):
            low = mean
        else:
            high = mean
    return low


def _around(count: int, sure: float) -> tuple[float, float]:
    """Two means with the wanted one between them, so that most of a bisection needs no sums: all of a limit's steps at
    once would hold up every request for 3 ms. Newton's method, from Wilson and Hilferty's guess ("The Distribution of
    Chi-Square", 1931): P(N < k) falls by P(N = k - 1) for each unit of the mean."""
    mean = count * max(0.1, 1.0 - 1.0 / (9 * count) - _NORMAL.inv_cdf(sure) / (3.0 * math.sqrt(count))) ** 3
    for _ in range(_NEWTON_STEPS):
        total, last = _fewer(count, mean)
        mean = max(mean / 2, mean + (total - sure) / last)
    below, above = mean - _CLOSE, mean + _CLOSE
    if _fewer(count, below)[0] > sure >= _fewer(count, above)[0]:
        return below, above
    return 0.0, math.inf


def _fewer(count: int, mean: float) -> tuple[float, float]:
    """P(N < `count`) of a Poisson number N, and the last of its terms."""
    term = total = math.exp(-mean)
    for one in range(1, count):
        term *= mean / one
        total += term
    return total, term


class Others:
    """What others are thought to take of one limit: `per_s`, units a second.

    Only times in which it shows count: what others took of a bucket that would be full without them has flowed back
    before anybody looks, and a pool that is idle most of the time seemed to have no others at all."""

    __slots__ = ("_lost", "_seen_s", "_since_s", "per_s")

    def __init__(self, now_s: float) -> None:
        self.per_s = 0.0
        self._lost = self._seen_s = 0.0
        self._since_s = now_s

    def begin(self, now_s: float) -> None:
        """What was lost before is not known."""
        self._since_s = now_s

    def fold(self, lost: float, rate_per_s: float, now_s: float, *, full_at_s: float = -math.inf) -> bool:
        """Takes in what was missing since the last time (negative: was there beyond expectation), a second's worth at
        least at a time. `full_at_s`: when nothing of ours was out for the last time. Whether `per_s` changed."""
        since_s, self._since_s = self._since_s, now_s
        if full_at_s > since_s:
            return False
        self._lost += lost
        self._seen_s += now_s - since_s
        if self._seen_s < 1.0 or rate_per_s <= 0.0:
            return False
        weight = 1.0 - math.exp(-self._seen_s / FOREIGN_TAU_S)
        # one correction of the level is no steady loss
        seen = min(max(self._lost / self._seen_s, -rate_per_s), 2.0 * rate_per_s)
        self.per_s = min(max(0.0, self.per_s + weight * (seen - self.per_s)), FOREIGN_SHARE_MAX * rate_per_s)
        self._lost = self._seen_s = 0.0
        return True


def corrected(
    account: Bucket, observed: float, *, raised: float, since_s: float, now_s: float, uncounted: int = 0
) -> float:
    """From now on a bucket is thought to hold what was `observed`; where that is more than was thought, by the share
    `raised` of the difference; less what others may have taken in `since_s`, the age of the word. `uncounted`: held by
    a request that was refused. What the bucket had lost meanwhile, unseen: what was left to others is no loss."""
    exact = account.exact(now_s) + uncounted
    lost = (exact if exact > 0.0 else 0.0) - observed  # noqa: FURB136 - every reply asks
    delta = (lost if lost > 0 else lost * raised) - uncounted
    account.adjust_exact(delta, now_s, expected=since_s * account.others_per_s)
    return lost
