"""Retry budgets of tenants: bounded in number, and taken together with the provider's or not at all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apikeyrouter.domain.resilience.retry import RetryBudget, TenantRetryBudgets, withdraw_all


def test_each_tenant_has_its_own() -> None:
    budgets = TenantRetryBudgets(burst=2.0)
    first, second = budgets.of("a"), budgets.of("b")
    assert budgets.of("a") is first
    assert first is not second
    assert [first.try_withdraw(0.0) for _ in range(3)] == [True, True, False]
    assert second.try_withdraw(0.0)


def test_the_table_forgets_who_asked_longest_ago() -> None:
    budgets = TenantRetryBudgets(size_max=2)
    first = budgets.of("a")
    budgets.of("b")
    assert budgets.of("a") is first
    budgets.of("c")
    assert len(budgets) == 2
    assert budgets.of("a") is first, "b went"


def test_a_retry_is_taken_from_all_budgets_or_from_none() -> None:
    provider, tenant = RetryBudget(burst=5.0), RetryBudget(burst=1.0)
    assert withdraw_all((provider, tenant), 0.0)
    assert not withdraw_all((provider, tenant), 0.0)
    assert provider.balance(0.0) == 4.0


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 2.0)), max_size=300))
def test_however_requests_come_no_tenant_gets_more_than_its_tenth_and_one_a_second(
    history: list[tuple[bool, float]],
) -> None:
    budgets, provider = TenantRetryBudgets(), RetryBudget(1.0, 100.0, 1_000.0)
    now_s, firsts, retries = 50.0, 0, 0
    budgets.of("a").deposit(now_s)
    for first, pause_s in history:
        now_s += pause_s
        if first:
            budgets.of("a").deposit(now_s)
            firsts += 1
        else:
            retries += withdraw_all((provider, budgets.of("a")), now_s)
    assert retries <= 0.1 * (firsts + 1) + (now_s - 50.0) + 10.0 + 1e-6
