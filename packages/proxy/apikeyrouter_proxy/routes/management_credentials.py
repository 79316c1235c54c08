"""Management API: credentials that are exchanged for access tokens. What is exchanged goes in and never comes out."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from pydantic import Field, StrictBool

from apikeyrouter.credentials.specs import Command, spec_of
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter_proxy.providers import SIMULATED, check_address
from apikeyrouter_proxy.routes.common import Body, RunningProxy
from apikeyrouter_proxy.routes.defined import APIKeyView, Definitions
from apikeyrouter_proxy.routes.late import late_router

__all__ = ["router"]

_NO_PROGRAMS = (
    "credential command: programs are not run for callers of this API, since that would let whoever holds an admin key "
    "run anything on this machine; register it from Python with register_credential"
)

router = late_router(prefix="/api/v1/credentials", tags=["keys"])


class NewCredential(Body):
    """A credential to register."""

    provider_id: str = Field(min_length=1, max_length=64)
    credential: dict[str, Any] = Field(
        description="Its kind (client_credentials, refresh_token, google_service_account, azure_entra) and that kind's "
        "fields, or Google's own file for a service account. Stored encrypted; no answer of this API repeats it."
    )
    label: str | None = Field(None, description="A short name that is safe to show; default: provider and number.")
    metadata: dict[str, Any] | None = Field(None, description="As for keys.")
    allow_private: StrictBool = Field(False, description="Accept a token endpoint inside a private network.")


@router.post("", status_code=201, summary="Register a credential")
async def register_credential(proxy: RunningProxy, request: Request, body: NewCredential) -> APIKeyView:
    """Exchanges the credential once, registers the token as a key, and renews it ahead of its end from then on."""
    proxy.router.directory.require(body.provider_id)
    spec = spec_of(body.credential)
    if isinstance(spec, Command):
        raise ConfigurationError([_NO_PROGRAMS])
    for name in ("token_url", "token_uri", "authority"):
        url = getattr(spec, name, None)
        if url is not None:
            await check_address(url, allow_private=body.allow_private)
    key = await proxy.router.register_credential(body.provider_id, body.credential, body.metadata, body.label)
    proxy.audit.write(request, "credential.added", key.id, provider_id=key.provider_id, label=key.label)
    if body.provider_id != SIMULATED:
        await proxy.end_simulation()
    proxy.models.forget_age()
    return Definitions(proxy).key_view(key)
