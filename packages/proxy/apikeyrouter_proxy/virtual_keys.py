"""Virtual keys: the credentials that this proxy issues to its own clients.

Main entry: `VirtualKeys`. How one is spelt: `virtual_key_tokens`. Stored is HMAC-SHA-256 of id and secret under a
pepper that lives in the store; at 256 bits of entropy a slow hash would add load and no strength.
Laws: the plaintext is returned once, by `create`, and kept nowhere; unknown, wrong, revoked and expired keys are told
apart by nobody outside; comparison is in constant time; a key that was revoked here stays revoked here, also when the
store failed to keep that: it is told again with the next change that is read; of changes that meet, in one process or
in several, each keeps what the others set.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Any

from apikeyrouter.domain.errors import KeyRegistrationError, RouterError, StateStoreError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.state_store import StateStore, StoredVirtualKey
from apikeyrouter.meter import RESERVED_TAGS
from apikeyrouter_proxy.declared import DeclaredKey
from apikeyrouter_proxy.principal import Principal, Role
from apikeyrouter_proxy.virtual_key_tokens import ID_LENGTH, SECRET_LENGTH, parts_of, random_word, spell
from apikeyrouter_proxy.virtual_key_values import (
    NO_LIMITS,
    CallerLimits,
    VirtualKey,
    principal_of,
    principal_of_declared,
    view_of,
    view_of_declared,
)

__all__ = ["CHANGEABLE", "VirtualKeyNotFoundError", "VirtualKeys"]

_PEPPER = "virtual_keys.pepper"
_VERIFIED_MAX = 4096
_NOBODY = bytes(32)
_DECLARED = b"declared"
_TRIES = 100

CHANGEABLE = ("name", "models", "providers", "team", "tags", "expires_at", "rpm", "tpm", "parallel", "weight")
"""Members of a key that can be changed. Its role cannot: who may manage is decided when a key is issued."""


class VirtualKeyNotFoundError(RouterError):
    """No virtual key has this id."""

    def __init__(self, virtual_key_id: str) -> None:
        super().__init__(f"No virtual key has the id {virtual_key_id!r}. GET /api/v1/virtual-keys lists all of them.")


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
            self._digest(_DECLARED, one.secret.reveal_bytes()): principal_of_declared(one) for one in found
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
        parts = parts_of(token)
        return parts is not None and f"vk_{parts[0].decode()}" not in self._rows

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
        key_id, secret = random_word(ID_LENGTH), random_word(SECRET_LENGTH)
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
        return self._view(row), spell(key_id, secret)

    def list(self) -> list[VirtualKey]:
        """Every key, revoked and expired ones too, oldest first."""
        return [*map(self._view, self._rows.values()), *map(self._view_declared, self._declared.values())]

    def get(self, virtual_key_id: str) -> VirtualKey:
        """One key. Raises VirtualKeyNotFoundError."""
        if virtual_key_id in self._declared:
            return self._view_declared(self._declared[virtual_key_id])
        return self._view(self._row(virtual_key_id))

    def name_of(self, virtual_key_id: str) -> str | None:
        """What a key is called; None when there is none."""
        row, declared = self._rows.get(virtual_key_id), self._declared.get(virtual_key_id)
        if row is not None:
            return str(row.document["name"])
        return None if declared is None else declared.name

    async def change(self, virtual_key_id: str, given: Mapping[str, Any]) -> tuple[VirtualKey, VirtualKey]:
        """Sets any of `CHANGEABLE`, as `VirtualKey` has them, for running windows and the next request alike; other
        processes hear of it within 250 ms. A key that expired is valid again when its end is moved. (the key before,
        the key now). Raises VirtualKeyNotFoundError, KeyRegistrationError (it was revoked), ValueError (a reserved
        tag), StateStoreError."""
        _check_tags(given.get("tags"))
        for _ in range(_TRIES):
            row = self._row(virtual_key_id)
            if row.revoked_at_s is not None:
                raise KeyRegistrationError(f"{virtual_key_id} is revoked and stays so. Issue another key.")
            before = self._view(row)
            after = _with(row, given)
            if not await self._store.save_virtual_key(after, only_if=row):
                await self.refresh()  # somebody else changed it
                continue
            if self._rows.get(virtual_key_id) is row and row.revoked_at_s is None:
                self._rows[virtual_key_id] = after
                self._changed()
            else:
                await self.refresh()  # what was read meanwhile may be older or newer than this change
            return before, self._view(self._row(virtual_key_id))
        raise StateStoreError(f"{virtual_key_id} was not changed: others change it all the time. Try again.")

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
        parts = parts_of(token)
        if parts is None:
            return None
        key_id, secret = parts
        row = self._rows.get(f"vk_{key_id.decode()}")
        # An unknown id costs what a known one costs.
        right = hmac.compare_digest(self._digest(key_id, secret), row.digest if row is not None else _NOBODY)
        if row is None or not right or row.revoked_at_s is not None:
            return None
        return principal_of(row)

    def _digest(self, key_id: bytes, secret: bytes) -> bytes:
        return hmac.digest(self._pepper, key_id + b":" + secret, "sha256")

    def _row(self, virtual_key_id: str) -> StoredVirtualKey:
        row = self._rows.get(virtual_key_id)
        if row is None:
            raise VirtualKeyNotFoundError(virtual_key_id)
        return row

    def _view(self, row: StoredVirtualKey) -> VirtualKey:
        return view_of(row, self._utc_s())

    def _view_declared(self, one: DeclaredKey) -> VirtualKey:
        return view_of_declared(one, self._declared_at_s, self._utc_s())

    def _changed(self) -> None:
        self._verified.clear()
        self.any_created = bool(self._rows or self._declared or self._closed)
        roles = (*(row.role for row in self._rows.values()), *(one.role for one in self._declared.values()))
        self.any_admin = any(role == Role.Admin for role in roles)

    def _utc_s(self) -> float:
        return self._clock.utc_now().timestamp()


def _check_tags(tags: Mapping[str, str] | None) -> None:
    reserved = sorted(set(RESERVED_TAGS).intersection(tags or {}))
    if reserved:
        raise ValueError(f"tags: {reserved[0]!r} is no name for a tag; a team has a field of its own.")


def _with(row: StoredVirtualKey, given: Mapping[str, Any]) -> StoredVirtualKey:
    """The row with what was given."""
    members = {name: given[name] for name in CHANGEABLE if name in given and name != "expires_at"}
    after = replace(row, document={**row.document, **members})
    if "expires_at" not in given:
        return after
    end: datetime | None = given["expires_at"]
    return replace(after, expires_at_s=None if end is None else end.timestamp())


def _limits_document(limits: CallerLimits) -> dict[str, Any]:
    return {"rpm": limits.rpm, "tpm": limits.tpm, "parallel": limits.parallel, "weight": limits.weight}
