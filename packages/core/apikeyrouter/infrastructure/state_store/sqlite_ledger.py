"""The shared ledger in SQLite: slices, totals and entries of budgets, exact among processes on one file.

Main entries: `Books.lease` and `Books.recover`, which run inside one transaction that holds the write lock from its
start (BEGIN IMMEDIATE), so what they read is what they change. The rules are `domain.ledger.lease_rules`.
Laws: per window, entries add up to its spend; they are bounded, old ones are folded into one opening line per window.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence

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
from apikeyrouter.infrastructure.state_store.memory_ledger import FENCE_S, LEFT_KEPT_S, WINDOWS_MAX

__all__ = ["Books", "entries", "windows", "workers"]

_BUDGET = "SELECT limit_nano_usd, mode FROM budgets WHERE budget_id = ? AND status = 'active'"
_TOTALS = "budget_id, window_s, spent, held, granted, overrun, presumed, alerted, calls, since_s"
_GET_TOTALS = f"SELECT {_TOTALS} FROM window_totals WHERE budget_id = ? AND window_s = ?"  # noqa: S608
_PUT_TOTALS = (
    f"INSERT INTO window_totals ({_TOTALS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608 - constants of this module
    "ON CONFLICT (budget_id, window_s) DO UPDATE SET spent = excluded.spent, held = excluded.held, "
    "granted = excluded.granted, overrun = excluded.overrun, presumed = excluded.presumed, "
    "alerted = excluded.alerted, calls = excluded.calls, since_s = excluded.since_s"
)
_COUNTED = "SELECT spent, granted FROM window_totals WHERE budget_id = ? AND window_s >= ? AND window_s <> ?"
_WINDOWS = (
    f"SELECT {_TOTALS} FROM window_totals WHERE budget_id = ? AND window_s BETWEEN ? AND ? "  # noqa: S608
    "ORDER BY window_s"
)
_ROW = "budget_id, window_s, worker_id, seq, spent, held, granted, overrun"
_GET_ROW = f"SELECT {_ROW} FROM lease_rows WHERE worker_id = ? AND budget_id = ? AND window_s = ?"  # noqa: S608
_GET_ROWS = f"SELECT {_ROW} FROM lease_rows WHERE worker_id = ?"  # noqa: S608
_PUT_ROW = (
    f"INSERT INTO lease_rows ({_ROW}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608 - constants of this module
    "ON CONFLICT (worker_id, budget_id, window_s) DO UPDATE SET seq = excluded.seq, spent = excluded.spent, "
    "held = excluded.held, granted = excluded.granted, overrun = excluded.overrun"
)
_DROP_ROW = "DELETE FROM lease_rows WHERE worker_id = ? AND budget_id = ? AND window_s = ?"
_DROP_TOTALS = "DELETE FROM window_totals WHERE budget_id = ? AND window_s = ?"
_LEFT = (
    "SELECT budget_id, window_s FROM window_totals WHERE budget_id >= 'rate:' AND budget_id < 'rate;' AND window_s <> 0"
)
_PUT_ENTRY = "INSERT INTO entries (at_s, budget_id, window_s, worker_id, kind, amount) VALUES (?, ?, ?, ?, ?, ?)"
_RENEW = "UPDATE workers SET host = ?, expires_at_s = ? WHERE worker_id = ?"
_ALIVE = "SELECT count(*) FROM workers WHERE expires_at_s > ?"
_PUBLISH = "INSERT INTO changes (kind, entity_id) VALUES ('lease', ?)"


class Books:
    """Writes the ledger. `entries_max`: about as many lines are kept; one object per writing connection's thread."""

    def __init__(self, entries_max: int) -> None:
        self._folding = _Folding(entries_max)

    def lease(
        self, connection: sqlite3.Connection, worker: LeaseWorker, asks: Sequence[LeaseAsk], now_s: float
    ) -> LeaseReply:
        """Renews the worker and answers its asks; see `StateStore.lease`."""
        alive_until_s = now_s + worker.ttl_s
        if not connection.execute(_RENEW, (worker.host, alive_until_s, worker.worker_id)).rowcount:
            ended = connection.execute("SELECT 1 FROM ended_workers WHERE worker_id = ?", (worker.worker_id,))
            if ended.fetchone():
                return LeaseReply(now_s, [], fenced=True, workers=_alive(connection, now_s))
            connection.execute(
                "INSERT INTO workers (worker_id, host, expires_at_s) VALUES (?, ?, ?)",
                (worker.worker_id, worker.host, alive_until_s),
            )
        grants = [self._grant(connection, worker.worker_id, ask, now_s) for ask in asks]
        return LeaseReply(now_s, grants, workers=_alive(connection, now_s))

    def _grant(self, connection: sqlite3.Connection, worker_id: str, ask: LeaseAsk, now_s: float) -> LeaseGrant:
        place = (ask.budget_id, ask.window)
        is_rate = ask.limit is not None
        facts: tuple[int, str] | None = (ask.limit or 0, "hard")
        if not is_rate:
            facts = connection.execute(_BUDGET, (ask.budget_id,)).fetchone()
        known = connection.execute(_GET_TOTALS, place).fetchone()
        totals = WindowTotals(*(known or place))
        if facts is None:
            return LeaseGrant(*place, 0, totals, gone=True)
        found = connection.execute(_GET_ROW, (worker_id, *place)).fetchone()
        before = LeaseRow(*found) if found else None
        counted = (0, 0)
        if ask.oldest != ask.window:
            others = connection.execute(_COUNTED, (ask.budget_id, ask.oldest, ask.window)).fetchall()
            counted = sum([one[0] for one in others]), sum([one[1] for one in others])
        row, summed, grant = lease_rules.grant(
            ask, before, totals, worker_id=worker_id, limit=facts[0], hard=facts[1] == "hard", counted=counted
        )
        if row is not before:
            if is_rate:
                _put_share(connection, row, summed)
            else:
                connection.execute(_PUT_ROW, _columns_of_row(row))
                self._keep(connection, summed, new=known is None)
                self._add(connection, now_s, worker_id, "spent", summed, summed.spent - totals.spent)
            if summed.calls > totals.calls:
                connection.execute(_PUBLISH, (ask.budget_id,))
        return grant

    def recover(
        self,
        connection: sqlite3.Connection,
        worker_id: str,
        legacy: Mapping[tuple[str, int], Legacy] | None,
        now_s: float,
    ) -> int | None:
        """Ends a dead worker; see `StateStore.recover_worker`."""
        expiry = connection.execute("SELECT expires_at_s FROM workers WHERE worker_id = ?", (worker_id,)).fetchone()
        if expiry is None or (legacy is None and expiry[0] > now_s):
            return None
        connection.execute("DELETE FROM workers WHERE worker_id = ?", (worker_id,))
        connection.execute("DELETE FROM ended_workers WHERE ended_at_s <= ?", (now_s - FENCE_S,))
        connection.execute("INSERT INTO ended_workers (worker_id, ended_at_s) VALUES (?, ?)", (worker_id, now_s))
        slices = [LeaseRow(*row) for row in connection.execute(_GET_ROWS, (worker_id,)).fetchall()]
        connection.execute("DELETE FROM lease_rows WHERE worker_id = ?", (worker_id,))
        known = {(row.budget_id, row.window) for row in slices}
        forgotten = [place for place in legacy or () if place not in known]
        budgets = {one for one, _ in forgotten if connection.execute(_BUDGET, (one,)).fetchone()}
        slices += [LeaseRow(*place, worker_id) for place in forgotten if place[0] in budgets]
        charged = 0
        for row in slices:
            place = (row.budget_id, row.window)
            found = connection.execute(_GET_TOTALS, place).fetchone()
            if (period_s := rate_period_s(row.budget_id)) is not None:
                _end_share(connection, row, WindowTotals(*(found or place)), period_s, now_s)
                continue
            journal = legacy.get(place) if legacy else None
            summed, settled, presumed = lease_rules.recover(row, WindowTotals(*(found or place)), journal)
            self._keep(connection, summed, new=found is None)
            self._add(connection, now_s, worker_id, "spent", summed, settled)
            self._add(connection, now_s, worker_id, "presumed", summed, presumed)
            charged += presumed
        for budget_id in dict.fromkeys(row.budget_id for row in slices):
            connection.execute(_PUBLISH, (budget_id,))
        _forget_left(connection, now_s)
        return charged

    def _keep(self, connection: sqlite3.Connection, totals: WindowTotals, *, new: bool) -> None:
        connection.execute(_PUT_TOTALS, _columns_of_totals(totals))
        if new:
            _forget_old_windows(connection, totals.budget_id)

    def _add(
        self,
        connection: sqlite3.Connection,
        now_s: float,
        worker_id: str,
        kind: str,
        totals: WindowTotals,
        amount: int,
    ) -> None:
        if amount:
            connection.execute(_PUT_ENTRY, (now_s, totals.budget_id, totals.window, worker_id, kind, amount))
            self._folding.inserted(connection)


