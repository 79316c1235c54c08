"""How a provider counts, learned once for all of its pools.

Whether output is charged by the caller's cap or as it comes, and whether capacity flows back like a bucket, is the
provider's way and not an account's. A pool that shows it teaches the others (`Habits.learned`), which could not find
out by themselves: who counts too strictly is never refused, and so never corrected.
Laws: what a window has seen itself is never overruled; what refusals say of their requests is weighed together, whoever
was refused; a limit that the operator configured counts as it always did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from apikeyrouter.domain.quota.charging import Asked
from apikeyrouter.domain.quota.facts import Dimension, Refill
from apikeyrouter.domain.quota.limits import QuotaWindow

__all__ = ["Habits"]

_Spot = tuple[Dimension, float]


class Habits:
    """Of one provider. Windows come and never go, as pools do."""

    __slots__ = ("_asked", "_buckets", "_joined", "_kinds")

    def __init__(self) -> None:
        self._asked: dict[_Spot, Asked] = {}
        self._joined: dict[_Spot, list[tuple[QuotaWindow, Callable[[], None]]]] = {}
        self._kinds: dict[_Spot, int] = {}
        self._buckets: set[_Spot] = set()

    def join(self, window: QuotaWindow, changed: Callable[[], None], now_s: float) -> None:
        """A new window of a pool begins with what others have shown. `changed`: is told when it learns more so."""
        spot = (window.dimension, window.period_s)
        self._joined.setdefault(spot, []).append((window, changed))
        self._teach(spot, window, now_s)

    def learned(self, window: QuotaWindow, now_s: float) -> None:
        """A window has found out how it is counted."""
        spot = (window.dimension, window.period_s)
        before = self._kinds.get(spot), spot in self._buckets
        if window.charging is not None and window.charging.proven:
            self._kinds[spot] = window.kind
        if window.refill is Refill.Continuous:
            self._buckets.add(spot)
        else:
            self._buckets.discard(spot)
        if before != (self._kinds.get(spot), spot in self._buckets):
            for other, changed in self._joined.get(spot, ()):
                if other is not window and self._teach(spot, other, now_s):
                    changed()

    def asked(self, window: QuotaWindow, requested: int, needs: Sequence[int], now_s: float) -> None:
        """A refusal of a window said how much its request asks for; `needs`: what was thought."""
        evidence = self._asked.setdefault((window.dimension, window.period_s), Asked())
        window.asked(requested, needs, evidence)
        self.learned(window, now_s)

    def _teach(self, spot: _Spot, window: QuotaWindow, now_s: float) -> bool:
        before = window.kind, window.refill
        kind = self._kinds.get(spot)
        if kind is not None and window.charging is not None and not window.charging.proven:
            window.kind = kind
        if spot in self._buckets:
            window.bucket_assumed(now_s)
        return before != (window.kind, window.refill)
