"""How often a key was used, over all processes.

Main entry: `KeyCounts.read`. Each process counts its own attempts in the record at once; the sum of everybody's is in
the store's usage roll-ups, to which each process only adds. The greater of both is shown.
Laws: a counter never goes back and is never too high. What other processes sent with a key and then with another one
(a failover) is missing in its `usage_count` here; it is in `failure_count`. Asking is for whoever looks: no request
waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.shared_ledger import UsageQuery
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.domain.keys.record import KeyRecord

__all__ = ["FRESH_S", "KeyCounts"]

FRESH_S = 1.0
"""Counters read less than this ago are shown again."""


class KeyCounts:
    """Reads the sums."""

    def __init__(self, store: StateStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._fresh_until_s = float("-inf")

    async def read(self, records: Sequence[KeyRecord]) -> None:
        """Brings counters up to what all processes have stored. A store that is down leaves them as they are."""
        now_s = self._clock.monotonic_s()
        if now_s < self._fresh_until_s:
            return
        self._fresh_until_s = now_s + FRESH_S
        try:
            rows = await self._store.query_usage(UsageQuery(by=("key_id",)))
        except StateStoreError:
            return
        sums = {row.key_id: row for row in rows}
        for record in records:
            row = sums.get(record.key_id)
            if row is not None:
                record.usage_count = max(record.usage_count, row.requests)
                record.failure_count = max(record.failure_count, row.failures)
