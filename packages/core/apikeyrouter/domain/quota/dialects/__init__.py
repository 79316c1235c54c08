"""How each provider speaks of its limits: headers, refusals, charges and tiers, as facts.

Main entry: `limit_dialect(name)`, an implementation of `domain.quota.facts.LimitDialect`. Tables are in `registry`,
what needs code in `providers`, published tiers in `tier_rows`.
"""

from apikeyrouter.domain.quota.dialects.registry import DIALECTS, limit_dialect
from apikeyrouter.domain.quota.dialects.tiers import TierRow, tier_names, tier_rows

__all__ = ["DIALECTS", "TierRow", "limit_dialect", "tier_names", "tier_rows"]
