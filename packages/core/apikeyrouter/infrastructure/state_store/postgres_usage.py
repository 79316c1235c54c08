"""Questions about the hourly roll-ups of usage in PostgreSQL.

Main entry: `select_usage`, from a `UsageQuery` to a statement. Law: only names of facts that the codec knows get into
the text of the statement; values travel as parameters.
"""

from __future__ import annotations

from apikeyrouter.domain.interfaces.shared_ledger import UsageQuery
from apikeyrouter.infrastructure.state_store.codec import USAGE_COUNTERS, USAGE_FACTS, usage_groups
from apikeyrouter.infrastructure.state_store.postgres_tables import escaped

__all__ = ["select_usage"]

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
