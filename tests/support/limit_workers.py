"""Workers that share the limits of callers over one store, for tests and races.

Main entry: `LimitWorker`: a lessee, its change feed and `TenantLimits`, as a router has them.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from apikeyrouter.domain.components.lessee import Lessee
from apikeyrouter.domain.components.tenant_limits import TenantLimits
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.feed import ChangeFeed

__all__ = ["LimitWorker"]


class LimitWorker:
    """`async with` starts it and ends it in order; `die` ends it as SIGKILL does."""

    def __init__(self, store: StateStore, clock: Clock, *, ttl_s: float = 15.0) -> None:
        self.store = store
        self.lessee = Lessee(
            store, clock, on_answer=lambda *_: None, on_fenced=lambda: None, on_time=lambda: None, ttl_s=ttl_s
        )
        self.feed = ChangeFeed(store, clock)
        self.feed.subscribe("lease", self._called)
        self.limits = TenantLimits(self.lessee, clock)
        self._task: asyncio.Task[None] | None = None

    async def _called(self, ids: frozenset[str] | None) -> None:
        self.lessee.called(ids)

    async def __aenter__(self) -> LimitWorker:
        await self.feed.start()
        self.lessee.begin()
        self._task = asyncio.get_running_loop().create_task(self.lessee.run(), name="leases")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if await self.die():
            await self.lessee.aclose()

    async def die(self) -> bool:
        """Ends its tasks, and nothing else; True unless it was dead already."""
        task, self._task = self._task, None
        if task is None:
            return False
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self.feed.stop()
        return True
