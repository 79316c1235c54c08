"""Management API: budgets. Amounts are US dollars, as digits in text in answers, so that none is lost."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from apikeyrouter.domain.cost.prices import to_decimal_usd, to_nano_usd
from apikeyrouter.domain.interfaces.shared_ledger import LedgerEntry, UsageQuery
from apikeyrouter.domain.ledger.lease_rules import ALERT_PERCENTS
from apikeyrouter.domain.models.budget import Budget, BudgetCheck, BudgetScope, EnforcementMode, TimeWindow
from apikeyrouter.intents import intent_of
from apikeyrouter_proxy.budget_course import counted, course, period_start, project
from apikeyrouter_proxy.budget_forms import Dollars, Limit, Period, Zone, money
from apikeyrouter_proxy.names import Names, scope_id_of
from apikeyrouter_proxy.routes.common import Body, Page, RunningProxy, page_of
from apikeyrouter_proxy.routes.defined import Defined, Definitions
from apikeyrouter_proxy.routes.late import late_router
from apikeyrouter_proxy.spending import tagged_rows

__all__ = ["BudgetView", "router"]

router = late_router(prefix="/api/v1/budgets", tags=["budgets"])

_INTENT_FIELDS = frozenset({"model", "messages", "provider_id", "parameters", "timeout_s"})
_LIMIT = "US dollars per period, above zero: 10, 10.50 or $10; counted in billionths of a dollar."

_COURSE_ENTRIES = 5_000
_ENTRIES_MAX = 10_000
_SCOPED_BY = {
    BudgetScope.PerProvider: "provider_id",
    BudgetScope.PerKey: "key_id",
    BudgetScope.PerRoute: "model",
    BudgetScope.PerVirtualKey: "virtual_key_id",
    BudgetScope.PerTeam: "team",
}
"""Scopes and the field of the hourly sums that says the same."""


class ProjectionView(BaseModel):
    """Where spend ends up if it goes on at its mean rate so far: a straight line, which knows no nights or weekends.
    Amounts are US dollars."""

    at: datetime | None = Field(
        description="The end of the period; of a rolling budget that is younger than its period, when it is as old. "
        "None: it has no end, or the spend of an older rolling budget stays what it is."
    )
    spend_at_end: Dollars | None = Field(description="Spent by then; None for a total.")
    runs_out_at: datetime | None = Field(
        description="When the limit is reached; None: not before `at`, not in ten years, or it is reached already."
    )
    based_on_s: float = Field(description="Seconds of spending that this is taken from; more is surer.")


class BudgetView(Budget):
    """A budget and where it stands in its running period, over all processes on the store. Amounts are US dollars."""

    limit_amount: Dollars = Field(description="The most that may be spent in a period.")
    current_spend: Dollars = Field(description="Charged in the running period.")
    held: Dollars = Field(description="Set aside for requests under way, and by other processes for theirs.")
    overrun: Dollars = Field(description="Part of current_spend that went above what was set aside for it.")
    presumed: Dollars = Field(description="Part of current_spend that nobody could tell whether it was billed.")
    remaining: Dollars = Field(description="limit_amount - current_spend - held, not below zero.")
    used_ratio: float = Field(description="current_spend / limit_amount; above 1 after an overrun.")
    scope_name: str | None = Field(description="What it covers as people call it: a key's label, a virtual key's name.")
    defined: Defined
    period_start: datetime = Field(description="From when on spend counts now; a total's creation.")
    projection: ProjectionView
    thresholds: list[int] = Field(description="Percentages of the limit at which it is told, once each per period.")
    passed: list[int] = Field(description="Those that were passed in the running period.")


class CoursePoint(BaseModel):
    """A moment of a period."""

    at: datetime
    spent: Dollars = Field(description="US dollars spent in the period by then.")


class BudgetCourse(BaseModel):
    """How a budget's spend came about in its running period: from nothing to what is spent now."""

    budget: BudgetView
    points: list[CoursePoint] = Field(description="In the order of time, at most 200.")
    exact_since: datetime | None = Field(
        description="Before this, points follow the hourly sums of the spend report; None: all are the ledger's own."
    )


class NewBudget(Body):
    """A budget to create."""

    scope: BudgetScope = Field(BudgetScope.Global, description="What it covers.")
    scope_id: str | None = Field(
        None,
        max_length=256,
        description="A provider's id, a key's id or label, a model, a virtual key's id or name, a team, or a tag as "
        "name=value; absent for a global budget.",
    )
    limit: Limit = Field(description=_LIMIT)
    period: Period = Field(TimeWindow.Daily, description="hourly, daily, weekly, monthly, or total: for good.")
    enforcement_mode: EnforcementMode = Field(
        EnforcementMode.Hard, description="hard: what might not fit is refused (402). soft: it is told, not refused."
    )
    rolling: bool = Field(False, description="The last hour, day, 7 or 30 days instead of the calendar's.")
    time_zone: Zone = Field("UTC", max_length=64, description="IANA name of the zone whose calendar counts.")
    name: str = Field("", max_length=128, description="For people.")


