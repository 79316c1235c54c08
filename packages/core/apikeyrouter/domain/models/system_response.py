"""What a caller gets back."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, Field, PrivateAttr

from apikeyrouter.domain.models.cost_estimate import CostEstimate
from apikeyrouter.domain.models.routing_decision import RoutingDecision

__all__ = ["ResponseMetadata", "SystemResponse", "TokenUsage"]


class TokenUsage(BaseModel):
    """Tokens as the provider counted them. `cached_input_tokens` and `reasoning_tokens` are parts of the totals."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Input plus output."""
        return self.input_tokens + self.output_tokens

    @property
    def total(self) -> int:
        """Alias of `total_tokens`."""
        return self.total_tokens


class ResponseMetadata(BaseModel):
    """How the reply came about. `response_time_ms`: whole request, failed attempts included."""

    model_used: str
    provider_id: str
    key_used: str
    request_id: str
    decision_id: str
    tokens_used: TokenUsage
    response_time_ms: float
    ttft_ms: float | None = None
    timestamp: datetime
    finish_reason: str | None = None
    attempts: int = 1
    cost_actual: Decimal = Decimal(0)
    provider_request_id: str | None = None
    additional_metadata: dict[str, Any] = Field(default_factory=dict)
    _decision: RoutingDecision | None = PrivateAttr(default=None)

    @property
    def model(self) -> str:
        """Alias of `model_used`."""
        return self.model_used

    @property
    def token_usage(self) -> TokenUsage:
        """Alias of `tokens_used`."""
        return self.tokens_used

    @property
    def routing_explanation(self) -> str:
        """One true sentence: which key was selected, and why, with its numbers."""
        return self._decision.explanation if self._decision else ""


class SystemResponse(BaseModel):
    """A finished reply.

    `content`: the text of the first choice ("" when it only calls tools). `raw`: the provider's reply as a JSON object,
    nothing dropped. `cost.amount`: US dollars from the provider's own usage. `decision`: how it was routed.
    """

    content: str
    metadata: ResponseMetadata
    cost: CostEstimate
    raw: dict[str, Any] = Field(default_factory=dict)
    decision: RoutingDecision | None = None

    def model_post_init(self, _context: Any) -> None:
        """Lets the metadata explain the decision without storing it twice."""
        self.metadata._decision = self.decision  # noqa: SLF001 - same module, one value in two views

    @property
    def key_used(self) -> str:
        """Alias of `metadata.key_used`."""
        return self.metadata.key_used

    @property
    def request_id(self) -> str:
        """Alias of `metadata.request_id`."""
        return self.metadata.request_id

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """Tool calls of the first choice; empty when there are none."""
        choices = self.raw.get("choices") or [{}]
        return list((choices[0].get("message") or {}).get("tool_calls") or [])
