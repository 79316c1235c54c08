"""Changes of the store told to subscribers: at least once, whole after an outage, and without ever going deaf."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from apikeyrouter.domain.errors import SealError, StateStoreError
from apikeyrouter.domain.interfaces.shared_ledger import Changes
from apikeyrouter.feed import ChangeFeed
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.testing.store_rows import virtual_key_row
from apikeyrouter.testing.virtual_time import VirtualClock, run_virtual


class Store(MemoryStateStore):
    """A store that can be down, and that can forget what it published."""

    down = False
    forgetful = False
    asked = 0

    async def changes(self, after: int | None, wait_s: float) -> Changes:
        self.asked += 1
        if self.down:
            raise StateStoreError("the store does not answer")
        found = await super().changes(after, wait_s)
        if self.down:
            raise StateStoreError("the store does not answer")
        if self.forgetful:
            self.forgetful = False
            return Changes(found.cursor, lost=True)
        return found


class Desk:
    """A feed with subscribers that write down what they are told."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = Store(clock=self.clock)
        self.feed = ChangeFeed(self.store, self.clock)
        self.heard: dict[str, list[set[str] | None]] = {"setting": [], "virtual_key": []}
        for kind in self.heard:
            self.feed.subscribe(kind, self.listener(kind))

    def listener(self, kind: str) -> Callable[[frozenset[str] | None], Awaitable[None]]:
        async def told(ids: frozenset[str] | None) -> None:
            self.heard[kind].append(None if ids is None else set(ids))

        return told

    def clear(self) -> None:
        for heard in self.heard.values():
            heard.clear()


def with_desk(story: Callable[[Desk], Awaitable[None]]) -> None:
    async def run() -> None:
        desk = Desk()
        await desk.feed.start()
        try:
            await story(desk)
        finally:
            await desk.feed.stop()

    run_virtual(run())


def test_subscribers_hear_of_their_kind_with_ids_and_at_once() -> None:
    async def story(desk: Desk) -> None:
        await desk.store.put_setting("a", b"1")
        await desk.store.put_setting("b", b"1")
        await desk.clock.sleep(0.001)
        assert set().union(*desk.heard["setting"]) == {"a", "b"}
        assert desk.heard["virtual_key"] == []
        await desk.store.save_virtual_key(virtual_key_row("vk_1"))
        await desk.clock.sleep(0.001)
        assert desk.heard["virtual_key"] == [{"vk_1"}]

    with_desk(story)


def test_what_was_there_before_the_start_is_no_news() -> None:
    async def run() -> None:
        desk = Desk()
        await desk.store.put_setting("a", b"1")
        await desk.feed.start()
        await desk.clock.sleep(10.0)
        await desk.feed.stop()
        assert desk.heard["setting"] == []

    run_virtual(run())


def test_after_an_outage_everybody_looks_at_everything(caplog: pytest.LogCaptureFixture) -> None:
    async def story(desk: Desk) -> None:
        desk.store.down = True
        await desk.store.put_setting("a", b"1")  # wakes the feed, which finds the store down
        await desk.clock.sleep(30.0)
        assert 29.0 < desk.feed.stale_s <= 30.0
        assert desk.heard == {"setting": [], "virtual_key": []}
        asked = desk.store.asked
        await desk.clock.sleep(20.0)
        assert desk.store.asked - asked <= 11  # every two seconds
        desk.store.down = False
        await desk.clock.sleep(2.1)
        assert desk.heard == {"setting": [None], "virtual_key": [None]}
        assert desk.feed.stale_s == 0.0
        desk.clear()
        await desk.store.put_setting("b", b"1")
        await desk.clock.sleep(0.001)
        assert desk.heard["setting"] == [{"b"}]

    with caplog.at_level(logging.WARNING):
        with_desk(story)
    assert len([r for r in caplog.records if "cannot be read" in r.message]) == 1


