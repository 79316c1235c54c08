"""How each provider speaks of its limits: `limit_dialect` finds it by name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from apikeyrouter.domain.interfaces.transport import Headers
from apikeyrouter.domain.quota.facts import ChargeRule, LimitDialect, LimitFact
from apikeyrouter.domain.resilience.failures import Failure

__all__ = ["limit_dialect"]


class _Silent:
    """A provider that never says anything."""

    charges = ChargeRule(output_at_admission="none", corrected=True)
    header_limits = False

    def models_sharing(self, model: str) -> str:
        """Each model has its own."""
        return model

    def of_reply(self, headers: Headers, *, utc_now: datetime) -> Sequence[LimitFact]:
        """Nothing."""
        return ()

    def of_failure(self, failure: Failure, headers: Headers, body: bytes, *, utc_now: datetime) -> Sequence[LimitFact]:
        """Nothing."""
        return ()

    def of_tier(self, tier: str, model: str) -> Sequence[LimitFact]:
        """Nothing."""
        return ()


_SILENT = _Silent()


def limit_dialect(name: str) -> LimitDialect:
    """The dialect of this name."""
    return _SILENT
