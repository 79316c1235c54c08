"""From usage to money, key metadata to prices, and the catalogue."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from apikeyrouter.domain.cost.estimate import (
    UNKNOWN_OUTPUT_TOKENS,
    OutputLengths,
    output_is_bounded,
    output_tokens_bound,
    upper_bound_nano_usd,
)
from apikeyrouter.domain.cost.prices import cost_breakdown, cost_nano_usd, price_from_metadata, to_decimal_usd
from apikeyrouter.domain.cost.usage import Usage, usage_of_openai
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.infrastructure.pricing.catalogue import GenaiPriceSource, PriceBook
from apikeyrouter.testing.virtual_time import ManualClock
from tests.support.price_lists import StaticPriceSource

MINI = ModelPrice(150_000_000, 600_000_000, cached_input=75_000_000, source="list")
NOVEMBER = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def catalogue() -> GenaiPriceSource:
    return GenaiPriceSource(ManualClock(utc=NOVEMBER))


def test_a_thousand_tokens_cost_what_the_list_says_to_the_nano_dollar() -> None:
    assert cost_nano_usd(MINI, Usage(1000, 500)) == 450_000
    assert to_decimal_usd(450_000) == Decimal("0.00045")
    assert str(to_decimal_usd(450_000)) == "0.00045"


def test_the_sum_is_rounded_up_once() -> None:
    price = ModelPrice(1, 1)  # a millionth of a nano-dollar per token
    assert cost_nano_usd(price, Usage(0, 0)) == 0
    assert cost_nano_usd(price, Usage(1, 1)) == 1
    assert cost_nano_usd(price, Usage(500_000, 500_000)) == 1
    assert cost_nano_usd(price, Usage(500_000, 500_001)) == 2


def test_cached_tokens_are_a_part_of_the_input_and_charged_once() -> None:
    assert cost_nano_usd(MINI, Usage(1000, 0, cached_input_tokens=400)) == 600 * 150 + 400 * 75
    dear = ModelPrice(150_000_000, 0)
    assert cost_nano_usd(dear, Usage(1000, 0, cached_input_tokens=400)) == 150_000


def test_every_class_has_its_own_price() -> None:
    price = ModelPrice(
        1_000_000,
        2_000_000,
        cached_input=100_000,
        cache_write=1_250_000,
        per_request=7,
        cache_write_1h=2_000_000,
        audio_input=10_000_000,
        audio_output=20_000_000,
        reasoning=3_000_000,
    )
    usage = Usage(
        input_tokens=1000,
        output_tokens=100,
        cached_input_tokens=200,
        cache_write_tokens=300,
        reasoning_tokens=40,
        audio_input_tokens=50,
        audio_output_tokens=10,
        cache_write_1h_tokens=100,
    )
    parts = {
        "cached_input": Decimal(20),
        "cache_write": Decimal(250),
        "cache_write_1h": Decimal(200),
        "audio_input": Decimal(500),
        "input": Decimal(450),
        "audio_output": Decimal(200),
        "reasoning": Decimal(120),
        "output": Decimal(100),
        "request": Decimal(7),
    }
    assert cost_breakdown(price, usage) == {name: nano.scaleb(-9) for name, nano in parts.items()}
    assert cost_nano_usd(price, usage) == sum(parts.values())


RATES = {
    "cached_input": 1_000_000,
    "cache_write": 3_000_000,
    "audio_input": 4_000_000,
    "image_input": 5_000_000,
    "video_input": 6_000_000,
    "reasoning": 8_000_000,
    "audio_output": 9_000_000,
    "image_output": 10_000_000,
    "video_output": 11_000_000,
    "citation": 12_000_000,
}


@pytest.mark.parametrize("name", RATES)
def test_the_only_tokens_that_have_a_price_of_their_own_are_charged_at_it(name: str) -> None:
    rates: dict[str, Any] = dict(RATES)
    price = ModelPrice(2_000_000, 7_000_000, **rates)
    plain = 7_000_000 if "output" in name or name in ("reasoning", "citation") else 2_000_000
    usage = Usage(1000, 500)
    setattr(usage, f"{name}_tokens", 100)
    assert cost_nano_usd(price, usage) == 2 * 1000 + 7 * 500 + 100 * (RATES[name] - plain) // 1_000_000


def test_a_long_context_reprices_the_whole_request() -> None:
    price = ModelPrice(2_000_000, 10_000_000, long_context_over=1000, long_input=4_000_000, long_output=15_000_000)
    assert cost_nano_usd(price, Usage(1000, 10)) == 2000 + 100
    assert cost_nano_usd(price, Usage(1001, 10)) == 4004 + 150


def test_a_request_above_two_thresholds_costs_the_highest_band() -> None:
    top = ModelPrice(5_000_000, 9_000_000)
    middle = ModelPrice(3_000_000, 8_000_000, cached_input=1_000_000, long_context_over=256, long=top)
    price = ModelPrice(1_000_000, 7_000_000, long_context_over=32, long_input=3_000_000, long=middle)
    assert [cost_nano_usd(price, Usage(n, 1)) for n in (32, 33, 256, 257)] == [39, 107, 776, 1294]
    assert cost_nano_usd(price, Usage(33, 0, cached_input_tokens=30)) == 3 * 3 + 30


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"cost_per_1k": "0.01"}, (10_000_000_000, 10_000_000_000, 0)),
        ({"cost_per_1k": 0.1}, (100_000_000_000, 100_000_000_000, 0)),
        ({"cost_per_1m": 3}, (3_000_000_000, 3_000_000_000, 0)),
        ({"cost_per_1k_input": "0.03", "cost_per_1k_output": "0.06"}, (30_000_000_000, 60_000_000_000, 0)),
        ({"cost_per_1k": "0.03", "cost_per_1m_output": "60"}, (30_000_000_000, 60_000_000_000, 0)),
        ({"estimated_cost_per_request": "0.002"}, (0, 0, 2_000_000)),
        ({"cost_per_1m": 1, "estimated_cost_per_request": "0.002"}, (1_000_000_000, 1_000_000_000, 2_000_000)),
        ({"cost_per_1m": 1, "cost_multiplier": "0.8"}, (800_000_000, 800_000_000, 0)),
        ({"cost_multiplier": 2}, (300_000_000, 1_200_000_000, 0)),
        ({"cost_per_1m_output": 1}, (150_000_000, 1_000_000_000, 0)),
        ({"cost_per_1m_input": 1}, (1_000_000_000, 600_000_000, 0)),
    ],
)
def test_metadata_prices(metadata: dict[str, Any], expected: tuple[int, int, int]) -> None:
    price = price_from_metadata(metadata, MINI)
    assert price is not None
    assert (price.input, price.output, price.per_request) == expected
    assert price.source == "key metadata"


def test_a_multiplier_covers_cached_prices_and_long_contexts_too() -> None:
    base = ModelPrice(10, 20, cached_input=5, long_context_over=9, long_input=30, long=ModelPrice(30, 20))
    price = price_from_metadata({"cost_multiplier": "1.5"}, base)
    assert price is not None
    assert (price.cached_input, price.long_input, price.long) == (8, 45, ModelPrice(45, 30))


def test_an_own_input_price_holds_for_cached_tokens_and_long_contexts() -> None:
    base = ModelPrice(10, 20, cached_input=1, long_context_over=9, long_input=99, long=ModelPrice(99, 99))
    price = price_from_metadata({"cost_per_1m_input": "0.000000007"}, base)
    assert price is not None
    assert (price.input, price.cached_input, price.long_context_over) == (7, None, None)


def test_without_fields_the_list_price_stands_and_half_a_price_is_none() -> None:
    assert price_from_metadata({"team": "a", "cost_per_1k": None}, MINI) is MINI
    assert price_from_metadata({}, None) is None
    assert price_from_metadata({"cost_multiplier": 2}, None) is None
    assert price_from_metadata({"cost_per_1k_input": 1}, None) is None


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({"cost_per_1k": "cheap"}, "cost_per_1k"),
        ({"cost_per_1m_output": -1}, "cost_per_1m_output"),
        ({"cost_multiplier": True}, "cost_multiplier"),
        ({"estimated_cost_per_request": float("nan")}, "estimated_cost_per_request"),
        ({"cost_per_1k_input": [1]}, "cost_per_1k_input"),
        ({"cost_per_1k": 1, "cost_per_1m": 1000}, "cost_per_1m"),
    ],
)
def test_a_bad_metadata_price_is_named(metadata: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        price_from_metadata(metadata, MINI)


def test_an_upper_bound_takes_the_dearest_class_and_band_in_reach() -> None:
    long = ModelPrice(4_000_000, 15_000_000)
    price = ModelPrice(2_000_000, 10_000_000, cache_write=2_500_000, per_request=3, long_context_over=100, long=long)
    assert upper_bound_nano_usd(price, 100, 10) == 250 + 100 + 3
    assert upper_bound_nano_usd(price, 101, 10) == 404 + 150 + 3
    audio = ModelPrice(2_000_000, 10_000_000, audio_input=40_000_000, audio_output=80_000_000)
    assert upper_bound_nano_usd(audio, 10, 10) == 400 + 800
    assert upper_bound_nano_usd(audio, 10, 10, text_only=True) == 20 + 100


def test_token_bounds_rest_on_facts_where_there_are_any() -> None:
    assert output_tokens_bound(100, 3, "gpt-4o") == 300
    assert output_tokens_bound(None, 2, "openai/gpt-4o-mini-2024-07-18") == 2 * 16_384
    assert output_tokens_bound(None, 1, "gpt-4") == 8192
    assert output_tokens_bound(None, 1, "llama-4", 32_000) == 32_000
    assert output_tokens_bound(None, 1, "llama-4") == UNKNOWN_OUTPUT_TOKENS
    assert [output_is_bounded(None, "llama-4"), output_is_bounded(0, "llama-4")] == [False, True]
    assert output_is_bounded(None, "llama-4", 32_000)


def test_output_lengths_follow_what_a_model_writes() -> None:
    lengths = OutputLengths()
    assert lengths.expected("m", 100) == 100
    for _ in range(40):
        lengths.record("m", 50)
    assert (lengths.expected("m"), lengths.expected("m", 10)) == (50, 10)
    for _ in range(100):
        lengths.record("m", 500)
    assert 490 <= lengths.expected("m") <= 500
    for number in range(3000):
        lengths.record(f"model-{number}", 1)
    assert lengths.expected("m", None) == OutputLengths().expected("m", None)


def test_the_catalogue_knows_models_by_dated_names_aliases_and_provider_synonyms(catalogue: GenaiPriceSource) -> None:
    mini = catalogue.price("openai", "gpt-4o-mini-2024-07-18")
    assert mini is not None
    assert (mini.input, mini.output, mini.cached_input) == (150_000_000, 600_000_000, 75_000_000)
    assert mini.context_window == 128_000
    assert mini.source.startswith("genai-prices ")
    assert catalogue.price("gemini", "gemini-2.5-pro") == catalogue.price("google", "gemini-2.5-pro")
    assert catalogue.price("openai", "no-such-model") is None


def test_a_provider_that_the_catalogue_does_not_know_has_the_makers_prices(catalogue: GenaiPriceSource) -> None:
    assert catalogue.price("my-gateway", "gpt-4o-mini") == catalogue.price("openai", "gpt-4o-mini")
    assert catalogue.price("my-gateway", "openai/gpt-4o") == catalogue.price("openai", "gpt-4o")
    claude = catalogue.price("my-gateway", "claude-sonnet-4-5")
    assert claude is not None
    assert claude == catalogue.price("anthropic", "claude-sonnet-4-5")
    assert catalogue.price("my-gateway", "no-such-model") is None


def test_context_bands_of_the_catalogue_are_kept_exactly(catalogue: GenaiPriceSource) -> None:
    price = catalogue.price("google", "gemini-2.5-pro")
    assert price is not None
    assert price.long is not None
    assert (price.long_context_over, price.input, price.long_input, price.long.cached_input) == (
        200_000,
        1_250_000_000,
        2_500_000_000,
        250_000_000,
    )
    coder = catalogue.price("openrouter", "qwen/qwen3-coder-flash")
    assert coder is not None
    inputs = [cost_nano_usd(coder, Usage(tokens)) for tokens in (32_000, 32_001, 128_000, 128_001)]
    rates = (195, 325, 325, 520)
    assert inputs == [tokens * rate for tokens, rate in zip((32_000, 32_001, 128_000, 128_001), rates, strict=True)]


def test_a_fee_per_request_is_per_request_not_per_thousand(catalogue: GenaiPriceSource) -> None:
    sonar = catalogue.price("perplexity", "sonar")
    assert sonar is not None
    assert sonar.per_request == 12_000_000  # $12 per 1,000 requests


def test_prices_that_depend_on_the_hour_change_when_their_hour_comes() -> None:
    clock = ManualClock(utc=datetime(2025, 3, 1, 16, 29, tzinfo=UTC))
    source = GenaiPriceSource(clock)
    day = source.price("deepseek", "deepseek-chat")
    assert day is not None
    assert source.price("deepseek", "deepseek-chat") is day
    clock.advance(60)
    night = source.price("deepseek", "deepseek-chat")
    assert night is not None
    assert (day.input, night.input) == (270_000_000, 135_000_000)


def test_the_price_book_asks_overrides_then_the_list_then_the_key() -> None:
    source = StaticPriceSource({"m": ModelPrice(5, 5), ("p", "m"): ModelPrice(7, 7)})
    book = PriceBook(source, {("q", "m"): ModelPrice(1, 1), ("*", "x"): ModelPrice(2, 2)})
    assert book.resolve("p", "m", {}) == ModelPrice(7, 7)
    assert book.resolve("other", "m", {"team": "a"}) == ModelPrice(5, 5)
    assert book.resolve("q", "m", {}) == ModelPrice(1, 1)
    assert book.resolve("any", "x", {}) == ModelPrice(2, 2)
    assert book.resolve("any", "unknown", {}) is None
    for _ in range(2):
        assert book.resolve("p", "m", {"cost_multiplier": 2}) == ModelPrice(14, 14, source="key metadata")
    with pytest.raises(ValueError, match="cost_per_1k"):
        book.resolve("p", "m", {"cost_per_1k": "?"})


class ChangingSource:
    """A list whose price doubles at each question."""

    now = 1

    def price(self, provider_id: str, model: str) -> ModelPrice | None:
        self.now *= 2
        return ModelPrice(self.now, 0)


def test_a_changed_list_price_comes_through_a_key_with_a_multiplier() -> None:
    book = PriceBook(ChangingSource())
    found = [book.resolve("p", "m", {"cost_multiplier": 10}) for _ in range(2)]
    assert [price.input for price in found if price] == [20, 40]


def oracle_rows() -> Iterator[dict[str, Any]]:
    shared = os.environ.get("APIKEYROUTER_DATA") or str(Path(__file__).parents[3] / "shared" / "data")
    path = Path(shared) / "usages" / "dev.jsonl"
    if not path.exists():
        pytest.skip("data not found, skipped")
    with path.open() as lines:
        yield from map(json.loads, lines)


@pytest.mark.data
@pytest.mark.parametrize("flavor", ["chat", "embeddings"])
def test_costs_of_recorded_openai_usage_equal_the_oracles_to_the_nano_dollar(
    catalogue: GenaiPriceSource, flavor: str
) -> None:
    compared = 0
    for row in oracle_rows():
        recorded = [
            extractor
            for extracted in row["extracted"]
            for extractor in extracted["extractors"]
            if extractor["provider_id"] == "openai" and extractor["api_flavor"] == flavor and "input_price" in extractor
        ]
        for oracle in recorded:
            usage = usage_of_openai(json.dumps(row["body"]).encode())
            price = catalogue.price("openai", row["model"])
            assert usage is not None, row["body"]
            assert price is not None, row["model"]
            if flavor == "embeddings":
                usage.output_tokens = usage.reasoning_tokens = usage.audio_output_tokens = 0
                usage.cached_input_tokens = 0
            dollars = Decimal(oracle["input_price"]) + Decimal(oracle["output_price"])
            assert cost_nano_usd(price, usage) == math.ceil(dollars * 10**9), row["body"]
            compared += 1
    assert compared >= 90
