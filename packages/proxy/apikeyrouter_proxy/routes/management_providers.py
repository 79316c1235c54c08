"""Management API: providers. One that the catalogue knows is a name, any other that speaks OpenAI's format a base URL;
keys are registered with its id."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, StrictBool

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.infrastructure.catalogue.providers import provider
from apikeyrouter_proxy.providers import AddedProvider, check_address, check_headers
from apikeyrouter_proxy.routes.common import Body, Page, RunningProxy, page_of
from apikeyrouter_proxy.routes.errors import ConflictError, NotFoundError

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/providers", tags=["providers"])


class ProviderView(BaseModel):
    """A provider. `source`: "built-in", "configured" by the environment or a file, "added" through this API, or
    "simulated"."""

    id: str
    base_url: str
    dialect: str
    source: str
    keys: int = Field(description="Keys that are not revoked.")
    keys_usable: int = Field(description="Keys that may serve now.")


class NewProvider(Body):
    """A provider to register: a known one by its name, or any OpenAI-compatible server by its base URL."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="What keys and model prefixes name.")
    known: str = Field("", max_length=64, description="Its name in the catalogue, such as groq.")
    base_url: str = Field(
        "", max_length=2048, description="Where its API lives, ending before /chat/completions; a known one's if empty."
    )
    dialect: str = Field("openai", pattern=r"^[a-z][a-z0-9_-]{0,31}$", description="How it reports limits and errors.")
    headers: dict[str, str] = Field(default_factory=dict, description="Sent with each request; never credentials.")
    allow_private: StrictBool = Field(
        False, description="Accept an address in a private network (loopback needs no word)."
    )


@router.get("", summary="List providers")
async def list_providers(proxy: RunningProxy) -> Page[ProviderView]:
    """Every registered provider."""
    return page_of([await _view(proxy, provider_id) for provider_id in list(proxy.router.providers)])


@router.get("/{provider_id}", summary="Show a provider")
async def show_provider(proxy: RunningProxy, provider_id: str) -> ProviderView:
    """One provider."""
    return await _view(proxy, provider_id)


@router.post("", status_code=201, summary="Register a provider")
async def add_provider(proxy: RunningProxy, request: Request, body: NewProvider) -> ProviderView:
    """Registers a known provider, or an OpenAI-compatible server; it is kept across restarts."""
    if body.id in proxy.router.providers:
        raise ConflictError(f"Provider {body.id!r} is registered already. Remove it first, or choose another id.")
    check_headers(body.headers)
    where = body.base_url
    if body.known:
        where = provider(body.known, where or None).base_url
    elif not where:
        raise ConfigurationError(["base_url: give it, or the name of a known provider in 'known'"])
    base_url = await check_address(where, allow_private=body.allow_private)
    added = AddedProvider(body.id, base_url, body.dialect, body.headers, known=body.known)
    await proxy.providers.add(proxy.router, added)
    proxy.models.forget_age()
    proxy.audit.write(request, "provider.added", body.id, base_url=base_url, dialect=body.dialect)
    return await _view(proxy, body.id)


@router.delete("/{provider_id}", status_code=204, summary="Remove a provider")
async def remove_provider(proxy: RunningProxy, request: Request, provider_id: str) -> Response:
    """Removes a provider that was added through this API and has no keys left."""
    view = await _view(proxy, provider_id)
    if view.source != "added":
        raise ConflictError(f"Provider {provider_id!r} is {view.source}; only added ones can be removed.")
    if view.keys:
        raise ConflictError(f"Provider {provider_id!r} still has {view.keys} keys; revoke them first.")
    await proxy.providers.remove(proxy.router, provider_id)
    proxy.audit.write(request, "provider.removed", provider_id)
    return Response(status_code=204)


async def _view(proxy: RunningProxy, provider_id: str) -> ProviderView:
    provider = proxy.router.providers.get(provider_id)
    if provider is None:
        raise NotFoundError(f"No provider has the id {provider_id!r}. GET /api/v1/providers lists those that exist.")
    source = "added" if provider_id in proxy.providers.added else "built-in"
    if any(one.id == provider_id for one in proxy.settings.providers):
        source = "configured"
    if provider.adapter.base_url == proxy.simulation.base_url:
        source = "simulated"
    keys = proxy.router.key_manager
    return ProviderView(
        id=provider_id,
        base_url=provider.adapter.base_url,
        dialect=provider.adapter.dialect,
        source=source,
        keys=len(keys.records(provider_id)),
        keys_usable=len(await keys.get_eligible_keys(provider_id)),
    )
