"""State on a Redis server (7.0 or later), for routers on one or several hosts.

Main entry: `RedisStateStore`. Each transition is one Lua script, so it happens wholly or not at all and the server's
clock counts (`lua/`). Posted facts are written within about 50 ms, many to a call (`redis_outbox.py`).
Durability is the server's: what was answered may be lost with a crash of the server as far as `loss_window` in
`health_check` says (with `appendfsync everysec` about a second, without an append-only file much more). Workers that
live give the store back what it forgot of their slices and their spend, so overspend after a crash is at most what was
granted in the loss window: others may be granted it again before its holder comes back, or its holder died, too.
While the server cannot be reached every call is refused within 2 s, and posts are kept for when it is back.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

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
from apikeyrouter.infrastructure.state_store import codec, redis_logs
from apikeyrouter.infrastructure.state_store.codec import Row
from apikeyrouter.infrastructure.state_store.redis_books import RedisBooks
from apikeyrouter.infrastructure.state_store.redis_changes import changes_since
from apikeyrouter.infrastructure.state_store.redis_link import RedisLink, StoreUnavailableError, Word
from apikeyrouter.infrastructure.state_store.redis_outbox import Outbox
from apikeyrouter.infrastructure.state_store.redis_rows import (
    fitting_words,
    rows_of,
    values_of,
    virtual_key_words,
    words_of,
)
from apikeyrouter.infrastructure.state_store.redis_scripts import APPLY
from apikeyrouter.infrastructure.state_store.redis_server import ServerFacts, inspect
from apikeyrouter.infrastructure.state_store.redis_url import RedisPlace

__all__ = ["RedisStateStore"]

_T = TypeVar("_T")
_log = logging.getLogger("apikeyrouter")

_left_by_fork: list[RedisLink] = []
"""A forked child must neither use nor close its parent's connections."""


