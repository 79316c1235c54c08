"""State in one SQLite file: the default of the proxy, no server needed, safe for several processes on one machine.

Main entry: `SQLiteStateStore`. Writes go to one thread that commits them in groups, reads to another (`writer.py`).
Durability: the file is in WAL mode. A transaction that somebody awaits (`apply`, `flush`, settings, deletions) commits
with `PRAGMA synchronous=FULL`: when the call returns, it survives a loss of power, and so does everything posted
before it. A transaction of posted facts alone commits with NORMAL: it survives the end of the process at once, and a
loss of power after the next awaited write or checkpoint. Posted facts are committed within about 50 ms.
Forks: threads and connections do not survive `fork`; in the child the store starts its own on the next call. What the
parent had queued is written by the parent.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.shared_ledger import (
    Changes,
    LeaseAsk,
    LeaseReply,
    LeaseWorker,
    LedgerEntry,
    Legacy,
    UsageQuery,
    UsageRow,
    WindowTotals,
    WorkerRow,
)
from apikeyrouter.domain.interfaces.state_store import (
    StateQuery,
    StoreBatch,
    StoredBudget,
    StoredDecision,
    StoredEvent,
    StoredKey,
    StoredVirtualKey,
)
from apikeyrouter.domain.keys.rows import view_of_stored
from apikeyrouter.domain.models.api_key import APIKey
from apikeyrouter.domain.models.health_state import HealthState, HealthStatus
from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.infrastructure.state_store import codec
from apikeyrouter.infrastructure.state_store import sqlite_tables as sql
from apikeyrouter.infrastructure.state_store.codec import FrozenBatch, Row
from apikeyrouter.infrastructure.state_store.sqlite_file import DatabaseFile
from apikeyrouter.infrastructure.state_store.sqlite_shared import SQLiteShared
from apikeyrouter.infrastructure.state_store.writer import GroupWriter, Reader, Work

__all__ = ["SQLiteStateStore"]

_T = TypeVar("_T")

_left_by_fork: list[tuple[GroupWriter, Reader]] = []
"""A forked child must neither use nor close its parent's connections (sqlite.org/howtocorrupt.html, 2.6)."""


