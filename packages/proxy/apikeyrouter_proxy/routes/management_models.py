"""Management API: models. Who serves each, what it costs there, what it can do, until when, and how it did lately.

Main entries: `GET /api/v1/models` (a page; models in use first) and `GET /api/v1/models/{model}`.
Laws: names come from the cached list, from requests that the journal remembers and from prices that were set, so that
asking never waits for a provider; facts and prices are only looked up for the rows of the page, and other requests run
between two rows: a provider with thousands of models costs nobody a pause.
"""

from __future__ import annotations

import asyncio
from datetime import date
from functools import lru_cache
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from apikeyrouter.domain.cost.prices import to_decimal_usd
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.domain.resilience.breaker import Phase
from apikeyrouter.infrastructure.catalogue.models import ModelCatalogue, ModelFacts
from apikeyrouter.infrastructure.catalogue.names import makers_of
from apikeyrouter.infrastructure.pricing.catalogue import GenaiPriceSource
from apikeyrouter_proxy.bootstrap import Proxy
from apikeyrouter_proxy.budget_forms import Dollars
from apikeyrouter_proxy.recent_use import RecentUse, Use, newest_records, provider_of, uses
from apikeyrouter_proxy.routes.common import Page, RunningProxy
from apikeyrouter_proxy.routes.errors import NotFoundError
from apikeyrouter_proxy.routes.late import late_router

__all__ = ["ModelView", "router"]

router = late_router(prefix="/api/v1/models", tags=["models"])

_HOUR_S = 3600.0
_FACTS_MAX = 16_384
_Hours = Annotated[float, Query(gt=0, le=24 * 31, description="How far back `recent` looks, in hours.")]


class SellerView(BaseModel):
    """A provider that serves the model. Prices are US dollars per million tokens; None: not known, or not sold by
    tokens."""

    provider_id: str
    model: str = Field(description="What the provider calls it.")
    input: Dollars | None
    output: Dollars | None
    own_price: bool = Field(description="The price was set by the operator, not taken from a list.")
    price_source: str
    context_tokens: int | None = Field(description="The context window that the price list tells of.")
    breaker: str = Field(description="closed, open, half_open or ramping.")
    recent: RecentUse | None = Field(description="None without a request.")


class ModelView(BaseModel):
    """A model. Abilities, limits and dates are None where they are not known."""

    id: str = Field(description="What requests call it.")
    maker: str | None
    deployment: bool = Field(description="The name stands for models at several providers.")
    listed: bool = Field(description="A registered provider lists it, or it is a deployment.")
    providers: list[SellerView]
    context_tokens: int | None
    output_tokens_max: int | None
    tools: bool | None
    vision: bool | None
    json_schema: bool | None
    reasoning: bool | None
    ends: date | None = Field(description="The day on which its maker stops serving it, or stopped.")
    successor: str | None = Field(description="What to ask for instead.")
    source: str = Field(description="Where abilities and limits are from.")
    recent: RecentUse | None = Field(description="Of all providers together; None without a request.")


class _Known:
    """Names and what is known of each before anything is looked up."""

    def __init__(
        self,
        listed: frozenset[str],
        sellers: dict[str, list[str]],
        used: dict[str, Use],
        at: dict[tuple[str, str], Use],
    ) -> None:
        self.listed = listed
        self.sellers = sellers
        self.used = used
        self.at = at


