"""Limits that several workers keep together: what a request holds beside its pool's windows.

A window counts what this process takes. Where other processes take from the same pool and nothing tells of it, each
request also holds on this worker's leased share of the limit (`domain.ledger.shares`), so that all of them together
stay within it in any stretch of its period. `shared_of` says which windows need that: those that the operator
configured, and those known from a tier or from memory until a reply has said what is left.

Laws: a request holds on the window and on the share, or on neither; a share is never wider than its window's limit.
Windows above an hour are not shared: a share that a restart leaves behind counts for a whole period more, and a day
without quota is worse than the one refusal by which every worker learns that a day's quota is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    """A worker's share of one window's limit, as a line of holds. It is charged as its window is; what is foreseen and
    learned is the window's alone."""

    __slots__ = ("_lend", "_limit_id", "_period_s", "usual_need", "window")

    charging = None
    forecast = None

    def __init__(self, window: QuotaWindow, lend: Lend) -> None:
        self.window = window
        self._lend = lend
        self._limit_id = f"pool:{window.name}"
        self._period_s = round(window.period_s)
        self.usual_need = 1.0

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


def shared_of(pool: _Windows, own: _Windows, lend: Lend) -> tuple[SharedLimit, ...]:
    """The limits of a pool and of a group of models that workers keep together.

    A configured limit that replies confirm for the group is left to them once they show that capacity comes back in
    another way than a rolling window's: then the share would be too strict.
    """
    found = [window for spot, window in pool.items() if _blind(window) and not _told_better(own.get(spot))]
    found += [window for window in own.values() if _blind(window)]
    return tuple([SharedLimit(window, lend) for window in _shareable(found)])


def _blind(window: QuotaWindow) -> bool:
    """Whether no reply to this process has said yet what is left of it."""
    return window.limit is not None and not window.counted


def _told_better(own: QuotaWindow | None) -> bool:
    return own is not None and own.counted and own.refill is not Refill.Rolling


def _shareable(windows: Iterable[QuotaWindow]) -> Iterable[QuotaWindow]:
    for window in windows:
        if window.source is Source.Learned or window.dimension is Dimension.Spend:
            continue
        if window.period_s <= SHARED_PERIOD_MAX_S and window.period_s == round(window.period_s):
            yield window
