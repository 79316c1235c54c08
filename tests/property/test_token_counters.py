"""Virtual token counters against their bound: however requests come, tenants that both wait get alike."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apikeyrouter.domain.quota.vtc import TokenCounters, weighed_tokens

COST_MAX = 50


def first(counters: TokenCounters) -> str:
    return next(counters.in_order(1))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=2, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, COST_MAX), st.booleans()), min_size=1, max_size=120),
    st.sampled_from([0.0, 40.0]),
)
def test_service_of_two_tenants_that_both_wait_differs_by_no_more_than_the_bound(
    weights: list[float], steps: list[tuple[int, int, bool]], credit: float
) -> None:
    counters = TokenCounters(credit=credit)
    # the first two wait all the time; the others come and go
    served = [0.0] * len(weights)
    for index in (0, 1):
        counters.join(str(index), weights[index])
    bound = 2 * COST_MAX / min(weights) + credit
    for who, cost, goes in steps:
        index = who % len(weights)
        if index > 1:
            counters.leave(str(index)) if goes else counters.join(str(index), weights[index])
        chosen = first(counters)
        counters.charge(chosen, cost)
        served[int(chosen)] += cost / weights[int(chosen)]
        assert abs(served[0] - served[1]) <= bound


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("jlcx"), st.integers(1, COST_MAX)), max_size=200))
def test_the_order_is_that_of_a_plain_model(steps: list[tuple[int, str, int]]) -> None:
    counters = TokenCounters(idle_max=1000)
    waiting: dict[str, float] = {}
    absent: dict[str, float] = {}
    level = 0.0
    for number, what, cost in steps:
        name = str(number)
        if what == "j" and name not in waiting:
            floor = max(level, min(waiting.values())) if waiting else level
            waiting[name] = max(absent.pop(name, floor), floor)
            counters.join(name, 2.0)
        elif what == "l" and name in waiting:
            absent[name] = waiting.pop(name)
            if not waiting:
                level = max(level, absent[name])
            counters.leave(name)
        elif what == "c" and name in waiting:
            level = max(level, min(waiting.values()))
            waiting[name] += cost / 2.0
            counters.charge(name, cost)
        elif what == "x" and name in waiting:
            waiting[name] -= cost / 4.0
            counters.correct(name, -cost / 2.0, 2.0)
        assert counters.level == level
        assert {tenant: counters.count_of(tenant) for tenant in waiting} == waiting
        order = [waiting[tenant] for tenant in counters.in_order(100)]
        assert order == sorted(waiting.values())


def test_weights_one_to_three_get_one_to_three() -> None:
    counters = TokenCounters()
    counters.join("small", 1.0)
    counters.join("large", 3.0)
    served = {"small": 0, "large": 0}
    for _ in range(400):
        chosen = first(counters)
        counters.charge(chosen, 10)
        served[chosen] += 1
    assert served == {"small": 100, "large": 300}


def test_whoever_was_away_has_no_claim_beyond_its_credit() -> None:
    for credit, least, most in ((0.0, 0, 1), (50.0, 5, 6)):
        counters = TokenCounters(credit=credit)
        counters.join("away", 1.0)
        counters.leave("away")
        counters.join("busy", 1.0)
        for _ in range(100):
            counters.charge("busy", 10)
        counters.join("away", 1.0)
        in_a_row = 0
        while first(counters) == "away":
            counters.charge("away", 10)
            in_a_row += 1
        assert least <= in_a_row <= most


def test_a_request_that_cost_more_than_said_is_owed_even_after_leaving() -> None:
    counters = TokenCounters()
    for name in ("told the truth", "said too little"):
        counters.join(name, 1.0)
        counters.charge(name, 10)
    counters.leave("said too little")
    counters.correct("said too little", 90, 1.0)
    counters.join("said too little", 1.0)
    assert counters.count_of("said too little") == 110
    assert counters.count_of("told the truth") == 10


def test_strangers_do_not_fill_the_memory() -> None:
    counters = TokenCounters(idle_max=50)
    rng = random.Random(4)
    counters.join("stays", 1.0)
    for number in range(5_000):
        counters.join(f"passing {number}", 1.0)
        if rng.random() < 0.5:
            counters.charge(f"passing {number}", 1 + rng.random())
        counters.leave(f"passing {number}")
        assert counters.remembered <= 50
    for _ in range(3):
        counters.charge("stays", 10)
    assert counters.remembered == 0, "whom the level has passed is like a stranger"


def test_a_weight_that_is_not_above_zero_is_refused() -> None:
    for weight in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="weight must be above 0"):
            TokenCounters().join("tenant", weight)


def test_output_weighs_twice_and_nothing_is_free() -> None:
    assert weighed_tokens(100, 50) == 200
    assert weighed_tokens(0, 0) == 1


def test_where_a_line_begins_nobody_has_credit_over_another() -> None:
    counters = TokenCounters(credit=1_000.0)
    counters.join("first", 1.0)
    counters.charge("first", 10)
    counters.join("second", 1.0)
    assert counters.count_of("first") - counters.count_of("second") == 10
