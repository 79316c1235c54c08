"""Limits as providers tell them, and what is learned where they do not."""

from __future__ import annotations

from typing import Any

import pytest

from apikeyrouter.domain.ledger.bucket import Bucket
from apikeyrouter.domain.ledger.holds import Hold, Refused
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.domain.quota.facts import DAY_S, MINUTE_S, Dimension, LimitFact, Refill, Source
from apikeyrouter.domain.quota.limits import QuotaWindow
from apikeyrouter.domain.quota.pools import PoolView, QuotaPool
from apikeyrouter.domain.quota.windows import Anchored
from apikeyrouter.domain.routing.sift import HEADROOM, OVER_LIMIT, headroom_block
from apikeyrouter.testing.virtual_time import ManualClock
from tests.support.dialects import QuietDialect


def requests(limit: int | None = None, remaining: int | None = None, **fields: Any) -> LimitFact:
    return LimitFact(Dimension.Requests, MINUTE_S, limit, remaining, **fields)


def a_window(limit: int | None, *, period_s: float = MINUTE_S, now_s: float = 0.0) -> QuotaWindow:
    return QuotaWindow("w", Dimension.Requests, period_s, limit=limit, source=Source.Header, now_s=now_s)


def a_view(now_s: float = 0.0) -> PoolView:
    pool = QuotaPool("p/k", "p", now_s)
    view = pool.views["m"] = PoolView(pool, "m", QuietDialect())
    return view


def take(ledger: Ledger, view: PoolView, tokens: int = 10) -> Hold:
    hold = ledger.try_hold(view.lines((1, tokens, 0, tokens, 1, 0, tokens, 0)))
    assert isinstance(hold, Hold)
    hold.dispatch()
    return hold


def marked(hold: Hold) -> list[Any]:
    return [(account, account.taken) for account, _ in hold.lines]


# -- buckets -----------------------------------------------------------------------------------------------------------


def test_a_bucket_gives_back_all_the_time_and_never_more_than_it_holds() -> None:
    clock = ManualClock()
    ledger = Ledger(clock)
    bucket = Bucket("b", "requests", 10, 1.0, now_s=clock.monotonic_s())
    for _ in range(10):
        hold = ledger.try_hold([(bucket, 1)])
        assert isinstance(hold, Hold)
        hold.dispatch()
        hold.settle([1])
    refused = ledger.try_hold([(bucket, 3)])
    assert isinstance(refused, Refused)
    assert refused.available_at_s == pytest.approx(clock.monotonic_s() + 3.0, abs=1e-3)
    clock.advance(3.0)
    assert bucket.free(clock.monotonic_s()) == 3
    clock.advance(3600.0)
    assert bucket.free(clock.monotonic_s()) == 10


def test_a_request_under_way_flows_back_like_any_other() -> None:
    clock = ManualClock()
    ledger = Ledger(clock)
    bucket = Bucket("b", "requests", 4, 1.0, now_s=clock.monotonic_s())
    hold = ledger.try_hold([(bucket, 4)])
    assert isinstance(hold, Hold)
    hold.dispatch()
    clock.advance(4.0)
    assert bucket.free(clock.monotonic_s()) == 4
    hold.settle([4])
    assert bucket.free(clock.monotonic_s()) == 4


def test_fractions_of_a_unit_are_not_lost_between_many_looks() -> None:
    clock = ManualClock()
    bucket = Bucket("b", "requests", 100, 1.0, now_s=clock.monotonic_s())
    bucket.adjust_used(50, clock.monotonic_s())
    for _ in range(100):
        clock.advance(0.1)
        bucket.refresh(clock.monotonic_s())
    assert bucket.free(clock.monotonic_s()) in (59, 60)


def test_an_anchored_window_ends_when_it_was_told_to_and_then_every_period() -> None:
    window = Anchored(60.0, ends_at_s=7.0)
    assert window.at(0.0) == (0, 7.0)
    assert window.at(7.0) == (1, 67.0)
    assert window.at(200.0) == (4, 247.0)
    window.anchor(210.0)
    assert window.at(209.0) == (4, 210.0)
    assert window.leaves_at_s(5, 0.0) == 270.0


# -- headers -----------------------------------------------------------------------------------------------------------


def test_a_lower_remaining_is_taken_at_once_and_a_higher_one_bit_by_bit() -> None:
    window = a_window(100)
    window.observe(requests(100, 40), mark=0, sent_at_s=0.0, now_s=0.0)
    assert window.headroom(0.0) == 40
    window.observe(requests(100, 90), mark=0, sent_at_s=0.0, now_s=0.0)
    assert window.headroom(0.0) == 55
    for _ in range(30):
        window.observe(requests(100, 90), mark=0, sent_at_s=0.0, now_s=0.0)
    assert window.headroom(0.0) == 90


