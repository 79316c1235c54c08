"""Who asks: what authentication found out about a caller, and what that caller may use.

Law: a principal is built once per credential and shared by all of its requests, so it is frozen and holds no secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from apikeyrouter.domain.models.call import Tenant
from apikeyrouter_proxy.wire.errors import WireError

__all__ = ["ADMIN", "LOCAL", "Principal", "Role"]


class Role(StrEnum):
    """What a credential opens. Client: `/v1`. Admin: `/v1` and the management API."""

    Client = "client"
    Admin = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. `id` is safe to log. `models`: name patterns it may use, None for all. `providers`: ids, None for all.

    `expires_at_s`: Unix seconds after which the credential is void, None for never. `tags`: for `Call.tags`.
    `tenant`: its limits, and its share while requests wait.
    """

    id: str
    name: str
    role: Role
    models: tuple[str, ...] | None = None
    providers: frozenset[str] | None = None
    expires_at_s: float | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    tenant: Tenant | None = None

    def may_use(self, model: str) -> bool:
        """Whether the model's name, with or without provider prefix, matches one of the patterns."""
        if self.models is None:
            return True
        bare = model.partition("/")[2] or model
        return any(fnmatchcase(model, pattern) or fnmatchcase(bare, pattern) for pattern in self.models)

    def check_model(self, model: str) -> None:
        """Raises WireError 403 when this caller may not use the model."""
        if not self.may_use(model):
            allowed = ", ".join(self.models or ())
            raise WireError(
                403,
                f"This key may not use the model {model!r}; it may use: {allowed}. Ask the operator for a wider key.",
                code="model_not_allowed",
                param="model",
            )


LOCAL = Principal("local", "open mode", Role.Admin, tenant=Tenant("local"))
"""Whoever calls from this machine while no key has been created."""

ADMIN = Principal("admin", "admin key of the environment", Role.Admin, tenant=Tenant("admin"))
