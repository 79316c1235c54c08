"""What dead workers leave of rates goes when it does not count any more, however many of them die."""

from __future__ import annotations

from pathlib import Path

import pytest

from apikeyrouter.domain.interfaces.shared_ledger import LeaseAsk, LeaseWorker, rate_id
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.infrastructure.state_store.sqlite_store import SQLiteStateStore
from apikeyrouter.testing.virtual_time import ManualClock

RPM, SLOTS = rate_id("t:requests", 60), rate_id("t:parallel", 0)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_two_hundred_deaths_in_an_hour_leave_what_the_last_two_minutes_left(kind: str, tmp_path: Path) -> None:
    clock = ManualClock()
    store: StateStore = (
        MemoryStateStore(clock=clock) if kind == "memory" else SQLiteStateStore(tmp_path / "s.sqlite", clock=clock)
    )
    await store.open()
    try:
        for number in range(200):
            worker = LeaseWorker(f"w{number}")
            oldest = int(clock.utc_now().timestamp()) - 60
            asks = [
                LeaseAsk(RPM, 0, oldest, 1, granted=3, limit=50),
                LeaseAsk(SLOTS, 0, oldest + 60, 1, granted=3, held=2, limit=50),
            ]
            grants = (await store.lease(worker, asks)).grants
            assert [grant.granted for grant in grants] == [3, 3], "what was left has left"
            assert grants[0].counted[1] <= 4 * 3
            assert await store.recover_worker(worker.worker_id, {}) == 0
            clock.advance(18.0)
        await store.lease(LeaseWorker("last"), [])
        left = await store.load_windows([(RPM, 0, 2**40), (SLOTS, 0, 2**40)])
        assert 0 < len(left) <= 8
        assert sum(one.granted for one in left) <= 24
    finally:
        await store.close()
