"""Shadow mode: ask another objective who would have served, act on the first, and add up the differences.

`Shadow.compare` runs once per request, on the candidates that the real decision kept; the record says what it would
have chosen. Law: it changes nothing: no turn, no hold, no statistics of keys.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from apikeyrouter.domain.routing.demand import Demand
from apikeyrouter.domain.routing.explain import DecisionRecord, Row
from apikeyrouter.domain.routing.objectives import Objective
from apikeyrouter.domain.routing.scoring import rank
from apikeyrouter.domain.routing.sift import Sieve

__all__ = ["Shadow", "ShadowSummary"]


class ShadowSummary(BaseModel):
    """What the shadow objective would have changed since this process started. `decisions`: compared; `differed`: those
    in which it would have chosen another key. Sums over them, shadow minus real: below zero the shadow is better.
    `cost_usd`: expected dollars; `ttft_s`: expected seconds to the first token; `failures`: expected failed first
    attempts."""

    objective: str
    decisions: int
    differed: int
    cost_usd: float
    ttft_s: float
    failures: float


class Shadow:
    """One objective that is asked and not obeyed."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self._decisions = 0
        self._differed = 0
        self._cost_usd = 0.0
        self._ttft_s = 0.0
        self._failures = 0.0

    def compare(self, record: DecisionRecord, sieve: Sieve, demand: Demand, rows: Sequence[Row], now_s: float) -> None:
        """Notes in `record` whom this objective would have chosen instead of the first of `rows`."""
        real = rows[0]
        ours = rank(sieve.kept, sieve.rooms, demand, self.objective, None, now_s)[0]
        chosen, meant = ours[4], real[4]
        same = chosen is meant
        cost_usd, p_failure = ours[5] - real[5], ours[6] - real[6]
        ttft_s = chosen.stats.ttft_s - meant.stats.ttft_s
        record.shadow = (
            self.objective.name, chosen.record.key_id, chosen.record.label, same, cost_usd, ttft_s, p_failure
        )  # fmt: skip
        if record.rehearsal:
            return
        self._decisions += 1
        if not same:
            self._differed += 1
            self._cost_usd += cost_usd
            self._ttft_s += ttft_s
            self._failures += p_failure

    def summary(self) -> ShadowSummary:
        """Counts and sums so far."""
        return ShadowSummary(
            objective=self.objective.name,
            decisions=self._decisions,
            differed=self._differed,
            cost_usd=self._cost_usd,
            ttft_s=self._ttft_s,
            failures=self._failures,
        )
