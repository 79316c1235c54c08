"""What is kept back of a limit for those who take unseen, and what pools of one provider learn from each other."""

from __future__ import annotations

from bisect import bisect_right
from random import Random

import pytest

from apikeyrouter.domain.ledger.bucket import Bucket
from apikeyrouter.domain.quota.bursts import CapacityWatch
from apikeyrouter.domain.quota.facts import MINUTE_S, Dimension, LimitFact, Refill, Source
from apikeyrouter.domain.quota.habits import Habits
from apikeyrouter.domain.quota.limits import KINDS, LIKELY, QuotaWindow
from apikeyrouter.domain.quota.margins import Margin, Others, corrected, steps_of, sure_wanted
from apikeyrouter.domain.quota.pools import PoolView, QuotaPool
from apikeyrouter.domain.resilience.durations import LimitFacts
from tests.support.dialects import TO_THE_CAP, QuietDialect

NEEDS = (1, 300, 2_000, 2_300, 1, 0, 400, 100)
TPM = (Dimension.Tokens, MINUTE_S)
RPM = (Dimension.Requests, MINUTE_S)


def two_pools() -> tuple[PoolView, PoolView]:
    habits = Habits()
    views = []
    for name in ("a", "b"):
        pool = QuotaPool(f"p/{name}", "p", 0.0, habits=habits)
        views.append(PoolView(pool, "m", QuietDialect(TO_THE_CAP)))
        pool.views["m"] = views[-1]
    return views[0], views[1]


def refuse(view: PoolView, dimension: Dimension, numbers: LimitFacts, retry_s: float, now_s: float) -> None:
    left = max(0, numbers.limit - (numbers.used or 0))
    fact = LimitFact(dimension, MINUTE_S, numbers.limit, left, source=Source.ErrorBody)
    view.refused([fact], [], NEEDS, sent_at_s=now_s - 0.1, now_s=now_s, numbers=numbers, retry_s=retry_s)


def poisson(mean: float, rng: Random) -> int:
    """How many come when so many are expected."""
    count, at = 0, rng.expovariate(1.0)
    while at < mean:
        count, at = count + 1, at + rng.expovariate(1.0)
    return count


def test_what_is_left_to_others_is_enough_as_often_as_wanted_and_one_less_would_not_be() -> None:
    rng = Random(3)
    for sure in (0.5, 0.86, 0.98):
        steps = steps_of(sure)
        for mean in (0.05, 0.4, 1.0, 4.0, 12.0):
            left = bisect_right(steps, mean)
            counts = [poisson(mean, rng) for _ in range(4_000)]
            assert sum(count <= left for count in counts) / 4_000 > sure - 0.03
            assert left == 0 or sum(count < left for count in counts) / 4_000 < sure + 0.03


def test_others_of_whom_half_a_request_is_expected_are_not_waited_for_when_an_even_chance_is_enough() -> None:
    assert bisect_right(steps_of(0.5), 0.6) == 0
    assert bisect_right(steps_of(0.5), 0.8) == 1


def test_a_request_of_a_short_bucket_is_sent_with_less_certainty_for_it_soon_runs_over() -> None:
    assert 0.5 <= sure_wanted(0.5) < sure_wanted(0.01) < 1.0
    assert sure_wanted(100.0) == sure_wanted(1.0)


def test_a_margin_settles_where_as_many_fit_as_wanted_whatever_is_believed_of_others() -> None:
    margin, rng, fitted = Margin(), Random(5), 0
    for step in range(20_000):
        now_s = float(step)
        # others are twice as many as believed: of 0.4 lumps expected, 0.8 come
        if poisson(0.8, rng) > bisect_right(margin.steps(), 0.4):
            margin.missed(0.87, now_s, now_s)
        else:
            fitted += 1
            margin.fitted(0.87)
    assert abs(fitted / 20_000 - 0.87) < 0.02


def test_requests_that_were_refused_together_count_once_and_caution_is_bounded() -> None:
    margin = Margin()
    before = margin.sure
    margin.missed(0.87, 1.0, 1.1)
    once = margin.sure
    for _ in range(50):
        margin.missed(0.87, 1.0, 1.1)
    assert before < margin.sure == once
    for step in range(10_000):
        margin.missed(0.87, 2.0 + step, 2.0 + step)
    assert once < margin.sure < 1.0
    for _ in range(100_000):
        margin.fitted(0.87)
    assert margin.sure == 0.5


