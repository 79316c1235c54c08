"""What was learned of limits survives a restart: limits, levels as far as they still count, burst horizons."""

from __future__ import annotations

import pytest

from apikeyrouter.domain.components.quota_memory import POOLS_MAX, SAVE_EVERY_S, SETTING, QuotaMemory
from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.keys.record import KeyRecord
from apikeyrouter.domain.ledger.holds import Hold
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.domain.quota.dialects import limit_dialect
from apikeyrouter.domain.quota.facts import DAY_S, MINUTE_S, Dimension, LimitFact, Refill, Source
from apikeyrouter.domain.quota.limits import QuotaWindow
from apikeyrouter.domain.quota.pools import Pools, PoolView
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.testing.virtual_time import ManualClock
from tests.support.keys import record

PER_MINUTE = (Dimension.Requests, MINUTE_S)
NEEDS = (1, 10, 10, 20, 1, 0, 0, 0)


class KeptStore(MemoryStateStore):
    """Outlives the router."""

    broken = False
    writes = 0

    @property
    def persistent(self) -> bool:
        return True

    async def put_setting(
        self, name: str, value: bytes, *, only_if_absent: bool = False, only_if: bytes | None = None
    ) -> bytes:
        self.writes += 1
        if self.broken:
            raise StateStoreError("the disk is full")
        return await super().put_setting(name, value, only_if_absent=only_if_absent, only_if=only_if)


class Process:
    """Pools with a memory, on a store that several share."""

    def __init__(self, store: MemoryStateStore, clock: ManualClock) -> None:
        self.clock = clock
        self.ledger = Ledger(clock)
        self.pools = Pools(clock, limit_dialect)
        self.memory = QuotaMemory(self.pools, store, clock)

    async def started(self) -> Process:
        await self.memory.open()
        return self

    def view(self, key: KeyRecord, model: str = "gpt-4o") -> PoolView:
        return self.pools.view(key, "openai", model)

    def serve(self, key: KeyRecord, *facts: LimitFact, times: int = 1, model: str = "gpt-4o") -> PoolView:
        """So many requests, each answered with these facts."""
        for _ in range(times):
            view = self.view(key, model)
            hold = self.ledger.try_hold(view.lines(NEEDS))
            assert isinstance(hold, Hold)
            view.admitted(view.windows, NEEDS, self.clock.monotonic_s())
            hold.dispatch()
            held = [(account, account.taken) for account, _ in hold.lines]
            now_s = self.clock.monotonic_s()
            view.told(facts, held, sent_at_s=now_s, now_s=now_s)
            hold.settle([need for _, need in hold.lines])
        return self.view(key, model)


def told(remaining: int | None, limit: int = 60, **fields: object) -> LimitFact:
    return LimitFact(Dimension.Requests, MINUTE_S, limit, remaining, **fields)  # type: ignore[arg-type]  # test data


def left(window: QuotaWindow, clock: ManualClock) -> int:
    free = window.headroom(clock.monotonic_s())
    assert free is not None
    return free


async def after_restart(first: Process, store: MemoryStateStore, away_s: float) -> Process:
    """Another process, with a clock of its own, on what the first one left."""
    await first.memory.save()
    first.clock.advance(away_s)
    return await Process(store, ManualClock(5.0, utc=first.clock.utc_now())).started()


async def test_a_told_limit_and_its_level_are_there_before_the_first_request() -> None:
    store = KeptStore()
    key = record()
    first = await Process(store, ManualClock(1000.0)).started()
    first.serve(key, told(20))
    second = await after_restart(first, store, 10.0)
    pool = second.pools.pool(key)  # nobody asked for a model yet
    window = pool.views["gpt-4o"].own[PER_MINUTE]
    assert (window.limit, window.source, left(window, second.clock)) == (60, Source.Header, 20)
    assert window.observed_at_s == pytest.approx(second.clock.monotonic_s() - 10.0)
    second.clock.advance(62.0)
    assert left(window, second.clock) == 60


