"""Changes and usage in memory: what happened since a cursor, and sums of what was used.

Main entries: `MemoryFeed.publish` and `MemoryFeed.changes`; `MemoryUsage.add` and `MemoryUsage.query`.
Laws: the newest `CHANGES_MAX` changes can be read, whoever is later than that is told so; hours of usage older than
`HOURS_KEPT_S` are folded into days, days are kept for `DAYS_KEPT_S`: sums over whole days stay exact.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable

from apikeyrouter.domain.interfaces.shared_ledger import Change, Changes, UsageQuery, UsageRow
from apikeyrouter.infrastructure.state_store import codec
from apikeyrouter.infrastructure.state_store.codec import Row

__all__ = ["CHANGES_MAX", "DAYS_KEPT_S", "HOURS_KEPT_S", "MemoryFeed", "MemoryUsage", "fold_borders"]

CHANGES_MAX = 10_000
"""Far more than are made in the seconds that a process may be busy or away from its store."""

HOURS_KEPT_S = 40 * 86_400
"""More than a month by the hour."""

DAYS_KEPT_S = 400 * 86_400
"""More than a year by the day."""

_HOUR_S, _DAY_S = 3_600, 86_400
_FACTS = len(codec.USAGE_FACTS)
_COST = codec.USAGE_COUNTERS.index("cost_nano_usd")


class MemoryFeed:
    """The newest changes, and who waits for the next one."""

    __slots__ = ("_changes", "_cursor", "_waiting")

    def __init__(self) -> None:
        self._cursor = 0
        self._changes: deque[Change] = deque(maxlen=CHANGES_MAX)
        self._waiting: set[asyncio.Future[None]] = set()

    def publish(self, kind: str, entity_id: str) -> None:
        """Adds a change and wakes who waits."""
        self._cursor += 1
        self._changes.append(Change(kind, entity_id))
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            # a loop that has ended waits for nothing
            with contextlib.suppress(RuntimeError):
                future.get_loop().call_soon_threadsafe(_wake, future)

    async def changes(self, after: int | None, wait_s: float) -> Changes:
        """See `StateStore.changes`."""
        if after is None:
            return Changes(self._cursor)
        if after == self._cursor and wait_s > 0:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()
            self._waiting.add(future)
            alarm = loop.call_later(wait_s, _wake, future)
            try:
                await future
            finally:
                alarm.cancel()
                self._waiting.discard(future)
        missed = self._cursor - after
        if missed < 0 or missed > len(self._changes):
            return Changes(self._cursor, lost=True)
        newest = list(self._changes)[len(self._changes) - missed :]
        return Changes(self._cursor, tuple(dict.fromkeys(newest)))


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def fold_borders(now_s: float) -> tuple[int, int]:
    """Hours before the first border are folded into days; days before the second are forgotten. Both are midnights."""
    today_s = int(now_s) - int(now_s) % _DAY_S
    return today_s - HOURS_KEPT_S, today_s - DAYS_KEPT_S


class MemoryUsage:
    """Counters by the facts that their requests have in common."""

    __slots__ = ("_folded_in_hour", "_sums")

    def __init__(self) -> None:
        self._sums: dict[Row, list[int]] = {}
        self._folded_in_hour = 0

    def add(self, rows: Iterable[Row], now_s: float) -> None:
        """Adds frozen rows to what is there."""
        for row in rows:
            _add(self._sums, row[:_FACTS], row[_FACTS:])
        if rows and int(now_s) // _HOUR_S != self._folded_in_hour:
            self._folded_in_hour = int(now_s) // _HOUR_S
            self._fold(*fold_borders(now_s))

    def _fold(self, hours_from_s: int, days_from_s: int) -> None:
        folded: dict[Row, list[int]] = {}
        for facts, counters in self._sums.items():
            hour_s = facts[0]
            if hour_s >= hours_from_s:
                folded[facts] = counters
            elif hour_s >= days_from_s:
                _add(folded, (hour_s - hour_s % _DAY_S, *facts[1:]), counters)
        self._sums = folded

    def query(self, query: UsageQuery) -> list[UsageRow]:
        """One row per group, dearest first. Raises StateStoreError for a group that is no fact."""
        groups = codec.usage_groups(query)
        empty = (0, *([""] * (_FACTS - 1)))
        grouped: dict[Row, list[int]] = {}
        for facts, counters in self._sums.items():
            if _wanted(facts, query):
                group = [
                    fact if name in groups else none
                    for name, fact, none in zip(codec.USAGE_FACTS, facts, empty, strict=True)
                ]
                _add(grouped, tuple(group), counters)
        dearest_first = sorted(grouped.items(), key=lambda one: (-one[1][_COST], one[0]))
        return [codec.usage_of((*facts, *counters)) for facts, counters in dearest_first]


def _add(sums: dict[Row, list[int]], facts: Row, counters: Iterable[int]) -> None:
    before = sums.get(facts)
    sums[facts] = list(counters) if before is None else [one + more for one, more in zip(before, counters, strict=True)]


def _wanted(facts: Row, query: UsageQuery) -> bool:
    hour_s, provider_id, key_id, model, virtual_key_id, team, _ = facts
    return (
        (query.since_s is None or hour_s >= query.since_s)
        and (query.until_s is None or hour_s < query.until_s)
        and query.provider_id in (None, provider_id)
        and query.key_id in (None, key_id)
        and query.model in (None, model)
        and query.virtual_key_id in (None, virtual_key_id)
        and query.team in (None, team)
    )
