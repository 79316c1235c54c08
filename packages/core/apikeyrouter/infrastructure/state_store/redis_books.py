"""Money in the Redis store: leases, windows, entries, usage.

Main entry: `RedisBooks`. The rules are in `lua/rules.lua`, run by one script for each transition; here are the words of
its calls and what its answers mean. Law: amounts travel as decimal text, so none is ever rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from apikeyrouter.domain.interfaces.shared_ledger import (
    LeaseAsk,
    LeaseGrant,
    LeaseReply,
    LeaseWorker,
    LedgerEntry,
    Legacy,
    UsageQuery,
    UsageRow,
    WindowTotals,
    WorkerRow,
)
from apikeyrouter.domain.ledger.lease_rules import ALERT_PERCENTS
from apikeyrouter.infrastructure.state_store import codec
from apikeyrouter.infrastructure.state_store.redis_link import RedisLink, Word
from apikeyrouter.infrastructure.state_store.redis_rows import unpacked
from apikeyrouter.infrastructure.state_store.redis_scripts import LEASE, RECOVER

__all__ = ["RedisBooks"]

_LOOKS_MAX = 5
"""Attempts to sum usage up while old hours are being folded; folding is rare and short."""

_HASHES_AT_ONCE = 48
"""Hours or days of usage per look."""


class RedisBooks:
    """`link`: the way to the server. `prefix`: of all keys. `max_entries`: the most lines of the ledger, of all budgets
    together; older ones are folded."""

    def __init__(self, link: RedisLink, prefix: str, max_entries: int) -> None:
        self._link = link
        self._prefix = prefix
        self._max_entries = max_entries

    async def lease(self, worker: LeaseWorker, asks: Sequence[LeaseAsk]) -> LeaseReply:
        """See `StateStore.lease`."""
        words: list[Word] = [worker.worker_id, worker.host, repr(float(worker.ttl_s)), self._max_entries]
        for ask in asks:
            words += [ask.budget_id, ask.window, ask.oldest, ask.seq, ask.spent, ask.held]
            words += [ask.granted, ask.have, ask.overrun, ask.least]
            words += ["" if ask.limit is None else ask.limit, ask.since]
        now, workers, fenced, *answers = await self._link.run(LEASE, words)
        if fenced:
            return LeaseReply(float(now), [], fenced=True, workers=workers)
        grants = [_grant_of(ask, answers[7 * place : 7 * place + 7]) for place, ask in enumerate(asks)]
        return LeaseReply(float(now), grants, workers=workers)

    async def recover_worker(self, worker_id: str, legacy: Mapping[tuple[str, int], Legacy] | None) -> int | None:
        """See `StateStore.recover_worker`."""
        words: list[Word] = [worker_id, "presume" if legacy is None else "journal", self._max_entries]
        for (budget_id, window), left in (legacy or {}).items():
            words += [f"{window}:{budget_id}", left.spent, left.sent]
        presumed = await self._link.run(RECOVER, words)
        return int(presumed) if presumed else None

    async def list_workers(self) -> list[WorkerRow]:
        """See `StateStore.list_workers`."""
        (seconds, micros), hosts, expiries = await self._link.calls(
            [
                ("TIME",),
                ("HGETALL", f"{self._prefix}hosts"),
                ("ZRANGE", f"{self._prefix}workers", 0, -1, "WITHSCORES"),
            ]
        )
        now_s = int(seconds) + int(micros) / 1e6
        expires_at = dict(zip(expiries[::2], map(float, expiries[1::2]), strict=True))
        rows = []
        for worker_id, arrival in zip(hosts[::2], hosts[1::2], strict=True):
            order, _, host = arrival.partition(b" ")
            expires_at_s = expires_at.get(worker_id, 0.0)
            row = WorkerRow(worker_id.decode(), host.decode(), expires_at_s, expires_at_s <= now_s)
            rows.append((int(order), row))
        return [row for _, row in sorted(rows, key=lambda one: one[0])]

    async def load_windows(self, windows: Sequence[tuple[str, int, int]]) -> list[WindowTotals]:
        """See `StateStore.load_windows`."""
        if not windows:
            return []
        found = await self._link.calls(
            [
                ("ZRANGE", f"{self._prefix}window_index:{budget_id}", oldest, newest, "BYSCORE")
                for budget_id, oldest, newest in windows
            ]
        )
        wanted = [(budget_id, names) for (budget_id, _, _), names in zip(windows, found, strict=True) if names]
        if not wanted:
            return []
        totals = await self._link.calls(
            [("HMGET", f"{self._prefix}windows:{budget_id}", *names) for budget_id, names in wanted]
        )
        return [
            _totals_of(budget_id, int(name), text)
            for (budget_id, names), texts in zip(wanted, totals, strict=True)
            for name, text in zip(names, texts, strict=True)
            if text is not None
        ]

    async def query_entries(self, budget_id: str, window: int | None, limit: int) -> list[LedgerEntry]:
        """See `StateStore.query_entries`. Openings come last."""
        if limit <= 0:
            return []
        oldest = 0 if window is not None else -limit
        lines, openings = await self._link.step(
            [
                ("LRANGE", f"{self._prefix}entries:{budget_id}", oldest, -1),
                ("HGETALL", f"{self._prefix}openings:{budget_id}"),
            ]
        )
        found = []
        for line in reversed(lines):
            at_s, name, worker_id, kind, amount = unpacked(line)
            if window in (None, int(name)):
                found.append(LedgerEntry(float(at_s), budget_id, int(name), worker_id, kind, int(amount)))
        folded = []
        for name, text in zip(openings[::2], openings[1::2], strict=True):
            if window in (None, int(name)):
                at_s, _, amount = text.partition(b" ")
                folded.append(LedgerEntry(float(at_s), budget_id, int(name), "", "opening", int(amount)))
        folded.sort(key=lambda entry: (entry.at_s, entry.window), reverse=True)
        return [*found, *folded][:limit]

    async def query_usage(self, query: UsageQuery) -> list[UsageRow]:
        """See `StateStore.query_usage`."""
        groups = codec.usage_groups(query)
        since = "-inf" if query.since_s is None else repr(float(query.since_s))
        until = "+inf" if query.until_s is None else f"({float(query.until_s)!r}"
        for _ in range(_LOOKS_MAX):
            days, hours, folds = await self._link.step(
                [
                    ("ZRANGE", f"{self._prefix}usage_days", since, until, "BYSCORE"),
                    ("ZRANGE", f"{self._prefix}usage_hours", since, until, "BYSCORE"),
                    ("GET", f"{self._prefix}usage_folds"),
                ]
            )
            sums: dict[tuple[str | int, ...], list[int]] = {}
            places = [("days", day.decode()) for day in days] + [("hours", hour.decode()) for hour in hours]
            for first in range(0, len(places), _HASHES_AT_ONCE):
                step = places[first : first + _HASHES_AT_ONCE]
                hashes = await self._link.calls(
                    [("HGETALL", f"{self._prefix}usage:{kind}:{second}") for kind, second in step]
                )
                for (_, second), rows in zip(step, hashes, strict=True):
                    _add_up(sums, query, groups, int(second), rows)
            if folds == await self._link.call("GET", f"{self._prefix}usage_folds"):
                break  # else old hours became days while we looked, and might have been counted twice or not at all
        answer = [_usage_of(groups, group, counters) for group, counters in sums.items()]
        return sorted(answer, key=lambda row: row.cost_nano_usd, reverse=True)


def _totals_of(budget_id: str, window: int, text: bytes) -> WindowTotals:
    return WindowTotals(budget_id, window, *map(int, text.split()))


def _grant_of(ask: LeaseAsk, answer: Sequence[Any]) -> LeaseGrant:
    granted, totals, spent, counted, limit, told, alerted = answer
    if granted == b"":
        return LeaseGrant(ask.budget_id, ask.window, 0, _totals_of(ask.budget_id, ask.window, totals), gone=True)
    return LeaseGrant(
        ask.budget_id,
        ask.window,
        int(granted),
        _totals_of(ask.budget_id, ask.window, totals),
        (int(spent), int(counted)),
        int(limit) if limit else None,
        ALERT_PERCENTS[int(told) : int(alerted)],
    )


_facts_of = msgspec.json.Decoder(list[str]).decode


def _add_up(
    sums: dict[tuple[str | int, ...], list[int]],
    query: UsageQuery,
    groups: tuple[str, ...],
    second: int,
    rows: Sequence[bytes],
) -> None:
    """Adds the rows of one hour or day to the sums of their groups."""
    wanted = [(name, getattr(query, name)) for name in codec.USAGE_FACTS[1:6] if getattr(query, name) is not None]
    for packed, counters in zip(rows[::2], rows[1::2], strict=True):
        facts: dict[str, str | int] = dict(zip(codec.USAGE_FACTS[1:], _facts_of(packed), strict=True))
        facts["hour_s"] = second
        if all(facts[name] == value for name, value in wanted):
            group = tuple([facts[name] for name in groups])
            sums_before = sums.setdefault(group, [0] * len(codec.USAGE_COUNTERS))
            for place, counter in enumerate(counters.split()):
                sums_before[place] += int(counter)


def _usage_of(groups: tuple[str, ...], group: tuple[str | int, ...], counters: list[int]) -> UsageRow:
    facts = dict.fromkeys(codec.USAGE_FACTS[1:], "") | {"hour_s": 0} | dict(zip(groups, group, strict=True))
    return UsageRow(**facts, **dict(zip(codec.USAGE_COUNTERS, counters, strict=True)))  # type: ignore[arg-type]  # facts by name