def test_what_was_taken_after_the_reporting_request_was_sent_is_subtracted() -> None:
    clock = ManualClock()
    ledger = Ledger(clock)
    view = a_view(clock.monotonic_s())
    now_s = clock.monotonic_s()
    first = take(ledger, view)
    held = marked(first)
    for _ in range(5):
        take(ledger, view)
    view.told([requests(60, 59)], held, sent_at_s=now_s, now_s=now_s)
    (told,) = view.own.values()
    assert told.headroom(now_s) == 54


def test_an_older_report_that_arrives_late_changes_nothing() -> None:
    window = a_window(100)
    window.observe(requests(100, 50), mark=10, sent_at_s=0.0, now_s=1.0)
    window.observe(requests(100, 20), mark=9, sent_at_s=0.0, now_s=1.0)
    assert window.headroom(1.0) == 50


def test_a_limit_that_was_lowered_holds_from_the_next_reply_on() -> None:
    window = a_window(100)
    window.observe(requests(10, 9), mark=1, sent_at_s=0.0, now_s=0.0)
    assert window.limit == 10
    assert window.headroom(0.0) == 9


def test_the_reset_tells_a_token_bucket_from_a_window() -> None:
    bucket, rolling = a_window(60), a_window(60)
    bucket.observe(requests(60, 59, reset_s=1.0), mark=1, sent_at_s=0.0, now_s=0.0)
    rolling.observe(requests(60, 59, reset_s=60.0), mark=1, sent_at_s=0.0, now_s=0.0)
    assert bucket.refill is Refill.Continuous
    assert rolling.refill is Refill.Rolling
    assert (bucket.headroom(0.0), rolling.headroom(0.0)) == (59, 59)
    bucket.observe(requests(60, 0, reset_s=60.0), mark=60, sent_at_s=1.0, now_s=1.0)
    rolling.observe(requests(60, 0, reset_s=60.0), mark=60, sent_at_s=1.0, now_s=1.0)
    assert 24 <= (bucket.headroom(31.0) or 0) <= 30  # some are left to others, who took so much
    assert rolling.headroom(31.0) == 0
    assert rolling.headroom(63.0) == 60


def test_a_window_that_says_when_it_ends_ends_then() -> None:
    window = a_window(50)
    window.observe(requests(50, 0, reset_s=12.0, reset_means="window"), mark=1, sent_at_s=0.0, now_s=0.0)
    assert window.refill is Refill.Fixed
    assert window.headroom(11.0) == 0
    assert window.headroom(12.5) == 50


def test_others_who_use_the_pool_are_seen_as_losses_that_nobody_here_caused() -> None:
    window = a_window(6000)
    window.observe(requests(6000, 5999, reset_s=0.01), mark=1, sent_at_s=0.0, now_s=0.0)
    level = 5999.0
    for second in range(1, 120):
        level = min(6000.0, level + 100.0) - 150.0  # others take half as much again as flows back
        window.observe(requests(6000, int(level)), mark=1, sent_at_s=float(second), now_s=float(second))
        if level < 200:
            break
    assert window.foreign_per_s > 25.0


def test_a_day_and_a_minute_are_two_limits() -> None:
    view = a_view()
    facts = [requests(60, 50), LimitFact(Dimension.Requests, DAY_S, 1000, 3)]
    view.told(facts, [], sent_at_s=0.0, now_s=0.0)
    assert sorted((w.period_s, w.headroom(0.0)) for w in view.own.values()) == [(MINUTE_S, 50), (DAY_S, 3)]
    assert view.headroom_ratio((1, 0, 0, 0, 0, 0, 0, 0), 0.0) == pytest.approx(0.002)


def test_a_configured_limit_holds_beside_a_looser_one_and_yields_to_a_tighter_one() -> None:
    pool = QuotaPool("p/k", "p", 0.0)
    view = pool.views["m"] = PoolView(pool, "m", QuietDialect())
    pool.limit_all((Dimension.Requests, MINUTE_S), 20, Source.Configured, 0.0)
    view.told([requests(100, 100)], [], sent_at_s=0.0, now_s=0.0)
    assert sorted(w.limit or 0 for w in view.windows if w.dimension is Dimension.Requests) == [20, 100]
    view.told([requests(10, 10)], [], sent_at_s=0.0, now_s=0.0)
    assert [w.account.limit for w in view.windows if w.dimension is Dimension.Requests] == [10, None]


# -- without headers ---------------------------------------------------------------------------------------------------


