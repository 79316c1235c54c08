"""Our reading and pricing beside genai-prices' own, for every provider, dialect, model and service tier it knows.

The bodies are made up: every number that an extractor of the catalogue looks for is there, with parts that fit into
their totals. Where the shared recordings are, the oracle that was computed elsewhere is asked too (R9).
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from genai_prices import types as genai
from genai_prices.data_snapshot import get_snapshot

from apikeyrouter.domain.cost.prices import INPUT_CLASSES, OUTPUT_CLASSES, cost_breakdown, cost_nano_usd, price_of_tier
from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.cost.usage_dialects import usage_of
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.infrastructure.pricing.catalogue import GenaiPriceSource
from bench.money_oracle import compare_files, dialect_for, shared_usages

SEED = int(os.environ.get("APIKEYROUTER_SEED", "20261121"))
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NANO = Decimal("1e-9")
TOTALS = ("input_tokens", "output_tokens")

PROVIDERS = get_snapshot().providers
SOURCE = GenaiPriceSource()


def extractors() -> Iterator[tuple[genai.Provider, genai.UsageExtractor]]:
    for provider in PROVIDERS:
        for extractor in provider.extractors or ():
            yield provider, extractor


def own_models(provider: genai.Provider) -> list[genai.ModelInfo]:
    """Models that are found by their own id."""
    return [model for model in provider.models if provider.find_model(model.id, all_providers=PROVIDERS) is model]


def made_up_body(extractor: genai.UsageExtractor, chance: random.Random) -> dict[str, Any]:
    """A reply that `extractor` can read: totals are large, parts small, parts of parts smaller."""
    meanings: dict[str, tuple[Any, set[str]]] = {}
    for mapping in extractor.mappings:
        meanings.setdefault(str(mapping.path), (mapping.path, set()))[1].add(mapping.dest)
    usage: dict[str, Any] = {}
    for path, names in meanings.values():
        put(usage, path, made_up_count(names, chance))
    body: dict[str, Any] = {}
    put(body, extractor.root, usage)
    return body


def made_up_count(names: set[str], chance: random.Random) -> int:
    if names == {"input_tokens"}:
        return chance.choice((3_000, 150_000, 400_000)) + chance.randrange(100_000)
    if names == {"output_tokens"}:
        return 3_000 + chance.randrange(6_000)
    if any(name.startswith("cache_") and name.count("_") > 2 for name in names):  # of one modality or lifetime
        return chance.randrange(20)
    if any(name.startswith("cache_") for name in names):
        return 60 + chance.randrange(700)
    if names & {"input_audio_tokens", "input_image_tokens", "input_video_tokens"}:
        return 60 + chance.randrange(700)
    return chance.randrange(500)


def put(holder: dict[str, Any], path: Any, value: Any) -> None:
    steps = [path] if isinstance(path, str) else list(path)
    for step, following in pairwise(steps):
        if not isinstance(step, str):
            continue
        if isinstance(following, str):
            holder = holder.setdefault(step, {})
            continue
        members = holder.setdefault(step, [])
        wanted = following.match.equals
        holder = next((one for one in members if one[following.field] == wanted), {following.field: wanted})
        if holder not in members:
            members.append(holder)
    holder[steps[-1]] = value


def equals(price: ModelPrice, usage: Usage, oracle: genai.PriceCalculation) -> bool:
    parts = cost_breakdown(price, usage)
    side_in = sum([amount for name, amount in parts.items() if name in INPUT_CLASSES], Decimal(0))
    side_out = sum([amount for name, amount in parts.items() if name in OUTPUT_CLASSES], Decimal(0))
    beyond = cost_nano_usd(price, usage) - ceil(oracle.total_price / NANO)
    return (
        abs(side_in - oracle.input_price) < NANO
        and abs(side_out - oracle.output_price) < NANO
        and (beyond == 0 or (beyond == 1 and finer_than_nano(oracle.model_price)))
    )


def finer_than_nano(price: genai.ModelPrice) -> bool:
    """A handful of entries hold quotients with 16 digits; ours are rounded up to 9."""
    rates = [rate.base if isinstance(rate, genai.TieredPrices) else rate for rate in price.__dict__.values()]
    return any(isinstance(rate, Decimal) and rate != round(rate, 9) for rate in rates)


def test_every_dialect_of_the_catalogue_is_read_and_priced_as_the_catalogue_does() -> None:
    chance = random.Random(SEED)
    seen: Counter[str] = Counter()
    for provider, extractor in extractors():
        for model in own_models(provider):
            body = made_up_body(extractor, chance)
            try:
                oracle = model.calc_price(extractor.extract(body)[1], provider, genai_request_timestamp=NOW)
            except ValueError:  # parts that the body cannot tell apart, and the catalogue will not guess
                seen["unanswerable"] += 1
                continue
            told = body["result"] if provider.id == "cloudflare" and "result" in body else body
            usage = usage_of(dialect_for(provider.id, extractor.api_flavor), told)
            price = SOURCE.price_at(provider.id, model.id, NOW)
            where = (provider.id, extractor.api_flavor, model.id, body)
            assert usage is not None, where
            assert price is not None, where
            assert equals(price, usage, oracle), (where, oracle.total_price, cost_breakdown(price, usage))
            seen["equal"] += 1
    print(seen)
    assert seen["equal"] > 5_000
    assert seen["unanswerable"] < 50


def test_service_tiers_cost_what_the_catalogue_says() -> None:
    chance = random.Random(SEED)
    compared = 0
    for provider in PROVIDERS:
        for model in own_models(provider):
            price = SOURCE.price_at(provider.id, model.id, NOW)
            for context in contexts(model.price_variants or ()):
                name = next(iter(context.values()))
                body = {
                    "prompt_tokens": 1_000 + chance.randrange(500_000),
                    "completion_tokens": chance.randrange(9_000),
                }
                usage = Usage(body["prompt_tokens"], body["completion_tokens"], cached_input_tokens=500)
                theirs = genai.Usage(
                    input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, cache_read_tokens=500
                )
                oracle = model.calc_price(theirs, provider, genai_request_timestamp=NOW, price_context=context)
                assert price is not None
                usage.service_tier = name
                assert equals(price, usage, oracle), (provider.id, model.id, context)
                usage.service_tier = ""
                assert equals(price_of_tier(price, name), usage, oracle)
                compared += 1
    assert compared > 150


def contexts(variants: Sequence[genai.PriceVariant]) -> list[dict[str, str]]:
    known = {"service_tier", "processing", "speed"}
    return [dict(variant.when) for variant in variants if len(variant.when) == 1 and set(variant.when) <= known]


def test_old_requests_have_the_price_of_their_day() -> None:
    before, after = datetime(2026, 8, 20, 23, 59, tzinfo=UTC), datetime(2026, 8, 21, tzinfo=UTC)
    old, new = SOURCE.price_at("openai", "gpt-5.6-sol", before), SOURCE.price_at("openai", "gpt-5.6-sol", after)
    assert old is not None
    assert new is not None
    assert (old.input, old.output, old.since) == (5_000_000_000, 30_000_000_000, None)
    assert (new.input, new.output) == (4_000_000_000, 20_000_000_000)
    assert new.since == after.date()


@pytest.mark.data
def test_the_recorded_bodies_cost_what_the_oracle_says(capsys: pytest.CaptureFixture[str]) -> None:
    path: Path = shared_usages()
    if not path.exists():
        pytest.skip("data not found, skipped")
    tally = compare_files([path], SOURCE, datetime.now(UTC))
    with capsys.disabled():
        print("", *tally.report(), sep="\n")
    assert tally.different == []
    assert tally.bodies == 809
    assert tally.prices > 1_800
    assert tally.today > 0.95 * tally.prices