def test_what_is_left_to_others_is_not_taken_for_what_they_took() -> None:
    account = Bucket("b", "requests", 100, 1.0, now_s=0.0)
    account.others_per_s, account.steps = 0.5, steps_of(0.5)
    assert corrected(account, 50.0, raised=0.3, since_s=0.0, now_s=0.0) == 50.0
    for second in range(4, 20, 4):  # told exactly what flowed back
        assert account.free(float(second)) == 50 + second - 2  # two are expected to be gone
        assert abs(corrected(account, 50.0 + second, raised=0.3, since_s=0.0, now_s=float(second))) < 1e-9
        assert account.free(float(second)) == 50 + second


def test_an_old_word_leaves_what_others_may_have_taken_since() -> None:
    account = Bucket("b", "tokens", 1_000, 10.0, now_s=0.0)
    account.others_per_s, account.lump, account.steps = 50.0, 100, steps_of(0.5)
    corrected(account, 500.0, raised=1.0, since_s=1.0, now_s=0.0)
    assert account.free(0.0) == 500  # half a request is expected: probably none came
    corrected(account, 500.0, raised=1.0, since_s=2.0, now_s=0.0)
    assert account.free(0.0) == 400


@pytest.mark.parametrize("fits", [0, 1, 2, 5])
def test_a_request_that_was_let_in_shows_that_others_cannot_have_taken_more_than_there_was(fits: int) -> None:
    rng, mean = Random(7), 1.4
    account = Bucket("b", "requests", 100, 0.0, now_s=0.0)
    account.steps, account.expected = steps_of(0.85), mean
    account.adjust_used(100 - fits, 0.0)
    account.let_in()
    counts = [count for count in (poisson(mean, rng) for _ in range(20_000)) if count <= fits]
    assert account.expected == pytest.approx(sum(counts) / len(counts), abs=0.03)
    assert account.withheld == bisect_right(account.steps, account.expected)


def test_only_where_no_reply_says_what_is_left_it_is_shown_by_being_let_in() -> None:
    view, _ = two_pools()
    for step in range(40):  # only refusals speak, and each finds less than was thought
        view.pool.shared[RPM].account.adjust_used(1, float(step))
        refuse(view, Dimension.Requests, LimitFacts(60, 60, 1, MINUTE_S), 1.0, 1.0 + 4.0 * step)
    window = view.own[RPM]
    assert isinstance(window.account, Bucket)
    assert window.unseen
    now_s = 170.0
    window.account.refresh(now_s)
    before = window.account.expected
    assert before > 1.0
    window.account.adjust_used((window.account.free(now_s) or 0) + window.account.withheld, now_s)
    view.admitted(view.windows, NEEDS, now_s)
    assert window.account.expected == 0.0
    told = LimitFact(Dimension.Requests, MINUTE_S, 60, 20, 40.0, refill=Refill.Continuous)
    for step in range(3):
        view.told([told], [], sent_at_s=172.0 + 2.0 * step, now_s=172.0 + 2.0 * step)
    assert not window.unseen


def test_the_time_when_it_fits_reckons_with_those_who_come_until_then() -> None:
    account = Bucket("b", "requests", 10, 1.0, now_s=0.0)
    account.adjust_used(10, 0.0)
    assert account.free_at_s(3, 0.0) == pytest.approx(3.0, abs=1e-3)
    account.others_per_s, account.steps = 0.5, steps_of(0.5)
    at_s = account.free_at_s(3, 0.0)
    assert at_s is not None
    assert at_s > 3.5
    assert (account.free(at_s - 0.01), account.free(at_s)) == (2, 3)


def test_others_do_not_shut_a_bucket_that_is_full() -> None:
    account = Bucket("b", "requests", 10, 1.0, now_s=0.0)
    account.others_per_s, account.steps = 0.9, steps_of(0.98)
    assert account.free(3_600.0) == 10
    account.adjust_used(9, 3_600.0)
    assert account.free(3_604.0) == 0  # four or five may have come
    assert account.free(3_700.0) == 10
    account.others_per_s = 0.0
    assert account.free(3_702.0) == 10


def test_what_others_take_is_learned_a_second_at_a_time_and_never_exceeds_the_limit() -> None:
    others = Others(0.0)
    assert not others.fold(5.0, 10.0, 0.5)
    assert others.fold(0.0, 10.0, 1.0)
    assert 0.0 < others.per_s < 5.0
    for second in range(2, 400):
        others.fold(1_000.0, 10.0, float(second))
    assert others.per_s == 9.0
    assert not others.fold(5.0, 0.0, 500.0)


