"""Writes that somebody awaits and facts that nobody awaits, in one queue and in order, many to a transaction.

Main entries: `WriteBehind.post` (queue and forget), `WriteBehind.submit` (queue and await).
Laws: order is kept; a job's effect is seen wholly or not at all, and a job that fails takes no other with it; what was
posted is written exactly once, even when the server breaks off in the middle of a commit: the transaction's id tells
afterwards what became of it. While the server is away posts are kept (bounded) and tried again, and jobs fail at once.
A task runs only while there is something to write.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.infrastructure.state_store.codec import FrozenBatch
from apikeyrouter.infrastructure.state_store.postgres_session import Connection, Sessions, is_outage
from apikeyrouter.infrastructure.state_store.postgres_tables import Tables, publish

__all__ = ["Told", "Work", "WriteBehind"]

_T = TypeVar("_T")
Told = list[tuple[str, str]]
"""What a transaction publishes at its end, as (kind, entity id)."""

Work = Callable[[Connection, Told], Awaitable[_T]]
"""What a job does with the connection, within the group's transaction; it adds what it wants published."""

_GROUP_JOBS_MAX = 1_024
"""Jobs per transaction: bounds how long readers of the result wait, and what a rollback repeats."""

_RETRY_S = 0.5
"""How long posts rest before they are tried again while the server is away."""


@dataclass(slots=True)
class _Job(Generic[_T]):
    """Something that somebody awaits: a batch, other work, or nothing but its turn. `reports`: its answer tells of
    failed posts."""

    work: Work[_T] | None
    future: asyncio.Future[_T] | None
    batch: FrozenBatch | None = None
    reports: bool = False

    @property
    def empty(self) -> bool:
        """Whether it writes nothing."""
        return self.work is None and self.batch is None