def test_lost_changes_mean_looking_at_everything() -> None:
    async def story(desk: Desk) -> None:
        desk.store.forgetful = True
        await desk.store.put_setting("a", b"1")
        await desk.clock.sleep(0.001)
        assert desk.heard == {"setting": [None], "virtual_key": [None]}

    with_desk(story)


def test_a_subscriber_that_could_not_read_the_store_is_told_again() -> None:
    async def story(desk: Desk) -> None:
        failures = 2
        seen: list[frozenset[str] | None] = []

        async def reads(ids: frozenset[str] | None) -> None:
            nonlocal failures
            seen.append(ids)
            if failures:
                failures -= 1
                raise StateStoreError("the rows cannot be read")

        desk.feed.subscribe("setting", reads)
        await desk.store.put_setting("a", b"1")
        await desk.clock.sleep(5.0)
        assert seen == [frozenset({"a"}), None, None]

    with_desk(story)


@pytest.mark.parametrize("fault", [SealError("it does not open"), ZeroDivisionError("a bug")])
def test_a_fault_of_one_subscriber_leaves_the_others_hearing(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(desk: Desk) -> None:
        once = [fault]

        async def breaks(_: frozenset[str] | None) -> None:
            if once:
                raise once.pop()

        desk.feed.subscribe("virtual_key", breaks)
        await desk.store.save_virtual_key(virtual_key_row("vk_1"))
        await desk.clock.sleep(1.0)
        desk.clear()
        await desk.store.put_setting("b", b"1")
        await desk.clock.sleep(0.001)
        assert desk.heard["setting"] == [{"b"}]

    with_desk(story)
    assert caplog.records


def test_catching_up_returns_when_subscribers_know() -> None:
    async def story(desk: Desk) -> None:
        slow = asyncio.Event()
        done: list[str] = []

        async def takes_its_time(_: frozenset[str] | None) -> None:
            await slow.wait()
            done.append("told")

        desk.feed.subscribe("setting", takes_its_time)
        await desk.store.put_setting("a", b"1")
        first = asyncio.ensure_future(desk.feed.catch_up())
        second = asyncio.ensure_future(desk.feed.catch_up())  # must not take the news for told already
        await desk.clock.sleep(1.0)
        assert not first.done()
        assert not second.done()
        slow.set()
        await asyncio.gather(first, second)
        assert done
        told = len(desk.heard["setting"])
        await desk.feed.catch_up()
        assert len(desk.heard["setting"]) == told

    with_desk(story)


def test_a_store_that_is_down_fails_the_start_and_the_catching_up() -> None:
    async def run() -> None:
        desk = Desk()
        desk.store.down = True
        with pytest.raises(StateStoreError):
            await desk.feed.start()
        await desk.feed.catch_up()  # not started: nothing to catch up with
        desk.store.down = False
        await desk.feed.start()
        await desk.feed.start()
        desk.store.down = True
        with pytest.raises(StateStoreError):
            await desk.feed.catch_up()
        await desk.feed.stop()
        await desk.feed.stop()
        assert len(asyncio.all_tasks()) == 1

    run_virtual(run())


def test_a_feed_may_be_started_again_on_another_loop() -> None:
    clock = VirtualClock()
    store = MemoryStateStore(clock=clock)
    feed = ChangeFeed(store, clock)
    heard: list[frozenset[str] | None] = []

    async def told(ids: frozenset[str] | None) -> None:
        heard.append(ids)

    feed.subscribe("setting", told)

    async def run(name: str) -> None:
        await feed.start()
        await feed.start()
        await store.put_setting(name, b"1")
        await clock.sleep(0.001)

    async def leave() -> None:
        await run("a")

    run_virtual(leave())  # its loop ends with the task still on it

    async def again() -> None:
        await run("b")
        await feed.stop()

    run_virtual(again())
    assert heard == [frozenset({"a"}), frozenset({"b"})]
