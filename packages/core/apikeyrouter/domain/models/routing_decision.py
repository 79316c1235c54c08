"""A decision and its reasons, as data: candidates, scores, rejections, attempts.

Built when somebody reads it; the hot path keeps a lighter record (`domain.routing.explain`).
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = [
    "AlternativeRoute",
    "AttemptRecord",
    "ObjectiveType",
    "OutputLimit",
    "RejectedRoute",
    "RoutingDecision",
    "RoutingObjective",
]


class ObjectiveType(StrEnum):
    """What a caller may optimise for."""

    Cost = "cost"
    Reliability = "reliability"
    Fairness = "fairness"
    Latency = "latency"
    Quality = "quality"
    Balanced = "balanced"


class RoutingObjective(BaseModel):
    """What to optimise, and under which constraints.

    `weights`: importance per objective, each >= 0; what matters is their ratio. Without weights the primary counts 1.0
    and each secondary 0.3. `constraints`: hard filters: `min_reliability` (0..1), `max_cost` (US dollars a request),
    `allowed_providers`, `blocked_providers`, `allowed_keys`, `blocked_keys` (lists of ids).
    Raises pydantic's ValidationError for an unknown objective, weight or constraint.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    primary: ObjectiveType
    secondary: list[ObjectiveType] = Field(default_factory=list)
    weights: dict[ObjectiveType, float] = Field(default_factory=dict)
    constraints: dict[str, Any] = Field(default_factory=dict)

    @field_validator("weights")
    @classmethod
    def _weights_are_not_negative(cls, weights: dict[ObjectiveType, float]) -> dict[ObjectiveType, float]:
        for name, weight in weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"weight of {name.value} must be a number >= 0, not {weight}")
        return weights

    @field_validator("constraints")
    @classmethod
    def _constraints_are_known(cls, constraints: dict[str, Any]) -> dict[str, Any]:
        known = {
            "min_reliability",
            "max_cost",
            "allowed_providers",
            "blocked_providers",
            "allowed_keys",
            "blocked_keys",
        }
        unknown = sorted(set(constraints) - known)
        if unknown:
            raise ValueError(f"unknown constraints {unknown}; known are {sorted(known)}")
        return constraints


class AlternativeRoute(BaseModel):
    """A candidate that was kept but not chosen. `terms_usd` add up to `score_usd` exactly; lower is better."""

    key_id: str
    provider_id: str
    score_usd: Decimal
    terms_usd: dict[str, Decimal] = Field(default_factory=dict)
    reason_not_selected: str = ""


class RejectedRoute(BaseModel):
    """A candidate that a filter refused. `code` is stable; `reason` is for people."""

    key_id: str
    provider_id: str
    code: str
    reason: str


class AttemptRecord(BaseModel):
    """One send. `outcome`: "ok" or a failure class. `duration_ms`: until the reply ended or failed."""

    key_id: str
    provider_id: str
    outcome: str
    status: int | None = None
    duration_ms: float
    ttft_ms: float | None = None
    detail: str = ""


class OutputLimit(BaseModel):
    """A lowered limit on output tokens per choice: what the caller `asked` for (None: no limit), what was `given`, and
    the budget that made it so."""

    asked: int | None
    given: int
    budget_id: str


class RoutingDecision(BaseModel):
    """Who serves a request, who does not, and why.

    Scores are US dollars on an absolute scale, lower is better: the money it costs plus what the objective says that
    waiting and failing are worth. `considered`: candidates looked at, of `candidates` that exist. `flip`: the smallest
    change that would have chosen the runner-up. `price_source`: where the price came from. `presumed_usd`: charged
    because nobody could tell whether the provider did. `waited_ms`: for budget that running requests held.
    `output_limit`: set when a budget shortened the reply.
    """

    id: str
    request_id: str
    decision_timestamp: datetime
    model: str
    objective: str
    weights: dict[str, float] = Field(default_factory=dict)
    selected_key_id: str | None
    selected_provider_id: str | None
    score_usd: Decimal | None = None
    terms_usd: dict[str, Decimal] = Field(default_factory=dict)
    candidates: int = 0
    considered: int = 0
    alternatives_considered: list[AlternativeRoute] = Field(default_factory=list)
    rejections: list[RejectedRoute] = Field(default_factory=list)
    attempts: list[AttemptRecord] = Field(default_factory=list)
    flip: str | None = None
    outcome: str = "pending"
    cost_usd: Decimal | None = None
    price_source: str = ""
    presumed_usd: Decimal = Decimal(0)
    waited_ms: float = 0.0
    output_limit: OutputLimit | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    explanation: str

    @property
    def eligible_keys(self) -> list[str]:
        """Ids of the kept candidates, the chosen one first."""
        chosen = [self.selected_key_id] if self.selected_key_id else []
        return chosen + [a.key_id for a in self.alternatives_considered]
