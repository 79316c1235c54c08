"""Published limits of providers' tiers, for pools of which nothing better is known yet.

Main entry: `tier_facts(dialect, tier, model)`; the rows are in `tier_rows`. Laws: each row has a date and a source, and
says in its note what was not verified; nothing is invented: an unknown tier or model gives no facts. Facts of tiers
are the weakest of all: a provider's first header or refusal replaces them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from apikeyrouter.domain.quota.dialects.tier_rows import ROWS, TierRow
from apikeyrouter.domain.quota.facts import DAY_S, MINUTE_S, MONTH_S, Dimension, LimitFact, Source

__all__ = ["NANO_USD", "TierRow", "tier_facts", "tier_names", "tier_rows"]

NANO_USD = 1_000_000_000

_KINDS: Mapping[str, tuple[Dimension, float]] = {
    "rps": (Dimension.Requests, 1.0),
    "rpm": (Dimension.Requests, MINUTE_S),
    "rpd": (Dimension.Requests, DAY_S),
    "requests_month": (Dimension.Requests, MONTH_S),
    "tpm": (Dimension.Tokens, MINUTE_S),
    "tph": (Dimension.Tokens, 3_600.0),
    "tpd": (Dimension.Tokens, DAY_S),
    "tokens_month": (Dimension.Tokens, MONTH_S),
    "itpm": (Dimension.InputTokens, MINUTE_S),
    "otpm": (Dimension.OutputTokens, MINUTE_S),
    "concurrent": (Dimension.Concurrency, 0.0),
    "usd_10min": (Dimension.Spend, 600.0),
    "usd_month": (Dimension.Spend, MONTH_S),
}
_TIER_PREFIX = re.compile(r"^(?:usage[ _-]?)?tier[ _-]?")


def _normal(tier: str) -> str:
    """ "Tier 3", "tier-3" and "3" are one tier."""
    return _TIER_PREFIX.sub("", tier.strip().lower()).replace(" ", "-")


def _fits(row: TierRow, model: str) -> bool:
    return any(model == name or (name.endswith("*") and model.startswith(name[:-1])) for name in row.models)


def _facts(row: TierRow) -> list[LimitFact]:
    facts: list[LimitFact] = []
    for kind, amount in row.limits:
        dimension, period_s = _KINDS[kind]
        limit = amount * NANO_USD if dimension is Dimension.Spend else amount
        facts.append(
            LimitFact(
                dimension,
                period_s,
                limit,
                models=row.shared,
                refill=row.refill,
                time_zone=row.time_zone,
                source=Source.Tier,
            )
        )
    return facts


def tier_rows() -> Sequence[TierRow]:
    """Every row, for tables and for checks."""
    return ROWS


def tier_names(dialect: str) -> list[str]:
    """The tiers of a dialect that something is known about."""
    return list(dict.fromkeys(tier for row in tier_rows() if row.dialect == dialect for tier in row.tiers))


@lru_cache(maxsize=1024)
def tier_facts(dialect: str, tier: str, model: str) -> tuple[LimitFact, ...]:
    """The published limits of a tier for a model; of several rows for one dimension, period and group the first."""
    wanted, name = _normal(tier), model.lower().removeprefix("models/")
    found: dict[tuple[Dimension, float, str], LimitFact] = {}
    for row in tier_rows():
        if row.dialect == dialect and wanted in row.tiers and _fits(row, name):
            for fact in _facts(row):
                found.setdefault((fact.dimension, fact.period_s, fact.models), fact)
    return tuple(found.values())
