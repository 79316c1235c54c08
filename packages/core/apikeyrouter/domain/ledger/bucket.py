"""A token bucket as an account: what was taken comes back all the time, at `rate_per_s`, not at the end of a window.

`used + held` is the bucket's debt: full when 0, empty at `limit`. Every hold first lets the debt drain by the time that
passed. A hold counts from the moment it is taken, as providers count requests when they let them in; so `used` alone
may fall below zero while holds are open.
Laws: the debt is never negative; time that goes back drains nothing; what fits: debt + need <= limit (L1).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from math import ceil, nextafter

from apikeyrouter.domain.ledger.accounts import Account, Unit
from apikeyrouter.domain.quota.windows import Total

__all__ = ["Bucket"]

_FOREVER = Total()
_NEVER_S = math.inf


class Bucket(Account):
    """`limit`: its capacity: what may be taken at once. `rate_per_s`: units that come back a second; set it at any
    time, after a `refresh`. `others_per_s`: how much others are thought to take, unseen, `lump` at a time. `steps`:
    with so many lumps expected since the provider last told, one more is left to them
    (`domain.quota.margins.steps_of`). `expected`: units that they are expected to have taken and that did not flow
    back; `withheld`: those that `used` counts for them. `full_at_s`: when all that was taken had last flowed back."""

    __slots__ = (
        "_at_s",
        "_fraction",
        "expected",
        "full_at_s",
        "lump",
        "others_per_s",
        "rate_per_s",
        "steps",
        "withheld",
    )

    def __init__(
        self, account_id: str, unit: Unit, limit: int | None, rate_per_s: float, *, hard: bool = True, now_s: float
    ) -> None:
        super().__init__(account_id, unit, limit, _FOREVER, hard=hard, now_s=now_s)
        self.rate_per_s = rate_per_s
        self.others_per_s = 0.0
        self.lump = 1
        self.steps: Sequence[float] = ()
        self.expected = 0.0
        self.withheld = 0
        self.full_at_s = -math.inf
        self.rolls_at_s = -math.inf
        self._at_s = now_s
        self._fraction = 0.0

    def roll(self, now_s: float) -> None:
        """Lets the debt drain until `now_s`."""
        elapsed_s = now_s - self._at_s
        if elapsed_s <= 0.0:
            return
        self._at_s = now_s
        self.rolls_at_s = nextafter(now_s, _NEVER_S)  # at the next moment: most looks come several at one
        withheld = self.withheld
        debt = self.used + self.held - withheld
        drained = elapsed_s * self.rate_per_s + self._fraction
        expected = self.expected + elapsed_s * self.others_per_s
        if debt <= 0 or drained >= debt:
            self.used -= debt
            self._fraction = 0.0
            self.full_at_s = now_s
            # what others took flows back too
            expected -= drained - debt if debt > 0 else drained
            if expected < 0.0:
                expected = 0.0
        else:
            whole = int(drained)
            self.used -= whole
            self._fraction = drained - whole
        self.expected = expected
        if withheld or expected:
            # `withhold`, written out, for it is due at every other look and seldom changes anything
            steps, lump = self.steps, self.lump
            lumps = expected / lump
            if withheld or (steps and lumps >= steps[0]):
                leave, most = lump * bisect_right(steps, lumps), self.limit or 0
                if leave > most:
                    leave = most
                if leave != withheld:
                    self.used += leave - withheld
                    self.withheld = leave

    def withhold(self) -> None:
        """Leaves to others what they may have taken."""
        lump, most = self.lump, self.limit or 0
        withheld = lump * bisect_right(self.steps, self.expected / lump)
        if withheld > most:
            withheld = most
        self.used += withheld - self.withheld
        self.withheld = withheld

    def let_in(self) -> None:
        """A hold was just taken whose request nobody will tell what it left: that it was let in, as it most likely is,
        shows that others had not taken more than is free here without them. Fewer are expected to have come."""
        if self.expected and self.limit is not None:
            free = self.limit - self.used - self.held + self.withheld
            self.expected *= _of_at_most(self.expected / self.lump, free // self.lump)
            self.withhold()

    def adjust_used(self, delta: int, now_s: float) -> None:
        """Corrects the debt from outside knowledge: never below zero."""
        self.roll(now_s)
        self.used += max(delta, -(self.used + self.held))

    def free(self, now_s: float) -> int | None:
        """See `Account.free`: the same, written out."""
        if now_s >= self.rolls_at_s:
            self.roll(now_s)
        limit = self.limit
        if limit is None:
            return None
        left = limit - self.used - self.held
        return left if left > 0 else 0  # noqa: FURB136

    def exact(self, now_s: float) -> float:
        """What is free, with its fraction, and with what is left to others; negative where more is held than fits. 0.0
        without a limit."""
        if now_s >= self.rolls_at_s:
            self.roll(now_s)
        return 0.0 if self.limit is None else self.limit - self.used - self.held + self.withheld + self._fraction

    def adjust_exact(self, delta: float, now_s: float, *, expected: float = 0.0) -> None:
        """As `adjust_used`, by a part of a unit too. `expected`: what others may have taken since that was true."""
        if now_s >= self.rolls_at_s:
            self.roll(now_s)
        debt = self.used + self.held - self.withheld - self._fraction + delta
        if debt <= 0.0:
            debt = 0.0
        whole = ceil(debt)
        self.used = whole - self.held
        self._fraction = whole - debt
        self.withheld, self.expected = 0, expected
        if expected:
            self.withhold()

    def free_at_s(self, need: int, now_s: float) -> float | None:
        """When `need` would fit if nothing more were taken; None: never."""
        if now_s >= self.rolls_at_s:
            self.roll(now_s)
        limit = self.limit
        if limit is None:
            return now_s
        short = self.used + self.held + need - limit
        if short <= 0:
            return now_s
        if need > limit or self.rate_per_s <= 0.0:
            return None
        wait_s = (short - self._fraction) / self.rate_per_s
        others_per_s = self.others_per_s
        if others_per_s:
            # it takes longer, because more has to be left to others meanwhile
            lump, steps, expected, more_s = self.lump, self.steps, self.expected, 0.0
            place, count = bisect_right(steps, expected / lump), len(steps)
            while place < count and expected + (wait_s + more_s) * others_per_s >= lump * steps[place]:
                place += 1
                more_s += lump / self.rate_per_s
            wait_s += more_s
        return now_s + wait_s + 1e-6

    def __repr__(self) -> str:
        limit = "-" if self.limit is None else self.limit
        return f"<Bucket {self.id} {self.used}+{self.held}/{limit} {self.unit}, {self.rate_per_s:g}/s>"


def _of_at_most(mean: float, count: int) -> float:
    """What knowing that at most `count` (>= 0) came makes of the mean of a Poisson number, as a share (0..1) of it:
    E[N | N <= k] = mean x P(N <= k - 1) / P(N <= k)."""
    if count > mean + 4.0 * math.sqrt(mean) + 4.0:
        return 1.0
    term = total = math.exp(-mean)
    before = 0.0
    for one in range(1, count + 1):
        before = total
        term *= mean / one
        total += term
    return before / total if total else 1.0
