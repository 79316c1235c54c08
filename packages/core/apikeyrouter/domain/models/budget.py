"""Budgets as users see them: a limit on spend, per scope and period."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from pydantic import BaseModel, Field

from apikeyrouter.domain.models.cost_estimate import CostEstimate
from apikeyrouter.domain.models.quota_state import TimeWindow

__all__ = ["Budget", "BudgetCheck", "BudgetScope", "EnforcementMode", "TimeWindow"]


class BudgetScope(StrEnum):
    """What a budget covers. All but Global need a `scope_id`: a provider id, key id, model, virtual key id, team, or a
    tag ("feature=search")."""

    Global = "global"
    PerProvider = "per_provider"
    PerKey = "per_key"
    PerRoute = "per_route"
    PerVirtualKey = "per_virtual_key"
    PerTeam = "per_team"
    PerTag = "per_tag"


class EnforcementMode(StrEnum):
    """Hard: a request that might not fit is refused before it is sent. Soft: it is let through with a warning."""

    Hard = "hard"
    Soft = "soft"


class Budget(BaseModel):
    """A spending limit and where it stands. Amounts are US dollars.

    `current_spend`: settled in the running period, by all processes. `held`: reserved by requests under way, and by
    slices that other processes have leased. `reset_at`: end of a calendar period. `rolling`: the period is the last
    hour, day, 7 or 30 days. `time_zone`: whose calendar counts. `overrun`: what was spent above its holds, `presumed`:
    charged although nobody could tell whether the provider did; both are parts of `current_spend`.
    """

    id: str
    scope: BudgetScope
    scope_id: str | None = None
    limit_amount: Decimal = Field(gt=0)
    current_spend: Decimal = Decimal(0)
    held: Decimal = Decimal(0)
    period: TimeWindow = TimeWindow.Daily
    enforcement_mode: EnforcementMode = EnforcementMode.Hard
    created_at: datetime
    reset_at: datetime | None = None
    warning_count: int = 0
    name: str = ""
    rolling: bool = False
    time_zone: str = "UTC"
    overrun: Decimal = Decimal(0)
    presumed: Decimal = Decimal(0)

    @property
    def remaining_budget(self) -> Decimal:
        """limit - spent - held; never below zero."""
        return max(Decimal(0), self.limit_amount - self.current_spend - self.held)

    @property
    def is_exceeded(self) -> bool:
        """Whether settled spend has reached the limit."""
        return self.current_spend >= self.limit_amount

    @property
    def utilization_ratio(self) -> float:
        """Settled spend over limit, 0..; above 1 after an overrun."""
        return float(self.current_spend / self.limit_amount)

    @property
    def current_spending(self) -> Decimal:
        """Alias of `current_spend`."""
        return self.current_spend

    @property
    def limit(self) -> Decimal:
        """Alias of `limit_amount`."""
        return self.limit_amount


class BudgetCheck(BaseModel):
    """Whether a request would fit now; nothing is held for it.

    `allowed`: it would be sent at once. `would_wait`: it fits except for what running requests hold, so it would wait
    for them. `estimate`: what is held for it. `budgets`: every budget that covers it, the tightest first. `violated`:
    ids of the hard ones without room. `remaining_budget`: of the tightest, None without budgets.
    `max_output_tokens`: the largest output that would fit, per choice; None when the request fits as it is or no
    output would. `reason`: a sentence.
    """

    allowed: bool
    would_wait: bool = False
    estimate: CostEstimate
    budgets: list[Budget] = Field(default_factory=list)
    violated: list[str] = Field(default_factory=list)
    remaining_budget: Decimal | None = None
    max_output_tokens: int | None = None
    reason: str = ""
