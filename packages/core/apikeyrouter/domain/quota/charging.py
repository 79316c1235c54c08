"""What requests cost of a quota window: while they run, when they are over, and how the provider counts.

Providers differ in what they count (`ChargeRule`); a window that is `corrected` is charged the true use, any other one
keeps what was counted when the request was let in. What is documented is not always so: `Charging` finds out from what
`remaining` does whether output is charged by the caller's cap or as it will probably be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.ledger.accounts import Account
from apikeyrouter.domain.ledger.bucket import Bucket
from apikeyrouter.domain.quota.facts import ChargeRule, Dimension

__all__ = ["Asked", "Charging", "failed_charges", "used_charges"]

SAMPLE_S, _SAMPLE_SHARE = 2.0, 0.33
"""Replies so far apart are compared: the second is a share of the time in which an empty bucket is full again, for what
holds a second's worth has forgotten everything after two."""

_KEEP = 0.8
_SAMPLES = 3
_CLEARLY = 0.7
_LIKELY_FROM = len(Dimension)

_Lines = Sequence[tuple[Account, int]]
_Marks = Sequence[tuple[Account, int]]


class Counted(Protocol):
    """A quota window, as far as charges go."""

    @property
    def kind(self) -> int:
        """Index into needs."""
        ...

    @property
    def corrected(self) -> bool:
        """Whether a request's charge becomes its true use."""
        ...

    @property
    def told_mark(self) -> int:
        """What had been taken of its account with the last request whose reply said what is left."""
        ...


class Charging:
    """Two hypotheses about one window: every request costs its cap, or its likely use. Which of them explains better
    how far the level fell between two replies (some time apart, on a bucket that is not full) is believed."""

    __slots__ = ("_at_s", "_cap_sum", "_errors", "_level", "_likely_sum", "_samples", "_seen", "proven")

    def __init__(self) -> None:
        self._cap_sum = self._likely_sum = 0
        self.proven = False
        self._seen = (0, 0)
        self._errors = [0.0, 0.0]
        self._samples = 0
        self._level = -1
        self._at_s = 0.0

    def admitted(self, cap: int, likely: int) -> None:
        """A request was let in that costs either."""
        self._cap_sum += cap
        self._likely_sum += likely

    def observe(self, remaining: int, limit: int, rate_per_s: float, at_s: float) -> bool | None:
        """What a reply said of the time `at_s`. True: by likely use; False: by the cap; None: nothing new."""
        elapsed_s = at_s - self._at_s
        if self._level >= 0 and elapsed_s < SAMPLE_S and elapsed_s * rate_per_s < _SAMPLE_SHARE * limit:
            return None
        before, level = self._level, remaining
        taken = (self._cap_sum - self._seen[0], self._likely_sum - self._seen[1])
        self._level, self._at_s, self._seen = level, at_s, (self._cap_sum, self._likely_sum)
        # near full, what flowed back is lost and tells nothing; and where both say the same there is nothing to learn
        if before < 0 or level > 0.97 * limit or taken[0] < 1.2 * taken[1] + 1:
            return None
        # more than all cannot have flowed back
        fell = min(limit, before + rate_per_s * elapsed_s) - level
        for place in (0, 1):
            self._errors[place] = self._errors[place] * _KEEP + abs(fell - taken[place])
        self._samples += 1
        if self._samples < _SAMPLES:
            return None
        cap, likely = self._errors
        if likely < _CLEARLY * cap:
            return True
        return False if cap < _CLEARLY * likely else None


class Asked:
    """What refusals said that their requests ask for, as evidence for the same two hypotheses. One request's input may
    be half as large again as was estimated, so one refusal does not outweigh those before it."""

    __slots__ = ("_cap_error", "_likely_error")

    def __init__(self) -> None:
        self._cap_error = self._likely_error = 0.0

    def weigh(self, requested: int, cap: int, likely: int) -> bool | None:
        """As `Charging.observe`, of one refusal after others."""
        if cap < 1.2 * likely + 1:
            return None
        by_cap = self._cap_error = self._cap_error * _KEEP + abs(requested - cap)
        by_likely = self._likely_error = self._likely_error * _KEEP + abs(requested - likely)
        if by_likely < _CLEARLY * by_cap:
            return True
        return False if by_cap < _CLEARLY * by_likely else None


def used_charges(
    windows: Sequence[Counted], lines: _Lines, marks: _Marks, usage: Usage, cost_nano_usd: int, rule: ChargeRule
) -> list[int]:
    """Of a request that was answered. `lines`: its hold's, those of the windows first; `marks`: each account with what
    had been taken of it just after that. What a reply to this request or a later one said is left is as it was with
    this one counted: it costs what is held, so that settling it moves nothing. More than that it costs all the same:
    somebody may count it as it comes."""
    tokens_in = usage.input_tokens
    if not rule.cached_input_counts:
        tokens_in = max(0, tokens_in - usage.cached_input_tokens)
    out = usage.output_tokens
    amounts = (1, tokens_in, out, tokens_in + out, 0, cost_nano_usd, tokens_in + out, out)
    charges = []
    for place, window in enumerate(windows):
        kind = window.kind
        amount, held = amounts[kind], lines[place][1]
        if not window.corrected and (kind < _LIKELY_FROM or (amount < held and window.told_mark >= marks[place][1])):
            amount = held
        charges.append(amount)
    return charges


def failed_charges(
    windows: Sequence[Counted], lines: _Lines, marks: _Marks, rule: ChargeRule, *, refused: bool
) -> list[int]:
    """Of a request that produced nothing: `refused` by a limit, or failed otherwise. `lines`, `marks`: as for
    `used_charges`, and what was told is left alone here too: but for what comes back to a `corrected` window, and but
    for windows that are no buckets: what their own refusal told, they have without its request already."""
    counts = int(rule.refused_count if refused else rule.failed_count)
    charges = []
    for window, (account, held), (_, mark) in zip(windows, lines, marks, strict=False):
        told = window.told_mark > mark or (window.told_mark == mark and isinstance(account, Bucket))
        if told and (refused or not window.corrected):
            charges.append(held)
        else:
            charges.append(counts if window.kind == 0 else 0)
    return charges
