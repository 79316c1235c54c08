"""What a limit holds at once, and how it flows back, as resets and refusals tell it."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from apikeyrouter.domain.cost.lengths import OutputLengths
from apikeyrouter.domain.ledger.bucket import Bucket
from apikeyrouter.domain.models.call import Call, Operation, peek
from apikeyrouter.domain.quota.bursts import CapacityWatch, agrees_with_a_bucket, horizon_of
from apikeyrouter.domain.quota.charging import Asked, Charging
from apikeyrouter.domain.quota.facts import DAY_S, MINUTE_S, Dimension, LimitFact, Refill, Source
from apikeyrouter.domain.quota.hints import refused_for_size
from apikeyrouter.domain.quota.limits import KINDS, LIKELY, QuotaWindow
from apikeyrouter.domain.quota.pools import PoolView, QuotaPool
from apikeyrouter.domain.resilience.durations import LimitFacts
from apikeyrouter.domain.routing.demand import demand_of
from tests.support.dialects import TO_THE_CAP, QuietDialect

NEEDS = (1, 300, 0, 300, 1, 0, 300, 0)


class ShortBucket:
    """A provider's bucket: `limit` a minute flow in, `capacity` fit. Says what is left of it, or of the minute."""

    def __init__(self, limit: int, capacity: int) -> None:
        self.limit, self.capacity, self.level = limit, capacity, float(capacity)

    @property
    def reset_s(self) -> float:
        return (self.capacity - self.level) * MINUTE_S / self.limit

    def later(self, elapsed_s: float) -> None:
        self.level = min(float(self.capacity), self.level + elapsed_s * self.limit / MINUTE_S)

    def fact(self) -> LimitFact:
        return LimitFact(Dimension.Tokens, MINUTE_S, self.limit, int(self.level), self.reset_s)


def tokens_window(limit: int | None = None) -> QuotaWindow:
    return QuotaWindow("w", Dimension.Tokens, MINUTE_S, limit=limit, source=Source.Header, now_s=0.0)


def a_view() -> PoolView:
    pool = QuotaPool("p/k", "p", 0.0)
    view = pool.views["m"] = PoolView(pool, "m", QuietDialect(TO_THE_CAP))
    return view


def refuse(view: PoolView, fact: LimitFact, numbers: LimitFacts | None, retry_s: float, now_s: float = 1.0) -> None:
    view.refused([fact], [], NEEDS, sent_at_s=now_s, now_s=now_s, numbers=numbers, retry_s=retry_s)


# -- by resets ---------------------------------------------------------------------------------------------------------


def test_remaining_and_reset_together_tell_how_much_a_bucket_holds() -> None:
    window, bucket = tokens_window(), ShortBucket(60_000, 6_000)
    for step in range(20):
        bucket.level -= 400 if step % 2 else 0
        window.observe(bucket.fact(), mark=step, sent_at_s=step * 0.5, now_s=step * 0.5)
        bucket.later(0.5)
    assert (window.limit, window.refill) == (60_000, Refill.Continuous)
    assert window.burst == pytest.approx(6_000, rel=0.02)
    assert (window.headroom(1_000.0) or 0) <= 6_000
    assert window.rate_per_s == 1_000.0


def test_a_window_that_ends_as_a_whole_is_no_short_bucket() -> None:
    watch = CapacityWatch()
    told = [watch.observe(300, 59.0 - 0.5 * step, 1_000, MINUTE_S, 0.5 * step) for step in range(100)]
    assert told == [None] * 100


def test_a_rolling_window_in_steady_use_is_no_short_bucket() -> None:
    window = tokens_window()
    for step in range(40):
        fact = LimitFact(Dimension.Tokens, MINUTE_S, 1_000, 400, 59.9)
        window.observe(fact, mark=step, sent_at_s=0.5 * step, now_s=0.5 * step)
    assert (window.burst, window.refill) == (None, Refill.Rolling)


def test_a_bucket_that_grew_back_to_its_limit_holds_all_of_it() -> None:
    window = tokens_window()
    for capacity, begin_s in ((6_000, 0.0), (60_000, 100.0)):
        bucket = ShortBucket(60_000, capacity)
        for step in range(20):
            now_s = begin_s + 0.5 * step
            window.observe(bucket.fact(), mark=step, sent_at_s=now_s, now_s=now_s)
    assert (window.burst, window.capacity) == (None, 60_000)


