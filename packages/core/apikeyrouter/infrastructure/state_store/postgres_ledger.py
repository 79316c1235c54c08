"""Leases in PostgreSQL: the pure rules of `lease_rules` between a read and a write, in one transaction.

Main entries: `lease`, which makes `Ledger.lease` durable; `Ledger.recover`; the questions `load_windows`,
`query_entries`, `list_workers`.
Laws: whoever reads or writes windows and slices of a budget holds the lock on the budget's row from the read to the
commit, so every limit is kept exactly; rates, which have no row that stays, have one of 64 advisory locks. Locks are
taken in one order (worker, budgets by id, rates by lock, head of the changes); times are `clock_timestamp()`, the
server's. A worker's row is locked first, so that it is either renewed or ended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from apikeyrouter.domain.interfaces.shared_ledger import (
    LeaseAsk,
    LeaseGrant,
    LeaseReply,
    LeaseRow,
    LeaseWorker,
    LedgerEntry,
    Legacy,
    WindowTotals,
    WorkerRow,
    rate_period_s,
)
from apikeyrouter.domain.ledger import lease_rules
from apikeyrouter.infrastructure.state_store.memory_ledger import LEFT_KEPT_S, WINDOWS_MAX
from apikeyrouter.infrastructure.state_store.postgres_session import Connection, in_transaction
from apikeyrouter.infrastructure.state_store.postgres_tables import Retention, publish
from apikeyrouter.infrastructure.state_store.postgres_text import escaped, plain

__all__ = ["Ledger", "lease", "list_workers", "load_windows", "query_entries"]

_WindowId = tuple[str, int]

_NOW = "extract(epoch FROM clock_timestamp())::double precision"

_ENDED_KEPT_S = 30 * 86_400
"""An ended worker is remembered, and so fenced, for so long; no process sleeps for a month and then goes on."""

_LEASE_BOOKS = "SELECT * FROM lease_lines($1, $2, $3, $4, $5, $6, $7)"
_WINDOW_COLUMNS = "budget_id, window_s, spent, held, granted, overrun, presumed, alerted, calls, since_s"
_READ_WINDOWS = f"""
    SELECT {", ".join("w." + one for one in _WINDOW_COLUMNS.split(", "))}
    FROM (SELECT DISTINCT a.budget_id, a.oldest, a.newest
          FROM unnest($1::text[], $2::bigint[], $3::bigint[]) a (budget_id, oldest, newest)) a
    JOIN windows w ON w.budget_id = a.budget_id AND w.window_s BETWEEN a.oldest AND a.newest
"""  # noqa: S608
_WRITE = f"""
    WITH written AS (
        INSERT INTO windows ({_WINDOW_COLUMNS})
        SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
                             $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[])
        ON CONFLICT (budget_id, window_s) DO UPDATE SET spent = excluded.spent, held = excluded.held,
            granted = excluded.granted, overrun = excluded.overrun, presumed = excluded.presumed,
            alerted = excluded.alerted, calls = excluded.calls, since_s = excluded.since_s),
    sliced AS (
        INSERT INTO leases (budget_id, window_s, worker_id, seq, spent, held, granted, overrun)
        SELECT * FROM unnest($11::text[], $12::bigint[], $13::text[], $14::bigint[], $15::bigint[], $16::bigint[],
                             $17::bigint[], $18::bigint[])
        ON CONFLICT (worker_id, budget_id, window_s) DO UPDATE SET seq = excluded.seq, spent = excluded.spent,
            held = excluded.held, granted = excluded.granted, overrun = excluded.overrun)
    INSERT INTO entries (at_s, budget_id, window_s, worker_id, kind, amount)
    SELECT {_NOW}, * FROM unnest($19::text[], $20::bigint[], $21::text[], $22::text[], $23::bigint[])
