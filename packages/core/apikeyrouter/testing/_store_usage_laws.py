"""Laws of usage roll-ups: rows of one hour add up, and questions are answered by sums of them.

Main entry: `UsageLaws`, a part of `StoreConformance`. Law: whatever is asked, in whatever groups, sums are exact.
"""

from __future__ import annotations

import asyncio
from dataclasses import fields
from typing import Any

from apikeyrouter.domain.interfaces.shared_ledger import UsageQuery, UsageRow
from apikeyrouter.domain.interfaces.state_store import StateStore, StoreBatch
from apikeyrouter.testing._store_suite import AWKWARD_TEXTS, StoreSuite, refused
from apikeyrouter.testing.store_borrower import Borrower
from apikeyrouter.testing.store_rows import usage_row

__all__ = ["UsageLaws"]

_HOUR = 3_600
_DAY = 86_400
_COUNTERS = [one.name for one in fields(UsageRow) if one.type == "int" and one.name not in ("hour_s", "cost_nano_usd")]


async def _this_hour(store: StateStore) -> int:
    """The start of the hour by the store's clock."""
    now_s = int((await Borrower(store, "clock").call()).now_utc_s)
    return now_s - now_s % _HOUR


async def _costs(store: StateStore, by: str, **filters: Any) -> list[tuple[Any, int]]:
    rows = await store.query_usage(UsageQuery(by=(by,), **filters))
    return [(getattr(row, by), row.cost_nano_usd) for row in rows]


