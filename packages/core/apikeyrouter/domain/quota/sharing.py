"""Pools that are one: keys of the same account that were registered without saying so.

Two keys of one account report one limit, and each loses what the other takes. `SharingDetector.sample`, called every
few seconds, compares what each pool lost that nobody took from it with what was taken from others of the same provider,
model and limit: one by one, and all together. Where that explains the losses for long enough, the pools are suspected
to be the same (`QuotaPool.suspected_same`), and said so once.
Laws: nothing is merged by itself: a wrong guess would halve capacity; a suspicion ends when the evidence does.
"""

from __future__ import annotations

from collections.abc import Iterable

from apikeyrouter.domain.quota.facts import MINUTE_S, Dimension
from apikeyrouter.domain.quota.limits import QuotaWindow
from apikeyrouter.domain.quota.pools import PoolView

__all__ = ["SAMPLE_EVERY_S", "SharingDetector"]

SAMPLE_EVERY_S = 30.0
"""What one pool takes shows in the other's next reply, some seconds later; shorter samples would drown in that."""

COMPARED_MAX = 24
"""Pools of one model and limit that are compared with each other; more are too many for pairs."""

_KEEP = 0.9
_EVIDENCE_UNITS = 30.0
_ERROR_MAX = 0.45
_ERROR_CLEARS = 0.7


class _Hypothesis:
    """ "What P lost is what these took": decayed sums of what was predicted, and of how far it was off."""

    __slots__ = ("error", "predicted")

    def __init__(self) -> None:
        self.predicted = 0.0
        self.error = 0.0

    def add(self, lost: float, taken: float) -> None:
        self.predicted = self.predicted * _KEEP + taken
        self.error = self.error * _KEEP + abs(lost - taken)

    def holds(self, *, before: bool) -> bool:
        """Whether it does; `before`: it did, and ends only with clear evidence against it."""
        if self.predicted < _EVIDENCE_UNITS:
            return before
        return self.error < (_ERROR_CLEARS if before else _ERROR_MAX) * self.predicted


class SharingDetector:
    """Keeps its sums between samples."""

    def __init__(self) -> None:
        self._seen: dict[QuotaWindow, tuple[float, int]] = {}
        self._pairs: dict[tuple[str, str, str], _Hypothesis] = {}
        self._sampled_at_s = float("-inf")

    def sample(self, views: Iterable[PoolView], now_s: float) -> list[tuple[PoolView, PoolView]]:
        """Takes a sample if one is due; the pairs that are newly suspected."""
        if now_s - self._sampled_at_s < SAMPLE_EVERY_S:
            return []
        self._sampled_at_s = now_s
        groups: dict[tuple[str, str, int | None], list[tuple[PoolView, float, int]]] = {}
        for view in views:
            window = view.own.get((Dimension.Requests, MINUTE_S))
            if window is None or window.observed_at_s is None:
                continue
            lost, taken = window.lost, window.account.taken
            before = self._seen.get(window)
            self._seen[window] = (lost, taken)
            if before is not None:
                spot = (view.pool.provider_id, view.models, window.limit)
                groups.setdefault(spot, []).append((view, lost - before[0], taken - before[1]))
        return [pair for group in groups.values() if 2 <= len(group) <= COMPARED_MAX for pair in self._compare(group)]

    def _compare(self, group: list[tuple[PoolView, float, int]]) -> list[tuple[PoolView, PoolView]]:
        found: list[tuple[PoolView, PoolView]] = []
        total = sum(taken for _, _, taken in group)
        for view, lost, own in group:
            everyone = self._hypothesis(view, "*")
            everyone.add(lost, total - own)
            for other, _, taken in group:
                if other is view:
                    continue
                pair = self._hypothesis(view, other.pool.pool_id)
                pair.add(lost, taken)
                same = view.pool.suspected_same
                before = other.pool.pool_id in same
                if pair.holds(before=before) or everyone.holds(before=before):
                    if not before:
                        same.add(other.pool.pool_id)
                        found.append((view, other))
                else:
                    same.discard(other.pool.pool_id)
        return found

    def _hypothesis(self, view: PoolView, other: str) -> _Hypothesis:
        spot = (view.pool.pool_id, view.models, other)
        known = self._pairs.get(spot)
        if known is None:
            known = self._pairs[spot] = _Hypothesis()
        return known
