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
_OLD_LIST = "retired_material.list"
_ONE = "retired_material."
_RETIRED, _WANTED = b"retired", b"wanted"


class RetiredMaterial:
    """Which material of which provider was revoked or replaced: one setting each, so that processes that retire
    different material at the same moment do not overwrite each other. An older version kept one list."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._pepper = b""
        self._old_list: frozenset[str] = frozenset()

    async def open(self) -> None:
        """Raises StateStoreError."""
        self._pepper = await self._store.put_setting(_PEPPER, secrets.token_bytes(32), only_if_absent=True)
        stored = await self._store.get_setting(_OLD_LIST)
        self._old_list = frozenset(msgspec.json.decode(stored, type=list[str])) if stored else frozenset()

    async def holds(self, provider_id: str, material: Secret) -> bool:
        """Whether this material was revoked or replaced. Raises StateStoreError."""
        digest = self._hash(provider_id, material)
        said = await self._store.get_setting(_ONE + digest)
        return digest in self._old_list if said is None else said == _RETIRED

    async def remember(self, provider_id: str, material: Secret) -> None:
        """From now on it is not taken from the environment. Durable when it returns."""
        await self._store.put_setting(_ONE + self._hash(provider_id, material), _RETIRED)

    async def forget(self, provider_id: str, material: Secret) -> None:
        """It is wanted again."""
        if await self.holds(provider_id, material):
            await self._store.put_setting(_ONE + self._hash(provider_id, material), _WANTED)

    def _hash(self, provider_id: str, material: Secret) -> str:
        return hmac.digest(self._pepper, provider_id.encode() + b"\0" + material.reveal_bytes(), "sha256").hex()
