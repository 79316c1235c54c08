"""Management API: policies. Who may serve whom, and what requests are optimised for, whoever asks.

Documents are written and read as `domain.routing.policy` understands them; the configuration's are shown and cannot be
changed here.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field

from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.models.policy import PolicyScope
from apikeyrouter.domain.routing.policy import Policy, matches
from apikeyrouter_proxy.bootstrap import Proxy
from apikeyrouter_proxy.names import Names, UnknownNameError
from apikeyrouter_proxy.routes.common import Page, RunningProxy, page_of
from apikeyrouter_proxy.routes.defined import Defined, Definitions
from apikeyrouter_proxy.routes.errors import NotFoundError
from apikeyrouter_proxy.routes.late import late_router

__all__ = ["PolicyView", "router"]

router = late_router(prefix="/api/v1/policies", tags=["policies"])

_List = list[str] | str | None


class PolicyView(BaseModel):
    """A policy. `origin`: who can change it."""

    id: str
    scope: PolicyScope
    scope_id: str | None
    priority: int
    enabled: bool
    origin: Literal["configuration", "management API"]
    defined: Defined
    document: dict[str, Any] = Field(description="As it was written.")
    notes: list[str] = Field(description="What may not have been meant.")


class PolicyBody(BaseModel):
    """A policy to set. Of every allowed kind a key needs one name, of the blocked ones none; names may be patterns."""

    model_config = ConfigDict(
        extra="allow",
        hide_input_in_errors=True,
        json_schema_extra={
            "example": {"scope": "per_team", "scope_id": "research", "allowed_regions": ["eu-*"], "max_cost": "0.05"}
        },
    )

    scope: str = Field("global", description="global, per_provider, per_key, per_route, per_team or per_virtual_key.")
    scope_id: str | None = Field(None, description="A provider, key, model or pattern, team, or virtual key.")
    priority: Any = Field(0, description="A whole number; higher goes before.")
    enabled: Any = Field(True, description="False: it says nothing.")
    objective: Any = Field(None, description="A name, or an object with primary, secondary and weights.")
    override: Any = Field(False, description="True: the objective goes before the caller's; false: it is a default.")
    fallbacks: Any = Field(True, description="False: no other model may stand in.")
    max_cost: Any = Field(None, description="The most that one request may cost, in US dollars.")
    min_reliability: Any = Field(None, description="The least success rate of a key, 0 to 1.")
    allowed_providers: _List = None
    blocked_providers: _List = None
    allowed_keys: _List = Field(None, description="Labels or ids.")
    blocked_keys: _List = None
    allowed_models: _List = Field(None, description="As requests name them, or as providers do.")
    blocked_models: _List = None
    allowed_regions: _List = Field(None, description="By the keys' metadata, or their deployment's.")
    blocked_regions: _List = None
    allowed_tags: _List = None
    blocked_tags: _List = None
    note: str | None = Field(None, max_length=256, description="For people.")


class CheckedView(BaseModel):
    """What would be set, and what may not have been meant."""

    id: str
    notes: list[str]


@router.get("", summary="List policies")
async def list_policies(
    proxy: RunningProxy, model: str | None = None, team: str | None = None, virtual_key: str | None = None
) -> Page[PolicyView]:
    """Every policy, the highest priority first. With `model`, those that have a say about such a request; `team` and
    `virtual_key` (id or name) say whose it is."""
    found, known = proxy.router.policy_engine.list_policies(), Definitions(proxy)
    if model is not None:
        who = None if virtual_key is None else (await Names.of(proxy)).virtual_key(virtual_key)
        named = proxy.router.directory.split_model(model)[1]
        found = [policy for policy in found if matches(policy, named, team, who)]
    return page_of([_view(proxy, policy, known) for policy in found])


@router.post("/check", summary="Try a policy")
async def check_policy(proxy: RunningProxy, body: PolicyBody) -> CheckedView:
    """Says whether this could be set, and what may not have been meant; changes nothing. The body has an `id` too."""
    policy = await _read(proxy, str((body.model_extra or {}).get("id") or "checked"), body)
    return CheckedView(id=policy.policy_id, notes=_notes(proxy, policy))


@router.get("/{policy_id:path}", summary="Show a policy")
async def show_policy(proxy: RunningProxy, policy_id: str) -> PolicyView:
    """One policy."""
    policy = proxy.router.policy_engine.get_policy(policy_id)
    if policy is None:
        raise _unknown(policy_id)
    return _view(proxy, policy)


@router.put("/{policy_id:path}", summary="Set a policy")
async def set_policy(proxy: RunningProxy, request: Request, policy_id: str, body: PolicyBody) -> PolicyView:
    """Adds a policy or replaces it whole; it holds for requests from now on, in every process on the store."""
    policy = await proxy.router.policy_engine.add_policy(await _read(proxy, policy_id, body))
    proxy.audit.write(request, "policy.set", policy_id, document=dict(policy.document))
    return _view(proxy, policy)


@router.delete("/{policy_id:path}", status_code=204, summary="Delete a policy")
async def delete_policy(proxy: RunningProxy, request: Request, policy_id: str) -> Response:
    """Removes a policy; what it forbade is allowed again."""
    if not await proxy.router.policy_engine.remove_policy(policy_id):
        raise _unknown(policy_id)
    proxy.audit.write(request, "policy.removed", policy_id)
    return Response(status_code=204)


async def _read(proxy: Proxy, policy_id: str, body: PolicyBody) -> Policy:
    """The policy that is meant; a virtual key may be given by its name."""
    given = {**body.model_dump(exclude_unset=True), "id": policy_id}
    policy = proxy.router.policy_engine.read(given)
    if policy.scope is not PolicyScope.PerVirtualKey:
        return policy
    try:
        virtual_key = (await Names.of(proxy)).virtual_key(policy.scope_id)
    except UnknownNameError as fault:
        raise ConfigurationError([f"scope_id: {fault.message}"]) from None
    return proxy.router.policy_engine.read({**given, "scope_id": virtual_key})


def _view(proxy: Proxy, policy: Policy, known: Definitions | None = None) -> PolicyView:
    configured = policy.policy_id in proxy.router.policy_engine.configured
    return PolicyView(
        id=policy.policy_id,
        scope=policy.scope,
        scope_id=policy.scope_id or None,
        priority=policy.priority,
        enabled=policy.enabled,
        origin="configuration" if configured else "management API",
        defined=(known or Definitions(proxy)).policy(policy.policy_id),
        document=dict(policy.document),
        notes=_notes(proxy, policy),
    )


def _notes(proxy: Proxy, policy: Policy) -> list[str]:
    providers = proxy.router.providers
    names = set(policy.allowed.get("providers", ())) | set(policy.blocked.get("providers", ()))
    if policy.scope is PolicyScope.PerProvider:
        names.add(policy.scope_id)
    missing = sorted(name for name in names - set(providers) if "*" not in name and "?" not in name)
    notes = [f"no provider is registered as {', '.join(missing)}"] if missing else []
    records = [record for provider_id in providers for record in proxy.router.key_manager.records(provider_id)]
    if policy.scope is PolicyScope.PerKey and not any(policy.scope_id in (one.key_id, one.label) for one in records):
        notes.append(f"no key has the id or label {policy.scope_id!r}")
    return notes


def _unknown(policy_id: str) -> NotFoundError:
    return NotFoundError(f"There is no policy {policy_id!r}. GET /api/v1/policies lists them.")
