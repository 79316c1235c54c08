"""Management API: what happened and how things stand: decisions, dry runs, summary, events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from apikeyrouter.domain.interfaces.state_store import StateQuery
from apikeyrouter.domain.models.routing_decision import Comparison, RoutingDecision, RoutingObjective
from apikeyrouter.domain.routing.shadow import ShadowSummary
from apikeyrouter.inspection import StateSummary
from apikeyrouter.intents import intent_of
from apikeyrouter.request_rows import RequestRow, RowFilter, request_rows
from apikeyrouter_proxy.audit import KINDS, kinds_of
from apikeyrouter_proxy.routes.common import Page, RunningProxy, page_of
from apikeyrouter_proxy.routes.errors import NotFoundError
from apikeyrouter_proxy.routes.late import late_router

__all__ = ["router"]

router = late_router(prefix="/api/v1")

_Limit = Annotated[int, Query(ge=1, le=500)]
_INTENT_FIELDS = frozenset({"model", "messages", "provider_id", "parameters", "timeout_s"})


class DryRun(BaseModel):
    """A chat completion body, with the objective to try and, if wanted, a provider.

    `without`, `keys`: labels or ids of keys to leave out, or to choose among.
    """

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    model: str = Field(min_length=1, max_length=256)
    messages: list[dict[str, Any]] = Field(
        default_factory=lambda: [{"role": "user", "content": "Hello!"}], min_length=1
    )
    provider_id: str | None = None
    objective: RoutingObjective | str | None = None
    without: list[str] = Field(default_factory=list, max_length=1000)
    keys: list[str] = Field(default_factory=list, max_length=1000)


class ExplainedDecision(RoutingDecision):
    """A decision with its explanation in several lines. `compared`: of a trial with wishes, what they change against
    the decision that is made without them."""

    details: str
    compared: Comparison | None = None


class RequestView(RequestRow):
    """A request. `caller_name`: what the virtual key `caller` is called; None where it is none of ours."""

    caller_name: str | None


class RequestList(BaseModel):
    """A page of requests. `next_before`: to ask for the next one with; None when this is the last."""

    object: Literal["list"] = "list"
    data: list[RequestView]
    next_before: float | None


class EventView(BaseModel):
    """A line of the event log. `document`: facts; for writes through this API `actor` and `address` say who."""

    at: datetime
    kind: str
    entity_id: str
    document: dict[str, Any]


class EventList(Page[EventView]):
    """A page of events. `total`: how many are in it. `next_before`: `before` of the next page, None when this is the
    last. `newest`: `after` of a question for what came since."""

    next_before: float | None
    newest: float | None


class State(StateSummary):
    """A summary of the router, and of this proxy. `in_flight`: requests on the token path."""

    in_flight: int
    draining: bool
    simulated: bool = Field(description="Whether the simulated provider answers because no key is configured.")
    open_mode: bool = Field(description="Whether callers from this machine need no key.")
    store: str
    notes: list[str]


@router.get("/decisions", tags=["decisions"], summary="List decisions")
async def list_decisions(proxy: RunningProxy, limit: _Limit = 50, key_id: str | None = None) -> Page[RoutingDecision]:
    """The newest decisions, newest first; with `key_id`, those that tried this key."""
    journal = proxy.router.journal
    found = journal.newest(limit, key_id=key_id)
    if len(found) < limit:
        known = {decision.id for decision in found}
        stored = await proxy.router.state_store.query_decisions(
            StateQuery("RoutingDecision", key_id=key_id, limit=limit)
        )
        for row in stored:
            if row.decision_id not in known and len(found) < limit:
                older = await journal.find(row.decision_id)
                if older is not None:
                    found.append(older)
    return page_of(found)


@router.get("/requests", tags=["decisions"], summary="List requests")
async def list_requests(
    proxy: RunningProxy,
    limit: _Limit = 100,
    before: Annotated[float | None, Query(description="Unix seconds; `next_before` of the page before.")] = None,
    model: Annotated[str, Query(description="A part of the name.")] = "",
    provider_id: str = "",
    key_id: str = "",
    caller: Annotated[str, Query(description="A virtual key's id, or its name where no other has it.")] = "",
    outcome: Annotated[str, Query(description='"ok", "failed" (all but ok), or one code.')] = "",
) -> RequestList:
    """Finished requests as short rows, newest first, as far back as the store remembers. A page that was cut short by a
    rare filter may hold fewer rows than `limit`, or none, and still have a `next_before`."""
    if caller and proxy.virtual_keys.name_of(caller) is None:
        called = [one.id for one in proxy.virtual_keys.list() if one.name == caller]
        caller = called[0] if len(called) == 1 else caller
    wanted = RowFilter(model=model, provider_id=provider_id, key_id=key_id, caller=caller, outcome=outcome)
    page = await request_rows(proxy.router, wanted, before_s=before, limit=limit)
    name_of = proxy.virtual_keys.name_of
    rows = [RequestView.model_construct(**row.__dict__, caller_name=name_of(row.caller)) for row in page.rows]
    return RequestList(data=rows, next_before=page.next_before_s)


@router.get("/decisions/shadow", tags=["decisions"], summary="What the shadow objective would change")
async def show_shadow(proxy: RunningProxy) -> ShadowSummary:
    """Counts and sums since this process started. 404 unless `APIKEYROUTER_SHADOW_OBJECTIVE` is set."""
    shadow = proxy.router.chooser.shadow
    if shadow is None:
        raise NotFoundError(
            "No shadow objective is asked. Set APIKEYROUTER_SHADOW_OBJECTIVE to one (cost, reliability, latency, ...) "
            "and start again; requests go on as they do."
        )
    return shadow.summary()


@router.get("/decisions/{decision_or_request_id}", tags=["decisions"], summary="Explain a decision")
@router.get("/requests/{decision_or_request_id}", tags=["decisions"], summary="Explain a request")
async def show_decision(proxy: RunningProxy, decision_or_request_id: str) -> ExplainedDecision:
    """Why a request went where it went: by the id of the decision (`x-akr-decision`) or of the request
    (`x-request-id`)."""
    decision = await proxy.router.get_decision(decision_or_request_id)
    if decision is None:
        raise NotFoundError(
            f"No decision or request has the id {decision_or_request_id!r}, or it is forgotten by now. "
            "Answers carry both ids: x-akr-decision and x-request-id."
        )
    return _explained(proxy, decision)


@router.post("/route", tags=["decisions"], summary="Try a decision")
async def dry_run(proxy: RunningProxy, body: DryRun) -> ExplainedDecision:
    """Says which key would serve this request now, and why. Nothing is sent, held or counted. With an objective, keys
    left out or keys named it also says what that changes."""
    given = body.model_dump(exclude={"objective", "without", "keys"}, exclude_none=True)
    extra = {name: given.pop(name) for name in list(given) if name not in _INTENT_FIELDS}
    intent = intent_of({**given, "parameters": {**given.get("parameters", {}), **extra}})
    engine = proxy.router.routing_engine
    if body.objective is None and not body.without and not body.keys:
        return _explained(proxy, await engine.route_request(intent))
    decision, compared = await engine.what_if(intent, body.objective, without=body.without, keys=body.keys)
    return _explained(proxy, decision).model_copy(update={"compared": compared})


@router.get("/state", tags=["state"], summary="Summary")
async def show_state(proxy: RunningProxy) -> State:
    """Everything at one glance."""
    summary = await proxy.router.get_state_summary()
    return State(
        **summary.model_dump(),
        in_flight=proxy.data_plane.in_flight,
        draining=proxy.draining,
        simulated=proxy.simulation.base_url is not None,
        open_mode=proxy.access.open_mode,
        store=proxy.router.state_store.description,
        notes=proxy.notes,
    )


@router.get("/events", tags=["state"], summary="Audit trail")
async def list_events(
    proxy: RunningProxy,
    kind: Annotated[str | None, Query(description='One kind, or what several begin with: "admin", "key".')] = None,
    entity_id: Annotated[str | None, Query(description="What it happened to.")] = None,
    before: Annotated[float | None, Query(description="Unix seconds; `next_before` of the page before.")] = None,
    after: Annotated[float | None, Query(description="Unix seconds; only what happened later.")] = None,
    limit: _Limit = 100,
) -> EventList:
    """Who changed what, and what happened to keys and budgets; newest first."""
    kinds = KINDS if kind is None else kinds_of(kind)
    if not kinds:
        raise NotFoundError(f"No event has the kind {kind!r}. Known are: {', '.join(KINDS)}.")
    await proxy.router.state_store.flush()
    page = await proxy.audit.newest(kinds, entity_id, limit, before_s=before, after_s=after)
    rows = [
        EventView(at=datetime.fromtimestamp(e.at_s, UTC), kind=e.kind, entity_id=e.entity_id, document=e.document)
        for e in page.events
    ]
    newest = page.events[0].at_s if page.events else after
    return EventList(data=rows, total=len(rows), next_before=page.next_before_s, newest=newest)


@router.get("/events/kinds", tags=["state"], summary="Kinds of events")
async def list_event_kinds() -> Page[str]:
    """Every kind that `kind` may name."""
    return page_of(list(KINDS))


def _explained(proxy: RunningProxy, decision: RoutingDecision) -> ExplainedDecision:
    details = proxy.router.routing_engine.explain_decision(decision)
    return ExplainedDecision(**decision.model_dump(), details=details)