def test_a_new_limit_scales_what_fits_at_once() -> None:
    window = tokens_window(60_000)
    window.hold_at_once(6_000, 0.0, hidden=True)
    window.set_limit(30_000, Source.Header, 0.0)
    assert (window.burst, window.hidden, window.account.limit) == (3_000, 27_000, 3_000)


@given(
    limit=st.integers(10, 10**7),
    share=st.floats(0.001, 2.0),
    remaining=st.integers(0, 10**7),
    hidden=st.booleans(),
)
def test_nobody_believes_in_more_than_what_was_told_or_fits(
    limit: int, share: float, remaining: int, hidden: bool
) -> None:
    window = tokens_window()
    window.observe(LimitFact(Dimension.Tokens, MINUTE_S, limit, remaining), mark=0, sent_at_s=0.0, now_s=0.0)
    window.hold_at_once(int(limit * share), 1.0, hidden=hidden)
    free = window.headroom(1.0) or 0
    assert window.capacity is not None
    assert 1 <= window.capacity <= limit
    assert free <= min(remaining, window.capacity)
    window.observe(LimitFact(Dimension.Tokens, MINUTE_S, limit, remaining), mark=1, sent_at_s=1.0, now_s=1.0)
    assert (window.headroom(1.0) or 0) <= max(free, remaining - window.hidden, 0)


# -- by refusals -------------------------------------------------------------------------------------------------------


def test_a_refusal_while_plenty_is_told_says_what_really_fits() -> None:
    view = a_view()
    view.told([LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 59_000, 1.0)], [], sent_at_s=0.0, now_s=0.0)
    # 6,000 fit, 100 are left: 54,100 are told to remain, and 300 must wait for 200 more
    fact = LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 54_100, 5.9, source=Source.ErrorBody)
    refuse(view, fact, LimitFacts(60_000, 5_900, 300, MINUTE_S), retry_s=0.2)
    window = view.own[Dimension.Tokens, MINUTE_S]
    assert view.learner.burst_horizon_s == pytest.approx(6.0, abs=0.01)
    assert window.burst == pytest.approx(6_000, abs=2)
    assert window.headroom(1.0) == pytest.approx(100, abs=3)
    assert window.account.free_at_s(300, 1.0) == pytest.approx(1.2, abs=0.05)
    assert not view.learner.bursts


def test_without_numbers_the_horizon_that_explains_the_whole_wait_is_believed() -> None:
    view = a_view()
    facts = [
        LimitFact(Dimension.Requests, MINUTE_S, 600, 595, 0.5),
        LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 54_100, 5.9),
    ]
    view.told(facts, [], sent_at_s=0.0, now_s=0.0)
    view.refused(facts, [], NEEDS, sent_at_s=0.0, now_s=1.0, retry_s=0.05)
    assert view.learner.burst_horizon_s == pytest.approx(6.15, abs=0.02)
    assert view.own[Dimension.Requests, MINUTE_S].burst == pytest.approx(61, abs=1)


def test_a_wait_that_no_bucket_explains_teaches_no_horizon() -> None:
    view = a_view()
    fact = LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 54_100, 5.9)
    view.told([fact], [], sent_at_s=0.0, now_s=0.0)
    view.refused([fact], [], NEEDS, sent_at_s=0.0, now_s=1.0, retry_s=30.0)
    assert view.learner.horizon_s is None
    assert view.own[Dimension.Tokens, MINUTE_S].burst is None


def test_the_wait_of_one_refusal_tells_a_bucket_from_a_window() -> None:
    for retry_s, refill in ((0.5, Refill.Continuous), (31.0, Refill.Rolling)):
        view = a_view()
        fact = LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 100, source=Source.ErrorBody)
        refuse(view, fact, LimitFacts(60_000, 59_900, 600, MINUTE_S), retry_s)
        assert view.own[Dimension.Tokens, MINUTE_S].refill is refill


def test_two_waits_that_no_bucket_asks_for_end_that_belief() -> None:
    view = a_view()
    fact = LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 100, source=Source.ErrorBody)
    numbers = LimitFacts(60_000, 59_900, 600, MINUTE_S)
    for retry_s, refill in ((0.5, Refill.Continuous), (20.0, Refill.Continuous), (20.0, Refill.Rolling)):
        refuse(view, fact, numbers, retry_s)
        assert view.own[Dimension.Tokens, MINUTE_S].refill is refill