def _put_share(connection: sqlite3.Connection, row: LeaseRow, totals: WindowTotals) -> None:
    """A share of a rate, and the totals; what is nothing leaves no row."""
    if row.granted:  # what is in use is granted
        connection.execute(_PUT_ROW, _columns_of_row(row))
    else:
        connection.execute(_DROP_ROW, (row.worker_id, row.budget_id, row.window))
    _put_rate(connection, totals)


def _put_rate(connection: sqlite3.Connection, totals: WindowTotals) -> None:
    if totals.granted:
        connection.execute(_PUT_TOTALS, _columns_of_totals(totals))
    else:
        connection.execute(_DROP_TOTALS, (totals.budget_id, totals.window))


def _end_share(
    connection: sqlite3.Connection, row: LeaseRow, totals: WindowTotals, period_s: int, now_s: float
) -> None:
    """Ends a dead worker's share of a rate; what it may have used counts for one more period."""
    summed, left = lease_rules.recover_share(row, totals)
    _put_rate(connection, summed)
    if left and period_s:
        place = (row.budget_id, math.ceil(now_s))
        before = connection.execute(_GET_TOTALS, place).fetchone()
        count = left + (WindowTotals(*before).granted if before else 0)
        _put_rate(connection, WindowTotals(*place, count, 0, count, presumed=count))


