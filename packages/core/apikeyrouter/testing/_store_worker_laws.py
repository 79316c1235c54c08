"""Laws of workers: who is alive, and what becomes of a slice whose holder died.

Main entry: `WorkerLaws`, a part of `StoreConformance`. Laws: a dead worker is ended once, by whoever comes first; with
its journal exactly, without one by presuming that all of its slice was spent, and then only after its time is over; an
ended worker can do nothing any more.
"""

from __future__ import annotations

import asyncio

from apikeyrouter.domain.interfaces.shared_ledger import Legacy
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.testing._store_suite import StoreSuite
from apikeyrouter.testing.store_borrower import WINDOW, Borrower, assert_exact, lines_of, put_budget, totals_of

__all__ = ["WorkerLaws"]

_DAY = 86_400


async def _until_expired(store: StateStore, worker_id: str) -> None:
    async with asyncio.timeout(30):
        while not next(row.expired for row in await store.list_workers() if row.worker_id == worker_id):  # noqa: ASYNC110 - the store's own clock
            await asyncio.sleep(0)


class WorkerLaws(StoreSuite):
    """Signs of life, recovery, fences."""

    async def test_workers_are_listed_oldest_first_until_they_are_ended(self) -> None:
        async with self.opened() as store:
            assert await store.list_workers() == []
            for name in ("w2", "w1", "w3", "w2"):
                reply = await Borrower(store, name, ttl_s=600).call()
            assert reply.workers == 3
            rows = await store.list_workers()
            assert [(row.worker_id, row.host) for row in rows] == [(n, f"host of {n}") for n in ("w2", "w1", "w3")]
            assert all(not row.expired and abs(row.expires_at_s - reply.now_utc_s - 600) < 30 for row in rows)
            await store.recover_worker("w1", {})
            async with self.reopened(store) as later:
                assert [row.worker_id for row in await later.list_workers()] == ["w2", "w3"]

    async def test_a_worker_that_is_silent_for_its_time_expires_and_a_call_brings_it_back(self) -> None:
        async with self.opened() as store:
            short, long = Borrower(store, "short", ttl_s=0.02), Borrower(store, "long")
            await short.call()
            await _until_expired(store, "short")
            assert (await long.call()).workers == 1
            await Borrower(store, "short").call()
            assert [row.expired for row in await store.list_workers()] == [False, False]
            assert (await long.call()).workers == 2

    async def test_without_a_journal_nothing_is_done_before_the_worker_has_expired(self) -> None:
        async with self.opened() as store:
            await put_budget(store)
            one = Borrower(store)
            await one.lease(60, spent=10)
            assert await store.recover_worker("w1", None) is None
            assert (await one.lease(70, spent=20)).granted == 70
            assert (await totals_of(store)).presumed == 0

    async def test_without_a_journal_all_that_was_granted_is_presumed_spent(self) -> None:
        async with self.opened() as store:
            await put_budget(store)
            await put_budget(store, "c")
            one = Borrower(store, ttl_s=0.02)
            await one.lease(60, spent=10, held=5)
            await one.lease(30, budget_id="c", window=WINDOW - _DAY)
            await _until_expired(store, "w1")
            assert await store.recover_worker("w1", None) == 80
            totals = await assert_exact(store)
            assert (totals.spent, totals.presumed, totals.granted, totals.held) == (60, 50, 60, 0)
            assert await lines_of(store) == [("w1", "presumed", 50), ("w1", "spent", 10)]
            assert (await assert_exact(store, "c", WINDOW - _DAY)).presumed == 30
            assert (await Borrower(store, "w2").lease(100)).granted == 40

    async def test_with_its_journal_a_worker_is_charged_what_it_settled_and_what_it_had_sent(self) -> None:
        async with self.opened() as store:
            await put_budget(store)
            await Borrower(store).lease(60, spent=10, held=30)
            journal = {("b", WINDOW): Legacy(spent=17, sent=20)}
            assert await store.recover_worker("w1", journal) == 20, (
                "it need not have expired: the journal proves it dead"
            )
            totals = await assert_exact(store)
            assert (totals.spent, totals.presumed, totals.granted, totals.held) == (37, 20, 37, 0)
            assert await lines_of(store) == [("w1", "presumed", 20), ("w1", "spent", 7), ("w1", "spent", 10)]
            assert (await Borrower(store, "w2").lease(100)).granted == 63

    async def test_a_journal_that_is_behind_the_store_takes_nothing_back(self) -> None:
        async with self.opened() as store:
            await put_budget(store)
            await Borrower(store).lease(60, spent=30)
            assert await store.recover_worker("w1", {("b", WINDOW): Legacy(20, 0)}) == 0
            assert (await assert_exact(store)).spent == 30

    async def test_a_window_that_a_journal_leaves_out_is_charged_as_granted(self) -> None:
        async with self.opened() as store:
            await put_budget(store)
            one = Borrower(store)
            await one.lease(60, spent=10)
            await one.lease(40, spent=5, window=WINDOW + _DAY)
            assert await store.recover_worker("w1", {("b", WINDOW): Legacy(10, 0)}) == 35
            assert (await assert_exact(store)).granted == 10
            assert (await assert_exact(store, "b", WINDOW + _DAY)).spent == 40

    async def test_a_journal_may_know_of_a_window_that_the_store_forgot(self) -> None:
        async with self.opened() as store:
            await put_budget(store)
            await Borrower(store).call()
            journal = {("b", WINDOW): Legacy(12, 3), ("unknown", WINDOW): Legacy(5, 5)}
            assert await store.recover_worker("w1", journal) == 3
            totals = await assert_exact(store)
            assert (totals.spent, totals.presumed, totals.granted) == (15, 3, 15)
            assert await lines_of(store, "unknown") == []

    async def test_a_worker_that_has_returned_everything_ends_without_a_charge(self) -> None:
        async with self.opened() as store:
            await put_budget(store)
            await Borrower(store).lease(10, spent=10)
            assert await store.recover_worker("w1", {}) == 0
            assert (await assert_exact(store)).spent == 10
            assert await store.list_workers() == []

    async def test_an_ended_worker_is_fenced_and_nothing_of_its_calls_is_done(self) -> None:
        async with self.opened() as store:
            await put_budget(store)
            one = Borrower(store)
            await one.lease(60, spent=10)
            await store.recover_worker("w1", {("b", WINDOW): Legacy(10, 0)})
            before = await totals_of(store)
            async with self.reopened(store) as later:
                reply = await later.lease(one.worker, [one.ask(60, spent=40, have=60)])
                assert (reply.fenced, reply.grants) == (True, [])
                assert await totals_of(later) == before
                assert await later.list_workers() == []
                assert (await Borrower(later, "w1 again").lease(90)).granted == 90

    async def test_a_worker_is_ended_once(self) -> None:
        async with self.opened() as store, self.beside(store) as other:
            await put_budget(store)
            await Borrower(store).lease(60, spent=10, held=5)
            journal = {("b", WINDOW): Legacy(10, 5)}
            calls = [one.recover_worker("w1", journal) for _ in range(4) for one in (store, other)]
            done = await asyncio.gather(*calls)
            assert sorted(done, key=str) == [5, *([None] * 7)]
            assert (await assert_exact(other)).spent == 15
            assert await store.recover_worker("nobody", journal) is None
            assert await store.recover_worker("nobody", None) is None

    async def test_ending_a_worker_is_told_to_everybody(self) -> None:
        async with self.opened() as store:
            await put_budget(store)
            await put_budget(store, "c")
            one = Borrower(store)
            await one.call(one.ask(60), one.ask(60, budget_id="c"), one.ask(10, budget_id="c", window=WINDOW + 1))
            before = await store.changes(None, 0)
            await store.recover_worker("w1", {("b", WINDOW): Legacy(0, 0)})
            heard = await store.changes(before.cursor, 5)
            assert {(one.kind, one.entity_id) for one in heard.changes} == {("lease", "b"), ("lease", "c")}

    async def test_recoveries_among_leases_leave_exact_books(self) -> None:
        async with self.opened() as store, self.beside(store) as other:
            await put_budget(store, limit=2_000)

            async def live_and_die(number: int) -> int:
                place, killer = (store, other) if number % 2 else (other, store)
                worker, spent = Borrower(place, f"w{number}"), 0
                for step in range(1, 6):
                    granted = (await worker.lease(20 * step, spent=spent, have=20 * (step - 1))).granted
                    spent = min(granted, spent + number % 20)
                await killer.recover_worker(f"w{number}", {("b", WINDOW): Legacy(spent, 1)})
                return spent + 1

            charged = await asyncio.gather(*(live_and_die(number) for number in range(16)))
            totals = await assert_exact(store)
            assert (totals.spent, totals.granted) == (sum(charged), sum(charged))
            assert (totals.presumed, totals.held) == (16, 0)
