"""State that lives as long as this object: for tests and for libraries that keep nothing between runs.

Main entry: `MemoryStateStore`. It keeps the same laws as the durable stores (one conformance suite runs on all), with
"durable" read as "in this object": `close` loses nothing, `open` after it finds everything.
Laws: no call ever waits, so each is atomic among the tasks of one event loop; rows are copied in and copied out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.shared_ledger import (
    Changes,
    LeaseAsk,
    LeaseReply,
    LeaseWorker,
    LedgerEntry,
    Legacy,
    UsageQuery,
    UsageRow,
    WindowTotals,
    WorkerRow,
)
from apikeyrouter.domain.interfaces.state_store import (
    StateQuery,
    StoreBatch,
    StoredBudget,
    StoredDecision,
    StoredEvent,
    StoredKey,
    StoredVirtualKey,
)
from apikeyrouter.domain.keys.rows import view_of_stored
from apikeyrouter.domain.models.api_key import APIKey, KeyState
from apikeyrouter.domain.models.health_state import HealthState, HealthStatus
from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.infrastructure.state_store import codec
from apikeyrouter.infrastructure.state_store.codec import Row
from apikeyrouter.infrastructure.state_store.memory_feed import MemoryFeed, MemoryUsage
from apikeyrouter.infrastructure.state_store.memory_ledger import MemoryLedger

__all__ = ["MemoryStateStore"]

_KEY_PROVIDER, _KEY_STATE, _KEY_CREATED_AT, _KEY_REVISION = 1, 2, 7, 10
_BUDGET_LIMIT, _BUDGET_MODE, _BUDGET_CREATED_AT, _BUDGET_STATUS = 3, 5, 6, 7
_VIRTUAL_KEY_CREATED_AT, _VIRTUAL_KEY_REVOKED_AT = 4, 6
_EVENT_AT = 0
_DECISION_REQUEST, _DECISION_AT = 1, 2


class _Log:
    """At most `rows_max` rows. It drops the oldest tenth when it overflows, so that dropping costs little per row."""

    __slots__ = ("_at", "_rows", "_rows_max")

    def __init__(self, rows_max: int, at: int) -> None:
        self._rows_max = rows_max
        self._at = at
        self._rows: dict[Hashable, Row] = {}

    def add(self, identity: Hashable, row: Row) -> None:
        self._rows.pop(identity, None)
        self._rows[identity] = row
        if len(self._rows) > self._rows_max:
            surplus = len(self._rows) - self._rows_max + self._rows_max // 10
            by_age = sorted(self._rows, key=lambda one: self._rows[one][self._at])
            for oldest in by_age[:surplus]:
                del self._rows[oldest]

    def get(self, identity: Hashable) -> Row | None:
        return self._rows.get(identity)

    def newest_first(self) -> list[Row]:
        newest_last = sorted(self._rows.values(), key=lambda row: row[self._at])
        newest_last.reverse()
        return newest_last


class MemoryStateStore:
    """A `StateStore` in memory.

    `max_events`, `max_decisions`: the most rows that each log keeps; 0 keeps none. When a log is full, its oldest tenth
    goes at once; the ledger's entries keep about `max_events` too, by folding. `clock` dates health checks, views of
    keys and entries, and decides when a worker has expired.
    """

    def __init__(self, max_events: int = 10_000, max_decisions: int = 10_000, *, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        self._keys: dict[str, Row] = {}
        self._budgets: dict[str, Row] = {}
        self._virtual_keys: dict[str, Row] = {}
        self._settings: dict[str, bytes] = {}
        self._events = _Log(max_events, _EVENT_AT)
        self._decisions = _Log(max_decisions, _DECISION_AT)
        self._feed = MemoryFeed()
        self._usage = MemoryUsage()
        self._ledger = MemoryLedger(max_events, self._budget_facts, lambda one: self._feed.publish("lease", one))
        self._event_count = 0
        self._failed_posts = 0
        self._unreported = 0
        self._last_failure = ""
        self._failing = False

    @property
    def persistent(self) -> bool:
        """False: state ends with this object."""
        return False

    @property
    def description(self) -> str:
        """ "memory"."""
        return "memory"

    @property
    def path(self) -> None:
        """None: nothing is kept in a file."""
        return

    async def open(self) -> None:
        """Does nothing."""

    async def close(self) -> None:
        """Does nothing: the state stays until the object goes."""

    async def health_check(self) -> HealthState:
        """Healthy, or Degraded while the last post failed."""
        return HealthState(
            status=HealthStatus.Degraded if self._failing else HealthStatus.Healthy,
            last_check=self._clock.utc_now(),
            latency_ms=0.0,
            details={
                "store": self.description,
                "keys": len(self._keys),
                "failed_posts": self._failed_posts,
                "dropped_decisions": 0,
            },
        )

    async def apply(self, batch: StoreBatch) -> None:
        """Writes the whole batch, or raises StateStoreError and writes nothing of it."""
        self._write(batch)

    def post(self, batch: StoreBatch) -> None:
        """Writes the whole batch at once. A batch that cannot be stored is reported by the next `flush`."""
        try:
            self._write(batch)
            self._failing = False
        except StateStoreError as error:
            self._failing = True
            self._failed_posts += 1
            self._unreported += 1
            self._last_failure = error.message

    async def flush(self) -> None:
        """Raises StateStoreError when posts since the last `flush` could not be stored."""
        failed, self._unreported = self._unreported, 0
        if failed:
            raise StateStoreError(f"{failed} posted batches were not stored. The last: {self._last_failure}")

    def _write(self, batch: StoreBatch) -> None:
        frozen = codec.freeze(batch)
        for row in frozen.keys:
            before = self._keys.get(row[0])
            if before is None or row[_KEY_REVISION] >= before[_KEY_REVISION]:
                self._keys[row[0]] = row
                if before is None or row[_KEY_REVISION] > before[_KEY_REVISION]:
                    self._feed.publish("key", row[0])
        for row in frozen.budgets:
            self._budgets[row[0]] = row
            self._feed.publish("budget", row[0])
        for row in frozen.events:
            self._event_count += 1
            self._events.add(self._event_count, row)
        for row in frozen.decisions:
            self._decisions.add(row[0], row)
        if frozen.usage:
            self._usage.add(frozen.usage, self._now_s())

    def _now_s(self) -> float:
        return self._clock.utc_now().timestamp()

    async def load_keys(self, key_ids: Sequence[str] | None = None) -> list[StoredKey]:
        """Every key, or those of `key_ids` that exist, oldest first."""
        named = None if key_ids is None else set(key_ids)
        rows = [row for key_id, row in self._keys.items() if named is None or key_id in named]
        return [codec.key_of(row) for row in _oldest_first(rows, _KEY_CREATED_AT)]

    async def delete_key(self, key_id: str) -> None:
        """Forgets the key; unknown ids are ignored."""
        if self._keys.pop(key_id, None) is not None:
            self._feed.publish("key", key_id)

    async def list_keys(self, provider_id: str | None = None) -> list[APIKey]:
        """Keys as users see them, oldest first, retired ones left out."""
        utc_s = self._now_s()
        return [
            view_of_stored(codec.key_of(row), utc_s=utc_s)
            for row in _oldest_first(self._keys.values(), _KEY_CREATED_AT)
            if row[_KEY_STATE] != KeyState.Retired and provider_id in (None, row[_KEY_PROVIDER])
        ]

    async def get_decision(self, decision_or_request_id: str) -> StoredDecision | None:
        """By decision id, else the newest decision of that request id."""
        row = self._decisions.get(decision_or_request_id)
        if row is None:
            newest_first = self._decisions.newest_first()
            row = next((one for one in newest_first if one[_DECISION_REQUEST] == decision_or_request_id), None)
        return None if row is None else codec.decision_of(row)

    async def query_decisions(self, query: StateQuery) -> list[StoredDecision]:
        """Newest first."""
        rows = _matching(self._decisions.newest_first(), query, _decision_matches)
        return [codec.decision_of(row) for row in rows]

    async def query_events(self, query: StateQuery) -> list[StoredEvent]:
        """Newest first."""
        rows = _matching(self._events.newest_first(), query, _event_matches)
        return [codec.event_of(row) for row in rows]

    async def query_state(self, query: StateQuery) -> list[Any]:
        """Decisions for "RoutingDecision", else events."""
        if query.entity_type == codec.DECISIONS:
            return await self.query_decisions(query)
        return await self.query_events(query)

    async def load_budgets(self) -> list[StoredBudget]:
        """Every active budget, oldest first."""
        rows = _oldest_first(self._budgets.values(), _BUDGET_CREATED_AT)
        return [codec.budget_of(row) for row in rows if row[_BUDGET_STATUS] == "active"]

    def _budget_facts(self, budget_id: str) -> tuple[int, bool] | None:
        row = self._budgets.get(budget_id)
        if row is None or row[_BUDGET_STATUS] != "active":
            return None
        return row[_BUDGET_LIMIT], row[_BUDGET_MODE] == "hard"

    async def lease(self, worker: LeaseWorker, asks: Sequence[LeaseAsk]) -> LeaseReply:
        """Renews the worker and answers its asks."""
        return self._ledger.lease(worker, asks, self._now_s())

    async def recover_worker(self, worker_id: str, legacy: Mapping[tuple[str, int], Legacy] | None) -> int | None:
        """Ends a dead worker; returns what was presumed, or None when there was nothing to do."""
        return self._ledger.recover(worker_id, legacy, self._now_s())

    async def list_workers(self) -> list[WorkerRow]:
        """Workers that were not ended, oldest first."""
        return self._ledger.workers(self._now_s())

    async def load_windows(self, windows: Sequence[tuple[str, int, int]]) -> list[WindowTotals]:
        """Totals of (budget id, oldest, newest) windows that exist."""
        return self._ledger.windows(windows)

    async def query_entries(self, budget_id: str, window: int | None = None, limit: int = 1000) -> list[LedgerEntry]:
        """The ledger's lines, newest first."""
        return self._ledger.entries(budget_id, window, limit)

    async def query_usage(self, query: UsageQuery) -> list[UsageRow]:
        """Sums of what was used, one row per group, dearest first."""
        return self._usage.query(query)

    async def changes(self, after: int | None, wait_s: float) -> Changes:
        """What changed since the cursor `after`; waits up to `wait_s` for the first change."""
        return await self._feed.changes(after, wait_s)

    async def save_virtual_key(self, virtual_key: StoredVirtualKey, *, only_if: StoredVirtualKey | None = None) -> bool:
        """Inserts or replaces; what is revoked stays so."""
        known = self._virtual_keys.get(virtual_key.virtual_key_id)
        stays = known is not None and known[_VIRTUAL_KEY_REVOKED_AT] is not None and virtual_key.revoked_at_s is None
        if stays or (only_if is not None and known != codec.freeze_virtual_key(only_if)):
            return False
        self._virtual_keys[virtual_key.virtual_key_id] = codec.freeze_virtual_key(virtual_key)
        self._feed.publish("virtual_key", virtual_key.virtual_key_id)
        return True

    async def load_virtual_keys(self) -> list[StoredVirtualKey]:
        """Every virtual key, oldest first."""
        rows = _oldest_first(self._virtual_keys.values(), _VIRTUAL_KEY_CREATED_AT)
        return [codec.virtual_key_of(row) for row in rows]

    async def get_setting(self, name: str) -> bytes | None:
        """The named blob, or None."""
        return self._settings.get(name)

    async def put_setting(
        self, name: str, value: bytes, *, only_if_absent: bool = False, only_if: bytes | None = None
    ) -> bytes:
        """See `StateStore.put_setting`."""
        there = self._settings.get(name)
        if only_if is not None and there != only_if:
            return there or b""
        if not (only_if_absent and there is not None):
            self._settings[name] = bytes(value)
            self._feed.publish("setting", name)
        return self._settings[name]


def _oldest_first(rows: Iterable[Row], created_at: int) -> list[Row]:
    return sorted(rows, key=lambda row: row[created_at])


def _matching(newest_first: list[Row], query: StateQuery, matches: Callable[[Row, StateQuery], bool]) -> list[Row]:
    first = max(0, query.offset)
    return [row for row in newest_first if matches(row, query)][first : first + max(0, query.limit)]


def _in_time(at_s: float, query: StateQuery) -> bool:
    return (query.since_s is None or at_s >= query.since_s) and (query.until_s is None or at_s < query.until_s)


def _decision_matches(row: Row, query: StateQuery) -> bool:
    decision_id, request_id, at_s, key_id, provider_id = row[:5]
    return (
        query.entity_id in (None, decision_id, request_id)
        and query.key_id in (None, key_id)
        and query.provider_id in (None, provider_id)
        and _in_time(at_s, query)
    )


def _event_matches(row: Row, query: StateQuery) -> bool:
    at_s, kind, entity_id, key_id, provider_id = row[:5]
    return (
        kind == codec.event_kind(query)
        and query.entity_id in (None, entity_id)
        and query.key_id in (None, entity_id, key_id)
        and query.provider_id in (None, provider_id)
        and _in_time(at_s, query)
    )
