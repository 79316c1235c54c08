"""Limits that several workers keep together: what a request holds beside its pool's windows.

A window counts what this process takes, and replies correct it, each a moment after what it tells of. So that several
processes do not take the same units in that moment, or ever where replies tell nothing, each request also holds on this
worker's leased share of the limit (`domain.ledger.shares`): all of them together stay within it in any stretch of its
period. `shared_of` says which windows have one: those that look back over a rolling period, and any other until a reply
has said what is left of it; a share that looks back would be too strict for a bucket or for a minute of the clock.

Laws: a request holds on the window and on the share, or on neither; a share is never wider than its window's limit.
Windows above an hour are not shared: a share that a restart leaves behind counts for a whole period more, and a day
without quota is worse than the one refusal by which every worker learns that a day's quota is gone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

from apikeyrouter.domain.ledger.accounts import Account, Unit
from apikeyrouter.domain.quota.facts import Dimension, Refill, Source
from apikeyrouter.domain.quota.limits import QuotaWindow

__all__ = ["SHARED_PERIOD_MAX_S", "Lend", "SharedLimit", "shared_of"]

SHARED_PERIOD_MAX_S = 3600.0

_Windows = Mapping[tuple[Dimension, float], QuotaWindow]


class Lend(Protocol):
    """Gives this worker's share of a rate: `TenantLimits.account_for`."""

    def __call__(self, limit_id: str, unit: Unit, limit: int, period_s: int, /) -> Account:
        """The account to hold on now; see there."""
        ...


class SharedLimit:
    """A worker's share of one window's limit, as a line of holds. It is charged as a window of which nobody told what
    is left; what is foreseen and learned is the window's alone. `counting`: has counted what this process takes, since
    before the limit was known."""

    __slots__ = ("_lend", "_limit_id", "_period_s", "usual_need", "window")

    charging = None
    forecast = None
    unseen = False
    told_mark = -1

    def __init__(self, window: QuotaWindow, lend: Lend, counting: Account) -> None:
        self.window = window
        self._lend = lend
        self._limit_id = f"pool:{window.name}"
        self._period_s = round(window.period_s)
        self.usual_need = 1.0
        if counting.taken and not window.lent:
            self._begin(self.account, counting)

    @property
    def kind(self) -> int:
        """See `QuotaWindow`."""
        return self.window.kind

    @property
    def corrected(self) -> bool:
        """See `QuotaWindow`."""
        return self.window.corrected

    @property
    def account(self) -> Account:
        """The share's; another one when that ended for idleness."""
        window = self.window
        return self._lend(self._limit_id, window.account.unit, window.limit or 0, self._period_s)

    def _begin(self, account: Account, counting: Account) -> None:
        """What was taken here before the limit was known counts in the share as well, and the store hears of it soon;
        what others took does not: that is in their shares."""
        window = self.window.account
        self.window.lent = True
        taken = min(counting.used + counting.held, counting.taken, window.used + window.held)
        if taken > 0 and self._period_s:
            account.adjust_used(taken, -math.inf)  # the account is new: no time has passed for it


def shared_of(pool: _Windows, own: _Windows, lend: Lend) -> tuple[SharedLimit, ...]:
    """The limits of a pool and of a group of models that workers keep together; those that only count are not."""
    found = [(window, pool.get(spot, window)) for spot, window in own.items()]
    found += [(window, window) for window in pool.values()]
    return tuple([SharedLimit(window, lend, counting.account) for window, counting in found if _is_shared(window)])


def _is_shared(window: QuotaWindow) -> bool:
    if window.account.limit is None or window.source is Source.Learned or window.dimension is Dimension.Spend:
        return False
    if window.period_s > SHARED_PERIOD_MAX_S or window.period_s != round(window.period_s):
        return False
    return window.refill is Refill.Rolling or not window.counted
