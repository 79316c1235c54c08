"""The laws of `StateStore` as tests: a store that passes them can stand behind a router.

Main entry: `StoreConformance`. Derive a class from it, say how to make your store, and run it with pytest and
pytest-asyncio (`asyncio_mode = "auto"`), or call its `test_` coroutines yourself:

    class TestMyStore(StoreConformance):
        @pytest.fixture(autouse=True)
        def _place(self, tmp_path):
            self.path = tmp_path / "state.db"

        def make_store(self, **limits):
            return MyStore(self.path, **limits)

Law of the suite: it uses nothing but the protocol, so it holds for stores that we have never seen. Of the details of a
health check it reads two counts: `failed_posts` (batches) and `dropped_decisions` (rows).
"""

from __future__ import annotations

import asyncio
from datetime import UTC

from apikeyrouter.domain.interfaces.state_store import StateQuery, StateStore, StoreBatch
from apikeyrouter.domain.models.health_state import HealthStatus
from apikeyrouter.testing._store_book_laws import BookLaws
from apikeyrouter.testing._store_change_laws import ChangeLaws
from apikeyrouter.testing._store_ledger_laws import LedgerLaws
from apikeyrouter.testing._store_log_laws import LogLaws
from apikeyrouter.testing._store_rate_laws import RateLaws
from apikeyrouter.testing._store_row_laws import RowLaws
from apikeyrouter.testing._store_server_laws import ServerLaws
from apikeyrouter.testing._store_suite import refused
from apikeyrouter.testing._store_usage_laws import UsageLaws
from apikeyrouter.testing._store_worker_laws import WorkerLaws
from apikeyrouter.testing.store_rows import budget_row, decision_row, event_row, key_row, virtual_key_row

__all__ = ["StoreConformance"]


class _NotJson:
    """Something that no document can hold."""


async def _key_ids(store: StateStore) -> list[str]:
    return [row.key_id for row in await store.load_keys()]


