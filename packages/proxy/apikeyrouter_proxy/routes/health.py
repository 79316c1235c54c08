"""Whether the proxy lives and serves, and its metrics. Probes never call a provider.

`/livez` and `/healthz`: the event loop turns. `/readyz`: a load balancer may send requests: the store answers, a key
may serve, nobody is shutting down. A provider's outage makes nobody unready: elsewhere it is down too, and answers that
say so at once are better than none. `/api/v1/health/providers`: what is known of each. `/metrics`: Prometheus.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Literal

from fastapi import Request, Response
from pydantic import BaseModel, Field

from apikeyrouter import __version__
from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.keys.eligibility import EJECTED, blocked
from apikeyrouter.domain.models.health_state import HealthStatus
from apikeyrouter.domain.resilience.breaker import Phase
from apikeyrouter.domain.routing.provider import Provider
from apikeyrouter.health_watch import HealthWatch
from apikeyrouter_proxy.health_alerts import breaker_gauges
from apikeyrouter_proxy.metrics import CONTENT_TYPE, BudgetGauge, Gauges, KeyGauge
from apikeyrouter_proxy.metrics_model_routing import routing_gauges
from apikeyrouter_proxy.metrics_quota import POOLS_READ, quota_gauges
from apikeyrouter_proxy.names import Names
from apikeyrouter_proxy.routes.common import Page, RunningProxy, page_of
from apikeyrouter_proxy.routes.late import late_router

__all__ = ["router"]

router = late_router(tags=["health"])

_RETRY_AFTER_S = "5"


class Liveness(BaseModel):
    """`status`: "ok". `worker`: the number of the process that answered, when several serve together."""

    status: str = "ok"
    version: str = __version__
    worker: int | None = None


class Readiness(BaseModel):
    """`status`: "ready" or "not_ready"; `reasons`: what is missing, in words."""

    status: str
    reasons: list[str]


class BreakerView(BaseModel):
    """The breaker of one model. `retry_at`: when it lets a request find out, while it is open."""

    model: str
    phase: str = Field(description="closed, open, half_open or ramping.")
    since: datetime | None
    retry_at: datetime | None
    throttled: float = Field(description="Share of requests that are kept back, 0 to 1, since it takes only a part.")


class ProviderHealthView(BaseModel):
    """What is known of a provider. Degraded: it answers, but not every model of it does."""

    id: str
    status: Literal["healthy", "degraded", "down", "unknown"]
    since: datetime | None = Field(description="When it became healthy or down.")
    detail: str
    last_look: datetime | None = Field(description="See the setting APIKEYROUTER_HEALTH_CHECK_S.")
    latency_ms: float | None = Field(description="Of the last look.")
    last_heard: datetime | None = Field(description="The last outcome of a request.")
    keys_usable: int
    breakers: list[BreakerView]


class Pointers(BaseModel):
    """Where things are."""

    name: str = "ApiKeyRouter"
    version: str = __version__
    openai_base_url: str = "/v1"
    management_api: str = "/api/v1"
    dashboard: str = "/dashboard"
    docs: str = "/docs"
    health: str = "/healthz"
    metrics: str = "/metrics"


@router.head("/", include_in_schema=False)
@router.get("/", summary="Where things are", include_in_schema=False)
async def root(request: Request) -> Response:
    """Some clients ask here first whether anybody is at home; browsers want to see something."""
    if "text/html" in request.headers.get("accept", ""):
        return Response(status_code=307, headers={"location": Pointers().dashboard, "vary": "accept"})
    return Response(Pointers().model_dump_json(), media_type="application/json", headers={"vary": "accept"})


@router.get("/healthz", summary="Alive?", response_model_exclude_none=True)
@router.head("/healthz", include_in_schema=False)
@router.api_route("/livez", methods=["GET", "HEAD"], include_in_schema=False, response_model_exclude_none=True)
@router.api_route("/health", methods=["GET", "HEAD"], include_in_schema=False, response_model_exclude_none=True)
@router.api_route(
    "/health/liveliness", methods=["GET", "HEAD"], include_in_schema=False, response_model_exclude_none=True
)
@router.api_route(
    "/health/liveness", methods=["GET", "HEAD"], include_in_schema=False, response_model_exclude_none=True
)
async def alive(proxy: RunningProxy) -> Liveness:
    """The process answers."""
    return Liveness(worker=proxy.worker or None)


@router.get("/readyz", summary="Ready?", responses={503: {"model": Readiness}})
@router.head("/readyz", include_in_schema=False)
@router.api_route("/health/readiness", methods=["GET", "HEAD"], include_in_schema=False)
async def ready(proxy: RunningProxy, response: Response) -> Readiness:
    """Whether requests would be served: 200, or 503 with the reasons."""
    reasons = []
    if proxy.draining:
        reasons.append("it is shutting down")
    store = await proxy.router.state_store.health_check()
    if store.status is HealthStatus.Down:
        reasons.append("the store does not answer")
    if not await _usable(proxy):
        reasons.append("no key may serve now: register one, or see /api/v1/keys for what they wait for")
    if reasons:
        response.status_code = 503
        response.headers["retry-after"] = _RETRY_AFTER_S
    return Readiness(status="not_ready" if reasons else "ready", reasons=reasons)


@router.get("/api/v1/health/providers", summary="Health of providers")
async def provider_health(proxy: RunningProxy) -> Page[ProviderHealthView]:
    """Every registered provider: does it answer, since when, and which of its models do not."""
    return page_of([await _health_of(proxy, provider) for provider in list(proxy.router.providers.values())])


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(proxy: RunningProxy) -> Response:
    """Counters, histograms and gauges in Prometheus' text format."""
    keys = await proxy.router.key_manager.list_keys()
    store = await proxy.router.state_store.health_check()
    pools, pools_total = await proxy.router.quota_awareness_engine.list_pools(order="urgency", limit=POOLS_READ)
    gauges = Gauges(
        keys=[KeyGauge(k.id, k.label, k.provider_id, k.state.value, k.in_flight) for k in keys],
        keys_usable=await _usable(proxy),
        budgets=await _budgets(proxy),
        quota=quota_gauges(pools),
        quota_pools=pools_total,
        holds_open=proxy.router.ledger.open_holds,
        in_flight=proxy.data_plane.in_flight,
        tasks=len(asyncio.all_tasks()),
        connections=_connections(proxy),
        breakers=breaker_gauges(list(proxy.router.providers.values()), proxy.router.now_s()),
        model_routing=routing_gauges(proxy.router.routed),
        store_up=store.status is not HealthStatus.Down,
        decisions_dropped=proxy.router.journal.dropped + int(store.details.get("dropped_decisions", 0)),
    )
    return Response(proxy.metrics.exposition(gauges), media_type=CONTENT_TYPE)


