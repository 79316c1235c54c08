"""What the stores that keep their own clock forget, and when: fences, windows, lines, hours of usage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from apikeyrouter.domain.interfaces.shared_ledger import LeaseAsk, Legacy, UsageQuery
from apikeyrouter.domain.interfaces.state_store import StoreBatch
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.infrastructure.state_store.sqlite_store import SQLiteStateStore
from apikeyrouter.testing.store_borrower import WINDOW, Borrower, assert_exact, lines_of, put_budget, totals_of
from apikeyrouter.testing.store_rows import usage_row
from apikeyrouter.testing.virtual_time import ManualClock

HOUR, DAY = 3_600, 86_400
NOW = datetime(2026, 11, 21, 13, 30, tzinfo=UTC)
THIS_HOUR = int(NOW.timestamp()) - 30 * 60

Store = MemoryStateStore | SQLiteStateStore


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(utc=NOW)


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    made: Store
    if request.param == "memory":
        made = MemoryStateStore(max_events=100, clock=clock)
    else:
        made = SQLiteStateStore(tmp_path / "state.sqlite", max_events=100, clock=clock)
    await put_budget(made, limit=10**9)
    yield made
    await made.close()


async def test_a_worker_expires_when_its_time_is_over_and_not_before(store: Store, clock: ManualClock) -> None:
    one = Borrower(store, ttl_s=15)
    await one.lease(60, spent=10)
    clock.advance(14.9)
    assert await store.recover_worker("w1", None) is None
    assert [row.expired for row in await store.list_workers()] == [False]
    clock.advance(0.2)
    assert [row.expired for row in await store.list_workers()] == [True]
    assert (await Borrower(store, "w2").call()).workers == 1
    assert await store.recover_worker("w1", None) == 50


async def test_an_ended_worker_stays_fenced_for_days(store: Store, clock: ManualClock) -> None:
    one = Borrower(store)
    await one.lease(60)
    await store.recover_worker("w1", {})
    clock.advance(6 * DAY)
    await Borrower(store, "w2").call()
    await store.recover_worker("w2", {})
    assert (await one.call()).fenced
    clock.advance(2 * DAY)
    await Borrower(store, "w3").call()
    await store.recover_worker("w3", {})
    assert (await Borrower(store, "w2").call()).fenced
    assert not (await one.call()).fenced, "nobody is remembered for ever"


async def test_the_newest_2000_windows_of_a_budget_are_kept(store: Store) -> None:
    one = Borrower(store)
    await put_budget(store, "other", limit=100)
    await one.lease(5, spent=5, window=0)
    await one.lease(5, spent=5, budget_id="other", window=WINDOW - DAY)
    asks: list[LeaseAsk] = [one.ask(7, spent=7, window=WINDOW + 60 * number) for number in range(2_200)]
    await one.call(*asks)
    found = await store.load_windows([("b", 0, 2 * WINDOW)])
    assert [totals.window for totals in found] == [0, *(WINDOW + 60 * number for number in range(201, 2_200))]
    assert (await assert_exact(store, "b", 0)).spent == 5
    assert (await assert_exact(store, "b", WINDOW + 60 * 2_199)).spent == 7
    assert await lines_of(store, "b", WINDOW) == []
    assert (await totals_of(store, "other", WINDOW - DAY)).spent == 5
    presumed = await store.recover_worker("w1", {("b", WINDOW + 60 * 2_000): Legacy(9, 0)})
    assert presumed == 0
    assert len(await store.load_windows([("b", 0, 2 * WINDOW)])) == 2_000


async def test_lines_of_more_windows_than_lines_are_folded_now_and_then_only(store: Store) -> None:
    one = Borrower(store)
    await one.call(*(one.ask(5, spent=5, window=WINDOW + 60 * number) for number in range(300)))
    for turn in range(6, 26):
        await one.call(*(one.ask(turn, spent=turn, window=WINDOW + 60 * number) for number in range(0, 300, 30)))
    lines = await lines_of(store)
    assert 300 <= len(lines) <= 410, "a hundred, a line per window, and a tenth until the next folding"
    assert sum(kind == "opening" for _, kind, _ in lines) == 300
    for number in (0, 1, 299):
        await assert_exact(store, "b", WINDOW + 60 * number)


async def test_hours_older_than_40_days_become_days_and_days_older_than_400_go(
    store: Store, clock: ManualClock
) -> None:
    midnight = THIS_HOUR - THIS_HOUR % DAY
    border = midnight - 40 * DAY
    rows = [usage_row(border - DAY + n * HOUR, cost=2**n, model="old" if n % 2 else "m") for n in range(24)]
    rows += [usage_row(border, cost=1), usage_row(border + HOUR, cost=1)]
    rows += [usage_row(midnight - 400 * DAY, cost=5), usage_row(midnight - 400 * DAY - HOUR, cost=7)]
    await store.apply(StoreBatch(usage=rows))
    clock.advance(HOUR)
    store.post(StoreBatch(usage=[usage_row(THIS_HOUR + HOUR, cost=3)]))
    await store.flush()
    found = await store.query_usage(UsageQuery(by=("hour_s", "model")))
    assert sorted((row.hour_s, row.model, row.cost_nano_usd, row.requests) for row in found) == [
        (midnight - 400 * DAY, "gpt-4", 5, 1),
        (border - DAY, "m", sum(2**n for n in range(0, 24, 2)), 12),
        (border - DAY, "old", sum(2**n for n in range(1, 24, 2)), 12),
        (border, "gpt-4", 1, 1),
        (border + HOUR, "gpt-4", 1, 1),
        (THIS_HOUR + HOUR, "gpt-4", 3, 1),
    ]
    clock.advance(DAY)
    await store.apply(StoreBatch(usage=[usage_row(border - DAY + 5 * HOUR, cost=1, model="m")]))
    clock.advance(HOUR)
    await store.apply(StoreBatch(usage=[usage_row(THIS_HOUR, cost=1)]))
    day = await store.query_usage(UsageQuery(border - DAY, border, by=("hour_s", "model")))
    assert [(row.hour_s, row.model, row.requests) for row in day] == [
        (border - DAY, "old", 12),
        (border - DAY, "m", 13),
    ], "what comes late is added to its day"
