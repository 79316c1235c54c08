"""Why a budget refused a request, as an error whose message and fields a caller can act on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from apikeyrouter.domain.cost.budgets import BudgetLine
from apikeyrouter.domain.cost.prices import to_decimal_usd
from apikeyrouter.domain.errors import BudgetExceededError
from apikeyrouter.domain.ledger.holds import Refused
from apikeyrouter.domain.models.routing_decision import RoutingDecision

__all__ = ["refusal_error"]

HELD_RETRY_S = 1.0
"""When only running requests stand in the way, one of them may settle at any moment."""


def refusal_error(
    refused: Refused,
    lines: Sequence[BudgetLine],
    *,
    model: str,
    utc_s: float,
    largest_output: int | None = None,
    decision: RoutingDecision | None = None,
) -> BudgetExceededError:
    """The error for a refused hold. `lines`: the hard budgets without room for it, `refused.account`'s among them.

    `retry_after`: the time until the tightest budget resets, about a second when only running requests stand in the
    way, None when waiting does not help. `largest_output`: the most output tokens that would fit now, if any would.
    """
    tightest = min(lines, key=_left, default=None)
    account = refused.account
    limit, spent, held = account.limit or 0, account.used, account.held
    reset_s: float | None = None
    if tightest is not None and tightest.lease is not None:
        lease = tightest.lease
        limit, spent = lease.limit, lease.spent
        held = lease.account.held + lease.held_elsewhere
        reset_s = _resets_at(tightest, utc_s)
    wait_s: float | None = None
    if refused.need > limit:
        advice = "It can never fit: lower max_tokens, or raise the limit."
    elif spent + refused.need <= limit:
        advice = "Running requests hold the rest; it may fit when they settle."
        wait_s = HELD_RETRY_S
    elif reset_s is None:
        advice = "This budget never resets: raise its limit."
    else:
        advice = f"It resets at {datetime.fromtimestamp(reset_s, UTC):%Y-%m-%d %H:%M} UTC."
        wait_s = max(0.0, reset_s - utc_s)
    if largest_output:
        advice += f" With max_tokens of at most {largest_output} it would fit now."
    to_model = f" to {model}" if model else ""
    free = max(0, limit - spent - held)
    budget_id = account.id if tightest is None else tightest.budget_id
    return BudgetExceededError(
        f"Budget {budget_id}{_described(tightest)} has no room for this request{to_model}: limit "
        f"${to_decimal_usd(limit):f}, spent ${to_decimal_usd(spent):f}, held by running requests "
        f"${to_decimal_usd(held):f}; the request could cost up to ${to_decimal_usd(refused.need):f}. "
        f"{advice} Nothing was sent.",
        remaining_budget=to_decimal_usd(free),
        violated_budgets=[line.budget_id for line in lines] or [account.id],
        cost_estimate=to_decimal_usd(refused.need),
        budget_limit=to_decimal_usd(limit),
        spent=to_decimal_usd(spent),
        held=to_decimal_usd(held),
        scope=None if tightest is None else tightest.definition.scope.value,
        scope_id=None if tightest is None else tightest.definition.scope_id,
        reset_at=None if reset_s is None else datetime.fromtimestamp(reset_s, UTC),
        max_output_tokens=largest_output or None,
        decision=decision,
        retry_after=wait_s,
    )


def _left(line: BudgetLine) -> int:
    lease = line.lease
    return 0 if lease is None else lease.left


def _resets_at(line: BudgetLine, utc_s: float) -> float | None:
    """When spend leaves the window: its end; for rolling budgets the end of the oldest part, the first relief."""
    if line.definition.rolling and line.span is not None:
        return line.span.ends_utc_s
    return line.definition.window.resets_at(utc_s)


def _described(line: BudgetLine | None) -> str:
    if line is None:
        return ""
    definition = line.definition
    covered = f" {definition.scope_id}" if definition.scope_id else ""
    named = f" {definition.name!r}" if definition.name else ""
    kind = "rolling " if definition.rolling else ""
    return f"{named} ({definition.scope}{covered}, {kind}{definition.period})"