async def _health_of(proxy: RunningProxy, provider: Provider) -> ProviderHealthView:
    now_s, now = proxy.router.now_s(), proxy.router.journal.utc_now()

    def at(time_s: float | None) -> datetime | None:
        return None if not time_s else now + timedelta(seconds=time_s - now_s)

    breakers = [
        BreakerView(
            model=model,
            phase=breaker.phase.value,
            since=at(breaker.since_s),
            retry_at=at(breaker.open_until_s) if breaker.phase is Phase.Open else None,
            throttled=round(breaker.throttle.share, 3),
        )
        for model, breaker in sorted(provider.breakers.items())
    ]
    watch: HealthWatch | None = getattr(proxy.router, "health", None)
    known = watch.state(provider.provider_id) if watch is not None else None
    unwell = sum(breaker.phase is not Phase.Closed for breaker in provider.breakers.values())
    status: Literal["healthy", "degraded", "down", "unknown"] = "unknown"
    if known is not None and known.status is HealthStatus.Down:
        status = "down"
    elif unwell:
        status = "degraded"
    elif known is not None and known.status is HealthStatus.Healthy:
        status = "healthy"
    latency_s = known.look_latency_s if known is not None else None
    return ProviderHealthView(
        id=provider.provider_id,
        status=status,
        since=at(known.since_s) if known is not None else None,
        detail=known.detail if known is not None else "",
        last_look=at(known.looked_s) if known is not None else None,
        latency_ms=None if latency_s is None else round(latency_s * 1e3, 1),
        last_heard=at(known.heard_s) if known is not None else None,
        keys_usable=len(await proxy.router.key_manager.get_eligible_keys(provider.provider_id)),
        breakers=breakers,
    )


async def _usable(proxy: RunningProxy) -> int:
    """Keys that may serve now; those set aside for failing too, since they serve when nobody else can."""
    keys, now_s = proxy.router.key_manager, proxy.router.now_s()
    blocks = [blocked(record, None, now_s) for one in proxy.router.providers for record in keys.records(one)]
    return sum(block is None or block.code == EJECTED for block in blocks)


async def _budgets(proxy: RunningProxy) -> list[BudgetGauge]:
    """None while the store does not answer: the rest of the metrics is worth more then."""
    try:
        budgets = await proxy.router.cost_controller.list_budgets()
    except StateStoreError:
        return []
    names = await Names.of(proxy)
    return [
        BudgetGauge(
            budget.id,
            budget.name,
            budget.scope.value,
            names.of_scope(budget.scope, budget.scope_id) or "",
            budget.enforcement_mode.value,
            float(budget.limit_amount),
            float(budget.current_spend),
            float(budget.held),
        )
        for budget in budgets
    ]


def _connections(proxy: RunningProxy) -> list[tuple[str, str, int]]:
    stats = getattr(proxy.router.transport, "stats", None)
    if stats is None:
        return []
    return [
        (origin, what, getattr(one, what)) for origin, one in stats().items() for what in ("idle", "active", "waiting")
    ]
