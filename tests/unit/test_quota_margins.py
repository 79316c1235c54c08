"""What is kept back of a limit for those who take unseen, and what pools of one provider learn from each other."""

from __future__ import annotations

from random import Random
from typing import Any

from apikeyrouter.domain.ledger.bucket import Bucket
from apikeyrouter.domain.quota.bursts import CapacityWatch
from apikeyrouter.domain.quota.facts import MINUTE_S, ChargeRule, Dimension, LimitFact, Refill, Source
from apikeyrouter.domain.quota.habits import Habits
from apikeyrouter.domain.quota.limits import KINDS, LIKELY, QuotaWindow
from apikeyrouter.domain.quota.margins import MISSES, Margin, Others, corrected
from apikeyrouter.domain.quota.pools import PoolView, QuotaPool
from apikeyrouter.domain.resilience.durations import LimitFacts

NEEDS = (1, 300, 2_000, 2_300, 1, 0, 400, 100)
TPM = (Dimension.Tokens, MINUTE_S)
RPM = (Dimension.Requests, MINUTE_S)


class QuietDialect:
    charges = ChargeRule(output_at_admission="cap", corrected=False)
    header_limits = True

    def models_sharing(self, model: str) -> str:
        return model

    def of_reply(self, *_: Any, **__: Any) -> list[LimitFact]:
        return []

    def of_failure(self, *_: Any, **__: Any) -> list[LimitFact]:
        return []

    def of_tier(self, *_: Any) -> list[LimitFact]:
        return []


def two_pools() -> tuple[PoolView, PoolView]:
    habits = Habits()
    views = []
    for name in ("a", "b"):
        pool = QuotaPool(f"p/{name}", "p", 0.0, habits=habits)
        views.append(PoolView(pool, "m", QuietDialect()))
        pool.views["m"] = views[-1]
    return views[0], views[1]


def refuse(view: PoolView, dimension: Dimension, numbers: LimitFacts, retry_s: float, now_s: float) -> None:
    left = max(0, numbers.limit - (numbers.used or 0))
    fact = LimitFact(dimension, MINUTE_S, numbers.limit, left, source=Source.ErrorBody)
    view.refused([fact], [], NEEDS, sent_at_s=now_s - 0.1, now_s=now_s, numbers=numbers, retry_s=retry_s)


def test_a_margin_settles_where_as_few_are_refused_as_wanted() -> None:
    margin, rng, refused = Margin(), Random(3), 0
    for step in range(20_000):
        now_s = float(step)
        if rng.random() > margin.requests:  # one request takes in what others took: up to one
            refused += 1
            margin.missed(now_s, now_s)
        else:
            margin.fitted(1.0, 100.0)
    assert 0.9 * MISSES < refused / 20_000 < 1.3 * MISSES


def test_requests_that_were_refused_together_count_once_and_the_margin_is_bounded() -> None:
    margin = Margin()
    margin.missed(1.0, 1.1)
    once = margin.requests
    for _ in range(50):
        margin.missed(1.0, 1.1)
    assert margin.requests == once
    margin.missed(1.2, 1.3)
    assert 0.0 < once < margin.requests
    for step in range(10_000):
        margin.missed(2.0 + step, 2.0 + step)
    assert margin.keep(1.0, 0.0, 1_000.0) == 3.0
    assert margin.keep(1.0, 0.0, 8.0) == 2.0  # of a small limit a quarter at the most


def test_plenty_ends_a_margin() -> None:
    margin = Margin()
    margin.missed(0.0, 0.1)
    margin.fitted(40.0, 100.0)
    assert margin.requests > 0.0
    margin.fitted(60.0, 100.0)
    assert margin.requests == 0.0


def test_what_is_kept_back_is_not_taken_for_what_others_took() -> None:
    account, margin, others = Bucket("b", "requests", 100, 1.0, now_s=0.0), Margin(), Others(0.0)
    margin.missed(0.0, 0.0)
    margin.requests = 2.0
    assert corrected(account, margin, 50.0, usual=1.0, others=others, raised=0.3, now_s=0.0) == 50.0
    assert account.exact(0.0) == 48.0
    for second in range(1, 20):  # told exactly what flowed back
        lost = corrected(account, margin, 50.0 + second, usual=1.0, others=others, raised=0.3, now_s=float(second))
        assert abs(lost) < 1e-9
        assert account.exact(float(second)) == 48.0 + second
    assert corrected(account, margin, 100.0, usual=1.0, others=others, raised=1.0, now_s=60.0) == 0.0


def test_what_others_take_is_learned_a_second_at_a_time_and_never_exceeds_the_limit() -> None:
    others = Others(0.0)
    assert not others.fold(5.0, 10.0, 0.5)
    assert others.fold(0.0, 10.0, 1.0)
    assert 0.0 < others.per_s < 5.0
    for second in range(2, 400):
        others.fold(1_000.0, 10.0, float(second))
    assert others.per_s == 9.0
    assert not others.fold(5.0, 0.0, 500.0)


def test_a_refusal_widens_the_margin_of_the_limit_that_was_short_and_of_no_other() -> None:
    view, _ = two_pools()
    facts = [
        LimitFact(Dimension.Requests, MINUTE_S, 60, 0, 60.0),
        LimitFact(Dimension.Tokens, MINUTE_S, 60_000, 50_000, 10.0),
    ]
    view.told(facts, [], sent_at_s=0.0, now_s=0.0)
    view.refused(facts, [], NEEDS, sent_at_s=1.0, now_s=1.1)
    assert view.own[RPM].margin.requests > 0.0
    assert view.own[TPM].margin.requests == 0.0


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
    refuse(one, Dimension.Tokens, LimitFacts(60_000, 59_900, 410, MINUTE_S), 0.31, 2.0)
    assert other.own[TPM].kind == KINDS[Dimension.Tokens]
    assert one.own[TPM].kind == LIKELY[Dimension.Tokens]


def test_a_pool_whose_provider_has_buckets_is_one_and_a_new_one_begins_as_one() -> None:
    one, other = two_pools()
    for view in (one, other):
        view.told([LimitFact(Dimension.Requests, MINUTE_S, 60)], [], sent_at_s=0.0, now_s=0.0)
    assert other.own[RPM].refill is Refill.Rolling
    refuse(one, Dimension.Requests, LimitFacts(60, 60, 1, MINUTE_S), 0.9, 1.0)
    assert one.own[RPM].refill is other.own[RPM].refill is Refill.Continuous
    third = PoolView(one.pool, "m3", QuietDialect())
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


def test_only_the_refusals_of_those_that_tell_nothing_are_believed_in_part() -> None:
    window = QuotaWindow("w", Dimension.Requests, MINUTE_S, limit=None, source=Source.ErrorBody, now_s=0.0)
    window.observe(LimitFact(*RPM, 600, 300, source=Source.ErrorBody), mark=None, sent_at_s=0.0, now_s=0.0)
    window.bucket_seen(0.0, agrees=True)
    for second in range(1, 60):
        fact = LimitFact(*RPM, 600, 300, source=Source.ErrorBody)
        window.observe(fact, mark=None, sent_at_s=float(second), now_s=float(second))
    account = window.account
    assert isinstance(account, Bucket)
    assert 0.0 < account.others_per_s < window.foreign_per_s
