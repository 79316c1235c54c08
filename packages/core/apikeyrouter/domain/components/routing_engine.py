"""The routing engine as users meet it: a dry run of a decision, and its explanation.

The decision itself is `domain.routing.choose`; this component only gives it a name and a voice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apikeyrouter.domain.errors import NoEligibleKeysError
from apikeyrouter.domain.models.request_intent import RequestIntent
from apikeyrouter.domain.models.routing_decision import RoutingDecision, RoutingObjective

__all__ = ["NoEligibleKeysError", "RoutingEngine"]


class RoutingEngine:
    """Explains decisions. `decide` chooses without sending and without spending a turn."""

    def __init__(self, decide: Callable[[RequestIntent, RoutingObjective | str | None], RoutingDecision]) -> None:
        self._decide = decide

    async def route_request(
        self, request_intent: RequestIntent | dict[str, Any], objective: RoutingObjective | str | None = None
    ) -> RoutingDecision:
        """What would be decided now; nothing is sent, held or counted. Raises SystemError as `route` would."""
        intent = request_intent if isinstance(request_intent, RequestIntent) else RequestIntent(**request_intent)
        return self._decide(intent, objective)

    def explain_decision(self, decision: RoutingDecision) -> str:
        """The decision in several lines: the sentence, then candidates, rejections, attempts and what would flip it."""
        lines = [decision.explanation]
        if decision.terms_usd:
            terms = ", ".join(f"{name} ${value:f}" for name, value in decision.terms_usd.items())
            lines.append(f"Score of the chosen key: ${decision.score_usd:f} ({terms}); lower is better.")
        lines += [f"Not chosen: {a.reason_not_selected}." for a in decision.alternatives_considered]
        lines += [f"Refused ({r.code}): {r.reason}." for r in decision.rejections]
        lines += [
            f"Attempt with {a.key_id}: {a.outcome} in {a.duration_ms:g} ms. {a.detail}".rstrip()
            for a in decision.attempts
        ]
        if decision.flip:
            lines.append(f"What would change it: {decision.flip}.")
        return "\n".join(lines)
