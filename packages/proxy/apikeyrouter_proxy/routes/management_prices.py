"""Management API: prices. What a model costs and where that comes from; prices of the operator's own.

Amounts in answers are US dollars as digits in text, per million tokens, or for one of what is counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from difflib import get_close_matches
from typing import Annotated, Any

from fastapi import Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, Strict

from apikeyrouter.domain.cost.overrides import CLASSES, FEES, PriceOverride
from apikeyrouter.domain.cost.price_book import STORED
from apikeyrouter.domain.cost.prices import to_decimal_usd
from apikeyrouter.domain.interfaces.price_source import ModelPrice, PriceList
from apikeyrouter_proxy.bootstrap import Proxy
from apikeyrouter_proxy.budget_forms import Dollars
from apikeyrouter_proxy.routes.common import Page, RunningProxy, page_of
from apikeyrouter_proxy.routes.defined import Defined, Definitions
from apikeyrouter_proxy.routes.errors import NotFoundError
from apikeyrouter_proxy.routes.late import late_router

__all__ = ["PriceView", "router"]

router = late_router(prefix="/api/v1/prices", tags=["prices"])

_SUGGESTED = 5
_Offset = Annotated[int, Query(ge=0)]
_Limit = Annotated[int, Query(ge=1, le=1000)]


class BandView(BaseModel):
    """Prices of the whole request when its input is longer than `over` tokens."""

    over: int
    prices: dict[str, Dollars]


class OverrideView(BaseModel):
    """A price of the operator's own, as it was written. `origin`: "configuration" or "management API"."""

    origin: str
    defined: Defined
    provider: str
    model: str
    in_force: bool
    document: dict[str, Any]


class PriceView(BaseModel):
    """What a model costs at a provider."""

    provider_id: str
    model: str
    source: str = Field(description="Where the price comes from.")
    defined: Defined
    since: date | None = Field(description="The first day of this price, where the list says so.")
    prices: dict[str, Dollars] = Field(description="US dollars per million tokens, by class.")
    per_request: Dollars = Field(description="US dollars for each request.")
    fees: dict[str, Dollars] = Field(description="US dollars for each one of what is not sold by tokens.")
    long_context: list[BandView] = Field(description="Prices of requests with much input.")
    tiers: dict[str, dict[str, Dollars]] = Field(description="Prices of other service tiers, by class.")
    context_window: int | None
    by_tokens: bool = Field(description="False: tokens are not what is sold, so budgets cannot bound it beforehand.")
    override: OverrideView | None = Field(description="The price of the operator's own that holds, if any.")


_Amount = str | Annotated[float, Strict()]
"""Strict, since false would else be a price of nothing."""


class PriceBody(BaseModel):
    """A price to set. Either classes with their unit, or a multiplier of the list price.

    Amounts are US dollars, as text or number; a class that is absent costs what its total costs.
    """

    model_config = ConfigDict(
        extra="allow",
        hide_input_in_errors=True,
        json_schema_extra={
            "example": {"unit": "per_1m", "input": "2.50", "output": "10", "cached_input": "1.25"},
            "x-classes": list(CLASSES),
            "x-fees": list(FEES),
        },
    )

    unit: str | None = Field(None, description="What the amounts are for: per_1k or per_1m tokens.")
    input: _Amount | None = None
    output: _Amount | None = None
    multiplier: _Amount | None = Field(None, description="Times the list price instead: 0.8 is a discount of 20 %.")
    per_request: _Amount | None = None
    effective_from: str | None = Field(None, description="A day, or a time with its zone; absent: at once.")
    effective_until: str | None = Field(None, description="The price holds until before this day or time.")
    note: str | None = Field(None, max_length=256, description="For people.")


@router.get("", summary="List prices")
async def list_prices(
    proxy: RunningProxy,
    provider_id: str | None = None,
    model: str | None = None,
    contains: str | None = None,
    offset: _Offset = 0,
    limit: _Limit = 100,
) -> Page[PriceView]:
    """Prices of one provider's models, or of one model at every provider that sells it; without either, those that the
    operator has set."""
    names = _wanted(proxy, provider_id, model)
    if contains:
        names = [name for name in names if contains.lower() in name[1].lower()]
    shown = [_view(proxy, *name) for name in names[offset : offset + limit]]
    return Page(data=[view for view in shown if view is not None], total=len(names))


@router.get("/overrides", summary="List the operator's own prices")
async def list_overrides(proxy: RunningProxy) -> Page[OverrideView]:
    """Prices from the configuration and from this API, the nearest first, in force or not."""
    now = proxy.clock.utc_now()
    known = Definitions(proxy)
    return page_of([_override_view(known, origin, one, now) for origin, one in proxy.router.prices.book.overrides()])


@router.get("/{provider_id}/{model:path}", summary="Show a price")
async def show_price(proxy: RunningProxy, provider_id: str, model: str, at: AwareDatetime | None = None) -> PriceView:
    """What the model costs at the provider; with `at`, what it cost then."""
    view = _view(proxy, provider_id, model, at)
    if view is None:
        raise NotFoundError(_unknown(proxy, provider_id, model))
    return view


