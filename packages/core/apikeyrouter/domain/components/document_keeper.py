"""Named documents of the operator's (policies, deployments), kept in the store and the same in every process on it.

Laws: a document is durable when `put` returns, and holds for requests that are decided afterwards; one that cannot be
read is refused before anything is stored; what the configuration defines is changed there and not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from apikeyrouter.domain.components.shared_list import Document, SharedList
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.state_store import StateStore, StoreBatch, StoredEvent

__all__ = ["DocumentKeeper"]

_MOST = 1_000

_Kind = TypeVar("_Kind", bound=Document)


class DocumentKeeper(Generic[_Kind]):
    """Documents by name. `setting`: the list's name in the store. `word`: what one is called, in events and messages.
    `read`, `taken_in`: as `SharedList` has them. `name_of`: a document's name."""

    def __init__(
        self,
        store: StateStore,
        clock: Clock,
        *,
        setting: str,
        word: str,
        read: Callable[[object], _Kind],
        name_of: Callable[[_Kind], str],
        taken_in: Callable[[Sequence[_Kind]], None],
        configured: Mapping[str, _Kind],
    ) -> None:
        self._store = store
        self._clock = clock
        self._word = word
        self._name_of = name_of
        self._configured = configured
        self._list = SharedList(store, setting, read=read, taken_in=taken_in)
        self.load = self._list.load
        self.changed = self._list.changed

    async def put(self, one: _Kind) -> None:
        """Adds or replaces one. Raises ConfigurationError (nothing was changed) or StateStoreError."""
        name = self._name_of(one)
        self._check_ours(name)

        def with_it(stored: Sequence[_Kind]) -> Sequence[_Kind]:
            by_name = {self._name_of(other): other for other in stored}
            if name not in by_name and len(by_name) >= _MOST:
                raise ConfigurationError([f"there are {_MOST} documents already; remove some"])
            return list({**by_name, name: one}.values())

        await self._list.change(with_it)
        self._note("set", name, one.document)

    async def remove(self, name: str) -> bool:
        """Removes one; whether it was there. Raises ConfigurationError or StateStoreError."""
        self._check_ours(name)

        def without_it(stored: Sequence[_Kind]) -> Sequence[_Kind] | None:
            rest = [other for other in stored if self._name_of(other) != name]
            return rest if len(rest) < len(stored) else None

        found = await self._list.change(without_it)
        if found:
            self._note("removed", name, {})
        return found

    def _check_ours(self, name: str) -> None:
        if name in self._configured:
            raise ConfigurationError([f"{self._word} {name!r} comes from the configuration; change it there"])

    def _note(self, what: str, name: str, document: Mapping[str, Any]) -> None:
        at_s = self._clock.utc_now().timestamp()
        self._store.post(StoreBatch(events=[StoredEvent(at_s, f"{self._word}.{what}", name, dict(document))]))
