"""What a request costs, before (estimate) or after (from real usage)."""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel, Field

__all__ = ["CostEstimate"]


class CostEstimate(BaseModel):
    """An amount of money and where it comes from.

    `amount`: US dollars, exact. `confidence`: 0..1; 1.0 when computed from the provider's own usage and a known price.
    `estimation_method`: "usage" (actual), "upper_bound", "expected" or "unpriced". `breakdown`: dollars per token
    class.
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