@router.put("/{provider_id}/{model:path}", summary="Set a price")
async def set_price(
    proxy: RunningProxy, request: Request, provider_id: str, model: str, body: PriceBody
) -> OverrideView:
    """Sets a price of your own; it holds for requests from now on (or from its date), in every process on the store.

    `provider_id` "*" means every provider; `model` may be a pattern such as "gpt-4o*".
    """
    given = body.model_dump(exclude_none=True)
    override = await proxy.router.prices.set_price({**given, "provider": provider_id, "model": model})
    proxy.audit.write(request, "price.set", f"{provider_id}/{model}", **given)
    return _override_view(Definitions(proxy), STORED, override, proxy.clock.utc_now())


@router.delete("/{provider_id}/{model:path}", status_code=204, summary="Remove a price")
async def remove_price(proxy: RunningProxy, request: Request, provider_id: str, model: str) -> Response:
    """Removes what was set for exactly this provider and model; the list's price holds again."""
    if not await proxy.router.prices.remove_price(provider_id, model):
        configured = any(one.key == (provider_id, model) for _, one in proxy.router.prices.book.overrides())
        why = "It comes from the configuration; change it there." if configured else "GET /api/v1/prices lists them."
        raise NotFoundError(f"No price was set for {model!r} at {provider_id!r}. {why}")
    proxy.audit.write(request, "price.removed", f"{provider_id}/{model}")
    return Response(status_code=204)


def _wanted(proxy: Proxy, provider_id: str | None, model: str | None) -> list[tuple[str, str]]:
    """The (provider, model) pairs that a list is about."""
    book = proxy.router.prices.book
    own = [one.key for _, one in book.overrides() if "*" not in one.model]
    if provider_id is None and model is None:
        return list(dict.fromkeys(own))
    source = book.source
    if provider_id is None and model is not None:
        sellers = list(source.providers_of(model)) if isinstance(source, PriceList) else []
        sellers += [provider for provider, name in own if name == model]
        return [(name, model) for name in dict.fromkeys(sellers)]
    listed = list(source.models(provider_id)) if isinstance(source, PriceList) else []
    both = [(provider_id or "", name) for _, name in listed] + [key for key in own if key[0] in ("*", provider_id)]
    return sorted({key for key in both if model in (None, key[1])})


def _view(proxy: Proxy, provider_id: str, model: str, at: datetime | None = None) -> PriceView | None:
    keeper = proxy.router.prices
    price = keeper.price(provider_id, model, at)
    if price is None:
        return None
    moment = at or proxy.clock.utc_now()
    holding = next(
        (
            (origin, one)
            for origin, one in keeper.book.overrides()
            if one.covers(provider_id, model) and one.in_force(moment)
        ),
        None,
    )
    known = Definitions(proxy)
    return PriceView(
        provider_id=provider_id,
        model=model,
        source=price.source,
        defined=known.price(*holding) if holding is not None else known.listed_price(),
        since=price.since,
        prices=_classes(price),
        per_request=to_decimal_usd(price.per_request),
        fees={fee.what: to_decimal_usd(fee.nano_usd) / fee.per for fee in price.fees},
        long_context=_bands(price),
        tiers={name: _classes(tier) for name, tier in price.tiers},
        context_window=price.context_window,
        by_tokens=price.by_tokens,
        override=_override_view(known, *holding, moment) if holding is not None else None,
    )


def _classes(price: ModelPrice) -> dict[str, Any]:
    rates: Mapping[str, int | None] = {name: getattr(price, name) for name in CLASSES}
    return {name: to_decimal_usd(rate) for name, rate in rates.items() if rate is not None} if price.by_tokens else {}


def _bands(price: ModelPrice) -> list[BandView]:
    bands = []
    while price.long is not None and price.long_context_over is not None:
        bands.append(BandView(over=price.long_context_over, prices=_classes(price.long)))
        price = price.long
    return bands


def _override_view(known: Definitions, origin: str, override: PriceOverride, at: datetime) -> OverrideView:
    return OverrideView(
        origin=origin,
        defined=known.price(origin, override),
        provider=override.provider_id,
        model=override.model,
        in_force=override.in_force(at),
        document=dict(override.document),
    )


def _unknown(proxy: Proxy, provider_id: str, model: str) -> str:
    """Why there is no price, with names that look like it."""
    source = proxy.router.prices.book.source
    at = "" if provider_id == "*" else f" at {provider_id!r}"
    hint = f"Set one: `apikeyrouter prices set`, or PUT /api/v1/prices/{provider_id}/{model}."
    if isinstance(source, PriceList):
        names = list(dict.fromkeys(name for _, name in source.models(None if provider_id == "*" else provider_id)))
        close = get_close_matches(model, names, _SUGGESTED, 0.6)
        close = close or [name for name in names if model.lower() in name.lower()][:_SUGGESTED]
        sellers = [name for name in source.providers_of(model) if name != provider_id][:_SUGGESTED]
        if sellers:
            hint = f"It is sold by {', '.join(sellers)}. {hint}"
        elif close:
            hint = f"Did you mean {', '.join(close)}? {hint}"
        elif not names:
            hint = f"The price list does not know this provider. {hint}"
    return f"No price is known for model {model!r}{at}. {hint}"
