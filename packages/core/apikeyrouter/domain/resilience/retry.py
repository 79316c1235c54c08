"""Whether a failed attempt is followed by another one.

Main entries: `next_step`, a pure function of everything that matters, `RetryBudget`, and `TenantRetryBudgets`, so that
one tenant's failing requests cannot eat the retries of all; `withdraw_all` takes from both kinds or from neither.
Why a budget and not only a maximum per request: when a provider fails, every request fails, and with three attempts
each we would send it three times the traffic that it cannot bear. A budget ties retries to the whole crowd: each first
attempt earns a tenth of a retry. With it, retries add at most 10 % plus a trickle, however bad it gets.
Laws: MidReply is never repeated (it is billed, and two generations are never spliced); a client's own error goes to
exactly one key; nothing is sent after the deadline or beyond the attempts allowed.
Sources: SRE book, "Handling Overload" (10 % per client); finagle's RetryBudget (deposit, tryWithdraw, a trickle).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from enum import StrEnum

from apikeyrouter.domain.resilience.failures import Billing, Failure, FailureClass

__all__ = ["RetryBudget", "Step", "TenantRetryBudgets", "costs_retry_budget", "next_step", "withdraw_all"]

_F = FailureClass
_COSTING = frozenset({_F.Server, _F.Capacity, _F.NotSent, _F.Unanswered, _F.Timeout, _F.BadReply})
_MAY_BE_BILLED = frozenset({_F.Unanswered, _F.Timeout, _F.BadReply})


class Step(StrEnum):
    """What follows a failed attempt."""

    TryNextKey = "try_next_key"
    Stop = "stop"


def costs_retry_budget(failure: Failure) -> bool:
    """Whether a retry after this failure needs a withdrawal from the budget.

    Rate, Auth, Balance and the like do not: one hit rests their key or pool, so they bound themselves.
    """
    return failure.failure_class in _COSTING


def next_step(
    failure: Failure,
    *,
    attempts: int,
    attempts_max: int,
    candidates_left: int,
    time_left_s: float,
    budget: bool,
    retry_unanswered: bool,
) -> Step:
    """Whether to try the next key.

    `attempts`: sent so far, the failed one included. `candidates_left`: untried candidates that the failure leaves in
    play (after a failure of scope Pool: of other pools; ProviderModel: of other providers or models). `budget`: whether
    a withdrawal succeeded; looked at only if `costs_retry_budget`. `retry_unanswered`: whether a request that was sent
    and never answered, or answered with a success that cannot be read, may be sent again, at the risk of paying twice;
    a reply of 408 is an answer.
    """
    if not failure.elsewhere or failure.failure_class is FailureClass.MidReply:
        return Step.Stop
    if attempts >= attempts_max or candidates_left <= 0 or not time_left_s > 0.0:
        return Step.Stop
    generated = failure.status is None or failure.status < 300
    if (
        failure.failure_class in _MAY_BE_BILLED
        and generated
        and failure.billing is not Billing.No
        and not retry_unanswered
    ):
        return Step.Stop
    if costs_retry_budget(failure) and not budget:
        return Step.Stop
    return Step.TryNextKey


class RetryBudget:
    """Retries that the crowd can afford: a bucket that first attempts and time fill, and retries empty.

    `ratio`: retries earned per first attempt. `per_s`: retries earned per second, so that a quiet router may retry at
    all. `burst`: the most that can be saved, and what it starts with. One per provider, one per tenant.
    Bound: over any time t with n first attempts, retries <= ratio x n + per_s x t + burst.
    """

    __slots__ = ("_balance", "_burst", "_filled_at_s", "_per_s", "_ratio")

    def __init__(self, ratio: float = 0.1, per_s: float = 1.0, burst: float = 10.0) -> None:
        self._ratio = ratio
        self._per_s = per_s
        self._burst = burst
        self._balance = burst
        self._filled_at_s: float | None = None

    def balance(self, now_s: float) -> float:
        """Retries that can be afforded now; 0..burst."""
        if self._filled_at_s is None:
            return self._balance
        earned = max(0.0, now_s - self._filled_at_s) * self._per_s
        return min(self._burst, self._balance + earned)

    def _fill(self, now_s: float) -> None:
        self._balance = self.balance(now_s)
        # a time that runs backwards earns nothing twice
        self._filled_at_s = now_s if self._filled_at_s is None else max(self._filled_at_s, now_s)

    def deposit(self, now_s: float) -> None:
        """Counts one first attempt."""
        if self._balance < self._burst or self._filled_at_s is None:
            self._fill(now_s)
        elif now_s > self._filled_at_s:  # full already: time adds nothing
            self._balance = self._burst
            self._filled_at_s = now_s
        self._balance += self._ratio  # `balance` cuts it to the burst

    def try_withdraw(self, now_s: float) -> bool:
        """Takes one retry if there is one; withdraw last, when everything else allows the retry."""
        self._fill(now_s)
        if self._balance < 1.0:
            return False
        self._balance -= 1.0
        return True

    def __repr__(self) -> str:
        return f"<RetryBudget {self._balance:.2f} of {self._burst:g}>"


TENANTS_MAX = 4096
"""Tenants whose budgets are remembered; who asked longest ago is forgotten first, and starts with a full one."""


class TenantRetryBudgets:
    """A retry budget per tenant, in a table of bounded size. Requests of nobody (no virtual key) share one budget.

    `size_max`: tenants at the most; `ratio`, `per_s`, `burst`: of each budget, as in `RetryBudget`.
    """

    __slots__ = ("_budgets", "_size_max", "_terms")

    def __init__(
        self, size_max: int = TENANTS_MAX, *, ratio: float = 0.1, per_s: float = 1.0, burst: float = 10.0
    ) -> None:
        self._size_max = size_max
        self._terms = (ratio, per_s, burst)
        self._budgets: OrderedDict[str, RetryBudget] = OrderedDict()

    def of(self, tenant_id: str) -> RetryBudget:
        """The tenant's budget; made at its first use."""
        budgets = self._budgets
        found = budgets.get(tenant_id)
        if found is not None:
            budgets.move_to_end(tenant_id)
            return found
        if len(budgets) >= self._size_max:
            budgets.popitem(last=False)
        found = budgets[tenant_id] = RetryBudget(*self._terms)
        return found

    def __len__(self) -> int:
        return len(self._budgets)


def withdraw_all(budgets: Iterable[RetryBudget], now_s: float) -> bool:
    """Takes one retry from each budget, or none from any."""
    chosen = list(budgets)
    if any(budget.balance(now_s) < 1.0 for budget in chosen):
        return False
    for budget in chosen:
        budget.try_withdraw(now_s)
    return True
