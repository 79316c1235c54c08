"""Limit dialects of providers that tell nothing by themselves: a test says what is told."""

from __future__ import annotations

from typing import Any

from apikeyrouter.domain.quota.facts import ChargeRule, LimitFact

__all__ = ["OPEN", "TO_THE_CAP", "QuietDialect"]

OPEN = ChargeRule(output_at_admission="none", corrected=True)
"""Output counts when it is there."""

TO_THE_CAP = ChargeRule(output_at_admission="cap", corrected=False)
"""All that a request may become counts when it is let in."""


class QuietDialect:
    """Reads nothing; `charges` says what a request takes."""

    header_limits = True

    def __init__(self, charges: ChargeRule = OPEN) -> None:
        self.charges = charges

    def models_sharing(self, model: str) -> str:
        return model

    def of_reply(self, *_: Any, **__: Any) -> list[LimitFact]:
        return []

    def of_failure(self, *_: Any, **__: Any) -> list[LimitFact]:
        return []

    def of_tier(self, *_: Any) -> list[LimitFact]:
        return []
