"""Key material that must not come back from the environment.

An operator revokes or rotates a key, and the old material still stands in `OPENAI_API_KEY_3`: the next start must not
register it again. Main entry: `RetiredMaterial`. Law: it keeps keyed hashes, never material, and forgets nothing by
itself; registering material by hand takes it off the list, because then somebody wants it.
"""

from __future__ import annotations

import hmac
import secrets

import msgspec

from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.domain.keys.secret import Secret

__all__ = ["RetiredMaterial"]

_PEPPER = "retired_material.pepper"
_LIST = "retired_material.list"


class RetiredMaterial:
    """Which material of which provider was revoked or replaced."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._pepper = b""
        self._hashes: set[str] = set()

    async def open(self) -> None:
        """Loads the list. Raises StateStoreError."""
        self._pepper = await self._store.put_setting(_PEPPER, secrets.token_bytes(32), only_if_absent=True)
        stored = await self._store.get_setting(_LIST)
        self._hashes = set(msgspec.json.decode(stored, type=list[str])) if stored else set()

    def holds(self, provider_id: str, material: Secret) -> bool:
        """Whether this material was revoked or replaced."""
        return self._hash(provider_id, material) in self._hashes

    async def remember(self, provider_id: str, material: Secret) -> None:
        """From now on it is not taken from the environment. Durable when it returns."""
        self._hashes.add(self._hash(provider_id, material))
        await self._save()

    async def forget(self, provider_id: str, material: Secret) -> None:
        """It is wanted again."""
        digest = self._hash(provider_id, material)
        if digest in self._hashes:
            self._hashes.discard(digest)
            await self._save()

    async def _save(self) -> None:
        await self._store.put_setting(_LIST, msgspec.json.encode(sorted(self._hashes)))

    def _hash(self, provider_id: str, material: Secret) -> str:
        return hmac.digest(self._pepper, provider_id.encode() + b"\0" + material.reveal_bytes(), "sha256").hex()
