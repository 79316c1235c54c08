"""State in a PostgreSQL database: for several processes on several machines, with limits that are exact among them.

Main entry: `PostgresStateStore`. Writes go through one queue that commits them in groups (`postgres_writer.py`), reads
and leases through a few shared connections (`postgres_session.py`).
Durability is the server's: a call that returned is committed. Posted facts are committed within about 50 ms, and are
kept and tried again while the server is away. A call during an outage is a StateStoreError within seconds; the same
object goes on when the server is back.
Forks and event loops: connections do not survive either; the store makes new ones on the next call. What a parent had
queued is written by the parent.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
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
from apikeyrouter.infrastructure.state_store import codec, postgres_ledger
from apikeyrouter.infrastructure.state_store import postgres_tables as sql
from apikeyrouter.infrastructure.state_store.codec import FrozenBatch, Row
from apikeyrouter.infrastructure.state_store.postgres_changes import ChangeFeed
from apikeyrouter.infrastructure.state_store.postgres_session import Connection, Sessions
from apikeyrouter.infrastructure.state_store.postgres_text import escaped, frozen, thawed
from apikeyrouter.infrastructure.state_store.postgres_url import parse
from apikeyrouter.infrastructure.state_store.postgres_usage import fold_usage, select_usage
from apikeyrouter.infrastructure.state_store.postgres_writer import Told, WriteBehind

__all__ = ["PostgresStateStore"]

_T = TypeVar("_T")

_left_behind: list[object] = []
"""Connections of a parent process or of an ended event loop: their garbage collection would talk to the server."""


class PostgresStateStore:
    """A `StateStore` in the schema that `url` names (made, with its tables, on first use).

    `url`: see `postgres_url.parse`. `connections_max`: the most that one process opens, one more for hearing of
    changes. `max_events`: rows of the event log, and lines of the ledger, that are kept; `max_decisions`: of the
    decision log; when a log is full its oldest tenth goes. `max_queued_decisions`: decisions that may wait to be
    written; more are dropped and counted in `health_check`. `connect_timeout_s`, `call_timeout_s`: after so many
    seconds without an answer a call fails. `clock` dates health checks and views of keys. Nothing is dialed before the
    first call. Use it from one event loop at a time; after `close` it opens again on the next call.
    """

    def __init__(
        self,
        url: str,
        *,
        connections_max: int = 4,
        max_events: int = 100_000,
        max_decisions: int = 100_000,
        max_queued_decisions: int = 20_000,
        connect_timeout_s: float = 2.0,
        call_timeout_s: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        self._target = parse(url)
        self._clock: Clock = clock or SystemClock()
        self._connections_max = connections_max
        self._connect_timeout_s = connect_timeout_s
        self._call_timeout_s = call_timeout_s
        self._max_queued_decisions = max_queued_decisions
        self._dropped_decisions = 0
        self._folded_in_hour = -1
        # Names of channels have at most 63 bytes; those of schemas too.
        self._channel = "apikeyrouter_" + hashlib.sha256(self._target.schema.encode()).hexdigest()[:16]
        self._tables = sql.Tables(max_events, max_decisions)
        self._ledger = postgres_ledger.Ledger(max_events, self._channel)
        self._writer = WriteBehind(self._connected, self._tables, self._channel)
        self._sessions: Sessions | None = None
        self._feed: ChangeFeed | None = None
        self._place: tuple[int, asyncio.AbstractEventLoop | None] = (os.getpid(), None)

    @property
    def persistent(self) -> bool:
        """True."""
        return True

    @property
    def description(self) -> str:
        """The URL without its password."""
        return self._target.description

    @property
    def path(self) -> Path | None:
        """None: the state is in no file of ours."""
        return None

    def __repr__(self) -> str:
        return f"PostgresStateStore({self.description!r})"

    def _connected(self) -> Sessions:
        """The connections of this process and event loop."""
        place = (os.getpid(), asyncio.get_running_loop())
        if self._sessions is None or self._place != place:
            self._move(place)
        assert self._sessions is not None  # noqa: S101 - `_move` has just made it
        return self._sessions

    def _move(self, place: tuple[int, asyncio.AbstractEventLoop]) -> None:
        forked = self._place[0] != place[0]
        if self._sessions is not None:
            _left_behind.append(self._sessions.leave(forked=forked))
            if self._feed is not None:
                _left_behind.append(self._feed.leave(forked=forked))
        if forked:
            self._writer = WriteBehind(self._connected, self._tables, self._channel)
        elif self._place[1] is not place[1]:
            self._writer.rebind()
        self._place = place
        self._sessions = Sessions(
            self._target,
            self._clock,
            connections_max=self._connections_max,
            connect_timeout_s=self._connect_timeout_s,
            call_timeout_s=self._call_timeout_s,
        )
        self._feed = None

    def _queue(self) -> WriteBehind:
        self._connected()
        return self._writer

    async def open(self) -> None:
        """Connects, and creates or migrates the schema. Raises StateStoreError when that is impossible."""
        await self._connected().run(_nothing)

    async def close(self) -> None:
        """Writes what is queued and disconnects. Raises StateStoreError, once closed, for posts that failed."""
        if self._sessions is None and self._writer.ready:
            return
        sessions = self._connected()
        feed, self._feed = self._feed, None
        if feed is not None:
            await feed.close()
        try:
            await self._writer.barrier(reports=True)
        except StateStoreError as error:
            lost = self._writer.give_up()
            if lost:
                raise StateStoreError(f"{lost} posted batches were not stored. {error.message}") from error
            raise
        finally:
            await sessions.close()

    async def health_check(self) -> HealthState:
        """Reads a row. Degraded while the last post failed; Down when the server does not answer."""
        started_s = self._clock.monotonic_s()
        details: dict[str, Any] = {"store": self.description}
        try:
            details["keys"] = (await self._rows(sql.COUNT_KEYS))[0][0]
        except StateStoreError as error:
            return HealthState(
                status=HealthStatus.Down, last_check=self._clock.utc_now(), details={**details, "error": error.message}
            )
        details["queued_decisions"] = self._writer.queued_decisions
        details["dropped_decisions"] = self._dropped_decisions
        details["failed_posts"] = self._writer.failed_posts
        return HealthState(
            status=HealthStatus.Degraded if self._writer.failing else HealthStatus.Healthy,
            last_check=self._clock.utc_now(),
            latency_ms=(self._clock.monotonic_s() - started_s) * 1_000,
            details=details,
        )

    async def apply(self, batch: StoreBatch) -> None:
        """Commits the whole batch; raises StateStoreError when that failed, or when its outcome is unknown."""
        rows = codec.freeze(batch)
        writer = self._queue()
        self._fold_usage_if_due(rows)
        await writer.apply(rows)

    def post(self, batch: StoreBatch) -> None:
        """Queues the batch. Takes microseconds; what goes wrong is told by `flush`, `close` and `health_check`."""
        writer = self._writer
        if self._place[0] != os.getpid():
            writer = self._queue()
        try:
            rows = codec.freeze(batch)
        except StateStoreError as error:
            writer.post_failure(error)
            return
        if rows.decisions:
            self._drop_what_does_not_fit(rows, self._max_queued_decisions - writer.queued_decisions)
        writer.post(rows)
        self._fold_usage_if_due(rows)

    def _drop_what_does_not_fit(self, rows: FrozenBatch, room: int) -> None:
        surplus = len(rows.decisions) - max(0, room)
        if surplus > 0:
            self._dropped_decisions += surplus
            del rows.decisions[-surplus:]

    def _fold_usage_if_due(self, rows: FrozenBatch) -> None:
        """Once an hour while something is used; the server's clock says what is old."""
        hour = int(self._clock.monotonic_s()) // 3_600
        if rows.usage and hour != self._folded_in_hour:
            self._folded_in_hour = hour
            self._writer.post_work(fold_usage)

    async def flush(self) -> None:
        """Returns when everything posted is committed. Raises StateStoreError for what could not be written."""
        await self._queue().barrier(reports=True)

    async def load_keys(self, key_ids: Sequence[str] | None = None) -> list[StoredKey]:
        """Every key, or those of `key_ids` that exist, oldest first."""
        wanted = None if key_ids is None else [escaped(one) for one in key_ids]
        return self._values(codec.key_of, await self._rows(sql.LOAD_KEYS, [wanted]), sql.KEY_DOCUMENT)

    async def delete_key(self, key_id: str) -> None:
        """Forgets the key, and publishes that; unknown ids are ignored."""

        async def delete(connection: Connection, told: Told) -> None:
            if await connection.execute(sql.DELETE_KEY, escaped(key_id)) != "DELETE 0":
                told.append(("key", key_id))

        await self._queue().submit(delete)

    async def list_keys(self, provider_id: str | None = None) -> list[APIKey]:
        """Keys as users see them, oldest first, retired ones left out."""
        wanted = None if provider_id is None else escaped(provider_id)
        rows = await self._rows(sql.LIST_KEYS, [wanted])
        utc_s = self._clock.utc_now().timestamp()
        return self._values(lambda row: view_of_stored(codec.key_of(row), utc_s=utc_s), rows, sql.KEY_DOCUMENT)

    async def get_decision(self, decision_or_request_id: str) -> StoredDecision | None:
        """By decision id, else the newest decision of that request id."""
        rows = await self._rows(sql.GET_DECISION, [escaped(decision_or_request_id)])
        return self._values(codec.decision_of, rows)[0] if rows else None

    async def query_decisions(self, query: StateQuery) -> list[StoredDecision]:
        """Newest first."""
        return self._values(codec.decision_of, await self._rows(*sql.select_decisions(query)))

    async def query_events(self, query: StateQuery) -> list[StoredEvent]:
        """Newest first."""
        return self._values(codec.event_of, await self._rows(*sql.select_events(query)), sql.EVENT_DOCUMENT)

    async def query_state(self, query: StateQuery) -> list[Any]:
        """Decisions for "RoutingDecision", else events."""
        if query.entity_type == codec.DECISIONS:
            return await self.query_decisions(query)
        return await self.query_events(query)

    async def load_budgets(self) -> list[StoredBudget]:
        """Every active budget, oldest first."""
        return self._values(codec.budget_of, await self._rows(sql.LOAD_BUDGETS))

    async def lease(self, worker: LeaseWorker, asks: Sequence[LeaseAsk]) -> LeaseReply:
        """One transaction; asks for one budget wait for each other. Raises StateStoreError when it failed, or when its
        outcome is unknown: repeat it then."""
        sessions = self._connected()
        if self._writer.defines_budgets:
            await self._writer.barrier()
        return await sessions.run(lambda connection: postgres_ledger.lease(connection, self._ledger, worker, asks))

    async def recover_worker(self, worker_id: str, legacy: Mapping[tuple[str, int], Legacy] | None) -> int | None:
        """One transaction."""
        return await self._connected().transact(lambda connection: self._ledger.recover(connection, worker_id, legacy))

    async def list_workers(self) -> list[WorkerRow]:
        """Workers that were not ended, oldest first."""
        return await self._connected().run(postgres_ledger.list_workers)

    async def load_windows(self, windows: Sequence[tuple[str, int, int]]) -> list[WindowTotals]:
        """By budget, then by time."""
        return await self._connected().run(lambda connection: postgres_ledger.load_windows(connection, windows))

    async def query_entries(self, budget_id: str, window: int | None = None, limit: int = 1000) -> list[LedgerEntry]:
        """Newest first."""
        return await self._connected().run(
            lambda connection: postgres_ledger.query_entries(connection, budget_id, window, limit)
        )

    async def query_usage(self, query: UsageQuery) -> list[UsageRow]:
        """Dearest first."""
        return self._values(codec.usage_of, await self._rows(*select_usage(query)))

    async def changes(self, after: int | None, wait_s: float) -> Changes:
        """Since the cursor `after`."""
        sessions = self._connected()
        if not self._writer.ready:
            await self._writer.barrier()
        if self._feed is None:
            self._feed = ChangeFeed(sessions, self._clock, self._channel)
        return await self._feed.changes(after, wait_s)

    async def save_virtual_key(self, virtual_key: StoredVirtualKey, *, only_if: StoredVirtualKey | None = None) -> bool:
        """Inserts or replaces, and publishes it; what is revoked stays so."""
        statement, row = sql.PUT_VIRTUAL_KEY, _virtual_key(virtual_key)
        if only_if is not None:
            statement, row = sql.REPLACE_VIRTUAL_KEY, (*row, *_virtual_key(only_if))

        async def put(connection: Connection, told: Told) -> bool:
            if await connection.execute(statement, *row) in ("INSERT 0 0", "UPDATE 0"):
                return False
            told.append(("virtual_key", virtual_key.virtual_key_id))
            return True

        return await self._queue().submit(put)

    async def load_virtual_keys(self) -> list[StoredVirtualKey]:
        """Every virtual key, oldest first."""
        return self._values(codec.virtual_key_of, await self._rows(sql.LOAD_VIRTUAL_KEYS), sql.VIRTUAL_KEY_DOCUMENT)

    async def get_setting(self, name: str) -> bytes | None:
        """The named blob, or None."""
        rows = await self._rows(sql.GET_SETTING, [escaped(name)])
        return bytes(rows[0][0]) if rows else None

    async def put_setting(
        self, name: str, value: bytes, *, only_if_absent: bool = False, only_if: bytes | None = None
    ) -> bytes:
        """See `StateStore.put_setting`; publishes only if anything changed."""
        statement = sql.PUT_SETTING_IF_ABSENT if only_if_absent else sql.PUT_SETTING
        parameters: tuple[object, ...] = (escaped(name), bytes(value))
        if only_if is not None:
            statement, parameters = sql.REPLACE_SETTING, (*parameters, only_if)

        async def put(connection: Connection, told: Told) -> bytes:
            if await connection.execute(statement, *parameters) not in ("INSERT 0 0", "UPDATE 0"):
                told.append(("setting", name))
            return bytes(await connection.fetchval(sql.GET_SETTING, escaped(name)) or b"")

        return await self._queue().submit(put)

    async def _rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Asks, once everything queued before is written."""
        sessions = self._connected()
        if not self._writer.ready:
            await self._writer.barrier()
        return await sessions.run(_question(statement, parameters))

    def _values(self, decode: Callable[[Row], _T], rows: list[Row], document: int = -1) -> list[_T]:
        try:
            return [decode(thawed(row, document)) for row in rows]
        except (ValueError, TypeError, KeyError, msgspec.MsgspecError) as error:
            raise StateStoreError(
                f"The store {self.description} holds a row that this program cannot read: {error}. Another version of "
                "it, or another program, wrote that row: upgrade, or restore the database from a backup."
            ) from error


def _virtual_key(row: StoredVirtualKey) -> Row:
    return frozen(codec.freeze_virtual_key(row), sql.VIRTUAL_KEY_DOCUMENT)


def _question(statement: str, parameters: Sequence[object]) -> Callable[[Connection], Awaitable[list[Row]]]:
    async def ask(connection: Connection) -> list[Row]:
        return [tuple(row) for row in await connection.fetch(statement, *parameters)]

    return ask


async def _nothing(_: Connection) -> None:
    """Borrowing a connection is opening the store."""
