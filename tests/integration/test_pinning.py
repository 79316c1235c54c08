"""`apikeyrouter.pinning`: who made what survives restarts and is known to other processes."""

from __future__ import annotations

from pathlib import Path

from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.feed import ChangeFeed
from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.infrastructure.state_store.sqlite_store import SQLiteStateStore
from apikeyrouter.pinning import Pins
from apikeyrouter.testing.virtual_time import ManualClock


class RacingStore(MemoryStateStore):
    """A store in which another process writes a bucket just after we read it."""

    other: tuple[str, bytes] | None = None

    async def get_setting(self, name: str) -> bytes | None:
        found = await super().get_setting(name)
        if self.other is not None and self.other[0] == name:
            (name, value), self.other = self.other, None
            await super().put_setting(name, value)
        return found


async def test_an_owner_is_known_at_once_where_it_was_learned() -> None:
    pins = Pins()
    pins.learn("response", "resp_1", "openai", "key-a")
    assert pins.owner("response", "resp_1") == ("openai", "key-a")
    assert pins.owner("file", "resp_1") is None
    assert await pins.look_up("response", "resp_2") is None


async def test_owners_survive_a_restart(tmp_path: Path) -> None:
    store = SQLiteStateStore(tmp_path / "state.sqlite")
    pins = Pins(store)
    await pins.start()
    pins.learn("file", "file-1", "openai", "key-a")
    pins.learn("response", "resp_1", "azure", "key-b")
    await pins.stop()
    await store.close()
    again = Pins(reopened := SQLiteStateStore(tmp_path / "state.sqlite"))
    await again.start()
    assert again.owner("file", "file-1") == ("openai", "key-a")
    assert again.owner("response", "resp_1") == ("azure", "key-b")
    await again.stop()
    await reopened.close()


async def test_another_process_finds_an_owner_in_the_store() -> None:
    store = MemoryStateStore()
    first, second = Pins(store), Pins(store, clock=ManualClock())
    first.learn("batch", "batch_1", "openai", "key-a")
    await first.flush()
    assert second.owner("batch", "batch_1") is None
    assert await second.look_up("batch", "batch_1") == ("openai", "key-a")
    assert second.owner("batch", "batch_1") == ("openai", "key-a")


async def test_another_process_hears_of_an_owner_through_the_feed() -> None:
    store = MemoryStateStore()
    feed = ChangeFeed(store, SystemClock())
    first, second = Pins(store), Pins(store, feed=feed)
    await feed.start()
    first.learn("response", "resp_1", "openai", "key-a")
    await first.flush()
    await feed.catch_up()
    assert second.owner("response", "resp_1") == ("openai", "key-a")
    await feed.stop()


async def test_a_pin_that_another_writer_lost_is_written_again() -> None:
    store = RacingStore()
    feed = ChangeFeed(store, SystemClock())
    mine, other = Pins(store, feed=feed), Pins(MemoryStateStore())
    await feed.start()
    mine.learn("response", "resp_1", "openai", "key-a")
    await mine.flush()
    (name,) = mine._buckets
    await store.put_setting(name, b"[]")  # a writer that had read the bucket before resp_1 stood there
    await feed.catch_up()
    await mine.flush()
    assert b"resp_1" in (await store.get_setting(name) or b"")
    store.other = (name, b'[["resp_9","openai","key-z",1.0]]')
    mine.learn("response", "resp_1", "openai", "key-b")
    await mine.flush()
    await other.flush()
    await feed.catch_up()
    await mine.flush()
    assert await Pins(store).look_up("response", "resp_1") == ("openai", "key-b")
    await feed.stop()


async def test_the_oldest_are_forgotten_and_responses_never_push_out_files() -> None:
    clock = ManualClock()
    pins = Pins(clock=clock)
    pins.learn("file", "file-1", "openai", "key-a")
    for number in range(40_000):
        clock.advance(0.001)
        pins.learn("response", f"resp_{number}", "openai", "key-a")
    kept = sum(pins.owner("response", f"resp_{number}") is not None for number in range(40_000))
    assert 15_000 < kept <= 256 * 64
    assert pins.owner("response", "resp_39999") is not None
    assert pins.owner("response", "resp_0") is None
    assert pins.owner("file", "file-1") is not None


async def test_a_blob_that_is_none_of_ours_counts_as_empty() -> None:
    store: StateStore = MemoryStateStore()
    pins = Pins(store)
    pins.learn("response", "resp_1", "openai", "key-a")
    (name,) = pins._buckets
    await store.put_setting(name, b"{")
    await pins.flush()
    assert await Pins(store).look_up("response", "resp_1") == ("openai", "key-a")
