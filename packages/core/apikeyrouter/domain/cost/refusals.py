"""Why a budget refused a request, as an error whose message and fields a caller can act on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from apikeyrouter.domain.cost.budgets import BudgetLine
from apikeyrouter.domain.cost.prices import to_decimal_usd
from apikeyrouter.domain.errors import BudgetExceededError
from apikeyrouter.domain.ledger.holds import Refused
from apikeyrouter.domain.models.routing_decision import RoutingDecision

__all__ = ["refusal_error"]


def refusal_error(
    refused: Refused,
    lines: Sequence[BudgetLine],
    *,
    model: str,
    now_s: float,
    utc: datetime,
    decision: RoutingDecision | None = None,
) -> BudgetExceededError:
    """The error for a refused hold. `lines`: the hard budgets without room for it, `refused.account`'s among them.

    `retry_after` is the time until the tightest budget resets; None when that would not help, or when the rest is only
    held by running requests and may come free at any moment.
    """
    tightest = min(lines, key=lambda line: line.account.free(now_s) or 0, default=None)
    account = refused.account if tightest is None else tightest.account
    reset_at = None if tightest is None else tightest.reset_at
    limit, free = account.limit or 0, account.free(now_s) or 0
    wait_s: float | None = None
    if refused.need > limit:
        advice = "It can never fit: lower max_tokens, or raise the limit."
    elif account.used + refused.need <= limit:
        advice = "Running requests hold the rest; it may fit when they settle."
    elif reset_at is None:
        advice = "This budget never resets: raise its limit."
    else:
        advice = f"It resets at {reset_at:%Y-%m-%d %H:%M} UTC."
        wait_s = max(0.0, (reset_at - utc).total_seconds())
    to_model = f" to {model}" if model else ""
    return BudgetExceededError(
        f"Budget {account.id}{_described(tightest)} has no room for this request{to_model}: limit "
        f"${to_decimal_usd(limit):f}, spent ${to_decimal_usd(account.used):f}, held by running requests "
        f"${to_decimal_usd(account.held):f}; the request could cost up to ${to_decimal_usd(refused.need):f}. "
        f"{advice} Nothing was sent.",
        remaining_budget=to_decimal_usd(free),
        violated_budgets=[line.budget_id for line in lines] or [account.id],
        cost_estimate=to_decimal_usd(refused.need),
        budget_limit=to_decimal_usd(limit),
        decision=decision,
        retry_after=wait_s,
    )


def _described(line: BudgetLine | None) -> str:
    if line is None:
        return ""
    definition = line.definition
    covered = f" {definition.scope_id}" if definition.scope_id else ""
    return f" ({definition.scope}{covered}, {definition.period})"
