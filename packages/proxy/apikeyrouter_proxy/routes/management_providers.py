"""Management API: providers. One that the catalogue knows is a name, any other that speaks OpenAI's format a base URL;
keys are registered with its id.

`/known` lists the catalogue; `/api/v1/health/providers` (`health`) says how the registered ones do.
"""

from __future__ import annotations

from fastapi import Request, Response
from pydantic import BaseModel, Field, StrictBool

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.infrastructure.catalogue.providers import NATIVE, provider, rows
from apikeyrouter_proxy.providers import AddedProvider, check_address, check_headers
from apikeyrouter_proxy.recent_use import RecentUse, Use, newest_records, provider_of, uses
from apikeyrouter_proxy.routes.common import Body, Page, RunningProxy, page_of
from apikeyrouter_proxy.routes.defined import Defined, Definitions
from apikeyrouter_proxy.routes.errors import ConflictError, NotFoundError
from apikeyrouter_proxy.routes.late import late_router

__all__ = ["router"]

router = late_router(prefix="/api/v1/providers", tags=["providers"])

_RECENT_S = 24 * 3600.0


class ProviderView(BaseModel):
    """A provider. `source`: "built-in", "configured" by the environment or a file, "added" through this API, or
    "simulated"."""

    id: str
    base_url: str
    dialect: str
    source: str
    keys: int = Field(description="Keys that are not revoked.")
    keys_usable: int = Field(description="Keys that may serve now.")
    defined: Defined
    recent: RecentUse | None = Field(
        None, description="Requests of the last 24 hours that memory holds, by their last send; None without one."
    )


class KnownProviderView(BaseModel):
    """A provider of the catalogue: what a name stands for. `variables`: what its base URL needs besides."""

    id: str
    name: str
    aliases: list[str]
    base_url: str = Field(description='With {NAME} where a variable belongs; "" where its adapter finds it.')
    variables: list[str] = Field(description="Environment variables that the base URL is completed from.")
    env: str = Field(description="Environment variables that keys are taken from, for people.")
    keyless: bool = Field(description="It serves without a key.")
    docs: str = Field(description="The provider's documentation.")
    registered: bool


class LookView(BaseModel):
    """What a look found. `answers`: whether the provider said anything at all, a refusal of the key included."""

    answers: bool
    latency_ms: float


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
    recent = _recent(proxy)
    return page_of([await _view(proxy, one, recent.get(one)) for one in list(proxy.router.providers)])


@router.get("/known", summary="List the catalogue's providers")
async def list_known(proxy: RunningProxy) -> Page[KnownProviderView]:
    """Every provider that can be registered by its name alone."""
    there = proxy.router.providers
    native = [
        KnownProviderView(
            id=name, name=title, aliases=[], base_url="", variables=[], env=env, keyless=False, docs=docs,
            registered=name in there,
        )
        for name, (title, env, docs) in NATIVE.items()
    ]  # fmt: skip
    listed = [
        KnownProviderView(
            id=row.id,
            name=row.name or row.id,
            aliases=list(row.aliases),
            base_url=row.base_url,
            variables=list(row.variables),
            env=", ".join((*row.env, *row.shared_env)),
            keyless=row.keyless,
            docs=row.docs,
            registered=row.id in there,
        )
        for row in rows().values()
    ]
    return page_of([*native, *listed])


@router.get("/{provider_id}", summary="Show a provider")
async def show_provider(proxy: RunningProxy, provider_id: str) -> ProviderView:
    """One provider."""
    return await _view(proxy, provider_id, _recent(proxy).get(provider_id))


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


@router.post("/{provider_id}/look", summary="Look whether a provider answers")
async def look_at_provider(proxy: RunningProxy, provider_id: str) -> LookView:
    """Lists its models with one of its keys, which costs nothing; what that tells counts for its health."""
    await _view(proxy, provider_id)
    before_s = proxy.router.health.state(provider_id).looked_s
    found = await proxy.router.health.look(provider_id)
    if found.looked_s is None or found.looked_s == before_s or found.look_latency_s is None:
        raise ConflictError(
            f"Provider {provider_id!r} has no key to look with: it has none, or all are disabled, invalid or retired."
        )
    return LookView(answers=found.run_ok, latency_ms=round(found.look_latency_s * 1e3, 1))


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


def _recent(proxy: RunningProxy) -> dict[str, Use]:
    journal = proxy.router.journal
    return uses(newest_records(journal, journal.utc_s() - _RECENT_S), lambda record: (provider_of(record),))


async def _view(proxy: RunningProxy, provider_id: str, recent: Use | None = None) -> ProviderView:
    provider = proxy.router.providers.get(provider_id)
    if provider is None:
        raise NotFoundError(f"No provider has the id {provider_id!r}. GET /api/v1/providers lists those that exist.")
    source = "added" if provider_id in proxy.providers.added else "built-in"
    if any(one.id == provider_id for one in proxy.config.settings.providers):
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
        defined=Definitions(proxy).provider(provider_id, source),
        recent=recent.told() if recent is not None else None,
    )
