"""The dry run of a budget: whether a request would fit now, what would be held for it, and what would fit instead.

Main entry: `check_budget`. It sizes the request as the pipeline does, for the cheapest key that could serve it, and
takes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from apikeyrouter.domain.cost.prices import cost_breakdown, to_decimal_usd
from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.errors import KeyNotFoundError
from apikeyrouter.domain.models.budget import Budget, BudgetCheck
from apikeyrouter.domain.models.call import Call
from apikeyrouter.domain.models.cost_estimate import CostEstimate
from apikeyrouter.domain.models.request_intent import RequestIntent
from apikeyrouter.domain.routing.candidates import Candidate
from apikeyrouter.domain.routing.demand import Demand, demand_of
from apikeyrouter.intents import call_of, intent_of

if TYPE_CHECKING:
    from apikeyrouter.router import ApiKeyRouter

__all__ = ["check_budget"]


async def check_budget(
    router: ApiKeyRouter,
    given: RequestIntent | Mapping[str, Any],
    provider_id: str | None = None,
    key_id: str | None = None,
    tags: Mapping[str, Any] | None = None,
) -> BudgetCheck:
    """Whether the request would fit. Raises KeyNotFoundError, ProviderNotRegisteredError, StateStoreError, SystemError
    (ValidationError)."""
    await router.start()
    intent = intent_of(given)
    call = call_of(router, intent, stream=False, tags=tags)
    costs = router.cost_controller
    demand = demand_of(call, costs.lengths, costs.ratios)
    group = router.directory.group_for(provider_id or call.provider_id, call.model)
    candidates = [c for c in group.candidates if key_id is None or c.record.key_id == key_id]
    if key_id is not None and not candidates:
        raise KeyNotFoundError(key_id)
    if not candidates:
        return BudgetCheck(allowed=False, estimate=_unpriced(demand), reason="No key could serve this request.")
    cheapest = min(candidates, key=lambda c: _expected(demand, c))
    return await _check(router, demand.of(cheapest.model), cheapest, call)


def _expected(demand: Demand, candidate: Candidate) -> tuple[bool, int]:
    price = candidate.price
    return price is None, demand.of(candidate.model).expected_nano_usd(price) if price is not None else 0


async def _check(router: ApiKeyRouter, demand: Demand, candidate: Candidate, call: Call) -> BudgetCheck:
    book = router.cost_controller.book
    record, price = candidate.record, candidate.price
    accounts = book.accounts_for(record.provider_id, record.key_id, call.model, call.tags, now_s=router.now_s())
    lines = book.lines_of(accounts)
    budgets = sorted(await book.snapshots(lines), key=lambda budget: budget.remaining_budget)
    hard = {line.budget_id for line in lines if line.definition.hard}
    if price is None:
        reason = f"No price is known for {demand.model!r} at {record.provider_id!r}; "
        reason += "a hard budget refuses it." if hard else "it would be sent, and its cost not be counted."
        return BudgetCheck(
            allowed=not hard, estimate=_unpriced(demand), budgets=budgets, violated=sorted(hard), reason=reason
        )
    need = demand.most_nano_usd(price) if hard else demand.q95_nano_usd(price, record.provider_id)
    estimate = CostEstimate(
        amount=to_decimal_usd(need),
        confidence=1.0 if hard and not demand.unbounded else 0.95 if not hard else 0.0,
        estimation_method="upper_bound" if hard else "q95",
        input_tokens_estimate=demand.input_bound if hard else demand.input_expected,
        output_tokens_estimate=demand.choices * demand.output_bound(price) if hard else demand.output_expected,
        breakdown=cost_breakdown(price, Usage(demand.input_expected, demand.output_expected)),
    )
    amount = to_decimal_usd(need)
    violated = [b for b in budgets if b.id in hard and b.remaining_budget < amount]
    waits = bool(violated) and all(b.limit_amount - b.current_spend >= amount for b in violated)
    left = min((b.remaining_budget for b in budgets if b.id in hard), default=None)
    largest = None
    if violated and left is not None:
        largest = demand.largest_output(price, int(left.scaleb(9))) or None
    return BudgetCheck(
        allowed=not violated and not (hard and demand.unbounded),
        would_wait=waits,
        estimate=estimate,
        budgets=budgets,
        violated=[b.id for b in violated],
        remaining_budget=budgets[0].remaining_budget if budgets else None,
        max_output_tokens=largest,
        reason=_reason(demand, amount, violated, waits=waits, hard=bool(hard), covered=bool(budgets)),
    )


def _reason(demand: Demand, amount: Decimal, violated: list[Budget], *, waits: bool, hard: bool, covered: bool) -> str:
    if not covered:
        return "No budget covers this request."
    if hard and demand.unbounded:
        return f"Its cost has no upper bound ({', '.join(demand.unbounded)}), so hard budgets refuse it."
    if not violated:
        return f"It fits: at most ${amount:f} would be held." if hard else f"It would be sent: about ${amount:f}."
    tightest = violated[0]
    held = "; running requests hold the rest, so it would wait for them" if waits else ""
    return f"Budget {tightest.id} has ${tightest.remaining_budget:f} left, ${amount:f} needed{held}."


def _unpriced(demand: Demand) -> CostEstimate:
    return CostEstimate(
        amount=Decimal(0),
        confidence=0.0,
        estimation_method="unpriced",
        input_tokens_estimate=demand.input_expected,
        output_tokens_estimate=demand.output_expected,
    )
