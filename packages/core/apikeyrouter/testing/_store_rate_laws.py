"""Laws of rates: shares of what any so many seconds may have, or of what may be under way at once.

Main entry: `RateLaws`, a part of `StoreConformance`. Laws: the shares of a rate never exceed its limit, but for what is
in use already; nothing is written for long: no entries, no rows of what is nothing; a dead worker's share counts for
one more period, and what only counts while under way is free at once.
"""

from __future__ import annotations

import asyncio

from apikeyrouter.domain.interfaces.shared_ledger import LeaseGrant, Legacy, rate_id
from apikeyrouter.testing._store_suite import AWKWARD_TEXTS, StoreSuite
from apikeyrouter.testing.store_borrower import WINDOW, Borrower, lines_of, put_budget, totals_of

__all__ = ["RateLaws"]

RPM, SLOTS = rate_id("vk:requests", 60), rate_id("vk:parallel", 0)
_LONG_AGO, _FAR_AHEAD = 7, 4_000_000_000


async def _share(one: Borrower, granted: int, line_id: str = RPM, *, limit: int = 100, **fields: int) -> LeaseGrant:
    oldest = fields.pop("oldest", _LONG_AGO)
    reply = await one.call(one.ask(granted, budget_id=line_id, window=0, oldest=oldest, limit=limit, **fields))
    assert not reply.fenced
    return reply.grants[0]


