"""Laws of the shared books: many workers at once, and the append-only entries.

Main entry: `BookLaws`, a part of `StoreConformance`. Laws: however many ask at once, a hard limit is granted wholly and
never exceeded; per window, entries add up to what was spent, also after old ones were folded.
"""

from __future__ import annotations

import asyncio
import random

from apikeyrouter.domain.interfaces.shared_ledger import LeaseReply
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.testing._store_suite import StoreSuite
from apikeyrouter.testing.store_borrower import WINDOW, Borrower, assert_exact, lines_of, put_budget, totals_of

__all__ = ["BookLaws"]

_DAY = 86_400


class BookLaws(StoreSuite):
    """Leases of many workers, and entries."""

    # Many at once

    async def test_64_asks_at_once_of_8_workers_get_the_whole_limit_and_not_more(self) -> None:
        async with self.opened() as store, self.beside(store) as other:
            await put_budget(store, limit=1_000)
            workers = [Borrower(store if number % 2 else other, f"w{number}") for number in range(8)]
            asks = [(one, one.ask(25 * step)) for step in range(1, 9) for one in workers]
            replies = await asyncio.gather(*(one.call(ask) for one, ask in asks))
            assert all(len(reply.grants) == 1 for reply in replies)
            assert max(reply.grants[0].totals.granted for reply in replies) <= 1_000
            assert (await totals_of(store)).granted == 1_000, "1,600 were wanted, so nothing may be left over"
            slices = [await one.lease(200, seq=100) for one in workers]
            assert sum(grant.granted for grant in slices) == 1_000

    async def test_64_workers_at_once_share_a_limit_exactly(self) -> None:
        async with self.opened() as store, self.beside(store) as other:
            await put_budget(store, limit=1_000)
            workers = [Borrower(store if number % 2 else other, f"w{number}") for number in range(64)]
            grants = await asyncio.gather(*(one.lease(30) for one in workers))
            assert sum(grant.granted for grant in grants) == 1_000
            spent = [min(10, grant.granted) for grant in grants]
            await asyncio.gather(*(one.lease(0, spent=amount) for one, amount in zip(workers, spent, strict=True)))
            totals = await assert_exact(other)
            assert (totals.spent, totals.granted, totals.overrun) == (sum(spent), sum(spent), 0)

    async def test_books_balance_after_a_hundred_turns_of_workers_that_spend_and_return(self) -> None:
        async with self.opened() as store, self.beside(store) as other:
            await put_budget(store, limit=500)
            turns = [_spend_and_return(store if n % 2 else other, n) for n in range(5)]
            outcomes = await asyncio.gather(*turns)
            totals = await assert_exact(store)
            assert totals.spent == sum(spent for spent, _ in outcomes)
            assert totals.granted == sum(granted for _, granted in outcomes)
            assert totals.held == 0
            assert totals.granted <= 500

    # Entries

    async def test_entries_tell_newest_first_who_added_what_to_which_window(self) -> None:
        async with self.opened() as store:
            await put_budget(store, limit=100)
            await put_budget(store, "c", limit=100)
            one, two = Borrower(store, "w1"), Borrower(store, "w2")
            started = (await one.call()).now_utc_s
            await one.lease(50, spent=5)
            await two.lease(20, spent=7)
            await one.lease(50, spent=5, held=3)
            await one.lease(50, spent=6, budget_id="c")
            await one.lease(50, spent=9, window=WINDOW + _DAY)
            await one.lease(50, spent=8)
            assert await lines_of(store) == [("w1", "spent", n) for n in (3, 9)] + [
                ("w2", "spent", 7),
                ("w1", "spent", 5),
            ]
            assert [amount for _, _, amount in await lines_of(store, "b", WINDOW)] == [3, 7, 5]
            newest = await store.query_entries("b", limit=2)
            assert [(one.window, one.amount) for one in newest] == [(WINDOW, 3), (WINDOW + _DAY, 9)]
            ended = (await two.call()).now_utc_s
            assert all(started - 1 <= one.at_s <= ended + 1 for one in newest)
            assert await store.query_entries("b", limit=0) == []
            assert await store.query_entries("nobody") == []

    async def test_old_entries_are_folded_into_one_opening_line_and_sums_stay(self) -> None:
        async with self.opened(max_events=20) as store:
            await put_budget(store, limit=10_000)
            one = Borrower(store)
            for spent in range(1, 101):
                await one.lease(10_000, spent=2 * spent, window=WINDOW + spent % 2 * _DAY)
            for window, spent in ((WINDOW, 200), (WINDOW + _DAY, 198)):
                assert (await assert_exact(store, "b", window)).spent == spent
            lines = await lines_of(store)
            assert len(lines) <= 24, "at most the maximum, and a line per window"
            assert lines[0] == ("w1", "spent", 4)
            assert [kind for _, kind, _ in lines].count("opening") == 2
            assert [kind for _, kind, _ in lines][-1] == "opening"


async def _spend_and_return(store: StateStore, number: int) -> tuple[int, int]:
    """Twenty turns of a worker that keeps its word; returns what it has spent, and been granted."""
    chance, worker = random.Random(number), Borrower(store, f"w{number}")
    spent = granted = 0
    for _ in range(20):
        wanted = spent + chance.randrange(60)
        if wanted < granted:
            granted = wanted  # whoever returns money does not count on it from the moment that it says so
        reply: LeaseReply = await worker.call(worker.ask(wanted, spent=spent, have=granted))
        granted = reply.grants[0].granted
        assert reply.grants[0].totals.granted <= 500
        spent += chance.randrange(granted - spent + 1)
    final = await worker.lease(spent, spent=spent, have=spent)
    return spent, final.granted