class StoreConformance(RowLaws, LogLaws, LedgerLaws, RateLaws, BookLaws, WorkerLaws, ChangeLaws, UsageLaws, ServerLaws):
    """Every law of `StateStore`: rows, logs, money, rates, workers, changes, usage, killed servers (its bases),
    batches, posts, opening and closing, concurrency. For a store behind a server override `kill_server` and
    `restart_server`."""

    # Opening and closing

    async def test_a_description_says_what_and_where(self) -> None:
        async with self.opened() as store:
            assert store.description
            assert isinstance(store.persistent, bool)

    async def test_opening_and_closing_twice_is_harmless(self) -> None:
        async with self.opened() as store:
            await store.open()
            await store.apply(StoreBatch(keys=[key_row("a")]))
            await store.open()
            assert await _key_ids(store) == ["a"]
            await store.close()
            await store.close()

    async def test_closing_what_was_never_opened_is_harmless(self) -> None:
        await self.make_store().close()

    async def test_every_call_opens_the_store_by_itself(self) -> None:
        store = self.make_store()
        try:
            assert await store.put_setting("name", b"value") == b"value"
        finally:
            await store.close()

    async def test_a_post_opens_the_store_by_itself(self) -> None:
        store = self.make_store()
        try:
            store.post(StoreBatch(keys=[key_row("a")]))
            await store.flush()
            assert await _key_ids(store) == ["a"]
        finally:
            await store.close()

    async def test_a_closed_store_can_be_used_again(self) -> None:
        async with self.opened() as store:
            await store.apply(StoreBatch(keys=[key_row("a", at_s=1)]))
            await store.close()
            store.post(StoreBatch(keys=[key_row("b", at_s=2)]))
            assert await _key_ids(store) == ["a", "b"]

    async def test_what_was_applied_or_posted_is_there_after_closing(self) -> None:
        async with self.opened() as store:
            await store.apply(StoreBatch(keys=[key_row("a", at_s=1)], budgets=[budget_row("b")]))
            await store.save_virtual_key(virtual_key_row("v"))
            store.post(StoreBatch(keys=[key_row("z", at_s=2)], decisions=[decision_row("d")]))
            async with self.reopened(store) as later:
                assert await _key_ids(later) == ["a", "z"]
                assert await later.load_budgets() == [budget_row("b")]
                assert await later.load_virtual_keys() == [virtual_key_row("v")]
                assert await later.get_decision("d") == decision_row("d")

    async def test_two_objects_of_a_persistent_store_see_each_others_writes(self) -> None:
        async with self.opened() as one:
            if not one.persistent:
                return
            async with self.opened() as other:
                await one.apply(StoreBatch(keys=[key_row("a", at_s=1)]))
                assert await _key_ids(other) == ["a"]
                await other.apply(StoreBatch(keys=[key_row("b", at_s=2)]))
                assert await _key_ids(one) == ["a", "b"]
                salts = await asyncio.gather(
                    *(
                        store.put_setting("salt", b"of %d" % n, only_if_absent=True)
                        for n, store in enumerate([one, other])
                    )
                )
                assert salts[0] == salts[1]

    async def test_a_healthy_store_says_so(self) -> None:
        async with self.opened() as store:
            health = await store.health_check()
            assert health.status is HealthStatus.Healthy
            assert health.last_check.tzinfo is UTC
            assert health.latency_ms is not None
            assert health.latency_ms >= 0

    # Batches

    async def test_an_empty_batch_is_fine(self) -> None:
        async with self.opened() as store:
            await store.apply(StoreBatch())
            store.post(StoreBatch())
            await store.flush()

    async def test_a_batch_is_written_wholly(self) -> None:
        batch = StoreBatch([key_row("k")], [budget_row("b")], [event_row(1)], [decision_row("d")])
        async with self.opened() as store:
            await store.apply(batch)
            assert await store.load_keys() == batch.keys
            assert await store.load_budgets() == batch.budgets
            assert await store.query_events(StateQuery("key.transition")) == batch.events
            assert await store.get_decision("d") == decision_row("d")

    async def test_a_batch_that_cannot_be_written_leaves_nothing_behind(self) -> None:
        unstorable = [event_row(1, entity_id="good"), event_row(2, thing=_NotJson())]
        async with self.opened() as store:
            await store.apply(StoreBatch(keys=[key_row("a", version=1)]))
            await refused(
                store.apply(
                    StoreBatch(
                        [key_row("a", version=2), key_row("b")], [budget_row("x")], unstorable, [decision_row("d")]
                    )
                )
            )
            assert [row.version for row in await store.load_keys()] == [1]
            assert await store.load_budgets() == []
            assert await store.query_events(StateQuery("key.transition")) == []
            assert await store.get_decision("d") is None
            await store.apply(StoreBatch(keys=[key_row("b", at_s=2_000)]))
            assert await _key_ids(store) == ["a", "b"]

    # Posts

    async def test_every_later_call_sees_what_was_posted(self) -> None:
        async with self.opened() as store:
            store.post(StoreBatch(keys=[key_row("k")]))
            assert await _key_ids(store) == ["k"]
            store.post(StoreBatch(budgets=[budget_row("b")]))
            assert len(await store.load_budgets()) == 1
            store.post(StoreBatch(events=[event_row(1)]))
            assert len(await store.query_state(StateQuery("StateTransition"))) == 1
            store.post(StoreBatch(decisions=[decision_row("d")]))
            assert await store.get_decision("d") is not None
            store.post(StoreBatch(keys=[key_row("k", state="disabled")]))
            assert [key.state for key in await store.list_keys()] == ["disabled"]
            store.post(StoreBatch(keys=[key_row("gone")]))
            await store.delete_key("gone")
            assert await _key_ids(store) == ["k"]

    async def test_posts_and_applies_keep_their_order(self) -> None:
        async with self.opened() as store:
            for version in range(1, 100):
                if version % 7:
                    store.post(StoreBatch(keys=[key_row("a", version=version)], events=[event_row(0, version=version)]))
                else:
                    await store.apply(
                        StoreBatch(keys=[key_row("a", version=version)], events=[event_row(0, version=version)])
                    )
            assert [row.version for row in await store.load_keys()] == [99]
            events = await store.query_events(StateQuery("key.transition"))
            assert [event.document["version"] for event in events] == list(range(99, 0, -1))

    async def test_a_post_that_cannot_be_stored_is_told_by_flush_once_and_harms_no_other(self) -> None:
        async with self.opened() as store:
            store.post(StoreBatch(keys=[key_row("before", at_s=1)]))
            store.post(StoreBatch(keys=[key_row("lost", document={"thing": _NotJson()})]))
            store.post(StoreBatch(keys=[key_row("after", at_s=2)]))
            assert await _key_ids(store) == ["before", "after"]
            await refused(store.flush())
            await store.flush()

    async def test_health_is_degraded_while_the_last_post_failed_and_counts_the_failures(self) -> None:
        async with self.opened() as store:
            for _ in range(3):
                store.post(StoreBatch(keys=[key_row("lost", document={"thing": _NotJson()})]))
            health = await store.health_check()
            assert (health.status, health.details["failed_posts"]) == (HealthStatus.Degraded, 3)
            await refused(store.flush())
            store.post(StoreBatch(keys=[key_row("fine")]))
            health = await store.health_check()
            assert (health.status, health.details["failed_posts"]) == (HealthStatus.Healthy, 3)
            assert health.details["dropped_decisions"] == 0

    async def test_many_posts_in_one_go_all_arrive(self) -> None:
        async with self.opened() as store:
            for number in range(3_000):
                store.post(StoreBatch(events=[event_row(number)]))
            await store.flush()
            found = await store.query_events(StateQuery("key.transition", limit=5_000))
            assert [event.at_s for event in found] == list(range(2_999, -1, -1))

    # Concurrency

    async def test_64_tasks_lose_nothing_and_each_sees_its_own_writes(self) -> None:
        async with self.opened() as store:

            async def worker(number: int) -> None:
                for step in range(5):
                    name = f"key_{number}_{step}"
                    batch = StoreBatch(keys=[key_row(name)], events=[event_row(step, entity_id=name)])
                    if (number + step) % 2:
                        store.post(batch)
                    else:
                        await store.apply(batch)
                    query = StateQuery("StateTransition", entity_id=name)
                    assert len(await store.query_events(query)) == 1

            await asyncio.gather(*(worker(number) for number in range(64)))
            assert sorted(await _key_ids(store)) == sorted(f"key_{n}_{step}" for n in range(64) for step in range(5))

    async def test_readers_never_see_half_a_batch(self) -> None:
        async with self.opened() as store:
            done = asyncio.Event()

            async def writer() -> None:
                for version in range(1, 101):
                    rows = [key_row(name, version=version) for name in "abcdefgh"]
                    if version % 2:
                        store.post(StoreBatch(keys=rows))
                        await asyncio.sleep(0)
                    else:
                        await store.apply(StoreBatch(keys=rows))
                done.set()

            async def reader() -> int:
                looks = 0
                while not done.is_set():
                    assert len({row.version for row in await store.load_keys()}) <= 1
                    looks += 1
                    await asyncio.sleep(0)
                return looks

            _, *looks = await asyncio.gather(writer(), reader(), reader())
            assert sum(looks) > 0

    async def test_a_cancelled_call_leaves_the_store_usable(self) -> None:
        async with self.opened() as store:
            task = asyncio.create_task(store.apply(StoreBatch(keys=[key_row("a"), key_row("b")])))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await store.apply(StoreBatch(keys=[key_row("c")]))
            assert await _key_ids(store) in (["c"], ["a", "b", "c"])