def test_what_a_refusal_says_was_requested_tells_how_output_is_charged() -> None:
    view = a_view()
    needs = (1, 300, 4_000, 4_300, 1, 0, 350, 50)
    fact = LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 100, source=Source.ErrorBody)
    numbers = LimitFacts(60_000, 59_900, 340, MINUTE_S)
    view.refused([fact], [], needs, sent_at_s=0.0, now_s=0.0, numbers=numbers, retry_s=0.24)
    assert view.lines(needs)[0][1] == 350


@pytest.mark.parametrize(
    ("requested", "cap", "likely", "by_likely"),
    [(340, 4_300, 350, True), (4_200, 4_300, 350, False), (2_300, 4_300, 350, None), (340, 351, 350, None)],
)
def test_the_nearer_charge_is_believed_where_it_is_clearly_nearer(
    requested: int, cap: int, likely: int, by_likely: bool | None
) -> None:
    assert Asked().weigh(requested, cap, likely) is by_likely


def test_one_large_input_does_not_outweigh_the_refusals_before_it() -> None:
    asked = Asked()
    assert asked.weigh(6_618, 9_069, 7_047) is True
    assert asked.weigh(4_936, 5_608, 3_583) is True, "38 % more than was estimated, in another pool of the provider"
    assert [asked.weigh(5_500, 5_608, 3_583) for _ in range(3)][-1] is False


def test_what_was_used_and_is_left_comes_back_up_at_once_when_a_sentence_says_it() -> None:
    window = tokens_window(1_000)
    window.observe(LimitFact(Dimension.Tokens, MINUTE_S, 1_000, 0), mark=0, sent_at_s=0.0, now_s=0.0)
    fact = LimitFact(Dimension.Tokens, MINUTE_S, 1_000, 500, source=Source.ErrorBody)
    window.observe(fact, mark=1, sent_at_s=0.0, now_s=0.0)
    assert window.headroom(0.0) == 500


def test_numbers_that_do_not_add_up_agree_with_no_bucket() -> None:
    assert not agrees_with_a_bucket(LimitFacts(1_000, None, 100, MINUTE_S), MINUTE_S, 1.0)
    assert not agrees_with_a_bucket(LimitFacts(1_000, 100, 2_000, MINUTE_S), MINUTE_S, 66.0)
    assert not agrees_with_a_bucket(LimitFacts(1_000, 100, 100, MINUTE_S), MINUTE_S, 0.0)
    assert agrees_with_a_bucket(LimitFacts(60, 60, 1, MINUTE_S), MINUTE_S, 0.4)


def test_a_wait_is_rounded_up_to_a_millisecond_or_a_second_and_still_that_of_a_bucket() -> None:
    large = LimitFacts(266_387, 266_185, 212, MINUTE_S)  # 10 short, 4,440 a second: 2.3 ms
    assert agrees_with_a_bucket(large, MINUTE_S, 0.003)
    assert not agrees_with_a_bucket(large, MINUTE_S, 0.005)
    assert agrees_with_a_bucket(large, MINUTE_S, 1.0)
    assert agrees_with_a_bucket(large, MINUTE_S, 1)  # a whole number is a number of seconds too
    assert not agrees_with_a_bucket(large, MINUTE_S, 2.0)
    assert not agrees_with_a_bucket(large, MINUTE_S, 0.9)


@given(
    limit=st.integers(60, 10**7),
    horizon_s=st.floats(1.0, 50.0),
    level=st.floats(0.0, 0.9),
    more=st.floats(0.001, 0.9),
)
def test_the_horizon_of_a_short_bucket_is_found_from_any_of_its_refusals(
    limit: int, horizon_s: float, level: float, more: float
) -> None:
    rate = limit / MINUTE_S
    capacity = rate * horizon_s
    left = level * capacity
    need = int(left + more * (capacity - left)) + 1
    assume(need <= capacity)  # what is larger never fits, and teaches no horizon
    used, wait_s = round(capacity - left), (need - left) / rate
    for retry_s in (wait_s, math.ceil(wait_s * 1000) / 1000, math.ceil(wait_s)):
        found = horizon_of(limit, MINUTE_S, (used - 0.5, used + 0.5), need, retry_s)
        assert found is not None
        assert found[0] <= horizon_s + 1e-6
        assert horizon_s - 1e-6 <= found[1]
        assert found[1] - found[0] <= 1.0 / rate + 1.0 + horizon_s / limit + 1e-6, "a unit, and a wait in whole seconds"