class UsageLaws(StoreSuite):
    """Sums of what was used."""

    async def test_rows_of_one_hour_and_the_same_facts_add_up(self) -> None:
        async with self.opened() as store, self.beside(store) as other:
            hour = await _this_hour(store)
            counters = {name: 10**number for number, name in enumerate(_COUNTERS)}
            facts = {"virtual_key_id": "v", "team": "t", "tags": '{"a":"b"}', "provider_id": "p"}
            row = usage_row(hour, cost=7, **facts, **counters)
            await store.apply(StoreBatch(usage=[row, row]))
            other.post(StoreBatch(usage=[row]))
            await other.flush()
            by = ("hour_s", "provider_id", "key_id", "model", "virtual_key_id", "team", "tags")
            (found,) = await store.query_usage(UsageQuery(by=by))
            sums = {name: 3 * amount for name, amount in counters.items()}
            assert found == usage_row(hour, cost=21, **facts, **sums)
            async with self.reopened(store) as later:
                assert await later.query_usage(UsageQuery(by=by)) == [found]

    async def test_nothing_used_is_no_row(self) -> None:
        async with self.opened() as store:
            assert await store.query_usage(UsageQuery()) == []
            assert await store.query_usage(UsageQuery(by=("model",))) == []

    async def test_groups_come_dearest_first_and_ungrouped_fields_are_empty(self) -> None:
        async with self.opened() as store:
            hour = await _this_hour(store)
            rows = [
                usage_row(hour - n % 3 * _HOUR, cost=n, key_id=f"k{n % 2}", model=f"m{n % 5}", team=f"t{n % 7}")
                for n in range(70)
            ]
            await store.apply(StoreBatch(usage=rows))
            assert await _costs(store, "model") == [(f"m{n}", 14 * n + 455) for n in (4, 3, 2, 1, 0)]
            assert await _costs(store, "key_id") == [("k1", 1_225), ("k0", 1_190)]
            (total,) = await store.query_usage(UsageQuery())
            assert total == UsageRow(0, "", "", "", tags="", requests=70, cost_nano_usd=2_415)
            by_two = await store.query_usage(UsageQuery(by=("key_id", "hour_s")))
            assert len(by_two) == 6
            assert sum(row.cost_nano_usd for row in by_two) == 2_415
            assert {row.hour_s for row in by_two} == {hour, hour - _HOUR, hour - 2 * _HOUR}
            assert all(row.model == row.tags == row.team == "" for row in by_two)
            costs = [row.cost_nano_usd for row in by_two]
            assert costs == sorted(costs, reverse=True)

    async def test_every_filter_counts(self) -> None:
        async with self.opened() as store:
            hour = await _this_hour(store)
            names = ("provider_id", "key_id", "model", "virtual_key_id", "team")
            rows = [
                usage_row(hour, cost=2**n, **{name: f"x{n >> bit & 1}" for bit, name in enumerate(names)})
                for n in range(32)
            ]
            await store.apply(StoreBatch(usage=rows))
            for bit, name in enumerate(names):
                expected = sum(2**n for n in range(32) if n >> bit & 1)
                (found,) = await store.query_usage(UsageQuery(**{name: "x1"}))  # type: ignore[arg-type]  # real names
                assert (found.cost_nano_usd, found.requests) == (expected, 16)
            everything = dict.fromkeys(names, "x1")
            (found,) = await store.query_usage(UsageQuery(**everything))  # type: ignore[arg-type]  # real names
            assert found.cost_nano_usd == 2**31
            assert await store.query_usage(UsageQuery(key_id="nobody")) == []

    async def test_hours_count_from_since_and_up_to_before_until(self) -> None:
        async with self.opened() as store:
            hour = await _this_hour(store)
            await store.apply(StoreBatch(usage=[usage_row(hour - n * _HOUR, cost=2**n) for n in range(6)]))
            for since, until, expected in ((None, None, 63), (1, None, 3), (None, 1, 60), (4, 1, 28), (2, 2, 0)):
                query = UsageQuery(
                    None if since is None else hour - since * _HOUR, None if until is None else hour - until * _HOUR
                )
                assert sum(row.cost_nano_usd for row in await store.query_usage(query)) == expected

    async def test_awkward_texts_are_told_apart(self) -> None:
        async with self.opened() as store:
            hour = await _this_hour(store)
            rows = [usage_row(hour, cost=2**n, team=text, model=text) for n, text in enumerate(AWKWARD_TEXTS)]
            await store.apply(StoreBatch(usage=rows))
            for number, text in enumerate(AWKWARD_TEXTS):
                assert await _costs(store, "team", model=text) == [(text, 2**number)]

    async def test_grouping_by_what_is_no_fact_is_refused(self) -> None:
        async with self.opened() as store:
            for name in ("cost_nano_usd", "secret", "model; DROP TABLE keys", ""):
                error = await refused(store.query_usage(UsageQuery(by=(name,))))
                assert "model" in error.message

    async def test_old_hours_keep_their_sums(self) -> None:
        async with self.opened() as store:
            hour = await _this_hour(store)
            old = [usage_row(hour - 60 * _DAY - n * _HOUR, cost=n, model=f"m{n % 2}") for n in range(1, 100)]
            await store.apply(StoreBatch(usage=old))
            await store.apply(StoreBatch(usage=[usage_row(hour, cost=1_000, model="m0")]))
            await store.apply(StoreBatch(usage=[usage_row(hour - 60 * _DAY, cost=10_000, model="m1")]))
            expected = [("m1", 10_000 + sum(range(1, 100, 2))), ("m0", 1_000 + sum(range(0, 100, 2)))]
            assert await _costs(store, "model") == expected
            assert await _costs(store, "model", since_s=hour - _HOUR) == [("m0", 1_000)]

    async def test_64_writers_lose_no_request(self) -> None:
        async with self.opened() as store, self.beside(store) as other:
            hour = await _this_hour(store)

            async def write(number: int) -> None:
                place = other if number % 2 else store
                for _ in range(5):
                    await place.apply(StoreBatch(usage=[usage_row(hour, cost=1, model=f"m{number % 3}")]))

            await asyncio.gather(*(write(number) for number in range(64)))
            (found,) = await other.query_usage(UsageQuery())
            assert (found.requests, found.cost_nano_usd) == (320, 320)