"""  # noqa: S608
_LOCK_WORKER = f"SELECT ended, expires_at_s <= {_NOW} FROM workers WHERE worker_id = $1 FOR NO KEY UPDATE"  # noqa: S608
_LOCK_SLICED_BUDGETS = """
    SELECT budget_id FROM budgets
    WHERE budget_id IN (SELECT budget_id FROM leases WHERE worker_id = $1 UNION SELECT * FROM unnest($2::text[]))
    ORDER BY budget_id FOR NO KEY UPDATE
"""
_LOCK_RATES = "SELECT lock_rates($1)"
_DROP_WINDOWS = """
    DELETE FROM windows USING unnest($1::text[], $2::bigint[]) gone (budget_id, window_s)
    WHERE windows.budget_id = gone.budget_id AND windows.window_s = gone.window_s
"""
_DROP_SHARES = "DELETE FROM leases WHERE worker_id = $1 AND window_s = 0 AND budget_id = ANY($2::text[])"
_LEFT = """
    SELECT budget_id, window_s FROM windows
    WHERE budget_id >= 'rate:' COLLATE "C" AND budget_id < 'rate;' COLLATE "C" AND window_s <> 0
"""
_ALL_SLICES = (
    "SELECT budget_id, window_s, seq, spent, held, granted, overrun FROM leases WHERE worker_id = $1 "
    "ORDER BY budget_id, window_s"
)
_END_WORKER = "UPDATE workers SET ended = true WHERE worker_id = $1"
_DROP_SLICES = "DELETE FROM leases WHERE worker_id = $1"
_FORGET_ENDED = f"DELETE FROM workers WHERE ended AND expires_at_s < {_NOW} - $1"  # noqa: S608
_OLDEST_WINDOWS = """
    SELECT max(window_s) FROM (SELECT window_s FROM windows WHERE budget_id = $1 AND window_s <> 0
                               ORDER BY window_s LIMIT $2) oldest
"""
_FORGET_WINDOWS = [
    f"DELETE FROM {table} WHERE budget_id = $1 AND window_s <> 0 AND window_s <= $2"  # noqa: S608 - named here
    for table in ("windows", "leases", "entries")
]
# Folds the $1 oldest lines into one per window; it takes the place of the newest of them.
_FOLD = """
    WITH old AS (DELETE FROM entries WHERE seq = ANY(ARRAY(SELECT seq FROM entries ORDER BY seq LIMIT $1
                                                           FOR UPDATE SKIP LOCKED))
                 RETURNING seq, at_s, budget_id, window_s, amount)
    INSERT INTO entries (seq, at_s, budget_id, window_s, worker_id, kind, amount)
    SELECT max(seq), max(at_s), budget_id, window_s, '', 'opening', sum(amount)::bigint FROM old
    GROUP BY budget_id, window_s
