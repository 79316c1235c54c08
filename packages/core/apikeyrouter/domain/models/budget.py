"""Budgets as users see them: a limit on spend, per scope and period."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from pydantic import BaseModel, Field

from apikeyrouter.domain.models.quota_state import TimeWindow

__all__ = ["Budget", "BudgetScope", "EnforcementMode", "TimeWindow"]


class BudgetScope(StrEnum):
    """What a budget covers. All but Global need a `scope_id`: a provider, key or model."""

    Global = "global"
    PerProvider = "per_provider"
    PerKey = "per_key"
    PerRoute = "per_route"


class EnforcementMode(StrEnum):
    """Hard: a request that might not fit is refused before it is sent. Soft: it is let through with a warning."""

    Hard = "hard"
    Soft = "soft"


class Budget(BaseModel):
    """A spending limit and where it stands. Amounts are US dollars.

    `current_spend`: settled in the running period. `held`: reserved by requests under way. `reset_at`: end of the
    period.
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
