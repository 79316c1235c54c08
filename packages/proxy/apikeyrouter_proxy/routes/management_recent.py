"""Management API: the last minutes in sums: how many requests, how they ended, the newest example of each ending."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from apikeyrouter.domain.routing.explain import DecisionRecord
from apikeyrouter_proxy.recent_use import LEFT, RecentUse, newest_records, uses
from apikeyrouter_proxy.routes.common import RunningProxy
from apikeyrouter_proxy.routes.late import late_router

__all__ = ["router"]

router = late_router(prefix="/api/v1/recent", tags=["state"])

_EXAMPLES = 8


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
