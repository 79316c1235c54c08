"""Named documents of the operator's (policies, deployments), kept in the store and the same in every process on it.

`DocumentKeeper` holds one blob among the store's settings: a JSON list of documents as they were written. Whoever
changes one reads the blob first; whoever follows the store's changes reads it again.
Laws: a document is durable when `put` returns, and holds for requests that are decided afterwards; one that cannot be
read is refused before anything is stored; what the configuration defines is changed there and not here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from apikeyrouter.domain.errors import ConfigurationError, StateStoreError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.state_store import StateStore, StoreBatch, StoredEvent

__all__ = ["DocumentKeeper", "Subscribe"]

Subscribe = Callable[[str, Callable[[frozenset[str] | None], Awaitable[None]]], None]
"""`ChangeFeed.subscribe`."""

_MOST = 1_000


class _Document(Protocol):
    @property
    def document(self) -> Mapping[str, Any]: ...


_Kind = TypeVar("_Kind", bound=_Document)


class DocumentKeeper(Generic[_Kind]):
    """Documents by name. `setting`: the blob's name. `word`: what one is called, in events and messages. `read`: from
    what was written to what it means; raises ValueError. `name_of`: its name. `taken_in`: is given all that are stored,
    whenever they may be others than before."""

    def __init__(
        self,
        store: StateStore,
        clock: Clock,
        *,
        setting: str,
        word: str,
        read: Callable[[object], _Kind],
        name_of: Callable[[_Kind], str],
        taken_in: Callable[[list[_Kind]], None],
        configured: Mapping[str, _Kind],
    ) -> None:
        self._store = store
        self._clock = clock
        self._setting = setting
        self._word = word
        self._read = read
        self._name_of = name_of
        self._taken_in = taken_in
        self._configured = configured
        self._stored: dict[str, _Kind] = {}
        self._blob: bytes | None = None
        self._writing = asyncio.Lock()

    async def load(self) -> None:
        """Reads what is stored. Raises StateStoreError."""
        blob = await self._store.get_setting(self._setting)
        if blob == self._blob:
            return
        try:
            found = [self._read(row) for row in json.loads(blob or b"[]")]
        except ValueError as fault:
            raise StateStoreError(f"What the store has in {self._setting} cannot be read: {fault}") from None
        self._blob = blob
        self._take_in({self._name_of(one): one for one in found})

    async def changed(self, ids: frozenset[str] | None) -> None:
        """For the store's feed of changed settings. Raises StateStoreError."""
        if ids is None or self._setting in ids:
            await self.load()

    async def put(self, one: _Kind) -> None:
        """Adds or replaces one. Raises ConfigurationError (nothing was changed) or StateStoreError."""
        name = self._name_of(one)
        self._check_ours(name)
        async with self._writing:
            await self.load()
            if name not in self._stored and len(self._stored) >= _MOST:
                raise ConfigurationError([f"there are {_MOST} documents already; remove some"])
            await self._save({**self._stored, name: one}, "set", name, one.document)

    async def remove(self, name: str) -> bool:
        """Removes one; whether it was there. Raises ConfigurationError or StateStoreError."""
        self._check_ours(name)
        async with self._writing:
            await self.load()
            if name not in self._stored:
                return False
            rest = {other: one for other, one in self._stored.items() if other != name}
            await self._save(rest, "removed", name, {})
            return True

    def _check_ours(self, name: str) -> None:
        if name in self._configured:
            raise ConfigurationError([f"{self._word} {name!r} comes from the configuration; change it there"])

    async def _save(self, all_of_them: dict[str, _Kind], what: str, name: str, document: Mapping[str, Any]) -> None:
        blob = json.dumps([dict(one.document) for one in all_of_them.values()]).encode()
        await self._store.put_setting(self._setting, blob)
        self._blob = blob
        self._take_in(all_of_them)
        at_s = self._clock.utc_now().timestamp()
        self._store.post(StoreBatch(events=[StoredEvent(at_s, f"{self._word}.{what}", name, dict(document))]))

    def _take_in(self, found: dict[str, _Kind]) -> None:
        self._stored = found
        self._taken_in(list(found.values()))
