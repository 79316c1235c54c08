"""Virtual keys: the credentials that this proxy issues to its own clients.

Main entry: `VirtualKeys`. A key reads `akr_` + id (12) + secret (43, 256 bits) + CRC-32 (6), all base62. The checksum
lets secret scanners recognise one without asking us (the form is GitHub's). Stored is HMAC-SHA-256 of id and secret
under a pepper that lives in the store; at 256 bits of entropy a slow hash would add load and no strength.
Laws: the plaintext is returned once, by `create`, and kept nowhere; unknown, wrong, revoked and expired keys are told
apart by nobody outside; comparison is in constant time; a key that was revoked here stays revoked here, also when the
store failed to keep that: it is told again with the next change that is read.
"""

from __future__ import annotations

import hmac
import re
import secrets
import string
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from apikeyrouter.domain.errors import KeyRegistrationError, RouterError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.state_store import StateStore, StoredVirtualKey
from apikeyrouter.domain.models.call import Tenant
from apikeyrouter.meter import RESERVED_TAGS
from apikeyrouter_proxy.declared import DeclaredKey
from apikeyrouter_proxy.principal import Principal, Role

__all__ = ["CHANGEABLE", "CallerLimits", "VirtualKey", "VirtualKeyNotFoundError", "VirtualKeys"]

_PEPPER = "virtual_keys.pepper"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_LENGTH, _SECRET_LENGTH, _CHECKSUM_LENGTH = 12, 43, 6
_TOKEN = re.compile(
    rb"akr_([0-9A-Za-z]{%d})([0-9A-Za-z]{%d})([0-9A-Za-z]{%d})" % (_ID_LENGTH, _SECRET_LENGTH, _CHECKSUM_LENGTH)
)
_VERIFIED_MAX = 4096
_NOBODY = bytes(32)
_DECLARED = b"declared"


CHANGEABLE = ("name", "models", "providers", "team", "tags", "expires_at", "rpm", "tpm", "parallel", "weight")
"""Members of a key that can be changed. Its role cannot: who may manage is decided when a key is issued."""


class VirtualKeyNotFoundError(RouterError):
    """No virtual key has this id."""

    def __init__(self, virtual_key_id: str) -> None:
        super().__init__(f"No virtual key has the id {virtual_key_id!r}. GET /api/v1/virtual-keys lists all of them.")


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