"""


# A commit with something in it, which waits for the disk (or the standby, as the server is told to). The log is written
# in order: with this commit every earlier one is durable, those of others on which a grant was built too.
_SYNC = "SELECT pg_logical_emit_message(true, 'apikeyrouter', '')"


async def lease(connection: Connection, ledger: Ledger, worker: LeaseWorker, asks: Sequence[LeaseAsk]) -> LeaseReply:
    """`StateStore.lease`: the transaction, which holds the budgets' locks and does not wait for the disk, and then the
    wait, which many share. Raises before anybody is told of something that a crash could undo."""
    reply = await in_transaction(connection, lambda one: ledger.lease(one, worker, asks))
    if any(
        ask.limit is None for ask in asks
    ):  # rates need not survive the server's end: who has a share tells it again
        await connection.execute(_SYNC)
    return reply


class Ledger:
    """Grants and recoveries. One object per store: it keeps count of the entries, of which `entries_max` are kept."""

    def __init__(self, entries_max: int, channel: str) -> None:
        self._entries = Retention("entries", entries_max, _FOLD)
        self._channel = channel

    async def lease(self, connection: Connection, worker: LeaseWorker, asks: Sequence[LeaseAsk]) -> LeaseReply:
        """Answers the asks, within the caller's transaction."""
        rows = await connection.fetch(
            _LEASE_BOOKS,
            escaped(worker.worker_id),
            escaped(worker.host),
            float(worker.ttl_s),
            [escaped(ask.budget_id) for ask in asks],
            [ask.window for ask in asks],
            [ask.oldest for ask in asks],
            [ask.limit is not None for ask in asks],
        )
        if not rows:
            now_s = float(await connection.fetchval(f"SELECT {_NOW}"))
            return LeaseReply(now_s, [], fenced=True, workers=0)
        books = _Books(worker.worker_id)
        budgets = books.read(rows)
        grants = []
        for ask in asks:
            if ask.limit is not None:
                grants.append(books.grant(ask, _Budget(ask.limit, hard=True, rolling=True)))
            elif ask.budget_id in budgets:
                grants.append(books.grant(ask, budgets[ask.budget_id]))
            else:
                totals = WindowTotals(ask.budget_id, ask.window)
                grants.append(LeaseGrant(ask.budget_id, ask.window, 0, totals, gone=True))
        await self._write(connection, books)
        await publish(connection, self._channel, [("lease", one) for one in books.called])
        return LeaseReply(books.now_s, grants, workers=books.workers)

    async def recover(
        self, connection: Connection, worker_id: str, legacy: Mapping[_WindowId, Legacy] | None
    ) -> int | None:
        """`StateStore.recover_worker`, within the caller's transaction."""
        found = await connection.fetchrow(_LOCK_WORKER, escaped(worker_id))
        if found is None or found[0] or (legacy is None and not found[1]):
            return None
        inherited = list({escaped(budget_id) for budget_id, _ in legacy or ()})
        budgets = await connection.fetch(_LOCK_SLICED_BUDGETS, escaped(worker_id), inherited)
        known = {plain(row[0]) for row in budgets}
        found_rates = await connection.fetch(
            "SELECT budget_id FROM leases WHERE worker_id = $1 AND budget_id LIKE 'rate:%'", escaped(worker_id)
        )
        rates = {plain(row[0]) for row in found_rates}
        await connection.execute(_LOCK_RATES, [escaped(one) for one in rates])
        rows = await connection.fetch(_ALL_SLICES, escaped(worker_id))
        slices = {(plain(row[0]), row[1]): LeaseRow(plain(row[0]), row[1], worker_id, *row[2:]) for row in rows}
        for budget_id, window in legacy or ():
            slices.setdefault((budget_id, window), LeaseRow(budget_id, window, worker_id))
        books = _Books(worker_id)
        books.now_s = float(await connection.fetchval(f"SELECT {_NOW}"))
        known |= rates
        spans = [(line_id, window, window) for line_id, window in slices if line_id in known]
        spans += [(line_id, math.ceil(books.now_s), math.ceil(books.now_s)) for line_id in rates]
        books.windows = {(one.budget_id, one.window): one for one in await load_windows(connection, spans)}
        presumed = 0
        for (budget_id, window), row in slices.items():
            if budget_id in rates:
                books.end_share(row)
            elif budget_id in known:
                presumed += books.recover(row, None if legacy is None else legacy.get((budget_id, window)))
        await self._write(connection, books)
        await connection.execute(_DROP_SLICES, escaped(worker_id))
        await connection.execute(_END_WORKER, escaped(worker_id))
        await connection.execute(_FORGET_ENDED, _ENDED_KEPT_S)
        await _forget_left(connection, books.now_s)
        await publish(connection, self._channel, [("lease", one) for one, _ in slices if one in known])
        return presumed

    async def _write(self, connection: Connection, books: _Books) -> None:
        if not books.changed:
            return
        windows = [books.windows[one] for one in books.changed if one not in books.vacated]
        slices = [books.slices[one] for one in books.changed if one in books.slices and one not in books.returned]
        if books.vacated:
            await connection.execute(
                _DROP_WINDOWS, [escaped(one) for one, _ in books.vacated], [window for _, window in books.vacated]
            )
        if books.returned:
            await connection.execute(
                _DROP_SHARES, escaped(books.worker_id), [escaped(one) for one, _ in books.returned]
            )
        await connection.execute(
            _WRITE,
            [escaped(one.budget_id) for one in windows],
            [one.window for one in windows],
            [one.spent for one in windows],
            [one.held for one in windows],
            [one.granted for one in windows],
            [one.overrun for one in windows],
            [one.presumed for one in windows],
            [one.alerted for one in windows],
            [one.calls for one in windows],
            [one.since for one in windows],
            [escaped(one.budget_id) for one in slices],
            [one.window for one in slices],
            [escaped(one.worker_id) for one in slices],
            [one.seq for one in slices],
            [one.spent for one in slices],
            [one.held for one in slices],
            [one.granted for one in slices],
            [one.overrun for one in slices],
            [escaped(one[0]) for one in books.entries],
            [one[1] for one in books.entries],
            [escaped(books.worker_id)] * len(books.entries),
            [one[2] for one in books.entries],
            [one[3] for one in books.entries],
        )
        if books.entries:
            await self._entries.inserted(connection, len(books.entries))
        for budget_id in {budget_id for budget_id, _ in books.begun}:
            await _forget_old_windows(connection, budget_id)


