"""Bounds that must hold for every history: rests, the breaker's single probe, the retry budget."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from apikeyrouter.domain.resilience.breaker import PROBE_PATIENCE_S, Breaker, Phase, Verdict
from apikeyrouter.domain.resilience.cooldown import cooldown_s, hinted_s, later, rest_s
from apikeyrouter.domain.resilience.failures import FACTS, Failure, FailureClass
from apikeyrouter.domain.resilience.retry import RetryBudget

BOUNDED = settings(max_examples=150, deadline=None, database=None)
seeds = st.integers(min_value=0, max_value=2**32)
seconds = st.floats(min_value=0.0, max_value=1e6)


@BOUNDED
@given(st.integers(min_value=-5, max_value=10_000), seeds)
def test_a_cooldown_lies_around_its_power_of_two_and_below_its_cap(strikes: int, seed: int) -> None:
    rest = cooldown_s(strikes, random.Random(seed), base_s=1.0, cap_s=60.0)
    middle_s = float(2 ** min(max(strikes, 1) - 1, 40))
    assert min(60.0, 0.5 * middle_s) <= rest <= min(60.0, 1.5 * middle_s)


@BOUNDED
@given(st.floats(min_value=0.0, max_value=86_400.0), seeds)
def test_a_hint_is_never_undercut_and_exceeded_by_a_tenth_at_most(hint_s: float, seed: int) -> None:
    assert hint_s <= hinted_s(hint_s, random.Random(seed)) <= hint_s * 1.1


@BOUNDED
@given(st.lists(seconds, min_size=1))
def test_the_latest_deadline_wins_in_any_order(deadlines_s: list[float]) -> None:
    until_s = 0.0
    for deadline_s in deadlines_s:
        assert later(until_s, deadline_s) >= until_s
        until_s = later(until_s, deadline_s)
    assert until_s == max(deadlines_s)


@BOUNDED
@given(
    st.sampled_from(list(FailureClass)),
    st.one_of(st.none(), st.floats(min_value=0.0, max_value=86_400.0)),
    st.integers(min_value=0, max_value=1_000),
    seeds,
)
def test_every_rest_is_finite_and_obeys_its_hint(
    kind: FailureClass, hint_s: float | None, strikes: int, seed: int
) -> None:
    facts = FACTS[kind]
    failure = Failure(kind, facts.scope, facts.billing, facts.elsewhere, None, None, "", hint_s, None, False)
    rest = rest_s(failure, strikes, random.Random(seed))
    assert 0.0 <= rest <= 86_400.0 * 1.1
    if hint_s is not None and kind not in (FailureClass.Client, FailureClass.Policy, FailureClass.TooLargeForLimit):
        assert rest >= hint_s


actions = st.lists(
    st.tuples(
        st.sampled_from(["begin", "begin", "begin", "succeed", "fail", "fail", "release"]),
        st.integers(min_value=0, max_value=50),
        st.sampled_from([0.0, 0.0, 0.1, 1.0, 5.0, 31.0, 61.0]),
    ),
    max_size=120,
)


@BOUNDED
@given(actions, seeds)
def test_no_history_lets_two_probes_out_at_once_or_loses_the_place_for_one(
    history: list[tuple[str, int, float]], seed: int
) -> None:
    breaker, rng, now_s = Breaker(), random.Random(seed), 1_000.0
    out: list[tuple[int, float]] = []
    for action, which, pause_s in history:
        now_s += pause_s
        if action == "begin":
            verdict = breaker.verdict(now_s)
            assert verdict is breaker.verdict(now_s)
            if verdict is Verdict.Reject:
                continue
            probing = verdict is Verdict.Probe
            assert not (probing and any(now_s - began_s < PROBE_PATIENCE_S for _, began_s in out))
            out.append((breaker.begin(now_s), now_s if probing else 0.0))
        elif out:
            ticket, _ = out.pop(which % len(out))
            if action == "succeed":
                breaker.succeed(now_s, ticket)
            elif action == "fail":
                breaker.fail(now_s, ticket, rng)
            else:
                breaker.release(now_s, ticket)
    # once everything has come home, a breaker of any history can be brought back to work
    for ticket, _ in out:
        breaker.release(now_s, ticket)
    now_s += 61.0
    assert breaker.verdict(now_s) is not Verdict.Reject
    for _ in range(3):
        breaker.succeed(now_s, breaker.begin(now_s))
    now_s += 61.0
    breaker.succeed(now_s, breaker.begin(now_s))
    assert breaker.phase is Phase.Closed


@BOUNDED
@given(
    st.lists(st.tuples(st.floats(min_value=0.0, max_value=3.0), st.booleans()), max_size=300),
    st.floats(min_value=0.0, max_value=1.0),
    st.floats(min_value=0.0, max_value=5.0),
    st.floats(min_value=0.0, max_value=20.0),
)
def test_retries_never_exceed_their_share_of_the_first_attempts(
    traffic: list[tuple[float, bool]], ratio: float, per_s: float, burst: float
) -> None:
    budget, now_s, firsts, retries = RetryBudget(ratio, per_s, burst), 50.0, 0, 0
    for pause_s, several in traffic:
        now_s += pause_s
        firsts += 1
        budget.deposit(now_s)
        # each request fails, and would like to be tried three times more
        for _ in range(3 if several else 1):
            retries += budget.try_withdraw(now_s)
        assert 0.0 <= budget.balance(now_s) <= burst
        assert retries <= ratio * firsts + per_s * (now_s - 50.0) + burst + 1e-6
    assert firsts + retries <= (1.0 + ratio) * firsts + burst + per_s * (now_s - 50.0) + 1e-6
