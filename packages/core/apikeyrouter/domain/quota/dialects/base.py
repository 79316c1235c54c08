"""The dialect that most providers need: a table of headers, sentences of refusals, charges and tiers.

Main entry: `HeaderDialect`, an implementation of `domain.quota.facts.LimitDialect` whose behaviour is data. Providers
that need code of their own subclass it and override one method.
Laws: pure, and never raises on what a provider sent. Text is read only of refusals that the provider's limiter made
(`TEXT_CLASSES`): other errors quote what callers wrote, and no caller may set our limits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from apikeyrouter.domain.interfaces.transport import Headers
from apikeyrouter.domain.quota.dialects.lanes import HeaderTable, facts_of
from apikeyrouter.domain.quota.dialects.texts import Hit, hit_in_text, with_hit
from apikeyrouter.domain.quota.dialects.tiers import tier_facts
from apikeyrouter.domain.quota.facts import MINUTE_S, ChargeRule, LimitFact
from apikeyrouter.domain.resilience.bodies import ErrorBody, decode_error
from apikeyrouter.domain.resilience.failures import Failure, FailureClass

__all__ = ["TEXT_CLASSES", "HeaderDialect", "itself"]

_F = FailureClass
TEXT_CLASSES = frozenset({_F.Rate, _F.DayQuota, _F.TooLargeForLimit})
"""Classes whose text names the limit that was hit. A burst is below the limits, and money has classes of its own."""


def itself(model: str) -> str:
    """Each model has limits of its own."""
    return model


class HeaderDialect:
    """How a provider speaks of its limits, as data.

    `name`: of the dialect, and of its tiers. `table`: its headers. `charges`: what it counts. `header_limits`: whether
    successful replies carry limits. `sharing`: the group that a model's limits belong to. `text_period_s`: the period
    of a limit that a sentence names without one.
    """

    def __init__(
        self,
        name: str,
        table: HeaderTable,
        charges: ChargeRule,
        *,
        header_limits: bool = True,
        sharing: Callable[[str], str] = itself,
        text_period_s: float = MINUTE_S,
    ) -> None:
        self.name = name
        self.table = table
        self.charges = charges
        self.header_limits = header_limits
        self._sharing = sharing
        self._text_period_s = text_period_s

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def models_sharing(self, model: str) -> str:
        """See `LimitDialect.models_sharing`."""
        return self._sharing(model)

    def understands(self, header_name: bytes) -> bool:
        """Whether a header of this name (lower case) is known: read as a limit, or known to limit nothing counted."""
        return header_name in self.table.names

    def of_reply(self, headers: Headers, *, utc_now: datetime) -> Sequence[LimitFact]:
        """See `LimitDialect.of_reply`."""
        return facts_of(self.table, headers, utc_now)

    def of_failure(self, failure: Failure, headers: Headers, body: bytes, *, utc_now: datetime) -> Sequence[LimitFact]:
        """See `LimitDialect.of_failure`."""
        facts = list(self.of_reply(headers, utc_now=utc_now))
        error = decode_error(body) if body else ErrorBody()
        return self._of_error(facts, failure, error, headers, utc_now)

    def of_tier(self, tier: str, model: str) -> Sequence[LimitFact]:
        """See `LimitDialect.of_tier`."""
        return tier_facts(self.name, tier, model)

    def _of_error(
        self,
        facts: list[LimitFact],
        failure: Failure,
        error: ErrorBody,
        headers: Headers,  # noqa: ARG002 - some dialects need the provider's clock
        utc_now: datetime,  # noqa: ARG002
    ) -> Sequence[LimitFact]:
        """`facts` of the headers with what the error says."""
        if failure.failure_class not in TEXT_CLASSES:
            return facts
        hit = self._hit(error.message or failure.message)
        if hit is None:
            return facts
        exhausted = failure.failure_class is not FailureClass.TooLargeForLimit
        return with_hit(facts, hit, exhausted=exhausted, retry_s=failure.retry_after_s, period_s=self._text_period_s)

    def _hit(self, message: str) -> Hit | None:
        return hit_in_text(message)
