"""What a virtual key is to those who ask: a view without its secret, and the principal of a request that shows it.

Main entries: `view_of` and `principal_of` for keys that were issued, `view_of_declared` and `principal_of_declared` for
those of the configuration file. Law: neither holds a secret or a digest.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from apikeyrouter.domain.interfaces.state_store import StoredVirtualKey
from apikeyrouter.domain.models.call import Tenant
from apikeyrouter_proxy.declared import DeclaredKey
from apikeyrouter_proxy.principal import Principal, Role

__all__ = [
    "NO_LIMITS",
    "CallerLimits",
    "VirtualKey",
    "principal_of",
    "principal_of_declared",
    "view_of",
    "view_of_declared",
]


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """What the holder of a virtual key may use: see `Tenant`. None: no limit."""

    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None
    weight: float = 1.0


NO_LIMITS = CallerLimits()


class VirtualKey(BaseModel):
    """A virtual key without its secret. `models`: patterns it may use, None for all; `providers` likewise by id.

    `team` and `tags`: what budgets and reports count its requests under. `active`: neither revoked nor expired now.
    `rpm`, `tpm`: requests and tokens in any 60 seconds; `parallel`: requests under way; None: no limit. `weight`: its
    share of capacity while requests wait.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    role: Role
    models: list[str] | None = None
    providers: list[str] | None = None
    team: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None
    weight: float = 1.0
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    active: bool


def view_of(row: StoredVirtualKey, now_s: float) -> VirtualKey:
    """A key that was issued. `now_s`: Unix seconds."""
    expired = row.expires_at_s is not None and row.expires_at_s <= now_s
    document: dict[str, Any] = row.document
    return VirtualKey(
        id=row.virtual_key_id,
        name=document["name"],
        role=Role(row.role),
        models=document["models"],
        providers=document["providers"],
        team=document.get("team"),
        tags=document.get("tags") or {},
        rpm=document.get("rpm"),
        tpm=document.get("tpm"),
        parallel=document.get("parallel"),
        weight=document.get("weight", 1.0),
        created_at=datetime.fromtimestamp(row.created_at_s, UTC),
        expires_at=_datetime(row.expires_at_s),
        revoked_at=_datetime(row.revoked_at_s),
        active=row.revoked_at_s is None and not expired,
    )


def view_of_declared(one: DeclaredKey, declared_at_s: float, now_s: float) -> VirtualKey:
    """A key of the configuration file. Times are Unix seconds."""
    expired = one.expires_at_s is not None and one.expires_at_s <= now_s
    return VirtualKey(
        id=one.id,
        name=one.name,
        role=Role(one.role),
        models=None if one.models is None else list(one.models),
        providers=None if one.providers is None else list(one.providers),
        team=one.team,
        tags=dict(one.tags),
        rpm=one.rpm,
        tpm=one.tpm,
        parallel=one.parallel,
        weight=one.weight,
        created_at=datetime.fromtimestamp(declared_at_s, UTC),
        expires_at=_datetime(one.expires_at_s),
        revoked_at=None,
        active=not expired,
    )


def principal_of(row: StoredVirtualKey) -> Principal:
    """Who shows this key."""
    models, providers = row.document["models"], row.document["providers"]
    team = row.document.get("team")
    tags = {**(row.document.get("tags") or {}), "virtual_key": row.virtual_key_id}
    return Principal(
        row.virtual_key_id,
        row.document["name"],
        Role(row.role),
        models=None if models is None else tuple(models),
        providers=None if providers is None else frozenset(providers),
        expires_at_s=row.expires_at_s,
        tags=tags if team is None else {**tags, "team": team},
        tenant=Tenant(
            row.virtual_key_id,
            row.document.get("rpm"),
            row.document.get("tpm"),
            row.document.get("parallel"),
            row.document.get("weight", 1.0),
        ),
    )


def principal_of_declared(one: DeclaredKey) -> Principal:
    """Who shows this key of the configuration file."""
    tags = {**one.tags, "virtual_key": one.id}
    return Principal(
        one.id,
        one.name,
        Role(one.role),
        models=one.models,
        providers=None if one.providers is None else frozenset(one.providers),
        expires_at_s=one.expires_at_s,
        tags=tags if one.team is None else {**tags, "team": one.team},
        tenant=Tenant(one.id, one.rpm, one.tpm, one.parallel, one.weight),
    )


def _datetime(unix_s: float | None) -> datetime | None:
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC)
