"""Management API: quota: what every pool has left, and when it runs dry.

Laws: a list is a page, and asking for one costs some tens of milliseconds whatever the number of keys; figures are
those of the process that answers, which routes by them (`worker` says which, where several serve together).
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, Field

from apikeyrouter.domain.models.quota_state import ExhaustionPrediction, PoolState, QuotaState
from apikeyrouter_proxy.routes.common import Page, RunningProxy
from apikeyrouter_proxy.routes.errors import NotFoundError
from apikeyrouter_proxy.routes.late import late_router

__all__ = ["router"]

router = late_router(prefix="/api/v1/quota", tags=["quota"])

_Counted = Literal["minute", "hourly", "daily", "weekly", "monthly"]


class QuotaPage(Page[PoolState]):
    """Quota pools."""

    worker: int | None = Field(description="The process that answers; None when one serves alone.")


class Outlook(BaseModel):
    """When a key's pool runs dry. `prediction`: None while nothing can be foreseen; `outlook` says it in words."""

    key_id: str
    model: str | None
    outlook: str
    prediction: ExhaustionPrediction | None


@router.get("", summary="Quota pools")
async def list_quota(
    proxy: RunningProxy,
    provider_id: str | None = None,
    key_id: Annotated[str | None, Query(description="Only the pool of this key.")] = None,
    model: Annotated[str | None, Query(description="Only limits that count for this model.")] = None,
    order: Annotated[
        Literal["registered", "urgency"],
        Query(description="As keys were registered, or first those that are dry or will be soonest."),
    ] = "registered",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> QuotaPage:
    """What each quota pool has left: one per account, however many keys share it."""
    engine = proxy.router.quota_awareness_engine
    pools, total = await engine.list_pools(
        provider_id, key_id=key_id, model=model, order=order, limit=limit, offset=offset
    )
    if not total and provider_id is not None and provider_id not in proxy.router.providers:
        known = ", ".join(sorted(proxy.router.providers)) or "none"
        raise NotFoundError(f"No provider is called {provider_id!r}. Registered are: {known}.")
    return QuotaPage(data=pools, total=total, worker=proxy.worker or None)


@router.get("/{key_id}", summary="Quota of a key")
async def show_quota(
    proxy: RunningProxy,
    key_id: str,
    time_window: Annotated[_Counted, Query(description="The period of the counts and totals.")] = "minute",
) -> QuotaState:
    """What one key's quota pool has left."""
    return await proxy.router.quota_awareness_engine.get_quota_state(key_id, time_window)


@router.get("/{key_id}/prediction", summary="When a key runs dry")
async def show_prediction(
    proxy: RunningProxy,
    key_id: str,
    model: Annotated[str | None, Query(description="Only by limits that count for this model.")] = None,
) -> Outlook:
    """When the key's pool runs dry, by its tightest limit."""
    prediction = await proxy.router.quota_awareness_engine.predict_exhaustion(key_id, model)
    outlook = "limit unknown, or not in use" if prediction is None else prediction.text
    return Outlook(key_id=key_id, model=model, outlook=outlook, prediction=prediction)
