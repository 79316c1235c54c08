"""A request on its way through the pipeline: what was tried, what failed, and what may still be tried.

Main entry: `Flow`, one per request. Law: it decides nothing; `pipeline` does.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from apikeyrouter.domain.components.pool_shares import Asking
from apikeyrouter.domain.models.call import Call
from apikeyrouter.domain.resilience.failures import Failure, Scope
from apikeyrouter.domain.resilience.retry import costs_retry_budget
from apikeyrouter.domain.routing.candidates import Group
from apikeyrouter.domain.routing.choose import MoneyRefusal, Taken
from apikeyrouter.domain.routing.explain import AttemptFact, DecisionRecord
from apikeyrouter.domain.routing.objectives import Objective
from apikeyrouter.funding import Money
from apikeyrouter.patience import Waiting

__all__ = ["SENDS_MAX", "Flow"]

SENDS_MAX = 12
"""Sends per request, whatever the answers are."""


class Flow(Struct, eq=False):
    """One request under way. `tried`: candidates by `who`. `context_max`: the largest context window, in tokens, of
    those that the request does not fit into, 0 without any."""

    call: Call
    objective: Objective
    record: DecisionRecord
    group: Group
    money: Money
    waiting: Waiting
    asking: Asking | None = None
    tried: set[tuple[str, str]] = set()
    sends: int = 0
    fallbacks: list[Group] | None = None
    failures: list[tuple[AttemptFact, Failure]] = []
    refusals: Sequence[MoneyRefusal] = ()
    error_body: tuple[bytes, str | None] | None = None
    context_max: int = 0

    def counted(self, attempts_max: int) -> int:
        """Attempts that count against the limit: those that a provider's fault cost.

        A key that is refused for its own sake (rate limit, credit, revoked) is set aside by that one answer, which
        costs nothing; a user must not fail because three such keys stood in front. Those have a bound of their own.
        """
        if len(self.failures) >= SENDS_MAX or attempts_max == 1:
            return attempts_max
        return sum(costs_retry_budget(failure) for _, failure in self.failures)

    def left_in_play(self, taken: Taken, failure: Failure) -> int:
        """Untried candidates that the failure says nothing about: after a key's own fault those of other keys, after a
        pool's limit those of other pools."""
        untried = [one for one in self.group.candidates if one.who not in self.tried]
        if failure.scope is Scope.Key:
            return sum(one.record is not taken.candidate.record for one in untried)
        if failure.scope is Scope.Pool:
            pool = taken.candidate.quota.pool
            return sum(one.quota.pool is not pool for one in untried)
        return len(untried)
