"""Objectives as weights in one currency: US dollars per request.

    J = cost + failure + latency + load + turn + floor + quota + affinity      (each >= 0; lower is better)

All scales are absolute: adding an irrelevant key never changes the order of the others, which min-max normalisation
would (design notes 2.7). Main entries: `compile_objective`, `scarcity`. `floor` keeps the cost objective from saving a
tenth of a cent on a key that mostly fails; `quota` is the shadow price of what a pool has left; `affinity` the money
that is lost by leaving the pool that has this prompt's beginning in its cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from apikeyrouter.domain.errors import ErrorCategory, SystemError
from apikeyrouter.domain.keys.eligibility import Block
from apikeyrouter.domain.models.routing_decision import ObjectiveType, RoutingObjective

if TYPE_CHECKING:
    from apikeyrouter.domain.routing.candidates import Candidate
    from apikeyrouter.domain.routing.demand import Demand

__all__ = [
    "EDGE",
    "OVERSIZE_USD",
    "RELIABILITY_THRESHOLD",
    "Objective",
    "Ruling",
    "Values",
    "compile_objective",
    "scarcity",
]

RELIABILITY_THRESHOLD = 0.95
"""The threshold of the cost objective's explanation ("while maintaining reliability threshold (>0.95)")."""

OVERSIZE_USD = 1.0
"""What it costs to let one request take more than half of a pool's tokens: enough that any other pool serves it, if
there is one (design notes 2.11, "Water level": one huge request beats small pools for minutes)."""

_SECONDARY_WEIGHT = 0.3
EDGE = 0.1
"""The last tenth of a limit is where estimates that were a little too low get requests refused."""

