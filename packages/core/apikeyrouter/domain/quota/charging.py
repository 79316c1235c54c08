"""What a request that is over has used of its quota windows: one amount per window, in the order of its hold.

Providers differ in what they count (`ChargeRule`): a window that is `corrected` is charged the true use, any other one
keeps what was counted when the request was let in.
"""

from __future__ import annotations

from collections.abc import Sequence

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.ledger.accounts import Account
from apikeyrouter.domain.quota.facts import ChargeRule
from apikeyrouter.domain.quota.limits import QuotaWindow

__all__ = ["failed_charges", "used_charges"]

_Lines = Sequence[tuple[Account, int]]


def used_charges(
    windows: Sequence[QuotaWindow], lines: _Lines, usage: Usage, cost_nano_usd: int, rule: ChargeRule
) -> list[int]:
    """Of a request that was answered. `lines`: its hold's, those of the windows first."""
    tokens_in = usage.input_tokens
    if not rule.cached_input_counts:
        tokens_in = max(0, tokens_in - usage.cached_input_tokens)
    out = usage.output_tokens
    amounts = (1, tokens_in, out, tokens_in + out, 0, cost_nano_usd)
    return [
        amounts[window.kind] if window.corrected else need for window, (_, need) in zip(windows, lines, strict=False)
    ]


def failed_charges(windows: Sequence[QuotaWindow], rule: ChargeRule, *, refused: bool) -> list[int]:
    """Of a request that produced nothing: `refused` by a limit, or failed otherwise."""
    counts = int(rule.refused_count if refused else rule.failed_count)
    amounts = (counts, 0, 0, 0, 0, 0)
    return [amounts[window.kind] for window in windows]
