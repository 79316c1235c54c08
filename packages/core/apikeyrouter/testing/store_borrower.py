"""A worker for tests of leases: it numbers its asks as a worker must, and says what it was told.

Main entry: `Borrower`. `totals_of` and `lines_of` read back what the store has counted; `assert_exact` checks that a
window's entries add up to its totals.
"""

from __future__ import annotations

from typing import Any

from apikeyrouter.domain.interfaces.shared_ledger import (
    LeaseAsk,
    LeaseGrant,
    LeaseReply,
    LeaseWorker,
    LedgerEntry,
    WindowTotals,
)
from apikeyrouter.domain.interfaces.state_store import StateStore, StoreBatch
from apikeyrouter.testing.store_rows import budget_row

__all__ = ["WINDOW", "Borrower", "assert_exact", "lines_of", "put_budget", "totals_of"]

WINDOW = 1_790_812_800
"""A window's name: the Unix second of a midnight."""


class Borrower:
    """A worker by the name of `worker_id`. `ttl_s`: after so many seconds without a call it counts as dead."""

    def __init__(self, store: StateStore, worker_id: str = "w1", *, ttl_s: float = 600.0) -> None:
        self.store = store
        self.worker = LeaseWorker(worker_id, f"host of {worker_id}", ttl_s)
        self._seq = 0

    def ask(self, granted: int, *, budget_id: str = "b", window: int = WINDOW, **fields: Any) -> LeaseAsk:
        """The next ask: to have been granted so much in all. `fields`: of `LeaseAsk`; `oldest` is the window itself."""
        self._seq += 1
        return LeaseAsk(
            **{
                "budget_id": budget_id,
                "window": window,
                "oldest": window,
                "seq": self._seq,
                "granted": granted,
                **fields,
            }
        )

    async def call(self, *asks: LeaseAsk) -> LeaseReply:
        """What the store answers."""
        return await self.store.lease(self.worker, asks)

    async def lease(self, granted: int, **fields: Any) -> LeaseGrant:
        """One ask, and its answer. The worker must be alive for it."""
        reply = await self.call(self.ask(granted, **fields))
        assert not reply.fenced
        (grant,) = reply.grants
        return grant


async def put_budget(store: StateStore, budget_id: str = "b", *, limit: int = 100, **fields: Any) -> None:
    """Stores a budget of `limit` nano-USD, hard unless `fields` say otherwise."""
    await store.apply(StoreBatch(budgets=[budget_row(budget_id, limit_nano_usd=limit, **fields)]))


async def totals_of(store: StateStore, budget_id: str = "b", window: int = WINDOW) -> WindowTotals:
    """What the store has counted in this window; all zero when it knows nothing of it."""
    found = await store.load_windows([(budget_id, window, window)])
    return found[0] if found else WindowTotals(budget_id, window)


async def lines_of(store: StateStore, budget_id: str = "b", window: int | None = None) -> list[tuple[str, str, int]]:
    """The ledger's lines, newest first, as (worker id, kind, amount)."""
    entries: list[LedgerEntry] = await store.query_entries(budget_id, window, limit=100_000)
    return [(entry.worker_id, entry.kind, entry.amount) for entry in entries]


async def assert_exact(store: StateStore, budget_id: str = "b", window: int = WINDOW) -> WindowTotals:
    """The window's totals, whose spend must be the sum of its entries."""
    totals = await totals_of(store, budget_id, window)
    assert totals.spent == sum(amount for _, _, amount in await lines_of(store, budget_id, window))
    return totals
