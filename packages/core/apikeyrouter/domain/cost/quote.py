"""A price tag for a request that nobody has sent: what it may, will hardly exceed, or will probably cost.

`quote` gives the provable most under hard budgets, the 95 % quantile under soft ones, else the expectation.

Laws: the three are in that order for one request; an amount of 0 without a price has confidence 0.
"""

from __future__ import annotations

from typing import Any

import msgspec

from apikeyrouter.domain.cost.estimate import (
    OutputLengths,
    output_is_bounded,
    output_tokens_bound,
    prices_of_tier,
    upper_bound_nano_usd,
)
from apikeyrouter.domain.cost.input_bound import InputBound, tight_input_bound
from apikeyrouter.domain.cost.lengths import template_of
from apikeyrouter.domain.cost.prices import cost_breakdown, cost_nano_usd, to_decimal_usd
from apikeyrouter.domain.cost.ratios import InputRatios
from apikeyrouter.domain.cost.usage import Usage, tier_named
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.domain.models.call import peek
from apikeyrouter.domain.models.cost_estimate import CostEstimate
from apikeyrouter.domain.models.request_intent import RequestIntent

__all__ = ["CONFIDENCE_GUESS", "CONFIDENCE_LEARNED", "quote"]

CONFIDENCE_GUESS = 0.5
"""Of an expectation or q95 before the model was seen, and of a bound that rests on a guess (an output limit that nobody
publishes, a file whose length nobody knows)."""

CONFIDENCE_LEARNED = 0.7
"""Of an expectation from at least 30 replies of the model."""

_Q95 = 0.95


def quote(
    intent: RequestIntent,
    price: ModelPrice | None,
    lengths: OutputLengths,
    *,
    bound: bool,
    soft: bool = False,
    ratios: InputRatios | None = None,
    provider_id: str = "",
    tenant: str = "",
    exact: InputBound | None = None,
) -> CostEstimate:
    """The most that the request can cost (`bound`), what one in twenty exceeds (`soft`), or what is likely.

    Confidence: 1.0 for a bound that rests on facts, 0.95 for a learned q95, 0.7 for a learned expectation, 0.5 for what
    is guessed. Without a price the amount is 0, the confidence 0 and the method "unpriced". `ratios`: learned tokens
    per byte. `exact`: the input as a tokenizer counted it.
    """
    body = msgspec.json.encode(intent.to_wire())
    parameters = intent.parameters
    limit = _int_or_none(parameters.get("max_completion_tokens"))
    if limit is None:
        limit = _int_or_none(parameters.get("max_tokens"))
    choices = max(1, _int_or_none(parameters.get("n")) or 1)
    size = tight_input_bound(body, intent.model)
    most_in = exact.tokens if exact is not None and not size.unbounded else size.tokens
    window, longest = (price.context_window, price.output_max) if price is not None else (None, None)
    if bound:
        tokens_in, tokens_out = most_in, output_tokens_bound(limit, choices, intent.model, window, longest)
        facts = output_is_bounded(limit, intent.model, window, longest) and not size.unbounded
        method, confidence = "upper_bound", 1.0 if facts else CONFIDENCE_GUESS
    else:
        learned = ratios or InputRatios()
        known = lengths.knows(intent.model, _Q95 if soft else 0.5)
        group: dict[str, Any] = {"tenant": tenant, "template": _template(body)}
        if soft:
            method, confidence = "q95", _Q95 if known else CONFIDENCE_GUESS
            tokens_in = learned.upper(provider_id, intent.model, size.content_bytes) + 2 * size.media_tokens
            tokens_out = lengths.quantile(_Q95, intent.model, limit, **group)
            tokens_out = max(tokens_out, lengths.expected(intent.model, limit, **group)) * choices
        else:
            method, confidence = "expected", CONFIDENCE_LEARNED if known else CONFIDENCE_GUESS
            tokens_in = learned.expected(provider_id, intent.model, size.content_bytes) + size.media_tokens
            tokens_out = lengths.expected(intent.model, limit, **group) * choices
        if not size.unbounded:
            tokens_in = min(tokens_in, most_in)
    if price is None:
        nano, method, confidence, breakdown = 0, "unpriced", 0.0, {}
    else:
        tier = tier_named(parameters.get("service_tier") or "")
        usage = Usage(tokens_in, tokens_out, service_tier=tier)
        most = [upper_bound_nano_usd(one, tokens_in, tokens_out) for one in prices_of_tier(price, tier)]
        nano = max(most) if bound else cost_nano_usd(price, usage)
        breakdown = cost_breakdown(price, usage)
    return CostEstimate(
        amount=to_decimal_usd(nano),
        confidence=confidence,
        estimation_method=method,
        input_tokens_estimate=tokens_in,
        output_tokens_estimate=tokens_out,
        breakdown=breakdown,
    )


def _template(body: bytes) -> str:
    try:
        seen = peek(body)
    except msgspec.MsgspecError:
        return ""
    return template_of(seen.messages, seen.tools)


def _int_or_none(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
