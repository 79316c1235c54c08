"""Management API: virtual keys, which this proxy issues to its own clients."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import AwareDatetime, Field, StringConstraints

from apikeyrouter.domain.errors import KeyRegistrationError
from apikeyrouter_proxy.principal import Role
from apikeyrouter_proxy.routes.common import Body, Page, RunningProxy, page_of
from apikeyrouter_proxy.virtual_keys import VirtualKey

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/virtual-keys", tags=["virtual keys"])

_Pattern = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class NewVirtualKey(Body):
    """A virtual key to issue."""

    name: str = Field(min_length=1, max_length=64, description="Who or what it is for.")
    role: Role = Field(Role.Client, description="client: /v1 only. admin: the management API too.")
    models: list[_Pattern] | None = Field(
        None, min_length=1, max_length=100, description="Patterns; absent: every model."
    )
    providers: list[_Pattern] | None = Field(None, min_length=1, max_length=100, description="Ids; absent: every one.")
    expires_at: AwareDatetime | None = Field(None, description="With time zone; absent: never.")


class IssuedVirtualKey(VirtualKey):
    """A new virtual key with its plaintext, told this once."""

    key: str = Field(description="The credential. Keep it now: it is stored as a hash and cannot be shown again.")
    closes_open_mode: bool = Field(description="Whether callers needed no key until now and need one from now on.")


@router.get("", summary="List virtual keys")
async def list_virtual_keys(proxy: RunningProxy, active: bool | None = None) -> Page[VirtualKey]:
    """Every virtual key, oldest first; never its plaintext."""
    return page_of([key for key in proxy.virtual_keys.list() if active in (None, key.active)])


@router.post("", status_code=201, summary="Issue a virtual key")
async def create_virtual_key(proxy: RunningProxy, request: Request, body: NewVirtualKey) -> IssuedVirtualKey:
    """Issues a virtual key. The first one ends open mode: from then on `/v1` needs a key."""
    if not body.name.isprintable() or not body.name.strip():
        raise KeyRegistrationError("name: must be printable and not blank.")
    if body.expires_at is not None and body.expires_at <= proxy.clock.utc_now():
        raise KeyRegistrationError("expires_at: lies in the past.")
    was_open = proxy.access.open_mode
    key, plaintext = await proxy.virtual_keys.create(
        body.name.strip(), body.role, models=body.models, providers=body.providers, expires_at=body.expires_at
    )
    proxy.audit.write(request, "virtual_key.created", key.id, name=key.name, role=key.role.value)
    return IssuedVirtualKey(**key.model_dump(), key=plaintext, closes_open_mode=was_open)


@router.get("/{virtual_key_id}", summary="Show a virtual key")
async def show_virtual_key(proxy: RunningProxy, virtual_key_id: str) -> VirtualKey:
    """One virtual key, without its plaintext."""
    return proxy.virtual_keys.get(virtual_key_id)


@router.delete("/{virtual_key_id}", summary="Revoke a virtual key")
async def revoke_virtual_key(proxy: RunningProxy, request: Request, virtual_key_id: str) -> VirtualKey:
    """Ends a virtual key at once. Open mode does not come back."""
    key = await proxy.virtual_keys.revoke(virtual_key_id)
    proxy.audit.write(request, "virtual_key.revoked", key.id, name=key.name)
    return key
