"""Management API: provider keys. Material goes in and never comes out."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Query, Request
from pydantic import Field, SecretStr, StrictBool

from apikeyrouter.domain.errors import KeyRegistrationError
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.api_key import APIKey, KeyState, StateTransition
from apikeyrouter.inspection import KeyCheck
from apikeyrouter_proxy.middleware.guard import principal_of
from apikeyrouter_proxy.providers import SIMULATED, check_address
from apikeyrouter_proxy.routes.common import Body, Page, RunningProxy, page_of
from apikeyrouter_proxy.routes.defined import APIKeyView, Definitions
from apikeyrouter_proxy.routes.errors import ConflictError
from apikeyrouter_proxy.routes.late import late_router

__all__ = ["router"]

router = late_router(prefix="/api/v1/keys", tags=["keys"])

_MATERIAL = Field(description="The key itself. Stored encrypted; no answer of this API repeats it.", min_length=1)
_LIST_MAX = 10_000


class NewKey(Body):
    """A key to register."""

    key_material: SecretStr = _MATERIAL
    provider_id: str = Field("openai", min_length=1, max_length=64)
    label: str | None = Field(None, description="A short name that is safe to show; default: provider and number.")
    metadata: dict[str, Any] | None = Field(
        None, description="weight, models, rpm, tpm, quota_pool, base_url, cost_per_1k, tags, and your own notes."
    )
    allow_private: StrictBool = Field(
        False, description="Accept a metadata.base_url that leads into a private network."
    )


class WantedState(StrEnum):
    """What an operator may ask for."""

    Available = "available"
    Disabled = "disabled"


class KeyChange(Body):
    """What to change; absent fields stay."""

    state: WantedState | None = None
    label: str | None = None
    metadata: dict[str, Any] | None = Field(None, description="Merged into what is there; null removes an entry.")
    allow_private: StrictBool = False


class NewMaterial(Body):
    """What replaces a key's material."""

    key_material: SecretStr = _MATERIAL
    overlap_s: float | None = Field(
        None, ge=0, le=86_400, description="Seconds for which the old material stays usable as a way back."
    )


class Reason(Body):
    """Why."""

    reason: str = Field("", max_length=200)