# -- fractions ---------------------------------------------------------------------------------------------------------


def test_the_reset_says_what_whole_units_leave_out() -> None:
    window, bucket = QuotaWindow("w", Dimension.Requests, MINUTE_S, limit=None, source=Source.Header, now_s=0.0), None
    level = 30.0
    for step in range(60):
        level = min(30.0, level + 0.25) - (1.0 if step < 40 else 0.0)
        fact = LimitFact(Dimension.Requests, MINUTE_S, 30, max(0, int(level)), (30 - level) * 2.0)
        if level >= 0:
            window.observe(fact, mark=step, sent_at_s=step * 0.5, now_s=step * 0.5)
            bucket = window.account
    assert isinstance(bucket, Bucket)
    assert level - 0.75 <= bucket.exact(29.5) <= level + 0.05


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(-50.0, 50.0)), max_size=40), st.integers(0, 20))
def test_a_bucket_corrected_by_parts_never_owes_less_than_nothing(steps: list[tuple[int, float]], held: int) -> None:
    bucket = Bucket("b", "requests", 40, 1.0, now_s=0.0)
    bucket.held = held
    now_s = 0.0
    for seconds, delta in steps:
        now_s += seconds
        before = bucket.exact(now_s)
        bucket.adjust_exact(delta, now_s)
        assert bucket.used + bucket.held >= 0
        assert bucket.exact(now_s) == pytest.approx(min(40.0, before - delta), abs=1e-6)
        assert (bucket.free(now_s) or 0) <= max(0.0, bucket.exact(now_s))


def test_limits_that_differ_by_a_rounding_do_not_wear_down_what_fits() -> None:
    window = tokens_window(68)
    window.observe(LimitFact(Dimension.Tokens, MINUTE_S, 68, 60), mark=0, sent_at_s=0.0, now_s=0.0)
    window.hold_at_once(6, 0.0)
    for limit in (69, 68) * 20:
        window.set_limit(limit, Source.Header, 0.0)
    assert (window.burst, window.hidden) == (6, 62)


def test_a_sentence_that_counts_from_the_whole_limit_is_understood_in_a_short_bucket() -> None:
    view = a_view()
    bucket = ShortBucket(60_000, 6_000)
    for step in range(12):
        view.told([bucket.fact()], [], sent_at_s=0.5 * step, now_s=0.5 * step)
        bucket.later(0.5)
    window = view.own[Dimension.Tokens, MINUTE_S]
    assert (window.burst, window.hidden) == (6_000, 0)
    fact = LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 54_100, 5.9, source=Source.ErrorBody)
    refuse(view, fact, LimitFacts(60_000, 5_900, 300, MINUTE_S), retry_s=0.2, now_s=6.0)
    assert (window.burst, window.hidden) == (6_000, 0)
    assert window.headroom(6.0) == 100


def test_each_refusal_narrows_the_horizon_down() -> None:
    view = a_view()
    view.told([LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 59_000, 1.0)], [], sent_at_s=0.0, now_s=0.0)
    learner = view.learner
    spans = (((3.0, 8.0), 5.5), ((5.0, math.inf), 6.5), ((4.0, 7.0), 6.0), ((5.9, 6.3), 6.1), ((5.0, 9.0), 6.1))
    for span, believed_s in spans:
        learner.told_horizon(*span, view.own, 0.0)
        assert learner.horizon_s == pytest.approx(believed_s)
        assert view.own[Dimension.Tokens, MINUTE_S].burst == pytest.approx(1_000 * believed_s, abs=1)
    learner.told_horizon(12.0, 12.2, view.own, 0.0)
    assert learner.horizon_s == pytest.approx(12.1), "nothing makes it seem too long"


