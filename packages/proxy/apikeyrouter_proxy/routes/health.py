"""Whether the proxy lives and serves, and its metrics. Probes never call a provider.

`/livez` and `/healthz`: the event loop turns. `/readyz`: a load balancer may send requests: the store answers, a key
may serve, nobody is shutting down. `/metrics`: Prometheus.
"""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response
from pydantic import BaseModel

from apikeyrouter import __version__
from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.models.health_state import HealthStatus
from apikeyrouter_proxy.metrics import CONTENT_TYPE, BudgetGauge, Gauges, KeyGauge
from apikeyrouter_proxy.names import Names
from apikeyrouter_proxy.routes.common import RunningProxy

__all__ = ["router"]

router = APIRouter(tags=["health"])

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


class Pointers(BaseModel):
    """Where things are."""

    name: str = "ApiKeyRouter"
    version: str = __version__
    openai_base_url: str = "/v1"
    management_api: str = "/api/v1"
    docs: str = "/docs"
    health: str = "/healthz"
    metrics: str = "/metrics"


@router.head("/", include_in_schema=False)
@router.get("/", summary="Where things are", include_in_schema=False)
async def root() -> Pointers:
    """Some clients ask here first whether anybody is at home."""
    return Pointers()


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


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(proxy: RunningProxy) -> Response:
    """Counters, histograms and gauges in Prometheus' text format."""
    keys = await proxy.router.key_manager.list_keys()
    store = await proxy.router.state_store.health_check()
    gauges = Gauges(
        keys=[KeyGauge(k.id, k.label, k.provider_id, k.state.value, k.in_flight) for k in keys],
        keys_usable=await _usable(proxy),
        budgets=await _budgets(proxy),
        holds_open=proxy.router.ledger.open_holds,
        in_flight=proxy.data_plane.in_flight,
        tasks=len(asyncio.all_tasks()),
        connections=_connections(proxy),
        store_up=store.status is not HealthStatus.Down,
        decisions_dropped=proxy.router.journal.dropped + int(store.details.get("dropped_decisions", 0)),
    )
    return Response(proxy.metrics.exposition(gauges), media_type=CONTENT_TYPE)


async def _usable(proxy: RunningProxy) -> int:
    """Keys that may serve now."""
    keys = proxy.router.key_manager
    return sum([len(await keys.get_eligible_keys(provider_id)) for provider_id in proxy.router.providers])


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
