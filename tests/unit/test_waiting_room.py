"""The waiting room in virtual time: order, bounds, events, cancellation, overtaking, true promises."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest

from apikeyrouter.testing.virtual_time import VirtualClock, run_virtual
from apikeyrouter.waiting_room import Place, WaitingRoom, WaitingRules
from bench.waiting import LINE, Result, World, aggressor, new_world, overload

STRICT = WaitingRules(credit_s=0.0)


def place_in(room: WaitingRoom, tenant: str = "a", cost: int = 1, deadline_s: float = 1e9) -> Place:
    place = room.enter(LINE, tenant=tenant, weight=1.0, cost=cost, deadline_s=deadline_s)
    assert place is not None
    return place


async def settle_down() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def gathered(world: World, *requests: Coroutine[Any, Any, Result]) -> list[Result]:
    return list(await asyncio.gather(*requests))


def test_a_request_waits_exactly_until_it_is_feasible() -> None:
    async def story() -> None:
        world = new_world(rate=2, burst=1)
        results = await gathered(world, *(world.request("a") for _ in range(4)))
        assert [one.wait_s for one in results] == pytest.approx([0, 0.5, 1, 1.5], abs=0.01)
        assert world.room.waiting == 0
        assert not world.room.must_queue(LINE)

    run_virtual(story())


def test_nobody_polls() -> None:
    async def story() -> None:
        world = new_world(rate=0.5, burst=1)
        await gathered(world, *(world.request("a") for _ in range(5)))
        # one look at the door each, one try per turn, and one right after the one before was served
        assert world.bucket.tries <= 3 * 5

    run_virtual(story())


def test_who_looks_in_vain_is_passed_over_and_who_would_wait_too_long_leaves() -> None:
    async def story() -> None:
        room = WaitingRoom(VirtualClock(), WaitingRules(wait_s=5.0))
        big, hopeless, small = (place_in(room, cost=cost) for cost in (10, 9, 1))
        told: list[str] = []

        async def wait(name: str, place: Place, looks: list[float | None]) -> None:
            place.look = lambda: looks.pop(0)
            told.append(name if await place.turn(0.0) else f"{name} left")

        waits = [
            asyncio.ensure_future(wait("big", big, [3.0, 3.0, None])),
            asyncio.ensure_future(wait("hopeless", hopeless, [8.0])),
            asyncio.ensure_future(wait("small", small, [None])),
        ]
        await settle_down()
        assert told == ["hopeless left", "small"]
        small.served()  # the first looks again after each overtaking
        await asyncio.sleep(2.9)
        assert told == ["hopeless left", "small"]
        await asyncio.gather(*waits)
        assert (asyncio.get_running_loop().time(), told[-1]) == (pytest.approx(3.0, abs=0.01), "big")
        big.served()
        assert room.waiting == 0

    run_virtual(story())


def test_nobody_who_left_is_remembered() -> None:
    class Body:
        """Of a request, which looks whether there is room."""

        def look(self) -> float:
            return 3.0

    async def story() -> None:
        room = WaitingRoom(VirtualClock(), WaitingRules(wait_s=5.0))
        large, small, body = place_in(room, cost=100), place_in(room), Body()
        remembered = weakref.ref(body)
        large.look = body.look
        waits = [asyncio.ensure_future(place.turn(0.0)) for place in (large, small)]
        del body
        await settle_down()
        assert waits[1].done()
        waits[0].cancel()  # its client hangs up while the other one tries
        await settle_down()
        small.served()
        del large, small, waits
        gc.collect()
        assert (room.waiting, remembered()) == (0, None)

    run_virtual(story())


def test_a_thousand_that_hope_in_vain_leave_in_one_go() -> None:
    async def story() -> None:
        room = WaitingRoom(VirtualClock(), WaitingRules(wait_s=5.0, waiting_max=2_000))
        places = [place_in(room) for _ in range(1_000)]
        waits = [asyncio.ensure_future(place.turn(1.0)) for place in places]
        await settle_down()
        for place in places:
            place.look = lambda: 99.0
        assert await asyncio.gather(*waits) == [False] * 1_000
        assert (room.waiting, room.must_queue(LINE)) == (0, False)

    run_virtual(story())


def test_within_a_tenant_it_is_first_come_first_served() -> None:
    async def story() -> None:
        world = new_world(rate=10, burst=1)
        results = await gathered(world, *(world.request("a") for _ in range(30)))
        assert world.order == results

    run_virtual(story())


def test_tenants_take_turns_however_many_requests_one_sent_before() -> None:
    async def story() -> None:
        world = new_world(10, 1, STRICT)
        await gathered(world, *(world.request("a") for _ in range(20)), *(world.request("b") for _ in range(5)))
        names = "".join(one.tenant for one in world.order)
        assert names[1:11].count("b") == 5

    run_virtual(story())


def test_weights_one_to_three_are_served_one_to_three() -> None:
    async def story() -> None:
        world = new_world(10, 1, STRICT)
        small = [world.request("small", weight=1.0) for _ in range(45)]
        large = [world.request("large", weight=3.0) for _ in range(45)]
        await gathered(world, *(one for pair in zip(small, large, strict=True) for one in pair))
        names = [one.tenant for one in world.order[1:41]]
        assert names.count("large") == 30

    run_virtual(story())


def test_a_request_whose_time_would_come_too_late_is_refused_at_once() -> None:
    async def story() -> None:
        world = new_world(rate=1, burst=1)
        results = await gathered(
            world, world.request("a"), *(world.request("a") for _ in range(5)), world.request("a", deadline_s=0.5)
        )
        assert not results[-1].served
        assert world.room.now_s() == pytest.approx(5, abs=0.1)
        feasible_late = world.bucket.take(20, world.room.now_s())
        assert feasible_late is not None
        place = world.room.enter(
            LINE, tenant="a", weight=1.0, cost=20, deadline_s=world.room.now_s() + 0.5, feasible_at_s=feasible_late
        )
        assert place is None

    run_virtual(story())


def test_the_wait_ends_at_the_deadline_and_no_later_than_the_rules_say() -> None:
    async def story() -> None:
        world = new_world(rate=1, burst=1, rules=WaitingRules(wait_s=3))
        short, longer = place_in(world.room, deadline_s=2), place_in(world.room)
        answers = await asyncio.gather(short.turn(None), longer.turn(None))
        assert not any(answers)
        assert world.room.now_s() == 3
        assert world.room.waiting == 0
        assert await short.turn(None) is False, "what is over stays over"

    run_virtual(story())


def test_nobody_waits_for_a_time_beyond_its_limit() -> None:
    async def story() -> None:
        world = new_world(rate=1, burst=1)
        assert not await place_in(world.room).turn(10.5)
        assert world.room.now_s() == 0

    run_virtual(story())


def test_a_room_without_patience_or_places_lets_nobody_in() -> None:
    for rules in (WaitingRules(wait_s=0), WaitingRules(waiting_max=0)):
        room = new_world(1, 1, rules).room

        async def story(room: WaitingRoom = room) -> None:
            assert room.enter(LINE, tenant="a", weight=1.0, cost=1, deadline_s=1e9) is None

        run_virtual(story())


def test_full_for_one_tenant_is_not_full_for_another() -> None:
    async def story() -> None:
        room = new_world(1, 1, WaitingRules(waiting_max=10)).room
        waits = [asyncio.ensure_future(place_in(room, "many").turn(None)) for _ in range(10)]
        await settle_down()
        assert room.enter(LINE, tenant="many", weight=1.0, cost=1, deadline_s=1e9) is None
        assert room.enter(LINE, tenant="few", weight=1.0, cost=1, deadline_s=1e9) is not None
        await settle_down()
        assert room.waiting == 10
        assert waits[-1].done(), "the newest of the tenant with most places is turned away"
        assert not waits[-1].result()
        assert not any(wait.done() for wait in waits[:-1])
        for wait in waits:
            wait.cancel()

    run_virtual(story())


def test_an_event_lets_the_first_try_and_one_at_a_time() -> None:
    async def story() -> None:
        room = new_world(1, 1).room
        first, second = place_in(room), place_in(room)
        waits = [asyncio.ensure_future(one.turn(None)) for one in (first, second)]
        await settle_down()
        assert not any(wait.done() for wait in waits)
        room.freed(LINE)
        await settle_down()
        assert [wait.done() for wait in waits] == [True, False]
        first.served()
        await settle_down()
        assert waits[1].done(), "it has not tried since the event"
        again = asyncio.ensure_future(second.turn(None))
        await settle_down()
        assert not again.done(), "it tried after the event, so there is no news"
        room.freed()
        assert await again
        second.served()
        assert room.waiting == 0

    run_virtual(story())


def test_capacity_that_comes_back_to_all_wakes_every_line_the_oldest_first() -> None:
    async def story() -> None:
        room = new_world(1, 1).room
        woken: list[str] = []

        async def wait(line: str) -> None:
            place = room.enter(line, tenant="a", weight=1.0, cost=1, deadline_s=1e9)
            assert place is not None
            with place:
                assert await place.turn(None)
                woken.append(line)

        tasks = []
        for line in ("x", "y", "z"):
            tasks.append(asyncio.ensure_future(wait(line)))
            await asyncio.sleep(0.1)
        room.freed("nobody waits here")
        room.freed()
        await asyncio.gather(*tasks)
        assert woken == ["x", "y", "z"]

    run_virtual(story())


def test_whoever_is_cancelled_at_its_turn_passes_it_on() -> None:
    async def story() -> None:
        room = new_world(1, 1).room
        first = asyncio.ensure_future(place_in(room).turn(None))
        second = asyncio.ensure_future(place_in(room).turn(None))
        await settle_down()
        room.freed(LINE)
        first.cancel()  # it was told to try, and has not run yet
        await settle_down()
        assert first.cancelled()
        assert second.done()
        assert second.result()

    run_virtual(story())


def test_small_requests_pass_a_large_one_only_as_far_as_it_is_hardly_put_off() -> None:
    async def story() -> None:
        world = new_world(rate=10, burst=100)
        world.bucket.take(100, 0)
        large = asyncio.ensure_future(world.request("large", 60))
        await settle_down()
        small = [asyncio.ensure_future(world.request(f"small{n}", 1)) for n in range(20)]
        await large
        assert large.result().served
        assert 6.0 <= large.result().wait_s <= 6.7
        assert 1 <= len(world.order) - 1 <= 7, "some passed it, the others waited"
        await asyncio.gather(*small)
        assert all(one.result().served for one in small)

    run_virtual(story())


def test_who_needs_something_else_is_not_held_up_by_who_cannot_be_served() -> None:
    async def story() -> None:
        room = new_world(1, 1).room
        slow = place_in(room, "slow", cost=5)
        waiting = asyncio.ensure_future(slow.turn(8.0))
        await settle_down()
        served = 0
        for _ in range(30):
            other = place_in(room, "other", cost=5)
            assert await other.turn(0.0)
            other.served()
            served += 1
            # the slow one tries again, and is told the same time: nobody put it off
            assert await waiting
            waiting = asyncio.ensure_future(slow.turn(8.0))
            await settle_down()
        assert served == 30
        assert room.now_s() == 0
        assert await waiting
        assert room.now_s() == pytest.approx(8.0)
        slow.served()

    run_virtual(story())


def test_a_first_that_knows_no_time_is_passed_by_no_more_than_it_asks_for() -> None:
    async def story() -> None:
        room = new_world(1, 1).room
        first = asyncio.ensure_future(place_in(room, "first", cost=10).turn(None))
        await settle_down()
        passed = 0
        while True:
            other = place_in(room, f"other{passed}", cost=3)
            wait = asyncio.ensure_future(other.turn(0.0))
            await settle_down()
            if not wait.done():
                wait.cancel()
                break
            other.served()
            passed += 1
        assert passed == 4
        first.cancel()
        await settle_down()
        assert room.waiting == 0

    run_virtual(story())


def test_a_wrong_time_does_not_spin() -> None:
    async def story() -> None:
        room = new_world(1, 1).room
        place = place_in(room)
        tries = 0
        while await place.turn(room.now_s() - 1):
            tries += 1
        assert tries <= 50
        assert room.now_s() == pytest.approx(10, abs=0.3)

    run_virtual(story())


def test_when_capacity_falls_what_is_left_of_it_is_used() -> None:
    async def story() -> None:
        world = new_world(rate=20, burst=20)
        requests = []
        for _ in range(600):
            requests.append(asyncio.ensure_future(world.request("a")))
            await asyncio.sleep(1 / 60)
        world.bucket.set_rate(5, world.room.now_s())
        fell_s = world.room.now_s()
        results = await asyncio.gather(*requests)
        served_after = [one for one in results if one.served and one.came_s + one.wait_s > fell_s]
        assert len(served_after) >= 0.9 * 5 * 8
        assert world.room.waiting == 0

    run_virtual(story())


def test_what_a_served_request_cost_more_is_charged_to_its_tenant() -> None:
    async def story() -> None:
        world = new_world(10, 1, STRICT)
        requests = [asyncio.ensure_future(world.request(name)) for _ in range(10) for name in ("liar", "honest")]
        await asyncio.sleep(0.35)
        world.room.correct(LINE, tenant="liar", weight=1.0, difference=5)
        world.room.correct("no such line", tenant="liar", weight=1.0, difference=5)
        await asyncio.gather(*requests)
        assert [one.tenant for one in world.order[4:10]].count("honest") >= 5

    run_virtual(story())


def test_a_place_is_left_once_however_often_it_is_said() -> None:
    async def story() -> None:
        room = new_world(1, 1).room
        with place_in(room) as place:
            place.served()
            place.leave()
        assert room.waiting == 0
        with pytest.raises(ValueError, match="weight must be above 0"):
            room.enter(LINE, tenant="a", weight=0.0, cost=1, deadline_s=1e9)
        assert room.waiting == 0
        assert not room.must_queue(LINE)

    run_virtual(story())


def test_empty_lines_are_forgotten_but_for_a_few() -> None:
    async def story() -> None:
        room = new_world(1, 1).room
        for number in range(1_000):
            place = room.enter(number, tenant="a", weight=1.0, cost=1, deadline_s=1e9)
            assert place is not None
            place.leave()
        assert len(room._lines) <= 65
        assert not room._timers

    run_virtual(story())


def test_a_stranger_is_told_of_all_who_stand_before_it() -> None:
    async def story() -> None:
        world = new_world(20, 1, STRICT)
        crowd = [asyncio.ensure_future(world.request(f"t{n}")) for n in range(101)]
        await asyncio.sleep(1.01)
        promised_s = world.room.expected_wait_s(LINE, 1, None, tenant="stranger")
        assert promised_s == pytest.approx(4.0, abs=0.3)
        assert (await world.request("stranger")).wait_s == pytest.approx(promised_s, rel=0.1)
        await asyncio.gather(*crowd)

    run_virtual(story())


def test_nothing_known_promises_nothing() -> None:
    async def story() -> None:
        room = new_world(1, 1).room
        assert room.expected_wait_s(LINE, 1, None) == 0.0
        assert room.expected_wait_s(LINE, 1, 4.0) == 4.0

    run_virtual(story())


@pytest.mark.parametrize("seed", range(5))
def test_three_times_overload_wastes_nothing_and_promises_the_truth(seed: int) -> None:
    found = overload(seed=seed, tenants=4)
    assert found.goodput >= 0.99
    assert found.waiting_peak <= 250, "ten seconds of capacity, not the whole room"
    assert found.refusal_error_p95 <= 0.05
    assert found.entry_error_p95 <= 0.1
    assert found.late == 0
    assert found.drained_s <= 10, "the tail is what was let in, and no longer"
    assert found.tries_per_served <= 3.5


@pytest.mark.parametrize("seed", range(3))
def test_sizes_that_differ_a_hundred_times_change_the_promises_little(seed: int) -> None:
    found = overload(seed=seed, tenants=4, heavy=True)
    assert found.goodput >= 0.99
    assert found.refusal_error_p50 <= 0.06
    assert found.refusal_error_p95 <= 0.35
    assert found.late <= 0.02 * found.served


def test_a_crowd_beyond_the_places_is_held_at_the_bound() -> None:
    found = overload(rate=200.0, tenants=10)
    assert found.waiting_peak == 1000
    assert found.goodput >= 0.99
    assert found.refusal_error_p95 <= 0.05


@pytest.mark.parametrize(("load", "burst"), [(0.1, 20), (0.2, 10), (0.3, 20)])
def test_a_tenant_that_asks_ten_times_as_much_hardly_slows_the_other(load: float, burst: int) -> None:
    found = aggressor(load=load, burst=burst)
    assert found.ratio <= 1.5
    assert found.refused == 0
    assert found.served_of_aggressor >= 0.95 * (1 - load) * 20 * 600
