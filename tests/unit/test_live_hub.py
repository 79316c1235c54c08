"""What open dashboards are told: by one process, and by several that share a folder."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.models.events import KeyMoved, Observer, RequestEnded
from apikeyrouter.testing.virtual_time import VirtualClock, run_virtual
from apikeyrouter_proxy.dashboard.live import LISTENERS_MAX, STREAM_LASTS_S, LiveHub
from apikeyrouter_proxy.dashboard.relay import Relay
from apikeyrouter_proxy.dashboard.tally import ROWS_MAX, Batch
from apikeyrouter_proxy.wire.errors import WireError

Stream = AsyncGenerator[bytes, None]


def ended(number: int = 0, *, outcome: str = "ok", ttft_s: float | None = 0.25) -> RequestEnded:
    return RequestEnded(
        f"req_{number}", "chat", "gpt-4o-mini", "openai", "openai-1", outcome, 200, False, 0.5, ttft_s, 10, 5,
        2_000_000, (("openai-1", outcome),), f"dec_{number}", "app",
    )  # fmt: skip


class Desk:
    """A hub, and the observers' list that it joins."""

    def __init__(self, clock: Clock, place: Path | None = None) -> None:
        self.observers: list[Observer] = []
        self.hub = LiveHub(clock, self.observers, lambda: {"in_flight": 3}, None if place is None else Relay(place))

    def tell(self, *events: RequestEnded) -> None:
        for observer in self.observers:
            for event in events:
                observer.request_ended(event)


def events_of(data: bytes) -> list[tuple[str, Any]]:
    found = []
    for block in data.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


async def until(stream: Stream, kind: str, most: int = 10) -> Any:
    """The next event of a kind."""
    for _ in range(most):
        for name, data in events_of(await anext(stream)):
            if name == kind:
                return data
    raise AssertionError(f"no {kind!r} came")


def in_virtual_time(story: Callable[[Desk], Awaitable[None]]) -> None:
    async def main() -> None:
        await story(Desk(VirtualClock()))

    run_virtual(main())


def test_while_nobody_listens_there_is_no_observer_and_no_task() -> None:
    async def story(desk: Desk) -> None:
        before = asyncio.all_tasks()
        assert (desk.observers, desk.hub.working) == ([], False)
        first, second = desk.hub.stream(), desk.hub.stream()
        assert events_of(await anext(first)) == [("hello", {"every_s": 0.5})]
        await anext(second)
        assert len(desk.observers) == 1
        assert len(asyncio.all_tasks() - before) == 1
        await first.aclose()
        assert desk.hub.working
        await second.aclose()
        await asyncio.sleep(0)
        assert (desk.observers, desk.hub.working, desk.hub.listeners) == ([], False, 0)
        assert asyncio.all_tasks() == before

    in_virtual_time(story)


def test_a_stream_ends_after_a_while_so_that_access_is_decided_again() -> None:
    async def story(desk: Desk) -> None:
        begun_s = asyncio.get_running_loop().time()
        async for _ in desk.hub.stream():
            pass
        lasted_s = asyncio.get_running_loop().time() - begun_s
        assert STREAM_LASTS_S <= lasted_s <= STREAM_LASTS_S + 1.0
        assert not desk.hub.working

    in_virtual_time(story)


def test_a_second_is_summed_up_in_a_tick() -> None:
    async def story(desk: Desk) -> None:
        stream = desk.hub.stream()
        await anext(stream)
        desk.tell(ended(1), ended(2, outcome="rate_limited", ttft_s=None))
        tick = await until(stream, "tick")
        assert (tick["requests"], tick["failures"], tick["in_flight"]) == (2, 1, 3)
        assert (tick["input_tokens"], tick["output_tokens"], tick["cost_usd"]) == (20, 10, "0.004000000")
        assert tick["ttft_s"] == {"p50": 0.25, "p95": 0.25}
        assert (await until(stream, "tick"))["requests"] == 0
        await stream.aclose()

    in_virtual_time(story)


def test_one_batch_names_so_many_requests_and_counts_the_rest() -> None:
    async def story(desk: Desk) -> None:
        stream = desk.hub.stream()
        await anext(stream)
        desk.tell(*(ended(number) for number in range(ROWS_MAX + 7)))
        told = await until(stream, "decisions")
        assert ([row["id"] for row in told["items"]], told["more"]) == ([f"dec_{n}" for n in range(ROWS_MAX)], 7)
        assert (await until(stream, "tick"))["requests"] == ROWS_MAX + 7
        await stream.aclose()

    in_virtual_time(story)


def test_a_listener_that_reads_too_slowly_is_told_how_much_it_missed() -> None:
    async def story(desk: Desk) -> None:
        slow, quick = desk.hub.stream(), desk.hub.stream()
        await anext(slow)
        await anext(quick)
        for _ in range(70):
            await anext(quick)
        assert await until(slow, "missed", 1) == {"events": 10}
        assert not [one for one in events_of(await anext(slow)) if one[0] == "missed"]
        await slow.aclose()
        await quick.aclose()

    in_virtual_time(story)


