"""Virtual time: jumps, order, deadlocks, and the two clocks."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest

from apikeyrouter.testing import DeadlockError, ManualClock, VirtualClock, VirtualTimeLoop, run_virtual


def test_a_month_of_one_minute_sleeps_ends_at_the_exact_second() -> None:
    async def month() -> float:
        for _ in range(30 * 24 * 60):
            await asyncio.sleep(60)
        return asyncio.get_running_loop().time()

    assert run_virtual(month()) == 30 * 86_400


def test_concurrent_sleepers_wake_in_the_order_of_their_due_times() -> None:
    woken: list[tuple[str, float]] = []
    clock = VirtualClock()

    async def sleeper(name: str, delay_s: float) -> None:
        await clock.sleep(delay_s)
        woken.append((name, clock.monotonic_s()))

    async def all_of_them() -> None:
        await asyncio.gather(sleeper("late", 10), sleeper("early", 1), sleeper("middle", 5), sleeper("now", -1))

    run_virtual(all_of_them())
    assert woken == [("now", 0.0), ("early", 1.0), ("middle", 5.0), ("late", 10.0)]


def test_a_timeout_fires_at_its_time_and_not_before() -> None:
    async def waits_too_long() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3.5):
                await asyncio.sleep(1_000)
        return asyncio.get_running_loop().time()

    assert run_virtual(waits_too_long()) == 3.5


def test_no_time_passes_while_tasks_can_run() -> None:
    async def busy() -> float:
        for _ in range(1_000):
            await asyncio.sleep(0)
        return asyncio.get_running_loop().time()

    assert run_virtual(busy(), start_s=7.0) == 7.0


def test_waiting_for_what_never_comes_is_an_error_that_names_the_task() -> None:
    async def waits_for_ever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match="waits_for_ever"):
        run_virtual(waits_for_ever())


def test_an_endless_loop_of_sleeps_ends_at_the_limit() -> None:
    async def polls_for_ever() -> None:
        while True:  # noqa: ASYNC110 - the fault under test
            await asyncio.sleep(1)

    with pytest.raises(DeadlockError, match="passed 100 s"):
        run_virtual(polls_for_ever(), limit_s=100)


def test_left_over_tasks_are_cancelled_at_the_end() -> None:
    ended: list[str] = []

    async def background() -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            ended.append("cancelled")

    async def main() -> str:
        task = asyncio.create_task(background())
        await asyncio.sleep(1)
        return task.get_name()

    assert run_virtual(main())
    assert ended == ["cancelled"]


def test_timers_too_close_for_the_float_still_fire() -> None:
    async def tiny_steps() -> None:
        for _ in range(10):
            await asyncio.sleep(1e-12)

    run_virtual(tiny_steps(), start_s=2.0**40, limit_s=1.0)


def test_functions_for_threads_run_in_place_and_their_errors_reach_the_caller() -> None:
    def fails() -> None:
        raise LookupError("gone")

    async def main() -> int:
        with pytest.raises(LookupError, match="gone"):
            await asyncio.to_thread(fails)
        return await asyncio.to_thread(max, 1, 2)

    assert run_virtual(main()) == 2


def test_a_wake_up_from_another_callback_needs_no_time() -> None:
    loop = VirtualTimeLoop()
    try:
        loop.call_soon_threadsafe(loop.stop)
        loop.run_forever()
        assert loop.time() == 0.0
    finally:
        loop.close()


def test_the_virtual_clock_tells_the_time_of_day() -> None:
    start = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    clock = VirtualClock(utc_start=start)

    async def a_day_later() -> datetime:
        await clock.sleep(86_400)
        return clock.utc_now()

    later = run_virtual(a_day_later())
    assert later == datetime(2026, 3, 2, 10, tzinfo=UTC)
    assert later.tzinfo is UTC


def test_the_manual_clock_moves_only_by_hand() -> None:
    clock = ManualClock(100.0, utc=datetime(2026, 12, 31, 23, 59, tzinfo=UTC))
    assert (clock.monotonic_s(), clock.utc_now().minute) == (100.0, 59)
    clock.advance(60)
    assert (clock.monotonic_s(), clock.utc_now()) == (160.0, datetime(2027, 1, 1, tzinfo=UTC))
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance(-1)


async def test_sleeping_on_the_manual_clock_moves_it() -> None:
    clock = ManualClock()
    await clock.sleep(5)
    await clock.sleep(-5)
    assert clock.monotonic_s() == 5
