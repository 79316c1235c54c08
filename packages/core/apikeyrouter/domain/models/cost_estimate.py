"""What a request costs, before (estimate) or after (from real usage)."""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel, Field

__all__ = ["CostEstimate", "CostReconciliation"]


class CostEstimate(BaseModel):
    """An amount of money and where it comes from.

    `amount`: US dollars, exact. `confidence`: 0..1; 1.0 when computed from the provider's own usage and a known price.
    `estimation_method`: "usage" (actual), "bill" (actual, the provider's own), "upper_bound", "q95" (exceeded once in
    twenty), "expected" or "unpriced". `breakdown`: dollars per token class.
    """

    amount: Decimal = Field(ge=0)
    currency: str = "USD"
    confidence: float = Field(default=1.0, ge=0, le=1)
    estimation_method: str = "usage"
    input_tokens_estimate: int = 0
    output_tokens_estimate: int = 0
    breakdown: dict[str, Decimal] = Field(default_factory=dict)

    @property
    def total_tokens_estimate(self) -> int:
        """Input plus output tokens."""
        return self.input_tokens_estimate + self.output_tokens_estimate


class CostReconciliation(BaseModel):
    """Estimates against what requests really cost, for one provider and model, since this process started.

    `requests`: how many were looked at (all, up to 400 a second). `estimated` and `actual`: US dollars in all,
    expectation against charge. `mean_error`: mean of (actual - estimated) / actual, 0 is best. `mean_absolute_error`:
    of its absolute value, less is better.
    `input_tokens_per_byte`: learned. `above_q95`: share of requests that cost more than their q95 estimate; 0.05 is
    right. `above_bound`: requests that cost more than their upper bound: 0, or the price list or the provider is wrong.
    """

    provider_id: str
    model: str
    requests: int = 0
    estimated: Decimal = Decimal(0)
    actual: Decimal = Decimal(0)
    mean_error: float = 0.0
    mean_absolute_error: float = 0.0
    input_tokens_per_byte: float | None = None
    above_q95: float = 0.0
    above_bound: int = 0
