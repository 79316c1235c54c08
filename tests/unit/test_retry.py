"""Whether another key is tried, and what that may cost the crowd."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from apikeyrouter.domain.resilience.failures import FACTS, Billing, Failure, FailureClass
from apikeyrouter.domain.resilience.retry import RetryBudget, Step, costs_retry_budget, next_step

F = FailureClass
GO = {
    "attempts": 1,
    "attempts_max": 3,
    "candidates_left": 2,
    "time_left_s": 10.0,
    "budget": True,
    "retry_unanswered": True,
}


def failure(kind: FailureClass, status: int | None = None) -> Failure:
    facts = FACTS[kind]
    return Failure(kind, facts.scope, facts.billing, facts.elsewhere, status, None, "", None, None, facts.whole_account)


def step(kind: FailureClass, status: int | None = None, **changes: Any) -> Step:
    return next_step(failure(kind, status), **{**GO, **changes})


@pytest.mark.parametrize("kind", list(FailureClass))
def test_with_all_means_at_hand_only_three_classes_stop(kind: FailureClass) -> None:
    expected = Step.Stop if kind in (F.Client, F.Policy, F.MidReply) else Step.TryNextKey
    assert step(kind) is expected


@pytest.mark.parametrize("kind", list(FailureClass))
@pytest.mark.parametrize(
    "lacking",
    [
        {"attempts": 3},
        {"attempts": 4},
        {"candidates_left": 0},
        {"time_left_s": 0.0},
        {"time_left_s": -1.0},
        {"time_left_s": float("nan")},
    ],
)
def test_without_attempts_candidates_or_time_nothing_is_tried(kind: FailureClass, lacking: dict[str, float]) -> None:
    assert step(kind, **lacking) is Step.Stop


def test_only_faults_that_may_hit_everybody_cost_retry_budget() -> None:
    costing = {kind for kind in FailureClass if costs_retry_budget(failure(kind))}
    assert costing == {F.Server, F.Capacity, F.NotSent, F.Unanswered, F.Timeout, F.BadReply}
    stopped = {kind for kind in FailureClass if step(kind) is not step(kind, budget=False)}
    assert stopped == costing


def test_what_was_sent_and_not_answered_is_repeated_only_on_request() -> None:
    for kind in (F.Unanswered, F.Timeout):
        assert step(kind, retry_unanswered=False) is Step.Stop
    # cut off by the deadline before a byte left: nothing can be paid twice
    unsent = replace(failure(F.Timeout), billing=Billing.No)
    assert next_step(unsent, **{**GO, "retry_unanswered": False}) is Step.TryNextKey
    # a 408 is an answer
    assert step(F.Timeout, 408, retry_unanswered=False) is Step.TryNextKey
    assert step(F.NotSent, retry_unanswered=False) is Step.TryNextKey
    assert step(F.Server, 500, retry_unanswered=False) is Step.TryNextKey


def test_a_full_budget_gives_its_burst_and_then_a_trickle() -> None:
    budget = RetryBudget(ratio=0.1, per_s=1.0, burst=10.0)
    assert [budget.try_withdraw(100.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert not budget.try_withdraw(100.9)
    assert budget.try_withdraw(101.0)
    assert not budget.try_withdraw(101.0)


def test_ten_first_attempts_earn_one_retry() -> None:
    budget = RetryBudget(ratio=0.1, per_s=0.0, burst=3.0)
    while budget.try_withdraw(0.0):
        pass
    for _ in range(9):
        budget.deposit(0.0)
    assert not budget.try_withdraw(0.0)
    for _ in range(2):
        budget.deposit(0.0)
    assert budget.try_withdraw(0.0)


def test_nothing_is_saved_beyond_the_burst_and_looking_costs_nothing() -> None:
    budget = RetryBudget(burst=5.0)
    budget.deposit(0.0)
    assert budget.balance(1e6) == 5.0
    budget.try_withdraw(1e6)
    assert budget.balance(1e6) == budget.balance(1e6) == 4.0


def test_time_that_runs_backwards_earns_nothing_twice() -> None:
    budget = RetryBudget(ratio=0.0, per_s=1.0, burst=10.0)
    for _ in range(10):
        budget.try_withdraw(100.0)
    assert not budget.try_withdraw(50.0)
    assert budget.balance(100.0) == 0.0
    assert budget.try_withdraw(101.0)