class WriteBehind:
    """The queue of one store in one process. It outlives event loops; `sessions` gives the current loop's connections.

    `linger_s`: how long a post may wait for company. `batches_max`: posts that are kept while the server is away; the
    oldest beyond it are given up and count as failed. `failed_posts`: batches that could not be written, ever;
    `failing`: whether the last attempt to write posts failed.
    """

    def __init__(
        self,
        sessions: Callable[[], Sessions],
        tables: Tables,
        channel: str,
        *,
        linger_s: float = 0.05,
        batches_max: int = 100_000,
    ) -> None:
        self._sessions = sessions
        self._tables = tables
        self._channel = channel
        self._linger_s = linger_s
        self._batches_max = batches_max
        self._queue: deque[_Job[Any] | FrozenBatch] = deque()
        self._doubtful: tuple[str, list[FrozenBatch]] | None = None
        self._writing: list[_Job[Any] | FrozenBatch] = []
        self._transaction_ids: list[str] = []  # of the transaction that is being written, if it writes posts
        self._task: asyncio.Task[None] | None = None
        self._urgent = asyncio.Event()
        self._unreported = 0
        self._last_failure = ""
        self.failed_posts = 0
        self.failing = False
        self.queued_decisions = 0

    @property
    def ready(self) -> bool:
        """Whether everything that was queued is written."""
        return not self._queue and not self._writing and self._doubtful is None

    @property
    def defines_budgets(self) -> bool:
        """Whether a definition of a budget is queued and not written yet."""
        waiting = [*self._queue, *self._writing, *(self._doubtful[1] if self._doubtful else ())]
        return any(isinstance(one, FrozenBatch) and one.budgets for one in waiting)

    def post(self, frozen: FrozenBatch) -> None:
        """Queues a batch that nobody awaits."""
        self.queued_decisions += len(frozen.decisions)
        self._queue.append(frozen)
        self._start()

    def post_failure(self, error: StateStoreError) -> None:
        """Queues the news that something posted cannot be stored, in its turn."""

        async def fail(_: Connection, __: Told) -> None:
            raise error

        self.post_work(fail)

    def post_work(self, work: Work[Any]) -> None:
        """Queues work that nobody awaits."""
        self._queue.append(_Job(work, None))
        self._start()

    def submit(self, work: Work[_T]) -> asyncio.Future[_T]:
        """The future result of `work` after its transaction is committed."""
        return self._submit(_Job(work, asyncio.get_running_loop().create_future()))

    def apply(self, frozen: FrozenBatch) -> asyncio.Future[None]:
        """Done when the batch is committed."""
        return self._submit(_Job(None, asyncio.get_running_loop().create_future(), frozen))

    def barrier(self, *, reports: bool = False) -> asyncio.Future[None]:
        """Done when everything queued before is committed. `reports`: fails when posts have failed."""
        return self._submit(_Job(None, asyncio.get_running_loop().create_future(), None, reports))

    def _submit(self, job: _Job[_T]) -> asyncio.Future[_T]:
        assert job.future is not None  # noqa: S101 - only posts' failures have none
        self._queue.append(job)
        self._urgent.set()
        self._start()
        return job.future

    def give_up(self) -> int:
        """Forgets what is queued; how many posted batches that were."""
        posted = [one for one in self._queue if not isinstance(one, _Job)]
        posted += self._doubtful[1] if self._doubtful else []
        self._doubtful = None
        self._queue.clear()
        self.queued_decisions = 0
        self.failed_posts += len(posted)
        return len(posted)

    def rebind(self) -> None:
        """Goes on in another event loop; answers that the old one waited for are not given any more."""
        if self._transaction_ids and self._doubtful is None:
            posted = [one for one in self._writing if isinstance(one, FrozenBatch)]
            self._doubtful = (self._transaction_ids.pop(), posted)
            self._writing = [one for one in self._writing if isinstance(one, _Job)]
        waiting = [*self._writing, *self._queue]
        self._queue = deque(one for one in waiting if not isinstance(one, _Job) or one.future is None)
        self._writing, self._task, self._urgent = [], None, asyncio.Event()
        if self._queue:
            self._start()

    def _start(self) -> None:
        if self._task is not None and not self._task.done():
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # posted outside of a loop: the next call writes it
        self._task = loop.create_task(self._serve(), name="apikeyrouter-store-writer")

    async def _serve(self) -> None:
        pause_s = self._linger_s
        while self._queue or self._doubtful:
            if not any(isinstance(one, _Job) and one.future is not None for one in self._queue):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._urgent.wait()
            self._urgent.clear()
            while self._queue and len(self._writing) < _GROUP_JOBS_MAX:
                self._writing.append(self._queue.popleft())
            pause_s = self._linger_s
            try:
                await self._resolve_doubt()
                await self._write_group()
            except StateStoreError as error:
                self._keep_posts(error)
                pause_s = _RETRY_S
            self._writing = []

    async def _write_group(self) -> None:
        """One transaction for all; if that fails for a reason that may lie in one job, one transaction for each.

        Raises StateStoreError when the server is away; `_writing` then holds what is not written.
        """
        group = self._writing
        try:
            self._settle(await self._transaction(group), group)
        except StateStoreError as error:
            if is_outage(error):
                raise
            if len(group) == 1:
                self._fail(group[0], error)
                return
            while group:
                await self._write_alone(group[0])
                del group[0]

    async def _write_alone(self, one: _Job[Any] | FrozenBatch) -> None:
        try:
            self._settle(await self._transaction([one]), [one])
        except StateStoreError as error:
            if is_outage(error):
                raise
            self._fail(one, error)

    def _settle(self, results: list[tuple[_Job[Any], Any]], group: list[_Job[Any] | FrozenBatch]) -> None:
        posted = [one for one in group if isinstance(one, FrozenBatch)]
        self.queued_decisions -= sum(len(one.decisions) for one in posted)
        if posted:
            self.failing = False
        for job, result in results:
            self._answer(job, result)

    def _keep_posts(self, error: StateStoreError) -> None:
        """The server is away: posts are queued again, except those whose fate is in doubt; jobs fail."""
        doubtful = self._doubtful[1] if self._doubtful else []
        kept = [one for one in self._writing if not isinstance(one, _Job) or one.future is None]
        kept = [one for one in kept if not any(one is other for other in doubtful)]
        self._queue.extendleft(reversed(kept))
        if kept or doubtful:
            self.failing = True
            self._last_failure = error.message
        surplus = sum(1 for one in self._queue if isinstance(one, FrozenBatch)) - self._batches_max
        for oldest in [one for one in self._queue if isinstance(one, FrozenBatch)][: max(0, surplus)]:
            self._queue.remove(oldest)
            self._fail(oldest, error)
        for one in self._writing:
            if isinstance(one, _Job) and one.future is not None:
                self._fail(one, error)

    def _fail(self, one: _Job[Any] | FrozenBatch, error: StateStoreError) -> None:
        if isinstance(one, _Job) and one.future is not None:
            if not one.future.done():
                told = StateStoreError(error.message)
                told.__cause__ = error.__cause__
                one.future.set_exception(told)
            return
        if isinstance(one, FrozenBatch):
            self.queued_decisions -= len(one.decisions)
        self.failed_posts += 1
        self._unreported += 1
        self._last_failure = error.message
        self.failing = True

    def _answer(self, job: _Job[Any], result: Any) -> None:
        if job.future is None or job.future.done():
            return
        if job.reports and self._unreported:
            failed, self._unreported = self._unreported, 0
            message = f"{failed} posted batches were not stored. The last: {self._last_failure}"
            job.future.set_exception(StateStoreError(message))
        else:
            job.future.set_result(result)

    async def _transaction(self, group: list[_Job[Any] | FrozenBatch]) -> list[tuple[_Job[Any], Any]]:
        posted = [one for one in group if isinstance(one, FrozenBatch)]
        if not posted and all(isinstance(one, _Job) and one.empty for one in group):
            return [(one, None) for one in group if isinstance(one, _Job)]

        async def write(connection: Connection) -> list[tuple[_Job[Any], Any]]:
            self._transaction_ids.clear()
            if posted:
                self._transaction_ids.append(await connection.fetchval("SELECT pg_current_xact_id()::text"))
            return await self._statements(connection, group)

        try:
            results = await self._sessions().transact(write)
        except StateStoreError as error:
            if self._transaction_ids and is_outage(error):
                self._doubtful = (self._transaction_ids[0], posted)
            self._transaction_ids.clear()
            raise
        self._transaction_ids.clear()
        return results

    async def _resolve_doubt(self) -> None:
        """Learns whether the transaction that an outage interrupted was committed; if not, its posts come first."""
        if self._doubtful is None:
            return
        transaction_id, posted = self._doubtful
        try:
            status = await self._sessions().run(
                lambda connection: connection.fetchval("SELECT pg_xact_status($1::text::xid8)", transaction_id)
            )
        except StateStoreError as error:
            if is_outage(error):
                raise
            status = None  # another server took over, which has never heard of that transaction
        if status == "in progress":
            message = "The store has not noticed yet that its last connection broke off; it is tried again."
            raise StateStoreError(message) from TimeoutError()
        self._doubtful = None
        if status == "committed":
            self._settle([], list(posted))
        else:
            self._writing[:0] = posted

    async def _statements(
        self, connection: Connection, group: list[_Job[Any] | FrozenBatch]
    ) -> list[tuple[_Job[Any], Any]]:
        results: list[tuple[_Job[Any], Any]] = []
        batches: list[FrozenBatch] = []
        told: Told = []
        for one in group:
            batch = one.batch if isinstance(one, _Job) else one
            if batch is not None:
                batches.append(batch)
            if not isinstance(one, _Job):
                continue
            if one.work is not None:
                told += await self._tables.write(connection, batches)
                batches = []
            results.append((one, await one.work(connection, told) if one.work else None))
        told += await self._tables.write(connection, batches)
        await publish(connection, self._channel, told)
        return results
