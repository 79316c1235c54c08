"""Money: bounds are bounds, parts add up, and rounding never favours anybody."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from apikeyrouter.domain.cost.estimate import ceiling_of, output_tokens_bound, upper_bound_nano_usd
from apikeyrouter.domain.cost.input_bound import tight_input_bound
from apikeyrouter.domain.cost.prices import cost_breakdown, cost_nano_usd, cost_of_tokens, to_decimal_usd, to_nano_usd
from apikeyrouter.domain.cost.usage import Usage, usage_of_openai, usage_of_openai_object
from apikeyrouter.domain.interfaces.price_source import ModelPrice

rates = st.integers(0, 200_000_000_000)
maybe = st.none() | rates


@st.composite
def prices(draw: st.DrawFn, depth: int = 2) -> ModelPrice:
    over = draw(st.none() | st.integers(1, 300)) if depth else None
    return ModelPrice(
        draw(rates),
        draw(rates),
        cached_input=draw(maybe),
        cache_write=draw(maybe),
        per_request=draw(st.integers(0, 10**7)),
        long_context_over=over,
        long_input=draw(maybe),
        long_output=draw(maybe),
        cache_write_1h=draw(maybe),
        audio_input=draw(maybe),
        audio_output=draw(maybe),
        reasoning=draw(maybe),
        long=draw(st.none() | prices(depth=depth - 1)) if over is not None else None,
    )


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    total_in, total_out = draw(st.integers(0, 500)), draw(st.integers(0, 500))
    cached = draw(st.integers(0, total_in))
    written = draw(st.integers(0, total_in - cached))
    return Usage(
        total_in,
        total_out,
        cached,
        written,
        draw(st.integers(0, total_out)),
        draw(st.integers(0, total_in)),
        draw(st.integers(0, total_out)),
        draw(st.integers(0, written)),
    )


@settings(max_examples=300, deadline=None)
@given(prices(), usages(), st.integers(0, 50), st.integers(0, 50))
def test_no_usage_within_the_bounds_costs_more_than_the_upper_bound(
    price: ModelPrice, usage: Usage, spare_in: int, spare_out: int
) -> None:
    bound = upper_bound_nano_usd(price, usage.input_tokens + spare_in, usage.output_tokens + spare_out)
    assert 0 <= cost_nano_usd(price, usage) <= bound


@settings(max_examples=300, deadline=None)
@given(st.lists(prices(), min_size=1, max_size=4), st.integers(0, 600), st.none() | st.integers(0, 600), st.data())
def test_a_ceiling_is_above_every_price_that_it_was_made_of(
    found: list[ModelPrice], tokens_in: int, limit: int | None, data: st.DataObject
) -> None:
    windows = [replace(price, context_window=data.draw(maybe), output_max=data.draw(maybe)) for price in found]
    ceiling = ceiling_of(windows)
    assert (ceiling is None) == any(price.long_context_over is not None for price in windows)

    def most(price: ModelPrice) -> int:
        output = output_tokens_bound(limit, 1, "a-model", price.context_window, price.output_max)
        return upper_bound_nano_usd(price, tokens_in, output)

    assert ceiling is None or all(most(price) <= most(ceiling) for price in windows)
    assert ceiling_of([]) is None
    assert ceiling_of([*windows, replace(windows[0], tiers=(("batch", windows[0]),))]) is None


@settings(max_examples=200, deadline=None)
@given(prices(), usages())
def test_the_breakdown_adds_up_to_the_cost_rounded_up_once(price: ModelPrice, usage: Usage) -> None:
    exact = sum(cost_breakdown(price, usage).values(), Decimal(0))
    assert cost_nano_usd(price, usage) == math.ceil(exact * 10**9)


@settings(max_examples=200, deadline=None)
@given(prices(), prices(), st.integers(0, 500), st.integers(0, 500), st.sampled_from(["", "flex", "batch"]))
def test_plain_tokens_cost_the_same_with_and_without_a_usage(
    price: ModelPrice, flex: ModelPrice, tokens_in: int, tokens_out: int, tier: str
) -> None:
    price = replace(price, tiers=(("flex", flex),))
    usage = Usage(tokens_in, tokens_out, service_tier=tier)
    assert cost_of_tokens(price, tokens_in, tokens_out, tier) == cost_nano_usd(price, usage)


@settings(max_examples=100, deadline=None)
@given(st.integers(-(10**20), 10**20))
def test_nano_dollars_survive_the_way_to_decimal_and_back(nano: int) -> None:
    dollars = to_decimal_usd(nano)
    assert to_nano_usd(dollars) == nano
    assert "E" not in f"{dollars:f}"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=5))
def test_the_input_bound_is_never_below_the_bytes_of_the_texts(texts: list[str]) -> None:
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": text} for text in texts]})
    assert tight_input_bound(body, "gpt-4o").tokens >= sum(len(text.encode()) + 8 for text in texts)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
FIELDS = (
    "prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "prompt_tokens_details",
    "completion_tokens_details", "input_tokens_details", "prompt_cache_hit_tokens",
)  # fmt: skip
DETAILS = ("cached_tokens", "cache_write_tokens", "audio_tokens", "reasoning_tokens")
usage_values = json_values | st.dictionaries(st.sampled_from(DETAILS), json_values)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), usage_values) | json_values)
def test_any_usage_object_is_read_without_an_error_and_makes_sense(value: object) -> None:
    body = {"usage": value}
    usage = usage_of_openai(msgspec.json.encode(body))
    assert usage == usage_of_openai_object(body)
    if usage is not None:
        assert 0 <= usage.cached_input_tokens + usage.cache_write_tokens <= usage.input_tokens
        assert 0 <= usage.reasoning_tokens <= usage.output_tokens
        assert 0 <= usage.audio_input_tokens <= usage.input_tokens
        assert 0 <= usage.audio_output_tokens <= usage.output_tokens