@router.get("", summary="List keys")
async def list_keys(
    proxy: RunningProxy,
    provider_id: str | None = None,
    state: KeyState | None = None,
    limit: Annotated[int, Query(ge=1, le=_LIST_MAX)] = _LIST_MAX,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> Page[APIKeyView]:
    """Keys that are not revoked, oldest first."""
    keys = await proxy.router.key_manager.list_keys(provider_id)
    page = page_of([key for key in keys if state in (None, key.state)], limit=limit, offset=offset)
    known = Definitions(proxy)
    return Page(data=[known.key_view(key) for key in page.data], total=page.total)


@router.post("", status_code=201, summary="Register a key")
async def register_key(proxy: RunningProxy, request: Request, body: NewKey) -> APIKeyView:
    """Registers a key; it serves at once. A simulated provider that still stands in ends now."""
    material = body.key_material.get_secret_value()
    proxy.router.directory.require(body.provider_id)
    await _check_base_url(body.metadata, allow_private=body.allow_private)
    known = proxy.router.key_manager.find(material, body.provider_id)
    if known is not None:
        raise ConflictError(
            f"This key is registered already: {known.key_id} ({known.label}). Change that one, or revoke it first."
        )
    key = await proxy.router.register_key(material, body.provider_id, body.metadata, body.label)
    await proxy.retired.forget(body.provider_id, Secret(material.strip()))
    proxy.audit.write(request, "key.added", key.id, provider_id=key.provider_id, label=key.label)
    if body.provider_id != SIMULATED:
        await proxy.end_simulation()
    proxy.models.forget_age()
    return _view(proxy, key)


@router.get("/{key_id}", summary="Show a key")
async def show_key(proxy: RunningProxy, key_id: str) -> APIKeyView:
    """One key, revoked ones too."""
    return _view(proxy, await proxy.router.key_manager.get_key(key_id))


@router.patch("/{key_id}", summary="Change a key")
async def change_key(proxy: RunningProxy, request: Request, key_id: str, body: KeyChange) -> APIKeyView:
    """Changes label, metadata or state."""
    keys = proxy.router.key_manager
    key = await keys.get_key(key_id)
    if body.label is not None or body.metadata is not None:
        await _check_base_url(body.metadata, allow_private=body.allow_private)
        merged = None
        if body.metadata is not None:
            merged = {name: value for name, value in {**key.metadata, **body.metadata}.items() if value is not None}
        key = await keys.update(key_id, label=body.label, metadata=merged)
        changed = [name for name in ("label", "metadata") if getattr(body, name) is not None]
        proxy.audit.write(request, "key.changed", key_id, fields=changed)
    if body.state is WantedState.Disabled and key.state is not KeyState.Disabled:
        key = await _disable(proxy, request, key_id, "")
    elif body.state is WantedState.Available and key.state is not KeyState.Available:
        key = await _enable(proxy, request, key_id, "")
    return _view(proxy, key)


@router.delete("/{key_id}", summary="Revoke a key")
async def revoke_key(proxy: RunningProxy, request: Request, key_id: str, reason: str = "") -> APIKeyView:
    """Takes a key out of service for good and destroys its material. It does not come back from the environment."""
    record = proxy.router.key_manager.get(key_id)
    if record.state is not KeyState.Retired:
        await proxy.retired.remember(record.provider_id, record.secret)
    key = await proxy.router.key_manager.revoke_key(key_id, reason=reason[:200], actor=_actor(request))
    proxy.audit.write(request, "key.revoked", key_id, reason=reason[:200])
    return _view(proxy, key)


@router.post("/{key_id}/rotate", summary="Replace a key's material")
async def rotate_key(proxy: RunningProxy, request: Request, key_id: str, body: NewMaterial) -> APIKeyView:
    """Gives the key new material, used from now on; id, label, limits and history stay."""
    keys = proxy.router.key_manager
    record = keys.get(key_id)
    replaced = record.secret
    overlap_s = proxy.router.settings.rotation_overlap_s if body.overlap_s is None else body.overlap_s
    key = await keys.rotate_key(
        key_id, body.key_material.get_secret_value(), overlap_s=overlap_s, actor=_actor(request)
    )
    await proxy.retired.remember(record.provider_id, replaced)
    proxy.audit.write(request, "key.rotated", key_id, version=key.version, overlap_s=overlap_s)
    return _view(proxy, key)


@router.post("/{key_id}/disable", summary="Disable a key")
async def disable_key(proxy: RunningProxy, request: Request, key_id: str, body: Reason | None = None) -> APIKeyView:
    """Takes a key out of service until it is enabled."""
    return _view(proxy, await _disable(proxy, request, key_id, body.reason if body else ""))


@router.post("/{key_id}/enable", summary="Enable a key")
async def enable_key(proxy: RunningProxy, request: Request, key_id: str, body: Reason | None = None) -> APIKeyView:
    """Puts a key into service now, whatever it waited for."""
    return _view(proxy, await _enable(proxy, request, key_id, body.reason if body else ""))


@router.post("/{key_id}/check", summary="Try a key")
async def check_key(proxy: RunningProxy, request: Request, key_id: str) -> KeyCheck:
    """Asks the provider for its models with this key alone. What the answer says moves the key's state."""
    checked = await proxy.router.check_key(key_id)
    proxy.audit.write(request, "key.checked", key_id, ok=checked.ok)
    return checked


@router.get("/{key_id}/history", summary="A key's audit trail")
async def key_history(proxy: RunningProxy, key_id: str) -> Page[StateTransition]:
    """Every change of state with cause and evidence, oldest first, the last 1,000 at most."""
    return page_of(await proxy.router.key_manager.history(key_id))


def _view(proxy: RunningProxy, key: APIKey) -> APIKeyView:
    return Definitions(proxy).key_view(key)


async def _disable(proxy: RunningProxy, request: Request, key_id: str, reason: str) -> APIKey:
    key = await proxy.router.key_manager.disable(key_id, reason=reason, actor=_actor(request))
    proxy.audit.write(request, "key.disabled", key_id, reason=reason)
    return key


async def _enable(proxy: RunningProxy, request: Request, key_id: str, reason: str) -> APIKey:
    key = await proxy.router.key_manager.enable(key_id, reason=reason, actor=_actor(request))
    proxy.audit.write(request, "key.enabled", key_id, reason=reason)
    return key


def _actor(request: Request) -> str:
    return principal_of(request.scope).id


async def _check_base_url(metadata: dict[str, Any] | None, *, allow_private: bool) -> None:
    """A key may carry a base URL of its own: it is checked like a provider's."""
    url = (metadata or {}).get("base_url")
    if url is None:
        return
    if not isinstance(url, str) or not urlsplit(url).hostname:
        raise KeyRegistrationError("metadata.base_url: expected something like https://api.example.com/v1")
    await check_address(url, allow_private=allow_private)
