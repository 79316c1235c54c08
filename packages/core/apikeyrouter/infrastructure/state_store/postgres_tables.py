"""The SQL of the PostgreSQL store's rows and logs: what it writes, what it asks, and how the logs stay bounded.

Main entries: `Tables.write` puts batches into the tables, within the caller's transaction; `select_decisions` and
`select_events` build the question of a `StateQuery`; `publish` tells other processes; the constants are the other
questions. Laws: values travel as parameters, never inside the text of a statement; rows are locked in the order of
their ids, and the head of the changes last, so that transactions wait for each other and never in a circle; after a
write each log has at most its maximum of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from apikeyrouter.domain.interfaces.state_store import StateQuery
from apikeyrouter.infrastructure.state_store import codec
from apikeyrouter.infrastructure.state_store.codec import FrozenBatch, Row
from apikeyrouter.infrastructure.state_store.postgres_session import Connection
from apikeyrouter.infrastructure.state_store.postgres_text import escaped, frozen, plain
from apikeyrouter.infrastructure.state_store.postgres_usage import add_usage

__all__ = ["Retention", "Tables", "publish", "select_decisions", "select_events"]

_KEY_COLUMNS = (
    "key_id, provider_id, state, sealed_secret, fingerprint, version, document, created_at_s, updated_at_s, "
    "sealed_previous, revision"
)
_BUDGET_COLUMNS = (
    "budget_id, scope, scope_id, limit_nano_usd, period, mode, created_at_s, status, rolling, time_zone, name"
)
_EVENT_COLUMNS = "at_s, kind, entity_id, key_id, provider_id, document"
_DECISION_COLUMNS = "decision_id, request_id, at_s, key_id, provider_id, model, outcome, payload"
_VIRTUAL_KEY_COLUMNS = "virtual_key_id, role, digest, document, created_at_s, expires_at_s, revoked_at_s"

CHANGES_KEPT = 10_000
"""Whoever is further behind than so many changes is told that some were lost."""


def _insert(table: str, columns: str) -> str:
    values = ", ".join(f"${number}" for number, _ in enumerate(columns.split(","), start=1))
    return f"INSERT INTO {table} ({columns}) VALUES ({values})"  # noqa: S608 - constants of this module only


def _upsert(table: str, columns: str) -> str:
    """Inserts or replaces; a replaced row keeps its `seq`, and so its place in the order."""
    identity, *others = columns.split(", ")
    assignments = ", ".join(f"{one} = excluded.{one}" for one in others)
    return f"{_insert(table, columns)} ON CONFLICT ({identity}) DO UPDATE SET {assignments}"


_PUT_KEY = _upsert("keys", _KEY_COLUMNS) + " WHERE keys.revision <= excluded.revision"
_PUT_BUDGET = _upsert("budgets", _BUDGET_COLUMNS)
_PUT_EVENT = _insert("events", _EVENT_COLUMNS)
# A decision that is written again moves to the end of the log, as in the other stores.
_PUT_DECISION = _upsert("decisions", _DECISION_COLUMNS) + ", seq = excluded.seq"
_LOCK_KEYS = "SELECT key_id, revision FROM keys WHERE key_id = ANY($1::text[]) ORDER BY key_id FOR NO KEY UPDATE"
_LOCK_BUDGETS = "SELECT FROM budgets WHERE budget_id = ANY($1::text[]) ORDER BY budget_id FOR NO KEY UPDATE"

PUT_VIRTUAL_KEY = (
    _upsert("virtual_keys", _VIRTUAL_KEY_COLUMNS)
    + " WHERE virtual_keys.revoked_at_s IS NULL OR excluded.revoked_at_s IS NOT NULL"
)
REPLACE_VIRTUAL_KEY = (
    f"UPDATE virtual_keys SET ({_VIRTUAL_KEY_COLUMNS}) = ($1, $2, $3, $4, $5, $6, $7) "  # noqa: S608
    "WHERE virtual_key_id = $8 AND role = $9 AND digest = $10 AND document::text = $11 AND created_at_s = $12 "
    "AND expires_at_s IS NOT DISTINCT FROM $13 AND revoked_at_s IS NOT DISTINCT FROM $14 "
    "AND (revoked_at_s IS NULL OR $7::double precision IS NOT NULL)"
)
PUT_SETTING = _upsert("settings", "name, value")
PUT_SETTING_IF_ABSENT = _insert("settings", "name, value") + " ON CONFLICT (name) DO NOTHING"
REPLACE_SETTING = "UPDATE settings SET value = $2 WHERE name = $1 AND value = $3"
GET_SETTING = "SELECT value FROM settings WHERE name = $1"
DELETE_KEY = "DELETE FROM keys WHERE key_id = $1"
COUNT_KEYS = "SELECT count(*) FROM keys"
LOAD_KEYS = (
    f"SELECT {_KEY_COLUMNS} FROM keys WHERE $1::text[] IS NULL OR key_id = ANY($1::text[]) "  # noqa: S608
    "ORDER BY created_at_s, seq"
)
LIST_KEYS = (
    f"SELECT {_KEY_COLUMNS} FROM keys WHERE state <> 'retired' AND provider_id = coalesce($1::text, provider_id) "  # noqa: S608
    "ORDER BY created_at_s, seq"
)
LOAD_BUDGETS = f"SELECT {_BUDGET_COLUMNS} FROM budgets WHERE status = 'active' ORDER BY created_at_s, seq"  # noqa: S608
LOAD_VIRTUAL_KEYS = f"SELECT {_VIRTUAL_KEY_COLUMNS} FROM virtual_keys ORDER BY created_at_s, seq"  # noqa: S608
GET_DECISION = (
    f"SELECT {_DECISION_COLUMNS} FROM decisions WHERE decision_id = $1 OR request_id = $1 "  # noqa: S608
    "ORDER BY decision_id = $1 DESC, at_s DESC, seq DESC LIMIT 1"
)

_PUBLISH = """
    WITH head AS (UPDATE change_head SET seq = seq + cardinality($1::text[]) RETURNING seq),
         added AS (INSERT INTO changes (seq, kind, entity_id)
                   SELECT head.seq - cardinality($1::text[]) + one.place, one.kind, one.entity_id
                   FROM head, unnest($1::text[], $2::text[]) WITH ORDINALITY AS one (kind, entity_id, place)
                   RETURNING seq)
    SELECT max(added.seq), pg_notify($3, '') FROM added
