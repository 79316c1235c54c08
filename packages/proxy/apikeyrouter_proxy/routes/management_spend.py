"""Management API: what was spent on what, and how estimates compare with it. Amounts are US dollars, digits in text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo

from fastapi import Query, Response
from pydantic import BaseModel, Field, StringConstraints

from apikeyrouter.domain.errors import ErrorCategory, SystemError
from apikeyrouter.domain.interfaces.shared_ledger import UsageQuery
from apikeyrouter.domain.models.cost_estimate import CostReconciliation
from apikeyrouter_proxy.budget_forms import Dollars, tag, time_zone
from apikeyrouter_proxy.names import Names, UnknownNameError
from apikeyrouter_proxy.routes.common import Body, Page, RunningProxy, page_of
from apikeyrouter_proxy.routes.late import late_router
from apikeyrouter_proxy.spending import GROUPS, Sums, group_of, interval, report_rows, to_csv

__all__ = ["router"]

router = late_router(prefix="/api/v1")

_GROUPS_MAX = 4
_ID_PREFIXES = ("key_", "vk_")
_Value = TypeVar("_Value")
_Name = Annotated[str | None, StringConstraints(max_length=256)]


class Format(StrEnum):
    """How a report is written."""

    Json = "json"
    Csv = "csv"


class Question(Body):
    """What a report is about. The filters take names as well as ids."""

    by: list[str] = Field(["model"], max_length=_GROUPS_MAX, description=f"{', '.join(GROUPS)}; may be repeated.")
    since: str = Field("30d", max_length=64, description="7d, 12h, today, yesterday, week, month, a date or a time.")
    until: str = Field("now", max_length=64, description="Likewise, or now; not included.")
    time_zone: str = Field("UTC", max_length=64, description="IANA name; whose days.")
    provider: _Name = Field(None, description="Only this provider.")
    key: _Name = Field(None, description="Only this key: id or label.")
    model: _Name = Field(None, description="Only this model.")
    virtual_key: _Name = Field(None, description="Only this virtual key: id or name.")
    team: _Name = Field(None, description="Only this team.")
    tag: _Name = Field(None, description="Only this tag, as name=value.")
    limit: int = Field(1000, ge=1, le=10_000, description="How many rows at most; CSV has them all.")
    format: Format = Format.Json


class SpendSums(BaseModel):
    """What was used. `requests`: that ended there. `failures`: sends that failed, those that another key took over
    included. `input_tokens` include `cached_input_tokens`."""

    requests: int
    failures: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cost: Dollars = Field(description="US dollars charged.")
    presumed: Dollars = Field(description="Part of cost: charged although nobody could tell whether it was billed.")


class SpendRow(SpendSums):
    """One group. Of the first fields, those that were asked for with `by` are there."""

    provider: str | None = None
    key: str | None = Field(None, description="A key's id.")
    key_label: str | None = None
    model: str | None = None
    virtual_key: str | None = Field(None, description="A virtual key's id.")
    virtual_key_name: str | None = None
    team: str | None = None
    tag: str | None = Field(None, description="name=value; a request with several tags is in the row of each.")
    hour: str | None = Field(None, description="When the hour begins.")
    day: str | None = Field(None, description="The date, in the report's time zone.")


class SpendReport(BaseModel):
    """Rows, dearest first, or in the order of time where hours or days were asked for."""

    object: str = "list"
    since: datetime
    until: datetime = Field(description="Not included.")
    time_zone: str
    by: list[str]
    data: list[SpendRow]
    total: int = Field(description="How many rows there are, of which `data` may be the first.")
    sum: SpendSums = Field(description="Everything in the interval, each request once.")


@router.get(
    "/spend",
    tags=["spend"],
    summary="What was spent",
    response_model=SpendReport,
    response_model_exclude_none=True,
    responses={200: {"content": {"text/csv": {}}}},
)
async def show_spend(proxy: RunningProxy, asked: Annotated[Question, Query()]) -> SpendReport | Response:
    """What requests cost, summed from hourly roll-ups; whole hours only. CSV holds every row and no sum."""
    groups = _read(lambda: list(dict.fromkeys(group_of(part) for one in asked.by for part in one.split(","))))
    zone = _read(lambda: time_zone(asked.time_zone))
    hours = _read(lambda: interval(asked.since, asked.until, proxy.clock.utc_now(), ZoneInfo(zone)))
    tagged = _read(lambda: tag(asked.tag or "")) if asked.tag else None
    names = await Names.of(proxy)
    fields = {GROUPS[group] for group in groups} | ({"tags"} if tagged else set())
    query = UsageQuery(
        since_s=hours.since.timestamp(),
        until_s=hours.until.timestamp(),
        by=tuple(sorted(fields)),
        provider_id=asked.provider,
        key_id=_known(names.key, asked.key),
        model=asked.model,
        virtual_key_id=_known(names.virtual_key, asked.virtual_key),
        team=asked.team,
    )
    proxy.router.journal.flush()  # what this process used a moment ago is in the report too
    used = await proxy.router.cost_controller.query_spend(query)
    rows, total = report_rows(used, groups, ZoneInfo(zone), tagged)
    if asked.format is Format.Csv:
        return _csv(groups, rows, names)
    return SpendReport(
        since=hours.since,
        until=hours.until,
        time_zone=zone,
        by=groups,
        data=[_row(groups, values, sums, names) for values, sums in rows[: asked.limit]],
        total=len(rows),
        sum=SpendSums.model_validate(total, from_attributes=True),
    )


@router.get("/costs/reconciliation", tags=["spend"], summary="Estimates against costs")
async def show_reconciliation(proxy: RunningProxy) -> Page[CostReconciliation]:
    """How well costs were estimated, for each provider and model, since this process started. `estimated` and `actual`
    are US dollars in all; errors are shares of the actual cost."""
    return page_of(proxy.router.cost_controller.reconciliation())


def _row(groups: Sequence[str], values: Sequence[str], sums: Sums, names: Names) -> SpendRow:
    facts: dict[str, Any] = {name.replace("-", "_"): value for name, value in zip(groups, values, strict=True)}
    if "key" in facts:
        facts["key_label"] = names.keys.get(facts["key"])
    if "virtual_key" in facts:
        facts["virtual_key_name"] = names.virtual_keys.get(facts["virtual_key"])
    return SpendRow(**SpendSums.model_validate(sums, from_attributes=True).model_dump(), **facts)


def _csv(groups: Sequence[str], rows: Sequence[tuple[tuple[str, ...], Sums]], names: Names) -> Response:
    """Keys and virtual keys with a column for their names."""
    called = {"key": ("key_label", names.keys), "virtual-key": ("virtual_key_name", names.virtual_keys)}
    columns: list[str] = []
    for group in groups:
        columns += [group.replace("-", "_"), *([called[group][0]] if group in called else [])]
    named = []
    for values, sums in rows:
        cells: list[str] = []
        for group, value in zip(groups, values, strict=True):
            cells += [value, *([called[group][1].get(value, "")] if group in called else [])]
        named.append((cells, sums))
    return Response(
        to_csv(columns, named),
        media_type="text/csv; charset=utf-8",
        headers={"content-disposition": 'attachment; filename="spend.csv"'},
    )


def _known(find: Callable[[str], str], name: str | None) -> str | None:
    """The id behind a name; what is not known now may be an id of the past."""
    if name is None:
        return None
    try:
        return find(name)
    except UnknownNameError:
        if name.startswith(_ID_PREFIXES):
            return name
        raise


def _read(read: Callable[[], _Value]) -> _Value:
    """What a parameter says. Raises SystemError 400 for one that says nothing usable."""
    try:
        return read()
    except ValueError as fault:
        raise SystemError(ErrorCategory.ValidationError, f"The request is not usable: {fault}.", status=400) from None
