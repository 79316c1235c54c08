"""Lists among the store's settings that several processes change and follow at once, in every order of their steps."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from apikeyrouter.domain.components.deployment_keeper import SETTING as DEPLOYMENTS
from apikeyrouter.domain.components.deployment_keeper import DeploymentKeeper
from apikeyrouter.domain.components.price_keeper import SETTING as PRICES
from apikeyrouter.domain.components.price_keeper import PriceKeeper
from apikeyrouter.domain.components.shared_list import SharedList
from apikeyrouter.domain.errors import ConfigurationError, StateStoreError
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.testing.virtual_time import ManualClock
from tests.support.price_lists import StaticPriceSource

PROCESSES, EACH = 3, 5

Told = Callable[[frozenset[str] | None], Awaitable[None]]


class Unhurried(MemoryStateStore):
    """Others get a turn before and after each step; how many turns is up to chance."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._rng = random.Random(seed)

    async def get_setting(self, name: str) -> bytes | None:
        await self._others()
        found = await super().get_setting(name)
        await self._others()
        return found

    async def put_setting(
        self, name: str, value: bytes, *, only_if_absent: bool = False, only_if: bytes | None = None
    ) -> bytes:
        await self._others()
        stored = await super().put_setting(name, value, only_if_absent=only_if_absent, only_if=only_if)
        await self._others()
        return stored

    async def _others(self) -> None:
        for _ in range(self._rng.randrange(4)):
            await asyncio.sleep(0)


async def _together(setters: Sequence[Awaitable[None]], followers: Sequence[Told], setting: str) -> None:
    """The setters run while each follower hears of changes all the time, and once more at the end."""

    async def follow(told: Told) -> None:
        while True:
            await told(frozenset({setting}))
            await asyncio.sleep(0)

    following = [asyncio.ensure_future(follow(told)) for told in followers]
    await asyncio.gather(*setters)
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    for told in followers:
        await told(None)


@pytest.mark.parametrize("seed", range(30))
async def test_no_process_loses_the_price_of_another(seed: int) -> None:
    store = Unhurried(seed)
    await store.open()
    keepers = [PriceKeeper(StaticPriceSource({}), store, ManualClock()) for _ in range(PROCESSES)]
    told: list[Told] = []
    for keeper in keepers:
        keeper.follow(lambda _, one: told.append(one), lambda: None)

    async def set_all(number: int) -> None:
        for model in range(EACH):
            await keepers[number].set_price({"provider": f"p{number}", "model": f"m{model}", "per_request": "0.001"})
        await keepers[number].remove_price(f"p{number}", "m0")

    await _together([set_all(number) for number in range(PROCESSES)], told, PRICES)
    wanted = {(f"p{number}", f"m{model}") for number in range(PROCESSES) for model in range(1, EACH)}
    for keeper in keepers:
        assert {one.key for _, one in keeper.book.overrides()} == wanted


@pytest.mark.parametrize("seed", range(30))
async def test_no_process_loses_the_deployment_of_another(seed: int) -> None:
    store = Unhurried(seed)
    await store.open()
    keepers = [DeploymentKeeper(store, ManualClock()) for _ in range(PROCESSES)]
    told: list[Told] = []
    for keeper in keepers:
        keeper.follow(lambda _, one: told.append(one), lambda: None)

    async def set_all(number: int) -> None:
        for model in range(EACH):
            await keepers[number].set({"name": f"d{number}-{model}", "targets": ["p/m"]})
        assert await keepers[number].remove(f"d{number}-0")
        assert not await keepers[number].remove(f"d{number}-0")

    await _together([set_all(number) for number in range(PROCESSES)], told, DEPLOYMENTS)
    wanted = {f"d{number}-{model}" for number in range(PROCESSES) for model in range(1, EACH)}
    for keeper in keepers:
        assert {one.name for one in keeper.all()} == wanted


@dataclass(frozen=True)
class Word:
    """A document."""

    document: Mapping[str, Any]


def _read(row: object) -> Word:
    if row == 1:
        raise ValueError("it is not an object")
    assert isinstance(row, dict)
    return Word(row)


class Bench:
    def __init__(self, store: MemoryStateStore) -> None:
        self.taken_in: list[list[Any]] = []
        self.list = SharedList(store, "words", read=_read, taken_in=self._take_in)

    def _take_in(self, found: Sequence[Word]) -> None:
        self.taken_in.append([one.document["n"] for one in found])

    def add(self, n: int) -> Awaitable[bool]:
        return self.list.change(lambda stored: [*stored, Word({"n": n})])


async def test_an_edit_that_fails_or_has_nothing_to_do_changes_nothing() -> None:
    store = MemoryStateStore()
    await store.open()
    bench = Bench(store)
    assert not await bench.list.change(lambda _: None)

    def refuse(stored: Sequence[Word]) -> Sequence[Word]:
        raise ConfigurationError(["no"])

    with pytest.raises(ConfigurationError):
        await bench.list.change(refuse)
    assert bench.taken_in == []
    assert await store.get_setting("words") is None
    assert await bench.add(1)
    assert bench.taken_in == [[1]]


async def test_a_list_that_cannot_be_read_leaves_the_one_before_in_force() -> None:
    store = MemoryStateStore()
    await store.open()
    bench = Bench(store)
    await bench.add(1)
    for broken in (b"{", b"[1]"):
        await store.put_setting("words", broken)
        with pytest.raises(StateStoreError, match="What the store has in words cannot be read"):
            await bench.list.changed(frozenset({"words"}))
        with pytest.raises(StateStoreError):
            await bench.add(2)
        assert await store.get_setting("words") == broken
    assert bench.taken_in == [[1]]
    await store.put_setting("words", json.dumps([{"n": 3}]).encode())
    await bench.list.changed(frozenset({"others"}))
    assert bench.taken_in == [[1]]
    await bench.list.changed(None)
    assert bench.taken_in == [[1], [3]]


def test_a_list_lives_through_one_event_loop_after_another() -> None:
    store = Unhurried(1)
    bench = Bench(store)

    async def several(first: int) -> None:
        await store.open()
        await asyncio.gather(bench.add(first), bench.list.load(), bench.add(first + 1))

    asyncio.run(several(1))
    asyncio.run(several(3))
    left = asyncio.new_event_loop()
    writing = left.create_task(_coroutine(bench.add(5)))
    left.run_until_complete(asyncio.sleep(0))
    left.close()  # in the midst of it
    asyncio.run(several(6))
    assert sorted(bench.taken_in[-1]) in ([1, 2, 3, 4, 6, 7], [1, 2, 3, 4, 5, 6, 7])
    del writing


async def _coroutine(work: Awaitable[bool]) -> bool:
    return await work


class Contested(MemoryStateStore):
    """Somebody else is always a little faster."""

    async def put_setting(
        self, name: str, value: bytes, *, only_if_absent: bool = False, only_if: bytes | None = None
    ) -> bytes:
        before = json.loads(await self.get_setting(name) or b"[]")
        await super().put_setting(name, json.dumps([{"n": len(before)}, *before]).encode())
        return await super().put_setting(name, value, only_if_absent=only_if_absent, only_if=only_if)


async def test_whoever_never_gets_a_turn_is_told_so() -> None:
    store = Contested()
    await store.open()
    bench = Bench(store)
    with pytest.raises(StateStoreError, match="Other processes change words all the time; nothing was changed"):
        await bench.add(-1)
    assert -1 not in [row["n"] for row in json.loads(await store.get_setting("words") or b"")]
