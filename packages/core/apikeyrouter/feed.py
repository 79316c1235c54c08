"""What other processes changed in the store, told to the parts of this one that keep copies.

Main entry: `ChangeFeed`: `subscribe` before `start`, `catch_up` where an answer must know everything that was changed
before it was asked for (management), `stop` at the end. One task reads `StateStore.changes` for everybody.
Laws: a subscriber hears of every change at least once, with ids, or with None when changes may have been missed and it
must look at everything; it is told again until it has not failed; the order of ids says nothing. While the store does
not answer, subscribers keep what they know, and `stale_s` says for how long.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from apikeyrouter.domain.errors import RouterError, StateStoreError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.shared_ledger import Changes
from apikeyrouter.domain.interfaces.state_store import StateStore

__all__ = ["ChangeFeed", "Told"]

_log = logging.getLogger("apikeyrouter")

Told = Callable[[frozenset[str] | None], Awaitable[None]]
"""Is given the ids that changed, or None: look at everything. A StateStoreError that it raises is told again later."""

_WAIT_S = 5.0
"""How long one question waits for news, and so how long a broken connection may pass for silence."""

_BACKOFF_S, _BACKOFF_MAX_S = 0.1, 2.0


class ChangeFeed:
    """Reads the changes of `store` and tells subscribers. Use it on one event loop at a time."""

    def __init__(self, store: StateStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._subscribers: dict[str, list[Told]] = {}
        self._cursor: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._down_since_s: float | None = None
        self._missed = False

    @property
    def stale_s(self) -> float:
        """Seconds since the store stopped answering; 0.0 while it answers."""
        return 0.0 if self._down_since_s is None else self._clock.monotonic_s() - self._down_since_s

    def subscribe(self, kind: str, told: Told) -> None:
        """From now on `told` hears of changes of this kind ("key", "budget", "virtual_key", "setting", "lease")."""
        self._subscribers.setdefault(kind, []).append(told)

    async def start(self) -> None:
        """Hears of everything from now on. Call it before loading, so that nothing falls between. Idempotent.

        Raises StateStoreError.
        """
        if self._task is not None and self._task.get_loop() is asyncio.get_running_loop():
            return
        self._task = None  # with an earlier loop its tasks have ended too
        self._cursor = (await self._store.changes(None, 0.0)).cursor
        self._down_since_s, self._missed = None, False
        self._task = asyncio.get_running_loop().create_task(self._follow(), name="apikeyrouter-feed")

    async def stop(self) -> None:
        """Ends the task. It may be started again, on another event loop too. Idempotent."""
        task, self._task = self._task, None
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def catch_up(self) -> None:
        """Returns when subscribers know everything that was changed before this call. Raises StateStoreError."""
        if self._task is not None:
            await self._take(0.0)

    async def _follow(self) -> None:
        failures = 0
        while True:
            try:
                await self._take(_WAIT_S)
                failures = 0
            except StateStoreError as error:
                if failures == 0:
                    _log.warning("Changes of other processes cannot be read; what is known goes on: %s", error.message)
                self._missed = True
            except Exception:  # noqa: BLE001 - a subscriber's fault must not make this process deaf
                if failures == 0:
                    _log.exception("A change of another process could not be taken in; it is tried again.")
                self._missed = True
            if self._missed:
                failures += 1
                await self._clock.sleep(min(_BACKOFF_MAX_S, _BACKOFF_S * 2.0 ** min(failures, 10)))

    async def _take(self, wait_s: float) -> None:
        """One question, and its answer to the subscribers. The cursor moves when all of them have it, so that nobody
        takes an answer for old news while another one still tells it."""
        try:
            changes = await self._store.changes(self._cursor, 0.0 if self._missed else wait_s)
            whole = self._missed or changes.lost
            await self._tell(changes, whole=whole)
        except StateStoreError:
            self._down_since_s = self._clock.monotonic_s() if self._down_since_s is None else self._down_since_s
            raise
        self._down_since_s = None
        self._missed = False
        self._cursor = changes.cursor if whole or self._cursor is None else max(self._cursor, changes.cursor)

    async def _tell(self, changes: Changes, *, whole: bool) -> None:
        ids: dict[str, set[str]] = {}
        for change in changes.changes:
            ids.setdefault(change.kind, set()).add(change.entity_id)
        for kind in self._subscribers if whole else ids:
            for told in self._subscribers.get(kind, ()):
                try:
                    await told(None if whole else frozenset(ids[kind]))
                except StateStoreError:
                    raise
                except RouterError as error:
                    _log.warning("%s", error.message)
