"""What was learned of bursts is a guess: a request that the told limit allows waits, and is not refused for ever."""

from __future__ import annotations

from apikeyrouter.domain.quota.doubts import DOUBT_EVERY_S
from apikeyrouter.domain.quota.facts import Dimension, LimitFact, Source
from apikeyrouter.domain.quota.limits import KINDS, QuotaWindow
from apikeyrouter.domain.quota.pools import PoolView
from apikeyrouter.domain.routing.sift import HEADROOM, OVER_LIMIT, headroom_block
from tests.unit.test_quota_bursts import a_view

MINUTE_S = 60.0
LIMIT, BURST = 60_000, 6_000


def learned() -> tuple[PoolView, QuotaWindow]:
    """A pool of 60,000 tokens a minute, of which 6,000 seem to fit at once; all of it is free."""
    view = a_view()
    view.told([LimitFact(Dimension.Tokens, MINUTE_S, LIMIT, LIMIT, 0.0)], [], sent_at_s=0.0, now_s=0.0)
    window = view.own[Dimension.Tokens, MINUTE_S]
    window.hold_at_once(BURST, 0.0)
    return view, window


def needing(tokens: int) -> list[int]:
    needs = [0] * (max(KINDS.values()) + 4)
    needs[KINDS[Dimension.Tokens]] = tokens
    return needs


def test_a_request_larger_than_the_learned_burst_is_tried_when_nothing_else_is_there() -> None:
    view, window = learned()
    assert headroom_block(view, needing(20_000), 1.0) is None
    assert (window.limit, window.burst) == (LIMIT, 20_000)


def test_it_waits_while_others_use_the_window_and_then_goes() -> None:
    view, window = learned()
    window.account.adjust_used(3_000, 1.0)
    block = headroom_block(view, needing(20_000), 1.0)
    assert block is not None
    assert block.code == HEADROOM
    assert block.until_s is not None
    assert 1.0 < block.until_s <= 1.0 + 20_000 * 60.0 / LIMIT
    assert headroom_block(view, needing(20_000), block.until_s + 0.01) is None


def test_a_refusal_teaches_the_burst_anew() -> None:
    view, window = learned()
    assert headroom_block(view, needing(20_000), 1.0) is None
    window.hold_at_once(BURST, 2.0)
    assert window.capacity == BURST
    assert (window.headroom(2.0) or 0) <= BURST


def test_what_was_learned_is_doubted_once_in_a_while_and_not_by_every_large_request() -> None:
    view, window = learned()
    assert headroom_block(view, needing(20_000), 1.0) is None
    window.hold_at_once(BURST, 2.0)
    block = headroom_block(view, needing(20_000), 3.0)
    assert block is not None
    assert (block.code, block.until_s) == (HEADROOM, 1.0 + DOUBT_EVERY_S)
    assert window.burst == BURST
    assert headroom_block(view, needing(20_000), 1.0 + DOUBT_EVERY_S) is None


def test_what_the_told_limit_does_not_allow_is_refused_as_before() -> None:
    view, window = learned()
    block = headroom_block(view, needing(LIMIT + 1), 1.0)
    assert block is not None
    assert block.code == OVER_LIMIT
    assert window.burst == BURST
    assert window.source is Source.Header