"""
_TRIM = """
    WITH head AS (UPDATE change_head SET dropped = seq - $1::bigint WHERE dropped < seq - $1::bigint RETURNING dropped)
    DELETE FROM changes USING head WHERE changes.seq <= head.dropped
"""


KEY_DOCUMENT, EVENT_DOCUMENT, VIRTUAL_KEY_DOCUMENT = 6, 5, 3
"""Which column of the row is JSON."""


def select_decisions(query: StateQuery) -> tuple[str, list[object]]:
    """The statement and its parameters: matching decisions, newest first."""
    wanted: list[tuple[str, object]] = [
        ("(decision_id = {} OR request_id = {})", query.entity_id),
        ("key_id = {}", query.key_id),
        ("provider_id = {}", query.provider_id),
    ]
    return _select("decisions", _DECISION_COLUMNS, wanted, query)


def select_events(query: StateQuery) -> tuple[str, list[object]]:
    """The statement and its parameters: matching events, newest first."""
    wanted: list[tuple[str, object]] = [
        ("kind = {}", codec.event_kind(query)),
        ("entity_id = {}", query.entity_id),
        ("(entity_id = {} OR key_id = {})", query.key_id),
        ("provider_id = {}", query.provider_id),
    ]
    return _select("events", _EVENT_COLUMNS, wanted, query)


def _select(table: str, columns: str, wanted: list[tuple[str, object]], query: StateQuery) -> tuple[str, list[object]]:
    times = [("at_s >= {}", _seconds(query.since_s)), ("at_s < {}", _seconds(query.until_s))]
    asked = [one for one in (*wanted, *times) if one[1] is not None]
    conditions = [text.replace("{}", f"${number}") for number, (text, _) in enumerate(asked, start=1)]
    statement = (
        f"SELECT {columns} FROM {table} WHERE {' AND '.join(conditions) or 'true'} "  # noqa: S608 - our constants
        f"ORDER BY at_s DESC, seq DESC LIMIT ${len(asked) + 1} OFFSET ${len(asked) + 2}"
    )
    values = [escaped(value) if isinstance(value, str) else value for _, value in asked]
    return statement, [*values, max(0, query.limit), max(0, query.offset)]


def _seconds(time_s: float | None) -> float | None:
    return None if time_s is None else float(time_s)


async def publish(connection: Connection, channel: str, changes: Iterable[tuple[str, str]]) -> None:
    """Adds (kind, entity id) to what other processes must know, in this transaction, and wakes them at its commit.

    The row of `change_head` is locked until then, so numbers are in the order of commits and nobody who reads on from
    a number can miss a smaller one that comes later. To be called last in a transaction.
    """
    told = list(dict.fromkeys(changes))
    if not told:
        return
    newest = await connection.fetchval(_PUBLISH, [kind for kind, _ in told], [escaped(one) for _, one in told], channel)
    if newest // (CHANGES_KEPT // 10) != (newest - len(told)) // (CHANGES_KEPT // 10):
        await connection.execute(_TRIM, CHANGES_KEPT)


class Retention:
    """Keeps one log at its maximum. Between exact counts it reckons with the rows that it has seen inserted; other
    processes on the same server do the same, so together they may exceed it by a tenth each for a while."""

    def __init__(self, table: str, rows_max: int, drop: str) -> None:
        self._count = f"SELECT count(*) FROM {table}"  # noqa: S608 - a constant of this module
        self._drop = drop
        self._rows_max = rows_max
        self._rows: int | None = None
        self._since_count = 0

    async def inserted(self, connection: Connection, rows: int) -> None:
        """After so many rows were inserted, in the same transaction."""
        self._since_count += rows
        slack = self._rows_max // 10
        if self._rows is None or self._since_count > slack or self._rows + self._since_count > self._rows_max:
            self._rows = int(await connection.fetchval(self._count))
            self._since_count = 0
        if self._rows > self._rows_max:
            surplus = self._rows - self._rows_max + slack
            await connection.execute(self._drop, surplus)
            self._rows -= surplus


def _drop_oldest(table: str) -> str:
    # Rows that another process is dropping at this moment are left to it.
    return (
        f"DELETE FROM {table} WHERE seq = ANY(ARRAY(SELECT seq FROM {table} ORDER BY at_s, seq LIMIT $1 "  # noqa: S608
        "FOR UPDATE SKIP LOCKED))"
    )


class Tables:
    """Writes batches. One object per store: it keeps count of the logs."""

    def __init__(self, events_max: int, decisions_max: int) -> None:
        self._events = Retention("events", events_max, _drop_oldest("events"))
        self._decisions = Retention("decisions", decisions_max, _drop_oldest("decisions"))

    async def write(self, connection: Connection, batches: Sequence[FrozenBatch]) -> list[tuple[str, str]]:
        """All rows of `batches`, in their order, table by table; returns what is to be published."""
        changes = await _write_keys(connection, [row for batch in batches for row in batch.keys])
        changes += await _write_budgets(connection, [row for batch in batches for row in batch.budgets])
        await add_usage(connection, [row for batch in batches for row in batch.usage])
        events = [frozen(row, EVENT_DOCUMENT) for batch in batches for row in batch.events]
        if events:
            await connection.executemany(_PUT_EVENT, events)
            await self._events.inserted(connection, len(events))
        decisions = [frozen(row) for batch in batches for row in batch.decisions]
        if decisions:
            await connection.executemany(_PUT_DECISION, decisions)
            await self._decisions.inserted(connection, len(decisions))
        return changes


async def _write_keys(connection: Connection, rows: list[Row]) -> list[tuple[str, str]]:
    """Each key's last row that is not of an earlier revision than what is stored; what to publish."""
    if not rows:
        return []
    found = await connection.fetch(_LOCK_KEYS, [escaped(one) for one in {row[0] for row in rows}])
    revisions = {plain(key_id): revision for key_id, revision in found}
    newest: dict[str, Row] = {}
    changes = []
    for row in rows:
        key_id, revision = row[0], row[-1]
        before = revisions.get(key_id)
        if before is not None and revision < before:
            continue
        if before is None or revision > before:
            changes.append(("key", key_id))
        revisions[key_id] = revision
        newest[key_id] = row
    await connection.executemany(_PUT_KEY, [frozen(row, KEY_DOCUMENT) for row in newest.values()])
    return changes


async def _write_budgets(connection: Connection, rows: list[Row]) -> list[tuple[str, str]]:
    if not rows:
        return []
    newest = {row[0]: frozen(row) for row in rows}
    if len(newest) > 1:
        await connection.execute(_LOCK_BUDGETS, [row[0] for row in newest.values()])
    await connection.executemany(_PUT_BUDGET, list(newest.values()))
    return [("budget", budget_id) for budget_id in newest]
