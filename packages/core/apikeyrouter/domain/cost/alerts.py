"""What a budget has to tell after the store answered: passed thresholds, and requests that cost more than was held.

The store says which thresholds this answer was the first to pass, so each is told once over all processes. Overruns are
told by the worker whose requests they were.
"""

from __future__ import annotations

from apikeyrouter.domain.cost.budgets import BudgetLine, BudgetOverrun, BudgetThresholdReached
from apikeyrouter.domain.interfaces.shared_ledger import LeaseGrant
from apikeyrouter.domain.ledger.leases import Lease

__all__ = ["alerts_of"]


def alerts_of(line: BudgetLine, lease: Lease, grant: LeaseGrant) -> list[BudgetThresholdReached | BudgetOverrun]:
    """The events of one answer, which `lease` has taken in already. An overrun of a soft budget is usual: not told."""
    definition = line.definition
    told: list[BudgetThresholdReached | BudgetOverrun] = [
        BudgetThresholdReached(
            line.budget_id,
            definition.scope.value,
            definition.scope_id,
            definition.mode.value,
            percent,
            definition.limit_nano_usd,
            grant.totals.spent + grant.counted[0],
            definition.window.label(grant.window),
            definition.name,
        )
        for percent in grant.crossed
    ]
    more = lease.account.overrun - lease.overrun_told
    if more > 0 and lease.hard:
        lease.overrun_told = lease.account.overrun
        told.append(
            BudgetOverrun(
                line.budget_id,
                definition.scope.value,
                definition.scope_id,
                definition.mode.value,
                more,
                definition.limit_nano_usd,
                lease.spent,
                definition.window.label(grant.window),
                definition.name,
            )
        )
    return told