def _forget_left(connection: sqlite3.Connection, now_s: float) -> None:
    """What dead workers left of rates, and does not count any more. Whenever a worker is ended: so it stays bounded."""
    for line_id, window in connection.execute(_LEFT).fetchall():
        if window + (rate_period_s(line_id) or 0) + LEFT_KEPT_S <= now_s:
            connection.execute(_DROP_TOTALS, (line_id, window))


class _Folding:
    """Keeps the number of entries near its maximum. It counts now and then, and reckons with what it has seen inserted
    in between; other processes on the file do the same."""

    def __init__(self, lines_max: int) -> None:
        self._lines_max = lines_max
        self._fold_above = lines_max
        self._lines: int | None = None
        self._since_count = 0

    def inserted(self, connection: sqlite3.Connection) -> None:
        self._since_count += 1
        slack = self._lines_max // 10
        due = self._lines is None or self._since_count > slack or self._lines + self._since_count > self._fold_above
        if due:
            self._lines = int(connection.execute("SELECT count(*) FROM entries").fetchone()[0])
            self._since_count = 0
            if self._lines > self._fold_above:
                count = self._lines - self._lines_max + slack
                self._lines += _fold(connection, count) - count
                # where every window has its one line, folding again at the next line would be work without effect
                self._fold_above = max(self._lines_max, self._lines + slack)


