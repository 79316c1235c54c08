"""Clocks that disagree: budgets go by the store's time, whatever a worker's machine believes and however it jitters."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from apikeyrouter.domain.components.budget_book import BudgetBook
from apikeyrouter.domain.cost.budgets import define_budget
from apikeyrouter.domain.interfaces.shared_ledger import LeaseAsk, LeaseReply, LeaseWorker
from apikeyrouter.domain.ledger.holds import Hold, Refused
from apikeyrouter.domain.ledger.leases import Waiter
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.testing.virtual_time import ManualClock

NOON = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC)
LIMIT = 1_000_000


class JitteryStore(MemoryStateStore):
    """Its time looks a little different with each answer, as with a network whose two ways take different times."""

    error_s = 0.0

    async def lease(self, worker: LeaseWorker, asks: Sequence[LeaseAsk]) -> LeaseReply:
        reply = await super().lease(worker, asks)
        return replace(reply, now_utc_s=reply.now_utc_s + self.error_s)


class Worker:
    """One process, on a machine whose clock is `skew_s` wrong."""

    def __init__(self, store: MemoryStateStore, skew_s: float = 0.0) -> None:
        self.clock = ManualClock(utc=NOON + timedelta(seconds=skew_s))
        self.book = BudgetBook(store, self.clock, on_alert=lambda _: None)
        self.ledger = Ledger(self.clock)

    def try_hold(self, need: int) -> Hold | Refused:
        accounts = self.book.accounts_for("p", "k", "m", now_s=self.clock.monotonic_s())
        return self.ledger.try_hold([(account, need) for account in accounts])

    async def spend(self, need: int) -> bool:
        """Whether it was admitted, asking the store twice if there was no room, as one that waits does."""
        hold = self.try_hold(need)
        for _ in range(2):
            if isinstance(hold, Hold):
                break
            waiters = []
            for account in self.book.accounts_for("p", "k", "m", now_s=self.clock.monotonic_s()):
                lease = self.book.lease_of(account)
                assert lease is not None
                waiters.append((lease, Waiter(need, lambda _: None)))
                lease.enqueue(waiters[-1][1])
            await self.book.lessee.step()
            for lease, waiter in waiters:
                lease.leave(waiter)
            hold = self.try_hold(need)
        if isinstance(hold, Refused):
            await self.book.lessee.step()
            return False
        hold.dispatch()
        hold.settle([need])
        await self.book.lessee.step()
        return True


async def a_store(clock: ManualClock, *, rolling: bool = False, mode: str = "hard") -> JitteryStore:
    store = JitteryStore(clock=clock)
    book = BudgetBook(store, clock, on_alert=lambda _: None)
    await book.create(define_budget("per_route", "m", "0.001", "hourly", mode, rolling=rolling))
    return store


async def admissions(skews_s: Sequence[float], *, rolling: bool, seed: int) -> tuple[list[bool], list[tuple[int, int]]]:
    """What three workers were admitted to over two and a half hours, and what was spent per window."""
    chance, clock = random.Random(seed), ManualClock(utc=NOON)
    store = await a_store(clock, rolling=rolling)
    workers = [Worker(store, skew_s) for skew_s in skews_s]
    for worker in workers:
        await worker.book.reload()
    admitted = []
    for _ in range(150):
        admitted.append(await chance.choice(workers).spend(chance.randrange(1, 50_000)))
        passed_s = chance.uniform(0.0, 120.0)
        for one in (clock, *(worker.clock for worker in workers)):
            one.advance(passed_s)
    (budget,) = await store.load_budgets()
    windows = await store.load_windows([(budget.budget_id, 0, 1 << 40)])
    return admitted, [(totals.window, totals.spent) for totals in windows]


@pytest.mark.parametrize("rolling", [False, True])
@pytest.mark.parametrize("seed", range(3))
async def test_clocks_that_are_an_hour_wrong_change_no_admission(rolling: bool, seed: int) -> None:
    right, windows = await admissions([0.0, 0.0, 0.0], rolling=rolling, seed=seed)
    wrong, same_windows = await admissions([-3600.0, 0.0, 3600.0], rolling=rolling, seed=seed)
    assert {True, False} == set(right)
    assert wrong == right
    assert same_windows == windows


@pytest.mark.parametrize("skew_s", [-3600.0, 3600.0])
async def test_what_a_soft_budget_let_through_before_the_stores_time_was_known_is_counted(skew_s: float) -> None:
    clock = ManualClock(utc=NOON)
    store = await a_store(clock, mode="soft")
    worker = Worker(store, skew_s)
    await worker.book.reload()
    early = worker.try_hold(3)
    assert isinstance(early, Hold)
    assert await worker.spend(4)
    early.dispatch()
    early.settle([3])
    assert await worker.spend(5)
    (budget,) = await store.load_budgets()
    windows = await store.load_windows([(budget.budget_id, 0, 1 << 40)])
    assert sum(totals.spent for totals in windows) == 12


async def test_a_store_whose_time_seems_to_go_back_at_the_end_of_a_window_does_not_open_it_again() -> None:
    clock = ManualClock(utc=NOON)
    store = await a_store(clock)
    worker, other = Worker(store), Worker(store)
    for one in (worker, other):
        await one.book.reload()
    assert await worker.spend(600_000)
    assert await other.spend(300_000)
    for one in (clock, worker.clock, other.clock):
        one.advance(3600.0 - 30.0)  # to the first instant of the next hour
    now_s = worker.clock.monotonic_s()
    (old,) = list(worker.book.lessee.leases())
    assert worker.book.accounts_for("p", "k", "another model", now_s=now_s) == ()
    assert old.draining
    store.error_s = -0.5
    await worker.book.lessee.step()
    await worker.book.reload()
    assert await worker.spend(400_000), "the new hour has its own money"
    (budget,) = await store.load_budgets()
    windows = await store.load_windows([(budget.budget_id, 0, 1 << 40)])
    hour = int(NOON.timestamp()) // 3600 * 3600
    assert {totals.window: totals.spent for totals in windows} == {hour: 900_000, hour + 3600: 400_000}
    assert all(totals.granted <= LIMIT for totals in windows)


async def test_what_a_worker_had_reserved_when_it_was_given_up_is_paid_for_when_it_is_sent_after_all() -> None:
    clock = ManualClock(utc=NOON)
    store = await a_store(clock)
    paused, other = Worker(store), Worker(store)
    for worker in (paused, other):
        await worker.book.reload()
    assert await paused.spend(10_000)
    reserved = paused.try_hold(900)
    assert isinstance(reserved, Hold), "within its slice: the store knows nothing of it"
    old_id = paused.book.lessee.worker.worker_id
    clock.advance(20.0)  # by the store's time; the paused one's stands still
    presumed = await store.recover_worker(old_id, None)
    assert presumed is not None
    assert presumed >= 900
    spent_by_other = 0
    while await other.spend(7_000):
        spent_by_other += 7_000
    reserved.dispatch()
    reserved.settle([900])
    later = paused.try_hold(1)  # before it hears that it was given up: still of the slice that was charged whole
    spent_by_paused = 10_000 + 900 + (1 if isinstance(later, Hold) else 0)
    await paused.book.lessee.step()
    assert paused.book.lessee.worker.worker_id != old_id
    assert spent_by_other + spent_by_paused <= LIMIT
    assert not await paused.spend(LIMIT - spent_by_other - spent_by_paused), "what was presumed stays charged"
    (budget,) = await store.load_budgets()
    (totals,) = await store.load_windows([(budget.budget_id, 0, 1 << 40)])
    assert totals.spent == 10_000 + presumed + spent_by_other <= LIMIT
    assert spent_by_other + spent_by_paused <= totals.spent
