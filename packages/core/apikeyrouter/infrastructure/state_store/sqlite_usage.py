"""Usage roll-ups in SQLite: rows of one hour add up as they are written, questions are answered by grouped sums.

Main entries: `PUT_USAGE`, `fold_usage` and `select_usage`. Laws: names in statements are constants of `codec`, values
are parameters; hours long past are folded into days (borders: `memory_feed`), so the table stays small and sums stay.
"""

from __future__ import annotations

import sqlite3

from apikeyrouter.domain.interfaces.shared_ledger import UsageQuery
from apikeyrouter.infrastructure.state_store.codec import USAGE_COUNTERS, USAGE_FACTS, usage_groups
from apikeyrouter.infrastructure.state_store.memory_feed import fold_borders

__all__ = ["PUT_USAGE", "fold_usage", "select_usage"]

_FACTS = ", ".join(USAGE_FACTS)
_COUNTERS = ", ".join(USAGE_COUNTERS)
_COLUMNS = f"{_FACTS}, {_COUNTERS}"
_ADD = f"ON CONFLICT ({_FACTS}) DO UPDATE SET " + ", ".join(f"{one} = {one} + excluded.{one}" for one in USAGE_COUNTERS)

PUT_USAGE = f"INSERT INTO usage ({_COLUMNS}) VALUES ({', '.join('?' * len(_COLUMNS.split(',')))}) {_ADD}"  # noqa: S608

_OLD_HOURS = "hour_s < ?1 AND hour_s % 86400 <> 0"
_INTO_DAYS = (
    f"INSERT INTO usage ({_COLUMNS}) SELECT hour_s - hour_s % 86400, {_COLUMNS.partition(', ')[2]} FROM usage "  # noqa: S608
    f"WHERE {_OLD_HOURS} {_ADD}"
)


def fold_usage(connection: sqlite3.Connection, now_s: float) -> None:
    """Folds old hours into days, and forgets days that are older still."""
    hours_from_s, days_from_s = fold_borders(now_s)
    connection.execute(_INTO_DAYS, (hours_from_s,))
    connection.execute(f"DELETE FROM usage WHERE {_OLD_HOURS}", (hours_from_s,))  # noqa: S608 - a constant
    connection.execute("DELETE FROM usage WHERE hour_s < ?", (days_from_s,))


def select_usage(query: UsageQuery) -> tuple[str, list[object]]:
    """The statement and its parameters: one row per group, dearest first. Raises StateStoreError for a group that is no
    fact of usage."""
    groups = usage_groups(query)
    wanted: list[tuple[str, object]] = [
        ("hour_s >= ?", query.since_s),
        ("hour_s < ?", query.until_s),
        ("provider_id = ?", query.provider_id),
        ("key_id = ?", query.key_id),
        ("model = ?", query.model),
        ("virtual_key_id = ?", query.virtual_key_id),
        ("team = ?", query.team),
    ]
    asked = [one for one in wanted if one[1] is not None]
    where = " AND ".join(condition for condition, _ in asked) or "1"
    facts = ", ".join(one if one in groups else ("0" if one == "hour_s" else "''") for one in USAGE_FACTS)
    sums = ", ".join(f"sum({one})" for one in USAGE_COUNTERS)
    names = ", ".join(f"usage.{one}" for one in groups)
    # Without groups, a sum over nothing would be a row too: the count leaves it out.
    statement = (
        f"SELECT * FROM (SELECT {facts}, {sums}, count(*) AS found, sum(cost_nano_usd) AS cost FROM usage "  # noqa: S608
        f"WHERE {where} {'GROUP BY ' + names if names else ''}) WHERE found > 0 "
        f"ORDER BY cost DESC, {', '.join(str(number + 1) for number in range(len(USAGE_FACTS)))}"
    )
    return statement, [value for _, value in asked]
