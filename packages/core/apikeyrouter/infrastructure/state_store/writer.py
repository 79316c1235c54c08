"""Two threads beside the event loop: one writes, one reads.

Main entries: `GroupWriter.post` (queue and forget), `GroupWriter.submit` (queue and await), `Reader.submit`.
Everything queued while a transaction runs goes into the next one (group commit), so many callers share one sync of the
disk; facts that nobody awaits wait up to `linger_s` for company.
Laws: order is kept; a job's effect is seen wholly or not at all, and a job that fails takes no other with it; an idle
thread sleeps until there is work, without waking by the clock. Queues are `SimpleQueue`, whose `put` is safe even
inside a garbage collection, so that `stop` may be called from a finalizer.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.infrastructure.state_store.codec import FrozenBatch
from apikeyrouter.infrastructure.state_store.sqlite_file import (
    DatabaseFile,
    connect,
    connect_reader,
    is_busy,
    is_lasting,
    store_error,
)

__all__ = ["GroupWriter", "Reader", "Work"]

_T = TypeVar("_T")
Work = Callable[[sqlite3.Connection], _T]
"""What a job does with the connection, on the connection's thread."""

_GROUP_JOBS_MAX = 1_024
"""Jobs per transaction: bounds how long readers of the result wait, and what a rollback repeats."""

_LOCK_WAIT_S, _LOCK_WAIT_MAX_S = 0.0005, 0.004
"""The first and the longest pause before asking again for the lock that another process holds. SQLite's own pauses grow
to 100 ms, and among busy processes the same one loses time and again (measured with 8 processes on 2 cores that lease
without a break: the slowest of 1,600 leases took 0.2-0.5 s instead of 1.4-1.8 s, at the same throughput)."""

_STOP_WAIT_S = 5.0
"""How long the end of the process waits for the last rows to be written."""

_FAILURES = (sqlite3.Error, OSError, StateStoreError, ValueError, OverflowError, TypeError)
"""What a statement may raise: the database, the file system, or a value that it cannot bind."""


@dataclass(slots=True)
class _Job(Generic[_T]):
    """Work that somebody awaits. `durable`: it must survive a loss of power, and so must everything before it.
    `reports`: its answer tells of failed posts. `last`: the thread ends after it."""

    work: Work[_T] | None
    loop: asyncio.AbstractEventLoop | None
    future: asyncio.Future[_T] | None
    durable: bool = False
    reports: bool = False
    last: bool = False


_Outcome = tuple[_Job[Any], Any, StateStoreError | None]


