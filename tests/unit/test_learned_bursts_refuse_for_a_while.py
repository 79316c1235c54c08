"""What was learned of bursts is a guess: a request that the told limit allows waits, and is not refused for ever."""

from __future__ import annotations

from collections.abc import Sequence

from apikeyrouter.domain.quota.doubts import DOUBT_EVERY_S
from apikeyrouter.domain.quota.facts import Dimension, LimitFact, Source
from apikeyrouter.domain.quota.limits import KINDS, QuotaWindow
from apikeyrouter.domain.quota.pools import PoolView
from apikeyrouter.domain.routing.sift import HEADROOM, OVER_LIMIT, headroom_block
from tests.support.choosing import MODEL, Chooses, choosing
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
    assert headroom_block(view, needing(20_000), 1.0, doubting=True) is None
    assert (window.limit, window.burst) == (LIMIT, 20_000)


def test_it_waits_while_others_use_the_window_and_then_goes() -> None:
    view, window = learned()
    window.account.adjust_used(3_000, 1.0)
    block = headroom_block(view, needing(20_000), 1.0, doubting=True)
    assert block is not None
    assert block.code == HEADROOM
    assert block.until_s is not None
    assert 1.0 < block.until_s <= 1.0 + 20_000 * 60.0 / LIMIT
    assert headroom_block(view, needing(20_000), block.until_s + 0.01) is None


def test_a_refusal_teaches_the_burst_anew() -> None:
    view, window = learned()
    assert headroom_block(view, needing(20_000), 1.0, doubting=True) is None
    window.hold_at_once(BURST, 2.0)
    assert window.capacity == BURST
    assert (window.headroom(2.0) or 0) <= BURST


def test_what_was_learned_is_doubted_once_in_a_while_and_not_by_every_large_request() -> None:
    view, window = learned()
    assert headroom_block(view, needing(20_000), 1.0, doubting=True) is None
    window.hold_at_once(BURST, 2.0)
    block = headroom_block(view, needing(20_000), 3.0, doubting=True)
    assert block is not None
    assert (block.code, block.until_s) == (HEADROOM, 1.0 + DOUBT_EVERY_S)
    assert window.burst == BURST
    assert headroom_block(view, needing(20_000), 1.0 + DOUBT_EVERY_S, doubting=True) is None


def test_what_the_told_limit_does_not_allow_is_refused_as_before() -> None:
    view, window = learned()
    block = headroom_block(view, needing(LIMIT + 1), 1.0)
    assert block is not None
    assert block.code == OVER_LIMIT
    assert window.burst == BURST
    assert window.source is Source.Header


def learn_bursts(world: Chooses, bursts: Sequence[int | None]) -> list[QuotaWindow]:
    """Each key's window of tokens, with what seems to fit into it at once."""
    windows = []
    for key_id, burst in zip(world.ids, bursts, strict=True):
        view = world.router.pools.view(world.router.key_manager.get(key_id), "openai", MODEL)
        (window,) = [one for one in view.windows if one.dimension is Dimension.Tokens]
        if burst is not None:
            window.hold_at_once(burst, world.clock.monotonic_s())
        windows.append(window)
    return windows


def test_nothing_is_doubted_while_another_pool_can_take_the_request_now_or_later() -> None:
    with choosing([{"tpm": 60_000}, {"tpm": 60_000}]) as world:
        small, large = learn_bursts(world, [500, None])
        first = world.choose(text="word " * 20_000)
        assert world.place(first) == 1
        assert world.choose(text="word " * 20_000) is None, "it waits for the large one"
        assert [rejection.code for rejection in world.decision().rejections] == [OVER_LIMIT, HEADROOM]
        assert (small.burst, large.burst) == (500, None)


def test_one_pool_is_doubted_when_all_seem_too_small_and_nobody_is_refused_for_ever() -> None:
    with choosing([{"tpm": 60_000}, {"tpm": 60_000}]) as world:
        windows = learn_bursts(world, [500, 500])
        taken = world.choose(text="word " * 2_000)
        assert taken is not None
        place = world.place(taken)
        assert windows[1 - place].burst == 500
        assert (windows[place].burst or 0) >= 2_000
        world.spend(taken)
        windows[place].hold_at_once(500, world.clock.monotonic_s())  # it was refused, which teaches the same again
        world.clock.advance(1.0)
        other = world.choose(text="word " * 2_000)
        assert world.place(other) == 1 - place
        assert other is not None
        world.spend(other)
        windows[1 - place].hold_at_once(500, world.clock.monotonic_s())
        assert world.choose(text="word " * 2_000) is None
        assert {one.code for one in world.decision().rejections} == {HEADROOM}
        world.clock.advance(DOUBT_EVERY_S)
        assert world.choose(text="word " * 2_000) is not None


def test_what_if_doubts_nothing() -> None:
    with choosing([{"tpm": 60_000}]) as world:
        (window,) = learn_bursts(world, [500])
        assert world.choose(text="word " * 2_000, outcome="dry_run") is None
        assert window.burst == 500
        assert window.doubted_at_s < 0.0