def test_edits_are_told_once_by_kind_and_only_to_those_who_listen_then() -> None:
    async def story(desk: Desk) -> None:
        desk.hub.changed("budget")
        stream = desk.hub.stream()
        await anext(stream)
        for what in ("key", "price", "key"):
            desk.hub.changed(what)
        assert await until(stream, "changed") == {"what": ["key", "price"]}
        await stream.aclose()

    in_virtual_time(story)


def test_what_the_store_says_was_edited_elsewhere_is_told_in_the_words_of_the_api() -> None:
    async def story(desk: Desk) -> None:
        subscribed: dict[str, Callable[[frozenset[str] | None], Awaitable[None]]] = {}
        desk.hub.follow(subscribed.__setitem__)
        assert set(subscribed) == {"key", "budget", "virtual_key", "setting"}
        stream = desk.hub.stream()
        await anext(stream)
        await subscribed["budget"](frozenset({"b"}))
        await subscribed["setting"](frozenset({"prices.overrides", "pins.1", "config.main.applied"}))
        assert await until(stream, "changed") == {"what": ["budget", "config", "price"]}
        await subscribed["setting"](None)
        assert await until(stream, "changed") == {"what": ["config", "deployment", "policy", "price", "provider"]}
        await stream.aclose()

    in_virtual_time(story)


def test_keys_that_change_state_are_told_one_by_one() -> None:
    async def story(desk: Desk) -> None:
        stream = desk.hub.stream()
        await anext(stream)
        for observer in desk.observers:
            observer.key_moved(KeyMoved("key_1", "openai-1", "openai", "Available", "Throttled", "http_429", None))
        told = await until(stream, "key")
        assert (told["label"], told["from"], told["to"]) == ("openai-1", "Available", "Throttled")
        await stream.aclose()

    in_virtual_time(story)


def test_too_many_listeners_are_refused() -> None:
    async def story(desk: Desk) -> None:
        streams = [desk.hub.stream() for _ in range(LISTENERS_MAX)]
        for stream in streams:
            await anext(stream)
        with pytest.raises(WireError, match="Close one"):
            await anext(desk.hub.stream())
        for stream in streams:
            await stream.aclose()

    in_virtual_time(story)


def test_the_end_of_the_server_ends_every_stream_at_once() -> None:
    async def story(desk: Desk) -> None:
        stream = desk.hub.stream()
        await anext(stream)
        waiting = asyncio.ensure_future(anext(stream, b"over"))
        await asyncio.sleep(0.1)
        began_s = asyncio.get_running_loop().time()
        desk.hub.end()
        await waiting
        assert asyncio.get_running_loop().time() == began_s
        assert await anext(stream, b"over") == b"over"
        assert not desk.hub.working
        with pytest.raises(WireError, match="ending"):
            await anext(desk.hub.stream())

    in_virtual_time(story)


async def test_another_workers_requests_are_told_too(tmp_path: Path) -> None:
    from apikeyrouter.infrastructure.clock import SystemClock

    here, there = (Desk(SystemClock(), tmp_path / name) for name in ("worker-1", "worker-2"))
    there.hub.look()
    assert not there.hub.working
    stream = here.hub.stream()
    await anext(stream)
    there.hub.look()
    assert there.hub.working, "it has not noticed that somebody listens"
    here.hub.look()
    here.tell(ended(1))
    there.tell(ended(2, outcome="rate_limited"), ended(3))
    seen: set[str] = set()
    sums = {"requests": 0, "failures": 0, "in_flight": 0}
    while len(seen) < 3 or sums["requests"] < 3:
        for kind, data in events_of(await asyncio.wait_for(anext(stream), 10)):
            if kind == "decisions":
                seen |= {row["id"] for row in data["items"]}
            if kind == "tick":
                sums = {name: max(data[name], sums[name] + data[name] * (name != "in_flight")) for name in sums}
    assert seen == {"dec_1", "dec_2", "dec_3"}
    assert sums == {"requests": 3, "failures": 1, "in_flight": 6}
    await stream.aclose()
    there.hub.look()
    await asyncio.sleep(0)
    assert (here.hub.working, there.hub.working, list(tmp_path.iterdir())) == (False, False, [])


async def test_what_a_killed_worker_left_is_removed_by_whoever_finds_it(tmp_path: Path) -> None:
    dead, alive = Relay(tmp_path / "worker-1"), Relay(tmp_path / "worker-2")
    dead.open()
    left = tmp_path / "worker-1.live"
    kept = left.rename(tmp_path / "kept")
    dead.close()
    kept.rename(left)
    assert alive.others() == [left]
    alive.send(Batch(requests=1), alive.others())
    assert alive.others() == []


async def test_a_folder_that_cannot_hold_a_socket_only_narrows_what_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    relay = Relay(tmp_path / ("long" * 30))
    relay.open()
    assert "one worker's requests only" in caplog.text
    assert relay.received() == []
    relay.close()
