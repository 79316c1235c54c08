"""Questions to the two logs of the Redis store: events and decisions.

Main entries: `get_decision`, `query_decisions`, `query_events`. A query walks the log's index of times from the newest
line on, reads of each line only what filters need, and fetches the rows of its page at the end.
Laws: newest first, by time and then by order of writing; lines that are added or dropped meanwhile shift nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from apikeyrouter.domain.interfaces.state_store import StateQuery
from apikeyrouter.infrastructure.state_store import codec
from apikeyrouter.infrastructure.state_store.codec import Row
from apikeyrouter.infrastructure.state_store.redis_link import RedisLink, Word
from apikeyrouter.infrastructure.state_store.redis_rows import request_key, unpacked

__all__ = ["get_decision", "query_decisions", "query_events"]

_STEP = 1_000
"""Lines per look at the index."""


async def get_decision(link: RedisLink, prefix: str, decision_or_request_id: str) -> list[Row]:
    """The row of the decision with this id, else of the newest one of this request; none: an empty list."""
    log = f"{prefix}decisions:"
    begin = request_key(decision_or_request_id).encode(errors="replace")
    newest: list[Word] = [
        "ZRANGE",
        f"{log}requests",
        b"(" + begin + b"\xff",
        b"[" + begin,
        "BYLEX",
        "REV",
        "LIMIT",
        0,
        1,
    ]
    name, of_request = await link.calls([["HGET", f"{log}ids", decision_or_request_id], newest])
    if name is None and of_request:
        name = of_request[0][-16:]
    row = None if name is None else await link.call("HGET", f"{log}rows", name)
    return [] if row is None else [unpacked(row)]


async def query_decisions(link: RedisLink, prefix: str, query: StateQuery) -> list[Row]:
    """Rows of the decision log."""

    def matches(facts: Row) -> bool:
        decision_id, request_id, key_id, provider_id, _ = facts
        return (
            query.entity_id in (None, decision_id, request_id)
            and query.key_id in (None, key_id)
            and query.provider_id in (None, provider_id)
        )

    return await _query(link, f"{prefix}decisions:", query, matches)


async def query_events(link: RedisLink, prefix: str, query: StateQuery) -> list[Row]:
    """Rows of the event log."""
    wanted = codec.event_kind(query)

    def matches(facts: Row) -> bool:
        kind, entity_id, key_id, provider_id = facts
        return (
            kind == wanted
            and query.entity_id in (None, entity_id)
            and query.key_id in (None, entity_id, key_id)
            and query.provider_id in (None, provider_id)
        )

    return await _query(link, f"{prefix}events:", query, matches)


async def _query(link: RedisLink, log: str, query: StateQuery, matches: Callable[[Row], bool]) -> list[Row]:
    first, count = max(0, query.offset), max(0, query.limit)
    names: list[bytes] = []
    since = "-inf" if query.since_s is None else repr(float(query.since_s))
    newest = "+inf" if query.until_s is None else f"({float(query.until_s)!r}"
    ties = 0  # lines at the time `newest` that were seen
    while len(names) < first + count:
        index: list[Word] = [
            "ZRANGE",
            f"{log}time",
            newest,
            since,
            "BYSCORE",
            "REV",
            "LIMIT",
            ties,
            _STEP,
            "WITHSCORES",
        ]
        found = await link.call(*index)
        step, times = found[::2], found[1::2]
        if not step:
            break
        facts = await link.call("HMGET", f"{log}facts", *step)
        names += [name for name, one in zip(step, facts, strict=True) if one is not None and matches(unpacked(one))]
        ties = times.count(times[-1]) + (ties if times[-1].decode() == newest else 0)
        newest = times[-1].decode()
    page = names[first : first + count]
    rows: list[Row] = []
    for start in range(0, len(page), _STEP):
        found = await link.call("HMGET", f"{log}rows", *page[start : start + _STEP])
        rows += [unpacked(row) for row in found if row is not None]
    return rows
