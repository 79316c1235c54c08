"""What the parts of the store suite share: how a store is made, opened, reopened, and seen to refuse.

Main entry: `StoreSuite`. Law: every store that a test opens is closed when the test ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.state_store import StateStore

__all__ = ["AWKWARD_TEXTS", "StoreSuite", "refused"]

AWKWARD_TEXTS = (
    "'; DROP TABLE keys; --",
    '" OR "1"="1',
    "100%_\\*?[a]",
    "nul\x00inside",
    "líne\nbreak\ttab",
    "ключ-鍵-🔑",
    "e\u0301 is not \u00e9",
    " spaces around ",
    "NULL",
    "x" * 10_000,
)
"""Ids and names that a careless store would execute, cut, fold or confuse."""


class StoreSuite:
    """Base of the parts of the suite."""

    def make_store(self, **limits: Any) -> StateStore:
        """A new store, not yet opened, on the place of the running test. Override this.

        Made twice in one test, a persistent store finds what the first one wrote. `limits`: `max_events` and
        `max_decisions`, or nothing.
        """
        raise NotImplementedError("derive a class and say how to make your store")

    async def kill_server(self) -> None:
        """Kills the server behind the store with SIGKILL; returns when it is gone. Override this, and
        `restart_server`, when there is a server: the laws of killed servers run then."""
        raise NotImplementedError("this store has no server of its own")

    async def restart_server(self) -> None:
        """Starts the killed server again on the same data and address; returns when it takes connections."""
        raise NotImplementedError("this store has no server of its own")

    @property
    def has_server(self) -> bool:
        """Whether the suite can kill and restart what stands behind the store."""
        return type(self).kill_server is not StoreSuite.kill_server

    @asynccontextmanager
    async def opened(self, **limits: Any) -> AsyncIterator[StateStore]:
        """A store for one test; closed at its end."""
        store = self.make_store(**limits)
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    @asynccontextmanager
    async def beside(self, store: StateStore) -> AsyncIterator[StateStore]:
        """Another object on the place of `store`; `store` itself when nothing is outside it."""
        if not store.persistent:
            yield store
            return
        async with self.opened() as other:
            yield other

    @asynccontextmanager
    async def reopened(self, store: StateStore) -> AsyncIterator[StateStore]:
        """The state of `store` after it was closed: seen by a new object if it is persistent, else by itself."""
        await store.close()
        later = self.make_store() if store.persistent else store
        await later.open()
        try:
            yield later
        finally:
            await later.close()


async def refused(call: Awaitable[Any]) -> StateStoreError:
    """The StateStoreError that `call` must raise, with a sentence in it."""
    try:
        await call
    except StateStoreError as error:
        return error
    raise AssertionError("a StateStoreError was due")
