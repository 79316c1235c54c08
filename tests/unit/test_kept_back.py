"""What is kept back for tenants that ask for less than their share: how much of which limit, from whom, and for whom
never."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.quota.facts import MINUTE_S, ChargeRule, Dimension, LimitFact, Refill, Source
from apikeyrouter.domain.quota.pools import PoolView, QuotaPool
from apikeyrouter.kept_back import KEPT_S, KEPT_SHARE_MAX, KeptBack, has_room_at_s
from apikeyrouter.patience import Patience, Waiting, spared_rejections
from apikeyrouter.testing import run_virtual
from apikeyrouter.testing.virtual_time import ManualClock
from apikeyrouter.waiting_line import Line, Ticket
from apikeyrouter.waiting_room import WaitingRoom
from tests.support.dialects import QuietDialect

TPM = (Dimension.Tokens, MINUTE_S)


def needs_of(tokens: int) -> tuple[int, ...]:
    return (1, tokens, 0, tokens, 1, 0, tokens, 0)


def pool_with(limit: int, left: int) -> PoolView:
    """A pool whose tokens flow back as a bucket's, `left` of `limit` a minute there now."""
    pool = QuotaPool("p/a", "p", 0.0)
    view = pool.views["m"] = PoolView(pool, "m", QuietDialect())
    fact = LimitFact(Dimension.Tokens, MINUTE_S, limit, left, refill=Refill.Continuous, source=Source.Header)
    view.told([fact], (), sent_at_s=0.0, now_s=0.0)
    return view


def group_of(*views: PoolView, state: KeyState = KeyState.Available, small: bool = True) -> Any:
    def one(number: int, view: PoolView) -> Any:
        record = SimpleNamespace(state=state, key_id=f"key_{number}", label="", provider_id="p")
        return SimpleNamespace(record=record, quota=view, model="m", who=(f"key_{number}", "m"))

    return SimpleNamespace(small=small, candidates=[one(*pair) for pair in enumerate(views)])


class Sized:
    """A request of a known size, whatever the model."""

    output_expected = 0

    def __init__(self, tokens: int) -> None:
        self.input_expected = tokens

    def of(self, _: str) -> Sized:
        return self

    def needs(self, _: ChargeRule) -> tuple[int, ...]:
        return needs_of(self.input_expected)


def look(group: Any, tokens: int) -> tuple[dict[tuple[str, str], float], float]:
    request: Any = Sized(tokens)
    return KeptBack(lambda *_: group).look(None, "m", request, 0.0)


def test_a_limit_has_room_when_half_a_second_of_its_flow_is_left_beside() -> None:
    view = pool_with(60_000, 1_000)
    kept = int(KEPT_S * 1_000)
    assert has_room_at_s(view, needs_of(1_000 - kept), 0.0) == 0.0
    assert has_room_at_s(view, needs_of(1_000), 0.0) == pytest.approx(KEPT_S, abs=0.01)


def test_a_limit_over_seconds_keeps_back_an_eighth_at_the_most() -> None:
    view = pool_with(60_000, 60_000)
    view.own[TPM].hold_at_once(800, 0.0)
    kept = int(KEPT_SHARE_MAX * 800)
    assert kept < KEPT_S * 1_000
    assert has_room_at_s(view, needs_of(800 - kept), 0.0) == 0.0
    assert has_room_at_s(view, needs_of(800 - kept + 10), 0.0) == 0.0, "it never has room for that and an eighth"


def test_what_is_kept_back_makes_no_request_impossible() -> None:
    assert has_room_at_s(pool_with(60_000, 60_000), needs_of(60_000), 0.0) == 0.0
    assert has_room_at_s(pool_with(60_000, 0), needs_of(70_000), 0.0) == 0.0, "others say that it never fits"