async def test_what_was_taken_longer_ago_than_the_period_counts_no_more() -> None:
    store = KeptStore()
    first = await Process(store, ManualClock()).started()
    first.serve(record(), told(0))
    second = await after_restart(first, store, 3600.0)
    window = second.view(record()).own[PER_MINUTE]
    assert (window.limit, left(window, second.clock)) == (60, 60)


async def test_a_bucket_goes_on_filling_while_nobody_runs() -> None:
    store = KeptStore()
    first = await Process(store, ManualClock()).started()
    first.serve(record(), told(10, refill=Refill.Continuous))
    second = await after_restart(first, store, 20.0)
    window = second.view(record()).own[PER_MINUTE]
    assert window.refill is Refill.Continuous
    assert left(window, second.clock) == 30
    second.clock.advance(10.0)
    assert left(window, second.clock) == 40


@pytest.mark.parametrize(("away_s", "free"), [(5.0, 7), (31.0, 60)])
async def test_a_fixed_window_is_full_again_once_it_has_ended(away_s: float, free: int) -> None:
    store = KeptStore()
    first = await Process(store, ManualClock()).started()
    first.serve(record(), told(7, reset_s=30.0, reset_means="window"))
    second = await after_restart(first, store, away_s)
    window = second.view(record()).own[PER_MINUTE]
    assert (window.refill, left(window, second.clock)) == (Refill.Fixed, free)


async def test_a_configured_day_remembers_what_was_taken_when_and_a_new_limit_wins() -> None:
    store = KeptStore()
    day = (Dimension.Requests, DAY_S)
    first = await Process(store, ManualClock()).started()
    for _ in range(3):
        first.serve(record(metadata={"rpd": 10}), times=2)
        first.clock.advance(6 * 3600.0)
    second = await after_restart(first, store, 0.0)
    window = second.view(record(metadata={"rpd": 20})).pool.shared[day]
    assert (window.limit, window.source, left(window, second.clock)) == (20, Source.Configured, 14)
    for restarts in range(3):  # what is remembered again keeps its time
        second.serve(record(metadata={"rpd": 20}), times=0)
        second.view(record(metadata={"rpd": 20})).admitted_at_s = second.clock.monotonic_s() + restarts
        second = await after_restart(second, store, 60.0)
    window = second.view(record(metadata={"rpd": 20})).pool.shared[day]
    second.clock.advance(9 * 3600.0)
    assert left(window, second.clock) == 16  # the first two left after a day, and the others have not yet
    second.clock.advance(18 * 3600.0)
    assert left(window, second.clock) == 20


async def test_room_after_a_restart_comes_when_the_oldest_use_leaves() -> None:
    store = KeptStore()
    key = record(metadata={"rpd": 20})
    first = await Process(store, ManualClock()).started()
    first.serve(key, times=2)
    first.clock.advance(18 * 3600.0)
    first.serve(key, times=4)
    second = await after_restart(first, store, 0.0)
    account = second.view(key).pool.shared[Dimension.Requests, DAY_S].account
    now_s = second.clock.monotonic_s()
    account.adjust_used(5, now_s)
    assert account.free_at_s(10, now_s) == pytest.approx(now_s + 6 * 3600.0, abs=0.05 * DAY_S)


async def test_searched_limits_and_burst_horizons_are_not_learned_again() -> None:
    store = KeptStore()
    quiet, bursty = record("key_quiet"), record("key_bursty")
    first = await Process(store, ManualClock(100.0)).started()
    view = first.serve(quiet, times=20)
    view.refused([], [], NEEDS, sent_at_s=100.0, now_s=100.0)
    searched = view.learner.searched[PER_MINUTE].limit
    view = first.serve(bursty, told(50))
    for _ in range(2):
        first.clock.advance(2.0)
        view.refused([told(50)], [], NEEDS, sent_at_s=first.clock.monotonic_s(), now_s=first.clock.monotonic_s())
    assert view.learner.burst_horizon_s == 5.0
    second = await after_restart(first, store, 10.0)
    learner = second.view(quiet).learner
    assert learner.searched[PER_MINUTE].limit == searched
    assert left(learner.searched[PER_MINUTE], second.clock) == 0
    learner = second.view(bursty).learner
    assert learner.burst_horizon_s == 5.0
    burst = learner.bursts[Dimension.Requests]
    assert (burst.limit, left(burst, second.clock)) == (5, 5)
    assert second.view(bursty).windows.count(burst) == 1