class RedisStateStore:
    """A `StateStore` on the Redis server that `url` names (see `RedisPlace.parse`).

    `max_events`, `max_decisions`: the most rows that each log keeps; `max_events` bounds the ledger's lines, of all
    budgets together, as well (older ones are folded into openings). `max_queued_decisions`: decisions that may wait to
    be written; more are dropped and counted in `health_check`. `timeout_s`: the most that a call waits for the server.
    `clock` dates health checks and views of keys. Nothing is touched before the first call. Use it from one event loop
    at a time; after `close`, in another loop or in a forked child it connects anew.
    """

    def __init__(
        self,
        url: str,
        *,
        max_events: int = 100_000,
        max_decisions: int = 100_000,
        max_queued_decisions: int = 20_000,
        timeout_s: float = 1.8,
        clock: Clock | None = None,
    ) -> None:
        self._place = RedisPlace.parse(url)
        self._prefix = self._place.prefix
        self._clock: Clock = clock or SystemClock()
        self._max_events = max_events
        self._max_decisions = max_decisions
        self._max_queued_decisions = max_queued_decisions
        self._timeout_s = timeout_s
        self._dropped_decisions = 0
        self._link: RedisLink | None = None
        self._facts: ServerFacts | None = None
        self._process_id = os.getpid()
        self._outbox = Outbox(self._send)

    def __repr__(self) -> str:
        return f"<RedisStateStore {self.description}>"

    @property
    def persistent(self) -> bool:
        """True."""
        return True

    @property
    def description(self) -> str:
        """The URL without user and password, e.g. "redis://cache:6379/0"."""
        return self._place.description

    @property
    def path(self) -> None:
        """None: nothing is kept in a file of ours."""
        return

    # -- connections ------------------------------------------------------------------------------------------------

    def _leave_other_loops(self) -> None:
        """Drops what belongs to another process or event loop."""
        forked = self._process_id != os.getpid()
        if forked:
            self._process_id = os.getpid()
            self._outbox.forget()
            if self._link is not None:
                _left_by_fork.append(self._link)
        elif self._link is None or self._link.is_here:
            return
        else:
            self._link.leave()
        self._link = self._facts = None

    async def _ready(self) -> RedisLink:
        """The way to the server, which was looked at since we connected."""
        self._leave_other_loops()
        link = self._link
        if link is None:
            link = self._link = RedisLink(self._place, timeout_s=self._timeout_s)
        if self._facts is None or self._facts.run_id != link.run_id:
            try:
                self._learn(await inspect(link, self.description))
            except StateStoreError:
                self._link = None
                await link.close()
                raise
        return link

    def _learn(self, facts: ServerFacts) -> None:
        if not facts.safe and (self._facts is None or self._facts.loss_window != facts.loss_window):
            _log.warning(
                "The store %s may lose, when its server crashes: %s. Set appendonly yes and appendfsync everysec.",
                self.description,
                facts.loss_window,
            )
        self._facts = facts

    async def _settled(self) -> RedisLink:
        """The way to the server, once everything posted is written."""
        link = await self._ready()
        await self._outbox.settle()
        return link

    async def _send(self, writer: str, number: int, words: list[str | bytes]) -> list[bytes]:
        link = await self._ready()
        limits: list[Word] = [writer, number, self._max_events, self._max_decisions]
        answers: list[bytes] = await link.run(APPLY, [*limits, *words])
        return answers

    async def _do(self, words: list[str | bytes]) -> list[bytes]:
        """One operation, after everything posted."""
        await self._settled()
        return await self._send("", 0, words)

    async def open(self) -> None:
        """Connects and looks at the server. Raises StateStoreError when it cannot be reached or could evict data."""
        await self._ready()

    async def close(self) -> None:
        """Writes what is queued and disconnects. Raises StateStoreError, once closed, for posts that failed."""
        self._leave_other_loops()
        link = self._link
        if link is None and self._outbox.idle:
            return
        link = link or await self._ready()
        try:
            await self._outbox.stop()
            self._outbox.report()
        except StoreUnavailableError as error:
            raise StateStoreError(f"{self._outbox.waiting} posted batches were not stored. {error.message}") from error
        finally:
            self._link = self._facts = None
            await link.close()

    async def health_check(self) -> HealthState:
        """Asks the server. Degraded while the last post failed; Down when the server does not answer."""
        started_s = self._clock.monotonic_s()
        details: dict[str, Any] = {"store": self.description}
        try:
            link = await self._settled()
            self._learn(await inspect(link, self.description))
            details["keys"] = await link.call("HLEN", f"{self._prefix}keys")
        except StateStoreError as error:
            details["error"] = error.message
        if self._facts is not None:
            details |= {"server_version": self._facts.version, "loss_window": self._facts.loss_window}
        details["queued_decisions"] = self._outbox.queued_decisions
        details["dropped_decisions"] = self._dropped_decisions
        details["failed_posts"] = self._outbox.failed_posts
        down = "error" in details
        status = HealthStatus.Degraded if self._outbox.failing else HealthStatus.Healthy
        return HealthState(
            status=HealthStatus.Down if down else status,
            last_check=self._clock.utc_now(),
            latency_ms=None if down else (self._clock.monotonic_s() - started_s) * 1_000,
            details=details,
        )

    # -- batches ----------------------------------------------------------------------------------------------------

    async def apply(self, batch: StoreBatch) -> None:
        """Writes the whole batch in one step. How durable it is then is the server's matter."""
        words = words_of(batch)
        await self._ready()
        await self._outbox.submit(words)

    def post(self, batch: StoreBatch) -> None:
        """Queues the batch. What goes wrong is told by `flush`, `close` and `health_check`."""
        self._leave_other_loops()
        try:
            room = self._max_queued_decisions - self._outbox.queued_decisions
            words, kept, dropped = fitting_words(batch, room)
        except StateStoreError as error:
            self._outbox.post_failure(error)
            return
        self._dropped_decisions += dropped
        self._outbox.post(words, kept)

    async def flush(self) -> None:
        """Returns when everything posted is written. Raises StateStoreError for what could not be."""
        await self._settled()
        self._outbox.report()

    # -- rows -------------------------------------------------------------------------------------------------------

    async def _rows(self, hash_name: str, names: Sequence[str] | None = None) -> list[Row]:
        """The rows of a hash, or those with these names that exist, in the order of their insertion."""
        link, key = await self._settled(), f"{self._prefix}{hash_name}"
        if names is None:
            return rows_of(await link.call("HVALS", key))
        wanted = dict.fromkeys(names)
        return rows_of([row for row in await link.call("HMGET", key, *wanted) if row is not None]) if wanted else []

    def _values(self, decode: Callable[[Row], _T], rows: Sequence[Row]) -> list[_T]:
        return values_of(decode, rows, self.description)

    async def load_keys(self, key_ids: Sequence[str] | None = None) -> list[StoredKey]:
        """Every key, or those of `key_ids` that exist, oldest first."""
        rows = await self._rows("keys", key_ids)
        return sorted(self._values(codec.key_of, rows), key=lambda row: row.created_at_s)

    async def delete_key(self, key_id: str) -> None:
        """Forgets the key; unknown ids are ignored."""
        await self._do(["D", key_id])

    async def list_keys(self, provider_id: str | None = None) -> list[APIKey]:
        """Keys as users see them, oldest first, retired ones left out."""
        utc_s = self._clock.utc_now().timestamp()
        return [
            view_of_stored(row, utc_s=utc_s)
            for row in await self.load_keys()
            if row.state != KeyState.Retired and provider_id in (None, row.provider_id)
        ]

    async def load_budgets(self) -> list[StoredBudget]:
        """Every active budget, oldest first."""
        budgets = self._values(codec.budget_of, await self._rows("budgets"))
        return sorted([row for row in budgets if row.status == "active"], key=lambda row: row.created_at_s)

    async def save_virtual_key(self, virtual_key: StoredVirtualKey, *, only_if: StoredVirtualKey | None = None) -> bool:
        """Inserts or replaces; what is revoked stays so."""
        return (await self._do(virtual_key_words(virtual_key, only_if)))[0] == b"1"

    async def load_virtual_keys(self) -> list[StoredVirtualKey]:
        """Every virtual key, oldest first."""
        rows = self._values(codec.virtual_key_of, await self._rows("virtual_keys"))
        return sorted(rows, key=lambda row: row.created_at_s)

    async def get_setting(self, name: str) -> bytes | None:
        """The named blob, or None."""
        link = await self._settled()
        value: bytes | None = await link.call("HGET", f"{self._prefix}settings", name)
        return value

    async def put_setting(
        self, name: str, value: bytes, *, only_if_absent: bool = False, only_if: bytes | None = None
    ) -> bytes:
        """See `StateStore.put_setting`."""
        condition = "1" if only_if_absent else "" if only_if is None else "="
        return (await self._do(["S", name, bytes(value), condition, only_if or b""]))[0]

    # -- logs -------------------------------------------------------------------------------------------------------

    async def get_decision(self, decision_or_request_id: str) -> StoredDecision | None:
        """By decision id, else the newest decision of that request id."""
        rows = await redis_logs.get_decision(await self._settled(), self._prefix, decision_or_request_id)
        return self._values(codec.decision_of, rows)[0] if rows else None

    async def query_decisions(self, query: StateQuery) -> list[StoredDecision]:
        """Newest first."""
        rows = await redis_logs.query_decisions(await self._settled(), self._prefix, query)
        return self._values(codec.decision_of, rows)

    async def query_events(self, query: StateQuery) -> list[StoredEvent]:
        """Newest first."""
        rows = await redis_logs.query_events(await self._settled(), self._prefix, query)
        return self._values(codec.event_of, rows)

    async def query_state(self, query: StateQuery) -> list[Any]:
        """Decisions for "RoutingDecision", else events."""
        if query.entity_type == codec.DECISIONS:
            return await self.query_decisions(query)
        return await self.query_events(query)

    # -- money ------------------------------------------------------------------------------------------------------

    async def _books(self) -> RedisBooks:
        return RedisBooks(await self._settled(), self._prefix, self._max_events)

    async def lease(self, worker: LeaseWorker, asks: Sequence[LeaseAsk]) -> LeaseReply:
        """One step on the server. When its answer is lost it is a StateStoreError; repeating is harmless."""
        return await (await self._books()).lease(worker, asks)

    async def recover_worker(self, worker_id: str, legacy: Mapping[tuple[str, int], Legacy] | None) -> int | None:
        """One step on the server."""
        return await (await self._books()).recover_worker(worker_id, legacy)

    async def list_workers(self) -> list[WorkerRow]:
        """Workers that were not ended, oldest first."""
        return await (await self._books()).list_workers()

    async def load_windows(self, windows: Sequence[tuple[str, int, int]]) -> list[WindowTotals]:
        """Totals of (budget id, oldest, newest) windows that exist."""
        return await (await self._books()).load_windows(windows)

    async def query_entries(self, budget_id: str, window: int | None = None, limit: int = 1000) -> list[LedgerEntry]:
        """Newest first; what was folded last."""
        return await (await self._books()).query_entries(budget_id, window, limit)

    async def query_usage(self, query: UsageQuery) -> list[UsageRow]:
        """Sums, dearest first. Usage of more than 40 days ago is kept by day, and forgotten after 400 days."""
        return await (await self._books()).query_usage(query)

    async def changes(self, after: int | None, wait_s: float) -> Changes:
        """What changed since the cursor; waits on a connection of its own."""
        link = await self._settled()
        return await changes_since(link, self._prefix, after, wait_s)
