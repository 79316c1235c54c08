"""No wake-up is lost: requests come, are cancelled at any moment, capacity comes and goes; whoever can be served is."""

from __future__ import annotations

import asyncio
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apikeyrouter.testing.virtual_time import VirtualClock, run_virtual
from apikeyrouter.waiting_room import WaitingRoom, WaitingRules


class Slots:
    """Capacity that comes back by events only: whoever waits for it can know no time. `looking`: requests look before
    they try."""

    def __init__(self, room: WaitingRoom, slots: int, *, looking: bool = False) -> None:
        self.room = room
        self.looking = looking
        self.free = slots
        self.served = 0

    async def request(self, line: str, tenant: str, cost: int, hold_s: float) -> bool:
        place = None
        if self.room.must_queue(line) or self.free == 0:
            place = self.room.enter(line, tenant=tenant, weight=1.0, cost=cost, deadline_s=1e9)
            assert place is not None
        try:
            if place is not None:
                if self.looking:
                    place.look = lambda: None if self.free else math.inf
                try_at_s: float | None = 0.0
                while True:
                    if not await place.turn(try_at_s):
                        return False
                    if self.free:
                        break
                    try_at_s = None
            self.free -= 1
            assert self.free >= 0
            if place is not None:
                place.served()
        finally:
            if place is not None:
                place.leave()
        try:
            await asyncio.sleep(hold_s)
        finally:
            self.free += 1
            self.served += 1
            self.room.freed()
        return True


steps = st.tuples(
    st.sampled_from(["x", "y"]),  # line
    st.sampled_from(["a", "b", "c"]),  # tenant
    st.integers(1, 50),  # cost
    st.integers(0, 3),  # tenths of seconds until the next comes
    st.one_of(st.none(), st.integers(0, 8)),  # cancelled after so many tenths
)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, min_size=1, max_size=40), st.integers(1, 3), st.booleans())
def test_whoever_is_not_cancelled_is_served_and_no_slot_stays_free_while_somebody_waits(
    story: list[tuple[str, str, int, int, int | None]], slots: int, looking: bool
) -> None:
    async def run() -> None:
        room = WaitingRoom(VirtualClock(), WaitingRules(wait_s=1e6, waiting_max=1000))
        world = Slots(room, slots, looking=looking)
        kept = []
        for line, tenant, cost, gap, cancelled in story:
            task = asyncio.ensure_future(world.request(line, tenant, cost, 0.3))
            if cancelled is None:
                kept.append(task)
            else:
                asyncio.get_running_loop().call_later(cancelled / 10, task.cancel)
            for _ in range(4):
                await asyncio.sleep(0)
            assert room.waiting == 0 or world.free == 0
            await asyncio.sleep(gap / 10)
        # a lost wake-up ends here as a deadlock of virtual time
        assert all(await asyncio.gather(*kept))
        await asyncio.sleep(1)
        assert (room.waiting, world.free) == (0, slots)
        assert not room._timers
        assert not room._busy

    run_virtual(run(), limit_s=10_000)


@pytest.mark.parametrize("seed", range(10))
def test_cancelling_at_any_step_of_the_loop_leaves_nobody_behind(seed: int) -> None:
    async def run() -> None:
        rng = random.Random(seed)
        room = WaitingRoom(VirtualClock(), WaitingRules(wait_s=1e6, waiting_max=1000))
        world = Slots(room, 1)
        tasks = [asyncio.ensure_future(world.request("x", rng.choice("abc"), 1, 0.01)) for _ in range(60)]
        spared = tasks[::3]
        for task in tasks:
            if task not in spared:
                for _ in range(rng.randrange(6)):
                    await asyncio.sleep(0)
                if rng.random() < 0.3:
                    await asyncio.sleep(0.01)
                task.cancel()
        assert all(await asyncio.gather(*spared))
        assert room.waiting == 0
        await asyncio.gather(*tasks, return_exceptions=True)

    run_virtual(run(), limit_s=1_000)