class RateLaws(StoreSuite):
    """Rates: shares, what is in use, dead workers, and that nothing piles up."""

    async def test_shares_of_a_rate_add_up_to_its_limit_and_need_no_budget(self) -> None:
        async with self.opened() as store, self.beside(store) as other:
            one, two = Borrower(store, "w1"), Borrower(other, "w2")
            first = await _share(one, 70, held=5)
            assert (first.budget_id, first.window, first.granted, first.limit) == (RPM, 0, 70, 100)
            assert (first.gone, first.crossed, first.counted) == (False, (), (0, 0))
            second = await _share(two, 70)
            assert (second.granted, second.totals.granted, second.totals.held) == (30, 100, 5)
            assert second.totals.calls == 1, "others have some of it idle, and are called"
            assert (await _share(two, 1, line_id=SLOTS)).granted == 1, "another rate is another matter"
            assert await lines_of(store, RPM) == []

    async def test_a_rate_and_budgets_are_answered_in_one_call(self) -> None:
        async with self.opened() as store:
            await put_budget(store, limit=50)
            one = Borrower(store)
            rate = one.ask(70, budget_id=RPM, window=0, oldest=_LONG_AGO, limit=60)
            reply = await one.call(one.ask(70), rate, one.ask(70, budget_id="unknown"))
            assert [grant.granted for grant in reply.grants] == [50, 60, 0]
            assert [grant.gone for grant in reply.grants] == [False, False, True]

    async def test_what_one_worker_returns_of_a_rate_another_can_have(self) -> None:
        async with self.opened() as store:
            one, two = Borrower(store, "w1"), Borrower(store, "w2")
            await _share(one, 100)
            assert (await _share(two, 30)).granted == 0
            assert (await _share(one, 60, have=100, held=60)).granted == 60
            assert (await _share(two, 50)).granted == 40
            assert (await _share(one, 100, have=60, held=60)).totals.calls == 2

    async def test_what_is_in_use_counts_whatever_was_granted(self) -> None:
        async with self.opened() as store:
            one, two = Borrower(store, "w1"), Borrower(store, "w2")
            await _share(one, 80)
            grant = await _share(one, 80, have=80, held=110)
            assert (grant.granted, grant.totals.granted, grant.totals.held) == (110, 110, 110)
            assert (await _share(two, 5)).granted == 0
            assert (await _share(one, 50, have=110, held=50)).granted == 50
            assert (await _share(two, 60)).granted == 50

    async def test_the_limit_of_a_rate_is_the_askers(self) -> None:
        async with self.opened() as store:
            one, two = Borrower(store, "w1"), Borrower(store, "w2")
            await _share(one, 100)
            assert (await _share(one, 100, have=100, held=10, limit=40)).granted == 40
            assert (await _share(two, 40, limit=60)).granted == 20
            assert (await _share(two, 60, have=20, held=20, limit=30)).granted == 20, "what is in use stays"

    async def test_a_share_of_nothing_leaves_no_row_and_can_be_taken_again(self) -> None:
        async with self.opened() as store:
            one = Borrower(store, "w1")
            for line_id in (RPM, SLOTS, *[rate_id(text, 60) for text in AWKWARD_TEXTS]):
                assert (await _share(one, 60, line_id)).granted == 60
                assert (await totals_of(store, line_id, 0)).granted == 60
                ask = one.ask(0, budget_id=line_id, window=0, oldest=_LONG_AGO, limit=100, have=60)
                for _ in range(2):
                    (grant,) = (await one.call(ask)).grants
                    assert (grant.granted, grant.totals.granted) == (0, 0)
                    assert await store.load_windows([(line_id, 0, _FAR_AHEAD)]) == []
                assert (await _share(one, 10, line_id)).granted == 10

    async def test_a_rate_tells_from_when_on_something_is_in_use(self) -> None:
        async with self.opened() as store:
            one, two = Borrower(store, "w1"), Borrower(store, "w2")
            told = [
                (await _share(one, 9, held=1, since=WINDOW + 5, oldest=WINDOW)).totals.since,
                (await _share(two, 9, held=1, since=WINDOW + 9, oldest=WINDOW)).totals.since,
                (await _share(two, 9, held=1, since=WINDOW + 3, oldest=WINDOW)).totals.since,
                (await _share(one, 9, oldest=WINDOW)).totals.since,
                (await _share(one, 9, held=1, since=WINDOW + 8, oldest=WINDOW + 4)).totals.since,
            ]
            assert told == [WINDOW + 5, WINDOW + 5, WINDOW + 3, WINDOW + 3, WINDOW + 8]

    async def test_a_dead_workers_share_counts_for_one_more_period(self) -> None:
        async with self.opened() as store, self.beside(store) as other:
            dead, heir = Borrower(store, "w1"), Borrower(other, "w2")
            await _share(dead, 70, held=30)
            await _share(heir, 20, held=2)
            before = await store.changes(None, 0)
            assert await store.recover_worker("w1", {("b", WINDOW): Legacy(0, 0)}) == 0, "nothing of money"
            heard = await store.changes(before.cursor, 5)
            assert [(one.kind, one.entity_id) for one in heard.changes] == [("lease", RPM)]
            grant = await _share(heir, 60, have=20)
            assert (grant.granted, grant.counted) == (30, (70, 70))
            assert (grant.totals.granted, grant.totals.held) == (30, 0)
            grant = await _share(heir, 100, have=30, oldest=_FAR_AHEAD)
            assert (grant.granted, grant.counted) == (100, (0, 0)), "after its period it is free"

    async def test_two_that_die_at_once_leave_the_sum_of_their_shares(self) -> None:
        async with self.opened() as store:
            for name in ("w1", "w2", "w3"):
                await _share(Borrower(store, name, ttl_s=0.0), 20)
            for name in ("w1", "w2", "w3"):
                assert await store.recover_worker(name, None) == 0
            assert (await _share(Borrower(store, "w4"), 100)).granted == 40
            assert await lines_of(store, RPM) == []

    async def test_a_dead_workers_places_under_way_are_free_at_once(self) -> None:
        async with self.opened() as store:
            await _share(Borrower(store, "w1"), 4, SLOTS, limit=4, held=4)
            two = Borrower(store, "w2")
            assert (await _share(two, 1, SLOTS, limit=4)).granted == 0
            await store.recover_worker("w1", {})
            assert await store.load_windows([(SLOTS, 0, _FAR_AHEAD)]) == []
            assert (await _share(two, 4, SLOTS, limit=4)).granted == 4

    async def test_many_workers_at_once_never_have_more_of_a_rate_than_its_limit(self) -> None:
        async with self.opened() as store, self.beside(store) as other:

            async def live(number: int) -> int:
                one, have = Borrower((store, other)[number % 2], f"w{number}"), 0
                for step in range(8):
                    wanted = (number * 7 + step * 5) % 23
                    grant = await _share(one, wanted, have=have, held=min(have, wanted) // 2)
                    assert grant.totals.granted <= 100
                    have = grant.granted
                return have

            shares = await asyncio.gather(*(live(number) for number in range(12)))
            assert (await totals_of(store, RPM, 0)).granted == sum(shares) <= 100
