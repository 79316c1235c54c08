"""What a request is settled with: the bill in the provider's reply, where there is one, else usage x price.

Main entry: `settled`. Prices foresee and rank; a bill knows discounts, routing and fees that no price list does. Both
are kept apart, so that a difference can be seen.
Laws: pure; never negative; a bill that makes no sense beside the prices settles nothing, and is told by name.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["BELIEVED_TIMES", "CostSource", "settled"]

BELIEVED_TIMES = 100
"""A bill is believed up to so many times what prices, or the hold, explain. Real surprises (a dearer model behind an
alias, tools, searches) stay below 30; a bill in cents or micro-dollars is above."""

_SMALL_NANO_USD = 1_000_000_000
"""Below a dollar a bill is believed whatever the prices say: fees per request dwarf the tokens of a short one."""


class CostSource(StrEnum):
    """Where the cost of a request came from."""

    Prices = "prices"
    Bill = "provider's bill"


def settled(priced_nano_usd: int | None, billed_nano_usd: int, held_nano_usd: int) -> tuple[int, CostSource, str]:
    """The cost to settle with, where it came from, and a warning ("" for none).

    `priced_nano_usd`: usage x price, None without a price. `billed_nano_usd`: the bill. `held_nano_usd`: the
    most that was held for it on a budget, 0 without one.
    """
    explained = max(priced_nano_usd or 0, held_nano_usd)
    if billed_nano_usd >= 0 and (
        explained == 0 or billed_nano_usd <= _SMALL_NANO_USD or billed_nano_usd <= BELIEVED_TIMES * explained
    ):
        return billed_nano_usd, CostSource.Bill, ""
    cost = held_nano_usd if priced_nano_usd is None else priced_nano_usd
    warning = (
        f"the provider's bill of ${billed_nano_usd / 1e9:.9g} is not believed: prices and hold explain "
        f"${explained / 1e9:.9g}; charged ${cost / 1e9:.9g}"
    )
    return cost, CostSource.Prices, warning
