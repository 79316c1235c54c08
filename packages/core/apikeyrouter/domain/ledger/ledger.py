"""The ledger: one step that checks and takes everything that a request may use, or nothing.

`Ledger.try_hold` is synchronous and never waits: in a single-threaded event loop nothing can come between the check and
the taking, so N concurrent requests can never hold more than the limits (L1, L10). Quota windows and budgets are both
accounts here; a later slice that a worker leases from a shared store is just an account with a smaller limit.

Laws: all-or-nothing: after a refusal every account is as before. L4: `at_rest` iff no hold is open. L5: a `Refused`
names an account with used + held + need > limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.ledger.accounts import Account
from apikeyrouter.domain.ledger.holds import Hold, LedgerError, Refused

__all__ = ["Ledger"]

Line = tuple[Account, int]


class Ledger:
    """Takes holds and counts them.

    `open_holds`: neither settled, voided nor presumed yet. `overruns`: lines that settled above what they had held.
    One event loop only.
    """

    __slots__ = ("_now_s", "open_holds", "overruns")

    def __init__(self, clock: Clock) -> None:
        self._now_s = clock.monotonic_s
        self.open_holds = 0
        self.overruns = 0

    @property
    def at_rest(self) -> bool:
        """Whether nothing is held."""
        return self.open_holds == 0

    def try_hold(self, lines: Sequence[Line]) -> Hold | Refused:
        """Takes every line or none. The same account may occur in several lines.

        Returns a `Hold`, or a `Refused` (falsy) that names the first hard account without room. A line of 0 takes
        nothing and is never refused. `lines` must not be changed afterwards. Raises LedgerError for a negative amount.
        """
        now_s = self._now_s()
        epochs: list[int] = []
        warnings: tuple[Account, ...] = ()
        for account, need in lines:
            if now_s >= account.rolls_at_s:
                account.roll(now_s)
            held = account.held + need
            limit = account.limit
            if limit is not None and account.used + held > limit and need > 0:
                if account.hard:
                    return _refuse(lines, len(epochs), now_s)
                warnings = (*warnings, account)
            elif need < 0:
                _refuse_negative(lines, len(epochs))
            account.held = held
            account.taken += need
            epoch = account.epoch
            if account.ring is not None:
                account.ring[epoch][1] += need
            epochs.append(epoch)
        self.open_holds += 1
        return Hold(self, lines, epochs, warnings)


def _give_back(lines: Sequence[Line], taken: int) -> None:
    """Undoes the first `taken` lines; no time has passed, so they are still in the running epoch."""
    for account, need in lines[:taken]:
        account.held -= need
        account.taken -= need
        if account.ring is not None:
            account.ring[account.epoch][1] -= need


def _refuse(lines: Sequence[Line], taken: int, now_s: float) -> Refused:
    """Undoes what was taken and says why line number `taken` did not fit."""
    account = lines[taken][0]
    _give_back(lines, taken)
    need = sum(amount for other, amount in lines if other is account)
    return Refused(account, need, account.free(now_s) or 0, account.free_at_s(need, now_s))


def _refuse_negative(lines: Sequence[Line], taken: int) -> NoReturn:
    account, need = lines[taken]
    _give_back(lines, taken)
    raise LedgerError(f"a hold on {account.id!r} must not be negative: {need}")