def test_a_refusal_of_a_pool_that_tells_nothing_sets_a_limit_below_what_was_used() -> None:
    clock = ManualClock()
    ledger = Ledger(clock)
    view = a_view(clock.monotonic_s())
    for _ in range(41):
        take(ledger, view)
    now_s = clock.monotonic_s()
    view.refused([], [], (1, 10, 0, 10, 1, 0, 10, 0), sent_at_s=now_s, now_s=now_s)
    limits = {w.dimension: w.limit for w in view.windows if w.source is Source.Learned}
    assert limits == {Dimension.Requests: 34, Dimension.Tokens: 340}


def test_a_refusal_that_nothing_came_before_teaches_no_limit() -> None:
    clock = ManualClock()
    view = a_view(clock.monotonic_s())
    take(Ledger(clock), view, 300)
    now_s = clock.monotonic_s()
    view.refused([], [], (1, 300, 0, 300, 1, 0, 300, 0), sent_at_s=now_s, now_s=now_s)
    assert view.learner.searched == {}


def test_a_learned_limit_makes_no_request_impossible() -> None:
    clock = ManualClock()
    ledger = Ledger(clock)
    view = a_view(clock.monotonic_s())
    for _ in range(2):
        take(ledger, view, 20)
    now_s = clock.monotonic_s()
    view.refused([], [], (1, 20, 0, 20, 1, 0, 20, 0), sent_at_s=now_s, now_s=now_s)
    assert view.learner.searched[Dimension.Tokens, MINUTE_S].limit == 17
    needs = (1, 300, 0, 300, 1, 0, 300, 0)
    waits = headroom_block(view, needs, now_s)
    assert waits is not None
    assert waits.code == HEADROOM
    assert waits.until_s is not None, "it waits for the others to be over"
    clock.advance(waits.until_s - now_s)
    assert headroom_block(view, needs, clock.monotonic_s()) is None
    assert take(ledger, view, 300)


def test_a_told_limit_does() -> None:
    view = a_view()
    view.told([LimitFact(Dimension.Tokens, MINUTE_S, limit=100)], [], sent_at_s=0.0, now_s=0.0)
    block = headroom_block(view, (1, 300, 0, 300, 1, 0, 300, 0), 0.0)
    assert block is not None
    assert block.code == OVER_LIMIT


def test_many_refusals_at_once_lower_a_searched_limit_once() -> None:
    clock = ManualClock()
    ledger = Ledger(clock)
    view = a_view(clock.monotonic_s())
    for _ in range(41):
        take(ledger, view)
    for _ in range(10):
        view.refused([], [], (1, 10, 0, 10, 1, 0, 10, 0), sent_at_s=clock.monotonic_s(), now_s=clock.monotonic_s())
    assert [w.limit for w in view.windows if w.source is Source.Learned] == [34, 340]


def test_a_searched_limit_grows_only_while_it_is_used() -> None:
    clock = ManualClock()
    ledger = Ledger(clock)
    view = a_view(clock.monotonic_s())
    holds = [take(ledger, view) for _ in range(101)]
    now_s = clock.monotonic_s()
    view.refused([], [], (1, 10, 0, 10, 1, 0, 10, 0), sent_at_s=now_s, now_s=now_s)
    searched = view.learner.searched[Dimension.Requests, MINUTE_S]
    for _ in range(100):
        view.served(now_s)
    assert searched.limit == int(100 * 0.85 * 1.004**100)
    for hold in holds:
        hold.settle([1, 10])
    clock.advance(120.0)
    used = searched.limit
    searched.account.refresh(clock.monotonic_s())
    for _ in range(100):
        view.served(clock.monotonic_s())
    assert searched.limit == used


def test_a_refusal_while_plenty_is_left_shrinks_the_burst_horizon() -> None:
    view = a_view()
    view.told([requests(600, 580, reset_s=2.0)], [], sent_at_s=0.0, now_s=0.0)
    assert view.learner.burst_horizon_s == 60.0
    for place, (horizon_s, limit) in enumerate([(10.0, 100), (5.0, 50), (1.0, 10)]):
        view.refused([], [], (1, 0, 0, 0, 1, 0, 0, 0), sent_at_s=0.0, now_s=20.0 * (place + 1))
        burst = view.learner.bursts[Dimension.Requests]
        assert (view.learner.burst_horizon_s, burst.limit) == (horizon_s, limit)
        assert burst.headroom(20.0 * (place + 1)) == 0
        assert burst in view.windows


def test_a_refusal_that_a_told_limit_explains_teaches_nothing_else() -> None:
    view = a_view()
    view.told([requests(600, 580, reset_s=2.0)], [], sent_at_s=0.0, now_s=0.0)
    view.refused([requests(600, 0)], [], (1, 0, 0, 0, 1, 0, 0, 0), sent_at_s=0.0, now_s=1.0)
    assert view.learner.bursts == {}
    assert view.learner.searched == {}
