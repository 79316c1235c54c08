"""How models and providers did lately, from the decisions that the journal remembers.

Main entry: `uses`, which sums them by what the caller names (model, provider, both).
Laws: it looks at the newest `READ_MAX` decisions at most, so that one question never takes the loop for longer than
some 10 ms, however much the journal keeps; what callers gave up themselves is neither a success nor a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import BaseModel, Field

from apikeyrouter.domain.cost.prices import to_decimal_usd
from apikeyrouter.domain.routing.explain import DecisionRecord
from apikeyrouter.journal import Journal
from apikeyrouter_proxy.budget_forms import Dollars

__all__ = ["LEFT", "READ_MAX", "RecentUse", "Use", "newest_records", "provider_of", "quantile", "uses"]

READ_MAX = 20_000
"""Decisions that one question looks at."""

LEFT = frozenset({"cancelled", "client_closed"})
"""Outcomes of requests whose caller went away, before or while the reply came."""
_Group = TypeVar("_Group", bound=Hashable)


class RecentUse(BaseModel):
    """What became of requests lately. Times to the first byte are of those that were served."""

    requests: int
    failures: int = Field(description="Not served; callers that went away are not counted.")
    success: float | None = Field(description="Share of requests that were served, 0 to 1, callers that left aside.")
    ttft_p50_s: float | None = Field(description="Seconds to the first byte: the median.")
    ttft_p95_s: float | None = Field(description="Seconds to the first byte: 95 of 100 were no slower.")
    input_tokens: int
    output_tokens: int
    cost: Dollars = Field(description="US dollars charged.")
    last_at: datetime


@dataclass(slots=True)
class Use:
    """Sums over decisions. `cost_nano_usd` includes what was presumed. `last_s`: Unix seconds."""

    requests: int = 0
    served: int = 0
    left: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano_usd: int = 0
    last_s: float = 0.0
    ttft_s: list[float] = field(default_factory=list)

    def add(self, record: DecisionRecord) -> None:
        """Counts one decision."""
        self.requests += 1
        self.served += record.outcome == "ok"
        self.left += record.outcome in LEFT
        self.input_tokens += record.input_tokens or 0
        self.output_tokens += record.output_tokens or 0
        self.cost_nano_usd += (record.cost_nano_usd or 0) + record.presumed_nano_usd
        self.last_s = max(self.last_s, record.at_utc_s)
        if record.outcome == "ok" and record.attempts and (first := record.attempts[-1].ttft_s) is not None:
            self.ttft_s.append(first)

    def told(self) -> RecentUse:
        """As people read it."""
        judged = self.requests - self.left
        ordered = sorted(self.ttft_s)
        return RecentUse(
            requests=self.requests,
            failures=judged - self.served,
            success=self.served / judged if judged else None,
            ttft_p50_s=quantile(ordered, 0.5),
            ttft_p95_s=quantile(ordered, 0.95),
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cost=to_decimal_usd(self.cost_nano_usd),
            last_at=datetime.fromtimestamp(self.last_s, UTC),
        )


def provider_of(record: DecisionRecord) -> str:
    """The provider of the last send; "" where nothing was sent."""
    return record.attempts[-1].provider_id if record.attempts else ""


def newest_records(journal: Journal, since_s: float) -> Iterable[DecisionRecord]:
    """The newest decisions that memory holds, `READ_MAX` at most and none from before `since_s` (Unix seconds)."""
    kept = list(journal.records())
    return [record for record in kept[-READ_MAX:] if record.at_utc_s >= since_s]


def uses(records: Iterable[DecisionRecord], group: Callable[[DecisionRecord], Iterable[_Group]]) -> dict[_Group, Use]:
    """Sums by group; a decision counts in each of the groups that `group` names."""
    found: dict[_Group, Use] = {}
    for record in records:
        for name in group(record):
            use = found.get(name)
            if use is None:
                use = found[name] = Use()
            use.add(record)
    return found


def quantile(ordered: list[float], share: float) -> float | None:
    """The value that this share of an ordered list does not pass; None of nothing."""
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 6)
