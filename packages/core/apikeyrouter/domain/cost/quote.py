"""A price tag for a request that nobody has sent: what it may or will probably cost."""

from __future__ import annotations

import msgspec

from apikeyrouter.domain.cost.estimate import (
    OutputLengths,
    input_tokens_bound,
    input_tokens_expected,
    output_is_bounded,
    output_tokens_bound,
    upper_bound_nano_usd,
)
from apikeyrouter.domain.cost.prices import cost_breakdown, cost_nano_usd, to_decimal_usd
from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.domain.models.cost_estimate import CostEstimate
from apikeyrouter.domain.models.request_intent import RequestIntent

__all__ = ["quote"]


def quote(intent: RequestIntent, price: ModelPrice | None, lengths: OutputLengths, *, bound: bool) -> CostEstimate:
    """The most that the request can cost (`bound`), or what is likely.

    Confidence is 1.0 for a bound that rests on facts, 0.5 for an expectation or a guessed output limit. Without a price
    the amount is 0, the confidence 0 and the method "unpriced".
    """
    parameters = intent.parameters
    limit = _int_or_none(parameters.get("max_completion_tokens")) or _int_or_none(parameters.get("max_tokens"))
    choices = max(1, _int_or_none(parameters.get("n")) or 1)
    body_bytes = len(msgspec.json.encode(intent.to_wire()))
    window = price.context_window if price is not None else None
    if bound:
        tokens_in = input_tokens_bound(body_bytes, len(intent.messages), tools="tools" in parameters)
        tokens_out = output_tokens_bound(limit, choices, intent.model, window)
    else:
        tokens_in = input_tokens_expected(body_bytes)
        tokens_out = lengths.expected(intent.model, limit) * choices
    if price is None:
        return CostEstimate(
            amount=to_decimal_usd(0),
            confidence=0.0,
            estimation_method="unpriced",
            input_tokens_estimate=tokens_in,
            output_tokens_estimate=tokens_out,
        )
    usage = Usage(tokens_in, tokens_out)
    nano = upper_bound_nano_usd(price, tokens_in, tokens_out) if bound else cost_nano_usd(price, usage)
    return CostEstimate(
        amount=to_decimal_usd(nano),
        confidence=1.0 if bound and output_is_bounded(limit, intent.model, window) else 0.5,
        estimation_method="upper_bound" if bound else "expected",
        input_tokens_estimate=tokens_in,
        output_tokens_estimate=tokens_out,
        breakdown=cost_breakdown(price, usage),
    )


def _int_or_none(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