@dataclass(frozen=True, slots=True)
class _Budget:
    """What a lease must know of a budget: `limit` in nano-USD."""

    limit: int
    hard: bool
    rolling: bool


class _Books:
    """What one transaction has read of windows and of one worker's slices, and what it will write. `vacated` and
    `returned`: windows and shares of rates that are nothing now; their rows go."""

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        self.windows: dict[_WindowId, WindowTotals] = {}
        self.slices: dict[_WindowId, LeaseRow] = {}
        self.changed: dict[_WindowId, None] = {}
        self.called: dict[str, None] = {}
        self.vacated: set[_WindowId] = set()
        self.returned: set[_WindowId] = set()
        self.begun: set[_WindowId] = set()
        self.entries: list[tuple[str, int, str, int]] = []
        self.workers = 0
        self.now_s = 0.0

    def read(self, rows: Sequence[asyncpg.Record]) -> dict[str, _Budget]:
        """Takes in what `lease_books` answered; the budgets that exist, by id."""
        budgets = {}
        for part, budget, start, *figures, at_s in rows:
            budget_id = plain(budget)
            if part == 1:
                budgets[budget_id] = _Budget(figures[0], hard=bool(figures[1]), rolling=bool(figures[2]))
            elif part == 2:
                self.windows[budget_id, start] = WindowTotals(budget_id, start, *figures)
            elif part == 3:
                self.slices[budget_id, start] = LeaseRow(budget_id, start, self.worker_id, *figures[:5])
            else:
                self.workers, self.now_s = figures[0], at_s
        return budgets

    def grant(self, ask: LeaseAsk, budget: _Budget) -> LeaseGrant:
        """One ask, by the rules; what it changed is remembered for `Ledger._write`."""
        window = (ask.budget_id, ask.window)
        row = self.slices.get(window)
        totals = self.windows.get(window) or WindowTotals(*window)
        counted = (0, 0)
        if budget.rolling:
            others = [
                one
                for (budget_id, start), one in self.windows.items()
                if budget_id == ask.budget_id and start >= ask.oldest and start != ask.window
            ]
            counted = (sum([one.spent for one in others]), sum([one.granted for one in others]))
        after, summed, answer = lease_rules.grant(
            ask, row, totals, worker_id=self.worker_id, limit=budget.limit, hard=budget.hard, counted=counted
        )
        if after is not row:
            if window not in self.windows and ask.limit is None:
                self.begun.add(window)
            self.slices[window], self.windows[window] = after, summed
            self.changed[window] = None
            if ask.limit is None:
                self._enter(window, "spent", after.spent - (row.spent if row else 0))
            else:
                (self.returned.discard if after.granted else self.returned.add)(window)
                (self.vacated.discard if summed.granted else self.vacated.add)(window)
            if summed.calls > totals.calls:
                self.called[ask.budget_id] = None
        return answer

    def recover(self, row: LeaseRow, legacy: Legacy | None) -> int:
        """Ends one slice; returns what is presumed of it."""
        window = (row.budget_id, row.window)
        totals = self.windows.get(window) or WindowTotals(*window)
        if window not in self.windows:
            self.begun.add(window)
        summed, settled, presumed = lease_rules.recover(row, totals, legacy)
        self.windows[window] = summed
        self.changed[window] = None
        self._enter(window, "spent", settled)
        self._enter(window, "presumed", presumed)
        return presumed

    def end_share(self, row: LeaseRow) -> None:
        """Ends a share of a rate; what may have been used of it counts for one more period."""
        line_id, window = row.budget_id, (row.budget_id, row.window)
        summed, left = lease_rules.recover_share(row, self.windows.get(window) or WindowTotals(*window))
        self.windows[window] = summed
        self.changed[window] = None
        if not summed.granted:
            self.vacated.add(window)
        if left and rate_period_s(line_id):
            start = (line_id, math.ceil(self.now_s))
            count = left + (self.windows[start].granted if start in self.windows else 0)
            self.windows[start] = WindowTotals(*start, count, 0, count, presumed=count)
            self.changed[start] = None

    def _enter(self, window: _WindowId, kind: str, amount: int) -> None:
        if amount:
            self.entries.append((*window, kind, amount))