def test_what_others_take_is_not_forgotten_while_a_bucket_is_full_for_then_it_does_not_show() -> None:
    others, idle = Others(0.0), Others(0.0)
    for second in range(1, 200):
        others.fold(2.0, 10.0, float(second))
        idle.fold(2.0, 10.0, float(second))
    assert others.per_s == pytest.approx(2.0, abs=0.2)
    for second in range(200, 500):  # everything was back before each word
        assert not idle.fold(0.0, 10.0, float(second), full_at_s=second - 0.5)
        others.fold(0.0, 10.0, float(second))
    assert idle.per_s == pytest.approx(2.0, abs=0.2)
    assert others.per_s < 0.2


def test_a_bucket_says_when_everything_had_flowed_back() -> None:
    account = Bucket("b", "requests", 10, 1.0, now_s=0.0)
    account.adjust_used(3, 1.0)
    account.refresh(3.0)
    assert account.full_at_s < 3.0
    account.refresh(4.5)
    assert account.full_at_s == 4.5


def test_a_pool_that_is_idle_for_long_remembers_its_others() -> None:
    window = QuotaWindow("w", Dimension.Requests, MINUTE_S, limit=None, source=Source.Header, now_s=0.0)
    level, now_s = 60.0, 0.0

    def ask(after_s: float) -> None:
        """One request; others take a quarter of what flows back, and the reply tells what is left."""
        nonlocal level, now_s
        now_s += after_s
        level = min(60.0, level + 0.75 * after_s) - 1.0
        if isinstance(window.account, Bucket):
            window.account.adjust_used(1, now_s)
        fact = LimitFact(Dimension.Requests, MINUTE_S, 60, int(level), 60.0 - level, refill=Refill.Continuous)
        window.observe(fact, mark=None, sent_at_s=now_s, now_s=now_s)

    for _ in range(500):
        ask(1.25)
    assert level < 50.0
    busy = window.foreign_per_s
    assert busy == pytest.approx(0.25, abs=0.1)
    for _ in range(100):
        ask(120.0)
    assert level == 59.0
    assert window.foreign_per_s == busy


def test_a_refusal_makes_surer_for_the_limit_that_was_short_and_for_no_other() -> None:
    view, _ = two_pools()
    facts = [
        LimitFact(Dimension.Requests, MINUTE_S, 60, 0, 60.0, refill=Refill.Continuous),
        LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 50_000, 10.0, refill=Refill.Continuous),
    ]
    view.told(facts, [], sent_at_s=0.0, now_s=0.0)
    before = view.own[TPM].margin.sure
    view.refused(facts, [], NEEDS, sent_at_s=1.0, now_s=1.1)
    assert view.own[RPM].margin.sure > before
    assert view.own[TPM].margin.sure == before


def test_how_output_is_charged_is_learned_once_for_all_pools_of_a_provider() -> None:
    one, other = two_pools()
    for view in (one, other):
        view.told([LimitFact(Dimension.Tokens, MINUTE_S, 60_000)], [], sent_at_s=0.0, now_s=0.0)
    assert other.own[TPM].kind == KINDS[Dimension.Tokens]
    refuse(one, Dimension.Tokens, LimitFacts(60_000, 59_900, 410, MINUTE_S), 0.31, 1.0)
    assert one.own[TPM].kind == other.own[TPM].kind == LIKELY[Dimension.Tokens]


def test_what_a_pool_has_seen_itself_is_not_overruled() -> None:
    one, other = two_pools()
    for view in (one, other):
        view.told([LimitFact(Dimension.Tokens, MINUTE_S, 60_000)], [], sent_at_s=0.0, now_s=0.0)
    refuse(other, Dimension.Tokens, LimitFacts(60_000, 59_900, 2_300, MINUTE_S), 2.2, 1.0)
    for now_s in (2.0, 3.0):  # one refusal against another says nothing yet
        refuse(one, Dimension.Tokens, LimitFacts(60_000, 59_900, 410, MINUTE_S), 0.31, now_s)
    assert other.own[TPM].kind == KINDS[Dimension.Tokens]
    assert one.own[TPM].kind == LIKELY[Dimension.Tokens]


