"""Management API: deployments. Names that stand for several models at several providers, and fallbacks.

Documents are written and read as `domain.routing.deployments` understands them; the configuration's are shown and
cannot be changed here.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field

from apikeyrouter.domain.routing.deployments import Deployment, Target, odd_about
from apikeyrouter_proxy.bootstrap import Proxy
from apikeyrouter_proxy.routes.common import Page, RunningProxy, page_of
from apikeyrouter_proxy.routes.defined import Defined, Definitions
from apikeyrouter_proxy.routes.errors import NotFoundError
from apikeyrouter_proxy.routes.late import late_router

__all__ = ["DeploymentView", "router"]

router = late_router(prefix="/api/v1/deployments", tags=["deployments"])


class TargetView(BaseModel):
    """One model at one provider. `keys`: how many keys could serve it, in whatever state; None while its provider is
    not registered. `priced`: whether its price is known."""

    provider: str
    model: str
    weight: float
    keys: int | None
    priced: bool
    context_window: int | None


class DeploymentView(BaseModel):
    """What a name stands for. `origin`: who can change it."""

    name: str
    origin: Literal["configuration", "management API"]
    defined: Defined
    targets: list[TargetView] = Field(description="Empty: the model of that name itself.")
    fallbacks: list[str] = Field(description="Tried in this order when nobody can serve it.")
    context_fallbacks: list[str] = Field(description="Tried when a request is too long for it.")
    document: dict[str, Any] = Field(description="As it was written.")
    notes: list[str] = Field(description="What may not have been meant.")


class DeploymentBody(BaseModel):
    """A deployment to set. Without targets, the model of that name gets fallbacks."""

    model_config = ConfigDict(
        extra="allow",
        hide_input_in_errors=True,
        json_schema_extra={
            "example": {
                "targets": [
                    {"provider": "openai", "model": "gpt-4o-mini", "weight": 2},
                    "groq/llama-3.3-70b-versatile",
                ],
                "fallbacks": ["claude-haiku-4-5"],
            }
        },
    )

    targets: Any = Field(None, description="provider/model, or objects: provider, model, weight, tags, region, keys.")
    fallbacks: Any = Field(None, description="Names of models or deployments, in the order in which they are tried.")
    context_fallbacks: Any = Field(None, description="The same, for requests that are too long.")
    note: str | None = Field(None, max_length=256, description="For people.")


class CheckedView(BaseModel):
    """What would be set, and what may not have been meant."""

    name: str
    notes: list[str]


@router.get("", summary="List deployments")
async def list_deployments(proxy: RunningProxy) -> Page[DeploymentView]:
    """Every deployment, by name."""
    known = Definitions(proxy)
    return page_of([_view(proxy, one, known) for one in proxy.router.deployments.all()])


@router.post("/check", summary="Try a deployment")
async def check_deployment(proxy: RunningProxy, body: DeploymentBody) -> CheckedView:
    """Says whether this could be set, and what may not have been meant; changes nothing. The body has a `name` too."""
    one = proxy.router.deployments.read(body.model_dump(exclude_unset=True))
    return CheckedView(name=one.name, notes=_notes(proxy, one))


@router.get("/{name:path}", summary="Show a deployment")
async def show_deployment(proxy: RunningProxy, name: str) -> DeploymentView:
    """One deployment."""
    one = proxy.router.deployments.get(name)
    if one is None:
        raise _unknown(name)
    return _view(proxy, one)


@router.put("/{name:path}", summary="Set a deployment")
async def set_deployment(proxy: RunningProxy, request: Request, name: str, body: DeploymentBody) -> DeploymentView:
    """Adds a deployment or replaces it whole; it holds for requests from now on, in every process on the store."""
    one = await proxy.router.deployments.set({**body.model_dump(exclude_unset=True), "name": name})
    proxy.audit.write(request, "deployment.set", name, document=dict(one.document))
    return _view(proxy, one)


@router.delete("/{name:path}", status_code=204, summary="Delete a deployment")
async def delete_deployment(proxy: RunningProxy, request: Request, name: str) -> Response:
    """Removes a deployment; the name means again what providers mean by it."""
    if not await proxy.router.deployments.remove(name):
        raise _unknown(name)
    proxy.audit.write(request, "deployment.removed", name)
    return Response(status_code=204)


def _view(proxy: Proxy, one: Deployment, known: Definitions | None = None) -> DeploymentView:
    configured = one.name in proxy.router.deployments.book.configured
    return DeploymentView(
        name=one.name,
        origin="configuration" if configured else "management API",
        defined=(known or Definitions(proxy)).deployment(one.name),
        targets=[_target(proxy, target) for target in one.targets],
        fallbacks=list(one.fallbacks),
        context_fallbacks=list(one.context_fallbacks),
        document=dict(one.document),
        notes=_notes(proxy, one),
    )


def _target(proxy: Proxy, target: Target) -> TargetView:
    router = proxy.router
    known = target.provider_id in router.providers
    records = router.key_manager.records(target.provider_id) if known else []
    serving = [one for one in records if target.keys is None or {one.key_id, one.label} & target.keys]
    price = router.prices.price(target.provider_id, target.model)
    return TargetView(
        provider=target.provider_id,
        model=target.model,
        weight=target.weight,
        keys=len(serving) if known else None,
        priced=price is not None,
        context_window=target.context_window or (price.context_window if price is not None else None),
    )


def _notes(proxy: Proxy, one: Deployment) -> list[str]:
    return odd_about(one, proxy.router.deployments.book, proxy.router.providers)


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(f"There is no deployment {name!r}. GET /api/v1/deployments lists them.")
