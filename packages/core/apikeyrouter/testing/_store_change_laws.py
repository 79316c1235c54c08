"""Laws of changes: what one process did, the others hear of, soon and completely.

Main entry: `ChangeLaws`, a part of `StoreConformance`. Laws: nothing that is published is missed by who goes on from
its last cursor, or `lost` says so; what other processes need not know (counters, usage, logs) is not published.
"""

from __future__ import annotations

import asyncio

from apikeyrouter.domain.interfaces.shared_ledger import Change
from apikeyrouter.domain.interfaces.state_store import StateStore, StoreBatch
from apikeyrouter.testing._store_suite import StoreSuite
from apikeyrouter.testing.store_rows import budget_row, decision_row, event_row, key_row, usage_row, virtual_key_row

__all__ = ["ChangeLaws"]

_SOON_S = 0.2
"""Within so many seconds of a change, who waits for it is told."""


async def _heard(store: StateStore, cursor: int) -> set[tuple[str, str]]:
    """Everything since `cursor` as (kind, id); waits for nothing."""
    found = await store.changes(cursor, 0)
    assert not found.lost
    return {(change.kind, change.entity_id) for change in found.changes}


class ChangeLaws(StoreSuite):
    """What is published, when it arrives, what happens to who is late; and the revisions of keys."""

    async def test_who_has_no_cursor_is_given_one_and_waits_for_nothing(self) -> None:
        async with self.opened() as store:
            await store.apply(StoreBatch(keys=[key_row("a")]))
            async with asyncio.timeout(5):
                first = await store.changes(None, 60)
            assert (list(first.changes), first.lost) == ([], False)
            assert await store.changes(first.cursor, 0) == first

    async def test_keys_budgets_virtual_keys_settings_and_deletions_are_published(self) -> None:
        async with self.opened() as store, self.beside(store) as other:
            start = (await other.changes(None, 0)).cursor
            await store.apply(StoreBatch(keys=[key_row("k1"), key_row("k2")], budgets=[budget_row("b")]))
            await store.save_virtual_key(virtual_key_row("v"))
            await store.put_setting("s", b"1")
            everything = {("key", "k1"), ("key", "k2"), ("budget", "b"), ("virtual_key", "v"), ("setting", "s")}
            assert await _heard(other, start) == everything
            middle = (await other.changes(start, 0)).cursor
            await store.delete_key("k1")
            await store.apply(StoreBatch(budgets=[budget_row("b", status="deleted")]))
            assert await _heard(other, middle) == {("key", "k1"), ("budget", "b")}
            assert await _heard(other, start) == everything, "an earlier cursor hears it all again"
            assert await _heard(store, middle) == {("key", "k1"), ("budget", "b")}, "so does who has done it"

    async def test_a_key_is_published_when_its_revision_has_grown(self) -> None:
        async with self.opened() as store:
            await store.apply(StoreBatch(keys=[key_row("k", revision=3)]))
            start = (await store.changes(None, 0)).cursor
            await store.apply(StoreBatch(keys=[key_row("k", revision=3, document={"used": 1})]))
            assert await _heard(store, start) == set()
            await store.apply(StoreBatch(keys=[key_row("k", revision=4)]))
            assert await _heard(store, start) == {("key", "k")}

    async def test_a_key_row_of_an_earlier_revision_is_ignored(self) -> None:
        async with self.opened() as store, self.beside(store) as other:
            await store.apply(StoreBatch(keys=[key_row("k", revision=3, state="disabled")]))
            start = (await store.changes(None, 0)).cursor
            await other.apply(StoreBatch(keys=[key_row("k", revision=2), key_row("new")], events=[event_row(1)]))
            assert [(row.key_id, row.state, row.revision) for row in await store.load_keys()] == [
                ("k", "disabled", 3),
                ("new", "available", 0),
            ]
            assert await _heard(store, start) == {("key", "new")}
            await other.apply(StoreBatch(keys=[key_row("k", revision=3, version=8)]))
            assert [(row.state, row.version) for row in await store.load_keys()] == [("available", 8), ("available", 1)]
            batch = StoreBatch(keys=[key_row("k", revision=5, version=9), key_row("k", revision=4, version=10)])
            await other.apply(batch)
            assert [(row.version, row.revision) for row in await store.load_keys()] == [(9, 5), (1, 0)]

    async def test_usage_events_and_decisions_are_not_published(self) -> None:
        async with self.opened() as store:
            start = (await store.changes(None, 0)).cursor
            await store.apply(StoreBatch((), (), [event_row(1)], [decision_row("d")], [usage_row(3_600, cost=1)]))
            assert await store.changes(start, 0) == await store.changes(None, 0)

    async def test_what_was_posted_is_published_when_it_is_written(self) -> None:
        async with self.opened() as store, self.beside(store) as other:
            start = (await other.changes(None, 0)).cursor
            store.post(StoreBatch(keys=[key_row("k")]))
            async with asyncio.timeout(10):
                found = await other.changes(start, 10)
            assert list(found.changes) == [Change("key", "k")]
            assert [row.key_id for row in await other.load_keys()] == ["k"]

    async def test_who_waits_is_told_soon(self) -> None:
        async with self.opened() as store, self.beside(store) as other:
            clock, took_s = asyncio.get_running_loop().time, []
            cursor = (await other.changes(None, 0)).cursor
            for number in range(5):
                waiting = asyncio.create_task(other.changes(cursor, 30))
                for _ in range(10 * number):  # moments that no clock decides
                    await asyncio.sleep(0)
                await store.put_setting("s", b"%d" % number)
                done_s = clock()
                found = await waiting
                took_s.append(clock() - done_s)
                assert list(found.changes) == [Change("setting", "s")]
                cursor = found.cursor
            assert min(took_s) < _SOON_S, "a busy machine may be late once, not always"

    async def test_who_waits_in_vain_is_answered_when_the_time_is_over(self) -> None:
        async with self.opened() as store:
            clock = asyncio.get_running_loop().time
            start = await store.changes(None, 0)
            started_s = clock()
            assert await store.changes(start.cursor, 0.1) == start
            assert 0.09 <= clock() - started_s < 5

    async def test_other_calls_go_on_while_somebody_waits(self) -> None:
        async with self.opened() as store:
            start = (await store.changes(None, 0)).cursor
            waiting = [asyncio.create_task(store.changes(start, 60)) for _ in range(10)]
            async with asyncio.timeout(10):
                for number in range(20):
                    await store.apply(StoreBatch(events=[event_row(number)]))
                    assert await store.load_keys() == []
                waiting[0].cancel()
                await asyncio.wait([waiting[0]])
                await store.put_setting("s", b"")
                for found in await asyncio.gather(*waiting[1:]):
                    assert list(found.changes) == [Change("setting", "s")]

    async def test_nothing_is_missed_while_many_write(self) -> None:
        async with self.opened() as store, self.beside(store) as other, self.beside(store) as reader:
            cursor, heard = (await reader.changes(None, 0)).cursor, set[str]()

            async def write(place: StateStore, name: str) -> None:
                for number in range(25):
                    row = StoreBatch(keys=[key_row(f"{name}{number}")])
                    if number % 2:
                        place.post(row)
                    else:
                        await place.apply(row)

            names = {f"{name}{number}" for name in "abcd" for number in range(25)}
            writing = asyncio.gather(*(write(store if name in "ab" else other, name) for name in "abcd"))
            async with asyncio.timeout(30):
                while heard != names:
                    found = await reader.changes(cursor, 5)
                    assert not found.lost
                    assert found.cursor > cursor
                    cursor, heard = found.cursor, heard | {change.entity_id for change in found.changes}
            await writing

    async def test_who_is_too_late_is_told_that_something_was_lost(self) -> None:
        async with self.opened() as store:
            start = (await store.changes(None, 0)).cursor
            ids = [f"k{number}" for number in range(10_500)]
            for first in range(0, len(ids), 1_500):
                await store.apply(StoreBatch(keys=[key_row(one) for one in ids[first : first + 1_500]]))
            found = await store.changes(start, 0)
            assert found.lost or {change.entity_id for change in found.changes} == set(ids)
            assert await store.changes(found.cursor, 0) == await store.changes(None, 0), "from there on all is well"

    async def test_a_cursor_of_another_life_of_the_store_has_lost_everything(self) -> None:
        async with self.opened() as store:
            await store.put_setting("s", b"")
            now = (await store.changes(None, 0)).cursor
            async with asyncio.timeout(5):
                found = await store.changes(now + 1_000_000, 60)
            assert found.lost
            assert found.cursor == now
