"""When a hedge is worth it, and that a race leaves nothing behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apikeyrouter.domain.resilience.hedge import FirstByteTimes, Hedger
from apikeyrouter.hedging import Raced, first_good
from apikeyrouter.testing import VirtualClock, run_virtual

FIRST, SECOND = ("p0", "m"), ("p1", "m")


def hedger(slow_s: float = 10.0, *, value_usd_per_s: float = 0.001, samples: int = 100) -> Hedger:
    """Nine of ten replies of p0 begin after 0.5 s, one after `slow_s`; all of p1 after 0.5 s."""
    made = Hedger(value_usd_per_s)
    for i in range(samples):
        made.record(*FIRST, slow_s if i % 10 == 0 else 0.5 + i / 1e4)
        made.record(*SECOND, 0.5)
    return made


def test_a_long_tail_is_hedged_when_the_time_is_worth_more_than_the_loser() -> None:
    assert hedger(10.0).plan(FIRST, SECOND, loser_usd=0.001, now_s=0.0) is None, (
        "p95 lies in the tail: no tail beyond it"
    )
    made = Hedger(0.001)
    for i in range(200):
        made.record(*FIRST, 20.0 if i % 25 == 0 else 0.5)
        made.record(*SECOND, 0.5)
    after_s = made.plan(FIRST, SECOND, loser_usd=0.001, now_s=0.0)
    assert after_s == 0.5
    assert made.plan(FIRST, SECOND, loser_usd=0.1, now_s=0.0) is None, "too dear"
    assert Hedger(0.001).plan(FIRST, SECOND, loser_usd=0.0, now_s=0.0) is None, "nothing known"


def test_too_few_times_are_no_base() -> None:
    assert hedger(samples=39).plan(FIRST, SECOND, loser_usd=0.0, now_s=0.0) is None


@given(st.integers(0, 5_000))
def test_hedges_are_two_in_a_hundred_and_one(requests: int) -> None:
    made = Hedger(1.0)
    fired = 0
    for i in range(requests):
        made.plan(FIRST, SECOND, loser_usd=0.0, now_s=float(i))
        fired += made.fire(float(i))
    assert fired <= 0.02 * requests + 1


@given(st.lists(st.floats(0.01, 60.0), min_size=40, max_size=400), st.floats(0.0, 1.0))
def test_quantiles_are_those_of_the_newest_times(times: list[float], share: float) -> None:
    known = FirstByteTimes()
    for one in times:
        known.record(one)
    found = known.quantile_s(share)
    assert found is not None
    assert min(times[-272:]) <= found <= max(times)
    assert known.left_s(found) >= 0.0
    assert known.left_s(1e9) == 0.0


class Leg:
    """Ends after so long, well or not; notes what became of it."""

    def __init__(self, takes_s: float, result: str, *, raises: bool = False) -> None:
        self.takes_s, self.result, self.raises = takes_s, result, raises
        self.fate = "never started"

    async def run(self) -> str:
        self.fate = "running"
        try:
            await asyncio.sleep(self.takes_s)
            if self.raises:
                raise OSError(self.result)
            self.fate = "ended"
        except asyncio.CancelledError:
            self.fate = "settling"
            await asyncio.sleep(0.01)  # what an attempt's `finally` may need
            self.fate = "cancelled"
            raise
        finally:
            if self.fate == "running":
                self.fate = "raised"
        return self.result


def race(first: Leg, second: Leg | None, after_s: float = 1.0, cancel_at_s: float | None = None) -> Any:
    discarded: list[str] = []

    async def go() -> Any:
        def start_second() -> Coroutine[Any, Any, str] | None:
            return second.run() if second is not None else None

        running = asyncio.ensure_future(
            first_good(
                first.run,
                start_second,
                after_s=after_s,
                clock=VirtualClock(),
                good=lambda text: text.startswith("good"),
                discard=discarded.append,
            )
        )
        if cancel_at_s is not None:
            asyncio.get_running_loop().call_later(cancel_at_s, running.cancel)
            asyncio.get_running_loop().call_later(cancel_at_s + 0.005, running.cancel)  # an impatient one
        try:
            return await running, discarded, asyncio.get_running_loop().time()
        finally:
            assert asyncio.all_tasks() == {asyncio.current_task()}, "a task outlived the race"

    return run_virtual(go())


def test_a_quick_first_leg_is_not_hedged() -> None:
    second = Leg(1.0, "good")
    raced, _, at_s = race(Leg(0.5, "good 1"), second)
    assert raced == Raced("good 1", 0, False)
    assert (second.fate, at_s) == ("never started", 0.5)


def test_a_quick_failure_is_not_hedged_either() -> None:
    second = Leg(1.0, "good")
    assert race(Leg(0.5, "bad"), second)[0] == Raced("bad", 0, False)
    assert second.fate == "never started"


def test_the_first_good_leg_wins_and_the_other_settles_before_the_race_is_over() -> None:
    first = Leg(9.0, "good 1")
    raced, _, at_s = race(first, Leg(2.0, "good 2"))
    assert raced == Raced("good 2", 1, True)
    assert first.fate == "cancelled"
    assert at_s == pytest.approx(3.01)
    second = Leg(9.0, "good 2")
    assert race(Leg(2.0, "good 1"), second)[0] == Raced("good 1", 0, True)
    assert second.fate == "cancelled"


def test_a_leg_that_fails_leaves_the_race_to_the_other() -> None:
    assert race(Leg(2.0, "bad"), Leg(3.0, "good 2"))[0] == Raced("good 2", 1, True)
    assert race(Leg(5.0, "good 1"), Leg(1.0, "bad"))[0] == Raced("good 1", 0, True)


def test_when_both_fail_the_last_word_is_told() -> None:
    assert race(Leg(2.0, "bad 1"), Leg(3.0, "bad 2"))[0] == Raced("bad 2", 1, True)
    assert race(Leg(6.0, "bad 1"), Leg(3.0, "bad 2"))[0] == Raced("bad 1", 0, True)


def test_without_a_second_leg_the_first_is_waited_for() -> None:
    assert race(Leg(5.0, "good 1"), None)[0] == Raced("good 1", 0, False)


def test_of_two_that_end_together_the_first_is_used_and_the_other_discarded() -> None:
    raced, discarded, _ = race(Leg(3.0, "good 1"), Leg(2.0, "good 2"))
    assert raced.outcome == "good 1"
    assert discarded == ["good 2"]


def test_what_a_leg_raises_is_raised_when_the_other_has_ended() -> None:
    second = Leg(9.0, "good 2")
    with pytest.raises(OSError, match="disk"):
        race(Leg(2.0, "disk", raises=True), second)
    assert second.fate == "cancelled"


@given(st.floats(0.1, 4.0), st.floats(0.1, 4.0), st.floats(0.0, 3.0), st.floats(0.001, 5.0))
def test_a_cancelled_caller_leaves_no_leg_running(first_s: float, second_s: float, after_s: float, at_s: float) -> None:
    first, second = Leg(first_s, "good 1"), Leg(second_s, "good 2")
    with suppress(asyncio.CancelledError):
        race(first, second, after_s, cancel_at_s=at_s)
    assert first.fate in ("ended", "cancelled", "never started")
    assert second.fate in ("ended", "cancelled", "never started")


def test_hedging_shortens_a_tail() -> None:
    rng = random.Random(3)
    took: list[float] = []
    for _ in range(300):
        legs = [Leg(20.0 if rng.random() < 0.04 else 0.5, "good") for _ in range(2)]
        took.append(race(legs[0], legs[1], after_s=0.6)[2])
    assert sorted(took)[290] < 2.0