class BudgetChange(Body):
    """What to change; absent fields stay. Scope, period and time zone cannot be changed: make another budget."""

    limit: Limit | None = Field(None, description=_LIMIT)
    enforcement_mode: EnforcementMode | None = None
    name: str | None = Field(None, max_length=128)


class EntryView(BaseModel):
    """A line of the ledger: what it added to what a period has spent."""

    at: datetime
    window: datetime | None = Field(description="Start of the period that was charged; None for a total.")
    kind: str = Field(
        description="spent; presumed (charged for a process that died); refunded; opening (older lines, folded)."
    )
    amount: Dollars = Field(description="US dollars; below zero for a refund.")
    worker_id: str = Field(description="The process that it comes from.")


class CheckBody(BaseModel):
    """A chat completion body; `provider_id`, `key_id` and `tags` say how it would be sent, and by whom."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    model: str = Field(min_length=1, max_length=256)
    messages: list[dict[str, Any]] = Field(min_length=1)
    provider_id: str | None = Field(None, description="Absent: follows from the model.")
    key_id: str | None = Field(None, description="A key's id or label; absent: the cheapest that could serve.")
    tags: dict[str, str] = Field(
        default_factory=dict, description='Tags; "virtual_key" (id or name) and "team" say who asks.'
    )


class CheckView(BudgetCheck):
    """Whether a request would fit now. Amounts are US dollars; estimate.amount is what would be set aside for it."""

    budgets: list[BudgetView]  # type: ignore[assignment]  # the same budgets, with more about each
    remaining_budget: Dollars | None = Field(None, description="What the tightest budget has left.")


@router.get("", summary="List budgets")
async def list_budgets(
    proxy: RunningProxy, scope: BudgetScope | None = None, scope_id: str | None = None
) -> Page[BudgetView]:
    """Every budget as it stands now, oldest first."""
    if scope is not None and scope_id is not None:
        scope_id = await scope_id_of(proxy, scope, scope_id)
    budgets = await proxy.router.cost_controller.list_budgets(scope, scope_id)
    names, now, known = await Names.of(proxy), proxy.clock.utc_now(), Definitions(proxy)
    return page_of([_view(budget, names, now, known) for budget in budgets])


@router.post("", status_code=201, summary="Create a budget")
async def create_budget(proxy: RunningProxy, request: Request, body: NewBudget) -> BudgetView:
    """Creates a budget; it holds for every request from now on, in every process on the store."""
    budget = await proxy.router.cost_controller.create_budget(
        scope=body.scope,
        limit=money(body.limit),
        period=body.period,
        scope_id=await scope_id_of(proxy, body.scope, body.scope_id),
        enforcement_mode=body.enforcement_mode,
        rolling=body.rolling,
        time_zone=body.time_zone,
        name=body.name.strip(),
    )
    facts = {"scope": budget.scope.value, "scope_id": budget.scope_id, "limit": str(budget.limit_amount)}
    proxy.audit.write(request, "budget.created", budget.id, **facts)
    return await _viewed(proxy, budget)


@router.post("/check", summary="Try a request against the budgets")
async def check_budget(proxy: RunningProxy, body: CheckBody) -> CheckView:
    """Says whether this request would fit now, which budgets cover it, and the largest output that would fit. Nothing
    is sent, held or counted."""
    given = body.model_dump(exclude={"key_id", "tags"}, exclude_none=True)
    extra = {name: given.pop(name) for name in list(given) if name not in _INTENT_FIELDS}
    extra.pop("stream", None)
    extra.pop("stream_options", None)
    intent = intent_of({**given, "parameters": {**given.get("parameters", {}), **extra}})
    names = await Names.of(proxy)
    tags = dict(body.tags)
    if tags.get("virtual_key"):
        tags["virtual_key"] = names.virtual_key(tags["virtual_key"])
    key_id = names.key(body.key_id) if body.key_id else None
    check = await proxy.router.cost_controller.check_budget(intent, body.provider_id, key_id, tags=tags)
    now, known = proxy.clock.utc_now(), Definitions(proxy)
    budgets = [_view(one, names, now, known) for one in check.budgets]
    shown = {**check.model_dump(exclude={"budgets"}), "budgets": budgets}
    return CheckView(**shown)


@router.get("/{budget_id}", summary="Show a budget")
async def show_budget(proxy: RunningProxy, budget_id: str) -> BudgetView:
    """One budget as it stands now."""
    return await _viewed(proxy, await proxy.router.cost_controller.get_budget(budget_id))


@router.get("/{budget_id}/entries", summary="Show a budget's ledger")
async def list_entries(
    proxy: RunningProxy,
    budget_id: str,
    limit: Annotated[int, Query(ge=1, le=_ENTRIES_MAX)] = 1000,
    offset: Annotated[int, Query(ge=0, le=_ENTRIES_MAX)] = 0,
) -> Page[EntryView]:
    """What was charged to a budget, newest first; the newest 10,000 lines. Per period, the amounts add up to what it
    has spent. `total` counts the lines that there are up to the next page: while it is above `offset` and the number of
    rows, there are more."""
    found = await proxy.router.cost_controller.query_entries(budget_id, min(offset + limit + 1, _ENTRIES_MAX))
    if not found:
        await proxy.router.cost_controller.get_budget(budget_id)
    return Page(data=[_entry(entry) for entry in found[offset : offset + limit]], total=len(found))


@router.get("/{budget_id}/course", summary="Show how a budget was spent")
async def show_course(proxy: RunningProxy, budget_id: str) -> BudgetCourse:
    """The running period from its start until now. The ledger says it charge by charge; what is further back than its
    newest 5,000 lines follows the hourly sums of the spend report."""
    budget = await proxy.router.cost_controller.get_budget(budget_id)
    found = await proxy.router.cost_controller.query_entries(budget_id, _COURSE_ENTRIES)
    now = proxy.clock.utc_now()
    start = max(period_start(budget, now), budget.created_at)
    told = [entry for entry in found if entry.kind != "opening"]
    charges = counted(budget, told, now)
    folded = len(told) < len(found) or len(found) == _COURSE_ENTRIES
    exact_s = told[-1].at_s if told else now.timestamp()
    earlier = await _earlier(proxy, budget, start, exact_s) if folded and exact_s > start.timestamp() else []
    points = course(
        charges,
        earlier,
        to_nano_usd(budget.current_spend, up=False),
        since_s=start.timestamp(),
        now_s=now.timestamp(),
    )
    return BudgetCourse(
        budget=_view(budget, await Names.of(proxy), now, Definitions(proxy)),
        points=[CoursePoint(at=_moment(at_s), spent=to_decimal_usd(nano)) for at_s, nano in points],
        exact_since=_moment(exact_s) if earlier else None,
    )


@router.patch("/{budget_id}", summary="Change a budget")
async def change_budget(proxy: RunningProxy, request: Request, budget_id: str, body: BudgetChange) -> BudgetView:
    """Changes limit, enforcement or name; what was spent stays spent."""
    before = await proxy.router.cost_controller.get_budget(budget_id)
    budget = await proxy.router.cost_controller.update_budget(
        budget_id,
        limit=None if body.limit is None else money(body.limit),
        enforcement_mode=body.enforcement_mode,
        name=None if body.name is None else body.name.strip(),
    )
    proxy.audit.write(
        request, "budget.changed", budget_id, limit_before=str(before.limit_amount), limit=str(budget.limit_amount)
    )
    return await _viewed(proxy, budget)


@router.delete("/{budget_id}", status_code=204, summary="Delete a budget")
async def delete_budget(proxy: RunningProxy, request: Request, budget_id: str) -> Response:
    """Removes a budget; nothing limits what it limited."""
    await proxy.router.cost_controller.delete_budget(budget_id)
    proxy.audit.write(request, "budget.deleted", budget_id)
    return Response(status_code=204)


async def _earlier(proxy: RunningProxy, budget: Budget, start: datetime, until_s: float) -> list[tuple[float, int]]:
    """Spend by hour of what the budget covers, between its period's start and a time: (Unix seconds, nano-dollars)."""
    by_tag = budget.scope is BudgetScope.PerTag
    fields = {_SCOPED_BY[budget.scope]: budget.scope_id} if budget.scope in _SCOPED_BY else {}
    by = ("hour_s", "tags") if by_tag else ("hour_s",)
    query = UsageQuery(since_s=start.timestamp() // 3600 * 3600, until_s=until_s, by=by, **fields)
    rows = await proxy.router.cost_controller.query_spend(query)
    wanted = tagged_rows(rows, budget.scope_id or "") if by_tag else rows
    return sorted((min(row.hour_s + 3600.0, until_s), row.cost_nano_usd) for row in wanted)


async def _viewed(proxy: RunningProxy, budget: Budget) -> BudgetView:
    return _view(budget, await Names.of(proxy), proxy.clock.utc_now(), Definitions(proxy))


def _view(budget: Budget, names: Names, now: datetime, known: Definitions) -> BudgetView:
    return BudgetView(
        **budget.model_dump(),
        remaining=budget.remaining_budget,
        used_ratio=round(budget.utilization_ratio, 6),
        scope_name=names.of_scope(budget.scope, budget.scope_id),
        defined=known.budget(budget.id),
        period_start=period_start(budget, now),
        projection=ProjectionView.model_validate(project(budget, now), from_attributes=True),
        thresholds=list(ALERT_PERCENTS),
        passed=list(ALERT_PERCENTS[: budget.warning_count]),
    )


def _entry(entry: LedgerEntry) -> EntryView:
    return EntryView(
        at=_moment(entry.at_s),
        window=_moment(entry.window) if entry.window else None,
        kind=entry.kind,
        amount=to_decimal_usd(entry.amount),
        worker_id=entry.worker_id,
    )


def _moment(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)
