"""Management API: the last minutes in sums: how many requests, how they ended, the newest example of each ending; and
second by second, for charts that do not begin empty."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from apikeyrouter.domain.cost.prices import to_decimal_usd
from apikeyrouter.domain.routing.explain import DecisionRecord
from apikeyrouter_proxy.budget_forms import Dollars
from apikeyrouter_proxy.recent_use import LEFT, RecentUse, newest_records, quantile, uses
from apikeyrouter_proxy.routes.common import Page, RunningProxy, page_of
from apikeyrouter_proxy.routes.late import late_router

__all__ = ["router"]

router = late_router(prefix="/api/v1/recent", tags=["state"])

_EXAMPLES = 8
_LASTS_S = 600
"""A request that ended in these seconds began at most so long before them."""


class OutcomeView(BaseModel):
    """One way in which requests ended. `decision_id`: the newest of them."""

    outcome: str
    failure: bool = Field(description="False: it was served, or its caller went away.")
    requests: int
    last_at: datetime
    decision_id: str
    providers: list[str] = Field(description="Those that the last sends of these requests went to, most first.")
    models: list[str] = Field(description="What was asked for, most first; eight at most.")


class RecentView(BaseModel):
    """What happened. `remembered`: decisions in this process's memory; the sums are of those, at most."""

    since: datetime
    use: RecentUse | None
    outcomes: list[OutcomeView] = Field(description="Most first.")
    remembered: int


class Quantiles(BaseModel):
    """Seconds: the median, and what 95 of 100 did not pass."""

    p50: float
    p95: float


class SecondView(BaseModel):
    """What ended in one second, as a `tick` of the live stream tells it. `at`: when the second was over."""

    at: datetime
    requests: int
    failures: int
    input_tokens: int
    output_tokens: int
    cost_usd: Dollars
    ttft_s: Quantiles | None


@router.get("/seconds", summary="What happened second by second")
async def list_seconds(
    proxy: RunningProxy,
    seconds: Annotated[int, Query(ge=1, le=3600, description="How far back.")] = 180,
) -> Page[SecondView]:
    """The last seconds, oldest first, as far as this process remembers; seconds in which nothing ended are left out."""
    journal = proxy.router.journal
    now_s = journal.utc_s()
    since_s = int(now_s) - seconds
    found: dict[int, list[DecisionRecord]] = {}
    for record in newest_records(journal, since_s - _LASTS_S):
        ended_s = int(record.at_utc_s + record.duration_s)
        if since_s <= ended_s and record.outcome != "pending":
            found.setdefault(ended_s, []).append(record)
    return page_of([_second(ended_s, found[ended_s]) for ended_s in sorted(found)])


def _second(ended_s: int, records: list[DecisionRecord]) -> SecondView:
    sends = [record.attempts[-1].ttft_s for record in records if record.attempts]
    first = sorted(ttft_s for ttft_s in sends if ttft_s is not None)
    return SecondView(
        at=datetime.fromtimestamp(ended_s + 1, UTC),
        requests=len(records),
        failures=sum(record.outcome != "ok" for record in records),
        input_tokens=sum(record.input_tokens or 0 for record in records),
        output_tokens=sum(record.output_tokens or 0 for record in records),
        cost_usd=to_decimal_usd(sum(record.cost_nano_usd or 0 for record in records)),
        ttft_s=Quantiles(p50=quantile(first, 0.5) or 0.0, p95=quantile(first, 0.95) or 0.0) if first else None,
    )


@router.get("", summary="What happened lately")
async def show_recent(
    proxy: RunningProxy,
    minutes: Annotated[float, Query(gt=0, le=60 * 24 * 31, description="How far back.")] = 60.0,
) -> RecentView:
    """Requests of the last minutes, and how they ended."""
    journal = proxy.router.journal
    since_s = journal.utc_s() - minutes * 60.0
    records = list(newest_records(journal, since_s))
    whole = uses(records, lambda _: ("all",)).get("all")
    grouped: dict[str, list[DecisionRecord]] = {}
    for record in records:
        grouped.setdefault(record.outcome, []).append(record)
    outcomes = [_outcome(name, those) for name, those in grouped.items()]
    return RecentView(
        since=datetime.fromtimestamp(since_s, UTC),
        use=whole.told() if whole is not None else None,
        outcomes=sorted(outcomes, key=lambda one: (-one.requests, one.outcome)),
        remembered=len(list(journal.records())),
    )


def _outcome(name: str, records: list[DecisionRecord]) -> OutcomeView:
    newest = max(records, key=lambda record: record.at_utc_s)
    providers = [record.attempts[-1].provider_id for record in records if record.attempts]
    return OutcomeView(
        outcome=name,
        failure=name != "ok" and name not in LEFT,
        requests=len(records),
        last_at=datetime.fromtimestamp(newest.at_utc_s, UTC),
        decision_id=newest.decision_id,
        providers=_most(providers),
        models=_most([record.model for record in records]),
    )


def _most(names: list[str]) -> list[str]:
    counted: dict[str, int] = {}
    for name in names:
        counted[name] = counted.get(name, 0) + 1
    return sorted(counted, key=lambda name: (-counted[name], name))[:_EXAMPLES]