def test_a_shorter_horizon_is_believed_when_it_comes_again_and_again() -> None:
    view = a_view()
    view.told([LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 59_000, 1.0)], [], sent_at_s=0.0, now_s=0.0)
    learner = view.learner
    learner.told_horizon(6.0, 6.0, view.own, 0.0)
    spans = ((2.0, 2.2), (2.0, 2.2), (6.0, 6.0), (2.0, 2.2), (2.0, 2.2))
    for now_s, span in enumerate(spans):
        for _ in range(5):  # refused together
            learner.told_horizon(*span, view.own, float(now_s))
        assert learner.horizon_s == 6.0, "a longer wait for another limit may be all"
    learner.told_horizon(2.0, 2.2, view.own, 9.0)
    assert learner.horizon_s == pytest.approx(2.1)


@pytest.mark.parametrize("begin", ["recalled", "widened"])
def test_where_only_the_least_is_told_what_was_believed_stays(begin: str) -> None:
    view = a_view()
    view.told([LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 59_000, 1.0)], [], sent_at_s=0.0, now_s=0.0)
    learner = view.learner
    if begin == "recalled":
        learner.recall(12.0, {}, view.own, 0.0)
    else:
        learner.told_horizon(3.5, 8.5, view.own, 0.0)
        learner.widen(view.own, 400.0)
    for low_s, believed_s in ((0.0, 12.0), (1.0, 12.0), (20.0, 20.0)):
        learner.told_horizon(low_s, math.inf, view.own, 500.0)
        assert learner.horizon_s == believed_s


def test_a_refusal_that_leaves_no_room_for_one_unit_tells_no_horizon() -> None:
    view = a_view()
    told = [
        LimitFact(Dimension.Requests, MINUTE_S, 60, 60, 0.0),
        LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 59_000, 1.0),
    ]
    view.refused(told, [], NEEDS, sent_at_s=0.0, now_s=0.0, retry_s=2.0)
    assert view.learner.horizon_s is None
    view.learner.told_horizon(0.0, 0.001, view.own, 1.0)
    assert view.learner.horizon_s == 1.0, "nobody counts in less"


def test_a_horizon_that_was_given_up_is_learned_anew() -> None:
    view = a_view()
    view.told([LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 59_000, 1.0)], [], sent_at_s=0.0, now_s=0.0)
    learner = view.learner
    learner.told_horizon(30.0, 30.0, view.own, 0.0)
    learner.widen(view.own, 400.0)
    assert learner.horizon_s is None
    learner.told_horizon(3.0, 3.0, view.own, 500.0)
    assert learner.horizon_s == 3.0


def test_whole_requests_tell_the_horizon_bit_by_bit() -> None:
    # 24 a minute over 6 s: 2.4 fit; "Used 2" may be 1.5 to 2.5
    view, rng, bucket = a_view(), Random(5), 2.4
    for step in range(200):
        bucket = min(2.4, bucket + rng.uniform(0.5, 2.0) * 0.4)
        if bucket >= 1.0:
            bucket -= 1.0
            continue
        retry_s = math.ceil((1.0 - bucket) / 0.4 * 1000) / 1000
        fact = LimitFact(Dimension.Requests, MINUTE_S, 24, 24 - round(2.4 - bucket), source=Source.ErrorBody)
        refuse(view, fact, LimitFacts(24, round(2.4 - bucket), 1, MINUTE_S), retry_s, now_s=10.0 * step)
    assert view.learner.horizon_s == pytest.approx(6.0, abs=0.2)


def test_a_request_that_can_never_fit_bounds_what_does() -> None:
    view = a_view()
    fact = LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 54_100, source=Source.ErrorBody)
    refuse(view, fact, LimitFacts(60_000, 5_900, 300, MINUTE_S), retry_s=0.2)
    view.served(1_000.0)  # nothing spoke for it for long: doubled
    window = view.own[Dimension.Tokens, MINUTE_S]
    assert window.burst == pytest.approx(12_000, abs=5)
    fact = LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 59_000, source=Source.ErrorBody)
    refuse(view, fact, LimitFacts(60_000, 1_000, 7_000, MINUTE_S), retry_s=60.0, now_s=1_001.0)
    assert 6_000 < (window.burst or 0) < 8_000