def test_a_limit_of_requests_under_way_keeps_nothing_back() -> None:
    pool = QuotaPool("p/a", "p", 0.0)
    view = pool.views["m"] = PoolView(pool, "m", QuietDialect())
    pool.limit_all((Dimension.Concurrency, 0.0), 2, Source.Configured, 0.0)
    assert has_room_at_s(view, needs_of(1), 0.0) == 0.0


def test_keys_with_too_little_beside_are_left_alone_and_the_first_that_has_enough_is_waited_for() -> None:
    roomy, short = pool_with(60_000, 5_000), pool_with(60_000, 1_000)
    left_alone, first_s = look(group_of(roomy, short), 1_000)
    assert list(left_alone) == [("key_1", "m")]
    assert first_s == 0.0
    left_alone, first_s = look(group_of(short, pool_with(600_000, 1_000)), 1_000)
    assert len(left_alone) == 2
    assert first_s == min(left_alone.values()) > 0.0


def test_keys_that_may_not_serve_and_very_many_keys_are_not_asked() -> None:
    short = pool_with(60_000, 1_000)
    assert look(group_of(short, state=KeyState.Disabled), 1_000) == ({}, 0.0)
    assert look(group_of(short, small=False), 1_000) == ({}, 0.0)


def test_a_line_keeps_back_after_a_tenant_left_it_that_had_less_than_those_who_still_wait() -> None:
    line = Line(0.0)
    served, greedy, modest = (Ticket(*one, 60.0) for one in (("greedy", 500), ("greedy", 1_000), ("modest", 10)))
    for ticket in (served, greedy, modest):
        line.enter(ticket, 1.0, 0.0)
    line.out(served, 0.0, served=True)
    assert not line.keeps_back("greedy", 0.0), "nobody was seen to ask for less"
    line.out(modest, 1.0, served=True)
    assert line.keeps_back("greedy", 2.0)
    assert not line.keeps_back("greedy", 12.0), "nobody asked for less for long"
    assert not line.keeps_back("modest", 2.0), "it is whom it is kept back for"


def test_a_line_of_one_tenant_keeps_nothing_back() -> None:
    line = Line(20.0)
    first, second = Ticket("only", 100, 60.0), Ticket("only", 100, 60.0)
    line.enter(first, 1.0, 0.0)
    line.enter(second, 1.0, 0.0)
    line.out(first, 1.0, served=True)
    line.out(second, 2.0, served=True)
    line.enter(first, 1.0, 3.0)
    assert not line.keeps_back("only", 3.0)


def waiting_of(tenant: str, tokens: int) -> Waiting:
    holder = SimpleNamespace(tenant_id=tenant, weight=1.0)
    call: Any = SimpleNamespace(provider_id=None, model="m", tags={}, tenant=holder, deadline_s=60.0)
    request: Any = Sized(tokens)
    return Waiting(call, request)


def test_who_has_had_its_share_waits_for_room_beside_and_leaves_the_other_keys_alone() -> None:
    async def story() -> None:
        clock = ManualClock()
        room = WaitingRoom(clock)
        roomy, short = pool_with(60_000, 5_000), pool_with(60_000, 1_000)
        group = group_of(roomy, short)
        patience = Patience(room, clock, KeptBack(lambda *_: group))
        greedy, rest, modest = waiting_of("greedy", 1_000), waiting_of("greedy", 1_000), waiting_of("modest", 10)
        assert await patience.until(greedy, 0.0)
        assert patience.spared(greedy) == {}, "nobody else asks"
        later = asyncio.ensure_future(patience.until(rest, 0.0))
        other = asyncio.ensure_future(patience.until(modest, 0.0))
        await asyncio.sleep(0)
        patience.served(greedy)
        assert await other
        assert not later.done()
        assert patience.spared(modest) == {}
        patience.served(modest)
        assert await later
        spared = patience.spared(rest)
        assert list(spared) == [("key_1", "m")]
        told = spared_rejections(group, rest, spared, ())
        assert [one.code for one in told] == ["headroom"]
        assert "less than their share" in told[0].reason
        patience.left(rest)

    run_virtual(story())
