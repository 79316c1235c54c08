"""The SQL of the SQLite store: what it writes, what it asks, and how the logs stay bounded.

Main entries: `Tables.write` puts batches into the tables, within the caller's transaction; `select_log` builds the
question of a `StateQuery`; the constants are the other questions.
Laws: values travel as parameters, never inside the text of a statement; after a write each log has at most its
maximum of rows; dropping costs a constant per inserted row (a tenth of the log goes at a time).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from apikeyrouter.domain.interfaces.state_store import StateQuery
from apikeyrouter.infrastructure.state_store import codec
from apikeyrouter.infrastructure.state_store.codec import FrozenBatch, Row
from apikeyrouter.infrastructure.state_store.sqlite_usage import PUT_USAGE

__all__ = ["Tables", "load_named_keys", "select_decisions", "select_events"]

_KEY_COLUMNS = (
    "key_id, provider_id, state, sealed_secret, fingerprint, version, document, created_at_s, updated_at_s, "
    "sealed_previous, revision"
)
_BUDGET_COLUMNS = (
    "budget_id, scope, scope_id, limit_nano_usd, period, mode, created_at_s, status, rolling, time_zone, name"
)
_KEY_CREATED_AT = 7
_NAMES_PER_QUESTION = 250
_EVENT_COLUMNS = "at_s, kind, entity_id, key_id, provider_id, document"
_DECISION_COLUMNS = "decision_id, request_id, at_s, key_id, provider_id, model, outcome, payload"
_VIRTUAL_KEY_COLUMNS = "virtual_key_id, role, digest, document, created_at_s, expires_at_s, revoked_at_s"


def _insert(table: str, columns: str) -> str:
    values = ", ".join("?" for _ in columns.split(","))
    return f"INSERT INTO {table} ({columns}) VALUES ({values})"  # noqa: S608 - constants of this module only


def _upsert(table: str, columns: str) -> str:
    """Inserts or replaces; a replaced row keeps its `seq`, and so its place in the order."""
    identity, *others = columns.split(", ")
    assignments = ", ".join(f"{one} = excluded.{one}" for one in others)
    return f"{_insert(table, columns)} ON CONFLICT ({identity}) DO UPDATE SET {assignments}"


# The table's triggers publish what others must know (`migrations/0002_shared_ledger.sql`).
_PUT_KEY = _upsert("keys", _KEY_COLUMNS) + " WHERE excluded.revision >= keys.revision"
_PUT_BUDGET = _upsert("budgets", _BUDGET_COLUMNS)
_PUT_EVENT = _insert("events", _EVENT_COLUMNS)
# A decision that is written again moves to the end of the log, as in the memory store.
_PUT_DECISION = _insert("decisions", _DECISION_COLUMNS).replace("INSERT", "INSERT OR REPLACE", 1)

PUT_VIRTUAL_KEY = (
    _upsert("virtual_keys", _VIRTUAL_KEY_COLUMNS)
    + " WHERE virtual_keys.revoked_at_s IS NULL OR excluded.revoked_at_s IS NOT NULL"
)
REPLACE_VIRTUAL_KEY = (
    f"UPDATE virtual_keys SET ({_VIRTUAL_KEY_COLUMNS}) = (?1, ?2, ?3, ?4, ?5, ?6, ?7) "  # noqa: S608
    "WHERE virtual_key_id = ?8 AND role = ?9 AND digest = ?10 AND document = ?11 AND created_at_s = ?12 "
    "AND expires_at_s IS ?13 AND revoked_at_s IS ?14 AND (revoked_at_s IS NULL OR ?7 IS NOT NULL)"
)
PUT_SETTING = _upsert("settings", "name, value")
PUT_SETTING_IF_ABSENT = _insert("settings", "name, value") + " ON CONFLICT (name) DO NOTHING"
REPLACE_SETTING = "UPDATE settings SET value = ? WHERE name = ? AND value = ?"
GET_SETTING = "SELECT value FROM settings WHERE name = ?"
DELETE_KEY = "DELETE FROM keys WHERE key_id = ?"
LOAD_KEYS = f"SELECT {_KEY_COLUMNS} FROM keys ORDER BY created_at_s, seq"  # noqa: S608
_LOAD_NAMED_KEYS = f"SELECT {_KEY_COLUMNS}, seq FROM keys WHERE key_id IN ({', '.join('?' * _NAMES_PER_QUESTION)})"  # noqa: S608
LIST_KEYS = (
    f"SELECT {_KEY_COLUMNS} FROM keys WHERE state <> 'retired' AND provider_id = coalesce(?, provider_id) "  # noqa: S608
    "ORDER BY created_at_s, seq"
)
LOAD_BUDGETS = f"SELECT {_BUDGET_COLUMNS} FROM budgets WHERE status = 'active' ORDER BY created_at_s, seq"  # noqa: S608
LOAD_VIRTUAL_KEYS = f"SELECT {_VIRTUAL_KEY_COLUMNS} FROM virtual_keys ORDER BY created_at_s, seq"  # noqa: S608
GET_DECISION = (
    f"SELECT {_DECISION_COLUMNS} FROM decisions WHERE decision_id = ?1 OR request_id = ?1 "  # noqa: S608
    "ORDER BY decision_id = ?1 DESC, at_s DESC, seq DESC LIMIT 1"
)


def load_named_keys(connection: sqlite3.Connection, key_ids: Sequence[str]) -> list[Row]:
    """Those of `key_ids` that exist, oldest first."""
    names, rows = sorted(set(key_ids)), list[Row]()
    for first in range(0, len(names), _NAMES_PER_QUESTION):
        some = names[first : first + _NAMES_PER_QUESTION]
        padded = some + [some[0]] * (_NAMES_PER_QUESTION - len(some))  # one statement for any number of names
        rows += connection.execute(_LOAD_NAMED_KEYS, padded).fetchall()
    return [row[:-1] for row in sorted(rows, key=lambda row: (row[_KEY_CREATED_AT], row[-1]))]


def select_decisions(query: StateQuery) -> tuple[str, list[object]]:
    """The statement and its parameters: matching decisions, newest first."""
    wanted: list[tuple[str, object]] = [
        ("(decision_id = ? OR request_id = ?)", query.entity_id),
        ("key_id = ?", query.key_id),
        ("provider_id = ?", query.provider_id),
    ]
    return _select("decisions", _DECISION_COLUMNS, wanted, query)


def select_events(query: StateQuery) -> tuple[str, list[object]]:
    """The statement and its parameters: matching events, newest first."""
    wanted: list[tuple[str, object]] = [
        ("kind = ?", codec.event_kind(query)),
        ("entity_id = ?", query.entity_id),
        ("(entity_id = ? OR key_id = ?)", query.key_id),
        ("provider_id = ?", query.provider_id),
    ]
    return _select("events", _EVENT_COLUMNS, wanted, query)


def _select(table: str, columns: str, wanted: list[tuple[str, object]], query: StateQuery) -> tuple[str, list[object]]:
    asked = [one for one in (*wanted, ("at_s >= ?", query.since_s), ("at_s < ?", query.until_s)) if one[1] is not None]
    where = " AND ".join(condition for condition, _ in asked) or "1"
    parameters = [value for condition, value in asked for _ in range(condition.count("?"))]
    statement = (
        f"SELECT {columns} FROM {table} WHERE {where} "  # noqa: S608 - constants of this module only
        "ORDER BY at_s DESC, seq DESC LIMIT ? OFFSET ?"
    )
    return statement, [*parameters, max(0, query.limit), max(0, query.offset)]


class _Retention:
    """Keeps one log at its maximum. Between exact counts it reckons with the rows that it has seen inserted; other
    processes on the same file do the same, so together they may exceed it by a tenth each for a while."""

    def __init__(self, table: str, rows_max: int) -> None:
        self._table = table
        self._rows_max = rows_max
        self._rows: int | None = None
        self._since_count = 0

    def inserted(self, connection: sqlite3.Connection, rows: int) -> None:
        self._since_count += rows
        slack = self._rows_max // 10
        if self._rows is None or self._since_count > slack or self._rows + self._since_count > self._rows_max:
            count = f"SELECT count(*) FROM {self._table}"  # noqa: S608 - a constant of this module
            self._rows = int(connection.execute(count).fetchone()[0])
            self._since_count = 0
        if self._rows > self._rows_max:
            surplus = self._rows - self._rows_max + slack
            connection.execute(
                f"DELETE FROM {self._table} WHERE seq IN "  # noqa: S608 - a constant of this module
                f"(SELECT seq FROM {self._table} ORDER BY at_s, seq LIMIT ?)",
                (surplus,),
            )
            self._rows -= surplus


class Tables:
    """Writes batches. One object per writing connection's thread: it keeps count of the logs."""

    def __init__(self, events_max: int, decisions_max: int) -> None:
        self._events = _Retention("events", events_max)
        self._decisions = _Retention("decisions", decisions_max)

    def write(self, connection: sqlite3.Connection, batches: Sequence[FrozenBatch]) -> None:
        """All rows of `batches`, in their order, table by table."""
        _put(connection, _PUT_KEY, [row for batch in batches for row in batch.keys])
        _put(connection, _PUT_BUDGET, [row for batch in batches for row in batch.budgets])
        events = [row for batch in batches for row in batch.events]
        if events:
            _put(connection, _PUT_EVENT, events)
            self._events.inserted(connection, len(events))
        decisions = [row for batch in batches for row in batch.decisions]
        if decisions:
            _put(connection, _PUT_DECISION, decisions)
            self._decisions.inserted(connection, len(decisions))
        _put(connection, PUT_USAGE, [row for batch in batches for row in batch.usage])


def _put(connection: sqlite3.Connection, statement: str, rows: list[Row]) -> None:
    if rows:
        connection.executemany(statement, rows)