def test_a_horizon_that_refusals_confirm_is_not_given_up() -> None:
    view = a_view()
    for now_s in (0.0, 250.0, 500.0):
        fact = LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 54_100, source=Source.ErrorBody)
        refuse(view, fact, LimitFacts(60_000, 5_900, 300, MINUTE_S), retry_s=0.2, now_s=now_s)
        view.served(now_s + 249.0)
    assert view.learner.horizon_s == pytest.approx(6.0, abs=0.01)
    view.served(800.0)
    assert view.learner.horizon_s == pytest.approx(12.0, abs=0.02)


def test_a_bucket_that_turns_out_to_be_short_is_not_taken_for_full() -> None:
    view = a_view()
    fact = LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 60_000 - 100, source=Source.ErrorBody)
    view.told([fact], [], sent_at_s=0.0, now_s=0.0)
    fact = LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 54_100, source=Source.ErrorBody)
    refuse(view, fact, LimitFacts(60_000, 5_900, 300, MINUTE_S), retry_s=0.2)
    assert view.own[Dimension.Tokens, MINUTE_S].headroom(1.0) == pytest.approx(100, abs=3)


TOKENS_LEFT = LimitFact(Dimension.Tokens, MINUTE_S, 1_000, 100, source=Source.ErrorBody)
NONE_LEFT = LimitFact(Dimension.Tokens, MINUTE_S, 1_000, 0, source=Source.ErrorBody)


@pytest.mark.parametrize(
    ("fact", "numbers", "retry_s", "kept"),
    [
        (TOKENS_LEFT, (1_000, 900, 300), 12.0, True),
        (TOKENS_LEFT, (1_000, 900, 300), None, True),
        (TOKENS_LEFT, (1_000, 900, 101), 12.0, True),
        (NONE_LEFT, (1_000, 1_000, 300), 18.0, True),
        (replace(TOKENS_LEFT, dimension=Dimension.InputTokens), None, 12.0, True),
        (NONE_LEFT, (1_000, None, 300), 18.0, False),
        (NONE_LEFT, None, 18.0, False),
        (replace(TOKENS_LEFT, remaining=400), (1_000, 600, 300), 1.0, False),
        # by our own count it would fit, and would be sent again
        (replace(TOKENS_LEFT, remaining=400), (1_000, 600, 5_000), 1.0, False),
        (replace(TOKENS_LEFT, source=Source.Header), (1_000, 900, 300), 12.0, False),
        (replace(TOKENS_LEFT, period_s=DAY_S), (1_000, 900, 300), 12.0, False),
        # longer than this limit asks for: another one is short too, for whomever
        (TOKENS_LEFT, (1_000, 900, 300), 70.0, False),
        (LimitFact(Dimension.Requests, MINUTE_S, 10, 0, source=Source.ErrorBody), (10, 10, 1), 6.0, False),
    ],
)
def test_a_refusal_is_for_size_where_the_named_limit_says_what_is_left_and_that_is_too_little(
    fact: LimitFact, numbers: tuple[int, int | None, int] | None, retry_s: float | None, *, kept: bool
) -> None:
    view, said = a_view(), None if numbers is None else LimitFacts(*numbers, MINUTE_S)
    view.told([fact], [], sent_at_s=0.0, now_s=0.0)
    assert refused_for_size(view, [fact], NEEDS, said, retry_s) is kept


def test_of_a_bucket_the_wait_says_whether_another_limit_was_short_too() -> None:
    view, numbers = a_view(), LimitFacts(1_000, 900, 300, MINUTE_S)
    refuse(view, TOKENS_LEFT, numbers, 12.0)
    assert view.own[Dimension.Tokens, MINUTE_S].refill is Refill.Continuous
    assert [refused_for_size(view, [TOKENS_LEFT], NEEDS, numbers, wait_s) for wait_s in (12.0, 14.0, 20.0)] == [
        True, True, False,
    ]  # fmt: skip


def test_a_limit_that_is_told_of_later_holds_what_comes_back_within_the_horizon_too() -> None:
    view = a_view()
    tokens = LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 54_100, source=Source.ErrorBody)
    refuse(view, tokens, LimitFacts(60_000, 5_900, 300, MINUTE_S), retry_s=0.2)
    assert view.learner.horizon_s == pytest.approx(6.0, abs=0.01)
    requests = LimitFact(Dimension.Requests, MINUTE_S, 60, 54, source=Source.ErrorBody)
    refuse(view, requests, LimitFacts(60, 6, 1, MINUTE_S), retry_s=0.5, now_s=2.0)
    assert view.learner.horizon_s == pytest.approx(6.0, abs=0.01), "by whole requests it is only known to a second"
    window = view.own[Dimension.Requests, MINUTE_S]
    assert window.burst == 6


