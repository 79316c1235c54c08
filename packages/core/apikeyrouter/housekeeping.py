"""What a running router does besides serving: posts what happened, keeps its leases, remembers limits, renews
tokens, follows the store's changes.

`Housekeeping` owns the tasks and ends them in the right order: what is pending is posted first, then every leased slice
goes back, then the store may close. One task makes a round every `FLUSH_EVERY_S`, and while nothing happens every
`NAP_S`: `stir` ends the nap. A round posts, and sends off errands that are due, each in a task of its own.
Laws: what was stirred for is posted within about `FLUSH_EVERY_S`; a fault or a long wait in one part stops or delays no
other; no errand runs twice at a time.
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
NAP_S = 1.0
"""How often an idle router looks around: states of quota are renewed once a second at the most."""

_ROUNDS_AWAKE = 8
"""So many rounds without anything new, then it naps: waking from a nap costs more than a round."""


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
        self._tasks: list[asyncio.Task[None]] = []
        self._errands = (
            ("apikeyrouter-quota-memory", memory.due, memory.tick),
            ("apikeyrouter-credentials", credentials.due, credentials.tick),
        )
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._stirred = True
        self._nap: asyncio.Future[None] | None = None
        feed.subscribe("budget", self._budgets_changed)
        feed.subscribe("lease", self._lease_called)
        feed.subscribe("key", self._keys_changed)

    def start(self) -> None:
        """Begins, on the running loop. The feed runs already: it starts before anything is loaded."""
        self._book.lessee.begin()
        loop = asyncio.get_running_loop()
        self._stirred, self._nap = True, None
        self._under_way = {}  # with an earlier loop its tasks have ended too
        self._tasks = [
            loop.create_task(self._rounds(loop), name="apikeyrouter-post"),
            loop.create_task(self._keep_leases(), name="apikeyrouter-leases"),
        ]

    def stir(self) -> None:
        """Something happened that is to be posted soon."""
        self._stirred = True
        if self._nap is not None:
            _wake(self._nap)

    async def stop(self, *, same_loop: bool) -> None:
        """Ends the tasks and gives the leases back. `same_loop`: False when the tasks ended with an earlier loop."""
        tasks, self._tasks = [*self._tasks, *self._under_way.values()], []
        if same_loop:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._feed.stop()
        await self._book.lessee.aclose()
        await self._memory.save()

    async def _rounds(self, loop: asyncio.AbstractEventLoop) -> None:
        still = 0
        while True:
            still = 0 if self._stirred else still + 1
            self._stirred = False
            self._round(loop)
            if still >= _ROUNDS_AWAKE and not self._stirred:
                await self._rest(loop)
            await self._clock.sleep(FLUSH_EVERY_S)

    def _round(self, loop: asyncio.AbstractEventLoop) -> None:
        """Without posts nothing would be kept, so no fault may end the rounds."""
        try:
            self._post()
            now_s = self._clock.monotonic_s()
            for name, due, work in self._errands:
                if name not in self._under_way and due(now_s):
                    self._under_way[name] = loop.create_task(self._errand(name, work, self._under_way), name=name)
        except Exception:  # noqa: BLE001 - a fault of ours; store errors are dealt with inside
            _log.exception("Housekeeping failed; it is taken up again.")

    async def _errand(
        self, name: str, work: Callable[[], Awaitable[None]], under_way: dict[str, asyncio.Task[None]]
    ) -> None:
        try:
            await self._tried(work)
        finally:
            under_way.pop(name, None)

    async def _rest(self, loop: asyncio.AbstractEventLoop) -> None:
        """Until something stirs, `NAP_S` with the round's own pause at the most."""
        nap = self._nap = loop.create_future()
        alarm = loop.call_later(NAP_S - FLUSH_EVERY_S, _wake, nap)
        try:
            await nap
        finally:
            if self._nap is nap:  # that of a loop that was left ends some time later
                self._nap = None
            alarm.cancel()

    async def _keep_leases(self) -> None:
        """Again and again: without leases every hard budget would refuse from then on."""
        while True:
            await self._tried(self._book.lessee.run)
            await self._clock.sleep(FLUSH_EVERY_S)

    async def _tried(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception:  # noqa: BLE001 - as in a round
            _log.exception("Housekeeping failed; it is taken up again.")

    async def _budgets_changed(self, _ids: object) -> None:
        await self._book.reload()

    async def _lease_called(self, ids: frozenset[str] | None) -> None:
        self._book.lessee.called(ids)

    async def _keys_changed(self, ids: frozenset[str] | None) -> None:
        await self._keys.refresh(ids)


def _wake(nap: asyncio.Future[None]) -> None:
    if not nap.done() and not nap.get_loop().is_closed():
        nap.set_result(None)