async def _forget_left(connection: Connection, now_s: float) -> None:
    """What dead workers left of rates, and does not count any more. Whenever a worker is ended: so it stays bounded."""
    left = await connection.fetch(_LEFT)
    gone = [one for one in left if one[1] + (rate_period_s(plain(one[0])) or 0) + LEFT_KEPT_S <= now_s]
    if gone:
        await connection.execute(_DROP_WINDOWS, [one[0] for one in gone], [one[1] for one in gone])


async def _forget_old_windows(connection: Connection, budget_id: str) -> None:
    """Keeps about `WINDOWS_MAX` windows of a budget, by the same rule as the other stores."""
    kept = await connection.fetchval("SELECT count(*) FROM windows WHERE budget_id = $1", escaped(budget_id))
    if kept <= WINDOWS_MAX + WINDOWS_MAX // 10:
        return
    until = await connection.fetchval(_OLDEST_WINDOWS, escaped(budget_id), kept - WINDOWS_MAX)
    for statement in _FORGET_WINDOWS:
        await connection.execute(statement, escaped(budget_id), until)


async def load_windows(connection: Connection, windows: Sequence[tuple[str, int, int]]) -> list[WindowTotals]:
    """`StateStore.load_windows`."""
    if not windows:
        return []
    rows = await connection.fetch(
        _READ_WINDOWS, [escaped(one[0]) for one in windows], [one[1] for one in windows], [one[2] for one in windows]
    )
    found = {(row[0], row[1]): WindowTotals(plain(row[0]), *row[1:]) for row in rows}
    return [found[one] for one in sorted(found)]


async def list_workers(connection: Connection) -> list[WorkerRow]:
    """`StateStore.list_workers`."""
    rows = await connection.fetch(
        f"SELECT worker_id, host, expires_at_s, expires_at_s <= {_NOW} FROM workers WHERE NOT ended ORDER BY seq"  # noqa: S608
    )
    return [WorkerRow(plain(row[0]), plain(row[1]), row[2], row[3]) for row in rows]


async def query_entries(connection: Connection, budget_id: str, window: int | None, limit: int) -> list[LedgerEntry]:
    """`StateStore.query_entries`."""
    rows = await connection.fetch(
        "SELECT at_s, window_s, worker_id, kind, amount FROM entries "
        "WHERE budget_id = $1 AND window_s = coalesce($2::bigint, window_s) ORDER BY seq DESC LIMIT $3",
        escaped(budget_id),
        window,
        max(0, limit),
    )
    return [LedgerEntry(row[0], budget_id, row[1], plain(row[2]), row[3], row[4]) for row in rows]