class VirtualKeys:
    """Creates, checks and revokes virtual keys. All of them are in memory; the store has the truth, and `refresh` takes
    in what other processes did to it."""

    def __init__(self, store: StateStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._pepper = b""
        self._rows: dict[str, StoredVirtualKey] = {}
        self._untold: dict[str, StoredVirtualKey] = {}
        self._verified: dict[bytes, Principal] = {}
        self._declared: dict[str, DeclaredKey] = {}
        self._declared_at_s = 0.0
        self._closed = False
        self._presented: dict[bytes, Principal] = {}
        self.any_created = False
        self.any_admin = False

    async def open(self) -> None:
        """Loads pepper and keys. Raises StateStoreError."""
        self._pepper = await self._store.put_setting(_PEPPER, secrets.token_bytes(32), only_if_absent=True)
        await self.refresh()

    def declare(self, declared: Iterable[DeclaredKey]) -> None:
        """The keys that the configuration file declares are these from now on. They are kept in memory alone, and their
        secrets only as digests. Call it after `open`."""
        found = list(declared)
        self._declared = {one.id: one for one in found}
        self._declared_at_s = self._declared_at_s or self._utc_s()
        self._closed = self._closed or bool(found)
        self._presented = {
            self._digest(_DECLARED, one.secret.reveal_bytes()): _declared_principal(one) for one in found
        }
        self._changed()

    def end_open_mode(self) -> None:
        """There was a virtual key once, so callers need one, whatever has become of it."""
        self._closed = True
        self._changed()

    async def refresh(self) -> None:
        """Loads the keys again: another process may have changed them. Raises StateStoreError."""
        if not self._pepper:
            return  # not open yet
        for row in list(self._untold.values()):
            await self._store.save_virtual_key(row)
            self._untold.pop(row.virtual_key_id, None)
        rows = {row.virtual_key_id: row for row in await self._store.load_virtual_keys()}
        rows.update(self._untold)
        if rows != self._rows:
            self._rows = rows
            self._changed()

    def may_be_new(self, token: bytes) -> bool:
        """Whether the token has the form of a key of ours that is not known here: another process may just have made
        it."""
        match = _well_formed(token)
        return match is not None and f"vk_{match[1].decode()}" not in self._rows

    def verify(self, token: bytes) -> Principal | None:
        """Who presents this token, or None."""
        seen = sha256(token).digest()
        principal = self._verified.get(seen)
        if principal is None:
            principal = self._check(token)
            if principal is None:
                return None
            if len(self._verified) >= _VERIFIED_MAX:
                self._verified.clear()
            self._verified[seen] = principal
        if principal.expires_at_s is not None and self._utc_s() >= principal.expires_at_s:
            return None
        return principal

    async def create(
        self,
        name: str,
        role: Role = Role.Client,
        *,
        models: Sequence[str] | None = None,
        providers: Sequence[str] | None = None,
        team: str | None = None,
        tags: Mapping[str, str] | None = None,
        expires_at: datetime | None = None,
        limits: CallerLimits = NO_LIMITS,
    ) -> tuple[VirtualKey, str]:
        """(the key, its plaintext: the only time that it is ever told). Durable when it returns.

        `team` and `tags` go with each request of the key and cannot be changed by its holder. Raises ValueError for a
        tag with a name that is reserved.
        """
        _check_tags(tags)
        key_id, secret = _random(_ID_LENGTH), _random(_SECRET_LENGTH)
        row = StoredVirtualKey(
            virtual_key_id=f"vk_{key_id}",
            role=role.value,
            digest=self._digest(key_id.encode(), secret.encode()),
            document={
                "name": name,
                "models": None if models is None else list(models),
                "providers": None if providers is None else list(providers),
                "team": team,
                "tags": dict(tags or {}),
                **_limits_document(limits),
            },
            created_at_s=self._utc_s(),
            expires_at_s=None if expires_at is None else expires_at.timestamp(),
        )
        await self._store.save_virtual_key(row)
        self._rows[row.virtual_key_id] = row
        self._changed()
        body = f"akr_{key_id}{secret}"
        return self._view(row), body + _checksum(body.encode())

    def list(self) -> list[VirtualKey]:
        """Every key, revoked and expired ones too, oldest first."""
        return [*map(self._view, self._rows.values()), *map(self._declared_view, self._declared.values())]

    def get(self, virtual_key_id: str) -> VirtualKey:
        """One key. Raises VirtualKeyNotFoundError."""
        if virtual_key_id in self._declared:
            return self._declared_view(self._declared[virtual_key_id])
        return self._view(self._row(virtual_key_id))

    def name_of(self, virtual_key_id: str) -> str | None:
        """What a key is called; None when there is none."""
        row, declared = self._rows.get(virtual_key_id), self._declared.get(virtual_key_id)
        if row is not None:
            return str(row.document["name"])
        return None if declared is None else declared.name

    async def change(self, virtual_key_id: str, given: Mapping[str, Any]) -> VirtualKey:
        """Sets any of `CHANGEABLE`, as `VirtualKey` has them, for running windows and the next request alike; other
        processes hear of it within 250 ms. A key that expired is valid again when its end is moved. Raises
        VirtualKeyNotFoundError, KeyRegistrationError (it was revoked), ValueError (a reserved tag), StateStoreError."""
        _check_tags(given.get("tags"))
        row = self._row(virtual_key_id)
        if row.revoked_at_s is not None:
            raise KeyRegistrationError(f"{virtual_key_id} is revoked and stays so. Issue another key.")
        members = {name: given[name] for name in CHANGEABLE if name in given and name != "expires_at"}
        after = replace(row, document={**row.document, **members})
        if "expires_at" in given:
            end: datetime | None = given["expires_at"]
            after = replace(after, expires_at_s=None if end is None else end.timestamp())
        await self._store.save_virtual_key(after)
        if self._row(virtual_key_id).revoked_at_s is None:
            self._rows[virtual_key_id] = after
            self._changed()
        return self._view(self._row(virtual_key_id))

    async def revoke(self, virtual_key_id: str) -> VirtualKey:
        """Ends a key; from now on it is refused. Idempotent. Raises VirtualKeyNotFoundError, StateStoreError."""
        row = self._row(virtual_key_id)
        if row.revoked_at_s is None or virtual_key_id in self._untold:
            row.revoked_at_s = row.revoked_at_s or self._utc_s()
            self._untold[virtual_key_id] = row
            self._changed()  # refused at once, even if the store then fails
            await self._store.save_virtual_key(row)
            self._untold.pop(virtual_key_id, None)
        return self._view(row)

    def _check(self, token: bytes) -> Principal | None:
        if self._presented:
            declared = self._presented.get(self._digest(_DECLARED, token))
            if declared is not None:
                return declared
        match = _well_formed(token)
        if match is None:
            return None
        key_id, secret, _ = match.groups()
        row = self._rows.get(f"vk_{key_id.decode()}")
        # An unknown id costs what a known one costs.
        right = hmac.compare_digest(self._digest(key_id, secret), row.digest if row is not None else _NOBODY)
        if row is None or not right or row.revoked_at_s is not None:
            return None
        return _principal(row)

    def _digest(self, key_id: bytes, secret: bytes) -> bytes:
        return hmac.digest(self._pepper, key_id + b":" + secret, "sha256")

    def _row(self, virtual_key_id: str) -> StoredVirtualKey:
        row = self._rows.get(virtual_key_id)
        if row is None:
            raise VirtualKeyNotFoundError(virtual_key_id)
        return row

    def _changed(self) -> None:
        self._verified.clear()
        self.any_created = bool(self._rows or self._declared or self._closed)
        roles = (*(row.role for row in self._rows.values()), *(one.role for one in self._declared.values()))
        self.any_admin = any(role == Role.Admin for role in roles)

    def _utc_s(self) -> float:
        return self._clock.utc_now().timestamp()

    def _declared_view(self, one: DeclaredKey) -> VirtualKey:
        expired = one.expires_at_s is not None and one.expires_at_s <= self._utc_s()
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
            created_at=datetime.fromtimestamp(self._declared_at_s, UTC),
            expires_at=_datetime(one.expires_at_s),
            revoked_at=None,
            active=not expired,
        )

    def _view(self, row: StoredVirtualKey) -> VirtualKey:
        expired = row.expires_at_s is not None and row.expires_at_s <= self._utc_s()
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


def _well_formed(token: bytes) -> re.Match[bytes] | None:
    match = _TOKEN.fullmatch(token)
    return match if match is not None and match[3] == _checksum(token[:-_CHECKSUM_LENGTH]).encode() else None


def _principal(row: StoredVirtualKey) -> Principal:
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


def _declared_principal(one: DeclaredKey) -> Principal:
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


def _check_tags(tags: Mapping[str, str] | None) -> None:
    reserved = sorted(set(RESERVED_TAGS).intersection(tags or {}))
    if reserved:
        raise ValueError(f"tags: {reserved[0]!r} is no name for a tag; a team has a field of its own.")


def _limits_document(limits: CallerLimits) -> dict[str, Any]:
    return {"rpm": limits.rpm, "tpm": limits.tpm, "parallel": limits.parallel, "weight": limits.weight}


def _datetime(unix_s: float | None) -> datetime | None:
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC)


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(body: bytes) -> str:
    rest = zlib.crc32(body)
    digits = ""
    for _ in range(_CHECKSUM_LENGTH):
        rest, digit = divmod(rest, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
