"""A list of documents among the store's settings, which several processes read and change at once.

`SharedList` holds one blob: a JSON list of documents as they were written. Every change is made to what is stored at
that moment and replaces nothing else; whoever follows the store's changes reads the list again.
Laws: a change is durable when `change` returns, and no process's change is lost to another's; a list that cannot be
read or written leaves the one before in force.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.state_store import StateStore

__all__ = ["Document", "SharedList", "Subscribe"]

Subscribe = Callable[[str, Callable[[frozenset[str] | None], Awaitable[None]]], None]
"""`ChangeFeed.subscribe`."""

_TRIES = 100
"""Each try that fails is another process's success."""


class Document(Protocol):
    """What a document means; `document` is how it was written, as JSON."""

    @property
    def document(self) -> Mapping[str, Any]: ...


_Kind = TypeVar("_Kind", bound=Document)


class SharedList(Generic[_Kind]):
    """The list under `setting`. `read`: from what was written to what it means; raises ValueError. `taken_in`: is given
    all of it, whenever it may be another than before."""

    def __init__(
        self,
        store: StateStore,
        setting: str,
        *,
        read: Callable[[object], _Kind],
        taken_in: Callable[[Sequence[_Kind]], None],
    ) -> None:
        self._store = store
        self._setting = setting
        self._meaning_of = read
        self._taken_in = taken_in
        self._blob: bytes | None = None
        self._all: Sequence[_Kind] = ()
        self._turn: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    async def load(self) -> None:
        """Takes in what is stored. Raises StateStoreError."""
        async with self._turn_here():
            await self._load()

    async def changed(self, ids: frozenset[str] | None) -> None:
        """For the store's feed of changed settings. Raises StateStoreError."""
        if ids is None or self._setting in ids:
            await self.load()

    async def change(self, edit: Callable[[Sequence[_Kind]], Sequence[_Kind] | None]) -> bool:
        """Stores what `edit` makes of what is stored, and returns True; False when it gives None, which leaves all as
        it is. `edit` is called again where another process was faster.

        Raises StateStoreError, and whatever `edit` raises; nothing was changed then.
        """
        async with self._turn_here():
            for _ in range(_TRIES):
                await self._load()
                wanted = edit(self._all)
                if wanted is None:
                    return False
                blob = json.dumps([dict(one.document) for one in wanted]).encode()
                absent = self._blob is None
                stored = await self._store.put_setting(self._setting, blob, only_if_absent=absent, only_if=self._blob)
                if stored == blob:
                    self._take_in(blob, wanted)
                    return True
        raise StateStoreError(f"Other processes change {self._setting} all the time; nothing was changed. Try again.")

    def _turn_here(self) -> asyncio.Lock:
        """Whoever reads waits for whoever writes: what was read before a write would else be taken in after it. A lock
        belongs to one event loop; with an earlier one, its holders have ended too."""
        loop = asyncio.get_running_loop()
        if self._turn is None or self._turn[0] is not loop:
            self._turn = loop, asyncio.Lock()
        return self._turn[1]

    async def _load(self) -> None:
        blob = await self._store.get_setting(self._setting)
        if blob == self._blob:
            return
        try:
            found = [self._meaning_of(row) for row in json.loads(blob or b"[]")]
        except ValueError as fault:
            raise StateStoreError(f"What the store has in {self._setting} cannot be read: {fault}") from None
        self._take_in(blob, found)

    def _take_in(self, blob: bytes | None, found: Sequence[_Kind]) -> None:
        self._blob, self._all = blob, found
        self._taken_in(found)
