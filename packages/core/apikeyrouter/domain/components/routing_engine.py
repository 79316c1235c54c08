"""The routing engine as users meet it: dry runs, what-if, the explanation of a decision, and its replay.

The decision itself is `domain.routing.choose`; this component gives it a name and a voice. Law: `replay` finds the same
choice from the record alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from apikeyrouter.domain.errors import NoEligibleKeysError
from apikeyrouter.domain.models.request_intent import RequestIntent
from apikeyrouter.domain.models.routing_decision import (
    Comparison,
    ObjectiveType,
    PoolForecast,
    RoutingDecision,
    RoutingObjective,
    ScoredRoute,
)

__all__ = ["NoEligibleKeysError", "RoutingEngine"]


class RoutingEngine:
    """Explains decisions. `decide` chooses without sending and without spending a turn."""

    def __init__(self, decide: Callable[[RequestIntent, RoutingObjective | str | None], RoutingDecision]) -> None:
        self._decide = decide

    async def route_request(
        self, request_intent: RequestIntent | dict[str, Any], objective: RoutingObjective | str | None = None
    ) -> RoutingDecision:
        """What would be decided now; nothing is sent, held or counted. Raises SystemError as `route` would."""
        return self._decide(_intent(request_intent), objective)

    async def what_if(
        self,
        request_intent: RequestIntent | dict[str, Any],
        objective: RoutingObjective | str | None = None,
        *,
        without: Iterable[str] = (),
        keys: Iterable[str] = (),
    ) -> tuple[RoutingDecision, Comparison]:
        """What would be decided now under `objective`, `without` some keys or with some `keys` only (ids or labels),
        and what that changes against the decision that a request without such wishes gets. Nothing is sent, held or
        counted.

        Raises SystemError (ValidationError) for an unknown objective.
        """
        intent = _intent(request_intent)
        real = self._decide(intent, None)
        wanted = _narrowed(objective, real, frozenset(without), frozenset(keys))
        changed = self._decide(intent, wanted)
        return changed, compare(real, changed)

    def replay(self, decision: RoutingDecision) -> str | None:
        """The id of the key that the record's own numbers choose; None when nobody could be held. Equals
        `decision.selected_key_id` unless the record was changed."""
        routes: list[ScoredRoute] = [*decision.alternatives_considered]
        if decision.selected is not None:
            routes.append(decision.selected)
        best = min(routes, key=lambda one: (one.late, one.score_usd, one.turn, one.order), default=None)
        return best.key_id if best is not None and decision.selected_key_id is not None else None

    def explain_decision(self, decision: RoutingDecision) -> str:
        """The decision in several lines: the sentence, then candidates, rejections, attempts and what would flip it."""
        lines = [decision.explanation]
        if decision.terms_usd:
            terms = ", ".join(f"{name} ${value:f}" for name, value in decision.terms_usd.items())
            lines.append(f"Score of the chosen key: ${decision.score_usd:f} ({terms}); lower is better.")
        if decision.quota is not None:
            lines.append(_foreseen(decision.quota))
        lines += [f"Not chosen: {a.reason_not_selected}." for a in decision.alternatives_considered]
        lines += [f"Refused ({r.code}): {r.reason}." for r in decision.rejections]
        lines += [
            f"Attempt with {a.key_id}: {a.outcome} in {a.duration_ms:g} ms. {a.detail}".rstrip()
            for a in decision.attempts
        ]
        for what, names in (
            ("Policies that applied", decision.policies),
            ("Given up before", decision.fallbacks),
            ("Asked beside it", decision.hedges),
        ):
            if names:
                lines.append(f"{what}: {', '.join(names)}.")
        if decision.flip:
            lines.append(f"What would change it: {decision.flip}.")
        if decision.flip_weight is not None and decision.flip_weight_change is not None:
            more = "more" if decision.flip_weight_change > 0 else "less"
            share = abs(decision.flip_weight_change)
            lines.append(f"Or its weights: {share:.0%} {more} for {decision.flip_weight} would choose another key.")
        if decision.shadow is not None and not decision.shadow.same:
            lines.append(
                f"Under the objective {decision.shadow.objective}, {decision.shadow.label} would have served: expected "
                f"cost {decision.shadow.cost_usd:+.6f} dollars, {decision.shadow.ttft_s:+.3f} s to the first token, "
                f"{decision.shadow.p_failure:+.2%} failures."
            )
        return "\n".join(lines)


def compare(real: RoutingDecision, changed: RoutingDecision) -> Comparison:
    """What `changed` decides otherwise than `real`."""
    before, after = real.selected, changed.selected
    same = real.selected_key_id == changed.selected_key_id
    cost_usd = after.expected_cost_usd - before.expected_cost_usd if before and after else None
    p_failure = after.p_failure - before.p_failure if before and after else None
    if same:
        words = f"Nothing changes: a request without these wishes ({real.objective}) goes to the same key"
    elif after is None:
        words = "Nobody could serve it; a request without these wishes would be served"
    elif before is None:
        words = "It is served; a request without these wishes could not be"
    else:
        dearer = _more(float(cost_usd or 0), "dollars", 6)
        worse = _more(100 * (p_failure or 0), "percentage points", 2)
        words = (
            f"A request without these wishes ({real.objective}) goes to another key; here its expected cost is "
            f"{dearer}, its chance of failing {worse}"
        )
    return Comparison(
        objective=real.objective,
        selected_key_id=real.selected_key_id,
        selected_provider_id=real.selected_provider_id,
        same=same,
        cost_usd=cost_usd,
        p_failure=p_failure,
        explanation=f"{words}.",
    )


def _more(amount: float, unit: str, digits: int) -> str:
    if round(amount, digits) == 0:
        return "the same"
    return f"{abs(amount):.{digits}f} {unit} {'more' if amount > 0 else 'less'}"


def _intent(given: RequestIntent | dict[str, Any]) -> RequestIntent:
    return given if isinstance(given, RequestIntent) else RequestIntent(**given)


def _narrowed(
    objective: RoutingObjective | str | None, real: RoutingDecision, without: frozenset[str], keys: frozenset[str]
) -> RoutingObjective | str | None:
    """The objective with more constraints. Without one it is that of the real decision."""
    if not without and not keys:
        return objective
    if objective is None:
        weights = {ObjectiveType(name): weight for name, weight in real.weights.items()}
        objective = RoutingObjective(primary=next(iter(weights)), weights=weights)
    elif isinstance(objective, str):
        if objective not in list(ObjectiveType):
            return objective  # whoever decides says what is wrong with it
        objective = RoutingObjective(primary=ObjectiveType(objective))
    constraints = dict(objective.constraints)
    if without:
        constraints["blocked_keys"] = sorted({*_names(constraints.get("blocked_keys")), *without})
    if keys:
        allowed = constraints.get("allowed_keys")
        constraints["allowed_keys"] = sorted(keys if allowed is None else keys & set(_names(allowed)))
    return objective.model_copy(update={"constraints": constraints})


def _names(given: Any) -> Iterable[str]:
    return [given] if isinstance(given, str) else given or ()


def _foreseen(quota: PoolForecast) -> str:
    said = f"Its quota pool {quota.pool_id} is {quota.state} (pressure {quota.pressure:.2f}"
    if quota.chance_60s is not None:
        said += f", {quota.chance_60s:.0%} chance of running dry within a minute"
    said += ")"
    if quota.dry_p50_s is not None:
        said += f"; it runs dry in {quota.dry_p50_s:.0f} s"
        if quota.dry_p10_s is not None and quota.dry_p90_s is not None:
            said += f" ({quota.dry_p10_s:.0f} to {quota.dry_p90_s:.0f} s)"
    return f"{said}."
