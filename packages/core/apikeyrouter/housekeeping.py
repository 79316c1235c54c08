"""What a running router does besides serving: posts what happened, keeps its leases, remembers limits, renews
tokens, follows the store's changes.

`Housekeeping` owns the tasks and ends them in the right order: what is pending is posted first, then every leased slice
goes back, then the store may close.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from apikeyrouter.credentials.keeper import CredentialKeeper
from apikeyrouter.domain.components.budget_book import BudgetBook
from apikeyrouter.domain.components.key_manager import KeyManager
from apikeyrouter.domain.components.quota_memory import QuotaMemory
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.feed import ChangeFeed

__all__ = ["Housekeeping"]

_log = logging.getLogger("apikeyrouter")
FLUSH_EVERY_S = 0.25


class Housekeeping:
    """Tasks of one router. `post`: writes behind what came together since the last time."""

    def __init__(
        self,
        clock: Clock,
        post: Callable[[], None],
        book: BudgetBook,
        keys: KeyManager,
        memory: QuotaMemory,
        feed: ChangeFeed,
        credentials: CredentialKeeper,
    ) -> None:
        self._clock = clock
        self._post = post
        self._book = book
        self._keys = keys
        self._memory = memory
        self._feed = feed
        self._credentials = credentials
        self._tasks: list[asyncio.Task[None]] = []
        feed.subscribe("budget", self._budgets_changed)
        feed.subscribe("lease", self._lease_called)
        feed.subscribe("key", self._keys_changed)

    def start(self) -> None:
        """Begins, on the running loop. The feed runs already: it starts before anything is loaded."""
        self._book.lessee.begin()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._forever(self._post_once), name="apikeyrouter-post"),
            loop.create_task(self._forever(self._book.lessee.run), name="apikeyrouter-leases"),
            loop.create_task(self._forever(self._memory.tick), name="apikeyrouter-quota-memory"),
            loop.create_task(self._forever(self._credentials.tick), name="apikeyrouter-credentials"),
        ]

    async def stop(self, *, same_loop: bool) -> None:
        """Ends the tasks and gives the leases back. `same_loop`: False when the tasks ended with an earlier loop."""
        tasks, self._tasks = self._tasks, []
        if same_loop:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._feed.stop()
        await self._book.lessee.aclose()
        await self._memory.save()

    async def _forever(self, work: Callable[[], Awaitable[None]]) -> None:
        """Does `work` again and again: without leases every hard budget would refuse from then on, and without posts
        nothing would be kept."""
        while True:
            try:
                await work()
            except Exception:  # noqa: BLE001 - a fault of ours; store errors are dealt with inside
                _log.exception("Housekeeping failed; it is taken up again.")
            await self._clock.sleep(FLUSH_EVERY_S)

    async def _post_once(self) -> None:
        self._post()

    async def _budgets_changed(self, _ids: object) -> None:
        await self._book.reload()

    async def _lease_called(self, ids: frozenset[str] | None) -> None:
        self._book.lessee.called(ids)

    async def _keys_changed(self, ids: frozenset[str] | None) -> None:
        await self._keys.refresh(ids)
