"""Who tries before whom: those far below their share come first with all that they have, and whoever the provider
refused after its turn comes back to the head of its tenant's line, and has paid nothing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from apikeyrouter.domain.routing.explain import Rejection
from apikeyrouter.patience import Patience, Waiting, waitable
from apikeyrouter.testing import run_virtual
from apikeyrouter.testing.virtual_time import ManualClock
from apikeyrouter.waiting_line import Line, Ticket
from apikeyrouter.waiting_room import Place, WaitingRoom, WaitingRules

LINE = "model"


def line_of(*tickets: Ticket) -> Line:
    line = Line(0.0)
    for ticket in tickets:
        line.enter(ticket, 1.0, 0.0)
    return line


def test_the_second_request_of_a_modest_tenant_passes_before_the_first_of_a_greedy_one() -> None:
    large, small, other = Ticket("modest", 1000, 60.0), Ticket("modest", 10, 60.0), Ticket("greedy", 10, 60.0)
    line = line_of(large, small, other)
    line.counters.charge("greedy", 5000)
    line.asks(large, 5.0, 0.0)
    line.asks(other, 0.0, 0.0)
    line.asks(small, 0.0, 0.0)
    assert line.next_to_try(0.0) is small


def test_what_a_modest_tenant_already_has_in_line_counts_when_turns_are_given() -> None:
    large, small, other = Ticket("modest", 1000, 60.0), Ticket("modest", 10, 60.0), Ticket("greedy", 10, 60.0)
    line = line_of(large, small, other)
    line.counters.charge("greedy", 500)
    line.asks(large, 5.0, 0.0)
    line.asks(other, 0.0, 0.0)
    line.asks(small, 0.0, 0.0)
    assert line.next_to_try(0.0) is other


def entered(room: WaitingRoom, *, again: bool = False) -> Place:
    place = room.enter(LINE, tenant="a", weight=1.0, cost=100, deadline_s=60.0, again=again)
    assert place is not None
    return place


def waiting_of(request: int) -> Waiting:
    call: Any = SimpleNamespace(provider_id=None, model=LINE, tags={}, tenant=None, deadline_s=60.0, number=request)
    demand: Any = SimpleNamespace(input_expected=50, output_expected=25)
    return Waiting(call, demand)


def test_whoever_was_refused_after_its_turn_stands_before_those_who_came_later_and_has_paid_nothing() -> None:
    async def story() -> None:
        clock = ManualClock()
        room = WaitingRoom(clock, WaitingRules(credit_s=0.0))
        patience = Patience(room, clock)
        first, second = waiting_of(1), waiting_of(2)
        assert await patience.until(first, 0.0)
        later = asyncio.ensure_future(patience.until(second, 5.0))
        await asyncio.sleep(0)
        patience.served(first)
        refused = asyncio.ensure_future(patience.until(first, 5.0))
        await asyncio.sleep(0)
        place = first.place
        assert place is not None
        assert place.line.head() is place
        assert place.line.counters.count_of("") == 0.0
        refused.cancel()
        later.cancel()
        await asyncio.gather(refused, later, return_exceptions=True)

    run_virtual(story())


def test_whoever_was_refused_after_its_turn_is_not_judged_once_more_by_the_length_of_the_line() -> None:
    async def story() -> None:
        clock = ManualClock()
        room = WaitingRoom(clock, WaitingRules(wait_s=1.0))
        first, _ = entered(room), entered(room)
        assert await first.turn(0.0)
        clock.advance(0.9)
        first.served()
        assert room.enter(LINE, tenant="a", weight=1.0, cost=100, deadline_s=60.0) is None
        assert entered(room, again=True) is not None

    run_virtual(story())


def test_whoever_overtakes_leaves_alone_what_the_first_in_line_waits_for() -> None:
    async def story() -> None:
        clock = ManualClock()
        patience = Patience(WaitingRoom(clock, WaitingRules(credit_s=0.0)), clock)
        first, second = waiting_of(1), waiting_of(2)
        large = asyncio.ensure_future(patience.until(first, 5.0, ("key_large", "m")))
        small = asyncio.ensure_future(patience.until(second, 0.0, ("key_small", "m")))
        await asyncio.sleep(0)
        assert await small
        assert patience.spared(second) == {("key_large", "m"): 5.0}
        assert patience.spared(first) == {}
        large.cancel()
        await asyncio.gather(large, return_exceptions=True)
        assert second.place is not None
        second.place.leave()

    run_virtual(story())


def test_the_key_that_is_waited_for_is_the_first_that_time_mends() -> None:
    refused = [
        Rejection("key_out", "out", "p", "breaker_open", "it fails", 1.0),
        Rejection("key_late", "late", "p", "headroom", "no room", 9.0),
        Rejection("key_soon", "soon", "p", "rate_limited", "no room", 3.0, "m"),
    ]
    assert waitable(refused) == (3.0, ("key_soon", "m"))
    assert waitable(refused[:1]) is None