@router.get("", summary="List models")
async def list_models(
    proxy: RunningProxy,
    contains: Annotated[str, Query(max_length=256, description="A part of the name, in any case.")] = "",
    provider_id: Annotated[str | None, Query(description="Only models that this provider serves.")] = None,
    used: Annotated[bool, Query(description="Only models with a request lately.")] = False,
    hours: _Hours = 24.0,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Page[ModelView]:
    """Every model that a provider lists, that was asked for lately or that has a price of its own: those with the most
    requests first, then by name."""
    known = await _known(proxy, hours)
    part = contains.lower()
    names = [
        name
        for name in (known.used if used else known.sellers.keys() | known.used.keys())
        if part in name.lower() and (provider_id is None or provider_id in known.sellers.get(name, ()))
    ]
    names.sort(key=lambda name: (-known.used[name].requests if name in known.used else 0, name))
    shown = []
    for name in names[offset : offset + limit]:
        shown.append(_view(proxy, known, name))
        await asyncio.sleep(0)
    return Page(data=shown, total=len(names))


@router.get("/{model:path}", summary="Show a model")
async def show_model(proxy: RunningProxy, model: str, hours: _Hours = 24.0) -> ModelView:
    """One model, by the name that requests use; without a provider's prefix."""
    known = await _known(proxy, hours)
    if model not in known.sellers and model not in known.used:
        raise NotFoundError(
            f"No provider lists the model {model!r}, and nobody asked for it lately. GET /api/v1/models?contains=... "
            "finds names."
        )
    return _view(proxy, known, model)


async def _known(proxy: Proxy, hours: float) -> _Known:
    listed = await proxy.models.all()
    sellers: dict[str, list[str]] = {row["id"]: list(row.get("providers") or ()) for row in listed}
    for deployment in proxy.router.deployments.all():
        if deployment.targets:
            sellers[deployment.name] = list(dict.fromkeys(target.provider_id for target in deployment.targets))
    for _, override in proxy.router.prices.book.overrides():
        if "*" not in override.model and "?" not in override.model and override.provider_id in proxy.router.providers:
            there = sellers.setdefault(override.model, [])
            if override.provider_id not in there:
                there.append(override.provider_id)
    records = list(newest_records(proxy.router.journal, proxy.router.journal.utc_s() - hours * _HOUR_S))
    used = uses(records, lambda record: (record.model,))
    at = uses(records, lambda record: ((record.model, provider_of(record)),))
    for model, provider_id in at:
        there = sellers.setdefault(model, [])
        if provider_id and provider_id not in there:
            there.append(provider_id)
    return _Known(frozenset(row["id"] for row in listed), sellers, used, at)


def _view(proxy: Proxy, known: _Known, name: str) -> ModelView:
    facts = _facts(_catalogue(_list_of(proxy)), name)
    deployment = proxy.router.deployments.get(name)
    grouped = deployment is not None and bool(deployment.targets)
    called = {target.provider_id: target.model for target in deployment.targets} if deployment is not None else {}
    providers = [
        _seller(proxy, known, provider_id, name, called.get(provider_id))
        for provider_id in known.sellers.get(name, ())
        if provider_id in proxy.router.providers
    ]
    recent = known.used.get(name)
    context_tokens = facts.context_tokens if facts else None
    return ModelView(
        id=name,
        maker=facts.maker if facts else makers_of(name),
        deployment=grouped,
        listed=name in known.listed,
        providers=providers,
        context_tokens=context_tokens or max((one.context_tokens or 0 for one in providers), default=0) or None,
        output_tokens_max=facts.output_tokens_max if facts else None,
        tools=facts.tools if facts else None,
        vision=facts.vision if facts else None,
        json_schema=facts.json_schema if facts else None,
        reasoning=facts.reasoning if facts else None,
        ends=facts.ends if facts else None,
        successor=facts.successor if facts else None,
        source=facts.source if facts else "",
        recent=recent.told() if recent is not None else None,
    )


def _seller(proxy: Proxy, known: _Known, provider_id: str, name: str, target: str | None) -> SellerView:
    model = target or _catalogue(_list_of(proxy)).name_at(provider_id, name)
    price = proxy.router.prices.price(provider_id, model)
    now = proxy.clock.utc_now()
    own = any(one.covers(provider_id, model) and one.in_force(now) for _, one in proxy.router.prices.book.overrides())
    breaker = proxy.router.providers[provider_id].breakers.get(model)
    recent = known.at.get((name, provider_id))
    by_tokens = price is not None and price.by_tokens
    return SellerView(
        provider_id=provider_id,
        model=model,
        input=_dollars(price, "input") if by_tokens else None,
        output=_dollars(price, "output") if by_tokens else None,
        own_price=own,
        price_source=price.source if price is not None else "",
        context_tokens=price.context_window if price is not None else None,
        breaker=(breaker.phase if breaker is not None else Phase.Closed).value,
        recent=recent.told() if recent is not None else None,
    )


def _dollars(price: ModelPrice | None, name: str) -> Dollars | None:
    return None if price is None else to_decimal_usd(getattr(price, name))


def _list_of(proxy: Proxy) -> GenaiPriceSource | None:
    source = proxy.router.prices.book.source
    return source if isinstance(source, GenaiPriceSource) else None


@lru_cache(maxsize=2)
def _catalogue(source: GenaiPriceSource | None) -> ModelCatalogue:
    return ModelCatalogue(source)


@lru_cache(maxsize=_FACTS_MAX)
def _facts(catalogue: ModelCatalogue, name: str) -> ModelFacts | None:
    """Kept, since rows do not change while the process runs."""
    return catalogue.find(name, selling=False)