def _answer(outcomes: Sequence[_Outcome]) -> None:
    """Hands results to the event loops that wait for them; a loop that has ended waits for nothing."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for outcome in outcomes:
        if outcome[0].loop is not None:
            by_loop.setdefault(outcome[0].loop, []).append(outcome)
    for loop, ours in by_loop.items():
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, ours)


def _resolve(outcomes: Sequence[_Outcome]) -> None:
    for job, result, error in outcomes:
        if job.future is None or job.future.done():
            continue
        if error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(error)


class _Worker:
    """A daemon thread with a queue and a connection that only it touches."""

    def __init__(self, file: DatabaseFile, name: str, after: threading.Thread | None = None) -> None:
        self._file = file
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._after = after
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        if self._after is not None:
            self._after.join()  # a predecessor on the same file finishes first: order is kept over close and reopen
            self._after = None
        self._serve()

    def _serve(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        """Finishes what is queued and ends the thread, from any thread, a finalizer or the end of the process."""
        self._queue.put(_Job(None, None, None, durable=True, last=True))
        if threading.current_thread() is not self.thread:
            self.thread.join(_STOP_WAIT_S)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


class Reader(_Worker):
    """Answers questions, one after the other, on a connection that cannot write. `finished`: it takes none any more."""

    finished = False

    def submit(self, work: Work[_T]) -> asyncio.Future[_T]:
        """The future result of `work`. Its failure is a StateStoreError."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        self._queue.put(_Job(work, loop, future))
        return future

    def finish(self) -> asyncio.Future[None]:
        """Done when everything asked so far is answered and the thread has let go of the file."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self.finished = True
        self._queue.put(_Job(None, loop, future, last=True))
        return future

    def _serve(self) -> None:
        while True:
            job: _Job[Any] = self._queue.get()
            result, error = None, None
            try:
                if job.work is not None and not job.last:
                    if self._connection is None:
                        self._connection = connect_reader(self._file)
                    result = job.work(self._connection)
            except Exception as failure:  # noqa: BLE001 - whatever it is, it belongs to whoever asked
                error = store_error(failure, self._file.path)
                self._disconnect()
            if job.last:
                self._disconnect()
            _answer([(job, result, error)])
            if job.last:
                return


class GroupWriter(_Worker):
    """Writes, many jobs to a transaction.

    `write` puts a batch into the tables (within a transaction). `linger_s`: how long a post may wait for company.
    `failed_posts` counts batches that could not be written, ever; `failing` tells whether the last one was. `outlives`:
    a thread that lets go of the file first: only a connection that may write clears up behind the last one (`-wal`).
    """

    def __init__(
        self,
        file: DatabaseFile,
        write: Callable[[sqlite3.Connection, Sequence[FrozenBatch]], None],
        *,
        linger_s: float = 0.05,
        after: threading.Thread | None = None,
    ) -> None:
        self.write = write
        self.outlives: threading.Thread | None = None
        self._linger_s = linger_s
        self._urgent = threading.Event()
        self._pause = threading.Event()  # never set: waiting for it is a pause
        self._backlog = False
        self._unsynced = False
        self._synchronous = ""
        self._unreported = 0
        self._last_failure = ""
        self.failed_posts = 0
        self.failing = False
        # Counters with one writing thread each; their difference is what is queued.
        self._jobs_put = 0
        self._jobs_done = 0
        self._decisions_put = 0
        self._decisions_done = 0
        super().__init__(file, "apikeyrouter-store-writer", after)

    @property
    def ready(self) -> bool:
        """Whether the file is open and everything queued so far has been written (or has failed)."""
        return self._jobs_done == self._jobs_put and self._connection is not None

    @property
    def queued_decisions(self) -> int:
        """Decisions posted and not yet written."""
        return self._decisions_put - self._decisions_done

    def post(self, batch: FrozenBatch) -> None:
        """Queues rows that nobody waits for."""
        self._jobs_put += 1
        self._decisions_put += len(batch.decisions)
        self._queue.put(batch)

    def post_work(self, work: Work[object]) -> None:
        """Queues work that nobody waits for; its failure counts as one of a post."""
        self._jobs_put += 1
        self._queue.put(_Job(work, None, None))

    def post_failure(self, error: StateStoreError) -> None:
        """Queues the news that something posted cannot be stored, in its turn."""

        def fail(_: sqlite3.Connection) -> None:
            raise error

        self.post_work(fail)

    def submit(
        self, work: Work[_T] | None, *, durable: bool = True, reports: bool = False, last: bool = False
    ) -> asyncio.Future[_T]:
        """The future result of `work` after its transaction is committed (synced to disk if `durable`).

        No work: answers when everything queued before is written. Failures are StateStoreErrors.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        self._jobs_put += 1
        self._queue.put(_Job(work, loop, future, durable, reports, last))
        self._urgent.set()
        return future

    def _serve(self) -> None:
        while True:
            group = self._next_group()
            outcomes = self._write_group(group)
            self._jobs_done += len(group)
            self._decisions_done += sum(len(one.decisions) for one in group if isinstance(one, FrozenBatch))
            ends = isinstance(group[-1], _Job) and group[-1].last
            if ends:
                if self.outlives is not None:
                    self.outlives.join(_STOP_WAIT_S)
                self._disconnect()
            _answer([self._with_report(outcome) for outcome in outcomes])
            if ends:
                return

    def _next_group(self) -> list[_Job[Any] | FrozenBatch]:
        first = self._queue.get()
        if isinstance(first, FrozenBatch) and not self._backlog:
            self._urgent.wait(self._linger_s)
        self._urgent.clear()
        group = [first]
        with contextlib.suppress(queue.Empty):
            while len(group) < _GROUP_JOBS_MAX and not (isinstance(group[-1], _Job) and group[-1].last):
                group.append(self._queue.get_nowait())
        self._backlog = len(group) == _GROUP_JOBS_MAX
        return group

    def _write_group(self, group: list[_Job[Any] | FrozenBatch]) -> list[_Outcome]:
        """One transaction for all; if that fails for a reason that may lie in one job, one transaction for each."""
        try:
            return self._transaction(group)
        except Exception as failure:  # noqa: BLE001 - a thread that dies would leave its callers waiting for ever
            if len(group) > 1 and not is_lasting(failure):
                return [outcome for one in group for outcome in self._write_group([one])]
            error = store_error(failure, self._file.path)
            if not isinstance(failure, _FAILURES):
                error = StateStoreError(f"The store {self._file.path} failed unexpectedly: {failure!r}.")
            return [outcome for one in group for outcome in self._failed(one, error)]

    def _failed(self, one: _Job[Any] | FrozenBatch, error: StateStoreError) -> list[_Outcome]:
        if isinstance(one, _Job) and one.future is not None:
            return [(one, None, error)]
        self.failed_posts += 1
        self._unreported += 1
        self._last_failure = error.message
        self.failing = True
        return []

    def _with_report(self, outcome: _Outcome) -> _Outcome:
        job, result, error = outcome
        if not job.reports or not self._unreported:
            return outcome
        failed, self._unreported = self._unreported, 0
        message = f"{failed} posted batches were not stored. The last: {self._last_failure}"
        return (job, result, error or StateStoreError(message))

    def _transaction(self, group: list[_Job[Any] | FrozenBatch]) -> list[_Outcome]:
        durable = any(isinstance(one, _Job) and one.durable for one in group)
        idle = not any(isinstance(one, FrozenBatch) or one.work is not None for one in group)
        if idle and self._connection is None and all(isinstance(one, _Job) and one.last for one in group):
            return [(one, None, None) for one in group if isinstance(one, _Job)]
        connection = self._connected()
        if idle and not (durable and self._unsynced):
            return [(one, None, None) for one in group if isinstance(one, _Job)]
        try:
            self._set_synchronous(connection, "FULL" if durable else "NORMAL")
            self._begin(connection)
            outcomes = self._statements(connection, group)
            if durable and self._unsynced:
                # Rewrites one header field: a commit that writes nothing would not sync the commits before it either.
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                connection.execute(f"PRAGMA user_version={int(version)}")
            connection.execute("COMMIT")
        except BaseException as failure:
            self._roll_back(connection, failure)
            raise
        self._unsynced = not durable
        if any(isinstance(one, FrozenBatch) for one in group):
            self.failing = False
        return outcomes

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Takes the write lock; waits at least `busy_timeout_s` for it before it gives up."""
        waited_s, wait_s = 0.0, _LOCK_WAIT_S
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                if not is_busy(error) or waited_s >= self._file.busy_timeout_s:
                    raise
            else:
                return
            self._pause.wait(wait_s)
            waited_s += wait_s
            wait_s = min(_LOCK_WAIT_MAX_S, wait_s * 1.5)

    def _statements(self, connection: sqlite3.Connection, group: list[_Job[Any] | FrozenBatch]) -> list[_Outcome]:
        outcomes: list[_Outcome] = []
        posted: list[FrozenBatch] = []
        for one in group:
            if isinstance(one, FrozenBatch):
                posted.append(one)
                continue
            if posted:
                self.write(connection, posted)
                posted = []
            outcomes.append((one, one.work(connection) if one.work else None, None))
        if posted:
            self.write(connection, posted)
        return outcomes

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._synchronous = ""
            self._connection = connect(self._file)
        return self._connection

    def _set_synchronous(self, connection: sqlite3.Connection, level: str) -> None:
        if self._synchronous != level:
            connection.execute(f"PRAGMA synchronous={level}")
            self._synchronous = level

    def _roll_back(self, connection: sqlite3.Connection, failure: BaseException) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._disconnect()  # a connection that cannot roll back is of no use; the next job opens a new one
        if is_lasting(failure):
            self._disconnect()