def test_a_pool_whose_provider_has_buckets_is_one_and_a_new_one_begins_as_one() -> None:
    one, other = two_pools()
    for view in (one, other):
        view.told([LimitFact(Dimension.Requests, MINUTE_S, 60)], [], sent_at_s=0.0, now_s=0.0)
    assert other.own[RPM].refill is Refill.Rolling
    refuse(one, Dimension.Requests, LimitFacts(60, 60, 1, MINUTE_S), 0.9, 1.0)
    assert one.own[RPM].refill is other.own[RPM].refill is Refill.Continuous
    third = PoolView(one.pool, "m3", QuietDialect(TO_THE_CAP))
    third.told([LimitFact(Dimension.Requests, MINUTE_S, 60)], [], sent_at_s=2.0, now_s=2.0)
    assert third.own[RPM].refill is Refill.Continuous


def test_a_wait_that_another_limit_explains_is_no_evidence_against_a_bucket() -> None:
    view, _ = two_pools()
    view.told([LimitFact(Dimension.Requests, MINUTE_S, 60)], [], sent_at_s=0.0, now_s=0.0)
    refuse(view, Dimension.Requests, LimitFacts(60, 60, 1, MINUTE_S), 0.9, 1.0)
    view.told([LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 0)], [], sent_at_s=1.5, now_s=1.5)
    for now_s in (2.0, 3.0, 4.0):
        refuse(view, Dimension.Requests, LimitFacts(60, 60, 1, MINUTE_S), 30.0, now_s)
    assert view.own[RPM].refill is Refill.Continuous
    view.told(
        [LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 60_000, source=Source.ErrorBody)], [], sent_at_s=5.0, now_s=5.0
    )
    for now_s in (6.0, 7.0):
        refuse(view, Dimension.Requests, LimitFacts(60, 60, 1, MINUTE_S), 30.0, now_s)
    assert view.own[RPM].refill is Refill.Rolling


def test_a_limit_told_in_whole_units_never_makes_a_level_look_higher_than_it_is() -> None:
    rate_per_s, capacity = 104.4 / 60.0, 10.44  # told: 104 a minute
    watch, rng = CapacityWatch(), Random(5)
    for step in range(200):
        level = capacity * rng.random()
        reset_s = (capacity - level) / rate_per_s
        watch.observe(int(level), reset_s, 104, MINUTE_S, float(step))
        assert watch.level(reset_s, 104, MINUTE_S) <= level + 1e-9


def test_what_refusals_show_of_others_is_believed_though_nothing_else_is_told() -> None:
    window = QuotaWindow("w", Dimension.Requests, MINUTE_S, limit=None, source=Source.ErrorBody, now_s=0.0)
    window.observe(LimitFact(*RPM, 600, 300, source=Source.ErrorBody), mark=None, sent_at_s=0.0, now_s=0.0)
    window.bucket_seen(0.0, agrees=True)
    for second in range(1, 60):
        fact = LimitFact(*RPM, 600, 300, source=Source.ErrorBody)
        window.observe(fact, mark=None, sent_at_s=float(second), now_s=float(second))
    account = window.account
    assert isinstance(account, Bucket)
    assert account.others_per_s == window.foreign_per_s > 0.0


def test_where_only_refusals_tell_caution_settles_where_as_many_fit_as_wanted() -> None:
    account, margin, rng = Bucket("b", "requests", 100, 0.0, now_s=0.0), Margin(), Random(5)
    account.adjust_used(99, 0.0)
    wanted, refused = sure_wanted(0.01, unseen=True), 0
    for step in range(20_000):
        account.adjust_used(1, 0.0)
        margin.let_in(account, 0.0)  # taken for let in, before anybody knows
        # others are twice as many as believed: of 0.4 lumps expected, 0.8 come
        if poisson(0.8, rng) > bisect_right(margin.steps(), 0.4):
            refused += 1
            margin.heard(account, 0, 1, float(step), float(step), unseen=True)
        account.adjust_used(-1, 0.0)
    assert abs(refused / 20_000 - (1.0 - wanted)) < 0.01


@pytest.mark.parametrize("used", [31, 32])
def test_a_refusal_whose_numbers_are_rounded_makes_as_careful_as_any(used: int) -> None:
    view, _ = two_pools()
    for now_s in range(20):
        refuse(view, Dimension.Requests, LimitFacts(32, used, 1, MINUTE_S), 1.0, float(now_s))
    assert view.own[RPM].margin.sure > Margin().sure + 0.05


def test_a_request_that_leaves_room_for_another_shows_nothing_of_caution() -> None:
    account, margin = Bucket("b", "requests", 100, 0.0, now_s=0.0), Margin()
    before = margin.sure
    account.adjust_used(98, 0.0)
    margin.let_in(account, 0.0)
    margin.heard(account, 2, None, 0.0, 0.0, unseen=False)
    assert margin.sure == before