async def test_the_provider_and_the_tier_are_believed_before_memory() -> None:
    store = KeptStore()
    key = record(metadata={"tier": "1"})
    first = await Process(store, ManualClock()).started()
    tokens = first.view(key, "gpt-4o").own[Dimension.Tokens, MINUTE_S].limit
    first.serve(key, told(55))
    second = await after_restart(first, store, 5.0)
    view = second.view(key)
    assert (view.own[PER_MINUTE].limit, view.own[PER_MINUTE].source) == (60, Source.Header)
    assert (view.own[Dimension.Tokens, MINUTE_S].limit, view.own[Dimension.Tokens, MINUTE_S].source) == (
        tokens,
        Source.Tier,
    )
    second.serve(key, told(90, limit=100))
    assert (view.own[PER_MINUTE].limit, second.view(key)) == (100, view)


async def test_only_pools_in_use_are_written_and_processes_do_not_erase_each_other() -> None:
    store, clock = KeptStore(), ManualClock()
    one, two = await Process(store, clock).started(), await Process(store, clock).started()
    one.view(record("key_idle"))
    await one.memory.save()
    assert store.writes == 0
    one.serve(record("key_a"), told(30))
    two.serve(record("key_b"), told(40))
    clock.advance(SAVE_EVERY_S - 1.0)
    await one.memory.tick()
    assert store.writes == 0
    clock.advance(1.0)
    await one.memory.tick()
    await two.memory.tick()
    clock.advance(SAVE_EVERY_S)
    await one.memory.tick()
    assert store.writes == 2  # nothing new
    third = await Process(store, clock).started()
    assert third.view(record("key_a")).own[PER_MINUTE].limit == 60
    assert third.view(record("key_b")).own[PER_MINUTE].limit == 60
    assert third.view(record("key_idle")).own == {}


async def test_memory_is_bounded_to_the_newest_pools() -> None:
    store, clock = KeptStore(), ManualClock()
    process = await Process(store, clock).started()
    for number in range(POOLS_MAX + 5):
        process.serve(record(f"key_{number}"), told(30))
        clock.advance(0.001)
    for _ in range(3):
        await process.memory.save()
    blob = await store.get_setting(SETTING)
    assert blob is not None
    assert len(blob) < 600 * POOLS_MAX
    later = await Process(store, clock).started()
    kept = [number for number in range(POOLS_MAX + 5) if later.view(record(f"key_{number}")).own]
    assert len(kept) == POOLS_MAX
    assert POOLS_MAX + 4 in kept


async def test_a_store_that_fails_or_holds_something_else_costs_the_memory_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, clock = KeptStore(), ManualClock()
    process = await Process(store, clock).started()
    process.serve(record(), told(30))
    store.broken = True
    for _ in range(2):
        await process.memory.save()
        process.serve(record(), told(30))
        clock.advance(1.0)
    assert [line.getMessage() for line in caplog.records] == [
        "What was learned of quota limits could not be kept: the disk is full"
    ]
    store.broken = False
    await store.put_setting(SETTING, b'{"of": "another version"}')
    assert (await Process(store, clock).started()).view(record()).own == {}
    await process.memory.save()
    assert (await Process(store, clock).started()).view(record()).own[PER_MINUTE].limit == 60


async def test_a_store_that_ends_with_the_process_is_left_alone() -> None:
    store, clock = MemoryStateStore(), ManualClock()
    process = await Process(store, clock).started()
    process.serve(record(), told(30))
    await process.memory.save()
    assert await store.get_setting(SETTING) is None