def _fold(connection: sqlite3.Connection, count: int) -> int:
    """Replaces the oldest `count` lines by one opening line for each of their windows; returns how many these are."""
    last = connection.execute("SELECT max(seq) FROM (SELECT seq FROM entries ORDER BY seq LIMIT ?)", (count,))
    (until,) = last.fetchone()
    openings = connection.execute(
        "SELECT max(seq), max(at_s), budget_id, window_s, '', 'opening', sum(amount) FROM entries WHERE seq <= ? "
        "GROUP BY budget_id, window_s",
        (until,),
    ).fetchall()
    connection.execute("DELETE FROM entries WHERE seq <= ?", (until,))
    connection.executemany(
        "INSERT INTO entries (seq, at_s, budget_id, window_s, worker_id, kind, amount) VALUES (?, ?, ?, ?, ?, ?, ?)",
        openings,
    )
    return len(openings)


def _forget_old_windows(connection: sqlite3.Connection, budget_id: str) -> None:
    kept = connection.execute("SELECT count(*) FROM window_totals WHERE budget_id = ?", (budget_id,)).fetchone()[0]
    if kept <= WINDOWS_MAX + WINDOWS_MAX // 10:
        return
    (until,) = connection.execute(
        "SELECT max(window_s) FROM (SELECT window_s FROM window_totals WHERE budget_id = ? AND window_s <> 0 "
        "ORDER BY window_s LIMIT ?)",
        (budget_id, kept - WINDOWS_MAX),
    ).fetchone()
    for table in ("window_totals", "lease_rows", "entries"):
        connection.execute(
            f"DELETE FROM {table} WHERE budget_id = ? AND window_s <> 0 AND window_s <= ?",  # noqa: S608 - named above
            (budget_id, until),
        )


def _alive(connection: sqlite3.Connection, now_s: float) -> int:
    return int(connection.execute(_ALIVE, (now_s,)).fetchone()[0])


def _columns_of_row(row: LeaseRow) -> tuple[object, ...]:
    return (
        row.budget_id,
        row.window,
        row.worker_id,
        row.seq,
        row.spent,
        row.held,
        row.granted,
        row.overrun,
    )


def _columns_of_totals(totals: WindowTotals) -> tuple[object, ...]:
    return (
        totals.budget_id,
        totals.window,
        totals.spent,
        totals.held,
        totals.granted,
        totals.overrun,
        totals.presumed,
        totals.alerted,
        totals.calls,
        totals.since,
    )


def workers(connection: sqlite3.Connection, now_s: float) -> list[WorkerRow]:
    """Workers that were not ended, oldest first."""
    found = connection.execute(
        "SELECT worker_id, host, expires_at_s, expires_at_s <= ? FROM workers ORDER BY seq", (now_s,)
    )
    return [WorkerRow(worker_id, host, expires_at_s, bool(expired)) for worker_id, host, expires_at_s, expired in found]


def windows(connection: sqlite3.Connection, wanted: Sequence[tuple[str, int, int]]) -> list[WindowTotals]:
    """Totals of (budget id, oldest, newest) windows that exist."""
    return [WindowTotals(*row) for one in wanted for row in connection.execute(_WINDOWS, one)]


def entries(connection: sqlite3.Connection, budget_id: str, window: int | None, limit: int) -> list[LedgerEntry]:
    """Lines of a budget, or of one window of it, newest first."""
    found = connection.execute(
        "SELECT at_s, budget_id, window_s, worker_id, kind, amount FROM entries WHERE budget_id = ?1 "
        "AND window_s = coalesce(?2, window_s) ORDER BY seq DESC LIMIT ?3",
        (budget_id, window, max(0, limit)),
    )
    return [LedgerEntry(*row) for row in found]