class SQLiteStateStore:
    """A `StateStore` in the SQLite file at `path` (created, with its directory, for its owner only).

    `max_events`, `max_decisions`: the most rows that each log keeps; when a log is full its oldest tenth goes. The
    ledger's entries keep about `max_events` too, by folding.
    `max_queued_decisions`: decisions that may wait for the writer; more are dropped and counted in `health_check`.
    `busy_timeout_s`: how long to wait for a lock that another process holds before a StateStoreError.
    `max_file_bytes`: the most that the file may grow to; None: the disk's size. `clock` dates health checks and
    views of keys. `connection_class`: for fault injection in tests. Nothing is touched before the first call.
    Use it from one event loop at a time; after `close` it opens again on the next call.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_events: int = 100_000,
        max_decisions: int = 100_000,
        max_queued_decisions: int = 20_000,
        busy_timeout_s: float = 5.0,
        max_file_bytes: int | None = None,
        clock: Clock | None = None,
        connection_class: type[sqlite3.Connection] = sqlite3.Connection,
    ) -> None:
        self._path = Path(path).expanduser().absolute()
        self._file = DatabaseFile(self._path, busy_timeout_s, max_file_bytes, connection_class)
        self._clock: Clock = clock or SystemClock()
        self._max_events = max_events
        self._max_decisions = max_decisions
        self._max_queued_decisions = max_queued_decisions
        self._dropped_decisions = 0
        self._lock = threading.Lock()
        self._writer: GroupWriter | None = None
        self._reader: Reader | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None
        self._before: threading.Thread | None = None
        self._process_id = 0
        self._shared = SQLiteShared(self._threads, self._read, self._clock, max_events, self._path)

    @property
    def persistent(self) -> bool:
        """True."""
        return True

    @property
    def description(self) -> str:
        """The URL of the file, e.g. "sqlite:////home/me/x.sqlite"."""
        return f"sqlite:///{self._path}"

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def _threads(self) -> tuple[GroupWriter, Reader]:
        """The running threads; starts them on first use, after `close`, and in a forked child."""
        writer, reader = self._writer, self._reader
        if writer is None or reader is None or self._process_id != os.getpid():
            with self._lock:
                return self._started()
        return writer, reader

    def _started(self) -> tuple[GroupWriter, Reader]:
        if self._writer is not None and self._reader is not None:
            if self._process_id == os.getpid():
                return self._writer, self._reader
            _left_by_fork.append((self._writer, self._reader))
            self._before = None
            if self._finalizer is not None:
                self._finalizer.detach()
        tables = sql.Tables(self._max_events, self._max_decisions)
        writer = GroupWriter(self._file, tables.write, after=self._before)
        reader = Reader(self._file, "apikeyrouter-store-reader")
        writer.outlives = reader.thread
        self._writer, self._reader, self._process_id = writer, reader, os.getpid()
        self._finalizer = weakref.finalize(self, _stop, writer, reader)
        return writer, reader

    async def open(self) -> None:
        """Creates or migrates the file. Raises StateStoreError when that is impossible."""
        writer, _ = self._threads()
        await writer.submit(None, durable=False)

    async def close(self) -> None:
        """Writes what is queued and closes the file. Raises StateStoreError, once closed, for posts that failed."""
        with self._lock:
            writer, reader, finalizer = self._writer, self._reader, self._finalizer
            if writer is None or reader is None or finalizer is None or self._process_id != os.getpid():
                return
            self._writer = self._reader = self._finalizer = None
            self._before = writer.thread
        finalizer.detach()
        reading = reader.finish()
        writing: asyncio.Future[None] = writer.submit(None, reports=True, last=True)
        await asyncio.wait([reading, writing])
        await writing

    async def health_check(self) -> HealthState:
        """Reads a row. Degraded while the last post failed; Down when the file cannot be read."""
        started_s = self._clock.monotonic_s()
        details: dict[str, Any] = {"store": self.description}
        try:
            writer, _ = self._threads()
            details["keys"] = await self._read(_count_keys)
        except StateStoreError as error:
            return HealthState(
                status=HealthStatus.Down, last_check=self._clock.utc_now(), details={**details, "error": error.message}
            )
        details["queued_decisions"] = writer.queued_decisions
        details["dropped_decisions"] = self._dropped_decisions
        details["failed_posts"] = writer.failed_posts
        return HealthState(
            status=HealthStatus.Degraded if writer.failing else HealthStatus.Healthy,
            last_check=self._clock.utc_now(),
            latency_ms=(self._clock.monotonic_s() - started_s) * 1_000,
            details=details,
        )

    async def apply(self, batch: StoreBatch) -> None:
        """Writes the whole batch and syncs it to disk; raises StateStoreError when nothing of it was written."""
        frozen = codec.freeze(batch)
        writer, _ = self._threads()
        if frozen.usage:
            self._shared.fold_usage_if_due()
        await writer.submit(lambda connection: writer.write(connection, [frozen]))

    def post(self, batch: StoreBatch) -> None:
        """Queues the batch. Takes microseconds; what goes wrong is told by `flush`, `close` and `health_check`."""
        writer, _ = self._threads()
        try:
            frozen = codec.freeze(batch)
        except StateStoreError as error:
            writer.post_failure(error)
            return
        if frozen.decisions:
            self._drop_what_does_not_fit(frozen, self._max_queued_decisions - writer.queued_decisions)
        if frozen.usage:
            self._shared.fold_usage_if_due()
        writer.post(frozen)

    def _drop_what_does_not_fit(self, frozen: FrozenBatch, room: int) -> None:
        surplus = len(frozen.decisions) - max(0, room)
        if surplus > 0:
            self._dropped_decisions += surplus
            del frozen.decisions[-surplus:]

    async def flush(self) -> None:
        """Returns when everything posted is synced to disk. Raises StateStoreError for what could not be written."""
        writer, _ = self._threads()
        await writer.submit(None, reports=True)

    async def load_keys(self, key_ids: Sequence[str] | None = None) -> list[StoredKey]:
        """Every key, or those of `key_ids` that exist, oldest first."""
        if key_ids is None:
            return self._values(codec.key_of, await self._rows(sql.LOAD_KEYS))
        names = tuple(key_ids)
        rows = await self._read(lambda connection: sql.load_named_keys(connection, names))
        return self._values(codec.key_of, rows)

    async def delete_key(self, key_id: str) -> None:
        """Forgets the key; unknown ids are ignored."""
        await self._execute(sql.DELETE_KEY, (key_id,))

    async def list_keys(self, provider_id: str | None = None) -> list[APIKey]:
        """Keys as users see them, oldest first, retired ones left out."""
        rows = await self._rows(sql.LIST_KEYS, [provider_id])
        utc_s = self._clock.utc_now().timestamp()
        return self._values(lambda row: view_of_stored(codec.key_of(row), utc_s=utc_s), rows)

    async def get_decision(self, decision_or_request_id: str) -> StoredDecision | None:
        """By decision id, else the newest decision of that request id."""
        rows = await self._rows(sql.GET_DECISION, [decision_or_request_id])
        return self._values(codec.decision_of, rows)[0] if rows else None

    async def query_decisions(self, query: StateQuery) -> list[StoredDecision]:
        """Newest first."""
        return self._values(codec.decision_of, await self._rows(*sql.select_decisions(query)))

    async def query_events(self, query: StateQuery) -> list[StoredEvent]:
        """Newest first."""
        return self._values(codec.event_of, await self._rows(*sql.select_events(query)))

    async def query_state(self, query: StateQuery) -> list[Any]:
        """Decisions for "RoutingDecision", else events."""
        if query.entity_type == codec.DECISIONS:
            return await self.query_decisions(query)
        return await self.query_events(query)

    async def load_budgets(self) -> list[StoredBudget]:
        """Every active budget, oldest first."""
        return self._values(codec.budget_of, await self._rows(sql.LOAD_BUDGETS))

    async def lease(self, worker: LeaseWorker, asks: Sequence[LeaseAsk]) -> LeaseReply:
        """Renews the worker and answers its asks, in one transaction; synced to disk when a slice may grow."""
        return await self._shared.lease(worker, asks)

    async def recover_worker(self, worker_id: str, legacy: Mapping[tuple[str, int], Legacy] | None) -> int | None:
        """Ends a dead worker; returns what was presumed, or None when there was nothing to do."""
        return await self._shared.recover_worker(worker_id, legacy)

    async def list_workers(self) -> list[WorkerRow]:
        """Workers that were not ended, oldest first."""
        return await self._shared.list_workers()

    async def load_windows(self, windows: Sequence[tuple[str, int, int]]) -> list[WindowTotals]:
        """Totals of (budget id, oldest, newest) windows that exist."""
        return await self._shared.load_windows(windows)

    async def query_entries(self, budget_id: str, window: int | None = None, limit: int = 1000) -> list[LedgerEntry]:
        """The ledger's lines, newest first."""
        return await self._shared.query_entries(budget_id, window, limit)

    async def query_usage(self, query: UsageQuery) -> list[UsageRow]:
        """Sums of what was used, one row per group, dearest first."""
        return await self._shared.query_usage(query)

    async def changes(self, after: int | None, wait_s: float) -> Changes:
        """What changed since the cursor `after`; waits up to `wait_s` for the first change."""
        return await self._shared.changes(after, wait_s)

    async def save_virtual_key(self, virtual_key: StoredVirtualKey, *, only_if: StoredVirtualKey | None = None) -> bool:
        """Inserts or replaces; what is revoked stays so."""
        row = codec.freeze_virtual_key(virtual_key)
        if only_if is None:
            return await self._execute(sql.PUT_VIRTUAL_KEY, row) > 0
        return await self._execute(sql.REPLACE_VIRTUAL_KEY, (*row, *codec.freeze_virtual_key(only_if))) > 0

    async def load_virtual_keys(self) -> list[StoredVirtualKey]:
        """Every virtual key, oldest first."""
        return self._values(codec.virtual_key_of, await self._rows(sql.LOAD_VIRTUAL_KEYS))

    async def get_setting(self, name: str) -> bytes | None:
        """The named blob, or None."""
        rows = await self._rows(sql.GET_SETTING, [name])
        return bytes(rows[0][0]) if rows else None

    async def put_setting(
        self, name: str, value: bytes, *, only_if_absent: bool = False, only_if: bytes | None = None
    ) -> bytes:
        """See `StateStore.put_setting`."""
        statement = sql.PUT_SETTING_IF_ABSENT if only_if_absent else sql.PUT_SETTING
        blob = bytes(value)

        def put(connection: sqlite3.Connection) -> bytes:
            if only_if is None:
                connection.execute(statement, (name, blob))
            else:
                connection.execute(sql.REPLACE_SETTING, (blob, name, only_if))
            row = connection.execute(sql.GET_SETTING, (name,)).fetchone()
            return b"" if row is None else bytes(row[0])

        writer, _ = self._threads()
        return await writer.submit(put)

    async def _execute(self, statement: str, parameters: Row) -> int:
        """How many rows it wrote."""

        def run(connection: sqlite3.Connection) -> int:
            return connection.execute(statement, parameters).rowcount

        writer, _ = self._threads()
        return await writer.submit(run)

    async def _rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        return await self._read(lambda connection: connection.execute(statement, parameters).fetchall())

    def _values(self, decode: Callable[[Row], _T], rows: list[Row]) -> list[_T]:
        try:
            return [decode(row) for row in rows]
        except (ValueError, TypeError, KeyError, msgspec.MsgspecError) as error:
            raise StateStoreError(
                f"The store {self._path} holds a row that this program cannot read: {error}. Another version of it, or "
                "another program, wrote that row: upgrade, or restore the file from a backup."
            ) from error

    async def _read(self, work: Work[_T]) -> _T:
        """Asks the reading thread, once everything queued before is written."""
        writer, reader = self._threads()
        if not writer.ready:
            await writer.submit(None, durable=False)
        return await reader.submit(work)


def _count_keys(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM keys").fetchone()[0])


def _stop(writer: GroupWriter, reader: Reader) -> None:
    """What the end of the store, or of the process, does when nobody called `close`."""
    reader.stop()
    writer.stop()
