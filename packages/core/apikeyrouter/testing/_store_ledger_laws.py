"""Laws of leases: what a store grants, counts and tells of money.

Main entry: `LedgerLaws`, a part of `StoreConformance`. Laws: the grants of a hard budget never exceed its limit, but
for what is a fact already (overruns, grants that the store forgot); a repeated ask and a late one change nothing.
"""

from __future__ import annotations

import asyncio

from apikeyrouter.domain.interfaces.shared_ledger import Legacy
from apikeyrouter.testing._store_suite import AWKWARD_TEXTS, StoreSuite
from apikeyrouter.testing.store_borrower import WINDOW, Borrower, assert_exact, lines_of, put_budget, totals_of

__all__ = ["LedgerLaws"]

_DAY = 86_400


class LedgerLaws(StoreSuite):
    """Leases: grants, repeated and late asks, windows, alerts, calls."""

    # Grants

    async def test_a_slice_is_granted_while_there_is_room_and_counts_against_the_limit(self) -> None:
        async with self.opened() as store:
            await put_budget(store, limit=100)
            one, two = Borrower(store, "w1"), Borrower(store, "w2")
            first = await one.lease(60, held=5)
            assert (first.budget_id, first.window, first.granted, first.limit) == ("b", WINDOW, 60, 100)
            assert (first.gone, first.crossed, first.counted) == (False, (), (0, 0))
            second = await two.lease(60)
            assert second.granted == 40
            assert second.totals == await totals_of(store)
            assert (second.totals.granted, second.totals.held, second.totals.spent) == (100, 5, 0)
            async with self.reopened(store) as later:
                assert (await totals_of(later)).granted == 100
                assert (await Borrower(later, "w3").lease(1)).granted == 0

    async def test_what_one_worker_returns_another_can_have(self) -> None:
        async with self.opened() as store:
            await put_budget(store, limit=100)
            one, two = Borrower(store, "w1"), Borrower(store, "w2")
            await one.lease(100)
            assert (await two.lease(30)).granted == 0
            assert (await one.lease(70, have=100, spent=10)).granted == 70
            assert (await two.lease(50)).granted == 30

    async def test_a_slice_grows_to_least_or_not_at_all(self) -> None:
        async with self.opened() as store:
            await put_budget(store, limit=100)
            await Borrower(store, "w1").lease(60)
            two = Borrower(store, "w2")
            assert (await two.lease(60, least=41)).granted == 0
            assert (await two.lease(60, least=40)).granted == 40
            await two.lease(30, have=40, spent=10)
            grant = await two.lease(90, have=30, spent=10, held=5, least=80)
            assert (grant.granted, grant.totals.granted) == (15, 75), "what is too little goes back for others to use"

    async def test_what_is_spent_cannot_be_granted_again(self) -> None:
        async with self.opened() as store:
            await put_budget(store, limit=100)
            one = Borrower(store, "w1")
            await one.lease(80)
            grant = await one.lease(80, have=80, spent=80)
            assert (grant.granted, grant.totals.spent) == (80, 80)
            assert (await Borrower(store, "w2").lease(100)).granted == 20

    async def test_an_overrun_is_counted_as_it_happened(self) -> None:
        async with self.opened() as store:
            await put_budget(store, limit=100)
            one = Borrower(store, "w1")
            await one.lease(100)
            grant = await one.lease(100, have=100, spent=130, overrun=30)
            assert (grant.granted, grant.totals.spent, grant.totals.overrun) == (130, 130, 30)
            assert (await Borrower(store, "w2").lease(1)).granted == 0
            await assert_exact(store)

    async def test_a_soft_budget_grants_everything_and_counts(self) -> None:
        async with self.opened() as store:
            await put_budget(store, limit=100, mode="soft")
            grant = await Borrower(store, "w1").lease(500, spent=300, held=200)
            assert (grant.granted, grant.limit, grant.totals.spent) == (500, None, 300)

    async def test_a_limit_that_was_edited_counts_from_the_next_ask_on(self) -> None:
        async with self.opened() as store:
            await put_budget(store, limit=100)
            one = Borrower(store, "w1")
            assert (await one.lease(200)).granted == 100
            await put_budget(store, limit=150)
            grant = await one.lease(200, have=100)
            assert (grant.granted, grant.limit) == (150, 150)
            await put_budget(store, limit=50)
            grant = await one.lease(200, have=150, spent=40, held=30)
            assert grant.granted == 70, "what running requests hold stays, the rest goes back"
            assert (await one.lease(200, have=70, spent=40)).granted == 50
            assert (await Borrower(store, "w2").lease(1)).granted == 0
            await put_budget(store, limit=50, mode="soft")
            assert (await Borrower(store, "w2").lease(1, seq=9)).granted == 1

    async def test_a_budget_that_is_unknown_or_deleted_is_gone_and_the_others_of_the_call_are_not(self) -> None:
        async with self.opened() as store:
            await put_budget(store)
            await put_budget(store, "deleted", status="deleted")
            one = Borrower(store)
            reply = await one.call(
                one.ask(10, budget_id="unknown"), one.ask(10), one.ask(10, budget_id="deleted", spent=5)
            )
            assert [grant.gone for grant in reply.grants] == [True, False, True]
            assert [grant.granted for grant in reply.grants] == [0, 10, 0]
            assert [grant.budget_id for grant in reply.grants] == ["unknown", "b", "deleted"]
            assert await lines_of(store, "deleted") == []
            assert await store.load_windows([("deleted", 0, 2 * WINDOW)]) == []

    async def test_asks_of_one_call_are_answered_one_after_the_other(self) -> None:
        async with self.opened() as store:
            await put_budget(store, limit=100)
            one = Borrower(store)
            reply = await one.call(
                one.ask(70), one.ask(50, window=WINDOW + _DAY), one.ask(80, have=70, spent=5), one.ask(120, have=80)
            )
            assert [grant.granted for grant in reply.grants] == [70, 50, 80, 100]
            assert [grant.totals.granted for grant in reply.grants] == [70, 50, 80, 100]

    async def test_a_call_without_asks_is_a_sign_of_life(self) -> None:
        async with self.opened() as store:
            reply = await Borrower(store, "w1").call()
            assert (reply.grants, reply.fenced, reply.workers) == ([], False, 1)
            assert [row.worker_id for row in await store.list_workers()] == ["w1"]

    async def test_awkward_ids_of_budgets_and_workers_are_ids_and_nothing_else(self) -> None:
        async with self.opened() as store:
            for text in AWKWARD_TEXTS:
                await put_budget(store, text, limit=100)
                grant = await Borrower(store, text).lease(60, budget_id=text, spent=7)
                assert (grant.budget_id, grant.granted) == (text, 60)
            for text in AWKWARD_TEXTS:
                assert (await Borrower(store, "other").lease(100, budget_id=text)).granted == 40
                assert await lines_of(store, text) == [(text, "spent", 7)]
                assert (await assert_exact(store, text)).spent == 7
            assert [row.worker_id for row in await store.list_workers()] == [*AWKWARD_TEXTS, "other"]

    async def test_amounts_of_millions_of_dollars_are_exact_to_the_nano_dollar(self) -> None:
        most = 2**53 - 1  # $9 million: what a store that counts in doubles can still tell apart
        async with self.opened() as store:
            await put_budget(store, limit=most)
            one, two = Borrower(store, "w1"), Borrower(store, "w2")
            assert (await one.lease(most - 1, spent=most - 2)).granted == most - 1
            assert (await two.lease(5, spent=1)).granted == 1
            totals = await assert_exact(store)
            assert (totals.spent, totals.granted) == (most - 1, most)

    # Repeated and late asks, lost writes

    async def test_the_same_ask_twice_changes_nothing(self) -> None:
        async with self.opened() as store:
            await put_budget(store, limit=100)
            one, two = Borrower(store, "w1"), Borrower(store, "w2")
            await two.lease(60)
            for ask in (one.ask(70, spent=20, held=3), one.ask(90, spent=25, held=1, have=40, overrun=2)):
                first = (await one.call(ask)).grants[0]
                lines = await lines_of(store)
                again = (await one.call(ask)).grants[0]
                assert (again.granted, again.totals, again.crossed) == (first.granted, first.totals, ())
                assert await lines_of(store) == lines
                assert await assert_exact(store) == first.totals

    async def test_an_older_ask_that_arrives_late_changes_nothing(self) -> None:
        async with self.opened() as store:
            await put_budget(store, limit=100)
            one = Borrower(store)
            old, new = one.ask(90, spent=10, held=50), one.ask(60, spent=30, have=90)
            before = (await one.call(new)).grants[0]
            late = (await one.call(old)).grants[0]
            assert (late.granted, late.totals) == (60, before.totals)
            assert await lines_of(store) == [("w1", "spent", 30)]

    async def test_spend_never_falls(self) -> None:
        async with self.opened() as store:
            await put_budget(store, limit=100)
            one = Borrower(store)
            await one.lease(50, spent=30, overrun=4)
            grant = await one.lease(50, spent=20, overrun=3)
            assert (grant.totals.spent, grant.totals.overrun) == (30, 4)
            assert await lines_of(store) == [("w1", "spent", 30)]

    async def test_a_store_that_forgot_a_grant_takes_it_back_from_who_has_it(self) -> None:
        async with self.opened() as store:
            await put_budget(store, limit=100)
            await Borrower(store, "w1").lease(80)
            two, three = Borrower(store, "w2"), Borrower(store, "w3")
            grant = await two.lease(50, have=40, spent=15, held=9)
            assert (grant.granted, grant.totals.granted) == (24, 104), "what was spent and is held is a fact"
            assert (await three.lease(1)).granted == 0
            await two.lease(0, spent=15, have=24)
            assert (await three.lease(5, have=3)).granted == 5, "and more comes from the limit, as ever"

    # Windows

    async def test_calendar_windows_count_alone(self) -> None:
        async with self.opened() as store:
            await put_budget(store, limit=100)
            one = Borrower(store)
            for day in (-1, 0, 1):
                grant = await one.lease(100, window=WINDOW + day * _DAY, spent=60 + day)
                assert (grant.granted, grant.counted, grant.totals.spent) == (100, (0, 0), 60 + day)
            found = await store.load_windows([("b", WINDOW, WINDOW + _DAY), ("nobody", 0, 2 * WINDOW)])
            assert sorted((one.window, one.spent) for one in found) == [(WINDOW, 60), (WINDOW + _DAY, 61)]
            found = await store.load_windows([("b", 0, WINDOW - 1), ("b", WINDOW + _DAY, WINDOW + _DAY)])
            assert sorted(one.spent for one in found) == [59, 61]
            assert await store.load_windows([]) == []

    async def test_rolling_windows_count_together_from_the_oldest_on(self) -> None:
        hour = 3_600
        async with self.opened() as store:
            await put_budget(store, limit=100, rolling=True)
            one, two = Borrower(store, "w1"), Borrower(store, "w2")
            await one.lease(20, window=WINDOW - 3 * hour, oldest=WINDOW - 5 * hour, spent=20)
            await one.lease(30, window=WINDOW - 2 * hour, oldest=WINDOW - 4 * hour, spent=10)
            grant = await two.lease(100, window=WINDOW, oldest=WINDOW - 2 * hour, spent=5)
            assert (grant.granted, grant.counted, grant.totals.granted) == (70, (10, 30), 70)
            grant = await one.lease(100, window=WINDOW, oldest=WINDOW - 3 * hour)
            assert (grant.granted, grant.counted) == (0, (30, 50))
            grant = await one.lease(100, window=WINDOW + hour, oldest=WINDOW - hour)
            assert (grant.granted, grant.counted) == (30, (5, 70))

    async def test_a_late_ask_for_an_earlier_rolling_window_counts_what_came_after(self) -> None:
        hour = 3_600
        async with self.opened() as store:
            await put_budget(store, limit=100, rolling=True)
            await Borrower(store, "w1").lease(90, window=WINDOW + hour, oldest=WINDOW - hour)
            assert (await Borrower(store, "w2").lease(90, window=WINDOW, oldest=WINDOW - 2 * hour)).granted == 10

    # Alerts and calls

    async def test_each_alert_percentage_is_told_once(self) -> None:
        async with self.opened() as store:
            await put_budget(store, limit=1_000)
            one = Borrower(store)
            told = [(await one.lease(1_000, spent=spent)).crossed for spent in (499, 500, 501, 949, 950, 999, 1_000)]
            assert told == [(), (50,), (), (80,), (95,), (), (100,)]
            other = await Borrower(store, "w2").lease(1_000, window=WINDOW + _DAY, spent=810)
            assert other.crossed == (50, 80), "a new window tells anew"

    async def test_alerts_follow_what_recoveries_charged_and_what_the_limit_became(self) -> None:
        async with self.opened() as store:
            await put_budget(store, limit=1_000)
            await Borrower(store, "dead").lease(600)
            await store.recover_worker("dead", {("b", WINDOW): Legacy(550, 0)})
            one = Borrower(store)
            assert (await one.lease(10)).crossed == (50,), "the first to ask is told"
            await put_budget(store, limit=680)
            assert (await one.lease(10)).crossed == (80,)
            await put_budget(store, limit=575)
            assert (await one.lease(10, have=10, spent=1)).crossed == (95,)

    async def test_a_rolling_budget_tells_a_percentage_once_and_not_with_every_window(self) -> None:
        async with self.opened() as store:
            await put_budget(store, limit=1_000, rolling=True)
            one, told = Borrower(store), list[tuple[int, ...]]()
            for hour, spent in ((0, 300), (1, 250), (2, 10), (2, 20), (3, 250), (1, 251), (4, 200), (5, 1)):
                start = WINDOW + 3_600 * hour
                told.append((await one.lease(0, window=start, oldest=start - 5 * 3_600, spent=spent)).crossed)
            assert told == [(), (50,), (), (), (80,), (), (95, 100), ()]

    async def test_workers_at_once_are_told_each_alert_percentage_once_in_all(self) -> None:
        async with self.opened() as store:
            await put_budget(store, limit=1_600)

            async def spend(number: int) -> list[int]:
                worker, told = Borrower(store, f"w{number}"), list[int]()
                for spent in range(10, 101, 10):
                    told += (await worker.lease(spent, spent=spent, have=spent - 10)).crossed
                return told

            told = await asyncio.gather(*(spend(number) for number in range(16)))
            assert sorted(percent for one in told for percent in one) == [50, 80, 95, 100]
            assert (await assert_exact(store)).spent == 1_600

    async def test_who_finds_no_room_while_others_are_idle_calls_and_everybody_hears(self) -> None:
        async with self.opened() as store:
            await put_budget(store, limit=100)
            one, two = Borrower(store, "w1"), Borrower(store, "w2")
            await one.lease(100, held=100)
            before = await store.changes(None, 0)
            assert (await two.lease(10)).totals.calls == 0, "all of it is needed"
            assert [one for one in (await store.changes(before.cursor, 0)).changes if one.kind == "lease"] == []
            await one.lease(100, held=40, have=100)
            assert (await two.lease(10)).totals.calls == 1
            heard = await store.changes(before.cursor, 5)
            assert [(one.kind, one.entity_id) for one in heard.changes] == [("lease", "b")]
            assert (await one.lease(100, held=40, have=100)).totals.calls == 1
            assert (await one.lease(120, held=40, have=100)).totals.calls == 1, "one's own idle money is no reason"
            await put_budget(store, limit=200)
            assert (await two.lease(10)).totals.calls == 1, "there was room"
