"""What happened in one run, request by request, and the figures that sum it up.

Main entries: `Run` (written while a run goes on), `figures` (a `Cell` of figures). Laws: every request ends exactly
once; the figures are worked out from what the provider saw and what clients got, never from what a router says.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from apikeyrouter.simulation.world.provider import Answer
from apikeyrouter.simulation.world.traffic import Traffic

__all__ = ["Cell", "Run", "figures", "jain", "percentile"]


class Run:
    """The log of one run. `served`: 1 for requests that succeeded; `attempts`: sends; `wait_s`: from arrival to the
    send that succeeded; `first_s`: from arrival to its first byte; `ended_s`: when the client had its answer; `told_s`:
    the Retry-After that a refused client was told, by request; `told_true`: the same, with the seconds until the
    provider would have let it in had nobody else come; `came_back`: whether clients that came back when told, once,
    were served; `reasons`: how many requests failed for what.
    `upstream_at`, `refused_at`, `served_at`: counts by second."""

    def __init__(self, policy: str, traffic: Traffic, seed: int) -> None:
        count = len(traffic)
        self.policy = policy
        self.traffic = traffic
        self.seed = seed
        self.served = bytearray(count)
        self.open = count
        self.attempts = [0] * count
        self.wait_s = [math.nan] * count
        self.first_s = [math.nan] * count
        self.ended_s = [math.nan] * count
        self.told_s: dict[int, float] = {}
        self.told_true: list[tuple[float, float]] = []
        self.came_back: list[int] = []
        self.reasons: Counter[str] = Counter()
        self.upstream_at: Counter[int] = Counter()
        self.refused_at: Counter[int] = Counter()
        self.served_at: Counter[int] = Counter()
        self.statuses: Counter[int] = Counter()
        self.regret_usd = 0.0
        self.violations: list[str] = []

    def sent(self, request: int, now_s: float, answer: Answer) -> None:
        """One send left, and `answer` is what it will meet."""
        self.attempts[request] += 1
        second = int(now_s)
        self.upstream_at[second] += 1
        self.statuses[answer.status] += 1
        if answer.status == 429:
            self.refused_at[second] += 1

    def succeeded(self, request: int, sent_s: float, first_s: float, now_s: float) -> None:
        """It was served by a send at `sent_s`; the first byte came at `first_s`."""
        self._end(request, now_s)
        self.served[request] = 1
        at_s = self.traffic.at_s[request]
        self.wait_s[request] = sent_s - at_s
        self.first_s[request] = first_s - at_s
        self.served_at[int(sent_s)] += 1

    def failed(self, request: int, now_s: float, reason: str, told_s: float | None = None) -> None:
        """The client was told that it failed."""
        self._end(request, now_s)
        self.reasons[reason] += 1
        if told_s is not None:
            self.told_s[request] = told_s

    def _end(self, request: int, now_s: float) -> None:
        if not math.isnan(self.ended_s[request]):
            self.violations.append(f"request {request} ended twice, the second time at {now_s:.3f} s")
            return
        self.ended_s[request] = now_s
        self.open -= 1


@dataclass(frozen=True, slots=True)
class Cell:
    """Figures of one policy in one world. `success_ratio`, `of_oracle_ratio` (None: no oracle ran): more is better;
    `attempts`: sends per request; `refused_per_100`: upstream 429 per 100 requests; `wait_*_s`: before the send that
    succeeded; `fail_p99_s`: how long failing took; `jain`: of tenants' served over asked tokens, 1 is even;
    `regret_usd`: dollars above the cheapest choices per 1,000 served."""

    policy: str
    requests: int
    success_ratio: float
    attempts: float
    refused_per_100: float
    wait_p50_s: float
    wait_p99_s: float
    first_p99_s: float
    fail_p99_s: float
    jain: float
    regret_usd: float
    reasons: dict[str, int] = field(default_factory=dict)
    of_oracle_ratio: float | None = None
    violations: int = 0


def figures(run: Run, only: Sequence[int] | None = None) -> Cell:
    """The figures of a run, or of some of its requests."""
    chosen = range(len(run.traffic)) if only is None else only
    count = max(1, len(chosen))
    served = [n for n in chosen if run.served[n]]
    failed = [n for n in chosen if not run.served[n]]
    waits = sorted(run.wait_s[n] for n in served)
    at_s = run.traffic.at_s
    share = len(chosen) / max(1, len(run.traffic))
    return Cell(
        policy=run.policy,
        requests=len(chosen),
        success_ratio=len(served) / count,
        attempts=sum(run.attempts[n] for n in chosen) / count,
        refused_per_100=100.0 * run.statuses[429] * share / count,
        wait_p50_s=percentile(waits, 0.5),
        wait_p99_s=percentile(waits, 0.99),
        first_p99_s=percentile(sorted(run.first_s[n] for n in served), 0.99),
        fail_p99_s=percentile(sorted(run.ended_s[n] - at_s[n] for n in failed), 0.99),
        jain=_fairness(run, chosen),
        regret_usd=1000.0 * run.regret_usd / max(1, len(served)),
        reasons=dict(run.reasons.most_common()),
        violations=len(run.violations),
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of sorted values; NaN without any."""
    if not ordered:
        return math.nan
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def jain(values: Sequence[float]) -> float:
    """Jain's index of fairness: 1 when all are equal, 1/n when one has everything; 1 without values."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares > 0 else 1.0


def _fairness(run: Run, chosen: Sequence[int]) -> float:
    asked: Counter[int] = Counter()
    given: Counter[int] = Counter()
    traffic = run.traffic
    for n in chosen:
        tokens = traffic.inputs[n] + traffic.outputs[n]
        asked[traffic.tenants[n]] += tokens
        if run.served[n]:
            given[traffic.tenants[n]] += tokens
    return jain([given[tenant] / tokens for tenant, tokens in asked.items() if tokens])
