"""Hourly roll-ups of usage in PostgreSQL: how rows add up, how old ones are folded, how questions are asked.

Main entries: `add_usage`; `fold_usage`; `select_usage`, from a `UsageQuery` to a statement. Laws: only names that the
codec knows get into the text of a statement, values travel as parameters; rows are written in one order, so that
processes wait for each other and never in a circle; hours long past are folded into days (borders: `memory_feed`), so
the table stays small and sums stay.
"""

from __future__ import annotations

import hashlib

import msgspec

from apikeyrouter.domain.interfaces.shared_ledger import UsageQuery
from apikeyrouter.infrastructure.state_store.codec import USAGE_COUNTERS, USAGE_FACTS, Row, usage_groups
from apikeyrouter.infrastructure.state_store.memory_feed import fold_borders
from apikeyrouter.infrastructure.state_store.postgres_session import Connection
from apikeyrouter.infrastructure.state_store.postgres_text import escaped, frozen

__all__ = ["add_usage", "fold_usage", "select_usage"]

_COLUMNS = ", ".join(("digest", *USAGE_FACTS, *USAGE_COUNTERS))
_ADD_UP = "ON CONFLICT (hour_s, digest) DO UPDATE SET " + ", ".join(
    f"{one} = usage.{one} + excluded.{one}" for one in USAGE_COUNTERS
)
_PLACES = ", ".join(f"${number}" for number in range(1, 2 + len(USAGE_FACTS) + len(USAGE_COUNTERS)))
_ADD = f"INSERT INTO usage ({_COLUMNS}) VALUES ({_PLACES}) {_ADD_UP}"  # noqa: S608 - constants of this module only

# All hours of a day have the same digest, and so does the day.
_INTO_DAYS = f"""
    WITH old AS (DELETE FROM usage WHERE hour_s < $1 AND hour_s % 86400 <> 0 RETURNING *)
    INSERT INTO usage ({_COLUMNS})
    SELECT digest, hour_s - hour_s % 86400 AS day_s, {", ".join(f"min({one})" for one in USAGE_FACTS[1:])},
           {", ".join(f"sum({one})::bigint" for one in USAGE_COUNTERS)}
    FROM old GROUP BY digest, day_s ORDER BY day_s, digest {_ADD_UP}
"""  # noqa: S608
_FORGET_DAYS = "DELETE FROM usage WHERE hour_s < $1"

_FILTERS = ("provider_id", "key_id", "model", "virtual_key_id", "team")


def select_usage(query: UsageQuery) -> tuple[str, list[object]]:
    """The statement and its parameters: one row per group in the order of `UsageRow`, dearest first.

    Raises StateStoreError when it asks for groups of something that is no fact.
    """
    groups = usage_groups(query)
    facts = [one if one in groups else "0::bigint" if one == "hour_s" else "''::text" for one in USAGE_FACTS]
    sums = [f"sum({one})::bigint AS {one}" for one in USAGE_COUNTERS]
    asked: list[tuple[str, object]] = [
        (f"{name} =", escaped(value)) for name in _FILTERS if (value := getattr(query, name)) is not None
    ]
    asked += [
        (f"hour_s {sign}", float(value))
        for sign, value in ((">=", query.since_s), ("<", query.until_s))
        if value is not None
    ]
    conditions = [f"{one} ${number}" for number, (one, _) in enumerate(asked, start=1)]
    conditions = [one + "::double precision" if one.startswith("hour_s") else one for one in conditions]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    by = f"GROUP BY {', '.join(groups)}" if groups else "HAVING count(*) > 0"
    order = ", ".join(["cost_nano_usd DESC", "requests DESC", *groups])
    statement = f"SELECT {', '.join([*facts, *sums])} FROM usage {where} {by} ORDER BY {order}"  # noqa: S608 - checked
    return statement, [value for _, value in asked]


async def add_usage(connection: Connection, rows: list[Row]) -> None:
    """Adds frozen rows to what is there, within the caller's transaction."""
    facts = len(USAGE_FACTS)
    sums: dict[Row, list[int]] = {}
    for row in rows:
        counters = sums.setdefault(row[:facts], [0] * len(USAGE_COUNTERS))
        for place, amount in enumerate(row[facts:]):
            counters[place] += amount
    added = [(_digest(row), *frozen(row), *counters) for row, counters in sums.items()]
    if added:
        await connection.executemany(_ADD, sorted(added, key=lambda one: (one[1], one[0])))


async def fold_usage(connection: Connection, _: object = None) -> None:
    """Folds old hours into days and forgets days that are older still, by the server's clock."""
    now_s = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::double precision")
    hours_from_s, days_from_s = fold_borders(now_s)
    await connection.execute(_INTO_DAYS, hours_from_s)
    await connection.execute(_FORGET_DAYS, days_from_s)


def _digest(facts: Row) -> bytes:
    """What names a row of usage within its hour: the facts may be longer than an index takes."""
    return hashlib.sha256(msgspec.json.encode(facts[1:])).digest()[:16]
