"""From tokens to money, in whole numbers: what a reply cost, and what a key's metadata says about its prices.

Main entries: `cost_nano_usd` (usage x price), `price_from_metadata` (contract prices and multipliers of one key).
Prices are nano-USD per million tokens (`ModelPrice`), so a sum of tokens x price is exact in units of 1e-15 dollars; it
is rounded up to whole nano-dollars once, at the end.

Laws: whole numbers and exact fractions only; parts of a total (cached, reasoning, audio) are never charged twice;
a price class that the provider does not list costs what its total costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from fractions import Fraction
from math import ceil
from typing import Any

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.interfaces.price_source import Fee, ModelPrice

__all__ = [
    "INPUT_CLASSES",
    "OUTPUT_CLASSES",
    "PRICE_FIELDS",
    "cost_breakdown",
    "cost_nano_usd",
    "cost_of_tokens",
    "price_from_metadata",
    "price_in_force",
    "price_of_tier",
    "price_times",
    "to_decimal_usd",
    "to_nano_usd",
]

_PER = 1_000_000
"""Prices are per this many tokens."""

_NANO = 10**9

_PART_OF = {
    "input_audio_seconds": "audio_seconds",
    "output_audio_seconds": "audio_seconds",
    "input_annotated_document_pages": "input_document_pages",
}
"""Counts that are parts of another count."""

INPUT_CLASSES = frozenset(
    ("input", "cached_input", "cached_audio", "cached_image", "cache_write", "cache_write_1h", "audio_input",
     "image_input", "video_input", "input_characters", "input_text_messages", "input_audio_seconds", "input_pixels",
     "input_document_pages", "input_annotated_document_pages")
)  # fmt: skip
"""Names in `cost_breakdown` that stand for what was sent."""

OUTPUT_CLASSES = frozenset(
    ("output", "audio_output", "image_output", "video_output", "reasoning", "citation", "output_audio_seconds")
)
"""Names in `cost_breakdown` that stand for what came back. The others (searches, requests) are neither."""

PRICE_FIELDS = (
    "cost_per_1k",
    "cost_per_1k_input",
    "cost_per_1k_output",
    "cost_per_1m",
    "cost_per_1m_input",
    "cost_per_1m_output",
    "cost_multiplier",
    "estimated_cost_per_request",
)
"""The metadata fields that `price_from_metadata` reads; dollars, as text or number."""


def cost_nano_usd(price: ModelPrice, usage: Usage) -> int:
    """What `usage` costs, in nano-USD, rounded up once. Less is better."""
    if usage.service_tier and price.tiers:
        price = price_of_tier(price, usage.service_tier)
    band = price if price.long_context_over is None else price_in_force(price, usage.input_tokens)
    if _is_plain(band, usage):
        total = usage.input_tokens * band.input + usage.output_tokens * band.output
    else:
        total = sum([tokens * rate for _, tokens, rate in _terms(band, usage)])
    if price.fees and usage.counts:
        fees = sum([count * fee.nano_usd / fee.per for fee, count in _fees(price, usage.counts)], Fraction())
        return price.per_request + ceil(fees + Fraction(total, _PER))
    return price.per_request - (-total // _PER)


def cost_of_tokens(price: ModelPrice, input_tokens: int, output_tokens: int, service_tier: str = "") -> int:
    """`cost_nano_usd` of plain tokens, without a `Usage`: what estimates ask for, several times a request."""
    if service_tier and price.tiers:
        price = price_of_tier(price, service_tier)
    band = price if price.long_context_over is None else price_in_force(price, input_tokens)
    return price.per_request - (-(input_tokens * band.input + output_tokens * band.output) // _PER)


def _is_plain(price: ModelPrice, usage: Usage) -> bool:
    """Whether every token costs what its side costs: so it is for most replies, and quickly reckoned."""
    return not (
        usage.cached_input_tokens
        or usage.cache_write_tokens
        or usage.audio_input_tokens
        or usage.image_input_tokens
        or usage.video_input_tokens
        or usage.audio_output_tokens
        or usage.image_output_tokens
        or usage.video_output_tokens
        or (usage.reasoning_tokens and price.reasoning is not None)
        or (usage.citation_tokens and price.citation is not None)
    )


def cost_breakdown(price: ModelPrice, usage: Usage) -> dict[str, Decimal]:
    """Dollars per token class and fee: their sum, rounded up to nano-dollars, is `cost_nano_usd`. Empty ones are left
    out. Exact, but for fees by the hour, which are cut at 28 digits."""
    price = price_of_tier(price, usage.service_tier)
    band = price_in_force(price, usage.input_tokens)
    parts = {name: _exact_usd(tokens * rate, 15) for name, tokens, rate in _terms(band, usage) if tokens}
    for fee, count in _fees(price, usage.counts or {}):
        units = count * fee.nano_usd / fee.per
        parts[fee.what] = (Decimal(units.numerator) / units.denominator).scaleb(-9)
    if price.per_request:
        parts["request"] = to_decimal_usd(price.per_request)
    return parts


def price_of_tier(price: ModelPrice, service_tier: str) -> ModelPrice:
    """The price of a service tier ("batch", "flex", "priority", "fast"). One that the list does not know costs the
    standard price, so `price` itself."""
    return next((other for name, other in price.tiers if name == service_tier), price)


def _terms(price: ModelPrice, usage: Usage) -> list[tuple[str, int, int]]:
    """(class, tokens, nano-USD per million) for one request, at the price in force for its length."""
    plain_in = usage.input_tokens
    terms: list[tuple[str, int, int]] = []
    cached = usage.cached_input_tokens if price.cached_input is not None else 0
    if cached and price.cached_input is not None:
        plain_in -= cached
        for name, tokens, rate in (
            ("cached_audio", usage.cached_audio_tokens, price.cached_audio),
            ("cached_image", usage.cached_image_tokens, price.cached_image),
        ):
            if tokens and rate is not None:
                terms.append((name, min(tokens, cached), rate))
                cached -= terms[-1][1]
        terms.append(("cached_input", cached, price.cached_input))
        cached = usage.cached_input_tokens
    if usage.cache_write_tokens and price.cache_write is not None:
        hour = min(usage.cache_write_1h_tokens, usage.cache_write_tokens) if price.cache_write_1h is not None else 0
        if hour and price.cache_write_1h is not None:
            terms.append(("cache_write_1h", hour, price.cache_write_1h))
        terms.append(("cache_write", usage.cache_write_tokens - hour, price.cache_write))
        plain_in -= usage.cache_write_tokens
    if usage.audio_input_tokens or usage.image_input_tokens or usage.video_input_tokens:
        for name, tokens, known_cached, rate in (
            ("audio_input", usage.audio_input_tokens, usage.cached_audio_tokens, price.audio_input),
            ("image_input", usage.image_input_tokens, usage.cached_image_tokens, price.image_input),
            ("video_input", usage.video_input_tokens, 0, price.video_input),
        ):
            if tokens and rate is not None:
                # What was charged as cached is not charged again; cached audio that nobody counted passes for text.
                left = max(0, min(tokens - (known_cached if cached else 0), plain_in))
                terms.append((name, left, rate))
                plain_in -= left
    terms.append(("input", max(0, plain_in), price.input))
    _add_output_terms(terms, price, usage)
    return terms


def _add_output_terms(terms: list[tuple[str, int, int]], price: ModelPrice, usage: Usage) -> None:
    plain_out = usage.output_tokens
    if not (usage.audio_output_tokens or usage.image_output_tokens or usage.video_output_tokens) and (
        price.reasoning is None and price.citation is None
    ):
        terms.append(("output", plain_out, price.output))  # nearly every reply
        return
    for name, tokens, rate in (
        ("audio_output", usage.audio_output_tokens, price.audio_output),
        ("image_output", usage.image_output_tokens, price.image_output),
        ("video_output", usage.video_output_tokens, price.video_output),
        ("reasoning", usage.reasoning_tokens, price.reasoning),
        ("citation", usage.citation_tokens, price.citation),
    ):
        if tokens and rate is not None:
            part = max(0, min(tokens, plain_out))
            terms.append((name, part, rate))
            plain_out -= part
    terms.append(("output", max(0, plain_out), price.output))


def _fees(price: ModelPrice, counts: Mapping[str, int | Decimal]) -> Iterator[tuple[Fee, Fraction]]:
    """The fees that apply, with what each is charged for. Parts with a fee of their own are not charged twice."""
    priced = {fee.what for fee in price.fees}
    for fee in price.fees:
        parts = [Fraction(counts[part]) for part, whole in _PART_OF.items() if whole == fee.what and part in counts]
        count = Fraction(counts[fee.what]) if fee.what in counts else sum(parts, Fraction())
        for part, whole in _PART_OF.items():
            if whole == fee.what and part in priced:
                count -= Fraction(counts.get(part, 0))
        if count > 0:
            yield fee, max(count, Fraction(fee.at_least))


def price_in_force(price: ModelPrice, input_tokens: int) -> ModelPrice:
    """The price that holds for a request with so much input: itself, or that of the long-context band it reaches."""
    while price.long_context_over is not None and input_tokens > price.long_context_over:
        if price.long is None:
            return replace(
                price,
                input=price.input if price.long_input is None else price.long_input,
                output=price.output if price.long_output is None else price.long_output,
                long_context_over=None,
            )
        price = price.long
    return price


def to_decimal_usd(nano_usd: int) -> Decimal:
    """Nano-dollars as dollars, exact and without trailing zeros: 7_500 is Decimal("0.0000075")."""
    return _exact_usd(nano_usd, 9)


def _exact_usd(amount: int, digits: int) -> Decimal:
    sign = 1 if amount < 0 else 0
    amount = abs(amount)
    while digits and amount % 10 == 0:
        amount //= 10
        digits -= 1
    return Decimal((sign, tuple(int(digit) for digit in str(amount)), -digits))


def to_nano_usd(usd: Decimal, *, up: bool = True) -> int:
    """Dollars as whole nano-dollars; what lies between is rounded up (costs) or down (limits)."""
    return int(usd.scaleb(9).to_integral_value(ROUND_CEILING if up else ROUND_FLOOR))


def price_from_metadata(metadata: Mapping[str, Any], base: ModelPrice | None) -> ModelPrice | None:
    """The price that holds for a key: what its metadata says, else `base` (the list price); None when neither knows.

    `cost_per_1k`, `cost_per_1m`: dollars per 1,000 or 1,000,000 tokens, input and output alike; with `_input` or
    `_output` for one of them, which then goes before the plain form. `estimated_cost_per_request`: dollars per call,
    added to token prices given here, else instead of the list price. `cost_multiplier`: times all of it, list price
    included (0.8 is a discount of 20 %). A price given here holds for cached tokens and long contexts too. Half a price
    (input only, and the list does not know the model) is no price. Raises ValueError that names the field: not a
    number, negative, or given per 1k and per 1m at once.
    """
    given = {name: _amount(name, metadata[name]) for name in PRICE_FIELDS if metadata.get(name) is not None}
    if not given:
        return base
    rate_in = _rate(given, "_input")
    rate_out = _rate(given, "_output")
    per_request = to_nano_usd(given.get("estimated_cost_per_request", Decimal(0)))
    price = base
    if rate_in is None and rate_out is None:
        if "estimated_cost_per_request" in given:
            price = ModelPrice(0, 0, per_request=per_request)
    elif rate_in is not None and rate_out is not None:
        price = ModelPrice(rate_in, rate_out, per_request=per_request)
    elif base is not None:
        price = _half_replaced(base, rate_in, rate_out, per_request)
    else:
        return None
    if price is None:
        return None
    multiplier = given.get("cost_multiplier")
    if multiplier is not None:
        price = price_times(price, multiplier)
    if base is not None and (rate_in is not None or rate_out is not None):
        price = replace(price, fees=base.fees)
    window = base.context_window if base is not None else None
    return replace(price, source="key metadata", context_window=window)


def _half_replaced(base: ModelPrice, rate_in: int | None, rate_out: int | None, per_request: int) -> ModelPrice:
    """One side given, the other from the list; no band, since the given side holds for long contexts too."""
    fee = per_request or base.per_request
    if rate_in is not None:
        return ModelPrice(
            rate_in,
            base.output,
            per_request=fee,
            audio_output=base.audio_output,
            image_output=base.image_output,
            video_output=base.video_output,
            reasoning=base.reasoning,
            citation=base.citation,
        )
    long = base.long
    if long is not None and rate_out is not None:
        long = _half_replaced(long, None, rate_out, per_request)
    return replace(
        base,
        output=base.output if rate_out is None else rate_out,
        long_output=None,
        audio_output=None,
        image_output=None,
        video_output=None,
        reasoning=None,
        citation=None,
        per_request=fee,
        long=long,
        tiers=(),
    )


_SCALED = (
    "input", "output", "cached_input", "cache_write", "per_request", "long_input", "long_output", "cache_write_1h",
    "audio_input", "audio_output", "reasoning", "cached_audio", "image_input", "cached_image", "image_output",
    "video_input", "video_output", "citation",
)  # fmt: skip


def price_times(price: ModelPrice, multiplier: Decimal) -> ModelPrice:
    """Every price times `multiplier` (0.8 is a discount of 20 %): bands, tiers and fees too. Rounded up."""
    scaled: dict[str, Any] = {}
    for name in _SCALED:
        value = getattr(price, name)
        if value is not None:
            scaled[name] = _scaled(value, multiplier)
    if price.long is not None:
        scaled["long"] = price_times(price.long, multiplier)
    fees = tuple([replace(fee, nano_usd=_scaled(fee.nano_usd, multiplier)) for fee in price.fees])
    tiers = tuple([(name, price_times(other, multiplier)) for name, other in price.tiers])
    return replace(price, fees=fees, tiers=tiers, **scaled)


def _scaled(value: int, multiplier: Decimal) -> int:
    return int((value * multiplier).to_integral_value(ROUND_CEILING))


def _rate(given: Mapping[str, Decimal], side: str) -> int | None:
    """Nano-USD per million tokens for one side."""
    for suffix in (side, ""):
        per_1k, per_1m = given.get(f"cost_per_1k{suffix}"), given.get(f"cost_per_1m{suffix}")
        if per_1k is not None and per_1m is not None:
            raise ValueError(f"cost_per_1k{suffix} and cost_per_1m{suffix} are both given: leave one out")
        if per_1k is not None:
            return to_nano_usd(per_1k * 1000)
        if per_1m is not None:
            return to_nano_usd(per_1m)
    return None


def _amount(name: str, value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValueError(f"{name} must be a number of dollars such as '0.01', not {type(value).__name__}")  # noqa: TRY004
    try:
        amount = Decimal(str(value).strip())  # a float by its shortest text: 0.1 means a tenth
    except InvalidOperation:
        raise ValueError(f"{name} must be a number such as '0.01', not {value!r}") from None
    if not amount.is_finite() or amount < 0 or amount > _NANO:
        raise ValueError(f"{name} must be between 0 and {_NANO}, not {value!r}")
    return amount