_CONSTRAINTS = (
    "allowed_providers", "blocked_providers", "allowed_keys", "blocked_keys", "allowed_regions", "allowed_tags",
    "blocked_tags",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Values:
    """What things are worth, in US dollars. Defaults are judgements, meant to be set by the operator.

    `failure_usd`: one failed attempt. `latency_usd_per_s`: one second to the first token. `load_usd`: one request
    already in flight on the key. `turn_usd`: one turn out of order. `quota_usd`: the last unit of a quota pool, above
    what it costs: what a request that finds no room, or is refused for it, loses.
    """

    failure_usd: float = 0.01
    latency_usd_per_s: float = 0.001
    load_usd: float = 0.0005
    turn_usd: float = 0.0005
    quota_usd: float = 0.01


class Ruling(Protocol):
    """What policies say about the candidates of a request: `domain.routing.policy.PolicyRuling`.

    `policies`: the ids of those that apply. `fallbacks`: whether another model may stand in.
    """

    @property
    def policies(self) -> tuple[str, ...]:
        """Ids of the policies that apply, the highest priority first."""
        ...

    @property
    def fallbacks(self) -> bool:
        """Whether another model may stand in."""
        ...

    def block(self, candidate: Candidate, demand: Demand, now_s: float) -> Block | None:
        """Why the candidate may not serve ("policy", "min_reliability", "max_cost", "price_unknown"), or None."""
        ...

    def lets_pass(self, candidate: Candidate) -> bool:
        """Whether it has nothing against the candidate, whatever is asked for and whenever."""
        ...


@dataclass(frozen=True, slots=True)
class Objective:
    """A compiled objective: weights per term, already times their values, and hard constraints.

    `turns_only`: exact turn-taking decides alone (the fairness preset). `spread_usd`: water-filling, for pools of
    unequal size to be used in proportion; `edge_usd`: keeping away from a pool's end; `affinity`: weight of money saved
    by a provider's prompt cache. Constraints: None for none; a key needs one of the allowed tags, none of the blocked.
    `ruling`: what the operator's policies say besides; `asked`: False for the default of a request that names none.
    """

    name: str
    weights: Mapping[str, float]
    cost: float = 0.0
    failure_usd: float = 0.0
    latency_usd_per_s: float = 0.0
    load_usd: float = 0.0
    turn_usd: float = 0.0
    spread_usd: float = 0.0
    edge_usd: float = 0.0
    affinity: float = 0.0
    floor: bool = False
    turns_only: bool = False
    min_reliability: float | None = None
    max_cost_usd: float | None = None
    allowed_providers: frozenset[str] | None = None
    blocked_providers: frozenset[str] = field(default_factory=frozenset)
    allowed_keys: frozenset[str] | None = None
    blocked_keys: frozenset[str] = field(default_factory=frozenset)
    allowed_regions: frozenset[str] | None = None
    allowed_tags: frozenset[str] | None = None
    blocked_tags: frozenset[str] = field(default_factory=frozenset)
    ruling: Ruling | None = None
    asked: bool = True
    selective: bool = field(init=False, repr=False, compare=False, default=False)
    """Whether some keys may not serve, whatever they are worth."""
    measured: bool = field(init=False, repr=False, compare=False, default=False)
    """Whether a candidate's success or price may keep it out."""

    def __post_init__(self) -> None:
        """What every decision asks is worked out once."""
        selective = bool(
            self.allowed_providers is not None
            or self.blocked_providers
            or self.allowed_keys is not None
            or self.blocked_keys
            or self.allowed_regions is not None
            or self.allowed_tags is not None
            or self.blocked_tags
            or self.ruling is not None
        )
        object.__setattr__(self, "selective", selective)
        object.__setattr__(self, "measured", self.min_reliability is not None or self.max_cost_usd is not None)


def scarcity(objective: Objective, room: float, pressure: float) -> float:
    """The shadow price, in dollars, of a request's share of a pool. `room`: least share of a limit that is left after
    it, 0..1; `pressure`: 0 plenty, 1 it lasts exactly until it comes back. Falls with room, grows with pressure.

    (1 - room)^2 fills pools to the same level whatever their sizes (design notes 2.4, water-filling). The last tenth,
    and a pool that will not last at the rate at which it is used (2.2: shadow price above 1), cost up to `edge_usd`
    each: a price of its own keeps use at the rate at which the pool comes back.
    """
    price = objective.spread_usd * (1.0 - room) * (1.0 - room)
    if room < EDGE:
        price += objective.edge_usd * (1.0 - room / EDGE)
    if pressure > 1.0:
        price += objective.edge_usd * min(pressure - 1.0, 1.0)
    return price


def compile_objective(objective: RoutingObjective | str | None, default: str, values: Values) -> Objective:
    """Turns a name or a `RoutingObjective` into weights. Raises SystemError (ValidationError) for an unknown name."""
    if objective is None or isinstance(objective, str):
        name = objective or default
        try:
            compiled = _compile(RoutingObjective(primary=ObjectiveType(name)), values)
            return compiled if objective else replace(compiled, asked=False)
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
    every = reliability + of("latency", 0.0)
    name = objective.primary.value if len(weights) == 1 else "+".join(f"{k} {v:g}" for k, v in sorted(weights.items()))
    cost = of("cost", 0.0) + balanced
    return Objective(
        name=name,
        weights=weights,
        cost=cost,
        failure_usd=values.failure_usd * (reliability + 0.1 * of("latency", 0.0)),
        latency_usd_per_s=values.latency_usd_per_s * latency,
        load_usd=values.load_usd * reliability,
        turn_usd=values.turn_usd * of("fairness", 0.0),
        spread_usd=values.quota_usd * every,
        edge_usd=values.quota_usd * (every + of("cost", 0.0)),
        affinity=cost + of("latency", 0.0),
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
        for name in _CONSTRAINTS:
            if given.get(name) is not None:
                listed = given[name]
                out[name] = frozenset([listed] if isinstance(listed, str) else listed)
    except (TypeError, ValueError) as fault:
        raise SystemError(
            ErrorCategory.ValidationError, f"A constraint of the objective has a wrong value: {fault}.", status=400
        ) from None
    return out
