"""What processes on one SQLite file tell each other: leases, recoveries, changes, usage.

Main entry: `SQLiteShared`, which `SQLiteStateStore` asks. Each call is one job of the writing or the reading thread.
Durability: a lease that may grow a slice is synced to disk; one that only reports or returns is committed without a
sync: it survives the end of the process, and after a loss of power the store believes that more is leased than is.
Waiting for changes reads `PRAGMA data_version` every `LOOK_EVERY_S`, a number that moves with every commit of others;
while nobody writes to the file at all (`WrittenTo`), once a second is enough.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.shared_ledger import (
    Change,
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
from apikeyrouter.infrastructure.state_store import codec
from apikeyrouter.infrastructure.state_store import sqlite_ledger as ledger
from apikeyrouter.infrastructure.state_store.sqlite_usage import fold_usage, select_usage
from apikeyrouter.infrastructure.state_store.writer import GroupWriter, Reader, Work

__all__ = ["LOOK_EVERY_S", "SQLiteShared", "WrittenTo"]

_T = TypeVar("_T")

LOOK_EVERY_S = 0.04
"""A look costs two thread switches and a read of shared memory (about 50 us); 25 a second are 0.1 % of a core."""

STILL_S = 1.0
"""A commit is seen some time after it was written: when it is on the disk. So long after the last write, nothing is on
its way any more; and so often is looked in any case, for disks that take even longer."""

_HOUR_S = 3_600


class _Read(Protocol):
    async def __call__(self, work: Work[_T]) -> _T: ...


class SQLiteShared:
    """The shared part of a store. `threads`: the running writer and reader. `read`: asks the reader once everything
    queued before is written. `entries_max`: about as many lines of the ledger are kept."""

    def __init__(
        self,
        threads: Callable[[], tuple[GroupWriter, Reader]],
        read: _Read,
        clock: Clock,
        entries_max: int,
        path: Path,
    ) -> None:
        self._path = path
        self._threads = threads
        self._read = read
        self._clock = clock
        self._books = ledger.Books(entries_max)
        self._folded_in_hour = 0

    def _now_s(self) -> float:
        return self._clock.utc_now().timestamp()

    async def lease(self, worker: LeaseWorker, asks: Sequence[LeaseAsk]) -> LeaseReply:
        """See `StateStore.lease`."""
        now_s, asked = self._now_s(), tuple(asks)
        grows = any(max(ask.granted, ask.spent) > ask.have for ask in asked)
        writer, _ = self._threads()
        return await writer.submit(
            lambda connection: self._books.lease(connection, worker, asked, now_s), durable=grows
        )

    async def recover_worker(self, worker_id: str, legacy: Mapping[tuple[str, int], Legacy] | None) -> int | None:
        """See `StateStore.recover_worker`."""
        now_s, journal = self._now_s(), None if legacy is None else dict(legacy)
        writer, _ = self._threads()
        return await writer.submit(lambda connection: self._books.recover(connection, worker_id, journal, now_s))

    async def list_workers(self) -> list[WorkerRow]:
        """See `StateStore.list_workers`."""
        now_s = self._now_s()
        return await self._read(lambda connection: ledger.workers(connection, now_s))

    async def load_windows(self, windows: Sequence[tuple[str, int, int]]) -> list[WindowTotals]:
        """See `StateStore.load_windows`."""
        wanted = tuple(windows)
        return await self._read(lambda connection: ledger.windows(connection, wanted))

    async def query_entries(self, budget_id: str, window: int | None, limit: int) -> list[LedgerEntry]:
        """See `StateStore.query_entries`."""
        return await self._read(lambda connection: ledger.entries(connection, budget_id, window, limit))

    def fold_usage_if_due(self) -> None:
        """Once an hour: queues the folding of old hours of usage."""
        now_s = self._now_s()
        if int(now_s) // _HOUR_S != self._folded_in_hour:
            self._folded_in_hour = int(now_s) // _HOUR_S
            writer, _ = self._threads()
            writer.post_work(lambda connection: fold_usage(connection, now_s))

    async def query_usage(self, query: UsageQuery) -> list[UsageRow]:
        """See `StateStore.query_usage`."""
        statement, parameters = select_usage(query)
        width = len(codec.USAGE_FACTS) + len(codec.USAGE_COUNTERS)
        rows = await self._read(lambda connection: connection.execute(statement, parameters).fetchall())
        return [codec.usage_of(row[:width]) for row in rows]

    async def changes(self, after: int | None, wait_s: float) -> Changes:
        """See `StateStore.changes`."""
        if after is None:
            return Changes(await self._read(_newest_change))
        cursor = after
        deadline_s = self._clock.monotonic_s() + wait_s
        _, reader = self._threads()
        written = WrittenTo(self._path, self._clock)
        found, seen = await self._read(lambda connection: _look(connection, cursor, None))
        while found is None:
            left_s = deadline_s - self._clock.monotonic_s()
            if left_s <= 0:
                break
            await self._clock.sleep(min(LOOK_EVERY_S, left_s))
            if reader.finished:  # the store was closed meanwhile: waiting must not open it again
                break
            if not written.since_last():
                continue
            found, seen = await reader.submit(functools.partial(_look, after=cursor, seen=seen))
        return found or Changes(cursor)


class WrittenTo:
    """Whether anybody may have written to a database: a look at its log costs 2 us, and wakes no thread."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._log = Path(f"{path}-wal")
        self._clock = clock
        self._still: tuple[int, int, int] | None = None
        self._looked_s = clock.monotonic_s()

    def since_last(self) -> bool:
        """Since the last call that said so. False only when it is certain, and once in `STILL_S` not even then."""
        try:
            log = self._log.stat()
        except OSError:
            return True
        now_s = self._clock.monotonic_s()
        mark = (log.st_ino, log.st_size, log.st_mtime_ns)
        if mark == self._still and now_s - self._looked_s < STILL_S:
            return False
        self._still = mark if self._clock.utc_now().timestamp() - log.st_mtime > STILL_S else None
        self._looked_s = now_s
        return True


_Seen = tuple[sqlite3.Connection, int]
"""A connection, and how often others had committed when it looked. The numbers of two connections do not compare."""


def _newest_change(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(seq), 0) FROM changes").fetchone()[0])


def _look(connection: sqlite3.Connection, after: int, seen: _Seen | None) -> tuple[Changes | None, _Seen]:
    """What changed since `after`, None for nothing; the table is read only when somebody has committed since `seen`."""
    now = (connection, int(connection.execute("PRAGMA data_version").fetchone()[0]))
    if now == seen:
        return None, now
    connection.execute("BEGIN")  # the borders and the rows must be of one moment
    oldest, newest = connection.execute(
        "SELECT (SELECT coalesce(min(seq), 1) FROM changes), (SELECT coalesce(max(seq), 0) FROM changes)"
    ).fetchone()
    lost = after > newest or after < oldest - 1
    sql = "SELECT DISTINCT kind, entity_id FROM changes WHERE seq > ? ORDER BY seq"
    rows = [] if lost or after == newest else connection.execute(sql, (after,)).fetchall()
    connection.execute("COMMIT")
    if after == newest:
        return None, now
    return Changes(newest, tuple(Change(kind, entity_id) for kind, entity_id in rows), lost), now
