"""What a request may cost before it is sent: bounds of its output and of its price, for hard budgets.

A hard budget needs an amount that the request cannot exceed, so `output_tokens_bound` and `upper_bound_nano_usd` come
from facts (`max_tokens`, published limits, the dearest class in reach), not from averages. The input is bounded in
`input_bound`; what is likely comes from `ratios` and `lengths`.

Laws: bounds are >= 0 and never shrink when an argument grows; no usage within the bounds costs more.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from apikeyrouter.domain.cost.lengths import OutputLengths
from apikeyrouter.domain.cost.prices import price_in_force, price_of_tier
from apikeyrouter.domain.interfaces.price_source import ModelPrice

__all__ = [
    "UNKNOWN_OUTPUT_TOKENS",
    "OutputLengths",
    "bound_rates",
    "ceiling_of",
    "costs_by_call",
    "fees_nano_usd",
    "output_is_bounded",
    "output_tokens_bound",
    "prices_of_tier",
    "upper_bound_nano_usd",
]

UNKNOWN_OUTPUT_TOKENS = 4096
"""Stands for the output of a request without `max_tokens` for a model of which neither a maximum nor a context window
is known. It is a guess: see `output_is_bounded`."""

# Published maximum output per model family of OpenAI, dated and retired names too, and of Gemini (the providers' model
# pages). Longest matching prefix first. Other makers' come with the price (`ModelPrice.output_max`).
_OUTPUT_MAXIMA: tuple[tuple[str, int], ...] = (
    ("gpt-4o-2024-05-13", 4_096),
    ("gpt-4.5-preview", 16_384),
    ("gpt-4-vision", 4_096),
    ("gpt-3.5-turbo", 4_096),
    ("gpt-5-chat", 16_384),
    ("gpt-4-turbo", 4_096),
    ("gpt-4-1106", 4_096),
    ("gpt-4-0125", 4_096),
    ("o1-preview", 32_768),
    ("gpt-4-32k", 32_768),
    ("gpt-4.1", 32_768),
    ("chatgpt-4o", 16_384),
    ("o1-mini", 65_536),
    ("gpt-4o", 16_384),
    ("o4-mini", 100_000),
    ("gpt-5", 128_000),
    ("gpt-4", 8_192),
    ("o3", 100_000),
    ("o1", 100_000),
    ("gemini-1.5", 8_192),
    ("gemini-2.5", 65_536),
)


def output_tokens_bound(
    max_tokens: int | None, n: int, model: str, context_window: int | None = None, output_max: int | None = None
) -> int:
    """The most output tokens of a request with `n` choices.

    Without `max_tokens` it is the model's published maximum (or `output_max`), else its context window (no reply is
    longer), else
    `UNKNOWN_OUTPUT_TOKENS`, which nothing guarantees.
    """
    if max_tokens is not None:
        each = max(0, max_tokens)
    else:
        each = _published_maximum(model) or output_max or context_window or UNKNOWN_OUTPUT_TOKENS
    return each * max(1, n)


def output_is_bounded(
    max_tokens: int | None, model: str, context_window: int | None = None, output_max: int | None = None
) -> bool:
    """Whether `output_tokens_bound` rests on a fact. If not, set `max_tokens` before sending under a hard budget."""
    told = max_tokens is not None or context_window is not None or output_max is not None
    return told or _published_maximum(model) is not None


@lru_cache(1024)
def _published_maximum(model: str) -> int | None:
    name = model.rpartition("/")[2].lower()
    for prefix, tokens in _OUTPUT_MAXIMA:
        if name.startswith(prefix):
            return tokens
    return None


def upper_bound_nano_usd(price: ModelPrice, input_bound: int, output_bound: int, *, text_only: bool = False) -> int:
    """The most that a request within these bounds can cost, in nano-USD.

    Every input token is priced as the dearest class that may apply (cache writes and, unless `text_only`, audio), in
    the dearest context band that the bound reaches; output likewise. An actual cost within the bounds is never above
    this.
    """
    rate_in, rate_out = bound_rates(price, input_bound, text_only=text_only)
    fees = fees_nano_usd(price, price.fee_units_most) if price.fee_units_most else 0
    return price.per_request + fees - (-(input_bound * rate_in + output_bound * rate_out) // 1_000_000)


def ceiling_of(prices: Iterable[ModelPrice]) -> ModelPrice | None:
    """A price whose `upper_bound_nano_usd` is at least that of each of these, with the output bounded by either: where
    it is low enough, so are they all. None where a price has tiers or bands of context, or there is none."""
    rates_in, rates_out, by_call, longest = [], [], [], []
    for price in prices:
        if price.tiers or price.long_context_over is not None:
            return None
        rate_in, rate_out = _dearest(price, text_only=False)
        rates_in.append(rate_in)
        rates_out.append(rate_out)
        by_call.append(price.per_request + (fees_nano_usd(price, price.fee_units_most) if price.fee_units_most else 0))
        longest.append(price.output_max or price.context_window or UNKNOWN_OUTPUT_TOKENS)
    if not longest:
        return None
    return ModelPrice(max(rates_in), max(rates_out), per_request=max(by_call), output_max=max(longest))


def fees_nano_usd(price: ModelPrice, units: int) -> int:
    """What so many of the dearest thing that the price has a fee for cost, in nano-USD, rounded up."""
    return max([-(-units * fee.nano_usd // fee.per) for fee in price.fees], default=0)


def costs_by_call(price: ModelPrice) -> bool:
    """Whether neither tokens nor anything else that nobody counted beforehand makes a call dearer."""
    if price.long is not None or price.tiers or (price.fees and not price.fee_units_most):
        return False
    return not any(_dearest(price, text_only=False))


def prices_of_tier(price: ModelPrice, tier: str) -> tuple[ModelPrice, ...]:
    """The prices that a request for a service tier ("" for none) may be billed at: its own, and the standard one when
    the provider has no room in the tier. Without a wish it is the standard one, unless the account says otherwise."""
    own = price_of_tier(price, tier) if tier and price.tiers else price
    return (price,) if own is price else (price, own)


def bound_rates(price: ModelPrice, input_bound: int, *, text_only: bool = False) -> tuple[int, int]:
    """(input, output) nano-USD per million tokens that `upper_bound_nano_usd` counts with."""
    rate_in, rate_out = _dearest(price, text_only=text_only)
    if price.long_context_over is not None and input_bound > price.long_context_over:
        # every band on the way counts: the real input may end up in any of them
        band: ModelPrice | None = price
        while band is not None and band.long_context_over is not None and input_bound > band.long_context_over:
            reached = price_in_force(band, band.long_context_over + 1)
            long_in, long_out = _dearest(reached, text_only=text_only)
            rate_in, rate_out = max(rate_in, long_in), max(rate_out, long_out)
            band = band.long
    return rate_in, rate_out


def _dearest(price: ModelPrice, *, text_only: bool) -> tuple[int, int]:
    """(input, output) nano-USD per million tokens of the dearest class. Prices never change, and the few of a router
    are asked for with every request, so answers are kept, each with its price: no other one can take its id."""
    if text_only:
        return _dearest_of(price, text_only=True)
    known = _DEAREST.get(id(price))
    if known is None:
        if len(_DEAREST) >= _DEAREST_MAX:
            _DEAREST.clear()
        known = _DEAREST[id(price)] = (price, _dearest_of(price, text_only=False))
    return known[1]


_DEAREST: dict[int, tuple[ModelPrice, tuple[int, int]]] = {}
_DEAREST_MAX = 1024


def _dearest_of(price: ModelPrice, *, text_only: bool) -> tuple[int, int]:
    rate_in = max(price.input, price.cached_input or 0, price.cache_write or 0, price.cache_write_1h or 0)
    rate_out = max(price.output, price.reasoning or 0, price.citation or 0)
    if not text_only:
        for rate in (price.audio_input, price.cached_audio, price.image_input, price.cached_image, price.video_input):
            if rate is not None and rate > rate_in:
                rate_in = rate
        rate_out = max(rate_out, price.audio_output or 0, price.image_output or 0, price.video_output or 0)
    return rate_in, rate_out
