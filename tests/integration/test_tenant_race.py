"""Many tasks of several workers race for one caller's limits, on every store: never above, and nothing left unused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from apikeyrouter.domain.components.lessee import SYNC_EVERY_S
from apikeyrouter.domain.components.tenant_limits import Ticket
from apikeyrouter.domain.errors import SystemError
from apikeyrouter.domain.interfaces.shared_ledger import rate_id
from apikeyrouter.domain.models.call import Tenant
from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.infrastructure.state_store import open_store
from tests.support.limit_workers import LimitWorker

WORKERS, TASKS = 3, 20
CLOCK = SystemClock()


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.sqlite"
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@asynccontextmanager
async def workers_on(url: str) -> AsyncIterator[list[LimitWorker]]:
    """Each with a store object, and so connections, of its own."""
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(WORKERS):
            store = open_store(url)
            await store.open()
            stack.push_async_callback(store.close)
            found.append(await stack.enter_async_context(LimitWorker(store, CLOCK)))
        yield found


async def admit(worker: LimitWorker, tenant: Tenant, tokens: int = 1, wait_s: float = 0.0) -> Ticket | None:
    try:
        return await worker.limits.admit(tenant, tokens=tokens, deadline_s=CLOCK.monotonic_s() + 60, wait_s=wait_s)
    except SystemError as error:
        assert error.status == 429
        assert error.retry_after is not None
        assert error.retry_after > 0
        return None


async def test_exactly_as_many_requests_and_tokens_pass_as_a_minute_may_have(url: str) -> None:
    tenant = Tenant("t", rpm=300, tpm=2_000)
    passed: list[float] = []

    async def press(worker: LimitWorker, tokens: int) -> None:
        for _ in range(12):
            if (ticket := await admit(worker, tenant, tokens)) is not None:
                passed.append(tokens)
                ticket.close(tokens, sent=True)
            await asyncio.sleep(0.001)

    async with workers_on(url) as workers:
        started_s = time.monotonic()
        await asyncio.gather(*(press(workers[n % WORKERS], 5 + n % 3) for n in range(WORKERS * TASKS)))
        assert len(passed) >= 290 or sum(passed) >= 1_950
        await asyncio.sleep(2 * SYNC_EVERY_S)
        for worker in workers:  # what one of them was promised and did not take in the crush
            await press(worker, 5)
        assert time.monotonic() - started_s < 50, "all of it lies within one minute"
        assert len(passed) <= 300
        assert sum(passed) <= 2_000
        assert len(passed) == 300 or sum(passed) > 2_000 - 7
        (totals,) = await workers[0].store.load_windows([(rate_id("t:tokens", 60), 0, 2**40)])
        assert totals.granted <= 2_000


async def test_no_more_are_under_way_than_may_be_and_all_are_served_that_wait(url: str) -> None:
    tenant = Tenant("t", parallel=7)
    running = most = served = 0

    async def press(worker: LimitWorker) -> None:
        nonlocal running, most, served
        for _ in range(3):
            ticket = await admit(worker, tenant, wait_s=30)
            assert ticket is not None
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.005)
            running -= 1
            served += 1
            ticket.close(1, sent=True)

    async with workers_on(url) as workers:
        await asyncio.gather(*(press(workers[n % WORKERS]) for n in range(WORKERS * TASKS)))
        assert (served, most) == (WORKERS * TASKS * 3, 7)
        for worker in workers:
            tickets = [await admit(worker, tenant) for _ in range(7)]
            assert all(tickets), "none has leaked, and none is kept idle elsewhere"
            for ticket in tickets:
                if ticket is not None:
                    ticket.close(None, sent=False)