def test_a_horizon_is_given_up_bit_by_bit_when_nothing_speaks_for_it_any_more() -> None:
    view = a_view()
    view.told([LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 59_000, 1.0)], [], sent_at_s=0.0, now_s=0.0)
    view.learner.told_horizon(20.0, 20.0, view.own, 0.0)
    window = view.own[Dimension.Tokens, MINUTE_S]
    view.served(299.0)
    assert window.burst == 20_000
    view.served(300.0)
    assert (view.learner.burst_horizon_s, window.burst) == (40.0, 40_000)
    view.served(301.0)
    assert window.burst == 40_000
    view.served(600.0)
    assert (view.learner.burst_horizon_s, window.burst, window.hidden) == (60.0, None, 0)


def test_a_horizon_outlives_the_process_that_learned_it() -> None:
    view = a_view()
    view.told([LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 59_000, 1.0)], [], sent_at_s=0.0, now_s=0.0)
    view.learner.recall(6.0, {}, view.own, 0.0)
    assert view.learner.burst_horizon_s == 6.0
    assert view.own[Dimension.Tokens, MINUTE_S].burst == 6_000


def test_what_others_may_have_taken_since_a_reply_was_written_is_left_to_them() -> None:
    window = tokens_window()
    window.observe(LimitFact(Dimension.Tokens, MINUTE_S, 6_000, 5_999, 0.01), mark=0, sent_at_s=0.0, now_s=0.0)
    assert window.refill is Refill.Continuous
    window.usual_need = 100.0
    account = window.account
    assert isinstance(account, Bucket)
    # what flowed back in that second, less one request of 100 more than is expected, or all there is
    for others_per_s, free in ((0.0, 1_100), (50.0, 1_000), (90.0, 900), (5_000.0, 0)):
        account.others_per_s = others_per_s
        window.account.adjust_used(-10_000, 0.0)
        window.observe(LimitFact(Dimension.Tokens, MINUTE_S, 6_000, 1_000, 50.0), mark=0, sent_at_s=-1.0, now_s=0.0)
        assert window.headroom(0.0) == free


def test_the_next_try_asks_for_what_the_provider_counted() -> None:
    body = b'{"model":"m","max_tokens":4000,"messages":[{"role":"user","content":"' + b"a" * 400 + b'"}]}'
    demand = demand_of(Call("r", Operation.Chat, "m", body, peek(body), started_s=0.0, deadline_s=9.0), OutputLengths())
    rule = TO_THE_CAP
    before = demand.needs(rule)
    tokens, likely = KINDS[Dimension.Tokens], LIKELY[Dimension.Tokens]
    demand.counted_as(rule, (tokens, likely), 777)
    after = demand.needs(rule)
    assert (after[tokens], after[likely]) == (777, 777)
    assert [n for i, n in enumerate(after) if i not in (tokens, likely)] == [
        n for i, n in enumerate(before) if i not in (tokens, likely)
    ]


@pytest.mark.parametrize("by_use", [True, False])
@pytest.mark.parametrize(("holds_s", "every_s"), [(1.0, 0.7), (6.0, 0.2), (60.0, 0.2)])
def test_how_output_is_charged_shows_in_what_is_left_however_little_a_bucket_holds(
    holds_s: float, every_s: float, *, by_use: bool
) -> None:
    charging, rate_per_s, rng = Charging(), 4_000.0, Random(4)
    capacity = int(rate_per_s * holds_s)
    level, now_s, found = float(capacity), 0.0, []
    for _ in range(600):
        gap_s = every_s * rng.uniform(0.2, 1.8)
        now_s += gap_s
        likely, cap = rng.randrange(600, 1_800), 2_900
        level = min(capacity, level + rate_per_s * gap_s)
        charged = likely if by_use else cap
        if charged > level:
            continue
        level -= charged
        charging.admitted(cap, likely)
        word = charging.observe(int(level), capacity, rate_per_s, now_s)
        found += [] if word is None else [word]
    assert len(found) > 3
    assert set(found[3:]) == {by_use}
