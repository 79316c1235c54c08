"""Objectives as weights in one currency: US dollars per request.

    J = w_cost * E[$] + w_failure * v_failure * P(fail) + w_latency * v_latency * E[TTFT] + w_load * v_load * load
        + w_turn * v_turn * (turns ahead) + floor

Lower is better. All scales are absolute: adding an irrelevant key never changes the order of the others, which min-max
normalisation would (reference notes, section 2.7). `floor` keeps the cost objective from saving a tenth of a cent on a
key that mostly fails: below the reliability threshold a candidate pays a dollar per unit of shortfall.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apikeyrouter.domain.errors import ErrorCategory, SystemError
from apikeyrouter.domain.models.routing_decision import ObjectiveType, RoutingObjective

__all__ = ["RELIABILITY_THRESHOLD", "Objective", "Values", "compile_objective"]

RELIABILITY_THRESHOLD = 0.95
"""The threshold of the cost objective's explanation ("while maintaining reliability threshold (>0.95)")."""

_SECONDARY_WEIGHT = 0.3


@dataclass(frozen=True, slots=True)
class Values:
    """What things are worth, in US dollars. Defaults are judgements, meant to be set by the operator.

    `failure_usd`: one failed attempt. `latency_usd_per_s`: one second to the first token. `load_usd`: one request
    already in flight on the key. `turn_usd`: one turn out of order.
    """

    failure_usd: float = 0.01
    latency_usd_per_s: float = 0.001
    load_usd: float = 0.0005
    turn_usd: float = 0.0005


@dataclass(frozen=True, slots=True)
class Objective:
    """A compiled objective: weights per term, already times their values, and hard constraints.

    `turns_only`: exact turn-taking decides alone (the fairness preset). Constraints: None for none.
    """

    name: str
    weights: Mapping[str, float]
    cost: float = 0.0
    failure_usd: float = 0.0
    latency_usd_per_s: float = 0.0
    load_usd: float = 0.0
    turn_usd: float = 0.0
    floor: bool = False
    turns_only: bool = False
    min_reliability: float | None = None
    max_cost_usd: float | None = None
    allowed_providers: frozenset[str] | None = None
    blocked_providers: frozenset[str] = field(default_factory=frozenset)
    allowed_keys: frozenset[str] | None = None
    blocked_keys: frozenset[str] = field(default_factory=frozenset)

    @property
    def constrained(self) -> bool:
        """Whether any per-candidate constraint must be checked."""
        return bool(
            self.min_reliability is not None
            or self.max_cost_usd is not None
            or self.allowed_providers is not None
            or self.blocked_providers
            or self.allowed_keys is not None
            or self.blocked_keys
        )


def compile_objective(objective: RoutingObjective | str | None, default: str, values: Values) -> Objective:
    """Turns a name or a `RoutingObjective` into weights. Raises SystemError (ValidationError) for an unknown name."""
    if objective is None or isinstance(objective, str):
        name = objective or default
        try:
            return _compile(RoutingObjective(primary=ObjectiveType(name)), values)
        except ValueError:
            known = ", ".join(o.value for o in ObjectiveType)
            raise SystemError(
                ErrorCategory.ValidationError, f"Unknown objective {name!r}; known are: {known}.", status=400
            ) from None
    return _compile(objective, values)


def _compile(objective: RoutingObjective, values: Values) -> Objective:
    weights = {k.value: float(v) for k, v in objective.weights.items() if v > 0}
    if not weights:
        weights = {objective.primary.value: 1.0}
        for second in objective.secondary:
            weights.setdefault(second.value, _SECONDARY_WEIGHT)
    of = weights.get
    balanced = of("balanced", 0.0)
    reliability = of("reliability", 0.0) + of("quality", 0.0) + balanced
    latency = of("latency", 0.0) + balanced
    name = objective.primary.value if len(weights) == 1 else "+".join(f"{k} {v:g}" for k, v in sorted(weights.items()))
    cost = of("cost", 0.0) + balanced
    return Objective(
        name=name,
        weights=weights,
        cost=cost,
        failure_usd=values.failure_usd * (reliability + 0.1 * of("latency", 0.0)),
        latency_usd_per_s=values.latency_usd_per_s * latency,
        load_usd=values.load_usd * (reliability + latency),
        turn_usd=values.turn_usd * of("fairness", 0.0),
        floor=bool(cost) and not reliability,
        turns_only=set(weights) == {"fairness"},
        **_constraints(objective.constraints),
    )


def _constraints(given: Mapping[str, Any]) -> dict[str, Any]:
    """Constraint fields of `Objective`. Raises SystemError (ValidationError) for a value of the wrong kind."""
    out: dict[str, Any] = {}
    try:
        if given.get("min_reliability") is not None:
            out["min_reliability"] = float(given["min_reliability"])
        if given.get("max_cost") is not None:
            out["max_cost_usd"] = float(given["max_cost"])
        for name in ("allowed_providers", "blocked_providers", "allowed_keys", "blocked_keys"):
            if given.get(name) is not None:
                listed = given[name]
                out[name] = frozenset([listed] if isinstance(listed, str) else listed)
    except (TypeError, ValueError) as fault:
        raise SystemError(
            ErrorCategory.ValidationError, f"A constraint of the objective has a wrong value: {fault}.", status=400
        ) from None
    return out
