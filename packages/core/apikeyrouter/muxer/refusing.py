"""Why no model could be chosen, said to whoever asked: too dear, or nobody able.

Main entries: `too_dear`, which names the cheapest alternative, and `nobody`. Law: nothing has been sent by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from apikeyrouter.domain.errors import BudgetExceededError, ErrorCategory, SystemError

__all__ = ["nobody", "too_dear"]

_NANO = Decimal("1e-9")


def too_dear(
    max_cost_usd: float, cheapest: str, cheapest_usd: float, *, fits_tokens: int | None = None
) -> BudgetExceededError:
    """Every model may cost more than `max_cost_usd`. `cheapest`: the model that may cost least, `cheapest_usd`: how
    much at the most. `fits_tokens`: the longest reply with which that one would fit, None when none would."""
    advice = f"Allow at least ${cheapest_usd:.6f}"
    advice += f", or ask for {fits_tokens} output tokens at the most." if fits_tokens else ", or send less."
    most = _shown(max_cost_usd)
    error = BudgetExceededError(
        f"No model can answer for at most ${most}: the cheapest alternative is {cheapest}, and it may cost "
        f"${cheapest_usd:.6f}. Nothing was sent. {advice}",
        remaining_budget=_usd(max_cost_usd),
        violated_budgets=["max_cost"],
        cost_estimate=_usd(cheapest_usd),
        budget_limit=_usd(max_cost_usd),
        max_output_tokens=fits_tokens,
    )
    error.provider_code = "max_cost"
    error.details["cheapest_alternative"] = cheapest
    return error


def nobody(group: str, reasons: Mapping[str, str]) -> SystemError:
    """No model of the group can answer. `reasons`: by model."""
    shown = "; ".join(f"{model}: {why}" for model, why in reasons.items())
    if not reasons:
        shown = (
            "no provider with a key has a model that this router knows for it; name models in model_groups "
            "(docs/how-to/model-routing.md), or name a model in the request"
        )
    return SystemError(
        ErrorCategory.ValidationError,
        f"No model can be chosen for {group!r}: {shown}.",
        provider_code="no_model_fits",
        details={"reasons": dict(reasons), "param": "model"},
        status=400,
    )


def _shown(amount: float) -> str:
    return f"{amount:.9f}".rstrip("0").rstrip(".")


def _usd(amount: float) -> Decimal:
    return Decimal(amount).quantize(_NANO)
