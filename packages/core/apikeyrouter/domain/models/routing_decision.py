"""A decision and its reasons, as data: candidates, scores, rejections, attempts.

Built when somebody reads it; the hot path keeps a lighter record (`domain.routing.explain`).
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from apikeyrouter.domain.models.model_choice import ModelChoice

__all__ = [
    "AlternativeRoute",
    "AttemptRecord",
    "Comparison",
    "ObjectiveType",
    "OutputLimit",
    "PoolForecast",
    "RejectedRoute",
    "RoutingDecision",
    "RoutingObjective",
    "ScoredRoute",
    "ShadowChoice",
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
    `allowed_providers`, `blocked_providers`, `allowed_keys`, `blocked_keys` (lists of ids), `allowed_regions`,
    `allowed_tags` (one of them is enough), `blocked_tags` (of key metadata).
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
            "allowed_regions",
            "allowed_tags",
            "blocked_tags",
        }
        unknown = sorted(set(constraints) - known)
        if unknown:
            raise ValueError(f"unknown constraints {unknown}; known are {sorted(known)}")
        return constraints


class ScoredRoute(BaseModel):
    """A candidate that could serve, with the numbers of the moment. `terms_usd` add up to `score_usd` exactly; lower is
    better. `expected_cost_usd`: of this request with this key; `p_failure`: 0..1.

    What decided: least `late` (in turn-taking: 1 its pool runs dry, 2 the request is more than half of it; else 0),
    then least `score_usd`, `turn` (served so far, by weight) and `order` of registration.
    """

    key_id: str
    provider_id: str
    score_usd: Decimal
    terms_usd: dict[str, Decimal] = Field(default_factory=dict)
    expected_cost_usd: Decimal = Decimal(0)
    p_failure: float = 0.0
    turn: float = 0.0
    order: int = 0
    late: int = 0


class AlternativeRoute(ScoredRoute):
    """A candidate that was kept but not chosen."""

    reason_not_selected: str = ""


class PoolForecast(BaseModel):
    """What was foreseen for the chosen key's quota pool when it was chosen.

    `pressure`: 0 plenty, 1 it lasts exactly until it comes back, more: it will not. `dry_p10_s`, `dry_p50_s`,
    `dry_p90_s`: seconds by which it runs dry with probability 0.1, 0.5 and 0.9; None: not foreseen. `chance_60s`: of
    running dry within a minute, 0..1. `reset_in_s`: until everything is back.
    """

    pool_id: str
    state: str
    pressure: float
    dry_p10_s: float | None = None
    dry_p50_s: float | None = None
    dry_p90_s: float | None = None
    chance_60s: float | None = None
    reset_in_s: float | None = None


class ShadowChoice(BaseModel):
    """What the shadow objective would have chosen. Differences are its choice minus the real one: below zero, it would
    have been cheaper, sooner or safer. `cost_usd`: expected; `ttft_s`: expected to the first token; `p_failure`: of
    the first attempt."""

    objective: str
    key_id: str
    label: str
    same: bool
    cost_usd: Decimal
    ttft_s: float
    p_failure: float

    @classmethod
    def of(
        cls, objective: str, key_id: str, label: str, same: bool, cost_usd: float, ttft_s: float, p_failure: float
    ) -> ShadowChoice:
        """From the plain numbers that a decision keeps."""
        return cls(
            objective=objective,
            key_id=key_id,
            label=label,
            same=same,
            cost_usd=Decimal(cost_usd).quantize(Decimal("1e-12")),
            ttft_s=ttft_s,
            p_failure=p_failure,
        )


class RejectedRoute(BaseModel):
    """A candidate that a filter refused. `code` is stable; `reason` is for people."""

    key_id: str
    provider_id: str
    code: str
    reason: str


class AttemptRecord(BaseModel):
    """One send. `outcome`: "ok" or a failure class. `duration_ms`: until the reply ended or failed. `hold_id`: names
    what was set aside for it, of quota and money."""

    key_id: str
    provider_id: str
    outcome: str
    status: int | None = None
    duration_ms: float
    ttft_ms: float | None = None
    detail: str = ""
    hold_id: str = ""


class OutputLimit(BaseModel):
    """A lowered limit on output tokens per choice: what the caller `asked` for (None: no limit), what was `given`, and
    the budget that made it so."""

    asked: int | None
    given: int
    budget_id: str


class RoutingDecision(BaseModel):
    """Who serves a request, who does not, and why.

    Scores are US dollars on an absolute scale, lower is better: the money it costs plus what the objective says that
    waiting and failing are worth. `considered`: candidates looked at, of `candidates` that exist. `selected`: the
    chosen one's numbers.
    `flip`: the smallest change that would have chosen the runner-up, in words. `flip_margin_usd`: no smaller change of
    one score changes the choice, any larger one does (None where turns decide). `flip_weight`, `flip_weight_change`:
    the term whose weight decides soonest, and that change: 0.25 is a quarter more, -0.5 half of it less.
    `cost_usd`: what was charged;
    `cost_source`: "prices", or "provider's bill" where the reply told one that makes sense.
    `billed_usd`: that bill; `list_price_usd`: usage x price. `price_source`: where the price came from.
    `presumed_usd`: charged because nobody could tell whether the provider did. `waited_ms`: for budget that running
    requests held. `output_limit`: set when a budget shortened the reply. `policies`: those that applied; `fallbacks`:
    models given up before this one; `hedges`: keys that were asked beside the first. `model_choice`: how the model was
    chosen, for requests that ask for `auto` (or are watched in shadow mode).
    """

    id: str
    request_id: str
    decision_timestamp: datetime
    model: str
    objective: str
    weights: dict[str, float] = Field(default_factory=dict)
    selected_key_id: str | None
    selected_provider_id: str | None
    selected: ScoredRoute | None = None
    score_usd: Decimal | None = None
    terms_usd: dict[str, Decimal] = Field(default_factory=dict)
    candidates: int = 0
    considered: int = 0
    alternatives_considered: list[AlternativeRoute] = Field(default_factory=list)
    rejections: list[RejectedRoute] = Field(default_factory=list)
    attempts: list[AttemptRecord] = Field(default_factory=list)
    runner_up_key_id: str | None = None
    flip: str | None = None
    flip_margin_usd: Decimal | None = None
    flip_weight: str | None = None
    flip_weight_change: Decimal | None = None
    outcome: str = "pending"
    cost_usd: Decimal | None = None
    cost_source: str = "prices"
    billed_usd: Decimal | None = None
    list_price_usd: Decimal | None = None
    price_source: str = ""
    presumed_usd: Decimal = Decimal(0)
    waited_ms: float = 0.0
    output_limit: OutputLimit | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    quota: PoolForecast | None = None
    shadow: ShadowChoice | None = None
    policies: list[str] = Field(default_factory=list)
    fallbacks: list[str] = Field(default_factory=list)
    hedges: list[str] = Field(default_factory=list)
    model_choice: ModelChoice | None = None
    explanation: str

    @property
    def eligible_keys(self) -> list[str]:
        """Ids of the kept candidates, the chosen one first."""
        chosen = [self.selected_key_id] if self.selected_key_id else []
        return chosen + [a.key_id for a in self.alternatives_considered]


class Comparison(BaseModel):
    """A what-if against the decision of a request without its wishes: that one's `objective` and choice, and what the
    what-if changes. `cost_usd`: expected dollars more (less below zero), `p_failure`: expected failed attempts more;
    None when one of them chose nobody. `explanation`: in one sentence."""

    objective: str
    selected_key_id: str | None
    selected_provider_id: str | None
    same: bool
    cost_usd: Decimal | None
    p_failure: float | None
    explanation: str
