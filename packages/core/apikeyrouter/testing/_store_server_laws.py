"""Laws of a store behind a server: what becomes of promises when the server is killed.

Main entry: `ServerLaws`, a part of `StoreConformance`. It runs where `kill_server` and `restart_server` are overridden.
Laws: what a call returned has happened, kill -9 or not; while the server is down every call fails with a
StateStoreError within a bounded time; when it is back the same object goes on.
"""

from __future__ import annotations

import asyncio

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.state_store import StateStore, StoreBatch
from apikeyrouter.domain.models.health_state import HealthStatus
from apikeyrouter.testing._store_suite import StoreSuite, refused
from apikeyrouter.testing.store_borrower import Borrower, assert_exact, put_budget, totals_of
from apikeyrouter.testing.store_rows import key_row

__all__ = ["ServerLaws"]

_DOWN_S = 15.0
"""A call to a server that is down must have failed after so many seconds."""


async def _until_back(store: StateStore) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await store.load_keys()
            except StateStoreError:
                await asyncio.sleep(0)
            else:
                return


class ServerLaws(StoreSuite):
    """Killed and restarted servers."""

    async def test_what_was_granted_is_counted_after_the_server_was_killed(self) -> None:
        if not self.has_server:
            return
        async with self.opened() as store:
            await put_budget(store, limit=100)
            one = Borrower(store, "w1")
            assert (await one.lease(60, spent=10)).granted == 60
            await self.kill_server()
            await self.restart_server()
            await _until_back(store)
            assert (await assert_exact(store)).granted == 60
            assert (await Borrower(store, "w2").lease(100)).granted == 40
            assert (await one.lease(60, spent=20, have=60)).totals.spent == 20

    async def test_while_the_server_is_down_every_call_is_refused_in_bounded_time(self) -> None:
        if not self.has_server:
            return
        async with self.opened() as store:
            await put_budget(store)
            cursor = (await store.changes(None, 0)).cursor
            waiting = asyncio.ensure_future(store.changes(cursor, 600))
            await asyncio.sleep(0)
            await self.kill_server()
            async with asyncio.timeout(_DOWN_S):
                await refused(waiting)
            for call in (
                Borrower(store).lease(10),
                store.recover_worker("w1", None),
                store.apply(StoreBatch(keys=[key_row("k")])),
                store.load_keys(),
                store.changes(cursor, 600),
            ):
                async with asyncio.timeout(_DOWN_S):
                    await refused(call)
            async with asyncio.timeout(_DOWN_S):
                assert (await store.health_check()).status is HealthStatus.Down
            await self.restart_server()
            await _until_back(store)
            assert (await Borrower(store).lease(10)).granted == 10
            assert (await store.health_check()).status is not HealthStatus.Down

    async def test_calls_that_a_kill_interrupts_have_happened_or_not_and_the_books_balance(self) -> None:
        if not self.has_server:
            return
        async with self.opened() as store:
            await put_budget(store, limit=100_000)
            told = dict.fromkeys(range(8), (0, 0))

            async def spend(number: int) -> None:
                worker = Borrower(store, f"w{number}")
                for spent in range(10_000):
                    told[number] = (spent, (await worker.lease(spent + 1, spent=spent, have=spent)).granted)

            spending = [asyncio.ensure_future(spend(number)) for number in range(8)]
            while sum(spent for spent, _ in told.values()) < 40:  # noqa: ASYNC110 - a moment that no clock decides
                await asyncio.sleep(0)
            await self.kill_server()
            outcomes = await asyncio.gather(*spending, return_exceptions=True)
            assert all(isinstance(one, StateStoreError) for one in outcomes)
            await self.restart_server()
            await _until_back(store)
            totals = await assert_exact(store)
            assert sum(spent for spent, _ in told.values()) <= totals.spent
            assert sum(granted for _, granted in told.values()) <= (await totals_of(store)).granted
            for number, (spent, granted) in told.items():
                final = await Borrower(store, f"w{number}").lease(0, seq=20_000, spent=spent + 1, have=granted)
                assert final.granted == spent + 1
            totals = await assert_exact(store)
            assert totals.spent == totals.granted == sum(spent + 1 for spent, _ in told.values())
